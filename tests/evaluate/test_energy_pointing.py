"""The energy pointing game, and boxes in place of masks: by hand, against loops in float64, and what is refused."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from interpnet.errors import DataError
from interpnet.evaluate import energy_pointing, iou_auc, pointing_game
from interpnet.support.boxes import inside_boxes


def naive_energy(heatmap: np.ndarray, mask: np.ndarray) -> float:
    pixels = [(i, j) for i in range(mask.shape[0]) for j in range(mask.shape[1])]
    within = math.fsum(max(float(heatmap[p]), 0.0) for p in pixels if mask[p])
    return within / math.fsum(max(float(heatmap[p]), 0.0) for p in pixels)


def test_energy_by_hand() -> None:
    # Of 6 + 2 above zero, 6 lie in the left column; what is below zero does not count.
    heatmap = torch.tensor([[[6.0, 2.0], [-7.0, -1.0]]])
    left = torch.tensor([[[True, False], [True, False]]])
    score = energy_pointing(heatmap, left)
    assert score.values.tolist() == [0.75]
    assert score.range == (0.0, 1.0)
    assert score.direction == "higher is better"
    assert energy_pointing(heatmap, ~left).values.tolist() == [0.25]
    huge = torch.tensor([[[12.0, 4.0], [0.0, 0.0]]], dtype=torch.float64) * 2.0**1020
    assert math.isinf(huge.sum())
    assert energy_pointing(huge, left).mean == pytest.approx(0.75)


def test_energy_is_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(20, 5, 7, generator=generator)
    masks = torch.rand(20, 5, 7, generator=generator) < 0.4
    masks[:, 0, 0] = True
    masks[:, 1, 1] = False
    expected = [naive_energy(h.double().numpy(), m.numpy()) for h, m in zip(maps, masks, strict=True)]
    np.testing.assert_allclose(energy_pointing(maps, masks).values.numpy(), expected, rtol=1e-13)


def test_maps_without_energy_are_refused_or_flagged() -> None:
    maps = torch.tensor([[[1.0, 3.0]], [[-1.0, -2.0]], [[2.0, 2.0]], [[0.0, 0.0]]])
    masks = torch.tensor([[[False, True]]] * 4)
    with pytest.raises(DataError, match="heatmaps: the map of images 2, 3 is constant"):
        energy_pointing(maps, masks)
    with pytest.raises(DataError, match="heatmaps: the map of image 1 has no positive value"):
        energy_pointing(maps[:2], masks[:2])
    score = energy_pointing(maps, masks, constant="zero")
    assert score.values.tolist() == [0.75, 0.0, 0.5, 0.0]
    assert score.flagged is not None
    assert score.flagged.tolist() == [False, True, True, True]


def test_boxes_hold_the_pixels_whose_middles_they_hold() -> None:
    boxes = np.array([[0.0, 0.0, 2.0, 1.0], [0.6, 0.4, 2.5, 2.0], [-9.0, 1.0, 99.0, 99.0]])
    assert inside_boxes(boxes, 2, 3).astype(int).tolist() == [
        [[1, 1, 0], [0, 0, 0]],
        [[0, 1, 0], [0, 1, 0]],  # 0.5 is left of 0.6; 2.5 is not below 2.5
        [[0, 0, 0], [1, 1, 1]],
    ]


@pytest.mark.parametrize("measured", [iou_auc, pointing_game, energy_pointing])
def test_boxes_are_masks(measured: Any) -> None:
    maps = torch.rand(2, 6, 8, generator=torch.Generator().manual_seed(1))
    masks = torch.zeros(2, 6, 8, dtype=torch.bool)
    masks[0, 1:4, 2:7] = True
    masks[1, :3, :5] = True
    boxes = [[2, 1, 7, 4], [-3, -1, 5, 3]]
    expected = measured(maps, masks).values
    for given in (boxes, np.array(boxes), torch.tensor(boxes), torch.tensor(boxes).to(torch.bfloat16)):
        assert torch.equal(measured(maps, boxes=given).values, expected)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[0, 0, 2, 2], [9, 0, 12, 4]], "boxes: the box of image 1 is empty"),
        ([[3, 0, 1, 2], [0, 0, 2, 2]], "boxes: the box of image 0 is empty; .* left, top, right, bottom"),
        ([[0, 0, 2, 2], [-1, 0, 4, 4]], "boxes: the box of image 1 is full"),
        ([[0, 0, 2, 2]], "boxes: 1 came for 2 heatmaps; expected one an image"),
        ([[0, 0, 2], [0, 0, 2]], r"boxes: shape \(2, 3\) came; expected \(images, 4\) finite numbers"),
        ([[0, 0, 2, math.inf]] * 2, r"boxes: shape \(2, 4\) came; expected \(images, 4\) finite numbers"),
        (None, "neither masks nor boxes came"),
    ],
)
@pytest.mark.parametrize("measured", [iou_auc, pointing_game, energy_pointing])
def test_boxes_that_do_not_fit(measured: Any, boxes: Any, message: str) -> None:
    maps = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(2))
    with pytest.raises(DataError, match=message):
        measured(maps, boxes=boxes)


def test_masks_and_boxes_are_one_too_many() -> None:
    maps = torch.rand(1, 2, 2, generator=torch.Generator().manual_seed(3))
    with pytest.raises(DataError, match="masks and boxes came; expected one of them"):
        energy_pointing(maps, torch.eye(2, dtype=torch.bool)[None], boxes=[[0, 0, 1, 1]])


def test_energy_agrees_with_quantus() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantus = pytest.importorskip("quantus")
        generator = torch.Generator().manual_seed(4)
        maps = torch.rand(20, 6, 6, generator=generator).double()
        masks = torch.rand(20, 6, 6, generator=generator) < 0.3
        mass = quantus.RelevanceMassAccuracy(
            disable_warnings=True, display_progressbar=False, abs=False, normalise=False
        )
        # What Arras et al. 2022 call mass accuracy, of maps without negative values.
        found = mass(
            model=torch.nn.Flatten(),
            x_batch=np.zeros((20, 1, 6, 6), dtype=np.float32),
            y_batch=np.zeros(20, dtype=np.int64),
            a_batch=maps.numpy()[:, None],
            s_batch=masks.numpy()[:, None],
        )
    np.testing.assert_allclose(energy_pointing(maps, masks).values.numpy(), np.ravel(found), rtol=1e-12)
