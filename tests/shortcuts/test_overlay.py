"""The overlay probe: hand-computed log-odds, what is raised and what is not, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from interpnet.errors import DataError, InterpNetError
from interpnet.shortcuts import overlaid, overlay_probe
from interpnet.shortcuts._overlay import _Pieces


class Means(nn.Module):
    """Logits: the mean of the left half, of the right half, and 0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = x.flatten(2)[:, 0].view(len(x), *x.shape[2:]).chunk(2, dim=-1)
        return torch.stack([left.mean((1, 2)), right.mean((1, 2)), torch.zeros(len(x))], 1)


def shown(n: int, c: int = 2) -> torch.Tensor:
    return torch.full((n,), c, dtype=torch.int64)


def test_a_rise_is_what_is_computed_by_hand() -> None:
    images = torch.zeros(3, 1, 2, 4)
    overlay = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]])[None]
    half = torch.full((2, 4), 0.5)
    found = overlay_probe(Means(), images, overlay, half, classes=shown(3), piece=2, progress=False)
    # Left 0.5, right 0, third 0: log-odds of the first rise from -log 2 to 0.5 - log 2, of the second they fall.
    assert found.whole[0] == pytest.approx(0.5)
    assert found.whole[1] == pytest.approx(math.log(2) - math.log(math.exp(0.5) + 1))
    # A control puts the two pieces as they are or the other way round: the first or the second rises by 0.5.
    seen = (found.control[0] - found.whole[1]) / (0.5 - found.whole[1])
    assert seen * 6 == pytest.approx(round(seen * 6))  # three images, two controls of each
    assert found.rise[0] == pytest.approx(found.whole[0] - found.control[0])
    assert found.n.tolist() == [3, 3, 0]
    assert math.isnan(found.rise[2])
    assert found.taken.tolist()[:2] == [1.0, 0.0]


class Template(nn.Module):
    """The second of two logits says how well a picture is found anywhere; a third class is never there."""

    def __init__(self, picture: torch.Tensor) -> None:
        super().__init__()
        centred = picture - picture.mean()
        self.register_buffer("kernel", (centred / centred.norm())[None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = nn.functional.conv2d(x, self.kernel).amax((1, 2, 3))
        return torch.stack([torch.zeros_like(found), found, found - found], 1)


def picture() -> torch.Tensor:
    return (torch.rand(8, 8, generator=torch.Generator().manual_seed(3)) > 0.5).float()


def probed(net: nn.Module, laid: torch.Tensor, n: int = 40, **options: Any) -> Any:
    images = torch.rand(n, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    overlay = torch.zeros(1, 20, 20)
    overlay[0, 6:14, 5:13] = laid
    opacity = torch.zeros(20, 20)
    opacity[6:14, 5:13] = 0.8
    return overlay_probe(net, images, overlay, opacity, classes=shown(n, 0), progress=False, **options)


def test_the_class_that_looks_for_the_picture_is_named_and_no_other() -> None:
    found = probed(Template(picture()), picture())
    assert [c for c, _ in found.raised()] == [1]
    assert found.low[1] > 1
    assert found.high[1] < found.whole[1] + 1


def test_another_picture_of_as_many_pixels_raises_nothing() -> None:
    for seed in range(10, 15):
        other = picture().flatten()[torch.randperm(64, generator=torch.Generator().manual_seed(seed))].view(8, 8)
        found = probed(Template(picture()), other, controls=8)
        # A shuffled picture can match a little better or worse than its pieces; it is no match.
        assert abs(found.rise[1]) < 0.25 * probed(Template(picture()), picture(), controls=8).rise[1]


def test_one_colour_raises_nothing_for_its_controls_are_itself() -> None:
    found = probed(Template(picture()), torch.ones(8, 8))
    assert found.rise[1] == 0
    assert found.raised() == []


@pytest.mark.parametrize("piece", [1, 3, 8])
def test_controls_have_the_pixels_of_the_overlay(piece: int) -> None:
    overlay = torch.rand(3, 20, 30)
    opacity = torch.zeros(20, 30)
    opacity[2:18, 5:29] = 0.5
    pieces = _Pieces(overlay, opacity, piece, 0)
    laid = pieces.laid_on(torch.zeros(4, 3, 20, 30))
    whole = overlaid(torch.zeros(1, 3, 20, 30), overlay, opacity)[0]
    for one in laid:
        assert not torch.equal(one, whole)
        torch.testing.assert_close(one.flatten(1).sort(1).values, whole.flatten(1).sort(1).values)
    assert not torch.equal(laid[0], laid[1])


def test_a_piece_is_turned_and_mirrored_and_nothing_else() -> None:
    overlay = torch.arange(9.0).view(1, 3, 3)
    pieces = _Pieces(overlay, torch.ones(3, 3), 3, 0)
    turned = [torch.rot90(overlay[0], k) for k in range(4)]
    expected = {tuple(way.flatten().tolist()) for one in turned for way in (one, one.flip(1))}
    assert {tuple(one.flatten().tolist()) for one in pieces.laid_on(torch.zeros(200, 1, 3, 3))} == expected


def test_beyond_pieces_as_large_as_the_letters_less_is_left() -> None:
    letters = torch.cat([picture(), picture()], 1)
    images = torch.rand(30, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    overlay = torch.zeros(1, 20, 20)
    overlay[0, 6:14, 2:18] = letters
    opacity = torch.zeros(20, 20)
    opacity[6:14, 2:18] = 0.8

    def rise(piece: int) -> float:
        options = {"classes": shown(30, 0), "piece": piece, "controls": 8, "progress": False}
        return float(overlay_probe(Template(picture()), images, overlay, opacity, **options).rise[1])

    # In an eighth of its ways a piece is the letter that is looked for, and of two letters one is enough.
    assert rise(8) < 0.9 * rise(1)


def test_the_same_seed_gives_the_same_controls_and_batches_do_not_matter() -> None:
    net = Template(picture())
    one, other = (probed(net, picture(), max_batch=size) for size in (7, 64))
    np.testing.assert_allclose(one.whole, other.whole)
    assert one.n.tolist() == other.n.tolist()
    again = probed(net, picture(), max_batch=7)
    np.testing.assert_array_equal(one.rise, again.rise)
    assert not np.array_equal(one.rise, probed(net, picture(), max_batch=7, seed=1).rise)


def test_what_images_show_is_what_the_network_says_where_nothing_is_given() -> None:
    images = torch.zeros(4, 1, 2, 4)
    images[:2, :, :, :2] = 1.0
    images[2:, :, :, 2:] = 1.0
    overlay = torch.rand(1, 2, 4)
    found = overlay_probe(Means(), images, overlay, torch.ones(2, 4) / 2, progress=False)
    assert found.n.tolist() == [2, 2, 4]
    assert found.taken_before[:2].tolist() == [0.0, 0.0]


GOOD: dict[str, Any] = {"images": torch.rand(3, 1, 4, 4), "overlay": torch.rand(1, 4, 4), "opacity": torch.ones(4, 4)}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"overlay": torch.rand(1, 4, 5)},
            r"overlay: shape \(1, 4, 5\).*expected floating-point numbers of shape \(1, 4",
        ),
        ({"overlay": torch.full((1, 4, 4), math.nan)}, "overlay holds NaN"),
        ({"opacity": torch.rand(4, 5)}, r"opacity: shape \(4, 5\)"),
        ({"opacity": torch.zeros(4, 4)}, "opacity must be from 0 to 1, and above 0"),
        ({"opacity": torch.full((4, 4), 1.5)}, "opacity must be from 0 to 1"),
        ({"images": torch.rand(1, 1, 4, 4)}, "1 image came; expected several"),
        ({"classes": torch.tensor([0, 1])}, r"classes is torch.int64 of shape \(2,\); expected 3 class numbers"),
        ({"classes": torch.tensor([0, 1, 9])}, "classes has 9; expected 0 to 2"),
        ({"classes": torch.tensor([0, 1, -1])}, "expected 3 class numbers, 0 or above"),
    ],
)
def test_wrong_tensors_are_refused_by_name(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        overlay_probe(Means(), **(GOOD | changed), progress=False)


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"piece": 0}, "piece"), ({"controls": 0}, "controls"), ({"seed": -1}, "seed"), ({"max_batch": 0}, "max_batch")],
)
def test_wrong_numbers_are_refused_by_name(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InterpNetError, match=message):
        overlay_probe(Means(), **GOOD, **changed, progress=False)


def test_one_output_is_a_class_and_its_contrary() -> None:
    one = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    two = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        two[1].weight[0] = two[1].bias[0] = 0.0
        two[1].weight[1] = one[1].weight[0]
        two[1].bias[1] = one[1].bias[0]
    of_each = {"classes": torch.tensor([0, 1, 0])}
    rises = [overlay_probe(net, **GOOD, **of_each, progress=False).rise for net in (one, two)]
    np.testing.assert_allclose(*rises, rtol=1e-5)
