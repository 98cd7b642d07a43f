"""The figure of the layers' relevance: which layers the relevant channels of each class lie in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from interpnet.errors import InterpNetError
from interpnet.interpretation import IDENTIFICATIONS
from interpnet.plotting import style
from interpnet.support.checks import check_kinds, one_of, real_array

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def layer_relevance(
    shares: npt.ArrayLike,
    layers: Sequence[str],
    classes: Sequence[str],
    *,
    expected: npt.ArrayLike | None = None,
    by: str = "mu-lasso",
) -> Figure:
    """Draw which layers the relevant channels lie in (docs/method.md, section 3): mean share, and each class's.

    ``shares`` (C, L) of the absolute weight, which each layer holds for each class, are those of
    ``Interpretation.layer_relevance()``: rows sum to 1, or to 0 for a class without relevant channels. The first layer
    is drawn on top. ``expected`` (L,), each layer's share of all channels, is drawn as a tick: where relevance would
    lie if it were spread evenly over channels. ``by`` ("mu-lasso" or "reliance") says what the weights are.
    """
    check_kinds(layer_relevance, locals())
    what = {"mu-lasso": "|weight|", "reliance": "reliance"}[one_of(by, "by", IDENTIFICATIONS)]
    table = real_array(shares, "shares").astype(np.float64)
    if table.shape != (len(classes), len(layers)) or table.size == 0:
        raise InterpNetError(f"shares has shape {table.shape}; expected {(len(classes), len(layers))}, not empty")
    if not np.isfinite(table).all():
        raise InterpNetError("shares holds NaN or infinity; expected finite shares")
    count = len(layers)
    relevant = table[table.sum(1) > 0]
    # The mean of no class at all is zero, not NaN.
    mean = relevant.sum(0) / max(len(relevant), 1)
    # Rows get thinner before the figure gets longer than a page.
    height = min(11.0, 1.9 + max(0.155, 0.3 - 0.004 * count) * max(count, 4))
    with style.house_style():
        figure, bars, image = style.two_panels(height, ratios=(1, 1.25))
        rows = np.arange(count)
        bars.barh(rows, mean, height=0.72, color=style.BLUE, label=f"share of {what}, mean over classes")
        if expected is not None:
            even = real_array(expected, "expected").astype(np.float64)
            if even.shape != (count,) or not np.isfinite(even).all():
                raise InterpNetError(f"expected has shape {even.shape}; expected ({count},) finite shares")
            tick: Any = {"color": style.INK, "markersize": 7, "markeredgewidth": 1.6}
            bars.plot(even, rows, "|", **tick, label="share of the channels")
            figure.legend(loc="outside upper left", ncols=2)
        bars.set(xlabel=f"share of {what} (mean over classes)", ylim=(count - 0.5, -0.5))
        bars.set_xlim(left=0)
        style.row_lines(bars, frame=True)
        chosen = style.spread(count, int(height / 0.15))
        labels = [style.plain(layers[i], 34) for i in chosen]
        style.label_ticks(bars.yaxis, chosen, labels, fontsize=8 if count > 24 else 9)
        drawn = image.imshow(table.T, aspect="auto", cmap="Blues", vmin=0, vmax=max(1e-12, float(table.max())))
        # Without smoothing: a cell is one number.
        drawn.set_interpolation("nearest")
        image.tick_params(length=0)
        style.class_ticks(image, classes)
        for side in image.spines.values():
            side.set_visible(False)
        figure.colorbar(drawn, ax=image, label="share within the class", pad=0.02).outline.set_visible(False)
    header = ("layer", "mean", "of_channels", *classes)
    known = [None] * count if expected is None else even.tolist()
    numbers = [(layers[i], float(mean[i]), known[i], *table[:, i].tolist()) for i in range(count)]
    return style.with_data(figure, header, numbers)
