"""Train a small network, reproducibly, and measure its accuracy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from interpnet.datasets import ImageData, make_loader
from interpnet.engine import check_predicted, evaluating, predicted, resolve_device
from interpnet.errors import DataError, InterpNetError
from interpnet.models._smallcnn import SmallCNN
from interpnet.models._training_steps import (
    Epoch,
    EpochRecord,
    check_range,
    check_trainable,
    cpu_threads,
    labelled,
    one_cycle,
    require_every_class,
    run_for_logits,
    shift_images,
)
from interpnet.support.brief import brief
from interpnet.support.checks import check_kinds, is_number, positive_number, whole_number
from interpnet.support.progress import progress_bar
from interpnet.support.seed import seeded

# Half a pixel of an 8x8 digit to two of a 28x28 one: what hand-centred images differ by.
_SHIFT_FRACTION = 1 / 14
# Pixels per batch: so little work gains nothing from a second thread, and on a busy machine waiting for one
# made a training of two seconds take two minutes.
_ONE_THREAD_BELOW = 32_768
_IMAGES_TO_SEE = 150_000
_FEWEST_EPOCHS = 3
_MOST_EPOCHS = 30


class SizedLoader(Protocol):
    """What training needs of a loader: batches that start with (images, labels), and their number."""

    def __iter__(self) -> Any: ...

    def __len__(self) -> int: ...


@brief
@dataclass(frozen=True)
class History:
    """How a training went: one record per epoch, in order."""

    epochs: tuple[EpochRecord, ...]

    @property
    def seconds(self) -> float:
        """Wall-clock time of all epochs."""
        return sum(epoch.seconds for epoch in self.epochs)


def train(
    model: nn.Module,
    loader: SizedLoader,
    *,
    epochs: int,
    lr: float = 3e-3,
    weight_decay: float = 1e-2,
    max_shift: int = 0,
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> History:
    """Train a classifier in place with AdamW, cross-entropy and a one-cycle learning rate.

    The rate rises linearly over the first fifth of the steps and falls to zero along a cosine. A batch of a
    single image is left out: batch normalisation has no statistics there. Labels outside the classes, a class without
    a training image, images that are not finite, and no batch are DataErrors; a loss that is not finite, a result that
    is no logits, and a device that is not there are ModelErrors.

    Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019; Smith & Topin, "Super-convergence", 2018.

    Parameters
    ----------
    model : nn.Module
        Maps (B, C, H, W) to logits (B, n_classes). Left in evaluation mode on ``device``, errors or not.
    loader : sized iterable
        Batches that start with ``(images, labels)``; shuffling is its business.
    epochs : int
        Passes over the loader, at least 1.
    lr, weight_decay : float
        The highest learning rate and AdamW's decoupled decay.
    max_shift : int
        Each image is shifted by up to so many pixels along each axis, its border repeated; 0 for none.
    seed : int
        Fixes shifts and dropout; torch's global random state is as before afterwards.
    device : str or torch.device, optional
        Where to train; by default where the model is.

    Examples
    --------
    >>> from interpnet.datasets import load_dataset, make_loader
    >>> data = load_dataset("digits")
    >>> model = SmallCNN(1, 10, 8, width=4, seed=0)
    >>> history = train(model, make_loader(data, shuffle=True), epochs=1, progress=False)
    >>> len(history.epochs), model.training
    (1, False)
    """
    check_kinds(train, locals())
    check_trainable(model, loader)
    epochs = whole_number(epochs, "epochs", least=1)
    max_shift = whole_number(max_shift, "max_shift", least=0)
    lr = positive_number(lr, "lr")
    if not (is_number(weight_decay) and 0 <= weight_decay < math.inf):
        raise InterpNetError(f"weight_decay is {weight_decay!r}; expected a number of at least 0")
    target = resolve_device(device, model)
    n_batches = _n_batches(loader)
    model.to(target)
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    total = None
    if hasattr(loader, "n_images"):
        total = epochs * loader.n_images
    # Loaders of ours tell their labels before they are read, so that a missing class costs no epoch.
    known_labels = getattr(loader, "labels", None)
    records: list[EpochRecord] = []
    model.train()
    try:
        with seeded(seed, target), progress_bar("training", total, enabled=progress) as advance:
            for number in range(epochs):
                epoch = Epoch(number)
                for step, batch in enumerate(loader):
                    images, labels = labelled(batch)
                    # At most 1, because a loader may give more batches than it says.
                    done = (number + min(step / n_batches, 1.0)) / epochs
                    for group in optimiser.param_groups:
                        group["lr"] = lr * one_cycle(done)
                    images = images.to(target, non_blocking=True)
                    labels = labels.to(target, non_blocking=True)
                    # Batch normalisation has no statistics of a single image.
                    if len(labels) > 1:
                        epoch.update(model, optimiser, shift_images(images, max_shift), labels, known_labels)
                    epoch.labels.update(labels.tolist())
                    advance(len(labels))
                records.append(epoch.record())
                if number == 0:
                    require_every_class(sorted(epoch.labels), epoch.n_classes)
    finally:
        # Also after an error: a model left in training mode would give other results without a word.
        model.eval()
    return History(tuple(records))


def fit_smallcnn(
    data: ImageData,
    *,
    indices: Sequence[int] | np.ndarray | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float = 3e-3,
    width: int = 16,
    max_shift: int | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    num_workers: int = 0,
    progress: bool = True,
) -> tuple[SmallCNN, History]:
    """Make a :class:`SmallCNN` that fits a data set and train it; the same seed gives the same network.

    The arguments, and the errors, are those of :func:`train`, :class:`SmallCNN` and
    :func:`interpnet.datasets.make_loader`; by default all images are trained on, 150,000 are seen in 3 to 30 epochs,
    a batch holds 128, or 64 of fewer than 10,000 images, and shifts go up to a fourteenth of the shorter side.
    Returns the network, in evaluation mode, and how its training went.

    Examples
    --------
    >>> from interpnet.datasets import load_dataset
    >>> model, history = fit_smallcnn(load_dataset("digits"), epochs=1, width=4, progress=False)
    >>> model.architecture["n_classes"]
    10
    """
    check_kinds(fit_smallcnn, locals())
    if indices is None:
        indices = range(len(data))
    n_images = len(indices)
    if batch_size is None:
        batch_size = 128 if n_images >= 10_000 else 64
    loader = make_loader(data, batch_size=batch_size, indices=indices, shuffle=True, num_workers=num_workers, seed=seed)
    # Here with names; the training itself knows numbers only.
    require_every_class(loader.labels, len(data.classes), data.classes)
    channels, *size = data.shape
    model = SmallCNN(channels, len(data.classes), (size[0], size[1]), width, seed=seed)
    if epochs is None:
        epochs = min(max(round(_IMAGES_TO_SEE / n_images), _FEWEST_EPOCHS), _MOST_EPOCHS)
    if max_shift is None:
        max_shift = round(min(size) * _SHIFT_FRACTION)
    with cpu_threads(1 if batch_size * math.prod(data.shape) < _ONE_THREAD_BELOW else None):
        history = train(
            model, loader, epochs=epochs, lr=lr, max_shift=max_shift, seed=seed, device=device, progress=progress
        )
    return model, history


def accuracy(model: nn.Module, loader: Iterable[Any], device: str | torch.device | None = None) -> float:
    """Share of images whose highest logit is their label.

    The model, the batches and the device are as in :func:`train`; each submodule's mode is restored.

    Examples
    --------
    >>> import torch
    >>> batches = [(torch.eye(3).view(3, 1, 1, 3), torch.tensor([0, 1, 1]))]
    >>> round(accuracy(torch.nn.Flatten(), batches), 3)
    0.667
    """
    check_kinds(accuracy, locals())
    check_trainable(model, loader)
    target = resolve_device(device, model)
    model.to(target)
    right = 0
    seen = 0
    with evaluating(model), torch.inference_mode():
        for batch in loader:
            images, labels = labelled(batch)
            logits = run_for_logits(model, images.to(target))
            check_range(labels, logits.shape[1])
            classes = predicted(logits).cpu()
            check_predicted(classes, range(seen, seen + len(labels)))
            right += int((classes == labels.cpu()).sum())
            seen += len(labels)
    if not seen:
        raise DataError("the loader gave no images to measure accuracy on")
    return right / seen


def _n_batches(loader: SizedLoader) -> int:
    try:
        n_batches = len(loader)
    except TypeError as error:
        raise DataError(
            f"loader is a {type(loader).__name__} without a length, which the learning rate needs; "
            "make it with make_loader or a DataLoader"
        ) from error
    if not n_batches:
        raise DataError("the loader has no batches to train on")
    return n_batches
