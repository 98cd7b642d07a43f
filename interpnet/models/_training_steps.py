"""The steps of a training: shifted images, one update, and the sums over an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from interpnet.errors import DataError, ModelError

_WARM_UP = 0.2


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Run a block with ``count`` threads in torch's kernels; ``None`` leaves their number as it is.

    Examples
    --------
    >>> import torch
    >>> with cpu_threads(1):
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_cycle(done: float) -> float:
    """Share of the highest learning rate after the share ``done`` of the training.

    Examples
    --------
    >>> [round(one_cycle(t), 3) for t in (0.1, 0.2, 0.6, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """
    if done < _WARM_UP:
        # Not from zero: the first step would be wasted.
        return max(done / _WARM_UP, 0.02)
    return 0.5 * (1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP)))


def shift_images(images: Tensor, max_shift: int) -> Tensor:
    """Shift each of (B, C, H, W) by random pixels of its own, up to ``max_shift`` an axis, borders repeated.

    Examples
    --------
    >>> import torch
    >>> shift_images(torch.zeros(2, 1, 8, 8), 1).shape
    torch.Size([2, 1, 8, 8])
    """
    if not max_shift:
        return images
    count, _, height, width = images.shape
    padded = pad(images, [max_shift] * 4, mode="replicate")
    offsets = torch.randint(0, 2 * max_shift + 1, (2, count, 1)).to(images.device)
    rows = offsets[0] + torch.arange(height, device=images.device)
    columns = offsets[1] + torch.arange(width, device=images.device)
    which = torch.arange(count, device=images.device)
    moved: Tensor = padded.permute(0, 2, 3, 1)[which[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2).contiguous()


class Running:
    """Sums over an epoch, and the labels met in it."""

    def __init__(self) -> None:
        self.loss = 0.0
        self.right = 0
        self.seen = 0
        self.n_classes = 0
        self._labels: set[int] = set()

    def add(self, loss: float, right: int, seen: int, n_classes: int) -> None:
        """Count one step of ``seen`` images."""
        self.loss += loss * seen
        self.right += right
        self.seen += seen
        self.n_classes = n_classes

    def note_labels(self, labels: Tensor) -> None:
        """Remember which classes occurred."""
        self._labels.update(torch.unique(labels).tolist())

    @property
    def labels(self) -> np.ndarray:
        """The labels met so far, sorted."""
        return np.array(sorted(self._labels), dtype=np.int64)

    def means(self) -> tuple[float, float]:
        """Loss and accuracy per image."""
        if not self.seen:
            raise DataError("the loader gave no batch of at least two images to train on")
        return self.loss / self.seen, self.right / self.seen


def step(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    device: torch.device,
    max_shift: int,
    epoch: int,
    known_labels: np.ndarray | None,
) -> tuple[float, int, int, int]:
    """Update the model on one batch; return mean loss, images right, images seen, number of classes."""
    images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
    logits = run_for_logits(model, shift_images(images, max_shift))
    n_classes = logits.shape[1]
    if known_labels is not None and epoch == 0:
        require_every_class(known_labels, n_classes)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= n_classes:
        raise DataError(
            f"labels reach from {low} to {high}, but the model has {n_classes} classes (0 to {n_classes - 1})"
        )
    loss = cross_entropy(logits, labels)
    value = float(loss.detach())
    if not math.isfinite(value):
        if not torch.isfinite(images).all():
            raise DataError(f"images of epoch {epoch + 1} hold NaN or infinite values; check mean and std")
        raise ModelError(f"the loss became {value} in epoch {epoch + 1}; train with a smaller lr (--lr)")
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    optimiser.step()
    return value, int((logits.detach().argmax(1) == labels).sum()), len(labels), n_classes


def run_for_logits(model: nn.Module, images: Tensor) -> Tensor:
    """Return the model's logits (B, n_classes), or raise ModelError where it returns something else."""
    logits = model(images)
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        what = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(f"the model returned {what}, expected logits (B, n_classes)")
    return logits


def require_every_class(labels: np.ndarray, n_classes: int, names: Sequence[str] | None = None) -> None:
    """Raise a DataError that names the classes ``labels`` lacks."""
    missing = sorted(set(range(n_classes)) - set(np.unique(labels).tolist()))
    if missing:
        shown = ", ".join(repr(names[c]) if names else str(c) for c in missing[:4])
        raise DataError(
            f"{len(missing)} of {n_classes} classes have no training image: {shown}; add images, or leave the class out"
        )
