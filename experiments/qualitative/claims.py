"""What E2 found: whether resampling takes the grid out, and whether pictures lie better on what tells the class."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.claims import Claim
from experiments.common.pages import signed
from experiments.qualitative.choose import LEVELS
from experiments.qualitative.maps import BLURRED, UPSAMPLED
from experiments.qualitative.table import PLAIN, RESAMPLED, TITLES, at, by_image, gain

Interval = tuple[float, float, float]
_RESULTS = Path(__file__).with_name("results.json")


def claims() -> list[Claim]:
    """Return the claims with figures and verdicts from the committed results."""
    results = sorted(json.loads(_RESULTS.read_text()), key=lambda r: list(TITLES).index(r["subject"]))
    return [no_grid(results), *overlap(results)]


def no_grid(results: list[dict[str, Any]]) -> Claim:
    """Judge: holds where the grid falls beyond its interval and at least by half on every network."""
    parts, fallen, halved = [], [], []
    for result in results:
        plain, resampled = (by_image(result["measured"], p, "grid") for p in (PLAIN, RESAMPLED))
        found = gain(resampled, plain)
        if found is None:
            continue
        before, after = (100 * float(np.mean(list(v.values()))) for v in (plain, resampled))
        parts.append(f"{TITLES[result['subject']].partition(',')[0]} {before:.1f} to {after:.1f} %, {signed(found)}")
        fallen.append(found[2] < 0)
        halved.append(after <= before / 2)
    verdict = "holds" if all(fallen) and all(halved) else "holds in part" if any(fallen) else "does not hold"
    less = [TITLES[r["subject"]] for r, h in zip(results, halved, strict=True) if not h]
    reason = f"it falls by less than half on {', '.join(less)}" if less else ""
    claim = "Stride-1 resampling takes the grid out of identified channels' pictures"
    return Claim("E2", claim, "; ".join(parts), verdict, reason)


def overlap(results: list[dict[str, Any]]) -> list[Claim]:
    """Judge: the resampled picture lies better on the mask than the plain one, and than the enlarged activation."""
    claims = []
    for result in (r for r in results if any("iou" in x["maps"][RESAMPLED] for x in r["measured"])):
        over = {
            other: {level: _gain(result, RESAMPLED, other, level) for level in LEVELS} for other in (PLAIN, UPSAMPLED)
        }
        for other, claim in (
            (PLAIN, "A channel's resampled picture lies better on the petals than the plain one, at every depth"),
            (UPSAMPLED, "It lies better on the petals than the channel's enlarged activation, at every depth"),
        ):
            found = over[other]
            wins = [found[level][1] > 0 for level in LEVELS]
            figure = "IoU-AUC, points: " + ", ".join(f"{level} {signed(found[level])}" for level in LEVELS)
            verdict = "holds" if all(wins) else "holds in part" if any(wins) else "does not hold"
            claims.append(Claim("E2", claim, figure, verdict, "" if all(wins) else _why(result, other, found)))
    return claims


def _why(result: dict[str, Any], other: str, found: dict[str, Interval]) -> str:
    """Say what absolute values and a blur make of the difference where it is lost."""
    lost = [level for level in LEVELS if not found[level][1] > 0]
    tried = (f"{level} {signed(_gain(result, BLURRED, other, level))}" for level in lost)
    return f"thin edges, and dark petals without a positive part: with absolute values, blurred, {', '.join(tried)}"


def _gain(result: dict[str, Any], one: str, other: str, level: str) -> Interval:
    found = gain(*(by_image(result["measured"], p, "iou", at(level)) for p in (one, other)))
    return found if found is not None else (math.nan, math.nan, math.nan)
