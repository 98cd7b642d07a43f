"""The README's tables and figure, from results.json."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from scipy.integrate import trapezoid

from experiments.common.pages import Page, figure_file
from experiments.common.subjects import KINDS
from experiments.common.tables import Interval, Line, against, emphasised, markdown, minutes, number, paired
from experiments.normalisation.scales import COUNTS, PAPER, SCALES
from experiments.rankings.table import counted
from interpnet.plotting.style import BLUE, GREEN, MUTED, ORANGE, SKY, VERMILLION

DEPTH_AT = 5  # channels per class at which the depth of the chosen channels is shown
_COLOURS = dict(zip(SCALES, (VERMILLION, BLUE, SKY, GREEN, ORANGE, MUTED), strict=True))

Value = Callable[[Line], float]


def area(ks: Sequence[int], values: Sequence[float]) -> float:
    """Return the mean of a curve over log2(1 + k), by trapezoids: each doubling of k counts the same.

    ``ks`` ascend from 0.

    Examples
    --------
    >>> area([0, 1, 3], [1.0, 0.0, 0.0])
    0.25
    """
    x = np.log2(1 + np.asarray(ks, dtype=float))  # each doubling of k is one unit
    return float(trapezoid(values, x) / (x[-1] - x[0]))


def kinds(lines: Iterable[Line]) -> dict[str, list[Line]]:
    """Return the lines of each kind of network, in the page's order."""
    every = list(lines)
    return {k: part for k in KINDS if (part := [line for line in every if line["network"] == k])}


def _fit(key: str) -> Value:
    return lambda row: 100 * float(np.mean([row["fit"][str(k)][key] for k in COUNTS]))


def _removal(key: str) -> Value:
    def value(row: Line) -> float:
        curve = np.array(row["removal"]["own"])
        if key == "selective":
            curve = np.array(row["removal"]["others"]) - curve
        return 100 * area([0, *COUNTS], curve.tolist())

    return value


def _overlap(count: int, key: str) -> Value:
    # Without masks no overlap was measured.
    return lambda row: 100 * row.get("overlap", {}).get(str(count), {}).get(key, float("nan"))


#: What is measured: name, whether more is better, and its value in percent (points) from a network's row.
MEASURES: dict[str, tuple[bool, Value]] = {
    "R², mu-lasso": (True, _fit("r2_lasso")),
    "R², refitted": (True, _fit("r2_refit")),
    "accuracy, mu-lasso": (True, _fit("accuracy_lasso")),
    "accuracy, refitted": (True, _fit("accuracy_refit")),
    "own recall": (False, _removal("own")),
    "selectivity": (True, _removal("selective")),
    "IoU-AUC, 3 per class": (True, _overlap(3, "iou")),
    "IoU-AUC, 10 per class": (True, _overlap(10, "iou")),
    "IoU-AUC absolute, 3": (True, _overlap(3, "iou_abs")),
    "IoU-AUC absolute, 10": (True, _overlap(10, "iou_abs")),
}


def values(lines: Sequence[Line], scale: str, measure: str, part: str = "scales") -> list[float]:
    """Return a measure of every network; ``part="late"`` where only the last third of the layers was open."""
    return [MEASURES[measure][1](line[part][scale]) for line in lines]


def gain(lines: Sequence[Line], scale: str, measure: str, part: str = "scales") -> Interval:
    """Return the paper's normalisation less another, over the networks: mean and 95 % interval, in points."""
    pairs = zip(values(lines, PAPER, measure, part), values(lines, scale, measure, part), strict=True)
    return paired([a - b for a, b in pairs])


def tables(lines: list[Line]) -> str:
    """Return Markdown: a table for each kind of network, and the depth of what is chosen."""
    found = []
    for kind, part in kinds(lines).items():
        gaps = max(row["gap"] for line in part for row in line["scales"].values())
        found.append(
            f"**{KINDS[kind].title}** ({counted(kind, part)}, {minutes(part):.0f} minutes, largest relative gap "
            f"{gaps:.0e}, commit {part[0]['commit']})"
        )
        found.append(measure_table(part))
        if all(line["late"] for line in part):
            found.append("Where channels can be chosen from the last third of the layers only:")
            found.append(measure_table(part, "late"))
    depth = f"**Layers of the {DEPTH_AT} channels per class, by thirds of the network, %**"
    return "\n\n".join([*found, depth, depth_table(lines)])


def measure_table(lines: list[Line], part: str = "scales") -> str:
    """Return means, and in brackets the paper's less this scale's, bold where this scale is better beyond chance."""
    scales = [s for s in SCALES if all(s in line[part] for line in lines)]
    rows = []
    for measure, (more, _) in MEASURES.items():
        means = {s: number(float(np.mean(values(lines, s, measure, part)))) for s in scales}
        if means[PAPER] == "nan":
            continue
        row = [f"{measure} {'↓↑'[more]}", means.pop(PAPER)]
        row += [f"{mean}: {against(gain(lines, s, measure, part), more=more)}" for s, mean in means.items()]
        rows.append(row)
    return markdown(["measure", *(emphasised(s, [PAPER]) for s in scales)], rows)


def thirds(shares: Sequence[float]) -> list[float]:
    """Return the shares of the first, middle and last third of the layers; of fewer than three, all in the last.

    Examples
    --------
    >>> thirds([0.5, 0.25, 0.25])
    [0.5, 0.25, 0.25]
    >>> thirds([0.25, 0.25, 0.25, 0.25])
    [0.5, 0.25, 0.25]
    """
    n = len(shares)
    found = [0.0, 0.0, 0.0]
    for i, share in enumerate(shares):
        found[2 if n < 3 else 3 * i // n] += share
    return found


def depth_table(lines: list[Line]) -> str:
    """Return where the chosen channels lie."""
    parts = kinds(lines)
    rows = []
    for scale in SCALES:
        layers = [[thirds(x["scales"][scale]["layers"][str(DEPTH_AT)]) for x in part] for part in parts.values()]
        rows.append([scale, *(" / ".join(f"{100 * v:.0f}" for v in np.mean(part, axis=0)) for part in layers)])
    return markdown(["normalisation", *(KINDS[k].title for k in parts)], rows)


def figure(lines: list[Line], path: Path) -> None:
    """Draw fit and removal against the number of channels per class."""
    parts = kinds(lines)
    with figure_file(path, 2.9 * len(parts) + 0.4, 5.4) as drawn:
        grid = drawn.subplots(2, len(parts), sharey="row", squeeze=False)
        for (above, below), (kind, part) in zip(grid.T, parts.items(), strict=True):
            for scale, colour in _COLOURS.items():
                rows = [x["scales"][scale] for x in part]
                fits = [[100 * row["fit"][str(k)]["r2_refit"] for k in COUNTS] for row in rows]
                own = [[100 * v for v in row["removal"]["own"]] for row in rows]
                width = 2.2 if scale == PAPER else 1.3
                for axes, curves, ks in ((above, fits, COUNTS), (below, own, (0, *COUNTS))):
                    at = np.log2(1 + np.array(ks))
                    axes.plot(at, np.mean(curves, axis=0), "o-", ms=3, color=colour, lw=width, label=scale)
                    axes.set_xticks(at, map(str, ks))
                    axes.grid(axis="y")
            above.set_title(KINDS[kind].title)
            below.set_ylim(0, 102)
            below.set_xlabel("channels per class")
        grid[0, 0].set_ylabel("R² of least squares, held out, %")
        grid[1, 0].set_ylabel("own recall, %")
        drawn.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(SCALES))


PAGE = Page("experiments.normalisation.run", tables, {"fit.png": figure})  # the README, from results.json
