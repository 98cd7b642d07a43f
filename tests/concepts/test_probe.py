"""Linear probes: what is there is read, what is not is not, and no image answers for itself."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from helpers.concepts import Attention, convolutional
from torch import nn

from interpnet import concepts
from interpnet.concepts._columns import column_of
from interpnet.concepts._probe_fit import fold_numbers
from interpnet.concepts._sets import digests_of
from interpnet.errors import DataError


def means(n_channels: int = 2) -> nn.Module:
    """Return a network whose only layer is the pixels, so that a probe sees each colour's mean."""
    net = nn.Sequential(nn.Conv2d(n_channels, n_channels, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(n_channels)[:, :, None, None])
    return net


def coloured(n: int = 60, seed: int = 0):
    """Return images of which the first colour says the label and the second nothing, and labels (n,)."""
    draws = torch.Generator().manual_seed(seed)
    images = torch.rand(n, 2, 4, 4, generator=draws)
    labels = torch.arange(n) % 3
    images[:, 0] += labels[:, None, None]
    return images, labels


def ready(net: nn.Module, images: torch.Tensor) -> nn.Module:
    with torch.no_grad():
        net(images)
    return net


def test_what_is_there_is_read_and_what_is_not_is_not():
    images, labels = coloured()
    noise = np.random.default_rng(0).permutation(60) % 2
    found = concepts.probe(
        ready(means(), images), [(images[:25], labels[:25]), (images[25:], labels[25:])],
        targets={"label": labels, "noise": noise, "name": ["odd" if k == 1 else "even" for k in labels]},
        strength=1000.0, progress=False,
    )  # fmt: skip
    assert found.targets == ("label", "noise", "name")
    assert found.layers == ("1",)
    assert found.values == ((0, 1, 2), (0, 1), ("even", "odd"))
    assert found.accuracy[0, 0] == 1.0
    assert found.p_value[0, 0] < 1e-20
    assert found.interval[0, 0, 1] == 1.0
    assert 0.9 < found.interval[0, 0, 0] < 1.0
    assert 0.3 < found.accuracy[1, 0] < 0.7
    assert found.p_value[1, 0] > 0.05
    np.testing.assert_allclose(found.chance, [1 / 3, 1 / 2, 2 / 3])
    # A value in the middle of two others is not to be told by a line.
    assert found.accuracy[2, 0] < 0.8
    np.testing.assert_array_equal(found.selectivity, found.accuracy - found.control)
    assert found.of("label")[0][:2] == ("1", 1.0)
    assert ((found.control > 0.15) & (found.control < 0.75)).all()


def test_without_targets_the_labels_are_read_also_names_and_numbers_that_are_no_outputs():
    images, labels = coloured()
    net = ready(means(), images)
    found = concepts.probe(net, [(images, labels)], control=False, progress=False)
    assert found.targets == ("labels",)
    assert np.isnan(found.control).all()
    assert np.isnan(found.memorised).all()
    assert np.isnan(found.selectivity).all()
    named = concepts.probe(net, [(images, [f"c{k}" for k in labels])], control=False, progress=False)
    assert named.values == (("c0", "c1", "c2"),)
    np.testing.assert_array_equal(named.accuracy, found.accuracy)
    far = concepts.probe(net, [(images, labels[:, None] + 50)], control=False, progress=False)
    np.testing.assert_array_equal(far.accuracy, found.accuracy)


def test_a_probe_is_that_of_scikit_learn_on_pooled_maps():
    from sklearn.linear_model import LogisticRegression

    net = convolutional()
    images = torch.rand(40, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    labels = (images[:, 0].mean((1, 2)) > images[:, 0].mean()).long()
    found = concepts.probe(net, [(images, labels)], layers="1", control=False, folds=4, progress=False)
    with torch.no_grad():
        rows = net[:2](images).double().mean((2, 3)).numpy()
    same = np.unique(digests_of(images), return_inverse=True)[1]
    fold = fold_numbers(labels.numpy(), same, 4, np.random.default_rng(0))
    right = []
    for number in range(4):
        known, held = fold != number, fold == number
        center, spread = rows[known].mean(0), rows[known].std(0) * 2
        fitted = LogisticRegression().fit((rows[known] - center) / spread, labels[known])
        right += list(fitted.predict((rows[held] - center) / spread) == labels[held].numpy())
    assert found.accuracy.item() == np.mean(right)


def test_a_wide_probe_memorises_shuffled_values_and_is_not_right_about_others():
    images = torch.rand(50, 64, 1, 1, generator=torch.Generator().manual_seed(2))
    found = concepts.probe(
        ready(means(64), images), [(images, torch.arange(50) % 2)], strength=1e4, progress=False
    )  # fmt: skip
    assert found.memorised.item() == 1.0
    assert 0.25 < found.control.item() < 0.75
    weak = concepts.probe(ready(means(64), images), [(images, torch.arange(50) % 2)], strength=0.01, progress=False)
    assert weak.memorised.item() < 1.0


def test_equal_images_do_not_answer_for_each_other():
    # Every image three times, with values that nothing tells: a probe that saw one copy would know the others.
    once = torch.rand(30, 64, 1, 1, generator=torch.Generator().manual_seed(3))
    images = once.repeat(3, 1, 1, 1)
    labels = (torch.arange(30) % 2).repeat(3)
    found = concepts.probe(ready(means(64), images), [(images, labels)], strength=1e4, progress=False)
    assert found.accuracy.item() < 0.75
    assert found.control.item() < 0.75


def test_folds_hold_every_value_in_equal_shares_and_equal_images_together():
    numbers = np.repeat([0, 1, 2], [10, 20, 15])
    same = np.arange(45)
    same[1] = 0
    fold = fold_numbers(numbers, same, 5, np.random.default_rng(0))
    assert fold[0] == fold[1]
    counts = np.array([np.bincount(fold[numbers == k], minlength=5) for k in range(3)])
    assert (counts[1] == 4).all()
    assert (counts[2] == 3).all()
    assert np.ptp(counts[0]) <= 2


def test_tokens_and_images_to_leave_out():
    images, labels = coloured(n=45)
    images = torch.nn.functional.interpolate(images, (6, 6))
    some = [None if i < 15 else int(k) for i, k in enumerate(labels)]
    net = Attention().eval()
    found = concepts.probe(net, [(images, labels)], layers=["tokens", "unit"], targets=some, progress=False)
    assert found.targets == ("targets",)
    assert found.n.tolist() == [30]
    assert found.accuracy.shape == (1, 2)
    assert (found.accuracy > 0.6).all()


def test_the_model_is_left_as_it_was_and_batches_do_not_matter():
    images, labels = coloured()
    net = convolutional().train()
    images = torch.nn.functional.interpolate(images, (6, 6))
    before = copy.deepcopy(net.state_dict())
    one = concepts.probe(net, [(images, labels)], layers="all", progress=False)
    other = concepts.probe(
        net, [(images[i : i + 7], labels[i : i + 7]) for i in range(0, 60, 7)], layers="all", progress=False
    )
    np.testing.assert_array_equal(one.accuracy, other.accuracy)
    np.testing.assert_array_equal(one.control, other.control)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.linspace(0, 1, 60), r"area holds float64 numbers; a probe tells values apart.*numpy.digitize"),
        (torch.rand(60), "area holds float32 numbers"),
        ([0.5, *["a"] * 59], r"area holds 0.5 among others; expected whole numbers, truths or strings"),
        ([None, 1, "a", *[2] * 57], "area holds 1 among others"),
        ([0, 1], r"area: 2 values came, and the loader has 60 images"),
        (np.zeros((60, 2), int), r"area: shape \(60, 2\) came; expected one value for each of 60 images"),
        ([0] * 60, "area has 1 value, 0, in all images; expected at least two"),
        ([None] * 60, "area has 0 value in all images"),
        ([0] * 58 + [1] * 2, "area: the value 1 has 2 different images; expected at least 5"),
        ("red", "area is 'red'; expected a value for each image"),
        (None, "area is None; expected a value for each image"),
        (np.ma.masked_array([1] * 60, mask=[1] + [0] * 59), "area has 1 masked values"),
    ],
)
def test_columns_that_cannot_be_read_are_refused(values, message):
    images, labels = coloured()
    with pytest.raises(DataError, match=message):
        concepts.probe(convolutional_of(images), [(images, labels)], targets={"area": values}, progress=False)


def convolutional_of(images: torch.Tensor) -> nn.Module:
    return ready(means(), images)


def test_loaders_without_labels_and_several_labels_are_refused():
    images, _ = coloured()
    net = convolutional_of(images)
    with pytest.raises(DataError, match=r"the loader yields no labels; .* or pass targets="):
        concepts.probe(net, [(images,)], progress=False)
    with pytest.raises(DataError, match=r"labels: shape \(60, 3\) came.*give each a column of its own"):
        concepts.probe(net, [(images, torch.eye(3).long()[torch.arange(60) % 3])], progress=False)
    with pytest.raises(DataError, match="targets is an empty dictionary"):
        concepts.probe(net, [images], targets={}, progress=False)
    with pytest.raises(DataError, match="target is 'clas'; expected one of"):
        concepts.probe(net, [images], targets={"class": [0, 1] * 30}, progress=False).of("clas")


def test_truths_whole_numbers_and_text_are_values():
    assert column_of([True, False, None], "cue", 3).values == (0, 1)
    assert column_of(np.array(["b", "a", "b"]), "colour", 3).numbers.tolist() == [1, 0, 1]
    assert column_of(torch.tensor([[7], [3]]), "place", 2).values == (3, 7)
