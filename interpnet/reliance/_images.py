"""The contributions of single images, kept apart: which channels one image's log-odds rest on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from interpnet.engine import (
    ChannelIndex,
    Instrument,
    Output,
    Site,
    check_logits,
    evaluating,
    for_outputs,
    forward_logits,
    instrument,
    log_odds,
)
from interpnet.errors import DataError
from interpnet.reliance._probe import probe
from interpnet.reliance._reader import ContributionReader, Products, as_rows, not_finite
from interpnet.support.types import Float64


def image_contributions(
    model: nn.Module,
    images: Tensor,
    sites: Sequence[Site],
    choose: Callable[[Tensor], Sequence[int]],
    *,
    reference: Float64 | None = None,
    outputs: str = "exclusive",
    output: Output | None = None,
) -> Float64:
    """Return what the channels at ``sites`` contribute to the log-odds of one class of each image (B, m).

    ``images`` are on the model's device; ``choose`` takes their logits (B, C) and gives the classes. The reference (m,)
    is 0 by default. See :func:`interpnet.collect_contributions`, whose errors are raised here too.

    Examples
    --------
    >>> from interpnet.engine import find_sites
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2))
    >>> images = torch.rand(4, 1, 5, 5)
    >>> image_contributions(net, images, find_sites(net, images).select(), lambda logits: logits.argmax(1)).shape
    (4, 2)
    """
    output = for_outputs(output, outputs)
    reader = ContributionReader(sites, gradients=reference is not None)
    with evaluating(model, frozen=True), torch.inference_mode(False), torch.enable_grad():
        images = images.detach().clone()
        probe(model, reader, images, output, outputs)
        with instrument(model, Instrument(reads=reader.reads, edits=reader.edits)):
            logits = check_logits(forward_logits(model, images, output))
        classes = torch.as_tensor(choose(logits.detach()))
        products = reader.take(log_odds(logits, classes, outputs=outputs))
    return values_of(products, reader.channels, reference)


def values_of(products: Products, channels: ChannelIndex, reference: Float64 | None) -> Float64:
    """Return the contributions (B, m) that products are, less those of the reference (m,), if any.

    A number that is not finite is a :class:`DataError` that names the image.
    """
    values = as_rows(products.activation)
    if reference is not None and products.gradient is not None:
        values = values - reference * as_rows(products.gradient)
    bad = not_finite(values, channels)
    if bad is not None:
        image, layer = bad
        raise DataError(
            f"the gradient of image {image} of the batch is NaN or infinite at layer {layer!r}, or its map is; look at "
            "that image, and at weights that overflow"
        )
    return values
