"""IoU-AUC and the pointing game: by hand, against their definitions pixel by pixel, and against Quantus."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interpnet.errors import DataError, InterpNetError
from interpnet.evaluate import Score, iou_auc, measures, pointing_game
from interpnet.evaluate._score import measure

CORNER = torch.tensor([[[True, False], [False, False]]])


def naive_iou(heatmap: np.ndarray, mask: np.ndarray, thresholds: list[float]) -> list[float]:
    """The definition: threshold by threshold, set by set."""
    low = float(heatmap.min())
    high = float(heatmap.max())
    pixels = [(i, j) for i in range(mask.shape[0]) for j in range(mask.shape[1])]
    inside = {p for p in pixels if mask[p]}
    curve = []
    for t in thresholds:
        chosen = {p for p in pixels if (float(heatmap[p]) - low) / (high - low) >= t}
        curve.append(len(chosen & inside) / len(chosen | inside))
    return curve


def naive_area(curve: list[float], at: list[float]) -> float:
    return math.fsum((b - a) * (u + v) / 2 for a, b, u, v in zip(at, at[1:], curve, curve[1:], strict=False))


def naive_pointing(heatmap: np.ndarray, mask: np.ndarray, tolerance: float) -> float:
    tops = np.argwhere(heatmap == heatmap.max())
    inside = np.argwhere(mask)
    hits = [min(math.dist(p, q) for q in inside) <= tolerance for p in tops]
    return sum(hits) / len(hits)


def some(seed: int, batch: int, height: int, width: int, levels: int = 0) -> tuple[Tensor, Tensor]:
    """Maps with ties (``levels`` values) or without, and masks that are neither empty nor full."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(batch, height, width, generator=generator)
    if levels:
        maps = torch.randint(levels, (batch, height, width), generator=generator).float()
        maps[:, 0, 0] = -1.0
        maps[:, -1, -1] = float(levels)
    masks = torch.rand(batch, height, width, generator=generator) < 0.3
    masks[:, 0, 0] = False
    masks[:, -1, -1] = True
    return maps, masks


def test_iou_by_hand() -> None:
    heatmap = torch.tensor([[[4.0, 3.0], [1.0, 0.0]]])  # normalised: 1, 0.75, 0.25, 0
    score = iou_auc(heatmap, CORNER)
    assert score.curve is not None
    assert score.thresholds is not None
    assert score.curve.shape == (1, 101)
    # t = 0: all four; 0.01 .. 0.25: three; 0.26 .. 0.75: two; 0.76 .. 1: the maximum alone.
    expected = [1 / 4] + [1 / 3] * 25 + [1 / 2] * 50 + [1.0] * 25
    assert score.curve[0].tolist() == expected
    assert score.thresholds.tolist() == [k / 100 for k in range(101)]
    area = 0.01 * ((1 / 4 + 1) / 2 + 25 / 3 + 50 / 2 + 24)
    assert score.values.item() == pytest.approx(area, rel=1e-12)
    coarse = iou_auc(heatmap, CORNER, thresholds=[0.25, 0.5, 1.0])
    assert coarse.curve is not None
    assert coarse.curve.tolist() == [[1 / 3, 1 / 2, 1.0]]
    assert coarse.mean == pytest.approx(0.25 * 5 / 12 + 0.5 * 0.75)


def test_the_ends_of_the_curve() -> None:
    maps, masks = some(0, 3, 5, 7)
    curve = iou_auc(maps, masks, thresholds=2).curve
    assert curve is not None
    share = masks.flatten(1).double().mean(1)
    torch.testing.assert_close(curve[:, 0], share, rtol=0, atol=0)  # every pixel is >= 0
    top = maps == maps.amax((1, 2), keepdim=True)
    one = (top & masks).flatten(1).sum(1).double() / (top | masks).flatten(1).sum(1)
    torch.testing.assert_close(curve[:, 1], one, rtol=0, atol=0)  # the maximum alone


@pytest.mark.parametrize("levels", [0, 5])
@pytest.mark.parametrize("shape", [(2, 2), (3, 5), (8, 6)])
def test_iou_is_the_definition_exactly(levels: int, shape: tuple[int, int]) -> None:
    maps, masks = some(1, 4, *shape, levels=levels)
    at = [k / 100 for k in range(101)]
    score = iou_auc(maps, masks)
    assert score.curve is not None
    for i in range(4):
        reference = naive_iou(maps[i].double().numpy(), masks[i].numpy(), at)
        assert score.curve[i].tolist() == reference
        assert score.values[i].item() == pytest.approx(naive_area(reference, at), rel=1e-12)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(2, 9), st.integers(0, 6))
def test_iou_properties(seed: int, height: int, width: int, levels: int) -> None:
    maps, masks = some(seed, 3, height, width, levels)
    score = iou_auc(maps, masks)
    assert bool(((score.values >= 0) & (score.values <= 1)).all())

    # Any positive affine map of the values; powers of two and whole numbers keep the arithmetic exact.
    exact = iou_auc(maps.double() * 8 - (16 if levels else 0), masks)
    assert torch.equal(exact.values, score.values)
    if not levels:
        torch.testing.assert_close(iou_auc(maps.double() * 0.37 + 5.1, masks).values, score.values, rtol=0, atol=1e-12)

    # The map that is the mask, and its inverse: the values that the docstring states.
    share = masks.flatten(1).double().mean(1)
    torch.testing.assert_close(iou_auc(masks.float(), masks).values, 1 - 0.005 * (1 - share))
    torch.testing.assert_close(iou_auc(1 - masks.float(), masks).values, 0.005 * share)

    alone = torch.cat([iou_auc(maps[i : i + 1], masks[i : i + 1]).values for i in range(3)])
    assert torch.equal(alone, score.values)


def test_a_constant_map_is_refused_or_counted() -> None:
    maps, masks = some(2, 3, 4, 4)
    maps[1] = 7.0
    with pytest.raises(DataError, match="heatmaps: the map of image 1 is constant"):
        iou_auc(maps, masks)
    score = iou_auc(maps, masks, constant="zero")
    assert score.flagged is not None
    assert score.flagged.tolist() == [False, True, False]
    # A map of zeros: every pixel at t = 0, none at the others.
    assert score.values[1].item() == pytest.approx(0.005 * masks[1].double().mean().item())


def test_pointing_by_hand() -> None:
    maps = torch.zeros(4, 3, 3)
    maps[0, 0, 0] = 1.0  # on the mask
    maps[1, 0, 1] = 1.0  # one pixel beside it
    maps[2, 1, 1] = 1.0  # at the distance sqrt(2)
    maps[3, 0, 0] = maps[3, 2, 2] = maps[3, 2, 0] = 1.0  # a tie of three, one on the mask
    masks = torch.zeros(4, 3, 3, dtype=torch.bool)
    masks[:, 0, 0] = True
    for tolerance, expected in ((0, [1, 0, 0, 1 / 3]), (1, [1, 1, 0, 1 / 3]), (1.5, [1, 1, 1, 1 / 3]), (2, [1] * 3)):
        values = pointing_game(maps, masks, tolerance=tolerance).values.tolist()
        assert values[: len(expected)] == expected
    assert pointing_game(maps, masks, tolerance=2).values[3].item() == 2 / 3
    assert pointing_game(maps, masks, tolerance=1e6).values.tolist() == [1.0] * 4


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 2.3, 4])
def test_pointing_is_the_definition(tolerance: float) -> None:
    maps, masks = some(3, 12, 7, 9, levels=4)
    maps[:, -1, -1] = 3.0  # ties at the top
    masks &= torch.rand(masks.shape) < 0.2
    masks[:, 3, 4] = True
    values = pointing_game(maps, masks, tolerance=tolerance).values
    expected = [naive_pointing(h.numpy(), m.numpy(), tolerance) for h, m in zip(maps, masks, strict=True)]
    np.testing.assert_array_equal(values.numpy(), expected)
    assert len(set(expected)) > 1


def test_a_constant_map_points_as_chance_does() -> None:
    masks = torch.zeros(1, 4, 4, dtype=torch.bool)
    masks[0, 1, :3] = True
    score = pointing_game(torch.ones(1, 4, 4), masks, constant="zero")
    assert score.values.item() == 3 / 16
    assert score.flagged is not None
    assert score.flagged.tolist() == [True]


def test_scores_carry_what_they_mean(device: str) -> None:
    maps, masks = (t.to(device) for t in some(4, 2, 6, 6))
    for score in (iou_auc(maps, masks.float()), pointing_game(maps, masks.to(torch.uint8))):
        assert isinstance(score, Score)
        assert score.values.dtype == torch.float64
        assert score.values.device.type == device
        assert score.direction == "higher is better"
        assert score.range == (0.0, 1.0)
        assert score.reference == measure(score.name).reference
        assert score.mean == pytest.approx(score.values.mean().item())
    names = [m.name for m in measures()]
    assert len(names) == len(set(names))
    with pytest.raises(InterpNetError, match="unknown measure 'iou'; did you mean"):
        measure("iou")


def bad(change: str) -> tuple[Any, Any]:
    maps, masks = some(5, 3, 4, 4)
    if change == "nan":
        maps[2, 0, 0] = math.nan
    if change == "inf":
        maps[[0, 2], 0, 0] = math.inf
    if change == "empty":
        masks[1] = False
    if change == "full":
        masks[0] = True
    if change == "values":
        return maps, masks.float() * 255
    if change == "array":
        return maps.numpy(), masks
    if change == "integers":
        return maps.long(), masks
    if change == "one map":
        return maps[0], masks[0]
    if change == "shape":
        return maps, masks[:, :3]
    if change == "mask array":
        return maps, masks.numpy()
    return maps, masks


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("nan", "heatmaps: NaN or infinity in image 2;"),
        ("inf", "heatmaps: NaN or infinity in images 0, 2;"),
        ("empty", "masks: the mask of image 1 is empty"),
        ("full", "masks: the mask of image 0 is full"),
        ("values", "masks: values other than 0 and 1 in images 0, 1, 2; pass a mask of bool"),
        ("array", r"heatmaps: a ndarray came; expected a tensor \(B, H, W\)"),
        ("integers", r"heatmaps: shape \(3, 4, 4\), torch.int64 came; expected floating-point maps"),
        ("one map", r"heatmaps: shape \(4, 4\), torch.float32 came"),
        ("shape", r"masks: shape \(3, 3, 4\) came for heatmaps \(3, 4, 4\)"),
        ("mask array", "masks: a ndarray came"),
    ],
)
def test_bad_maps_and_masks(change: str, message: str) -> None:
    maps, masks = bad(change)
    for measured in (iou_auc, pointing_game):
        with pytest.raises(DataError, match=message):
            measured(maps, masks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thresholds": [0.0, 0.5, 1.2]}, r"thresholds: 1.2 is outside \[0, 1\]"),
        ({"thresholds": [-0.1, 0.5]}, r"thresholds: -0.1 is outside \[0, 1\]"),
        ({"thresholds": [0.5, math.nan]}, r"thresholds: nan is outside \[0, 1\]"),
        ({"thresholds": [0.5, 0.5]}, "thresholds do not increase"),
        ({"thresholds": [0.5]}, r"thresholds: shape \(1,\) came; expected a list of at least 2"),
        ({"thresholds": 1}, "thresholds is 1; expected a whole number of at least 2"),
        ({"thresholds": "many"}, "thresholds='many'; expected a count or numbers"),
        ({"constant": "skip"}, "constant is 'skip'; expected 'error' or 'zero'"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    maps, masks = some(6, 2, 4, 4)
    with pytest.raises(InterpNetError, match=message):
        iou_auc(maps, masks, **options)


@pytest.mark.parametrize("tolerance", [-1, math.inf, math.nan, "near", True])
def test_bad_tolerance(tolerance: Any) -> None:
    maps, masks = some(7, 2, 4, 4)
    with pytest.raises(InterpNetError, match=r"tolerance=.*; expected a number of pixels from 0 on"):
        pointing_game(maps, masks, tolerance=tolerance)


def test_pointing_agrees_with_quantus() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantus = pytest.importorskip("quantus")
        maps, masks = some(8, 20, 6, 6)
        game = quantus.PointingGame(disable_warnings=True, display_progressbar=False, abs=False, normalise=False)
        found = game(
            model=torch.nn.Flatten(),
            x_batch=np.zeros((20, 1, 6, 6), dtype=np.float32),
            y_batch=np.zeros(20, dtype=np.int64),
            a_batch=maps.numpy()[:, None],
            s_batch=masks.numpy()[:, None],
        )
    assert "quantus" in sys.modules
    ours = pointing_game(maps, masks).values
    assert 0 < ours.mean() < 1
    np.testing.assert_array_equal(np.ravel(found).astype(float), ours.numpy())


def test_measures_alone_do_not_load_the_attribution_methods() -> None:
    code = "import sys, interpnet.evaluate; print([m for m in sys.modules if m.startswith('interpnet.attribution')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
