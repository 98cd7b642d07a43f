"""Reliance: contributions of thinned networks, the order of channels, and how many of them take half the log-odds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.weighing import Weighing, ones
from torch import Tensor, nn

from interpnet import InterpNetError, interpret
from interpnet.engine import ChannelIndex
from interpnet.errors import DataError
from interpnet.reliance import Contributions, Reliance, collect_contributions, measure_reliance


class Twins(nn.Module):
    """Two channels of which the larger counts, and one of its own; one output per class."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        maps = self.relu(x).flatten(1)
        first = torch.maximum(maps[:, 0], maps[:, 1]) + 0.25 * maps[:, 2]
        return torch.stack([first, maps[:, 3]], 1)


def measured(net: nn.Module, batches: list[tuple[Tensor, Tensor]], **options) -> Reliance:
    found = contributions(net, batches)
    return measure_reliance(
        net, batches, found, **({"thinned": (), "price": 1.0, "worth": 1.0, "progress": False} | options)
    )


def contributions(net: nn.Module, batches: list, **options) -> Contributions:
    return collect_contributions(net, batches, layers="relu", progress=False, **options)


def test_thinned_contributions_are_those_of_networks_without_a_share_of_their_channels():
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 6, 2), nn.Tanh(), nn.Conv2d(6, 4, 2), nn.Tanh(), nn.Flatten(), nn.Linear(16, 3))
    net = net.double().eval()
    x = torch.randn(5, 1, 4, 4, generator=generator, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 0, 0])
    shares = (0.0, 0.2, 0.5)
    rows = []
    for position, (image, cls) in enumerate(zip(x, y.tolist(), strict=True)):
        found = []
        for nth, share in enumerate(shares):
            gone = np.random.default_rng([position, nth]).permutation(10)[: round(share * 10)]
            first = torch.tanh(net[0](image[None])).detach()
            first[:, gone[gone < 6]] = 0
            first.requires_grad_()
            keep = torch.ones(1, 4, 1, 1, dtype=torch.float64)
            keep[:, gone[gone >= 6] - 6] = 0
            second = torch.tanh(net[2](first)) * keep
            logits = net[5](second.flatten(1))[0]
            z = logits[cls] - torch.cat([logits[:cls], logits[cls + 1 :]]).logsumexp(0)
            gradients = torch.autograd.grad(z, (first, second))
            parts = [(a * g).sum((0, 2, 3)) for a, g in zip((first, second), gradients, strict=True)]
            found.append(torch.cat(parts).detach().numpy() / (1 - share))
        rows.append(np.mean(found, 0))
    got = collect_contributions(net, [(x[:3], y[:3]), (x[3:], y[3:])], thinned=shares, progress=False)
    for cls in range(3):
        np.testing.assert_allclose(got.mean[cls], np.mean(np.array(rows)[y.numpy() == cls], 0), rtol=1e-11, atol=1e-14)
    own = np.array(rows)[[0, 3, 4]]
    np.testing.assert_allclose(got.stderr[0], own.std(0, ddof=1) / np.sqrt(3), rtol=1e-9)
    assert got.counts.tolist() == [3, 1, 1]


def test_no_share_is_the_network_itself():
    net = nn.Sequential(nn.Conv2d(1, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)).eval()
    batches = [(torch.rand(6, 1, 4, 4), torch.tensor([0, 1, 2] * 2))]
    whole = collect_contributions(net, batches, progress=False)
    thinned = collect_contributions(net, batches, thinned=(0.0,), progress=False)
    np.testing.assert_array_equal(whole.mean, thinned.mean)
    assert thinned.info["thinned"] == [0.0]
    with pytest.raises(InterpNetError, match="contributions of different thinned"):
        _ = whole + thinned


@pytest.mark.parametrize(
    ("shares", "match"),
    [([1.0], "a share in thinned"), ([-0.1], "a share in thinned"), (0.5, "thinned"), (["a"], "a share in thinned")],
)
def test_shares_that_cannot_be(shares, match):
    net = Weighing([[1.0], [0.0]])
    with pytest.raises(InterpNetError, match=match):
        collect_contributions(net, ones(2, 1), thinned=shares, progress=False)


def test_a_mean_that_is_not_known_yet_cannot_fill_a_thinned_network():
    with pytest.raises(InterpNetError, match=r"pass\s+fill=contributions.reference"):
        contributions(Weighing([[1.0], [0.0]]), ones(2, 1), thinned=(0.1,), fill="mean")


def test_a_twin_that_takes_over_is_found_in_thinned_networks():
    images = torch.tensor([1.0, 0.99, 1.0, 0.0]).view(1, 4, 1, 1).repeat(60, 1, 1, 1)
    batches = [(images, torch.zeros(60, dtype=torch.long))]
    whole = contributions(Twins(), batches)
    assert whole.mean[0].tolist() == [1.0, 0.0, 0.25, 0.0]
    thinned = contributions(Twins(), batches, thinned=(0.25, 0.5))
    first, second, own, _ = thinned.mean[0]
    # Where the first is gone, the second counts for all that the first did.
    assert first > second > 0.1
    assert own == pytest.approx(0.25, rel=0.25)


def test_specific_to_the_mean_of_the_others_by_hand():
    channels = ChannelIndex((("a", 2),))
    # Two images of each class: (mean, spread) give the sums.
    mean = np.array([[4.0, 1.0], [1.0, -3.0], [3.0, 2.0]])
    deviation = np.array([[0.5, 0.0], [0.25, 1.0], [0.0, 0.5]])
    moments = np.stack([2 * mean, 2 * (mean**2 + deviation**2)])
    found = Contributions(channels, ("x", "y", "z"), np.array([2, 2, 2]), np.zeros(3), moments, np.zeros(2))
    # The others of x cost (1 + 3) / 2 and (0 + 2) / 2.
    expected = [[4 - 4 * 2.0, 1 - 4 * 1.0], [1 - 4 * 3.5, -3 - 4 * 1.5], [3 - 4 * 2.5, 2 - 4 * 0.5]]
    np.testing.assert_allclose(found.specific(4.0, others="mean"), expected)
    # Standard errors are the deviations here: sqrt(2 d^2 / (2 * 1)) / sqrt(2) * sqrt(2) = d.
    np.testing.assert_allclose(found.stderr, deviation, atol=1e-12)
    first = np.hypot(0.5, 4 * np.sqrt(0.25**2 + 0.0) / 2)
    second = np.hypot(0.0, 4 * np.sqrt(0.5**2) / 2)  # y's is below 0 and does not count
    np.testing.assert_allclose(found.specific_stderr(4.0, others="mean")[0], [first, second], atol=1e-12)


def test_one_image_of_another_class_leaves_the_error_of_all_but_itself_unknown():
    channels = ChannelIndex((("a", 1),))
    mean = np.array([[2.0], [1.0], [1.0]])
    counts = np.array([2, 1, 2])
    moments = np.stack([counts[:, None] * mean, counts[:, None] * mean**2])
    found = Contributions(channels, ("x", "y", "z"), counts, np.zeros(3), moments, np.zeros(1))
    error = found.specific_stderr(1.0, others="mean")
    assert np.isnan(error).ravel().tolist() == [True, True, True]
    below = moments.copy()
    below[0, 1] = -1.0
    found = Contributions(channels, ("x", "y", "z"), counts, np.zeros(3), below, np.zeros(1))
    # What costs a class nothing needs no error; its own is unknown all the same.
    assert np.isnan(found.specific_stderr(1.0, others="mean")).ravel().tolist() == [False, True, False]


def test_others_is_one_of_two():
    found = Contributions(
        ChannelIndex((("a", 1),)), ("x",), np.array([1]), np.zeros(1), np.ones((2, 1, 1)), np.zeros(1)
    )
    with pytest.raises(InterpNetError, match="others"):
        found.specific(1.0, others="worst")
    assert found.specific(1.0, others="mean").tolist() == [[1.0]]


@pytest.mark.parametrize(
    ("gains", "share", "size"),
    [
        ([4.0, 3.0, 2.0, 1.0], 0.5, 2),
        ([4.0, 3.0, 2.0, 1.0], 0.4, 1),
        ([1.0] * 10, 0.5, 5),
        ([1.0] * 10, 0.61, 7),
        ([1.0] * 10, 1.0, 10),
        ([1.0, 2.0, 8.0, 1.0], 0.66, 1),
    ],
)
def test_the_set_is_the_smallest_prefix_that_takes_the_share(gains, share, size):
    found = measured(Weighing([gains, [0.0] * len(gains)]), ones(6, len(gains), 1), share=share)
    assert found.sizes.tolist() == [size, 0]
    assert found.ends == ("share", "no images")
    order = np.argsort(-np.array(gains), kind="stable")
    assert found.order[0].tolist() == order.tolist()
    assert found.columns(0).tolist() == order[:size].tolist()
    assert found.intact[0] == pytest.approx(sum(gains), rel=1e-6)
    assert found.left[0] == pytest.approx(sum(gains) - np.array(gains)[order[:size]].sum(), abs=1e-5)
    assert np.isnan([found.intact[1], found.left[1]]).all()


def test_channels_that_are_worth_enough_by_themselves_are_in_the_set_too():
    net = Weighing([[8.0, 3.0, 2.0, 1.0], [0.0] * 4])
    batches = ones(6, 4, 1)
    # Of 14, the first takes more than half; 1.4 is a tenth.
    found = measured(net, batches, worth=0.1)
    assert (found.sizes.tolist(), found.enough.tolist(), found.ends[0]) == ([3, 0], [1, 0], "worth")
    assert found.left[0] == pytest.approx(1.0)
    found = measured(net, batches, worth=0.05)
    assert (found.sizes[0], found.left[0]) == (4, 0.0)
    found = measured(net, batches, worth=0.3)
    assert (found.sizes[0], found.ends[0], found.left[0]) == (1, "share", 6.0)
    assert measured(net, batches, worth=0.05, most=2).sizes[0] == 2
    # More than that where it takes more of them.
    assert measured(Weighing([[1.0] * 20, [0.0] * 20]), ones(6, 20, 1), worth=0.1).sizes[0] == 10


def test_sizes_are_those_of_trying_every_prefix():
    generator = torch.Generator().manual_seed(3)
    weights = torch.rand(3, 24, generator=generator)
    images = 1 + torch.rand(30, 24, 1, 1, generator=generator)
    batches = [(images[:20], torch.arange(20) % 3), (images[20:], torch.arange(20, 30) % 3)]
    net = Weighing(weights.tolist())
    found = measured(net, batches, price=0.0, share=0.7)
    y = np.arange(30) % 3
    values = images.flatten(1).double().numpy()
    for c in range(3):
        if found.ends[c] != "share":
            continue
        for size in range(1, found.sizes[c] + 1):
            maps = values[y == c].copy()
            maps[:, found.order[c][:size]] = 0
            logits = maps @ weights.double().numpy().T
            rest = np.delete(logits, c, 1)
            margin = (logits[:, c] - np.log(np.exp(rest).sum(1))).mean()
            assert (margin <= 0.3 * found.intact[c]) == (size == found.sizes[c])
    assert "share" in found.ends


def test_why_a_set_ends():
    gains = [[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]
    assert measured(Weighing(gains), ones(4, 4, 1), most=1).ends[0] == "most"
    # A constant offset that no channel makes leaves more than half.
    offset = Weighing([*gains])
    offset.weigh.bias = nn.Parameter(torch.tensor([20.0, 0.0]))
    found = measured(offset, ones(4, 4, 1))
    assert (found.ends[0], int(found.sizes[0])) == ("noise", 4)
    offset.weigh.bias = nn.Parameter(torch.tensor([-20.0, 0.0]))
    found = measured(offset, ones(4, 4, 1))
    assert (found.ends[0], int(found.sizes[0])) == ("not recognised", 4)


def test_only_channels_of_clear_contribution_are_in_the_order():
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(40, 3, 1, 1, generator=generator)
    images[:, 1] = 1.0
    # The second channel is the same in every image, the third speaks against the class.
    net = Weighing([[0.0, 1.0, -1.0], [0.0, 0.0, 0.0]])
    found = measured(net, [(images, torch.zeros(40, dtype=torch.long))])
    assert found.order[0].tolist() == [1]


def test_what_is_filled_in_is_what_contributions_were_taken_against():
    batches = [(torch.tensor([1.0, 3.0]).view(1, 2, 1, 1).repeat(4, 1, 1, 1), torch.tensor([0, 0, 0, 0]))]
    net = Weighing([[1.0, 1.0], [0.0, 0.0]])
    found = contributions(net, batches, fill=np.array([1.0, 1.0]))
    got = measure_reliance(net, batches, found, thinned=(0.0, 0.5), price=1.0, progress=False)
    # The first channel holds its reference; without the second, 2 of 4 are left.
    assert (got.order[0].tolist(), got.left[0], got.fill) == ([1], 2.0, "given")


def test_predictions_and_several_labels():
    net = Weighing([[2.0, 1.0], [0.0, 0.0]])
    images = [torch.ones(4, 2, 1, 1)]
    found = contributions(net, images, targets="predictions")
    got = measure_reliance(net, images, found, thinned=(), price=0.0, worth=1.0, progress=False)
    assert (got.sizes.tolist(), got.intact[0]) == ([1, 0], 3.0)
    targets = [(torch.ones(4, 2, 1, 1), torch.tensor([[1.0, 1.0]] * 4))]
    net = Weighing([[2.0, 1.0], [1.0, 4.0]])
    found = contributions(net, targets, outputs="independent")
    got = measure_reliance(net, targets, found, thinned=(), price=0.0, worth=1.0, progress=False)
    assert got.intact.tolist() == [3.0, 5.0]
    assert [columns.tolist() for columns in got.order] == [[0, 1], [1, 0]]
    assert got.sizes.tolist() == [1, 1]


def test_only_the_first_images_of_a_class_are_measured():
    images = torch.ones(6, 2, 1, 1)
    images[4:] = 100.0
    batches = [(images[:3], torch.zeros(3, dtype=torch.long)), (images[3:], torch.zeros(3, dtype=torch.long))]
    net = Weighing([[2.0, 1.0], [0.0, 0.0]])
    assert measured(net, batches, images=4).intact[0] == 3.0
    assert measured(net, batches, images=None).intact[0] > 3.0


def test_an_interpretation_of_it():
    found = measured(Weighing([[4.0, 3.0, 2.0, 1.0], [0.0] * 4]), ones(6, 4, 1))
    got = interpret(found, classes=["cat", "dog"])
    assert (got.by, got.price, got.classes) == ("reliance", 1.0, ("cat", "dog"))
    assert got.coef.tolist() == [[4.0, 3.0, 0.0, 0.0], [0.0] * 4]
    assert got.info["ends"] == ["share", "no images"]
    assert got.info["log_odds_left"] == [3.0, None]
    assert found.relevant(0) == [(found.contributions.channels[0], 4.0), (found.contributions.channels[1], 3.0)]
    with pytest.raises(InterpNetError, match="the mu-lasso needs a ScoreTable or Gram"):
        interpret(found, by="mu-lasso")
    for asked in ({"price": 2.0}, {"most": 3}):
        with pytest.raises(InterpNetError, match="a measured reliance has its own"):
            interpret(found, **asked)


def test_what_is_refused():
    net = Weighing([[4.0, 3.0], [0.0, 0.0]])
    found = contributions(net, ones(4, 2))
    quiet = {"progress": False}
    with pytest.raises(InterpNetError, match="price"):
        measure_reliance(net, ones(4, 2), found, price=-1.0, **quiet)
    with pytest.raises(InterpNetError, match="share"):
        measure_reliance(net, ones(4, 2), found, share=0.0, **quiet)
    with pytest.raises(InterpNetError, match="were they collected from another model"):
        measure_reliance(Weighing([[1.0, 1.0]] * 3), ones(4, 2), found, **quiet)
    with pytest.raises(InterpNetError, match="relu"):
        measure_reliance(Weighing([[1.0] * 3] * 2), ones(4, 3), found, **quiet)
    with pytest.raises(DataError, match="measure_reliance"):
        measure_reliance(net, iter(ones(4, 2)), found, **quiet)
    with pytest.raises(DataError, match="no labels"):
        measure_reliance(net, [torch.ones(2, 2, 1, 1)], found, **quiet)
    with pytest.raises(InterpNetError, match="contributions"):
        measure_reliance(net, ones(4, 2), None, **quiet)


def test_each_device_measures_the_same(device: str):
    net = Weighing([[4.0, 3.0, 2.0, 1.0], [0.0] * 4])
    here, there = (measured(net, ones(6, 4), device=where, thinned=(0.0, 0.25)) for where in ("cpu", device))
    np.testing.assert_allclose(there.values, here.values, rtol=1e-6)
    assert there.sizes.tolist() == here.sizes.tolist()
