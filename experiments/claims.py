"""What an experiment found, in the form that RESULTS.md collects."""

from __future__ import annotations

from typing import NamedTuple

VERDICTS = ("holds", "holds in part", "does not hold", "open")


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
