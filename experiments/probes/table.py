"""The README's table and figure, from results.json."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.common.pages import Page, figure_file
from experiments.common.tables import Line, markdown, minutes, number
from experiments.probes.images import NETWORKS, UNTRAINED
from interpnet.plotting.style import BLUE, GREEN, ORANGE, VERMILLION

COLOURS = {"class": BLUE, "colour": VERMILLION, "cue": ORANGE, "place": GREEN}


def text(lines: list[Line]) -> str:
    """Return everything between the README's marks."""
    lines = sorted(lines, key=lambda line: NETWORKS.index(line["network"]))
    facts = [
        f"- {line['network']}: {len(line['layers'])} layers, {max(line['n'])} images{_reliance(line)}; "
        f"{minutes([line]):.1f} minutes; commit {line['commit']}"
        for line in lines
    ]
    rows = [[line["network"], target, *_cells(line, t)] for line in lines for t, target in enumerate(line["targets"])]
    head = ["network", "target", "chance", "first layer", "best layer", "last layer", "control", "memorised"]
    title = (
        "**Accuracy of the probes, in % of images that they were not fitted on, with Wilson's 95 % interval; of the "
        "control task the largest of all layers**"
    )
    return "\n\n".join(["\n".join(facts), title, markdown(head, rows)])


def _reliance(line: Line) -> str:
    if "reliance" not in line:
        return ""
    return f", {100 * line['reliance']:.0f} points of accuracy less where the cue disagrees"


def _cells(line: Line, t: int) -> list[str]:
    accuracy = np.array(line["accuracy"][t])
    best = int(accuracy.argmax())
    last = len(accuracy) - 1
    return [
        number(100 * line["chance"][t], ".0f"),
        _share(line, t, 0),
        f"{_share(line, t, best)}, `{line['layers'][best]}`",
        _share(line, t, last),
        number(100 * max(line["control"][t]), ".0f"),
        number(100 * max(line["memorised"][t]), ".0f"),
    ]


def _share(line: Line, t: int, i: int) -> str:
    low, high = line["interval"][t][i]
    return f"{100 * line['accuracy'][t][i]:.0f} ({100 * low:.0f} to {100 * high:.0f})"


def figure(lines: list[Line], path: Path) -> None:
    """Draw accuracy by depth, a panel for each network, beside the same network untrained."""
    by_name = {line["network"]: line for line in lines}
    trained = [line for line in lines if not line["network"].endswith(UNTRAINED)]
    with figure_file(path, 4.2 * len(trained) + 0.4, 3.6) as drawn:
        panels = drawn.subplots(1, len(trained), squeeze=False, sharey=True)[0]
        for axes, line in zip(panels, trained, strict=True):
            other = by_name.get(line["network"] + UNTRAINED)
            depth = np.arange(1, len(line["layers"]) + 1)
            for t, target in enumerate(line["targets"]):
                colour = COLOURS[target]
                axes.plot(depth, 100 * np.array(line["accuracy"][t]), "-", color=colour, lw=1.6, label=target)
                low, high = 100 * np.array(line["interval"][t]).T
                axes.fill_between(depth, low, high, color=colour, alpha=0.12, lw=0)
                if other is not None:
                    axes.plot(depth, 100 * np.array(other["accuracy"][t]), "--", color=colour, lw=1.0)
                axes.plot([depth[-1] + 0.3, depth[-1] + 0.9], [100 * line["chance"][t]] * 2, "-", color=colour, lw=2.5)
            axes.set_title(line["network"], fontsize=9)
            axes.set_xlabel("layer, of those probed")
            axes.set_ylim(0, 103)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid()
        panels[0].set_ylabel("images read right, %")
        drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)


PAGE = Page("experiments.probes.run", text, {"depth.png": figure})  # the README, from results.json
