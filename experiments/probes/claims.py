"""What C1 found, by rule from results.json."""

from __future__ import annotations

import math

from experiments.common.claims import Claim, judged
from experiments.common.pages import committed
from experiments.common.tables import Interval, Line
from experiments.probes.images import FLOWERS, UNTRAINED


def claims(lines: list[Line] | None = None) -> list[Claim]:
    """Return C1's claims, on the committed results where no others are given."""
    if lines is None:
        lines = committed(__file__)
    by_name = {line["network"]: line for line in lines}
    trained = [line for line in lines if line["network"] + UNTRAINED in by_name]
    return [_class(trained, by_name), _rest(trained), _cue(by_name)]


def share(line: Line, target: str, layer: int) -> Interval:
    """Return the accuracy of one target at a layer, in points."""
    t = line["targets"].index(target)
    low, high = line["interval"][t][layer]
    return Interval(100 * line["accuracy"][t][layer], 100 * low, 100 * high)


def less(one: Interval, other: Interval) -> Interval:
    """Return the difference of two numbers, its interval from theirs (Newcombe 1998), as if they were independent.

    Examples
    --------
    >>> less(Interval(9.0, 6.0, 10.0), Interval(5.0, 4.0, 9.0))
    Interval(mean=4.0, low=-1.0, high=5.414213562373095)
    """
    mean = one.mean - other.mean
    down = math.hypot(one.mean - one.low, other.high - other.mean)
    up = math.hypot(one.high - one.mean, other.mean - other.low)
    return Interval(mean, mean - down, mean + up)


def _class(trained: list[Line], by_name: dict[str, Line]) -> Claim:
    """Judge: the class gains more from the first to the last layer than with random weights."""
    gains = {line["network"]: less(share(line, "class", -1), share(line, "class", 0)) for line in trained}
    others = {
        line["network"]: less(*(share(by_name[line["network"] + UNTRAINED], "class", i) for i in (-1, 0)))
        for line in trained
    }
    each = "; ".join(f"{name} {gains[name].mean:.0f}, untrained {others[name].mean:.0f}" for name in gains)
    return judged(
        "C1",
        "Training makes the class easier to read from the first layer to the last, random weights do not",
        {name: less(gains[name], others[name]) for name in gains},
        "networks",
        f"points from the first to the last layer: {each}",
        "the class can be read with random weights as well",
    )


def _rest(trained: list[Line]) -> Claim:
    """Judge: colour, place, and a cue without use, are read worse at the last layer than at the first."""
    effects = {}
    for line in trained:
        for target in ("colour", "cue", "place"):
            # That of the flowers told the class in training.
            if target != "cue" or line["network"] not in FLOWERS:
                effects[f"{target}: {line['network']}"] = less(share(line, target, 0), share(line, target, -1))
    each = "; ".join(f"{name} {-effect.mean:+.0f}" for name, effect in effects.items())
    kept = "; ".join(name for name, effect in effects.items() if not effect.above)
    return judged(
        "C1",
        "What the class does not need can be read less at the last layer of a trained network than at the first",
        effects,
        "cases",
        f"points from the first to the last layer: {each}",
        f"the first layer's channels, averaged over positions, do not tell them either ({kept})",
    )


def _cue(by_name: dict[str, Line]) -> Claim:
    """Judge: the cue that a network of flowers was trained with is read better at its last layer."""
    effects = {}
    each = []
    ignored = []
    for name in FLOWERS:
        ours, theirs = (share(by_name[name + state], "cue", -1) for state in ("", UNTRAINED))
        effects[name] = less(ours, theirs)
        lost = 100 * by_name[name]["reliance"]
        each.append(f"{name} {ours.mean:.0f} %, untrained {theirs.mean:.0f} %")
        if not effects[name].above:
            ignored.append(f"{name} loses {lost:.0f} points where its cue disagrees")
    return judged(
        "C1",
        "A cue that agreed with the class in training is read at the last layer better than with random weights",
        effects,
        "networks",
        "; ".join(each),
        "a network need not use a cue that it was shown: " + "; ".join(ignored),
    )
