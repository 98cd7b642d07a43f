"""What a run audits, as its settings say: the network, the images, their classes, and what identifies them."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_run import CLASSES, OUTPUTS, Tiny, data, recorded, tensors, tiny_session, unreadable
from interpnet.pipelines.run import images, subject
from interpnet.pipelines.run.config import RunConfig
from interpnet.pipelines.run.folder import digest
from interpnet.pipelines.run.session import Session
from interpnet.pipelines.run.split import Split
from torch import nn

from interpnet.errors import DataError, InterpNetError, LayerError, ModelError
from interpnet.models import ModelInfo

INFO = ModelInfo("tiny", None, 1, "f" * 64, None, None, None)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return tiny_session(tmp_path / "run", batch_size=2, max_images=12, max_ablation_images=5, seed=3)


# --- images -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 11])
@pytest.mark.parametrize("seed", [0, 4])
def test_a_balanced_choice_takes_the_first_of_every_class_then_the_second(limit: int, seed: int) -> None:
    labels = np.array([0, 0, 0, 0, 0, 0, 2, 2, 2, 1, 1, 0])
    order = np.random.default_rng(seed).permutation(12).tolist()
    by_turn: list[int] = []
    for turn in range(7):
        for at in order:
            earlier = order[: order.index(at)]
            if sum(labels[other] == labels[at] for other in earlier) == turn:
                by_turn.append(at)
    assert subject.balanced(labels, limit, seed).tolist() == sorted(by_turn[:limit])


def test_every_image_is_used_where_as_many_are_allowed() -> None:
    labels = np.array([1, 0, 0])
    for limit in (None, 3, 9):
        chosen = subject.balanced(labels, limit, 0)
        assert (chosen.tolist(), chosen.dtype) == ([0, 1, 2], np.int64)


def test_a_split_s_images_are_used_as_the_settings_say(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = session.loaded
    np.testing.assert_array_equal(loaded.train_indices(), subject.balanced(loaded.train.labels, 12, 3))
    np.testing.assert_array_equal(loaded.test_indices(), subject.balanced(loaded.test.labels, 5, 3))
    assert loaded.train.labels.dtype == np.int64
    np.testing.assert_array_equal(loaded.train.labels, OUTPUTS[loaded.train.data.labels])
    calls = recorded(monkeypatch, subject, "make_loader")
    indices = np.array([4, 1, 2])
    batches = loaded.batches(loaded.test, indices)
    x, y = tensors(session, "test")
    read = list(batches)
    assert (len(batches), batches.n_images) == (2, 3)
    torch.testing.assert_close(torch.cat([batch.images for batch in read]), x[indices])
    assert torch.cat([batch.labels for batch in read]).tolist() == y[indices].tolist()
    (call,) = calls
    assert (call["batch_size"], call["num_workers"], call["pin_memory"]) == (2, 0, False)


def test_the_first_image_that_can_be_read_is_found(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    images = session.loaded.train.data
    x, _ = tensors(session)
    torch.testing.assert_close(subject.stack_first(images), x[:1])
    unreadable(monkeypatch, session, "train", {0, 1})
    torch.testing.assert_close(subject.stack_first(images), x[2:3])
    images.on_bad_image = "fail"
    with pytest.raises(DataError, match="damaged"):
        subject.stack_first(images)
    unreadable(monkeypatch, session, "train", set(range(21)))
    with pytest.raises(DataError, match="none of the 21 images of 'tiny' can be read"):
        subject.stack_first(images)


@pytest.mark.parametrize(
    ("settings", "hint", "expected"),
    [
        ({}, None, {}),
        ({}, {"image_size": 9, "crop": 8}, {"image_size": 9, "crop": 8}),
        ({"image_size": (5,)}, {"image_size": 9, "crop": 8, "mean": 0.5}, {"image_size": 5, "mean": 0.5}),
        ({"image_size": (5, 6), "crop": (4,)}, {"crop": 8}, {"image_size": (5, 6), "crop": 4}),
        ({"crop": (4,)}, {"image_size": 9, "crop": 8}, {"image_size": 9, "crop": 4}),
        (
            {"mean": (0.1, 0.2, 0.3), "std": (0.5,), "channels": 3, "max_value": 99.0},
            {"mean": 0.0},
            {"mean": (0.1, 0.2, 0.3), "std": 0.5, "channels": 3, "max_value": 99.0},
        ),
    ],
)
def test_images_are_loaded_as_set_and_else_as_the_publisher_says(
    settings: dict[str, Any], hint: Any, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def loading(spec: str, **options: Any) -> str:
        warnings.warn("some files are left out", UserWarning, stacklevel=1)
        given.append((spec, options))
        return "images"

    monkeypatch.setattr(images, "load_dataset", loading)
    before = dict(hint or {})
    config = RunConfig(data="digits", on_bad_image="skip", **settings)
    assert images.load_images(config, "test", hint) == "images"
    assert given == [("digits", {"split": "test", "root": None, "on_bad_image": "skip"} | expected)]
    assert (hint or {}) == before


def test_folders_are_found_from_where_the_run_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "started" / "photos").mkdir(parents=True)
    (tmp_path / "started" / "net.py").touch()
    (tmp_path / "started" / "w.pt").touch()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    given: list[Any] = []
    monkeypatch.setattr(images, "load_dataset", lambda spec, **options: given.append((spec, options["root"])))
    place = tmp_path / "started"
    config = RunConfig(
        model="net.py:make",
        weights="w.pt",
        weights_key="model",
        num_classes=7,
        output="logits",
        seed=5,
        data="imagefolder:photos",
        data_root="photos",
        directory=str(place),
        device="cpu",
    )
    images.load_images(config, "train")
    assert given == [(f"imagefolder:{place / 'photos'}", str(place / "photos"))]
    model = nn.Linear(2, 2)
    calls: dict[str, Any] = {}

    def loading(spec: str, **options: Any) -> nn.Module:
        calls["load"] = (spec, options)
        return model

    def describing(*args: Any, **options: Any) -> ModelInfo:
        calls["describe"] = (args, options)
        return dataclasses.replace(INFO, fingerprint="d" * 64)

    monkeypatch.setattr(subject, "load_model", loading)
    monkeypatch.setattr(subject, "describe_model", describing)
    network, info, output, device = subject.load_network(config)
    spec = f"{place / 'net.py'}:make"
    weights = str(place / "w.pt")
    assert calls["load"] == (spec, {"weights": weights, "weights_key": "model", "num_classes": 7, "seed": 5})
    assert calls["describe"] == ((spec, weights, model), {"output": "logits"})
    assert network is model
    assert (info.spec, info.weights, info.fingerprint) == ("net.py:make", "w.pt", "d" * 64)
    assert output is not None
    assert output({"logits": 3}) == 3
    assert device == torch.device("cpu")


def test_the_device_is_the_best_or_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "best_device", lambda: "best")
    monkeypatch.setattr(subject, "resolve_device", lambda name: f"device {name}")
    assert subject.device_of(RunConfig(device="auto")) == "best"
    assert subject.device_of(RunConfig(device="cuda:1")) == "device cuda:1"


# --- the subject ------------------------------------------------------------------------------------------


def test_whatever_a_run_must_not_mix_has_a_fingerprint_of_its_own(session: Session) -> None:
    loaded = session.loaded
    described = loaded.describe({})
    before = loaded.identity(described)
    assert before["model"] == digest(["f" * 64, None, None, "Tiny"])
    assert before["list of classes"] == digest([list(CLASSES), OUTPUTS.tolist()])
    other = tiny_session(session.run.path, norm="l2sq").loaded
    changes = {
        "model": dataclasses.replace(loaded, info=dataclasses.replace(loaded.info, fingerprint="e" * 64)),
        "set of training images": dataclasses.replace(loaded, train=Split(data((9, 7, 5), "train", 7, False), OUTPUTS)),
        "set of test images": dataclasses.replace(loaded, test=Split(data((4, 3, 2), "test", 7, False), OUTPUTS)),
        "list of classes": dataclasses.replace(loaded, classes=("x", *CLASSES[1:])),
        "configuration of collect (layers, norm, max-images)": dataclasses.replace(loaded, config=other.config),
    }
    for name, changed in changes.items():
        after = changed.identity(described)
        assert [what for what in before if before[what] != after[what]] == [name]
    for info in ({"output": "logits"}, {"code": "c"}):
        changed = dataclasses.replace(loaded, info=dataclasses.replace(loaded.info, **info))
        assert changed.identity(described)["model"] != before["model"]
    assert loaded.identity({"model": {"architecture": "b"}})["model"] == digest(["f" * 64, "b", None, "Tiny"])
    turned = dataclasses.replace(loaded, train=Split(loaded.train.data, OUTPUTS[::-1].copy()))
    assert turned.identity(described)["list of classes"] != before["list of classes"]


def test_the_manifest_says_what_the_network_and_the_images_are(session: Session) -> None:
    loaded = session.loaded
    described = loaded.describe({})
    model = described["model"]
    assert (model["kind"], model["n_layers"], model["n_channels"], model["n_outputs"]) == ("Tiny", 2, 9, 3)
    assert (model["classes"], model["output"], model["weights_key"]) == (list(CLASSES), None, None)
    assert (model["fingerprint"], "architecture" in model) == ("f" * 64, False)
    train = described["data"]["train"]
    assert (train["spec"], train["split"], train["n_images"], train["classes"]) == (
        "tiny",
        "train",
        21,
        ["a", "b", "c"],
    )
    assert train["fingerprint"] == loaded.train.data.fingerprint()
    assert train["preprocessing"] == loaded.train.data.preprocessing
    assert (train["skipped"], train["empty_classes"]) == ([], [])
    assert described["data"]["test"]["n_images"] == 9
    assert described["collect"] == {"layers": ["default"], "norm": "l2", "outputs": "auto", "max_images": 12}


def test_what_a_network_of_a_file_computes_is_compared_unless_its_text_is_the_same(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = dataclasses.replace(session.loaded, info=dataclasses.replace(session.loaded.info, code="text"))
    asked: list[Any] = []

    def architecture(model: Any, x: Any, output: Any) -> str:
        assert output is None
        asked.append((model, x))
        return "computed"

    monkeypatch.setattr(subject, "architecture", architecture)
    assert loaded.describe({})["model"]["architecture"] == "computed"
    assert asked[0][0] is loaded.model
    assert asked[0][1] is loaded.first
    assert loaded.describe({"code": "old", "architecture": "a"})["model"]["architecture"] == "computed"
    assert loaded.describe({"code": "text", "architecture": "a"})["model"]["architecture"] == "a"
    assert len(asked) == 2
    # A run of before architectures were noted knows the text only.
    assert "architecture" not in loaded.describe({"code": "text"})["model"]

    def failing(_model: Any, _x: Any, _output: Any) -> str:
        raise RuntimeError("cannot be traced")

    monkeypatch.setattr(subject, "architecture", failing)
    assert loaded.describe({})["model"]["architecture"] == "text"


def loading(monkeypatch: pytest.MonkeyPatch, train: Any, test: Any) -> None:
    """Let a run load the tiny network and these images."""

    def load_network(_config: RunConfig, _own: Any) -> tuple[Any, ...]:
        warnings.warn_explicit("of the network", UserWarning, "/lib/interpnet/x.py", 1)
        return Tiny().eval(), INFO, None, torch.device("cpu")

    monkeypatch.setattr(subject, "load_network", load_network)
    monkeypatch.setattr(subject, "load_splits", lambda _config, _hint, _own: (train, test))


def test_a_subject_is_loaded_whole_and_says_what_a_reader_should_know(monkeypatch: pytest.MonkeyPatch) -> None:
    train = data((9, 0, 5), "train", 1, False)
    test = data((4, 3, 2), "test", 2, False)
    monkeypatch.setattr(train, "notes", ["of the images"])
    loading(monkeypatch, train, test)
    loaded = subject.load_subject(RunConfig(model="tiny", data="tiny"))
    assert loaded.notes == ("Classes without a training image (1): b", "of the network", "of the images")
    assert (loaded.classes, loaded.info, loaded.output) == (("a", "b", "c"), INFO, None)
    assert (loaded.train.data, loaded.test.data) == (train, test)
    assert loaded.train.outputs.tolist() == loaded.test.outputs.tolist() == [0, 1, 2]
    assert loaded.trace.n_outputs == 3
    assert loaded.trace.image_shape == (3, 16, 16)
    torch.testing.assert_close(loaded.first, train[0][0][None])
    loading(monkeypatch, train, train)
    loaded = subject.load_subject(RunConfig(model="tiny", data="tiny"))
    assert "There is no test split" in loaded.notes[1]
    with pytest.raises(LayerError, match="nonesuch"):
        subject.load_subject(RunConfig(model="tiny", data="tiny", layers=("nonesuch",)))


@pytest.mark.parametrize("missing", ["model", "data"])
def test_a_run_needs_a_model_and_data(missing: str) -> None:
    given = {"model": "tiny", "data": "tiny"} | {missing: ""}
    with pytest.raises(InterpNetError, match="a run needs a model and data"):
        subject.load_subject(RunConfig(**given))


def test_images_that_the_network_cannot_take_are_told_with_the_options() -> None:
    with pytest.raises(ModelError, match=r"\(--image-size, --channels\)$"):
        subject.traced(Tiny(), torch.rand(1, 4, 16, 16), None)


@pytest.mark.parametrize(
    ("text", "result"),
    [("0", ()), ("x", (1,)), ("0", 5), ("x", {"y": 1}), ("x", object())],
)
def test_an_output_that_is_not_there_is_told(text: str, result: Any) -> None:
    take = subject.make_output(text)
    assert take is not None
    with pytest.raises(
        ModelError, match=f"--output {text} does not exist: the model returns a {type(result).__name__}"
    ):
        take(result)
