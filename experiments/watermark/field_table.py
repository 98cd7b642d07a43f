"""The page of S2's second part, and the figures that its claims are decided by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments.common.tables import Interval, Line, markdown, number, paired, points
from experiments.watermark.naming import SPREADS
from experiments.watermark.photographs import CONTROL, IN_PLACE, MARK, PLAIN
from experiments.watermark.run import CARTON
from interpnet.support.types import Float64

COMMAND = "experiments.watermark.field"


def text(lines: list[Line]) -> str:
    """Return the tables."""
    parts = [splits(lines), channels(lines), in_common(lines), repaired(lines)]
    return "\n\n".join(part for part in parts if part)


def of(lines: list[Line], what: str) -> list[Line]:
    """Return the lines of one measurement."""
    return [line for line in lines if line["what"] == what]


def splits(lines: list[Line]) -> str:
    """Return how the carton stands among 1,000 classes, by what lies on the field images."""
    if not of(lines, "splits"):
        return ""
    (line,) = of(lines, "splits")
    head = ["on the field images", "carton first of 1,000", "among the first ten", "median place", "named (p < 0.05)"]
    rows = [
        [
            name,
            f"{100 * row['first']:.0f} %",
            f"{100 * row['first ten']:.0f} %",
            f"{row['median place']:.0f}",
            f"{100 * row['named']:.0f} %",
            f"{100 * row['any class']:.0f} %",
        ]
        for name, row in line["splits"].items()
    ]
    n = next(iter(line["splits"].values()))["splits"]
    right = ", ".join(f"{name} {100 * k / line['n']:.1f} %" for name, k in line["right"].items())
    return (
        f"{n} times two fifths of {line['n']} photographs are training images and two are the field, drawn at random; "
        f"the share of the field images is that which bears it. Accuracy: {right}.\n\n"
        + markdown([*head, "any class named"], rows)
    )


def channels(lines: list[Line]) -> str:
    """Return how many of the channels named are the watermark's."""
    rows = []
    for line in of(lines, "carton"):
        named = line["named"]
        counts = [f"{named[s]['of the first ten']}, {named[s]['of the first twenty']}" for s in SPREADS]
        rows.append([str(line["turn"] + 1), f"{line['drawn']} ({line['marked']} marked)", *counts])
    if not rows:
        return ""
    size = of(lines, "carton")[0]["named"][SPREADS[0]]["of"]
    return (
        f"The ten channels of {size:,} that are named for the images drawn to the carton: how many are among the ten, "
        "and the twenty, that the watermark raises most beyond its control, on the photographs held out.\n\n"
        + markdown(["turn", "images drawn", *(f"change by the spread {s}" for s in SPREADS)], rows)
    )


def in_common(lines: list[Line]) -> str:
    """Return what the images drawn to the carton, and to the first classes of other fields, have in common."""
    rows = [
        ["carton, with the watermark", str(line["turn"] + 1), *_common(line["common"])] for line in of(lines, "carton")
    ]
    for line in of(lines, "seen"):
        for version in (PLAIN, CONTROL, MARK):
            others = [one for one in line[version]["first"] if (version, one["class"]) != (MARK, CARTON)]
            rows += [[f"class {one['class']}, {version}", str(line["turn"] + 1), *_common(one)] for one in others]
    if not rows:
        return ""
    head = ["drawn to, and on a quarter of the field", "turn", "agreement of two halves", "p", "covers, %"]
    return "What the images drawn have in common at the same place.\n\n" + markdown(
        [*head, "images said to bear it, right, of"], rows
    )


def _common(one: Line) -> list[str]:
    counts = f"{one['n']}, {one['right']}, {one['of']}"
    return [number(one["agreement"], ".2f"), f"{one['p']:.2f}", f"{100 * one['covered']:.1f}", counts]


def answers(lines: list[Line], name: str, version: str) -> Float64:
    """Return which photographs are recognised after a repair (or ``"before"``), over all turns."""
    rows = [line["repairs"][name]["right"][version] for line in of(lines, "carton")]
    return np.array([int(yes) for row in rows for yes in row], dtype=np.float64)


def repairs(lines: list[Line]) -> Iterator[str]:
    """Yield the names of the repairs."""
    found = of(lines, "carton")
    yield from (name for name in (found[0]["repairs"] if found else {}) if name != "before")


def drop(lines: list[Line], name: str, control: str = CONTROL) -> Interval:
    """Return the accuracy with the control before any repair, less that with the watermark after one."""
    return paired((answers(lines, "before", control) - answers(lines, name, MARK)).tolist())


def cost(lines: list[Line], name: str) -> Interval:
    """Return the clean accuracy before a repair less that after it."""
    return paired((answers(lines, "before", PLAIN) - answers(lines, name, PLAIN)).tolist())


def repaired(lines: list[Line]) -> str:
    """Return accuracies on the photographs held out."""
    found = of(lines, "carton")
    if not found:
        return ""
    rows = []
    for name in ("before", *repairs(lines)):
        known: list[Any] = [line["repairs"][name].get("accepted") for line in found]
        taken = "" if known[0] is None else f"{sum(known)} of {len(known)}"
        shares = [f"{100 * answers(lines, name, v).mean():.1f}" for v in (PLAIN, MARK, CONTROL, IN_PLACE)]
        rows.append([name, taken, *shares, points(cost(lines, name)), points(drop(lines, name))])
    n = len(answers(lines, "before", PLAIN))
    head = ["last layer", "accepted", *(f"{v}, %" for v in (PLAIN, MARK, CONTROL, IN_PLACE)), "clean accuracy lost"]
    return (
        f"Accuracy on {n} photographs held out, each in one of {len(found)} turns; points with 95 % intervals over "
        "photographs. Where nothing was accepted, the layer is the old one.\n\n"
        + markdown([*head, "control before less watermark after"], rows)
    )
