"""The command of an experiment: its options, and its results file, from which a second run goes on."""

from __future__ import annotations

import argparse
import inspect
import json
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cache, wraps
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from experiments.common.pages import Page
from experiments.common.tables import Line
from interpnet.support.allocator import keep_freed_memory
from interpnet.support.io import write_text

Result = TypeVar("Result")

# The help of options that mean the same everywhere.
_HELP = {
    "work": "folder of weights and images",
    "out": "where the results are kept",
    "quick": "a trial of seconds on few small images; writes no page",
    "networks": "how many independently trained networks",
    "images": "how many test images",
    "repeats": "rounds, of which the median counts",
    "no_memory": "leave out the memory part",
}


def command(**words: str | Collection[str]) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Make a function the ``main`` of a module: its keyword parameters become the options of the command line.

    ``networks: tuple[str, ...] = NAMES`` is ``--networks A B ...``, a bool is a switch, a ``None`` in a type allows to
    leave the option out, and a parameter without a default is required. A trailing underscore is dropped. A word is an
    option's help, or its choices; ``--help`` shows the module's docstring. ``python -m`` runs the function where it
    is declared, so that it has to be the last of its module.

    Examples
    --------
    >>> @command(names=("a", "b"))
    ... def main(names: tuple[str, ...] = ("a",), quick: bool = False) -> None:
    ...     print(names, quick)
    >>> main(["--names", "b", "a", "--quick"])
    ('b', 'a') True
    """

    def decorate(function: Callable[..., Result]) -> Callable[..., Result]:
        @wraps(function)
        def main(arguments: Sequence[str] | None = None) -> Result:
            return function(**_read(function, words, _parameters(function), arguments))

        return _started(main)

    return decorate


def study(
    page: Page, folder: str, **words: str | Collection[str]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function the ``main`` of an experiment that measures, keeps its results, and writes its page.

    The function gets ``results``, ``work`` and ``quick`` from the options ``--out`` (``results.json``), ``--work``
    (``folder``) and ``--quick``, and its own as in :func:`command`. The page is written afterwards, but for a trial.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        here = Path(inspect.getfile(function)).parent
        own = {name: rest for name, rest in _parameters(function).items() if name not in {"results", "work", "quick"}}
        shared = {"work": (Path, Path(folder)), "out": (Path, here / "results.json"), "quick": (bool, False)}

        @wraps(function)
        def main(arguments: Sequence[str] | None = None) -> None:
            options = _read(function, words, {**own, **shared}, arguments)
            results = Results(options.pop("out"))
            options["work"].mkdir(parents=True, exist_ok=True)
            keep_freed_memory()  # thousands of passes of the same sizes
            function(results, **options)
            if not options["quick"]:
                page.write(here / "README.md", results.lines)

        return _started(main)

    return decorate


def _started(main: Callable[..., Result]) -> Callable[..., Result]:
    """Run a module's ``main`` where ``python -m`` has started the module; it is the module's last definition."""
    if main.__module__ == "__main__":
        sys.exit(main())  # type: ignore[arg-type]
    return main


def _parameters(function: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Return the type and the default of each parameter."""
    hints = get_type_hints(function)
    return {name: (hints[name], one.default) for name, one in inspect.signature(function).parameters.items()}


def _read(
    function: Callable[..., Any],
    words: dict[str, str | Collection[str]],
    parameters: dict[str, tuple[Any, Any]],
    arguments: Sequence[str] | None,
) -> dict[str, Any]:
    about = sys.modules[function.__module__].__doc__
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, (hint, default) in parameters.items():
        said = words.get(name, ())
        options: dict[str, Any] = {"help": said if isinstance(said, str) else _HELP.get(name), "dest": name}
        inner = [part for part in get_args(hint) if part not in {type(None), ...}]  # X of tuple[X, ...] and X | None
        if hint is bool:
            options["action"] = "store_true"
        else:
            options["type"] = [*inner, hint][0]
            options["default"] = default
            options["required"] = default is inspect.Parameter.empty
        if said and not isinstance(said, str):
            options["choices"] = list(said)
        if isinstance(default, tuple):
            options["nargs"] = "+"
        parser.add_argument(f"--{name.rstrip('_').replace('_', '-')}", **options)
    given = vars(parser.parse_args(arguments))
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


@cache
def commit() -> str:
    """Return the short name of the commit when this was first asked, the code that runs; ``unknown`` without git."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]  # whichever git is on the path
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
    except OSError:
        return "unknown"


class Results:
    """The ``lines`` of a JSON file, each a piece of work, written after every one: what is there is not done again."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.lines: list[Line] = json.loads(file.read_text()) if file.exists() else []

    def todo(self, wanted: Iterable[Line]) -> list[Line]:
        """Return those keys that no line has yet."""
        return [dict(key) for key in wanted if not any(key.items() <= line.items() for line in self.lines)]

    def missing(self, wanted: Iterable[Line]) -> Iterator[Line]:
        """Yield the keys that are still to be measured, each as a line to add the measurements to.

        When the next one is asked for, the line gets ``seconds`` (where it has none) and ``commit``, and is written.
        A line to which nothing was added is dropped.
        """
        for line in self.todo(wanted):
            keys = dict(line)
            began = time.perf_counter()
            yield line
            if line == keys:  # nothing was measured
                continue
            line.setdefault("seconds", round(time.perf_counter() - began, 1))
            line["commit"] = commit()  # the code that measured it
            self.add(line)
            print(*keys.values(), f"{line['seconds']} s", flush=True)

    def add(self, line: Line) -> None:
        """Take in a line, or one that has changed, and write the file, a line each."""
        if line not in self.lines:
            self.lines.append(line)
        self.write()

    def write(self) -> None:
        """Write the file, a line each."""
        rows = ",\n".join(json.dumps(one, ensure_ascii=False) for one in self.lines)
        write_text(self.file, f"[\n{rows}\n]\n")


def rounded(value: Any, digits: int = 4) -> Any:
    """Return what goes into a results file, its floating-point numbers rounded.

    Examples
    --------
    >>> rounded({"a": [0.123456, 7], "b": "c"})
    {'a': [0.1235, 7], 'b': 'c'}
    """
    if isinstance(value, dict):
        return {k: rounded(v, digits) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v, digits) for v in value]
    return round(float(value), digits) if isinstance(value, float) else value
