"""Receptive fields against which pixels a position really depends on: one pixel lit at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interpnet.engine import find_sites
from interpnet.explanation._patches import window

Step = Callable[[Tensor], Tensor]


class One(nn.Module):
    """A 1x1 convolution with weight one, some step, and a rectifier."""

    def __init__(self, n: int, step: Step) -> None:
        super().__init__()
        self.conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[n - 1](1, 1, 1, bias=False)
        self.conv.weight.data.fill_(1.0)
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.step(self.conv(x))).flatten(1)


def ones(*shape: int) -> Tensor:
    return torch.ones(1, 1, *shape)


STEPS: dict[str, tuple[tuple[int, ...], Step]] = {
    "conv, unequal everything": (
        (14, 17),
        lambda x: F.conv2d(x, ones(3, 5), stride=(2, 3), padding=(0, 2), dilation=(1, 2)),
    ),
    "conv, the other way round": (
        (17, 14),
        lambda x: F.conv2d(x, ones(5, 3), stride=(3, 2), padding=(2, 0), dilation=(2, 1)),
    ),
    "conv, one number for both": ((12, 13), lambda x: F.conv2d(x, ones(3, 3), None, 2, 1, 2)),
    "conv, same padding": ((9, 12), lambda x: F.conv2d(x, ones(3, 5), padding="same", dilation=(2, 1))),
    "conv, valid padding": ((9, 12), lambda x: F.conv2d(x, ones(2, 3), padding="valid", stride=2)),
    "maximum pool with dilation": (
        (15, 16),
        lambda x: F.max_pool2d(x, (2, 3), stride=(2, 1), padding=(1, 1), dilation=(3, 2)),
    ),
    "maximum pool, stride as the kernel": ((12, 12), lambda x: F.max_pool2d(x, (3, 2))),
    "maximum pool, by position": ((15, 16), lambda x: torch.max_pool2d(x, [3], [2], [1], [2])),
    "average pool, unequal everything": ((13, 15), lambda x: F.avg_pool2d(x, (3, 4), (2, 3), (1, 2))),
    "average pool without the padding": ((13, 15), lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)),
    "L2 pool": ((12, 15), lambda x: F.lp_pool2d(x, 2, (2, 3), stride=(3, 2))),
    "adaptive pool": ((12, 15), lambda x: F.adaptive_avg_pool2d(x, (4, 5))),
    "adaptive maximum pool": ((12, 10), lambda x: F.adaptive_max_pool2d(x, (3, 5))),
    "pad, uneven": ((8, 9), lambda x: F.conv2d(F.pad(x, (3, 1, 0, 2)), ones(2, 3), stride=(1, 2))),
    "crop by a negative pad": ((10, 11), lambda x: F.conv2d(F.pad(x, (-2, -1, 1, -3)), ones(2, 2))),
    "slice": ((12, 13), lambda x: F.conv2d(x[:, :, 2:, 1::2], ones(2, 3))),
    "slice with an ellipsis": ((12, 13), lambda x: F.conv2d(x[..., 3:-1], ones(2, 3))),
    "slice, then another": ((14, 13), lambda x: x[:, :, 1::2][:, :, 1::2, 2:]),
    "two paths of different depth": (
        (15, 16),
        lambda x: F.conv2d(x, ones(3, 3), padding=1) + F.conv2d(x, ones(5, 1), padding=(2, 0)),
    ),
    "axes exchanged": ((9, 12), lambda x: F.conv2d(x.transpose(2, 3), ones(2, 3), stride=(2, 1))),
    "axes permuted": ((9, 12), lambda x: F.conv2d(x.permute(0, 1, 3, 2), ones(2, 3), stride=(2, 1))),
    "1-D conv": ((20,), lambda x: F.conv1d(x, ones(3), stride=2, padding=2, dilation=2)),
    "1-D pool": ((20,), lambda x: F.max_pool1d(x, 3, stride=2, padding=1, dilation=2)),
    "1-D average": ((20,), lambda x: F.avg_pool1d(x, 4, stride=3, padding=2)),
    "3-D conv": ((6, 7, 8), lambda x: F.conv3d(x, ones(2, 3, 1), stride=(1, 2, 3), padding=(1, 0, 0))),
    "3-D pool": (
        (6, 7, 9),
        lambda x: F.max_pool3d(x, (2, 3, 2), stride=(1, 2, 3), padding=(1, 1, 0), dilation=(2, 1, 3)),
    ),
    "one after the other": (
        (23, 26),
        lambda x: F.conv2d(
            F.max_pool2d(F.conv2d(x, ones(3, 2), stride=(1, 2), padding=(2, 0)), 2), ones(2, 3), padding=(0, 1)
        ),
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_field_is_what_a_position_depends_on(name: str) -> None:
    size, step = STEPS[name]
    model = One(len(size), step)
    pixels = math.prod(size)
    lit = torch.eye(pixels).view(pixels, 1, *size)
    trace = find_sites(model, torch.rand(2, 1, *size))
    site = next(s for s in trace.sites if s.kind == "rectifier")
    with torch.no_grad():
        answers = model(lit).view(pixels, *site.map_shape) > 0
    axes = [a for a, _ in (entry for entry in site.fields if entry is not None)]
    assert len(axes) == len(size), "every axis of the image is followed"
    checked = 0
    for position in product(*map(range, site.map_shape)):
        place = window(site, position, size)
        assert place is not None
        seen = answers[(slice(None), *position)].view(size)
        clipped = [(max(lo, 0), min(hi, n)) for (lo, hi), n in zip(place, size, strict=True)]
        if any(lo >= hi for lo, hi in clipped):
            assert not seen.any()
            continue
        found = seen.nonzero()
        if not len(found):
            continue  # the taps of a dilated window lie in the padding
        for axis, (lo, hi) in enumerate(clipped):
            assert lo <= int(found[:, axis].min())
            assert int(found[:, axis].max()) < hi
        # Away from the rim nothing is cut off: the ends are exact.
        if all(lo >= 0 and hi <= n for (lo, hi), n in zip(place, size, strict=True)):
            assert clipped == [(int(found[:, a].min()), int(found[:, a].max()) + 1) for a in range(len(size))]
            checked += 1
    assert checked >= 2


RESIZED: dict[str, Step] = {
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "nearest, smaller": lambda x: F.interpolate(x, size=(5, 9)),
    "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False),
    "bilinear to the corners": lambda x: F.interpolate(x, size=(20, 28), mode="bilinear", align_corners=True),
    "bicubic": lambda x: F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False),
    "bicubic after a stride": lambda x: F.interpolate(
        F.conv2d(x, ones(3, 3), stride=2, padding=1), scale_factor=2, mode="bicubic", align_corners=False
    ),
    "bilinear, then a convolution": lambda x: F.conv2d(F.interpolate(x, scale_factor=2, mode="bilinear"), ones(3, 2)),
}


@pytest.mark.parametrize("name", RESIZED)
def test_a_field_after_resampling_holds_all_that_a_position_depends_on(name: str) -> None:
    size = (14, 18)
    model = One(2, RESIZED[name])
    model.conv.weight.data.fill_(1.0)
    site = next(s for s in find_sites(model, torch.rand(2, 1, *size)).sites if s.kind == "rectifier")
    lit = torch.eye(size[0] * size[1]).view(-1, 1, *size)
    with torch.no_grad():
        # Weights of a bicubic can be below zero, where a rectifier would hide them.
        seen = RESIZED[name](lit)[:, 0] != 0
    middle = tuple(n // 2 for n in site.map_shape)
    for position in (middle, (2, 3), tuple(n - 3 for n in site.map_shape)):
        place = window(site, position, size)
        assert place is not None, "some axis is not followed"
        found = seen[(slice(None), *position)].view(size).nonzero()
        for axis, (lo, hi) in enumerate(place):
            assert lo <= int(found[:, axis].min())
            assert int(found[:, axis].max()) < hi
            # And not much more than that.
            assert hi - lo <= int(found[:, axis].max() - found[:, axis].min()) + 12
