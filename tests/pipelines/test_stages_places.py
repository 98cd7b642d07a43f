"""Where maps lie: which images are taken, and values by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_run import recorded, tensors, through, tiny_session
from interpnet.pipelines.run.notes import Notes
from interpnet.pipelines.run.session import Session
from interpnet.pipelines.run.split import balanced
from interpnet.pipelines.stages import localise
from interpnet.pipelines.stages.drawing import Drawing
from torch import Tensor

from interpnet.engine import Channel


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A run with masks up to its weights, with twelve training and seven test images in use."""
    settings: dict[str, Any] = {"mu": 1.0, "max_images": 12, "max_ablation_images": 7, "seed": 3, "batch_size": 5}
    return through(tiny_session(tmp_path_factory.mktemp("places") / "run", masks=True, **settings), "solve")


# --- where maps lie ---------------------------------------------------------------------------------------


def test_maps_are_compared_on_some_of_the_test_images_in_use(solved: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[list[int]] = []
    monkeypatch.setattr(localise, "_overlaps", lambda _s, _f, where, _m: chosen.append(where.tolist()) or ["rows"])
    monkeypatch.setattr(localise, "_shares", lambda _s, _shown, where, _m: chosen.append(where.tolist()) or ["shares"])
    calls = recorded(monkeypatch, localise, "balanced")
    found: Any = None
    made = localise.localise(solved, {"mu-lasso": found}, {}, Notes())
    used = solved.loaded.test_indices()
    assert made == {"n_images": 7, "masks": ["discriminative"], "methods": ["rows"], "classes": ["shares"]}
    assert chosen == [used.tolist()] * 2
    labels, most, seed = calls[0]["args"]
    assert (labels.tolist(), most, seed) == (solved.loaded.test.labels[used].tolist(), 120, 3)
    monkeypatch.setattr(solved, "config", replace(solved.config, max_masked_images=4))
    assert localise.localise(solved, {"mu-lasso": found}, {}, Notes())["n_images"] == 4  # type: ignore[index]
    expected = used[balanced(solved.loaded.test.labels[used], 4, 3)]
    assert chosen[2:] == [expected.tolist()] * 2
    assert expected.tolist() != list(range(4))


def test_overlaps_of_several_batches_are_of_every_image_and_its_label(
    solved: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Maps that name their image: the value of image i is i + 1 everywhere, of another method twice that."""
    x, y = tensors(solved, "test")
    seen: list[tuple[list[int], list[int]]] = []

    def named(images: Tensor) -> Tensor:
        return torch.stack([(x == image).all(1).all(1).all(1).nonzero()[0, 0] for image in images])

    def explaining(_session: Any, _found: Any, images: Tensor, classes: Tensor) -> Any:
        seen.append((named(images).tolist(), classes.tolist()))
        return SimpleNamespace(combined=(named(images) + 1.0)[:, None, None].expand(-1, 16, 16))

    def comparing(_session: Any, images: Tensor, classes: Tensor) -> Any:
        assert classes.tolist() == seen[-1][1]
        return {"other": 2 * (named(images) + 1.0)[:, None, None].expand(-1, 16, 16)}, []

    added: dict[str, list[float]] = {}

    class Maps:
        def add(self, maps: Tensor, masks: Any, where: np.ndarray) -> None:
            added.setdefault(str(id(self)), []).extend(maps[:, 0, 0].tolist())
            assert masks == {"discriminative": 1}
            assert where.tolist() == seen[-1][0]

        def row(self, name: str) -> Any:
            return name, added[str(id(self))]

    monkeypatch.setattr(localise, "explain_with", explaining)
    monkeypatch.setattr(localise, "compared_maps", comparing)
    monkeypatch.setattr(localise, "_Maps", Maps)
    monkeypatch.setattr(localise, "_BATCH", 3)
    order = np.array([8, 0, 5, 2, 7, 1, 3])
    masks: Any = {"discriminative": 1}
    found: Any = None
    ours, other = localise._overlaps(solved, {"mu-lasso": found}, order, masks)
    assert ours == ("interpnet", [i + 1.0 for i in order])
    assert other == ("other", [2 * (i + 1.0) for i in order])
    assert [images for images, _ in seen] == [[8, 0, 5], [2, 7, 1], [3]]
    assert [classes for _, classes in seen] == [y[images].tolist() for images, _ in seen]


def test_a_method_s_row_has_the_mean_and_spread_of_all_batches() -> None:
    """By the trapezoidal rule with 101 thresholds and a mask of a quarter: 1 - 0.005 * 3/4 for a map that is its mask.

    A blank map has 0.005 * 1/4, from the threshold 0 alone. Of the four values the standard deviation is half their
    difference, 0.995.
    """
    mask = np.zeros((3, 2, 2), dtype=bool)
    mask[:, 0, 0] = True
    cue = np.zeros((3, 2, 2), dtype=bool)
    cue[:, :, 0] = True
    masks = {"discriminative": mask, "shortcut": cue}
    exact = torch.from_numpy(mask[:1]).float()
    maps = localise._Maps()
    maps.add(exact, masks, np.array([0]))
    maps.add(torch.zeros(2, 2, 2), masks, np.array([1, 2]))
    maps.add(-exact, masks, np.array([1]))
    assert maps.row("x") == {
        "name": "x",
        "mean": pytest.approx(0.25),
        "sd": pytest.approx(0.4975),
        "blank": 3,
        "n": 4,
        "cue": pytest.approx(1.0),
    }
    plain = localise._Maps()
    plain.add(exact, {"discriminative": mask}, np.array([0]))
    assert plain.row("y") == {"name": "y", "mean": pytest.approx(0.99625), "sd": 0.0, "blank": 0, "n": 1}


def test_shares_are_the_mean_over_at_most_ten_images_of_the_class(
    solved: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signals of ones, zero on the fourth image: the share of a region is the part of the pixels it covers."""
    labels = solved.loaded.test.labels
    mine = np.flatnonzero(labels == 2)
    other = np.flatnonzero(labels == 1)
    chosen = np.concatenate([other, np.tile(mine, 12)[:12]])
    calls: list[dict[str, Any]] = []

    def signalling(model: Any, images: Tensor, channels: Any, **options: Any) -> Any:
        calls.append({"model": model, "images": images, "channels": channels, **options})
        signals = torch.ones(len(images), 2, 3, 16, 16)
        signals[:, 1, :, :8] = -3.0
        signals[3, 0] = 0.0
        return SimpleNamespace(signals=signals)

    monkeypatch.setattr(localise, "channel_signal", signalling)
    monkeypatch.setitem(solved.memo, "drawing", Drawing("paper", {"rectifier": "deconvnet"}, ""))
    top = np.zeros((9, 16, 16), dtype=bool)
    top[:, :8] = True
    none = np.zeros((9, 16, 16), dtype=bool)
    channels = [Channel("relu", 0), Channel("relu:1", 3)]
    # A class without channels and one without images say nothing of those after them.
    shown = {1: [], 0: [(channels[0], 1.0)], 2: [(channel, 1.0) for channel in channels]}
    monkeypatch.setitem(solved.subject.__dict__, "output", Tensor.double)
    (entry,) = localise._shares(solved, shown, chosen, {"top": top, "none": none})
    assert entry == {
        "index": 2,
        "n_images": 10,
        "channels": [
            {"layer": "relu", "index": 0, "shares": {"top": 0.5, "none": 0.0}},
            {"layer": "relu:1", "index": 3, "shares": {"top": 0.75, "none": 0.0}},
        ],
    }
    (call,) = calls
    assert call["channels"] == [channels] * 10
    assert call["trace"] is solved.loaded.trace
    assert call["output"] is Tensor.double
    assert (call["rectifier"], call["resample"]) == ("deconvnet", solved.config.resample)
    assert (call["seed"], call["classes"]) == ("activation", None)
    monkeypatch.setitem(solved.memo, "drawing", Drawing("relevance", {}, ""))
    localise._shares(solved, shown, chosen, {"top": top, "none": none})
    assert (calls[-1]["rule"], calls[-1]["seed"], calls[-1]["classes"]) == ("lrp_gamma", "relevance", 2)
    torch.testing.assert_close(call["images"], tensors(solved, "test")[0][chosen[len(other) :][:10]])


def test_the_mean_of_shares_leaves_out_what_has_none() -> None:
    nan = float("nan")
    assert localise._finite_mean(torch.tensor([1.0, nan, 2.0])) == 1.5
    assert localise._finite_mean(torch.tensor([nan, float("inf")])) is None
