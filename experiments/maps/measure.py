"""What M1 measures of every map: overlap with the mask, energy in it, the pointing game, deletion and insertion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor

from experiments.common.tables import Line
from experiments.maps.settings import (
    BEFORE,
    METHODS,
    PAPER,
    Setting,
    attributions,
    channel_maps,
    grid,
    maps_of,
    settings_of,
    together,
)
from experiments.maps.subjects import Subject
from interpnet.errors import DataError
from interpnet.evaluate import deletion, energy_pointing, insertion, iou_auc, pointing_game

STEPS = 16  # of deletion and insertion
COUNTS = (1, 3, 10, 30)  # channels, for the reason that photographs need more
_BATCH = 12
_GAINED = (0.0, 0.02, 0.06)  # blurs of the methods whose deletion and insertion are measured
Values = dict[str, list[float]]


_ON_MASKS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "iou": lambda maps, masks: iou_auc(maps, masks, constant="zero").values,
    "energy": lambda maps, masks: energy_pointing(maps, masks, constant="zero").values,
    "pointing": lambda maps, masks: pointing_game(maps, masks, constant="zero").values,
}


def _gain(subject: Subject, maps: Tensor, rows: slice) -> Values:
    """Return deletion and insertion of each image."""
    how: dict[str, Any] = {"steps": STEPS, "controls": (), "constant": "zero", "max_batch": 256}
    asked = (subject.model, subject.images[rows], maps, subject.labels[rows])
    return {run.__name__: run(*asked, **how).values.tolist() for run in (deletion, insertion)}


def _maps(
    subject: Subject, chosen: Setting, wanted: list[Setting], rows: slice, *, methods: bool
) -> Iterator[tuple[str, bool, Tensor]]:
    """Yield (name, whether its deletion and insertion are measured, maps) of settings and methods.

    Single changes of the chosen setting are told by what counts alone; where nothing is named all channels are chosen.
    """
    whole = {chosen, PAPER, BEFORE, replace(chosen, choose="all")}
    if subject.masks is None:
        wanted = [one for one in wanted if one in whole]
    for setting, maps in maps_of(subject, wanted, rows):
        yield str(setting), setting in whole, maps
    if not methods:
        return
    for name, blur, share, maps in attributions(subject, rows):
        words = [name] + [f"blur {100 * blur:g} %"] * (blur > 0) + ["saturated"] * (share < 1)
        gained = share == 1 and (blur == 0 or (name in METHODS and blur in _GAINED))
        yield ", ".join(words), gained, maps


def _batches(subject: Subject) -> Iterable[slice]:
    return (slice(start, start + _BATCH) for start in range(0, len(subject.images), _BATCH))


def tried(subject: Subject, wanted: list[Setting] | None = None) -> Line:
    """Return the mean of what counts for this subject, by setting of the grid."""
    if subject.masks is None:
        raise DataError("these images have no masks to choose a setting by")
    values: Values = {}
    for rows in _batches(subject):
        for setting, maps in maps_of(subject, wanted or grid(), rows):
            found = _ON_MASKS[subject.measure](maps, subject.masks[rows])
            values.setdefault(str(setting), []).extend(found.tolist())
    means = {name: round(sum(own) / len(own), 5) for name, own in values.items()}
    return {"images": len(subject.images), "measure": subject.measure, "settings": means}


def lacking(line: Line, chosen: Setting) -> list[Setting]:
    """Return what a line of the report does not have of the chosen setting and its changes."""
    known = line.get("maps", {})
    return [one for one in settings_of(chosen) if str(one) not in known and str(one) not in line.get("left_out", ())]


def reported(subject: Subject, chosen: Setting, line: Line) -> Line:
    """Return the values of the chosen setting, its changes, the literature's methods and the controls.

    What counts for the subject, deletion and insertion for every image; the other measures as means. What ``line`` has
    already is not measured again; ``left_out`` are settings that cannot be had of this network and these images, or
    tell nothing of them.
    """
    found: dict[str, Values] = {}
    known: Line = line.get("maps", {})
    wanted = lacking(line, chosen)
    for rows in _batches(subject):
        for name, gained, maps in _maps(subject, chosen, wanted, rows, methods=not known):
            own: Values = {}
            if subject.masks is not None:
                own = {measure: run(maps, subject.masks[rows]).tolist() for measure, run in _ON_MASKS.items()}
            if gained:
                own |= _gain(subject, maps, rows)
            for measure, values in own.items():
                found.setdefault(name, {}).setdefault(measure, []).extend(values)
    kept = {name: _kept(values, subject.measure) for name, values in found.items()}
    left_out = sorted({*line.get("left_out", ()), *(str(one) for one in wanted if str(one) not in kept)})
    return {"images": len(subject.images), "measure": subject.measure, "left_out": left_out, "maps": known | kept}


def counted(subject: Subject, chosen: Setting) -> Line:
    """Return every image's values with more and fewer channels than the three that are shown."""
    found: dict[str, Values] = {}
    for rows in _batches(subject):
        maps = channel_maps(subject, chosen, rows, max(COUNTS))
        if maps is None or subject.masks is None:
            raise DataError("the chosen setting cannot be made for these images, or they have no masks")
        for count in COUNTS:
            shown = together(maps[:, :count], chosen)
            values = {"energy": _ON_MASKS["energy"](shown, subject.masks[rows]).tolist()} | _gain(subject, shown, rows)
            for measure, own in values.items():
                found.setdefault(str(count), {}).setdefault(measure, []).extend(own)
    return {"images": len(subject.images), "maps": {count: _kept(own, "energy") for count, own in found.items()}}


def _kept(values: Values, measure: str) -> Line:
    kept: Line = {name: [round(one, 3) for one in own] for name, own in values.items()}
    for name in _ON_MASKS.keys() & kept.keys() - {measure}:
        kept[name] = round(sum(values[name]) / len(values[name]), 4)
    return kept
