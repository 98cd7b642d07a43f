"""The page of a repair in a real browser: opens from disk, every picture loads, fits any width, is readable."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.repair_facts import write_repair
from helpers.report_fixture import NASTY, class_names, make_run
from interpnet.pipelines.report.repair import build_repair_report
from test_report_browser import Watched, browser, in_view  # noqa: F401 - browser is a fixture

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module", params=[True, False], ids=["accepted", "not accepted"])
def address(request, tmp_path_factory) -> str:
    folder = make_run(tmp_path_factory.mktemp("repair") / "run", classes=8)
    write_repair(folder, class_names(8), accepted=request.param)
    return build_repair_report(folder).as_uri()


def test_opens_without_a_complaint_and_the_contents_lead_to_each_part(browser, address):  # noqa: F811
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    watched = Watched(page)
    page.goto(address)
    page.evaluate("for (const i of document.images) { i.loading = 'eager'; }")
    page.wait_for_function("[...document.images].every(i => i.complete)")
    assert all(page.evaluate("[...document.images].map(i => i.naturalWidth)"))
    assert page.locator("#recalls bdi >> nth=0").text_content() == NASTY[0]
    links = page.locator("nav a[href^='#']")
    for i in range(1, links.count()):
        target = links.nth(i).get_attribute("href")
        page.click(f"nav a[href='{target}']")
        page.wait_for_function(f"location.hash === '{target}'")
        assert in_view(page, f"{target} h2")
    watched.check()
    page.close()


@pytest.mark.parametrize("width", [1400, 800, 480, 320])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_runs_over_the_edge(browser, address, width, scheme):  # noqa: F811
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_wcag_asks_for(browser, address, scheme):  # noqa: F811
    page = browser.new_page(viewport={"width": 1400, "height": 900}, color_scheme=scheme)
    page.goto(address)
    ratios = page.evaluate((Path(__file__).parents[1] / "helpers" / "contrast.js").read_text(encoding="utf-8"))
    assert len(ratios) > 5
    assert {key: value for key, value in ratios.items() if value < 4.5} == {}
    page.close()
