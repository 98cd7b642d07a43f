"""The filter visualization in a real browser: opens from disk, every picture loads, fits any width, is readable."""

from __future__ import annotations

from pathlib import Path

import pytest
from interpnet.pipelines.cli.app import main
from interpnet.pipelines.report.filters import PAGE
from test_report_browser import Watched, browser, in_view  # noqa: F401 - browser is a fixture

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(weights, tmp_path_factory) -> str:
    out = tmp_path_factory.mktemp("filters") / "digits"
    quick = ["--max-images", "60", "--per-layer", "2", "--max-classes", "4", "--steps", "4", "--neighbours", "5"]
    assert main(["filters", "smallcnn", "digits", "--weights", str(weights), "--out", str(out), *quick]) == 0
    return (out / "report" / PAGE).as_uri()


def test_opens_without_a_complaint_and_loads_every_picture(browser, address):  # noqa: F811
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    watched = Watched(page)
    page.goto(address)
    page.evaluate("for (const i of document.images) { i.loading = 'eager'; }")
    page.wait_for_function("[...document.images].every(i => i.complete)")
    widths = page.evaluate("[...document.images].map(i => i.naturalWidth)")
    assert len(widths) > 50
    assert min(widths) > 0
    assert page.locator("figure.chart svg").count() == 1
    words = page.locator("#embedding svg").text_content()
    for label in ("t-SNE, first axis (no unit)", "t-SNE, second axis (no unit)", "9"):
        assert label in words
    watched.check()
    page.close()


def test_the_contents_lead_to_each_part(browser, address):  # noqa: F811
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(address)
    links = page.locator("nav a[href^='#']")
    targets = [links.nth(i).get_attribute("href") for i in range(links.count())]
    assert {"#filters", "#channels", "#classes", "#embedding", "#nearest", "#layer-3"} <= set(targets)
    for target in targets[1:]:
        page.click(f"nav a[href='{target}']")
        page.wait_for_function(f"location.hash === '{target}'")
        assert in_view(page, f"{target} h2, {target} h3")
    page.close()


@pytest.mark.parametrize("width", [1400, 800, 480, 320])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_runs_over_the_edge_and_pictures_stay_large(browser, address, width, scheme):  # noqa: F811
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sides = page.evaluate("[...document.querySelectorAll('.units img')].map(i => i.getBoundingClientRect().width)")
    assert min(sides) > 50
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_wcag_asks_for(browser, address, scheme):  # noqa: F811
    page = browser.new_page(viewport={"width": 1400, "height": 900}, color_scheme=scheme)
    page.goto(address)
    ratios = page.evaluate((Path(__file__).parents[1] / "helpers" / "contrast.js").read_text(encoding="utf-8"))
    assert len(ratios) > 5
    assert {key: value for key, value in ratios.items() if value < 4.5} == {}
    page.close()
