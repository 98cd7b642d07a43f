"""The README's tables and figure, from results.json, and the arithmetic that the claims share.

A line of results.json is one network under one setting. Where there are several networks, draws are averaged within a
network and intervals are over networks, paired; a single network has intervals over the control's draws.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.ablation.subjects import SUBJECTS
from experiments.common.pages import Page, figure_file
from experiments.common.tables import Interval, Line, commits, markdown, minutes, number, paired, points
from interpnet.plotting.style import CONDITION_COLOURS, INK, MUTED

TITLES = {s.key: s.title for s in SUBJECTS}
DRAWN = ("random", "random-per-layer")
CONTROLS = (*DRAWN, "highest-activation")
CONDITIONS = ("relevant", "relevant-positive", *CONTROLS, "d-prime")
_LAYERS = {"all": ", all layers", "conv": ", convolutional only"}


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


def name(lines: list[Line], group: Group) -> str:
    """Return a group's name: the layers only where a network has both kinds."""
    if len(groups(lines, [group.subject])) == 1:
        return TITLES[group.subject]
    return TITLES[group.subject] + _LAYERS[group.layers]


def recalls(lines: list[Line], what: str) -> str:
    """Return a table of recalls in percent, with half the 95 % interval where there is one."""
    rows = []
    for group in groups(lines, TITLES):
        here = of(lines, group)
        channels = f"{removed(lines, group):.1f} of {here[0]['channels']}"
        intact = f"{100 * np.mean([x['intact'] for x in here]):.1f}"
        cells = [_cell(recall(lines, group, c, what)) for c in CONDITIONS]
        rows.append([name(lines, group), len(here), channels, intact, *cells])
    return markdown([f"{what} recall, %", "networks", "channels per class", "intact", *CONDITIONS], rows)


def _cell(found: Interval | None) -> str:
    if found is None:
        return "–"
    half = 100 * (found.high - found.mean)
    return f"{100 * found.mean:.1f}" + f" ± {half:.1f}" * (half > 0)


def _points(found: Interval | None) -> str:
    if found is None:
        return "–"
    if found.low == found.high:
        return number(100 * found.mean, "+.1f")
    return points(found)


def compared(lines: list[Line]) -> str:
    """Return a table of own recall with the relevant channels removed, less that with each control's."""
    rows = []
    for group in groups(lines, TITLES):
        own = [_points(difference(lines, group, c)) for c in CONTROLS]
        rows.append([name(lines, group), *own, _below(lines, group)])
    return markdown(["own recall, points", *_against(CONTROLS), "classes below random-per-layer"], rows)


def _against(controls: Iterable[str], before: str = "") -> list[str]:
    return [f"{before}against {c}" for c in controls]


def _below(lines: list[Line], group: Group, setting: str = "paper") -> str:
    below, total = classes_below(lines, group, "random-per-layer", setting)
    return f"{below} of {total}"


def selectivities(lines: list[Line]) -> str:
    """Return a table of others' recall less own, of the relevant channels and of those with positive weight."""
    head = ["selectivity, points", "relevant", *_against(CONTROLS), "relevant-positive", *_against(DRAWN)]
    rows = []
    for group in groups(lines, TITLES):
        cells = []
        for ours, controls in (("relevant", CONTROLS), ("relevant-positive", DRAWN)):
            cells.append(recall(lines, group, ours, "selectivity"))
            cells += [difference(lines, group, c, "selectivity", ours=ours) for c in controls]
        cells.append(recall(lines, group, "highest-activation", "selectivity"))
        rows.append([name(lines, group), *map(_points, cells)])
    return markdown([*head, "highest-activation"], rows)


def reasons(lines: list[Line]) -> str:
    """Return a table of what changes with more channels, another fill and other channels, for networks so asked."""
    conditions = ("relevant", *DRAWN)
    head = [
        "network",
        "channels by",
        "filled with",
        "channels per class",
        *conditions,
        *(f"others, {c}" for c in conditions),
    ]
    head += [*_against(DRAWN, "own, "), "classes below random-per-layer", "selectivity"]
    rows = []
    for group in _whole(lines):
        asked = [s for s in dict.fromkeys(x["setting"] for x in lines) if of(lines, group, s)]
        if len(asked) < 2:
            continue
        for setting in asked:
            first = of(lines, group, setting)[0]
            by = (f"mu-lasso, mu = {first['mu']:g}", "reliance")[setting == "reliance"]
            row = [TITLES[group.subject], by, first["fill"], f"{removed(lines, group, setting):.1f}"]
            for what in ("own", "others"):
                row += [_cell(recall(lines, group, c, what, setting)) for c in conditions]
            row += [_points(difference(lines, group, c, "own", setting)) for c in DRAWN]
            row += [_below(lines, group, setting), _points(recall(lines, group, "relevant", "selectivity", setting))]
            rows.append(row)
    return markdown(head, rows)


def _whole(lines: list[Line]) -> list[Group]:
    return [group for group in groups(lines, TITLES) if group.layers == "all"]


def depths(lines: list[Line]) -> str:
    """Return a table of the share of channels in each third of the layers."""
    rows = []
    for group in _whole(lines):
        cells = []
        for kind in ("relevant", "highest", "all"):
            shares = 100 * np.mean([x["thirds"][kind] for x in of(lines, group)], axis=0)
            cells.append(" / ".join(f"{v:.0f}" for v in shares))
        rows.append([TITLES[group.subject], *cells])
    return markdown(["% in first / middle / last third of the layers", "relevant", "highest-activation", "all"], rows)


def text(lines: list[Line]) -> str:
    """Return everything between the README's marks."""
    facts = []
    for key, title in TITLES.items():
        here = [x for x in lines if x["subject"] == key]
        if here:
            first = here[0]
            facts.append(
                f"- {title}: scores of {first['train_images']:,} training images, ablation on {first['images']:,} "
                f"test images, mu = {first['mu']:g}, {first['classes']} classes; {minutes(here):.1f} minutes"
            )
    parts = [
        "\n".join(facts),
        f"Code: commit {commits(lines)}. Times are by the clock of a shared machine, waiting included.",
        recalls(lines, "own"),
        recalls(lines, "others"),
        "**The relevant channels less each control**, with 95 % intervals:",
        compared(lines),
        selectivities(lines),
        "**More channels, another fill, channels by reliance**, in % and points:",
        reasons(lines),
        depths(lines),
    ]
    return "\n\n".join(parts)


_GROUP_WIDTH = 0.84  # of the distance between two groups
_COLOURS = {"intact": MUTED, **CONDITION_COLOURS}
_BELOW = {"all": "\nall layers", "conv": "\nconvolutional"}


def figure(lines: list[Line], path: Path) -> None:
    """Draw grouped bars with 95 % intervals, the class's own recall above, the others' below."""
    shown = groups([x for x in lines if x["setting"] == "paper"], TITLES)
    width = _GROUP_WIDTH / len(_COLOURS)
    with figure_file(path, 1.5 * len(shown) + 1.2, 5.6) as drawn:
        panels = drawn.subplots(2, 1, sharex=True, sharey=True)
        panels[0].set_title("The class whose channels are removed")
        panels[1].set_title("The other classes")
        for axes, what in zip(panels, ("own", "others"), strict=True):
            for i, (name, colour) in enumerate(_COLOURS.items()):
                bars = np.array([_bar(lines, group, name, what) for group in shown])
                at = np.arange(len(shown)) - _GROUP_WIDTH / 2 + (i + 0.5) * width
                height = bars[:, 0]
                # Rounding must not make a half negative; an interval ends where recalls do.
                low = np.maximum(0, height - np.maximum(bars[:, 1], 0))
                high = np.maximum(0, np.minimum(bars[:, 2], 100) - height)
                axes.bar(at, height, 0.92 * width, color=colour, label=name)
                wide = low + high > 0
                style = {"ecolor": INK, "elinewidth": 0.8, "capsize": 1.8, "capthick": 0.8}
                axes.errorbar(at[wide], height[wide], [low[wide], high[wide]], fmt="none", **style)
            axes.set_ylim(0, 105)
            axes.grid(axis="y")
        drawn.supylabel("mean class accuracy, %", fontsize=9.5)
        panels[1].set_xticks(range(len(shown)), [_label(lines, g) for g in shown], fontsize=8.5)
        panels[1].tick_params(axis="x", length=0)
        bars_and_names = panels[0].get_legend_handles_labels()
        drawn.legend(*bars_and_names, loc="outside lower center", ncols=len(_COLOURS), fontsize=8.5)


def _bar(lines: list[Line], group: Group, name: str, what: str) -> Interval:
    if name == "intact":
        value = float(np.mean([x["intact"] for x in of(lines, group)]))
        return Interval(value, value, value).times(100)
    return (recall(lines, group, name, what) or Interval(0.0, 0.0, 0.0)).times(100)


def _label(lines: list[Line], group: Group) -> str:
    head, _, rest = TITLES[group.subject].partition(" ")
    layers = _BELOW[group.layers] if len(groups(lines, [group.subject])) > 1 else ""
    return f"{head}\n{rest}{layers}".rstrip()


PAGE = Page("experiments.ablation.run", text, {"ablation.png": figure})  # the README, from results.json
