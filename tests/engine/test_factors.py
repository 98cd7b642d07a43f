"""What is folded into each other is found again: a site is read as if every image lay by itself, in rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interpnet.engine import Instrument, Site, find_sites, instrument
from interpnet.engine._factors import Factor, reshaped, unknown, whole
from interpnet.errors import LayerError

Step = Callable[[Tensor], Tensor]
# Of images, channels, rows and columns.
B, C, H, W = 3, 4, 6, 8


class Moved(nn.Module):
    """A linear map of every position alone, then some steps, then a rectifier, which is the site that is looked at."""

    def __init__(self, steps: Step, *, last: bool = False) -> None:
        super().__init__()
        self.mix = nn.Conv2d(C, C, 1)
        self.head = nn.Linear(C * H * W, 2)
        self.steps = steps
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        y = self.mix(x)
        if self.last:
            y = y.permute(0, 2, 3, 1)
        torch.relu(self.steps(y))
        # The output asks nothing of it, so that the steps may do what they like.
        return self.head(x.flatten(1))


def windows(y: Tensor, side: int = 2) -> Tensor:
    """(B, H, W, C) to (B * windows, side * side, C), as Swin cuts them."""
    b, h, w, c = y.shape
    y = y.view(b, h // side, side, w // side, side, c).permute(0, 1, 3, 2, 4, 5)
    return y.reshape(-1, side * side, c)


def together(y: Tensor, side: int = 2) -> Tensor:
    """Back to (B, H, W, C)."""
    c = y.shape[-1]
    y = y.view(-1, H // side, W // side, side, side, c).permute(0, 1, 3, 2, 4, 5)
    return y.reshape(-1, H, W, c)


def heads(y: Tensor) -> Tensor:
    """(B, H, W, C) to (B * heads, tokens, features)."""
    return y.reshape(y.shape[0], H * W, 2, C // 2).transpose(1, 2).flatten(0, 1)


MAPS: dict[str, Step] = {
    "tokens": lambda y: y.reshape(y.shape[0], H * W, C),
    "tokens first": lambda y: y.flatten(1, 2).transpose(0, 1),
    "images and tokens on one axis": lambda y: y.reshape(-1, C),
    "windows": windows,
    "windows on an axis of their own": lambda y: windows(y).view(-1, 12, 4, C),
    "shifted windows": lambda y: windows(torch.roll(y, (-1, -3), (1, 2))),
    "shifted along one axis": lambda y: windows(torch.roll(y, -1, 2)),
    "there and back": lambda y: windows(torch.roll(together(windows(torch.roll(y, (-1, -1), (1, 2)))), (1, 1), (1, 2))),
    "a grid": lambda y: y.view(-1, 2, 3, 2, 4, C).permute(0, 2, 4, 1, 3, 5).reshape(-1, 12, 4, C),
    "channels first and windows": lambda y: windows(y).transpose(1, 2),
    "a class token taken off again": lambda y: torch.cat([y.new_zeros(len(y), 1, C), y.flatten(1, 2)], 1)[:, 1:],
    "padded and cut": lambda y: F.pad(y, (0, 0, 1, 2))[:, :, 1 : 1 + W].flatten(1, 2),
    "one of three": lambda y: y[:, None].flatten(2, 3)[:, 0],
    "unbound": lambda y: y.reshape(y.shape[0], H * W, 1, C).permute(2, 0, 1, 3).unbind(0)[0],
    "split in two": lambda y: y.unflatten(1, (2, 3)).flatten(0, 1),
    "moved": lambda y: windows(y.movedim(3, 1).movedim((1, 2), (-1, 1))),
}


def site_and_output(steps: Step, *, last: bool = True) -> tuple[Site, Tensor, Tensor]:
    """Return the site behind the steps, what it is read as, and the map (B, H, W, C) without them."""
    torch.manual_seed(0)
    x = torch.randn(B, C, H, W)
    net = Moved(steps, last=last).eval()
    site = find_sites(net, x)["relu"]
    kept: list[Tensor] = []
    read = site.reading(lambda out: kept.append(out.clone()))
    with torch.no_grad(), instrument(net, Instrument(reads={"relu": read})):
        net(x)
        return site, kept[0], torch.relu(net.mix(x)).permute(0, 2, 3, 1)


@pytest.mark.parametrize("name", MAPS)
def test_positions_and_images_are_found_again(name: str) -> None:
    site, seen, expected = site_and_output(MAPS[name])
    assert (site.shape, site.axis, site.channels, site.grid, site.why) == ((H, W, C), 3, C, (H, W), "")
    torch.testing.assert_close(seen, expected, rtol=0, atol=0)
    torch.testing.assert_close(site.over_image(seen), expected.permute(0, 3, 1, 2), rtol=0, atol=0)


@pytest.mark.parametrize("name", MAPS)
def test_what_is_edited_comes_back_to_its_place(name: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(B, C, H, W)
    net = Moved(MAPS[name], last=True).eval()
    site = find_sites(net, x)["relu"]
    mark = torch.randn(B, H, W, C)
    kept: list[Tensor] = []
    edits = Instrument(edits={"relu": site.editing(lambda out: out + mark)})
    with torch.no_grad(), instrument(net, edits), instrument(net, Instrument(reads={"relu": kept.append})):
        net(x)
        expected = MAPS[name](torch.relu(net.mix(x)).permute(0, 2, 3, 1)) + MAPS[name](mark)
    torch.testing.assert_close(kept[0], expected)


def test_a_class_token_stands_before_the_grid() -> None:
    token = torch.ones(1, 2, C)
    site, seen, expected = site_and_output(lambda y: torch.cat([token.expand(len(y), -1, -1), y.flatten(1, 2)], 1))
    assert (site.shape, site.grid, site.lead, site.view) == ((2 + H * W, C), (H, W), 2, None)
    torch.testing.assert_close(site.over_image(seen), expected.permute(0, 3, 1, 2), rtol=0, atol=0)


def test_channels_in_front_stay_as_they_are() -> None:
    site, seen, expected = site_and_output(lambda y: y, last=False)
    assert (site.view, site.axis, site.grid) == (None, 1, (H, W))
    torch.testing.assert_close(site.over_image(seen), expected.permute(0, 3, 1, 2), rtol=0, atol=0)


AFRESH: dict[str, Step] = {
    "shuffled pixels": lambda y: F.pixel_unshuffle(y, 2),
    "patches as channels": lambda y: (
        y.unflatten(3, (4, 2)).unflatten(2, (3, 2)).permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
    ),
    "a crop": lambda y: y[:, :, 1:-1, 1:-1],
    "turned round": lambda y: y.flip(2),
}


@pytest.mark.parametrize("name", AFRESH)
def test_a_convolution_has_rows_and_columns_whatever_came_before(name: str) -> None:
    def steps(y: Tensor) -> Tensor:
        y = AFRESH[name](y)
        return F.max_pool2d(F.conv2d(y, torch.ones(3, y.shape[1], 1, 1)), 1)

    site, seen, _ = site_and_output(steps, last=False)
    assert (site.view, site.axis, site.grid) == (None, 1, site.map_shape)
    torch.testing.assert_close(site.over_image(seen), seen)


NO_GRID: dict[str, Step] = {
    # No window is whole where the rows do not divide.
    "padded windows": lambda y: windows(F.pad(y, (0, 0, 0, 0, 0, 2)), 4),
    "turned round": lambda y: y.flatten(1, 2).flip(1),
    "half of the tokens": lambda y: y.flatten(1, 2)[:, : H * W // 2],
    "two maps side by side": lambda y: torch.cat([y, y], 1).flatten(1, 2),
}


@pytest.mark.parametrize("name", NO_GRID)
def test_positions_that_are_not_followed_lie_nowhere(name: str) -> None:
    site, seen, expected = site_and_output(NO_GRID[name])
    assert (site.why, site.channels, site.grid) == ("", C, ())
    assert seen.shape[0] == B
    # Every image keeps its own values, and every channel.
    own = NO_GRID[name](expected).reshape(B, -1, C).sum(1)
    torch.testing.assert_close(seen.reshape(B, -1, C).sum(1), own)
    with pytest.raises(LayerError, match=r"layer 'relu': its map of shape .* does not lie over the image; choose"):
        site.over_image(seen)


def test_images_that_are_mixed_are_refused() -> None:
    torch.manual_seed(0)
    net = Moved(lambda y: y.reshape(-1, C)[torch.arange(len(y) * H * W).flip(0)], last=True)
    x = torch.randn(2, C, H, W)
    site = find_sites(net, x)["relu"]
    assert not site.usable
    assert "no batch axis in front" in site.why


def cells_of(x: Tensor) -> Tensor:
    """(B, C, 6, 9) to (B * 6, C, 3, 3), part by part."""
    return x.unflatten(3, (3, 3)).unflatten(2, (2, 3)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def whole_map(y: Tensor) -> Tensor:
    """Back to rows and columns of the images."""
    return y.unflatten(0, (-1, 2, 3)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


IN_PARTS: dict[str, Step] = {
    "convolved": lambda y: F.conv2d(y, torch.arange(36.0).view(1, 4, 3, 3), padding=1),
    "smaller": lambda y: F.conv2d(y, torch.arange(36.0).view(1, 4, 3, 3), padding=1, stride=2),
    "larger": lambda y: F.interpolate(y, scale_factor=2),
    "pooled": lambda y: F.max_pool2d(y, 2, 1),
    "one position": lambda y: F.adaptive_avg_pool2d(F.max_pool2d(y, 2, 1), 1),
    "averaged": lambda y: F.max_pool2d(y, 2, 1).mean((2, 3), keepdim=True),
}


@pytest.mark.parametrize("name", IN_PARTS)
def test_parts_of_images_have_maps_that_lie_side_by_side(name: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(B, C, 6, 9)

    class Parts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            torch.relu(IN_PARTS[name](cells_of(x)))
            return x.flatten(1)

    net = Parts().eval()
    site = find_sites(net, x)["relu"]
    kept: list[Tensor] = []
    with (
        torch.no_grad(),
        instrument(net, Instrument(reads={"relu": site.reading(lambda out: kept.append(out.clone()))})),
    ):
        net(x)
    expected = whole_map(torch.relu(IN_PARTS[name](cells_of(x))))
    assert (site.why, site.grid) == ("", tuple(expected.shape[2:]))
    torch.testing.assert_close(site.maps(kept[0]), expected, rtol=0, atol=0)


def test_reshaping_by_hand() -> None:
    image = whole("batch", 2)
    rows = whole("space", 6)
    assert reshaped(((image,), (rows,)), (2, 2, 3)) == (
        (image,),
        (Factor("space", 2, 3, 6),),
        (Factor("space", 3, 1, 6),),
    )
    # Neighbouring digits are one number again, others are not.
    split = ((Factor("space", 2, 3, 6),), (Factor("space", 3, 1, 6),))
    assert reshaped(split, (6,)) == ((rows,),)
    assert reshaped(split[::-1], (6,)) == ((*split[1], *split[0]),)
    # A batch has no digits, and what does not divide is not followed.
    assert reshaped(((whole("batch", 4),),), (2, 2)) is None
    assert reshaped(((rows,),), (4, 2)) is None
    assert reshaped(((rows,),), (3,)) is None
    # One image: its axis is still there.
    one = whole("batch", 1)
    assert reshaped(((one,), (rows,), (unknown(4),)), (6, 4)) == ((one, rows), (unknown(4),))
    assert reshaped(((rows,), (one,), (unknown(4),)), (6, 4)) == ((rows,), (one, unknown(4)))


def test_heads_beside_the_batch() -> None:
    """A rectified map of heads has no channel axis of its own in (B * heads, T, d)."""
    site, _, _ = site_and_output(heads)
    assert "no batch axis in front" in site.why
