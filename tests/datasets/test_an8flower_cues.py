"""an8Flower's planted shortcuts: how often they agree, where they are, and that there is none unless asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from interpnet.datasets import An8Flower, an8flower
from interpnet.datasets._an8flower.options import CUE_SPLITS, SHORTCUTS, SPLITS, draw_cue, make_options


def _within(hits: int, n: int, p: float) -> bool:
    """Whether a count is within 4 standard deviations of a binomial's mean (false alarm: 1 in 16,000)."""
    return abs(hits - n * p) <= 4 * math.sqrt(n * p * (1 - p)) + 1e-9


# --- agreement ---


@pytest.mark.parametrize("strength", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_cues_agree_with_the_given_probability_and_else_are_uniform(strength: float, split: str):
    options = make_options("single-6c", shortcut="pot", strength=strength)
    n = 3000
    labels = np.arange(n) % 6
    cues = np.array([draw_cue(options, split, i, int(label)) for i, label in enumerate(labels)])
    agrees = cues == labels
    assert _within(int(agrees.sum()), n, strength)
    others = ((cues - labels) % 6)[~agrees]
    for offset in range(1, 6) if len(others) else ():
        assert _within(int((others == offset).sum()), len(others), 1 / 5)


def test_test_splits_have_independent_agreeing_and_disagreeing_cues():
    options = make_options("double-12c", shortcut="texture", strength=0.3)
    n = 2400
    labels = np.arange(n) % 12
    cues = {
        split: np.array([draw_cue(options, split, i, int(label)) for i, label in enumerate(labels)])
        for split in ("test", "test-agree", "test-disagree")
    }
    np.testing.assert_array_equal(cues["test-agree"], labels)
    assert (cues["test-disagree"] != labels).all()
    assert _within(int((cues["test"] == labels).sum()), n, 1 / 12)
    for offset in range(1, 12):
        assert _within(int(((cues["test-disagree"] - labels) % 12 == offset).sum()), n, 1 / 11)


def test_the_test_splits_show_the_same_plants():
    plain = an8flower("single-6c", "test", n=12, size=48)
    for split in ("test", *CUE_SPLITS):
        data = an8flower("single-6c", split, n=12, size=48, shortcut="background")
        np.testing.assert_array_equal(data.azimuth, plain.azimuth)
        np.testing.assert_array_equal(data.mask("plant"), plain.mask("plant"))
        np.testing.assert_array_equal(data.labels, plain.labels)


# --- where they are ---


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_a_cue_changes_pixels_of_its_mask_and_no_others(shortcut: str):
    """Against the same scenes with other values of the cue; noise apart, pixels without the plant's edges."""
    given = {"n": 36, "size": 48, "noise": 0.0, "shortcut": shortcut}
    one, two = (an8flower("double-12c", split, **given) for split in CUE_SPLITS)
    assert one.shortcut_mask is not None
    assert two.shortcut_mask is not None
    assert one.cue_agrees is not None
    assert two.cue_agrees is not None
    assert one.cue_agrees.all()
    assert not two.cue_agrees.any()
    masks = one.shortcut_mask | two.shortcut_mask
    assert one.shortcut_mask.any((1, 2)).all()
    assert not (masks & ~one.mask("background")).any()
    changed = (one.images != two.images).any(-1) & one.mask("background")
    # The edges of pot, ball and table mix two pixels' worth of cue into their neighbours.
    near = masks.copy()
    for axis in (1, 2):
        near |= np.roll(near, 1, axis) | np.roll(near, -1, axis)
    assert (changed & ~near).sum() < 1e-3 * masks.sum()
    difference = np.abs(one.images.astype(int) - two.images).max(-1)
    assert difference[changed & ~masks].max(initial=0) <= 128, "more than half of such a pixel is cue"
    if shortcut in {"background", "pot"}:  # of the others only a part of the pixels differs between two values
        assert changed[one.shortcut_mask].mean() > 0.95
    else:
        assert (changed & masks).any((1, 2)).all()


def test_without_a_shortcut_there_is_no_cue():
    data = an8flower(n=6, size=32)
    assert data.cue is None
    assert data.cue_agrees is None
    assert data.shortcut_mask is None


# --- what a classifier makes of it ---


def _features(data: An8Flower, *, masked: bool) -> np.ndarray:
    """Return means of 6x6 blocks, and of all pixels, with the plant (and every pixel it touches) in mid-grey."""
    images = data.images.astype(np.float64) - 128
    if masked:
        images *= data.mask("background")[..., None]
    blocks = images.reshape(len(images), 6, 8, 6, 8, 3).mean((2, 4)).reshape(len(images), -1)
    return np.concatenate([blocks, images.mean((1, 2)) * 4], axis=1) / 64


def _right(train: An8Flower, test: An8Flower, *, masked: bool) -> int:
    classifier = LogisticRegression(C=0.1, max_iter=2000).fit(_features(train, masked=masked), train.labels)
    return int((classifier.predict(_features(test, masked=masked)) == test.labels).sum())


@pytest.mark.parametrize("variant", ["single-6c", "double-12c"])
def test_what_is_outside_the_plant_tells_nothing_of_the_class(variant: str):
    train, test = (an8flower(variant, split, n=900, size=48, jobs=1) for split in ("train", "test"))
    n = len(test)
    assert _within(_right(train, test, masked=True), n, 1 / len(train.classes))
    # The same classifier does find what is there: the plant's colours ...
    assert _right(train, test, masked=False) > 2 * n / len(train.classes)


@pytest.mark.parametrize("shortcut", ["background", "pot"])
def test_a_planted_cue_is_found_outside_the_plant(shortcut: str):
    given = {"size": 48, "shortcut": shortcut, "jobs": 1}
    train = an8flower("single-6c", "train", n=360, **given)
    agree, disagree = (an8flower("single-6c", split, n=120, **given) for split in CUE_SPLITS)
    assert _right(train, agree, masked=True) > 60
    assert _right(train, disagree, masked=True) < 15


def test_every_split_is_balanced_for_every_number_that_divides():
    for split in SPLITS:
        assert np.bincount(an8flower(split=split, n=18, size=32).labels).tolist() == [3] * 6
