"""Resampling and a transposed convolution together, as one convolution of the small map.

Let the signal r have d positions along an axis and be resampled by nearest neighbour to ``f * d`` (f whole). Its
stride-1 transposed convolution with taps w at dilation D is, at position ``n = f*q + a`` (phase a = 0..f-1),

    sum_v w[v] r[(n - v*D) // f]  =  sum_t W_a[t] r[q - t],    W_a[t] = sum of w[v] over (a - v*D) // f = -t.

So every phase is an ordinary convolution of the small map, with ``ceil(D*(k-1)/f) + 1`` summed taps: 4 x 4 instead
of 7 x 7 products per pixel for a 7x7 kernel at f = 2, 2 x 2 instead of 3 x 3, and no resampled map in memory. All
phases are one convolution with f times the output channels per axis. Where k = 1 or f divides D, all phases are equal.

The ordinary transposed convolution of stride f is the same with zeros between the positions instead of copies: the
sum runs over ``a - v*D = -f*t``. It pays where the layer's input has few channels (a network's first layer).

Source: polyphase decomposition of an interpolation filter, e.g. Vaidyanathan 1993, chapter 4.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from interpnet.engine import Convolution

Taps = tuple[tuple[tuple[int, ...], ...], ...]


@dataclass(frozen=True)
class _Axis:
    """How one spatial axis is done: the small map's size, phases and taps, and where the layer's input lies."""

    # Positions of the small map that the convolution reads.
    d: int
    # How many positions each becomes: f.
    factor: int
    # 1 where all phases are equal, else f.
    phases: int
    # For each phase and tap the kernel positions that are summed, and the dilation of the taps.
    taps: Taps
    dilation: int
    # The size of the layer's input, D, and its padding before.
    size: int
    before: int

    @property
    def first(self) -> int:
        """The first position q that is needed."""
        return self.before // self.factor

    @property
    def padding(self) -> tuple[int, int]:
        """What the small map must be padded by (negative: cropped), so that exactly the needed q come out."""
        last = (self.before + self.size - 1) // self.factor
        return self.dilation * (len(self.taps[0]) - 1) - self.first, last - (self.d - 1)

    def places(self, phase: int) -> tuple[slice, slice]:
        """Return where the positions of a phase lie in the layer's input, and where they come from."""
        start = (phase - self.before) % self.factor
        q = (start + self.before) // self.factor - self.first
        count = max(0, -(-(self.size - start) // self.factor))
        return slice(start, None, self.factor), slice(q, q + count)


def nearest(signal: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resample the spatial axes of (B, C, ...) to ``size`` by nearest neighbour: index floor(i * d / d_hat)."""
    for axis, n in enumerate(size, start=2):
        d = signal.shape[axis]
        if d != n:
            signal = signal.index_select(axis, torch.arange(n, device=signal.device) * d // n)
    return signal


@dataclass(frozen=True)
class Transposed:
    """A resampled or strided transposed convolution, prepared for signals of one size."""

    axes: tuple[_Axis, ...]
    # (C_in * phases, C_out / groups, taps...): groups, then phases, then channels.
    weight: Tensor
    groups: int

    def __call__(self, signal: Tensor) -> Tensor:
        """Send a signal (B, C_out, d...) down to the layer's input (B, C_in, D...)."""
        axes = self.axes
        signal = nearest(signal, tuple(a.d for a in axes))
        small = _convolve(signal, self.weight, axes, self.groups)
        if all(a.factor == 1 for a in axes):
            return small
        # Each phase goes to its own positions of the layer's input.
        phases = [a.phases for a in axes]
        small = small.reshape(len(small), self.groups, *phases, -1, *small.shape[2:])
        shape = (len(small), self.groups * small.shape[2 + len(axes)], *[a.size for a in axes])
        order = torch.contiguous_format
        if signal.dim() == 4 and signal.is_contiguous(memory_format=torch.channels_last):
            order = torch.channels_last
        out = torch.empty(shape, dtype=small.dtype, device=small.device, memory_format=order)
        # A handful: 4 phases for stride 2.
        for phase in itertools.product(*[range(a.factor) for a in axes]):
            places = [a.places(p) for a, p in zip(axes, phase, strict=True)]
            # Equal phases were computed once.
            which = [min(p, a.phases - 1) for a, p in zip(axes, phase, strict=True)]
            chosen: tuple[Any, ...] = (slice(None), slice(None), *which)
            to: tuple[Any, ...] = (..., *[to for to, _ in places])
            source: tuple[Any, ...] = (..., *[source for _, source in places])
            out[to] = small[chosen].flatten(1, 2)[source]
        return out


def prepare(
    weight: Tensor, signal: tuple[int, ...], size: tuple[int, ...], how: Convolution, *, resample: bool = True
) -> Transposed:
    """Return what sends signals down through a convolution: nearest-neighbour resampling, then a stride-1 transpose.

    Along each axis where the resampled size is a whole multiple of the signal's, and it saves products, the two are
    done at once on the small map (see the module); along the others the signal is resampled first.

    ``weight`` is (C_out, C_in/groups, k...); ``signal`` and ``size`` are the sizes of the layer's output (d) and input
    (D) along each spatial axis. Without ``resample`` it is the ordinary transposed convolution, the gradient.
    """
    axes = []
    for i, kernel in enumerate(weight.shape[2:]):
        axis = (signal[i], kernel, size[i], how.padding[i], how.dilation[i])
        axes.append(_resampled(*axis) if resample else _strided(*axis, how.stride[i]))
    return Transposed(tuple(axes), _phase_weights(weight, axes, how.groups), how.groups)


def whole_factor(d: int, target: int) -> int:
    """Return target / d where that is whole, else 0."""
    return 0 if target % d else target // d


def _resampled(d: int, k: int, size: int, padding: tuple[int, int], dilation: int) -> _Axis:
    """Plan an axis that is resampled by nearest neighbour; docs/method.md, section 5."""
    before = padding[0]
    reach = dilation * (k - 1)
    target = size + sum(padding) - reach
    factor = whole_factor(d, target)
    single = (tuple((v,) for v in range(k)),)
    if factor and (reach == 0 or dilation % factor == 0):
        return _Axis(d, factor, 1, single, max(1, dilation // factor), size, before)
    if factor:
        taps = _taps(k, dilation, factor, copies=True)
        if len(taps[0]) <= k:
            return _Axis(d, factor, factor, taps, 1, size, before)
    # Resample this axis first; what is left is an ordinary transposed convolution.
    return _Axis(target, 1, 1, single, dilation, size, before)


def _strided(d: int, k: int, size: int, padding: tuple[int, int], dilation: int, stride: int) -> _Axis:
    """Plan an axis with zeros between the positions."""
    taps = _taps(k, dilation, stride, copies=False)
    return _Axis(d, stride, stride, taps, 1, size, padding[0])


def _taps(k: int, dilation: int, factor: int, *, copies: bool) -> Taps:
    """Return for each phase a and tap t the kernel positions v that are summed: W_a[t] of the module's formula.

    Between the positions of the small map lie ``copies`` of them, or zeros.
    """
    count = -(-dilation * (k - 1) // factor) + 1
    phases = []
    for a in range(factor):
        steps = [divmod(a - v * dilation, factor) for v in range(k)]
        phases.append(
            tuple(
                tuple(v for v, (step, rest) in enumerate(steps) if step == -t and (copies or rest == 0))
                for t in range(count)
            )
        )
    return tuple(phases)


def _phase_weights(weight: Tensor, axes: list[_Axis], groups: int) -> Tensor:
    """Return (C_in * phases, C_out/groups, taps...) for a convolution; groups, then phases, then channels."""
    n = len(axes)
    for i, axis in enumerate(axes):
        # Take the first of the kernel's axes that are left off, and put (phases, taps) in front.
        at = 2 * i + 2
        sums = []
        # A convolution's taps run the other way than a transposed one's.
        for positions in (tap for phase in axis.taps for tap in reversed(phase)):
            parts = [weight.select(at, v) for v in positions]
            sums.append(functools.reduce(torch.add, parts or [torch.zeros_like(weight.select(at, 0))]))
        weight = torch.stack(sums)
        weight = weight.view(axis.phases, len(axis.taps[0]), *weight.shape[1:])
    # Now (phases, taps, phases, taps, ..., C_out, C_in/groups), the last spatial axis first.
    weight = weight.reshape(*weight.shape[: 2 * n], groups, -1, weight.shape[-1])
    phases = range(2 * n - 2, -1, -2)
    taps = range(2 * n - 1, 0, -2)
    ordered = weight.permute(2 * n, *phases, 2 * n + 2, 2 * n + 1, *taps)
    flat = ordered.reshape(-1, *ordered.shape[n + 2 :])
    return flat.contiguous(memory_format=torch.channels_last) if n == 2 else flat


def _convolve(signal: Tensor, weight: Tensor, axes: tuple[_Axis, ...], groups: int) -> Tensor:
    n = len(axes)
    convolve: Callable[..., Tensor] = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
    dilation = tuple(a.dilation for a in axes)
    pads = [a.padding for a in axes]
    if all(a == b and a >= 0 for a, b in pads):
        return convolve(signal, weight, padding=tuple(a for a, _ in pads), dilation=dilation, groups=groups)
    signal = F.pad(signal, [p for pair in reversed(pads) for p in pair])
    return convolve(signal, weight, dilation=dilation, groups=groups)
