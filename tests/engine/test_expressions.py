"""What is followed from a map to an activation written by hand, where that ends, and what is let go of."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.networks import Step
from torch import Tensor, nn

from interpnet.engine import Call, Instrument, instrument
from interpnet.engine import _curves as curves
from interpnet.engine._trace import _ENGINES

Act = Callable[[Tensor], Any]
X = torch.linspace(-3, 3, 24).view(2, 3, 4)
MODES: list[Any] = [torch.enable_grad, torch.no_grad, torch.inference_mode]


def seen(model: nn.Module, x: Tensor = X) -> list[Call]:
    """Return the calls of a pass."""
    calls: list[Call] = []
    with instrument(model, Instrument(observe=lambda call, _: calls.append(call))):
        model(x.clone())
    return calls


def word(act: Act, x: Tensor = X) -> str:
    """Return the rectifier that the last call completes, else the word for its curve."""
    last = seen(Step(act), x)[-1]
    if last.kind == "rectifier":
        return last.op
    return last.curve


def picked(x: Tensor, zeros: Tensor) -> Tensor:
    zeros[x > 0] = x[x > 0]
    return zeros


def chain(length: int) -> Act:
    """Return an absolute value with signs exchanged so many times."""

    def act(x: Tensor) -> Tensor:
        x = x.abs()
        for _ in range(length):
            x = -x
        return x

    return act


def gated(before: int, behind: int) -> Act:
    """Return a swish whose sigmoid has so many steps before and behind it."""

    def act(x: Tensor) -> Tensor:
        gate = x
        for _ in range(before):
            gate = gate + 0.0
        gate = torch.sigmoid(gate)
        for _ in range(behind):
            gate = gate + 0.0
        return x * gate

    return act


WORDS: dict[str, tuple[str, Act]] = {
    # Tensors made of one number.
    "ones_like": ("hinged", lambda x: torch.where(x > 1, x, torch.ones_like(x))),
    "ones": ("hinged", lambda x: torch.where(x > 1, x, torch.ones(x.shape))),
    "new_ones": ("hinged", lambda x: torch.where(x > 1, x, x.new_ones(x.shape))),
    "full_like": ("hinged", lambda x: torch.where(x > 1, x, torch.full_like(x, 1))),
    "full_like, by name": ("hinged", lambda x: torch.where(x > 1, x, torch.full_like(x, fill_value=1.0))),
    "full": ("hinged", lambda x: torch.where(x > 1, x, torch.full(x.shape, 1.0))),
    "new_full": ("hinged", lambda x: torch.where(x > 1, x, x.new_full(x.shape, 1.0))),
    "new_full, by name": ("hinged", lambda x: torch.where(x > 1, x, x.new_full(size=x.shape, fill_value=1.0))),
    "new_full, zero": ("relu", lambda x: torch.where(x > 0, x, x.new_full(x.shape, 0.0))),
    "full of another number": ("hinged", lambda x: torch.where(x > 2, x, torch.full(x.shape, 2.0, dtype=x.dtype))),
    "filled by a tensor": ("", lambda x: x.abs() * torch.full(x.shape, torch.tensor(2.0))),
    "zeros, picked into": ("relu", lambda x: picked(x, torch.zeros_like(x))),
    "ones, picked into": ("hinged", lambda x: picked(x, torch.ones_like(x))),
    "a copy of zeros": ("relu", lambda x: torch.where(x > 0, x, torch.zeros(x.shape).to(x.device).clone())),
    "a half of ones": ("", lambda x: torch.where(x > 0.5, x, torch.ones_like(x) / 2)),
    # Tensors of one value, and of more: no batch fits into the first.
    "no axis": ("hinged", lambda x: torch.where(x > 0.5, x, torch.tensor(0.5))),
    "one axis of one": ("hinged", lambda x: torch.where(x > 0.5, x, torch.tensor([0.5]))),
    "one axis of four": ("", lambda x: torch.where(x > 0.5, x, torch.tensor([0.5] * 4))),
    "two axes of one": ("", lambda x: torch.where(x > 0.5, x, torch.tensor([[0.5]]))),
    # Copies, masks and what a mask picks have no curve of their own.
    "copy": ("", lambda x: x.abs().clone()),
    "copy as a double": ("", lambda x: x.abs().double()),
    "mask": ("", lambda x: x > 0),
    "mask as numbers": ("", lambda x: (x > 0).float()),
    "what a mask picks": ("", lambda x: x.abs()[x > 0]),
    "rounded": ("", lambda x: x.long().abs()),
    "rounded and back": ("", lambda x: x.long().float().abs() * x),
    "mask, copied": ("relu", lambda x: x * (x > 0).clone()),
    "mask as numbers, copied": ("relu", lambda x: x * (x > 0).float().clone()),
    "mask as whole numbers as numbers": ("relu", lambda x: x * (x > 0).int().float()),
    "mask of a mask": ("relu", lambda x: x * (x > 0).bool()),
    "not zero": ("", lambda x: x.bool()),
    "two masks": ("relu", lambda x: x * ((x > -1) & (x > 0))),
    "either mask": ("hinged", lambda x: (x + 1) * ((x > -1) | (x > 0))),
    # Of one map alone.
    "another map": ("", lambda x: torch.max(x, x.flip(0)).abs() * x),
    "another map of the same": ("", lambda x: torch.where(x > 0, x, x.flip(0))),
    "map of whole numbers": ("", lambda x: torch.arange(24).view(2, 3, 4).abs()),
    "list of maps": ("", lambda x: torch.stack([x.abs(), x])),
    "written to another tensor": ("", lambda x: torch.abs(x, out=torch.empty_like(x))),
    # Not value by value.
    "largest of a map": ("", lambda x: x.max()),
    "smallest of a map": ("", lambda x: x.min()),
    "largest along an axis": ("", lambda x: x.max(1)[0]),
    "smallest along an axis": ("", lambda x: torch.min(x, 0)[0]),
    "positions of a mask": ("", lambda x: torch.where(x > 0)[0]),
    "positions, by name": ("", lambda x: torch.where(condition=x > 0)[0]),
    "what the positions pick": ("", lambda x: x[torch.where(x > 0)]),
    "what a list picks": ("", lambda x: x.abs()[torch.tensor([1, 0])]),
    "what a mask of rows picks": ("", lambda x: x.abs()[torch.tensor([True, False])]),
    "a slice": ("", lambda x: x.abs()[:, 0]),
    # Each step makes an expression deeper by one.
    "24 steps": ("bent", chain(24)),
    "25 steps": ("", chain(25)),
    "23 steps behind an activation": ("by_hand", gated(0, 23)),
    "24 steps behind an activation": ("", gated(0, 24)),
    "23 steps before an activation": ("by_hand", gated(23, 0)),
    "24 steps before an activation": ("", gated(24, 0)),
    # Arguments by name.
    "by name": ("relu", lambda x: torch.where(condition=x > 0, input=x, other=torch.zeros_like(x))),
    "masked_fill by name": ("relu", lambda x: x.masked_fill(mask=x < 0, value=0)),
    "activation by name": ("by_hand", lambda x: x * torch.sigmoid(input=x)),
    "in place by name": ("by_hand", lambda x: x * F.relu6(x + 3, inplace=True) / 6),
    "in place by position": ("by_hand", lambda x: x * F.relu6(x + 3, True) / 6),
    # What is made of an activation alone is none.
    "scaled": ("", lambda x: F.relu(x) * 1.7),
    "scaled and bounded": ("", lambda x: (F.relu(x) * 1.7).clamp(min=0.1)),
    "bounded": ("", lambda x: torch.tanh(x).clamp(min=0.1)),
    "rectified again": ("relu", lambda x: (lambda r: r * (r > 0))(F.relu(x))),
    "itself and a copy": ("known", lambda x: torch.where(x > 5, F.relu(x), F.relu(x).clone())),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", WORDS)
def test_the_word_for_a_result(name: str, mode: Callable[[], Any]) -> None:
    expected, act = WORDS[name]
    with mode():
        assert word(act) == expected


class Bounded(nn.Module):
    """The largest of a map (2, 3, 1) and zeros of some shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.bound = torch.zeros(shape)

    def forward(self, x: Tensor) -> Tensor:
        return torch.max(x.mean(2, keepdim=True), self.bound)


@pytest.mark.parametrize("shape", [(1, 3, 1), (3, 1), (1, 1, 1), (1,), (), (2, 3, 1), (2, 1, 1)])
def test_a_constant_may_be_smaller_than_the_map(shape: tuple[int, ...]) -> None:
    assert seen(Bounded(shape))[-1].kind == "rectifier"


@pytest.mark.parametrize("shape", [(1, 3, 4), (3, 4), (4,), (2, 3, 2), (1, 2, 3, 1), (5, 1, 1, 1)])
def test_a_constant_that_makes_the_map_larger_makes_no_activation(shape: tuple[int, ...]) -> None:
    assert seen(Bounded(shape))[-1].kind is None


def test_arithmetic_and_what_is_made_of_an_activation_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "_KNOWN", {})
    for act in (
        lambda x: (2 * x + 1) / 3 - x + x * 0.5,
        lambda x: -(F.relu(x) * 1.7) / 3 + 1,
        lambda x: torch.sigmoid(x) - 0.5,
        lambda x: 3 - F.relu(x),
        lambda x: F.relu(x).clone() * 2,
    ):
        assert word(act) == ""
    assert curves._KNOWN == {}
    assert word(lambda x: x * x) == "curved"
    assert len(curves._KNOWN) == 1
    # A sum of two is measured where one is curved.
    assert word(lambda x: x.abs() + 1.5 * x) == "bent"
    assert len(curves._KNOWN) == 3


def test_the_activation_that_all_of_a_map_goes_through_is_what_a_result_is_a_function_of() -> None:
    kept: dict[str, Tensor] = {}

    def two(x: Tensor) -> Tensor:
        kept["first"] = F.relu(x)
        kept["start"] = F.softplus(kept["first"])
        return kept["start"] * torch.sigmoid(kept["start"])

    def past(x: Tensor) -> Tensor:
        # The map goes around the rectifier too.
        kept["start"] = x
        return F.relu(x) * torch.sigmoid(x)

    def doubled(x: Tensor) -> Tensor:
        kept["start"] = F.relu(x)
        return kept["start"] * torch.sigmoid(kept["start"] * 1.0 + 0.0 * kept["start"])

    for act in (two, past, doubled):
        last = seen(Step(act))[-1]
        assert (last.op, last.kind) == ("by_hand", "rectifier")
        assert len(last.args) == 1
        assert last.args[0] is kept["start"]


def overwritten(write: Act) -> Act:
    def act(x: Tensor) -> Tensor:
        mask = x > 0
        write(x)
        return x * mask

    return act


WRITES: dict[str, Act] = {
    "a part": lambda x: x.__setitem__((slice(None), 0), 1.0),
    "some rows": lambda x: x.__setitem__(torch.tensor([0]), 1.0),
    "copy_": lambda x: x.copy_(x.flip(0)),
    "add_": lambda x: x.add_(1.0),
    "cumsum_": lambda x: x.cumsum_(1),
    "sort": lambda x: x.copy_(x.sort(0)[0]),
    "relu_ of the negative": lambda x: x.neg_().relu_(),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("write", WRITES)
def test_a_map_that_was_overwritten_is_another_one(write: str, mode: Callable[[], Any]) -> None:
    """Tensors of inference mode do not count how often they were written to."""
    with mode():
        last = seen(Step(overwritten(WRITES[write])))[-1]
        assert (last.op, last.kind) != ("relu", "rectifier")
        assert word(overwritten(lambda x: None)) == "relu"


def test_nothing_is_kept_from_one_pass_to_the_next() -> None:
    known: list[int] = []

    def act(x: Tensor) -> Tensor:
        expressions = _ENGINES[model]._expressions
        known.append(len(expressions._known))
        x = (x + x.abs()) / 2
        known.append(len(expressions._known))
        return x

    model = Step(act)
    with torch.no_grad(), instrument(model, Instrument()):
        model(X)
        model(X)
    assert known[0] == known[2] == 0
    assert min(known[1], known[3]) > 0


def let_go(make: Act, *, grad: bool) -> bool:
    """Whether a map is let go of that ``make`` has made a result of, while the result is there."""
    found: list[bool] = []

    def step(x: Tensor) -> Tensor:
        map_ = x.flip(0)
        alive = weakref.ref(map_)
        result = make(map_)
        del map_
        found.append(alive() is None)
        return x + result.sum()

    with torch.set_grad_enabled(grad), instrument(model := Step(step), Instrument()):
        model(X.clone())
    return found[0]


LET_GO: dict[str, tuple[Act, bool, bool]] = {
    # A result of a map, without gradients and with them, where a rule may ask for the map.
    "half of an activation": (lambda x: x + x.abs(), True, False),
    "mask": (lambda x: x > 0, True, False),
    "activation": (lambda x: (x + x.abs()) / 2, True, True),
    "torch's own": (F.relu, True, True),
    "torch's own, scaled": (lambda x: F.relu(x) * 2, True, True),
    "copy": (lambda x: x.clone(), True, True),
}


@pytest.mark.parametrize("name", LET_GO)
def test_a_map_is_kept_as_long_as_a_rule_may_ask_for_it(name: str) -> None:
    make, without, with_gradients = LET_GO[name]
    assert let_go(make, grad=False) == without
    assert let_go(make, grad=True) == with_gradients
    # The result is gone too.
    assert let_go(lambda x: make(x) is None or torch.zeros(()), grad=True)
