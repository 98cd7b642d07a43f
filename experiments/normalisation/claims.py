"""What Q2 found, by rule from results.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.claims import Claim
from experiments.common.claims import tally as count
from experiments.normalisation.scales import PAPER, SCALES
from experiments.normalisation.table import MEASURES, gain, values
from experiments.rankings.claims import verdict
from experiments.rankings.table import kinds

HERE = Path(__file__).parent
#: The measure that decides each claim, and what the claim says.
DECIDES = {
    "R², refitted": "At as many channels, per-layer L1 normalisation chooses channels that tell the classes better",
    "own recall": "Removing them costs the class more",
    "selectivity": "Removing them costs the class more, compared with the others",
    "IoU-AUC, 3 a class": "The explanation's channels lie more on the pixels that tell the class",
}


def tally(lines: Sequence[dict[str, Any]], measure: str) -> tuple[int, int, list[str]]:
    """Return how often the paper's is better beyond the 95 % interval, how often level, and which scalings beat it."""
    return count(
        (
            (f"{scale} ({kind})", gain(part, scale, measure))
            for kind, part in kinds(lines).items()
            if not np.isnan(values(part, PAPER, measure)).any()
            for scale in SCALES
            if scale != PAPER
        ),
        more=MEASURES[measure][0],
    )


def claims() -> list[Claim]:
    """Return Q2's claims."""
    return claims_of(json.loads((HERE / "results.json").read_text()))


def claims_of(lines: list[dict[str, Any]]) -> list[Claim]:
    """Return the claims that some results support."""
    found = []
    for measure, sentence in DECIDES.items():
        better, level, beaten = tally(lines, measure)
        by = f": {', '.join(beaten[:3])}{' ...' if len(beaten) > 3 else ''}" if beaten else ""
        figure = f"{measure}: better in {better}, level in {level}, worse in {len(beaten)} comparisons{by}"
        judged = verdict(better, len(beaten))
        found.append(Claim("Q2", sentence, figure, judged, "" if judged == "holds" else reason(lines, measure)))
    return found


def reason(lines: list[dict[str, Any]], measure: str) -> str:
    """Return the most likely reason with the figures of its tests: each change, less the paper's, in points."""
    found = []
    for what, scale, part in (
        ("columns centred", "layer L1, centred", "scales"),
        ("standardised besides", "layer L1, standardised", "scales"),
        ("both among late layers only", "layer L1, standardised", "late"),
    ):
        changes = []
        for kind, own in kinds(lines).items():
            known = all(scale in line[part] for line in own)
            if known and not np.isnan(values(own, PAPER, measure, part)).any():
                change = f"{-gain(own, scale, measure, part)[0]:+.1f}"
                changes.append(f"{kind} {change.replace('-', '−')}")
        if changes:
            found.append(f"{what}: {', '.join(changes)}")
    return (
        "Without an intercept the path's first channel stands in for the class's mean, and columns of large scale are "
        f"weighed cheaply, whatever they say. Change against the paper's, points: {'; '.join(found)}"
    )
