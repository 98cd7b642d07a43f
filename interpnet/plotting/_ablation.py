"""Figures of an ablation study and of the layers' relevance; each function returns a matplotlib ``Figure``.

They need no model and no torch: an ``AblationResult`` or its JSON form does. Nothing here touches
pyplot, so they work without a display and leave the caller's figures alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from interpnet.ablation import (
    CONDITION_LABELS,
    AblationResult,
    Condition,
    as_result,
    by_class,
    find_condition,
    finite_mean,
    interval,
    mean_change,
    others_change,
)
from interpnet.errors import InterpNetError
from interpnet.plotting.style import (
    BLUE,
    CONDITION_COLOURS,
    GREEN,
    GRID,
    INK,
    MUTED,
    VERMILLION,
    empty_axes,
    house_style,
    label_ticks,
    new_figure,
    plain,
    spread,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SCOPES = (("all", -0.14, "o", "channels of all layers"), ("conv", 0.18, "s", "convolutional layers only"))


def plot_ablation(result: Any) -> Figure:
    """Draw what each removal does to the class itself and to the other classes.

    Left: mean recall of a class without its channels, a dashed line where the intact network is.
    Right: change in the mean recall of the other classes. Whiskers are 95 % intervals over repeats.

    Parameters
    ----------
    result : AblationResult or dict
        The study, or what its ``to_json`` gives.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InterpNetError
        ``result`` is no ablation result.
    """
    view = as_result(result)
    names = [n for n in CONDITION_LABELS if any(c.name == n for c in view.conditions)]
    names += sorted({c.name for c in view.conditions} - set(names))
    with house_style():
        figure = new_figure(9.2, 1.5 + 0.56 * max(1, len(names)))
        own, others = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        if not names:
            empty_axes(own, "no channel was removed")
            empty_axes(others, "")
            return figure
        intact = view.mean_intact
        for row, name in enumerate(names):
            for scope, offset, marker, _ in _SCOPES:
                condition = find_condition(view, name, scope)
                if condition is not None:
                    _point(own, row + offset, condition.mean_own(), condition.interval_own(), condition, marker, intact)
                    change, ends = mean_change(view, condition)
                    _point(others, row + offset, change, ends, condition, marker, reference=0, signed=True)
        own.axvline(intact, color=INK, linestyle=(0, (4, 3)), linewidth=1.1)
        own.annotate(
            f"intact {intact:.2f}",
            (intact, 1),
            (0, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center" if 0.06 < intact < 0.94 else ("right" if intact > 0.5 else "left"),
            color=INK,
        )
        own.set(xlim=(-0.015, 1.015), xlabel="mean recall of the class itself", ylim=(len(names) - 0.5, -0.6))
        others.axvline(0, color=INK, linestyle=(0, (4, 3)), linewidth=1.1)
        others.set_xlabel("change in the others' mean recall")
        others.margins(x=0.22)
        others.tick_params(labelleft=False)
        label_ticks(own.yaxis, range(len(names)), [CONDITION_LABELS.get(n, n) for n in names])
        for axes in (own, others):
            axes.grid(visible=True, axis="x")
            axes.tick_params(length=0, axis="y")
            axes.spines["left"].set_visible(False)
        _scope_legend(figure, view)
    return figure


def _point(
    axes: Axes,
    y: float,
    value: float,
    ends: tuple[float, float],
    condition: Condition,
    marker: str,
    reference: float,
    *,
    signed: bool = False,
) -> None:
    colour = CONDITION_COLOURS.get(condition.name, MUTED)
    axes.plot(ends, (y, y), color=colour, linewidth=2.4, solid_capstyle="butt")
    face = colour if condition.layers == "all" else "none"
    axes.plot(value, y, marker, color=colour, markerfacecolor=face, markersize=6.5, markeredgewidth=1.6)
    if condition.layers == "all" and np.isfinite(value):
        # Adding zero turns the negative zero of a rounded tiny loss into zero.
        shown = round(value, 2) + 0.0
        text = f"{shown:+.2f}".replace("-", "\N{MINUS SIGN}") if signed and shown else f"{shown:.2f}"
        # On the side away from the reference line, so that the two never print over each other.
        left = value < reference
        edge = min(value, *ends) if left else max(value, *ends)
        shift, side = ((-7, 0), "right") if left else ((7, 0), "left")
        axes.annotate(text, (edge, y), shift, textcoords="offset points", va="center", ha=side, fontsize=9)


def _scope_legend(figure: Figure, view: AblationResult) -> None:
    from matplotlib.lines import Line2D

    scopes = {c.layers for c in view.conditions}
    handles = [
        Line2D([], [], color=MUTED, marker=marker, linestyle="", markerfacecolor=MUTED if s == "all" else "none")
        for s, _, marker, _ in _SCOPES
        if s in scopes
    ]
    labels = [text for s, _, _, text in _SCOPES if s in scopes]
    figure.legend(handles, labels, loc="outside lower center", ncols=2)


def plot_ablation_curve(result: Any) -> Figure:
    """Draw own recall against the number of channels removed, strongest weight first.

    The band is the 95 % interval over random draws of as many channels. Classes that have fewer
    relevant channels stay at their last value or drop out, as the study recorded it.

    Parameters
    ----------
    result : AblationResult or dict
        The study, or what its ``to_json`` gives; it must hold a curve.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InterpNetError
        ``result`` is no ablation result, or was made with ``curve=False``.
    """
    view = as_result(result)
    curve = view.curve
    if curve is None or curve.k.size == 0:
        raise InterpNetError("the ablation result holds no curve; run the study with curve=True")
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    own = [finite_mean(row) for row in curve.own]
    draws = [[finite_mean(draw) for draw in rows] for rows in curve.random]
    bounds = np.array([interval(np.array(row)) for row in draws]).reshape(-1, 2)
    with house_style():
        figure = new_figure(6.4, 3.6)
        axes = figure.subplots()
        axes.axhline(view.mean_intact, color=INK, linestyle=(0, (4, 3)), linewidth=1.1, label="intact")
        if len(draws) == curve.k.size:
            axes.fill_between(curve.k, bounds[:, 0], bounds[:, 1], color=BLUE, alpha=0.25, linewidth=0)
            means = [finite_mean(row) for row in draws]
            axes.plot(curve.k, means, "s-", color=BLUE, markersize=4.5, label="random channels (band: 95 %)")
        axes.plot(curve.k, own, "o-", color=VERMILLION, markersize=5.5, label="by weight, strongest first")
        axes.set_xscale("log", base=2)
        ticks = _log2_ticks(curve.k)
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(ylim=(-0.015, 1.015), xlabel="channels removed for each class, k (log₂ scale)")
        axes.set_ylabel("mean recall of the class itself")
        axes.grid(visible=True)
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def _log2_ticks(k: npt.NDArray[Any]) -> list[float]:
    """Every point of the curve, without one that would print over its predecessor (8 and 9)."""
    ticks: list[float] = []
    for value in k:
        if not ticks or value >= 1.5 * ticks[-1]:
            ticks.append(float(value))
    return ticks


def plot_layer_relevance(
    shares: npt.ArrayLike, layers: Sequence[str], classes: Sequence[str], *, expected: npt.ArrayLike | None = None
) -> Figure:
    """Draw which layers the relevant channels lie in: mean share a layer, and the share for each class.

    Parameters
    ----------
    shares : (C, L) array
        Share of the absolute weight each layer holds for each class; rows sum to 1, or to 0 for a
        class without relevant channels (``Interpretation.layer_relevance()``).
    layers : sequence of L str
        Names in the network's order; the first layer is drawn on top.
    classes : sequence of C str
        Class names.
    expected : (L,) array, optional
        Each layer's share of all channels, drawn as a tick: where relevance would lie if it were
        spread evenly over channels.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InterpNetError
        The shape of ``shares`` is not (number of classes, number of layers).
    """
    table = np.asarray(shares, np.float64)
    if table.shape != (len(classes), len(layers)) or table.size == 0:
        raise InterpNetError(f"shares has shape {table.shape}; expected {(len(classes), len(layers))}, not empty")
    count = len(layers)
    relevant = table[table.sum(1) > 0]
    mean = relevant.mean(0) if len(relevant) else np.zeros(count)
    height = min(11.0, 1.9 + max(0.155, 0.3 - 0.004 * count) * max(count, 4))
    with house_style():
        figure = new_figure(9.2, height)
        bars, image = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1.25))
        rows = np.arange(count)
        bars.barh(rows, mean, height=0.72, color=BLUE, label="share of |weight|, mean over classes")
        if expected is not None:
            even = np.asarray(expected, np.float64)
            bars.plot(even, rows, "|", color=INK, markersize=7, markeredgewidth=1.6, label="share of the channels")
        bars.set(xlabel="share of |weight| (mean over classes)", ylim=(count - 0.5, -0.5))
        bars.set_xlim(left=0)
        bars.grid(visible=True, axis="x")
        bars.tick_params(axis="y", length=0)
        chosen = spread(count, int(height / 0.15))
        label_ticks(bars.yaxis, chosen, [plain(layers[i], 34) for i in chosen], fontsize=8 if count > 24 else 9)
        drawn = image.imshow(table.T, aspect="auto", cmap="Blues", vmin=0, vmax=max(1e-12, float(table.max())))
        drawn.set_interpolation("nearest")
        image.tick_params(labelleft=False, length=0)
        shown = spread(len(classes), 24)
        names = [plain(classes[i], 16) for i in shown]
        if max(map(len, names)) <= 2:
            label_ticks(image.xaxis, shown, names)
        else:
            label_ticks(image.xaxis, shown, names, rotation=55, ha="right", rotation_mode="anchor")
        image.set_xlabel("class")
        for side in image.spines.values():
            side.set_visible(False)
        figure.colorbar(drawn, ax=image, label="share within the class", pad=0.02).outline.set_visible(False)
        if expected is not None:
            figure.legend(loc="outside upper left", ncols=2)
    return figure


def plot_class_recall(result: Any, *, most: int = 40) -> Figure:
    """Draw for every class its own recall intact and without its channels, beside the others' change.

    Parameters
    ----------
    result : AblationResult or dict
        The study, or what its ``to_json`` gives; it needs the condition ``"relevant"``.
    most : int
        With more classes, only those with the largest drop are drawn, in order of the drop.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InterpNetError
        ``result`` is no ablation result, or without the condition ``"relevant"``.
    """
    view = as_result(result)
    condition = find_condition(view, "relevant") or find_condition(view, "relevant", "conv")
    if condition is None:
        raise InterpNetError("the ablation result lacks the condition 'relevant'; run the study again")
    own, others = by_class(condition.own), by_class(others_change(view, condition))
    order = np.arange(len(view.classes))
    if len(order) > most:
        order = np.argsort(np.nan_to_num(own - view.intact, nan=np.inf), kind="stable")[:most]
    rows = np.arange(len(order))
    with house_style():
        figure = new_figure(9.2, 1.6 + 0.26 * len(order))
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        before, after, change = view.intact[order], own[order], others[order]
        left.hlines(rows, before, after, color=GRID, linewidth=3)
        left.plot(before, rows, "o", color=INK, markersize=5, label="intact")
        left.plot(after, rows, "o", color=VERMILLION, markersize=6.5, label="its relevant channels removed")
        for row in rows[~np.isfinite(before)]:
            left.text(0.01, row, "no test images", va="center", color=MUTED, fontsize=8.5)
        left.set(xlim=(-0.02, 1.02), ylim=(len(order) - 0.4, -0.6), xlabel="recall of the class itself")
        right.barh(rows, np.nan_to_num(change), height=0.6, color=GREEN)
        right.axvline(0, color=INK, linewidth=1)
        # The same scale as the left panel's would hide small changes; symmetric ends keep zero in the middle.
        reach = max(0.05, 1.1 * float(np.max(np.abs(np.nan_to_num(change)), initial=0)))
        right.set(xlim=(-reach, reach), xlabel="change in the others' mean recall")
        right.tick_params(labelleft=False)
        label_ticks(left.yaxis, rows.tolist(), [plain(view.classes[i]) for i in order])
        for axes in (left, right):
            axes.grid(visible=True, axis="x")
            axes.tick_params(axis="y", length=0)
            axes.spines["left"].set_visible(False)
        if len(order) < len(view.classes):
            left.set_title(f"the {len(order)} of {len(view.classes)} classes with the largest drop")
        figure.legend(loc="outside lower center", ncols=2)
    return figure
