"""How much of a heatmap is a grid: the share of its spectral energy at the frequencies of a stride.

A signal that goes back through a convolution of stride s reaches the input's positions with weights that repeat every
s pixels. A map that is a smooth picture times such a pattern has its picture's spectrum around zero and copies of it
around every other multiple of 1/s cycles per pixel: the checkerboard. Nothing of a smooth map alone lies there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from interpnet.engine import check_dense
from interpnet.errors import InterpNetError
from interpnet.evaluate._checks import described
from interpnet.support.checks import check_kinds, is_whole, listed, whole_number


def checkerboard(maps: Tensor, stride: int | tuple[int, int], *, width: float = 0.25) -> Tensor:
    """Return the share of each map's energy that lies at the frequencies of a stride.

    With ``F`` the discrete Fourier transform of a map: the sum of ``|F|^2`` over the bands around the multiples of
    ``1/stride`` other than (0, 0), divided by the sum over all frequencies. It is 0 for a smooth map and
    ``1 - 1/s^2`` for one that is nonzero at every s-th pixel of each axis only, whatever its picture, as long as that
    is smooth; white noise has about ``(2 * width)^2 (1 - 1/s^2)``, 0.19 for s = 2.

    Parameters
    ----------
    maps : Tensor (..., H, W)
        Heatmaps or raw signals, before normalising.
    stride : int or (int, int)
        In pixels of the map, at least 2 along one axis: a layer's stride times those of the strided layers below it.
    width : float
        Half the width of a band, as a share of the distance 1/stride between bands; above 0 and at most 0.5.

    Returns
    -------
    Tensor (...)
        Between 0 and 1; 0 for a blank map.

    Examples
    --------
    >>> grid = torch.zeros(8, 8)
    >>> grid[::2, ::2] = 1.0
    >>> checkerboard(grid, 2), checkerboard(torch.ones(8, 8), 2)
    (tensor(0.7500), tensor(0.))
    """
    check_kinds(checkerboard, locals())
    check_dense(maps, "maps", "..., H, W")
    if maps.dim() < 2 or not maps.is_floating_point():
        raise InterpNetError(f"maps: {described(maps)} came; expected floating-point maps (..., H, W)")
    strides = (stride, stride) if is_whole(stride) else tuple(listed(stride, "stride"))
    for one in strides:
        whole_number(one, "stride")
    if len(strides) != 2 or min(strides) < 1 or max(strides) < 2:
        raise InterpNetError(f"stride={stride!r}; expected a whole number of pixels from 2 on, or one for each axis")
    if any(s > n for s, n in zip(strides, maps.shape[-2:], strict=True)):
        raise InterpNetError(f"stride={stride!r} is larger than the maps, {tuple(maps.shape[-2:])}")
    if not 0 < width <= 0.5:
        raise InterpNetError(f"width={width}; expected above 0 and at most 0.5")
    if not bool(torch.isfinite(maps).all()):
        raise InterpNetError("maps hold NaN or infinity; expected finite maps")
    wide = maps
    if maps.dtype in {torch.float16, torch.bfloat16}:
        wide = maps.float()  # half precision has no transform on the CPU
    energy = torch.fft.fft2(wide).abs().square()
    rows, base_rows = _bands(maps.shape[-2], strides[0], width, maps.device)
    columns, base_columns = _bands(maps.shape[-1], strides[1], width, maps.device)
    # docs/method.md, section 6.2: the bands around the multiples of 1/stride, without the picture's own around zero.
    grid = rows[:, None] & columns[None, :] & ~(base_rows[:, None] & base_columns[None, :])
    total = energy.sum((-2, -1))
    share: Tensor = (energy * grid).sum((-2, -1)) / torch.where(total > 0, total, torch.ones_like(total))
    return share.to(maps.dtype)


def _bands(n: int, stride: int, width: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return which of n frequencies lie in a band, and which in the band around zero."""
    if stride == 1:
        # No grid along this axis: every frequency goes with the other axis's bands.
        everywhere = torch.ones(n, dtype=torch.bool, device=device)
        return everywhere, everywhere
    at = torch.fft.fftfreq(n, device=device, dtype=torch.float32) * stride
    # A frequency on the edge of two bands belongs to neither side by rounding.
    inside = (at - at.round()).abs() <= width + 1e-5
    return inside, inside & (at.round() == 0)
