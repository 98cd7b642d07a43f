"""Logits that are not finite: no class can be told from them, and no probability."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.errors import DataError, ModelError


def predicted(logits: Tensor) -> Tensor:
    """Return the class of the largest logit (B,), -1 for an image of which a logit is NaN or infinite.

    It does not wait for a GPU; :func:`check_predicted` raises where the numbers are needed anyway.

    Examples
    --------
    >>> predicted(torch.tensor([[0.0, 1.0], [float("nan"), 1.0], [0.0, -float("inf")]]))
    tensor([ 1, -1, -1])
    """
    classes = logits.argmax(1)
    return torch.where(torch.isfinite(logits).all(1), classes, torch.full_like(classes, -1))


def check_predicted(classes: Any, indices: Any = None, *, batch: int | None = None, when: str = "") -> None:
    """Raise :class:`DataError` where a class (B,) is -1, with the image's number in ``indices`` (B,) or in its batch.

    ``batch`` is the batch's number in its pass, and ``when`` says what was done to the network.

    Examples
    --------
    >>> check_predicted(torch.tensor([0, 2]))
    """
    bad = np.flatnonzero(np.asarray(classes) < 0)
    if not len(bad):
        return
    row = int(bad[0])
    name = f"image {row} of the batch"
    if indices is not None:
        name = f"image {int(indices[row])}"
    if batch is not None:
        name += f" (in batch {batch} of the pass, both counted from 0)"
    raise DataError(
        f"{name} has NaN or infinite logits{when}, as {len(bad)} of {len(classes)} images of its batch have. Look at "
        "that image and its normalisation, or at weights that overflow (float16 or autocast?). A class that is masked "
        "gets a large negative logit such as -1e4, not -inf"
    )


def check_logits(logits: Tensor) -> Tensor:
    """Return ``logits`` (B, classes), or raise :class:`DataError` with the first image that has one not finite."""
    check_predicted(predicted(logits).cpu())
    return logits


def check_weights(model: nn.Module) -> None:
    """Raise :class:`ModelError` where a parameter or buffer holds NaN or infinity, by its name."""
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(
                f"the model's {name!r} holds NaN or infinite values, and its output is not finite; load weights of a "
                "training that did not diverge"
            )
