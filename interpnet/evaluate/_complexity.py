"""How few pixels a map speaks of: Gini index and entropy of its absolute values.

Both look at the map alone. A map that puts everything on a wrong pixel has the best value there is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from interpnet.evaluate._checks import checked_maps
from interpnet.evaluate._score import Score, measure
from interpnet.support.checks import check_kinds


def sparseness(heatmaps: Tensor, *, constant: str = "error") -> Score:
    r"""Return the Gini index of each map's absolute values: 0 where all pixels have the same, near 1 where one has all.

    With :math:`a_1 \le ... \le a_n` the absolute values of the n pixels, sorted,

    .. math:: G = \frac{\sum_i (2 i - n - 1) a_i}{n \sum_i a_i}

    One pixel alone has ``1 - 1/n``, the most there can be. The index does not change with the map's scale, and it does
    with its size: compare maps of one resolution.

    Parameters
    ----------
    heatmaps : Tensor (B, H, W)
        Of any scale, as they are before normalising to [0, 1], which would move the zero of signed maps.
    constant : {"error", "zero"}
        Refuse a constant map, or flag it and give it 0.

    Returns
    -------
    Score
        ``values`` (B,) in [0, 1), higher is better (fewer pixels).

    Raises
    ------
    DataError
        Maps that are constant or hold NaN (the images are named), or of another shape.

    References
    ----------
    Chalasani et al. 2020, Concise Explanations of Neural Networks using Adversarial Training. The index: Hurley &
    Rickard 2009.

    Examples
    --------
    >>> sparseness(torch.tensor([[[0.0, 0.0], [0.0, -2.0]], [[1.0, 1.0], [1.0, -1.0]]])).values.tolist()
    [0.75, 0.0]
    """
    check_kinds(sparseness, locals())
    maps, flat = checked_maps(heatmaps, constant=constant)
    sizes = maps.abs().flatten(1).sort(1).values
    n = sizes.shape[1]
    place = 2 * torch.arange(1, n + 1, device=sizes.device).to(sizes) - n - 1
    values = (place * _shares(sizes)).sum(1) / n
    # A constant map's terms cancel up to rounding.
    return measure("sparseness").score(values.clamp(min=0.0), flagged=flat)


def complexity(heatmaps: Tensor, *, constant: str = "error") -> Score:
    r"""Return the entropy, in nats, of each map's absolute values as shares of their sum.

    .. math:: H = - \sum_i p_i \ln p_i, \quad p_i = |m_i| / \sum_j |m_j|

    It is 0 where one pixel has everything and ``ln(H W)`` where all have the same; ``exp`` of it is a number of pixels.

    Parameters
    ----------
    heatmaps : Tensor (B, H, W)
        As for :func:`sparseness`.
    constant : {"error", "zero"}
        Refuse a constant map, or flag it and give it ``ln(H W)``.

    Returns
    -------
    Score
        ``values`` (B,) in [0, ln(H W)], lower is better (fewer pixels).

    Raises
    ------
    DataError
        Maps that are constant or hold NaN (the images are named), or of another shape.

    References
    ----------
    Bhatt, Weller & Moura 2020, Evaluating and Aggregating Feature-based Model Explanations.

    Examples
    --------
    >>> found = complexity(torch.tensor([[[0.0, 0.0], [0.0, -2.0]], [[1.0, -1.0], [0.0, 0.0]]]))
    >>> found.values.exp().round(decimals=6).tolist()
    [1.0, 2.0]
    """
    check_kinds(complexity, locals())
    maps, flat = checked_maps(heatmaps, constant=constant)
    shares = _shares(maps.abs().flatten(1))
    return measure("complexity").score(torch.special.entr(shares).sum(1), flagged=flat)


def _shares(sizes: Tensor) -> Tensor:
    """Return sizes (B, n) as shares of their sum; equal ones where all are 0."""
    # Divided by the largest first: a sum of large numbers may overflow.
    largest = sizes.amax(1, keepdim=True)
    scaled = torch.where(largest > 0, sizes / largest, torch.ones_like(sizes))
    return scaled / scaled.sum(1, keepdim=True)
