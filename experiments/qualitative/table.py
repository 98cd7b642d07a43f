"""The README's tables, and the arithmetic that the claims share, from results.json."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from experiments.common.pages import Page
from experiments.common.tables import Interval, Line, markdown, minutes, paired, signed
from experiments.qualitative.choose import LEVELS
from experiments.qualitative.maps import ABSOLUTE, BLURRED, UPSAMPLED

TITLES = {"squeezenet": "SqueezeNet 1.0", "resnet20": "ResNet-20", "flowers": "single-6c, small network"}
PLAIN = "guided, plain"  # the names in maps.py
RESAMPLED = "guided, resampled"
DECONV = ("DeconvNet, plain", "DeconvNet, resampled")
#: What is compared where there are masks; the last two ask what keeps the picture from the mask.
_PAIRS = ((RESAMPLED, PLAIN), (RESAMPLED, UPSAMPLED), (ABSOLUTE, UPSAMPLED), (BLURRED, UPSAMPLED))


def ordered(results: Iterable[Line]) -> list[Line]:
    """Return the results in the pages' order of the networks."""
    return sorted(results, key=lambda r: list(TITLES).index(r["subject"]))


def by_image(lines: Iterable[Line], picture: str, what: str, level: str = "") -> dict[int, float]:
    """Return a number of a picture by image: the mean over its channels of a level, or above something strided."""
    values: dict[int, list[float]] = {}
    for line in lines:
        kept = line["level"] == level or (not level and line["strided"])
        if kept and what in line["maps"][picture]:
            values.setdefault(line["image"], []).append(line["maps"][picture][what])
    return {image: float(np.mean(v)) for image, v in values.items()}


def gain(one: dict[int, float], other: dict[int, float]) -> Interval | None:
    """Return mean and 95 % interval of ``one`` less ``other``, in percent, paired over the images both have."""
    both = sorted(one.keys() & other.keys())  # paired over these images
    return paired([100 * (one[i] - other[i]) for i in both]) if both else None


def mean(values: dict[int, float]) -> str:
    """Return the mean in percent, or a dash."""
    if not values:
        return "–"
    return f"{100 * np.mean(list(values.values())):.1f}"


def grids(results: list[Line]) -> str:
    """Return the table of the grid, by network and level; channels with nothing strided below have rows of their own.

    These cannot have a grid: what they have at its frequencies is the picture's own detail, to compare the others with.
    """
    rows = []
    cases = [(result, level, above) for result in results for level in LEVELS for above in (False, True)]
    for result, level, above in cases:
        here = [x for x in result["measured"] if x["strided"] == above]
        plain, resampled, *deconv = (by_image(here, p, "grid", level) for p in (PLAIN, RESAMPLED, *DECONV))
        found = gain(resampled, plain)
        if found is None:
            continue
        where = f"{level}, nothing strided below"
        change = "–"
        if above:
            where = level
            change = signed(found)
        means = [mean(plain), mean(resampled), change, *map(mean, deconv)]
        rows.append([TITLES[result["subject"]], where, len(plain), *means])
    head = ["grid, % of the energy", "level", "images", PLAIN, RESAMPLED, "difference", *DECONV]
    return markdown(head, rows)


def levels(results: list[Line]) -> str:
    """Return the table of what the levels show: relevant channels, concentration, overlap with the mask."""
    rows = []
    for result in results:
        for level in LEVELS:
            relevant = np.mean([x["relevant"] for x in result["measured"] if x["level"] == level])
            row = [TITLES[result["subject"]], level, f"{100 * relevant:.0f}"]
            for what in ("half", "iou"):
                pictures = (by_image(result["measured"], p, what, level) for p in (UPSAMPLED, PLAIN, RESAMPLED))
                row.append(" / ".join(map(mean, pictures)))
            rows.append(row)
    head = ["network", "level", "class relies on one there, % of images"]
    head.append("half of the map lies on % of the pixels: enlarged / plain / resampled")
    return markdown([*head, "IoU-AUC, %: enlarged / plain / resampled"], rows)


def overlaps(results: list[Line]) -> str:
    """Return the table of differences in IoU-AUC, where there are masks."""
    head = ["IoU-AUC, points", "level", *(f"{one}, less {other}" for one, other in _PAIRS)]
    rows = []
    for result in results:
        for level in LEVELS:
            iou = {p: by_image(result["measured"], p, "iou", level) for pair in _PAIRS for p in pair}
            found = [d for one, other in _PAIRS if (d := gain(iou[one], iou[other])) is not None]
            if found:
                rows.append([TITLES[result["subject"]], level, *map(signed, found)])
    return markdown(head, rows)


def text(lines: list[Line]) -> str:
    """Return everything between the README's marks."""
    results = ordered(lines)
    facts = [
        f"- {TITLES[r['subject']]}: measured on {r['images']} images, {minutes([r]):.1f} minutes of one core, "
        f"commit {r['commit']}"
        for r in results
    ]
    return "\n\n".join(["\n".join(facts), grids(results), levels(results), overlaps(results)])


PAGE = Page("experiments.qualitative.run", text, {})  # the README, from results.json
