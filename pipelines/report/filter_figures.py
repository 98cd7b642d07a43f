"""The figures of a network as a whole as files: filters, patches, map of the images, nearest images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from interpnet import plot
from interpnet.pictures import Filters
from interpnet.plotting import Picture

from ..filters.parts import Arrays
from ..filters.work import Work, evenly
from .load import clean
from .numbers import number_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Below the report: PNG, SVG and CSV of each figure.
FIGURES = "figures"
_SHOWN_QUERIES = 6
_GAP = 2  # pixels between the patches of a strip
#: White, where a row has fewer pictures than the longest.
BLANK: Picture = np.full((8, 8, 3), 255, np.uint8)


def write_figures(work: Work, banks: Sequence[Filters], report: Path) -> list[str]:
    """Write the figures of a network below ``report``; return the names of the PNGs, as seen from there."""
    files = [plot.save(figure, report / FIGURES / name)[0] for name, figure in _figures(work, banks)]
    return [f"{FIGURES}/{file.name}" for file in files]


def _figures(work: Work, banks: Sequence[Filters]) -> Iterator[tuple[str, Figure]]:
    if banks:
        yield "first-filters", plot.filters(banks[0])
    if len(banks) > 1:
        yield "deeper-filters", plot.filters(banks[len(banks) // 2])
    patches = _patches(work)
    if patches is not None:
        yield "patches", patches
    embedding = work.embedding()
    reading = work.reading()
    if len(embedding["points"]):
        names = [clean(name) for name in work.subject.classes]
        drawn = plot.embedding(embedding["points"], reading["labels"], names, predictions=reading["predictions"])
        yield "embedding", drawn
    if embedding["near"].shape[1]:
        yield "neighbours", _neighbours(work, reading, embedding)


def label_name(classes: Sequence[str], label: int) -> str:
    """Return the name of an image's class, which -1 says it has not."""
    return clean(classes[label]) if 0 <= label < len(classes) else "no label"


def _patches(work: Work) -> Figure | None:
    """Return what the first chosen channel of every layer answers to."""
    rows: dict[str, list[Picture]] = {}
    for site in work.layers:
        columns = work.chosen(site)["columns"].tolist()
        if columns:
            made = work.patches(site, columns[0])
            rows[f"{clean(site.name)}[{columns[0]}]"] = _cut(made["strip"], int(made["patches"]))
    if not rows:
        return None
    most = max(map(len, rows.values()))
    panels = [panel for own in rows.values() for panel in own + [BLANK] * (most - len(own))]
    return plot.pictures(panels, rows=list(rows))


def _cut(strip: Picture, count: int) -> list[Picture]:
    """Return the pictures of a strip.

    Examples
    --------
    >>> [picture.shape for picture in _cut(np.zeros((4, 10, 3), np.uint8), 2)]
    [(4, 4, 3), (4, 4, 3)]
    """
    side = (strip.shape[1] + _GAP) // count - _GAP
    return [strip[:, i * (side + _GAP) :][:, :side] for i in range(count)]


def _neighbours(work: Work, reading: Arrays, embedding: Arrays) -> Figure:
    """Return images of some classes, each with those nearest to it."""
    data = work.split.data
    labels, first = np.unique(reading["labels"], return_index=True)
    names = [label_name(work.subject.classes, c) for c in labels]
    panels: list[Any] = []
    titles: list[str] = []
    rows = evenly(len(labels), _SHOWN_QUERIES)
    for at in rows:
        near = embedding["near"][first[at]]
        panels += [data.picture(int(reading["indices"][row])) for row in (first[at], *near)]
        titles += ["image", *(f"distance {number_text(float(d), 2)}" for d in embedding["distances"][first[at]])]
    return plot.pictures(panels, titles, rows=[names[at] for at in rows])
