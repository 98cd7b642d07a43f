"""What an experiment found, in the form that RESULTS.md collects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

VERDICTS = ("holds", "holds in part", "does not hold", "open")
#: In the order of RESULTS.md.
KEYS = ("E1", "E2", "E3", "E4", "Q1", "Q2", "Q3", "Q4", "Q5", "S1", "V")


class Claim(NamedTuple):
    """One line of RESULTS.md.

    Every experiment's package has a module ``claims`` with a function ``claims() -> list[Claim]``, which reads the
    experiment's committed results and computes figure and verdict from them.

    Attributes
    ----------
    key : str
        ``E1`` to ``E4``, ``Q1`` to ``Q5``, ``S1``, ``V`` for the improved variant.
    claim : str
        A sentence that can be wrong.
    figure : str
        The numbers that decide it, with their intervals.
    verdict : str
        One of :data:`VERDICTS`, decided by a rule on the numbers, not by hand.
    reason : str
        Where it does not hold: the most likely reason, and how it was tested.
    """

    key: str
    claim: str
    figure: str
    verdict: str
    reason: str = ""


def verdict_of(shown: Iterable[bool]) -> str:
    """Return the verdict on a claim about several cases (kinds of networks, say), each of which shows it or does not.

    Examples
    --------
    >>> verdict_of([True, True]), verdict_of([True, False]), verdict_of([False]), verdict_of([])
    ('holds', 'holds in part', 'does not hold', 'open')
    """
    cases = list(shown)
    if not cases:
        return "open"
    return "holds" if all(cases) else "holds in part" if any(cases) else "does not hold"


def tally(differences: Iterable[tuple[str, tuple[float, float, float]]], *, more: bool) -> tuple[int, int, list[str]]:
    """Return how often ours is better beyond the 95 % interval, how often level, and the names of what beats it.

    ``differences``: the other's name, and ours less the other's with its interval; ``more``: whether more is better.

    Examples
    --------
    >>> tally([("a", (2.0, 1.0, 3.0)), ("b", (0.0, -1.0, 1.0)), ("c", (-2.0, -3.0, -1.0))], more=True)
    (1, 1, ['c'])
    """
    better, level, beaten = 0, 0, []
    for name, (_, low, high) in differences:
        if low > 0 if more else high < 0:
            better += 1
        elif high < 0 if more else low > 0:
            beaten.append(name)
        else:
            level += 1
    return better, level, beaten
