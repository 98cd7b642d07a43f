"""What Q3 and Q4 found, from results.json."""

from __future__ import annotations

import json
from pathlib import Path

from experiments.claims import Claim, verdict_of
from experiments.localisation.maps import RULES
from experiments.pages import signed
from experiments.resampling.effects import Interval, Line, effects, kinds_of, over_blurring, part

HERE = Path(__file__).parent
#: With fewer networks there is no interval.
_LEAST = 2


def claims() -> list[Claim]:
    """Return Q3's and Q4's claims; each holds on a kind of network if its interval is on the right side of zero."""
    lines: list[Line] = json.loads((HERE / "results.json").read_text())
    kinds = [k for k in kinds_of(lines) if len(part(lines, k)) >= _LEAST]
    masked = [k for k in kinds if any(name.startswith("iou") for name in part(lines, k)[0])]
    return [resampling(lines, masked), blurring(lines, masked), channels(lines, masked), sensitivity(lines, kinds)]


def resampling(lines: list[Line], kinds: list[tuple[str, str]]) -> Claim:
    """Return Q3: resampling improves the overlap of the same identified channels' maps, under every rule."""
    gains = {
        (*kind, rule): effects(part(lines, kind), "iou", rule, "positive/0")["resampling, channels"]
        for kind in kinds
        for rule in RULES
    }
    figure = "; ".join(f"{' '.join(case)} {_points(gain)}" for case, gain in gains.items())
    return Claim(
        "Q3",
        "Stride-1 resampling improves the IoU-AUC of the same identified channels' maps, under each backward rule",
        figure or "–",
        verdict_of(low > 0 for _, low, _ in gains.values()),
        REASONS["resampling"],
    )


def blurring(lines: list[Line], kinds: list[tuple[str, str]]) -> Claim:
    """Return Q3: more than a blur of the plain maps does."""
    gains = {kind: over_blurring(part(lines, kind), "guided", "channels", "positive") for kind in kinds}
    figure = "; ".join(f"{' '.join(k)} {_points(gain)} over {best} px" for k, (best, gain) in gains.items())
    return Claim(
        "Q3",
        "Resampling gains more than a Gaussian blur of the plain map, at its best of 0 to 4 pixels (guided)",
        figure or "–",
        verdict_of(low > 0 for _, (_, low, _) in gains.values()),
        REASONS["blurring"],
    )


def channels(lines: list[Line], kinds: list[tuple[str, str]]) -> Claim:
    """Return Q3: starting from identified channels instead of the logit improves the overlap, all else equal."""
    gains = {
        (*kind, reduction): effects(part(lines, kind), "iou", "guided", f"{reduction}/0")["channels"]
        for kind in kinds
        for reduction in ("positive", "abs")
    }
    figure = "; ".join(f"{' '.join(case)} {_points(gain)}" for case, gain in gains.items())
    return Claim(
        "Q3",
        "Starting from the identified channels instead of the logit improves IoU-AUC, all else equal (guided)",
        figure or "–",
        verdict_of(low > 0 for _, low, _ in gains.values()),
        REASONS["channels"],
    )


def sensitivity(lines: list[Line], kinds: list[tuple[str, str]]) -> Claim:
    """Return Q4: the channels make the maps class-sensitive, by more than resampling changes them either way."""
    figures, shown = [], []
    for kind in kinds:
        found = effects(part(lines, kind), "rank", "guided", "positive")
        shown.append(found["channels"][2] < 0 and found["excess"][1] > 0)
        figures.append(f"{' '.join(kind)}: channels {signed(found['channels'], 2)}, resampling "
                       f"{signed(found['resampling'], 2)}")  # fmt: skip
    return Claim(
        "Q4",
        "The channels make maps class-sensitive, not the resampling: effects on the rank correlation between classes",
        "; ".join(figures) or "–",
        verdict_of(shown),
        REASONS["sensitivity"],
    )


def _points(interval: Interval) -> str:
    mean, low, high = (100 * v for v in interval)
    return signed((mean, low, high))


REASONS = {
    "resampling": "the gain depends on the rule",
    "blurring": "what resampling gains is what smoothing gains",
    "channels": "with equal reductions of colours the logit's maps lie as well",
    "sensitivity": "the logit's maps differ between classes by themselves",
}
