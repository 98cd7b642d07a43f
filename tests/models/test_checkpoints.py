"""Layouts of checkpoints: the weights that fit are found, a choice is said, and nothing is unpickled."""

from __future__ import annotations

import argparse
import collections
import datetime as dt
import os
import pathlib
import types
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from interpnet.errors import ModelError
from interpnet.models import describe_model, load_model

NET = """
from torch import nn

def make():
    body = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*body, nn.Linear(4, 3))

def two():
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))

def parts():
    return nn.ModuleDict({"encoder": nn.Linear(3, 2), "head": nn.Linear(2, 2)})

def half():
    return nn.Linear(2, 2).half()
"""

State = dict[str, torch.Tensor]


@pytest.fixture
def net(tmp_path: Path) -> str:
    """Write a file of factories and return the specification of the first."""
    (tmp_path / "net.py").write_text(NET)
    return f"{tmp_path / 'net.py'}:make"


@pytest.fixture
def state(net: str) -> State:
    """Return weights that fit, other than those of the factory."""
    return shifted(load_model(net).state_dict(), 1)


def shifted(state: State, by: float) -> State:
    """Return other weights in the same shapes."""
    return {name: value + by if value.is_floating_point() else value for name, value in state.items()}


def prefixed(state: State, prefix: str) -> State:
    """Put a prefix before every name."""
    return {prefix + name: value for name, value in state.items()}


def loaded(net: str, content: object, **options: object) -> State:
    """Save a checkpoint beside the factory's file, load it, and return the model's weights."""
    file = Path(net.rpartition(":")[0]).with_name("c.pth")
    torch.save(content, file)
    return load_model(net, weights=file, **options).state_dict()


def assert_equal(found: State, expected: State) -> None:
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name


def averaged(state: State) -> State:
    return {"n_averaged": torch.tensor(3), **prefixed(state, "module.")}


# --- one set of weights ---

LAYOUTS: dict[str, Callable[[State], object]] = {
    "bare": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "model": lambda s: {"model": s},
    "model_state_dict": lambda s: {"epoch": 3, "model_state_dict": s, "optimizer_state_dict": {}, "loss": 0.1},
    "model_state": lambda s: {"model_state": s},
    "net": lambda s: {"net": s, "acc": 90.0, "epoch": 1},
    "network": lambda s: {"network": s},
    "weights": lambda s: {"weights": s},
    "params": lambda s: {"params": s},
    "any other key": lambda s: {"resnet": s},
    "nested twice": lambda s: {"checkpoint": {"model": {"state_dict": s}}},
    "in a list": lambda s: {"models": [s], "folds": 1},
    "only averaged": lambda s: {"state_dict_ema": s},
    "AveragedModel": averaged,
    "DataParallel": lambda s: prefixed(s, "module."),
    "compiled": lambda s: prefixed(s, "_orig_mod."),
    "compiled and DataParallel": lambda s: prefixed(s, "module._orig_mod."),
    "DataParallel in Lightning": lambda s: {"state_dict": prefixed(s, "model.module.")},
    "compiled in Lightning": lambda s: {"state_dict": prefixed(s, "net._orig_mod.")},
    "DataParallel of one part": lambda s: {
        name.replace("0.", "0.module.", 1) if name.startswith("0.") else name: value for name, value in s.items()
    },
    "Lightning and a weighted loss": lambda s: {
        "state_dict": {**prefixed(s, "model."), "criterion.weight": torch.ones(3)},
        "pytorch-lightning_version": "2.2",
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.9)}},
        "hyper_parameters": {"lr": 0.1},
    },
    "Lightning and a metric": lambda s: {
        "state_dict": {**prefixed(s, "network."), "val_acc.total": torch.ones(1), "train_loss.sum": torch.ones(1)}
    },
    "backbone": lambda s: prefixed(s, "backbone."),
    "encoder": lambda s: {"state_dict": prefixed(s, "encoder.")},
    "thop": lambda s: {
        **s, "total_ops": torch.zeros(1), "total_params": torch.zeros(1), "0.total_ops": torch.zeros(1),
        "0.total_params": torch.zeros(1),
    },
    "numbers beside": lambda s: {**s, "epoch": 4, "best": None, "name": "net"},
    "a tensor beside": lambda s: {"state_dict": s, "rng_state": torch.get_rng_state(), "best_acc1": torch.tensor(76.1)},
    "an optimizer": lambda s: {
        "model": s, "optimizer": {"state": {0: {"exp_avg": torch.zeros(4, 3, 3, 3)}}, "param_groups": [{"lr": 0.1}]}
    },
    "no batch counters": lambda s: {n: v for n, v in s.items() if "num_batches" not in n},
    "OrderedDict": OrderedDict,
    "parameters": lambda s: {n: nn.Parameter(v) if v.is_floating_point() else v for n, v in s.items()},
    "double": lambda s: {n: v.double() if v.is_floating_point() else v for n, v in s.items()},
    "numpy arrays": lambda s: {n: v.numpy() for n, v in s.items()},
    "numpy arrays in Fortran's order": lambda s: {n: np.require(v.numpy(), requirements="F") for n, v in s.items()},
    "numpy scalars": lambda s: {"state_dict": s, "acc": np.float64(93.2), "n": np.int64(3), "best": np.bool_(True)},
    "a numpy array of metrics": lambda s: {"state_dict": s, "per_class": np.zeros(3), "names": np.array(["a", "b"])},
    "options of the command line": lambda s: {"model": s, "args": argparse.Namespace(lr=0.1, out=pathlib.Path("x"))},
    "dates and names": lambda s: {
        "model": s, "time": dt.datetime(2024, 1, 1), "config": types.SimpleNamespace(a=1),  # noqa: DTZ001
        "count": collections.Counter("aab"),
    },
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_common_layouts_load_without_a_word(layout: str, net: str, state: State):
    assert_equal(loaded(net, LAYOUTS[layout](state)), state)


def test_older_files_of_torch(net: str, state: State, tmp_path: Path):
    content = {"net": state, "acc": np.float32(0.5), "args": argparse.Namespace(a=1)}
    torch.save(content, tmp_path / "c.pth", _use_new_zipfile_serialization=False)
    assert_equal(load_model(net, weights=tmp_path / "c.pth").state_dict(), state)


def test_a_true_averaged_model(net: str, state: State):
    model = load_model(net)
    model.load_state_dict(state)
    wrapped = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    wrapped.update_parameters(model)
    assert_equal(loaded(net, wrapped.state_dict()), state)


def test_parts_saved_one_by_one(net: str):
    spec = net.replace(":make", ":parts")
    state = shifted(load_model(spec).state_dict(), 1)
    content = {
        part: {name.removeprefix(f"{part}."): v for name, v in state.items() if name.startswith(part)}
        for part in ("encoder", "head")
    }
    assert_equal(loaded(spec, {"epoch": 1, "net": content}), state)


def test_a_prefix_of_the_models_own_stays(tmp_path: Path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\ndef make():\n"
        "    return nn.ModuleDict({'module': nn.Linear(2, 2), 'model': nn.Linear(2, 2)})\n"
    )
    spec = f"{tmp_path / 'net.py'}:make"
    state = shifted(load_model(spec).state_dict(), 1)
    assert_equal(loaded(spec, state), state)
    assert_equal(loaded(spec, prefixed(state, "model.")), state)


# --- several ---

PAIRS: dict[str, tuple[str, Callable[[State, State], object]]] = {
    "timm": ("state_dict_ema", lambda raw, ema: {"state_dict": raw, "state_dict_ema": ema}),
    "torchvision": ("model_ema", lambda raw, ema: {"model": raw, "model_ema": averaged(ema)}),
    "ema": ("ema", lambda raw, ema: {"model": raw, "ema": ema}),
    "nested": ("ema.state_dict", lambda raw, ema: {"net": raw, "ema": {"state_dict": ema, "decay": 0.99}}),
    "swa": ("swa_state_dict", lambda raw, ema: {"model_state_dict": raw, "swa_state_dict": averaged(ema)}),
    "callback": ("callbacks.EMA.weights", lambda raw, ema: {
        "state_dict": prefixed(raw, "model."), "callbacks": {"EMA": {"weights": prefixed(ema, "model.")}}
    }),
    "by its counter": ("second", lambda raw, ema: {"first": raw, "second": averaged(ema)}),
    "prefix": ("state_dict.ema_model", lambda raw, ema: {
        "state_dict": {**prefixed(raw, "model."), **prefixed(ema, "ema_model.")}
    }),
    "camel case": ("modelEma", lambda raw, ema: {"model": raw, "modelEma": ema}),
    "averaged first": ("ema", lambda raw, ema: {"ema": ema, "model": raw}),
}  # fmt: skip


@pytest.mark.parametrize("layout", PAIRS)
@pytest.mark.filterwarnings("ignore:weights .* others are not used")
def test_averaged_weights_are_taken_and_said(layout: str, net: str, state: State):
    key, make = PAIRS[layout]
    raw = shifted(state, 1)
    with pytest.warns(
        UserWarning, match=r"several weights that fit: the averaged weights under .* are taken"
    ) as caught:
        assert_equal(loaded(net, make(raw, state)), state)
    text = str(caught[0].message)
    assert repr(key) in text or repr(f"{key}.model") in text
    assert "--weights-key" in text


@pytest.mark.filterwarnings("ignore:weights .* others are not used")
@pytest.mark.parametrize("layout", PAIRS)
def test_a_key_chooses_without_a_warning(layout: str, net: str, state: State):
    key, make = PAIRS[layout]
    raw = shifted(state, 1)
    assert_equal(loaded(net, make(raw, state), weights_key=key), state)


def test_the_other_weights_by_their_key(net: str, state: State):
    raw = shifted(state, 1)
    assert_equal(loaded(net, {"state_dict": raw, "state_dict_ema": state}, weights_key="state_dict"), raw)
    both = {"state_dict": {**prefixed(raw, "student."), **prefixed(state, "teacher.")}}
    for key, expected in (("state_dict.student", raw), ("state_dict.teacher", state)):
        assert_equal(loaded(net, both, weights_key=key), expected)
    with pytest.raises(
        ModelError, match=r"several parts of it fit Sequential: 'state_dict.student', 'state_dict.teach"
    ):
        loaded(net, both, weights_key="state_dict")


def test_equal_weights_are_no_choice(net: str, state: State):
    assert_equal(loaded(net, {"model": state, "model_ema": dict(state)}), state)


@pytest.mark.parametrize(
    "make",
    [
        lambda a, b: {"student": a, "teacher": b},
        lambda a, b: {"best": a, "last": b},
        lambda a, b: {"model_ema": a, "model_swa": b},
        lambda a, b: [("folds", 1)] and {"folds": [a, b]},
        lambda a, b: {**prefixed(a, "encoder_q."), **prefixed(b, "encoder_k.")},
        lambda a, b: {"model": a, "net": b},
    ],
)
def test_an_open_choice_is_refused(make: Callable[[State, State], object], net: str, state: State):
    with pytest.raises(
        ModelError, match=r"hold several state dicts that fit Sequential: .*weights_key= .--weights-key"
    ):
        loaded(net, make(state, shifted(state, 1)))


def test_the_usual_name_goes_before_others_with_a_warning(net: str, state: State):
    with pytest.warns(UserWarning, match="the weights under 'model' are taken, not those under 'initial'"):
        assert_equal(loaded(net, {"model": state, "initial": shifted(state, 1)}), state)


@pytest.mark.parametrize(
    ("place", "make"),
    [
        ("ema", lambda s: {"ema": {n: v for n, v in s.items() if "running" not in n}}),
        ("ema.shadow_params", lambda s: {"ema": {"decay": 0.9, "shadow_params": list(s.values())}}),
        ("model_ema", lambda s: {"model_ema": {"other": torch.ones(2)}}),
    ],
)
def test_averaged_weights_that_do_not_fit_are_named(place: str, make: Callable[[State], dict], net: str, state: State):
    with pytest.warns(UserWarning, match=rf"holds averaged weights under '{place}', which do not fit"):
        assert_equal(loaded(net, {"model": state, **make(shifted(state, 1))}), state)


def test_tensors_that_are_not_used_are_named(net: str, state: State):
    content = {"state_dict": {**prefixed(state, "backbone."), "head.weight": torch.ones(2), "head.bias": torch.ones(2)}}
    with pytest.warns(UserWarning, match=r"under 'state_dict.backbone'; 2 others are not used: head.weight, head.bias"):
        assert_equal(loaded(net, content), state)


@pytest.mark.filterwarnings("ignore:weights .* others are not used")
def test_safetensors_have_prefixes_too(net: str, state: State, tmp_path: Path):
    file = tmp_path / "w.safetensors"
    both = {**prefixed(state, "ema."), **prefixed(shifted(state, 1), "model.")}
    # The format does not take a tensor twice.
    save_file({name: value.clone() for name, value in both.items()}, file)
    with pytest.warns(UserWarning, match="the averaged weights under 'ema' are taken"):
        assert_equal(load_model(net, weights=file).state_dict(), state)


# --- errors ---


def test_keys_that_do_not_exist_or_fit_are_named(net: str, state: State):
    content = {"model": state, "small": {"weight": torch.ones(2)}}
    with pytest.raises(
        ModelError, match=r"nothing under the key 'modl'; they have 'model', 'small'; did you mean 'model'"
    ):
        loaded(net, content, weights_key="modl")
    with pytest.raises(ModelError, match=r"do not fit Sequential: missing 0.weight"):
        loaded(net, content, weights_key="small")


@pytest.mark.parametrize("weights", [None, "random", "pretrained"])
def test_a_key_needs_a_file(weights: str | None, net: str):
    with pytest.raises(ModelError, match="weights_key is 'ema' with weights="):
        load_model(net, weights=weights, weights_key="ema")
    with pytest.raises(ModelError, match="weights_key is 'ema'"):
        load_model("torchvision:squeezenet1_1", weights="IMAGENET1K_V1", weights_key="ema")


def test_where_nothing_fits_the_closest_is_described(net: str, state: State):
    other = {name: value for name, value in state.items() if name != "5.bias"}
    content = {"model": other, "ema": {"a": torch.ones(1)}, "optimizer": {"lr": torch.ones(1)}}
    with pytest.raises(
        ModelError, match=r"do not fit Sequential, closest under 'model' \(beside 'ema', 'optimizer'\): missing 5.bias$"
    ):
        loaded(net, content)


def test_another_number_of_classes_is_recognised_below_a_key_and_prefix(net: str, state: State):
    state["5.weight"] = torch.ones(7, 4)
    state["5.bias"] = torch.ones(7)
    with pytest.raises(ModelError, match=r"seems to be for 7 classes where the model has 3: give num_classes=7"):
        loaded(net, {"state_dict": prefixed(state, "model.")})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.fill_(float("nan")), "'5.weight' has NaN in 12 of 12 values"),
        (lambda v: v.to(torch.int8), r"'5.weight' is torch.int8, expected torch.float32"),
        (lambda v: v > 0, r"'5.weight' is torch.bool, expected"),
        (lambda v: v.to(torch.complex64), r"'5.weight' is torch.complex64, expected"),
        (lambda v: v.to_sparse(), r"'5.weight' is torch.float32 of layout torch.sparse_coo"),
        (lambda v: torch.quantize_per_tensor(v, 0.1, 0, torch.qint8), r"'5.weight' is torch.qint8"),
        (lambda v: v.to("meta"), "'5.weight' has no values"),
        (lambda v: v.double() * 1e300, r"values beyond the range of the model's torch.float32"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*quantize")
def test_values_that_cannot_be_loaded_are_refused(change: Callable, message: str, net: str, state: State):
    state["5.weight"] = change(state["5.weight"])
    with pytest.raises(ModelError, match=message):
        loaded(net, state)


def test_numbers_that_a_half_network_cannot_hold(net: str):
    spec = net.replace(":make", ":half")
    fine = {"weight": torch.ones(2, 2), "bias": torch.ones(2)}
    assert loaded(spec, fine)["weight"].dtype == torch.float16
    with pytest.raises(ModelError, match=r"beyond the range of the model's torch.float16"):
        loaded(spec, {**fine, "bias": torch.full((2,), 1e6)})


def test_counters_as_floats_are_whole_or_refused(net: str, state: State):
    state["1.num_batches_tracked"] = torch.tensor(3.0)
    assert loaded(net, state)["1.num_batches_tracked"] == 3
    state["1.num_batches_tracked"] = torch.tensor(3.5)
    with pytest.raises(ModelError, match=r"values that the model's torch.int64 cannot hold"):
        loaded(net, state)


def test_a_model_is_unchanged_by_what_does_not_fit(net: str, state: State):
    from interpnet.models._fit import fit_weights
    from interpnet.models._state_dicts import Weights

    model = load_model(net)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state["5.bias"] = state["5.bias"] * float("nan")
    with pytest.raises(ModelError, match="NaN"):
        fit_weights(model, Weights("x", state))
    assert_equal(model.state_dict(), before)


# --- hostile files ---


class Evil:
    """Unpickling it would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return (Path.write_text, (self.target, "ran"))


@pytest.mark.parametrize("where", ["alone", "beside", "in args", "in numpy"])
def test_code_in_a_checkpoint_never_runs(where: str, net: str, state: State, tmp_path: Path):
    target = tmp_path / "ran"
    evil = Evil(target)
    content: object = {
        "alone": evil,
        "beside": {"state_dict": state, "x": evil},
        "in args": {"state_dict": state, "args": argparse.Namespace(x=evil)},
        "in numpy": {"state_dict": state, "x": np.array([evil], dtype=object)},
    }[where]
    with pytest.raises(ModelError, match="needs unpickling"):
        loaded(net, content)
    assert not target.exists()


def test_a_loop_in_a_checkpoint_ends(net: str, state: State):
    loop: dict = {"model": state}
    loop["self"] = loop
    assert_equal(loaded(net, loop), state)


def test_stand_ins_are_gone_afterwards(net: str, state: State):
    before = set(torch.serialization.get_safe_globals())
    loaded(net, {"model": state, "acc": np.float64(1)})
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.filterwarnings("ignore")
def test_bytes_changed_at_random_give_weights_or_an_error_of_ours(net: str, state: State, tmp_path: Path):
    draw = np.random.default_rng(0)
    for name in ("c.pth", "old.pth", "c.safetensors"):
        file = tmp_path / name
        if name == "c.safetensors":
            save_file(state, file)
        else:
            torch.save({"net": state, "acc": np.ones(2)}, file, _use_new_zipfile_serialization=name == "c.pth")
        content = file.read_bytes()
        for _ in range(40):
            changed = bytearray(content)
            for place in draw.integers(0, min(len(content), 600), 3):
                changed[place] = draw.integers(256)
            file.write_bytes(changed)
            # What is changed may be a value, a name, or the file's structure.
            with suppress(ModelError):
                load_model(net, weights=file)


def test_names_that_are_no_utf_8(net: str, state: State, tmp_path: Path):
    name = os.fsdecode(b"w\xe9")
    save_file(state, tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").rename(tmp_path / f"{name}.safetensors")
    torch.save(state, tmp_path / f"{name}.pth")
    (tmp_path / f"{name}.py").write_text(NET)
    spec = f"{tmp_path / name}.py:make"
    for ending in ("safetensors", "pth"):
        assert_equal(load_model(spec, weights=tmp_path / f"{name}.{ending}").state_dict(), state)
    assert len(describe_model(spec, None, load_model(spec)).code or "") == 64
