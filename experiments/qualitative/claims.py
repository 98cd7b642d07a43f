"""What E2 found: whether resampling takes the grid out, and whether pictures lie better on what tells the class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from experiments.claims import Claim
from experiments.pages import signed
from experiments.qualitative.table import PLAIN, RESAMPLED, TITLES, UPSAMPLED, at, by_image, gain

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
    """Judge: a high channel's resampled picture lies better on the mask than the plain and the enlarged one."""
    found = []
    for result in results:
        one, plain, enlarged = (
            by_image(result["measured"], p, "iou", at("high")) for p in (RESAMPLED, PLAIN, UPSAMPLED)
        )
        over_plain, over_enlarged = gain(one, plain), gain(one, enlarged)
        if over_plain is None or over_enlarged is None:
            continue
        wins = [over_plain[1] > 0, over_enlarged[1] > 0]
        figure = f"IoU-AUC, points: {signed(over_plain)} over plain, {signed(over_enlarged)} over enlarged"
        verdict = "holds" if all(wins) else "holds in part" if any(wins) else "does not hold"
        found.append(Claim(
            "E2", "A high channel's resampled picture lies better on the petals than the plain one and than its "
            "enlarged activation", figure, verdict,
        ))  # fmt: skip
    return found
