"""The README's tables and figure, from results.json."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.areas import area
from experiments.common.pages import fill, markdown, paired, signed
from experiments.normalisation.scales import COUNTS, PAPER, SCALES
from experiments.rankings.table import TITLES, kinds
from interpnet.plotting.style import BLUE, GREEN, MUTED, ORANGE, SKY, VERMILLION, house_style, new_figure
from interpnet.support.io import atomic_path

COMMAND = "experiments.normalisation.run"
#: Channels a class at which the depth of the chosen channels is shown.
DEPTH_AT = 5
_COLOURS = dict(zip(SCALES, (VERMILLION, BLUE, SKY, GREEN, ORANGE, MUTED), strict=True))

Value = Callable[[dict[str, Any]], float]


def _fit(key: str) -> Value:
    return lambda row: 100 * float(np.mean([row["fit"][str(k)][key] for k in COUNTS]))


def _removal(key: str) -> Value:
    def value(row: dict[str, Any]) -> float:
        own, others = row["removal"]["own"], row["removal"]["others"]
        curve = own if key == "own" else [b - a for a, b in zip(own, others, strict=True)]
        return 100 * area([0, *COUNTS], curve)

    return value


def _overlap(count: int, key: str) -> Value:
    return lambda row: 100 * row["overlap"][str(count)][key] if "overlap" in row else float("nan")


#: What is measured: name, whether more is better, and its value in percent (points) from a network's row.
MEASURES: dict[str, tuple[bool, Value]] = {
    "R², mu-lasso": (True, _fit("r2_lasso")),
    "R², refitted": (True, _fit("r2_refit")),
    "accuracy, mu-lasso": (True, _fit("accuracy_lasso")),
    "accuracy, refitted": (True, _fit("accuracy_refit")),
    "own recall": (False, _removal("own")),
    "selectivity": (True, _removal("selective")),
    "IoU-AUC, 3 a class": (True, _overlap(3, "iou")),
    "IoU-AUC, 10 a class": (True, _overlap(10, "iou")),
    "IoU-AUC absolute, 3": (True, _overlap(3, "iou_abs")),
    "IoU-AUC absolute, 10": (True, _overlap(10, "iou_abs")),
}


def values(lines: Sequence[dict[str, Any]], scale: str, measure: str, part: str = "scales") -> list[float]:
    """Return a measure of every network; ``part="late"`` where only the last third of the layers was open."""
    return [MEASURES[measure][1](line[part][scale]) for line in lines]


def gain(lines: Sequence[dict[str, Any]], scale: str, measure: str, part: str = "scales") -> tuple[float, float, float]:
    """Return the paper's normalisation less another, over the networks: mean and 95 % interval, in points."""
    pairs = zip(values(lines, PAPER, measure, part), values(lines, scale, measure, part), strict=True)
    return paired([a - b for a, b in pairs])


def tables(lines: list[dict[str, Any]]) -> str:
    """Return Markdown: a table for each kind of network, and the depth of what is chosen."""
    found = []
    for kind, part in kinds(lines).items():
        minutes = sum(line["seconds"] for line in part) / 60
        gaps = max(row["gap"] for line in part for row in line["scales"].values())
        what = "resamples of one network" if kind == "cifar10" else "networks"
        found.append(
            f"**{TITLES[kind]}** ({len(part)} {what}, {minutes:.0f} minutes, largest relative gap {gaps:.0e}, commit "
            f"{part[0]['commit']})"
        )
        found.append(measure_table(part))
        if all(line["late"] for line in part):
            found += [
                "Where channels can be chosen from the last third of the layers only:",
                measure_table(part, "late"),
            ]
    return "\n\n".join([*found, f"**Layers of the {DEPTH_AT} channels a class, by thirds of the network, %**",
                        depth_table(lines)])  # fmt: skip


def measure_table(lines: list[dict[str, Any]], part: str = "scales") -> str:
    """Return means, and in brackets the paper's less this scale's, bold where this scale is better beyond chance."""
    scales = [s for s in SCALES if all(s in line[part] for line in lines)]
    shown = [m for m in MEASURES if not np.isnan(values(lines, PAPER, m, part)).any()]
    rows = []
    for measure in shown:
        more = MEASURES[measure][0]
        row = [
            f"{measure} {'↑' if more else '↓'}",
            f"{np.mean(values(lines, PAPER, measure, part)):.1f}".replace("-", "−"),
        ]
        for scale in scales:
            if scale == PAPER:
                continue
            difference = gain(lines, scale, measure, part)
            worse = difference[2] < 0 if more else difference[1] > 0
            text = signed(difference)
            mean = f"{np.mean(values(lines, scale, measure, part)):.1f}".replace("-", "−")
            row.append(f"{mean}: {f'**{text}**' if worse else text}")
        rows.append(row)
    return markdown(["measure", *(f"**{s}**" if s == PAPER else s for s in scales)], rows)


def thirds(shares: Sequence[float]) -> list[float]:
    """Return the shares of the first, middle and last third of the layers.

    Examples
    --------
    >>> thirds([0.5, 0.25, 0.25])
    [0.5, 0.25, 0.25]
    >>> thirds([0.1, 0.2, 0.3, 0.4])
    [0.1, 0.2, 0.7]
    """
    n = len(shares)
    found = [0.0, 0.0, 0.0]
    for i, share in enumerate(shares):
        found[3 * i // n if n >= 3 else 2] += share
    return found


def depth_table(lines: list[dict[str, Any]]) -> str:
    """Return where the chosen channels lie."""
    parts = kinds(lines)
    rows = []
    for scale in SCALES:
        row = [scale]
        for part in parts.values():
            mean = np.mean([thirds(line["scales"][scale]["layers"][str(DEPTH_AT)]) for line in part], axis=0)
            row.append(" / ".join(f"{100 * v:.0f}" for v in mean))
        rows.append(row)
    return markdown(["normalisation", *(TITLES[k] for k in parts)], rows)


def figure(lines: list[dict[str, Any]], path: Path) -> None:
    """Draw fit and removal against the number of channels a class."""
    parts = kinds(lines)
    rows = ("R² of least squares, held out, %", "own recall, %")
    with house_style():
        drawn = new_figure(2.9 * len(parts) + 0.4, 5.4)
        grid = drawn.subplots(len(rows), len(parts), sharey="row", squeeze=False)
        for column, (kind, part) in enumerate(parts.items()):
            for scale, colour in _COLOURS.items():
                width = 2.2 if scale == PAPER else 1.3
                fits = [[100 * x["scales"][scale]["fit"][str(k)]["r2_refit"] for k in COUNTS] for x in part]
                own = [[100 * v for v in x["scales"][scale]["removal"]["own"]] for x in part]
                for axes, curve, ks in ((grid[0, column], fits, COUNTS), (grid[1, column], own, (0, *COUNTS))):
                    axes.plot(
                        np.log2(1 + np.array(ks)), np.mean(curve, axis=0), "o-", ms=3, color=colour, lw=width,
                        label=scale,
                    )  # fmt: skip
                    axes.set_xticks(np.log2(1 + np.array(ks)), [str(k) for k in ks])
                    axes.grid(axis="y")
            grid[0, column].set_title(TITLES[kind])
            grid[1, column].set_ylim(0, 102)
            grid[1, column].set_xlabel("channels a class")
        for axes, label in zip(grid[:, 0], rows, strict=True):
            axes.set_ylabel(label)
        handles, labels = grid[0, 0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower center", ncols=len(SCALES))
        with atomic_path(path) as part_file:
            drawn.savefig(part_file, dpi=110, bbox_inches="tight")


def write_readme(path: Path, lines: list[dict[str, Any]], picture: Path) -> None:
    """Put the tables between the README's marks and draw the figure."""
    fill(path, COMMAND, tables(lines))
    figure(lines, picture)
