"""The figure of a chosen mu: held-out error, accuracy and number of channels against mu; no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from interpnet.errors import InterpNetError
from interpnet.mulasso import SelectionCurve
from interpnet.plotting import style
from interpnet.plotting.style import BLUE, INK, MUTED, VERMILLION, house_style, new_figure
from interpnet.support.checks import check_kinds
from interpnet.support.types import Float64

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_DASHES = (0, (4, 3))
# Up to so many decades, these multiples of each power of ten are labelled.
_TICKS = ((1.3, (1.0, 2.0, 5.0)), (3.0, (1.0, 3.0)), (np.inf, (1.0,)))


def mu_curve(curve: SelectionCurve) -> Figure:
    """Draw held-out error, accuracy and the number of channels against mu, on a log scale.

    ``curve`` is ``MuLassoCV.curve_``; one without accuracies has two panels. Bands are one standard error of the mean
    over folds. The dotted line is the bound of the one-standard-error rule (Hastie, Tibshirani and Friedman, "The
    Elements of Statistical Learning", section 7.10): the smallest error plus its standard error, which takes the
    smallest mu below it; or, chosen by accuracy, the best allowed accuracy minus its standard error. A dashed level is
    the number of channels that no mu may exceed.
    No radius, curves of another length than the radii, and one chosen mu per class are an InterpNetError.
    """
    check_kinds(mu_curve, locals())
    mus = curve.mus
    known = [curve.error_mean, curve.error_se, curve.channels_mean]
    accuracy = None if curve.accuracy_se is None else curve.accuracy_mean
    if accuracy is not None:
        known.append(accuracy)
    shapes = {values.shape for values in known}
    if shapes != {mus.shape} or mus.ndim != 1 or not len(mus):
        raise InterpNetError(f"the curve has shapes {sorted(map(str, shapes))}; expected {mus.shape}, at least one mu")
    if np.ndim(curve.chosen):
        # The curves are means over the classes, and none of these radii was chosen by them.
        raise InterpNetError(
            f"curve.chosen has shape {np.shape(curve.chosen)}, one mu per class; expected one number: the curves are "
            "means over the classes, so fit MuLassoCV without per_class to draw them"
        )
    with house_style():
        figure = new_figure(9.2, 3.9)
        # A curve without labels has no accuracy, and no panel for it.
        panels = figure.subplots(1, 2 + (accuracy is not None))
        _error(panels[0], mus, curve)
        if accuracy is not None:
            _band(panels[1], mus, 100 * accuracy, 100 * np.asarray(curve.accuracy_se))
            panels[1].set(title="held-out accuracy", ylabel="held-out images (%)")
            if curve.rule == "accuracy":
                _accuracy_bound(panels[1], curve, accuracy)
        panels[-1].plot(mus, curve.channels_mean, "o-", color=BLUE, markersize=3.5)
        panels[-1].set(title="relevant channels", ylabel="channels per class (mean)")
        panels[-1].set_ylim(bottom=0)
        if curve.most is not None:
            panels[-1].axhline(curve.most, color=VERMILLION, linestyle=_DASHES, linewidth=1.1, label="most allowed")
            panels[-1].annotate(
                f"at most {curve.most:.3g}", (mus[0], curve.most), (0, 3), textcoords="offset points", color=MUTED
            )
        for axes in panels:
            _log_axis(axes, mus)
            label = f"chosen: mu = {curve.chosen:.3g}"
            axes.axvline(float(curve.chosen), color=INK, linestyle=_DASHES, linewidth=1.1, label=label)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    header = ["mu", "error", "error_se", "channels"]
    columns = [mus, curve.error_mean, curve.error_se, curve.channels_mean]
    if accuracy is not None:
        header += ["accuracy", "accuracy_se"]
        columns += [accuracy, np.asarray(curve.accuracy_se)]
    return style.with_data(figure, header, np.stack(columns, 1).tolist())


def _band(axes: Axes, mus: Float64, mean: Float64, se: Float64) -> None:
    axes.fill_between(mus, mean - se, mean + se, color=BLUE, alpha=0.25, linewidth=0, label="± 1 standard error")
    axes.plot(mus, mean, "o-", color=BLUE, markersize=3.5, label="mean over folds")


def _error(axes: Axes, mus: Float64, curve: SelectionCurve) -> None:
    mean = curve.error_mean
    se = curve.error_se
    _band(axes, mus, mean, se)
    # The bound of the one-standard-error rule (docs/method.md, section 2.6).
    best = int(np.argmin(mean))
    if curve.rule != "accuracy":
        bound = float(mean[best] + se[best])
        axes.axhline(bound, color=VERMILLION, linestyle=":", linewidth=1.3, label="smallest + 1 standard error")
    axes.plot(mus[best], mean[best], "D", color=VERMILLION, markersize=6, label=f"smallest error: mu = {mus[best]:.3g}")
    axes.set(title="held-out error", ylabel="squared error per image and class")


def _accuracy_bound(axes: Axes, curve: SelectionCurve, mean: Float64) -> None:
    best = int(np.argmax(np.where(curve.allowed, mean, -np.inf)))
    bound = 100 * float(mean[best] - np.asarray(curve.accuracy_se)[best])
    axes.axhline(bound, color=VERMILLION, linestyle=":", linewidth=1.3)
    axes.annotate(
        "best allowed − 1 standard error",
        (curve.mus[-1], bound),
        (0, -10),
        textcoords="offset points",
        ha="right",
        color=MUTED,
    )


def _log_axis(axes: Axes, mus: Float64) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    decades = np.log10(mus[-1] / mus[0])
    # As many labels as do not print over each other in a third of the figure.
    subs = next(subs for most, subs in _TICKS if decades < most)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(FuncFormatter("{:g}".format))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("mu: bound on ‖w‖₁ (log scale)")
    axes.grid(visible=True)
    axes.tick_params(which="minor", color=MUTED)
