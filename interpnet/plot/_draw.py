"""Which figure a result has."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from interpnet.errors import InterpNetError
from interpnet.support.checks import shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: By the class of a result: the function of this module, and what it takes of the result.
FIGURES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "ablation.AblationResult": ("ablation", lambda found: found),
    "attribution.Attribution": ("attribution", lambda found: _by_image(found.maps)),
    "concepts.Dissection": ("dissection", lambda found: found),
    "concepts.ProbeResult": ("probe", lambda found: found),
    "concepts.Strongest": ("strongest", lambda found: found),
    "concepts.TcavResult": ("tcav", lambda found: found),
    "evaluate.ClassSensitivity": ("measures", lambda found: found.spearman),
    "evaluate.GridPointing": ("measures", lambda found: found.score),
    "evaluate.ParameterRandomisation": ("randomisation", lambda found: found),
    "evaluate.Score": ("measures", lambda found: found),
    "evaluate.Segmentation": ("curves", lambda found: found.iou),
    "explanation.AverageVisualization": ("average", lambda found: found),
    "explanation.Explanation": ("explanation", lambda found: found),
    "interpretation.Interpretation": ("interpretation", lambda found: found),
    "models.History": ("training", lambda found: found),
    "mulasso.BreakPoints": ("path", lambda found: found),
    "mulasso.MuLassoCV": ("mu_curve", lambda found: found.curve_),
    "mulasso.SelectionCurve": ("mu_curve", lambda found: found),
    "mulasso.Stability": ("stability", lambda found: found),
    "pictures.Filters": ("filters", lambda found: found),
    "pictures.Maximised": ("maximised", lambda found: found),
    "reliance.Contributions": ("contributions", lambda found: found),
    "reliance.Reliance": ("reliance", lambda found: found),
    "scores.ScoreTable": ("scores", lambda found: found),
    "shortcuts.Findings": ("shortcuts", lambda found: found),
    "shortcuts.Repair": ("repair", lambda found: found),
}
_IMAGES = 12


def draw(result: Any, **options: Any) -> Figure:
    """Draw a result of this library with the function of this module that is for its class; ``options`` are its own.

    An explanation needs ``images=``. What has no figure of its own is an InterpNetError.

    Examples
    --------
    >>> from interpnet.engine import ChannelIndex
    >>> from interpnet.interpretation import Interpretation
    >>> import numpy as np
    >>> found = Interpretation(ChannelIndex((("a", 2),)), np.array([[0.5, -1.0]]), ("cat",))
    >>> [label.get_text() for label in draw(found).axes[0].get_yticklabels()]
    ['a[1]', 'a[0]']
    """
    from interpnet import plot

    for kind in type(result).__mro__:
        room = kind.__module__.removeprefix("interpnet.").split(".")[0]
        if kind.__module__.startswith("interpnet.") and f"{room}.{kind.__name__}" in FIGURES:
            name, part = FIGURES[f"{room}.{kind.__name__}"]
            figure: Figure = getattr(plot, name)(part(result), **options)
            return figure
    known = ", ".join(sorted(kind.split(".")[1] for kind in FIGURES))
    raise InterpNetError(f"result is {shown(result)}; expected one of {known}, or call the function for it")


def _by_image(maps: Any) -> dict[str, Any]:
    return {f"image {i}": own for i, own in enumerate(maps[:_IMAGES].detach().cpu())}
