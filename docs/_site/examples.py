"""Code on a page that runs when the site is built, with what it prints, returns and draws below it.

Blocks of ``python`` run from top to bottom in one namespace, as in a notebook: below each stands what it printed and
the value of its last line. Lines that begin with ``$`` in blocks of ``console`` are commands of ``interpnet``.
"""

from __future__ import annotations

import ast
import contextlib
import html
import io
import os
import re
import shlex
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_PANDAS = re.compile(r' border="1" class="dataframe"| style="text-align: right;"|<style scoped>.*?</style>', re.DOTALL)
_LONGEST = 60  # lines of output that a reader may be asked to read


class ExampleError(Exception):
    """A block that raised, exited with another code than 0, or warned: the page, its line, and what it said."""


class Runner:
    """Runs the blocks of one page, in the folder where all pages have theirs; ``files`` are the pictures."""

    def __init__(self, page: str, folder: Path) -> None:
        self.page = page
        self.folder = folder
        self.files: dict[str, bytes] = {}
        self._names: dict[str, Any] = {"__name__": "__main__"}

    def run(self, markdown: str) -> str:
        """Return the page with what its blocks give."""
        with _inside(self.folder):
            return _BLOCK.sub(lambda block: self._one(block, markdown.count("\n", 0, block.start()) + 2), markdown)

    def _one(self, block: re.Match[str], line: int) -> str:
        out = io.StringIO()
        shown: Any = None
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), warnings.catch_warnings():
                warnings.simplefilter("error")
                if block[1] == "python":
                    shown = self._python(block[2], line)
                else:
                    _commands(block[2])
        except (Exception, SystemExit) as error:
            raise ExampleError(
                f"{self.page}, block at line {line}: {type(error).__name__}: {error}\n{out.getvalue()}"
            ) from error
        printed = _COLOURS.sub("", out.getvalue()).rstrip()
        if printed.count("\n") >= _LONGEST:
            raise ExampleError(f"{self.page}, block at line {line} prints more than {_LONGEST} lines")
        parts = [block[0]]
        if printed:
            parts.append(f"```{{ .text .output }}\n{printed}\n```")
        return "\n\n".join(parts + self._shown(shown))

    def _python(self, code: str, line: int) -> Any:
        """Run a block and return the value of its last line, if that is an expression."""
        tree = ast.parse("\n" * (line - 1) + code, self.page)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, self.page, "exec"), self._names)  # noqa: S102 - the page is ours
        if last is None:
            return None
        return eval(compile(ast.Expression(last.value), self.page, "eval"), self._names)  # noqa: S307

    def _shown(self, value: Any) -> list[str]:
        """Return how a value stands on the page: pictures as files, tables as such, all else as text."""
        from matplotlib.figure import Figure
        from PIL import Image

        if value is None:
            return []
        if isinstance(value, Figure):
            return [self._picture(lambda file: value.savefig(file, format="png", dpi=110, bbox_inches="tight"))]
        if isinstance(value, Image.Image):
            return [self._picture(lambda file: value.save(file, format="png"))]
        if isinstance(value, os.PathLike) and str(value).endswith(".html"):
            name = f"report-of-{Path(value).absolute().parents[1].name}.html"  # pages may show the same one
            self.files[name] = Path(value).read_bytes()
            return [f'[The page that this made]({name}){{ target="_blank" }}']
        if hasattr(value, "_repr_html_"):
            return [f'<div class="output">{_PANDAS.sub("", value._repr_html_())}</div>']
        return [f"```{{ .text .output }}\n{value!r}\n```"]

    def _picture(self, save: Any) -> str:
        file = io.BytesIO()
        save(file)
        return f"![{html.escape(Path(self.page).stem)}]({self._kept('png', file.getvalue())})"

    def _kept(self, ending: str, content: bytes) -> str:
        name = f"{Path(self.page).stem}-{len(self.files) + 1}.{ending}"
        self.files[name] = content
        return name


def _commands(block: str) -> None:
    from interpnet.pipelines.cli.app import main

    for command in re.findall(r"^\$ (.*)$", block.replace("\\\n", " "), re.MULTILINE):
        program, *arguments = shlex.split(command)
        if program != "interpnet":
            raise ValueError(f"{command!r} is no command of interpnet")
        code = main(arguments)
        if code:
            raise ValueError(f"{command!r} ended with code {code}")


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in a folder whose modules can be imported, with figures that need no screen and lines of one width."""
    import matplotlib as mpl

    mpl.use("agg")
    folder.mkdir(parents=True, exist_ok=True)
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"
    sys.path.insert(0, str(folder))
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        sys.path.remove(str(folder))
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
