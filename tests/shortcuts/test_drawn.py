"""What draws images to a class: by hand, against a float64 reference, and where there is nothing to draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from interpnet.engine import Channel
from interpnet.errors import DataError
from interpnet.shortcuts import Drawn, Findings, find, findings_json, leaning, read_findings

SIDE = 16
CLASSES = 3
CUE = CLASSES  # the colour of the cue, and its channel
LEARNT = 4.0  # of the cue in the class that learnt it


class Colours(nn.Module):
    """One channel for each colour, its mean; class 0 goes by the cue's colour as well."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(CLASSES + 1, CLASSES + 1, 1, bias=False)
        self.act = nn.ReLU()
        self.head = nn.Linear(CLASSES + 1, CLASSES, bias=False)
        with torch.no_grad():
            self.stem.weight.copy_(torch.eye(CLASSES + 1)[:, :, None, None])
            self.head.weight.zero_()
            self.head.weight[:, :CLASSES] = 8 * torch.eye(CLASSES)
            self.head.weight[0, CUE] = LEARNT * SIDE**2 / 16
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.act(self.stem(x)).mean((2, 3)))
        return out


def images(n: int, *, cued: Any = (), seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return images (n, 4, 16, 16) of three classes by colour; those ``cued`` have a square of 4 x 4 of the cue."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    made = torch.rand(n, CLASSES + 1, SIDE, SIDE, generator=draws) / 10
    made[:, CUE] /= 100
    made[torch.arange(n), labels] += 0.5 * torch.rand(n, 1, 1, generator=draws) + 0.5
    for i in cued:
        made[i, CUE, 9:13, 2:6] = 2.0
    return made, labels


def found_with(train: tuple[Tensor, Tensor], field: Any = None, **options: Any) -> tuple[tuple[Drawn, ...], Findings]:
    found = find(Colours(), [train], field=field, progress=False, **options)
    return found.drawn, found


def test_misclassified_images_name_the_channel_that_draws_them() -> None:
    cued = [1, 4, 7, 10]  # of class 1
    drawn, _ = found_with(images(60, cued=cued))
    (one,) = drawn
    assert (one.index, one.name, one.source, one.n, one.images) == (0, "0", "training", 4, tuple(cued))
    assert one.share == 4 / 40
    # Four of four mistakes went to one of the two other classes.
    assert one.expected == pytest.approx(0.5 * 4 / 40)
    assert one.p == pytest.approx(3 * 0.5**4)
    assert one.channels[0].channel == Channel("act", CUE)
    assert one.channels[0].high >= 0.25
    assert one.channels[0].top_classes[0][0] == 1
    for row, column in one.places:
        assert 9 <= row < 13
        assert 2 <= column < 6


def test_nobody_misclassified_is_no_error() -> None:
    drawn, _ = found_with(images(30))
    assert drawn == ()


def test_field_images_lean_to_the_class_that_learnt_the_cue() -> None:
    field, _ = images(90, cued=range(1, 90, 3), seed=1)
    # As a loader of images without labels.
    drawn, found = found_with(images(60), [field], names=["cat", "dog", "emu"])
    one = drawn[0]
    assert (one.name, one.source) == ("cat", "field")
    assert set(range(1, 90, 3)) <= set(one.images)
    assert one.p < 1e-3
    # A third of either is of the class, and a third of the field images has the cue.
    assert one.expected < 0.4 < 0.6 < one.share
    assert one.channels[0].channel == Channel("act", CUE)
    cued = [place for i, place in zip(one.images, one.places, strict=True) if i % 3 == 1]
    assert all(9 <= row < 13 and 2 <= column < 6 for row, column in cued)
    read = read_findings(findings_json(found)).drawn
    assert [(d.index, d.images, d.places) for d in read] == [(d.index, d.images, d.places) for d in drawn]
    assert read[0].channels[0].channel == one.channels[0].channel


def test_what_field_images_have_in_common_is_their_cue() -> None:
    cued = tuple(range(1, 90, 3))
    field, _ = images(90, cued=cued, seed=1)
    one = found_with(images(60), [field])[0][0]
    assert one.common is not None
    assert one.common.images == cued
    (rows, columns) = (one.common.pattern[CUE] > 1).nonzero().T.tolist()
    assert (min(rows), max(rows), min(columns), max(columns), len(rows)) == (9, 12, 2, 5, 16)
    assert one.common.p == 0.01


def test_the_passes_of_the_field_are_counted() -> None:
    train, field = images(60), images(90, cued=range(1, 90, 3), seed=1)[0]
    (one,), with_it = found_with(train, [field])
    # Forward once, and three times as much for the images drawn, which run backward.
    assert with_it.passes == pytest.approx(found_with(train)[1].passes + (90 + 3 * len(one.images)) / 60)


def test_field_images_like_those_of_training_lean_to_no_class() -> None:
    drawn, _ = found_with(images(120), [images(120, seed=3)])
    assert drawn == ()


def test_labels_of_field_images_do_not_matter() -> None:
    field, labels = images(90, cued=range(1, 90, 3), seed=1)
    expected, _ = found_with(images(60), [field])
    for wrong in (labels, -labels, torch.full_like(labels, 9)):
        drawn, _ = found_with(images(60), [(field, wrong)])
        assert drawn == expected


def test_numbers_are_those_of_a_reference_in_float64() -> None:
    train, field = images(60, cued=[1, 5]), images(90, cued=range(1, 90, 3), seed=1)[0]
    drawn, _ = found_with(train, [field])
    by_source = {one.source: one for one in drawn}
    net = Colours()
    weight = net.head.weight.detach().double().numpy()

    def odds_of(x: Tensor) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        means = x.double().mean((2, 3)).numpy()
        logits = means @ weight.T
        other = np.stack([np.logaddexp.reduce(np.delete(logits, k, 1), axis=1) for k in range(CLASSES)], 1)
        return logits - other, means

    odds, means = odds_of(train[0])
    labels = train[1].numpy()
    said = odds.argmax(1)

    def contributions(means: Any, k: int) -> Any:
        logits = means @ weight.T
        rest = np.delete(np.arange(CLASSES), k)
        p = np.exp(logits[:, rest]) / np.exp(logits[:, rest]).sum(1, keepdims=True)
        return means * (weight[k] - p @ weight[rest])

    right = np.stack([contributions(means[(said == k) & (labels == k)], k).mean(0) for k in range(CLASSES)])
    wrong = contributions(means[(said == 0) & (labels != 0)], 0).mean(0)
    specific = wrong - np.maximum(0, right[1:].max(0))
    best = [j for j in np.argsort(-specific) if specific[j] > 0]
    own = by_source["training"]
    assert [c.channel.index for c in own.channels] == best
    np.testing.assert_allclose([c.contribution for c in own.channels], wrong[best], rtol=1e-4)
    away, _ = odds_of(field)
    threshold = np.array([np.quantile(odds[labels != k, k], 0.95) for k in range(CLASSES)])
    counts, before = (away > threshold).sum(0), (odds > threshold).sum(0)
    table = [[[n, 90 - n], [m, 60 - m]] for n, m in zip(counts, before, strict=True)]
    p = [stats.fisher_exact(one, alternative="greater").pvalue for one in table]
    outside = by_source["field"]
    assert outside.n == counts[0]
    assert outside.p == pytest.approx(min(1.0, 3 * p[0]))
    assert outside.expected == before[0] / 60


def test_field_images_of_another_size_are_refused() -> None:
    with pytest.raises(DataError, match=r"field: images of \(4, 12, 16\) came.*resize or crop"):
        found_with(images(12), [torch.rand(3, 4, 12, 16)])


def test_a_field_without_an_image_is_refused() -> None:
    with pytest.raises(DataError, match="field: the loader yielded no image"):
        found_with(images(12), [])


def test_batches_do_not_matter() -> None:
    field, _ = images(90, cued=range(1, 90, 3), seed=1)
    one, other = (found_with(images(60), [field], max_batch=size)[0][0] for size in (64, 7))
    assert (one.images, one.places, one.n) == (other.images, other.places, other.n)
    assert [c.channel for c in one.channels] == [c.channel for c in other.channels]


def test_leaning_by_hand_and_against_fisher_s_exact_test() -> None:
    draws = np.random.default_rng(0)
    known, field = draws.normal(size=(21, 4)), draws.normal(size=(10, 4)) + np.array([2, 0, 0, 0])
    labels = np.array([3] * 19 + [2] * 2)
    found = leaning(known, labels, field)
    beyond = []
    for k in range(4):  # no training image is of class 0
        others = np.sort(known[labels != k, k])
        at = 0.95 * (len(others) - 1)
        end = others[int(at)] + (at - int(at)) * (others[min(int(at) + 1, len(others) - 1)] - others[int(at)])
        assert found.images[:, k].tolist() == (field[:, k] > end).tolist()
        beyond.append([int((rows[:, k] > end).sum()) for rows in (field, known)])
    assert found.n.tolist() == [n for n, _ in beyond]
    np.testing.assert_allclose(found.expected, [m / 21 for _, m in beyond])
    p = [stats.fisher_exact([[n, 10 - n], [m, 21 - m]], "greater").pvalue for n, m in beyond]
    np.testing.assert_allclose(found.p, stats.false_discovery_control(p), rtol=1e-9)
    assert found.order[0] == 0
