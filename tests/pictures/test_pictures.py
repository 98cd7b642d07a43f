"""Pictures of a network as a whole: filters, maps, embeddings, neighbours, contact sheets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.networks import Spelled
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from interpnet.engine import find_sites
from interpnet.errors import DataError, LayerError, ModelError
from interpnet.pictures import (
    Filters,
    activation_maps,
    embed,
    filter_sheet,
    filter_tiles,
    filters,
    last_site,
    map_sheet,
    nearest_images,
    picture_plane,
    tsne,
)


def net(in_channels: int = 3) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 6, 2, stride=2, groups=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 2),
    )


# --- filters ----------------------------------------------------------------------------------------------


def test_filters_are_the_weights_in_order_of_execution() -> None:
    model = net()
    found = filters(model, torch.zeros(2, 3, 8, 8))
    assert list(found) == ["0", "2"]
    np.testing.assert_array_equal(found["0"].weights, model[0].weight.detach().numpy())
    np.testing.assert_array_equal(found["2"].weights, model[2].weight.detach().numpy())
    assert found["2"].weights.shape == (6, 2, 2, 2)
    assert (found["2"].stride, found["2"].groups) == ((2, 2), 2)
    assert [f.rgb for f in found.values()] == [True, False]
    found["0"].weights[:] = 7
    assert float(model[0].weight.detach().max()) < 1, "a copy, not the weights themselves"


def test_filters_are_read_as_they_run() -> None:
    """A weight norm, a functional call and a 1-D convolution: what the network multiplies with."""

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.normed = nn.utils.parametrizations.weight_norm(nn.Conv1d(2, 3, 5))
            self.raw = nn.Parameter(torch.rand(2, 3, 1))

        def forward(self, x):
            return F.conv1d(self.normed(x), self.raw).mean(2)

    model = Odd()
    found = filters(model, torch.zeros(1, 2, 9))
    assert [f.weights.shape for f in found.values()] == [(3, 2, 1, 5), (2, 3, 1, 1)]
    first = next(iter(found.values()))
    np.testing.assert_allclose(first.weights[:, :, 0], model.normed.weight.detach().numpy())
    assert first.first
    assert not first.rgb, "two input channels are no colours"


def test_layers_are_chosen_by_name_glob_and_module() -> None:
    model = nn.Sequential(net(), nn.Flatten())
    images = torch.zeros(1, 3, 8, 8)
    assert list(filters(model, images, "0.2")) == ["0.2"]
    assert list(filters(model, images, ["0.[12]"])) == ["0.2"]
    assert list(filters(model, images, "0")) == ["0.0", "0.2"]


@pytest.mark.parametrize(
    ("layer", "match"),
    [
        ("conv9", r"no convolution matches 'conv9'; did you mean 'conv3'.* The convolutions are 'conv1'"),
        ("fc1", "this is a linear, which has no filters: 'fc1'"),
    ],
)
def test_an_unknown_convolution_names_close_matches(layer, match) -> None:
    with pytest.raises(LayerError, match=match):
        filters(Spelled("module"), torch.zeros(1, 3, 9, 7), layer)


def test_a_network_without_convolutions_has_no_filters() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    with pytest.raises(ModelError, match="without a 1-D or 2-D convolution"):
        filters(model, torch.zeros(1, 1, 2, 2))


def test_tiles_keep_signs_and_mid_grey_is_zero() -> None:
    weights = np.zeros((2, 3, 1, 2), np.float32)
    weights[0, :, 0, 0] = [4, -2, 0]
    tiles = filter_tiles(Filters("c", weights, (1, 1), 1, True))
    np.testing.assert_array_equal(tiles[0, 0], [[1, 0.25, 0.5], [0.5, 0.5, 0.5]])
    np.testing.assert_array_equal(tiles[1], np.full((1, 2, 3), 0.5))
    grey = filter_tiles(Filters("c", weights, (1, 1), 1, False))
    np.testing.assert_array_equal(grey[0, :, 0, 0], [1, 0.25, 0.5])


def test_weights_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DataError, match="filters of 'c' hold NaN"):
        filter_tiles(Filters("c", np.full((1, 1, 2, 2), np.nan, np.float32), (1, 1), 1, False))


def test_a_sheet_has_a_row_a_filter_and_a_column_an_input_channel() -> None:
    weights = np.zeros((2, 3, 2, 2), np.float32)
    weights[1, 2] = -1
    sheet = filter_sheet(Filters("c", weights, (1, 1), 1, False))
    side = 20
    gap = 3
    assert sheet.shape == (2 * side + gap, 3 * side + 2 * gap, 3)
    assert (sheet[side + gap :, 2 * (side + gap) :] == 0).all()
    assert (sheet[:side, :side] == 128).all()
    colours = filter_sheet(Filters("c", weights, (1, 1), 1, True))
    assert colours.shape == (side, 2 * side + gap, 3), "RGB filters lie side by side"
    with pytest.raises(DataError, match="most=0"):
        filter_sheet(Filters("c", weights, (1, 1), 1, False), most=0)


# --- maps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["module", "inplace", "functional", "reused"])
def test_maps_are_the_activations_however_the_network_is_written(spelling) -> None:
    model = Spelled(spelling).eval()
    images = torch.rand(2, 3, 9, 7)
    site = find_sites(model, images).select()[0].name
    with torch.no_grad():
        expected = torch.relu(model.bn1(model.conv1(images)))
    np.testing.assert_allclose(activation_maps(model, images, site), expected.numpy(), rtol=1e-6)


def test_maps_of_several_layers_come_from_one_pass() -> None:
    model = Spelled("module").eval()
    images = torch.rand(2, 3, 9, 7)
    passes = []
    model.register_forward_hook(lambda *_: passes.append(1))
    trace = find_sites(model, images)
    names = [site.name for site in trace.select()][::-1]
    passes.clear()
    found = activation_maps(model, images, names, trace=trace)
    assert list(found) == names
    assert len(passes) == 1
    for name in names:
        np.testing.assert_array_equal(found[name], activation_maps(model, images, name))


def test_channels_come_first_where_the_network_has_them_last() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 2, stride=2)
            self.mix = nn.Linear(3, 5)
            self.head = nn.Linear(5, 2)

        def forward(self, x):
            return self.head(torch.relu(self.mix(self.conv(x).flatten(2).transpose(1, 2))).mean(1))

    assert activation_maps(Tokens(), torch.rand(2, 1, 4, 6), "relu").shape == (2, 5, 2, 3)


def test_an_unknown_layer_of_maps_names_close_matches() -> None:
    with pytest.raises(LayerError, match="unknown layer 'conv11'; did you mean 'conv1'"):
        activation_maps(Spelled("module"), torch.rand(1, 3, 9, 7), "conv11")


def test_a_map_sheet_scales_each_map_by_itself() -> None:
    sheet = map_sheet(np.stack([np.eye(2), 9 * np.eye(2), np.zeros((2, 2))]), size=2, columns=3)
    np.testing.assert_array_equal(sheet[:, :2], sheet[:, 4:6])
    assert (sheet[:, 8:] == (0, 0, 4)).all()
    with pytest.raises(DataError, match=r"expected \(C, h, w\)"):
        map_sheet(np.zeros(3))


# --- embeddings -------------------------------------------------------------------------------------------


def test_the_embedding_is_the_mean_of_the_last_maps_before_the_classifier() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 2)).eval()
    images = torch.rand(5, 1, 5, 5)
    labels = torch.tensor([0, 1, 0, 1, 1])
    batches = [(images[:2], labels[:2]), (images[2:], labels[2:])]
    found = embed(model, batches, progress=False)
    with torch.no_grad():
        expected = torch.relu(model[0](images)).mean((2, 3))
        predictions = model(images).argmax(1)
    np.testing.assert_allclose(found.vectors, expected.numpy(), rtol=1e-5)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.predictions, predictions)
    np.testing.assert_array_equal(found.indices, np.arange(5))
    assert found.layer == "1"
    assert embed(model, [images], "0", progress=False).labels.tolist() == [-1] * 5


def test_the_last_site_is_the_pooled_one_or_the_maps_that_a_convolution_classifies() -> None:
    class Fire(nn.Module):
        """The end of SqueezeNet: two convolutions side by side, and a third that classifies."""

        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Conv2d(3, 2, 1)
            self.three = nn.Conv2d(3, 2, 3, padding=1)
            self.last = nn.Conv2d(4, 5, 1)

        def forward(self, x):
            both = torch.cat([torch.relu(self.one(x)), torch.relu(self.three(x))], 1)
            return torch.relu(self.last(both)).mean((2, 3))

    images = torch.rand(2, 3, 6, 6)
    model = Fire()
    assert last_site(find_sites(net(), images)).name == "4"
    assert last_site(find_sites(model, images)).name == "cat"
    assert embed(model, [images], progress=False).vectors.shape == (2, 4)


def test_bad_embeddings() -> None:
    model = net()
    with pytest.raises(DataError, match="yielded no image"):
        embed(model, [], progress=False)
    with pytest.raises(LayerError, match="unknown layer 'x'"):
        embed(model, [torch.rand(1, 3, 8, 8)], "x", progress=False)
    with pytest.raises(ModelError, match="no layer before its classifier"):
        embed(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), [torch.rand(1, 1, 2, 2)], progress=False)
    images = torch.rand(3, 3, 8, 8)
    images[2, 0, 0, 0] = torch.nan
    with pytest.raises(DataError, match="image 2 makes NaN or infinite activations in layer '4'"):
        embed(model, [images], progress=False)


def test_neighbours_by_hand() -> None:
    vectors = [[0.0, 0.0], [0.0, 2.0], [1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]]
    indices, distances = nearest_images(vectors, [0, 1], k=3)
    assert indices.tolist() == [[3, 2, 4], [0, 3, 2]], "ties by row, and never the query itself"
    np.testing.assert_allclose(distances, [[0, 1, 1], [2, 2, np.sqrt(5)]])


@settings(max_examples=25, derandomize=True)
@given(n=st.integers(2, 40), seed=st.integers(0, 1000), offset=st.sampled_from([0.0, 1e4]))
def test_neighbours_are_those_of_all_pairs(n, seed, offset) -> None:
    vectors = np.random.default_rng(seed).normal(size=(n, 3)) + offset
    k = min(4, n - 1)
    _, distances = nearest_images(vectors, k=k)
    pairs = np.linalg.norm(vectors[:, None] - vectors, axis=2)
    np.fill_diagonal(pairs, np.inf)
    np.testing.assert_allclose(distances, np.sort(pairs, 1)[:, :k], rtol=1e-6, atol=1e-9 * max(1, offset))


@pytest.mark.parametrize(
    ("vectors", "options", "match"),
    [
        (np.zeros((3, 2)), {"k": 3}, "k=3 neighbours of 3 images came; expected 1 to 2"),
        (np.zeros((3, 2)), {"k": 1, "queries": [3]}, "queries reach from 3 to 3; expected rows 0 to 2"),
        (np.zeros(3), {}, r"expected \(images, dimensions\)"),
        (np.full((9, 2), np.nan), {}, "NaN or infinite"),
    ],
)
def test_bad_neighbours(vectors, options, match) -> None:
    with pytest.raises(DataError, match=match):
        nearest_images(vectors, **options)


def test_tsne_keeps_groups_apart_and_is_the_same_for_the_same_seed() -> None:
    rng = np.random.default_rng(0)
    centres = np.repeat(20 * np.eye(3, 60), 12, 0)
    vectors = centres + rng.normal(size=centres.shape)
    points = tsne(vectors, seed=3)
    assert points.shape == (36, 2)
    np.testing.assert_array_equal(points, tsne(vectors, seed=3))
    groups = np.repeat(np.arange(3), 12)
    near, _ = nearest_images(points, k=5)
    assert (groups[near] == groups[:, None]).all()


@pytest.mark.parametrize(
    ("vectors", "options", "match"),
    [
        (np.eye(4), {}, "t-SNE of 4 images came; expected at least 5"),
        (np.ones((6, 2)), {}, "all alike"),
        (np.eye(6), {"perplexity": 6}, "perplexity=6 for 6 images; expected from 1 to below 6"),
    ],
)
def test_bad_maps_of_embeddings(vectors, options, match) -> None:
    with pytest.raises(DataError, match=match):
        tsne(vectors, **options)


def test_every_picture_of_a_plane_has_a_cell_of_its_own_near_its_point() -> None:
    pictures = [np.full((3, 2, 3), v, np.uint8) for v in (10, 20, 30)]
    canvas, cells = picture_plane([[0, 0], [0, 0], [5, 5]], pictures, thumb=3)
    assert len({tuple(c) for c in cells.tolist()}) == 3
    assert cells[0, 0] > cells[2, 0], "the second axis points up"
    for value, (row, column) in zip((10, 20, 30), cells, strict=True):
        assert (canvas[3 * row : 3 * row + 3, 3 * column : 3 * column + 2] == value).all()
    with pytest.raises(DataError, match="larger than its cell of thumb=2"):
        picture_plane([[0, 0]], pictures[:1], thumb=2)
    with pytest.raises(DataError, match=r"1 pictures and points of shape \(2, 2\)"):
        picture_plane([[0, 0], [1, 1]], pictures[:1])


# --- figures ----------------------------------------------------------------------------------------------
