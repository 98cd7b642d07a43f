"""The arithmetic of the tables, the figure and the claims: means with intervals, differences, selectivity.

A line of results.json is one network under one setting. Where there are several networks, draws are averaged within a
network and intervals are over networks, paired; a single network has intervals over the control's draws.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from experiments.common.tables import Interval, Line, paired


class Group(NamedTuple):
    """One group of bars: a subject, with the layers whose channels may be removed."""

    subject: str
    layers: str


def groups(lines: Iterable[Line], order: Iterable[str]) -> list[Group]:
    """Return the groups in the order of the subjects, all layers before convolutional ones."""
    there = {Group(x["subject"], c["layers"]) for x in lines for c in x["conditions"]}
    return [Group(s, layers) for s in order for layers in ("all", "conv") if Group(s, layers) in there]


def of(lines: Iterable[Line], group: Group, setting: str = "paper") -> list[Line]:
    """Return a group's lines, one per network, by seed."""
    here = [x for x in lines if (x["subject"], x["setting"]) == (group.subject, setting)]
    return sorted(here, key=lambda x: int(x["seed"]))


def conditions(lines: Iterable[Line], group: Group, name: str, setting: str = "paper") -> list[dict[str, Any]]:
    """Return a condition of every network of a group in which it was measured."""
    found = (c for line in of(lines, group, setting) for c in line["conditions"])
    return [c for c in found if (c["name"], c["layers"]) == (name, group.layers)]


def removed(lines: Iterable[Line], group: Group, setting: str = "paper") -> float:
    """Return how many relevant channels are removed per class, on average."""
    return float(np.mean([c["removed"] for c in conditions(lines, group, "relevant", setting)]))


def recall(lines: Iterable[Line], group: Group, name: str, what: str, setting: str = "paper") -> Interval | None:
    """Return mean and interval of ``own`` or ``others`` recall, or of ``selectivity``, under a condition.

    Selectivity is the others' recall less the class's own: 0 where the removed channels serve all alike. A single
    network under a condition that is not drawn has no interval: both ends are the value.
    """
    return _over_networks_or_draws([_value(c, what) for c in conditions(lines, group, name, setting)])


def difference(
    lines: list[Line], group: Group, control: str, what: str = "own", setting: str = "paper", ours: str = "relevant"
) -> Interval | None:
    """Return the recall with our channels removed less that with the control's: below 0, the method wins.

    ``what="selectivity"``: the difference in selectivity, above 0 where the method's channels are more the class's own
    than the control's.
    """
    one, other = (conditions(lines, group, name, setting) for name in (ours, control))
    if not len(one) == len(other) == len(of(lines, group, setting)):
        return None
    pairs = zip(one, other, strict=True)
    return _over_networks_or_draws([[_value(a, what)[0] - v for v in _value(b, what)] for a, b in pairs])


def _value(found: dict[str, Any], what: str) -> list[float]:
    if what == "selectivity":
        return [others - own for own, others in zip(found["own"], found["others"], strict=True)]
    values: list[float] = found[what]
    return values


def _over_networks_or_draws(samples: list[list[float]]) -> Interval | None:
    if not samples:
        return None
    sample = [float(np.mean(s)) for s in samples] if len(samples) > 1 else samples[0]
    if len(sample) > 1:
        return paired(sample)
    return Interval(sample[0], sample[0], sample[0])


def classes_below(lines: list[Line], group: Group, control: str, setting: str = "paper") -> tuple[int, int]:
    """Return in how many classes, over all networks, the relevant channels cost more than the control's on average."""
    ours, theirs = (conditions(lines, group, name, setting) for name in ("relevant", control))
    pairs = [pair for a, b in zip(ours, theirs, strict=True) for pair in zip(a["by_class"], b["by_class"], strict=True)]
    return sum(a < b for a, b in pairs), len(pairs)
