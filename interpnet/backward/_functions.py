"""The autograd functions that give an operator's value another backward: rectifiers, convolutions, slices.

None keeps an activation: a rectifier keeps one byte per position (or its slope), a convolution its weight. So a pass
under rules holds far less than an ordinary one, and each backward reads far less memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from interpnet.backward._passes import Passes
from interpnet.backward._polyphase import Transposed, nearest, prepare
from interpnet.engine import Call, Convolution

SendBack = Callable[..., Tensor]

# Channels of a first layer's input: libraries are slow at strided transposes into so few.
_FEW = 4


class Rule(torch.autograd.Function):
    """The value ``run()`` with ``send_back(signal, *saved)`` as its backward; keeps ``saved`` and nothing else.

    ``inplace`` says that ``run`` overwrites its input, as the network's author wrote it.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, run: Callable[[], Tensor], send_back: SendBack, inplace: bool, *saved: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(*saved)
        ctx.send_back = send_back
        if inplace:
            ctx.mark_dirty(x)
            run()
            return x
        return run()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # Nothing for the functions, the mark and what was saved.
        return (ctx.send_back(grads[0], *ctx.saved_tensors), None, None, None, *[None] * len(ctx.saved_tensors))


def _ruled(
    x: Tensor, run: Callable[[], Tensor], send_back: SendBack, *saved: Tensor | None, inplace: bool = False
) -> Tensor:
    out: Tensor = Rule.apply(x, run, send_back, inplace, *saved)
    return out


def rectify(
    z: Tensor,
    run: Callable[[], Tensor],
    slope: Tensor | None,
    own: Tensor | None,
    passes: Passes,
    *,
    positive: bool,
    inplace: bool,
) -> Tensor:
    """Return the value of a rectifier; backward, the signal is multiplied by ``slope``, and by ``[R > 0]`` first.

    The ordinary gradient is multiplied by ``own``.
    """

    def send_back(signal: Tensor, slope: Tensor | None, own: Tensor | None) -> Tensor:
        if passes.plain:
            slope = own
        elif positive:
            signal = signal.clamp(min=0)
        if slope is None:
            return signal
        # On CPUs a product with a boolean mask takes a third of the time of ``where``.
        if slope.dtype != torch.bool:
            slope = slope.to(signal.dtype)
        return signal * slope

    return _ruled(z, run, send_back, slope, own, inplace=inplace)


def convolve(
    x: Tensor,
    run: Callable[[], Tensor],
    weight: Tensor,
    scale: Tensor | None,
    how: Convolution,
    passes: Passes,
    *,
    resample: bool,
) -> Tensor:
    """Return the value of a convolution (and the BatchNorm after it) with its transpose as backward; keeps no map.

    ``scale`` are the BatchNorm's factors, one per channel of the output. Under ``resample`` the signal is resampled
    first, so that the transpose has stride 1; the ordinary gradient is not.
    """
    size = tuple(x.shape[2:])
    few = _few(weight, how)
    down: Transposed | None = None

    def send_back(signal: Tensor, weight: Tensor, scale: Tensor | None) -> Tensor:
        nonlocal down
        weight = weight.to(signal.dtype)
        if scale is not None:
            scale = scale.to(signal.dtype)
        if not passes.plain or not resample:
            if down is None and (resample or few):
                # Kept for the next channel's signal, as long as the graph is.
                down = prepare(_scaled(weight, scale), tuple(signal.shape[2:]), size, how, resample=resample)
            if down is not None:
                return down(signal)
        # The factors go where there are fewer numbers to multiply.
        if scale is not None and signal.numel() < weight.numel():
            return _transposed(signal * _per_channel(scale, signal), weight, size, how)
        return _transposed(signal, _scaled(weight, scale), size, how)

    return _ruled(x, run, send_back, weight, scale)


def scale_channels(x: Tensor, run: Callable[[], Tensor], scale: Tensor) -> Tensor:
    """Return the value of a layer whose gradient is ``R * scale``, one factor per channel; keeps the factors alone."""
    return _ruled(x, run, lambda signal, scale: signal * _per_channel(scale, signal), scale)


def resample_slice(x: Tensor, run: Callable[[], Tensor], key: Any, dense: tuple[slice, ...], passes: Passes) -> Tensor:
    """Return the value of a strided slice with nearest-neighbour resampling as its backward.

    ``dense`` is the slice with stride 1.
    """
    shape = tuple(x.shape)

    def send_back(signal: Tensor) -> Tensor:
        out = signal.new_zeros(shape)
        if passes.plain:
            out[key] = signal
            return out
        out[dense] = nearest(signal, tuple(out[dense].shape[2:]))
        return out

    # A fresh tensor: autograd lets no later in-place operator touch a view made in the function.
    return _ruled(x, lambda: run().clone(), send_back)


def resample_pool(call: Call, x: Tensor, dense: Callable[[Tensor], Tensor], passes: Passes, *, average: bool) -> Tensor:
    """Return the value of a strided pooling; backward, the signal is resampled and takes the gradient of ``dense``.

    ``dense`` is the same pooling with stride 1; the ordinary gradient is that of the call itself. Average pooling keeps
    nothing; maximum pooling keeps its input, whose stride-1 windows have their own switches.
    """
    shape = tuple(x.shape)

    def send_back(signal: Tensor, kept: Tensor | None) -> Tensor:
        # An average has the same gradient at every input, so zeros do.
        z = signal.new_zeros(shape) if kept is None else kept.detach()
        with torch.enable_grad():
            z = z.requires_grad_()
            y = call.on(z).run() if passes.plain else dense(z)
        (down,) = torch.autograd.grad(y, z, nearest(signal, tuple(y.shape[2:])))
        return down

    return _ruled(x, call.run, send_back, None if average else x)


def transposed(weight: Tensor, size: tuple[int, ...], how: Convolution) -> SendBack:
    """Return the transpose of a convolution whose input has ``size``: its gradient."""
    few = _few(weight, how)
    down: Transposed | None = None

    def send_back(signal: Tensor) -> Tensor:
        nonlocal down
        if not few:
            return _transposed(signal, weight, size, how)
        if down is None:
            down = prepare(weight, tuple(signal.shape[2:]), size, how, resample=False)
        return down(signal)

    return send_back


def _few(weight: Tensor, how: Convolution) -> bool:
    """Whether a strided convolution reads so few channels that its transpose pays as one of the small map."""
    return max(how.stride) > 1 and weight.shape[1] * how.groups <= _FEW


def _transposed(signal: Tensor, weight: Tensor, size: tuple[int, ...], how: Convolution) -> Tensor:
    """Return the ordinary transposed convolution: the gradient."""
    transpose: Callable[..., Tensor] = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(size) - 1]
    full = [
        s * (d - 1) + step * (k - 1) + 1
        for s, d, step, k in zip(how.stride, signal.shape[2:], how.dilation, weight.shape[2:], strict=True)
    ]
    # What a stride leaves over at the far side is added there; uneven padding is cropped by hand.
    over = [D + a + b - f for D, (a, b), f in zip(size, how.padding, full, strict=True)]
    same = {"stride": how.stride, "groups": how.groups, "dilation": how.dilation}
    even = all(a == b for a, b in how.padding)
    if even and all(o < max(s, step) for o, s, step in zip(over, how.stride, how.dilation, strict=True)):
        return transpose(signal, weight, padding=[a for a, _ in how.padding], output_padding=over, **same)
    out = transpose(signal, weight, **same)
    pads = [(-a, D + a - f) for (a, _), D, f in zip(how.padding, size, full, strict=True)]
    return F.pad(out, [p for pair in reversed(pads) for p in pair])


def _scaled(weight: Tensor, scale: Tensor | None) -> Tensor:
    """Return a convolution's weight with each output channel times its factor."""
    return weight if scale is None else weight * scale.view(-1, *[1] * (weight.dim() - 1))


def _per_channel(scale: Tensor, signal: Tensor) -> Tensor:
    """Return one factor per channel in the shape that multiplies a signal (B, C, ...)."""
    return scale.view(-1, *[1] * (signal.dim() - 2))
