"""Progress of long work, on stderr: a bar in a terminal and in a notebook, now and then a line in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from html import escape
from typing import Any, Protocol

#: Seconds without a word after which a log file gets a line.
QUIET = 30.0
# Seconds between two pictures of a notebook's bar: more often would flood the notebook's file.
_REDRAWN = 0.5
Advance = Callable[[int], None]


class _Bar(Protocol):
    """What shows how far one piece of work is."""

    description: str

    def advance(self, n: int) -> None:
        """Count ``n`` more."""

    def close(self, *, complete: bool) -> None:
        """Show the last state."""


# The bar that is shown: one within another would spoil its line.
_open: list[_Bar] = []


@contextmanager
def progress_bar(
    description: str, total: int | None = None, *, unit: str = "images", done: int = 0, enabled: bool = True
) -> Iterator[Advance]:
    """Show how far some work is, with count, rate and time left; yields ``advance(n)``.

    In a terminal and in a notebook it is a bar. Elsewhere stderr is a log file: after 30 s without a line it gets one,
    so that short work leaves none. ``total`` is a number of ``unit`` (in the plural), where it is known; ``done`` of
    them were done before. ``enabled=False`` shows nothing, and within another bar see :func:`step_of`.

    Examples
    --------
    >>> with progress_bar("Reading", 2) as advance:
    ...     advance(2)
    """
    if not enabled or _open:
        yield step_of(description) if enabled else _nothing
        return
    bar = _make(Count(description, total, unit, done))
    _open.append(bar)
    complete = False
    try:
        yield bar.advance
        complete = True
    finally:
        _open.remove(bar)
        bar.close(complete=complete)


@contextmanager
def no_bars() -> Iterator[None]:
    """Show none, whoever asks for one.

    Examples
    --------
    >>> with no_bars(), progress_bar("Reading", 2) as advance:
    ...     advance(2)
    """
    before = list(_open)
    _open[:] = [_NoBar()]
    try:
        yield
    finally:
        _open[:] = before


class _NoBar:
    """Stands for a bar where none is wanted."""

    description = ""

    def advance(self, n: int) -> None:
        pass

    def close(self, *, complete: bool) -> None:
        pass


def _nothing(_n: int) -> None:
    pass


def step_of(description: str) -> Advance:
    """Return ``advance(n)`` for work that shows no bar of its own: steps of the open bar, where that is of this work.

    For a bar of other work they are a sign of life, and without a bar nothing.

    Examples
    --------
    >>> with progress_bar("Reading", 2):
    ...     step_of("Reading")(2)
    """
    if not _open:
        return _nothing
    (bar,) = _open
    if bar.description == description:
        return bar.advance
    return lambda _n: bar.advance(0)


def _make(count: Count) -> _Bar:
    """Return the kind of bar that stderr, or the notebook, can show."""
    if in_notebook():
        return NotebookBar(count)
    # A program without a console has no stderr, or a closed one.
    with suppress(ValueError, AttributeError):
        if sys.stderr.isatty():
            return _TerminalBar(count)
    return LogLines(count)


def in_notebook() -> bool:
    """Whether this runs in the kernel of a notebook."""
    # IPython is loaded wherever a notebook runs.
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class Count:
    """How many of how many things are done, and since when."""

    def __init__(
        self,
        description: str,
        total: int | None,
        unit: str,
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.description = description
        self.total = total
        self.unit = unit
        self.done = done
        # Of these the clock knows nothing.
        self._before = done
        self.clock = clock
        self.started = clock()

    def text(self) -> str:
        """Return the count in words, with rate and time left.

        Examples
        --------
        >>> times = iter([0.0, 31.2])
        >>> count = Count("Collecting scores", 50_000, "images", clock=lambda: next(times))
        >>> count.done = 12_800
        >>> count.text()
        'Collecting scores: 12,800 of 50,000 images, 410 images/s, 1 min 31 s left'
        """
        seconds = self.clock() - self.started
        said = f"{self.description}: {self.done:,}"
        if self.total is not None:
            said += f" of {self.total:,}"
        said += f" {self.unit}"
        fresh = self.done - self._before
        if not fresh or seconds <= 0:
            return said
        rate = fresh / seconds
        said += f", {speed(rate)} {self.unit}/s"
        if self.total is not None and self.done < self.total:
            said += f", {duration((self.total - self.done) / rate)} left"
        return said


def speed(rate: float) -> str:
    """Return a number per second as a reader wants it.

    Examples
    --------
    >>> speed(1234.4), speed(0.04)
    ('1,234', '0.04')
    """
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def duration(seconds: float) -> str:
    """Return a time in its two largest units.

    Examples
    --------
    >>> duration(7.4), duration(91), duration(7500)
    ('7 s', '1 min 31 s', '2 h 5 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min {rest} s"
    return f"{hours} h {minutes} min"


class LogLines:
    """A line for every 30 s in which nothing was said, by whatever is at work."""

    # Of the last line or the beginning of the work, and of the end of the last bar; common to all, because many short
    # pieces of work are as silent as one long one.
    _spoke = 0.0
    _ended = float("-inf")

    def __init__(self, count: Count) -> None:
        self.description = count.description
        self._count = count
        if count.started - LogLines._ended > QUIET:
            LogLines._spoke = count.started

    def advance(self, n: int) -> None:
        """Count ``n`` more, and say so after 30 s of silence."""
        self._count.done += n
        now = self._count.clock()
        if now - LogLines._spoke >= QUIET:
            LogLines._spoke = now
            # Work does not end because its log cannot be written.
            with suppress(OSError, ValueError, AttributeError):
                sys.stderr.write(self._count.text() + "\n")
                sys.stderr.flush()

    def close(self, *, complete: bool) -> None:  # noqa: ARG002 - a log shows no last state
        """Note when it ended."""
        LogLines._ended = self._count.clock()


class NotebookBar:
    """A bar in the output of a notebook's cell, drawn at most twice a second; short work shows none."""

    def __init__(self, count: Count) -> None:
        self.description = count.description
        self._count = count
        self._drawn = count.started
        self._handle: Any = None

    def advance(self, n: int) -> None:
        """Count ``n`` more."""
        self._count.done += n
        now = self._count.clock()
        if now - self._drawn >= _REDRAWN:
            self._drawn = now
            self._draw()

    def close(self, *, complete: bool) -> None:
        """Show a full bar, or where the work stopped."""
        if complete and self._count.total is None:
            self._count.total = self._count.done
        if not complete:
            self._draw(after=" (stopped)")
        elif self._handle is not None:
            self._draw()

    def _draw(self, after: str = "") -> None:
        from IPython import display

        show: Any = display.display
        if self._handle is None:
            # Many short pieces of work would leave a cell full of bars.
            self._handle = show(self._picture(after), raw=True, display_id=True)
        else:
            self._handle.update(self._picture(after), raw=True)

    def _picture(self, after: str = "") -> dict[str, Any]:
        count = self._count
        text = count.text() + after
        # Without a value the bar pulses.
        value = ""
        if count.total is not None:
            value = f' value="{count.done}" max="{max(count.total, 1)}"'
        return {"text/plain": text, "text/html": f"<div><progress{value}></progress> {escape(text)}</div>"}


class _TerminalBar:
    """A bar in a terminal."""

    def __init__(self, count: Count) -> None:
        # Loaded here: commands that show no bar need none of it.
        from rich import progress
        from rich.console import Console
        from rich.text import Text

        class Rate(progress.ProgressColumn):
            def render(self, task: progress.Task) -> Text:
                rate = task.finished_speed or task.speed
                # Before the first step there is none.
                return Text("" if rate is None else f"{speed(rate)} {count.unit}/s", style="cyan")

        counts = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn())
        times = (progress.TimeElapsedColumn(), progress.TextColumn("left"), progress.TimeRemainingColumn())
        self.description = count.description
        self._bar = progress.Progress(*counts, Rate(), *times, console=Console(stderr=True))
        self._task = self._bar.add_task(count.description, total=count.total, completed=count.done)
        self._bar.start()

    def advance(self, n: int) -> None:
        """Count ``n`` more."""
        self._bar.advance(self._task, n)

    def close(self, *, complete: bool) -> None:  # noqa: ARG002 - rich's last picture says how far it came
        """Leave the bar as it is."""
        self._bar.stop()
