"""Ablation of networks whose outputs are questions of their own, against loops over images, labels and hooks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from interpnet.ablation import AblationResult, ablation_study, as_result
from interpnet.ablation._plan import Plan
from interpnet.ablation._rows import LabelRows, Rows
from interpnet.engine import ChannelIndex, Removals
from interpnet.errors import DataError, InterpNetError
from interpnet.interpretation import Interpretation
from interpnet.scores import ScoreTable

M = 5
C = 4
NAMES = ("a", "b", "c", "d")
INDEX = ChannelIndex((("relu", M),))


class Questions(nn.Module):
    """Five channels, each the mean of one colour; label c's logit is row c of ``votes`` times them, less a half."""

    def __init__(self, votes: Any) -> None:
        super().__init__()
        votes = torch.as_tensor(votes, dtype=torch.float32)
        m = votes.shape[1]
        self.conv = nn.Conv2d(m, m, 1, bias=False)
        self.conv.weight.data = torch.eye(m)[:, :, None, None]
        self.relu = nn.ReLU()
        self.fc = nn.Linear(m, len(votes))
        self.fc.weight.data = votes
        self.fc.bias.data.fill_(-0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.relu(self.conv(x)).mean((2, 3)))


def images_of(levels: Any) -> Tensor:
    """Return (N, m, 2, 2) of constant colours: the channels' values are the levels (N, m)."""
    return torch.as_tensor(levels, dtype=torch.float32)[:, :, None, None].expand(-1, -1, 2, 2).clone()


def made(seed: int = 0, n: int = 40) -> tuple[nn.Module, Tensor, Tensor, Interpretation]:
    """Forty images with any of four labels, and a network that often errs; images 0 and 1 have no and all labels."""
    g = torch.Generator().manual_seed(seed)
    y = (torch.rand(n, C, generator=g) < torch.tensor([0.6, 0.4, 0.3, 0.2])).long()
    y[0] = 0
    y[1] = 1
    levels = 0.5 * torch.rand(n, M, generator=g)
    levels[:, :C] += 0.5 * y
    votes = torch.eye(C, M) + 0.35 * torch.rand(C, M, generator=g)
    coef = np.array([[2.0, 0, 0, 0, 1.0], [0, 1.0, -0.5, 0, 0], [0, 0, 3.0, 0, 0], [1.0, 0, 0, 2.0, 0]])
    model = Questions(votes).eval()
    model.fc.bias.data.fill_(-1.0)
    return model, images_of(levels), y, Interpretation(INDEX, coef, NAMES)


@contextmanager
def hooked(model: Any, columns: Any) -> Iterator[None]:
    """Zero some channels behind the rectifier by a plain hook."""

    def zero(_module: Any, _inputs: Any, out: Tensor) -> Tensor:
        out = out.clone()
        out[:, list(columns)] = 0.0
        return out

    handle = model.relu.register_forward_hook(zero)
    try:
        yield
    finally:
        handle.remove()


def logits_without(model: nn.Module, x: Tensor, columns: Any) -> np.ndarray:
    """Return the float64 logits (N, C) of every image without some channels."""
    with torch.no_grad(), hooked(model, columns):
        return model(x).double().numpy()


def batched(x: Tensor, y: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(size), y.split(size), strict=True))


def study(model: nn.Module, loader: Any, found: Interpretation, **options: Any) -> AblationResult:
    options = {"controls": (), "curve": False, "single": False, "turns": C - 1, "progress": False} | options
    return ablation_study(model, loader, found, outputs="independent", **options)


def sigmoid_log(z: np.ndarray) -> np.ndarray:
    return -np.log1p(np.exp(-z))


@pytest.mark.parametrize("size", [40, 7])
def test_a_study_equals_loops_over_images_labels_and_hooks(size: int) -> None:
    model, x, y, found = made()
    result = study(model, batched(x, y, size), found)
    labels = y.numpy().astype(bool)
    n = len(x)
    before = logits_without(model, x, [])
    after = [logits_without(model, x, found.columns(j)) for j in range(C)]
    relevant = result.condition("relevant")
    for j in range(C):
        own = labels[:, j]
        assert result.support[j] == own.sum()
        assert result.intact[j] == pytest.approx((before[own, j] > 0).mean())
        assert relevant.own[0, j] == pytest.approx((after[j][own, j] > 0).mean())
        odds = relevant.changes["log_odds"].own
        assert odds.mean[j] == pytest.approx((after[j][own, j] - before[own, j]).mean(), rel=1e-5)
        assert odds.variance[j] == pytest.approx(np.var(after[j][own, j] - before[own, j], ddof=1), rel=1e-4)
        change = (sigmoid_log(after[j][own, j]) - sigmoid_log(before[own, j])).mean()
        assert relevant.changes["log_probability"].own.mean[j] == pytest.approx(change, rel=1e-5)
        # The other labels k of the images without j, each label's mean over its images.
        others = [
            [float(after[j][i, k] > 0) for i in range(n) for _ in [0] if labels[i, k] and not labels[i, j]]
            for k in range(C)
            if k != j
        ]
        assert relevant.others[0, j] == pytest.approx(np.mean([np.mean(row) for row in others]))
        # Precision by counts of images.
        assert result.false_alarms is not None
        assert result.false_alarms[j] == pytest.approx((before[~own, j] > 0).mean())
        said = before[:, j] > 0
        assert result.precision is not None
        assert result.precision[j] == pytest.approx((said & own).sum() / said.sum())
        assert result.false_alarms_removed is not None
        assert result.false_alarms_removed[j] == pytest.approx((after[j][~own, j] > 0).mean())
        said = after[j][:, j] > 0
        assert result.precision_removed is not None
        if said.any():
            assert result.precision_removed[j] == pytest.approx((said & own).sum() / said.sum())
        else:
            assert np.isnan(result.precision_removed[j])
    assert 0 < result.intact.min() < 1
    assert 0 < result.false_alarms.max() < 1


def test_others_are_paired_with_every_label_that_their_image_has() -> None:
    """The change of a label of an image is the mean over the labels that the image lacks."""
    model, x, y, found = made(3)
    labels = y.numpy().astype(bool)
    before = logits_without(model, x, [])
    after = [logits_without(model, x, found.columns(j)) for j in range(C)]
    changes = study(model, [(x, y)], found).condition("relevant").changes["log_odds"]
    for k in range(C):
        images = [i for i in range(len(x)) if labels[i, k] and not labels[i].all()]
        rows = [np.mean([after[j][i, k] - before[i, k] for j in np.flatnonzero(~labels[i])]) for i in images]
        assert changes.others.count[k] == len(images)
        assert changes.others.mean[k] == pytest.approx(np.mean(rows), rel=1e-5)
        assert changes.others.variance[k] == pytest.approx(np.var(rows, ddof=1), rel=1e-4)


def test_a_case_by_hand() -> None:
    """Two labels, each its own channel: an image with both, one with neither, and a false alarm."""
    model = Questions(torch.eye(2))
    x = images_of([[0.9, 0.8], [0.7, 0.1], [0.2, 0.9], [0.1, 0.6], [0.3, 0.0]])
    y = torch.tensor([[1, 1], [1, 0], [1, 1], [0, 0], [0, 0]])
    found = Interpretation(ChannelIndex((("relu", 2),)), np.eye(2), ("a", "b"))
    result = study(model, [(x, y)], found, turns=1)
    assert result.n_images == 5
    assert result.support.tolist() == [3, 2]
    np.testing.assert_allclose(result.intact, [2 / 3, 1.0])
    np.testing.assert_allclose(result.false_alarms, [0.0, 1 / 3])
    np.testing.assert_allclose(result.precision, [1.0, 2 / 3])
    # Logits 0.4, 0.2, -0.3 and 0.3, 0.4, each image counted for every label that it has.
    np.testing.assert_allclose(result.log_odds, [0.1, 0.35], rtol=1e-5)
    relevant = result.condition("relevant")
    assert relevant.own.tolist() == [[0.0, 0.0]]
    np.testing.assert_allclose(relevant.changes["log_odds"].own.mean, [-0.6, -0.85], rtol=1e-5)
    # Image 1 loses b's channel, and a is still said of it.
    assert relevant.others[0, 1] == 1.0
    assert np.isnan(relevant.others[0, 0])  # no image has b without a
    np.testing.assert_allclose(result.false_alarms_removed, [0.0, 0.0])
    assert np.isnan(result.precision_removed).all()  # nothing is said any more


def test_images_with_one_label_are_studied_as_rows_of_class_numbers() -> None:
    """A target matrix of single ones, and class numbers, give the same study."""
    model, x, _, found = made(1)
    y = torch.arange(40) % C
    one = torch.eye(C, dtype=torch.uint8)[y]
    matrix, numbers = (study(model, batched(x, labels, 16), found, single=True) for labels in (one, y))
    assert matrix.to_json() == numbers.to_json()


@settings(max_examples=8)
@given(st.permutations(range(C)), st.integers(0, 3))
def test_the_order_of_the_labels_does_not_matter(order: list[int], seed: int) -> None:
    model, x, y, found = made(seed, 24)
    turned = made(seed, 24)[0]
    turned.fc.weight.data = model.fc.weight.data[order]
    moved = Interpretation(INDEX, found.coef[order], tuple(NAMES[i] for i in order))
    first = study(model, [(x, y)], found)
    second = study(turned, [(x, y[:, order])], moved)
    for name in ("intact", "support", "log_odds", "false_alarms", "false_alarms_removed", "precision"):
        np.testing.assert_allclose(getattr(second, name), getattr(first, name)[order], rtol=1e-6)
    np.testing.assert_allclose(second.condition("relevant").own, first.condition("relevant").own[:, order])


def test_images_that_come_twice_change_no_share() -> None:
    model, x, y, found = made(2)
    once = study(model, batched(x, y, 16), found)
    twice = study(model, batched(torch.cat([x, x]), torch.cat([y, y]), 16), found)
    for name in ("intact", "false_alarms", "false_alarms_removed", "precision", "precision_removed"):
        np.testing.assert_allclose(getattr(twice, name), getattr(once, name))
    np.testing.assert_allclose(twice.condition("relevant").own, once.condition("relevant").own)
    np.testing.assert_array_equal(twice.support, 2 * once.support)


def test_an_image_runs_once_however_many_labels_are_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of three images loses four lists, whether a label is its own or missing; the progress counts the same."""
    model, x, _, found = made()
    runs = []
    removed = Removals.removed
    monkeypatch.setattr(
        Removals, "removed", lambda self, rows, *rest: (runs.append(len(rows)), removed(self, rows, *rest))
    )
    y = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 1, 0]])
    study(model, [(x[:3], y)], found, controls=())
    # Under "relevant-positive" label b has another list: image 0 loses it as its own, image 2 as a missing one.
    assert runs == [3 * C + 2]


@pytest.mark.parametrize("turns", [1, 2, 5])
def test_no_row_loses_the_channels_of_a_label_that_its_image_has(turns: int) -> None:
    rng = np.random.default_rng(0)
    targets = rng.random((200, 7)) < 0.3
    targets[0] = True
    targets[1:20] = False
    rows = Rows.of(targets, 7)
    assert isinstance(rows, LabelRows)
    for turn in range(turns):
        foreign = rows.foreign(0, turn)
        lacks = (~targets[rows.images]).sum(1) > turn
        assert not targets[rows.images, foreign][lacks].any()
        assert (foreign == rows.labels)[~lacks].all()
    alarms = rows.alarms(0, turns)
    assert not targets[alarms.images, alarms.labels].any()
    assert len(alarms.images) == (~targets).sum()
    # What is removed stands for all: each image's weights add up to the labels that it lacks.
    np.testing.assert_allclose(np.bincount(alarms.images, alarms.weights[1], 200), (~targets).sum(1))
    again = [rows.foreign(0, turn) for turn in range(turns)]
    np.testing.assert_array_equal(again, [rows.foreign(0, turn) for turn in range(turns)])


def test_a_sample_of_the_images_without_a_label_has_their_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past a million cells a part is asked about; images with more labels lack fewer and count less."""
    rng = np.random.default_rng(1)
    targets = rng.random((6000, 9)) < rng.random((6000, 1))
    given_ = rng.random(targets.shape) < (0.2 + 0.5 * targets.mean(1, keepdims=True))
    rows = Rows.of(targets, 9)
    monkeypatch.setattr("interpnet.ablation._rows._MOST_CELLS", 100)
    alarms = rows.alarms(0, 2)
    assert alarms.removed.all()
    assert len(alarms.images) < 0.7 * (~targets).sum()
    said = given_[alarms.images, alarms.labels]
    whole, without = alarms.rates(said, said, 9)
    expected = [given_[~targets[:, j], j].mean() for j in range(9)]
    np.testing.assert_allclose(whole, expected, atol=0.04)
    np.testing.assert_array_equal(whole, without)


def test_rankings_are_over_the_training_images_that_have_the_label() -> None:
    X = np.array([[1, 5, 0], [4, 0, 1], [2, 2, 9]], dtype=np.float32)
    targets = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    index = ChannelIndex((("relu", 3),))
    table = ScoreTable(X, targets, np.array([1, 0, 1]), index, np.arange(3), 2)
    found = Interpretation(index, np.eye(2, 3), ("a", "b"))
    plan = Plan(found, table, (), 1, 0, False, False, "independent")
    # Means of label a (2.5, 2.5, 0.5) and of b (1.5, 3.5, 4.5).
    chosen = [plan.columns("highest-activation", c, np.ones(3, dtype=bool)).tolist() for c in range(2)]
    assert chosen == [[0], [2]]


def test_results_go_to_json_and_back_and_those_of_before_are_read() -> None:
    model, x, y, found = made()
    result = study(model, [(x, y)], found, curve=True, single=True, controls=("random",))
    read = as_result(json.loads(json.dumps(result.to_json())))
    assert read.independent
    np.testing.assert_allclose(read.precision, result.precision)
    np.testing.assert_allclose(read.precision_removed, result.precision_removed)
    older = result.to_json()
    for name in ("outputs", "false_alarms", "false_alarms_removed"):
        del older[name]
    assert not as_result(older).independent
    assert as_result(older).precision is None
    older["false_alarms"] = [0.5]
    with pytest.raises(InterpNetError, match=r"false_alarms has shape \(1,\); expected \(4,\)"):
        as_result(older)


def test_an_interrupted_study_goes_on(tmp_path: Path) -> None:
    model, x, y, found = made()
    whole = study(model, batched(x, y, 8), found, controls=("random",))

    class Stopped(Exception):
        pass

    def stopping() -> Any:
        reads = iter([0, 1])

        class Loader:
            def __iter__(self) -> Iterator[Any]:
                again = next(reads)
                for i, batch in enumerate(batched(x, y, 8)):
                    if again and i == 3:
                        raise Stopped
                    yield batch

        return Loader()

    path = tmp_path / "measured.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("interpnet.ablation._passes._KEEP_BYTES", 0)
        with pytest.raises(Stopped, match=r"^$"):
            study(model, stopping(), found, controls=("random",), checkpoint=path)
    assert study(model, batched(x, y, 8), found, controls=("random",), checkpoint=path).to_json() == whole.to_json()


REFUSED = [
    (torch.zeros(40, C, dtype=torch.long), "none of the 40 images has a label"),
    (torch.full((40, C), 0.5), "target of image 0 holds other numbers than 0 and 1"),
    (torch.zeros(40, C + 1), "targets have 5 columns; the model has 4 outputs"),
    (torch.full((40,), C), "image 0 has label 4; the model has 4 outputs"),
]


@pytest.mark.parametrize(("labels", "match"), REFUSED)
def test_targets_that_are_none_are_refused(labels: Tensor, match: str) -> None:
    model, x, _, found = made()
    with pytest.raises(DataError, match=match):
        study(model, [(x, labels)], found)


def test_a_target_matrix_without_the_word_for_it_is_refused_with_the_word() -> None:
    model, x, y, found = made()
    with pytest.raises(DataError, match="several labels, say outputs='independent'"):
        ablation_study(model, [(x, y)], found, progress=False)
    with pytest.raises(InterpNetError, match="outputs is 'independant'; expected 'exclusive' or 'independent'"):
        ablation_study(model, [(x, y)], found, progress=False, outputs="independant")


def test_a_label_without_channels_loses_nothing() -> None:
    model, x, y, found = made()
    coef = found.coef.copy()
    coef[0] = 0.0
    model.fc.bias.data.fill_(-0.5)
    result = study(model, [(x, y)], Interpretation(INDEX, coef, NAMES))
    for before, after in (
        (result.false_alarms, result.false_alarms_removed),
        (result.precision, result.precision_removed),
    ):
        assert after[0] == before[0] > 0
    assert result.condition("relevant").own[0, 0] == result.intact[0]
    whole = study(model, [(x, y)], found)
    # The others' are exact as well, for every image without a label has lost its channels.
    np.testing.assert_allclose(result.false_alarms_removed[1:], whole.false_alarms_removed[1:])


def test_rows_of_one_image_are_not_taken_as_independent() -> None:
    """The variance of a mean over labels is that of the images' influences."""
    model, x, y, found = made(4)
    # What all labels of an image have in common.
    x = x * (0.6 + 0.8 * torch.rand(40, 1, 1, 1, generator=torch.Generator().manual_seed(1)))
    result = study(model, [(x, y)], found, controls=("random",))
    has = y.numpy().astype(bool)
    before = logits_without(model, x, [])
    change = np.stack([logits_without(model, x, found.columns(j))[:, j] - before[:, j] for j in range(C)], 1)
    right = (before > 0).astype(float)
    alone, shared = [], []
    for values in (change, right):
        d = np.where(has, values - values.mean(0, where=has), 0.0) / has.sum(0)
        alone.append(((d**2).sum(0) * has.sum(0) / (has.sum(0) - 1)).sum() / C**2)
        shared.append(max(float((d.sum(1) ** 2).sum() - (d**2).sum()), 0.0) / C**2)
    own = result.condition("relevant").changes["log_odds"].own
    assert own.stderr() ** 2 == pytest.approx(alone[0] + shared[0], rel=1e-4)
    assert own.clusters is not None
    assert own.clusters.images == has.any(1).sum()
    assert result.clusters is not None
    assert result.clusters.variance(np.ones(C, dtype=bool)) == pytest.approx(shared[1])
    assert max(shared) > 0
    read = as_result(json.loads(json.dumps(result.to_json())))
    assert read.interval_intact() == pytest.approx(result.interval_intact())
    for first, second in zip(result.conditions, read.conditions, strict=True):
        assert first.interval_own() == pytest.approx(second.interval_own(), abs=1e-4)
        assert first.interval_others() == pytest.approx(second.interval_others(), abs=1e-4)
    exclusive = ablation_study(model, [(x, torch.arange(40) % C)], found, controls=(), progress=False)
    assert exclusive.clusters is None


def test_a_study_is_the_same_on_every_device(device: str) -> None:
    model, x, y, found = made()
    expected = study(model, batched(x, y, 16), found)
    result = study(model.to(device), batched(x, y, 16), found)
    for name in ("intact", "precision", "false_alarms_removed"):
        np.testing.assert_allclose(getattr(result, name), getattr(expected, name))
    np.testing.assert_allclose(result.log_odds, expected.log_odds, rtol=1e-4, atol=1e-5)
