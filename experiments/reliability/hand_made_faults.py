"""Faults that a hurried colleague could make, one line each, put into a copy of the code one at a time.

    python -m experiments.reliability.hand_made_faults [ROOM ...] [--json FILE] [--root FOLDER] [--only WORDS]

``hand_made_faults.toml`` lists them: what goes wrong, the file, the old text and the new. The tests of a fault are
those of its room that run its lines (:mod:`experiments.reliability.mutation`). A fault whose old text is not there, or
there more than once, is an error: the code has moved on, so the list has to.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.reliability.mutation import Judge, room_of
from experiments.reliability.mutation_workshop import ROOT, workshop

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


def applied(fault: Fault, text: str) -> tuple[str, int, int]:
    """Return the text with the fault in it, and the first and last line that it changes.

    Examples
    --------
    >>> applied(Fault("an end left out", "f.py", "range(n)", "range(n - 1)"), "for i in range(n):")
    ('for i in range(n - 1):', 1, 1)
    """
    count = text.count(fault.old)
    if count != 1:
        raise ValueError(f"{fault.file}: {fault.old!r} is there {count} times, expected once ({fault.what})")
    before = text.partition(fault.old)[0]
    first = before.count("\n") + 1
    return text.replace(fault.old, fault.new), first, first + fault.old.rstrip("\n").count("\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Try every fault; return 1 where the tests do not notice one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="*", metavar="ROOM")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--root", type=Path, default=ROOT)
    parser.add_argument("--only", default="", help="faults whose description holds these words")
    given = parser.parse_args(argv)
    by_room: dict[str, list[Fault]] = defaultdict(list)
    for fault in read_faults():
        by_room[room_of(fault.file)].append(fault)
    rows: list[dict[str, Any]] = []
    with workshop(given.root) as shop:
        for room, faults in by_room.items():
            chosen = [fault for fault in faults if given.only in fault.what]
            if not chosen or (given.rooms and room not in given.rooms):
                continue
            # Found before the tests run, which takes longer.
            texts = [applied(f, (shop.copy / f.file).read_text(encoding="utf-8")) for f in chosen]
            judge = Judge(shop, room)
            for fault, (text, first, last) in zip(chosen, texts, strict=True):
                verdict = judge.try_out(fault.file, text, first, last)
                row = {"room": room, "file": fault.file, "what": fault.what, "caught": verdict.caught}
                rows.append(row | {"outcome": verdict.outcome, "test": verdict.test, "seconds": verdict.seconds})
                word = {True: "caught", False: "SURVIVED"}[verdict.caught]
                print(f"{room:14} {word:8} {verdict.seconds:6.1f} s  {fault.what}  {verdict.test}", flush=True)
    for room in by_room:
        mine = [row for row in rows if row["room"] == room]
        if mine:
            print(f"{room:14} {sum(row['caught'] for row in mine)} of {len(mine)} caught")
    caught = sum(row["caught"] for row in rows)
    print(f"{'all':14} {caught} of {len(rows)} caught")
    if given.json:
        given.json.write_text(json.dumps({"caught": caught, "faults": rows}, indent=1), encoding="utf-8")
    return int(caught < len(rows))


if __name__ == "__main__":
    raise SystemExit(main())
