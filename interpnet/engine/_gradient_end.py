"""Where the gradient of a network ends before it reaches the image, for the words of an error."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from interpnet.engine._call import Call
from interpnet.engine._forward import own_copy, run
from interpnet.engine._trace import Instrument, evaluating, instrument
from interpnet.errors import ModelError


def gradient_end(model: nn.Module, images: Tensor) -> str:
    """Return in words where in a forward pass the gradient of ``images`` (B, C, ...) is first cut off.

    Examples
    --------
    >>> class Cut(nn.Sequential):
    ...     def forward(self, x):
    ...         with torch.no_grad():
    ...             return super().forward(x)
    >>> gradient_end(Cut(nn.Linear(2, 2)), torch.rand(1, 2))
    "'0' runs under torch.no_grad()"
    """
    ends: list[str] = []

    def observe(call: Call, out: Any) -> None:
        if not any(t.requires_grad for t in call.tensors()):
            return
        module = repr(call.module) if call.module else "the network's own forward()"
        if torch.is_inference_mode_enabled():
            ends.append(f"{module} runs under torch.inference_mode()")
        elif not torch.is_grad_enabled():
            ends.append(f"{module} runs under torch.no_grad()")
        elif isinstance(out, Tensor) and out.is_floating_point() and not out.requires_grad:
            ends.append(f"{call.op!r} in {module} cuts it off")

    with torch.inference_mode(False), torch.enable_grad(), evaluating(model, frozen=True):
        x = images[:1].detach().clone().requires_grad_()
        with instrument(model, Instrument(observe=observe)):
            run(model, own_copy(model, x))
    return next(iter(ends), "the network leaves torch, reads .data, or rounds on the way")


def check_gradient_reaches(model: nn.Module, images: Tensor, what: str, *, found: bool) -> None:
    """Raise :class:`ModelError` unless a gradient was ``found`` to lead from ``what`` to the images."""
    if not found:
        raise ModelError(
            f"no gradient leads from {what} to the images: {gradient_end(model, images)}. Freeze weights by "
            "requires_grad_(False) instead, which lets the gradient of the images pass; attribution that only perturbs "
            "the image (method='occlusion') and scores and ablation need none"
        )
