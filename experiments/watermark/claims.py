"""What S2 found, from its results.json and field.json."""

from __future__ import annotations

from experiments.common.claims import Claim, verdict_of
from experiments.common.pages import committed
from experiments.common.tables import Line, signed
from experiments.watermark import field_table
from experiments.watermark.naming import SPREADS
from experiments.watermark.repairs import SHUFFLED
from experiments.watermark.run import TEXTS, beyond


def claims() -> list[Claim]:
    """Return what S2 says, decided by its numbers."""
    lines: list[Line] = committed(__file__, "field.json")
    return [_raised(), _blind(lines), _channels(lines), _repaired(lines)]


def _raised() -> Claim:
    """Hold at a place of the watermark if the carton rises most, its interval above zero."""
    overlays = committed(__file__)["overlays"]
    figures = []
    for name in TEXTS:
        carton = overlays[name]["carton"]
        figures.append(f"{name}: {beyond(carton)}, place {overlays[name]['place of the carton']} of 1,000")
    marks = [name for name in TEXTS if "text" not in TEXTS[name]]
    shown = [overlays[name]["place of the carton"] == 1 and overlays[name]["carton"]["low"] > 0 for name in marks]
    first = overlays[marks[0]]["carton"]
    return Claim(
        "S2",
        "ImageNet-W's watermark raises the carton most of 1,000 classes, beyond its shuffled pixels",
        f"{first['rise']:+.1f} of log-odds, first of 1,000",
        "; ".join(figures),
        verdict_of(shown),
        "another class learnt the mark as well",
    )


def _blind(lines: list[Line]) -> Claim:
    """Hold for a turn in which the images drawn to the carton show what lies on them, and which images bear it."""
    found = [line["common"] for line in field_table.of(lines, "carton")]
    shown = [one["p"] <= 0.01 and one["right"] == one["of"] == one["n"] for one in found]
    bearing = sum(one["right"] for one in found)
    return Claim(
        "S2",
        "Field images that lean to the carton show the watermark, and every one that bears it is told, without labels",
        f"{bearing} of {sum(one['of'] for one in found)} images, {sum(one['n'] - one['right'] for one in found)} false",
        f"in {sum(shown)} of {len(found)} turns all of them and no other",
        verdict_of(shown),
        "the watermark stands at the same place of every image",
    )


def _channels(lines: list[Line]) -> Claim:
    """Hold for a turn in which nine of the ten channels named are among the ten that the watermark moves most."""
    found = [line["named"] for line in field_table.of(lines, "carton")]
    counts = {spread: [one[spread]["of the first ten"] for one in found] for spread in SPREADS}
    means = {spread: sum(values) / (10 * len(values)) for spread, values in counts.items()}
    return Claim(
        "S2",
        "Nine of the ten channels named are among the ten that the watermark moves most",
        f"precision {means[SPREADS[0]]:.2f}, or {means[SPREADS[1]]:.2f}",
        "; ".join(f"by the spread {spread}: {', '.join(map(str, values))} of 10" for spread, values in counts.items()),
        verdict_of(value >= 9 for value in counts[SPREADS[0]]),
        "which channels it moves most depends on the unit in which a change is measured",
    )


def _repaired(lines: list[Line]) -> Claim:
    """Hold where a repair's drop is at most 5 points and costs at most 0.3, in part where either."""
    drops = {name: field_table.drop(lines, name).times(100) for name in ("before", *field_table.repairs(lines))}
    costs = {name: field_table.cost(lines, name).times(100) for name in field_table.repairs(lines)}
    own = [name for name in costs if SHUFFLED not in name]
    shown = [drops[name].mean <= 5 and costs[name].mean <= 0.3 for name in own]
    best = min(own, key=lambda name: drops[name].mean)
    return Claim(
        "S2",
        "Repaired with what is found, the watermark costs at most 5 points beyond its control, and the repair 0.3 "
        "points of clean accuracy",
        f"{drops['before'].mean:.1f} to {drops[best].mean:.1f} points at {costs[best].mean:.1f}",
        f"{signed(drops['before'])} before; "
        + "; ".join(f"{name}: {signed(drops[name])} at {signed(costs[name])}" for name in own),
        verdict_of(shown),
        "the last layer alone is fitted again, on 200 photographs of 200 classes",
    )
