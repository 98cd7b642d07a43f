"""The engine: names, reading, editing, nesting, and leaving nothing behind."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from helpers.networks import SPELLINGS, Branches, Spelled
from torch import nn

from interpnet.engine import Instrument, evaluating, find_sites, instrument, unwrap
from interpnet.errors import ModelError


def state(model: nn.Module) -> list[object]:
    """Everything that an attachment could leave behind."""
    kept: list[object] = []
    for name, module in model.named_modules():
        kept.append((name, module.training, len(module._forward_hooks), len(module._forward_pre_hooks)))
        kept.append((len(module._backward_hooks), len(module._forward_hooks_always_called), sorted(module.__dict__)))
    for name, p in model.named_parameters():
        kept.append((name, p.requires_grad, p._version, p.data_ptr(), p.grad is None))
    return kept


def names_of(model: nn.Module, x: torch.Tensor) -> list[str]:
    seen: list[str] = []
    what = Instrument(observe=lambda call, _out: seen.append(call.name) if call.kind else None)
    with torch.no_grad(), instrument(model, what):
        model(x)
    return seen


def test_names_are_module_paths_with_operator_and_call_number() -> None:
    x = torch.randn(2, 3, 8, 8)
    assert names_of(Spelled("reused"), x) == [
        "conv1",
        "bn1",
        "relu",
        "conv2",
        "relu:1",
        "conv3",
        "add",
        "relu:2",
        "mean",
        "fc1",
        "relu:3",
        "fc2",
    ]
    assert names_of(Spelled("module"), x)[2] == "r1"
    nested = nn.Sequential(Branches())
    assert names_of(nested, torch.randn(1, 2, 16, 16))[:4] == ["0.a", "0:relu", "0.b", "0:relu:1"]


def test_names_do_not_change_from_one_forward_to_the_next() -> None:
    model = Spelled("functional")
    x = torch.randn(1, 3, 8, 8)
    seen: list[str] = []
    with instrument(model, Instrument(observe=lambda call, _o: seen.append(call.name) if call.kind else None)):
        model(x)
        first = list(seen)
        seen.clear()
        model(x)
    assert seen == first


def test_reading_is_not_fooled_by_a_later_in_place_operation() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 1, bias=False), nn.ReLU(inplace=True))
    x = torch.randn(2, 1, 4, 4)
    norms = []
    with (
        torch.inference_mode(),
        instrument(model, Instrument(reads={"0": lambda out: norms.append(torch.linalg.vector_norm(out, dim=(2, 3)))})),
    ):
        model(x)
    expected = torch.linalg.vector_norm(model[0](x), dim=(2, 3))
    torch.testing.assert_close(norms[0], expected)
    assert (model[0](x) < 0).any(), "the case needs negative values for the ReLU to remove"


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_edit_reaches_every_spelling(spelling: str) -> None:
    model = Spelled(spelling).eval()
    x = torch.randn(2, 3, 8, 8)
    site = {"module": "r2", "inplace": "r2", "functional": "relu:1", "method": "relu:1", "reused": "relu:1"}[spelling]
    with torch.no_grad():
        y = F.relu(model.bn1(model.conv1(x)))
        y = torch.zeros_like(model.conv2(y))
        y = F.relu(model.conv3(y) + y).mean((2, 3))
        expected = model.fc2(F.relu(model.fc1(y)))
        with instrument(model, Instrument(edits={site: torch.zeros_like})):
            edited = model(x)
    torch.testing.assert_close(edited, expected)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_edit_keeps_gradients_right(spelling: str) -> None:
    """An edit under autograd acts on the gradient too: halving an activation halves what flows through it."""
    model = Spelled(spelling).eval().double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    site = {"module": "r3", "inplace": "r3", "functional": "relu:2", "method": "relu:2", "reused": "relu:2"}[spelling]
    x.requires_grad_()
    with instrument(model, Instrument(edits={site: lambda out: out * 0.5})):
        assert torch.autograd.gradcheck(lambda v: model(v.clone()), x, fast_mode=True)


def test_nothing_is_left_behind() -> None:
    model = Spelled("inplace").train()
    before = state(model)
    with instrument(model, Instrument(edits={"r1": lambda out: out * 2}, reads={"r2": lambda _out: None})):
        model(torch.randn(1, 3, 8, 8))
    assert state(model)[0] == before[0]
    assert [s for s in state(model) if s not in before and not isinstance(s[0], str)] == []


@pytest.mark.parametrize("where", ["forward", "read", "edit"])
def test_nothing_is_left_behind_after_an_exception(where: str) -> None:
    model = Spelled("module").eval()
    before = state(model)

    def broken(_out: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("broken on purpose")

    what = Instrument(reads={"r1": broken} if where == "read" else {}, edits={"r1": broken} if where == "edit" else {})
    x = torch.randn(1, 5 if where == "forward" else 3, 8, 8)
    with pytest.raises(RuntimeError, match=r"broken on purpose|channels"), instrument(model, what):
        model(x)
    assert state(model) == before
    # The engine works again afterwards, with fresh names.
    assert names_of(model, torch.randn(1, 3, 8, 8))[0] == "conv1"


def test_nested_instruments_share_one_engine_and_see_each_other() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())
    seen = []
    with (
        torch.no_grad(),
        instrument(model, Instrument(edits={"1": torch.zeros_like})),
        instrument(model, Instrument(reads={"1": lambda out: seen.append(float(out.abs().sum()))})),
    ):
        model(torch.ones(1, 1, 2, 2))
    assert seen == [0.0]


def test_scripted_models_are_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates scripting, in another category in each release
        scripted = torch.jit.script(nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()))
    with pytest.raises(ModelError, match="TorchScript module, which hides its operators"):
        unwrap(scripted)
    with pytest.raises(ModelError, match="its part '0' is a TorchScript module"):
        unwrap(nn.Sequential(scripted))
    with pytest.raises(ModelError, match=r"a str; expected a torch.nn.Module"):
        unwrap("resnet18")


def test_compiled_models_are_unwrapped() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())
    assert unwrap(torch.compile(model)) is model
    assert unwrap(nn.DataParallel(torch.compile(model))) is model
    partly = nn.Sequential(torch.compile(model), nn.Flatten())
    assert names_of(partly, torch.zeros(1, 1, 2, 2)) == ["0.0", "0.1"]


def test_evaluating_restores_each_flag() -> None:
    model = Spelled("module").train()
    model.bn1.eval()
    model.conv1.weight.requires_grad_(False)
    flags = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]

    def fail() -> None:
        with evaluating(model, frozen=True):
            assert not any(m.training for m in model.modules())
            assert not any(p.requires_grad for p in model.parameters())
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    assert flags == ([m.training for m in model.modules()], [p.requires_grad for p in model.parameters()])


class _Constants(nn.Module):
    """Calls that made no site once, each before one that always did."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 2)
        self.weight = nn.Parameter(torch.ones(5))
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        if self.how == "before":
            x = x * torch.sigmoid(x) + x
        elif self.how == "now":
            x = x * torch.sigmoid(self.weight * x)
            x = self.weight.sum() + x + x
            variance, mean = torch.var_mean(x, 1, keepdim=True)
            x = (x - mean) / (variance + 1)
        return self.head(x.mean((2, 3)))


def test_calls_that_make_a_site_since_leave_the_others_their_names() -> None:
    x = torch.rand(2, 3, 7, 7)
    before, now = ({s.name: s.kind for s in find_sites(_Constants(how).eval(), x).sites} for how in ("before", "now"))
    assert before == {name: now[name] for name in before}
    assert [now[name] for name in ("rmul", "radd", "var_mean", "mul")] == ["mul", "add", "pool", "rectifier"]
