"""Contributions against a network written out by hand in float64, and against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from interpnet.engine import ChannelIndex
from interpnet.errors import InterpNetError
from interpnet.reliance import Contributions, collect_contributions

C = 3


class Small(nn.Module):
    """Two convolutions with rectifiers, a mean over positions, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one = nn.Conv2d(2, 4, 3, padding=1)
        self.two = nn.Conv2d(4, 5, 3, stride=2)
        self.last = nn.Linear(5, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(torch.relu(self.two(torch.relu(self.one(x)))))

    def tail(self, second: Tensor) -> Tensor:
        return self.last(second.mean((2, 3)))


def network() -> Small:
    return Small().double().eval()


def images(n: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 2, 6, 6, dtype=torch.float64, generator=generator), torch.arange(n) % C


def by_hand(net: Small, x: Tensor, y: Tensor, reference: Tensor | None = None) -> np.ndarray:
    """Return contributions (N, 9) by autograd on the network's own functions, one image at a time."""
    if reference is None:
        reference = torch.zeros(9, dtype=torch.float64)
    rows = []
    for image, label in zip(x, y, strict=True):
        first = torch.relu(net.one(image[None])).detach().requires_grad_()
        second = torch.relu(net.two(first))
        logits = net.tail(second)[0]
        others = torch.cat([logits[:label], logits[label + 1 :]])
        z = logits[label] - others.exp().sum().log()
        g1, g2 = torch.autograd.grad(z, (first, second))
        parts = [((first - reference[:4, None, None]) * g1).sum((0, 2, 3))]
        parts.append(((second - reference[4:, None, None]) * g2).sum((0, 2, 3)))
        rows.append(torch.cat(parts).detach().numpy())
    return np.stack(rows)


def means(rows: np.ndarray, y: Tensor) -> np.ndarray:
    return np.stack([rows[y.numpy() == c].mean(0) for c in range(C)])


def collect(net: nn.Module, x: Tensor, y: Tensor, size: int = 3, **options) -> Contributions:
    return collect_contributions(net, list(zip(x.split(size), y.split(size), strict=True)), progress=False, **options)


def test_means_and_errors_are_those_of_autograd_by_hand():
    net = network()
    x, y = images(8)
    rows = by_hand(net, x, y)
    found = collect(net, x, y)
    assert found.channels.sizes == (("relu", 4), ("relu:1", 5))
    np.testing.assert_array_equal(found.counts, [3, 3, 2])
    np.testing.assert_allclose(found.mean, means(rows, y), rtol=1e-12, atol=1e-14)
    errors = [rows[y.numpy() == c].std(0, ddof=1) / np.sqrt(int((y == c).sum())) for c in range(C)]
    np.testing.assert_allclose(found.stderr, errors, rtol=1e-9, atol=1e-12)


def test_they_are_finite_differences_of_the_log_odds():
    net = network()
    x, y = images(1)
    first = torch.relu(net.one(x)).detach()

    def z(maps: Tensor) -> float:
        logits = net.tail(torch.relu(net.two(maps)))[0]
        return float((logits[0] - torch.logsumexp(logits[1:], 0)).detach())

    found = collect(net, x, y).mean[0, :4]
    for c in range(4):
        less = first.clone()
        more = first.clone()
        less[:, c] *= 1 - 1e-6
        more[:, c] *= 1 + 1e-6
        assert found[c] == pytest.approx((z(more) - z(less)) / 2e-6, rel=1e-6, abs=1e-8)


def test_a_network_that_is_linear_behind_the_site_loses_exactly_its_contributions():
    """Independent outputs have their logits as log-odds, so nothing bends between the last map and the answer."""
    net = network()
    x, y = images(6)
    targets = torch.eye(C)[y]
    targets[0, 2] = 1  # an image of two classes
    loader = [(x[:4], targets[:4]), (x[4:], targets[4:])]
    reference = np.linspace(-1, 1, 9)
    found = collect_contributions(net, loader, outputs="independent", fill=reference, progress=False)
    second = torch.relu(net.two(torch.relu(net.one(x)))).detach()
    for c in range(C):
        mine = targets[:, c] > 0.5
        for k in range(5):
            changed = second.clone()
            changed[:, k] = reference[4 + k]
            lost = (net.tail(second) - net.tail(changed))[mine, c].mean()
            assert found.mean[c, 4 + k] == pytest.approx(float(lost.detach()), rel=1e-12, abs=1e-14)
    np.testing.assert_array_equal(found.counts, [2, 2, 3])


def test_the_mean_of_each_channel_is_the_reference_and_its_contributions_are_taken_against_it():
    net = network()
    x, y = images(7)
    first = torch.relu(net.one(x))
    second = torch.relu(net.two(first))
    reference = torch.cat([first.mean((0, 2, 3)), second.mean((0, 2, 3))]).detach()
    found = collect(net, x, y, fill="mean")
    np.testing.assert_allclose(found.reference, reference, rtol=1e-12)
    rows = by_hand(net, x, y, reference)
    np.testing.assert_allclose(found.mean, means(rows, y), rtol=1e-11, atol=1e-13)
    given = collect(net, x, y, fill=reference.numpy())
    np.testing.assert_allclose(found.mean, given.mean, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(found.stderr, given.stderr, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("fill", ["zero", "mean"])
def test_shards_add_up_and_the_size_and_order_of_batches_do_not_matter(fill):
    net = network()
    x, y = images(11)
    whole = collect(net, x, y, size=11, fill=fill)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(3))
    mixed = collect(net, x[order], y[order], size=2, fill=fill)
    shards = collect(net, x[:4], y[:4], fill=fill) + collect(net, x[4:], y[4:], size=5, fill=fill)
    for other in (mixed, shards):
        np.testing.assert_array_equal(whole.counts, other.counts)
        for name in ("mean", "log_odds", "reference"):
            np.testing.assert_allclose(getattr(other, name), getattr(whole, name), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(other.stderr, whole.stderr, rtol=1e-7, atol=1e-9)


def test_a_class_without_images_is_unknown_and_takes_no_room():
    net = network()
    x, y = images(4)
    found = collect(net, x, y * 0 + 1, classes=["a", "b", "c"])
    assert found.moments.shape == (2, 1, 9)
    assert np.isnan(found.mean[[0, 2]]).all()
    assert np.isnan(found.specific()[[0, 2]]).all()
    np.testing.assert_array_equal(found.specific()[1], found.mean[1])
    with pytest.raises(InterpNetError, match="class 'c' has no image among those"):
        found.ranking("c")


def test_the_first_images_of_a_class_count():
    net = network()
    x, y = images(9)
    found = collect(net, x, y, size=4, images=2)
    np.testing.assert_array_equal(found.counts, [2, 2, 2])
    assert found.images == 9
    np.testing.assert_allclose(found.mean, means(by_hand(net, x[:6], y[:6]), y[:6]), rtol=1e-12, atol=1e-14)


def test_predictions_need_no_labels():
    net = network()
    x, _ = images(8)
    said = net(x).argmax(1)
    found = collect_contributions(net, [x[:3], x[3:]], targets="predictions", progress=False)
    expected = collect(net, x, said)
    np.testing.assert_array_equal(found.counts, expected.counts)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12, atol=1e-14)


def test_removed_channels_contribute_nothing_and_the_others_what_they_do_without_them():
    net = network()
    x, y = images(6)
    removed = [[0, 5], [], [8]]
    found = collect(net, x, y, removed=removed)
    for cls, columns in enumerate(removed):
        assert (found.mean[cls, columns] == 0).all()
        rows = []
        for image in x[y == cls]:
            first = torch.relu(net.one(image[None])).detach()
            first[:, [c for c in columns if c < 4]] = 0
            first.requires_grad_()
            second = torch.relu(net.two(first))
            keep = torch.ones(1, 5, 1, 1, dtype=torch.float64)
            keep[:, [c - 4 for c in columns if c >= 4]] = 0
            second = second * keep
            logits = net.tail(second)[0]
            z = logits[cls] - torch.logsumexp(torch.cat([logits[:cls], logits[cls + 1 :]]), 0)
            g1, g2 = torch.autograd.grad(z, (first, second))
            rows.append(torch.cat([(first * g1).sum((0, 2, 3)), (second * g2).sum((0, 2, 3))]).detach().numpy())
        np.testing.assert_allclose(found.mean[cls], np.mean(rows, 0), rtol=1e-11, atol=1e-13)


def test_specific_contributions_by_hand(tmp_path):
    channels = ChannelIndex((("a", 3),))
    sums = np.array([[4.0, 2.0, -1.0], [1.0, 4.0, -3.0], [0.0, 6.0, -2.0]])
    squares = np.array([[10.0, 2.0, 1.0], [1.0, 16.0, 9.0], [0.0, 12.0, 1.0]])
    found = Contributions(
        channels, ("x", "y", "z", "none"), np.array([2, 1, 4, 0]), np.array([1.0, 2.0, 3.0, 0.0]),
        np.stack([sums, squares]), np.zeros(3),
    )  # fmt: skip
    # Means: x 2, 1, -0.5; y 1, 4, -3; z 0, 1.5, -0.5
    np.testing.assert_allclose(found.specific()[:3], [[1, -3, -0.5], [-1, 2.5, -3], [-2, -2.5, -0.5]])
    np.testing.assert_allclose(found.specific(2)[:3], [[0, -7, -0.5], [-3, 1, -3], [-4, -6.5, -0.5]])
    np.testing.assert_allclose(found.specific(0), found.mean)
    assert [(str(c), v) for c, v in found.ranking("x")] == [("a[0]", 1.0), ("a[2]", -0.5), ("a[1]", -3.0)]
    # x: mean 2, values 2 +- 1, so the standard error is 1; z: 4 images, mean 1.5, squares 12
    np.testing.assert_allclose(found.stderr[0], [1, 0, 0.5])
    np.testing.assert_allclose(found.stderr[2, 1], np.sqrt((12 - 9) / 12))
    errors = found.specific_stderr(2)
    assert np.isnan(errors[1]).all()
    assert np.isnan(errors[0, 0])  # y, which costs most of the others, has one image
    assert errors[0, 2] == 0.5  # nobody else gains by it: only its own error is left
    np.testing.assert_allclose(errors[2, 0], np.hypot(0, 2 * 1))
    found.save(tmp_path / "c.npz")
    read = Contributions.load(tmp_path / "c.npz")
    for name in ("counts", "margins", "moments", "level"):
        np.testing.assert_array_equal(getattr(read, name), getattr(found, name))
    assert (read.channels, read.classes, read.fill, read.images) == (channels, found.classes, "zero", 0)
