"""What Q3 and Q4 found, from results.json."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.common.claims import Claim, counted, judged, verdict_of
from experiments.common.maps import RULES
from experiments.common.pages import committed
from experiments.common.tables import Interval, Line, points, signed
from experiments.resampling.table import (
    Kinds,
    Scores,
    at_best_blur,
    best_blur,
    effects,
    kinds_of,
    masked,
    mean,
    over_blur,
)

Gains = dict[tuple[str, ...], Interval]


def claims(lines: list[Line] | None = None) -> list[Claim]:
    """Return Q3's and Q4's claims, on the committed results where no others are given.

    Each holds on a kind of network if its interval is on the right side of zero; one network alone has no interval.
    """
    if lines is None:
        lines = committed(__file__)
    kinds = {kind: part for kind, part in kinds_of(lines).items() if len(part) > 1}
    overlapping = masked(kinds)
    return [resampling(overlapping), blurring(overlapping), channels(overlapping), sensitivity(kinds)]


def _claim(sentence: str, gains: Gains, reason: str, tested: str = "") -> Claim:
    """Return a claim of Q3 about gains in overlap, by case."""
    in_points = {" ".join(case): gain.times(100) for case, gain in gains.items()}
    return judged("Q3", sentence, in_points, "cases", _listed(gains), reason, tested)


def resampling(kinds: Kinds) -> Claim:
    """Return Q3: resampling improves the overlap of the same identified channels' maps, under every rule."""
    gains: Gains = {
        (*kind, rule): effects(part, "iou", rule, "positive/0")["resampling, channels"]
        for kind, part in kinds.items()
        for rule in RULES
    }
    blurred = []
    for rule in RULES:
        gained = []
        for part in kinds.values():
            best = best_blur(part, rule, "channels", "plain", "positive")
            after, before = (mean(part, "iou", rule, "channels", "plain", f"positive/{blur}") for blur in (best, 0))
            gained.append(100 * (after - before))
        if gained:
            blurred.append(f"{rule} {np.mean(gained):+.1f}")
    return _claim(
        "Stride-1 resampling improves the IoU-AUC of the same identified channels' maps, under each backward rule",
        gains,
        "it takes the grid away but not the rest of the noise, which a blur of the plain map does",
        f"{', '.join(blurred)} points",
    )


def blurring(kinds: Kinds) -> Claim:
    """Return Q3: more than a blur of the plain maps does."""
    gains: Gains = {kind: over_blur(part, "guided", "channels", "positive")[1] for kind, part in kinds.items()}
    after: Gains = {kind: _blurred(part)["resampling, channels"] for kind, part in kinds.items()}
    return _claim(
        "Resampling gains more than a Gaussian blur of the plain map, at its best of 0 to 4 pixels (guided)",
        gains,
        "IoU-AUC rewards smooth maps, and resampling is one way to smooth",
        f"with both maps at their own best blur, resampling changes {_listed(after)}",
    )


def channels(kinds: Kinds) -> Claim:
    """Return Q3: starting from identified channels instead of the logit improves the overlap, all else equal."""
    gains: Gains = {}
    for kind, part in kinds.items():
        for reduction in ("positive", "abs"):
            gains[*kind, reduction] = effects(part, "iou", "guided", f"{reduction}/0")["channels"]
        gains[*kind, "blurred"] = _blurred(part)["channels"]
    return _claim(
        "Starting from the identified channels instead of the logit improves IoU-AUC, all else equal (guided)",
        gains,
        "where both maps are smooth or of absolute values, the logit's lie nearly as well",
    )


def sensitivity(kinds: Kinds) -> Claim:
    """Return Q4: the channels make the maps class-sensitive, by more than resampling changes them either way."""
    found = {" ".join(kind): effects(part, "rank", "guided", "positive") for kind, part in kinds.items()}
    figures = [
        f"{kind}: {', '.join(f'{name} {signed(row[name], 2)}' for name in ('channels', 'resampling'))}"
        for kind, row in found.items()
    ]
    shown = [row["channels"].below and row["excess"].above for row in found.values()]
    return Claim(
        "Q4",
        "The channels make guided maps class-sensitive, not the resampling: effects on rank correlation of classes",
        counted(shown, "kinds"),
        "; ".join(figures) or "–",
        verdict_of(shown),
        "the logit's maps differ between classes by themselves, or classes share channels",
        effects=tuple((kind, row["channels"].times(-100)) for kind, row in found.items()),
    )


def _blurred(networks: list[Scores]) -> dict[str, Interval]:
    """Return the effects on overlap with each cell at its own best blur."""
    return effects(at_best_blur(networks, "guided", "positive"), "iou", "guided", "positive/best")


def _listed(gains: dict[Any, Interval]) -> str:
    """Return effects in points, in one line; the keys are tuples of words."""
    return "; ".join(f"{' '.join(case)} {points(gain)}" for case, gain in gains.items()) or "–"
