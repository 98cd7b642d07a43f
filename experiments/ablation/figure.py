"""The paper's figure: mean class accuracy by data set and condition, with what the others keep below it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.ablation.differences import Group, groups, of, recall
from interpnet.plotting.style import CONDITION_COLOURS, INK, MUTED, house_style, new_figure
from interpnet.support.io import atomic_path

_GROUP_WIDTH = 0.84


def figure(lines: list[dict[str, Any]], titles: dict[str, str], path: Path) -> None:
    """Draw grouped bars with 95 % intervals, the class's own recall above, the others' below."""
    shown = groups([x for x in lines if x["setting"] == "paper"], titles)
    names = ["intact", *CONDITION_COLOURS]
    colours = {"intact": MUTED, **CONDITION_COLOURS}
    width = _GROUP_WIDTH / len(names)
    with house_style():
        drawn = new_figure(1.5 * len(shown) + 1.2, 5.6)
        panels = drawn.subplots(2, 1, sharex=True, sharey=True)
        for axes, what, title in zip(
            panels, ("own", "others"), ("The class whose channels are removed", "The other classes"), strict=True
        ):
            for i, name in enumerate(names):
                bars = [_bar(lines, group, name, what) for group in shown]
                at = np.arange(len(shown)) - _GROUP_WIDTH / 2 + (i + 0.5) * width
                height = np.array([b[0] for b in bars])
                # Rounding must not make a half negative; an interval ends where recalls do.
                spread = [
                    [max(0.0, b[0] - max(b[1], 0)) for b in bars],
                    [max(0.0, min(b[2], 100) - b[0]) for b in bars],
                ]
                axes.bar(at, height, 0.92 * width, color=colours[name], label=name if what == "own" else None)
                wide = [k for k in range(len(bars)) if spread[0][k] + spread[1][k] > 0]
                axes.errorbar(
                    at[wide], height[wide], np.array(spread)[:, wide], fmt="none", ecolor=INK, elinewidth=0.8,
                    capsize=1.8, capthick=0.8,
                )  # fmt: skip
            axes.set_title(title)
            axes.set_ylim(0, 105)
            axes.grid(axis="y")
        drawn.supylabel("mean class accuracy, %", fontsize=9.5)
        panels[1].set_xticks(range(len(shown)), [_label(lines, g, titles) for g in shown], fontsize=8.5)
        panels[1].tick_params(axis="x", length=0)
        drawn.legend(loc="outside lower center", ncols=len(names), fontsize=8.5)
        with atomic_path(path) as part:
            drawn.savefig(part, dpi=110, bbox_inches="tight")


def _bar(lines: list[dict[str, Any]], group: Group, name: str, what: str) -> tuple[float, float, float]:
    if name == "intact":
        value = 100 * float(np.mean([x["intact"] for x in of(lines, group)]))
        return value, value, value
    found = recall(lines, group, name, what)
    return (0.0, 0.0, 0.0) if found is None else (100 * found[0], 100 * found[1], 100 * found[2])


def _label(lines: list[dict[str, Any]], group: Group, titles: dict[str, str]) -> str:
    head, _, rest = titles[group.subject].partition(" ")
    both = any(g.layers == "conv" for g in groups(lines, [group.subject]))
    layers = {"all": "\nall layers", "conv": "\nconvolutional"}[group.layers] if both else ""
    return f"{head}\n{rest}{layers}".rstrip()
