"""Figures of single images and single channels: explanations, average visualizations, maximised pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from interpnet.errors import DataError
from interpnet.explanation import AverageVisualization, Explanation
from interpnet.pictures import Maximised
from interpnet.plot._grid import Cell, grid
from interpnet.plotting import Picture, enlarge, render, style
from interpnet.support.checks import check_kinds, listed, real_array, whole_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIDE = 240  # pixels
_PATCHES = 8  # of a channel


def explanation(found: Explanation, images: Any, classes: Sequence[str] = (), *, most: int = 6) -> Figure:
    """Draw an explanation: for each image the picture, the combined map, and the map of each channel with its response.

    ``images`` (B, C, H, W) are those explained, for display: in [0, 1]. The first ``most`` are drawn.
    """
    check_kinds(explanation, locals(), but=("images",))
    whole_number(most, "most", least=1)
    shown = real_array(images, "images", error=DataError)
    if shown.ndim != 4 or len(shown) != len(found.classes):
        raise DataError(f"images have shape {shown.shape}; expected (B, C, H, W) of the {len(found.classes)} explained")
    cells = []
    names = []
    table = []
    columns = found.heatmaps.shape[1]
    for i in range(min(most, len(shown))):
        c = int(found.classes[i])
        names.append(classes[c] if c < len(classes) else f"class {c}")
        confidence = f"p = {float(found.confidences[i]):.2f}"
        cells += [
            Cell(enlarge(shown[i], _SIDE), "image", confidence),
            Cell(render(_array(found.combined[i]), shown[i], size=_SIDE), "all channels"),
        ]
        for k in range(columns):
            if k < len(found.channels[i]):
                channel = found.channels[i][k]
                response = found.responses[i][k]
                drawn = render(_array(found.heatmaps[i, k]), shown[i], size=_SIDE)
                cells.append(Cell(drawn, f"{style.plain(channel.layer, 14)}[{channel.index}]", f"{response:.3g}"))
                table.append((i, names[-1], str(channel), float(response)))
            else:
                cells.append(_nothing())
    figure = grid(cells, 2 + columns, 1.45, rows=[style.plain(name, 20) for name in names])
    return style.with_data(figure, ("image", "class", "channel", "response"), table)


def average(found: AverageVisualization | Mapping[Any, AverageVisualization]) -> Figure:
    """Draw average visualizations (Oramas et al. 2019): a row for each channel, the average and the crops it is of."""
    check_kinds(average, locals())
    rows = [found] if isinstance(found, AverageVisualization) else listed(found.values(), "found", error=DataError)
    if not rows:
        raise DataError("found is empty; expected at least one average visualization")
    for row in rows:
        check_kinds(average, {"found": row})
    most = min(_PATCHES, max(len(row.crops) for row in rows))
    cells: list[Cell] = []
    for row in rows:
        crops = [Cell(enlarge(crop, 128)) for crop in row.crops[:most]]
        cells += [Cell(enlarge(row.mean, 128), f"mean of {row.count}"), *crops, *[_nothing()] * (most - len(crops))]
    names = [f"{style.plain(row.channel.layer, 22)}[{row.channel.index}]" for row in rows]
    figure = grid(cells, 1 + most, 0.95, rows=names)
    table = [(str(row.channel), row.count, row.shared, row.survives) for row in rows]
    return style.with_data(figure, ("channel", "images", "correlation", "survives"), table)


def maximised(found: Maximised, names: Sequence[str] = (), *, columns: int = 6) -> Figure:
    """Draw the pictures that units answer to most, with the value that each reaches; ``names`` are the units'."""
    check_kinds(maximised, locals())
    whole_number(columns, "columns", least=1)
    labels = list(names) or [f"class {t}" if isinstance(t, int | np.integer) else str(t) for t in found.targets]
    if len(labels) != len(found.targets) or not labels:
        raise DataError(f"{len(labels)} names came for {len(found.targets)} units; expected as many, and at least one")
    cells = [
        Cell(enlarge(picture, 192), label, "no gradient" if silent else f"reaches {value:.3g}")
        for picture, label, silent, value in zip(found.pictures, labels, found.silent, found.reached, strict=True)
    ]
    figure = grid(cells, min(columns, len(cells)), 1.45)
    table = zip(labels, found.reached.tolist(), found.start.tolist(), found.steps.tolist(), strict=True)
    return style.with_data(figure, ("unit", "reached", "start", "steps"), table)


def _array(tensor: Any) -> Any:
    return tensor.detach().cpu().float().numpy()


def _nothing() -> Cell:
    white: Picture = np.full((8, 8, 3), 255, np.uint8)
    return Cell(white)
