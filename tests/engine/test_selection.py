"""What a trace says and selects: gates, outputs, families and lost axes of hand-made networks; rules in place."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interpnet.engine import Call, Instrument, SiteWarning, Trace, find_sites, instrument
from interpnet.errors import LayerError

X = torch.rand(2, 2, 6, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A convolution of four channels, a step, and three logits."""

    def __init__(self, step: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.other = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 3)
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.step(self, self.conv(x)).mean((2, 3)))


def traced(step: Callable[[Any, Tensor], Tensor], x: Tensor = X) -> Trace:
    return find_sites(Net(step).eval(), x)


def gates(trace: Trace) -> set[str]:
    return {s.name for s in trace.sites if s.gate}


def scale(net: Any, y: Tensor) -> Tensor:
    return net.other(y.mean((2, 3), keepdim=True))


def used_twice(net: Any, y: Tensor) -> Tensor:
    s = torch.sigmoid(net.other(y))
    return y * s + s


def squared(net: Any, y: Tensor) -> Tensor:
    s = torch.sigmoid(net.other(y))
    return s * s


def two_gates(net: Any, y: Tensor) -> Tensor:
    return torch.sigmoid(y) * torch.sigmoid(net.other(y))


GATES: dict[str, tuple[Callable[[Any, Tensor], Tensor], set[str]]] = {
    "on the right": (lambda net, y: y * torch.sigmoid(net.other(y)), {"other", "sigmoid"}),
    "on the left": (lambda net, y: torch.sigmoid(net.other(y)) * y, {"other", "sigmoid"}),
    "multiply": (lambda net, y: torch.multiply(y, torch.sigmoid(net.other(y))), {"other", "sigmoid"}),
    "by its size": (lambda net, y: y * scale(net, y), {"mean", "other"}),
    "by its size, on the left": (lambda net, y: scale(net, y) * y, {"mean", "other"}),
    "of the same size": (lambda net, y: y * net.other(y), set()),
    "a sum": (lambda net, y: y + torch.sigmoid(net.other(y)), set()),
    "used twice": (used_twice, set()),
    "squared": (squared, set()),
    "two gates": (two_gates, set()),
    "clamped": (lambda net, y: y * F.hardtanh(net.other(y)), {"other", "hardtanh"}),
}


@pytest.mark.parametrize("name", GATES)
def test_which_sites_are_gates(name: str) -> None:
    step, expected = GATES[name]
    assert gates(traced(step)) == expected


def test_families_and_outputs() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 4, 3)
            self.fc = nn.Linear(4, 5)
            self.a = nn.Linear(5, 3)
            self.b = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.sigmoid(x)
            maps = torch.tanh(self.conv(x))
            pooled = maps.mean((2, 3))
            return (self.a(torch.relu(self.fc(pooled))) + self.b(pooled)).softmax(1)

    trace = find_sites(Deep(), X)
    assert {s.name: (s.family, s.output, s.default) for s in trace.sites} == {
        "sigmoid": ("", False, False),
        "conv": ("conv", False, False),
        "tanh": ("conv", False, True),
        "mean": ("conv", False, False),
        "fc": ("linear", False, False),
        "relu": ("linear", False, True),
        "a": ("linear", True, False),
        "b": ("linear", True, False),
        "add": ("linear", True, False),
        "softmax": ("linear", True, False),
    }
    assert [s.name for s in trace.select("conv")] == ["tanh"]
    assert [s.name for s in trace.select("all")] == ["sigmoid", "conv", "tanh", "mean", "fc", "relu"]
    assert trace.index().sizes == (("tanh", 4), ("relu", 5))
    assert [(s.shape, s.map_shape) for s in trace.select("*u*")] == [((5,), ())]


def lost(times: int) -> Callable[[Any, Tensor], Tensor]:
    """Return a step of rectifiers whose channels are lost."""

    def step(_net: Any, y: Tensor) -> Tensor:
        z = y.reshape(8, 6, 6)
        for _ in range(times):
            z = torch.relu(z + 1)
        return torch.relu(y) + z.reshape(y.shape)

    return step


@pytest.mark.parametrize(("times", "more"), [(1, ""), (4, ""), (5, " and 1 more"), (7, " and 3 more")])
def test_lost_layers_are_named_up_to_four(times: int, more: str) -> None:
    trace = traced(lost(times))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        chosen = trace.select()
    assert [s.name for s in chosen] == [f"relu:{times}"]
    (text,) = (str(w.message) for w in caught if issubclass(w.category, SiteWarning))
    assert text.startswith("left out of the default layers: relu (its output (8, 6, 6) has no batch axis")
    assert text.count("has no batch axis") == min(times, 4)
    assert text.endswith(f"images)){more}")
    # Where the warning points to: the caller of select().
    assert caught[0].filename == __file__
    with pytest.raises(LayerError, match="layer 'relu' cannot be used: its output"):
        trace.select("relu")
    # Patterns and modules take what can be used.
    assert [s.name for s in trace.select("relu*")] == [f"relu:{times}"]


def test_unusable_sites_have_no_channels() -> None:
    # Sorted, so that no image is where it was.
    trace = traced(lambda net, y: torch.relu(y.permute(1, 0, 2, 3).sort(0)[0]).permute(1, 0, 2, 3))
    site = trace["relu"]
    assert (site.axis, site.channels, site.usable) == (0, 0, False)
    assert site.why == "its output (4, 2, 6, 6) has no batch axis in front (the batch has 2 images)"
    square = traced(
        lambda net, y: torch.relu(y[:2].permute(1, 0, 2, 3)[:2].sort(0)[0]).permute(1, 0, 2, 3)[:, [0, 0, 1, 1]]
    )
    assert square["relu"].why == "its channel axis is the batch axis"
    several = traced(lambda net, y: F.max_pool2d(y, 2, return_indices=True)[0])
    assert [s.why for s in several.sites if "pool" in s.op] == [f"{several.sites[1].op!r} returns several tensors"]
    flat = traced(lambda net, y: y + torch.relu(y.sum((1, 2, 3))).view(-1, 1, 1, 1))
    assert "its output (2,) has no batch axis" in flat["relu"].why


def test_names_that_are_patterns_modules_and_their_parts() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 1)
            self.act = nn.Tanh()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.conv(x)) + x

    net = nn.Sequential(Block(), Block(), nn.Flatten(), nn.Linear(72, 3))
    net.add_module("10", nn.Identity())
    trace = find_sites(net, X)
    names = lambda layers: [s.name for s in trace.select(layers)]  # noqa: E731
    assert names("0") == names(net[0]) == ["0.act"]
    assert names(net[0].conv) == names("0.conv") == ["0.conv"]
    assert names(["1", net[0].conv]) == ["0.conv", "1.act"]
    assert names("1:add") == ["1:add"]
    assert names("?:add") == ["0:add", "1:add"]
    assert names("*.act") == ["0.act", "1.act"]
    for nothing in ("2", "1.", "3x", "10"):
        with pytest.raises(LayerError, match=f"no layer matches '{nothing}'"):
            trace.select(nothing)
    with pytest.raises(LayerError, match="no layer matches '2'"):
        trace.select(net[2])
    # Only what a name asks for by itself may be the classifier's output.
    assert names("3") == ["3"]
    assert trace.usable("0:add").name == "0:add"
    for wrong in ([], [5], 5, None):
        with pytest.raises(LayerError, match="layer"):
            trace.select(wrong)  # type: ignore[arg-type]


def test_warnings_name_four_activations_by_hand() -> None:
    def step(_net: Any, y: Tensor) -> Tensor:
        return y.abs() + (y + 1).abs() + (y + 2).abs() + (y + 3).abs() + torch.maximum(y, y.flip(1))

    trace = traced(step)
    assert len(trace.doubts) >= 5
    with pytest.warns(SiteWarning) as caught:
        trace.select()
    assert str(caught[0].message).count("in the network itself") == 4
    assert caught[0].filename == __file__


# --- rules and edits of operators in place --------------------------------------------------------------


class InPlace(nn.Module):
    """A linear map, a rectifier in place whose value is dropped, and a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(2, 2, bias=False)
        self.lin.weight.data = torch.eye(2)

    def forward(self, x: Tensor) -> Tensor:
        self.y = self.lin(x)
        torch.relu_(self.y)
        return self.y.sum(1)


ROW = torch.tensor([[2.0, -3.0]])


@pytest.mark.parametrize("rule_inplace", [False, True])
@pytest.mark.parametrize("answer", ["nothing", "a new tensor", "the same, overwritten"])
@pytest.mark.parametrize("edited", [False, True])
def test_a_rule_of_an_operator_in_place(rule_inplace: bool, answer: str, edited: bool) -> None:
    """What the network goes on with is the rule's value, with the edit on top; the tensor is the author's."""
    model = InPlace().eval()
    got: list[Tensor] = []

    def rule(call: Call) -> Tensor | None:
        if call.op != "relu":
            return None
        x = call.argument(0, "input")
        got.append(x)
        assert x.tolist() == ROW.tolist()
        if answer == "nothing":
            return None
        if answer == "a new tensor":
            return x * 5
        return call.run()

    edits = {"relu": lambda out: out + 100} if edited else {}
    with instrument(model, Instrument(rule=rule, rule_inplace=rule_inplace, edits=edits)):
        y = model(ROW)
    expected = {"a new tensor": torch.tensor([[10.0, -15.0]])}.get(answer, torch.tensor([[2.0, 0.0]])) + 100 * edited
    assert model.y.tolist() == expected.tolist()
    # In place alone is it the author's tensor that the rule gets.
    assert (got[0] is model.y) == (rule_inplace and not edited)
    y.sum().backward()
    slopes = {"a new tensor": [5.0, 5.0]}.get(answer, [1.0, 0.0])
    assert model.lin.weight.grad.tolist() == [[2.0 * slope, -3.0 * slope] for slope in slopes]


def test_a_rule_sees_sites_and_what_is_marked_as_ruled_alone() -> None:
    seen: list[tuple[str, str, str]] = []

    class Sliced(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(2, 4))

        def forward(self, x: Tensor) -> Tensor:
            y = self.inner(x)
            return torch.relu(y[:, :2]).exp().abs() + y.t().shape[0]

    model = Sliced()
    with instrument(model, Instrument(rule=lambda call: seen.append((call.op, call.name, call.module)))):
        model(ROW)
    assert seen == [("linear", "inner.0", "inner.0"), ("getitem", "", ""), ("relu", "relu", ""), ("exp", "", "")]


def test_layers_of_torch_are_called_by_their_path_and_others_by_their_operators() -> None:
    class Own(nn.Conv2d):
        pass

    class Leaf(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(torch.relu(x))

    class Parent(nn.ReLU):
        def __init__(self) -> None:
            super().__init__()
            self.part = nn.Tanh()

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.part(x))

    names: list[str] = []
    model = nn.Sequential(Own(2, 2, 1), Leaf(), Parent())
    with torch.no_grad(), instrument(model, Instrument(observe=lambda call, _: names.append(call.name))):
        model(X)
    assert names == ["0", "1:relu", "1:relu:1", "2.part", "2:relu"]


def test_an_instrument_that_ends_leaves_the_outer_ones_in_order() -> None:
    model = nn.Sequential(nn.ReLU())
    seen: list[str] = []

    def noting(name: str) -> Instrument:
        return Instrument(
            reads={"0": lambda _: seen.append(name)}, observe=lambda _call, _out: seen.append(name.upper())
        )

    with instrument(model, noting("a")):
        with instrument(model, noting("b")), instrument(model, noting("c")):
            model(ROW)
        model(ROW)
    model(ROW)
    assert seen == ["A", "B", "C", "a", "b", "c", "A", "a"]
