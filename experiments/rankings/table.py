"""The README's tables and figure, from results.json."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from scipy.integrate import trapezoid

from experiments.common.pages import Page, figure_file
from experiments.common.tables import Interval, Line, against, emphasised, markdown, minutes, number, paired
from experiments.rankings.orders import DRAWS, GREEDY, OURS, RANDOM, VARIANTS
from interpnet.plotting.style import BLUE, GREEN, INK, MUTED, ORANGE, SKY, VERMILLION

FEW = 5  # up to this many removed channels counts as few
#: What a kind of network is called on the pages, in their order.
TITLES = {
    "single-6c": "an8Flower single-6c",
    "double-12c": "an8Flower double-12c",
    "mnist": "MNIST",
    "cifar10": "CIFAR-10, ResNet-20",
}
#: Colour and line of the rankings in the figure.
_SHOWN = {
    OURS: (VERMILLION, "-"),
    "activation difference, d′": (ORANGE, "-"),
    "gradient × activation": (BLUE, "-"),
    "LRP, epsilon": (SKY, "-"),
    "ridge": (GREEN, "-"),
    "mean activation": (MUTED, "--"),
    RANDOM: (MUTED, ":"),
    GREEDY: (INK, "-."),
}
Kinds = dict[str, list[Line]]


def area(ks: Sequence[int], values: Sequence[float]) -> float:
    """Return the mean of a curve over log2(1 + k), by trapezoids: each doubling of k counts the same.

    ``ks`` ascend from 0; a shorter curve ends the area.

    Examples
    --------
    >>> area([0, 1, 3], [1.0, 0.0, 0.0]), area([0, 1, 3], [1.0, 0.0])
    (0.25, 0.5)
    """
    x = np.log2(1 + np.asarray(ks[: len(values)], dtype=float))  # each doubling of k is one unit
    return float(trapezoid(values, x) / (x[-1] - x[0]))


def curve(line: Line, name: str, key: str) -> list[float]:
    """Return a ranking's ``own``, ``others`` or ``selective`` (others less own) curve in %; of ``random`` the mean."""
    if name == RANDOM:
        draws = [curve(line, f"{RANDOM} {i}", key) for i in range(DRAWS)]  # the draws are one ranking
        return [float(v) for v in np.mean(draws, axis=0)]
    row = line["curves"][name]
    if key == "selective":
        return [100 * (b - a) for a, b in zip(row["own"], row["others"], strict=True)]
    return [100 * v for v in row[key]]


def names(lines: Iterable[Line]) -> list[str]:
    """Return the rankings of the lines, the draws of ``random`` as one."""
    every = (name for line in lines for name in line["curves"])
    return list(dict.fromkeys(RANDOM if name.startswith(f"{RANDOM} ") else name for name in every))


def areas(lines: Sequence[Line], name: str, key: str) -> list[float]:
    """Return a ranking's area for every network, in points; where its curve is shorter, the area ends there."""
    return [area(line["ks"], curve(line, name, key)) for line in lines]


def gain(lines: Sequence[Line], name: str, key: str, upto: int | None = None) -> Interval:
    """Return our area less another ranking's over the networks, on the shorter curve's k and to ``upto`` at most."""
    differences = []
    for line in lines:
        ks = line["ks"]
        curves = [curve(line, one, key) for one in (OURS, name)]
        ends = [*map(len, curves), sum(k <= (upto or ks[-1]) for k in ks)]  # the shorter curve ends both
        ours, other = (area(ks, one[: min(ends)]) for one in curves)
        differences.append(ours - other)
    return paired(differences)


def kinds(lines: Iterable[Line]) -> Kinds:
    """Return the lines of each kind of network, in the page's order."""
    every = list(lines)
    return {k: part for k in TITLES if (part := [line for line in every if line["network"] == k])}


def counted(kind: str, lines: Sequence[Line]) -> str:
    """Return how many networks of a kind there are; of CIFAR-10's there is one, on several samples of images."""
    what = "resamples of one network" if kind == "cifar10" else "networks"
    return f"{len(lines)} {what}"


def compared(lines: Iterable[Line]) -> list[str]:
    """Return the rankings that are not the mu-lasso's and no oracle."""
    return [n for n in names(lines) if n not in {OURS, *VARIANTS, GREEDY}]


def tables(lines: list[Line]) -> str:
    """Return Markdown: facts, own class, selectivity, few channels against many, depth."""
    parts = kinds(lines)
    text = [
        facts(parts),
        "**Own class: area under mean recall (lower is better)**",
        area_table(parts, "own"),
        "**Selectivity: area under the others' recall less the own class's (higher is better)**",
        area_table(parts, "selective"),
        f"**Few channels: the same areas up to k = {FEW}, ours less the other's**",
        few_table(parts),
        "**Where the first five channels lie: mean depth, 0 the first layer, 1 the last**",
        depth_table(parts),
    ]
    return "\n\n".join(text)


def facts(parts: Kinds) -> str:
    """Return a line for each kind of network."""
    rows = []
    for kind, lines in parts.items():
        whole = [curve(line, OURS, "own")[0] for line in lines]
        first = lines[0]
        rows.append(
            f"- {TITLES[kind]}: {counted(kind, lines)}, {first['channels']} channels, removed up to "
            f"{first['ks'][-1]}; {first['images']['ranking']} training images rank, {first['images']['removal']} test "
            f"images measure; intact recall {min(whole):.1f} to {max(whole):.1f} %; {minutes(lines):.0f} minutes; "
            f"commit {first['commit']}"
        )
    return "\n".join(rows)


def area_table(parts: Kinds, key: str) -> str:
    """Return areas with, in brackets, ours less the ranking's and its 95 % interval; best first by the first kind."""
    (first, *_) = parts.values()
    more = key == "selective"
    found = [n for n in names(first) if n != GREEDY]
    found.sort(key=lambda n: float(np.mean(areas(first, n, key))), reverse=more)
    rows = []
    for name in [*found, GREEDY]:
        row = [emphasised(name, [OURS], [RANDOM, GREEDY])]
        for lines in parts.values():
            cell = "–"
            if name in names(lines):
                cell = number(float(np.mean(areas(lines, name, key))))
                if name != OURS:
                    cell += f": {against(gain(lines, name, key), more=more)}"
            row.append(cell)
        rows.append(row)
    return markdown(["ranking", *(TITLES[k] for k in parts)], rows)


def few_table(parts: Kinds) -> str:
    """Return the differences of areas over few channels, own class and selectivity."""
    rows = []
    for name in [*VARIANTS, *compared(line for lines in parts.values() for line in lines), GREEDY]:
        row = [name]
        for lines in parts.values():
            known = name in names(lines)
            keys = ("own", "selective")
            row += [against(gain(lines, name, k, FEW), more=k == "selective") if known else "–" for k in keys]
        rows.append(row)
    head = ["ranking", *(f"{TITLES[k]}, {what}" for k in parts for what in ("own ↓", "selectivity ↑"))]
    return markdown(head, rows)


def depth_table(parts: Kinds) -> str:
    """Return the mean depth of the first channels of each ranking; of the random ones that of the first draw."""
    rows = []
    for name in names(line for lines in parts.values() for line in lines):
        one = {RANDOM: f"{RANDOM} 0"}.get(name, name)
        known = [[line["depth"][one] for line in lines if one in line["depth"]] for lines in parts.values()]
        rows.append([name, *(f"{np.mean(values):.2f}" if values else "–" for values in known)])
    return markdown(["ranking", *(TITLES[k] for k in parts)], rows)


def figure(lines: list[Line], path: Path) -> None:
    """Draw recall of the class and of the others against k, a column per kind of network."""
    parts = kinds(lines)
    with figure_file(path, 2.9 * len(parts) + 0.4, 5.6) as drawn:
        grid = drawn.subplots(2, len(parts), sharey=True, squeeze=False)
        for column, (kind, own) in zip(grid.T, parts.items(), strict=True):
            for axes, key in zip(column, ("own", "others"), strict=True):
                for name in (name for name in _SHOWN if name in names(own)):
                    mean = np.mean([curve(line, name, key) for line in own], axis=0)
                    ks = np.array(own[0]["ks"][: len(mean)])
                    colour, style = _SHOWN[name]
                    axes.plot(np.log2(1 + ks), mean, style, color=colour, label=name, lw=2.2 if name == OURS else 1.3)
                ticks = np.array([k for k in (0, 1, 3, 10, 32, 128) if k <= own[0]["ks"][-1]])
                axes.set_xticks(np.log2(1 + ticks), map(str, ticks))
                axes.set_ylim(0, 102)
                axes.grid(axis="y")
            column[0].set_title(TITLES[kind])
            column[1].set_xlabel("channels removed, k")
        grid[0, 0].set_ylabel("own class's recall, %")
        grid[1, 0].set_ylabel("other classes' recall, %")
        # A kind may lack a ranking: the legend names those of all kinds.
        handles = {h.get_label(): h for axes in grid[0] for h in axes.get_legend_handles_labels()[0]}
        drawn.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)


PAGE = Page("experiments.rankings.run", tables, {"curves.png": figure})  # the README, from results.json
