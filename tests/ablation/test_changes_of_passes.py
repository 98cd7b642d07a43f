"""Variances between draws, and changes paired by image, against plain loops over classes, passes and images."""

from __future__ import annotations

import numpy as np
import pytest

from interpnet.ablation._changes import MEASURES, Gathered, Outcome, Pass, changes_of, draws_of, mean_of_others

NAN = float("nan")


def between(passes: list[tuple[list[float], list[int]]], labels: list[int], cls: int) -> float:
    """Return what a draw alone adds, by a one-way analysis of variance of each pass; NaN where nothing says so."""
    found = []
    for values, group in passes:
        mine = [(value, g) for value, g, label in zip(values, group, labels, strict=True) if label == cls]
        cells: dict[int, list[float]] = {}
        for value, g in mine:
            cells.setdefault(g, []).append(value)
        k = len(cells)
        n = len(mine)
        if k < 2 or n <= k:
            continue
        mean = np.mean([value for value, _ in mine])
        among = sum(len(cell) * (np.mean(cell) - mean) ** 2 for cell in cells.values()) / (k - 1)
        within = sum(float(((np.array(cell) - np.mean(cell)) ** 2).sum()) for cell in cells.values()) / (n - k)
        size = (n - sum(len(cell) ** 2 for cell in cells.values()) / n) / (k - 1)
        found.append((among - within) / size)
    return float(np.mean(found)) if found else NAN


def passes_of(values: np.ndarray, groups: list[list[int]], labels: list[int]) -> list[Pass]:
    right = np.ones(len(labels), dtype=bool)
    return [
        Pass(Outcome(right, row.astype(np.float32)), np.array(labels), np.array(group))
        for row, group in zip(values, groups, strict=True)
    ]


def test_variances_between_draws_are_those_of_an_analysis_of_variance() -> None:
    # Uneven draws; a class of one draw; one whose draws have an image each; one of a single image; one of none.
    labels = [0] * 7 + [1] * 3 + [2] * 3 + [3] + [5] * 4
    groups = [
        [0, 0, 0, 1, 1, 2, 2, 0, 0, 0, 0, 1, 2, 0, 0, 1, 1, 1],
        [0, 1, 2, 3, 0, 1, 0, 0, 1, 1, 0, 1, 2, 0, 0, 0, 0, 0],
    ]
    values = np.random.default_rng(3).normal(size=(2, len(labels))) * 4
    found = draws_of(passes_of(values, groups, labels), values, np.array(labels), 6)
    assert found is not None
    assert found.passes == 2
    assert found.number.tolist() == [3 + 4, 1 + 2, 3 + 3, 1 + 1, 0, 2 + 1]
    rows = [(row.tolist(), group) for row, group in zip(values, groups, strict=True)]
    expected = [between(rows, labels, cls) for cls in range(6)]
    # A class with one draw in each pass has its passes compared.
    expected[3] = float(np.var(values[:, labels.index(3)], ddof=1))
    np.testing.assert_allclose(found.variance, expected, rtol=1e-10)
    assert np.isnan(expected).tolist() == [False, False, True, False, True, False]
    one = draws_of(passes_of(values[:1], groups[:1], labels), values[:1], np.array(labels), 6)
    assert one is not None
    assert (one.passes, one.number.tolist()) == (1, [3, 1, 3, 1, 0, 2])
    np.testing.assert_allclose(one.variance, [between(rows[:1], labels, cls) for cls in range(6)], rtol=1e-10)
    plain = [one._replace(draws=None) for one in passes_of(values, groups, labels)]
    assert draws_of(plain, values, np.array(labels), 6) is None


def test_passes_are_averaged_and_paired_image_by_image() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2, 2])
    rng = np.random.default_rng(5)

    def outcome() -> Outcome:
        log_odds = rng.normal(size=7).astype(np.float32)
        return Outcome(log_odds > 0, log_odds)

    intact = outcome()
    others = [np.array([1, 2, 1, 0, 2, 0, 1]), np.array([2, 1, 2, 2, 0, 1, 0])]
    named = Gathered([Pass(outcome(), labels)], [Pass(outcome(), foreign) for foreign in others])
    group = [np.array([0, 0, 1, 0, 0, 0, 1]), np.array([1, 0, 0, 0, 1, 0, 0])]
    own = [Pass(outcome(), labels, draws) for draws in group]
    control = Gathered(own, [Pass(outcome(), foreign, draws) for foreign, draws in zip(others, group, strict=True)])
    found = changes_of(intact, labels, 3, control, named)
    assert tuple(found) == MEASURES
    for measure, change in found.items():
        start = intact.value(measure)
        mine = np.mean([one.outcome.value(measure) - start for one in control.own], 0)
        theirs = np.mean([one.outcome.value(measure) - start for one in control.others], 0)
        named_mine = named.own[0].outcome.value(measure) - start
        named_theirs = np.mean([one.outcome.value(measure) - start for one in named.others], 0)
        assert change.own_beyond is not None
        assert change.specific_beyond is not None
        rows = {
            "own": (change.own, mine),
            "others": (change.others, theirs),
            "specific": (change.specific, theirs - mine),
            "own_beyond": (change.own_beyond, mine - named_mine),
            "specific_beyond": (change.specific_beyond, (named_theirs - named_mine) - (theirs - mine)),
        }
        for name, (effect, values) in rows.items():
            for cls in range(3):
                assert effect.mean[cls] == pytest.approx(values[labels == cls].mean(), abs=1e-12), name
                assert effect.variance[cls] == pytest.approx(values[labels == cls].var(ddof=1), abs=1e-12), name
            assert effect.count.tolist() == [3, 2, 2]
            assert effect.share == (measure == "recall")
            # Who loses other classes' channels loses another draw's each time.
            assert (effect.draws is None) == (name == "others")
        raw = [one.outcome.value(measure) - start for one in control.own]
        expected = draws_of(control.own, raw, labels, 3)
        assert expected is not None
        assert change.own.draws is not None
        np.testing.assert_array_equal(change.own.draws.variance, expected.variance)
        for cls in range(3):
            pairs: dict[int, list[float]] = {}
            for one in control.others:
                for value, foreign, label in zip(one.outcome.value(measure) - start, one.classes, labels, strict=True):
                    if foreign == cls:
                        pairs.setdefault(int(label), []).append(value)
            lost = [value for part in pairs.values() for value in part]
            assert change.by_removed.mean[cls] == pytest.approx(np.mean([np.mean(part) for part in pairs.values()]))
            assert change.by_removed.variance[cls] == pytest.approx(np.var(lost, ddof=1))
            assert change.by_removed.count[cls] == len(lost)
        assert change.by_removed.share == (measure == "recall")
        assert change.by_removed.draws is None


def test_a_network_of_one_class_has_no_others() -> None:
    labels = np.zeros(3, dtype=np.int64)
    intact = Outcome(np.ones(3, dtype=bool), np.array([1.0, 2.0, 3.0], np.float32))
    made = Pass(Outcome(np.zeros(3, dtype=bool), np.array([0.0, 0.0, -1.0], np.float32)), labels)
    change = changes_of(intact, labels, 1, Gathered([made], [made]))["log_odds"]
    assert change.own.mean[0] == pytest.approx(-7 / 3)
    assert change.others.count.tolist() == [0]
    assert change.specific.count.tolist() == [0]
    assert np.isnan(change.by_removed.mean).all()


@pytest.mark.parametrize("cells", [1, 8, 1 << 18])
def test_means_of_others_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    monkeypatch.setattr("interpnet.ablation._changes._BLOCK_CELLS", cells)
    rng = np.random.default_rng(1)
    foreign = rng.integers(0, 7, 60)
    labels = rng.integers(0, 7, 60)
    foreign[foreign == 3] = 2
    values = rng.normal(size=60)
    expected = np.full(7, np.nan)
    for j in range(7):
        pairs = [values[(foreign == j) & (labels == c)] for c in range(7) if c != j]
        means = [part.mean() for part in pairs if len(part)]
        if means:
            expected[j] = np.mean(means)
    np.testing.assert_allclose(mean_of_others(foreign, labels, values, 7), expected)
    assert np.isnan(expected).tolist() == [False, False, False, True, False, False, False]
