"""Average visualizations: the right images, the right place, the right average."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.networks import Spelled
from torch import Tensor, nn

from interpnet.engine import Channel
from interpnet.errors import InterpNetError, LayerError
from interpnet.explanation import average_visualization, average_visualizations
from interpnet.explanation._patches import cut
from interpnet.scores import collect_scores


class Pictures:
    """Images of noise with one bright 3x3 block each, of brightness growing with the index."""

    def __init__(self, n: int = 12) -> None:
        g = torch.Generator().manual_seed(0)
        self.images = torch.rand(n, 1, 10, 10, generator=g) * 0.1
        self.places = [(1 + i % 7, 8 - i % 8) for i in range(n)]
        for i, (r, c) in enumerate(self.places):
            self.images[i, 0, max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2] = 0.3 + 0.05 * i

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.images[i], i % 2

    def picture(self, i: int) -> Tensor:
        return self.images[i] * 0.5


def detector() -> nn.Module:
    """Channel 0 averages 3x3 blocks; channel 1 never answers."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(200, 2))
    model[0].weight.data[0].fill_(1.0)
    model[0].weight.data[1].fill_(-1.0)
    model[0].bias.data.zero_()
    return model


def table_of(model: nn.Module, data: Pictures, normalisation: str = "none") -> object:
    return collect_scores(
        model, [(data.images, torch.arange(len(data)) % 2)], normalisation=normalisation, progress=False
    )


def test_crops_are_the_blocks_the_channel_answers_to() -> None:
    model = detector()
    data = Pictures()
    result = average_visualization(model, data, table_of(model, data), Channel("1", 0), top=5, keep=3, progress=False)
    assert result.count == 5
    assert result.field == (3, 3)
    assert not result.whole_image
    with torch.no_grad():
        norms = model[:2](data.images)[:, 0].square().sum((1, 2)).numpy()
    np.testing.assert_array_equal(result.indices, np.argsort(-norms)[:5])
    for crop, i in zip(result.crops, result.indices, strict=False):
        # The block's centre, read from the un-normalised picture; a block at the rim is grey outside.
        inside = crop[crop != 0.5]
        np.testing.assert_allclose(inside, 0.5 * (0.3 + 0.05 * i), rtol=1e-5)
    levels = [0.5 * (0.3 + 0.05 * i) for i in result.indices]
    assert result.mean.min() >= min(levels) - 1e-6
    assert result.mean[0, 1, 1] == pytest.approx(np.mean(levels), rel=1e-5)


def test_a_silent_channel_has_no_images() -> None:
    model = detector()
    data = Pictures()
    results = average_visualizations(
        model, data, table_of(model, data), [Channel("1", 0), Channel("1", 1)], top=4, progress=False
    )
    assert results[Channel("1", 1)].count == 0
    assert (results[Channel("1", 1)].mean == 0.5).all()
    assert results[Channel("1", 0)].count == 4


def test_only_the_needed_images_are_run() -> None:
    model = detector()
    data = Pictures()
    table = table_of(model, data)
    seen = []
    handle = model.register_forward_hook(lambda _m, args, _o: seen.append(args[0].shape[0]))
    average_visualization(model, data, table, Channel("1", 0), top=3, batch_size=2, progress=False)
    handle.remove()
    assert sum(seen[1:]) == 3, "one image for the trace, then the three with the highest response"


def test_fully_connected_units_average_whole_images() -> None:
    model = Spelled("module")
    images = torch.rand(6, 3, 9, 7)
    table = collect_scores(model, [(images, torch.zeros(6, dtype=torch.long))], progress=False)
    data = [(x, 0) for x in images]
    channel = Channel("r4", int(table.X[:, table.channels.slice("r4")].sum(0).argmax()))
    result = average_visualization(model, data, table, channel, top=6, progress=False)
    assert result.whole_image
    np.testing.assert_allclose(result.mean, images[result.indices].mean(0), rtol=1e-5)


def test_cut_pads_with_grey_and_says_where() -> None:
    picture = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    crop, inside = cut(picture, [(-1, 2), (3, 5)])
    np.testing.assert_array_equal(inside, [[False, False], [True, False], [True, False]])
    np.testing.assert_array_equal(crop[0], [[0.5, 0.5], [3.0, 0.5], [7.0, 0.5]])
    whole, everywhere = cut(picture, None)
    assert whole is picture
    assert everywhere.all()


def test_errors() -> None:
    model = detector()
    data = Pictures()
    table = table_of(model, data)
    with pytest.raises(InterpNetError, match="top is 0; expected a whole number of at least 1"):
        average_visualization(model, data, table, Channel("1", 0), top=0)
    with pytest.raises(LayerError, match="unknown layer 'x'"):
        average_visualization(model, data, table, Channel("x", 0))


def test_the_network_goes_to_the_device_asked_for_and_comes_back(device: str) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2))
    images = torch.rand(8, 1, 5, 5)
    table = collect_scores(net, [(images, torch.zeros(8, dtype=torch.long))], progress=False)
    data = [(image, 0) for image in images]
    seen: list[str] = []
    handle = net.register_forward_pre_hook(lambda _net, args: seen.append(args[0].device.type))
    here = average_visualization(net, data, table, Channel("1", 0), top=4, progress=False)
    there = average_visualization(net, data, table, Channel("1", 0), top=4, device=device, progress=False)
    handle.remove()
    assert seen[-1] == torch.device(device).type
    assert next(net.parameters()).device.type == "cpu"
    np.testing.assert_allclose(there.mean, here.mean, rtol=1e-6)
