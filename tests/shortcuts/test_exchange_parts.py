"""Parts of images, each against a slow reference written out, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn

from interpnet.shortcuts._blur import blurred
from interpnet.shortcuts._by_class import by_class
from interpnet.shortcuts._evidence import strongest
from interpnet.shortcuts._parts import Images, Part, parts_of

SHAPE = (19, 26)
N = 4


def images_of(seed: int, classes: int = 2) -> Images:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(N, 3, *SHAPE, generator=generator, dtype=torch.float64)
    labels = torch.arange(N) % classes
    peaks = torch.zeros(N, 2, 2, dtype=torch.int64)
    return Images(pixels, labels, peaks, None, by_class(pixels, labels, classes))


def part(name: str) -> Part:
    return {one.name: one for one in parts_of(SHAPE)}[name]


def within(changed, rest, donor):
    low = np.minimum(rest.min((1, 2)), donor.min((1, 2)))[:, None, None]
    high = np.maximum(rest.max((1, 2)), donor.max((1, 2)))[:, None, None]
    return np.clip(changed, low, high)


def mean_colour(rest, donor):
    return rest - rest.mean((1, 2), keepdims=True) + donor.mean((1, 2), keepdims=True)


def tint(rest, donor):
    black = np.minimum(rest.min((1, 2)), donor.min((1, 2)))[:, None, None]
    mine, theirs = ((image - black).mean((1, 2)) for image in (rest, donor))
    gain = (theirs / theirs.sum()) / (mine / mine.sum())
    return black + (rest - black) * np.clip(gain, 0.25, 4)[:, None, None]


def median_colour(rest, donor):
    made = rest.copy()
    for colour in range(3):
        lower = (rest[colour].size - 1) // 2
        made[colour] += np.sort(donor[colour].ravel())[lower] - np.sort(rest[colour].ravel())[lower]
    return made


def smooth(image):
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
    weights = np.outer([1, 2, 1], [1, 2, 1]) / 16
    rows, columns = image.shape[1:]
    return sum(weights[i, j] * padded[:, i : i + rows, j : j + columns] for i in range(3) for j in range(3))


def finest(rest, donor):
    return smooth(rest) + donor - smooth(donor)


def frequencies(rest, donor):
    made = rest.copy()
    for mine, theirs, into in (
        (rest.mean(0, keepdims=True), donor.mean(0, keepdims=True), "grey"),
        (rest - rest.mean(0), donor - donor.mean(0), "differences"),
    ):
        changed = mine.copy()
        corners = [(r, c) for r in range(0, 16, 8) for c in range(0, 24, 8)]
        for colour in range(len(mine)):
            own = np.stack([dctn(mine[colour, r : r + 8, c : c + 8], norm="ortho") for r, c in corners])
            other = np.stack([dctn(theirs[colour, r : r + 8, c : c + 8], norm="ortho") for r, c in corners])
            for u in range(8):
                for v in range(8):
                    if (u, v) != (0, 0):
                        ranks = own[:, u, v].argsort().argsort()
                        own[:, u, v] = np.sort(other[:, u, v])[ranks]
            for block, (r, c) in zip(own, corners, strict=True):
                changed[colour, r : r + 8, c : c + 8] = idctn(block, norm="ortho")
        made = changed + (0 if into == "grey" else made)
    return made


REFERENCES = {
    "the mean colour": mean_colour,
    "the tint": tint,
    "the most common colour": median_colour,
    "the finest detail": finest,
    "the texture of blocks": frequencies,
}


@pytest.mark.parametrize("name", REFERENCES)
def test_parts_of_the_whole_image_against_a_reference(name: str) -> None:
    rest, donors = images_of(0), images_of(1)
    made = part(name).exchanged(rest, donors).numpy()
    for i in range(N):
        mine, theirs = rest.pixels[i].numpy(), donors.pixels[i].numpy()
        np.testing.assert_allclose(made[i], within(REFERENCES[name](mine, theirs), mine, theirs), atol=1e-12)


def test_no_colour_no_tint() -> None:
    rest, donors = (images_of(seed) for seed in (0, 1))
    black = torch.zeros_like(donors.pixels)
    donors = Images(black, donors.classes, donors.peaks, None, rest.by_class)
    torch.testing.assert_close(part("the tint").exchanged(donors, donors), black)
    grey = Images(rest.pixels[:, :1], rest.classes, rest.peaks, None, rest.by_class)
    torch.testing.assert_close(part("the tint").exchanged(grey, grey), grey.pixels)


def test_the_next_strongest_place_lies_beside_the_strongest() -> None:
    images = torch.zeros(1, 1, 24, 24)
    for (row, column), bright in {(5, 5): 1.0, (8, 8): 0.9, (5, 20): 0.5, (18, 2): 0.7}.items():
        images[0, 0, row, column] = bright
    found = strongest(images, torch.ones_like(images))
    # The second brightest point is less than a patch, 6 pixels, away from the first.
    assert [abs(a - b) <= 2 for a, b in zip(found.flatten().tolist(), [5, 5, 18, 2], strict=True)] == [True] * 4


def test_an_image_that_exchanges_with_itself_stays() -> None:
    rest = images_of(0)
    for one in parts_of(SHAPE):
        torch.testing.assert_close(one.exchanged(rest, rest), rest.pixels)


def test_a_pattern_in_common_is_what_a_class_has_beyond_a_blur() -> None:
    pixels = torch.zeros(4, 1, 9, 9, dtype=torch.float64)
    pixels[2:, 0, 4, 4] = 1.0  # a dot on all images of class 1
    found = by_class(pixels, torch.tensor([0, 0, 1, 1]), 3).details(torch.arange(3))
    dot = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    dot[0, 0, 4, 4] = 0.5
    torch.testing.assert_close(found[1:2], dot - blurred(dot, 4))
    torch.testing.assert_close(found[0], -found[1])
    assert not found[2].any()  # no image


def test_a_pattern_goes_with_the_class() -> None:
    rest, donors = images_of(0), images_of(1)
    donors = Images(donors.pixels, 1 - donors.classes, donors.peaks, None, rest.by_class)
    made = part("a pattern in common").exchanged(rest, donors)
    details = rest.by_class.details(torch.arange(2))
    assert details.abs().max() > 0.05
    expected = rest.pixels - details[rest.classes] + details[donors.classes]
    for i in range(N):
        limited = within(expected[i].numpy(), rest.pixels[i].numpy(), donors.pixels[i].numpy())
        np.testing.assert_allclose(made[i].numpy(), limited, atol=1e-12)


def test_the_shift_between_classes_is_found_and_moved_by() -> None:
    generator = torch.Generator().manual_seed(0)
    squares = torch.rand(40, 3, 6, 6, generator=generator)
    pixels = torch.zeros(40, 3, *SHAPE)
    pixels[:20, :, 4:10, 9:15] = squares[:20]
    pixels[20:, :, 7:13, 7:13] = squares[20:]
    classes = torch.arange(40) // 20
    common = by_class(pixels, classes, 3)
    moves = common.moves(torch.tensor([0, 1, 0, 2, 0, 0]), torch.tensor([1, 0, 1, 0, 2, 0]))
    assert moves.tolist() == [[3, -2], [-3, 2], [3, -2], [0, 0], [0, 0], [0, 0]]  # class 2 has no image
    every = Images(pixels, classes, torch.zeros(40, 2, 2, dtype=torch.int64), None, common)
    made = part("the position").exchanged(every.take(torch.tensor([0])), every.take(torch.tensor([30])))
    torch.testing.assert_close(made[0, :, 7:13, 7:13], squares[0])
    assert float(made.sum()) == pytest.approx(float(squares[0].sum()))


def test_a_cast_goes_with_the_tint_whatever_is_bright_in_an_image() -> None:
    white = torch.zeros(2, 3, *SHAPE)
    white[0, :, 3:6, 3:6] = 1.0
    white[1, :, 10:19, 5:20] = 0.8
    cast = torch.tensor([1.0, 0.6, 0.2]).view(3, 1, 1)
    label = torch.zeros(1, dtype=torch.int64)
    peaks = torch.zeros(1, 2, 2, dtype=torch.int64)
    rest, donors = (
        Images(pixels, label, peaks, None, by_class(pixels, label, 1))
        for pixels in (white[:1], (white[1] * cast)[None])
    )
    made = part("the tint").exchanged(rest, donors)[0]
    # Of the same mean brightness: 1.8 is what the three factors add up to; no pixel becomes brighter than any was.
    torch.testing.assert_close(made, white[0] * (cast / 0.6).clamp(max=1.0))


@pytest.mark.parametrize(("peak", "of"), [(0, "part"), (1, "control")])
def test_patches_change_places(peak: int, of: str) -> None:
    rest, donors = images_of(0), images_of(1)
    peaks = torch.tensor([[0, 0], [9, 13], [18, 25], [5, 20]])
    others = torch.tensor([[9, 9], [1, 2], [7, 3], [18, 18]])
    both = torch.stack([peaks, others], 1)
    rest = Images(rest.pixels, rest.classes, both, None, rest.by_class)
    donors = Images(donors.pixels, donors.classes, both.flip(0), None, rest.by_class)
    found = part("a patch")
    control = found.control
    assert control is not None
    made = {"part": found, "control": control}[of].exchanged(rest, donors)
    side = round(SHAPE[0] / 4)
    for i in range(N):
        expected = rest.pixels[i].clone()
        (top, left), (from_top, from_left) = (
            [min(max(int(p) - side // 2, 0), n - side) for p, n in zip(place, SHAPE, strict=True)]
            for place in (peaks[i], both.flip(0)[i, peak])
        )
        given = donors.pixels[i, :, from_top : from_top + side, from_left : from_left + side]
        expected[:, top : top + side, left : left + side] = given
        torch.testing.assert_close(made[i], expected)


def test_corners_edges_frame_and_disc_by_hand() -> None:
    rest, donors = (Images(torch.full((1, 1, 24, 24), v), torch.zeros(1), None, None, None) for v in (0.0, 1.0))
    regions = [one for one in parts_of((24, 24)) if one.kind in {"surroundings", "frame", "corner", "edge"}]
    areas = {one.name: float(one.exchanged(rest, donors).mean()) for one in regions}
    assert areas["top left"] == pytest.approx(16 / 576)
    assert areas["bottom middle"] == pytest.approx(4 * 16 / 576)
    assert areas["the frame"] == pytest.approx((576 - 20 * 20) / 576)
    assert areas["outside a disc of radius 0.35"] == pytest.approx(1 - np.pi * 0.35**2, abs=0.02)


def test_moves_against_every_shift_tried_and_classes_that_do_not_vary() -> None:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.rand(9, 2, 12, 17, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 2, 2, 2, 3, 4, 4])
    pixels[8] = pixels[7]  # class 4 does not vary, class 3 has one image, class 1 none
    found = by_class(pixels, labels, 5).moves(*(torch.cartesian_prod(torch.arange(5), torch.arange(5)).T))
    maps = {k: np.sqrt(pixels[labels == k].numpy().var(0, ddof=1).sum(0)) for k in (0, 2)}
    for one, other, move in zip(*np.divmod(np.arange(25), 5), found.tolist(), strict=True):
        expected = [0, 0]
        if one in maps and other in maps:
            mine, theirs = (maps[k] - maps[k].mean() for k in (one, other))
            agreement = {
                (down, across): float((np.roll(mine, (down, across), (0, 1)) * theirs).sum())
                for down in range(-3, 4)
                for across in range(-4, 5)
            }
            expected = list(max(agreement, key=agreement.__getitem__))
        assert move == expected
