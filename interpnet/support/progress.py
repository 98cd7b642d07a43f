"""Progress bars for long work, silent where nobody watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(
    description: str, total: int | None = None, *, unit: str = "images", enabled: bool = True
) -> Iterator[Callable[[int], None]]:
    """Show a bar with count, rate and time left on stderr; yields ``advance(n)``.

    ``total`` is a number of ``unit`` (in the plural); without it the bar pulses. ``enabled=False`` shows nothing, and
    so does a stderr that is no terminal.
    """
    # Loaded here: commands that show no bar need none of it.
    from rich import progress
    from rich.console import Console
    from rich.text import Text

    class Rate(progress.ProgressColumn):
        def render(self, task: progress.Task) -> Text:
            speed = task.finished_speed or task.speed
            # Before the first step there is none.
            return Text("" if speed is None else f"{speed:,.0f} {unit}/s", style="cyan")

    console = Console(stderr=True)
    if not enabled or not console.is_terminal:
        yield lambda _n: None
        return
    counts = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn(), Rate())
    times = (progress.TimeElapsedColumn(), progress.TextColumn("left"), progress.TimeRemainingColumn())
    with progress.Progress(*counts, *times, console=console) as bar:
        task = bar.add_task(description, total=total)
        yield lambda n: bar.advance(task, n)
