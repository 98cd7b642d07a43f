"""Which of two nested masks a map resembles: the coloured part's or the whole plant's."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from experiments.common.pages import paired
from experiments.localisation.table import CONTROLS, kinds_of

Line = dict[str, Any]
Interval = tuple[float, float, float]
PART, PLANT, BETWEEN, NEITHER = "part", "plant", "undecided", "neither"


class Mark(NamedTuple):
    """What a map marks, over the networks of a kind.

    Attributes
    ----------
    part, plant : float
        Mean IoU-AUC in percent against the coloured part, and against the whole plant.
    pointing : float
        Share of images whose largest value lies in the coloured part.
    difference : (float, float, float)
        ``part`` less ``plant`` in points, with the ends of its 95 % interval over networks.
    marks : str
        See :func:`verdict`.
    """

    part: float
    plant: float
    pointing: float
    difference: Interval
    marks: str


def verdict(difference: Interval, part: float, plant: float, controls: tuple[float, float]) -> str:
    """Return which mask a map resembles.

    A map equal to the part's mask has IoU 1 with the part and |part|/|plant| with the plant, one equal to the plant's
    mask the reverse; so the sign of the difference says which is nearer. It says nothing of a map that overlaps
    neither better than a control.

    Examples
    --------
    >>> verdict((3.0, 1.0, 5.0), 20.0, 17.0, (8.0, 15.0)), verdict((-3.0, -5.0, -1.0), 17.0, 20.0, (8.0, 15.0))
    ('part', 'plant')
    >>> verdict((1.0, -1.0, 3.0), 18.0, 17.0, (8.0, 15.0)), verdict((-5.0, -6.0, -4.0), 7.0, 12.0, (8.0, 15.0))
    ('undecided', 'neither')
    """
    if part <= controls[0] and plant <= controls[1]:
        return NEITHER
    _, low, high = difference
    return PART if low > 0 else PLANT if high < 0 else BETWEEN


def marks(lines: list[Line]) -> dict[tuple[str, str], dict[str, Mark]]:
    """Return for each kind of network on double-12c (with two networks or more) what each map marks."""
    found = {}
    for kind in kinds_of([x for x in lines if x["variant"] == "double-12c"]):
        networks = [x["maps"] for x in lines if (x["architecture"], x["variant"]) == kind]
        if len(networks) < 2:
            continue
        names = [name for name in networks[0] if all(name in n for n in networks)]
        means = {
            name: tuple(float(np.mean([n[name][k] for n in networks])) for k in ("iou", "iou_plant", "pointing"))
            for name in names
        }
        controls = tuple(100 * max(means[c][i] for c in CONTROLS if c in means) for i in (0, 1))
        rows = {}
        for name, (part, plant, pointing) in means.items():
            difference = paired([100 * (n[name]["iou"] - n[name]["iou_plant"]) for n in networks])
            nearer = verdict(difference, 100 * part, 100 * plant, (controls[0], controls[1]))
            rows[name] = Mark(100 * part, 100 * plant, pointing, difference, nearer)
        found[kind] = rows
    return found
