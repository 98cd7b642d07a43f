"""What ``y`` means: labels or a target matrix, and the weight of each image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets

from interpnet.errors import DataError, InterpNetError
from interpnet.gram import as_target, check_some_weight, checked_weight, locate_bad
from interpnet.support.types import Float64

# From here on float64 cannot tell neighbouring whole numbers apart.
_FLOAT_LABELS = 2.0**53


@dataclass(frozen=True)
class Targets:
    """Targets of N images."""

    L: Any  # positions in classes (N,) int64, or a target matrix (N, C), array or csr_array
    classes: npt.NDArray[Any]
    labels: bool  # whether L are labels
    weight: Float64 | None  # (N,): what the squared error of each image counts, sample weight times class weight
    sample_weight: Float64 | None  # (N,): without the class weight


def read_targets(y: Any, n: int, sample_weight: Any, class_weight: Any) -> Targets:
    """Tell labels from target matrices, number the classes and multiply the weights; errors as ``MuLasso.fit`` says."""
    if y is None:
        raise DataError("y is None; this estimator requires y to be passed, but the target y is None")
    check_class_weight(class_weight)
    target = as_target(y)
    if target.shape[:1] != (n,):
        raise DataError(f"X has {n} rows but y has shape {target.shape}; expected one label or row of targets per row")
    weight = checked_weight(sample_weight, n)
    check_some_weight(weight)
    if target.ndim == 1:
        return _read_labels(target, weight, class_weight)
    if class_weight is not None:
        raise DataError(
            f"class_weight is {class_weight!r} and y a matrix of targets; expected labels, or None: weigh the rows of "
            "a matrix with sample_weight"
        )
    return Targets(target, np.arange(target.shape[-1]), labels=False, weight=weight, sample_weight=weight)


def check_class_weight(class_weight: Any) -> None:
    """Refuse what is neither None, ``"balanced"`` nor a dictionary of weights."""
    if class_weight is None or isinstance(class_weight, dict) or class_weight == "balanced":
        return
    raise InterpNetError(f"class_weight is {class_weight!r}; expected None, 'balanced', or a dictionary label: weight")


def _read_labels(labels: npt.NDArray[Any], weight: Float64 | None, class_weight: Any) -> Targets:
    labels = _plain_labels(labels)
    check_classification_targets(labels)
    classes, index = np.unique(labels, return_inverse=True)
    total = np.bincount(index, weights=weight, minlength=len(classes))
    present = classes[total > 0]
    if len(present) < 2:
        others = len(classes) - len(present)
        rest = f" ({others} without weight)" * (others > 0)
        raise DataError(
            f"y has one class only, {present[0]!s}, among {len(labels)} images{rest}; expected labels of at least two "
            "classes, or a target matrix (N, C)"
        )
    if class_weight is None:
        return Targets(index, classes, labels=True, weight=weight, sample_weight=weight)
    if class_weight == "balanced":
        # scikit-learn's n / (C n_j), with weights for counts; a class without weight has nothing to balance.
        each = np.divide(total.sum() / len(present), total, out=np.zeros(len(classes)), where=total > 0)
    else:
        each = checked_weight(
            compute_class_weight(class_weight, classes=classes, y=labels), len(classes), "class_weight"
        )
    both = each[index] if weight is None else each[index] * weight
    check_some_weight(both, "sample_weight times class_weight")
    return Targets(index, classes, labels=True, weight=both, sample_weight=weight)


def _plain_labels(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Refuse numbers that are no label, and whole numbers that no 64-bit type holds apart."""
    if labels.dtype.kind == "f":
        fault = locate_bad("y", labels[:, None])
        if fault is not None:
            raise DataError(fault.removesuffix(", column 0; every value must be finite") + "; expected labels")
        large = np.abs(labels) >= _FLOAT_LABELS
        if large.any():
            row = int(large.argmax())
            raise DataError(f"label {labels[row]:.17g} at row {row} is beyond 2^53, where floats merge; {_RENUMBER}")
    if labels.dtype.kind != "O" or not all(isinstance(v, int) and not isinstance(v, bool) for v in labels):
        return labels
    low = min(labels)
    high = max(labels)
    if low >= -(2**63) and high < 2**63:
        return labels.astype(np.int64)
    if low >= 0 and high < 2**64:
        return labels.astype(np.uint64)
    worst = low if low < -(2**63) else high
    row = [v == worst for v in labels].index(True)
    raise DataError(f"label {labels[row]} at row {row} does not fit a 64-bit integer; {_RENUMBER}")


_RENUMBER = "expected labels within 64 bits, or text: number them 0 .. C - 1"
