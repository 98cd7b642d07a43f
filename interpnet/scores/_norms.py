"""One read of an activation map to one number per channel: the fused norm behind the scores, and products of maps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# A buffer of squares this large stays in the caches of the machines we measured; 1 to 4 MB made little
# difference, less costs more calls and more costs a second trip to memory.
_BUFFER_BYTES = 2 << 20


def channel_norms(activation: Tensor, axis: int, *, squared: bool = False) -> Tensor:
    """Return the L2 norm of every channel's activation map (B, C), or with ``squared`` the sum of its squares.

    ``s[b, c] = sqrt(sum over positions of activation[b, c, ...]^2)`` (docs/method.md, section 1.1), in float32 or, for
    a float64 activation, float64. ``activation`` (B, ..., C at ``axis``, ...) of any layout is read once.
    """
    dtype = torch.promote_types(activation.dtype, torch.float32)  # half precision would overflow
    positions = [a for a in range(1, activation.dim()) if a != axis]
    x = activation.permute(0, *positions, axis)
    if activation.device.type == "cpu" and x.is_contiguous() and x.shape[-1] > 1 and positions:
        x = x.flatten(1, -2)
        sums = _sums_of_products(x, x, dtype)
        return sums if squared else sums.sqrt_()
    if not positions:  # a unit of a fully connected layer: its map is one number
        norms = activation.to(dtype).abs()
    else:
        norms = torch.linalg.vector_norm(activation, dim=positions, dtype=dtype)
    return norms.square() if squared else norms


def channel_products(a: Tensor, b: Tensor, axis: int) -> Tensor:
    """Return the sum over positions of ``a * b`` for every channel (B, C), in float32 or, for float64 maps, float64.

    ``a`` and ``b`` (B, ..., C at ``axis``, ...) of any layout are read once.

    Examples
    --------
    >>> channel_products(torch.ones(1, 2, 3), torch.tensor([[[1.0, 2.0, 3.0], [0.0, 0.0, 4.0]]]), 1)
    tensor([[6., 4.]])
    """
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    positions = [p for p in range(1, a.dim()) if p != axis]
    x = a.permute(0, *positions, axis)
    if not positions:
        return a.to(dtype) * b.to(dtype)
    if a.device.type == "cpu" and x.is_contiguous() and x.shape[-1] > 1:
        y = b.permute(0, *positions, axis)
        return _sums_of_products(x.flatten(1, -2), y.flatten(1, -2), dtype)
    return (a.to(dtype) * b.to(dtype)).sum(positions)


def _sums_of_products(x: Tensor, y: Tensor, dtype: torch.dtype) -> Tensor:
    """Sum ``x * y`` over axis 1 of (B, P, C) tensors; ``x`` is contiguous.

    torch's own reductions run 4 to 15 times slower over an axis that is not the innermost one (the channels_last
    layout). So the positions are cut into a few parts whose products are added up in one buffer that stays in the
    cache, reading the maps once; the buffer is then summed.
    """
    positions = x.shape[1]
    parts = math.ceil(x.numel() * dtype.itemsize / _BUFFER_BYTES)
    rows = max(1, math.ceil(positions / parts))
    products = torch.mul(x[:, :rows].to(dtype), y[:, :rows].to(dtype))
    for start in range(rows, positions, rows):
        stop = start + rows
        part = x[:, start:stop].to(dtype)
        products[:, : part.shape[1]].addcmul_(part, y[:, start:stop].to(dtype))
    return products.sum(1)
