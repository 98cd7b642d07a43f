"""V's claim, from confirmation.json."""

from __future__ import annotations

import numpy as np

from experiments.common.claims import Claim, graded
from experiments.common.pages import committed
from experiments.common.tables import paired, signed
from experiments.variant.select import chosen
from experiments.variant.table import gains


def claims() -> list[Claim]:
    """Return whether the chosen variant beats the paper's on data that it was not chosen on.

    On masks: the interval of its gain in IoU-AUC and in average precision is above zero. On CIFAR-10: deletion is
    lower and insertion higher, beyond the intervals.
    """
    lines = committed(__file__, "confirmation.json")
    setting = chosen(committed(__file__, "selection.json"))
    iou, precise = (paired(gains(lines, "double-12c", m)).times(100) for m in ("iou", "precision"))
    deleted, inserted = (paired(gains(lines, "cifar10", m)) for m in ("deletion", "insertion"))
    on_masks = iou.above and precise.above
    on_cifar = deleted.below and inserted.above
    center = next(x for x in lines if x["data"] == "cifar10")["center"]
    return [
        Claim(
            "V",
            f"Absolute values over colours ({setting}), chosen on single-6c, beat the paper's positive part elsewhere",
            f"{signed(iou)} points of IoU-AUC",
            f"double-12c IoU-AUC {signed(iou)}, precision {signed(precise)} points; CIFAR-10 deletion "
            f"{signed(deleted, 2)}, insertion {signed(inserted, 2)}",
            graded(full=on_masks and on_cifar, part=on_masks or on_cifar),
            f"a blob in the middle has deletion {np.mean(center['deletion']):.2f}, insertion "
            f"{np.mean(center['insertion']):.2f}",
            effects=(
                ("double-12c, IoU-AUC", iou),
                ("double-12c, precision", precise),
                ("CIFAR-10, deletion", deleted.times(-100)),
                ("CIFAR-10, insertion", inserted.times(100)),
            ),
        )
    ]
