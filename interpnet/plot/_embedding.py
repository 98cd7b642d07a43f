"""The figure of a map of embeddings: a mark per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from interpnet.errors import DataError
from interpnet.plotting import style
from interpnet.support.checks import check_kinds, real_array, whole_numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe & Ito's colours without the yellow and the black: the others with four marks each can be distinguished.
_COLOURS = (style.BLUE, style.VERMILLION, style.GREEN, style.ORANGE, style.SKY, style.PURPLE)
_MARKS = ("o", "s", "^", "D")
_MOST_MARKED = len(_COLOURS) * len(_MARKS)


def embedding(points: Any, labels: Any, classes: Sequence[str], *, predictions: Any = None) -> Figure:
    """Draw a map of embeddings: a mark per image, its class by colour and shape, what was misclassified ringed.

    ``points`` (N, 2) are as :func:`interpnet.pictures.tsne` gives them; ``labels`` (N,) are numbers of ``classes``,
    negative where there is none, which is neither right nor wrong; ``predictions`` (N,) are the network's. With more
    than 24 classes, which no colours tell apart, the colour says only right or wrong.
    """
    check_kinds(embedding, locals())
    at = real_array(points, "points", error=DataError).astype(np.float64)
    own = whole_numbers(labels, "labels", error=DataError)
    if predictions is None:
        predicted = own
    else:
        predicted = whole_numbers(predictions, "predictions", error=DataError)
    if at.ndim != 2 or at.shape[1] != 2 or own.shape != (len(at),) or predicted.shape != own.shape:
        raise DataError(
            f"points have shape {at.shape}, labels {own.shape}, predictions "
            f"{None if predictions is None else predicted.shape}; expected (N, 2), (N,) and (N,)"
        )
    if own.size and max(own.max(), predicted.max()) >= len(classes):
        raise DataError(
            f"labels or predictions reach {max(own.max(), predicted.max())} with {len(classes)} names in classes; "
            "expected a name for every class"
        )
    named = own >= 0
    wrong = named & (predicted != own)
    # Smaller marks for more images, so that they do not cover each other.
    size = float(np.clip(9000 / max(len(at), 1), 10, 42))
    present = np.unique(own).tolist()
    with style.house_style():
        figure = style.new_figure(8.6, 5.6)
        axes = figure.subplots()

        def scatter(chosen: npt.NDArray[np.bool_], label: str, **options: Any) -> None:
            axes.scatter(at[chosen, 0], at[chosen, 1], label=label, **{"s": size, "linewidths": 0, **options})

        if len(present) <= _MOST_MARKED:
            for turn, c in enumerate(present):
                name = classes[c] if 0 <= c < len(classes) else "no label"
                mark = _MARKS[(turn // len(_COLOURS)) % len(_MARKS)]
                colour = _COLOURS[turn % len(_COLOURS)]
                scatter(own == c, style.plain(name, 22), marker=mark, color=colour, alpha=0.85)
            if wrong.any():
                rings = {"s": 3.2 * size, "facecolors": "none", "edgecolors": style.INK, "linewidths": 1.2}
                scatter(wrong, "misclassified", **rings)
        else:
            scatter(named & ~wrong, "image" if predictions is None else "correct", color=style.BLUE, alpha=0.8)
            if wrong.any():
                scatter(wrong, "wrong", marker="X", color=style.VERMILLION, alpha=0.85)
            if not named.all():
                scatter(~named, "no label", color=style.MUTED, alpha=0.5)
        axes.set(xlabel="t-SNE, first axis (no unit)", ylabel="t-SNE, second axis (no unit)")
        axes.set_aspect("equal", adjustable="datalim")
        style.label_ticks(axes.xaxis, [], [])
        style.label_ticks(axes.yaxis, [], [])
        style.plain_legend(figure.legend(loc="outside right upper", fontsize=8.5, markerscale=1.1))
    names = [*classes, "no label"]  # which -1 finds
    labelled = [names[max(int(c), -1)] for c in own]
    guessed = [names[max(int(c), -1)] for c in predicted]
    rows = zip(at[:, 0].tolist(), at[:, 1].tolist(), labelled, guessed, strict=True)
    return style.with_data(figure, ("x", "y", "class", "predicted"), rows)
