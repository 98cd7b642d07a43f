"""Where a gradient ends, in words; the nodes that a backward pass goes through; activations by hand under a rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.networks import Step
from torch import Tensor, nn

from interpnet.engine import Call, Instrument, backward_nodes, check_gradient_reaches, instrument, is_custom, node_name
from interpnet.engine._by_hand import ByHand
from interpnet.engine._gradient_end import gradient_end
from interpnet.errors import ModelError

X = torch.tensor([[1.0, -2.0, 3.0]])


class Net(nn.Module):
    """A part with a step of its own, between two linear maps."""

    def __init__(self, step: Callable[[Tensor], Tensor], *, inside: bool) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.part = Step(step if inside else lambda x: x * 2)
        self.step = (lambda x: x * 2) if inside else step
        self.last = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.step(self.part(self.first(x))))


def without_gradient(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x * 3


def in_inference_mode(x: Tensor) -> Tensor:
    with torch.inference_mode():
        y = x * 3
    return y.clone()


ENDS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "no_grad": (without_gradient, "{} runs under torch.no_grad()"),
    "inference_mode": (in_inference_mode, "{} runs under torch.inference_mode()"),
    "detach": (lambda x: x.detach(), "'detach' in {} cuts it off"),
    "mask": (lambda x: (x > 0).float(), "the network leaves torch, reads .data, or rounds on the way"),
    "data": (lambda x: x.data * 2, "the network leaves torch, reads .data, or rounds on the way"),
}


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("name", ENDS)
def test_where_a_gradient_ends(name: str, inside: bool) -> None:
    step, words = ENDS[name]
    model = Net(step, inside=inside).train()
    place = "'part'" if inside else "the network's own forward()"
    with torch.no_grad():
        assert gradient_end(model, torch.cat([X, X])) == words.format(place)
    # The first place counts, and nothing is left behind.
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    with pytest.raises(ModelError, match=r"no gradient leads from the logit to the images: .*method='occlusion'"):
        check_gradient_reaches(model, X, "the logit", found=False)
    check_gradient_reaches(model, X, "the logit", found=True)


def test_the_first_of_two_ends_is_named() -> None:
    model = nn.Sequential(nn.Linear(3, 3), Step(lambda x: x.detach() + x), Step(without_gradient))
    assert gradient_end(model, X) == "'detach' in '1' cuts it off"


@pytest.mark.parametrize("make", [torch.zeros_like, lambda x: x.new_ones(x.shape)])
def test_a_tensor_of_the_same_shape_cuts_nothing_off(make: Callable[[Tensor], Tensor]) -> None:
    model = nn.Sequential(nn.Linear(3, 3), Step(lambda x: x + make(x)), Step(without_gradient))
    assert gradient_end(model, X) == "'2' runs under torch.no_grad()"


class Doubled(torch.autograd.Function):
    """A function with a backward pass of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient


def test_nodes_of_a_backward_pass_come_once_each() -> None:
    x = X.clone().requires_grad_()
    y = x.exp()
    results = [y + y.relu(), Doubled.apply(y)]
    nodes = list(backward_nodes(results))
    assert sorted(node_name(node) for node in nodes) == ["AccumulateGrad", "Add", "Doubled", "Exp", "Relu"]
    assert [node_name(node) for node in nodes if is_custom(node)] == ["Doubled"]
    assert list(backward_nodes([X])) == []
    assert [node_name(n) for n in backward_nodes([x * x])] == [
        "Mul",
        "AccumulateGrad",
    ]


# --- activations written by hand, as one call --------------------------------------------------------------


def assigned(x: Tensor) -> Tensor:
    x[x < 0] = 0
    return x


def picked(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[x > 0] = x[x > 0]
    return y


def halved(x: Tensor) -> Tensor:
    y = x + x.abs()
    y /= 2
    return y


BY_HAND: dict[str, tuple[Callable[[Tensor], Tensor], bool, int]] = {
    # Whether its last operator overwrites the map itself; how many tensors that operator is given beside the map.
    "product": (lambda x: x * (x > 0), False, 1),
    "where": (lambda x: torch.where(x > 0, x, torch.zeros_like(x)), False, 2),
    "halved": (halved, False, 1),
    "picked": (picked, False, 3),
    "assigned": (assigned, True, 1),
    "in place": (lambda x: x.mul_(x > 0), True, 1),
}


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", BY_HAND)
def test_an_activation_by_hand_is_one_call_on_the_map(name: str, grad: bool) -> None:
    act, inplace, parts = BY_HAND[name]
    maps: list[Tensor] = []
    found: list[Call] = []

    def step(x: Tensor) -> Tensor:
        # A map of its own: arithmetic would be a part of the expression.
        maps.append(x.flip(0))
        return act(maps[-1])

    def rule(call: Call) -> Tensor | None:
        if isinstance(call.func, ByHand):
            found.append(call)
            # In place without a promise of the rule's to work so, it gets a copy.
            assert (call.args[0] is maps[-1]) != inplace
            assert call.inplace == inplace
            assert call.func.__name__ == {False: "by_hand", True: "by_hand_"}[inplace]
            assert (call.func.target is None) == (name in {"product", "where"})
            assert len(list(call.func.parts())) == parts
            # On another map it is the function alone, and leaves what the author has alone.
            other = torch.tensor([[-4.0, 5.0, -6.0]])
            assert call.func(other.clone()).tolist() == [[0.0, 5.0, 0.0]]
            assert maps[-1].tolist() == X.tolist()
        return None

    what = Instrument(rule=rule)
    with torch.set_grad_enabled(grad), instrument(model := Step(step), what):
        y = model(X.clone().requires_grad_(grad))
    assert y.tolist() == [[1.0, 0.0, 3.0]]
    assert len(found) == grad
    if inplace:
        assert y is maps[-1]


@pytest.mark.parametrize("name", BY_HAND)
def test_a_rule_for_an_activation_by_hand_counts_forward_and_backward(name: str) -> None:
    act, _, _ = BY_HAND[name]

    def rule(call: Call) -> Tensor | None:
        if call.kind == "rectifier":
            return call.args[0] * 7
        return None

    x = X.clone().requires_grad_()
    with instrument(model := Step(lambda x: act(x * 1.0) * 1.0), Instrument(rule=rule)):
        y = model(x)
    assert y.tolist() == [[7.0, -14.0, 21.0]]
    y.sum().backward()
    assert x.grad.tolist() == [[7.0, 7.0, 7.0]]


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", BY_HAND)
def test_an_edit_of_an_activation_by_hand_is_what_the_network_goes_on_with(name: str, grad: bool) -> None:
    act, _, _ = BY_HAND[name]
    site = {"where": "where", "halved": "div", "picked": "setitem", "assigned": "setitem"}.get(name, "mul")
    seen: list[Any] = []
    what = Instrument(edits={site: lambda out: out + 10}, reads={site: lambda out: seen.append(out.tolist())})
    with torch.set_grad_enabled(grad), instrument(model := Step(lambda x: act(x + 0.0) + 0.0), what):
        y = model(X.clone().requires_grad_(grad))
    assert y.tolist() == [[11.0, 10.0, 13.0]]
    assert seen == [[[11.0, 10.0, 13.0]]]
