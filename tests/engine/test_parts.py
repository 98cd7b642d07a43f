"""Small parts of the engine one by one: buffers, claims, devices, words for failures, calls, channels overwritten."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.networks import Step
from torch import Tensor, nn

from interpnet.engine import (
    Call,
    Channel,
    ChannelIndex,
    Instrument,
    best_device,
    find_sites,
    instrument,
    placed,
    resolve_device,
    to_device,
    widest,
)
from interpnet.engine._claim import _USED, claimed
from interpnet.engine._contents import _BEFORE, _OPEN, _RESTLESS, Buffers, buffers_kept
from interpnet.engine._failure import what_failed, where_raised
from interpnet.engine._function import FunctionCheck
from interpnet.engine._operators import argument
from interpnet.engine._removal import Removal
from interpnet.engine._trace import evaluating
from interpnet.errors import LayerError, ModelError


class Held(nn.Module):
    """Two buffers, one of them in a part."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.tensor([1.0, float("nan")]))
        self.register_buffer("empty", None)
        self.part = nn.BatchNorm1d(2)

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return x


def test_buffers_that_changed_are_named_and_come_back_as_the_same_tensors() -> None:
    model = Held()
    own = model.count
    before = Buffers(model)
    assert before.changed() == []
    model.count += 1
    model.part.running_mean = torch.ones(2)
    assert before.changed() == ["count", "part.running_mean"]
    before.restore()
    assert before.changed() == []
    assert model.count is own
    assert model.count[0] == 1.0
    assert model.part.running_mean.tolist() == [0.0, 0.0]
    # One that another size took the place of in its own memory, and one with the same values.
    model.count.resize_(3).fill_(7.0)
    model.part.running_var = model.part.running_var.clone()
    assert before.changed() == ["count", "part.running_var"]
    before.restore()
    assert model.count.shape == (2,)
    assert before.changed() == []


def test_a_network_that_changes_its_buffers_gets_them_back_from_then_on() -> None:
    model = Held()
    with buffers_kept(model):
        model.count += 1
    # Nothing is known of it yet.
    assert model.count[0] == 2.0
    before = Buffers(model)
    model.count += 1
    before.restore()
    assert model in _RESTLESS
    with buffers_kept(model):
        model.count += 1
        with buffers_kept(model):
            model.count += 1
        # The outermost block puts them back.
        assert model.count[0] == 4.0
    assert model.count[0] == 2.0
    assert id(model) not in _OPEN
    assert id(model) not in _BEFORE


def test_a_change_seen_in_a_block_is_undone_at_its_end() -> None:
    model = Held()
    with buffers_kept(model):
        before = Buffers(model)
        model.count += 1
        before.restore()
        model.count += 5
    assert model.count[0] == 1.0
    quiet = Held()
    before = Buffers(quiet)
    before.restore()
    assert quiet not in _RESTLESS


def test_a_block_that_fails_puts_buffers_back() -> None:
    model = Held()
    _RESTLESS.add(model)

    def fail() -> None:
        with evaluating(model):
            model(torch.zeros(1))
            raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        fail()
    assert model.count[0] == 1.0


def test_claims_are_counted_and_end() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    parts = [id(m) for m in model.modules()]
    with claimed(model):
        assert [_USED[part][1] for part in parts] == [1, 1, 1]
        with claimed(model):
            # Who has a network has its parts too.
            assert [_USED[part][1] for part in parts] == [2, 1, 1]
            with claimed(model[0]):
                assert [_USED[part][1] for part in parts] == [2, 2, 1]
        assert [_USED[part][1] for part in parts] == [1, 1, 1]
    assert not set(parts) & set(_USED)


def test_a_part_that_is_claimed_alone_leaves_the_rest_free() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    said: list[str] = []

    def use(what: nn.Module) -> None:
        try:
            with claimed(what):
                said.append("free")
        except ModelError as error:
            said.append(str(error)[:38])

    with claimed(model[0]):
        for what in (model[1], model[0], model):
            thread = threading.Thread(target=use, args=(what,))
            thread.start()
            thread.join()
        with claimed(model):
            pass
    assert said == ["free", *["the model is at work in another thread"] * 2]
    assert not _USED


def test_devices_by_name() -> None:
    cpu = torch.device("cpu")
    assert resolve_device(None) == cpu
    assert resolve_device(None, nn.ReLU()) == cpu
    assert resolve_device(None, nn.Linear(1, 1, device="meta")).type == "meta"
    assert resolve_device("cpu", nn.Linear(1, 1, device="meta")) == cpu
    assert resolve_device(torch.device("cpu", 0)).index == 0
    with pytest.raises(ModelError, match="device='cpu:1' was asked for, but there is one CPU"):
        resolve_device("cpu:1")
    for wrong in ("nonsense", "cuda:x", [], 2.5):
        with pytest.raises(ModelError, match=r"is not a device; expected 'cpu', 'cuda', 'cuda:1'"):
            resolve_device(wrong)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"model is a str; expected a torch.nn.Module"):
        resolve_device(None, "model")  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "said"), [(0, "no usable CUDA devices;"), (1, "1 usable CUDA device;"), (2, "2 us")])
def test_cuda_devices_that_are_not_here(monkeypatch: pytest.MonkeyPatch, count: int, said: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(ModelError, match=f"this machine has {said}"):
        resolve_device(f"cuda:{count}")
    if count:
        assert resolve_device("cuda").type == "cuda"
        assert resolve_device(f"cuda:{count - 1}").index == count - 1
    # A driver may list devices that torch cannot use.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="this machine has no usable CUDA devices"):
        resolve_device("cuda")


def test_the_best_device_and_the_widest_type(monkeypatch: pytest.MonkeyPatch) -> None:
    for cuda, mps, best in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert best_device().type == best
    with pytest.raises(ModelError, match="MPS is not available here"):
        resolve_device("mps")
    assert widest(torch.device("mps")) == torch.float32
    assert widest(torch.device("cuda")) == torch.float64


def test_weights_come_back_from_another_format_also_after_an_error() -> None:
    model = nn.Sequential(nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2))
    tensors = [*model.parameters(), *model.buffers()]
    before = [(t.data_ptr(), t.device, t.stride()) for t in tensors]

    def fail() -> None:
        with placed(model, torch.device("cpu"), "channels_last"):
            assert tensors[0].stride() == (36, 1, 12, 4)
            raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        fail()
    assert [(t.data_ptr(), t.device, t.stride()) for t in tensors] == before
    with placed(model, torch.device("cpu")) as put:
        assert put(torch.zeros(1, 3, 4, 4)).is_contiguous()
    with pytest.raises(Exception, match="memory_format"), placed(model, torch.device("cpu"), "last"):
        pass
    assert to_device(torch.zeros(1, 3, 4, 4), torch.device("cpu")).is_contiguous()


def test_words_for_an_exception() -> None:
    assert what_failed(ValueError("a\n  b")) == "ValueError: a b"
    assert what_failed(ValueError()) == "ValueError"
    assert what_failed(ValueError("x" * 300)) == "ValueError: " + "x" * 300
    assert what_failed(ValueError("x" * 301)) == "ValueError: " + "x" * 300 + " ..."


def test_where_an_exception_was_raised() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm1d(4)))
    said = []
    for part in (model[0], model[1][0], model[1][1]):
        try:
            part(torch.zeros(5))
        except (RuntimeError, ValueError) as error:
            said += [where_raised(error, model), where_raised(error)]
    assert said[0].startswith("in layer '0', a Linear that takes 3 features; file ")
    assert said[2].startswith("in layer '1.0', a Conv2d that takes 1 channels; file ")
    assert said[4].startswith("in layer '1.1', a BatchNorm1d; file ")
    assert all(words.startswith("file ") for words in said[1::2])
    assert all("test_parts.py', line " in words for words in said)
    assert where_raised(KeyError("x"), model) == "in torch's own code"


def seen(step: Any, x: Tensor) -> Call:
    calls: list[Call] = []
    with torch.no_grad(), instrument(model := Step(step), Instrument(observe=lambda call, _: calls.append(call))):
        model(x)
    return calls[-1]


def test_arguments_by_position_and_by_name() -> None:
    assert argument((1, 2), {"b": 3}, 1, "b") == 2
    assert argument((1,), {"b": 3}, 1, "b") == 3
    assert argument((1,), {}, 1, "b") is None
    assert argument((1,), {}, 1, "b", 4) == 4
    x = torch.ones(2, 3)
    by_name = seen(lambda x: torch.relu(input=x), x)
    assert by_name.on(2 * x).kwargs["input"].sum() == 12
    assert by_name.on(2 * x).args == ()
    assert by_name.on(2 * x).run().sum() == 12
    given = seen(lambda x: F.leaky_relu(x, 0.5), -x)
    assert given.on(-2 * x).run().sum() == -6
    assert [t.shape for t in seen(lambda x: torch.cat([x, x]), x).tensors()] == [(2, 3), (2, 3)]
    assert len(seen(lambda x: torch.where(x > 0, input=x, other=x), x).tensors()) == 3


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_windows_and_steps_of_convolutions_and_poolings() -> None:
    x = torch.rand(1, 4, 9, 9)
    same = seen(lambda x: F.conv2d(x, torch.ones(4, 2, 2, 4), padding="same", dilation=(1, 2), groups=2), x)
    how = same.convolution()
    assert (how.stride, how.padding, how.dilation, how.groups) == ((1, 1), ((0, 1), (3, 3)), (1, 2), 2)
    how = seen(lambda x: F.conv2d(x, torch.ones(4, 4, 2, 2), padding="valid", stride=(2, 1)), x).convolution()
    assert (how.stride, how.padding, how.dilation, how.groups) == ((2, 1), ((0, 0), (0, 0)), (1, 1), 1)
    how = seen(lambda x: F.conv2d(x, torch.ones(4, 1, 2, 2), None, 3, (1, 2), 2, 4), x).convolution()
    assert (how.stride, how.padding, how.dilation, how.groups) == ((3, 3), ((1, 1), (2, 2)), (2, 2), 4)
    for step, expected in (
        (lambda x: F.max_pool2d(x, 2), ((2, 2), (2, 2), (0, 0), (1, 1))),
        (lambda x: F.max_pool2d(x, 4, 2, 1, 2), ((4, 4), (2, 2), (1, 1), (2, 2))),
        (lambda x: F.avg_pool2d(x, (2, 4), None, (1, 2)), ((2, 4), (2, 4), (1, 2), (1, 1))),
        (lambda x: F.lp_pool2d(x, 2, 3, 2), ((3, 3), (2, 2), (0, 0), (1, 1))),
        (lambda x: F.lp_pool2d(x, 3.0, (2, 3)), ((2, 3), (2, 3), (0, 0), (1, 1))),
    ):
        window = seen(step, x).pooling()
        assert (window.kernel, window.stride, window.padding, window.dilation) == expected


def test_the_default_eps_of_a_batch_norm() -> None:
    mean, var = torch.tensor([1.0]), torch.tensor([3e-5])
    scale, shift = seen(lambda x: F.batch_norm(x, mean, var), torch.rand(4, 1)).batch_norm_affine()
    torch.testing.assert_close(scale, torch.tensor([(4e-5) ** -0.5]))
    torch.testing.assert_close(shift, -scale)


def test_columns_are_checked() -> None:
    for sizes, said in (
        ([("a", 1, 2)], "expected"),
        ([("a",)], "expected"),
        (["ab"], "expected"),
        ([(1, 2)], "expected"),
        ([("a", 2.0)], "expected"),
        ([("a", 1), ("a", 2)], "'a' is named twice"),
        ([("a", 0)], "'a' has 0 channels"),
    ):
        with pytest.raises(LayerError, match=said):
            ChannelIndex(tuple(sizes))  # type: ignore[arg-type]
    assert len(ChannelIndex((("a", 1),))) == 1
    index = ChannelIndex((("a[0]", 2), ("b*", 1), ("bc", 3)))
    assert index.select("a[0]") == [0, 1]
    assert index.select("b*") == [2, 3, 4, 5]
    assert index.select(["bc", "a*"]) == [0, 1, 3, 4, 5]
    assert ChannelIndex.from_json(index.to_json()) == index
    assert index.to_json() == [["a[0]", 2], ["b*", 1], ["bc", 3]]
    with pytest.raises(LayerError, match=r"channel 2 of layer 'a\[0\]' does not exist; expected 0 to 1"):
        index.position(Channel("a[0]", 2))


class Axes(nn.Module):
    """A rectifier with the channels on axis 1, and one with them on the last."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.up = nn.Linear(2, 3)
        self.out = nn.Linear(3, 2)
        self.kept: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.conv(x) + 9)
        second = F.relu(self.up(first.permute(0, 2, 3, 1)) + 99)
        self.kept = [first.detach().clone(), second.detach().clone()]
        return self.out(second.mean((1, 2)))


@pytest.mark.parametrize("grad", [False, True])
def test_channels_are_overwritten_image_by_image_on_either_axis(grad: bool) -> None:
    model = Axes().eval()
    x = torch.rand(3, 1, 4, 5)
    sites = find_sites(model, x).select()
    removal = Removal(sites, torch.tensor([10.0, 20.0, 30.0, 40.0, 50.0]))
    with torch.set_grad_enabled(grad), instrument(model, Instrument(edits=removal.edits)):
        model(x)
        intact = model.kept
        removal.set([[1, 2], [], [4, 0, 3]])
        model(x)
        first, second = model.kept
        removal.set([[], [], []])
        model(x)
        assert torch.equal(model.kept[0], intact[0])
        removal.set([[4], [4], [3]])
        model(x)
        assert torch.equal(model.kept[0], intact[0])
        assert bool((model.kept[1][..., 2][:2] == 50.0).all())
    assert bool((first[0, 1] == 20.0).all())
    assert bool((first[2, 0] == 10.0).all())
    assert torch.equal(first[0, 0], intact[0][0, 0])
    assert torch.equal(first[1], intact[0][1])
    assert torch.equal(first[2, 1], intact[0][2, 1])
    assert bool((second[0, ..., 0] == 30.0).all())
    assert bool((second[2, ..., 1] == 40.0).all())
    assert bool((second[2, ..., 2] == 50.0).all())
    assert torch.equal(second[1], intact[1][1])
    zeros = Removal(sites)
    zeros.set([[0, 4], [], []])
    with torch.set_grad_enabled(grad), instrument(model, Instrument(edits=zeros.edits)):
        model(x)
    assert bool((model.kept[0][0, 0] == 0).all())
    assert bool((model.kept[1][0, ..., 2] == 0).all())


def test_a_check_knows_a_network_and_its_device() -> None:
    model = nn.Linear(2, 2).eval()
    x = torch.rand(2, 2)
    assert not FunctionCheck(model, x, lambda result, _: [result]).known
    find_sites(model, x)
    assert FunctionCheck(model, x, lambda result, _: [result]).known
    # Other devices add in another order from pass to pass.
    assert FunctionCheck(model, x, lambda result, _: [result])._jitter == pytest.approx(1e-5)
    assert FunctionCheck(model, x.to("meta"), lambda result, _: [result])._jitter == pytest.approx(1e-3)
