"""The README's tables and figure, from results.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.areas import areas, curve, gain, names
from experiments.common.pages import fill, markdown, signed
from experiments.rankings.orders import GREEDY, OURS, RANDOM, VARIANTS
from interpnet.plotting.style import BLUE, GREEN, INK, MUTED, ORANGE, SKY, VERMILLION, house_style, new_figure
from interpnet.support.io import atomic_path

COMMAND = "experiments.rankings.run"
#: Up to this many removed channels counts as few.
FEW = 5
_ORDER = ("single-6c", "double-12c", "mnist", "cifar10")
#: What a kind of network is called on the pages.
TITLES = {
    "single-6c": "an8Flower single-6c", "double-12c": "an8Flower double-12c", "mnist": "MNIST",
    "cifar10": "CIFAR-10, ResNet-20",
}  # fmt: skip
_SHOWN = {
    OURS: (VERMILLION, "-"), "activation difference, d′": (ORANGE, "-"), "gradient × activation": (BLUE, "-"),
    "LRP, epsilon": (SKY, "-"), "ridge": (GREEN, "-"), "mean activation": (MUTED, "--"), RANDOM: (MUTED, ":"),
    GREEDY: (INK, "-."),
}  # fmt: skip


def kinds(lines: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the lines of each kind of network, in the page's order."""
    return {k: part for k in _ORDER if (part := [line for line in lines if line["network"] == k])}


def compared(lines: Sequence[dict[str, Any]]) -> list[str]:
    """Return the rankings that are not the mu-lasso's and no oracle."""
    return [n for n in names(lines) if n not in {OURS, *VARIANTS, GREEDY}]


def tables(lines: list[dict[str, Any]]) -> str:
    """Return Markdown: facts, own class, selectivity, few channels against many, depth."""
    parts = kinds(lines)
    parts_text = [facts(parts)]
    for title, key in (
        ("**Own class: area under mean recall (lower is better)**", "own"),
        ("**Selectivity: area under the others' recall less the own class's (higher is better)**", "selective"),
    ):
        parts_text += [title, area_table(parts, key)]
    parts_text += [
        f"**Few channels: the same areas up to k = {FEW}, ours less the other's**", few_table(parts),
        "**Where the first five channels lie: mean depth, 0 the first layer, 1 the last**", depth_table(parts),
    ]  # fmt: skip
    return "\n\n".join(parts_text)


def facts(parts: dict[str, list[dict[str, Any]]]) -> str:
    """Return a line for each kind of network."""
    rows = []
    for kind, lines in parts.items():
        whole = [curve(line, OURS, "own")[0] for line in lines]
        first = lines[0]
        rows.append(
            f"- {TITLES[kind]}: {len(lines)} {'resamples of one network' if kind == 'cifar10' else 'networks'}, "
            f"{first['channels']} channels, removed up to {first['ks'][-1]}; {first['images']['ranking']} training "
            f"images rank, {first['images']['removal']} test images measure; intact recall {min(whole):.1f} to "
            f"{max(whole):.1f} %; {sum(line['seconds'] for line in lines) / 60:.0f} minutes; commit {first['commit']}"
        )
    return "\n".join(rows)


def area_table(parts: dict[str, list[dict[str, Any]]], key: str) -> str:
    """Return areas with, in brackets, ours less the ranking's and its 95 % interval; best first by the first kind."""
    (first, *_) = parts.values()
    up = key == "selective"
    found = [n for n in names(first) if n != GREEDY]
    found.sort(key=lambda n: np.mean(areas(first, n, key)), reverse=up)
    rows = []
    for name in [*found, GREEDY]:
        row = [f"**{name}**" if name == OURS else f"*{name}*" if name in {RANDOM, GREEDY} else name]
        for lines in parts.values():
            if name not in names(lines):
                row.append("–")
                continue
            mean = f"{np.mean(areas(lines, name, key)):.1f}".replace("-", "−")
            row.append(mean if name == OURS else f"{mean}: {_marked(gain(lines, name, key), up=up)}")
        rows.append(row)
    return markdown(["ranking", *(TITLES[k] for k in parts)], rows)


def _marked(values: tuple[float, float, float], *, up: bool) -> str:
    """Return the difference, bold where the interval says that the other ranking is better."""
    worse = values[2] < 0 if up else values[1] > 0
    text = signed(values)
    return f"**{text}**" if worse else text


def few_table(parts: dict[str, list[dict[str, Any]]]) -> str:
    """Return the differences of areas over few channels, own class and selectivity."""
    rows = []
    for name in [*VARIANTS, *compared([line for lines in parts.values() for line in lines]), GREEDY]:
        row = [name]
        for lines in parts.values():
            for key in ("own", "selective"):
                known = name in names(lines)
                row.append(_marked(gain(lines, name, key, FEW), up=key == "selective") if known else "–")
        rows.append(row)
    head = ["ranking", *(f"{TITLES[k]}, {what}" for k in parts for what in ("own ↓", "selectivity ↑"))]
    return markdown(head, rows)


def depth_table(parts: dict[str, list[dict[str, Any]]]) -> str:
    """Return the mean depth of the first channels of each ranking."""
    rows = []
    for name in names([line for lines in parts.values() for line in lines]):
        row = [name]
        for lines in parts.values():
            one = f"{RANDOM} 0" if name == RANDOM else name
            values = [line["depth"][one] for line in lines if one in line["depth"]]
            row.append(f"{np.mean(values):.2f}" if values else "–")
        rows.append(row)
    return markdown(["ranking", *(TITLES[k] for k in parts)], rows)


def figure(lines: list[dict[str, Any]], path: Path) -> None:
    """Draw recall of the class and of the others against k, a column a kind of network."""
    parts = kinds(lines)
    with house_style():
        drawn = new_figure(2.9 * len(parts) + 0.4, 5.6)
        grid = drawn.subplots(2, len(parts), sharey=True, squeeze=False)
        for column, (kind, own) in enumerate(parts.items()):
            for axes, key in zip(grid[:, column], ("own", "others"), strict=True):
                for name, (colour, style) in _SHOWN.items():
                    if name not in names(own):
                        continue
                    mean = np.mean([curve(line, name, key) for line in own], axis=0)
                    ks = own[0]["ks"][: len(mean)]
                    width = 2.2 if name == OURS else 1.3
                    axes.plot(np.log2(1 + np.array(ks)), mean, style, color=colour, label=name, lw=width)
                ticks = [k for k in (0, 1, 3, 10, 32, 128) if k <= own[0]["ks"][-1]]
                axes.set_xticks(np.log2(1 + np.array(ticks)), [str(k) for k in ticks])
                axes.set_ylim(0, 102)
                axes.grid(axis="y")
            grid[0, column].set_title(TITLES[kind])
            grid[1, column].set_xlabel("channels removed, k")
        grid[0, 0].set_ylabel("own class's recall, %")
        grid[1, 0].set_ylabel("other classes' recall, %")
        handles = {h.get_label(): h for axes in grid[0] for h in axes.get_legend_handles_labels()[0]}
        drawn.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
        with atomic_path(path) as part:
            drawn.savefig(part, dpi=110, bbox_inches="tight")


def write_readme(path: Path, lines: list[dict[str, Any]], picture: Path) -> None:
    """Put the tables between the README's marks and draw the figure."""
    fill(path, COMMAND, tables(lines))
    figure(lines, picture)
