"""Figures of measures of maps, of shortcuts and their repair, and of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from interpnet.errors import InterpNetError
from interpnet.evaluate import ParameterRandomisation, Score
from interpnet.models import History
from interpnet.plot._rows import Row, draw_rows, new_rows, table_of
from interpnet.plotting import style
from interpnet.shortcuts import Findings, Repair
from interpnet.support.checks import check_kinds, shown, whole_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = (style.BLUE, style.VERMILLION, style.GREEN, style.ORANGE, style.SKY, style.PURPLE)
_MARKS = ("o", "s", "^", "D")


def measures(found: Score | Mapping[str, Score]) -> Figure:
    """Draw the mean of a measure for each map, with its 95 % interval over the images, and the controls hollow.

    ``found``: one score, or scores of the same measure by the names of the methods.
    """
    scores = _scores(found)
    first = next(iter(scores.values()))
    rows = [Row(name, one.mean, *one.interval()) for name, one in scores.items()]
    for name, control in first.controls.items():
        rows.append(Row(f"control: {name}", control.mean, *control.interval(), strong=False))
    with style.house_style():
        figure, (axes,) = new_rows(len(rows))
        draw_rows(axes, rows, f"{first.name.replace('_', ' ')} ({first.direction})")
    return style.with_data(figure, *table_of(rows))


def curves(found: Score | Mapping[str, Score]) -> Figure:
    """Draw the curve that a measure sums up, mean over the images, for each method: deletion, insertion, overlap.

    A score without a curve over thresholds is an InterpNetError.
    """
    scores = _scores(found)
    drawn = {}
    for name, one in scores.items():
        if one.curve is None or one.thresholds is None:
            raise InterpNetError(f"{one.name} of {name!r} has no curve; expected a measure such as deletion")
        drawn[name] = (one.thresholds.cpu().double().numpy(), one.curve.cpu().double().mean(0).numpy())
    first = next(iter(scores.values()))
    with style.house_style():
        figure = style.new_figure(5.6, 3.6)
        axes = figure.subplots()
        for i, (name, (at, mean)) in enumerate(drawn.items()):
            look: Any = {"color": _COLOURS[i % len(_COLOURS)], "marker": _MARKS[i // len(_COLOURS) % len(_MARKS)]}
            axes.plot(at, mean, markersize=3.5, markevery=max(1, len(at) // 12), label=style.plain(name, 24), **look)
        axes.set(xlabel=f"threshold or share of pixels of {first.name.replace('_', ' ')}", ylabel="mean over images")
        axes.grid(visible=True)
        style.plain_legend(figure.legend(loc="outside right upper", fontsize=8.5))
    table = [(name, float(x), float(y)) for name, (at, mean) in drawn.items() for x, y in zip(at, mean, strict=True)]
    return style.with_data(figure, ("map", "threshold", "mean"), table)


def randomisation(found: ParameterRandomisation) -> Figure:
    """Draw how alike maps are to those of networks with random weights, from the last layer downwards."""
    check_kinds(randomisation, locals())
    kinds = {
        "rank correlation": found.spearman,
        "of absolute values": found.spearman_abs,
        "structural similarity": found.ssim,
    }
    at = np.arange(len(found.layers))
    means = {name: _curve(score) for name, score in kinds.items()}
    with style.house_style():
        figure = style.new_figure(6.4, 3.9)
        axes = figure.subplots()
        axes.axhline(0, **style.REFERENCE)
        for i, (name, mean) in enumerate(means.items()):
            axes.plot(at, mean, marker=_MARKS[i], color=_COLOURS[i], markersize=4.5, label=name)
        places = style.spread(len(at), 16)
        names = [style.plain(found.layers[i], 18) for i in places]
        style.label_ticks(axes.xaxis, places, names, rotation=55, ha="right", rotation_mode="anchor", fontsize=8)
        axes.set(ylim=(-1.05, 1.05), xlabel="random from here to the output", ylabel="likeness to the map before")
        axes.grid(visible=True, axis="y")
        figure.legend(loc="outside lower center", ncols=3)
    table = [(layer, *(float(mean[i]) for mean in means.values())) for i, layer in enumerate(found.layers)]
    return style.with_data(figure, ("layer", *means), table)


def _curve(score: Score) -> Any:
    if score.curve is None:
        raise InterpNetError(f"{score.name} has no curve; expected what parameter_randomisation returns")
    return score.curve.cpu().double().mean(0).numpy()


def _scores(found: Any) -> dict[str, Score]:
    scores = {found.name: found} if isinstance(found, Score) else found
    if not isinstance(scores, Mapping) or not scores or not all(isinstance(one, Score) for one in scores.values()):
        raise InterpNetError(f"found is {shown(found)}; expected a Score, or Scores by the names of their maps")
    kinds = {one.name for one in scores.values()}
    if len(kinds) > 1:
        raise InterpNetError(f"found holds the measures {sorted(kinds)}; expected one, of several maps")
    return {str(name): one for name, one in scores.items()}


def shortcuts(found: Findings, *, most: int = 30) -> Figure:
    """Draw how much of each class goes with a part of the image that is not its subject, the most suspicious first.

    The part is that named beside the class; bars are 95 % intervals, the tick is what 98 % of classes without a
    shortcut stay below. Filled marks are suspicious.
    """
    check_kinds(shortcuts, locals())
    whole_number(most, "most", least=1)
    rows = [
        Row(f"{style.plain(c.name, 18)}: {style.plain(c.part, 14)}", c.share, c.low, c.high, c.usual, c.suspicious)
        for c in found.classes[:most]
    ]
    with style.house_style():
        figure, (axes,) = new_rows(len(rows))
        if rows:
            draw_rows(axes, rows, "share of the log-odds that goes with the part", usual="usual without a shortcut")
            figure.legend(loc="outside lower center")
        else:
            style.empty_axes(axes, "no class was studied")
    table = [
        (c.name, c.part, c.share, c.low, c.high, c.usual, c.suspicious, c.raised, c.raised_before)
        for c in found.classes
    ]
    header = ("class", "part", "share", "low", "high", "usual", "suspicious", "raised", "raised_before")
    return style.with_data(figure, header, table)


def repair(found: Repair) -> Figure:
    """Draw what a repair did: the images right as they are, and with their suspicious part exchanged."""
    check_kinds(repair, locals())
    ways = {"before": found.before, "after": found.after}
    if found.control is not None:
        ways["control: no exchange"] = found.control
    names = list(ways)
    with style.house_style():
        figure, panels = new_rows(len(names), 6.8, 2)
        for axes, key, label in zip(
            panels, ("clean", "exchanged"), ("images as they are", "with another's part"), strict=True
        ):
            rows = [Row(n, 100 * getattr(ways[n], key), strong=n == "after") for n in names]
            draw_rows(axes, rows, f"{label}: right (%)")
            axes.margins(x=0.15)
        panels[1].tick_params(labelleft=False)
    table = [(name, one.clean, one.exchanged, one.worst, one.n) for name, one in ways.items()]
    return style.with_data(figure, ("network", "clean", "exchanged", "worst_class", "images"), table)


def training(found: History) -> Figure:
    """Draw a training: loss and accuracy of each pass over the images."""
    check_kinds(training, locals())
    at = np.arange(1, len(found.epochs) + 1)
    with style.house_style():
        figure = style.new_figure(6.4, 2.9)
        panels = figure.subplots(1, 2)
        losses = [epoch.loss for epoch in found.epochs]
        right = [100 * epoch.accuracy for epoch in found.epochs]
        for axes, values, label in zip(panels, (losses, right), ("loss (nats)", "images right (%)"), strict=True):
            axes.plot(at, values, "o-", color=style.BLUE, markersize=4)
            axes.set(xlabel="epoch", ylabel=label)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(visible=True)
    table = [(i, e.loss, e.accuracy, e.seconds) for i, e in enumerate(found.epochs, 1)]
    return style.with_data(figure, ("epoch", "loss", "accuracy", "seconds"), table)
