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
from dataclasses import dataclass
from pathlib import Path

OWN = ("interpnet", "pipelines", "experiments")


@dataclass
class Counts:
    """What was counted in some files."""

    files: int = 0
    lines: int = 0
    longest: int = 0
    several: int = 0
    conditional: int = 0
    comments: int = 0
    unformatted: int = 0

    def add(self, path: Path) -> None:
        """Count one file."""
        text = path.read_text(encoding="utf-8")
        lines = text.count("\n")
        self.files += 1
        self.lines += lines
        self.longest = max(self.longest, lines)
        for node in ast.walk(ast.parse(text)):
            self.several += isinstance(node, ast.Assign) and _assigns_several(node)
            self.conditional += isinstance(node, ast.IfExp)
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                self.comments += 1
                self.unformatted += "fmt: skip" in token.string or "fmt: off" in token.string
            elif token.type == tokenize.OP and token.string == ";":
                self.several += 1

    def row(self, name: str) -> str:
        """Return one line of the table."""
        thousand = max(self.lines, 1) / 1000
        return (
            f"{name:34} {self.files:5} {self.lines:7} {self.longest:7} {self.several / thousand:8.1f} "
            f"{self.conditional / thousand:11.1f} {100 * self.comments / max(self.lines, 1):9.1f} {self.unformatted:8}"
        )


def _assigns_several(node: ast.Assign) -> bool:
    """Whether a statement assigns unrelated values to several names."""
    target = node.targets[0]
    if len(node.targets) > 1:
        return False
    if not isinstance(target, ast.Tuple) or not isinstance(node.value, ast.Tuple):
        return False
    names = {ast.unparse(element) for element in target.elts}
    values = {ast.unparse(element) for element in node.value.elts}
    return names != values


def count(folder: Path) -> Counts:
    """Return the counts of all Python files below a folder."""
    counts = Counts()
    for path in sorted(folder.rglob("*.py")):
        counts.add(path)
    return counts


def main(folders: list[str]) -> None:
    """Print one row per folder, and a row for all."""
    total = Counts()
    print(f"{'folder':34} files   lines longest  several conditional comments% fmt skip")
    for name in folders or OWN:
        folder = Path(name)
        print(count(folder).row(name))
        for path in sorted(folder.rglob("*.py")):
            total.add(path)
    print(total.row("all"))


if __name__ == "__main__":
    main(sys.argv[1:])
