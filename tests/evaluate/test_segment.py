"""Weakly supervised segmentation: by hand, against sets of pixels in float64, and no image in its own threshold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from interpnet.errors import DataError, InterpNetError
from interpnet.evaluate import iou_auc, segment

AT = [k / 100 for k in range(101)]


def some(seed: int, batch: int = 9, height: int = 5, width: int = 6) -> tuple[Tensor, Tensor]:
    """Maps that are high where the masks are, each image with a contrast of its own."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(batch, height, width, generator=generator) < 0.4
    masks[:, 0, 0] = True
    masks[:, -1, -1] = False
    contrast = torch.rand(batch, 1, 1, generator=generator) * 3
    return torch.randn(batch, height, width, generator=generator) + contrast * masks, masks


def naive(heatmap: np.ndarray, mask: np.ndarray, t: float) -> tuple[float, float, float]:
    """IoU, precision and recall of sets of pixels."""
    low, high = float(heatmap.min()), float(heatmap.max())
    pixels = [(i, j) for i in range(mask.shape[0]) for j in range(mask.shape[1])]
    marked = {p for p in pixels if (float(heatmap[p]) - low) / (high - low) >= t}
    there = {p for p in pixels if mask[p]}
    return (
        len(marked & there) / len(marked | there),
        len(marked & there) / len(marked),
        len(marked & there) / len(there),
    )


def naive_best(maps: np.ndarray, masks: np.ndarray, images: list[int]) -> float:
    means = [math.fsum(naive(maps[i], masks[i], t)[0] for i in images) / len(images) for t in AT]
    best = [t for t, mean in zip(AT, means, strict=True) if mean > max(means) - 1e-9]
    return best[(len(best) - 1) // 2]


def test_segment_by_hand() -> None:
    # Normalised: 1, 0.75, 0.25, 0. At 0.5: the first two; of the mask's three pixels.
    heatmap = torch.tensor([[[8.0, 6.0], [2.0, 0.0]]])
    mask = torch.tensor([[[True, False], [True, True]]])
    found = segment(heatmap, mask, threshold=0.5)
    assert found.marked.tolist() == [[[True, True], [False, False]]]
    assert found.iou.values.tolist() == [1 / 4]
    assert found.precision.values.tolist() == [1 / 2]
    assert found.recall.values.tolist() == [1 / 3]
    assert found.thresholds.tolist() == [0.5]
    assert found.folds is None
    assert found.iou.controls["everywhere"].values.tolist() == [3 / 4]
    assert found.precision.controls["everywhere"].values.tolist() == [3 / 4]
    assert found.recall.controls["everywhere"].values.tolist() == [1.0]
    assert found.threshold == 0.0  # all pixels overlap best, which is of use for other images
    assert all(math.isnan(end) for end in found.iou.interval())


def test_segment_is_the_definition() -> None:
    maps, masks = some(0)
    fold = [0, 0, 1, 1, 1, 2, 2, 0, 5]
    found = segment(maps, masks, folds=fold)
    assert found.folds is not None
    assert found.folds.tolist() == fold
    wide, inside = maps.double().numpy(), masks.numpy()
    for i in range(9):
        t = naive_best(wide, inside, [j for j in range(9) if fold[j] != fold[i]])
        assert found.thresholds[i].item() == t
        values = [score.values[i].item() for score in (found.iou, found.precision, found.recall)]
        assert values == list(naive(wide[i], inside[i], t))
    assert len(set(found.thresholds.tolist())) > 1
    assert found.threshold == naive_best(wide, inside, list(range(9)))
    assert found.iou.curve is not None
    assert torch.equal(found.iou.curve, iou_auc(maps, masks).curve)


@pytest.mark.parametrize("i", [0, 4])
def test_no_image_has_a_say_in_its_own_threshold(i: int) -> None:
    maps, masks = some(1)
    before = segment(maps, masks, folds=3, seed=7)
    assert before.folds is not None
    together = before.folds == before.folds[i]
    assert together.sum() == 3
    masks = masks.clone()
    masks[i] = ~masks[i]
    after = segment(maps, masks, folds=3, seed=7)
    assert torch.equal(after.thresholds[together], before.thresholds[together])
    assert not torch.equal(after.iou.values[i], before.iou.values[i])


def test_folds_are_drawn() -> None:
    maps, masks = some(2, batch=4)
    few = segment(maps, masks).folds  # five of four images: one each
    assert few is not None
    assert sorted(few.tolist()) == [0, 1, 2, 3]
    maps, masks = some(2, batch=11)
    drawn = {tuple(segment(maps, masks, seed=seed).folds.tolist()) for seed in (0, 0, 1)}  # type: ignore[union-attr]
    assert len(drawn) == 2
    assert all(sorted(np.bincount(fold)) == [2, 2, 2, 2, 3] for fold in drawn)


def test_a_map_that_is_its_mask_is_right() -> None:
    _, masks = some(3)
    found = segment(masks.float(), masks)
    assert found.thresholds.tolist() == [0.5] * 9  # of 0.01 to 1 the middle one
    for score in (found.iou, found.precision, found.recall):
        assert score.values.tolist() == [1.0] * 9
        assert score.interval() == (1.0, 1.0)


def test_the_interval_is_students() -> None:
    maps, masks = some(4, batch=3)
    values = segment(maps, masks, threshold=0.6).iou.values.numpy()
    half = 4.302652729911275 * values.std(ddof=1) / math.sqrt(3)  # t of 2 degrees of freedom at 0.975
    low, high = segment(maps, masks, threshold=0.6).iou.interval()
    assert low == pytest.approx(max(0.0, values.mean() - half))
    assert high == pytest.approx(min(1.0, values.mean() + half))


def test_the_difference_of_two_maps_is_paired() -> None:
    maps, masks = some(4, batch=3)
    one, other = segment(maps, masks, threshold=0.6), segment(maps.flip(2), masks, threshold=0.6)
    less = (one.iou.values - other.iou.values).numpy()
    half = 4.302652729911275 * less.std(ddof=1) / math.sqrt(3)
    low, high = one.iou.interval(against=other.iou)
    assert low == pytest.approx(max(-1.0, less.mean() - half))
    assert high == pytest.approx(min(1.0, less.mean() + half))
    assert one.iou.interval(against=one.iou) == (0.0, 0.0)
    with pytest.raises(InterpNetError, match="against: segment_recall of 3 images came, and segment_iou of 3 is"):
        one.iou.interval(against=other.recall)
    with pytest.raises(InterpNetError, match="against: segment_iou of 2 images came, and segment_iou of 3 is"):
        one.iou.interval(against=segment(maps[:2], masks[:2], threshold=0.6).iou)


def test_segments_follow_edges_by_hand() -> None:
    # Means of the columns' pairs: 3, 1. The one high pixel marks its whole segment, the noise outside does not.
    heatmap = torch.tensor([[[6.0, 0.0, 2.0, 0.0]]])
    labels = torch.tensor([[7, 7, -1, -1]])
    mask = torch.tensor([[[True, True, False, False]]])
    plain = segment(heatmap, mask, threshold=0.3)
    assert plain.marked.tolist() == [[[True, False, True, False]]]
    for given in (labels, labels[None], labels.to(torch.int16)):
        found = segment(heatmap, mask, threshold=0.3, segments=given)
        assert found.marked.tolist() == [[[True, True, False, False]]]
        assert found.iou.values.tolist() == [1.0]


def test_segments_are_each_images_own() -> None:
    maps, masks = some(5)
    labels = torch.randint(4, maps.shape, generator=torch.Generator().manual_seed(6))
    found = segment(maps, masks, threshold=0.4, segments=labels)
    for i in range(len(maps)):
        own = maps[i].double().numpy().copy()
        for one in range(4):
            where = labels[i].numpy() == one
            own[where] = math.fsum(own[where].tolist()) / where.sum()
        assert found.iou.values[i].item() == naive(own, masks[i].numpy(), 0.4)[0]
    every = torch.arange(30).view(5, 6)  # each pixel its own: nothing changes
    assert torch.equal(segment(maps, masks, segments=every).iou.values, segment(maps, masks).iou.values)


def test_maps_without_an_order_are_refused_or_flagged() -> None:
    maps, masks = some(7, batch=3)
    maps[1] = 4.0
    with pytest.raises(DataError, match="heatmaps: the map of image 1 is constant"):
        segment(maps, masks)
    found = segment(maps, masks, constant="zero", threshold=0.5)
    for score in (found.iou, found.precision, found.recall):
        assert score.values[1].item() == 0.0
        assert score.flagged is not None
        assert score.flagged.tolist() == [False, True, False]
    maps, masks = some(7, batch=3)
    maps[2, :, 3:] = maps[2, :, :3].flip(0)
    halves = (torch.arange(6) > 2).long().expand(5, 6)
    with pytest.raises(DataError, match="segments: the map of image 2 has the same mean in every segment"):
        segment(maps, masks, segments=halves)
    found = segment(maps, masks, segments=halves, constant="zero")
    assert found.iou.flagged is not None
    assert found.iou.flagged.tolist() == [False, False, True]


def test_boxes_stand_in_for_masks() -> None:
    maps, masks = some(8, batch=3)
    masks[:] = False
    masks[:, 1:4, 2:5] = True
    by_box = segment(maps, boxes=[[2, 1, 5, 4]] * 3)
    assert torch.equal(by_box.iou.values, segment(maps, masks).iou.values)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"boxes": [[9, 9, 12, 12]] * 3}, DataError, "boxes: the box of images 0, 1, 2 is empty"),
        ({"boxes": [[0, 0, 6, 5]] * 3}, DataError, "boxes: the box of images 0, 1, 2 is full"),
        ({"masks": torch.zeros(3, 5, 6, dtype=torch.bool)}, DataError, "the mask of images 0, 1, 2 is empty"),
        ({"masks": torch.ones(3, 5, 6, dtype=torch.bool)}, DataError, "the mask of images 0, 1, 2 is full"),
        ({"folds": 1}, InterpNetError, "folds is 1; expected a whole number of at least 2"),
        ({"folds": [0, 0, 0]}, InterpNetError, "folds: all images are in one; expected at least two"),
        ({"folds": [0, 1]}, InterpNetError, r"folds: shape \(2,\) came for 3 images"),
        ({"threshold": 1.5}, InterpNetError, "threshold is 1.5; expected a number from 0 to 1"),
        ({"segments": torch.zeros(5, 5).long()}, DataError, r"segments: shape \(5, 5\), torch.int64 came for heatmaps"),
        ({"segments": torch.zeros(5, 6)}, DataError, "torch.float32 came for heatmaps .* expected the number of each"),
    ],
)
def test_what_segment_refuses(options: dict[str, Any], error: type[InterpNetError], message: str) -> None:
    maps, masks = some(9, batch=3)
    given = {**({} if "boxes" in options else {"masks": masks}), **options}
    with pytest.raises(error, match=message):
        segment(maps, **given)


def test_one_image_needs_a_threshold() -> None:
    maps, masks = some(10, batch=1)
    with pytest.raises(DataError, match="1 image came, and its threshold must be chosen on others"):
        segment(maps, masks)
    assert segment(maps, masks, threshold=segment(*some(11)).threshold).iou.values.shape == (1,)
