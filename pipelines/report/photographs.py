"""The figures of photographs that a user named, and their sections on the page of filters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from interpnet import plot
from interpnet.engine import Channel
from interpnet.plotting import enlarge, render

from ..filters.parts import Arrays
from ..filters.photographs import METHODS, Photographs
from ..run.notes import Notes
from .filter_figures import BLANK, FIGURES, label_name
from .load import clean
from .numbers import number_text, percent
from .pictures import data_uri

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIDE = 240  # of a picture in pixels
_TOP = 5  # classes named
_DOTS = 110  # per inch, on the page

_CAPTIONS = {
    "gradcam": "Grad-CAM for each class, on its own scale: where the last maps speak for it.",
    "gradients": "The gradient of each class, and two ways back that let only positive signals through rectifiers: "
    "DeconvNet and guided backpropagation. These two hardly depend on the class. The brightest 1 % of each is cut.",
    "occlusion": "How far each class falls when a patch is hidden: what was hidden spoke for it.",
    "channels": "The channels that contribute most to the predicted class here: where their evidence lies in the "
    "photograph, and the parts of the images looked at that they answer to most.",
    "activations": "The most active channels of each layer, each on its own scale: dark is zero.",
    "nearest": "The other images that are nearest to the photograph just before the classifier.",
}


def photograph_views(photographs: Photographs, report: Path, notes: Notes) -> list[dict[str, Any]]:
    """Write the figures of every photograph as files, and return its section."""
    return [_view(photographs, i, report, notes) for i in range(len(photographs))]


def _view(photographs: Photographs, i: int, report: Path, notes: Notes) -> dict[str, Any]:
    found = photographs.of(i)
    stem = photographs.stems[i]
    name = clean(Path(photographs.data.name(i)).name)
    for key in (key for key in found if key.startswith("why/")):
        notes.add(f"{name} has no {key.removeprefix('why/')}: {clean(str(found[key]))}.")
    shown = []
    for kind, figure in _figures(photographs, i, found):
        files = plot.save(figure, report / FIGURES / f"{stem}-{kind}")
        inches = float(figure.get_size_inches()[0])
        shown.append(
            {
                "kind": kind,
                "source": data_uri(_pixels(files[0], inches)),
                "width": round(96 * inches),
                "caption": _CAPTIONS[kind],
                "files": [f"{FIGURES}/{file.name}" for file in files],
            }
        )
    probabilities = found["probabilities"]
    best = np.argsort(-probabilities, kind="stable")[:_TOP]
    classes = photographs.work.subject.classes
    return {
        "name": name,
        "picture": data_uri(enlarge(photographs.data.picture(i), _SIDE)),
        "predicted": [f"{clean(classes[c])} ({percent(float(probabilities[c]), 1)})" for c in best],
        "figures": shown,
    }


def _figures(photographs: Photographs, i: int, found: Arrays) -> Iterator[tuple[str, Figure]]:
    work = photographs.work
    picture = photographs.data.picture(i)
    names = [
        f"{clean(work.subject.classes[c])} ({percent(float(found['probabilities'][c]), 0)})" for c in found["compared"]
    ]
    for kind, methods in METHODS.items():
        known = {label: found[method] for method, label in methods.items() if method in found}
        if len(known) > 1:
            rows = {name: {label: maps[k] for label, maps in known.items()} for k, name in enumerate(names)}
            yield kind, plot.attribution(rows, picture)
        elif known:
            ((label, maps),) = known.items()
            yield kind, plot.attribution(dict(zip(names, maps, strict=True)), picture, heading=label)
    if len(found.get("layers", ())):
        yield "channels", _channels(photographs, found, picture)
    layers = [site.name for site in work.layers if f"{site.name}/maps" in found]
    if layers:
        yield "activations", _activations(found, layers)
    if len(found["near"]):
        yield "nearest", _nearest(photographs, i, found)


def _channels(photographs: Photographs, found: Arrays, picture: Any) -> Figure:
    channels = [Channel(layer, int(c)) for layer, c in zip(found["layers"].tolist(), found["columns"], strict=True)]
    patches = [photographs.patches.get(channel, ()) for channel in channels]
    most = max(map(len, patches))
    panels: list[Any] = []
    titles: list[str] = []
    for value, heatmap, own in zip(found["contributions"], found["heatmaps"], patches, strict=True):
        panels += [render(np.maximum(heatmap, 0), picture, size=_SIDE), *own, *[BLANK] * (most - len(own))]
        titles += [f"contributes {number_text(float(value), 2)}", *[""] * most]
    rows = [f"{clean(channel.layer)}[{channel.index}]" for channel in channels]
    return plot.pictures(panels, titles, rows=rows)


def _activations(found: Arrays, layers: list[str]) -> Figure:
    most = max(len(found[f"{layer}/columns"]) for layer in layers)
    panels: list[Any] = []
    titles: list[str] = []
    captions: list[str] = []
    for layer in layers:
        maps = found[f"{layer}/maps"]
        columns = found[f"{layer}/columns"].tolist()
        missing = most - len(columns)
        panels += [render(one, size=112) for one in maps] + [BLANK] * missing
        titles += [f"channel {c}" for c in columns] + [""] * missing
        captions += [f"max {one.max():.3g}" for one in maps] + [""] * missing
    return plot.pictures(panels, titles, captions=captions, rows=[clean(layer) for layer in layers])


def _nearest(photographs: Photographs, i: int, found: Arrays) -> Figure:
    work = photographs.work
    reading = work.reading()
    rows = found["near"].tolist()
    indices = [int(reading["indices"][row]) for row in rows]
    labels = [int(reading["labels"][row]) for row in rows]
    names = [label_name(work.subject.classes, c) for c in labels]
    panels = [photographs.data.picture(i), *(work.split.data.picture(index) for index in indices)]
    captions = ["", *(f"distance {number_text(float(d), 2)}" for d in found["distances"])]
    return plot.pictures(panels, ["the photograph", *names], captions=captions, columns=7)


def _pixels(file: Path, inches: float) -> Any:
    """Return a figure's PNG as a picture of the size that the page shows."""
    from PIL import Image

    with Image.open(file) as whole:
        width = round(_DOTS * inches)
        return np.asarray(whole.convert("RGB").resize((width, round(whole.height * width / whole.width))))
