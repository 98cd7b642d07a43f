"""The arithmetic of the factorial: effects and their interaction, paired over networks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from experiments.common.tables import Interval, Line, grouped, paired
from experiments.resampling.measure import BLURS, HOW, STARTS

Scores = dict[str, float]
#: The cells of the 2x2 factorial: where the signal starts, and whether it is resampled.
CELLS = tuple((start, how) for start in STARTS for how in HOW)


def kinds_of(lines: Iterable[Line]) -> dict[tuple[str, str], list[Scores]]:
    """Return the scores of the networks of each kind, (architecture, data), in the order they were measured."""
    kinds = grouped(lines, "architecture", "data").items()
    return {(architecture, data): [x["scores"] for x in here] for (architecture, data), here in kinds}


def masked(kinds: dict[tuple[str, str], list[Scores]]) -> dict[tuple[str, str], list[Scores]]:
    """Return the kinds whose overlap with a mask was measured."""
    return {kind: part for kind, part in kinds.items() if any(name.startswith("iou") for name in part[0])}


def cell(scores: Scores, measure: str, rule: str, start: str, how: str, end: str) -> float:
    """Return one cell's score; ``end`` is the reduction, and for overlap the blur."""
    return scores[f"{measure}/{rule}/{start}/{how}/{end}"]


def mean(networks: list[Scores], measure: str, rule: str, start: str, how: str, end: str) -> float:
    """Return the mean of a cell over networks."""
    return float(np.mean([cell(n, measure, rule, start, how, end) for n in networks]))


def effects(networks: list[Scores], measure: str, rule: str, end: str) -> dict[str, Interval]:
    """Return the effects of a 2x2 factorial with intervals over networks; for the other arguments see :func:`cell`."""
    rows: dict[str, list[float]] = {}
    for scores in networks:
        # c and l for channels and logit, p and r for plain and resampled.
        cp, cr, lp, lr = (cell(scores, measure, rule, start, how, end) for start, how in CELLS)
        channels = (cp + cr - lp - lr) / 2  # a mean over both ways back
        resampling = (cr + lr - cp - lp) / 2  # a mean over both starts
        found = {
            "channels": channels,
            "resampling": resampling,
            "resampling, channels": cr - cp,  # at one start
            "resampling, logit": lr - lp,
            "interaction": (cr - cp) - (lr - lp),
            "excess": abs(channels) - abs(resampling),  # by how much the channels' effect is larger
        }
        for name, value in found.items():
            rows.setdefault(name, []).append(value)
    return {name: paired(values) for name, values in rows.items()}


def best_blur(networks: list[Scores], rule: str, start: str, how: str, reduction: str) -> int:
    """Return the blur with which a cell overlaps most, in the mean over the networks."""
    return max(BLURS, key=lambda b: sum(cell(n, "iou", rule, start, how, f"{reduction}/{b}") for n in networks))


def at_best_blur(networks: list[Scores], rule: str, reduction: str) -> list[Scores]:
    """Return the overlaps with each cell at its best blur, one for all networks, under the end ``REDUCTION/best``."""
    found: list[Scores] = [{} for _ in networks]
    for start, how in CELLS:
        blur = best_blur(networks, rule, start, how, reduction)
        for one, scores in zip(found, networks, strict=True):
            value = cell(scores, "iou", rule, start, how, f"{reduction}/{blur}")
            one[f"iou/{rule}/{start}/{how}/{reduction}/best"] = value
    return found


def over_blur(networks: list[Scores], rule: str, start: str, reduction: str) -> tuple[int, Interval]:
    """Return the blur that is best for the plain maps, and the overlap of resampled maps, as they are, above theirs.

    The blur is chosen on the same networks, which favours blurring.
    """
    best = best_blur(networks, rule, start, "plain", reduction)
    cells = [("resampled", f"{reduction}/0"), ("plain", f"{reduction}/{best}")]
    pairs = [[cell(n, "iou", rule, start, how, end) for how, end in cells] for n in networks]
    return best, paired([resampled - plain for resampled, plain in pairs])
