"""What a removed map can be overwritten with: the mean activation of its channel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.engine import Instrument, Site, forward, instrument
from interpnet.support.ranks import Ranks
from interpnet.support.types import Float64


def summed_means(
    model: nn.Module,
    sites: Sequence[Site],
    batches: Iterable[tuple[Tensor, Tensor]],
    put: Callable[[Tensor], Tensor],
    ranks: Ranks,
    advance: Callable[[int], None],
) -> Tensor:
    """Return each channel's mean over its map, summed over all images: (channels of all sites,) float64.

    Each of several ranks runs its batches.
    """
    of_site: dict[str, Tensor] = {}

    def read(site: Site, out: Tensor) -> None:
        means = out.float()
        axes = [a for a in range(1, out.dim()) if a != site.axis]
        if axes:  # without axes, mean() would average everything
            means = means.mean(axes)
        of_site[site.name] = means.sum(0).double().cpu()  # float64, for there may be many batches

    found: list[Float64] = []
    with instrument(model, Instrument(reads={site.name: site.reading(partial(read, site)) for site in sites})):
        for batch, (images, _) in enumerate(batches):
            if ranks.has(batch):
                forward(model, images, put)
                found.append(torch.cat([of_site[site.name] for site in sites]).numpy())
            advance(len(images))
    # Added in the order of the batches, whoever ran them: another order would round otherwise.
    total = np.zeros(sum(site.channels for site in sites))
    for of_batch in ranks.in_turn(np.array(found).reshape(len(found), len(total))):
        total += of_batch
    return torch.from_numpy(total)
