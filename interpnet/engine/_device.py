"""Where a network runs and in which memory format, with everything put back afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from interpnet.engine._claim import claimed
from interpnet.errors import ModelError
from interpnet.support.checks import one_of

MEMORY_FORMATS = ("auto", "contiguous", "channels_last")


def resolve_device(device: str | torch.device | None, model: nn.Module | None = None) -> torch.device:
    """Return the device asked for (a :class:`ModelError` where it does not exist here), else the model's own.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if model is not None and not isinstance(model, nn.Module):
        raise ModelError(f"model is a {type(model).__name__}; expected a torch.nn.Module")
    if device is None:
        if model is not None:
            for parameter in model.parameters():
                return parameter.device
        return torch.device("cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ModelError(f"device={device!r} is not a device; expected 'cpu', 'cuda', 'cuda:1', ...") from error
    if chosen.type == "cuda":
        # A driver may list devices that torch cannot use.
        count = torch.cuda.is_available() and torch.cuda.device_count()
        if (chosen.index or 0) >= count:
            raise ModelError(
                f"device={device!r} was asked for, but this machine has {count or 'no'} usable CUDA "
                f"device{'s' * (count != 1)}; use device='cpu' (--device cpu)"
            )
    if chosen.type == "cpu" and chosen.index:
        raise ModelError(f"device={device!r} was asked for, but there is one CPU; use device='cpu'")
    if chosen.type == "meta":
        raise ModelError("device='meta' was asked for, which computes nothing; use device='cpu'")
    if chosen.type not in {"cpu", "cuda", "mps"}:
        _check_other(device, chosen)
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ModelError(f"device={device!r} was asked for, but MPS is not available here; use device='cpu'")
    return chosen


def _check_other(device: str | torch.device, chosen: torch.device) -> None:
    """Refuse a kind of device that torch knows by name and this machine or this build of torch has not."""
    try:
        torch.empty(0, device=chosen)
    except (ImportError, RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(
            f"device={device!r} was asked for, but torch has no such device here ({type(error).__name__}); use "
            "device='cpu'"
        ) from error


def best_device() -> torch.device:
    """Return CUDA where there is one, else MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


@contextmanager
def placed(
    model: nn.Module, device: torch.device, memory_format: str = "contiguous"
) -> Iterator[Callable[[Tensor], Tensor]]:
    """Run a block with ``model`` on ``device`` and in ``memory_format``; yields what puts images there.

    ``"auto"`` is channels_last for networks of 2-D convolutions (measured faster on CPU and on tensor
    cores; see experiments/benchmarks/collect.py), else contiguous. The parameters' own tensors come
    back afterwards, not copies of them.
    """
    one_of(memory_format, "memory_format", MEMORY_FORMATS)
    has_conv = any(isinstance(m, nn.Conv2d) for m in model.modules())
    last = memory_format == "channels_last" or (memory_format == "auto" and has_conv)
    # The data is exchanged, not the parameters: optimisers and hooks know them by identity.
    with claimed(model):
        tensors = [*model.parameters(), *model.buffers()]
        originals = [t.data for t in tensors]
        try:
            for t in tensors:
                t.data = t.data.to(device)
                if last and t.dim() == 4:
                    t.data = t.data.contiguous(memory_format=torch.channels_last)
            yield partial(to_device, device=device, channels_last=last)
        finally:
            for t, data in zip(tensors, originals, strict=True):
                t.data = data


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Run convolutions on CUDA in float32 as it is written, so that they give what a CPU gives, to rounding.

    PyTorch's default is TF32, with 10 bits instead of 23: scores were off by 1e-4 of their layer. Other devices have
    nothing to change. A block under autocast is as fast as before.
    """
    if device.type != "cuda":
        yield
        return
    owner: Any = torch.backends.cudnn
    name = "allow_tf32"
    exact: Any = False
    try:
        before = owner.allow_tf32
    except RuntimeError:
        # Newer versions of torch refuse to read it once there is a setting for each kind of operator.
        owner = owner.conv
        name = "fp32_precision"
        exact = "ieee"
        before = owner.fp32_precision
    try:
        setattr(owner, name, exact)
        yield
    finally:
        setattr(owner, name, before)


def beside(model: nn.Module, images: Tensor) -> Tensor:
    """Return ``images`` on the device where ``model`` is."""
    return images.to(resolve_device(None, model))


def to_device(images: Tensor, device: torch.device, *, channels_last: bool = False) -> Tensor:
    """Move a batch without waiting for it (pinned memory, non-blocking copy to CUDA)."""
    # A copy to CUDA can go on beside the computation only from memory that the system does not move.
    if device.type == "cuda" and images.device.type == "cpu" and not images.is_pinned():
        images = images.pin_memory()
    images = images.to(device, non_blocking=device.type == "cuda")
    if channels_last and images.dim() == 4:
        images = images.contiguous(memory_format=torch.channels_last)
    return images


def widest(device: torch.device) -> torch.dtype:
    """Return the type for sums that must not lose digits: float64, or float32 on MPS, which has no float64.

    Examples
    --------
    >>> widest(torch.device("cpu"))
    torch.float64
    """
    return {"mps": torch.float32}.get(device.type, torch.float64)
