"""What an experiment writes: generated text between two marks of a README, and figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.common.tables import Line
from interpnet.errors import InterpNetError
from interpnet.plotting.style import house_style, new_figure
from interpnet.support.io import atomic_path, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

END = "<!-- end -->"


def begin(command: str) -> str:
    """Return the mark that opens what ``python -m command`` writes."""
    return f"<!-- begin: written by python -m {command} -->"


def fill(path: Path, command: str, text: str) -> None:
    """Replace what stands between the marks of ``command`` in a Markdown file; without them it is an InterpNetError."""
    page = path.read_text()
    mark = begin(command)
    before, opened, after = page.partition(mark)
    _, closed, rest = after.partition(END)
    if not opened or not closed:
        raise InterpNetError(f"{path} lacks {mark!r} or {END!r}; put both where the text belongs")
    write_text(path, f"{before}{mark}\n\n{text.strip()}\n\n{END}{rest}")


def committed(module: str, name: str = "results.json") -> Any:
    """Return what a JSON file beside a module (its ``__file__``) holds."""
    return json.loads(Path(module).with_name(name).read_text())


@dataclass(frozen=True)
class Page:
    """What an experiment makes of its results: the text between its README's marks, and figures beside it."""

    command: str
    text: Callable[[list[Line]], str]
    figures: dict[str, Callable[[list[Line], Path], None]]  # by the file's name

    def write(self, readme: Path, lines: list[Line]) -> None:
        """Fill the README and draw the figures."""
        fill(readme, self.command, self.text(lines))
        for name, draw in self.figures.items():
            draw(lines, readme.with_name(name))


@contextmanager
def figure_file(path: Path, width: float, height: float, dpi: int = 110) -> Iterator[Figure]:
    """Yield an empty figure in the house style, its size in inches, and write it to ``path`` afterwards."""
    with house_style():
        drawn = new_figure(width, height)
        yield drawn
        with atomic_path(path) as part:
            drawn.savefig(part, dpi=dpi, bbox_inches="tight")
