"""The filter visualization's page: every part made or read, turned into views, written with its tables beside it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

import interpnet
from interpnet import plot
from interpnet.datasets import stack_images
from interpnet.engine import Site
from interpnet.errors import ModelError
from interpnet.explanation import SURVIVES
from interpnet.pictures import Filters, activation_maps, filters, map_sheet, picture_plane
from interpnet.plotting import enlarge, render
from interpnet.support.csv_table import write_csv

from ..filters.naming import FACTS, nameable
from ..filters.parts import Arrays
from ..filters.photographs import Photographs
from ..filters.work import Work, evenly
from ..run.notes import Notes
from .audited import DATA_FACTS, MODEL_FACTS, Rows, fact_rows, short_name
from .charts import Chart, make_chart
from .filter_figures import label_name, write_figures
from .filter_sheets import THUMB, Sheet, on_the_page, sheet, sheet_of_filters
from .load import clean
from .numbers import number_text, percent, with_interval
from .page import write_page
from .photographs import photograph_views
from .pictures import data_uri
from .views import Shot

PAGE = "filters.html"
_CONVOLUTIONS = 12  # of a network, evenly spread
# Sides of pictures in pixels.
_MAXIMISED = 160
_MAP = 112
_IMAGE = 128
# A picture that reaches less of the largest activation on real images does not show what the unit answers to.
_SHOWS = 0.7
# Crops whose mean correlation is less have nothing in common that their average could show.
_IN_COMMON = 0.05
_NAMES = 3  # of a channel
_NO_CONCEPT = "no concept"
_EXAMPLES = 2  # images that maps are drawn of
_IN_PLANE = 400  # images laid out by the map
_SHEET_CHANNELS = 64  # of a layer, with their maps of the first example
_PAGE_DARK = 24  # lines between images, on a white page and on a dark one
# Layers and channels are those of an audit, which reads others.
_MODEL_FACTS = {key: label for key, label in MODEL_FACTS.items() if key not in {"n_layers", "n_channels"}}


#: A part of the page, for the template alone.
View = dict[str, Any]


def build_filters_report(folder: Path, work: Work, notes: Notes, photographs: Photographs | None = None) -> Path:
    """Make what is not there yet and write ``report/filters.html`` with its tables and figures; return the page.

    It is one file, the same for the same inputs and seed. ``notes`` receives what a reader should know.
    """
    return _Page(folder / "report", work, notes, photographs).write()


@dataclass(frozen=True)
class _Page:
    """The page in the making."""

    report: Path
    work: Work
    notes: Notes
    photographs: Photographs | None

    @cached_property
    def found(self) -> Arrays:
        """The images that can be read: labels, predictions and positions, and what was read of them."""
        return self.work.reading()

    @cached_property
    def examples(self) -> list[int]:
        """Images to draw maps of: recognised ones of different classes, if there are."""
        labels = self.found["labels"]
        rows = np.flatnonzero(labels == self.found["predictions"])
        if not len(rows):
            rows = np.arange(len(labels))
        _, first = np.unique(labels[rows], return_index=True)
        return [self._index(rows[first[i]]) for i in evenly(len(first), _EXAMPLES)]

    def write(self) -> Path:
        """Make the parts in the page's order, so that an interruption keeps what a reader sees first."""
        work = self.work
        subject = work.subject
        n = len(self.found["indices"])
        if n < len(work.images):
            self.notes.add(f"{len(work.images) - n} of {len(work.images)} images cannot be read and are left out.")
        sheets = self._filter_sheets()
        layers = [self._layer(site) for site in work.layers]
        default = len(subject.trace.select("default"))
        if subject.config.layers == ("default",) and len(layers) < default:
            self.notes.add(
                f"Shown are {len(layers)} of {default} default layers, evenly spread; --layers names others."
            )
        if work.concepts:
            left = [site.name for site in work.layers if site not in nameable(work.layers)]
            if left:
                self.notes.add(f"Maps that do not lie over the image have no concepts: {clean(', '.join(left))}.")
        if str(self.found["why"]):
            why = clean(str(self.found["why"]))
            self.notes.add(f"Channels are chosen by the spread of their scores, not by what classes rely on: {why}.")
        classes = self._classes()
        charts = self._map()
        plane = self._plane() if charts else None
        queries = self._queries()
        figures = write_figures(work, self._banks, self.report)
        shown = []
        if self.photographs is not None:
            shown = photograph_views(self.photographs, self.report, self.notes)
        write_page(
            self.report / PAGE,
            "filters.html.j2",
            styles=("page.css", "filters.css"),
            title=f"{short_name(subject.config.model)} on {short_name(subject.config.data)}",
            version=interpnet.__version__,
            cards=self._cards(),
            notes=[clean(text) for text in self.notes.texts],
            photographs=shown,
            sheets=sheets,
            layers=layers,
            examples=[self._shot(i, clean(work.split.data.name(i))) for i in self.examples],
            classes=classes,
            n_classes=len(set(work.split.outputs.tolist())),
            charts=charts,
            plane=plane,
            queries=queries,
            embedding={"layer": str(self.found["layer"]), "dimensions": self.found["vectors"].shape[1], "n": n},
            relied=not str(self.found["why"]),
            concepts=clean(subject.config.concepts or ""),
            shows=_SHOWS,
            settings=work.settings,
            files=self._tables() + [chart.file for chart in charts.values()] + figures,
        )
        return self.report / PAGE

    def _cards(self) -> list[tuple[str, Rows]]:
        settings = self.work.settings
        described = self.work.subject.describe({})
        labels = self.found["labels"]
        made = [
            ("Images looked at", f"{len(labels):,} of the {settings.split} split, balanced over classes"),
            ("Recognised", percent(float(np.mean(labels == self.found["predictions"])))),
            ("Steps", f"at most {settings.steps} of gradient ascent, half as many again for classes"),
            ("L2", f"{settings.l2:g} of the distance to grey a step"),
            ("Seed", str(self.work.subject.config.seed)),
            ("InterpNet", interpnet.__version__),
        ]
        return [
            ("Model", fact_rows(described["model"], _MODEL_FACTS)),
            ("Images", fact_rows(described["data"][settings.split], DATA_FACTS)),
            ("Pictures", made),
        ]

    @cached_property
    def _banks(self) -> list[Filters]:
        """The filters of every convolution."""
        subject = self.work.subject
        image = stack_images(self.work.split.data, [self._index(0)]).to(subject.device)
        try:
            return list(filters(subject.model, image).values())
        except ModelError as error:
            self.notes.add(f"No filters are shown: {error}.")
            return []

    def _filter_sheets(self) -> list[Sheet]:
        banks = self._banks
        chosen = [banks[i] for i in evenly(len(banks), _CONVOLUTIONS)]
        if len(chosen) < len(banks):
            self.notes.add(f"Shown are the filters of {len(chosen)} of {len(banks)} convolutions, evenly spread.")
        return [sheet_of_filters(bank) for bank in chosen]

    def _layer(self, site: Site) -> View:
        chosen = self.work.chosen(site)
        columns = [int(c) for c in chosen["columns"]]
        raised = self.work.maximised(site, columns) if columns else {}
        maps = self._maps.get(site.name)
        rows = [self._unit(site, i, chosen, raised, maps) for i in range(len(columns))]
        facts = f"{site.kind}, {site.channels} channels"
        if site.map_shape:
            facts += f" of {'×'.join(map(str, site.map_shape))}"
        if not columns:
            facts += "; no channel answered to any image"
        maps_sheet = None
        if maps is not None:
            picture = map_sheet(maps[0], most=_SHEET_CHANNELS, size=THUMB)
            last = min(len(maps[0]), _SHEET_CHANNELS) - 1
            caption = f"Channels 0 to {last} of {site.channels}, row by row, each on its own scale."
            maps_sheet = sheet(site.name, picture, caption, f"activation maps of {site.name}")
        return {"name": clean(site.name), "facts": facts, "rows": rows, "sheet": maps_sheet}

    @cached_property
    def _maps(self) -> dict[str, npt.NDArray[np.float32]]:
        """The maps of the example images by layer, of those whose maps have two axes."""
        layers = [s.name for s in self.work.layers if len(s.map_shape) == 2 and min(s.map_shape) > 1]
        if not layers:
            return {}
        subject = self.work.subject
        batch = stack_images(self.work.split.data, self.examples).to(subject.device)
        return activation_maps(subject.model, batch, layers, output=subject.output, trace=subject.trace)

    @cached_property
    def _shown(self) -> list[Tensor]:
        """The example images as pictures."""
        return [self.work.split.data.picture(i) for i in self.examples]

    def _unit(self, site: Site, i: int, chosen: Arrays, raised: Arrays, maps: npt.NDArray[np.float32] | None) -> View:
        """Return the ``i``-th of a layer's chosen channels."""
        column = int(chosen["columns"][i])
        patches = self.work.patches(site, column)
        crops = "whole images"
        if not patches["whole"]:
            crops = f"crops of {' × '.join(map(str, patches['field'].tolist()))} px"
        drawn = [] if maps is None else self._drawn(maps[:, column])
        return {
            "label": f"{clean(site.name)}[{column}]",
            "facts": f"average of {int(chosen['n'][i])} {crops}",
            "classes": [
                f"{self._class_name(int(c))} {percent(float(share), 0)}"
                for c, share in zip(chosen["classes"][i], chosen["shares"][i], strict=True)
                if c >= 0
            ],
            "names": self._names(site, column),
            "by_padding": bool(chosen["survives"][i] < SURVIVES),
            # Also where it is not known: for a single crop.
            "in_common": not patches["shared"] < _IN_COMMON,
            "mean": data_uri(patches["mean"]),
            "patches": data_uri(patches["strip"]),
            "n_patches": int(patches["patches"]),
            **_raised(raised, i, float(chosen["largest"][i])),
            "maps": drawn,
        }

    def _names(self, site: Site, column: int) -> list[str]:
        """Return the concepts that name a channel, each with its overlap and the ends of its interval."""
        found = self.work.names(site, column)
        if found is None:
            return []
        names = [
            f"{clean(str(concept))} {with_interval(iou, low, high)}"
            for concept, iou, low, high in zip(*(found[key].tolist() for key in FACTS), strict=True)
        ]
        return names[:_NAMES] or [_NO_CONCEPT]

    def _drawn(self, maps: npt.NDArray[np.float32]) -> list[str]:
        """Return one channel's maps over the example images, on one scale so that they can be compared."""
        scale: dict[str, Any] = {}
        if maps.max() > 0:
            scale = {"vmin": min(0.0, float(maps.min())), "vmax": float(maps.max())}
        return [data_uri(render(m, image, size=_MAP, **scale)) for m, image in zip(maps, self._shown, strict=True)]

    def _classes(self) -> list[View]:
        """Return the maximised pictures of some of the data's classes."""
        # Several folders can be of one output.
        outputs = list(dict.fromkeys(self.work.split.outputs.tolist()))
        chosen = [outputs[i] for i in evenly(len(outputs), self.work.settings.max_classes)]
        if not chosen:
            return []
        made = self.work.maximised_classes(chosen)
        largest = self.found["margins"][chosen]
        views = []
        for i, c in enumerate(chosen):
            raised = _raised(made, i, float(largest[i]))
            views.append({"name": self._class_name(c), **raised})
        return views

    def _map(self) -> dict[str, Chart]:
        """Return the map of the embedding as marks by class."""
        found = self.found
        embedding = self.work.embedding()
        if not len(embedding["points"]):
            self.notes.add(f"There is no map of the embedding: {embedding['why']}.")
            return {}
        names = [clean(c) for c in self.work.subject.classes]
        figure = plot.embedding(embedding["points"], found["labels"], names, predictions=found["predictions"])
        alt = f"t-SNE map of {len(found['labels'])} images by class; the points are in embedding.csv"
        caption = "One mark per image."
        labels = np.asarray(found["labels"])
        if ((labels >= 0) & (labels != np.asarray(found["predictions"]))).any():
            caption += " Ringed or crossed: the network names another class."
        return {"filters_embedding": make_chart(figure, "filters_embedding", alt, self.report, caption)}

    def _plane(self) -> Sheet:
        """Return the map of the embedding as the images themselves."""
        n = len(self.found["indices"])
        rows = evenly(n, _IN_PLANE)
        thumbs = [enlarge(self.work.split.data.picture(self._index(row)), THUMB - 2) for row in rows]
        plane, cells = picture_plane(self.work.embedding()["points"][rows], thumbs, thumb=THUMB, background=_PAGE_DARK)
        some = "The images"
        if len(rows) < n:
            some = f"{len(rows)} of the {n} images"
        caption = f"{some} themselves, each in the free place nearest to its point in the map above."
        return sheet("", on_the_page(plane, cells), caption, "the images laid out by the map")

    def _queries(self) -> list[View]:
        """Return an image of each of some classes with its nearest neighbours."""
        embedding = self.work.embedding()
        near = embedding["near"]
        if not near.shape[1]:
            self.notes.add("There are no nearest images: the data has a single image.")
            return []
        if near.shape[1] < self.work.settings.neighbours:
            self.notes.add(f"Each image has {near.shape[1]} neighbours only: there are {len(near)} images.")
        labels, first, sizes = np.unique(self.found["labels"], return_index=True, return_counts=True)
        views = []
        for at in evenly(len(labels), max(1, self.work.settings.max_classes)):
            row = int(first[at])
            shots = []
            for other, distance in zip(near[row], embedding["distances"][row], strict=True):
                caption = f"distance {number_text(float(distance))}"
                # Of a class with a single image every neighbour is of another: that says nothing.
                if sizes[at] > 1 and labels[at] != self.found["labels"][other]:
                    caption += ", another class"
                shots.append(self._shot(self._index(other), self._label(other), caption))
            file = PurePath(self.work.split.data.name(self._index(row))).name
            image = self._shot(self._index(row), self._label(row), f"the image: {clean(file)}")
            views.append({"name": self._label(row), "image": image, "near": shots})
        return views

    def _index(self, row: int) -> int:
        """Return the position in the data of a row of the embedding."""
        return int(self.found["indices"][row])

    def _label(self, row: int) -> str:
        return self._class_name(int(self.found["labels"][row]))

    def _class_name(self, c: int) -> str:
        return label_name(self.work.subject.classes, c)

    def _shot(self, index: int, title: str, caption: str = "") -> Shot:
        return Shot(title, caption, data_uri(enlarge(self.work.split.data.picture(index), _IMAGE)))

    def _tables(self) -> list[str]:
        """Write the map and the neighbours of every image as CSV; return the files' names."""
        found = self.work.embedding()
        rows = range(len(self.found["indices"]))
        names = [clean(self.work.split.data.name(self._index(row))) for row in rows]
        labels = [self._label(row) for row in rows]
        predicted = [self._class_name(int(c)) for c in self.found["predictions"]]
        points: Any = found["points"].tolist() or [(None, None)] * len(rows)
        write_csv(
            self.report / "embedding.csv",
            ("index", "image", "class", "predicted", "tsne_x", "tsne_y"),
            [(self._index(row), names[row], labels[row], predicted[row], *points[row]) for row in rows],
        )
        neighbours = [
            (names[row], labels[row], rank, names[other], labels[other], float(distance))
            for row in rows
            for rank, (other, distance) in enumerate(zip(found["near"][row], found["distances"][row], strict=True), 1)
        ]
        header = ("image", "class", "rank", "neighbour", "its_class", "distance")
        write_csv(self.report / "neighbours.csv", header, neighbours)
        return ["embedding.csv", "neighbours.csv"]


def _raised(made: Arrays, i: int, largest: float) -> View:
    """Return a maximised picture, and what it reaches beside the largest activation on the images."""
    reached = float(made["reached"][i])
    enough = reached >= largest
    if largest > 0:
        enough = reached >= _SHOWS * largest
    picture = None
    if enough and not made["silent"][i]:
        picture = data_uri(enlarge(made["pictures"][i], _MAXIMISED))
    return {"picture": picture, "reached": _short_number(reached), "largest": _short_number(largest)}


def _short_number(value: float) -> str:
    """Return a number with about three digits."""
    digits = 2 - sum(abs(value) >= size for size in (10, 1000))
    # The sum turns a negative zero into zero.
    return number_text(round(float(value), digits) + 0.0, digits)
