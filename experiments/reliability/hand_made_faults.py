"""Faults that a hurried colleague could make, one line each, put into a copy of the code one at a time.

    python -m experiments.reliability.hand_made_faults [ROOM ...] [--json FILE] [--root FOLDER] [--only WORDS]

``hand_made_faults.toml`` lists them: what goes wrong, the file, the old text and the new. The tests of a fault are
those of its room that run its lines (:mod:`experiments.reliability.mutation`). Where the code has moved on, so that a
fault's old text is not there once, the list has to follow: nothing is tried until it does.
"""

from __future__ import annotations

import argparse
import tomllib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.reliability.mutation import Judge, room_of
from experiments.reliability.mutation_workshop import ROOT, workshop
from interpnet.support.io import write_json

FAULTS = Path(__file__).with_suffix(".toml")


class Fault(NamedTuple):
    """One change of one file."""

    what: str
    file: str
    old: str
    new: str


def read_faults(path: Path = FAULTS) -> list[Fault]:
    """Return the faults of the list."""
    rows = tomllib.loads(path.read_text(encoding="utf-8"))["fault"]
    return [Fault(row["what"], row["file"], row["old"], row["new"]) for row in rows]


def count(fault: Fault, root: Path = ROOT) -> int:
    """Return how often the file holds the fault's old text."""
    path = root / fault.file
    if not path.is_file():
        return 0
    return path.read_text(encoding="utf-8").count(fault.old)


def applied(fault: Fault, text: str) -> tuple[str, int, int]:
    """Return the text with the fault in it, and the first and last line that it changes.

    Examples
    --------
    >>> applied(Fault("an end left out", "f.py", "range(n)", "range(n - 1)"), "for i in range(n):")
    ('for i in range(n - 1):', 1, 1)
    """
    before = text.partition(fault.old)[0]
    first = before.count("\n") + 1
    return text.replace(fault.old, fault.new), first, first + fault.old.rstrip("\n").count("\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Try every fault; return 1 where the tests do not notice one, 2 where the list has to follow the code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="*", metavar="ROOM")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--root", type=Path, default=ROOT)
    parser.add_argument("--quick", action="store_true", help="of the pipeline only tests that need no whole audit")
    parser.add_argument("--only", default="", help="faults whose description holds these words")
    given = parser.parse_args(argv)
    by_room: dict[str, list[Fault]] = defaultdict(list)
    for fault in read_faults():
        room = room_of(fault.file)
        if given.only in fault.what and (not given.rooms or room in given.rooms):
            by_room[room].append(fault)
    moved = [fault for faults in by_room.values() for fault in faults if count(fault, given.root) != 1]
    for fault in moved:
        print(f"{fault.file}: {fault.old!r} is not there once ({fault.what})")
    if moved:
        return 2
    rows: list[dict[str, Any]] = []
    with workshop(given.root) as shop:
        for room, faults in by_room.items():
            judge = Judge(shop, room, quick=given.quick)
            for fault in faults:
                text, first, last = applied(fault, (shop.copy / fault.file).read_text(encoding="utf-8"))
                verdict = judge.try_out(fault.file, text, first, last)
                row = {"room": room, "file": fault.file, "what": fault.what, "caught": verdict.caught}
                rows.append(row | {"outcome": verdict.outcome, "test": verdict.test, "seconds": verdict.seconds})
                word = {True: "caught", False: "SURVIVED"}[verdict.caught]
                print(f"{room:14} {word:8} {verdict.seconds:6.1f} s  {fault.what}  {verdict.test}", flush=True)
    for room in by_room:
        mine = [row for row in rows if row["room"] == room]
        print(f"{room:14} {sum(row['caught'] for row in mine)} of {len(mine)} caught")
    caught = sum(row["caught"] for row in rows)
    print(f"{'all':14} {caught} of {len(rows)} caught")
    if given.json:
        write_json(given.json, {"caught": caught, "faults": rows})
    return int(caught < len(rows))


if __name__ == "__main__":
    raise SystemExit(main())
