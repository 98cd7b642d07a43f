"""What a pass under rules met, and the certificate that no rectifier escaped them."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from interpnet.backward._functions import Rule
from interpnet.engine import OPERATORS, Call, SiteWarning, backward_nodes, is_custom, node_name
from interpnet.errors import ModelError

# Names of the autograd nodes of rectifiers: "leaky_relu" records a "LeakyReluBackward0". Two have names of their own.
_RECTIFIERS = {
    "".join(part.capitalize() for part in row.name.split("_"))
    for row in OPERATORS.values()
    if row.kind == "rectifier" or row.name in {"hardtanh", "threshold"}
} | {"PreluKernel", "RreluWithNoise"}


@dataclass
class RuleReport:
    """What a rule met on its way.

    Rectifiers are counted twice, by code that does not know of each other: an observer of the forward pass notes
    each one by its kind, and the rule notes each one that it takes over.
    """

    # As given to backward_rules.
    rectifier: str
    resample: bool
    resample_pool: bool = False
    # The names of the rectifier calls that the observer saw, and that the rule took over.
    seen_calls: list[str] = field(default_factory=list)
    overridden_calls: list[str] = field(default_factory=list)
    # Strided convolutions, slices and poolings whose signal is resampled.
    resampled: int = 0
    # Autograd nodes that are not under the rule; check_overridden fills it.
    left: list[str] = field(default_factory=list)
    # Operators that rectify, scaled or shifted, and are no rectifiers that are known: the node, and where it is.
    doubts: list[tuple[Any, str]] = field(default_factory=list, repr=False)

    @property
    def seen(self) -> int:
        """How many rectifiers ran on the way from the images."""
        return len(self.seen_calls)

    @property
    def overridden(self) -> int:
        """How many rectifiers are under the rule."""
        return len(self.overridden_calls)

    def observe(self, call: Call, out: Any) -> None:
        """Note a rectifier that ran, whether or not a rule took it over."""
        if call.kind == "rectifier" and out.requires_grad:
            self.seen_calls.append(call.name)
        elif call.curve == "hinged" and out.requires_grad:
            self.doubts.append((out.grad_fn, f"{call.op!r} in {call.module or 'the network itself'}"))


def check_overridden(report: RuleReport, result: Tensor | list[Tensor]) -> None:
    """Raise unless every rectifier on the way to ``result`` is under the rule.

    Two things can be wrong. A rectifier was seen in the forward pass that the rule did not take over: another
    :func:`interpnet.engine.instrument` had the last word, say. Or the autograd graph holds one that no call showed:
    inside a custom function, or in an operator that the engine does not know. The :class:`ModelError` names it; the
    maps would silently be plain gradients. A rectifier that is scaled or shifted by hand is named in a
    :class:`SiteWarning`.
    """
    if report.rectifier == "gradient":
        return
    results = [result] if isinstance(result, Tensor) else result
    nodes = list(backward_nodes(results))
    report.left = [node_name(node) for node in nodes if _escaped(node)]
    missed = Counter(report.seen_calls) - Counter(report.overridden_calls)
    if report.left or missed:
        raise ModelError(
            f"{report.seen} rectifiers were seen and {report.overridden} put under the rule {report.rectifier!r}: "
            f"{[*missed, *report.left]} escaped it, and their maps would be plain gradients. "
            "Use rectifier='gradient', or write these activations with torch's own operators"
        )
    known = set(nodes)
    doubts = dict.fromkeys(where for node, where in report.doubts if node in known)
    if doubts:
        warnings.warn(
            f"{', '.join(doubts)}: rectifiers written by hand, scaled or shifted, keep their gradient under the rule "
            f"{report.rectifier!r}. Use torch's own operators for them",
            SiteWarning,
            stacklevel=2,
        )


def _escaped(node: Any) -> bool:
    """Whether an autograd node is a rectifier's own, hides one (a custom function), or spells a swish by hand."""
    name = node_name(node)
    if is_custom(node):
        return name != Rule.__name__
    return name in _RECTIFIERS or _is_swish(node)


def _is_swish(node: Any) -> bool:
    """Whether a product node spells ``x * sigmoid(x)`` (or hardsigmoid)."""
    if node_name(node) != "Mul":
        return False
    sides = [side for side in node.next_functions if side[0] is not None]
    return len(sides) == 2 and (_is_gate(sides[0], sides[1]) or _is_gate(sides[1], sides[0]))


def _is_gate(side: tuple[Any, int], other: tuple[Any, int]) -> bool:
    """Whether one factor is a sigmoid of the other factor."""
    return node_name(side[0]) in {"Sigmoid", "Hardsigmoid"} and side[0].next_functions[:1] == (other,)
