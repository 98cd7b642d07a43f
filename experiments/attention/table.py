"""A1's ways of making maps, and the README's table, from results.json."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.common.pages import Page
from experiments.common.tables import Line, markdown, minutes, number, paired, signed

GAMMAS = (0.05, 0.25, 1.0)
ATTENTION = ("attnlrp", "cp")
METHODS = ("lrp_0", "lrp_epsilon", "lrp_gamma")


def way(attention: str, gamma: float | None = None, method: str = "lrp_gamma") -> str:
    """Return the name of one of :data:`WAYS`."""
    rest = "" if gamma is None else f", gamma {gamma:g} at linear maps"
    return f"{method}, {attention}{rest}"


#: The ways by name: the method and its options.
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        name: (name, {})
        for name in ("random", "center", "edge", "gradient_x_input", "integrated_gradients", "deeplift")
    },
    "occlusion": ("occlusion", {"patch": 4, "stride": 4}),
    **{way(a, method=m): (m, {"attention": a}) for m in METHODS for a in ATTENTION},
    **{way(a, g): ("lrp_gamma", {"attention": a, "linear_gamma": g}) for g in GAMMAS for a in ATTENTION},
    way("cp", method="deep_taylor"): ("deep_taylor", {}),
}


def gains(lines: list[Line], name: str) -> np.ndarray:
    """Return the gain of every image, one network after another."""
    return np.concatenate([line["ways"][name]["gain"] for line in lines])


def text(lines: list[Line]) -> str:
    """Return everything between the README's marks."""
    first, rest = lines[:1], lines[1:] or lines
    facts = [
        f"- seed {line['seed']}: {100 * line['accuracy']:.0f} % of the test images right, maps of {line['images']}; "
        f"{minutes([line]):.1f} minutes; commit {line['commit']}"
        for line in lines
    ]
    rows = []
    for name in WAYS:
        residuals = [line["ways"][name].get("residual") for line in rest]
        cells = [signed(paired(gains(part, name).tolist()), 2) for part in (first, rest)]
        inside = float(np.mean([line["ways"][name]["inside"] for line in rest]))
        residual = "–" if None in residuals else number(float(np.mean(residuals)), ".2f")
        rows.append(
            [f"`{name}`" if name in WAYS and "," not in name else name, *cells, number(100 * inside, ".0f"), residual]
        )
    head = ["map", "gain, seed 0", "gain, other seeds", "energy inside, %", "residual"]
    title = (
        "**Symmetric relevance gain (95 % over images; 0 for an order without meaning), the share of positive "
        "relevance on the part that tells the class, and the median residual; the last two on the other seeds**"
    )
    return "\n\n".join(["\n".join(facts), title, markdown(head, rows)])


PAGE = Page("experiments.attention.run", text, {})
