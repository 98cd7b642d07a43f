"""The report of many classes in a headless browser: size, nodes, time until it answers, before and after.

    PYTHONPATH=tests python -m experiments.benchmarks.report_page [--before CHECKOUT] [--out report_page.json]

A run folder of made-up values in the run's formats is written once (``helpers.report_fixture``: channels named both
ways, 16 for a class, 1,000 of them pictured, and 120 explained images, as many as a page shows). Its report is built by
this checkout, and by ``--before``, the folder of another revision, each in a process of its own, and opened from disk.

``interactive``: from the start of the navigation until the page has loaded, its script has run, and the main thread is
idle for the first time (``requestIdleCallback``). On a busy machine that is mostly waiting, so ``processor``, the time
that all of the browser's processes took until then, stands beside it (Linux). ``search``: from Enter in the class
search until the class's table is on the page.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from experiments.common.runner import command
from interpnet.support.io import write_json

_ROOT = Path(__file__).parents[2]
#: Runs in a checkout's own folder, where ``pipelines`` is that checkout's.
_BUILD = (
    "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); "
    "from pipelines.report.build import build_report; build_report(Path(sys.argv[2]))"
)
_IDLE = "() => new Promise((resolve) => requestIdleCallback(() => resolve(performance.now())))"
_ARGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


def built(checkout: Path, run: Path) -> dict[str, float]:
    """Build the report with a checkout's code; return its size and seconds."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", _BUILD, str(checkout.resolve()), str(run)], check=True, cwd=checkout)
    return {"MB": (run / "report" / "index.html").stat().st_size / 1e6, "seconds to build": time.perf_counter() - start}


def _processor() -> float:
    """Return the seconds of the processor that all processes below this one have taken (Linux)."""
    total = 0
    left = ["self"]
    while left:
        one = Path("/proc") / left.pop()
        try:
            if one.name != "self":
                # After the name in brackets: state, parent, ..., user and system time.
                values = (one / "stat").read_text().rpartition(")")[2].split()
                total += int(values[11]) + int(values[12])
            for task in (one / "task").iterdir():
                left += (task / "children").read_text().split()
        except (OSError, IndexError):
            continue  # it has ended
    return total / os.sysconf("SC_CLK_TCK")


def opened(browser: Any, page_file: Path, name: str) -> dict[str, float]:
    """Open a report and search for a class; return nodes and times."""
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    before = _processor()
    page.goto(page_file.as_uri(), timeout=0)
    interactive = page.evaluate(_IDLE) / 1e3
    found = {"interactive": interactive, "processor": _processor() - before}
    found["nodes"] = page.evaluate("document.querySelectorAll('*').length")
    start = time.perf_counter()
    page.fill("#filter", name)
    page.press("#filter", "Enter")
    table = page.locator("nav .class-list li:visible a").first.get_attribute("href")
    # Before, Enter did nothing, and a click was needed.
    page.click(f"nav .class-list a[href='{table}']")
    page.wait_for_selector(f"{table} table.channels", state="visible", timeout=0)
    found["search"] = time.perf_counter() - start
    page.close()
    return found


@command(classes="of the made-up run", before="folder of another revision")
def main(*, classes: int = 1000, repeats: int = 3, before: Path | None = None, out: Path | None = None) -> None:
    """Measure each checkout's report, print a row for each, and write JSON if asked to."""
    from playwright.sync_api import sync_playwright

    fixture = import_module("helpers.report_fixture")
    checkouts = {"now": _ROOT}
    if before is not None:
        checkouts = {"before": before, "now": _ROOT}
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        run = Path(folder) / "run"
        options = {"pictured": max(1, 1000 // classes), "examples": 120}
        fixture.make_run(run, classes=classes, chosen=True, stability=True, both=True, shortcuts=True, **options)
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=_ARGS)
        for what, checkout in checkouts.items():
            row: dict[str, Any] = built(checkout, run)
            rounds = [
                opened(browser, run / "report" / "index.html", fixture.class_names(classes)[-1]) for _ in range(repeats)
            ]
            row |= {name: statistics.median(found[name] for found in rounds) for name in rounds[0]}
            rows[what] = row
            print(what, json.dumps(rows[what]), flush=True)
        browser.close()
    if out:
        write_json(out, {"classes": classes, "repeats": repeats, "rows": rows})
