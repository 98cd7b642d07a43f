"""V's claim, from confirmation.json."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from experiments.common.claims import Claim
from experiments.common.pages import paired, signed
from experiments.variant.select import chosen
from experiments.variant.table import gains

_HERE = Path(__file__).parent


def claims() -> list[Claim]:
    """Return whether the chosen variant beats the paper's on data that it was not chosen on.

    On masks: the interval of its gain in IoU-AUC and in average precision is above zero. On CIFAR-10: deletion is
    lower and insertion higher, beyond the intervals.
    """
    selection, confirmation = _HERE / "selection.json", _HERE / "confirmation.json"
    if not selection.exists() or not confirmation.exists():
        return []
    lines, setting = json.loads(confirmation.read_text()), chosen(json.loads(selection.read_text()))
    iou, precise = (paired([100 * g for g in gains(lines, "double-12c", m)]) for m in ("iou", "precision"))
    deleted, inserted = (paired(gains(lines, "cifar10", m)) for m in ("deletion", "insertion"))
    on_masks = iou[1] > 0 and precise[1] > 0
    on_cifar = deleted[2] < 0 and inserted[1] > 0
    center = next(x for x in lines if x["data"] == "cifar10")["center"]
    return [
        Claim(
            "V",
            f"Absolute values over colours ({setting}), chosen on single-6c, beat the paper's positive part elsewhere",
            f"double-12c IoU-AUC {signed(iou)}, precision {signed(precise)} points; CIFAR-10 deletion "
            f"{signed(deleted, 2)}, insertion {signed(inserted, 2)}",
            "holds" if on_masks and on_cifar else "holds in part" if on_masks or on_cifar else "does not hold",
            f"a blob in the middle has deletion {np.mean(center['deletion']):.2f}, insertion "
            f"{np.mean(center['insertion']):.2f}",
        )
    ]
