"""Would the tests notice? A random sample of small faults in each room's code, and how many of them its tests find.

    python -m experiments.reliability.mutation [ROOM ...] --sample 50 --seed 0 --json FILE [--root FOLDER]

A room is a folder of ``interpnet/``, or ``stages``, ``run``, ``report``, ``cli`` and ``filters`` of the pipeline. The
tests of a mutant are those in the room's folder below ``tests/``, other files that import the room's private files, the
tables of arguments and shapes of all public functions wherever they stand (``test_wrong_arguments.py``,
``test_shapes.py`` and ``test_*_arguments.py``, five seconds in all), and the examples in its docstrings; of these the
ones that run the changed line. Tests of other rooms that use this one on their way do not count: they would take
minutes. A mutant counts as caught when a test fails, cannot run, or takes four times as long as before.

Mutants that mean the same as the code are named, with the reason, in ``equivalent_mutants.toml`` and do not count. The
interval is Wilson's, at 95 %. A run that was interrupted goes on with the same FILE. ``cosmic-ray`` makes the mutants
(``pip install interpnet[mutation]``); its own runner starts a Python for each mutant, which needs four seconds only to
import torch, and changes the files of the working tree.
"""

from __future__ import annotations

import argparse
import json
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.common.tables import proportion
from experiments.reliability.mutation_mutants import Mutant, count_places, mutants_of
from experiments.reliability.mutation_workshop import ROOT, Verdict, Workshop, workshop
from interpnet.support.io import write_json

ROOMS = (
    "engine",
    "scores",
    "gram",
    "mulasso",
    "backward",
    "explanation",
    "ablation",
    "evaluate",
    "reliance",
    "stages",
)
_PIPELINE = {"stages", "run", "report", "cli", "filters"}
_HOUSE = "tests/test_house.py"
# Tests of the public functions of every room.
_TABLES = re.compile(r"^test_(\w*arguments|shapes)\.py$")
EQUIVALENT = Path(__file__).parent / "equivalent_mutants.toml"


def files_of(root: Path, room: str) -> list[str]:
    """Return the files of a room, relative to ``root``."""
    folder = root / "interpnet" / room
    if room in _PIPELINE:
        folder = root / "pipelines" / room
    found = [p for p in sorted(folder.rglob("*.py")) if p.name not in {"__init__.py", "__main__.py"}]
    return [str(p.relative_to(root)) for p in found]


def room_of(file: str) -> str:
    """Return the room of a file.

    Examples
    --------
    >>> room_of("pipelines/stages/solve.py"), room_of("interpnet/engine/_sites.py")
    ('stages', 'engine')
    """
    return file.split("/")[1]


def room_tests(root: Path, room: str, *, quick: bool = False) -> list[str]:
    """Return what pytest is given for a room: its tests, others that name its files, tables of arguments, examples.

    ``quick`` leaves out, for a room of the pipeline, the tests that need a whole audit.
    """
    own = room
    names = rf"\binterpnet\.{room}\._"
    if room in _PIPELINE:
        own = "pipelines"
        names = rf"\binterpnet\.pipelines\.{room}\b"
    chosen = sorted((root / "tests" / own).glob("test_*.py"))
    if quick and room in _PIPELINE:
        return [str(p.relative_to(root)) for p in chosen if re.search("stages|run_folder|selection_files", p.name)]
    # Whole audits would take longer than the room's own tests together.
    others = [p for p in sorted((root / "tests").rglob("test_*.py")) if p.parent.name != "pipelines"]
    chosen += [p for p in others if p not in chosen and re.search(names, p.read_text(encoding="utf-8"))]
    # A wheel is built, and a browser opened, to test other things than a room's code.
    tests = [str(p.relative_to(root)) for p in chosen if not re.search("wheel|browser", p.name)]
    if room not in _PIPELINE:
        tests += [name for p in others if _TABLES.match(p.name) and (name := str(p.relative_to(root))) not in tests]
        modules = [file.removesuffix(".py").replace("/", ".") for file in files_of(root, room)]
        tests += [f"{_HOUSE}::test_examples_in_docstrings_run[{module}]" for module in modules]
    return tests


def equivalent(path: Path = EQUIVALENT) -> dict[str, str]:
    """Return the mutants that mean the same as the code, by name, with the reason."""
    if not path.exists():
        return {}
    rows = tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", [])
    return {f"{row['file']}: {row['old']} -> {row['new']}": row["why"] for row in rows}


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how many of a room's mutants were caught, equivalent ones left out, with the interval."""
    same = equivalent()
    counted = [row for row in rows if row["outcome"] != "passed" or row["name"] not in same]
    caught = sum(row["outcome"] != "passed" for row in counted)
    _, low, high = proportion(caught, len(counted))
    return {
        "mutants": len(rows),
        "equivalent": len(rows) - len(counted),
        "caught": caught,
        "score": round(caught / max(len(counted), 1), 3),
        "interval": [round(low, 3), round(high, 3)],
    }


class Judge:
    """Runs the tests of a room that run the changed lines."""

    def __init__(self, shop: Workshop, room: str, *, quick: bool = False) -> None:
        self._shop = shop
        self._tests = room_tests(shop.copy, room, quick=quick)
        self.base = shop.baseline(self._tests, limit=3600)
        self.seconds = round(sum(self.base.seconds.values()), 1)
        # A test that fails anyway says nothing of a change.
        for name in self.base.failed:
            self.base.seconds.pop(name, None)

    def try_out(self, file: str, text: str, first: int, last: int) -> Verdict:
        """Say whether the tests notice a file's new text, which changes lines ``first`` to ``last``."""
        only = self.base.tests_of(file, first, last)
        if only is None and self.base.failed:
            only = list(self.base.seconds)
        if only == []:
            return Verdict("passed", "no test runs this line", 0.0)
        if only is None:
            return self._shop.run(self._tests, changed={file: text}, only=None, limit=60 + 4 * self.seconds)
        files = {name.partition("::")[0] for name in only} - {_HOUSE}
        needed = [*sorted(files), *(name for name in only if name.startswith(_HOUSE))]
        seconds = sum(self.base.seconds[name] for name in only)
        return self._shop.run(needed, changed={file: text}, only=only, limit=20 + 4 * seconds)


def examine(
    shop: Workshop,
    room: str,
    mutants: Sequence[Mutant],
    state: dict[str, Any],
    save: Callable[[], None],
    *,
    quick: bool,
) -> None:
    """Try every mutant of a room that ``state`` does not have yet."""
    done = {row["name"] for row in state["mutants"]}
    left = [m for m in mutants if m.name not in done]
    if not left:
        return
    judge = Judge(shop, room, quick=quick)
    state |= {"tests": len(judge.base.seconds), "seconds": judge.seconds, "failing": judge.base.failed}
    for mutant in left:
        verdict = judge.try_out(mutant.file, mutant.text, mutant.first, mutant.last)
        row = {"name": mutant.name, "line": mutant.first, "operator": mutant.operator}
        state["mutants"].append(row | {"outcome": verdict.outcome, "test": verdict.test, "seconds": verdict.seconds})
        print(f"{room:12} {verdict.outcome:8} {verdict.seconds:6.1f} s  {mutant.name}", flush=True)
        save()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="*", default=list(ROOMS), metavar="ROOM")
    parser.add_argument("--sample", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--root", type=Path, default=ROOT)
    parser.add_argument("--quick", action="store_true", help="of the pipeline only tests that need no whole audit")
    given = parser.parse_args(argv)
    result: dict[str, Any] = {}
    if given.json.exists():
        result = json.loads(given.json.read_text(encoding="utf-8"))

    def save() -> None:
        write_json(given.json, result)

    with workshop(given.root) as shop:
        for room in given.rooms or ROOMS:
            state = result.setdefault(room, {"mutants": []})
            files = files_of(shop.copy, room)
            mutants = mutants_of(shop.copy, files, given.sample, given.seed)
            state |= {"sample": given.sample, "seed": given.seed, "places": count_places(shop.copy, files)}
            examine(shop, room, mutants, state, save, quick=given.quick)
            state["summary"] = summary(state["mutants"])
            save()
    print(f"{'room':12} places  sample  same  caught  score  95 % interval")
    for room, state in result.items():
        found = state.get("summary")
        if found:
            low, high = found["interval"]
            print(
                f"{room:12} {state['places']:6} {found['mutants']:7} {found['equivalent']:5} {found['caught']:7} "
                f"{found['score']:6.2f}  {low:.2f} to {high:.2f}"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
