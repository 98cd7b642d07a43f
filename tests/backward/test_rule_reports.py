"""The certificate that no rectifier escaped: what it finds in the autograd graph alone, and what it only warns of."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from helpers.networks import Step
from torch import Tensor, nn

from interpnet.backward import RuleReport, backward_rules, check_overridden
from interpnet.engine import SiteWarning
from interpnet.errors import ModelError

ESCAPED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "swish": (lambda x: x * torch.sigmoid(x), "Mul"),
    "swish, the gate first": (lambda x: torch.sigmoid(x) * x, "Mul"),
    "hard swish": (lambda x: x * F.hardsigmoid(x), "Mul"),
    "relu": (torch.relu, "Relu"),
    "leaky relu": (F.leaky_relu, "LeakyRelu"),
    "elu": (F.elu, "Elu"),
    "gelu": (F.gelu, "Gelu"),
    "silu": (F.silu, "Silu"),
    "relu6": (F.relu6, "Hardtanh"),
    "threshold": (lambda x: F.threshold(x, 0.0, 0.0), "Threshold"),
    "prelu": (lambda x: F.prelu(x, torch.tensor([0.25])), "PreluKernel"),
    "rrelu": (lambda x: F.rrelu(x, training=True), "RreluWithNoise"),
    "softplus": (F.softplus, "Softplus"),
}
PASS: dict[str, Callable[[Tensor], Tensor]] = {
    "a gate of twice the input": lambda x: x * torch.sigmoid(2 * x),
    "a gate of another input": lambda x: (x + 1) * torch.sigmoid(x),
    "two gates": lambda x: torch.sigmoid(x) * torch.sigmoid(x + 1),
    "a square": lambda x: x * x,
    "a product with a number": lambda x: x * 3.0,
    "a sum with its gate": lambda x: x + torch.sigmoid(x),
    "a sigmoid": torch.sigmoid,
    "a tanh": torch.tanh,
}


def leaf() -> Tensor:
    return torch.tensor([[-1.0, 0.5, 2.0]], requires_grad=True)


@pytest.mark.parametrize("name", ESCAPED)
def test_rectifiers_in_the_graph_that_no_rule_took_over(name: str) -> None:
    step, node = ESCAPED[name]
    report = RuleReport("guided", True)
    with pytest.raises(
        ModelError, match=rf"0 rectifiers were seen and 0 put under the rule 'guided': \['{node}'\] esc"
    ):
        check_overridden(report, step(leaf() * 2) + 1)
    assert report.left == [node]
    # Among several results one is enough; the plain gradient needs no certificate.
    with pytest.raises(ModelError, match="escaped it"):
        check_overridden(report, [leaf() * 2, step(leaf() * 2)])
    check_overridden(RuleReport("gradient", True), step(leaf() * 2))


@pytest.mark.parametrize("name", PASS)
def test_other_operators_are_no_rectifiers(name: str) -> None:
    report = RuleReport("deconvnet", True)
    check_overridden(report, PASS[name](leaf() * 2))
    assert report.left == []


def test_calls_are_counted_by_name() -> None:
    report = RuleReport("guided", True, seen_calls=["a", "a", "b"], overridden_calls=["a", "b", "b"])
    assert (report.seen, report.overridden) == (3, 3)
    with pytest.raises(ModelError, match=r"3 rectifiers were seen and 3 put under .*\['a'\] escaped it"):
        check_overridden(report, leaf() * 2)
    report.overridden_calls.append("a")
    check_overridden(report, leaf() * 2)


def scaled(x: Tensor) -> Tensor:
    return x + x.abs()


def test_a_rectifier_that_is_scaled_by_hand_is_named_once_and_only_on_the_way() -> None:
    model = nn.Sequential(nn.Linear(3, 3), Step(scaled), nn.Linear(3, 3), Step(scaled), nn.Linear(3, 2)).eval()
    x = leaf()
    with backward_rules(model, rectifier="guided") as report:
        result = model(x)
    assert len(report.doubts) == 2
    words = (
        r"^'add' in 1, 'add' in 3: rectifiers written by hand, scaled or shifted, keep their gradient under the rule"
    )
    with pytest.warns(SiteWarning, match=words):
        check_overridden(report, result)
    report.doubts.append(report.doubts[0])
    with pytest.warns(SiteWarning, match=words):
        check_overridden(report, [result, result])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_overridden(report, x * 2)
        check_overridden(RuleReport("gradient", True, doubts=report.doubts), result)
