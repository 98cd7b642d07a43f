"""Where a part says that it is: what lies there comes from the donor, and nothing else changes."""

from __future__ import annotations

import pytest
import torch

from interpnet.shortcuts._by_class import by_class
from interpnet.shortcuts._parts import Images, Part, parts_of

SHAPE = (13, 18)
N = 3


def some(seed: int) -> Images:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(N, 2, *SHAPE, generator=generator)
    peaks = torch.tensor([[0, 17], [6, 9], [12, 2]]) if seed else torch.tensor([[12, 0], [3, 3], [5, 16]])
    peaks = peaks[:, None].expand(N, 2, 2)
    masks = torch.rand(N, *SHAPE, generator=generator) < 0.2
    return Images(pixels, torch.arange(N), peaks, masks, by_class(pixels, torch.arange(N), N))


PARTS = parts_of(SHAPE, masks=True)
EVERYWHERE = {
    "the mean colour", "the tint", "the most common colour", "the finest detail", "the texture of blocks",
    "a pattern in common", "the position",
}  # fmt: skip


def test_parts_with_a_place_are_all_but_those_of_the_whole_image() -> None:
    assert {part.name for part in PARTS if part.where is None} == EVERYWHERE


@pytest.mark.parametrize("part", [part for part in PARTS if part.where is not None], ids=lambda part: part.name)
def test_what_lies_in_the_place_is_the_donors_and_the_others_are_the_rests(part: Part) -> None:
    rest, donors = some(0), some(1)
    assert part.where is not None
    places = part.where(rest, donors)
    assert places.shape == (N, 2, *SHAPE)
    assert places.dtype == torch.bool
    made = part.exchanged(rest, donors)
    for i in range(N):
        there, here = places[i]
        assert there.any()
        # Both are the same region, or squares of one size: row by row their pixels are the same.
        torch.testing.assert_close(made[i, :, here], donors.pixels[i, :, there])
        torch.testing.assert_close(made[i, :, ~here], rest.pixels[i, :, ~here])


def test_a_patch_is_around_its_peak_by_hand() -> None:
    (part,) = [part for part in PARTS if part.name == "a patch"]
    assert part.where is not None
    places = part.where(some(0), some(1))
    # A quarter of 13 pixels is 3: one before the peak and one behind it, and never beyond the image.
    rows, columns = places[1, 0].nonzero().T
    assert (rows.unique().tolist(), columns.unique().tolist()) == ([5, 6, 7], [8, 9, 10])
    rows, columns = places[0, 0].nonzero().T
    assert (rows.unique().tolist(), columns.unique().tolist()) == ([0, 1, 2], [15, 16, 17])
