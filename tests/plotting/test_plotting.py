"""Pictures: shapes, aspect, exact pixels, blank maps; figures: drawn from results and from JSON, safe labels."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from helpers.report_fixture import ablation, class_names, interpretation
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from interpnet import plotting
from interpnet.ablation import as_result, mean_change, others_change
from interpnet.errors import DataError, InterpNetError, RunFolderError
from interpnet.plotting.style import plain

RNG_SEED = 5


def study(count: int = 10) -> dict:
    rng = np.random.default_rng(RNG_SEED)
    return ablation(interpretation(class_names(count), rng), rng)


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


@settings(max_examples=40, deadline=None, derandomize=True)
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


@settings(max_examples=30, deadline=None, derandomize=True)
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


# --- figures ----------------------------------------------------------------------------------------------


def texts(figure: Figure) -> list[str]:
    from matplotlib.text import Text

    return [t.get_text() for t in figure.findobj(Text)]


def drawn(figure: Figure, path) -> Figure:
    """Draw it for real: layout and labels are only made then."""
    figure.savefig(path / "figure.png", dpi=50)
    assert (path / "figure.png").stat().st_size > 2000
    return figure


# Letters the drawing font lacks are boxes in a PNG, and said so by matplotlib.
lacks_letters = pytest.mark.filterwarnings("ignore:Glyph", "ignore:Matplotlib currently does not support")


@lacks_letters
def test_ablation_figures_name_axes_and_conditions(tmp_path):
    result = study()
    figure = drawn(plotting.plot_ablation(result), tmp_path)
    left, right = figure.axes
    assert left.get_xlabel() == "mean recall of the class itself"
    assert right.get_xlabel() == "change in the others' mean recall"
    mean = as_result(result).condition("relevant").mean_own()
    assert f"{mean:.2f}" in texts(figure)
    assert "relevant (named by InterpNet)" in texts(figure)


@lacks_letters
def test_a_change_of_almost_nothing_is_no_negative_zero():
    data = study(2)
    entry = {"name": "random", "layers": "all", "removed": [1, 1], "own": [[0.5, 0.5]], "others": [[0.799, 0.799]]}
    figure = plotting.plot_ablation({**data, "intact": [0.8, 0.8], "conditions": [entry]})
    assert "0.00" in texts(figure)
    assert not {"-0.00", "−0.00", "+0.00"} & set(texts(figure))


@lacks_letters
def test_a_result_and_its_json_give_the_same_figure():
    data = study()
    one = plotting.plot_ablation(data)
    two = plotting.plot_ablation(as_result(data))
    assert texts(one) == texts(two)


@lacks_letters
def test_curve_marks_every_k_and_the_band_is_the_interval(tmp_path):
    figure = drawn(plotting.plot_ablation_curve(study()), tmp_path)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel().startswith("channels removed")
    assert {"1", "2", "4", "8"} <= {t.get_text() for t in axes.get_xticklabels()}


def test_a_study_without_curve_or_relevant_channels_is_refused():
    with pytest.raises(InterpNetError, match="curve=True"):
        plotting.plot_ablation_curve({**study(), "curve": None})
    with pytest.raises(InterpNetError, match="lacks the condition 'relevant'"):
        plotting.plot_class_recall({**study(), "conditions": []})


@lacks_letters
@pytest.mark.parametrize("count", [2, 10, 60])
def test_class_figure_shows_names_as_text_and_at_most_forty(count, tmp_path):
    figure = drawn(plotting.plot_class_recall(study(count)), tmp_path)
    labels = figure.axes[0].get_yticklabels()
    assert len(labels) == min(count, 40)
    assert all(not label.get_parse_math() for label in labels)
    if count == 10:
        assert "no test images" in texts(figure)
        assert labels[0].get_text() == "<script>alert(1)</script>"


@pytest.mark.parametrize("layers", [1, 5, 150])
def test_layer_figure_is_readable_for_few_and_for_many(layers, tmp_path):
    shares = np.random.default_rng(0).dirichlet(np.ones(layers), 3)
    shares[2] = 0
    names = [f"layer{i}.conv.relu:1" for i in range(layers)]
    figure = drawn(
        plotting.plot_layer_relevance(shares, names, ["a", "b", "c"], expected=np.full(layers, 1 / layers)), tmp_path
    )
    bars = figure.axes[0]
    widths = np.array([bar.get_width() for bar in bars.patches])
    np.testing.assert_allclose(widths, shares[:2].mean(0))
    height = figure.get_size_inches()[1]
    assert height <= 11
    assert height / len(bars.get_yticks()) >= 0.15


def test_shares_of_another_shape_are_refused():
    with pytest.raises(InterpNetError, match=r"expected \(2, 1\)"):
        plotting.plot_layer_relevance(np.ones((1, 2)), ["a"], ["x", "y"])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: d.pop("intact"), "lacks 'intact'"),
        (lambda d: d["conditions"][0].update(own=[[0.5]]), r"own of 'relevant' has shape \(1, 1\)"),
        (lambda d: d.update(support=[1]), r"support has shape \(1,\)"),
        (lambda d: d.update(intact="none"), "cannot be read"),
        (lambda d: d.update(format="other"), "no ablation result"),
    ],
)
def test_a_damaged_study_is_named(change, match):
    data = study()
    change(data)
    with pytest.raises(InterpNetError, match=match):
        as_result(data)
    with pytest.raises(InterpNetError, match="got list"):
        as_result([])


def test_change_of_the_others_by_hand():
    entry = {
        "name": "random",
        "layers": "all",
        "removed": [1, 1],
        "own": [[0, 0]] * 2,
        "others": [[0.5, 0.7], [0.3, 0.7]],
    }
    data = {**study(2), "intact": [0.8, 0.6], "conditions": [entry]}
    result = as_result(data)
    condition = result.conditions[0]
    np.testing.assert_allclose(others_change(result, condition), [[-0.1, -0.1], [-0.3, -0.1]])
    mean, (low, high) = mean_change(result, condition)
    # Repeats' means are -0.1 and -0.2: mean -0.15, half width t(1, 97.5 %) * 0.0707 / sqrt(2).
    assert mean == pytest.approx(-0.15)
    assert (low, high) == pytest.approx((-0.15 - 12.7062 * 0.05, -0.15 + 12.7062 * 0.05), abs=1e-4)


def test_labels_are_one_short_line():
    assert plain("a\nb\tc \u202ed\x07") == "a b c d"
    assert len(plain("x" * 500, 20)) == 20


def test_no_chart_and_no_picture_loads_torch():
    """A report is made again without torch."""
    code = (
        "import sys, numpy as np; from interpnet import plotting; plotting.render(np.eye(3), np.ones((1, 3, 3)));"
        "plotting.plot_layer_relevance(np.ones((1, 1)), ['a'], ['x']); plotting.plot_ablation, plotting.plot_mu_curve;"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


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
