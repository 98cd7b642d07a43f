"""InterpNet: the channels a trained image classifier relies on for each class, proved and shown.

The public names are re-exported here; modules with a leading underscore may change at any time. Importing
``interpnet`` is quick: torch is loaded when a name that needs it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interpnet import datasets as datasets
    from interpnet import evaluate as evaluate
    from interpnet import pictures as pictures
    from interpnet.ablation import AblationResult as AblationResult
    from interpnet.ablation import ablate as ablate
    from interpnet.ablation import ablation_study as ablation_study
    from interpnet.attribution import Attribution as Attribution
    from interpnet.attribution import attribute as attribute
    from interpnet.attribution import attribute_full as attribute_full
    from interpnet.attribution import methods as methods
    from interpnet.backward import backward_rules as backward_rules
    from interpnet.datasets import ImageData as ImageData
    from interpnet.datasets import load_dataset as load_dataset
    from interpnet.datasets import make_loader as make_loader
    from interpnet.engine import Channel as Channel
    from interpnet.engine import ChannelIndex as ChannelIndex
    from interpnet.engine import Site as Site
    from interpnet.engine import Trace as Trace
    from interpnet.engine import find_sites as find_sites
    from interpnet.errors import InterpNetError as InterpNetError
    from interpnet.explanation import Explanation as Explanation
    from interpnet.explanation import average_visualization as average_visualization
    from interpnet.explanation import average_visualizations as average_visualizations
    from interpnet.explanation import channel_heatmap as channel_heatmap
    from interpnet.explanation import channel_signal as channel_signal
    from interpnet.explanation import explain as explain
    from interpnet.gram import Gram as Gram
    from interpnet.interpretation import Interpretation as Interpretation
    from interpnet.interpretation import interpret as interpret
    from interpnet.models import load_model as load_model
    from interpnet.mulasso import BreakPoints as BreakPoints
    from interpnet.mulasso import MuLasso as MuLasso
    from interpnet.mulasso import MuLassoCV as MuLassoCV
    from interpnet.mulasso import Stability as Stability
    from interpnet.mulasso import mulasso_breakpoints as mulasso_breakpoints
    from interpnet.mulasso import mulasso_path as mulasso_path
    from interpnet.mulasso import stability_selection as stability_selection
    from interpnet.scores import ScoreTable as ScoreTable
    from interpnet.scores import collect_scores as collect_scores

__version__ = "0.1.0"

_HOME = {
    "AblationResult": "ablation",
    "Attribution": "baselines",
    "BreakPoints": "breakpoints",
    "Channel": "channels",
    "ChannelIndex": "channels",
    "Explanation": "explanation",
    "Gram": "gram",
    "ImageData": "datasets",
    "InterpNetError": "errors",
    "Interpretation": "relevance",
    "MuLasso": "mulasso",
    "MuLassoCV": "mulasso_cv",
    "ScoreTable": "score_table",
    "Site": "sites",
    "Stability": "stability",
    "Trace": "sites",
    "ablate": "ablation",
    "ablation_study": "ablation",
    "attribute": "baselines",
    "attribute_full": "baselines",
    "average_visualization": "patches",
    "average_visualizations": "patches",
    "backward_rules": "backward",
    "channel_heatmap": "heatmap",
    "channel_signal": "heatmap",
    "collect_scores": "scores",
    "explain": "explanation",
    "interpret": "relevance",
    "load_dataset": "datasets",
    "load_model": "models",
    "make_loader": "datasets",
    "methods": "baselines",
    "mulasso_breakpoints": "breakpoints",
    "mulasso_path": "mulasso",
    "find_sites": "sites",
    "stability_selection": "stability",
}

# Packages of several names, used as ``interpnet.evaluate.iou_auc``.
_PACKAGES = ("datasets", "evaluate", "pictures")

__all__ = list(_HOME) + list(_PACKAGES)


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"interpnet.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'interpnet' has no attribute {name!r}")
    module = import_module(f"interpnet.{_HOME[name]}")
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_PACKAGES})
