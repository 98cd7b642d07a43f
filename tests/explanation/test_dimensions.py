"""Explanations of signals, images and volumes: one axis of positions, two or three, and the refusal of none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from interpnet.engine import Channel, find_sites
from interpnet.errors import DataError
from interpnet.explanation import (
    average_visualization,
    channel_heatmap,
    channel_signal,
    combine,
    explain,
    normalise,
    reduce_colours,
)
from interpnet.interpretation import interpret
from interpnet.pictures import activation_maps
from interpnet.scores import collect_scores

# Colours and spatial axes; an axis of one position, and sides of different length.
SHAPES = [(2, 33), (1, 16), (3, 1), (1, 9, 12), (3, 12, 9), (2, 1, 11), (2, 11, 1), (1, 6, 7, 8), (2, 8, 1, 5)]
BATCHES = [1, 4]


def network(shape: tuple[int, ...], stride: int = 2) -> nn.Sequential:
    """Two convolutions and a classifier for images of the shape (C, ...), the second one strided."""
    n = len(shape) - 1
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[n - 1]
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[n - 1]
    pool = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[n - 1]
    torch.manual_seed(1)
    net = nn.Sequential(
        conv(shape[0], 5, 3, padding=1), norm(5), nn.ReLU(), conv(5, 6, 3, stride=stride, padding=1), nn.ReLU(),
        pool(1), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip
    return net.eval()


def planar(net: nn.Sequential) -> nn.Sequential:
    """The same network of signals (B, C, L) as one of images (B, C, 1, L)."""
    flat = network((net[0].in_channels, 4, 4))
    for i in (0, 3):
        kernel = torch.zeros_like(flat[i].weight)
        kernel[:, :, 1] = net[i].weight
        flat[i].weight.data = kernel
        flat[i].bias.data = net[i].bias.data
    flat[3].stride = (1, 2)
    flat[7].load_state_dict(net[7].state_dict())
    return flat


def batch(shape: tuple[int, ...], n: int) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_heatmap_is_the_gradient_summed_over_colours_alone(shape: tuple[int, ...], n: int) -> None:
    net = network(shape, stride=1).double()
    x = batch(shape, n).double()
    leaf = x.clone().requires_grad_()
    site = net[:3](leaf)[:, 3]
    (gradient,) = torch.autograd.grad(0.5 * site.square().sum(), leaf)
    got = channel_heatmap(net, x, Channel("2", 3), rectifier="gradient", resample=False, reduction="abs")
    assert got.shape == (n, *shape[1:])
    expected = sum(gradient[:, c].abs() for c in range(shape[0]))
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("reduction", ["abs", "positive", "max"])
@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_explanation_has_one_map_per_channel(shape: tuple[int, ...], n: int, reduction: str) -> None:
    net = network(shape)
    x = batch(shape, n)
    y = torch.arange(8) % 3
    found = interpret(collect_scores(net, [(batch(shape, 8), y)], progress=False), mu=3.0)
    got = explain(net, x, found, k=2, reduction=reduction, variant="paper")
    assert got.signals.shape == (n, 2, *shape)
    assert got.heatmaps.shape == (n, 2, *shape[1:])
    assert got.combined.shape == (n, *shape[1:])
    for image in range(n):
        for rank, channel in enumerate(got.channels[image]):
            signal = channel_signal(net, x[image : image + 1], channel).signals[0, 0]
            torch.testing.assert_close(got.signals[image, rank], signal, rtol=1e-4, atol=1e-6)
            colours = [signal[c] for c in range(shape[0])]
            one = {
                "abs": sum(c.abs() for c in colours),
                "positive": sum(c.clamp(min=0) for c in colours),
                "max": torch.stack([c.abs() for c in colours]).amax(0),
            }[reduction]
            if one.numel() > 1 and one.max() > one.min():
                one = (one - one.min()) / (one.max() - one.min())
            else:
                one = torch.zeros_like(one)
            torch.testing.assert_close(got.heatmaps[image, rank], one, rtol=1e-4, atol=1e-4)
    assert torch.equal(got.combined, got.heatmaps.amax(1))


@pytest.mark.parametrize("resample", [True, False])
@pytest.mark.parametrize("rectifier", ["gradient", "deconvnet", "guided"])
def test_a_signal_is_explained_like_an_image_of_one_row(rectifier: str, resample: bool) -> None:
    net = network((2, 32))
    flat = planar(net)
    x = batch((2, 32), 3)
    torch.testing.assert_close(net(x), flat(x[:, :, None]))
    for name in ("2", "4"):
        how = {"rectifier": rectifier, "resample": resample}
        got = channel_heatmap(net, x, Channel(name, 1), **how)
        torch.testing.assert_close(got, channel_heatmap(flat, x[:, :, None], Channel(name, 1), **how)[:, 0])


@pytest.mark.parametrize("combination", ["max", "mean", "response"])
@pytest.mark.parametrize("space", [(6,), (2, 3), (3, 2), (1, 2, 3)], ids=str)
def test_maps_of_any_number_of_axes_are_put_together(space: tuple[int, ...], combination: str) -> None:
    maps = torch.rand(2, 3, *space, dtype=torch.float64)
    responses = torch.tensor([[3.0, 1.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    got = combine(maps, responses, combination)
    first = {
        "max": maps[0].amax(0),
        "mean": (maps[0, 0] + maps[0, 1]) / 2,
        "response": 0.75 * maps[0, 0] + 0.25 * maps[0, 1],
    }[combination]
    torch.testing.assert_close(got[0], first)
    assert got.shape == (2, *space)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_average_visualization_crops_along_every_axis(shape: tuple[int, ...]) -> None:
    net = network(shape)
    data = [(image, 0) for image in batch(shape, 6)]
    table = collect_scores(net, [(batch(shape, 6), torch.zeros(6, dtype=torch.long))], progress=False)
    field = tuple(min(3, size) for size in shape[1:])  # the first convolution's kernel
    channel = Channel("2", int(table.X[:, :5].sum(0).argmax()))
    found = average_visualization(net, data, table, channel, top=4, keep=2, crop="field", progress=False)
    assert found.mean.shape == (shape[0], *field)
    assert found.crops.shape == (2, shape[0], *field)
    best = int(found.indices[0])
    maps = net[:3](data[best][0][None])[0, channel.index]
    place = np.unravel_index(int(maps.argmax()), maps.shape)
    image = np.pad(data[best][0].numpy(), [(0, 0), *[(1, 1)] * len(field)], constant_values=0.5)
    cut = tuple(slice(p, p + 3) if size >= 3 else slice(1, 1 + size) for p, size in zip(place, shape[1:], strict=True))
    np.testing.assert_array_equal(found.crops[0], image[:, *cut])


@pytest.mark.parametrize("features", [(4,), (1,)], ids=str)
def test_features_without_positions_have_signals_and_no_maps(features: tuple[int, ...]) -> None:
    net = nn.Sequential(nn.Linear(*features, 5), nn.ReLU(), nn.Linear(5, 2)).eval()
    x = torch.rand(6, *features)
    table = collect_scores(net, [(x, torch.arange(6) % 2)], progress=False)
    signals = channel_signal(net, x, Channel("1", 2), rectifier="gradient").signals
    unit = torch.relu(net[0](x)[:, 2])
    torch.testing.assert_close(signals[:, 0], unit[:, None] * net[0].weight[2].detach())
    with pytest.raises(DataError, match=r"images: shape .* has no positions .* channel_signal"):
        channel_heatmap(net, x, Channel("1", 2))
    with pytest.raises(DataError, match=r"images: shape .* has no positions"):
        explain(net, x, interpret(table, mu=1.0), variant="paper")


@pytest.mark.parametrize("space", [(6,), (2, 3), (1, 2, 3)], ids=str)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_map_that_is_not_finite_is_refused(space: tuple[int, ...], bad: float) -> None:
    maps = torch.rand(2, *space)
    maps[1].view(-1)[2] = bad
    with pytest.raises(DataError, match="maps hold NaN or infinite values; expected finite ones"):
        normalise(maps, axes=len(space))


def test_a_signal_with_too_few_axes_is_refused() -> None:
    with pytest.raises(DataError, match=r"signal: shape \(3, 4\) came; expected colours before 2 spatial axes"):
        reduce_colours(torch.zeros(3, 4))
    with pytest.raises(DataError, match=r"maps: shape \(3,\) came; expected \(..., 2 axes of positions\)"):
        normalise(torch.zeros(3))
    with pytest.raises(DataError, match=r"maps: shape \(2, 0\) came"):
        normalise(torch.zeros(2, 0), axes=1)


def test_receptive_fields_are_followed_along_three_axes() -> None:
    net = network((1, 9, 10, 11))
    site = find_sites(net, batch((1, 9, 10, 11), 2))["4"]
    assert [(entry[0], entry[1].lo, entry[1].hi, entry[1].jump) for entry in site.fields if entry] == [
        (2, -2.0, 2.0, 2.0),
        (3, -2.0, 2.0, 2.0),
        (4, -2.0, 2.0, 2.0),
    ]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("shape", [(2, 33), (3, 12, 9), (1, 6, 7, 8)], ids=str)
def test_images_that_are_not_finite_are_refused_by_number(shape: tuple[int, ...], bad: float) -> None:
    net = network(shape)
    x = batch(shape, 4)
    found = interpret(collect_scores(net, [(x, torch.arange(4) % 3)], progress=False), mu=1.0)
    x[2].view(-1)[3] = bad
    uses = [
        lambda: channel_signal(net, x, Channel("2", 1)),
        lambda: channel_heatmap(net, x, Channel("2", 1)),
        lambda: explain(net, x, found, variant="paper"),
        lambda: activation_maps(net, x, "2"),
    ]
    for use in uses:
        with pytest.raises(DataError, match=r"images hold NaN or infinity \(image 2 of the batch\)"):
            use()


def test_a_signal_or_a_map_that_overflows_is_refused() -> None:
    net = network((1, 5, 5))
    net[3].weight.data.fill_(1e38)
    x = batch((1, 5, 5), 2) + 0.5
    with pytest.raises(DataError, match=r"signal of image \d of the batch is NaN or infinite"):
        channel_signal(net, x, Channel("4", 1))
    with pytest.raises(DataError, match="layer '4' has NaN or infinite activations"):
        activation_maps(net, x, "4", trace=find_sites(net, torch.zeros_like(x)))
