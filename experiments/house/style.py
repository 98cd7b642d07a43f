"""How plainly the code is written: figures per 1,000 lines that can be held against other code bases.

    python -m experiments.house.style [FOLDER ...]

Counts every ``.py`` file below the folders (by default this project's own code, without tests):

- several assignments on one line: ``a, b = x, y`` with a tuple on both sides (an exchange ``a, b = b, a``
  is one idea and is not counted), and statements joined by a semicolon;
- conditional expressions: ``x if c else y``;
- lines that hold a comment, in percent;
- ``fmt: skip`` and ``fmt: off``: places kept away from the formatter;
- the longest file.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path
from typing import NamedTuple

OWN = ("interpnet", "pipelines", "experiments")


class Counts(NamedTuple):
    """What was counted in one file."""

    lines: int
    several: int
    conditional: int
    comments: int
    unformatted: int


def count(path: Path) -> Counts:
    """Count one file."""
    text = path.read_text(encoding="utf-8")
    nodes = list(ast.walk(ast.parse(text)))
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
    several = sum(isinstance(node, ast.Assign) and _assigns_several(node) for node in nodes)
    return Counts(
        lines=text.count("\n"),
        several=several + sum(token.type == tokenize.OP and token.string == ";" for token in tokens),
        conditional=sum(isinstance(node, ast.IfExp) for node in nodes),
        comments=len(comments),
        unformatted=sum("fmt: skip" in comment or "fmt: off" in comment for comment in comments),
    )


def row(name: str, files: list[Counts]) -> str:
    """Return one line of the table."""
    longest = max((one.lines for one in files), default=0)
    lines, several, conditional, comments, unformatted = (sum(one[i] for one in files) for i in range(5))
    total = max(lines, 1)
    return (
        f"{name:34} {len(files):5} {lines:7} {longest:7} {1000 * several / total:8.1f} "
        f"{1000 * conditional / total:11.1f} {100 * comments / total:9.1f} {unformatted:8}"
    )


def _assigns_several(node: ast.Assign) -> bool:
    """Whether a statement assigns unrelated values to several names."""
    (target, *more) = node.targets
    if more or not isinstance(target, ast.Tuple) or not isinstance(node.value, ast.Tuple):
        return False
    names, values = ({ast.unparse(element) for element in one.elts} for one in (target, node.value))
    return names != values


def main(folders: list[str]) -> None:
    """Print one row per folder, and a row for all."""
    every = []
    print(f"{'folder':34} files   lines longest  several conditional comments% fmt skip")
    for name in folders or OWN:
        found = [count(path) for path in Path(name).rglob("*.py")]
        every += found
        print(row(name, found))
    print(row("all", every))


if __name__ == "__main__":
    main(sys.argv[1:])
