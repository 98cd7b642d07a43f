"""Layouts by hand: the channel axis, the field of every spatial axis, and the words where an axis is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.networks import Step
from torch import Tensor

from interpnet.engine import Instrument, instrument, slices_of
from interpnet.engine._graph import Graph
from interpnet.engine._layout import Field, Layout, input_layout

X = torch.rand(2, 3, 8, 6, generator=torch.Generator().manual_seed(0))
WEIGHT = torch.ones(5, 6)
#: The axes of the images themselves, along which position i sees input position i.
H = (0, 0.0, 0.0, 1.0)
W = (1, 0.0, 0.0, 1.0)
Entry = tuple[int, float, float, float]


def layout_of(step: Callable[[Tensor], Any], x: Tensor = X) -> Layout:
    """Return the layout of what the last call of a step made."""
    images = x.clone()
    graph = Graph(images)
    with torch.no_grad(), instrument(model := Step(step), Instrument(observe=graph.observe)):
        model(images)
    return graph.nodes[-1].layout


def cropped(x: Tensor) -> Tensor:
    return torch.cat([x[:, :, :-1], x[:, :, 1:]], 1)


def lost(x: Tensor) -> Tensor:
    return x.reshape(6, 8, 6).flip(0).reshape(2, 3, 8, 6)


def zeroed(x: Tensor) -> None:
    y = x.clone()
    y[:, 0] = 0.0


def overwritten(x: Tensor) -> None:
    y = x.clone()
    y[:, :2] = x[:, 1:]


def masked(x: Tensor) -> None:
    y = x.clone()
    y[x > 0.5] = 0.0


def written_into_zeros(x: Tensor) -> None:
    torch.zeros(2, 7, 8, 6)[:, 1:4] = x


def image_by_image(x: Tensor) -> None:
    torch.zeros(2, 3, 8, 6)[0] = x[0]


def picked_into_zeros(x: Tensor) -> None:
    torch.zeros(2, 3, 8, 6)[[0, 1]] = x


# The channel axis, and for each axis with a field the axis of the image, lo, hi and jump.
KEPT: dict[str, tuple[Callable[[Tensor], Any], int, dict[int, Entry]]] = {
    "permute": (lambda x: x.permute(0, 2, 3, 1), 3, {1: H, 2: W}),
    "permute, one tuple": (lambda x: x.permute((0, 3, 1, 2)), 2, {1: W, 3: H}),
    "permute, from the end": (lambda x: x.permute(0, -2, -1, -3), 3, {1: H, 2: W}),
    "permute, by name": (lambda x: torch.permute(x, dims=(0, 1, 3, 2)), 1, {2: W, 3: H}),
    "transpose": (lambda x: x.transpose(1, 3), 3, {1: W, 2: H}),
    "transpose, by name": (lambda x: x.transpose(dim0=-1, dim1=1), 3, {1: W, 2: H}),
    "transpose, from the end": (lambda x: x.transpose(-1, -2), 1, {2: W, 3: H}),
    "swapaxes": (lambda x: x.swapaxes(axis0=1, axis1=2), 2, {1: H, 3: W}),
    "flatten": (lambda x: x.flatten(2), 1, {}),
    "an axis of one at the end": (lambda x: x.view(2, 3, 8, 6, 1), 1, {2: H, 3: W}),
    "an axis of one before": (lambda x: x.view(2, 1, 3, 8, 6), 2, {3: H, 4: W}),
    "unsqueeze": (lambda x: x.unsqueeze(2), 1, {3: H, 4: W}),
    "one axis in two": (lambda x: x.view(2, 3, 2, 4, 6), 1, {4: W}),
    "numbers": (lambda x: x[:, :, 3], 1, {2: W}),
    "number at the end": (lambda x: x[..., -1], 1, {2: H}),
    "slices": (lambda x: x[:, 1:, 2:, 1::2], 1, {2: (0, 2.0, 2.0, 1.0), 3: (1, 1.0, 1.0, 2.0)}),
    "slices from the end": (lambda x: x[:, :, -3:, ::3], 1, {2: (0, 5.0, 5.0, 1.0), 3: (1, 0.0, 0.0, 3.0)}),
    "slices of slices": (lambda x: x[:, :, 1::2][:, :, 1:, :], 1, {2: (0, 3.0, 3.0, 2.0), 3: W}),
    "a new axis": (lambda x: x[:, None], 2, {3: H, 4: W}),
    "a new axis, a number, a slice": (lambda x: x[:, :, 0, None, 2:], 1, {3: (1, 2.0, 2.0, 1.0)}),
    "pad": (lambda x: F.pad(x, (1, 2)), 1, {2: H, 3: (1, -1.0, -1.0, 1.0)}),
    "pad of both": (lambda x: F.pad(x, pad=(0, 1, 2, 3)), 1, {2: (0, -2.0, -2.0, 1.0), 3: W}),
    "pad, negative": (lambda x: F.pad(x, (-1, -1, 0, 0)), 1, {2: H, 3: (1, 1.0, 1.0, 1.0)}),
    "pad of channels": (lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)), 1, {2: H, 3: W}),
    "pad of a strided axis": (lambda x: F.pad(x[..., ::2], (1, 0)), 1, {2: H, 3: (1, -2.0, -2.0, 2.0)}),
    "cat of channels": (lambda x: torch.cat([x, x], 1), 1, {2: H, 3: W}),
    "cat of rows": (lambda x: torch.cat([x, x], 2), 1, {3: W}),
    "cat from the end": (lambda x: torch.cat([x, x], dim=-1), 1, {2: H}),
    "cat, axis by its other name": (lambda x: torch.cat([x, x], axis=3), 1, {2: H}),
    "cat of images": (lambda x: torch.cat([x, x]), 1, {2: H, 3: W}),
    "cat of shifted maps": (cropped, 1, {2: (0, 0.0, 1.0, 1.0), 3: W}),
    "cat of another stride": (lambda x: torch.cat([x[:, :, ::2], x[:, :, :4]], 1), 1, {3: W}),
    "sum of exchanged axes": (lambda x: x[..., :6, :] + x[..., :6, :].transpose(2, 3), 1, {}),
    "scaled by means": (lambda x: x + x.mean((2, 3), keepdim=True), 1, {2: H, 3: W}),
    "scaled by means, the other way": (lambda x: x.mean((2, 3), keepdim=True) * x, 1, {2: H, 3: W}),
    "sum with a lost map": (lambda x: x + lost(x), 1, {}),
    "sum with a lost map, the other way": (lambda x: lost(x) + x, 1, {}),
    "mean": (lambda x: x.mean((2, 3)), 1, {}),
    "mean of rows": (lambda x: x.mean(2), 1, {2: W}),
    "mean of rows that stay": (lambda x: x.mean(2, keepdim=True), 1, {3: W}),
    "mean by name": (lambda x: x.mean(dim=-1), 1, {2: H}),
    "mean over images": (lambda x: x.mean(0), 0, {1: H, 2: W}),
    "sum": (lambda x: x.sum((-1, 0)), 0, {1: H}),
    "amax": (lambda x: x.amax(3), 1, {2: H}),
    "chunk": (lambda x: x.chunk(2, 2), 1, {3: W}),
    "split by name": (lambda x: torch.split(x, 4, dim=-2), 1, {3: W}),
    "split of images": (lambda x: x.split(1), 1, {2: H, 3: W}),
    "twice as large": (
        lambda x: F.interpolate(x, scale_factor=2),
        1,
        {2: (0, -2.0, 2.0, 0.5), 3: (1, -2.0, 2.0, 0.5)},
    ),
    "smaller, of every second": (
        lambda x: F.interpolate(x[:, :, ::2], size=(2, 6)),
        1,
        {2: (0, -4.0, 4.0, 4.0), 3: (1, -2.0, 2.0, 1.0)},
    ),
    "sorted": (lambda x: x.sort(2), 1, {}),
    "rolled": (lambda x: x.permute(0, 2, 3, 1).roll(1, 2), 3, {}),
    "pool of rows": (lambda x: F.max_pool2d(x, (2, 1)), 1, {2: (0, 0.0, 1.0, 2.0), 3: W}),
    "pool of channels": (lambda x: F.max_pool2d(x.permute(0, 2, 3, 1), (2, 1)), 3, {1: H, 2: (1, 0.0, 1.0, 2.0)}),
    "pool of one axis": (lambda x: F.avg_pool1d(x[..., 0], 4, 2, 1), 1, {2: (0, -1.0, 2.0, 2.0)}),
    "adaptive pool": (lambda x: F.adaptive_avg_pool2d(x, (4, 6)), 1, {2: (0, 0.0, 1.0, 2.0), 3: W}),
    "adaptive pool to one": (lambda x: F.adaptive_max_pool2d(x, (1, 2)), 1, {3: (1, 0.0, 2.0, 3.0)}),
    "adaptive pool, uneven": (lambda x: F.adaptive_avg_pool2d(x, (3, 3)), 1, {3: (1, 0.0, 1.0, 2.0)}),
    "conv": (lambda x: F.conv2d(x, torch.ones(4, 3, 3, 1), padding=1), 1, {2: (0, -1.0, 1.0, 1.0), 3: (1, -1, -1, 1)}),
    "conv of other channels": (
        lambda x: F.conv2d(x.permute(0, 2, 1, 3), torch.ones(4, 8, 1, 2)),
        1,
        {3: (1, 0.0, 1.0, 1.0)},
    ),
    "transposed conv": (lambda x: F.conv_transpose2d(x, torch.ones(3, 4, 2, 2)), 1, {}),
    "linear of positions": (lambda x: F.linear(x, WEIGHT), 3, {}),
    "linear of channels": (lambda x: F.linear(x.permute(0, 2, 3, 1), torch.ones(5, 3)), 3, {1: H, 2: W}),
    "zeroed in part": (zeroed, 1, {2: H, 3: W}),
    "overwritten in part": (overwritten, 1, {}),
    "zeroed by a mask": (masked, 1, {2: H, 3: W}),
    "written into zeros": (written_into_zeros, 1, {}),
}


@pytest.mark.parametrize("name", KEPT)
def test_the_axes_after_a_step(name: str) -> None:
    step, axis, fields = KEPT[name]
    found = layout_of(step)
    assert found.axis == axis
    assert {a: (f.axis, f.lo, f.hi, f.jump) for a, f in found.fields.items()} == fields


LOST: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "flatten": (lambda x: x.flatten(1), "'reshape' merged or removed the channel axis"),
    "channel by number": (lambda x: x[:, 1], "'indexing' merged or removed the channel axis"),
    "channels by a tensor": (lambda x: x[:, torch.tensor([0, 2])], "indexing with a tensor"),
    "channels by a list": (lambda x: x[:, [0, 2]], "indexing with a tensor"),
    "mean of channels": (lambda x: x.mean(1), "the channel axis was summed over"),
    "mean of channels from the end": (lambda x: x.mean(-3, keepdim=True), "the channel axis was summed over"),
    "mean of everything": (lambda x: x.mean(), "the channel axis was summed over"),
    "broadcast": (
        lambda x: x.mean(2, keepdim=True) + x.mean(3, keepdim=True),
        "broadcasting changed the axes",
    ),
    "other channels": (
        lambda x: x[:, :, :3, :3] + x[:, :, :3, :3].transpose(1, 2),
        "two maps with different channel axes were combined",
    ),
    "two lost maps": (lambda x: lost(x) + lost(x), "'reshape' merged or removed the channel axis"),
    "lost and pooled": (lambda x: F.max_pool2d(lost(x), 2), "'reshape' merged or removed the channel axis"),
    "conv of one image": (lambda x: F.conv2d(x[0], torch.ones(4, 3, 1, 1)), "'conv2d' was called without a batch axis"),
    "unknown": (torch.erfinv, "'erfinv' is not known to keep the channel axis"),
    "its own": (
        lambda x: torch.relu(torch.ones(2, 3, 8, 6)),
        "the output of 'relu' does not depend on the images by a followed path",
    ),
    "image by image": (image_by_image, "assigning to parts of a tensor"),
    "by a list of images": (picked_into_zeros, "assigning to parts of a tensor"),
}


@pytest.mark.parametrize("name", LOST)
def test_why_the_channel_axis_is_lost(name: str) -> None:
    step, why = LOST[name]
    assert (layout_of(step).axis, layout_of(step).why) == (None, why)


def test_an_axis_of_a_lost_map_is_followed_all_the_same() -> None:
    found = layout_of(lambda x: x.flatten(0, 1)[:, 1:])
    assert found.axis is None
    assert found.fields == {1: Field(0, 1.0, 1.0, 1.0), 2: Field(1)}


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((2, 1, 48), 1),
        ((2, 1, 1, 8, 6), 1),
        ((2, 8, 6, 1), None),
        ((2, 8, 6), None),
        ((2, 1, 6, 8), 1),
        ((1, 2, 8, 6), None),
    ],
)
def test_a_single_channel_is_the_same_where_nothing_before_it_moved(shape: tuple[int, ...], axis: int | None) -> None:
    assert layout_of(lambda x: x.reshape(shape), X[:, :1]).axis == axis


def test_fields_of_one_and_of_three_axes() -> None:
    assert input_layout(torch.rand(2, 3)) == Layout(1, {})
    assert input_layout(torch.rand(2, 3, 4, 5, 6)) == Layout(1, {2: Field(0), 3: Field(1), 4: Field(2)})


def test_fields_by_hand() -> None:
    field = Field(1, 2.0, 5.0, 3.0)
    assert field.window(3, 2, 1) == Field(1, -1.0, 8.0, 6.0)
    assert field.window(3, 2, 1, 2) == Field(1, -1.0, 14.0, 6.0)
    assert field.moved(2) == Field(1, 8.0, 11.0, 3.0)
    assert field.moved(-1, 4) == Field(1, -1.0, 2.0, 12.0)
    assert field.union(Field(1, 0.0, 3.0, 3.0)) == Field(1, 0.0, 5.0, 3.0)
    assert field.union(Field(1, 3.0, 9.0, 3.0)) == Field(1, 2.0, 9.0, 3.0)
    assert field.union(Field(0, 2.0, 5.0, 3.0)) is None
    assert field.union(Field(1, 2.0, 5.0, 1.0)) is None


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (0, [0, slice(None), slice(None)]),
        ((..., 1), [slice(None), slice(None), 1]),
        ((1, ..., slice(2)), [1, slice(None), slice(2)]),
        ((None, 0), [None, 0, slice(None), slice(None)]),
        ((..., None), [slice(None), slice(None), slice(None), None]),
        ((0, 1, 2, ...), [0, 1, 2]),
        ([0, 1], None),
        ((0, torch.tensor([1])), None),
        (torch.tensor([True, False]), None),
    ],
)
def test_keys_written_out(key: Any, expected: list[Any] | None) -> None:
    assert slices_of(key, torch.zeros(2, 3, 4)) == expected
