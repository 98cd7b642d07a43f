"""Patches cut by heatmaps, moved, put into another order, and holes filled: hand-made cases and slow references."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from interpnet.shortcuts._cut import Patch, anywhere, cut_by, filled, moved, quietest, reordered


def dense(image: torch.Tensor, hole: np.ndarray) -> np.ndarray:
    """Fill a hole by one equation a pixel, solved whole: each is the mean of its neighbours within the image."""
    height, width = hole.shape
    matrix = np.eye(hole.size)
    right = image.double().numpy().reshape(len(image), -1).copy()
    for y in range(height):
        for x in range(width):
            if not hole[y, x]:
                continue
            here = y * width + x
            right[:, here] = 0.0
            near = [(y + dy, x + dx) for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0))]
            near = [(v, u) for v, u in near if 0 <= v < height and 0 <= u < width]
            for v, u in near:
                matrix[here, v * width + u] -= 1 / len(near)
    return np.linalg.solve(matrix, right.T).T.reshape(image.shape)


@pytest.mark.parametrize("seed", range(4))
def test_a_hole_is_filled_as_the_equations_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(rng.normal(size=(2, 7, 6)))
    hole = rng.random((7, 6)) < 0.6  # reaches the edges, and falls apart
    np.testing.assert_allclose(filled(image, hole).numpy(), dense(image, hole), atol=1e-12)


def test_a_hole_at_the_edge_goes_on_flat_and_nothing_is_filled_where_nothing_is_known() -> None:
    line = torch.tensor([[[2.0, 9.0, 9.0]]])
    assert filled(line, np.array([[False, True, True]])).tolist() == [[[2.0, 2.0, 2.0]]]
    for hole in (np.zeros((1, 3), dtype=bool), np.ones((1, 3), dtype=bool)):
        assert filled(line, hole) is line


def test_a_patch_is_what_exceeds_half_of_the_peak_and_hangs_together_with_it() -> None:
    heatmap = np.zeros((32, 32))
    heatmap[8:12, 8:12] = 1.0
    heatmap[24:28, 24:28] = 0.9  # as strong, and elsewhere
    opacity = cut_by(heatmap)
    assert opacity[9:11, 9:11].min() > 0.9
    assert not opacity[16:, 16:].any()
    assert opacity.max() <= 1.0
    # One pixel wider than the square, with an edge of three.
    rows = np.flatnonzero(opacity.any(1))
    assert 4 <= rows[0] <= 6
    assert 13 <= rows[-1] <= 15


def test_a_patch_covers_no_more_than_a_ninth_before_its_edge() -> None:
    heatmap = np.random.default_rng(0).random((36, 36)) * 0.01 + 1.0
    assert 0 < (cut_by(heatmap) > 0.5).mean() < 1 / 4


def test_a_flat_heatmap_cuts_nothing() -> None:
    assert not cut_by(np.ones((8, 8))).any()
    assert not cut_by(np.zeros((8, 8))).any()


@pytest.mark.parametrize("seed", range(3))
def test_the_quietest_place_is_where_the_heatmap_is_lowest_under_the_patch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    heatmap = rng.random((12, 14))
    opacity = np.zeros((12, 14))
    opacity[2:5, 3:7] = rng.random((3, 4)) + 0.1
    down, across = quietest(heatmap, opacity, rng)
    window = opacity[2:5, 3:7]
    sums = {
        (y - 2, x - 3): float((heatmap[y : y + 3, x : x + 4] * window).sum())
        for y in range(10)
        for x in range(11)
        if abs(y - 2) >= 3 or abs(x - 3) >= 4
    }
    assert (down, across) == min(sums, key=lambda place: sums[place])


def test_a_patch_without_room_beside_it_stays_within_the_image() -> None:
    opacity = np.zeros((8, 8))
    opacity[1:7, 1:7] = 1.0
    rng = np.random.default_rng(0)
    for _ in range(20):
        for down, across in (quietest(np.zeros((8, 8)), opacity, rng), anywhere(opacity, rng)):
            assert -1 <= down <= 1
            assert -1 <= across <= 1


def test_equally_quiet_places_are_drawn() -> None:
    opacity = np.zeros((9, 9))
    opacity[4, 4] = 1.0
    rng = np.random.default_rng(0)
    places = {quietest(np.eye(9), opacity, rng) for _ in range(60)}
    assert len(places) > 30
    assert (0, 0) not in places


def test_pixels_under_a_patch_change_places_and_no_others() -> None:
    image = torch.arange(50.0).view(2, 5, 5)
    opacity = torch.zeros(5, 5)
    opacity[1:3, 1:4] = 0.5
    mixed = reordered(image, opacity, np.random.default_rng(0))
    under = opacity > 0
    assert torch.equal(mixed[:, ~under], image[:, ~under])
    assert not torch.equal(mixed, image)
    # Colours stay together.
    assert torch.equal(mixed[1] - mixed[0], image[1] - image[0])
    assert torch.equal(mixed[0][under].sort().values, image[0][under].sort().values)


def test_a_patch_on_another_image_computed_by_hand() -> None:
    image = torch.zeros(1, 1, 6)
    image[0, 0, 1], image[0, 0, 4] = 8.0, 2.0
    opacity = torch.tensor([[0.0, 0.5, 0.0, 0.0, 0.0, 0.0]])
    patch = Patch(0, image, opacity, (0, 3))
    other = torch.ones(1, 1, 6)
    on, quiet, mixed, aside = patch.ways_on(other, np.random.default_rng(0))
    assert on[0, 0].tolist() == [1.0, 4.5, 1.0, 1.0, 1.0, 1.0]
    assert quiet[0, 0].tolist() == [1.0, 1.5, 1.0, 1.0, 1.0, 1.0]  # what lies three columns on, at the same place
    assert torch.equal(mixed, on)  # a single pixel has one order
    assert sorted(aside[0, 0].tolist()) == [1.0, 1.0, 1.0, 1.0, 1.0, 4.5]
    emptied, elsewhere = patch.without()
    assert emptied[0, 0].tolist() == [0.0, 4.0, 0.0, 0.0, 2.0, 0.0]  # half of 8 and half of its neighbours' 0
    assert elsewhere[0, 0].tolist() == [0.0, 8.0, 0.0, 0.0, 1.0, 0.0]


def test_what_leaves_comes_back_opposite() -> None:
    assert moved(torch.arange(6.0).view(2, 3), (1, 1)).tolist() == [[5.0, 3.0, 4.0], [2.0, 0.0, 1.0]]
