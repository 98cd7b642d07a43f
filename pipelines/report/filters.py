"""The filter visualization's page: every part made or read, turned into views, written with its tables beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

import interpnet
from interpnet.datasets import ImageData, stack_images
from interpnet.engine import Site
from interpnet.errors import ModelError
from interpnet.pictures import Filters, activation_maps, filter_sheet, filters, map_sheet, picture_plane, plot_embedding
from interpnet.plotting import Picture, enlarge, render

from ..filters.parts import Arrays
from ..filters.work import Work, evenly
from ..run.session import Notes
from .audited import DATA_FACTS, MODEL_FACTS, Rows, fact_rows, short_name
from .charts import Chart, make_chart
from .load import clean
from .numbers import number_text
from .page import write_page
from .pictures import data_uri
from .tables import write_csv
from .views import Shot

PAGE = "filters.html"
_CONVOLUTIONS, _FILTERS, _PLANES = 12, 96, 24
_MAXIMISED, _MAP, _IMAGE, _THUMB = 160, 112, 128, 44
_EXAMPLES, _IN_PLANE = 2, 400
_PLANE_AXES = 2
_TEN, _THOUSAND = 10, 1000
_SHEET_CHANNELS = 64
_PAGE_DARK = 24  # lines between images, on a white page and on a dark one
_MODEL_FACTS = {key: label for key, label in MODEL_FACTS.items() if key not in {"n_layers", "n_channels"}}


@dataclass(frozen=True)
class Sheet:
    """A picture of many tiles with the words below it; ``width`` in CSS pixels."""

    name: str
    source: str
    width: int
    caption: str
    alt: str


@dataclass(frozen=True)
class UnitRow:
    """A channel: where it lies, its average and patches, the picture that raises it most, its maps."""

    label: str
    facts: str
    mean: str
    patches: str
    n_patches: int
    picture: str
    silent: bool
    raised: str
    maps: tuple[str, ...]


@dataclass(frozen=True)
class LayerView:
    """A layer's channels."""

    name: str
    facts: str
    rows: tuple[UnitRow, ...]
    sheet: Sheet | None


@dataclass(frozen=True)
class QueryView:
    """An image with its nearest neighbours."""

    name: str
    image: Shot
    near: tuple[Shot, ...]


def build_filters_report(folder: Path, work: Work, notes: Notes) -> Path:
    """Make what is not there yet and write ``report/filters.html`` with its tables.

    Parameters
    ----------
    folder : Path
        The run folder.
    work : Work
        Makes the parts, or finds them made.
    notes : Notes
        Receives what a reader should know.

    Returns
    -------
    Path
        The page: one file, the same for the same inputs and seed.
    """
    report = folder / "report"
    found = work.embedding()
    if len(found["indices"]) < len(work.images):
        lost = len(work.images) - len(found["indices"])
        notes.add(f"{lost} of {len(work.images)} images cannot be read and are left out.")
    examples = [int(found["indices"][i]) for i in _examples(found)]
    sheets = _filter_sheets(work, found, notes)
    layers = tuple(_layer(work, site, examples) for site in work.layers)
    default = len(work.subject.trace.select("default"))
    if work.subject.config.layers == ("default",) and len(work.layers) < default:
        notes.add(f"Shown are {len(work.layers)} of {default} default layers, evenly spread; --layers names others.")
    classes, n_classes = _classes(work)
    chart, plane = _map(work, found, report, notes)
    queries = _queries(work, found, notes)
    write_page(
        report / PAGE,
        "filters.html.j2",
        styles=("page.css", "filters.css"),
        title=f"{short_name(work.subject.config.model)} on {short_name(work.subject.config.data)}",
        version=interpnet.__version__,
        cards=_cards(work, found),
        notes=[clean(text) for text in notes.texts],
        sheets=sheets,
        layers=layers,
        examples=[_shot(work, i, _IMAGE, clean(work.split.data.name(i))) for i in examples],
        classes=classes,
        n_classes=n_classes,
        charts={} if chart is None else {"filters_embedding": chart},
        plane=plane,
        queries=queries,
        embedding={"layer": str(found["layer"]), "dimensions": int(found["dimensions"]), "n": len(found["labels"])},
        settings=work.settings,
        files=_tables(work, found, report) + ([] if chart is None else [chart.file]),
    )
    return report / PAGE


def _cards(work: Work, found: Arrays) -> list[tuple[str, Rows]]:
    described = work.subject.describe()
    settings, config = work.settings, work.subject.config
    right = float(np.mean(found["labels"] == found["predictions"]))
    made = [
        ("Images looked at", f"{len(found['labels']):,} of the {settings.split} split, balanced over classes"),
        ("Recognised", f"{100 * right:.1f} %"),
        ("Steps", f"{settings.steps} of gradient ascent"),
        ("L2", f"{settings.l2:g} of the distance to grey a step"),
        ("Seed", str(config.seed)),
        ("InterpNet", interpnet.__version__),
    ]
    return [
        ("Model", fact_rows(described["model"], _MODEL_FACTS)),
        ("Images", fact_rows(described["data"][settings.split], DATA_FACTS)),
        ("Pictures", made),
    ]


def _examples(found: Arrays) -> list[int]:
    """Return rows of the embedding to draw maps of: recognised images of different classes, if there are."""
    right = np.flatnonzero(found["labels"] == found["predictions"])
    rows = right if len(right) else np.arange(len(found["labels"]))
    _, first = np.unique(found["labels"][rows], return_index=True)
    return [int(rows[first[i]]) for i in evenly(len(first), _EXAMPLES)]


def _filter_sheets(work: Work, found: Arrays, notes: Notes) -> list[Sheet]:
    subject = work.subject
    image = stack_images(work.split.data, [int(found["indices"][0])]).to(subject.device)
    try:
        banks = list(filters(subject.model, image).values())
    except ModelError as error:
        notes.add(f"No filters are shown: {error}.")
        return []
    chosen = [banks[i] for i in evenly(len(banks), _CONVOLUTIONS)]
    if len(chosen) < len(banks):
        notes.add(f"Shown are the filters of {len(chosen)} of {len(banks)} convolutions, evenly spread.")
    return [_filter_sheet(bank) for bank in chosen]


def _filter_sheet(bank: Filters) -> Sheet:
    n, c, height, width = bank.weights.shape
    sheet = filter_sheet(bank, most=_FILTERS if bank.first or c == 1 else _PLANES, planes=_PLANES)
    facts = f"{n} filters of {height}×{width} over {c} input channel{'s' if c > 1 else ''}"
    if bank.groups > 1:
        facts += f" ({bank.groups} groups)"
    if max(bank.stride) > 1:
        facts += f", stride {max(bank.stride)}"
    shown = ""
    if bank.rgb or c == 1:
        shown = f" Shown: the first {_FILTERS}." if n > _FILTERS else ""
    else:
        shown = f" A row is a filter, a column an input channel; the first {min(n, _PLANES)} × {min(c, _PLANES)}."
    return Sheet(clean(bank.layer), data_uri(sheet), sheet.shape[1], f"{facts}.{shown}", f"filters of {bank.layer}")


def _layer(work: Work, site: Site, examples: list[int]) -> LayerView:
    patches = work.patches(site)
    columns = [int(c) for c in patches["channels"]]
    raised = work.maximised(site, columns) if columns else {}
    maps = _maps(work, site, examples)
    rows = tuple(_unit(work, site, i, c, patches, raised, maps, examples) for i, c in enumerate(columns))
    size = f"{site.channels} channels" + (f" of {'×'.join(map(str, site.map_shape))}" if site.map_shape else "")
    dead = "" if columns else "; no channel answered to any image"
    sheet = None
    if maps is not None:
        picture = map_sheet(maps[0], most=_SHEET_CHANNELS, size=_THUMB)
        shown = min(len(maps[0]), _SHEET_CHANNELS)
        sheet = Sheet(
            clean(site.name), data_uri(picture), picture.shape[1],
            f"Channels 0 to {shown - 1} of {site.channels}, row by row, each on its own scale.",
            f"activation maps of {site.name}",
        )  # fmt: skip
    return LayerView(clean(site.name), f"{site.kind}, {size}{dead}", rows, sheet)


def _maps(work: Work, site: Site, examples: list[int]) -> npt.NDArray[np.float32] | None:
    """Return the layer's maps of the example images; ``None`` where they have no two axes."""
    if len(site.map_shape) != _PLANE_AXES or min(site.map_shape) == 1:
        return None
    subject = work.subject
    batch = stack_images(work.split.data, examples).to(subject.device)
    return activation_maps(subject.model, batch, site.name, output=subject.output, trace=subject.trace)


def _unit(
    work: Work,
    site: Site,
    i: int,
    column: int,
    patches: Arrays,
    raised: Arrays,
    maps: npt.NDArray[np.float32] | None,
    examples: list[int],
) -> UnitRow:
    field = " × ".join(map(str, patches[f"field{i}"].tolist()))
    sees = "sees the whole image" if patches["whole"][i] else f"sees {field} px"
    shown: tuple[str, ...] = ()
    if maps is not None:
        own = maps[:, column]
        # One scale for both images, so that they can be compared.
        high = float(own.max())
        low, top = (min(0.0, float(own.min())), high) if high > 0 else (None, None)
        shown = tuple(
            data_uri(render(m, work.split.data.picture(e), size=_MAP, vmin=low, vmax=top))
            for m, e in zip(own, examples, strict=True)
        )
    return UnitRow(
        label=f"{clean(site.name)}[{column}]",
        facts=f"{sees}; average of {int(patches['counts'][i])}",
        mean=data_uri(patches[f"mean{i}"]),
        patches=data_uri(patches[f"strip{i}"]),
        n_patches=int(patches[f"patches{i}"]),
        picture=data_uri(enlarge(raised["pictures"][i], _MAXIMISED)),
        silent=bool(raised["silent"][i]),
        raised=_raised(raised, i),
        maps=shown,
    )


def _raised(made: Arrays, i: int) -> str:
    return f"{_short_number(made['start'][i])} → {_short_number(made['activations'][i])}"


def _short_number(value: float) -> str:
    digits = 2 if abs(value) < _TEN else 0 if abs(value) >= _THOUSAND else 1
    return number_text(round(float(value), digits) + 0.0, digits)


def _classes(work: Work) -> tuple[list[Shot], int]:
    """Return the maximised pictures of some of the data's classes, and how many classes the data has."""
    outputs = work.split.outputs.tolist()
    chosen = [outputs[i] for i in evenly(len(outputs), work.settings.max_classes)]
    if not chosen:
        return [], len(outputs)
    made = work.maximised_classes(chosen)
    shots = [
        Shot(
            clean(work.subject.classes[c]), f"logit {_raised(made, i)}",
            data_uri(enlarge(made["pictures"][i], _MAXIMISED)), bool(made["silent"][i]),
        )
        for i, c in enumerate(chosen)
    ]  # fmt: skip
    return shots, len(outputs)


def _map(work: Work, found: Arrays, report: Path, notes: Notes) -> tuple[Chart | None, Sheet | None]:
    """Return the map of the embedding: as marks by class, and as the images themselves."""
    if not len(found["points"]):
        notes.add(f"There is no map of the embedding: {found['why']}.")
        return None, None
    figure = plot_embedding(
        found["points"], found["labels"], [clean(c) for c in work.subject.classes], predictions=found["predictions"]
    )
    alt = f"t-SNE map of {len(found['labels'])} images by class; the points are in embedding.csv"
    chart = make_chart(figure, "filters_embedding", alt, report)
    rows = evenly(len(found["indices"]), _IN_PLANE)
    thumbs = [_picture(work.split.data, int(found["indices"][r]), _THUMB - 2) for r in rows]
    plane, cells = picture_plane(found["points"][rows], thumbs, thumb=_THUMB, background=_PAGE_DARK)
    some = f"{len(rows)} of the {len(found['indices'])} images" if len(rows) < len(found["indices"]) else "The images"
    caption = f"{some} themselves, each in the free place nearest to its point in the map above."
    return chart, Sheet(
        "", data_uri(_on_the_page(plane, cells)), plane.shape[1], caption, "the images laid out by the map"
    )


def _on_the_page(plane: Picture, cells: npt.NDArray[np.int64]) -> Picture:
    """Return a plane of pictures with its empty cells transparent: on a dark page they are dark."""
    used = np.zeros((plane.shape[0] // _THUMB, plane.shape[1] // _THUMB), np.uint8)
    used[cells[:, 0], cells[:, 1]] = 255
    alpha = used.repeat(_THUMB, 0).repeat(_THUMB, 1)
    return np.concatenate([plane, alpha[..., None]], 2)


def _queries(work: Work, found: Arrays, notes: Notes) -> list[QueryView]:
    """Return one image each of some classes with its nearest neighbours."""
    near, distances = found["near"], found["distances"]
    if not near.shape[1]:
        notes.add("There are no nearest images: the data has a single image.")
        return []
    if near.shape[1] < work.settings.neighbours:
        notes.add(f"Each image has {near.shape[1]} neighbours only: there are {len(near)} images.")
    labels, first, sizes = np.unique(found["labels"], return_index=True, return_counts=True)
    views = []
    for at in evenly(len(labels), max(1, work.settings.max_classes)):
        row = int(first[at])
        shots = tuple(
            # Of a class with a single image every neighbour is of another: that says nothing.
            _neighbour(work, found, int(other), float(distance), odd=sizes[at] > 1 and labels[at] != own)
            for other, distance, own in zip(near[row], distances[row], found["labels"][near[row]], strict=True)
        )
        name = _class_name(work, int(labels[at]))
        index = int(found["indices"][row])
        file = clean(PurePath(work.split.data.name(index)).name)
        views.append(QueryView(name, _shot(work, index, _IMAGE, name, f"the image: {file}"), shots))
    return views


def _neighbour(work: Work, found: Arrays, row: int, distance: float, *, odd: bool) -> Shot:
    name = _class_name(work, int(found["labels"][row]))
    caption = f"distance {number_text(distance)}" + (", another class" if odd else "")
    return _shot(work, int(found["indices"][row]), _IMAGE, name, caption)


def _class_name(work: Work, c: int) -> str:
    return clean(work.subject.classes[c]) if 0 <= c < len(work.subject.classes) else "no label"


def _picture(data: ImageData, index: int, size: int) -> Picture:
    return enlarge(data.picture(index), size)


def _shot(work: Work, index: int, size: int, title: str, caption: str = "") -> Shot:
    return Shot(title, caption, data_uri(_picture(work.split.data, index, size)))


def _tables(work: Work, found: Arrays, report: Path) -> list[str]:
    """Write the map and the neighbours of every image as CSV; return the files' names."""
    data, n = work.split.data, len(found["indices"])
    names = [clean(data.name(int(i))) for i in found["indices"]]
    told = [[_class_name(work, int(c)) for c in found[which]] for which in ("labels", "predictions")]
    points: Any = found["points"].tolist() or [(None, None)] * n
    write_csv(
        report / "embedding.csv",
        ("index", "image", "class", "predicted", "tsne_x", "tsne_y"),
        [(int(i), names[r], told[0][r], told[1][r], *points[r]) for r, i in enumerate(found["indices"])],
    )
    write_csv(
        report / "neighbours.csv",
        ("image", "class", "rank", "neighbour", "its_class", "distance"),
        [
            (names[r], told[0][r], rank, names[other], told[0][other], float(distance))
            for r in range(n)
            for rank, (other, distance) in enumerate(zip(found["near"][r], found["distances"][r], strict=True), 1)
        ],
    )
    return ["embedding.csv", "neighbours.csv"]
