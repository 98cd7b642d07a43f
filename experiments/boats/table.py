"""S3's text and its chart, from results.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from experiments.boats.networks import EFFICIENTNET, NETWORKS, SMALL
from experiments.boats.photographs import ON_LAND, ON_WATER, SCENES, WATER
from experiments.common.pages import Page, figure_file
from experiments.common.tables import Interval, Line, commits, markdown, minutes, number, paired, sections, signed
from interpnet.plotting.style import BLUE, GREEN, ORANGE, VERMILLION, row_lines

COMMAND = "experiments.boats.run"
#: Classes that the question names, first; then the others on water, then those on land.
CLASSES = (*ON_WATER, *ON_LAND)
#: In the names of the parts that surround a disc.
DISC = "outside a disc"
_MAIN = "things"  # log-odds among the classes that name a subject
_MARKS = {
    "box": (BLUE, "o", "what the box shows"),
    "own": (ORANGE, "D", "the class's own surroundings, against land"),
    "water": (VERMILLION, "s", "sea and lake, against land"),
}
Lines = Sequence[Line]


def of(lines: Lines, what: str, network: str) -> list[Line]:
    """Return the lines of one kind of one network."""
    return [line for line in lines if line["what"] == what and line["network"] == network]


def networks(lines: Lines) -> list[str]:
    """Return the networks that were looked at."""
    return [name for name in NETWORKS if of(lines, "swaps", name)]


def effect(lines: Lines, network: str, name: str, effect: str, measure: str = _MAIN) -> Interval:
    """Return a class's effect with its interval."""
    (line,) = [line for line in of(lines, "swaps", network) if line["class"] == name]
    return Interval(*line["effects"][measure][effect])


def together(lines: Lines, names: Sequence[str], c: str, effect_: str) -> Interval:
    """Return the mean over networks of a class's effect, and of the ends of its intervals.

    The networks see the same photographs, so that their intervals do not average out.
    """
    found = [effect(lines, name, c, effect_) for name in names]
    return Interval(*(float(np.mean(values)) for values in zip(*found, strict=True)))


def needs_water(lines: Lines, network: str, c: str) -> bool:
    """Return whether water raises a class against land and against streets, the whole intervals above zero."""
    return all(effect(lines, network, c, name).above for name in ("water", "water against street"))


def agreement(lines: Lines, network: str) -> dict[str, tuple[float, float]]:
    """Return by disc Spearman's correlation over the classes, with its p-value.

    What is compared is the share of the surroundings that the search without boxes gives a class, and that by boxes.
    """
    ((line),) = of(lines, "audit", network)
    order = [line["classes"].index(c) for c in CLASSES]
    by_boxes = [effect(lines, network, c, "share of own surroundings").mean for c in CLASSES]
    found = {part: stats.spearmanr([shares[i] for i in order], by_boxes) for part, shares in line["shares"].items()}
    return {part: (float(one.statistic), float(one.pvalue)) for part, one in found.items()}


def text(lines: Lines) -> str:
    """Return the page's part that is written from results."""
    parts = {
        "How well they see": _accuracies(lines),
        f"What the box shows, and what is around it: {EFFICIENTNET}": _effects(lines, (EFFICIENTNET,)),
        "The same, the three small networks together": _effects(lines, SMALL),
        "Recognised, of the photographs with a small box": _recalls(lines),
        "Water with nothing in it": _scenes(lines),
        "The audit without boxes": f"{_audits(lines)}\n\n{_suspected(lines)}",
    }
    n = sum(line["n"] for line in of(lines, "swaps", EFFICIENTNET))
    first = f"{n} photographs of {len(CLASSES)} classes; {minutes(lines):.0f} minutes; measured at {commits(lines)}."
    return sections(parts, first)


def _name(c: str) -> str:
    return c.replace("_", " ")


def _accuracies(lines: Lines) -> str:
    rows = []
    for name in networks(lines):
        (line,) = of(lines, "accuracy", name)
        of_1000 = f"{100 * line['among 1,000']:.1f}" if "among 1,000" in line else ""
        recall = line["recall"]
        shown = [f"{100 * recall[c]:.0f}" for c in ON_WATER]
        rows.append([name, f"{100 * line['among 24']:.1f}", of_1000, *shown])
    head = ["network", "of 24 classes, %", "of 1,000, %", *map(_name, ON_WATER)]
    return markdown(head, rows)


def _effects(lines: Lines, names: Sequence[str]) -> str:
    there = [name for name in names if name in networks(lines)]
    if not there:
        return "Not measured yet."
    rows = []
    for c in CLASSES:
        cells = [signed(together(lines, there, c, name)) for name in ("box", "own", "water", "water against street")]
        shares = [together(lines, there, c, name) for name in ("share of own surroundings", "share of water")]
        # A share is cut at zero, so that its interval says nothing where the effect is negative.
        cells += [f"{100 * one.mean:.0f} ({100 * one.low:.0f} to {100 * one.high:.0f})" for one in shares]
        needs = sum(needs_water(lines, name, c) for name in there)
        rows.append([_name(c), *cells, f"{needs} of {len(there)}" if len(there) > 1 else ("no", "yes")[needs]])
    for label, group in (("mean of the eight on water", ON_WATER), ("mean of the ten on land", ON_LAND)):
        cells = []
        for name in ("box", "own", "water", "water against street"):
            cells.append(signed(paired([together(lines, there, c, name).mean for c in group])))
        rows.append([label, *cells, "", "", ""])
    head = ["class", "box", "own surroundings", "water", "water against street"]
    return markdown([*head, "share of own surroundings, %", "share of water, %", "water raises it"], rows)


def _recalls(lines: Lines) -> str:
    shown = {
        "original": "as it is",
        "own on own": "on its own class's",
        "own on water": "on water",
        "own on land": "on land",
        "own on street": "on a street",
        "grey": "on grey",
        "alone": "surroundings alone",
    }
    rows = []
    for name in networks(lines):
        for label, group in (("on water", ON_WATER), ("on land", ON_LAND)):
            own = [line for line in of(lines, "swaps", name) if line["class"] in group]
            rows.append(
                [
                    name,
                    label,
                    *(f"{100 * np.mean([line['recall among things'][key] for line in own]):.0f}" for key in shown),
                ]
            )
    return markdown(["network", "classes", *shown.values()], rows)


def _scenes(lines: Lines) -> str:
    rows = []
    for name in networks(lines):
        (line,) = of(lines, "scenes", name)
        for label in (*WATER, "alp", "street"):
            one = line[label]
            cells = [
                f"{100 * Interval(*one[key]).mean:.1f} ({100 * one[key][1]:.1f} to {100 * one[key][2]:.1f})"
                for key in ("taken", "taken among things")
            ]
            most = sorted(one["classes among things"].items(), key=lambda pair: -pair[1])[:3]
            rows.append([name, label, one["n"], *cells, ", ".join(f"{_name(c)} {k}" for c, k in most if k)])
    head = ["network", "photographs of", "how many", "taken for one on water, of 24 classes, %"]
    return markdown([*head, "if it has to be a thing, %", "most often then"], rows)


def _audits(lines: Lines) -> str:
    rows = []
    parts: list[str] = []
    for name in networks(lines):
        if not of(lines, "audit", name):
            continue
        found = agreement(lines, name)
        ((line),) = of(lines, "audit", name)
        each = line["images"] // len(line["classes"])
        parts = list(found)
        rows.append([name, each, *(f"{number(rho, '+.2f')} (p {p:.3f})" for rho, p in found.values())])
    return markdown(["network", "photographs of a class", *parts], rows)


def suspected(lines: Lines, network: str) -> dict[str, str]:
    """Return the classes that the search suspects, each with its part, share and interval, and what is usual."""
    (line,) = of(lines, "audit", network)
    return {
        c: f"{part} {100 * share:.0f} ({100 * low:.0f} to {100 * high:.0f}) %, usual {100 * usual:.0f}"
        for c, (part, share, low, high, usual) in line["found"].items()
        if low > usual
    }


def _suspected(lines: Lines) -> str:
    rows = []
    for name in networks(lines):
        if not of(lines, "audit", name):
            continue
        found = suspected(lines, name)
        counts = [f"{len(found.keys() & set(group))} of {len(group)}" for group in (ON_WATER, ON_LAND, SCENES)]
        rows.append([name, *counts, "; ".join(f"{_name(c)}: {words}" for c, words in found.items())])
    return markdown(["network", "suspected, on water", "on land", "scenes", "by what"], rows)


def draw(lines: Lines, path: Path) -> None:
    """Draw every class's effects, with the intervals."""
    panels = [(EFFICIENTNET, (EFFICIENTNET,)), ("Three small networks, their mean", SMALL)]
    there = [(title, [n for n in names if n in networks(lines)]) for title, names in panels]
    there = [(title, names) for title, names in there if names]
    with figure_file(path, 5.2 * len(there) + 1.2, 6.4) as drawn:
        axes = drawn.subplots(1, len(there), sharey=True, squeeze=False)[0]
        for panel, (title, names) in zip(axes, there, strict=True):
            panel.axvline(0, color=GREEN, linewidth=0.8)
            panel.axhline(len(ON_LAND) - 0.5, color=GREEN, linewidth=0.8, linestyle=":")
            for shift, (name, (colour, mark, label)) in zip((0.22, 0.0, -0.22), _MARKS.items(), strict=True):
                for row, c in enumerate(reversed(CLASSES)):
                    mean, low, high = together(lines, names, c, name)
                    panel.plot([low, high], [row + shift] * 2, color=colour, linewidth=1.3)
                    panel.plot(mean, row + shift, mark, color=colour, markersize=4.5, label=label if not row else None)
            panel.set_title(title)
            panel.set_xlabel("effect on the class's log-odds")
            row_lines(panel)
        axes[0].set_yticks(range(len(CLASSES)), [_name(c) for c in reversed(CLASSES)])
        axes[0].set_ylim(-0.6, len(CLASSES) - 0.4)
        handles, labels = axes[0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)


PAGE = Page(COMMAND, text, {"effects.png": draw})
