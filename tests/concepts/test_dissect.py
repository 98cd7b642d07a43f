"""Dissection against a reference written out in float64, by hand, and its controls."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from interpnet.concepts import ConceptWarning, dissect
from interpnet.concepts._cells import cells
from interpnet.concepts._counts import Counted, Counts
from interpnet.concepts._dissect import _floor
from interpnet.concepts._tops import Tops
from interpnet.engine import Channel, ChannelIndex

pytestmark = pytest.mark.filterwarnings("ignore::interpnet.concepts.ConceptWarning")
SIDE = 12


def network(seed: int = 0, channels: int = 3) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(channels, 2, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2 * 16, 2)).eval()


def street(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (n, 1, 12, 12), and the concept of each pixel, -1 for none."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(n, 1, SIDE, SIDE, generator=generator)
    numbers = torch.randint(-1, 2, (n, SIDE, SIDE), generator=generator)
    return images, numbers


def enlarged(small: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, between the centres of pixels, each at its exact place."""
    for axis, side in enumerate(size):
        last = small.shape[axis] - 1
        places = [min(max(Fraction(2 * y + 1, 2) * (last + 1) / side - Fraction(1, 2), 0), last) for y in range(side)]
        before = [int(place) for place in places]
        shares = np.array([float(place - first) for place, first in zip(places, before, strict=True)])
        shares = shares.reshape(-1, 1) if axis == 0 else shares
        near, far = (np.take(small, [min(first + more, last) for first in before], axis) for more in (0, 1))
        small = near + shares * (far - near)
    return small


@pytest.mark.parametrize(
    ("size", "grid"), [((4, 4), (12, 12)), ((7, 5), (9, 16)), ((9, 12), (4, 12)), ((1, 3), (6, 2))]
)
def test_cells_are_the_whole_enlargement(size: tuple[int, int], grid: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(3, 2, *size, generator=generator).contiguous(memory_format=torch.channels_last)
    large = functional.interpolate(maps, size=grid, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(large[1, 1], enlarged(maps[1, 1].double().numpy(), grid), atol=1e-6)
    for share in (0.0, 0.5, 0.95):
        limits = maps.transpose(0, 1).flatten(1).quantile(share, 1)
        parts = list(cells(size, grid).above(maps, limits))
        of, pixel = (torch.cat(part).tolist() for part in zip(*parts, strict=True))
        assert list(zip(of, pixel, strict=True)) == sorted(zip(of, pixel, strict=True), key=lambda pair: pair[0])
        found = np.zeros((6, grid[0] * grid[1]), bool)
        found[of, pixel] = True
        assert found.sum() == len(of)
        for channel, image in itertools.product(range(2), range(3)):
            exact = enlarged(maps[image, channel].double().numpy(), grid).ravel()
            sure = np.abs(exact - limits[channel].item()) > 1e-7
            assert (found[3 * channel + image] == (exact > limits[channel].item()))[sure].all()


def test_between_equal_values_nothing_is_above_them() -> None:
    for value in torch.rand(50, generator=torch.Generator().manual_seed(1)):
        maps = value.expand(1, 1, 3, 3).clone()
        maps[..., 2] += 1
        ((of, pixel),) = cells((3, 3), (21, 21)).above(maps, value[None])
        assert len(of) == 21 * 10
        assert (pixel % 21).min() == 11  # the first one behind the middle of the second column


def reference(net: nn.Sequential, images: torch.Tensor, masks: np.ndarray, quantile: float, at: int) -> np.ndarray:
    """IoU (C, K) of the layer's maps with masks (N, K, H, W), one image, channel and concept after the other."""
    with torch.no_grad():
        maps = net[:at](images).numpy()
    found = np.zeros((maps.shape[1], masks.shape[1]))
    for k in range(maps.shape[1]):
        values = np.sort(maps[:, k].ravel())[::-1]
        limit = values[int(np.floor(quantile * len(values)))]
        for c in range(masks.shape[1]):
            both = either = 0
            for i in range(len(images)):
                large = enlarged(maps[i, k].astype(np.float64), masks.shape[2:])
                above = large > limit
                both += (above & masks[i, c]).sum()
                either += (above | masks[i, c]).sum()
            found[k, c] = both / either
    return found


@pytest.mark.parametrize(("quantile", "batch"), [(0.005, 5), (0.2, 3), (0.03, 40)])
def test_overlaps_against_a_reference(quantile: float, batch: int) -> None:
    net = network()
    images, numbers = street(11)
    loader = list(zip(torch.split(images, batch), torch.split(numbers, batch), strict=True))
    found = dissect(
        net, loader, concepts=["a", "b"], quantile=quantile, step=1, untrained=False, progress=False, max_batch=4
    )
    masks = np.stack([numbers.numpy() == c for c in range(2)], 1)
    expected = np.concatenate([reference(net, images, masks, quantile, at) for at in (2, 5)])
    np.testing.assert_allclose(found.iou, expected, rtol=1e-12)
    assert found.images == {"concepts": 11}
    np.testing.assert_allclose(found.cover, masks.mean((0, 2, 3)))


def test_the_four_forms_of_masks_are_one() -> None:
    net = network()
    images, numbers = street(9)
    dense = torch.stack([numbers == c for c in range(2)], 1)
    which = torch.arange(9) % 3 - 1  # concepts of whole images
    forms = {
        "street": [numbers, dense, dense.to(torch.uint8)],
        "whole": [which, torch.stack([which == c for c in range(2)], 1), (which[:, None] == torch.arange(2)).numpy()],
    }
    for given_masks in forms.values():
        found = [
            dissect(net, [(images, masks)], concepts=["a", "b"], step=2, untrained=False, progress=False)
            for masks in given_masks
        ]
        for other in found[1:]:
            np.testing.assert_array_equal(found[0].iou, other.iou)
            np.testing.assert_array_equal(found[0].null, other.null)
    whole = torch.stack([which == c for c in range(2)], 1)[:, :, None, None].expand(-1, -1, SIDE, SIDE)
    spread = dissect(net, [(images, whole)], concepts=["a", "b"], step=2, untrained=False, progress=False)
    np.testing.assert_array_equal(found[0].iou, spread.iou)


def test_categories_share_thresholds_and_count_apart() -> None:
    net = network()
    images, numbers = street(8)
    others, _ = street(6, seed=1)
    loaders = {"street": [(images, numbers)], "texture": [(others, torch.tensor([0, 1, 0, 1, -1, 0]))]}
    names = {"street": ["a", "b"], "texture": ["dots", "lines"]}
    found = dissect(net, loaders, concepts=names, quantile=0.1, step=1, untrained=False, progress=False)
    with torch.no_grad():
        maps = net[:2](torch.cat([images, others])).numpy()
    values = np.sort(maps.transpose(1, 0, 2, 3).reshape(3, -1), 1)[:, ::-1]
    np.testing.assert_array_equal(found.thresholds[:3], values[:, int(0.1 * values.shape[1])])
    lines = (maps[8:] > found.thresholds[:3, None, None]).sum((2, 3))  # (6, 3) pixels above
    shown = np.array([0, 1, 0, 1, 0, 0])
    expected = lines[shown == 1].sum(0) / (lines.sum(0) + 2 * SIDE**2 - lines[shown == 1].sum(0))
    np.testing.assert_allclose(found.iou[:3, 3], expected)
    assert found.categories == ("street", "street", "texture", "texture")


def bright_dots(n: int = 120) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    masks = torch.zeros(n, 2, SIDE, SIDE, dtype=torch.bool)
    for i in range(n):
        rows = torch.randperm(SIDE - 1, generator=generator)[:2].tolist()
        for concept, row in enumerate(rows):
            column = int(torch.randint(SIDE - 1, (1,), generator=generator))
            masks[i, concept, row : row + 2, column : column + 2] = True
    masks[:, 1] &= ~masks[:, 0]
    images = 0.1 * torch.rand(n, 1, SIDE, SIDE, generator=generator)
    images[masks[:, :1]] += 1.0  # the first concept is bright, the second cannot be seen
    return images, masks


def looking() -> nn.Sequential:
    """Its first channel is the image, the second the column, whatever is shown; the third is off."""
    net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * SIDE**2, 2)).eval()
    with torch.no_grad():
        net[0].weight[:] = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1, 1)
        net[0].bias[:] = torch.tensor([0.0, 1.0, -1.0])
    return net


def test_a_channel_is_named_by_what_it_shows_and_by_nothing_else() -> None:
    images, masks = bright_dots()
    # Three weights permuted give the same channel again, so that random weights say nothing here.
    found = dissect(
        looking(), [(images, masks)], concepts=["dot", "ghost"], quantile=0.02, step=1, untrained=False, progress=False
    )
    (name,) = found.names(Channel("1", 0))
    assert (name.concept, name.category) == ("dot", "concepts")
    assert name.low <= name.iou <= name.high
    assert name.iou > 0.7
    assert found.detectors("dot") == [(Channel("1", 0), name.iou)]
    assert found.detectors("ghost") == []
    assert found.named.tolist() == [True, False, False]
    assert (found.iou[0, 0] > found.null[0]) & (found.null[0] < 0.1)
    (summary,) = found.layers()
    assert (summary.channels, summary.named, summary.concepts, summary.categories) == (3, 1, 1, {"concepts": 1})
    rows = found.rows()
    assert [row["name"] for row in rows] == ["dot", "", ""]


def test_a_concept_that_is_everywhere_names_nothing() -> None:
    images, masks = bright_dots()
    masks[:, 1] = True
    found = dissect(
        looking(), [(images, masks)], concepts=["dot", "all"], quantile=0.5, step=1, untrained=False, progress=False
    )
    assert found.iou[0, 1] > 0.3
    assert found.detectors("all") == []


def test_what_random_weights_reach_is_no_name() -> None:
    images, masks = bright_dots()
    with_floor = dissect(looking(), [(images, masks)], concepts=["dot", "ghost"], quantile=0.02, step=1, progress=False)
    # The copy's layer has the same three weights in another order: 99 % of its channels stay below nearly the best.
    assert with_floor.floor == pytest.approx(
        np.full((3, 2), 0.98 * with_floor.iou.max() + 0.02 * np.sort(with_floor.iou.max(1))[1]), rel=0.1
    )
    assert not with_floor.named.any()


def test_each_category_has_a_floor_of_its_own_by_hand() -> None:
    """101 channels, all of whose pixels show the only concept: overlaps of 0, 0.01, ... 1; in another category none."""
    pixels = np.arange(101)
    shared = [np.stack([kept * pixels, 0 * pixels], 1)[None] for kept in (1, 0)]
    covered = np.array([[100, 50]])
    counted = [Counted(pixels[None], some, covered, np.zeros(101)) for some in shared]
    channels = ChannelIndex((("a", 101),))
    one = Counts(np.zeros(101, np.float32), np.zeros((101, 1), np.int64), tuple(counted[:1]))
    np.testing.assert_allclose(_floor(one, channels), np.full((101, 2), 0.99))
    both = replace(one, categories=tuple(counted))
    np.testing.assert_allclose(_floor(both, channels), np.tile([0.995, 0.995, 0.0, 0.0], (101, 1)))


def test_a_category_that_nothing_overlaps_with_keeps_its_names_beside_one_of_high_floor() -> None:
    images, masks = bright_dots()
    loaders = {name: [(images, masks[:, :1])] for name in ("dots", "corners")}
    names = {"dots": ["dot"], "corners": ["corner"]}
    found = dissect(looking(), loaders, concepts=names, quantile=0.02, step=1, untrained=False, progress=False)
    assert [name.concept for name in found.names(0)] == ["dot", "corner"]
    judged = replace(found, floor=np.tile([0.9, 0.1], (3, 1)))
    assert [name.concept for name in judged.names(0)] == ["corner"]
    (summary,) = judged.layers()
    assert (summary.named, summary.floors) == (1, {"dots": 0.9, "corners": 0.1})
    # The figures are those of the name, not of the first of two equal overlaps.
    assert (summary.concepts, summary.categories) == (1, {"corners": 1})
    row = judged.rows()[0]
    assert [row[key] for key in ("name", "best concept", "category", "random weights")] == [
        *("corner", "corner", "corners"),
        0.1,
    ]


def test_intervals_hold_the_overlap_of_a_larger_set() -> None:
    images, masks = bright_dots(400)
    images[::3] = 0.1 * torch.rand(images[::3].shape)  # a third of the dots cannot be seen
    whole = dissect(looking(), [(images, masks)], concepts=["dot", "ghost"], quantile=0.02, step=1, untrained=False,
                    progress=False)  # fmt: skip
    held = 0
    for start in range(0, 400, 100):
        part = slice(start, start + 100)
        found = dissect(looking(), [(images[part], masks[part])], concepts=["dot", "ghost"], quantile=0.02, step=1,
                        untrained=False, progress=False)  # fmt: skip
        held += found.low[0, 0] <= whole.iou[0, 0] <= found.high[0, 0]
        assert 0.01 < found.high[0, 0] - found.low[0, 0] < 0.4
    assert held >= 3


def test_top_images_are_those_with_the_largest_activation() -> None:
    images, masks = bright_dots()
    found = dissect(looking(), [(images, masks)], concepts=["dot", "ghost"], top=4, untrained=False, progress=False)
    largest = images.amax((1, 2, 3))
    assert found.top[0].tolist() == largest.argsort(descending=True, stable=True)[:4].tolist()
    assert found.top[1].tolist() == [0, 1, 2, 3]


def test_layers_in_turns_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network()
    images, numbers = street(10)
    one = dissect(net, [(images, numbers)], concepts=["a", "b"], progress=False)
    monkeypatch.setattr("interpnet.concepts._work._MEMORY", 1)
    other = dissect(net, [(images, numbers)], concepts=["a", "b"], progress=False)
    for field in ("iou", "low", "high", "null", "floor", "thresholds", "top"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.sampled_from([-1.5, 0.0, 0.25, 1.0, 3.0, 7.5]), min_size=1, max_size=9), max_size=6),
    st.integers(0, 12),
)
def test_the_limit_is_the_largest_value_below_the_wanted_ones(batches: list[list[float]], above: int) -> None:
    tops = Tops(2, above)
    for values in batches:
        tops.add(torch.tensor([values, [-v for v in values]]).view(1, 2, 1, -1))
    every = sorted(itertools.chain(*batches), reverse=True)
    limits = tops.limits().tolist()
    if len(every) <= above:
        assert limits == [-np.inf, -np.inf]
    else:
        assert limits == [every[above], sorted((-v for v in every), reverse=True)[above]]


def test_the_limit_of_maps_whose_sampled_positions_mislead() -> None:
    """The first bound is guessed from every 16th position: where these are the largest, it is taken from all."""
    generator = torch.Generator().manual_seed(3)
    maps = torch.rand(4, 3, 64, 64, generator=generator).contiguous(memory_format=torch.channels_last)
    maps.flatten(2)[:, 0, ::16] += 1.0  # sampled, and the largest: 256 in each image
    maps[:, 1] = (maps[:, 1] - 0.5).relu()
    for wanted in (0, 20, 1100, 9000):
        tops = Tops(3, wanted)
        for part in maps.split(2):
            tops.add(part)
        expected = maps.transpose(0, 1).flatten(1).sort(descending=True).values[:, wanted]
        assert tops.limits().tolist() == expected.tolist()


def test_the_network_and_its_images_stay() -> None:
    net = network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    images, numbers = street(6)
    kept = images.clone()
    dissect(net.train(), [(images, numbers)], concepts=["a", "b"], progress=False)
    assert net.training
    assert torch.equal(images, kept)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_concept_that_is_too_large_for_the_threshold_is_said() -> None:
    images, masks = bright_dots()
    masks[:, 1, :4] = True  # a third of every image
    with pytest.warns(
        ConceptWarning, match=r"no channel can be named by 'ghost' \(3\d% of its images\): with quantile=0.01"
    ):
        found = dissect(looking(), [(images, masks)], concepts=["dot", "ghost"], quantile=0.01, step=1, progress=False)
    # 4 of 144 pixels are the dot, of which 1.44 can be above the threshold.
    assert found.reach == pytest.approx([0.01 / (4 / 144), 0.01 / found.cover[1]])
    assert found.iou[0, 0] <= found.reach[0] + 0.01


def test_copies_in_one_group_narrow_no_interval() -> None:
    images, masks = bright_dots(60)
    options = {"concepts": ["dot", "ghost"], "quantile": 0.02, "step": 1, "untrained": False, "progress": False}
    one = dissect(looking(), [(images, masks)], **options)
    # Three frames of each scene, a little different, as a film has them.
    frames = torch.cat([images + 1e-4 * i for i in range(3)])
    film = [(frames, masks.repeat(3, 1, 1, 1))]
    scenes = [f"scene {i}" for i in range(60)] * 3
    grouped = dissect(looking(), film, groups=scenes, **options)
    alone = dissect(looking(), film, **options)
    width = {name: found.high[0, 0] - found.low[0, 0] for name, found in [("one", one), ("grouped", grouped)]}
    assert width["grouped"] == pytest.approx(width["one"], rel=0.25)
    assert alone.high[0, 0] - alone.low[0, 0] < 0.8 * width["grouped"]
    np.testing.assert_array_equal(grouped.iou, alone.iou)
    # Another frame of the same scene has the same mask, which is no control.
    assert grouped.null[0] < one.iou[0, 0] / 2


def test_the_interval_of_two_groups_by_hand() -> None:
    """One pixel above the threshold in each image; the concept's in one group, beside it in the other."""
    images = torch.zeros(4, 1, 4, 4)
    masks = torch.zeros(4, 1, 4, 4, dtype=torch.bool)
    for i in range(4):
        images[i, 0, i, i] = 1 + i / 10
        masks[i, 0, i, i if i < 2 else i - 1] = True
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)).eval()
    with torch.no_grad():
        net[0].weight[:], net[0].bias[:] = 1.0, 0.0
    found = dissect(net, [(images, masks)], concepts=["dot"], groups=["a", "a", "b", "b"], quantile=4 / 64, step=1,
                    untrained=False, progress=False)  # fmt: skip
    assert found.iou[0, 0] == 2 / 6
    # Both groups are the first, or both the second, in a quarter of the resamples each: 2 of 2 pixels, or 0 of 4.
    assert (found.low[0, 0], found.high[0, 0]) == (0.0, 1.0)
    # Only images of the other group lend their masks, none of which lies below the other's pixel.
    assert found.null[0] == 0.0


def test_images_without_a_group_are_alone() -> None:
    images, masks = bright_dots(40)
    options = {"concepts": ["dot", "ghost"], "quantile": 0.02, "step": 1, "untrained": False, "progress": False}
    plain = dissect(looking(), [(images, masks)], **options)
    for groups in ([None] * 40, list(range(40)), [str(i) for i in range(40)]):
        found = dissect(looking(), [(images, masks)], groups=groups, **options)
        np.testing.assert_array_equal(found.low, plain.low)
        np.testing.assert_array_equal(found.null, plain.null)


def test_maps_behind_a_padding_of_its_own_lie_over_the_image() -> None:
    """As in networks whose convolutions are padded to one side more than to the other."""
    torch.manual_seed(0)
    layers = [nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(1, 3, 3, stride=2), nn.ReLU(), nn.ConstantPad2d(1, 0.0)]
    net = nn.Sequential(*layers, nn.MaxPool2d(3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 2)).eval()
    images, numbers = street(9)
    found = dissect(
        net, [(images, numbers)], concepts=["a", "b"], quantile=0.1, step=1, untrained=False, progress=False
    )
    masks = np.stack([numbers.numpy() == c for c in range(2)], 1)
    np.testing.assert_allclose(found.iou[:3], reference(net, images, masks, 0.1, 3), rtol=1e-12)
