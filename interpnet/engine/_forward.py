"""The one place where a user's network runs: on images that it may overwrite, with its own errors put in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from interpnet.engine._failure import UNTOUCHED, what_failed, where_raised
from interpnet.engine._logits import Output, logits_of
from interpnet.engine._recompute import without_recomputation
from interpnet.errors import DataError, ModelError

Put = Callable[[Tensor], Tensor]

#: What networks compute in; images of any of them can be converted to any other.
_TYPES = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})

#: The types of tensors that can hold class numbers.
WHOLE_TYPES = frozenset({torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})


class RunError(ModelError, DataError):
    """A network's own code failed on images: one of the two is wrong. ``__cause__`` is what the code raised."""


def forward(model: nn.Module, images: Tensor, put: Put | None = None) -> Any:
    """Run ``model`` on a copy of ``images`` and return what it returns.

    The network may overwrite its copy. ``put`` moves the images to where the model is; where it copies them, no second
    copy is made. Floating-point images are converted to the type of the network's parameters where the network does not
    run on the type that came. What the network's own code raises becomes one :class:`RunError` with its file and line.

    Examples
    --------
    >>> class Normalised(nn.Module):
    ...     def forward(self, x):
    ...         return x.sub_(1.0)
    >>> images = torch.ones(1, 1)
    >>> forward(Normalised(), images), images
    (tensor([[0.]]), tensor([[1.]]))
    """
    return run(model, own_copy(model, images, put))


def forward_logits(model: nn.Module, images: Tensor, output: Output | None = None, put: Put | None = None) -> Tensor:
    """Return the logits (B, classes) of ``images``, in float32 at least; see :func:`forward` and :func:`logits_of`."""
    return logits_of(forward(model, images, put), len(images), output)


def own_copy(model: nn.Module, images: Tensor, put: Put | None = None) -> Tensor:
    """Return ``images`` as ``model`` takes them, in memory that it may overwrite."""
    ready = images
    # The engine watches the network's calls, not those that prepare its images.
    with torch._C.DisableTorchFunction():  # noqa: SLF001 - torch has no public name for it
        if put is not None:
            ready = put(images)
        dtype = _conversion(model, ready)
        if dtype is not None:
            ready = ready.to(dtype)
        # Moving, converting and another memory format copy already.
        if ready.untyped_storage().data_ptr() == images.untyped_storage().data_ptr():
            ready = ready.clone()
    return ready


def run(model: nn.Module, own: Tensor) -> Any:
    """Run ``model`` on images that it may overwrite; its code's errors become one :class:`RunError`."""
    try:
        with without_recomputation():
            return model(own)
    except UNTOUCHED:
        raise
    except Exception as error:
        raise RunError(
            f"the model cannot run on images of shape {tuple(own.shape)}, {own.dtype}: "
            f"{what_failed(error)} ({where_raised(error, model)}). {_remedy(model, own, error)}"
        ) from error


def _remedy(model: nn.Module, images: Tensor, error: Exception) -> str:
    text = str(error)
    dtype = parameter_type(model)
    if dtype in {torch.float16, torch.bfloat16} and "not implemented" in text and images.device.type == "cpu":
        return "The CPU lacks this operator for this type: move the model to a GPU, or use model.float()"
    if "Inference tensor" in text:
        return "Make the model, and what it keeps between calls, outside of torch.inference_mode()"
    if "requires grad" in text or "requires_grad" in text:
        return "The network leaves torch there, so that no gradient passes; scores and ablation need none"
    if "same device" in text:
        return "Move the whole model to one device: model.to(device)"
    if isinstance(error, TypeError) and "forward()" in text and "argument" in text:
        return (
            "A model is called with images alone: wrap one that needs more, or takes them by name, in a module whose "
            "forward(self, images) returns self.model(images, flag=True), say; docs/loaders.md has its five lines"
        )
    if images.dim() == 4 and images.shape[3] in {1, 3} and images.shape[1] not in {1, 3}:
        return (
            "The images look like (B, H, W, C), and (B, C, H, W) is expected: pass images.permute(0, 3, 1, 2), or, "
            "with a loader, prepare=lambda images: images.permute(0, 3, 1, 2)"
        )
    remedy = "Give images of the size, channels and type that the model was trained on"
    if images.dim() == 3:
        remedy += "; (B, C, L) are signals, and single images (C, H, W), each with its target, go into a DataLoader"
    return remedy


_CONVERSIONS: WeakKeyDictionary[nn.Module, dict[tuple[torch.dtype, torch.dtype], bool]] = WeakKeyDictionary()


def parameter_type(model: nn.Module) -> torch.dtype | None:
    """Return the floating-point type that all parameters share; ``None`` for no such type.

    Examples
    --------
    >>> parameter_type(nn.Linear(2, 2).half()), parameter_type(nn.ReLU())
    (torch.float16, None)
    """
    found = {p.dtype for p in model.parameters() if p.dtype.is_floating_point}
    if len(found) == 1 and found <= _TYPES:
        return found.pop()
    return None


def _conversion(model: nn.Module, images: Tensor) -> torch.dtype | None:
    """Return the type to convert images to before the network runs, ``None`` for their own.

    A network that converts its images itself gets them as they are.
    """
    dtype = parameter_type(model)
    if dtype is None or images.dtype == dtype or images.dtype not in _TYPES:
        return None
    known = _CONVERSIONS.setdefault(model, {})
    kind = (images.dtype, dtype)
    if kind not in known:
        known[kind] = not _runs(model, images[:1])
    if known[kind]:
        return dtype
    return None


def _runs(model: nn.Module, images: Tensor) -> bool:
    with torch.no_grad():
        try:
            run(model, images.detach().clone())
        except RunError as error:
            # Any other failure is one that a conversion does not mend, and is raised by the pass itself.
            return not any(word in str(error.__cause__).lower() for word in ("dtype", "type"))
    return True


def check_dense(values: object, name: str, axes: str) -> None:
    """Raise :class:`DataError` unless ``values`` is a dense tensor with values; ``axes`` says which for the message."""
    if not isinstance(values, Tensor):
        raise DataError(f"{name}: a {type(values).__name__} came; expected a tensor ({axes})")
    if values.layout != torch.strided or values.is_nested or values.is_meta:
        raise DataError(f"{name}: a tensor of {values.layout} on {values.device} came; expected a dense one ({axes})")


def check_images(images: Tensor) -> Tensor:
    """Return ``images`` if they are a floating-point batch (B, C, ...), else raise :class:`DataError`."""
    if not isinstance(images, Tensor):
        raise DataError(
            f"images: a {type(images).__name__} came; expected a Tensor (B, C, H, W) (of an array: torch.from_numpy)"
        )
    if images.layout != torch.strided or images.is_nested or images.is_meta:
        raise DataError(
            f"images: a tensor of {images.layout} on {images.device} came; expected a dense one with values"
        )
    if not images.is_floating_point():
        raise DataError(
            f"images: dtype {images.dtype} came; expected floating point, normalised as the model wants it (bytes: "
            "images.float() / 255)"
        )
    if images.dim() < 2 or images.numel() == 0:
        raise DataError(f"images: shape {tuple(images.shape)} came; expected (B, C, ...) with at least one image")
    return images


def finite_images(images: Tensor) -> Tensor:
    """Return ``images`` if they are a batch, see :func:`check_images`, of finite pixels, else raise :class:`DataError`.

    Examples
    --------
    >>> finite_images(torch.zeros(2, 1, 4)).shape
    torch.Size([2, 1, 4])
    """
    bad = (~torch.isfinite(check_images(images))).flatten(1).any(1)
    if bool(bad.any()):
        first = int(bad.nonzero()[0, 0])
        raise DataError(f"images hold NaN or infinity (image {first} of the batch); expected finite pixels")
    return images
