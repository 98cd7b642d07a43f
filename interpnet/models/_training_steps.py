"""The parts of a training: the learning rate, shifted images, and one epoch of updates."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from interpnet.engine import check_images, forward
from interpnet.errors import DataError, ModelError
from interpnet.support.checks import shown, whole_numbers

# The share of the steps over which the learning rate rises.
_WARM_UP = 0.2


@dataclass(frozen=True)
class EpochRecord:
    """One pass over the training images: means of the network as it was at each step, and wall-clock time."""

    loss: float
    accuracy: float
    seconds: float


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Run a block with ``count`` threads in torch's kernels; ``None`` leaves their number as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_cycle(done: float) -> float:
    """Share of the highest learning rate after the share ``done`` of the training.

    >>> [round(one_cycle(t), 3) for t in (0.1, 0.2, 0.6, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """
    # Not torch's schedulers: their rates differ by up to 0.16 of the highest (OneCycleLR) or 0.02 (LinearLR and then
    # CosineAnnealingLR), which makes other networks, and with them another of every number measured on these.
    if done < _WARM_UP:
        # Not from zero: the first step would be wasted.
        return max(done / _WARM_UP, 0.02)
    return 0.5 * (1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP)))


def shift_images(images: Tensor, max_shift: int) -> Tensor:
    """Shift each of (B, C, H, W) by random pixels of its own, up to ``max_shift`` along each axis, borders repeated."""
    if not max_shift:
        return images
    count, _, height, width = images.shape
    if max_shift > max(height, width):
        raise DataError(f"max_shift is {max_shift} for images of {height} x {width} pixels; expected no more than that")
    padded = pad(images, [max_shift] * 4, mode="replicate")
    # Drawn on the CPU, whose generator gives the same shifts whatever the images' device.
    offsets = torch.randint(0, 2 * max_shift + 1, (2, count, 1)).to(images.device)
    rows = offsets[0] + torch.arange(height, device=images.device)
    columns = offsets[1] + torch.arange(width, device=images.device)
    which = torch.arange(count, device=images.device)
    moved: Tensor = padded.permute(0, 2, 3, 1)[which[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2).contiguous()


def check_trainable(model: object, loader: object) -> None:
    """Refuse what is no network, or no batches."""
    if not isinstance(model, nn.Module):
        raise ModelError(f"model is a {type(model).__name__}; expected a torch.nn.Module")
    if isinstance(loader, Tensor | np.ndarray | str | Mapping) or not hasattr(loader, "__iter__"):
        raise DataError(f"loader is a {type(loader).__name__}; expected batches that start with (images, labels)")


def labelled(batch: Any) -> tuple[Tensor, Tensor]:
    """Return images and class numbers of a batch that starts with them, or raise DataError."""
    if not isinstance(batch, tuple | list) or len(batch) < 2:
        raise DataError(f"the loader gave {shown(batch)}; expected batches that start with (images, labels)")
    images = check_images(batch[0])
    labels = torch.from_numpy(whole_numbers(batch[1], "labels", error=DataError))
    if labels.shape != images.shape[:1]:
        raise DataError(f"labels have shape {tuple(labels.shape)}; expected one for each of {len(images)} images")
    return images, labels


def check_range(labels: Tensor, n_classes: int) -> None:
    """Raise a DataError where a label is none of the classes."""
    low, high = (int(label) for label in labels.aminmax())
    if low < 0 or high >= n_classes:
        raise DataError(
            f"labels reach from {low} to {high}, but the model has {n_classes} classes (0 to {n_classes - 1})"
        )


class Epoch:
    """One pass over the training images: its updates, their sums, and the labels met."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.n_classes = 0
        self.labels: set[int] = set()
        self._loss = 0.0
        self._right = 0
        self._seen = 0
        self._started = time.perf_counter()

    def update(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        images: Tensor,
        labels: Tensor,
        known_labels: np.ndarray | None,
    ) -> None:
        """Update the model on one batch; ``known_labels`` are all of the loader, where it tells them."""
        logits = run_for_logits(model, images)
        self.n_classes = logits.shape[1]
        # Before the first update, so that the error costs nothing and leaves the weights as they were.
        if known_labels is not None and self.number == 0 and not self._seen:
            require_every_class(known_labels, self.n_classes)
        check_range(labels, self.n_classes)
        loss = cross_entropy(logits, labels)
        value = float(loss.detach())
        # Found before the update, which would carry it into every weight.
        if not math.isfinite(value):
            if not torch.isfinite(images).all():
                raise DataError(f"images of epoch {self.number + 1} hold NaN or infinite values; check mean and std")
            raise ModelError(f"the loss became {value} in epoch {self.number + 1}; train with a smaller lr (--lr)")
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        # Weighted by images: the last batch may be smaller.
        self._loss += value * len(labels)
        self._right += int((logits.detach().argmax(1) == labels).sum())
        self._seen += len(labels)

    def record(self) -> EpochRecord:
        """Return means and time of the pass."""
        if not self._seen:
            raise DataError("the loader gave no batch of at least two images to train on")
        seconds = time.perf_counter() - self._started
        return EpochRecord(self._loss / self._seen, self._right / self._seen, seconds)


def run_for_logits(model: nn.Module, images: Tensor) -> Tensor:
    """Return the model's logits (B, n_classes), or raise ModelError where it returns something else."""
    logits = forward(model, images)
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        what = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(f"the model returned {what}, expected logits (B, n_classes)")
    return logits


def require_every_class(labels: npt.ArrayLike, n_classes: int, names: Sequence[object] = ()) -> None:
    """Raise a DataError that names the classes ``labels`` lacks, by number where there are no ``names``."""
    missing = sorted(set(range(n_classes)) - set(np.unique(labels).tolist()))
    if missing:
        names = names or range(n_classes)
        shown = ", ".join(repr(names[c]) for c in missing[:4])
        raise DataError(
            f"{len(missing)} of {n_classes} classes have no training image: {shown}; add images, or leave the class out"
        )
