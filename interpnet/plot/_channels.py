"""Figures of numbers per channel and class: scores, weights, contributions, reliance, stability, and a path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from interpnet.engine import ChannelIndex
from interpnet.errors import DataError, InterpNetError
from interpnet.interpretation import Interpretation
from interpnet.mulasso import BreakPoints, Stability
from interpnet.plotting import style
from interpnet.reliance import Contributions, Reliance
from interpnet.scores import ScoreTable
from interpnet.support.checks import check_kinds, whole_number
from interpnet.support.class_names import class_number
from interpnet.support.types import Float64

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = (style.BLUE, style.VERMILLION, style.GREEN, style.ORANGE, style.SKY, style.PURPLE)
_DASHES = ("-", "--")


def scores(table: ScoreTable, classes: Sequence[str] = (), *, cls: int | str | None = None, most: int = 30) -> Figure:
    """Draw the channels whose scores tell classes apart: the mean score of a class less that of all images.

    A channel's score is the norm of its map over the sum of its layer's (docs/method.md, section 1), so it has no unit.
    ``classes`` are the names of the classes; with ``cls``, or one class, there are bars, else a cell for each class.
    Images with several labels, and a table without labels, are a DataError.
    """
    check_kinds(scores, locals())
    labels = np.asarray(table.labels)
    if labels.ndim != 1 or not len(labels) or labels.min() < 0:
        raise DataError(f"the table has labels of shape {labels.shape}; expected one class for each image, from 0")
    everything = table.channel_means()
    values = np.full((table.n_classes, len(everything)), np.nan)
    for c in np.unique(labels):
        values[c] = table.channel_means(np.flatnonzero(labels == c)) - everything
    names = _names(classes, table.n_classes)
    return _drawn(values, table.channels, names, "mean score less that of all images", cls, most)


def interpretation(found: Interpretation, *, cls: int | str | None = None, most: int = 30) -> Figure:
    """Draw the weights of the channels named for each class, or for ``cls``, the ``most`` largest of all."""
    check_kinds(interpretation, locals())
    what = "weight (mu-lasso)" if found.by == "mu-lasso" else "specific contribution (log-odds)"
    return _drawn(found.coef, found.channels, found.classes, what, cls, most, errors=found.stderr)


def contributions(found: Contributions, *, cls: int | str | None = None, price: float = 1.0, most: int = 30) -> Figure:
    """Draw what channels contribute to a class and to no other, where that is above zero.

    See :meth:`interpnet.reliance.Contributions.specific`, which has a ``price``.
    """
    check_kinds(contributions, locals())
    values = np.maximum(np.nan_to_num(found.specific(price)), 0)
    errors = found.specific_stderr(price)
    return _drawn(values, found.channels, found.classes, "specific contribution (log-odds)", cls, most, errors=errors)


def reliance(found: Reliance, *, cls: int | str | None = None, most: int = 30) -> Figure:
    """Draw the specific contributions of the channels that classes rely on; other channels are left out."""
    check_kinds(reliance, locals())
    relied = np.zeros_like(found.values, dtype=np.bool_)
    for c, (order, size) in enumerate(zip(found.order, found.sizes, strict=True)):
        relied[c, order[:size]] = True
    values = np.where(relied, found.values, 0.0)
    source = found.contributions
    what = "specific contribution (log-odds)"
    return _drawn(values, source.channels, source.classes, what, cls, most, errors=found.stderr)


def stability(
    found: Stability,
    channels: ChannelIndex | None = None,
    classes: Sequence[str] = (),
    *,
    cls: int | str | None = None,
    most: int = 30,
) -> Figure:
    """Draw on which share of the halves each channel was named, for each class or for ``cls``."""
    check_kinds(stability, locals())
    names = _names(classes, len(found.frequency))
    if channels is None:
        channels = ChannelIndex((("channel", found.frequency.shape[1]),))
    return _drawn(found.frequency, channels, names, "share of the halves that name it", cls, most)


def path(found: BreakPoints, channels: ChannelIndex | None = None, *, most: int = 8) -> Figure:
    """Draw the weights of one class along the path of the mu-lasso, of the ``most`` channels with the largest.

    ``found`` is one entry of what :func:`interpnet.mulasso_breakpoints` returns.
    """
    check_kinds(path, locals())
    whole_number(most, "most", least=1)
    weights = found.coef.toarray()
    if channels is not None:
        _require(channels, weights)
    largest = np.abs(weights).max(0)
    order = [int(c) for c in np.argsort(-largest, kind="stable")[:most] if largest[c] > 0]
    names = [_name(channels, c) for c in order]
    with style.house_style():
        figure = style.new_figure(5.6, 3.6)
        axes = figure.subplots()
        axes.axhline(0, color=style.MUTED, linewidth=0.8)
        for i, (c, label) in enumerate(zip(order, map(_short, names), strict=True)):
            look: Any = {"color": _COLOURS[i % len(_COLOURS)], "linestyle": _DASHES[i // len(_COLOURS) % 2]}
            axes.plot(found.mu, weights[:, c], label=label, **look)
        axes.set(xlabel="mu: bound on ‖w‖₁", ylabel="weight")
        axes.grid(visible=True)
        if order:
            style.plain_legend(figure.legend(loc="outside right upper", fontsize=8.5))
    rows = [(float(mu), *weights[e, order].tolist()) for e, mu in enumerate(found.mu)]
    return style.with_data(figure, ("mu", *names), rows)


def _names(classes: Sequence[str], count: int) -> tuple[str, ...]:
    if not classes:
        return tuple(map(str, range(count)))
    if len(classes) != count:
        raise InterpNetError(f"{len(classes)} names came in classes; expected {count}, one for each class")
    return tuple(classes)


def _require(channels: ChannelIndex, values: Float64) -> None:
    if len(channels) != values.shape[1]:
        raise InterpNetError(f"channels holds {len(channels)}; expected {values.shape[1]}, those of the result")


def _name(channels: ChannelIndex | None, column: int) -> str:
    return f"channel {column}" if channels is None else str(channels[column])


def _short(name: str) -> str:
    """Return a channel's name as a figure has room for it; its numbers stand beside the whole one.

    Examples
    --------
    >>> _short("features.denseblock3.denselayer12.conv1[7]")
    'features.den…yer12.conv1[7]'
    """
    layer, bracket, index = name.rpartition("[")
    return f"{style.plain(layer, 24)}[{index}" if bracket else name


def _drawn(
    values: Float64,
    channels: ChannelIndex,
    classes: Sequence[str],
    what: str,
    cls: int | str | None,
    most: int,
    errors: Float64 | None = None,
) -> Figure:
    """Draw values (C, m): bars with standard errors for one class, a cell for each class and channel for several."""
    whole_number(most, "most", least=1)
    _require(channels, values)
    known = np.nan_to_num(values)
    if cls is not None or len(classes) == 1:
        c = 0 if cls is None else class_number(cls, classes)
        order = [int(i) for i in np.argsort(-np.abs(known[c]), kind="stable")[:most] if known[c, i]]
        own = None if errors is None else np.nan_to_num(errors[c, order])
        return _bars(known[c, order], [_name(channels, i) for i in order], f"{what}, {classes[c]}", own)
    order = _strongest(known, most)
    return _cells(values[:, order], [_name(channels, i) for i in order], classes, what)


def _strongest(values: Float64, most: int) -> list[int]:
    """Return columns of large values: each class's largest, then each one's second, in the order of their classes.

    Examples
    --------
    >>> _strongest(np.array([[0.0, 3.0, 1.0], [2.0, 0.0, 0.0]]), 2)
    [1, 0]
    """
    ranked = np.argsort(-np.abs(values), axis=1, kind="stable")
    rows = np.arange(len(values))
    chosen: dict[int, None] = {}
    for rank in range(values.shape[1]):
        # A thousand classes have millions of values, of which few are wanted.
        if len(chosen) >= most or not values[rows, ranked[:, rank]].any():
            break
        for c in rows:
            if len(chosen) < most and values[c, ranked[c, rank]]:
                chosen[int(ranked[c, rank])] = None
    owner = np.abs(values).argmax(0)
    return sorted(chosen, key=lambda i: (owner[i], -np.abs(values[owner[i], i])))


def _bars(values: Float64, names: list[str], what: str, errors: Float64 | None) -> Figure:
    with style.house_style():
        figure = style.new_figure(5.6, 1.1 + 0.2 * max(3, len(values)))
        axes = figure.subplots()
        if not len(values):
            style.empty_axes(axes, "no channel")
        else:
            rows = np.arange(len(values))
            colours = np.where(values > 0, style.BLUE, style.VERMILLION).tolist()
            axes.barh(rows, values, xerr=errors, height=0.7, color=colours, error_kw={"elinewidth": 1.1})
            axes.axvline(0, color=style.INK, linewidth=1)
            axes.set_ylim(len(values) - 0.4, -0.6)
            axes.set_xlabel(style.plain(what, 62), parse_math=False)
            style.label_ticks(axes.yaxis, rows.tolist(), map(_short, names), fontsize=8.5)
            style.row_lines(axes)
    table = [
        (name, float(v), None if errors is None else float(errors[i]))
        for i, (name, v) in enumerate(zip(names, values, strict=True))
    ]
    return style.with_data(figure, ("channel", "value", "standard_error"), table)


def _cells(values: Float64, names: list[str], classes: Sequence[str], what: str) -> Figure:
    width = float(np.clip(3.6 + 0.22 * len(classes), 5.0, 9.2))
    with style.house_style():
        figure = style.new_figure(width, 1.9 + 0.17 * max(10, len(names)))
        axes = figure.subplots()
        if not names:
            style.empty_axes(axes, "no channel")
        else:
            high = float(np.nanmax(np.abs(values), initial=1e-12))
            signed = bool(np.nanmin(values, initial=0) < 0)
            # Red and blue can be told apart with every common colour blindness.
            look: Any = {"cmap": "RdBu", "vmin": -high} if signed else {"cmap": "Blues", "vmin": 0}
            drawn = axes.imshow(values.T, aspect="auto", interpolation="nearest", vmax=high, **look)
            style.label_ticks(axes.yaxis, range(len(names)), map(_short, names), fontsize=8)
            style.class_ticks(axes, classes)
            axes.tick_params(length=0)
            for side in axes.spines.values():
                side.set_visible(False)
            figure.colorbar(drawn, ax=axes, label=what, pad=0.02).outline.set_visible(False)
    table = [(name, *map(float, values[:, i])) for i, name in enumerate(names)]
    return style.with_data(figure, ("channel", *classes), table)
