"""Labels as loaders give them, made class numbers or targets: numbers, names, one-hot rows, zeros and ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interpnet.errors import DataError, did_you_mean

#: Names of classes, one for each image of a batch, as they came.
Names = tuple[str, ...]

_NUMBERS = "class numbers"
_TARGETS = "a target matrix"
_EXPECTED = "expected class numbers (B,), counted as the model's outputs are, names of classes, or targets (B, classes)"


def as_labels(values: Any) -> Tensor | Names | None:
    """Return labels as a tensor of real numbers or as names, or refuse them; no labels stay ``None``.

    Examples
    --------
    >>> as_labels([1, 0]), as_labels(["cat", "dog"])
    (tensor([1, 0]), ('cat', 'dog'))
    """
    if values is None:
        return None
    if isinstance(values, Mapping):
        raise DataError(f"labels: a dictionary with keys {sorted(map(str, values))} came; {_EXPECTED}")
    names = _names(values)
    if names is not None:
        return names
    try:
        labels = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise DataError(f"labels: {str(values)[:60]} came; {_EXPECTED}") from error
    if labels.is_complex() or labels.is_nested or labels.layout != torch.strided or labels.is_meta:
        raise DataError(f"labels: a tensor of {labels.dtype}, {labels.layout} on {labels.device} came; {_EXPECTED}")
    return labels


def _names(values: Any) -> Names | None:
    """Return names where there is nothing else, ``None`` for all other labels."""
    if isinstance(values, str):
        return (values,)
    if isinstance(values, np.ndarray):
        values = values.ravel().tolist()
    if isinstance(values, list | tuple) and values and all(isinstance(value, str) for value in values):
        return tuple(map(str, values))
    return None


class Labels:
    """The labels of a loader, checked batch after batch; all batches must hold labels of one type.

    ``classes`` are the names of the model's ``n_classes`` outputs, in their order, for labels that are names.

    Examples
    --------
    >>> labels = Labels(2, classes=["cat", "dog"])
    >>> labels.checked(("dog", "cat"), 2, torch.arange(2))
    tensor([1, 0])
    """

    def __init__(self, n_classes: int, *, classes: Sequence[str] | None = None) -> None:
        if classes is not None and len(classes) != n_classes:
            raise DataError(f"classes has {len(classes)} names; the model has {n_classes} outputs")
        self._n_classes = n_classes
        self._classes = classes
        self._kind = ""

    def checked(self, labels: Tensor | Names | None, n: int, indices: Tensor) -> Tensor:
        """Return the labels of ``n`` images, which ``indices`` name: (n,) int64, or targets (n, C) as float32."""
        if labels is None:
            raise DataError("the loader yields no labels; expected (images, labels) batches")
        if not isinstance(labels, Tensor):
            self._came("names", indices)
            return self._numbers_of(labels, n, indices)
        # A batch of one image may have one number as its label.
        if labels.dim() == 0 and n == 1:
            labels = labels.reshape(1)
        if labels.shape[:1] != (n,):
            came = labels.shape[0] if labels.dim() else 1
            raise DataError(f"a batch has {n} images and {came} labels; expected one label per image")
        if labels.dim() == 2 and labels.shape[1] == 1 and self._n_classes > 1:
            labels = labels[:, 0]
        if labels.dim() == 2:
            self._came(_TARGETS, indices)
            return self._targets(labels, indices)
        if self._n_classes == 1:
            raise DataError(
                "class numbers came, and output=OneColumn keeps the model's one output as it is: expected targets "
                "(B, 1). Leave it out, and the model is a binary classifier of classes 0 and 1"
            )
        if labels.dim() == 1 and self._n_classes == 2 and (labels.is_floating_point() or labels.dtype == torch.bool):
            self._came(f"{labels.dtype}".removeprefix("torch."), indices)
            return _zeros_and_ones(labels, indices)
        if labels.dim() != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
            raise DataError(
                f"labels of shape {tuple(labels.shape)} and type {labels.dtype} came; expected (B,) class numbers, "
                f"which are integers (labels.long()), or a (B, {self._n_classes}) target"
            )
        self._came(_NUMBERS, indices)
        return self._in_range(labels, indices)

    def _came(self, kind: str, indices: Tensor) -> None:
        """Refuse labels of another type than those before."""
        if self._kind not in {"", kind}:
            raise DataError(
                f"labels changed between batches, at image {int(indices[0])}, from {self._kind} to {kind}; expected "
                "labels of one type"
            )
        self._kind = kind

    def _numbers_of(self, names: Names, n: int, indices: Tensor) -> Tensor:
        """Return the class numbers of names."""
        if len(names) != n:
            raise DataError(f"a batch has {n} images and {len(names)} labels; expected one label per image")
        if self._classes is None:
            raise DataError(
                f"labels are names ({names[0]!r}), and which outputs they belong to is not said; pass classes=[...], "
                "the names of the model's outputs in their order"
            )
        known = list(self._classes)
        numbers = []
        for row, name in enumerate(names):
            found = known.count(name)
            if found != 1:
                what = f"is none of the {len(known)} classes{did_you_mean(name, known)}"
                if found:
                    what = f"is the name of {found} classes; give class numbers"
                raise DataError(f"image {int(indices[row])} has label {name!r}, which {what}")
            numbers.append(known.index(name))
        return torch.tensor(numbers)

    def _targets(self, labels: Tensor, indices: Tensor) -> Tensor:
        if labels.shape[1] != self._n_classes:
            raise DataError(f"targets have {labels.shape[1]} columns; the model has {self._n_classes} outputs")
        bad = ~torch.isfinite(labels).all(1)
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            raise DataError(
                f"the target of image {int(indices[row])} holds NaN or infinity; every value must be finite"
            )
        # A copy: a loader may fill the same tensor again for its next batch.
        return labels.to(torch.float32, copy=True)

    def _in_range(self, labels: Tensor, indices: Tensor) -> Tensor:
        # Comparisons of the unsigned types of 16 bits and more are not there on every device.
        labels = labels.to(torch.int64, copy=True)
        outside = ((labels < 0) | (labels >= self._n_classes)).nonzero()
        if len(outside):
            row = int(outside[0])
            raise DataError(
                f"image {int(indices[row])} has label {int(labels[row])}; the model has {self._n_classes} outputs, so "
                f"labels must lie in 0..{self._n_classes - 1}. Are the classes numbered as in training?"
            )
        return labels


def _zeros_and_ones(labels: Tensor, indices: Tensor) -> Tensor:
    """Return the labels of two classes as a binary cross-entropy takes them, as class numbers."""
    wrong = ((labels != 0) & (labels != 1)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"image {int(indices[row])} has label {float(labels[row]):g}, and labels of two classes are 0 and 1, as "
            "whole numbers or floats; for a regression pass output=interpnet.engine.OneColumn() and targets (B, 1)"
        )
    return labels.to(torch.int64, copy=True)


def class_numbers(labels: Tensor, indices: Tensor, use: str) -> Tensor:
    """Return one class number for each image (n,), also of one-hot targets (n, C); ``use`` needs them.

    Examples
    --------
    >>> class_numbers(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.arange(2), "the study")
    tensor([1, 0])
    """
    if labels.dim() == 1:
        return labels
    one_hot = ((labels == 0) | (labels == 1)).all(1) & (labels.sum(1) == 1)
    if bool(one_hot.all()):
        return labels.argmax(1)
    row = int((~one_hot).nonzero()[0])
    raise DataError(
        f"{use} needs one class number per image; the loader yields a target matrix, of which the row of image "
        f"{int(indices[row])} is not one-hot (a single 1 among zeros). Where an image can have several labels, say "
        "outputs='independent'"
    )


def checked_labels(
    labels: Tensor | Names | None,
    n: int,
    n_classes: int,
    indices: Tensor,
    *,
    classes: Sequence[str] | None = None,
) -> Tensor:
    """Return the labels of one batch as :class:`Labels` does.

    Examples
    --------
    >>> checked_labels(torch.tensor([[1], [0]]), 2, 3, torch.arange(2))
    tensor([1, 0])
    """
    return Labels(n_classes, classes=classes).checked(labels, n, indices)
