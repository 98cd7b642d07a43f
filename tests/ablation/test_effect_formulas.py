"""Intervals and p-values of means over classes against plain loops and scipy's distributions, in many situations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from interpnet.ablation import Effect, effect_by_class, recall_interval
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


@pytest.mark.parametrize(("recalls", "counts"), [([0.75, 0.5], [4, 2]), ([0.75, 0.5, 0.8], [4, 2, 5])])
def test_the_interval_of_few_recalls_is_that_of_a_binomial_sample_of_the_same_variance(recalls, counts):
    p = np.array(recalls)
    n = np.array(counts)
    mean = p.mean()
    size = len(p) ** 2 / sum(1 / n)
    variance = sum(p * (1 - p) / (n - 1)) / len(p) ** 2
    simple = mean * (1 - mean) / size
    design = (variance + 1 / size**2) / (simple + 1 / size**2)
    sample = size / min(design, 1.0)
    hits = mean * sample
    low = stats.beta.ppf(0.025, hits, sample - hits + 1)
    high = stats.beta.ppf(0.975, hits + 1, sample - hits)
    np.testing.assert_allclose(recall_interval(p, n), (low, high), rtol=1e-12)
