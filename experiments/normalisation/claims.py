"""What Q2 found, by rule from results.json."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.common.claims import Claim, Tally, tally
from experiments.common.pages import committed
from experiments.common.tables import Line, number
from experiments.normalisation.scales import PAPER, SCALES
from experiments.normalisation.table import MEASURES, gain, kinds, values

#: The measure that decides each claim, and what the claim says.
DECIDES = {
    "R², refitted": "At as many channels, per-layer L1 normalisation chooses channels that tell the classes better",
    "own recall": "Removing them costs the class more",
    "selectivity": "Removing them costs the class more, compared with the others",
    "IoU-AUC, 3 per class": "The explanation's channels lie more on the pixels that tell the class",
}
_REASON = (
    "Without an intercept the path's first channel stands in for the class's mean, and columns of large scale are "
    "weighed cheaply, whatever they say"
)
#: What is changed to test the reason: the scaling, and whether only late layers may be chosen from.
TESTS = {
    "columns centred": ("layer L1, centred", "scales"),
    "and standardised": ("layer L1, standardised", "scales"),
    "both among late layers only": ("layer L1, standardised", "late"),
}


def tallied(lines: Sequence[Line], measure: str) -> Tally:
    """Return how often the paper's is better beyond the 95 % interval, how often level, and which scalings beat it."""
    known = [(kind, part) for kind, part in kinds(lines).items() if not np.isnan(values(part, PAPER, measure)).any()]
    others = [scale for scale in SCALES if scale != PAPER]
    found = [(f"{scale} ({kind})", gain(part, scale, measure)) for kind, part in known for scale in others]
    return tally(found, more=MEASURES[measure][0])


def claims(lines: list[Line] | None = None) -> list[Claim]:
    """Return Q2's claims, on the committed results where no others are given."""
    if lines is None:
        lines = committed(__file__)
    claims = []
    for measure, sentence in DECIDES.items():
        found = tallied(lines, measure)
        figure = f"{measure}: {found.counts} comparisons{found.names(': ')}"
        claims.append(Claim("Q2", sentence, found.short, figure, found.verdict, _REASON, tested(lines, measure)))
    return claims


def tested(lines: list[Line], measure: str) -> str:
    """Return what tests the reason: each change, less the paper's, in points."""
    found = []
    for what, (scale, part) in TESTS.items():
        changes = []
        for kind, own in kinds(lines).items():
            known = all(scale in line[part] for line in own)
            if known and not np.isnan(values(own, PAPER, measure, part)).any():
                changes.append(f"{kind} {number(-gain(own, scale, measure, part).mean, '+.1f')}")
        found += [f"{what}: {', '.join(changes)}"] * bool(changes)
    return f"change against the paper's, points: {'; '.join(found)}"
