"""The curve a radius is chosen from: what it says of its choice, and how it is read from measurements."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from interpnet.pipelines.run.selection import how_chosen

from interpnet.errors import InterpNetError
from interpnet.mulasso import MuLassoCV, SelectionCurve
from interpnet.mulasso._selection_curve import affordable, choose_by_accuracy

MUS = np.array([1.0, 2.0, 4.0])


def curve(chosen: Any) -> SelectionCurve:
    return SelectionCurve(MUS, MUS, MUS / 9, None, None, MUS, chosen, chosen, chosen, "one_se", 5)


@pytest.mark.parametrize(
    ("chosen", "end"),
    [
        (1.0, "smallest"),
        (2.0, ""),
        (4.0, "largest"),
        (np.array([1.0, 1.0]), "smallest"),
        (np.array([4.0, 4.0, 4.0]), "largest"),
        (np.array([1.0, 4.0]), ""),
        (np.array([2.0]), ""),
    ],
)
def test_the_end_of_the_radii(chosen: Any, end: str) -> None:
    assert curve(chosen).end == end


def test_words_about_one_mu_per_class_are_refused() -> None:
    with pytest.raises(InterpNetError, match="one mu per class"):
        how_chosen(curve(np.array([1.0, 2.0])))
    assert "smallest" in how_chosen(curve(1.0))


def test_the_place_of_a_radius_is_that_of_the_nearest() -> None:
    assert [curve(1.0).position(mu) for mu in (1.0, 1.4, 1.6, 2.9, 3.1, 99.0)] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("mean", "error", "enough"),
    [
        ([0.5, 0.8, 0.9], [0.0, 0.0, 0.1], 2.0),  # exactly one standard error below the best
        ([0.5, 0.79, 0.9], [0.4, 0.0, 0.1], 4.0),
        ([0.8, 0.8, 0.8], [0.0, 0.0, 0.0], 1.0),
        ([0.5, 0.9, 0.8], [0.0, 0.0, 0.5], 2.0),  # the error is that at the best
    ],
)
def test_how_large_a_radius_is_enough(mean: list[float], error: list[float], enough: float) -> None:
    found = SelectionCurve(MUS, MUS, MUS, np.array(mean), np.array(error), MUS, 1.0, 1.0, 1.0, "best", 5)
    assert found.enough == enough


@pytest.mark.parametrize("missing", [0, 1])
def test_without_accuracies_nothing_is_known_to_be_enough(missing: int) -> None:
    both: list[Any] = [MUS, MUS]
    both[missing] = None
    assert SelectionCurve(MUS, MUS, MUS, *both, MUS, 1.0, 1.0, 1.0, "best", 5).enough is None


def test_what_a_curve_says_is_what_was_measured() -> None:
    model = MuLassoCV()
    model.mus_ = MUS
    # Two folds, three radii, two classes: overall 3, 1.5, 1 and 3, 1.5, 2.5 per fold.
    model.error_path_ = np.array([[[2.0, 4.0], [1.0, 2.0], [0.5, 1.5]], [[2.0, 4.0], [1.0, 2.0], [2.5, 2.5]]])
    model.accuracy_path_ = np.array([[0.5, 0.75, 0.875], [0.5, 0.25, 0.875]])
    model.n_channels_path_ = np.array([[[1, 3], [2, 4], [5, 5]], [[3, 5], [4, 6], [5, 5]]])
    model._read_off()
    found = model.curve_
    np.testing.assert_allclose(found.error_mean, [3.0, 1.5, 1.75])
    np.testing.assert_allclose(found.error_se, [0.0, 0.0, 0.75])
    np.testing.assert_allclose(found.accuracy_mean, [0.5, 0.5, 0.875])
    np.testing.assert_allclose(found.accuracy_se, [0.0, 0.25, 0.0])
    assert found.channels_mean.tolist() == [3.0, 4.0, 5.0]
    assert (found.chosen, found.best, found.one_se, found.rule, found.n_folds) == (2.0, 2.0, 2.0, "one_se", 2)
    assert found.mus.tolist() == MUS.tolist()


@pytest.mark.parametrize(("rule", "chosen"), [("best", 2.0), ("one_se", 1.0)])
@pytest.mark.filterwarnings("ignore:the chosen mu is")
def test_the_rule_decides_between_two_radii(rule: str, chosen: float) -> None:
    model = MuLassoCV(rule=rule)
    model.mus_ = MUS
    # Means 2.1, 2 and 3; the best has a standard error of 1.
    model.error_path_ = np.array([[[2.1], [1.0], [3.0]], [[2.1], [3.0], [3.0]]])
    model.accuracy_path_ = None
    model.n_channels_path_ = np.ones((2, 3, 1))
    model._read_off()
    assert (model.mu_, model.mu_best_, model.mu_one_se_) == (chosen, 2.0, 1.0)
    assert (model.curve_.chosen, model.curve_.best, model.curve_.one_se) == (chosen, 2.0, 1.0)
    assert model.curve_.accuracy_se is None


@pytest.mark.parametrize(
    ("mus", "errors", "message"),
    [
        ([1.0, 2.0, 4.0], [1.0, 2.0, 3.0], r"mu is 1, at an end of the 3 radii tried \(1 to 4\)"),
        ([1.0, 2.0, 4.0], [3.0, 2.0, 1.0], r"mu is 4, at an end of the 3 radii tried \(1 to 4\)"),
        ([1.0, 2.0, 4.0], [3.0, 1.0, 2.0], None),
        ([1.0, 2.0], [1.0, 2.0], None),  # of two, one is an end in any case
    ],
)
def test_when_an_end_of_the_radii_is_said(mus: list[float], errors: list[float], message: str | None) -> None:
    model = MuLassoCV()
    model.mus_ = np.array(mus)
    model.error_path_ = np.array(errors)[None, :, None]
    model.accuracy_path_ = None
    model.n_channels_path_ = np.ones((1, len(mus), 1))
    if message is None:
        model._read_off()
        return
    with pytest.warns(UserWarning, match=message):
        model._read_off()


# --- few channels -------------------------------------------------------------------------------------------


def test_which_radii_name_few_channels() -> None:
    channels = np.array([5.0, 3.0, 4.0, 4.5])
    assert affordable(channels, None).tolist() == [True] * 4
    assert affordable(channels, 4.0).tolist() == [True, True, True, False]  # the smallest always counts
    assert affordable(channels, 2.0).tolist() == [True, False, False, False]
    found = SelectionCurve(MUS, MUS, MUS, None, None, np.array([1.0, 2.0, 3.0]), 1.0, 1.0, 1.0, "best", 5, 2.0)
    assert found.allowed.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("allowed", "place"), [([True, True, True], 1), ([True, False, True], 2), ([True, False, False], 0)]
)
def test_the_smallest_radius_that_is_accurate_enough(allowed: list[bool], place: int) -> None:
    # Means 0.5, 0.75, 0.8; the best has a standard error of 0.1.
    accuracy = np.array([[0.5, 0.75, 0.7], [0.5, 0.75, 0.9]])
    assert choose_by_accuracy(accuracy, np.array(allowed)) == place


def test_the_error_decides_among_radii_with_few_channels() -> None:
    model = MuLassoCV(rule="best", most_channels=2.0)
    model.mus_ = np.array([0.5, 1.0, 2.0, 4.0])
    model.error_path_ = np.array([[[4.0], [2.0], [3.0], [1.0]], [[4.0], [2.0], [3.0], [1.0]]])
    model.accuracy_path_ = None
    model.n_channels_path_ = np.array([[[1], [2], [2], [9]]] * 2)
    model._read_off()
    assert (model.mu_, model.mu_best_, model.mu_one_se_, model.curve_.most) == (1.0, 1.0, 1.0, 2.0)
    assert model.curve_.error_mean.tolist() == [4.0, 2.0, 3.0, 1.0]


def test_the_accuracy_decides_where_it_is_asked_to() -> None:
    model = MuLassoCV(rule="accuracy", most_channels=5.0)
    model.mus_ = np.array([0.5, 1.0, 2.0, 4.0])
    model.error_path_ = np.array([[[4.0], [2.0], [1.0], [3.0]], [[4.0], [2.0], [1.0], [3.0]]])
    model.accuracy_path_ = np.array([[0.5, 0.8, 0.7, 0.9], [0.5, 0.8, 0.9, 0.9]])
    model.n_channels_path_ = np.array([[[1], [2], [3], [9]]] * 2)
    model._read_off()
    assert (model.mu_, model.mu_best_, model.mu_one_se_) == (1.0, 2.0, 2.0)


def test_below_the_smallest_radius_that_is_accurate_there_is_nothing_better() -> None:
    by_error, by_accuracy = (
        SelectionCurve(MUS, MUS, MUS, MUS, MUS, MUS, 1.0, 1.0, 1.0, rule, 5) for rule in ("one_se", "accuracy")
    )
    assert (by_error.ends, by_error.end) == ({1.0: "smallest", 4.0: "largest"}, "smallest")
    assert (by_accuracy.ends, by_accuracy.end) == ({4.0: "largest"}, "")


def test_a_curve_from_before_there_was_a_bound() -> None:
    written = curve(1.0).to_json()
    del written["most"]
    assert SelectionCurve.from_json(written).most is None
    assert SelectionCurve.from_json(written | {"most": 3.0}).most == 3.0


def test_what_was_saved_is_read_without_torch() -> None:
    code = (
        "import sys, interpnet.gram._gram, interpnet.mulasso._selection_curve, interpnet.mulasso._stability; "
        "sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
