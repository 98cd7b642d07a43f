"""A study's edges: what reaches the loader and the network, points of the curve, groups of layers, kept recalls."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from interpnet.ablation import AblationResult, Condition, Passes, ablate, ablation_study
from interpnet.ablation._averages import finite_mean, interval
from interpnet.ablation._changes import Outcome
from interpnet.ablation._checkpoint import Measured
from interpnet.ablation._plan import Plan
from interpnet.ablation._reading import as_result
from interpnet.ablation._study import _turns
from interpnet.engine import Channel, ChannelIndex
from interpnet.errors import DataError, InterpNetError
from interpnet.interpretation import Interpretation
from interpnet.support.checksums import seal

FOUND = Interpretation(ChannelIndex((("1", 2),)), np.eye(2), ("a", "b"))
Y = torch.tensor([0, 1, 0, 1])
X = torch.eye(2)[Y][:, :, None, None].expand(4, 2, 2, 2).clone()


def network(*more: nn.Module) -> nn.Module:
    """Channel c is colour c, and so is logit c."""
    model = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), *more)
    model[0].weight.data = torch.eye(2).view(2, 2, 1, 1)
    return model


def study(model: nn.Module, loader: Any, **options: Any) -> AblationResult:
    given = {"controls": (), "curve": False, "single": False, "progress": False} | options
    return ablation_study(model, loader, FOUND, **given)


def test_the_keys_of_a_dictionary_reach_the_loader() -> None:
    batch = {"photo": X, "image": X.flip(1), "species": Y, "label": Y * 0}
    result = study(network(), [batch], inputs="photo", labels="species")
    assert result.support.tolist() == [2, 2]
    assert result.intact.tolist() == [1.0, 1.0]
    assert study(network(), [batch], inputs="image", labels="species").intact.tolist() == [0.0, 0.0]


def test_a_network_is_unwrapped_evaluated_and_left_in_its_mode() -> None:
    model = nn.DataParallel(network(nn.Dropout(1.0))).train()
    result = study(model, [(X, Y)])
    assert result.intact.tolist() == [1.0, 1.0]
    # With nothing left both logits are 0, and the first class is named.
    assert result.condition("relevant").own.tolist() == [[1.0, 0.0]]
    assert all(m.training for m in model.modules())


class Late(nn.Module):
    """Logits that are NaN where channel 0 is off but was on in the image, or at once where the image is large."""

    def __init__(self) -> None:
        super().__init__()
        self.body = network()

    def forward(self, x: Tensor) -> Tensor:
        out = self.body(x)
        lost = (out[:, :1] == 0) & (x[:, :1].mean((2, 3)) > 0)
        return torch.where(lost | (x[:, :1, 0, 0] > 5), float("nan"), out)


def test_logits_that_are_not_finite_name_image_batch_and_removal() -> None:
    one = Interpretation(ChannelIndex((("body.1", 2),)), np.eye(2), ("a", "b"))
    batches = [(X[1:2], Y[1:2]), (X[1:], Y[1:])]
    with pytest.raises(DataError, match=r"image 2 \(in batch 1 of the pass.*NaN or infinite logits with channels remo"):
        ablation_study(Late(), batches, one, progress=False)
    large = X.clone()
    large[2] = 9.0
    # Nobody loses channel 0.
    other = Interpretation(one.channels, np.array([[0.0, 1.0], [0.0, 1.0]]), one.classes)
    options: dict[str, Any] = {"controls": (), "curve": False, "progress": False}
    with pytest.raises(DataError, match=r"image 3 \(in batch 1 of the pass.*has NaN or infinite logits, as 1 of 2 im"):
        ablation_study(Late(), [(large[:2], Y[:2]), (large[[1, 2]], Y[[1, 2]])], other, **options)


@pytest.mark.parametrize(
    ("relevant", "steps"),
    [(0, []), (1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (4, [1, 2, 4]), (5, [1, 2, 4, 5]), (8, [1, 2, 4, 8]), (9, None)],
)
def test_points_of_the_curve(relevant: int, steps: list[int] | None) -> None:
    coef = np.zeros((2, 10))
    coef[1, :relevant] = 1.0
    found = Interpretation(ChannelIndex((("1", 10),)), coef, ("a", "b"))
    plan = Plan(found, None, (), 1, 0, True, False)
    assert plan.steps == ([1, 2, 4, 8, 9] if steps is None else steps)
    assert plan.longest == relevant
    assert plan.weighted == ([1] if relevant else [])
    assert Plan(found, None, (), 1, 0, False, False).steps == []


class Place:
    def __init__(self, family: str) -> None:
        self.family = family


@pytest.mark.parametrize(
    ("families", "groups"),
    [
        (["conv", "conv"], {"all": [1, 1, 1]}),
        (["linear", "linear"], {"all": [1, 1, 1]}),
        (["conv", "linear"], {"all": [1, 1, 1], "conv": [1, 1, 0]}),
        (["linear", "conv"], {"all": [1, 1, 1], "conv": [0, 0, 1]}),
    ],
)
def test_groups_of_layers(families: list[str], groups: dict[str, list[int]]) -> None:
    found = Interpretation(ChannelIndex((("x", 2), ("y", 1))), np.ones((2, 3)), ("a", "b"))
    plan = Plan(found, None, ("highest-activation", "random"), 4, 0, True, True)
    conditions = plan.conditions([Place(family) for family in families])  # type: ignore[misc]
    # Without a table there is no ranking by activation; only what is drawn is repeated.
    kinds = [("relevant", 0), ("relevant-positive", 0), ("random", 4)]
    assert [(kind, layers, draws) for kind, layers, _, draws in conditions] == [
        (kind, layers, draws) for layers in groups for kind, draws in kinds
    ]
    for _, layers, mask, _ in conditions:
        assert mask.tolist() == groups[layers]
    assert plan.steps == [1, 2, 3]
    with pytest.raises(InterpNetError, match="'highest-activation' needs table="):
        plan.columns("highest-activation", 0, np.ones(3, dtype=bool))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"controls": ("random", "none")},
            r"controls=\['none'\]; expected some of random, random-per-layer, highest-a",
        ),
        ({"table": 5}, "table is 5"),
        ({"curve": 1}, "curve is 1; expected True or False"),
        ({"single": "yes"}, "single is 'yes'"),
        ({"progress": 0}, "progress is 0"),
        ({"key": None}, "key is None"),
        ({"seed": -1}, "seed is -1; expected a whole number of at least 0"),
        ({"repeats": 0}, "repeats is 0"),
        ({"fill": "none"}, "fill='none'; expected 'zero' or 'mean'"),
    ],
)
def test_odd_options_are_refused_before_the_loader_is_read(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InterpNetError, match=message):
        study(network(), None, **options)


def test_defaults_of_a_study() -> None:
    result = ablation_study(network(), [(X, Y)], FOUND, progress=False)
    assert (result.repeats, result.seed, result.fill) == (2, 0, "zero")
    assert {c.name: len(c.own) for c in result.conditions} == {
        "relevant": 1,
        "relevant-positive": 1,
        "random": 2,
        "random-per-layer": 2,
    }
    assert result.curve is not None
    assert sorted(result.single) == [0, 1]


def test_outputs_and_classes_must_be_as_many() -> None:
    wide = network(nn.Linear(2, 3))
    with pytest.raises(InterpNetError, match="the model has 3 outputs and the interpretation 2 classes"):
        study(wide, [(X, Y)])
    run = Passes(network(), [(X, Y)], FOUND, put=Tensor.cpu, output=None, seed=0)
    assert (run.n, run.C, run.support.tolist()) == (4, 2, [2, 2])
    assert run.foreign.tolist() == [1, 0, 1, 0]


def outcome(*right: bool) -> Outcome:
    return Outcome(np.array(right), np.arange(len(right), dtype=np.float32) - 1.5)


def encoded(*numbers: float, kind: str = "<f4") -> str:
    return base64.b64encode(np.array(numbers, dtype=kind).tobytes()).decode()


def checkpoint(path: Path, entry: Any = None, **changes: Any) -> None:
    """Write a checkpoint of one outcome of three removals, changed as asked for, with a seal that fits."""
    path.unlink(missing_ok=True)
    Measured(path, "key").get("own", 3, lambda: outcome(True, False, True))
    state = json.loads(path.read_text())
    if entry is not None:
        state["measured"]["own"] |= entry
    path.write_text(json.dumps(seal({k: v for k, v in (state | changes).items() if k != "checksum"})))


def known(path: Path) -> bool:
    """Whether the outcome is taken from the checkpoint, as it was."""
    asked: list[int] = []

    def measure() -> Outcome:
        asked.append(1)
        return outcome(False, False, False)

    found = Measured(path, "key").get("own", 3, measure)
    if not asked:
        assert found.right.tolist() == [True, False, True]
        assert found.log_odds.tolist() == [-1.5, -0.5, 0.5]
        assert found.log_odds.dtype == np.float32
    return not asked


@pytest.mark.parametrize(
    ("entry", "changes"),
    [
        ({"log_odds": encoded(1.0, 2.0)}, {}),
        ({"log_odds": encoded(1.0, 2.0, 3.0, 4.0)}, {}),
        ({"log_odds": encoded(1.0, 2.0, np.nan)}, {}),
        ({"log_odds": encoded(np.inf, 2.0, 3.0)}, {}),
        ({"log_odds": "no base64!"}, {}),
        ({"log_odds": "!" + encoded(1.0, 2.0, 3.0)}, {}),
        ({"log_odds": 5}, {}),
        ({"right": encoded(1, 2, kind="u1")}, {}),
        ({"right": ""}, {}),
        ({"right": None}, {}),
        ({"log_odds": encoded(1.0, 2.0), "right": encoded(192, kind="u1")}, {}),
        (None, {"measured": []}),
        (None, {"measured": {"a": 1}}),
        (None, {"format": "interpnet-ablation-checkpoint-2"}),
        (None, {"key": "another"}),
    ],
)
def test_outcomes_of_a_checkpoint_are_believed_only_where_they_can_be(entry: Any, changes: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    checkpoint(path)
    assert known(path)
    checkpoint(path, entry, **changes)
    assert not known(path)


def test_a_checkpoint_changed_by_hand_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    checkpoint(path)
    whole = path.read_text()
    changed = whole.replace(encoded(-1.5, -0.5, 0.5), encoded(-1.5, -0.5, 0.75))
    assert changed != whole
    path.write_text(changed)
    assert not known(path)


@pytest.mark.parametrize(
    ("channels", "fill", "message"),
    [
        ([Channel("1", 0)], "mean", "fill='mean'; expected 'zero', a number, or a mapping"),
        ([Channel("1", 0)], float("nan"), "fill is nan"),
        ([Channel("1", 0)], {Channel("1", 0): "x"}, r"fill of 1\[0\] is 'x'"),
        ([Channel("1", 0), Channel("1", 1)], {Channel("1", 0): 1.0}, r"no value for 1\[1\], and 1 of 2 channels have"),
        ([[Channel("1", 0)], Channel("1", 1)], "zero", "mixes Channels and lists of Channels"),
        ([["1"]], "zero", "a channel in channels is '1'"),
        ([Channel(5, 0)], "zero", "the layer of a channel is 5"),  # type: ignore[arg-type]
        ([5], "zero", "a list in channels"),
        (5, "zero", "channels"),
    ],
)
def test_odd_removals_are_refused_before_anything_runs(channels: Any, fill: Any, message: str) -> None:
    with pytest.raises(InterpNetError, match=message), ablate(network(), channels, fill=fill):
        pass


def test_removal_by_hand_of_shared_channels_and_of_other_batches() -> None:
    model = nn.DataParallel(network()).eval()
    with torch.no_grad():
        with ablate(model, [Channel("1", 1)], fill=0.25):
            assert model.module(X).tolist() == [[1.0, 0.25], [0.0, 0.25]] * 2
            assert model.module(X[:1]).tolist() == [[1.0, 0.25]]
        with ablate(model, [[Channel("1", 0)], []]):
            assert model.module(X[:2]).tolist() == [[0.0, 0.0], [0.0, 1.0]]
            with pytest.raises(InterpNetError, match="lists of channels for 2 images and a batch of 3"):
                model.module(X[:3])
        assert model.module(X[:2]).tolist() == [[1.0, 0.0], [0.0, 1.0]]
        with (
            ablate(model.module, [Channel("1", 0)]),
            pytest.raises(InterpNetError, match="found no tensor among the model's positional inputs"),
        ):
            model.module(input=X)


def test_intervals_by_hand() -> None:
    assert finite_mean([]) != finite_mean([])
    assert finite_mean([1.0, np.inf, 3.0]) == 2.0
    assert interval(np.array([0.5])) == (0.5, 0.5)
    assert interval(np.array([0.5, np.nan])) == (0.5, 0.5)
    low, high = interval(np.array([1.0, 3.0]), level=0.5)
    # Student's t with one degree of freedom has its quartile at 1.
    assert (low, high) == pytest.approx((1.0, 3.0))
    for level in (0, 1, 1.5, -0.5):
        with pytest.raises(InterpNetError, match="level"):
            interval(np.array([1.0, 3.0]), level=level)


def test_results_of_another_shape_are_refused() -> None:
    made = Condition("random", "all", np.array([1.0, 2.0]), np.ones((3, 2)), np.ones((3, 2)))
    result = AblationResult(("a", "b"), np.array([4, 2]), np.ones(2), "zero", 6, 3, 0, (made,))
    assert as_result(result) is result
    plain = result.to_json()
    assert as_result(plain).condition("random").own.shape == (3, 2)
    for part, value, message in (
        ("own", [1.0, 1.0], r"own of 'random' has shape \(2,\); expected \(repeats, 2\)"),
        ("others", [[1.0, 1.0, 1.0]], r"others of 'random' has shape \(1, 3\)"),
        ("removed", [[1.0, 2.0]], r"removed of 'random' has shape \(1, 2\); expected \(2,\)"),
    ):
        bad = json.loads(json.dumps(plain))
        bad["conditions"][0][part] = value
        with pytest.raises(InterpNetError, match=message):
            as_result(bad)
    with pytest.raises(KeyError, match=r"no condition 'random' on 'conv'; there are \[\('random', 'all'\)\]"):
        result.condition("random", "conv")


@pytest.mark.parametrize(
    ("images", "classes", "turns"),
    [(1, 20, 8), (250, 20, 8), (251, 20, 8), (800, 20, 3), (999, 20, 3), (1000, 20, 2), (5000, 20, 2), (800, 3, 2)],
)
def test_so_many_turns_that_two_thousand_images_lose_others_channels(images: int, classes: int, turns: int) -> None:
    found = _turns(None, images, classes)
    assert (found, type(found)) == (turns, int)
