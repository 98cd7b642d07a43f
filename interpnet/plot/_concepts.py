"""Figures of concepts: what channels detect, what moves a class, what can be read off a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from interpnet.concepts import Dissection, ProbeResult, Strongest, TcavResult
from interpnet.errors import DataError
from interpnet.plot._grid import Cell, grid
from interpnet.plot._rows import Row, draw_rows, new_rows
from interpnet.plotting import outline, style
from interpnet.support.checks import check_kinds, one_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = (style.BLUE, style.ORANGE, style.GREEN, style.VERMILLION, style.SKY, style.PURPLE)
_PANELS = 6  # targets of probes
_LEVEL = 0.05


def dissection(found: Dissection) -> Figure:
    """Draw how many channels of each layer have a name, by the category of their best concept (Bau et al. 2017)."""
    check_kinds(dissection, locals())
    layers = found.layers()
    categories = sorted(set(found.categories))
    with style.house_style():
        figure, (axes,) = new_rows(len(layers))
        rows = np.arange(len(layers))
        left = np.zeros(len(layers))
        for i, category in enumerate(categories):
            share = np.array([100 * layer.categories.get(category, 0) / layer.channels for layer in layers])
            colour = _COLOURS[i % len(_COLOURS)]
            hatch = "" if i < len(_COLOURS) else "//"
            axes.barh(rows, share, left=left, height=0.7, color=colour, hatch=hatch, label=style.plain(category, 22))
            left += share
        axes.set_ylim(len(layers) - 0.4, -0.6)
        # Where no channel has a name, an axis that ends at zero has no length.
        axes.set_xlim(0, max(5.0, 1.08 * float(left.max(initial=0))))
        axes.set_xlabel("channels with a name (%)")
        shown = style.spread(len(layers), 48)
        style.label_ticks(axes.yaxis, shown, [style.plain(layers[i].layer, 30) for i in shown], fontsize=8.5)
        style.row_lines(axes, frame=True)
        style.plain_legend(figure.legend(loc="outside right upper", fontsize=8.5))
    header = ("layer", "channels", "named", *categories)
    table = [(one.layer, one.channels, one.named, *(one.categories.get(c, 0) for c in categories)) for one in layers]
    return style.with_data(figure, header, table)


def tcav(found: TcavResult, *, by: str = "effect") -> Figure:
    """Draw what moving along concepts does to the class, at each layer, beside random sets (Kim et al. 2018).

    ``by="effect"``: log-odds for one standard deviation; ``"score"``: the share of images that it raises. Bars are
    95 % intervals; hollow marks are concepts that the vectors do not separate, or that random sets match. The tick is
    the random sets' mean.
    """
    check_kinds(tcav, locals())
    one_of(by, "by", ("effect", "score"))
    effect = by == "effect"
    values, ends, p_values, usual = (
        (found.effect, found.effect_interval, found.effect_p_value, found.random_effect)
        if effect
        else (found.score, found.interval, found.p_value, found.random_score)
    )
    clear = found.separates & (p_values <= _LEVEL)
    rows = []
    for k, concept in enumerate(found.concepts):
        for i, layer in enumerate(found.layers):
            name = concept
            if len(found.layers) > 1:
                name = f"{style.plain(concept, 18)}, {style.plain(layer, 20)}"
            low, high = ends[k, i].tolist()
            # With against= there is no random set.
            random = float(np.mean(usual[i])) if usual.shape[1] else float("nan")
            rows.append(Row(name, float(values[k, i]), low, high, random, bool(clear[k, i])))
    label = "change of log-odds for 1 standard deviation" if effect else "share of images raised"
    with style.house_style():
        figure, (axes,) = new_rows(len(rows))
        draw_rows(axes, rows, label, reference=0.0 if effect else 0.5, usual="random sets")
        figure.legend(loc="outside lower center")
    header = ("concept", "layer", by, "low", "high", "random", "p", "separates")
    places = [(k, i) for k in range(len(found.concepts)) for i in range(len(found.layers))]
    table = [
        (found.concepts[k], found.layers[i], *row[1:5], float(p_values[k, i]), bool(found.separates[k, i]))
        for (k, i), row in zip(places, rows, strict=True)
    ]
    return style.with_data(figure, header, table)


def probe(found: ProbeResult) -> Figure:
    """Draw how well targets can be read off each layer, with 95 % intervals, beside chance and the control task.

    At most six targets are drawn.
    """
    check_kinds(probe, locals())
    count = min(len(found.targets), _PANELS)
    columns = min(count, 3)
    with style.house_style():
        figure = style.new_figure(max(4.6, 3.1 * columns), 1.6 + 2.1 * -(-count // columns))
        panels = list(figure.subplots(-(-count // columns), columns, squeeze=False, sharey=True).flat)
        at = np.arange(len(found.layers))
        for axes in panels[count:]:
            axes.set_visible(False)
        for t, axes in enumerate(panels[:count]):
            low, high = found.interval[t].T
            axes.fill_between(at, 100 * low, 100 * high, color=style.BLUE, alpha=0.25, linewidth=0)
            axes.plot(at, 100 * found.accuracy[t], "o-", color=style.BLUE, markersize=4, label="probe")
            axes.plot(at, 100 * found.control[t], "s--", color=style.VERMILLION, markersize=3.5, label="control task")
            axes.axhline(100 * found.chance[t], **style.REFERENCE, label="most frequent value")
            axes.set_title(style.plain(found.targets[t], 24), parse_math=False)
            shown = style.spread(len(at), 10)
            names = [style.plain(found.layers[i], 20) for i in shown]
            style.label_ticks(axes.xaxis, shown, names, rotation=55, ha="right", rotation_mode="anchor", fontsize=8)
            axes.set(ylim=(-3, 103), ylabel="images read right (%)", xlabel="layer")
            axes.grid(visible=True, axis="y")
            axes.label_outer(remove_inner_ticks=False)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    header = ("target", "layer", "accuracy", "low", "high", "control", "chance")
    table = [
        (
            target,
            layer,
            float(found.accuracy[t, i]),
            *found.interval[t, i].tolist(),
            float(found.control[t, i]),
            float(found.chance[t]),
        )
        for t, target in enumerate(found.targets)
        for i, layer in enumerate(found.layers)
    ]
    return style.with_data(figure, header, table)


def strongest(found: Strongest, *, heading: str = "") -> Figure:
    """Draw the images in which a channel is strongest, dark where its map is not above the threshold.

    Images outside of [0, 1] are a DataError: undo the network's normalisation first.
    """
    check_kinds(strongest, locals())
    if not len(found.numbers):
        raise DataError("found holds no image; expected at least one in which the channel answers")
    inside = (found.maps > found.threshold).cpu().numpy()
    images: Any = found.images.cpu().numpy()
    cells = [
        Cell(outline(image, region, 192), f"image {number}")
        for number, image, region in zip(found.numbers, images, inside, strict=True)
    ]
    figure = grid(cells, min(6, len(cells)), 1.45, heading=heading)
    share = inside.reshape(len(inside), -1).mean(1).tolist()
    largest = found.maps.cpu().reshape(len(inside), -1).amax(1).tolist()
    table = zip(found.numbers, largest, share, strict=True)
    return style.with_data(figure, ("image", "largest", "share_above"), table)
