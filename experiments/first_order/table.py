"""The README's tables and figure, from results.json."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.common.pages import Page, figure_file
from experiments.common.subjects import KINDS
from experiments.common.tables import Line, markdown, minutes, number
from interpnet.plotting.style import BLUE, MUTED, ORANGE, VERMILLION

_THIRDS = ("first third", "middle third", "last third")
_COLOURS = (MUTED, ORANGE, BLUE)


def _cell(line: Line) -> str:
    if line["rank"] is None:
        return "–"
    return f"{number(line['rank'], '.2f')}, {number(line['slope'], '.2f')}"


def text(lines: list[Line]) -> str:
    """Return everything between the README's marks."""
    facts = [
        f"- {KINDS[line['network']].title}: {line['removed']} of {line['channels']} channels removed one by one, "
        f"{line['images']} test images of {line['classes']} classes; {minutes([line]):.1f} minutes on "
        f"{line['device']}; commit {line['commit']}"
        for line in lines
    ]
    rows = [
        [KINDS[line["network"]].title, _cell(line["all"]), *(_cell(part) for part in line["thirds"])] for line in lines
    ]
    parts = [
        "\n".join(facts),
        "**Rank correlation within a class, and slope, of the log-odds lost on the contribution**",
        markdown(["network", "all layers", *_THIRDS], rows),
    ]
    for line in lines:
        layers = [[one["layer"], one["channels"], _cell(one)] for one in line["layers"]]
        table = markdown(["layer", "channels", "rank correlation, slope"], layers)
        title = KINDS[line["network"]].title
        parts.append(f"<details><summary>{title}, by layer</summary>\n\n{table}\n\n</details>")
    return "\n\n".join(parts)


def figure(lines: list[Line], path: Path) -> None:
    """Draw what a class loses against the contribution, a panel per network, coloured by depth."""
    with figure_file(path, 3.0 * len(lines) + 0.4, 3.4) as drawn:
        panels = drawn.subplots(1, len(lines), squeeze=False)[0]
        for axes, line in zip(panels, lines, strict=True):
            points = np.array(line["points"])
            for i, (name, colour) in enumerate(zip(_THIRDS, _COLOURS, strict=True)):
                x, y, _ = points[points[:, 2] == i].T
                axes.plot(x, y, "o", ms=2.5, color=colour, label=name)
            ends = [float(points[:, :2].min()), float(points[:, :2].max())]
            axes.plot(ends, ends, "-", color=VERMILLION, lw=0.9, label="equal")
            axes.set_title(KINDS[line["network"]].title.replace(", ", "\n"), fontsize=8.5)
            axes.set_xscale("symlog", linthresh=0.1)
            axes.set_yscale("symlog", linthresh=0.1)
            axes.grid()
        drawn.supxlabel("contribution, nats", fontsize=9)
        drawn.supylabel("log-odds lost, nats", fontsize=9)
        drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)


PAGE = Page("experiments.first_order.run", text, {"effects.png": figure})  # the README, from results.json
