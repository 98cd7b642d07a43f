"""How alike two heatmaps are: by the order of their pixels, and by their local structure."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from interpnet.engine import check_dense, widest
from interpnet.errors import DataError, InterpNetError
from interpnet.evaluate._checks import checked_maps
from interpnet.explanation import normalise
from interpnet.support.checks import check_kinds, is_whole

#: The window of Wang et al. 2004: a Gaussian of 1.5 pixels, and their two constants. scikit-image's function agrees to
#: 1e-15 at window 11, but takes no other window of this width, one pair of maps at a time, and only arrays of the CPU.
_SIGMA = 1.5
_C1 = 0.01**2
_C2 = 0.03**2


def ranks(values: Tensor) -> Tensor:
    """Return the ranks, 1 to n, along the last axis; equal values share the mean of theirs.

    Examples
    --------
    >>> ranks(torch.tensor([5.0, 1.0, 5.0, 7.0]))
    tensor([2.5000, 1.0000, 2.5000, 4.0000], dtype=torch.float64)
    """
    ordered, order = values.sort(-1)
    n = values.shape[-1]
    place = torch.arange(n, device=values.device).expand_as(order)
    new = F.pad(ordered[..., 1:] != ordered[..., :-1], (1, 0), value=True)
    first = torch.where(new, place, 0).cummax(-1).values
    # A run ends where the next one begins; the same from behind.
    end = F.pad(new[..., 1:], (0, 1), value=True)
    last = torch.where(end, place, n).flip(-1).cummin(-1).values.flip(-1)
    shared = (first + last).to(widest(values.device)) / 2 + 1
    return torch.empty_like(shared).scatter_(-1, order, shared)


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Return the rank correlation of maps, over their pixels.

    Pearson's correlation of the ranks, ties averaged. A constant map has no order: 0 with any other, 1 with another
    constant one (they are the same picture).

    Parameters
    ----------
    a, b : Tensor (..., H, W)
        Finite; of the same shape, or shapes that broadcast over the leading axes.

    Returns
    -------
    Tensor (...), float64
        In [-1, 1]; invariant under any increasing function of the values.

    Examples
    --------
    >>> round(spearman(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 100.0, 3.0]])).item(), 6)
    0.5
    """
    check_kinds(spearman, locals())
    a, b = _checked(a, b)
    return correlated(standard_ranks(a), standard_ranks(b))


def standard_ranks(maps: Tensor) -> Tensor:
    """Return the ranks (..., H * W) centred and of unit length; zeros for a constant map."""
    centred = ranks(maps.flatten(-2))
    centred = centred - centred.mean(-1, keepdim=True)
    length = centred.norm(dim=-1, keepdim=True)
    return centred / torch.where(length > 0, length, torch.ones_like(length))


def correlated(a: Tensor, b: Tensor) -> Tensor:
    """Return the correlation (...) of two results of :func:`standard_ranks`."""
    # Two constant maps are the same picture, and have no order whose correlation could be taken.
    both_flat = (a == 0).all(-1) & (b == 0).all(-1)
    found = (a * b).sum(-1).clamp(-1, 1)  # rounding may lead past 1
    return torch.where(both_flat, torch.ones_like(found), found)


def ssim(a: Tensor, b: Tensor, *, window: int = 11) -> Tensor:
    r"""Return the structural similarity of maps, each min-max normalised to [0, 1] first.

    The mean over all windows inside the map of

    .. math:: \frac{(2 \mu_a \mu_b + c_1)(2 \sigma_{ab} + c_2)}
                   {(\mu_a^2 + \mu_b^2 + c_1)(\sigma_a^2 + \sigma_b^2 + c_2)}

    under a Gaussian of 1.5 pixels, :math:`c_1 = 0.01^2`, :math:`c_2 = 0.03^2` (Wang et al. 2004). Equal maps have 1;
    areas where both are flat count as alike, so maps of a few points on a flat ground score high whatever the points.

    Parameters
    ----------
    a, b : Tensor (..., H, W)
        As in :func:`spearman`.
    window : int
        Side in pixels, odd, at most the maps'; 11 is the literature's.

    Returns
    -------
    Tensor (...), float64
        In [-1, 1].

    Examples
    --------
    >>> board = (torch.arange(11)[:, None] + torch.arange(11)) % 2 * 1.0
    >>> ssim(board, 3 * board), ssim(board, 1 - board) < -0.9
    (tensor(1., dtype=torch.float64), tensor(True))
    """
    check_kinds(ssim, locals())
    a, b = _checked(a, b)
    check_window(window, a)
    shape = (a[..., :1, :1] + b[..., :1, :1]).shape[:-2] + a.shape[-2:]
    a, b = (normalise(m).expand(shape).reshape(-1, *shape[-2:]) for m in (a, b))
    mean_a, mean_b, aa, bb, ab = (_blur(m, window) for m in (a, b, a * a, b * b, a * b))
    variance_a = aa - mean_a**2
    variance_b = bb - mean_b**2
    covariance = ab - mean_a * mean_b
    alike = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    alike = alike / ((mean_a**2 + mean_b**2 + _C1) * (variance_a + variance_b + _C2))
    return alike.mean((1, 2)).view(shape[:-2])


def check_window(window: int, maps: Tensor) -> None:
    """Raise :class:`InterpNetError` where the window of :func:`ssim` does not fit the maps (..., H, W)."""
    if not is_whole(window) or window < 3 or window % 2 == 0:
        raise InterpNetError(f"window={window!r}; expected an odd number of pixels from 3 on")
    if window > min(maps.shape[-2:]):
        raise InterpNetError(
            f"window={window} is larger than the maps, {tuple(maps.shape[-2:])}; pass a smaller odd window="
        )


def _blur(maps: Tensor, window: int) -> Tensor:
    """Return the Gaussian means (N, H - window + 1, W - window + 1) of all windows inside the maps (N, H, W)."""
    at = torch.arange(window, dtype=torch.float64) - window // 2
    weights = torch.exp(-(at**2) / (2 * _SIGMA**2))
    shares = (weights / weights.sum()).tolist()
    # Sums of shifted maps: several times faster than torch's convolution, which has no quick float64 form on the CPU.
    for axis in (-2, -1):
        length = maps.shape[axis] - window + 1
        means = maps.narrow(axis, 0, length) * shares[0]
        for i, share in enumerate(shares[1:], start=1):
            means.add_(maps.narrow(axis, i, length), alpha=share)
        maps = means
    return maps


def _checked(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return both maps as float64, finite and of one size."""
    for one in (a, b):
        check_dense(one, "maps", "..., H, W")
    if a.dim() < 2 or b.dim() < 2 or a.shape[-2:] != b.shape[-2:]:
        raise DataError(
            f"maps: shapes {tuple(a.shape)} and {tuple(b.shape)} came; expected maps (..., H, W) of one size"
        )
    first, second = (checked_maps(m.reshape(-1, *m.shape[-2:]), "maps", constant="zero")[0] for m in (a, b))
    first = first.view(a.shape)
    second = second.view(b.shape)
    # From the last axis on, as broadcasting goes; the last two are the maps' own.
    for m, n in zip(a.shape[-3::-1], b.shape[-3::-1], strict=False):
        if m != n and 1 not in {m, n}:
            raise DataError(f"maps: shapes {tuple(a.shape)} and {tuple(b.shape)} came; expected as many maps of each")
    return first, second
