"""What an experiment found, in the form that RESULTS.md collects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from experiments.common.tables import Interval

VERDICTS = ("holds", "holds in part", "does not hold", "open")
KEYS = (
    "A1",
    "E1",
    "E2",
    "E3",
    "E4",
    "M1",
    "M2",
    "Q1",
    "Q2",
    "Q3",
    "Q4",
    "Q5",
    "R1",
    "S1",
    "S2",
    "S3",
    "S4",
    "S5",
    "S6",
    "C1",
    "C2",
    "C3",
    "C4",
    "V",
)  # in the order of RESULTS.md


@dataclass(frozen=True)
class Claim:
    """One line of RESULTS.md.

    Every experiment's package has a module ``claims`` with a function ``claims() -> list[Claim]``, which reads the
    experiment's committed results and computes figure and verdict from them.
    """

    key: str  # `E1` to `E4`, `M1`, `M2`, `Q1` to `Q5`, `R1`, `S1` to `S6`, `C1` to `C4`, `V` for the improved variant
    claim: str  # A sentence that can be wrong
    short: str  # The one number that says most about it
    figure: str  # The numbers that decide it, with their intervals
    verdict: str  # One of :data:`VERDICTS`, decided by a rule on the numbers, not by hand
    reason: str = ""  # Where it does not hold: the most likely reason; claims may share it
    tested: str = ""  # How the reason was tested, with the numbers
    # For the forest plot: case, and effect in points in the direction of the claim, above 0 where the case
    # shows it
    effects: tuple[tuple[str, Interval], ...] = ()


def graded(*, full: bool, part: bool) -> str:
    """Return the verdict of a rule with two steps."""
    if full:
        return "holds"
    return ("does not hold", "holds in part")[part]


def verdict_of(shown: Iterable[bool]) -> str:
    """Return the verdict on a claim about several cases each of which shows it or does not."""
    cases = list(shown)
    if not cases:
        return "open"
    return graded(full=all(cases), part=any(cases))


def counted(shown: Iterable[bool], cases: str) -> str:
    """Return ``2 of 3 networks``: how many of the cases show a claim."""
    found = list(shown)
    return f"{sum(found)} of {len(found)} {cases}"


def judged(
    key: str, claim: str, effects: Mapping[str, Interval], cases: str, figure: str, reason: str, tested: str = ""
) -> Claim:
    """Return a claim about several cases: one shows it whose whole interval, in points in its direction, is above 0."""
    shown = [effect.above for effect in effects.values()]
    words = (counted(shown, cases), figure, verdict_of(shown), reason, tested)
    return Claim(key, claim, *words, tuple(effects.items()))


@dataclass(frozen=True)
class Tally:
    """Comparisons of ours with others: how many are better, level, and the names of those that beat it."""

    better: int
    level: int
    beaten: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """``holds`` where nothing beats ours and it beats something, ``holds in part`` where it wins more often."""
        worse = len(self.beaten)
        return graded(full=not worse and self.better > 0, part=self.better > worse)

    @property
    def total(self) -> int:
        """How many comparisons there are."""
        return self.better + self.level + len(self.beaten)

    @property
    def short(self) -> str:
        """How many comparisons are better and worse."""
        return f"{self.better} better, {len(self.beaten)} worse of {self.total}"

    @property
    def counts(self) -> str:
        """The three counts in words."""
        return f"better in {self.better}, level in {self.level}, worse in {len(self.beaten)}"

    def names(self, before: str) -> str:
        """Return the first three that beat it, behind the word ``before``; nothing where there is none."""
        if not self.beaten:
            return ""
        return f"{before}{', '.join(self.beaten[:3])}{' ...' * (len(self.beaten) > 3)}"


def tally(differences: Iterable[tuple[str, Interval]], *, more: bool) -> Tally:
    """Return how often ours is better beyond the 95 % interval, how often level, and the names of what beats it.

    ``differences``: the other's name, and ours less the other's with its interval; ``more``: whether more is better.

    Examples
    --------
    >>> from experiments.common.tables import Interval as I
    >>> tally([("a", I(2.0, 1.0, 3.0)), ("b", I(0.0, -1.0, 1.0)), ("c", I(-2.0, -3.0, -1.0))], more=True)
    Tally(better=1, level=1, beaten=('c',))
    """
    # Less is better: the same comparison of the negative.
    gains = [(name, found.times((-1, 1)[more])) for name, found in differences]
    better = sum(gain.above for _, gain in gains)
    beaten = tuple(name for name, gain in gains if gain.below)
    return Tally(better, len(gains) - better - len(beaten), beaten)
