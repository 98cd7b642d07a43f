"""What the classes of both networks go by beside their subject: shares of parts, gained and lost suspicions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from interpnet.shortcuts import ClassFinding, Findings

from ..report.shortcuts import part_words
from .change import Change, among, of_intervals
from .pair import Pair


@dataclass(frozen=True)
class LookChange:
    """A class and a part in both runs."""

    name: str
    part: str
    share: Change  # of what makes the class
    # Whether this part makes it so; None where another part is more suspicious, so that this one was not judged.
    suspicious: tuple[bool | None, bool | None]

    @property
    def verdict(self) -> str:
        """What became of the suspicion."""
        return {
            (False, True): "suspicious in B alone",
            (True, False): "suspicious in A alone",
            (True, True): "suspicious in both",
            (None, True): "suspicious in B, another part in A",
            (True, None): "suspicious in A, another part in B",
        }.get(self.suspicious, "")

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        return {
            "name": self.name,
            "part": self.part,
            "share": self.share.to_json(),
            "suspicious": list(self.suspicious),
        }


def looks_of(pair: Pair) -> tuple[LookChange, ...] | None:
    """Compare the most suspicious part of each class in either run; ``None`` where one was not searched.

    A share that was measured on the very exchanges that chose its part is too high by that choice: its difference is
    shown and not tested.
    """
    a, b = (run.shortcuts for run in pair.runs)
    if a is None or b is None:
        return None
    found = []
    for c, name in enumerate(pair.classes):
        mine, theirs = (_of(one, int(at[c])) for one, at in zip((a, b), pair.at, strict=True))
        if mine is None or theirs is None:
            continue
        for part in dict.fromkeys((mine.part, theirs.part)):
            shares = [_share(findings, one, part) for findings, one in ((a, mine), (b, theirs))]
            change = of_intervals(shares[0][:3], shares[1][:3])
            if not (shares[0][3] and shares[1][3]):
                change = Change(change.first, change.second, change.change, change.low, change.high, math.nan)
            suspicious = (_suspicious(mine, part), _suspicious(theirs, part))
            found.append(LookChange(name, part_words(part), change, suspicious))
    changes = among([one.share for one in found])
    return tuple(
        LookChange(one.name, one.part, change, one.suspicious) for one, change in zip(found, changes, strict=True)
    )


def _of(found: Findings, index: int) -> ClassFinding | None:
    return next((one for one in found.classes if one.index == index), None)


def _suspicious(one: ClassFinding, part: str) -> bool | None:
    if not one.suspicious:
        return False
    return True if one.part == part else None


def _share(found: Findings, one: ClassFinding, part: str) -> tuple[float, float, float, bool]:
    """Return a part's share with its interval, and whether the share played no role in choosing the part."""
    if one.part == part:
        return one.share, one.low, one.high, one.confirmed
    if part not in found.parts:
        return math.nan, math.nan, math.nan, False
    row = found.parts.index(part)
    numbers = (float(table[row, one.index]) for table in (found.shares, found.low, found.high))
    share, low, high = numbers
    return share, low, high, True


def rows_first(looks: tuple[LookChange, ...]) -> list[LookChange]:
    """Return what is suspicious in a run or differs, new suspicions first."""
    order = {(False, True): 0, (None, True): 1, (True, True): 2, (True, None): 3, (True, False): 4}
    shown = [one for one in looks if one.verdict or one.share.differs]
    return sorted(shown, key=lambda one: (order.get(one.suspicious, 5), -one.share.second))
