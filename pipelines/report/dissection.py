"""The page of a dissection: what names a network's channels, with pictures of the best of each concept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import interpnet
from interpnet.concepts import Dissection, LayerSummary
from interpnet.engine import Channel
from interpnet.plotting import Picture, outline

from .audited import Rows, short_name
from .load import clean
from .numbers import number_text, percent, with_interval
from .page import write_page
from .pictures import data_uri, strip

if TYPE_CHECKING:
    from torch import Tensor

    from interpnet.concepts import Strongest

    from ..dissection.work import Asked

#: Takes a network's input back to pixels.
Undo = Callable[["Tensor"], "Tensor"]
_SIZE = 112  # pixels of an image


@dataclass(frozen=True)
class Unit:
    """A channel that detects a concept."""

    label: str
    iou: str  # with its interval
    beside: str  # the controls
    strip: str  # its strongest images, as a data URI
    n: int


@dataclass(frozen=True)
class ConceptView:
    """A concept with its best channels."""

    name: str
    facts: str
    units: tuple[Unit, ...]


def build_dissection_page(
    path: Path, asked: Asked, found: Dissection, pictured: Mapping[Channel, Strongest], notes: Sequence[str]
) -> None:
    """Write the page, one file that asks for nothing else."""
    undo = next(iter(asked.sources.values())).preprocessing.undo
    views = [
        _view(found, c, asked.best(found, concept), pictured, undo)
        for c, concept in enumerate(found.concepts)
        if asked.best(found, concept)
    ]
    views.sort(key=lambda view: view[0])
    unnamed = [concept for concept in found.concepts if not found.detectors(concept)]
    write_page(
        path,
        "dissection.html.j2",
        title=f"{short_name(asked.config.model)} by the concepts of {clean(Path(asked.settings.concepts).name)}",
        version=interpnet.__version__,
        cards=_cards(asked, found),
        notes=[clean(note) for note in notes],
        concepts=[view for _, view in views],
        unnamed=[clean(concept) for concept in unnamed],
        layers=[_layer(one) for one in found.layers()],
        control=not np.isnan(found.floor).all(),
        named=int(found.named.sum()),
        channels=len(found.channels),
        least=found.least,
        quantile=found.quantile,
        draws=found.draws,
    )


def _cards(asked: Asked, found: Dissection) -> list[tuple[str, Rows]]:
    images = [(clean(name), f"{n:,} images") for name, n in found.images.items()]
    network = [("Model", clean(asked.config.model)), ("Layers", f"{len(found.channels.layers)}")]
    network.append(("Channels", f"{len(found.channels):,}"))
    how = [
        ("Threshold", f"above it {percent(found.quantile, 1)} of a channel's activations"),
        ("Least overlap", number_text(found.least)),
        ("Control", f"other images' masks, {found.draws} times" + ("; random weights" * asked.settings.control)),
        ("Seed", str(asked.config.seed)),
    ]
    return [("Network", network), ("Images", images), ("Names", how)]


def _view(
    found: Dissection,
    c: int,
    best: Sequence[tuple[Channel, float]],
    pictured: Mapping[Channel, Strongest],
    undo: Undo,
) -> tuple[float, ConceptView]:
    """Return a concept's view, with what sorts it: the largest overlap first."""
    name = found.concepts[c]
    units = tuple(unit_of(found, channel, c, pictured[channel], undo) for channel, _ in best)
    count = len(found.detectors(name))
    facts = (
        f"{clean(found.categories[c])}; in {int(found.images_with[c]):,} images, on average on "
        f"{percent(float(found.cover[c]))} of an image; {count} channel{'s' * (count != 1)}"
    )
    return -best[0][1], ConceptView(clean(name), facts, units)


def unit_of(found: Dissection, channel: Channel, c: int, seen: Strongest, undo: Undo) -> Unit:
    """Return what a page shows of a channel named by concept number ``c``."""
    row = found.channels.position(channel)
    beside = f"with other images' masks {number_text(float(found.null[row]))}"
    if not np.isnan(found.floor[row, c]):
        beside += f", with random weights {number_text(float(found.floor[row, c]))}"
    return Unit(
        f"{clean(channel.layer)}[{channel.index}]",
        with_interval(found.iou[row, c], found.low[row, c], found.high[row, c]),
        beside,
        data_uri(strip_of(seen, undo, _SIZE)),
        len(seen.images),
    )


def strip_of(seen: Strongest, undo: Undo, size: int) -> Picture:
    """Return the strongest images side by side, dark where the channel is below its threshold."""
    images = undo(seen.images).clamp(0, 1)
    return strip(
        [
            outline(image.numpy(), (values > seen.threshold).numpy(), size)
            for image, values in zip(images, seen.maps, strict=True)
        ]
    )


def _layer(one: LayerSummary) -> dict[str, str]:
    return {
        "name": clean(one.layer),
        "channels": f"{one.channels:,}",
        "named": f"{one.named:,}",
        "share": percent(one.named / one.channels),
        "concepts": str(one.concepts),
        "categories": ", ".join(f"{clean(name)} {n}" for name, n in one.categories.items()),
        "floor": floors_text(one),
    }


def floors_text(one: LayerSummary) -> str:
    """Return what a layer overlaps with at random, with the categories' names where there are several."""
    texts = {name: number_text(floor, 3) for name, floor in one.floors.items()}
    return ", ".join(texts.values() if len(texts) == 1 else (f"{clean(name)} {text}" for name, text in texts.items()))
