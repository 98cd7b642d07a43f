"""Pictures: shapes, aspect, exact pixels, blank maps, regions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from interpnet import plotting
from interpnet.errors import DataError, RunFolderError
from interpnet.plotting.style import plain

# --- pictures ---------------------------------------------------------------------------------------------


def test_enlarge_repeats_pixels_exactly():
    image = np.arange(12, dtype=np.float32).reshape(1, 3, 4) / 11
    big = plotting.enlarge(image, size=8)
    assert big.shape == (6, 8, 3)
    assert big.dtype == np.uint8
    expected = np.repeat(np.repeat(np.rint(image[0] * 255), 2, 0), 2, 1)
    np.testing.assert_array_equal(big, np.repeat(expected[..., None], 3, -1))


def test_enlarge_shrinks_by_averaging_instead_of_dropping_pixels():
    stripes = np.zeros((1, 400, 400), np.float32)
    stripes[:, :, ::2] = 1
    small = plotting.enlarge(stripes, size=100)
    assert small.shape == (100, 100, 3)
    np.testing.assert_allclose(small, 127.5, atol=1)


@pytest.mark.parametrize(
    ("channels", "expected"),
    [(1, (0.2, 0.2, 0.2)), (2, (0.3, 0.3, 0.3)), (3, (0.2, 0.4, 0.6)), (5, (0.2, 0.4, 0.6))],
)
def test_any_number_of_channels_becomes_three(channels, expected):
    image = np.stack([np.full((4, 4), 0.2 * (c + 1)) for c in range(channels)])
    got = plotting.enlarge(image, size=4)[0, 0]
    np.testing.assert_allclose(got, np.rint(np.array(expected) * 255), atol=1)


@settings(max_examples=40, derandomize=True)
@given(height=st.integers(1, 90), width=st.integers(1, 90), size=st.integers(1, 200))
def test_longer_side_has_the_size_asked_for_and_the_aspect_is_kept(height, width, size):
    picture = plotting.enlarge(np.full((1, height, width), 0.5), size=size)
    assert max(picture.shape[:2]) == size
    assert min(picture.shape[:2]) == max(1, round(min(height, width) * size / max(height, width)))
    np.testing.assert_allclose(picture, 128, atol=1)


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (np.zeros((4, 4)), r"\(C, H, W\)"),
        (np.zeros((8, 9, 3)), "looks like"),
        (np.full((3, 4, 4), 7.0), r"from 7 to 7; expected \[0, 1\]"),
        (np.full((3, 4, 4), np.nan), "NaN"),
        (np.zeros((3, 0, 4)), "shape"),
    ],
)
def test_what_is_no_image_is_refused(image, match):
    with pytest.raises(DataError, match=match):
        plotting.enlarge(image)


def test_a_zero_map_is_the_dimmed_picture_and_says_so():
    image = np.full((3, 8, 8), 0.5)
    blank = plotting.render(np.zeros((8, 8)), image, size=8)
    assert plotting.is_blank(np.zeros((8, 8)))
    np.testing.assert_allclose(blank, np.rint(0.62 * 0.5 * 255), atol=1)
    dim_too = plotting.render(np.zeros((8, 8)), size=8)
    np.testing.assert_array_equal(dim_too, np.broadcast_to((0, 0, 4), (8, 8, 3)))


@settings(max_examples=30, derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_where_the_map_is_zero_the_picture_shows_unchanged(seed):
    rng = np.random.default_rng(seed)
    image = rng.random((3, 6, 6))
    heatmap = rng.random((6, 6))
    heatmap[rng.random((6, 6)) < 0.5] = 0
    drawn = plotting.render(heatmap, image, size=6)
    blank = plotting.render(np.zeros((6, 6)), image, size=6)
    np.testing.assert_array_equal(drawn[heatmap == 0], blank[heatmap == 0])


def test_a_picture_stays_visible_under_the_strongest_value():
    image = np.zeros((1, 2, 2))
    image[0, 0] = 1
    drawn = plotting.render(np.ones((2, 2)), image, size=2).astype(int)
    assert (drawn[0] - drawn[1] >= 0).all()
    assert (drawn[0] - drawn[1]).max() >= 10


def test_own_scale_by_default_and_a_shared_one_on_request():
    weak = np.array([[0.0, 1.0]])
    strong = np.array([[0.0, 4.0]])
    np.testing.assert_array_equal(plotting.render(weak, size=2), plotting.render(strong, size=2))
    low, high = plotting.shared_scale([weak, strong])
    assert (low, high) == (0.0, 4.0)
    shared = plotting.render(weak, size=2, vmin=low, vmax=high)
    assert shared[0, 1].sum() < plotting.render(strong, size=2, vmin=low, vmax=high)[0, 1].sum()


def test_a_coarser_map_is_resampled_to_the_image():
    image = np.full((3, 20, 30), 0.5)
    assert plotting.render(np.eye(3), image, size=30).shape == (20, 30, 3)


@pytest.mark.parametrize(
    ("heatmap", "options", "match"),
    [
        (np.zeros((1, 4, 4)), {}, r"expected \(H, W\)"),
        (np.full((4, 4), np.inf), {}, "infinite"),
        (np.ones((4, 4)), {"vmin": 1.0, "vmax": 1.0}, "vmin below vmax"),
        (np.ones((4, 4)), {"cmap": "nonesuch"}, "unknown colour map 'nonesuch'"),
        (np.ones((4, 4)), {"size": 0}, "at least 1 pixel"),
    ],
)
def test_what_is_no_map_is_refused(heatmap, options, match):
    with pytest.raises(DataError, match=match):
        plotting.render(heatmap, **options)


def test_no_map_has_no_shared_scale():
    with pytest.raises(DataError, match="at least one"):
        plotting.shared_scale([])


def test_tiles_lie_in_rows_with_the_background_between():
    black = np.zeros((2, 2, 3), np.uint8)
    grid = plotting.tile([black] * 3, columns=2, pad=1, background=200)
    expected = np.array([[0, 0, 200, 0, 0]] * 2 + [[200] * 5] + [[0, 0, 200, 200, 200]] * 2, np.uint8)
    np.testing.assert_array_equal(grid, np.repeat(expected[..., None], 3, -1))


def test_no_tile_and_no_picture_are_refused():
    with pytest.raises(DataError, match="0 pictures"):
        plotting.tile([], 3)
    with pytest.raises(DataError, match="picture 0 is float64"):
        plotting.tile([np.zeros((2, 2, 3))], 3)
    with pytest.raises(DataError, match="expected uint8"):
        plotting.save_png("never.png", np.zeros((2, 2, 3)))


def test_png_comes_back_pixel_by_pixel_and_leaves_nothing_else(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    plotting.save_png(tmp_path / "deep" / "a.png", picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "deep" / "a.png")), picture)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.png"]


def test_png_in_a_place_that_is_none(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunFolderError, match="cannot write"):
        plotting.save_png(tmp_path / "file" / "a.png", np.zeros((2, 2, 3), np.uint8))


def test_labels_are_one_short_line():
    assert plain("a\nb\tc \u202ed\x07") == "a b c d"
    assert len(plain("x" * 500, 20)) == 20


def test_outline_darkens_what_lies_outside_and_draws_the_rim():
    image = np.full((1, 8, 8), 0.5)
    inside = np.zeros((8, 8), dtype=bool)
    inside[2:6, 2:6] = True
    picture = plotting.outline(image, inside, size=8)
    rim = inside.copy()
    rim[3:5, 3:5] = False
    assert (picture[3:5, 3:5] == 128).all()
    assert (picture[~inside] == int(128 * 0.4)).all()
    assert (picture[rim] == [0xD5, 0x5E, 0x00]).all()
    # Larger than the image, its pixels stay squares and the rim is two of 192 pixels wide.
    large = plotting.outline(image, inside, size=192)
    assert (large[48 + 2 : 144 - 2, 48 + 2 : 144 - 2] == 128).all()
    assert (large[48:50, 48:144] == [0xD5, 0x5E, 0x00]).all()


def test_outline_of_everything_and_of_nothing():
    image = np.full((3, 4, 4), 0.5)
    assert (plotting.outline(image, np.ones((4, 4), dtype=bool), size=4) == 128).all()
    assert (plotting.outline(image, np.zeros((4, 4), dtype=bool), size=4) == int(128 * 0.4)).all()


@pytest.mark.parametrize("inside", [np.zeros((4, 5), dtype=bool), np.zeros((4, 4)), np.zeros((1, 4, 4), dtype=bool)])
def test_outline_refuses_other_regions(inside):
    with pytest.raises(DataError, match=r"inside is .*; expected bools of shape \(4, 4\)"):
        plotting.outline(np.zeros((1, 4, 4)), inside)
