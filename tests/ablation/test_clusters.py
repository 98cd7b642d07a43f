"""Several values of one image: variances against a double loop, and how often intervals cover the truth."""

from __future__ import annotations

import json

import numpy as np
import pytest

from interpnet.ablation import effect_by_class, recall_interval
from interpnet.ablation._changes import Changes
from interpnet.ablation._clusters import Clusters
from interpnet.ablation._json import changes_json, plain, read_changes, read_clusters


def rows(seed: int = 0, n: int = 50, C: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the values, classes and images of rows: an image with each of its labels."""
    rng = np.random.default_rng(seed)
    images, classes = np.nonzero(rng.random((n, C)) < 0.5)
    values = rng.normal(size=len(images)) + rng.normal(size=n)[images] + classes
    return values, classes, images


def variance_by_loops(values: np.ndarray, classes: np.ndarray, images: np.ndarray, C: int) -> float:
    """Return the variance of the mean over classes by the influence of every image, with n - 1 within a class."""
    mean = [values[classes == c].mean() for c in range(C)]
    total = 0.0
    for a in range(C):
        for b in range(C):
            part = 0.0
            for i in np.unique(images):
                mine = [
                    sum(v - mean[c] for v, k, j in zip(values, classes, images, strict=True) if (k, j) == (c, i))
                    / (classes == c).sum()
                    for c in (a, b)
                ]
                part += mine[0] * mine[1]
            if a == b:
                n = len(np.unique(images[classes == a]))
                part *= n / (n - 1)
            total += part
    return total / C**2


def test_the_variance_is_that_of_every_image_s_influence() -> None:
    values, classes, images = rows(n=20)
    effect = effect_by_class(values, classes, 4, images=images)
    assert effect.stderr() ** 2 == pytest.approx(variance_by_loops(values, classes, images, 4), rel=1e-9)
    # Two rows of one image in one class are one image of that class.
    values = np.append(values, values[:5] + 0.3)
    classes = np.append(classes, classes[:5])
    images = np.append(images, images[:5])
    effect = effect_by_class(values, classes, 4, images=images)
    assert effect.stderr() ** 2 == pytest.approx(variance_by_loops(values, classes, images, 4), rel=1e-9)
    assert effect.count.tolist() == [len(np.unique(images[classes == c])) for c in range(4)]


def test_images_of_one_value_each_are_as_they_were() -> None:
    values, classes, _ = rows()
    before = effect_by_class(values, classes, 4)
    after = effect_by_class(values, classes, 4, images=np.arange(len(values)))
    np.testing.assert_allclose(after.variance, before.variance, rtol=1e-12)
    assert after.count.tolist() == before.count.tolist()
    assert after.interval() == pytest.approx(before.interval(), rel=1e-3)  # the degrees of freedom are a little other
    assert after.clusters is not None
    assert after.clusters.variance(after.known) == pytest.approx(0.0, abs=1e-15)


def test_one_class_alone_shares_nothing() -> None:
    values, classes, images = rows()
    effect = effect_by_class(values, classes, 4, images=images)
    for c in range(4):
        mine = classes == c
        assert effect.of(c).stderr() == pytest.approx(values[mine].std(ddof=1) / np.sqrt(mine.sum()))


def test_values_that_are_not_known_count_nothing() -> None:
    values, classes, images = rows()
    values[::3] = np.nan
    kept = np.isfinite(values)
    first = effect_by_class(values, classes, 4, images=images)
    second = effect_by_class(values[kept], classes[kept], 4, images=images[kept])
    assert first.interval() == second.interval()


@pytest.mark.parametrize(("n", "C", "shared"), [(40, 3, 0.8), (100, 10, 0.3), (200, 20, 0.8)])
def test_intervals_cover_the_truth_where_labels_go_together(n: int, C: int, shared: float) -> None:
    """An image's labels share part of their values and go together; without that, 10 to 50 % of these would miss."""
    rng = np.random.default_rng(1)
    covered = {"mean": 0, "recall": 0, "alone": 0}
    false = 0
    runs = 300
    for _ in range(runs):
        has = rng.normal(size=(n, 1)) + rng.normal(size=(n, C)) > 0.7
        z = np.sqrt(shared) * rng.normal(size=(n, 1)) + np.sqrt(1 - shared) * rng.normal(size=(n, C))
        images, classes = np.nonzero(has)
        values = z[images, classes]
        for name, of in (("mean", images), ("alone", None)):
            low, high = effect_by_class(values, classes, C, images=of).interval()
            covered[name] += low <= 0 <= high
        false += effect_by_class(values, classes, C, images=images).p_value() <= 0.025
        right = effect_by_class((values > -0.6744898).astype(float), classes, C, images=images)
        low, high = recall_interval(right.mean, right.count, clusters=right.clusters)
        covered["recall"] += low <= 0.75 <= high
    assert covered["mean"] >= 0.91 * runs
    assert covered["recall"] >= 0.91 * runs
    assert false <= 0.055 * runs
    assert covered["alone"] < 0.91 * runs  # or this would test nothing


def test_clusters_go_to_json_and_back_and_are_those_of_some_classes() -> None:
    values, classes, images = rows()
    effect = effect_by_class(values, classes, 4, images=images)
    changes = Changes(effect, effect, effect, effect)
    read = read_changes(json.loads(json.dumps(plain(changes_json(changes)))), "log_odds")
    assert read.own.interval() == pytest.approx(effect.interval(), rel=1e-4)
    assert read.own.clusters is not None
    assert read.own.clusters.images == len(np.unique(images))
    assert read_clusters(None) is None
    one = effect.restricted(np.array([False, True, False, False]))
    assert one.stderr() == pytest.approx(effect.of(1).stderr())
    some = Clusters(np.array([1.0, 2.0, 0.0, 3.0]), 9).restricted(np.array([True, True, False, False]))
    np.testing.assert_allclose(some.shared, [0.5, 1.0, 0.0, 0.0])
    assert (-effect).interval() == pytest.approx([-end for end in effect.interval()[::-1]])
