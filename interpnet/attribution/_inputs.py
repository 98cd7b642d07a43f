"""What methods and measures are given, checked: images, classes, baseline images and each image's random numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor, nn

from interpnet.engine import Output, beside, check_images, check_logits, finite_images, forward_logits
from interpnet.errors import DataError, InterpNetError
from interpnet.support.checks import is_number, number

Target = int | Tensor | Sequence[int] | None
Baseline = str | float | Tensor


def usable_images(model: nn.Module, images: Tensor) -> Tensor:
    """Return a copy of ``images`` beside the model, or raise :class:`DataError` that says what is wrong with them."""
    check_images(images)
    if images.dim() != 4:
        raise DataError(f"images: shape {tuple(images.shape)} came; expected (B, C, H, W)")
    dtypes = {p.dtype for p in model.parameters() if p.is_floating_point()}
    if dtypes and images.dtype not in dtypes:
        wanted = min(str(d).removeprefix("torch.") for d in dtypes)
        raise DataError(
            f"images: dtype {images.dtype} came and the model's weights are torch.{wanted}; "
            f"pass images.to(torch.{wanted})"
        )
    finite_images(images)
    # A copy: the model may work in place, and the caller's images must stay as they are.
    return beside(model, images).detach().clone()


def logits_in_parts(model: nn.Module, images: Tensor, max_batch: int, output: Output | None = None) -> Tensor:
    """Return the logits (n, classes) of images, at most ``max_batch`` in one pass; no graph is kept.

    A NaN or infinite logit is a :class:`DataError`.
    """
    with torch.no_grad():
        parts = [forward_logits(model, x, output) for x in torch.split(images, int(max_batch))]
    return check_logits(torch.cat(parts))


def target_classes(target: Target, logits: Tensor) -> Tensor:
    """Return the class (B,) asked for in each image, beside its logits (B, classes): by default the predicted one.

    Raises
    ------
    InterpNetError
        Other than whole numbers came, another count than B, or a class that the model does not have.

    Examples
    --------
    >>> target_classes(1, torch.zeros(2, 3)), target_classes(None, torch.eye(3))
    (tensor([1, 1]), tensor([0, 1, 2]))
    """
    if target is None:
        return logits.argmax(1)
    batch, classes = logits.shape
    if isinstance(target, Integral) or (isinstance(target, Tensor) and target.dim() == 0):
        target = [int(target)] * batch
    targets = torch.as_tensor(target)
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise InterpNetError(f"target: dtype {targets.dtype} came; expected whole class numbers")
    if targets.shape != (batch,):
        raise InterpNetError(
            f"target has shape {tuple(targets.shape)}; expected one class number for each of {batch} images"
        )
    if bool(((targets < 0) | (targets >= classes)).any()):
        raise InterpNetError(f"target {targets.tolist()} holds a class outside 0..{classes - 1}")
    return targets.detach().long().to(logits.device)


def resolve_baseline(images: Tensor, baseline: Baseline) -> Tensor:
    """Return baseline images (B, C, H, W).

    Parameters
    ----------
    images : Tensor (B, C, H, W)
    baseline : {"blank", "blurred"}, number, or Tensor
        ``"blank"``: zeros, the mean colour where images are normalised; ``"blurred"``: a Gaussian of a twentieth of
        the shorter side; a number: every value; a tensor (C, H, W), or (B or 1, C, H, W): these images.

    Examples
    --------
    >>> resolve_baseline(torch.ones(1, 1, 1, 2), 0.5)
    tensor([[[[0.5000, 0.5000]]]])
    """
    if isinstance(baseline, Tensor):
        shape = tuple(baseline.shape)
        if shape[-3:] != tuple(images.shape[1:]) or shape[:-3] not in {(), (1,), (len(images),)}:
            raise InterpNetError(
                f"baseline: shape {shape} came; expected {tuple(images.shape[1:])}, or one such image a sample: "
                f"{tuple(images.shape)}"
            )
        if baseline.layout != torch.strided or baseline.is_meta or baseline.is_complex():
            raise InterpNetError(
                f"baseline: a tensor of {baseline.dtype}, {baseline.layout} on {baseline.device} came; expected images"
            )
        if not bool(torch.isfinite(baseline).all()):
            raise InterpNetError("baseline holds NaN or infinity; expected finite pixels")
        return baseline.detach().to(images).expand(images.shape)
    if is_number(baseline):
        number(baseline, "baseline")
        return torch.full_like(images, float(baseline))
    if baseline == "blank":  # the mean colour of normalised images
        return torch.zeros_like(images)
    if baseline == "blurred":
        return blurred(images, min(images.shape[2:]) / 20)
    raise InterpNetError(f"baseline={baseline!r}; expected 'blank', 'blurred', a number, or a tensor of images")


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Return images (B, C, H, W) under a Gaussian of ``sigma`` pixels, its weights renormalised at the borders.

    Examples
    --------
    >>> blurred(torch.ones(1, 1, 2, 2), 1.0)
    tensor([[[[1., 1.],
              [1., 1.]]]])
    """
    rows, columns = (_blur_matrix(n, sigma).to(images) for n in images.shape[2:])
    return rows @ images @ columns.T


def _blur_matrix(n: int, sigma: float) -> Tensor:
    at = torch.arange(n, dtype=torch.float64)
    # One row per position; its weights sum to 1 at the borders too, so that no dark frame appears.
    weights = torch.exp(-((at[:, None] - at) ** 2) / (2 * max(sigma, 1e-6) ** 2))
    return weights / weights.sum(1, keepdim=True)


def image_generators(images: Tensor, seed: int) -> list[torch.Generator]:
    """Return one random generator (on the CPU) per image, seeded by ``seed`` and the image's own pixels.

    So images differ in their noise, and one image has the same noise alone, in any batch and on any device.
    """
    made = []
    for image in images:
        pixels = image.detach().float().cpu().contiguous().view(torch.uint8).numpy().tobytes()
        # A salt holds 16 bytes; the last digits are the ones in which seeds differ.
        digest = hashlib.blake2b(pixels, digest_size=8, salt=str(seed).encode()[-16:]).digest()
        generator = torch.Generator()
        generator.manual_seed(int.from_bytes(digest, "little"))
        made.append(generator)
    return made


def draw(images: Tensor, generators: Sequence[torch.Generator], *shape: int, normal: bool = False) -> Tensor:
    """Return (B, *shape) random numbers, uniform in [0, 1) or normal, beside the images and of their type."""
    distribution = torch.rand
    if normal:
        distribution = torch.randn
    return torch.stack([distribution(shape, generator=g) for g in generators]).to(images)
