"""The README's tables, from results.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.ablation.differences import (
    Group,
    Interval,
    classes_below,
    difference,
    groups,
    of,
    recall,
    removed,
    selectivity,
)
from experiments.ablation.figure import figure
from experiments.ablation.subjects import SUBJECTS
from experiments.common.pages import begin, fill, markdown, signed

COMMAND = "experiments.ablation.run"
BEGIN = begin(COMMAND)
TITLES = {s.key: s.title for s in SUBJECTS}
CONDITIONS = ("relevant", "relevant-positive", "random", "random-per-layer", "highest-activation")
_DRAWN = ("random", "random-per-layer")
CONTROLS = ("random", "random-per-layer", "highest-activation")


def name(lines: list[dict[str, Any]], group: Group) -> str:
    """Return a group's name: the layers only where a network has both kinds."""
    both = any(g.layers == "conv" for g in groups(lines, [group.subject]))
    return TITLES[group.subject] + (
        {"all": ", all layers", "conv": ", convolutional only"}[group.layers] if both else ""
    )


def recalls(lines: list[dict[str, Any]], what: str) -> str:
    """Return a table of recalls in percent, with half the 95 % interval where there is one."""
    rows = []
    for group in groups(lines, TITLES):
        here = of(lines, group)
        cells = [_cell(recall(lines, group, c, what)) for c in CONDITIONS]
        rows.append([
            name(lines, group), len(here), f"{removed(lines, group):.1f} of {here[0]['channels']}",
            f"{100 * np.mean([x['intact'] for x in here]):.1f}", *cells,
        ])  # fmt: skip
    return markdown([f"{what} recall, %", "networks", "channels a class", "intact", *CONDITIONS], rows)


def _cell(found: Interval | None) -> str:
    if found is None:
        return "–"
    half = 100 * (found[2] - found[0])
    return f"{100 * found[0]:.1f}" + (f" ± {half:.1f}" if half > 0 else "")


def _percent(found: Interval | None) -> str:
    if found is None:
        return "–"
    if found[1] == found[2]:
        return f"{100 * found[0]:+.1f}".replace("-", "−")
    return signed((100 * found[0], 100 * found[1], 100 * found[2]))


def compared(lines: list[dict[str, Any]]) -> str:
    """Return a table of own recall with the relevant channels removed, less that with each control's."""
    head = ["own recall, points", *(f"against {c}" for c in CONTROLS), "classes below random-per-layer"]
    rows = []
    for group in groups(lines, TITLES):
        below, total = classes_below(lines, group, "random-per-layer")
        own = [_percent(difference(lines, group, c)) for c in CONTROLS]
        rows.append([name(lines, group), *own, f"{below} of {total}"])
    return markdown(head, rows)


def selectivities(lines: list[dict[str, Any]]) -> str:
    """Return a table of others' recall less own, of the relevant channels and of those with positive weight."""
    head = ["selectivity, points", "relevant", *(f"against {c}" for c in CONTROLS), "relevant-positive",
            *(f"against {c}" for c in _DRAWN), "highest-activation"]  # fmt: skip
    rows = []
    for group in groups(lines, TITLES):
        cells = []
        for ours, controls in (("relevant", CONTROLS), ("relevant-positive", _DRAWN)):
            cells.append(selectivity(lines, group, ours))
            cells += [difference(lines, group, c, "selectivity", ours=ours) for c in controls]
        cells.append(selectivity(lines, group, "highest-activation"))
        rows.append([name(lines, group), *map(_percent, cells)])
    return markdown(head, rows)


def reasons(lines: list[dict[str, Any]], settings: list[str]) -> str:
    """Return a table of what changes with more channels and with another fill, for networks that were asked."""
    head = ["network", "mu", "filled with", "channels a class", "relevant", *_DRAWN, "others, relevant",
            *(f"others, {c}" for c in _DRAWN), *(f"own, against {c}" for c in _DRAWN), "classes below random-per-layer",
            "selectivity"]  # fmt: skip
    rows = []
    for group in (g for g in groups(lines, TITLES) if g.layers == "all"):
        there = [s for s in settings if of(lines, group, s)]
        for setting in there if len(there) > 1 else []:
            here = of(lines, group, setting)
            below, total = classes_below(lines, group, "random-per-layer", setting)
            rows.append([
                TITLES[group.subject], f"{here[0]['mu']:g}", here[0]["fill"], f"{removed(lines, group, setting):.1f}",
                *(_cell(recall(lines, group, c, "own", setting)) for c in ("relevant", *_DRAWN)),
                *(_cell(recall(lines, group, c, "others", setting)) for c in ("relevant", *_DRAWN)),
                *(_percent(difference(lines, group, c, "own", setting)) for c in _DRAWN),
                f"{below} of {total}", _percent(selectivity(lines, group, "relevant", setting)),
            ])  # fmt: skip
    return markdown(head, rows)


def depths(lines: list[dict[str, Any]]) -> str:
    """Return a table of the share of channels in each third of the layers."""
    rows = []
    for group in (g for g in groups(lines, TITLES) if g.layers == "all"):
        here = of(lines, group)
        cells = []
        for kind in ("relevant", "highest", "all"):
            shares = 100 * np.mean([x["thirds"][kind] for x in here], axis=0)
            cells.append(" / ".join(f"{v:.0f}" for v in shares))
        rows.append([TITLES[group.subject], *cells])
    return markdown(["% in first / middle / last third of the layers", "relevant", "highest-activation", "all"], rows)


def text(lines: list[dict[str, Any]]) -> str:
    """Return everything between the README's marks."""
    settings = list(dict.fromkeys(x["setting"] for x in lines))
    facts = []
    for key, title in TITLES.items():
        here = [x for x in lines if x["subject"] == key]
        if here:
            every = sum(x["seconds"] for x in here) / 60
            facts.append(
                f"- {title}: scores of {here[0]['train_images']:,} training images, ablation on {here[0]['images']:,} "
                f"test images, mu = {here[0]['mu']:g}, {here[0]['classes']} classes; {every:.1f} minutes"
            )
    commits = ", ".join(sorted({x["commit"] for x in lines}))
    return "\n\n".join([
        "\n".join(facts),
        f"Code: commit {commits}. Times are by the clock of a shared machine, waiting included.",
        recalls(lines, "own"),
        recalls(lines, "others"),
        "**The relevant channels less each control**, with 95 % intervals:",
        compared(lines),
        selectivities(lines),
        "**More channels, another fill**, in % and points:",
        reasons(lines, settings),
        depths(lines),
    ])  # fmt: skip


def write_readme(path: Path, lines: list[dict[str, Any]], picture: Path) -> None:
    """Put the tables between the README's marks and draw the figure."""
    fill(path, COMMAND, text(lines))
    figure(lines, TITLES, picture)
