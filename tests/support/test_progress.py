"""Progress: lines in a log file, a bar in a terminal, a bar in the output of a real notebook's kernel."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from interpnet.support import progress
from interpnet.support.progress import Count, LogLines, duration, no_bars, progress_bar, step_of


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(Count.__init__, "__defaults__", (0, made))
    monkeypatch.setattr(LogLines, "_spoke", 0.0)
    monkeypatch.setattr(LogLines, "_ended", float("-inf"))
    return made


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_a_log_file_gets_a_line_every_30_s(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("Collecting scores", 50_000) as advance:
        for _ in range(64):
            clock.now += 1
            advance(410)
    assert lines(capsys) == [
        "Collecting scores: 12,300 of 50,000 images, 410 images/s, 1 min 32 s left",
        "Collecting scores: 24,600 of 50,000 images, 410 images/s, 1 min 2 s left",
    ]


def test_short_work_leaves_no_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("Solving", 3, unit="classes") as advance:
        clock.now += 29.9
        advance(3)
    assert lines(capsys) == []


def test_many_short_pieces_are_not_silent_together(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(5):
        with progress_bar("Averaging crops", 2) as advance:
            clock.now += 8
            advance(1)
    assert lines(capsys) == ["Averaging crops: 1 of 2 images, 0.12 images/s, 8 s left"]
    # What comes long after is other work.
    clock.now += 3600
    with progress_bar("Averaging crops", 2) as advance:
        clock.now += 8
        advance(1)
    assert lines(capsys) == []


def test_what_an_earlier_run_did_is_no_speed(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("Collecting scores", 1000, done=900) as advance:
        clock.now += 40
        advance(20)
    assert lines(capsys) == ["Collecting scores: 920 of 1,000 images, 0.5 images/s, 2 min 40 s left"]


def test_without_a_total_there_is_no_time_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("Measuring reliance") as advance:
        clock.now += 31
        advance(0)
        clock.now += 31
        advance(6200)
    assert lines(capsys) == ["Measuring reliance: 0 images", "Measuring reliance: 6,200 images, 100 images/s"]


def test_a_bar_within_a_bar(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    step_of("Solving")(5)  # nothing is shown
    with progress_bar("Collecting contributions", 100):
        with progress_bar("Collecting contributions", 50) as advance:
            advance(50)
        with progress_bar("Finding maxima", 9) as advance:
            advance(9)
        with progress_bar("Collecting contributions", 50, enabled=False) as advance:
            advance(50)
        step_of("Collecting contributions")(10)
        clock.now += 60
        # A sign of life of other work.
        step_of("Summing scores")(10)
    assert lines(capsys) == ["Collecting contributions: 60 of 100 images, 1 images/s, 40 s left"]
    assert progress._open == []


def test_no_bars_where_none_are_wanted(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("Auditing", 3) as advance:
        with no_bars():
            clock.now += 40
            for name in ("Auditing", "Collecting scores"):
                with progress_bar(name, 2) as silent:
                    silent(1)
                step_of(name)(1)
        advance(1)
    assert lines(capsys) == ["Auditing: 1 of 3 images, 0.025 images/s, 1 min 20 s left"]


def test_an_error_passes_and_closes_the_bar(clock: Clock) -> None:
    with pytest.raises(KeyError, match="k"), progress_bar("Collecting scores", 3):
        raise KeyError("k")
    assert progress._open == []


@pytest.mark.parametrize("stream", ["closed", "full", None])
def test_work_goes_on_without_a_log(clock: Clock, monkeypatch: pytest.MonkeyPatch, stream: str | None) -> None:
    class Full(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError("no space left on device")

    made: Any = None
    if stream is not None:
        made = Full()
    if stream == "closed":
        made.close()
    monkeypatch.setattr(sys, "stderr", made)
    with progress_bar("Collecting scores", 3) as advance:
        clock.now += 31
        advance(1)


def test_durations() -> None:
    cases = {0: "0 s", 59.4: "59 s", 59.6: "1 min 0 s", 3599: "59 min 59 s", 3600: "1 h 0 min", 360_000: "100 h 0 min"}
    assert {seconds: duration(seconds) for seconds in cases} == cases


def test_a_terminal_shows_a_bar() -> None:
    """In a terminal of 120 columns of its own."""
    code = (
        "from interpnet.support.progress import progress_bar\n"
        "with progress_bar('Collecting scores', 1200) as advance:\n"
        "    for _ in range(12):\n"
        "        advance(100)\n"
    )
    ours, theirs = pty.openpty()
    env = os.environ | {"COLUMNS": "120", "TERM": "xterm-256color"}
    shown: list[bytes] = []

    def listen() -> None:
        try:
            while part := os.read(ours, 4096):
                shown.append(part)
        except OSError:  # the other end is closed
            return

    ear = threading.Thread(target=listen)
    ear.start()
    done = subprocess.run([sys.executable, "-c", code], stderr=theirs, stdout=subprocess.PIPE, env=env, check=True)
    os.close(theirs)
    ear.join(10)
    os.close(ours)
    assert done.stdout == b""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(shown).decode())
    assert "Collecting scores" in text
    assert "1200/1200" in text


class Handle:
    """What IPython's display hands back."""

    def __init__(self, shown: list[dict[str, str]]) -> None:
        self.shown = shown

    def update(self, picture: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.shown.append(picture)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> list[dict[str, str]]:
    """The pictures that a notebook showed."""
    shown: list[dict[str, str]] = []

    class Shell:
        kernel = object()

    def display(picture: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        shown.append(picture)
        return Handle(shown)

    ipython = type(sys)("IPython")
    ipython.get_ipython = Shell  # type: ignore[attr-defined]
    inner = type(sys)("IPython.display")
    inner.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    ipython.display = inner  # type: ignore[attr-defined]
    return shown


def test_a_notebook_is_not_flooded(notebook: list[dict[str, str]], clock: Clock) -> None:
    with progress_bar("a < b", 1000) as advance:
        for _ in range(1000):
            clock.now += 0.01
            advance(1)
    # Ten seconds, two pictures a second, and the last.
    assert 19 <= len(notebook) <= 21
    assert notebook[0]["text/html"].startswith('<div><progress value="5')
    assert 'max="1000"></progress> a &lt; b: 5' in notebook[0]["text/html"]
    assert notebook[-1] == {
        "text/plain": "a < b: 1,000 of 1,000 images, 100 images/s",
        "text/html": (
            '<div><progress value="1000" max="1000"></progress> a &lt; b: 1,000 of 1,000 images, 100 images/s</div>'
        ),
    }


def test_a_notebook_shows_where_work_stopped(notebook: list[dict[str, str]], clock: Clock) -> None:
    def interrupted() -> None:
        with progress_bar("Ablating") as advance:
            clock.now += 2
            advance(4)
            raise KeyboardInterrupt("now")

    with pytest.raises(KeyboardInterrupt, match="now"):
        interrupted()
    assert notebook[-1] == {
        "text/plain": "Ablating: 4 images, 2 images/s (stopped)",
        "text/html": "<div><progress></progress> Ablating: 4 images, 2 images/s (stopped)</div>",
    }
    # Complete without a total: as many as there were.
    with progress_bar("Ablating") as advance:
        clock.now += 2
        advance(4)
    assert 'value="4" max="4"' in notebook[-1]["text/html"]
    # Many short pieces of work would leave a cell full of bars.
    shown = len(notebook)
    with progress_bar("Reading", 4) as advance:
        advance(4)
    assert len(notebook) == shown


def test_in_a_real_kernel_the_cell_shows_one_full_bar(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    code = (
        "import time\n"
        "from interpnet.support.progress import progress_bar\n"
        "with progress_bar('Collecting scores', 400) as advance:\n"
        "    for _ in range(100):\n"
        "        time.sleep(0.012)\n"
        "        advance(4)\n"
    )
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    updates: list[str] = []

    class Client(nbclient.NotebookClient):  # type: ignore[misc, name-defined]
        def process_message(self, msg: Any, cell: Any, index: int) -> Any:
            updates.append(msg["msg_type"])
            return super().process_message(msg, cell, index)

    Client(book, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    (shown,) = book.cells[0].outputs
    assert shown.output_type == "display_data"
    assert '<progress value="400" max="400">' in shown.data["text/html"]
    assert shown.data["text/plain"].startswith("Collecting scores: 400 of 400 images, ")
    assert updates.count("display_data") == 1
    assert 2 <= updates.count("update_display_data") <= 6
