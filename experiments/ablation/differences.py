"""The arithmetic of the tables, the figure and the claims: means with intervals, differences, selectivity.

A line of results.json is one network under one setting. Where there are several networks, draws are averaged within a
network and intervals are over networks, paired; a single network has intervals over the control's draws.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from experiments.common.pages import paired

Interval = tuple[float, float, float]
Line = dict[str, Any]


class Group(NamedTuple):
    """One group of bars: a subject, with the layers whose channels may be removed."""

    subject: str
    layers: str


def groups(lines: Iterable[Line], order: Iterable[str]) -> list[Group]:
    """Return the groups in the order of the subjects, all layers before convolutional ones."""
    there = {Group(x["subject"], c["layers"]) for x in lines for c in x["conditions"]}
    return [Group(s, layers) for s in order for layers in ("all", "conv") if Group(s, layers) in there]


def removed(lines: list[Line], group: Group, setting: str = "paper") -> float:
    """Return how many relevant channels are removed a class, on average."""
    found = [condition(x, "relevant", group.layers) for x in of(lines, group, setting)]
    return float(np.mean([c["removed"] for c in found if c is not None]))


def of(lines: Iterable[Line], group: Group, setting: str = "paper") -> list[Line]:
    """Return a group's lines, a network each, by seed."""
    return sorted(
        (x for x in lines if (x["subject"], x["setting"]) == (group.subject, setting)), key=lambda x: x["seed"]
    )


def condition(line: Line, name: str, layers: str) -> dict[str, Any] | None:
    """Return a condition of a line; None where it was not measured."""
    return next((c for c in line["conditions"] if (c["name"], c["layers"]) == (name, layers)), None)


def recall(lines: list[Line], group: Group, name: str, what: str, setting: str = "paper") -> Interval | None:
    """Return mean and interval of a recall (``own`` or ``others``) under a condition.

    A single network under a condition that is not drawn has no interval: both ends are the value.
    """
    found = [condition(x, name, group.layers) for x in of(lines, group, setting)]
    values = [c[what] for c in found if c is not None]
    if not values:
        return None
    sample = [float(np.mean(v)) for v in values] if len(values) > 1 else values[0]
    return paired(sample) if len(sample) > 1 else (sample[0], sample[0], sample[0])


def difference(
    lines: list[Line], group: Group, control: str, what: str = "own", setting: str = "paper", ours: str = "relevant"
) -> Interval | None:
    """Return the recall with our channels removed less that with the control's: below 0, the method wins.

    ``what="selectivity"``: the difference in selectivity, others' recall less own; above 0, the method's channels are
    more the class's own than the control's.
    """
    samples = []
    for line in of(lines, group, setting):
        one, other = (condition(line, n, group.layers) for n in (ours, control))
        if one is None or other is None:
            return None
        samples.append([_value(one, what)[0] - v for v in _value(other, what)])
    return _over_networks_or_draws(samples)


def selectivity(lines: list[Line], group: Group, name: str, setting: str = "paper") -> Interval | None:
    """Return the others' recall less the class's own with a condition's channels removed: 0 if they serve all alike."""
    found = [condition(x, name, group.layers) for x in of(lines, group, setting)]
    return _over_networks_or_draws([_value(c, "selectivity") for c in found if c is not None])


def _value(found: dict[str, Any], what: str) -> list[float]:
    if what == "selectivity":
        return [others - own for own, others in zip(found["own"], found["others"], strict=True)]
    values: list[float] = found[what]
    return values


def _over_networks_or_draws(samples: list[list[float]]) -> Interval | None:
    if not samples:
        return None
    if len(samples) > 1:
        return paired([float(np.mean(s)) for s in samples])
    (only,) = samples
    return paired(only) if len(only) > 1 else (only[0], only[0], only[0])


def classes_below(lines: list[Line], group: Group, control: str, setting: str = "paper") -> tuple[int, int]:
    """Return in how many classes, over all networks, the relevant channels cost more than the control's on average."""
    below = total = 0
    for line in of(lines, group, setting):
        ours, theirs = (condition(line, n, group.layers) for n in ("relevant", control))
        if ours is not None and theirs is not None:
            below += sum(a < b for a, b in zip(ours["by_class"], theirs["by_class"], strict=True))
            total += len(ours["by_class"])
    return below, total
