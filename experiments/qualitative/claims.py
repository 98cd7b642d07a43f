"""What E2 found: whether resampling takes the grid out, and whether pictures lie better on what tells the class."""

from __future__ import annotations

import numpy as np

from experiments.common.claims import Claim, counted, graded, judged
from experiments.common.pages import committed
from experiments.common.tables import Interval, Line, signed
from experiments.qualitative.choose import LEVELS
from experiments.qualitative.maps import BLURRED, UPSAMPLED
from experiments.qualitative.table import PLAIN, RESAMPLED, TITLES, by_image, gain, ordered


def claims() -> list[Claim]:
    """Return the claims with figures and verdicts from the committed results."""
    results = ordered(committed(__file__))
    return [no_grid(results), *overlap(results)]


def no_grid(results: list[Line]) -> Claim:
    """Judge: holds where the grid falls beyond its interval and at least by half on every network."""
    parts = []
    found = {}
    halved = {}
    for result in results:
        name = TITLES[result["subject"]].partition(",")[0]
        plain, resampled = (by_image(result["measured"], p, "grid") for p in (PLAIN, RESAMPLED))
        fall = gain(resampled, plain)
        if fall is None:
            continue
        before, after = (100 * float(np.mean(list(v.values()))) for v in (plain, resampled))
        parts.append(f"{name} {before:.1f} to {after:.1f} %, {signed(fall)}")
        found[name] = fall
        halved[name] = after <= before / 2
    fallen = [fall.below for fall in found.values()]
    less = ", ".join(name for name, half in halved.items() if not half)
    return Claim(
        "E2",
        "Stride-1 resampling takes the grid out of identified channels' pictures",
        f"at least halved on {counted(halved.values(), 'networks')}",
        "; ".join(parts),
        graded(full=all(fallen) and all(halved.values()), part=any(fallen)),
        f"it falls by less than half on {less}" * bool(less),
        effects=tuple((name, fall.times(-1)) for name, fall in found.items()),
    )


def overlap(results: list[Line]) -> list[Claim]:
    """Judge: the resampled picture lies better on the mask than the plain one, and than the enlarged activation."""
    claims = []
    for result in (r for r in results if any("iou" in x["maps"][RESAMPLED] for x in r["measured"])):
        for other, claim in (
            (PLAIN, "A channel's resampled picture lies better on the petals than the plain one, at every depth"),
            (UPSAMPLED, "It lies better on the petals than the channel's enlarged activation, at every depth"),
        ):
            found = _gains(result, RESAMPLED, other)
            # Where the difference is lost: what absolute values and a blur make of it.
            tried = _gains(result, BLURRED, other)
            lost = [f"{level} {signed(tried[level])}" for level in LEVELS if not found[level].above]
            figure = "IoU-AUC, points: " + ", ".join(f"{level} {signed(found[level])}" for level in LEVELS)
            reason = "thin edges, and dark petals without a positive part"
            tested = f"with absolute values, blurred, {', '.join(lost)}"
            claims.append(judged("E2", claim, found, "depths", figure, reason, tested))
    return claims


def _gains(result: Line, one: str, other: str) -> dict[str, Interval]:
    found = {}
    for level in LEVELS:
        pair = (by_image(result["measured"], picture, "iou", level) for picture in (one, other))
        found[level] = gain(*pair) or Interval(np.nan, np.nan, np.nan)
    return found
