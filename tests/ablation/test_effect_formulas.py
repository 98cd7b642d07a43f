"""Intervals, p-values and variances between draws against plain loops over classes and images, in many situations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from interpnet.ablation import Effect, effect_by_class, recall_interval
from interpnet.ablation._changes import MEASURES, Gathered, Outcome, Pass, changes_of, draws_of, mean_of_others
from interpnet.ablation._effect import Draws

NAN = float("nan")


def spread(groups: Sequence[Sequence[float]], *, share: bool, draws: Draws | None, one_draw: bool) -> tuple[float, ...]:
    """Return mean, variance, degrees of freedom, and the variance of single draws, of a mean over classes."""
    known = [c for c, group in enumerate(groups) if len(group)]
    size = len(known)
    several = [c for c in known if len(groups[c]) > 1]
    single = [groups[c][0] for c in known if len(groups[c]) == 1]
    mean = sum(np.mean(groups[c]) for c in known) / size
    if size == 1 and not several:
        return mean, NAN, NAN, 0.0
    parts = [(np.var(groups[c], ddof=1) / len(groups[c]) / size**2, len(groups[c]) - 1) for c in several]
    if len(single) > 1:
        parts.append((np.var(single, ddof=1) * len(single) / size**2, len(single) - 1))
    if len(single) == 1:
        df = sum(len(groups[c]) - 1 for c in several)
        squares = sum(float(((np.array(groups[c]) - np.mean(groups[c])) ** 2).sum()) for c in several)
        parts.append((squares / df / size**2, df))
    of_one = 0.0
    if draws is not None:
        finite = [draws.variance[c] for c in known if math.isfinite(draws.variance[c])]
        if not finite:
            if size < 2:
                return mean, NAN, NAN, 0.0
            between = np.var([np.mean(groups[c]) for c in known], ddof=1) / size
            return mean, max(between, sum(v for v, _ in parts)), size - 1, 0.0
        of_draws = max(sum(finite) / len(finite), 0.0)
        total = 0.0
        for c in several:
            total += max(1 / max(draws.number[c], 1) - 1 / (draws.passes * len(groups[c])), 0.0) + one_draw
        parts.append((of_draws * total / size**2, max(sum(max(draws.number[c], 1) - 1 for c in several), 1)))
        if one_draw:
            of_one = of_draws * len(several) / size**2
    if share:
        images = size**2 / sum(1 / len(groups[c]) for c in known)
        parts.append((1 / (images * (images + 2)), max(sum(len(groups[c]) - 1 for c in known), 1)))
    variance = sum(v for v, _ in parts)
    df = sum(d for _, d in parts)
    if variance > 0:
        df = variance**2 / sum(v**2 / d for v, d in parts)
    if draws is not None:
        df = min(df, sum(max(draws.number[c], 2) - 1 for c in known))
    return mean, variance, max(df, 1.0), of_one


def odds(*sizes: int, seed: int = 0, shift: float = 0.4) -> list[list[float]]:
    rng = np.random.default_rng([seed, *sizes])
    return [list(shift + (0.5 + c) * rng.normal(size=n)) for c, n in enumerate(sizes)]


def changes(*sizes: int, seed: int = 0) -> list[list[float]]:
    """Return changes of recall, of which most are losses turned into gains."""
    rng = np.random.default_rng([seed, *sizes])
    return [list(rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.4, 0.5], size=n)) for n in sizes]


def drawn(number: list[int], variance: list[float], passes: int = 1) -> Draws:
    return Draws(np.array(number), np.array(variance), passes)


CASES: dict[str, tuple[list[list[float]], dict[str, Any]]] = {
    "even": (odds(8, 8, 8), {}),
    "uneven, one class without images": (odds(3, 0, 20), {}),
    "one class": (odds(6), {}),
    "one image": (odds(1), {}),
    "one class of one image": (odds(5, 1, 9), {}),
    "two classes of one image": (odds(5, 1, 1, 9), {}),
    "one image each": (odds(1, 1, 1), {}),
    "no spread": ([[0.5, 0.5], [0.25, 0.25, 0.25]], {}),
    "below zero": (odds(8, 8, shift=-2.0), {}),
    "shares": (changes(9, 4, 12), {"share": True}),
    "shares that do not change": ([[0.0] * 5, [0.0] * 3], {"share": True}),
    "all gained": ([[1.0] * 4, [1.0] * 3], {"share": True}),
    "shares of one image": (changes(9, 1, 12), {"share": True}),
    "draws": (odds(8, 20, 5), {"draws": drawn([4, 10, 2], [0.5, 0.25, 1.5])}),
    "draws in several passes": (odds(8, 20, 5), {"draws": drawn([8, 20, 5], [0.5, NAN, 1.5], 2)}),
    "as many draws as images": (odds(8, 4), {"draws": drawn([8, 4], [0.5, 2.0])}),
    "draws that do less than chance": (odds(8, 20), {"draws": drawn([4, 4], [-2.0, 0.5])}),
    "draws of classes without images": (odds(8, 0, 5), {"draws": drawn([4, 0, 2], [0.5, NAN, 1.0])}),
    "draws of one image": (odds(8, 1, 5), {"draws": drawn([4, 1, 2], [0.5, NAN, 1.0])}),
    "one draw each": (odds(8, 6, 5), {"draws": drawn([1, 1, 1], [0.5, 0.75, NAN], 2)}),
    "unknown draws": (odds(8, 6, 5), {"draws": drawn([1, 1, 1], [NAN] * 3)}),
    "unknown draws of like classes": ([[0.0, 4.0], [1.0, 3.0, 2.0]], {"draws": drawn([1, 1], [NAN] * 2)}),
    "unknown draws of one class": (odds(8), {"draws": drawn([1], [NAN])}),
    "shares in draws": (changes(9, 4, 12), {"share": True, "draws": drawn([3, 2, 5], [0.05, 0.1, 0.02])}),
}


def effect_of(groups: list[list[float]], *, share: bool = False, draws: Draws | None = None) -> Effect:
    values = [value for group in groups for value in group]
    classes = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    return effect_by_class(values, classes, len(groups), share=share, draws=draws)


@pytest.mark.parametrize("one_draw", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_means_over_classes_are_those_of_plain_loops(name: str, one_draw: bool) -> None:
    groups, options = CASES[name]
    share = options.get("share", False)
    effect = effect_of(groups, **options)
    mean, variance, df, of_one = spread(groups, share=share, draws=options.get("draws"), one_draw=one_draw)
    assert effect.overall() == pytest.approx(mean)
    for level in (0.5, 0.95):
        found = effect.interval(level, one_draw=one_draw)
        if math.isnan(variance):
            assert np.isnan(found).all()
            assert effect.p_value(one_draw=one_draw) == 1.0
            return
        half = stats.t.ppf(0.5 + level / 2, df) * math.sqrt(variance)
        ends = np.array([mean - half, mean + half])
        if share:
            ends = ends.clip(-1, 1)
        np.testing.assert_allclose(found, ends, rtol=1e-9, atol=1e-12)
    if not one_draw:
        assert effect.stderr() == pytest.approx(math.sqrt(variance))
    # As many images can at best say so much, were each a toss of a coin.
    changed = sum(map(len, groups))
    if share:
        changed = sum(value != 0 for group in groups for value in group)
    expected = 2.0**-changed
    if variance > 0:
        t = mean / math.sqrt(variance)
        expected = max(stats.t.sf(t, df), expected)
        if of_one:
            size = sum(len(group) > 0 for group in groups)
            skew = 2 / math.sqrt(size * (variance / of_one) ** 3)
            expected = max(stats.pearson3.sf(t, skew), expected)
    if mean <= 0:
        expected = 1.0
    assert effect.p_value(one_draw=one_draw) == pytest.approx(expected, rel=1e-6)


def test_a_class_alone_takes_no_less_than_all_draws_together() -> None:
    effect = effect_of(odds(8, 20, 5), draws=drawn([4, 10, 2], [0.5, NAN, 1.5], 3), share=True)
    for c, variance in enumerate([1.0, 1.0, 1.5]):
        alone = effect.of(c)
        assert (alone.mean[0], alone.variance[0], alone.count[0]) == (
            effect.mean[c], effect.variance[c], effect.count[c],
        )  # fmt: skip
        assert alone.draws is not None
        assert effect.draws is not None
        assert (alone.draws.number.tolist(), alone.draws.variance.tolist()) == ([effect.draws.number[c]], [variance])
        assert (alone.draws.passes, alone.share) == (3, True)
        turned = -alone
        assert (turned.mean[0], turned.variance[0], turned.count[0]) == (
            -alone.mean[0], alone.variance[0], alone.count[0],
        )  # fmt: skip
        assert turned.draws is alone.draws
        assert turned.share


def exact(recall: list[float], count: list[int], level: float, draws: Draws | None = None) -> tuple[float, float]:
    known = [c for c, n in enumerate(count) if n and math.isfinite(recall[c])]
    size = len(known)
    p = [recall[c] for c in known]
    n = [count[c] for c in known]
    mean = sum(p) / size
    images = size**2 / sum(1 / k for k in n)
    total = 0.0
    for share, k in zip(p, n, strict=True):
        if k == 1:
            total += mean * (1 - mean)
        else:
            total += share * (1 - share) / (k - 1)
    one = 1 / images**2
    design = min((total / size**2 + one) / (mean * (1 - mean) / images + one), 1.0)
    if draws is not None and 0 < mean < 1:
        variance = max(float(np.nanmean([draws.variance[c] for c in known])), 0.0)
        more = sum(max(1 / max(draws.number[c], 1) - 1 / (draws.passes * count[c]), 0.0) for c in known)
        design += variance * more / size**2 * images / (mean * (1 - mean))
    sample = images / design
    tail = (1 - level) / 2
    low = 0.0
    high = 1.0
    if mean > 0:
        low = stats.beta.ppf(tail, mean * sample, (1 - mean) * sample + 1)
    if mean < 1:
        high = stats.beta.isf(tail, mean * sample + 1, (1 - mean) * sample)
    return low, high


@pytest.mark.parametrize(
    ("recall", "count", "draws"),
    [
        ([0.8, 0.5, 0.9], [10, 4, 30], None),
        ([0.8, NAN, 1.0], [10, 0, 1], None),
        ([0.75, 0.25, 0.0, 1.0], [4, 4, 1, 1], None),
        ([1.0, 1.0], [5, 9], None),
        ([0.0], [7], None),
        ([0.8, 0.5, 0.9], [10, 4, 30], drawn([3, 2, 8], [0.1, 0.05, NAN])),
        ([0.8, 0.5], [10, 4], drawn([10, 4], [0.1, 0.05])),
        ([0.8, 0.5, NAN], [10, 4, 0], drawn([10, 4, 0], [0.1, 0.05, NAN], 3)),
        ([0.8, 0.5], [10, 4], drawn([3, 2], [-0.3, 0.1])),
        ([1.0, 1.0], [5, 9], drawn([3, 2], [0.0, 0.0])),
    ],
)
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_recalls_have_the_interval_of_as_many_images_as_vary_alike(
    recall: list[float], count: list[int], draws: Draws | None, level: float
) -> None:
    found = recall_interval(np.array(recall), np.array(count), level, draws)
    np.testing.assert_allclose(found, exact(recall, count, level, draws), rtol=1e-9, atol=1e-12)
    if level == 0.95:
        assert recall_interval(np.array(recall), np.array(count), draws=draws) == found


# --- draws and passes -------------------------------------------------------------------------------------


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
