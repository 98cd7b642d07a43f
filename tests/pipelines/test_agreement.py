"""Whether answers have anything to do with labels: by hand, and how often independent answers are accused wrongly."""

from __future__ import annotations

import numpy as np
import pytest
from interpnet.pipelines.stages.agreement import Agreement


def answers(right: float, labels: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """Return answers of which a share is right and the rest is drawn from all classes."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(classes, size=len(labels))
    return np.where(rng.random(len(labels)) < right, labels, drawn)


def test_counts_by_hand() -> None:
    now = Agreement(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
    assert (now.n, now.right, now.accuracy) == (4, 3, 0.75)
    # 1/2 of the labels are 0 and 1/4 of the answers; 1/2 and 3/4 for the other.
    assert now.chance == pytest.approx(0.5 * 0.25 + 0.5 * 0.75)
    assert now.favourite == (1, 0.75)
    assert not now.tells  # (1/2) ** 4 is no rare accident
    assert Agreement(np.arange(20) % 2, np.arange(20) % 2).tells
    assert not Agreement(np.zeros(100, dtype=int), np.zeros(100, dtype=int)).tells


@pytest.mark.parametrize("classes", [2, 10, 200])
def test_independent_answers_are_at_chance_and_hardly_ever_in_another_order(classes: int) -> None:
    labels = np.arange(240) % classes
    seeds = range(100 if classes < 100 else 20)  # an order of many classes takes longer to find
    accused = [Agreement(labels, answers(0.0, labels, classes, seed)) for seed in seeds]
    assert np.mean([one.at_chance for one in accused]) >= 0.95
    # The best of 200 shuffled answers is exceeded by 1 in 201.
    assert np.mean([bool(one.order()) for one in accused]) <= 0.05


@pytest.mark.parametrize(("right", "classes"), [(0.3, 10), (0.6, 3), (0.2, 100), (0.95, 10)])
def test_a_network_that_knows_something_is_let_through(right: float, classes: int) -> None:
    labels = np.arange(240) % classes
    for seed in range(20):
        now = Agreement(labels, answers(right, labels, classes, seed))
        assert not now.at_chance
        assert now.order() == {}


def test_one_answer_for_all_is_at_chance_however_frequent_the_class() -> None:
    labels = np.array([0] * 120 + [1] * 80)
    now = Agreement(labels, np.zeros(200, dtype=int))
    assert now.accuracy == now.chance == 0.6
    assert now.at_chance
    assert now.order() == {}


@pytest.mark.parametrize("classes", [3, 10])
def test_another_order_of_all_classes_is_found(classes: int) -> None:
    labels = np.arange(240) % classes
    moved = np.roll(np.arange(classes), 1)
    order = Agreement(labels, moved[answers(0.7, labels, classes, 1)]).order()
    assert order == {c: int(moved[c]) for c in range(classes)}
    # Into outputs that the data has no class of.
    assert Agreement(labels, 500 + answers(0.7, labels, classes, 1)).order() == {c: 500 + c for c in range(classes)}


def test_two_classes_that_are_exchanged_are_found_and_a_confusion_is_not() -> None:
    labels = np.arange(240) % 10
    said = answers(0.95, labels, 10, 2)
    exchanged = said.copy()
    exchanged[said == 3] = 5
    exchanged[said == 5] = 3
    assert Agreement(labels, exchanged).order() == {3: 5, 5: 3}
    confused = said.copy()
    confused[said == 3] = 5  # all threes are called fives, and so are the fives
    assert Agreement(labels, confused).order() == {}
    assert Agreement(labels, said).order() == {}


def test_a_preparation_is_better_only_beyond_chance_and_by_a_tenth() -> None:
    labels = np.arange(200) % 10
    low = Agreement(labels, answers(0.5, labels, 10, 3))
    high = Agreement(labels, answers(0.9, labels, 10, 4))
    assert low.clearly_below(high)
    assert not high.clearly_below(low)
    assert not low.clearly_below(Agreement(labels, answers(0.5, labels, 10, 5)))
    slightly = low.predictions.copy()
    slightly[np.flatnonzero(low.predictions != labels)[:18]] = labels[low.predictions != labels][:18]
    assert not low.clearly_below(Agreement(labels, slightly))  # 18 of 200, all won
