"""The engine call by call: who sees what, in which order, and what is left behind; facts of calls by hand."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.networks import Step
from torch import Tensor, nn

from interpnet.engine import Channel, ChannelIndex, Instrument, evaluating, find_sites, instrument, placed, to_device
from interpnet.engine._call import Call, per_axis
from interpnet.engine._operators import operator_kind, operator_name
from interpnet.errors import LayerError, ModelError


class Net(nn.Module):
    """An in-place rectifier, one that is not, and a sum; the image is a row of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(2, 2, bias=False)
        self.lin.weight.data = torch.tensor([[1.0, 0.0], [0.0, -1.0]])
        self.act = nn.ReLU(inplace=True)
        self.out = nn.Linear(2, 2, bias=False)
        self.out.weight.data = torch.eye(2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.lin(x)
        self.act(y)  # the value it returns is dropped, as people do
        return self.out(F.relu(y + 1.0))


X = torch.tensor([[2.0, 3.0]])


def test_edits_apply_from_the_outermost_to_the_innermost_and_every_read_sees_the_result() -> None:
    model = Net().eval()
    seen: dict[str, list[Any]] = {"outer": [], "inner": [], "observed": []}
    outer = Instrument(
        edits={"act": lambda out: out * 10.0}, reads={"act": lambda out: seen["outer"].append(out.tolist())}
    )
    inner = Instrument(
        edits={"act": lambda out: out + 1.0},
        reads={"act": lambda out: seen["inner"].append(out.tolist())},
        observe=lambda call, out: call.name == "act" and seen["observed"].append(out.tolist()),
    )
    with torch.no_grad(), instrument(model, outer), instrument(model, inner):
        y = model(X)
    # lin gives (2, -3), the rectifier (2, 0), the edits (20, 0) and (21, 1).
    assert seen == {"outer": [[[21.0, 1.0]]], "inner": [[[21.0, 1.0]]], "observed": [[[21.0, 1.0]]]}
    assert y.tolist() == [[22.0, 2.0]]
    with torch.no_grad():
        assert model(X).tolist() == [[3.0, 1.0]]


@pytest.mark.parametrize(("grad", "kind"), [(False, "new tensor"), (False, "same tensor"), (True, "new tensor")])
def test_an_edit_reaches_a_network_that_works_in_place(grad: bool, kind: str) -> None:
    """The network goes on with the tensor that it gave the rectifier, so what the edit gives is written there."""
    edit = {"new tensor": lambda out: out + 5.0, "same tensor": lambda out: out.add_(5.0)}[kind]
    model = Net().eval()
    with torch.set_grad_enabled(grad), instrument(model, Instrument(edits={"act": edit})):
        y = model(X)
    assert y.tolist() == [[8.0, 6.0]]
    if grad:
        y.sum().backward()
        assert model.lin.weight.grad.tolist() == [[2.0, 3.0], [0.0, 0.0]]


def test_a_read_sees_the_edited_value_of_an_operator_that_works_on_a_copy() -> None:
    model = Net().eval()
    seen: list[Any] = []
    what = Instrument(edits={"relu": lambda out: out * 10.0}, reads={"relu": lambda out: seen.append(out.tolist())})
    with torch.no_grad(), instrument(model, what):
        assert model(X).tolist() == [[30.0, 10.0]]
    assert seen == [[[30.0, 10.0]]]


def test_calls_are_numbered_afresh_in_every_pass_also_after_one_that_failed() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(2, 2)
            self.fail = False

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.lin(x))
            if self.fail:
                raise RuntimeError("stop")
            return F.relu(self.lin(x))

    model = Twice().eval()
    names: list[str] = []
    with torch.no_grad(), instrument(model, Instrument(observe=lambda call, _: names.append(call.name))):
        model(X)
        model.fail = True
        with pytest.raises(RuntimeError, match="stop"):
            model(X)
        model.fail = False
        model(X)
    named = [name for name in names if name]
    assert named == ["lin", "relu", "lin:1", "relu:1", "lin", "relu", "lin", "relu", "lin:1", "relu:1"]


def test_the_innermost_rule_counts_and_none_without_gradients() -> None:
    model = Net().eval()
    used: list[str] = []

    def rule(name: str) -> Callable[[Call], Tensor | None]:
        def note(call: Call) -> None:
            used.append(f"{name} {call.name}")

        return note

    with instrument(model, Instrument(rule=rule("outer"))), instrument(model, Instrument(rule=rule("inner"))):
        model(X)
        assert used == ["inner lin", "inner act", "inner relu", "inner out"]
        used.clear()
        with torch.no_grad():
            model(X)
    assert used == []


def test_what_is_done_before_a_pass_gets_the_images_once_per_pass() -> None:
    model = Net().eval()
    seen: list[Any] = []
    with torch.no_grad(), instrument(model, Instrument(before=lambda args: seen.append(args[0].tolist()))):
        model(X)
        model(2 * X)
    assert seen == [X.tolist(), (2 * X).tolist()]


def test_equal_instruments_end_one_at_a_time() -> None:
    model = Net().eval()
    count: list[int] = []
    what = Instrument(reads={"act": lambda _: count.append(1)})
    with torch.no_grad(), instrument(model, what):
        with instrument(model, what):
            model(X)
        model(X)
    model(X)
    assert len(count) == 3
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("error", [False, True])
def test_modes_and_flags_come_back_one_by_one(frozen: bool, error: bool) -> None:
    model = nn.Sequential(nn.Dropout(), nn.Linear(2, 2), nn.BatchNorm1d(2)).train()
    model[0].eval()
    model[1].bias.requires_grad_(False)
    before = [True, False, True, True]

    def fail() -> None:
        raise KeyError("x")

    with suppress(KeyError), evaluating(model, frozen=frozen):
        assert not any(m.training for m in model.modules())
        expected = {True: [False] * 4, False: before}[frozen]
        assert [p.requires_grad for p in model.parameters()] == expected
        if error:
            fail()
    assert [m.training for m in model.modules()] == [True, False, True, True]
    assert [p.requires_grad for p in model.parameters()] == before


@pytest.mark.parametrize(("memory_format", "last"), [("auto", True), ("channels_last", True), ("contiguous", False)])
def test_memory_formats_are_for_the_block_alone(memory_format: str, last: bool) -> None:
    conv = nn.Conv2d(3, 4, 3)
    before = [(p.data_ptr(), p.stride()) for p in conv.parameters()]
    with placed(conv, torch.device("cpu"), memory_format) as put:
        assert conv.weight.is_contiguous(memory_format=torch.channels_last) == last
        assert put(torch.zeros(2, 3, 8, 8)).is_contiguous(memory_format=torch.channels_last) == last
        assert put(torch.zeros(2, 3)).shape == (2, 3)
    assert [(p.data_ptr(), p.stride()) for p in conv.parameters()] == before
    linear = nn.Linear(3, 4)
    with placed(linear, torch.device("cpu"), "auto") as put:
        assert put(torch.zeros(2, 3, 8, 8)).is_contiguous()
    assert to_device(torch.zeros(1, 3, 4, 4), torch.device("cpu"), channels_last=True).stride() == (48, 1, 12, 3)


# --- what is known of a call ------------------------------------------------------------------------------


def called(model: nn.Module, x: Tensor) -> dict[str, Call]:
    calls: dict[str, Call] = {}
    with torch.no_grad(), instrument(model.eval(), Instrument(observe=lambda call, _: calls.setdefault(call.op, call))):
        model(x)
    return calls


@pytest.mark.parametrize("affine", [True, False])
def test_a_fixed_batch_norm_as_scale_and_shift(affine: bool) -> None:
    norm = nn.BatchNorm2d(3, eps=0.5, affine=affine)
    norm.running_mean.copy_(torch.tensor([1.0, -2.0, 0.5]))
    norm.running_var.copy_(torch.tensor([0.5, 1.5, 3.5]))
    if affine:
        norm.weight.data = torch.tensor([2.0, -1.0, 0.5])
        norm.bias.data = torch.tensor([0.25, 1.0, -3.0])
    x = torch.randn(2, 3, 4, 4)
    call = called(norm, x)["batch_norm"]
    assert call.fixed_batch_norm
    scale, shift = call.batch_norm_affine()
    expected = torch.tensor([1.0, 0.5**0.5, 0.5])  # of 1 / sqrt(var + 0.5): 1, 1/sqrt 2, 1/2
    if affine:
        expected = expected * torch.tensor([2.0, -1.0, 0.5])
    torch.testing.assert_close(scale, expected)
    torch.testing.assert_close(norm(x), x * scale.view(3, 1, 1) + shift.view(3, 1, 1))
    other = Step(lambda x: torch.batch_norm(x, None, None, norm.running_mean, norm.running_var, False, 0.1, 0.5, False))
    found = called(other, x)["batch_norm"].batch_norm_affine()
    torch.testing.assert_close(found[0], torch.tensor([1.0, 0.5**0.5, 0.5]))


def test_a_batch_norm_that_trains_or_keeps_no_statistics_is_not_fixed() -> None:
    x = torch.randn(4, 3, 2, 2)
    assert not called(nn.BatchNorm2d(3, track_running_stats=False), x)["batch_norm"].fixed_batch_norm
    mean = torch.zeros(3)
    training = Step(lambda x: F.batch_norm(x, mean.clone(), mean.clone() + 1, training=True))
    assert not called(training, x)["batch_norm"].fixed_batch_norm
    assert not called(nn.ReLU(), x)["relu"].fixed_batch_norm


@pytest.mark.parametrize(
    ("value", "n", "expected"),
    [(3, 2, (3, 3)), ((3,), 2, (3, 3)), ([2, 1], 2, (2, 1)), ((1, 2, 3), 3, (1, 2, 3)), (0, 1, (0,))],
)
def test_numbers_per_axis(value: Any, n: int, expected: tuple[int, ...]) -> None:
    assert per_axis(value, n) == expected


IN_PLACE: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "relu": (F.relu, False),
    "relu by name": (lambda x: F.relu(x, inplace=True), True),
    "relu by position": (lambda x: F.relu(x, True), True),
    "leaky by position": (lambda x: F.leaky_relu(x, 0.1, True), True),
    "leaky with a slope of one": (lambda x: F.leaky_relu(x, True), False),
    "relu_": (torch.relu_, True),
    "+=": (lambda x: x.__iadd__(x), True),
    "+": (lambda x: x + x, False),
    "hardtanh by position": (lambda x: F.hardtanh(x, 0.0, 1.0, True), True),
    "threshold by position": (lambda x: F.threshold(x, 0.0, 0.0, True), True),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_calls_that_overwrite_their_input(name: str) -> None:
    step, expected = IN_PLACE[name]
    calls: list[Call] = []
    model = Step(step)
    with torch.no_grad(), instrument(model, Instrument(observe=lambda call, _: calls.append(call))):
        model(torch.randn(2, 2))
    found = [call.inplace for call in calls if call.kind is not None]
    assert found
    assert set(found) == {expected}


KINDS: dict[str, tuple[Callable[[Tensor], Any], str | None]] = {
    "clamp from zero": (lambda x: x.clamp(min=0), "rectifier"),
    "clamp from zero, by position": (lambda x: torch.clamp(x, 0.0), "rectifier"),
    "clamp from zero to six": (lambda x: x.clamp(0, 6), "rectifier"),
    "clamp from above": (lambda x: x.clamp(max=0), None),
    "clip": (lambda x: x.clip(0), "rectifier"),
    "clamp_min": (lambda x: x.clamp_min(0), "rectifier"),
    "clamp_min elsewhere": (lambda x: x.clamp_min(0.5), None),
    "hardtanh from zero": (lambda x: F.hardtanh(x, 0, 6), "rectifier"),
    "hardtanh": (F.hardtanh, "activation"),
    "threshold at zero": (lambda x: F.threshold(x, 0, 0), "rectifier"),
    "threshold to another value": (lambda x: F.threshold(x, 0, -1), "activation"),
    "threshold elsewhere": (lambda x: F.threshold(x, 1, 0), "activation"),
    "maximum with zero": (lambda x: torch.maximum(x, torch.tensor(0.0)), "rectifier"),
    "maximum with one": (lambda x: torch.maximum(x, torch.tensor(1.0)), None),
    "mean over axes": (lambda x: x.mean((2, 3)), "pool"),
    "mean over axes, by name": (lambda x: x.mean(dim=2), "pool"),
    "mean of everything": (lambda x: x.mean(), None),
    "amax": (lambda x: x.amax((2, 3)), "pool"),
    "sum of maps": (lambda x: x + x, "add"),
    "sum with a number": (lambda x: x + 1.0, None),
    "product of maps": (lambda x: x * x, "mul"),
    "product with a number": (lambda x: 2.0 * x, None),
    "sigmoid": (torch.sigmoid, "activation"),
    "softmax": (lambda x: x.softmax(1), "softmax"),
    "group norm": (lambda x: F.group_norm(x, 1), "norm"),
    "exp": (torch.exp, None),
}


@pytest.mark.parametrize("name", KINDS)
def test_which_calls_make_sites(name: str) -> None:
    step, kind = KINDS[name]
    calls: list[Call] = []
    with torch.no_grad(), instrument(model := Step(step), Instrument(observe=lambda call, _: calls.append(call))):
        model(torch.randn(2, 2, 3, 3))
    kinds = [call.kind for call in calls]
    assert [k for k in kinds if k is not None] == ([] if kind is None else [kind])


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (torch.relu_, "relu"),
        (Tensor.__iadd__, "add"),
        (Tensor.__radd__, "add"),
        (Tensor.__truediv__, "div"),
        (Tensor.__itruediv__, "div"),
        (Tensor.__imul__, "mul"),
        (Tensor.__rsub__, "rsub"),
        (Tensor.__getitem__, "getitem"),
        (F.max_pool2d_with_indices, "max_pool2d_with_indices"),
    ],
)
def test_names_of_operators(function: Callable[..., Any], name: str) -> None:
    assert operator_name(function) == name


def test_arithmetic_of_parameters_makes_no_site() -> None:
    row = torch.ones(3)
    assert operator_kind("add", (torch.ones(2, 2), torch.ones(2, 2)), {}) == "add"
    assert operator_kind("add", (row, row), {}) is None
    assert operator_kind("mul", (2.0, row), {}) is None


# --- gates, outputs and columns ---------------------------------------------------------------------------


def test_gates_by_their_kind_or_by_their_size() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 4, 3, padding=1)
            self.small = nn.Conv2d(4, 4, 1)
            self.scale = nn.Conv2d(4, 4, 1)
            self.out = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.relu(self.conv(x))
            pooled = y.mean((2, 3), keepdim=True)
            y = y * torch.relu(self.small(pooled))  # a gate by its size alone
            y = y * torch.sigmoid(self.scale(y))  # a gate by its operator
            return self.out(y.mean((2, 3)))

    trace = find_sites(Gated(), torch.randn(2, 2, 6, 6))
    # The pooled map only makes the gate.
    assert {s.name for s in trace.sites if s.gate} == {"mean", "small", "relu:1", "scale", "sigmoid"}
    assert [s.name for s in trace.select()] == ["relu"]
    assert [s.name for s in trace.sites if s.output] == ["out"]


def test_everything_after_the_last_weights_is_the_output() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3), nn.ReLU(), nn.Softmax(1))
    trace = find_sites(net, torch.randn(2, 1, 6, 6))
    assert [s.name for s in trace.sites if s.output] == ["3", "4", "5"]
    assert [s.name for s in trace.select()] == ["1"]
    assert [s.name for s in trace.select("all")] == ["0", "1"]
    assert (trace.n_outputs, trace.image_shape) == (3, (1, 6, 6))
    assert [(s.family, s.kind, s.channels, s.map_shape) for s in trace.sites[:2]] == [
        ("conv", "conv", 2, (4, 4)),
        ("conv", "rectifier", 2, (4, 4)),
    ]


def test_columns_of_channels_by_hand() -> None:
    index = ChannelIndex((("a", 2), ("b", 3), ("c", 1)))
    assert [index.position(Channel(*entry)) for entry in [("a", 1), ("b", 0), ("b", 2), ("c", 0)]] == [1, 2, 4, 5]
    assert [str(index[i]) for i in (0, 2, 4, 5, -1, -6)] == ["a[0]", "b[0]", "b[2]", "c[0]", "c[0]", "a[0]"]
    assert [str(c) for c in index[1:4]] == ["a[1]", "b[0]", "b[1]"]
    assert [str(c) for c in index] == ["a[0]", "a[1]", "b[0]", "b[1]", "b[2]", "c[0]"]
    assert index.slice("b") == slice(2, 5)
    assert index.select(["c", "b"]) == [2, 3, 4, 5]
    for wrong in (6, -7):
        with pytest.raises(IndexError, match=f"channel {wrong} of 6"):
            index[wrong]
    with pytest.raises(LayerError, match="channel -1 of layer 'b' does not exist; expected 0 to 2"):
        index.position(Channel("b", -1))
    with pytest.raises(LayerError, match="layer 'd' has 0 channels; expected at least 1"):
        ChannelIndex((("a", 2), ("d", 0)))


def test_a_network_that_returns_what_it_did_not_compute_is_refused() -> None:
    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(2, 2)
            self.cache = torch.zeros(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            self.lin(x)
            return self.cache

    with pytest.raises(ModelError, match=r"a cached or detached value|does not depend"):
        find_sites(Cached(), torch.randn(2, 2))


def test_why_a_site_cannot_be_used_is_said() -> None:
    class Unbatched(nn.Module):
        """Convolves the images one by one, without their batch axis."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3)
            self.out = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            maps = torch.stack([self.conv(image) for image in x])
            return self.out(torch.relu(maps).mean((2, 3)))

    trace = find_sites(Unbatched(), torch.randn(2, 1, 5, 5))
    why = {site.name: site.why for site in trace.sites}
    assert why == {
        "conv": "its output (3, 3, 3) has no batch axis in front (the batch has 2 images)",
        "conv:1": "its output (3, 3, 3) has no batch axis in front (the batch has 2 images)",
        "relu": "its channel axis is not known: 'stack' is not known to keep the channel axis",
        "mean": "its channel axis is not known: 'stack' is not known to keep the channel axis",
        "out": "",
    }
    with pytest.raises(LayerError, match="'conv' cannot be used: its output"):
        trace.usable("conv")
