"""A class's score on changed images, and the maps that every measure of the network's answers has beside it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from interpnet.attribution import attribute
from interpnet.engine import Output, forward_logits
from interpnet.errors import DataError, ModelError
from interpnet.evaluate._checks import images_named, wide


def check_one_value_a_pixel(images: Tensor, maps: Tensor) -> None:
    """Raise :class:`DataError` unless maps (B, H, W) are of the size of the images (B, C, H, W)."""
    if tuple(maps.shape) != (images.shape[0], *images.shape[2:]):
        raise DataError(
            f"heatmaps: shape {tuple(maps.shape)} came for images {tuple(images.shape)}; expected "
            f"{(images.shape[0], *images.shape[2:])}, one value per pixel"
        )


def changed_scores(
    model: nn.Module,
    images: Tensor,
    into: Tensor,
    changed: Callable[[Tensor, Tensor], Tensor],
    points: int,
    classes: Tensor,
    *,
    score: str,
    max_batch: int,
    output: Output | None,
) -> Tensor:
    """Return the score (B, points) of the classes (B,) on images of which some pixels show other images.

    Parameters
    ----------
    images, into : Tensor (B, C, H, W)
        Before and after the change.
    changed : function
        ``changed(point, image) -> (n, H, W)`` of bool: the pixels that are changed, for n pairs of numbers.
    score : {"probability", "logit"}
    max_batch : int
        The most images in one pass.

    Raises
    ------
    ModelError
        The model returns NaN or infinity; the images are named.
    """
    batch = len(images)
    found = []
    for at in torch.split(torch.arange(points * batch, device=images.device), int(max_batch)):
        point = at // batch
        image = at % batch
        x = torch.where(changed(point, image)[:, None], into[image], images[image])
        # Not checked here, where images are numbered by point: all of them are below.
        values = wide(forward_logits(model, x, output))
        if score == "probability":
            values = values.softmax(1)
        found.append(values.gather(1, classes[image, None])[:, 0])
    scores = torch.cat(found).view(points, batch).T.contiguous()
    bad = ~torch.isfinite(scores).all(1)
    if bool(bad.any()):
        raise ModelError(f"the model returns NaN or infinity for {images_named(bad)} with pixels of the baseline")
    return scores


def control_maps(
    model: nn.Module,
    images: Tensor,
    classes: Tensor,
    controls: Sequence[str],
    *,
    max_batch: int,
    seed: int,
    output: Output | None,
) -> dict[str, Tensor]:
    """Return the maps (B, H, W) of attribution methods to measure beside the map, by name."""
    made = {}
    for control in controls:
        with warnings.catch_warnings():
            # An image of one colour has no edges: its control is the seeded order of equal pixels.
            warnings.filterwarnings("ignore", message=".*zero everywhere")
            made[control] = wide(
                attribute(model, images, classes, control, max_batch=max_batch, seed=seed, output=output)
            )
    return made
