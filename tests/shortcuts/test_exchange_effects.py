"""Effects of rest and part: against least squares on the whole design, by hand, and how often intervals cover."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interpnet.shortcuts._effects import effects_of


def exchanges(seed, n_images=60, n=200, classes=3, columns=4):
    rng = np.random.default_rng(seed)
    labels = np.arange(n_images) % classes
    intact = rng.normal(size=(n_images, columns)) + labels[:, None]
    rest, donor = rng.integers(0, n_images, (2, n))
    own = 1.5 * (labels[rest] == 1) + 0.5 * (labels[donor] == 1)
    values = own[:, None] + 0.7 * intact[rest] + 0.2 * intact[donor] + rng.normal(size=(n, columns))
    return values, rest, donor, intact, labels


def whole_design(values, rest, donor, intact, labels, k, column):
    """Return the coefficients of all five columns and their robust variance, written out."""
    own = labels == k
    centred = intact[:, column].copy()
    for group in (own, ~own):
        centred[group] -= centred[group].mean()
    design = np.stack([np.ones(len(rest)), own[rest], own[donor], centred[rest], centred[donor]], 1)
    found = np.linalg.lstsq(design, values[:, column], rcond=None)[0]
    residual = values[:, column] - design @ found
    inverse = np.linalg.inv(design.T @ design)
    meat = sum(r**2 * np.outer(x, x) for r, x in zip(residual, design, strict=True))
    return found, inverse @ meat @ inverse * len(rest) / (len(rest) - 5)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_effects_are_those_of_least_squares_on_the_whole_design(seed):
    case = exchanges(seed)
    effects = effects_of(*case, 1)
    for column in range(4):
        found, variance = whole_design(*case, 1, column)
        np.testing.assert_allclose([effects.rest[column], effects.part[column]], found[1:3], atol=1e-10)
        # The covariates are centred within the groups, so that they hardly bear on the variance of the effects.
        np.testing.assert_allclose(np.diag(effects.variance[column]), np.diag(variance)[1:3], rtol=0.15)


def test_by_hand():
    # Four images, two of each class; the answer is 1 for the rest and 3 for the part: three quarters go with the part.
    labels = np.array([0, 0, 1, 1])
    rest, donor = (x.ravel() for x in np.meshgrid(np.arange(4), np.arange(4), indexing="ij"))
    values = (1.0 * (labels[rest] == 1) + 3.0 * (labels[donor] == 1))[:, None]
    effects = effects_of(values, rest, donor, np.zeros((4, 1)), labels, 1)
    assert effects.rest.tolist() == pytest.approx([1.0])
    assert effects.part.tolist() == pytest.approx([3.0])
    assert effects.share.tolist() == pytest.approx([0.75])
    assert effects.error().tolist() == pytest.approx([0.0], abs=1e-7)


def test_what_differs_between_images_anyway_does_not_widen_the_interval():
    rng = np.random.default_rng(0)
    labels = np.arange(100) % 2
    intact = 10 * rng.normal(size=(100, 1))
    rest, donor = rng.integers(0, 100, (2, 300))
    values = intact[rest] + 2.0 * (labels[rest] == 1)[:, None] + 0.1 * rng.normal(size=(300, 1))
    with_covariates = effects_of(values, rest, donor, intact, labels, 1)
    without = effects_of(values, rest, donor, np.zeros_like(intact), labels, 1)
    assert with_covariates.error()[0] < without.error()[0] / 20


def test_shares_are_cut_off_at_both_ends_and_unknown_where_nothing_speaks_for_the_class():
    labels = np.array([0, 0, 1, 1])
    rest, donor = (x.ravel() for x in np.meshgrid(np.arange(4), np.arange(4), indexing="ij"))
    for a, b, share in ((2.0, -1.0, 0.0), (-1.0, 2.0, 1.0), (-1.0, -2.0, np.nan)):
        values = (a * (labels[rest] == 1) + b * (labels[donor] == 1))[:, None]
        found = effects_of(values, rest, donor, np.zeros((4, 1)), labels, 1)
        np.testing.assert_equal(found.share, [share])


def of_shares(share, seed, n=400):
    """Return effects of exchanges whose part has a share of what makes class 1, with noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(100) % 2
    rest, donor = rng.integers(0, 100, (2, n))
    values = (1 - share) * (labels[rest] == 1) + share * (labels[donor] == 1) + 0.5 * rng.normal(size=n)
    return effects_of(values[:, None], rest, donor, np.zeros((100, 1)), labels, 1)


def test_a_share_beyond_a_control():
    inside = []
    for seed in range(200):
        one, control = of_shares(0.5, seed), of_shares(0.2, 1000 + seed, 300)
        found = one.beyond(control)
        np.testing.assert_allclose(found.share, one.share - control.share)
        np.testing.assert_allclose(found.error(), np.sqrt(one.error() ** 2 + control.error() ** 2))
        assert found.freedom == min(one.freedom, control.freedom)
        low, high = found.interval()
        inside.append(low[0] <= 0.3 <= high[0])
    assert 0.92 <= np.mean(inside) <= 0.98
    assert of_shares(0.2, 0).beyond(of_shares(0.6, 1)).share.tolist() == [0.0]


def test_a_control_without_effects_leaves_nothing_to_say():
    values, rest, donor, intact, labels = exchanges(3)
    lost = labels[donor] != 1
    nothing = effects_of(values[lost], rest[lost], donor[lost], intact, labels, 1)
    found = effects_of(values, rest, donor, intact, labels, 1).beyond(nothing)
    assert np.isnan(found.share).all()
    assert np.isnan(found.interval()[0]).all()


def test_an_exchange_that_breaks_images_shows_no_share():
    # Intact images of the class stand 10 above the others; after the exchange a tenth of it is left.
    labels = np.array([0, 0, 1, 1])
    rest, donor = (x.ravel() for x in np.meshgrid(np.arange(4), np.arange(4), indexing="ij"))
    values = (0.2 * (labels[rest] == 1) + 0.8 * (labels[donor] == 1))[:, None]
    found = effects_of(values, rest, donor, 10.0 * labels[:, None], labels, 1)
    assert found.share.tolist() == pytest.approx([0.8 / 5.0])


def test_a_class_without_rests_or_parts_has_no_effects():
    values, rest, donor, intact, labels = exchanges(3)
    lost = labels[donor] != 1
    found = effects_of(values[lost], rest[lost], donor[lost], intact, labels, 1)
    assert found.freedom == 0
    assert np.isnan(found.share).all()
    assert np.isnan(found.interval()[0]).all()


def test_intervals_cover_the_true_share():
    inside = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels = np.arange(200) % 5
        intact = rng.normal(size=(200, 1))
        rest, donor = rng.integers(0, 200, (2, 250))
        effect = 3.0 * (labels[rest] == 2) + 1.0 * (labels[donor] == 2)
        noise = rng.normal(size=250) * (1 + (labels[donor] == 2))
        found = effects_of((effect + 0.5 * intact[rest, 0] + noise)[:, None], rest, donor, intact, labels, 2)
        low, high = found.interval()
        inside += low[0] <= 0.25 <= high[0]
    assert 180 <= inside <= 200  # 95 % expected
