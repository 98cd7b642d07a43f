"""What Q3 and Q4 found, from results.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.claims import Claim, verdict_of
from experiments.common.maps import RULES
from experiments.common.pages import signed
from experiments.resampling.effects import (
    Interval,
    Line,
    at_best_blur,
    best_blur,
    cell,
    effects,
    kinds_of,
    over_blurring,
    part,
)

HERE = Path(__file__).parent
#: With fewer networks there is no interval.
_LEAST = 2

Kind = tuple[str, str]


def claims() -> list[Claim]:
    """Return Q3's and Q4's claims; each holds on a kind of network if its interval is on the right side of zero."""
    lines: list[Line] = json.loads((HERE / "results.json").read_text())
    kinds = [k for k in kinds_of(lines) if len(part(lines, k)) >= _LEAST]
    masked = [k for k in kinds if any(name.startswith("iou") for name in part(lines, k)[0])]
    return [resampling(lines, masked), blurring(lines, masked), channels(lines, masked), sensitivity(lines, kinds)]


def resampling(lines: list[Line], kinds: list[Kind]) -> Claim:
    """Return Q3: resampling improves the overlap of the same identified channels' maps, under every rule."""
    gains = {
        (*kind, rule): effects(part(lines, kind), "iou", rule, "positive/0")["resampling, channels"]
        for kind in kinds
        for rule in RULES
    }
    gained = {rule: [100 * _gain_of_blur(lines, kind, rule) for kind in kinds] for rule in RULES}
    blurs = ", ".join(f"{rule} {np.mean(points):+.1f}" for rule, points in gained.items() if points)
    return Claim(
        "Q3",
        "Stride-1 resampling improves the IoU-AUC of the same identified channels' maps, under each backward rule",
        _listed(gains),
        verdict_of(low > 0 for _, low, _ in gains.values()),
        f"it takes the grid away but not the rest of the noise, which a blur of the plain map does ({blurs} points)",
    )


def blurring(lines: list[Line], kinds: list[Kind]) -> Claim:
    """Return Q3: more than a blur of the plain maps does."""
    gains = {kind: over_blurring(part(lines, kind), "guided", "channels", "positive")[1] for kind in kinds}
    after = {kind: _blurred(lines, kind)["resampling, channels"] for kind in kinds}
    return Claim(
        "Q3",
        "Resampling gains more than a Gaussian blur of the plain map, at its best of 0 to 4 pixels (guided)",
        _listed(gains),
        verdict_of(low > 0 for _, low, _ in gains.values()),
        "IoU-AUC rewards smooth maps, and resampling is one way to smooth: with both maps at their own best blur, "
        f"resampling changes {_listed(after)}",
    )


def channels(lines: list[Line], kinds: list[Kind]) -> Claim:
    """Return Q3: starting from identified channels instead of the logit improves the overlap, all else equal."""
    gains = {}
    for kind in kinds:
        for reduction in ("positive", "abs"):
            gains[*kind, reduction] = effects(part(lines, kind), "iou", "guided", f"{reduction}/0")["channels"]
        gains[*kind, "blurred"] = _blurred(lines, kind)["channels"]
    return Claim(
        "Q3",
        "Starting from the identified channels instead of the logit improves IoU-AUC, all else equal (guided)",
        _listed(gains),
        verdict_of(low > 0 for _, low, _ in gains.values()),
        "where both maps are smooth or of absolute values, the logit's lie nearly as well",
    )


def sensitivity(lines: list[Line], kinds: list[Kind]) -> Claim:
    """Return Q4: the channels make the maps class-sensitive, by more than resampling changes them either way."""
    figures, shown = [], []
    for kind in kinds:
        found = effects(part(lines, kind), "rank", "guided", "positive")
        shown.append(found["channels"][2] < 0 and found["excess"][1] > 0)
        by = ", ".join(f"{name} {signed(found[name], 2)}" for name in ("channels", "resampling"))
        figures.append(f"{' '.join(kind)}: {by}")
    return Claim(
        "Q4",
        "The channels make guided maps class-sensitive, not the resampling: effects on rank correlation of classes",
        "; ".join(figures) or "–",
        verdict_of(shown),
        "the logit's maps differ between classes by themselves, or classes share channels",
    )


def _blurred(lines: list[Line], kind: Kind) -> dict[str, Interval]:
    """Return the effects on overlap with each cell at its own best blur."""
    return effects(at_best_blur(part(lines, kind), "guided", "positive"), "iou", "guided", "positive/best")


def _gain_of_blur(lines: list[Line], kind: Kind, rule: str) -> float:
    networks = part(lines, kind)
    best = best_blur(networks, rule, "channels", "plain", "positive")
    ends = (f"positive/{best}", "positive/0")
    after, before = (np.mean([cell(n, "iou", rule, "channels", "plain", end) for n in networks]) for end in ends)
    return float(after - before)


def _listed(gains: Mapping[Any, Interval]) -> str:
    """Return effects in points, in one line; the keys are tuples of words."""
    shown = [(" ".join(case), [100 * value for value in gain]) for case, gain in gains.items()]
    return "; ".join(f"{case} {signed((mean, low, high))}" for case, (mean, low, high) in shown) or "–"
