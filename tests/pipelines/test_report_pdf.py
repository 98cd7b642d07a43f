"""A report as PDF: by a browser that is played, by a real one where there is one, and without any."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from helpers.report_fixture import make_run
from interpnet.pipelines.report import pdf
from interpnet.pipelines.report.build import build_report

from interpnet.errors import InterpNetError

_PLAYED = """#!{python}
import sys
(target,) = [a.partition("=")[2] for a in sys.argv if a.startswith("--print-to-pdf=")]
page = sys.argv[-1]
assert page.startswith("file:///") and page.endswith("index.html"), page
{rest}
"""


def played(folder: Path, rest: str) -> str:
    """Write a program that stands for a browser."""
    path = folder / "browser"
    path.write_text(_PLAYED.format(python=sys.executable, rest=rest), encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / "report").mkdir()
    path = tmp_path / "report" / "index.html"
    path.write_text("<p>report</p>", encoding="utf-8")
    return path


def test_a_played_browser_prints(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(pdf.VARIABLE, played(tmp_path, "open(target, 'wb').write(b'%PDF-1.7 x')"))
    assert pdf.print_pdf(page) == page.with_name("index.pdf")
    assert page.with_name("index.pdf").read_bytes() == b"%PDF-1.7 x"
    assert sorted(p.name for p in page.parent.iterdir()) == ["index.html", "index.pdf"]


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        (
            "sys.exit('no display')",
            r"printed no PDF of .*index.html' \(exit code 1\): no display; set INTERPNET_BROWSER",
        ),
        ("pass", r"printed no PDF of .* \(exit code 0\)"),
        ("open(target, 'wb').write(b'<html>')", "printed no PDF"),
    ],
)
def test_a_browser_that_fails_is_quoted_and_leaves_nothing(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rest: str, words: str
) -> None:
    monkeypatch.setenv(pdf.VARIABLE, played(tmp_path, rest))
    with pytest.raises(InterpNetError, match=words):
        pdf.print_pdf(page)
    assert [p.name for p in page.parent.iterdir()] == ["index.html"]


def test_without_a_browser_the_error_says_what_to_do(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(pdf.VARIABLE, raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InterpNetError, match=r"none of chromium, .* is on the PATH; install Chromium, set INTERPNET_B"):
        pdf.print_pdf(page)
    monkeypatch.setenv(pdf.VARIABLE, "/no/such/browser")
    with pytest.raises(InterpNetError, match="INTERPNET_BROWSER is '/no/such/browser', and no such program can be run"):
        pdf.print_pdf(page)


@pytest.mark.browser
def test_a_real_browser_prints_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium here (apt-get install chromium)")
    monkeypatch.setenv(pdf.VARIABLE, browser)
    made = pdf.print_pdf(
        build_report(make_run(tmp_path, classes=2, pictured=1, stages=("collect", "solve", "explain")))
    )
    data = made.read_bytes()
    assert data.startswith(b"%PDF")
    assert data.count(b"/Subtype /Image") > 10


def test_the_command_prints_too_and_refuses_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from interpnet.pipelines.cli import commands
    from interpnet.pipelines.cli.options import Request
    from interpnet.pipelines.run.settings import Given

    monkeypatch.setenv(pdf.VARIABLE, "/no/such/browser")
    with pytest.raises(InterpNetError, match="no such program can be run"):
        commands.report(Given({}), Request(run=str(tmp_path), pdf=True))
    monkeypatch.delenv(pdf.VARIABLE)
    with pytest.raises(InterpNetError, match="holds no run"):
        commands.report(Given({}), Request(run=str(tmp_path)))
