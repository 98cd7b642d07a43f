"""Thousands of outputs and few classes with images: memory follows what is there, not the square of the outputs."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from interpnet.ablation import AblationResult, Condition, ablation_study, as_result, others_change
from interpnet.ablation._changes import mean_of_others
from interpnet.ablation._rows import foreign_classes
from interpnet.engine import ChannelIndex
from interpnet.errors import InterpNetError
from interpnet.interpretation import Interpretation
from interpnet.scores import collect_scores

PROBLEMS = {"n": st.integers(1, 40), "n_classes": st.integers(1, 9), "seed": st.integers(0, 10**6)}


@settings(max_examples=80, derandomize=True)
@given(**PROBLEMS)
def test_recalls_of_others_are_those_of_a_full_table(n: int, n_classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(n_classes, size=n)
    foreign = rng.integers(n_classes, size=n)
    right = rng.random(n) < 0.6
    expected = np.full(n_classes, np.nan)
    for j in range(n_classes):
        lost = [(foreign == j) & (labels == c) for c in range(n_classes) if c != j]
        recalls = [right[images].mean() for images in lost if images.any()]
        if recalls:
            expected[j] = sum(recalls) / len(recalls)
    np.testing.assert_allclose(mean_of_others(foreign, labels, right, n_classes), expected, rtol=1e-14)


def test_recalls_of_others_in_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    labels, foreign = rng.integers(7, size=(2, 200))
    right = rng.random(200) < 0.5
    whole = mean_of_others(foreign, labels, right, 7)
    for cells in (1, 7, 20):
        monkeypatch.setattr("interpnet.ablation._changes._BLOCK_CELLS", cells)
        np.testing.assert_array_equal(mean_of_others(foreign, labels, right, 7), whole)


@settings(max_examples=60, derandomize=True)
@given(**PROBLEMS)
def test_foreign_classes_are_those_of_earlier_versions(n: int, n_classes: int, seed: int) -> None:
    """Drawn class by class, empty ones too, from one generator; so that published figures stay as they are."""
    labels = np.random.default_rng([seed, 5]).integers(n_classes, size=n)
    rng = np.random.default_rng([seed, 1])
    expected = np.zeros(n, dtype=np.int64)
    for c in range(n_classes):
        rows = rng.permutation(np.flatnonzero(labels == c))
        others = rng.permutation([j for j in range(n_classes) if j != c])
        if len(others):
            expected[rows] = np.resize(others, len(rows))
    np.testing.assert_array_equal(foreign_classes(labels, n_classes, seed), expected)


@pytest.mark.parametrize("intact", [[0.5, np.nan, 1.0, 0.25], [np.nan, 0.5], [1.0], [np.nan, np.nan]])
def test_the_others_change_by_hand(intact: list[float]) -> None:
    n = len(intact)
    condition = Condition("relevant", "all", np.ones(n), np.ones((1, n)), np.full((1, n), 0.75))
    names = tuple("abcd"[:n])
    result = AblationResult(names, np.ones(n, dtype=np.int64), np.array(intact), "zero", 4, 1, 0, (condition,))
    expected = []
    for c in range(n):
        rest = [value for i, value in enumerate(intact) if i != c and not np.isnan(value)]
        expected.append(0.75 - sum(rest) / len(rest) if rest else np.nan)
    np.testing.assert_allclose(others_change(result, condition)[0], expected, rtol=1e-15)


@pytest.mark.parametrize("n_classes", [21_841, 200_000])
def test_memory_does_not_grow_with_the_square_of_the_outputs(n_classes: int) -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(n_classes, 5)[np.arange(50) % 5]
    foreign = rng.integers(n_classes, size=50)
    condition = Condition("relevant", "all", np.zeros(n_classes), np.ones((1, n_classes)), np.ones((1, n_classes)))
    intact = np.full(n_classes, np.nan)
    intact[labels] = 1.0
    names = tuple(map(str, range(n_classes)))
    result = AblationResult(names, np.bincount(labels, minlength=n_classes), intact, "zero", 50, 1, 0, (condition,))
    tracemalloc.start()
    means = mean_of_others(foreign, labels, np.ones(50, dtype=bool), n_classes)
    change = others_change(result, condition)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(np.flatnonzero(np.isfinite(means)).tolist()) == set(foreign.tolist()) - set(labels[foreign == labels])
    assert set(change[0].tolist()) == {0.0}
    # One number per pair of classes would be 3.8 and 320 GB.
    assert peak < 100 * 8 * n_classes + (16 << 20)


def test_a_study_of_few_classes_among_many_outputs() -> None:
    """Five classes with images among 2,000 outputs: the same as with five outputs."""
    classes = np.array([3, 40, 999, 1000, 1998])
    labels = torch.arange(40) % 5
    images = torch.rand(40, 5, 3, 3, generator=torch.Generator().manual_seed(2)) * 0.3
    images[torch.arange(40), labels] += 0.7
    results = []
    for n_outputs, numbers in ((5, np.arange(5)), (2000, classes)):
        model = nn.Sequential(
            nn.Conv2d(5, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, n_outputs)
        ).eval()
        model[0].weight.data = torch.eye(5).view(5, 5, 1, 1)
        model[0].bias.data.zero_()
        model[4].weight.data.zero_()
        model[4].weight.data[numbers] = torch.eye(5)
        model[4].bias.data.fill_(-1.0)
        model[4].bias.data[numbers] = 0.0
        coef = np.zeros((n_outputs, 5))
        coef[numbers] = np.eye(5)
        found = Interpretation(ChannelIndex((("1", 5),)), coef, tuple(map(str, range(n_outputs))))
        batches = [(images, torch.from_numpy(numbers)[labels])]
        table = collect_scores(model, batches, progress=False)
        result = ablation_study(model, batches, found, table=table, repeats=1, progress=False)
        results.append([result.condition(name).own[0][numbers] for name in ("relevant", "highest-activation")])
        _goes_to_json_and_back(result)
        assert np.isnan(np.delete(result.intact, numbers)).all()
        assert sorted(c for c, effects in result.single.items() if effects) == sorted(numbers.tolist())
        np.testing.assert_array_equal(result.intact[numbers], 1.0)
        np.testing.assert_array_equal(np.delete(result.condition("relevant").removed, numbers), 0.0)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0][0], 0.0)


def _goes_to_json_and_back(result: AblationResult) -> None:
    """The same numbers, in a text whose size is that of the classes with images."""
    text = json.dumps(result.to_json())
    assert len(text) < 120_000
    again = as_result(json.loads(text))
    # Of no more digits than were written.
    assert again.to_json() == json.loads(text)
    np.testing.assert_array_equal(again.support, result.support)
    np.testing.assert_array_equal(again.intact, result.intact)
    for one, other in zip(again.conditions, result.conditions, strict=True):
        for name in ("removed", "own", "others"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        np.testing.assert_array_equal(one.changes["recall"].own.count, other.changes["recall"].own.count)
        np.testing.assert_allclose(one.changes["log_odds"].own.mean, other.changes["log_odds"].own.mean, rtol=1e-4)


@pytest.mark.parametrize("row", [{"length": 10**15, "usual": None, "at": [], "values": []}, {"length": 3}])
def test_a_row_that_cannot_be_is_refused(row: dict[str, Any]) -> None:
    condition = Condition("relevant", "all", np.ones(1), np.ones((1, 1)), np.ones((1, 1)))
    stored = AblationResult(("a",), np.ones(1, dtype=np.int64), np.ones(1), "zero", 4, 1, 0, (condition,)).to_json()
    with pytest.raises(InterpNetError, match="run the ablation again"):
        as_result(stored | {"intact": row})


def test_sums_of_many_classes_take_no_matrix_of_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    from interpnet.gram import GramAccumulator

    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 50)).eval()
    batches = [(torch.rand(20, 1, 2, 2), torch.arange(20) % 3 * 20)]
    grams = []
    for most in (4096, 10):
        monkeypatch.setattr("interpnet.scores._intake._MOST_DENSE_CLASSES", most)
        sums = GramAccumulator(2, 50)
        collect_scores(model, batches, gram=sums, progress=False)
        grams.append(sums.gram())
    np.testing.assert_allclose(grams[0].B, grams[1].B, rtol=1e-13)
    np.testing.assert_array_equal(grams[0].G, grams[1].G)
