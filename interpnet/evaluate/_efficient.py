"""Efficient parameter randomisation: whether a map loses its order when the network loses what it has learned."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from interpnet.engine import beside, check_images, unwrap
from interpnet.evaluate._checks import check_made, checked_maps
from interpnet.evaluate._randomisation import randomised
from interpnet.evaluate._score import Score, measure
from interpnet.support.checks import check_kinds, whole_number

Explain = Callable[[nn.Module, Tensor], Tensor]


def efficient_randomisation(
    model: nn.Module,
    images: Tensor,
    explain: Explain,
    *,
    bins: int = 100,
    how: str = "permute",
    seed: int = 0,
    constant: str = "error",
) -> Score:
    r"""Return by how much the entropy of each map's values rises when all weights are made random, as a share.

    With :math:`n_b` of the n pixels in bin b of ``bins`` equal ones between a map's least and largest value,

    .. math:: H = -\sum_b \frac{n_b}{n} \ln \frac{n_b}{n}, \qquad \frac{H_{random} - H}{H}

    No maps are compared, so that a map of noise, which changes altogether, has about 0; so has an edge map. It is the
    distribution of values that counts, not their places: a map that is spread evenly before has no room to rise.

    Parameters
    ----------
    model : nn.Module
        Left as it was: the random network is a copy (:func:`interpnet.evaluate.randomised`).
    images : Tensor (B, C, H, W)
        As the model wants them, some tens: batch norms are estimated on them.
    explain : function
        ``explain(model, images) -> (B, H, W)``, raw maps. Fix the class in it, for the random network predicts others:
        ``lambda m, x: attribute(m, x, target, "gradcam")``. It runs twice.
    bins : int
        Of the histogram, from 2 on.
    how, seed
        How weights are drawn, and of which draw; see :func:`interpnet.evaluate.parameter_randomisation`.
    constant : {"error", "zero"}
        Refuse a map of the trained network that is constant, or flag it: it has 0 where the random network's map is
        constant too, else infinity.

    Returns
    -------
    Score
        ``values`` (B,) from -1 on, higher is better. ``curve`` (B, 2): the entropy of the trained network's map, and
        of the random one's.

    Raises
    ------
    DataError
        Maps of another shape, constant, or with NaN (the images are named); too few images for a batch norm.
    ModelError
        The model cannot be copied, or has no weights.

    References
    ----------
    Hedstroem et al. 2023, Sanity Checks Revisited: An Exploration to Repair the Model Parameter Randomisation Test
    (eMPRT). Weights are drawn as in :func:`interpnet.evaluate.randomised`, so that the signal keeps its size.

    Examples
    --------
    >>> from interpnet.attribution import attribute
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(484, 2)).eval()
    >>> images = torch.rand(4, 1, 13, 13)
    >>> found = efficient_randomisation(net, images, lambda m, x: attribute(m, x, 0, "edge"))
    >>> found.values.tolist(), found.curve.shape
    ([0.0, 0.0, 0.0, 0.0], torch.Size([4, 2]))
    """
    check_kinds(efficient_randomisation, locals())
    whole_number(bins, "bins", least=2)
    model = unwrap(model)
    images = beside(model, check_images(images))
    other = randomised(model, images, how=how, seed=seed)
    entropies = []
    flagged = []
    for network, what, if_constant in (
        (model, "the network as it is", constant),
        (other, "the random network", "zero"),
    ):
        made = explain(network, images.clone())
        check_made(made, images, f"explain returned {{}} for {what}")
        maps, flat = checked_maps(made, f"maps of {what}", constant=if_constant)
        entropies.append(_entropy(maps, int(bins)))
        flagged.append(flat)
    before, after = entropies
    # docs/method.md, section 6.2. A constant map has one bin and no entropy that a share could be taken of.
    none = torch.where(after > 0, math.inf, 0.0).to(after)
    values = torch.where(before > 0, (after - before) / torch.where(before > 0, before, 1.0), none)
    return measure("efficient_randomisation").score(values, curve=torch.stack([before, after], 1), flagged=flagged[0])


def _entropy(maps: Tensor, bins: int) -> Tensor:
    """Return the entropy (B,) of the histogram of each map (B, H, W), in nats."""
    values = maps.flatten(1)
    low, high = values.aminmax(dim=1, keepdim=True)
    # The edges between bins, as numpy.histogram has them: a value on an edge is in the bin above it.
    inner = low + (high - low) / bins * torch.arange(1, bins, device=values.device)
    place = torch.searchsorted(inner, values, right=True)
    counts = torch.zeros(len(values), bins, dtype=torch.int64, device=values.device)
    counts.scatter_add_(1, place, torch.ones_like(place))
    shares = counts.to(values) / values.shape[1]
    entropy: Tensor = torch.special.entr(shares).sum(1)
    # A constant map's edges all are its value.
    return torch.where((low == high)[:, 0], torch.zeros_like(entropy), entropy)
