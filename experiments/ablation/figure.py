"""The paper's figure: mean class accuracy by data set and condition, with what the others keep below it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.ablation.differences import Group, groups, of, recall
from experiments.common.pages import figure_file
from experiments.common.tables import Interval, Line
from interpnet.plotting.style import CONDITION_COLOURS, INK, MUTED

_GROUP_WIDTH = 0.84
_COLOURS = {"intact": MUTED, **CONDITION_COLOURS}
_LAYERS = {"all": "\nall layers", "conv": "\nconvolutional"}


def figure(lines: list[Line], titles: dict[str, str], path: Path) -> None:
    """Draw grouped bars with 95 % intervals, the class's own recall above, the others' below."""
    shown = groups([x for x in lines if x["setting"] == "paper"], titles)
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
        panels[1].set_xticks(range(len(shown)), [_label(lines, g, titles) for g in shown], fontsize=8.5)
        panels[1].tick_params(axis="x", length=0)
        bars_and_names = panels[0].get_legend_handles_labels()
        drawn.legend(*bars_and_names, loc="outside lower center", ncols=len(_COLOURS), fontsize=8.5)


def _bar(lines: list[Line], group: Group, name: str, what: str) -> Interval:
    if name == "intact":
        value = float(np.mean([x["intact"] for x in of(lines, group)]))
        return Interval(value, value, value).times(100)
    return (recall(lines, group, name, what) or Interval(0.0, 0.0, 0.0)).times(100)


def _label(lines: list[Line], group: Group, titles: dict[str, str]) -> str:
    head, _, rest = titles[group.subject].partition(" ")
    layers = ""
    if len(groups(lines, [group.subject])) > 1:
        layers = _LAYERS[group.layers]
    return f"{head}\n{rest}{layers}".rstrip()
