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
from experiments.pages import begin, fill, markdown, signed

COMMAND = "experiments.ablation.run"
BEGIN = begin(COMMAND)
TITLES = {s.key: s.title for s in SUBJECTS}
CONDITIONS = ("relevant", "relevant-positive", "random", "random-per-layer", "highest-activation")
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
    """Return a table of the relevant channels against each control, in points of own recall, and in selectivity."""
    head = ["points", *(f"own, against {c}" for c in CONTROLS), "classes below random-per-layer", "selectivity",
            *(f"selectivity, against {c}" for c in CONTROLS)]  # fmt: skip
    rows = []
    for group in groups(lines, TITLES):
        own = [_percent(difference(lines, group, c)) for c in CONTROLS]
        selective = [_percent(difference(lines, group, c, "selectivity")) for c in CONTROLS]
        below, total = classes_below(lines, group, "random-per-layer")
        rows.append([name(lines, group), *own, f"{below} of {total}",
                     _percent(selectivity(lines, group, "relevant")), *selective])  # fmt: skip
    return markdown(head, rows)


def reasons(lines: list[dict[str, Any]], settings: list[str]) -> str:
    """Return a table of what changes with more channels and with another fill."""
    head = ["setting", "mu", "filled with", "channels a class", "relevant", "random", "random-per-layer",
            "others, relevant", "others, random-per-layer", "own, against random", "own, against random-per-layer",
            "selectivity"]  # fmt: skip
    rows = []
    for group in (g for g in groups(lines, TITLES) if g.layers == "all"):
        for setting in settings:
            here = of(lines, group, setting)
            if not here:
                continue
            rows.append([
                TITLES[group.subject], f"{here[0]['mu']:g}", here[0]["fill"],
                f"{np.mean([x['channels_a_class'] for x in here]):.1f}",
                *(_cell(recall(lines, group, c, "own", setting)) for c in ("relevant", "random", "random-per-layer")),
                *(_cell(recall(lines, group, c, "others", setting)) for c in ("relevant", "random-per-layer")),
                *(_percent(difference(lines, group, c, "own", setting)) for c in ("random", "random-per-layer")),
                _percent(selectivity(lines, group, "relevant", setting)),
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
                f"test images, mu = {here[0]['mu']:g}, {here[0]['classes']} classes; {every:.1f} minutes of one core"
            )
    commits = ", ".join(sorted({x["commit"] for x in lines}))
    return "\n\n".join([
        "\n".join(facts) + f"\n\nCode: commit {commits}.",
        recalls(lines, "own"), recalls(lines, "others"), "**The relevant channels against each control**",
        compared(lines), "**More channels, another fill**", reasons(lines, settings), depths(lines),
    ])  # fmt: skip


def write_readme(path: Path, lines: list[dict[str, Any]], picture: Path) -> None:
    """Put the tables between the README's marks and draw the figure."""
    fill(path, COMMAND, text(lines))
    figure(lines, TITLES, picture)
