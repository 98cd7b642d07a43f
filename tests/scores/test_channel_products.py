"""Sums of products of two maps, in every layout, against plain sums in float64."""

from __future__ import annotations

import pytest
import torch

from interpnet.scores import channel_products


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("first", ["contiguous", "last"])
@pytest.mark.parametrize("second", ["contiguous", "last", "expanded"])
def test_the_layouts_of_both_maps_do_not_matter(first, second):
    # So large that the positions are cut into several parts, the last of them shorter.
    a = values(2, 7, 150, 151)
    b = values(2, 7, 150, 151, seed=1)
    if second == "expanded":
        b = values(2, 7, 1, 1).expand(2, 7, 150, 151)
    expected = (a * b).sum((2, 3))
    if first == "last":
        a = a.contiguous(memory_format=torch.channels_last)
    if second == "last":
        b = b.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(channel_products(a, b, 1), expected, rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize(("shape", "axis"), [((3, 5), 1), ((3, 8, 5), 2), ((3, 5, 8), 1), ((2, 4, 3, 3, 3), 1)])
def test_any_number_of_axes(shape, axis):
    a = values(*shape)
    b = values(*shape, seed=1)
    others = [d for d in range(1, len(shape)) if d != axis]
    expected = a * b
    if others:
        expected = expected.sum(others)
    torch.testing.assert_close(channel_products(a, b, axis), expected)


def test_half_precision_is_summed_in_float32():
    a = torch.full((1, 2, 300, 300), 60.0, dtype=torch.float16)
    found = channel_products(a, a, 1)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.full((1, 2), 3600.0 * 90000))
