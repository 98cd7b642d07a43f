"""What a finding shows: the channels that carry a part, and images before and after they got it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from interpnet.shortcuts._effects import effects_of
from interpnet.shortcuts._evidence import Evidence
from interpnet.shortcuts._example import Example
from interpnet.shortcuts._exchanges import Plan, batches
from interpnet.shortcuts._findings import CarryingChannel
from interpnet.shortcuts._parts import Images, Part
from interpnet.support.types import Float32, Int64

_CHANNELS = 10
_EXAMPLES = 4


def channels_of(k: int, plan: Plan, scores: Float32, evidence: Evidence, labels: Int64) -> tuple[CarryingChannel, ...]:
    """Return the channels that contribute most to class k, in the order of what they carry of its part.

    A channel carries its mean contribution to the class times the part's share in what the class does to its score.
    """
    contributions = np.nan_to_num(evidence.right[k], nan=0.0)
    best = np.argsort(-contributions, kind="stable")[:_CHANNELS]
    best = best[contributions[best] > 0]
    intact = evidence.scores[:, best].astype(np.float64)
    shares = effects_of(scores[:, best].astype(np.float64), plan.rest, plan.donor, intact, labels, k).share
    carried = np.nan_to_num(shares, nan=0.0) * contributions[best]
    found = []
    for at in np.argsort(-carried, kind="stable"):
        j = int(best[at])
        classes = classes_counted(labels[evidence.top(j)])
        found.append(CarryingChannel(evidence.channels[j], float(shares[at]), float(contributions[j]), classes))
    return tuple(found)


def classes_counted(labels: Int64) -> tuple[tuple[int, int], ...]:
    """Return (class, count) of labels, the most first.

    Examples
    --------
    >>> classes_counted(np.array([4, 2, 4, 7]))
    ((4, 2), (2, 1), (7, 1))
    """
    shown, counts = np.unique(labels, return_counts=True)
    order = np.lexsort((shown, -counts))
    return tuple((int(shown[i]), int(counts[i])) for i in order)


def class_name(k: int, names: Sequence[str] | None) -> str:
    """Return the name of a class, or its number where it has none."""
    if names is None:
        return str(k)
    return names[k]


def examples_of(
    k: int,
    plan: Plan,
    odds: Float32,
    evidence: Evidence,
    images: Images,
    parts: Sequence[Part],
    indices: Int64,
) -> tuple[Example, ...]:
    """Return the images that the part of class k moves most towards it, of exchanges with log-odds (E, C)."""
    rise = odds[:, k] - evidence.odds[plan.rest, k]
    order = np.argsort(-rise, kind="stable")
    firsts = np.sort(np.unique(plan.rest[order], return_index=True)[1])
    best = order[firsts[:_EXAMPLES]]
    chosen = plan.only(best)
    places = _places(images, chosen, parts)
    found = []
    for rows, made in batches(images, chosen, parts, lambda pixels: pixels, max(1, len(best))):
        for row, picture in zip(rows, made, strict=True):
            rest, donor = int(chosen.rest[row]), int(chosen.donor[row])
            found.append(
                Example(
                    rest=int(indices[rest]),
                    donor=int(indices[donor]),
                    before=int(evidence.predicted[rest]),
                    after=int(odds[best[row]].argmax()),
                    odds_before=float(evidence.odds[rest, k]),
                    odds_after=float(odds[best[row], k]),
                    pictures=torch.stack([images.pixels[rest], images.pixels[donor], picture]),
                    places=places[row] if places is not None else None,
                )
            )
    return tuple(found)


def _places(images: Images, plan: Plan, parts: Sequence[Part]) -> Tensor | None:
    """Return (E, 2, H, W): where the one part of a plan is in the donors, and where in what was made."""
    where = parts[int(plan.part[0])].where if len(plan.part) else None
    if where is None:
        return None
    rest, donors = (images.take(torch.from_numpy(which)) for which in (plan.rest, plan.donor))
    return where(rest, donors)
