"""One operator call, as rules and observers see it, and how to read its arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from interpnet.engine._operators import Operator, argument, operator


@dataclass(frozen=True)
class Convolution:
    """How a convolution walks over its input: one number, or a pair (before, after), per spatial axis."""

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int


@dataclass(frozen=True)
class Window:
    """The window of a pooling: one number per spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """One operator call."""

    # The function of the torch API, and what it was called with.
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    # The operator's name, and the kind of the site that the call makes (None for no site).
    op: str
    kind: str | None
    # The site's name, and the module whose code made the call.
    name: str
    module: str
    # What a pointwise call makes of a map: "hinged", "bent" or "curved" where that has no name; see curve_of().
    curve: str = ""

    def run(self) -> Any:
        """Run the operator as the network's author wrote it."""
        return self.func(*self.args, **self.kwargs)

    def on(self, x: Tensor) -> Call:
        """Return the same call with ``x`` as its input."""
        if self.args:
            return replace(self, args=(x, *self.args[1:]))
        return replace(self, kwargs={**self.kwargs, "input": x})

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """Return the argument given by ``position`` or by ``name``."""
        return argument(self.args, self.kwargs, position, name, default)

    def tensors(self) -> list[Tensor]:
        """Return every tensor among the arguments."""
        return list(tensors_in((self.args, dict(self.kwargs))))

    @property
    def operator(self) -> Operator:
        """What is known of the operator."""
        return operator(self.op)

    @property
    def inplace(self) -> bool:
        """Whether the call overwrites its first argument: ``relu_``, ``+=`` or ``inplace=True``."""
        return overwrites(self.func, self.args, self.kwargs)

    def _named(self, order: str, **defaults: Any) -> dict[str, Any]:
        """Return the arguments by name; ``order`` names those that may be given by position."""
        return {**defaults, **dict(zip(order.split(), self.args, strict=False)), **self.kwargs}

    def convolution(self) -> Convolution:
        """Return how a convolution walks over its input; ``"same"`` and ``"valid"`` padding become numbers."""
        n = self.operator.dimensions
        order = "input weight bias stride padding dilation groups"
        given = self._named(order, stride=1, padding=0, dilation=1, groups=1)
        dilation = per_axis(given["dilation"], n)
        if given["padding"] == "same":
            totals = [d * (k - 1) for d, k in zip(dilation, given["weight"].shape[2:], strict=True)]
            pairs = tuple((t // 2, t - t // 2) for t in totals)
        elif given["padding"] == "valid":
            pairs = ((0, 0),) * n
        else:
            pairs = tuple((p, p) for p in per_axis(given["padding"], n))
        return Convolution(per_axis(given["stride"], n), pairs, dilation, int(given["groups"]))

    def pooling(self) -> Window:
        """Return the window of a pooling that is not adaptive."""
        n = self.operator.dimensions
        order = "input kernel_size stride padding"
        if self.op.startswith("max"):
            order += " dilation"
        elif self.op.startswith("lp"):
            order = "input norm_type kernel_size stride"
        given = self._named(order, stride=None, padding=0, dilation=1)
        kernel = per_axis(given["kernel_size"], n)
        # The C functions spell "as the kernel" as an empty list.
        stride = per_axis(given["stride"] or kernel, n)
        return Window(kernel, stride, per_axis(given["padding"], n), per_axis(given["dilation"], n))

    @property
    def fixed_batch_norm(self) -> bool:
        """Whether it is a batch norm on its running statistics: a fixed affine map of each channel."""
        if self.op != "batch_norm":
            return False
        given = self._batch_norm()
        return given["running_mean"] is not None and not given["training"]

    def batch_norm_affine(self) -> tuple[Tensor, Tensor]:
        """Return scale and shift (C,) of a batch norm on its running statistics: ``y = scale * x + shift``."""
        given = self._batch_norm()
        scale = (given["running_var"] + given["eps"]).rsqrt()
        if given["weight"] is not None:
            scale = scale * given["weight"].detach()
        shift = -given["running_mean"] * scale
        if given["bias"] is not None:
            shift = shift + given["bias"].detach()
        return scale, shift

    def _batch_norm(self) -> dict[str, Any]:
        order = "input running_mean running_var weight bias training momentum eps"
        # What torch.nn.functional.batch_norm calls takes its arguments in another order.
        if self.func is torch.batch_norm:
            order = "input weight bias running_mean running_var training momentum eps"
        return self._named(order, running_mean=None, weight=None, bias=None, training=False, eps=1e-5)


def overwrites(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call overwrites its first argument."""
    if kwargs.get("inplace") is True:
        return True
    name: str = getattr(func, "__name__", "")
    # __iadd__ and __setitem__ work in place, __add__ and __invert__ do not.
    if name.endswith("__"):
        return name == "__setitem__" or (name.startswith("__i") and name not in {"__invert__", "__int__", "__index__"})
    if name.endswith("_"):
        return True
    position = operator(name).inplace
    return position is not None and len(args) > position and args[position] is True


def times_written(tensor: Tensor) -> int:
    """Return how often a tensor was written to; those made in inference mode do not count it and stay at 0.

    Examples
    --------
    >>> x = torch.zeros(2)
    >>> before = times_written(x)
    >>> times_written(x.add_(1)) - before
    1
    """
    # Asked first, for an exception costs as much as a small operator.
    if tensor.is_inference():
        return 0
    try:
        return tensor._version  # noqa: SLF001 - torch has no public name for it
    except RuntimeError:
        # A parameter whose data was exchanged for one made in inference mode.
        return 0


def tensors_in(values: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and dicts."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)
        elif isinstance(value, dict):
            yield from tensors_in(value.values())


def per_axis(value: int | tuple[int, ...] | list[int], n: int) -> tuple[int, ...]:
    """Return ``value`` once per spatial axis: ``3`` and ``(3,)`` become ``(3, 3)`` for ``n = 2``."""
    if isinstance(value, int):
        return (value,) * n
    values = tuple(int(v) for v in value)
    # The C functions take one number in a list for all axes.
    if len(values) == 1:
        return values * n
    return values
