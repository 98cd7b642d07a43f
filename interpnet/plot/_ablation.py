"""Figures of an ablation study: what each removal costs, by condition, by number of channels, and by class.

They need no model and no torch: an ``AblationResult`` or its JSON form does, what its ``to_json`` gives; anything else
is an InterpNetError. Nothing here touches pyplot, so they work without a display and leave the caller's figures alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from interpnet.ablation import (
    CONDITION_LABELS,
    MEASURES,
    AblationResult,
    Condition,
    as_result,
    by_class,
    curve_intervals,
    find_condition,
    finite_mean,
    mean_change,
    others_change,
)
from interpnet.errors import InterpNetError
from interpnet.plotting import style
from interpnet.support.checks import check_kinds, one_of, whole_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class _Scope(NamedTuple):
    """How a removal is drawn, by the layers that lost channels."""

    below: float  # how far below the row's middle
    mark: str
    fill: Literal["full", "none"]
    label: str


_SCOPES = {
    "all": _Scope(-0.14, "o", "full", "channels of all layers"),
    "conv": _Scope(0.18, "s", "none", "convolutional layers only"),
}

_MEASURE_WORDS = {"recall": "recall", "log_odds": "log-odds", "log_probability": "log-probability"}
# Recall on the left is a level; the others are changes, with their sign.
_FORMS = {"recall": "{:.2f}", "log_odds": "{:+.2f}", "log_probability": "{:+.2f}"}


def ablation(result: Any, *, measure: str = "recall") -> Figure:
    """Draw what each removal does to the class itself and to the other classes (docs/method.md, section 6.1).

    Left: mean recall of a class without its channels, a dashed line where the intact network is; for the measures
    ``"log_odds"`` and ``"log_probability"``, the change of their mean. Right: the change in the images of other
    classes. Whiskers are 95 % intervals over images and draws; in a result of format 1, which has recall alone, over
    repeats.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    one_of(measure, "measure", MEASURES)
    view = as_result(result)
    if measure != "recall" and not all(measure in c.changes for c in view.conditions):
        raise InterpNetError(f"the ablation result holds no {measure!r}; run the study again")
    names = [n for n in CONDITION_LABELS if any(c.name == n for c in view.conditions)]
    # Conditions of a study of the user's own come last.
    names += sorted({c.name for c in view.conditions} - set(names))
    with style.house_style():
        figure, own, others = style.two_panels(1.5 + 0.56 * max(1, len(names)), ratios=(3, 2))
        if not names:
            style.empty_axes(own, "no channel was removed")
            style.empty_axes(others, "")
            return figure
        reference = 0.0
        if measure == "recall":
            reference = view.mean_intact
        for row, name in enumerate(names):
            for layers, scope in _SCOPES.items():
                condition = find_condition(view, name, layers)
                if condition is not None:
                    y = row + scope.below
                    _point(own, y, *_own(condition, measure), condition, reference, _FORMS[measure])
                    _point(others, y, *_others(view, condition, measure), condition, 0, "{:+.2f}")
        own.axvline(reference, **style.REFERENCE)
        words = _MEASURE_WORDS[measure]
        if measure == "recall":
            words = "mean recall"
            # Near the panel's ends the text turns inwards.
            align = np.select([reference <= 0.06, reference >= 0.94], ["left", "right"], "center")
            above: Any = {"xytext": (0, 3), "xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
            own.annotate(f"intact {reference:.2f}", (reference, 1), **above, ha=str(align), color=style.INK)
            own.set(xlim=(-0.015, 1.015), xlabel="mean recall of the class itself")
        else:
            own.set_xlabel(f"change in the class's own {words}")
            own.margins(x=0.22)
        own.set_ylim(len(names) - 0.5, -0.6)
        others.axvline(0, **style.REFERENCE)
        others.set_xlabel(f"change in the others' {words}")
        # Numbers of three decimals would print over each other here.
        others.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
        # Room for the numbers beside the marks.
        others.margins(x=0.22)
        style.label_ticks(own.yaxis, range(len(names)), [_label(view, n) for n in names])
        style.row_lines(own)
        style.row_lines(others)
        studied = [_SCOPES[layers] for layers in _SCOPES if any(c.layers == layers for c in view.conditions)]
        look: Any = {"color": style.MUTED, "linestyle": ""}
        handles = [Line2D([], [], marker=s.mark, fillstyle=s.fill, **look, label=s.label) for s in studied]
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    header = ("removed", "from", measure, "low", "high", "others", "others_low", "others_high")
    table: list[tuple[Any, ...]] = [("intact", "", reference if measure == "recall" else 0.0, *[None] * 5)]
    for condition in view.conditions:
        (own_mean, own_ends), (others_mean, others_ends) = _own(condition, measure), _others(view, condition, measure)
        what = (_label(view, condition.name), _SCOPES[condition.layers].label)
        table.append((*what, own_mean, *own_ends, others_mean, *others_ends))
    return style.with_data(figure, header, table)


def _label(view: AblationResult, name: str) -> str:
    """Return what a reader calls a condition."""
    if name == "relevant" and view.by == "reliance":
        return "relied on (named by InterpNet)"
    return CONDITION_LABELS.get(name, name)


def _own(condition: Condition, measure: str) -> tuple[float, tuple[float, float]]:
    """Return what the left panel shows of a condition, and its interval."""
    if measure == "recall":
        return condition.mean_own(), condition.interval_own()
    effect = condition.changes[measure].own
    return effect.overall(), effect.interval()


def _others(view: AblationResult, condition: Condition, measure: str) -> tuple[float, tuple[float, float]]:
    """Return what the right panel shows of a condition, and its interval."""
    if measure == "recall":
        return mean_change(view, condition)
    effect = condition.changes[measure].others
    return effect.overall(), effect.interval()


def _point(
    axes: Axes, y: float, value: float, ends: tuple[float, float], condition: Condition, reference: float, form: str
) -> None:
    """Draw one mean with its interval and, for removals from all layers, its number in the given form."""
    colour = style.CONDITION_COLOURS.get(condition.name, style.MUTED)
    scope = _SCOPES[condition.layers]
    axes.plot(ends, (y, y), color=colour, linewidth=2.4, solid_capstyle="butt")
    axes.plot(value, y, scope.mark, color=colour, fillstyle=scope.fill, markersize=6.5, markeredgewidth=1.6)
    if condition.layers == "all" and np.isfinite(value):
        # Adding zero turns the negative zero of a rounded tiny loss into zero; a change of nothing has no sign.
        text = form.format(round(value, 2) + 0.0).replace("+0.00", "0.00").replace("-", "\N{MINUS SIGN}")
        # On the side away from the reference line, so that the two never print over each other; a recall near zero has
        # the row's label on that side.
        if value < reference and not (reference > 0 and value < 0.1):
            at = (min(value, *ends), y)
            where: Any = {"xytext": (-7, 0), "ha": "right"}
        else:
            at = (max(value, *ends), y)
            where = {"xytext": (7, 0), "ha": "left"}
        axes.annotate(text, at, textcoords="offset points", va="center", fontsize=9, **where)


def ablation_curve(result: Any) -> Figure:
    """Draw own recall against the number of channels removed, strongest weight first.

    Bands are 95 % intervals over images and draws; in a result of format 1, over random draws of as many channels.
    Classes that have fewer relevant channels stay at their last value or drop out, as the study recorded it. A result
    of a study with ``curve=False`` is an InterpNetError.
    """
    view = as_result(result)
    curve = view.curve
    if curve is None or curve.k.size == 0:
        raise InterpNetError("the ablation result holds no curve; run the study with curve=True")
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    own = [finite_mean(row) for row in curve.own]
    draws = [[finite_mean(draw) for draw in rows] for rows in curve.random]
    named_ends, random_ends = curve_intervals(view)
    label = "by weight, strongest first"
    if view.by == "reliance":
        label = "by reliance, strongest first"
    with style.house_style():
        figure = style.new_figure(6.4, 3.6)
        axes = figure.subplots()
        axes.axhline(view.mean_intact, **style.REFERENCE, label="intact")
        if len(draws) == curve.k.size:
            axes.fill_between(curve.k, *random_ends.T, color=style.BLUE, alpha=0.25, linewidth=0)
            means = [finite_mean(row) for row in draws]
            axes.plot(curve.k, means, "s-", color=style.BLUE, markersize=4.5, label="random channels (bands: 95 %)")
        axes.fill_between(curve.k, *named_ends.T, color=style.VERMILLION, alpha=0.2, linewidth=0)
        axes.plot(curve.k, own, "o-", color=style.VERMILLION, markersize=5.5, label=label)
        axes.set_xscale("log", base=2)
        # Every point of the curve, without one that would print over its predecessor (8 and 9).
        ticks: list[float] = []
        for k in curve.k:
            if not ticks or k >= 1.5 * ticks[-1]:
                ticks.append(float(k))
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(ylim=(-0.015, 1.015), xlabel="channels removed for each class, k (log₂ scale)")
        axes.set_ylabel("mean recall of the class itself")
        axes.grid(visible=True)
        figure.legend(loc="outside lower center", ncols=3)
    header = ("k", "recall", "low", "high", "random", "random_low", "random_high")
    drawn = [(None, None, None)] * len(own)
    if len(draws) == curve.k.size:
        drawn = [(m, *ends) for m, ends in zip(means, random_ends.tolist(), strict=True)]
    rows = zip(curve.k.tolist(), own, named_ends.tolist(), drawn, strict=True)
    return style.with_data(figure, header, [(k, mean, *ends, *more) for k, mean, ends, more in rows])


def class_recall(result: Any, *, most: int = 40) -> Figure:
    """Draw for every class its own recall intact and without its channels, beside the others' change.

    With more than ``most`` classes, only those with the largest drop are drawn, in order of the drop. A result
    without the condition ``"relevant"`` is an InterpNetError.
    """
    check_kinds(class_recall, locals())
    whole_number(most, "most", least=1)
    view = as_result(result)
    condition = find_condition(view, "relevant") or find_condition(view, "relevant", "conv")
    if condition is None:
        raise InterpNetError("the ablation result lacks the condition 'relevant'; run the study again")
    own = by_class(condition.own)
    others = by_class(others_change(view, condition))
    order = np.arange(len(view.classes))
    if view.only is not None:
        order = np.array(view.only)
    studied = len(order)
    if studied > most:
        drop = (own - view.intact)[order]
        # Classes without test images, NaN, have no drop.
        falling = np.argsort(np.nan_to_num(drop, nan=np.inf), kind="stable")
        order = order[falling[: min(most, max(1, int(np.isfinite(drop).sum())))]]
    rows = np.arange(len(order))
    with style.house_style():
        figure, left, right = style.two_panels(1.6 + 0.26 * len(order), ratios=(3, 2))
        before = view.intact[order]
        left.hlines(rows, before, own[order], color=style.GRID, linewidth=3)
        left.plot(before, rows, "o", color=style.INK, markersize=5, label="intact")
        left.plot(own[order], rows, "o", color=style.VERMILLION, markersize=6.5, label="its relevant channels removed")
        for row in rows[~np.isfinite(before)]:
            left.text(0.01, row, "no test images", va="center", color=style.MUTED, fontsize=8.5)
        left.set(xlim=(-0.02, 1.02), ylim=(len(order) - 0.4, -0.6), xlabel="recall of the class itself")
        change = np.nan_to_num(others[order])
        right.barh(rows, change, height=0.6, color=style.GREEN)
        right.axvline(0, color=style.INK, linewidth=1)
        # The same scale as the left panel's would hide small changes; symmetric ends keep zero in the middle.
        reach = max(0.05, 1.1 * float(np.max(np.abs(change), initial=0)))
        right.set(xlim=(-reach, reach), xlabel="change in the others' mean recall")
        style.label_ticks(left.yaxis, rows.tolist(), [style.plain(view.classes[i]) for i in order])
        style.row_lines(left)
        style.row_lines(right)
        if len(order) < studied:
            left.set_title(f"the {len(order)} of {studied} classes with the largest drop")
        figure.legend(loc="outside lower center", ncols=2)
    header = ("class", "recall_intact", "recall_removed", "change_of_others")
    table = [(view.classes[i], float(view.intact[i]), float(own[i]), float(others[i])) for i in order]
    return style.with_data(figure, header, table)
