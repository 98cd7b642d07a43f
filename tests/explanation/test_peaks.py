"""Crops round what answers, channels that answer to the padding, and where maxima lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from interpnet.engine import Channel, Instrument, find_sites, instrument
from interpnet.errors import InterpNetError
from interpnet.explanation import PeakReader, Peaks, _peaks, average_at, average_visualization, survival
from interpnet.explanation._patches import peak_window
from interpnet.scores import collect_scores


def deep(channels: int = 1) -> nn.Module:
    """Three strided convolutions whose field is 43 pixels and whose stride 8: deep in an image of 64."""
    parts: list[nn.Module] = []
    for i in range(3):
        conv = nn.Conv2d(1 if i == 0 else channels, channels, 7, stride=2, padding=3, bias=False)
        conv.weight.data.zero_()
        conv.weight.data[:, 0, 3, 3] = 1.0
        parts += [conv, nn.ReLU()]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(64 * channels, 2))


def spots(places: list[tuple[int, int]], size: int = 64, side: int = 9) -> Tensor:
    images = torch.zeros(len(places), 1, size, size)
    for i, (row, column) in enumerate(places):
        images[
            i, 0, max(row - side // 2, 0) : row + side // 2 + 1, max(column - side // 2, 0) : column + side // 2 + 1
        ] = 1
        images[i] *= 1 + 0.1 * i
    return images


def scores(model: nn.Module, images: Tensor):
    return collect_scores(model, [(images, torch.zeros(len(images)).long())], normalisation="none", progress=False)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_maxima_are_the_same_however_many_images_are_looked_at_at_once(monkeypatch, layout) -> None:
    maps = (torch.rand(7, 3, 5, 4, generator=torch.Generator().manual_seed(0)) - 0.3).relu()
    trace = find_sites(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(60, 2)), maps)
    for at_once in (1, 2 * 60, 10**6):
        monkeypatch.setattr(_peaks, "_AT_ONCE", at_once)
        reader = PeakReader([trace["1"]])
        reader.reads["1"](maps.contiguous(memory_format=layout))
        values, positions, extents = reader.take()["1"]
        flat = maps.flatten(2).double().numpy()
        np.testing.assert_array_equal(values, flat.max(2))
        np.testing.assert_array_equal(positions, flat.argmax(2))
        np.testing.assert_allclose(extents, (flat > 0.5 * flat.max(2, keepdims=True)).mean(2), rtol=1e-6)


def test_maxima_places_and_extents_are_those_of_the_maps() -> None:
    model = deep()
    images = spots([(24, 40), (8, 8)])
    images[1, 0, 50:53, 50:53] = 0.4
    trace = find_sites(model, images)
    reader = PeakReader([trace["5"]])
    with instrument(model, Instrument(reads=reader.reads)), torch.no_grad():
        model(images[:1])
        model(images[1:])
        maps = model[:6](images)[:, 0].flatten(1).numpy()
    values, positions, extents = reader.take()["5"]
    np.testing.assert_allclose(values[:, 0], maps.max(1))
    np.testing.assert_array_equal(positions[:, 0], maps.argmax(1))
    np.testing.assert_allclose(extents[:, 0], (maps > maps.max(1, keepdims=True) / 2).mean(1))
    assert positions[0, 0] == 3 * 8 + 5, "pixel (24, 40) at a stride of 8"


def test_a_unit_without_a_map_has_its_value_at_place_0() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    images = torch.rand(5, 1, 2, 2)
    reader = PeakReader([find_sites(model, images)["2"]])
    with instrument(model, Instrument(reads=reader.reads)):
        model(images)
    values, positions, extents = reader.take()["2"]
    np.testing.assert_allclose(values, model[:3](images).detach(), rtol=1e-6)
    assert not positions.any()
    np.testing.assert_array_equal(extents, values > 0)


def test_a_deep_channel_is_cropped_round_its_maximum_and_the_field_stays_to_be_asked_for() -> None:
    model = deep()
    images = spots([(24, 40), (32, 32), (40, 16), (30, 34)])
    table = scores(model, images)
    data = [(image, 0) for image in images]
    made = average_visualization(model, data, table, Channel("5", 0), progress=False)
    # One position answers: a side of 1.5 x 8 = 12 pixels is less than a quarter of 64.
    assert made.field == (16, 16)
    assert not made.whole_image
    np.testing.assert_array_equal(made.crops[:, 0, 6:10, 6:10] > 0, True)
    assert made.crops[:, 0].mean() > 0.2, "a third of each crop, and a fiftieth of each image, is the spot"
    paper = average_visualization(model, data, table, Channel("5", 0), crop="field", progress=False)
    assert paper.field == (43, 43)
    np.testing.assert_array_equal(paper.indices, made.indices)
    with pytest.raises(InterpNetError, match=r"crop.*'fields'.*'peak'.*'field'"):
        average_visualization(model, data, table, Channel("5", 0), crop="fields", progress=False)


def test_the_window_round_a_maximum_by_hand() -> None:
    site = find_sites(deep(), torch.zeros(1, 1, 64, 64))["5"]
    assert site.map_shape == (8, 8)
    # Position 3 sees pixels 3 to 45 about pixel 24; 4 of 64 positions answer, a square of 2 x 8 x 1.5 = 24 pixels.
    assert peak_window(site, (3, 3), (64, 64), 4 / 64) == [(12, 36), (12, 36)]
    assert peak_window(site, (0, 7), (64, 64), 4 / 64) == [(0, 24), (40, 64)], "moved into the image"
    assert peak_window(site, (3, 3), (64, 64), 1 / 64) == [(16, 32), (16, 32)], "a quarter of the image at least"
    # Two thirds of 64 are 43 pixels, which is the field.
    assert peak_window(site, (3, 3), (64, 64), 1.0) == [(3, 46), (3, 46)]
    assert peak_window(site, (0, 0), (8, 8), 1 / 64) is None, "no larger than the image"


@pytest.mark.parametrize("size", [1, 5, 11])
def test_images_smaller_than_a_patch_are_shown_whole(size: int) -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 15, padding=7), nn.ReLU(), nn.Flatten(), nn.Linear(size**2, 2))
    model[0].weight.data.fill_(1.0)
    images = torch.rand(6, 1, size, size)
    data = [(image, 0) for image in images]
    made = average_visualization(model, data, scores(model, images), Channel("1", 0), progress=False)
    assert made.whole_image
    np.testing.assert_allclose(made.mean, images.mean(0), rtol=1e-5)


def test_signals_are_cropped_round_their_maximum() -> None:
    model = nn.Sequential(
        nn.Conv1d(1, 1, 41, stride=4, padding=20, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(25, 2)
    )
    model[0].weight.data.zero_()
    model[0].weight.data[..., 20] = 1
    images = torch.zeros(3, 1, 100)
    for i, at in enumerate((20, 48, 80)):
        images[i, 0, at - 1 : at + 2] = 1 + i
    made = average_visualization(
        model, [(x, 0) for x in images], scores(model, images), Channel("1", 0), progress=False
    )
    assert made.field == (25,)
    np.testing.assert_array_equal(made.mean[0] > 0, np.isin(np.arange(25), [11, 12, 13]))


def test_what_crops_share() -> None:
    site = find_sites(
        nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(), nn.Flatten(), nn.Linear(9, 2)), torch.zeros(1, 1, 5, 5)
    )
    channel = Channel("1", 0)
    pattern = torch.arange(9.0).reshape(1, 3, 3) / 8

    def shared(pictures: list[Tensor]) -> float:
        images = [torch.zeros(1, 5, 5) for _ in pictures]
        for image, picture in zip(images, pictures, strict=True):
            image[:, 1:4, 1:4] = picture
        n = len(images)
        peaks = Peaks(np.arange(n), np.ones(n, np.float32), np.full(n, 4), np.full(n, 1 / 9, np.float32))
        return average_at([(x, 0) for x in images], {channel: site["1"]}, {channel: peaks})[channel].shared

    assert shared([pattern, pattern, pattern]) == pytest.approx(1.0)
    assert shared([pattern, 1 - pattern]) == pytest.approx(-1.0)
    assert np.isnan(shared([pattern]))
    assert np.isnan(shared([torch.ones(1, 3, 3)] * 2))
    torch.manual_seed(0)
    assert abs(shared([torch.rand(1, 3, 3) for _ in range(200)])) < 0.02


# --- padding ----------------------------------------------------------------------------------------------


def rim_and_content() -> nn.Module:
    """Channel 0 answers to darkness above light, which the padding makes of any image; channel 1 to light."""
    conv = nn.Conv2d(1, 2, 3, padding=1, bias=False)
    conv.weight.data.zero_()
    conv.weight.data[0, 0, 0] = -1.0
    conv.weight.data[0, 0, 1] = 1.0
    conv.weight.data[1, 0, 1, 1] = 1.0
    return nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(2 * 16 * 16, 2))


@pytest.mark.parametrize("top", [6, 12])
def test_a_channel_that_answers_to_the_padding_is_known(top: int, device: str) -> None:
    model = rim_and_content().to(device)
    images = 0.5 + 0.1 * torch.rand(12, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    images[:, :, 0, 3] = 2.0  # light at the rim, where no padding is needed to see it
    data = [(image, 0) for image in images]
    table = scores(model, images)
    rim, content = (average_visualization(model, data, table, Channel("1", c), top=top, progress=False) for c in (0, 1))
    assert rim.by_padding
    assert rim.survives < 0.5
    assert not content.by_padding, "its maxima lie on the rim, and go where the image goes"
    assert content.survives == pytest.approx(1.0)


def test_maxima_on_the_rim_as_often_as_chance_are_no_suspects() -> None:
    model = rim_and_content()
    images = torch.rand(12, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    n = len(images)
    peaks = Peaks(np.arange(n), np.ones(n, np.float32), np.array([0, 15] + [17 + i for i in range(n - 2)]), np.zeros(n))
    # Two of twelve on a rim of 60 of 256 positions.
    assert survival(model, [(x, 0) for x in images], {Channel("1", 0): peaks}) == {Channel("1", 0): 1.0}


def test_channels_without_a_rim_or_without_images_survive() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    one = Peaks(np.arange(1), np.ones(1, np.float32), np.zeros(1, np.int64), np.ones(1, np.float32))
    none = Peaks(*(np.zeros(0, np.int64) for _ in range(4)))
    data = [(torch.rand(1, 2, 2), 0)]
    assert survival(model, data, {Channel("2", 0): one, Channel("2", 1): none}) == dict.fromkeys(
        (Channel("2", 0), Channel("2", 1)), 1.0
    )
