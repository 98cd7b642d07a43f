"""The autograd functions that give an operator's value another backward: rectifiers, convolutions, slices.

None keeps an activation: a rectifier keeps one byte a position (or its slope), a convolution its weight. So a pass
under rules holds far less than an ordinary one, and each backward reads far less memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from interpnet.backward._polyphase import Transposed, nearest, prepare

_FEW = 4  # channels of a first layer's input


@dataclass(frozen=True)
class Convolution:
    """What a convolution's backward needs to know."""

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    resample: bool

    def prepare(self, signal: Tensor, weight: Tensor, size: tuple[int, ...]) -> Transposed | None:
        """Return what sends such signals down to the layer's input of ``size``, where that is worth preparing."""
        # Libraries are slow at strided transposes into a few colours.
        few = max(self.stride) > 1 and weight.shape[1] * self.groups <= _FEW
        if not self.resample and not few:
            return None
        return prepare(
            weight,
            tuple(signal.shape[2:]),
            size,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            stride=None if self.resample else self.stride,
        )

    def transpose(self, signal: Tensor, weight: Tensor, size: tuple[int, ...]) -> Tensor:
        """Return the ordinary transposed convolution: the gradient."""
        n = len(size)
        transpose: Callable[..., Tensor] = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[n - 1]
        full = [
            s * (d - 1) + step * (k - 1) + 1
            for s, d, step, k in zip(self.stride, signal.shape[2:], self.dilation, weight.shape[2:], strict=True)
        ]
        # What a stride leaves over at the far side is added there; uneven padding is cropped by hand.
        over = [D + a + b - f for D, (a, b), f in zip(size, self.padding, full, strict=True)]
        even = all(a == b for a, b in self.padding)
        if even and all(o < max(s, step) for o, s, step in zip(over, self.stride, self.dilation, strict=True)):
            return transpose(
                signal,
                weight,
                stride=self.stride,
                padding=tuple(a for a, _ in self.padding),
                output_padding=tuple(over),
                groups=self.groups,
                dilation=self.dilation,
            )
        out = transpose(signal, weight, stride=self.stride, groups=self.groups, dilation=self.dilation)
        pads = [(-a, D + a - f) for (a, _), D, f in zip(self.padding, size, full, strict=True)]
        return F.pad(out, [p for pair in reversed(pads) for p in pair])


class Rectify(torch.autograd.Function):
    """The value of a rectifier with another derivative: a slope or mask, and ``[R > 0]`` where ``positive``.

    ``inplace`` lets the operator overwrite its input, as the network's author wrote it.
    """

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, run: Callable[[], Tensor], slope: Tensor | None, positive: bool, inplace: bool
    ) -> Tensor:
        ctx.save_for_backward(*(() if slope is None else (slope,)))
        ctx.positive = positive
        if inplace:
            ctx.mark_dirty(z)
            run()
            return z
        return run()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        signal = grads[0].clamp(min=0) if ctx.positive else grads[0]
        for slope in ctx.saved_tensors:
            # On CPUs a product with a boolean mask takes a third of the time of ``where``.
            signal = signal * (slope if slope.dtype == torch.bool else slope.to(signal.dtype))
        return signal, None, None, None, None


class Convolve(torch.autograd.Function):
    """The value of a convolution (and the BatchNorm after it), its backward by :class:`Convolution`; keeps no map.

    ``scale`` are the BatchNorm's factors, one a channel of the output.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, run: Callable[[], Tensor], weight: Tensor, scale: Tensor | None, how: Convolution
    ) -> Tensor:
        ctx.save_for_backward(weight, *(() if scale is None else (scale,)))
        ctx.how, ctx.size, ctx.down = how, tuple(x.shape[2:]), None
        return run()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        signal = grads[0]
        weight, *scale = (t.to(signal.dtype) for t in ctx.saved_tensors)
        if ctx.down is None:
            # Kept for the next channel's signal, as long as the graph is.
            ctx.down = ctx.how.prepare(signal, _scaled(weight, *scale), ctx.size)
        if ctx.down is not None:
            return ctx.down(signal), None, None, None, None
        if scale and signal.numel() < weight.numel():
            signal = signal * scale[0].view(-1, *[1] * (signal.dim() - 2))
        else:
            weight = _scaled(weight, *scale)
        return ctx.how.transpose(signal, weight, ctx.size), None, None, None, None


def _scaled(weight: Tensor, scale: Tensor | None = None) -> Tensor:
    """Return a convolution's weight with each output channel times its factor."""
    return weight if scale is None else weight * scale.view(-1, *[1] * (weight.dim() - 1))


class Scale(torch.autograd.Function):
    """The value of a layer whose gradient is ``R * scale``, one factor a channel; keeps the factors alone."""

    @staticmethod
    def forward(ctx: Any, _x: Tensor, run: Callable[[], Tensor], scale: Tensor) -> Tensor:
        ctx.save_for_backward(scale)
        return run()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (scale,) = ctx.saved_tensors
        signal = grads[0]
        return signal * scale.view(-1, *[1] * (signal.dim() - 2)), None, None


class ResampleSlice(torch.autograd.Function):
    """The value of a strided slice with nearest-neighbour resampling as its backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Callable[[], Tensor], key: tuple[Any, ...]) -> Tensor:
        ctx.shape, ctx.key = tuple(x.shape), key
        # A fresh tensor: autograd lets no later in-place operator touch a view made in here.
        return run().clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        shape, key, signal = ctx.shape, ctx.key, grads[0]
        dense = tuple(slice(*k.indices(n)[:2]) for k, n in zip(key, shape, strict=True))
        sizes = [len(range(*k.indices(n)[:2])) for k, n in zip(key, shape, strict=True)]
        out = signal.new_zeros(shape)
        out[dense] = nearest(signal, tuple(sizes[2:]))
        return out, None, None


class ResamplePool(torch.autograd.Function):
    """The value of a strided pooling; its backward is that of the same pooling with stride 1, of the resampled signal.

    Average pooling keeps nothing; maximum pooling keeps its input, whose stride-1 windows have their own switches.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, run: Callable[[], Tensor], dense: Callable[[Tensor], Tensor], average: bool
    ) -> Tensor:
        ctx.save_for_backward(*(() if average else (x,)))
        ctx.dense, ctx.shape = dense, tuple(x.shape)
        return run()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        signal = grads[0]
        z = ctx.saved_tensors[0].detach() if ctx.saved_tensors else signal.new_zeros(ctx.shape)
        with torch.enable_grad():
            z = z.requires_grad_()
            y = ctx.dense(z)
        (down,) = torch.autograd.grad(y, z, nearest(signal, tuple(y.shape[2:])))
        return down, None, None, None


#: The names of these functions' nodes in an autograd graph.
OWN_NODES = frozenset(f"{c.__name__}Backward" for c in (Rectify, Convolve, Scale, ResampleSlice, ResamplePool))
