"""The two ways in which an image is explained by default: that of the experiments, and that of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from interpnet.backward import LRP_RULES
from interpnet.support.checks import one_of


@dataclass(frozen=True)
class Variant:
    """What :func:`interpnet.explain` takes where an option is not given."""

    choose: str | None  # None: as the channels were named
    rule: str
    seed: str
    blur: float  # a share of the images' shorter side
    saturate: float
    combination: str


#: ``"relevance"`` was chosen, and is judged, by ``experiments/maps``; ``"paper"`` is Oramas et al., ICLR 2019.
VARIANTS: Mapping[str, Variant] = {
    "relevance": Variant("named", "lrp_gamma", "relevance", 0.01, 0.99, "sum"),
    "paper": Variant(None, "guided", "activation", 0.0, 1.0, "max"),
}


def completed(variant: str, given: Mapping[str, Any], *, side: int) -> dict[str, Any]:
    """Return the options that were given, and a variant's own for those that are None.

    ``side`` is the images' shorter side in pixels. Relevance adds up over colours; of other signals absolute values do.
    Where a rule that sends no relevance was given, signals start with contributions instead.

    Examples
    --------
    >>> completed("paper", {"rule": None, "rectifier": "gradient", "smooth": 2.0}, side=100)["smooth"]
    2.0
    >>> found = completed("relevance", {"rule": "guided"}, side=100)
    >>> found["reduction"], found["seed"]
    ('abs', 'contribution')
    """
    own = VARIANTS[one_of(variant, "variant", VARIANTS)]
    options = {name: value for name, value in given.items() if value is not None}
    if "rectifier" not in options:
        options.setdefault("rule", own.rule)
    options.setdefault("choose", own.choose)
    relevance = options.get("rule") in LRP_RULES
    options.setdefault("seed", own.seed if relevance or own.seed != "relevance" else "contribution")
    options.setdefault("smooth", own.blur * side)
    options.setdefault("saturate", own.saturate)
    options.setdefault("combination", own.combination)
    options.setdefault("reduction", "sum" if relevance else "abs")
    return options
