"""Which of two nested masks a map resembles: the coloured part's or the whole plant's."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from experiments.common.tables import Interval, Line, paired
from experiments.localisation.table import CONTROLS, kinds_of

PART = "part"
PLANT = "plant"
BETWEEN = "undecided"
NEITHER = "neither"


class Mark(NamedTuple):
    """What a map marks, over the networks of a kind.

    Attributes
    ----------
    part, plant : float
        Mean IoU-AUC in percent against the coloured part, and against the whole plant.
    pointing : float
        Share of images whose largest value lies in the coloured part.
    difference : Interval
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
    >>> three = Interval(3.0, 1.0, 5.0)
    >>> verdict(three, 20.0, 17.0, (8.0, 15.0)), verdict(three.times(-1), 17.0, 20.0, (8.0, 15.0))
    ('part', 'plant')
    >>> verdict(Interval(1.0, -1.0, 3.0), 18.0, 17.0, (8.0, 15.0)), verdict(three, 7.0, 12.0, (8.0, 15.0))
    ('undecided', 'neither')
    """
    if part <= controls[0] and plant <= controls[1]:
        return NEITHER
    if difference.above:
        return PART
    return PLANT if difference.below else BETWEEN


def marks(lines: list[Line]) -> dict[tuple[str, str], dict[str, Mark]]:
    """Return for each kind of network on double-12c (with two networks or more) what each map marks."""
    found = {}
    for kind, part in kinds_of(x for x in lines if x["variant"] == "double-12c").items():
        networks = [x["maps"] for x in part]
        if len(networks) < 2:
            continue
        measures = {
            name: {k: float(np.mean([n[name][k] for n in networks])) for k in ("iou", "iou_plant", "pointing")}
            for name in networks[0]
            if all(name in n for n in networks)
        }
        known = [measures[c] for c in CONTROLS if c in measures]
        best = (100 * max(m["iou"] for m in known), 100 * max(m["iou_plant"] for m in known))
        rows = {}
        for name, mean in measures.items():
            difference = paired([100 * (n[name]["iou"] - n[name]["iou_plant"]) for n in networks])
            on_part = 100 * mean["iou"]
            on_plant = 100 * mean["iou_plant"]
            word = verdict(difference, on_part, on_plant, best)
            rows[name] = Mark(on_part, on_plant, mean["pointing"], difference, word)
        found[kind] = rows
    return found
