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
        cut = gradient_cut(call, out)
        if cut:
            ends.append(cut)

    with torch.inference_mode(False), torch.enable_grad(), evaluating(model, frozen=True):
        x = images[:1].detach().clone().requires_grad_()
        with instrument(model, Instrument(observe=observe)):
            run(model, own_copy(model, x))
    return next(iter(ends), "the network leaves torch, reads .data, or rounds on the way")


def gradient_cut(call: Call, out: Any) -> str:
    """Return in words how a call with the output ``out`` cuts off the gradient of what it takes, ``""`` if it does not.

    Examples
    --------
    >>> x = torch.ones(1, requires_grad=True)
    >>> gradient_cut(Call(torch.detach, (x,), {}, "detach", None, "", "head"), x.detach())
    "'detach' in 'head' cuts it off"
    """
    # Of these only the shape counts.
    if call.op.endswith("_like") or call.op.startswith("new_"):
        return ""
    if not any(t.requires_grad for t in call.tensors()):
        return ""
    module = "the network's own forward()"
    if call.module:
        module = repr(call.module)
    if torch.is_inference_mode_enabled():
        return f"{module} runs under torch.inference_mode()"
    if not torch.is_grad_enabled():
        return f"{module} runs under torch.no_grad()"
    if isinstance(out, Tensor) and out.is_floating_point() and not out.requires_grad:
        return f"{call.op!r} in {module} cuts it off"
    return ""


def check_gradient_reaches(model: nn.Module, images: Tensor, what: str, *, found: bool) -> None:
    """Raise :class:`ModelError` unless a gradient was ``found`` to lead from ``what`` to the images."""
    if not found:
        raise ModelError(
            f"no gradient leads from {what} to the images: {gradient_end(model, images)}. Freeze weights by "
            "requires_grad_(False) instead, which lets the gradient of the images pass; attribution that only perturbs "
            "the image (method='occlusion') and scores and ablation need none"
        )
