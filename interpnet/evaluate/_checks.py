"""What the measures insist on before they start, with errors that name the images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from interpnet.engine import check_dense, widest
from interpnet.errors import DataError
from interpnet.support.boxes import checked_boxes, inside_boxes
from interpnet.support.checks import one_of


def wide(x: Tensor) -> Tensor:
    """Return ``x`` as float64, or as float32 on a device without it."""
    return x.detach().to(widest(x.device))


def images_named(flags: Tensor) -> str:
    """Return the numbers of the images whose flag (B,) is set, as words.

    Examples
    --------
    >>> images_named(torch.tensor([False, True])), images_named(torch.arange(9) > 2)
    ('image 1', 'images 3, 4, 5, 6 and 2 more')
    """
    numbers = flags.nonzero()[:, 0].tolist()
    if len(numbers) == 1:
        return f"image {numbers[0]}"
    words = f"images {', '.join(map(str, numbers[:4]))}"
    if len(numbers) > 4:
        words += f" and {len(numbers) - 4} more"
    return words


def described(value: object) -> str:
    """Return what came instead of maps, as words.

    Examples
    --------
    >>> described(torch.zeros(2, 3)), described("map")
    ('shape (2, 3), torch.float32', 'a str')
    """
    if isinstance(value, Tensor):
        return f"shape {tuple(value.shape)}, {value.dtype}"
    return f"a {type(value).__name__}"


def check_made(maps: object, images: Tensor, what: str) -> None:
    """Raise :class:`DataError` unless a user's function returned maps (B, H, W); ``what`` says which, around ``{}``."""
    if not isinstance(maps, Tensor) or maps.dim() != 3 or maps.shape[0] != images.shape[0]:
        raise DataError(f"{what.format(described(maps))}; expected maps (B={images.shape[0]}, H, W)")


def checked_maps(
    maps: Tensor, name: str = "heatmaps", *, axes: str = "B, H, W", constant: str = "error"
) -> tuple[Tensor, Tensor]:
    """Return the maps as float64, and which of them are constant.

    Raises
    ------
    DataError
        No tensor of floating-point maps (``axes``), NaN or infinity in one, or a constant one with
        ``constant="error"``; the numbers of the images are named.
    """
    one_of(constant, "constant", ("error", "zero"))
    check_dense(maps, name, axes)
    if maps.dim() != len(axes.split(", ")) or not maps.is_floating_point() or maps.numel() == 0:
        raise DataError(f"{name}: {described(maps)} came; expected floating-point maps ({axes})")
    found = wide(maps)
    # Both extremes carry a NaN on.
    span = found.amax((-2, -1)) - found.amin((-2, -1))
    bad = ~torch.isfinite(span)
    if bool(bad.any()):
        raise DataError(
            f"{name}: NaN or infinity in {images_named(_by_image(bad))}; a map must be finite (look for a division by "
            "zero in the method, or for half precision)"
        )
    flat = span == 0  # exactly: the least difference is an order
    if constant == "error" and bool(flat.any()):
        raise DataError(
            f"{name}: the map of {images_named(_by_image(flat))} is constant, so it ranks no pixel above another; "
            "leave it out, or pass constant='zero' and count it by the result's .flagged"
        )
    return found, flat


def checked_regions(masks: Tensor | None, boxes: Any, maps: Tensor) -> Tensor:
    """Return where the subject is as bool (B, H, W) on the maps' device, from masks (B, H, W) or boxes (B, 4).

    Raises
    ------
    DataError
        Both or none of them, another shape than the maps', values of masks other than 0 and 1, a mask or box without
        a pixel of the image or with all of them; the numbers of the images are named.
    """
    if masks is not None and boxes is not None:
        raise DataError("masks and boxes came; expected one of them: masks say more")
    if masks is None and boxes is None:
        raise DataError("neither masks nor boxes came; expected masks (B, H, W) of bool, or boxes (B, 4)")
    if boxes is None:
        return _with_both(_from_masks(masks, maps), "masks: the mask", "")
    found = checked_boxes(boxes, "images")
    if len(found) != len(maps):
        raise DataError(f"boxes: {len(found)} came for {len(maps)} heatmaps; expected one an image")
    inside = torch.from_numpy(inside_boxes(found, maps.shape[1], maps.shape[2])).to(maps.device)
    return _with_both(inside, "boxes: the box", " (a box is left, top, right, bottom in pixels of the map)")


def _from_masks(masks: Any, maps: Tensor) -> Tensor:
    check_dense(masks, "masks", "B, H, W) of bool or (0, 1")
    if masks.is_complex():
        raise DataError(f"masks: {described(masks)} came; expected a tensor (B, H, W) of bool")
    if masks.shape != maps.shape:
        raise DataError(
            f"masks: shape {tuple(masks.shape)} came for heatmaps {tuple(maps.shape)}; expected one mask (H, W) an "
            "image, of the image's own size"
        )
    masks = masks.detach().to(maps.device)
    inside: Tensor = masks == 1
    other = ~(inside | (masks == 0)).flatten(1).all(1)
    if bool(other.any()):
        raise DataError(
            f"masks: values other than 0 and 1 in {images_named(other)}; pass a mask of bool, e.g. masks > 0"
        )
    return inside


def _with_both(inside: Tensor, name: str, hint: str) -> Tensor:
    """Return the regions, or refuse one without an inside or an outside: every map would score the same."""
    count = inside.flatten(1).sum(1)
    for bad, word in ((count == 0, "empty"), (count == inside[0].numel(), "full")):
        if bool(bad.any()):
            raise DataError(
                f"{name} of {images_named(bad)} is {word}; expected pixels inside and outside, else there is nothing "
                f"to find{hint}"
            )
    return inside


def _by_image(flags: Tensor) -> Tensor:
    """Return flags (B, ...) as one per image."""
    return flags.reshape(len(flags), -1).any(1)
