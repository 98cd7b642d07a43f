"""The report in a real browser: opens from disk, asks for nothing, runs nothing foreign, navigates, fits."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.report_fixture import NASTY, make_run
from interpnet.pipelines.report.build import build_report

pytestmark = pytest.mark.browser

ARGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("no chromium here (apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=executable, args=ARGS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    return build_report(
        make_run(
            tmp_path_factory.mktemp("run"), chosen=True, stability=True, both=True, few=1, shortcuts=True, beside=True
        )
    ).as_uri()


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> str:
    return build_report(make_run(tmp_path_factory.mktemp("many"), classes=26, pictured=1)).as_uri()


class Watched:
    """A page with everything it complained about or asked for."""

    def __init__(self, page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: self.requests.append(request.url))

    def check(self) -> None:
        assert self.complaints == []
        assert [r for r in self.requests if not r.startswith(("file:", "data:"))] == []
        assert sum(r.startswith("file:") for r in self.requests) >= 1


@pytest.fixture
def watched(browser) -> Iterator[Watched]:
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    found = Watched(page)
    yield found
    page.close()


def in_view(page, selector: str) -> bool:
    return page.evaluate(
        """s => { const b = document.querySelector(s).getBoundingClientRect();
                  return b.height > 0 && b.top > -2 && b.top < innerHeight; }""",
        selector,
    )


def test_opens_without_a_complaint_and_loads_every_picture(watched, address):
    page = watched.page
    page.goto(address)
    page.evaluate("for (const i of document.images) { i.loading = 'eager'; }")
    page.wait_for_function("[...document.images].every(i => i.complete)")
    widths = page.evaluate("[...document.images].map(i => i.naturalWidth)")
    assert len(widths) > 100
    assert min(widths) > 0
    # The choice of mu, recalls by class, and three of each way to name channels.
    assert page.locator("figure.chart svg").count() == 8
    watched.check()


def test_the_choice_of_mu_is_shown_and_said(watched, address):
    page = watched.page
    page.goto(address)
    page.click("nav a[href='#sparsity']")
    assert in_view(page, "#sparsity h2")
    picture = page.locator("#sparsity svg")
    assert picture.get_attribute("role") == "img"
    assert "the error is smallest at 40, chosen is 10" in picture.get_attribute("aria-label")
    words = picture.text_content()
    for label in (
        "held-out error",
        "held-out accuracy",
        "relevant channels",
        "smallest + 1 standard error",
        "mu: bound on ‖w‖₁ (log scale)",
        "squared error per image and class",
        "held-out images (%)",
    ):
        assert label in words
    outside = page.evaluate(
        """() => { const s = document.querySelector('#sparsity svg'), box = s.getBoundingClientRect();
                   return [...s.querySelectorAll('text')].filter((t) => {
                     const b = t.getBoundingClientRect();
                     return b.left < box.left - 1 || b.right > box.right + 1 || b.bottom > box.bottom + 1;
                   }).map((t) => t.textContent); }"""
    )
    assert outside == []  # the page's own font is wider than the one the figure was laid out with
    watched.check()


def test_a_seldom_named_channel_is_said_in_words_beside_its_weight(watched, address):
    page = watched.page
    page.goto(address)
    cells = page.locator("#class-0 td[data-label='Predicts it']")
    texts = [" ".join(cells.nth(i).text_content().split()) for i in range(cells.count())]
    named = [text for text in texts if text != "not named"]
    assert len(named) == 8
    assert sum("seldom" in text for text in named) == 3
    assert sum("frequency 1.00" in text for text in named) == 1
    assert sum("frequency 0.35 seldom" in text for text in named) == 1
    page.locator("#class-0 th a[href='#frequency']").click()
    assert in_view(page, "#frequency")
    # Nothing is cut off: the table of channels fits its place beside the contents.
    assert (
        page.evaluate("""() => { const t = document.querySelector('#class-0 .scroll');
                                    return t.scrollWidth - t.clientWidth; }""")
        <= 1
    )
    watched.check()


def test_nasty_names_are_text_and_nothing_of_theirs_ran(watched, address):
    page = watched.page
    page.goto(address)
    assert page.title().startswith("<em>resnet20</em>")
    for number in (0, 1, 2, 3):
        assert page.locator(f"#class-{number} h3 bdi").text_content() == NASTY[number]
    assert page.locator("script").count() == 1
    assert page.locator("[onerror]").count() == 0
    # Even a script that got into the page would not run: its hash is not the page's.
    page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.foreign = 1';"
        " document.body.append(s); }"
    )
    assert page.evaluate("window.foreign") is None
    assert any("Content Security Policy" in c for c in watched.complaints)


def test_what_it_looks_at_comes_first_with_pictures_before_and_after(watched, address):
    page = watched.page
    page.goto(address)
    page.click("nav a[href='#looks']")
    assert in_view(page, "#looks h2")
    first = page.locator("#look-0")
    assert first.locator("h3").text_content() == f"{NASTY[0]}: a patch"
    assert first.locator(".swap img:visible").count() == 6
    assert first.locator(".swap >> nth=0").text_content().split("taken for")[2].split(";")[0].strip() == NASTY[0]
    # Its pictures come before every number of the ablation.
    assert page.evaluate(
        """() => { const y = (s) => document.querySelector(s).getBoundingClientRect().top;
                   return y('#look-0 img') < y('.figures'); }"""
    )
    page.click("#class-0 a[href='#look-0']")
    assert in_view(page, "#look-0")
    watched.check()


def test_a_click_leads_to_the_class(watched, address):
    page = watched.page
    page.goto(address)
    page.click("nav .class-list a[href='#class-5']")
    page.wait_for_function("location.hash === '#class-5'")
    page.wait_for_function("document.activeElement.id === 'class-5'")
    assert in_view(page, "#class-5")
    assert page.get_attribute("nav a[href='#class-5']", "aria-current") == "true"
    watched.check()


def test_a_deep_link_opens_a_folded_class(watched, many):
    page = watched.page
    page.goto(many + "#class-21")
    page.wait_for_selector("#class-21 details.fold[open] table.channels", state="visible")
    assert in_view(page, "#class-21")
    assert page.get_attribute("#class-20 details.fold", "open") is None
    page.goto(many + "#example-25")
    page.wait_for_selector("#example-25 img", state="visible")
    assert in_view(page, "#example-25")
    watched.check()


def test_the_keyboard_alone_leads_to_a_class(watched, address):
    page = watched.page
    page.goto(address)
    page.focus("nav a[href='#class-3']")
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.id === 'class-3'")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.class').id") == "class-3"


def test_the_filter_finds_a_class_by_part_of_its_name(watched, address):
    page = watched.page
    page.goto(address)
    page.fill("#filter", "ÜBERGRÖSSE".replace("SS", "ß"))
    assert page.locator("nav .class-list li:visible").count() == 1
    page.fill("#filter", "no such class")
    assert page.locator("nav .class-list li:visible").count() == 0
    assert page.is_visible("#no-match")
    watched.check()


def test_without_javascript_it_is_all_there_and_links_work(browser, address):
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.goto(address)
    page.click("nav .class-list a[href='#class-4']")
    assert page.url.endswith("#class-4")
    assert page.is_visible("#class-4 table.channels")
    assert not page.is_visible("#filter")
    context.close()


def test_enter_in_the_search_leads_to_the_class(watched, many):
    page = watched.page
    page.goto(many)
    page.fill("#filter", "CLASS 2")
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.id === 'class-20'")
    assert page.is_visible("#class-20 table.channels")
    assert in_view(page, "#class-20")
    # A name that is another's beginning is found by itself.
    page.fill("#filter", "class 9")
    page.keyboard.press("Enter")
    page.wait_for_function("location.hash === '#class-9'")
    page.fill("#filter", "no such class")
    page.keyboard.press("Enter")
    page.fill("#filter", " ")
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#class-9"
    watched.check()


def test_bodies_are_unpacked_when_they_are_opened(watched, many):
    page = watched.page
    page.goto(many)
    count = "document.querySelectorAll('*').length"
    before = page.evaluate(count)
    assert page.locator("table.channels").count() == 0
    page.click("#class-12 > details > summary")
    page.wait_for_selector("#class-12 table.channels", state="visible")
    assert page.locator("table.channels").count() == 1
    assert page.evaluate(
        "[...document.querySelectorAll('#class-12 img')].every((i) => i.src.startsWith('data:image/'))"
    )
    page.click("#open-all")
    page.wait_for_function("document.querySelectorAll('table.channels').length === 25")
    assert page.evaluate(count) > 2 * before
    watched.check()


def test_without_javascript_many_classes_are_summed_up(browser, many):
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.goto(many)
    assert page.is_visible(".verdict .headline")
    assert "recall" in page.text_content("#class-21 .facts")
    page.click("#class-21 > details > summary")
    assert page.is_visible("#class-21 .kept p")
    context.close()


@pytest.mark.parametrize("width", [1300, 800, 420, 320])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_runs_over_the_edge(browser, address, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(address)
    page.evaluate("for (const e of document.querySelectorAll('main details')) { e.open = true; }")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # A table that is wider than its place scrolls in it, and the place is not wider than the page.
    places = page.evaluate(
        """() => [...document.querySelectorAll('main table')].map((table) => {
             const place = table.closest('.scroll'), box = place.getBoundingClientRect();
             return [Math.round(box.right) <= innerWidth, getComputedStyle(place).overflowX]; })"""
    )
    assert {tuple(place) for place in places} == {(True, "auto")}
    assert page.is_visible("h1")
    page.close()


@pytest.mark.parametrize(("scheme", "media"), [("light", "screen"), ("dark", "screen"), ("dark", "print")])
def test_text_has_the_contrast_wcag_asks_for(browser, address, scheme, media):
    page = browser.new_page(viewport={"width": 1400, "height": 900}, color_scheme=scheme)
    page.emulate_media(media=media, color_scheme=scheme)
    page.goto(address)
    page.evaluate("for (const e of document.querySelectorAll('details')) { e.open = true; }")
    ratios = page.evaluate((Path(__file__).parents[1] / "helpers" / "contrast.js").read_text(encoding="utf-8"))
    assert len(ratios) > 5
    assert {key: value for key, value in ratios.items() if value < 4.5} == {}
    page.close()
