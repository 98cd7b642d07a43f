"""The README's tables and figure, from results.json."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from experiments.common.pages import Page, figure_file
from experiments.common.subjects import KINDS
from experiments.common.tables import Interval, Line, against, emphasised, markdown, minutes, number, paired
from experiments.rankings.orders import (
    CONTRIBUTION,
    CORRELATION,
    D_PRIME,
    GREEDY,
    ORACLES,
    OURS,
    RANDOM,
    RELIANCE,
    RELIANCES,
    VARIANTS,
)
from experiments.rankings.removal import MEASURES
from interpnet.plotting.style import BLUE, GREEN, INK, MUTED, ORANGE, SKY, VERMILLION

#: Colour and line of the rankings in the figure.
_SHOWN = {
    RELIANCE: (BLUE, "-"),
    CONTRIBUTION: (SKY, "-"),
    OURS: (VERMILLION, "-"),
    D_PRIME: (ORANGE, "-"),
    CORRELATION: (GREEN, "-"),
    RANDOM: (MUTED, ":"),
    GREEDY: (INK, "-."),
}
_HEADS = {
    "own": "Own class: points of recall lost",
    "selective": "Own minus others: points of recall lost by the class beyond what the others lose",
    "both": "The sum of both",
    "own log-odds": "Own class: log-odds lost, in nats",
    "selective log-odds": "Own minus others: log-odds, in nats",
}
Kinds = dict[str, list[Line]]


def kinds(lines: Iterable[Line], *, development: bool = False) -> Kinds:
    """Return the lines of each kind of network, in the page's order: those that report, or those of development."""
    every = list(lines)
    found = {}
    for name, kind in KINDS.items():
        part = [line for line in every if line["network"] == name]
        part = [line for line in part if (line["seed"] in kind.development) == development]
        if part:
            found[name] = part
    return found


def counted(kind: str, lines: Sequence[Line]) -> str:
    """Return how many networks of a kind there are; where there is one, on how many samples of images."""
    one = len(lines) == 1
    if KINDS[kind].several:
        return f"{len(lines)} network{'s' * (not one)}"
    return f"one network, {len(lines)} set{'s' * (not one)} of images"


def names(lines: Sequence[Line]) -> list[str]:
    """Return the rankings of a kind's networks; one that some networks lack counts where two have it."""
    every = dict.fromkeys(name for line in lines for name in line["curves"])
    return [name for name in every if len(having(lines, name)) >= min(2, len(lines))]


def having(lines: Iterable[Line], name: str) -> list[Line]:
    """Return the networks on which a ranking was measured."""
    return [line for line in lines if name in line["curves"]]


def area(line: Line, name: str, measure: str) -> float:
    """Return one of :data:`~experiments.rankings.removal.MEASURES` of a ranking: the mean over k."""
    curves = {key: float(np.mean(values)) for key, values in line["curves"][name].items()}
    own = curves["own"]
    log_odds = curves["own_log_odds"]
    return {
        "own": own,
        "selective": own - curves["others"],
        "both": 2 * own - curves["others"],
        "own log-odds": log_odds,
        "selective log-odds": log_odds - curves["others_log_odds"],
    }[measure]


def gain(lines: Sequence[Line], ours: str, name: str, measure: str) -> Interval:
    """Return our area less another ranking's, with its 95 % interval.

    Over networks, paired (Student's), where there are several; otherwise over the images of the one network.
    """
    lines = having(having(lines, ours), name)
    differences = [area(line, ours, measure) - area(line, name, measure) for line in lines]
    if KINDS[lines[0]["network"]].several:
        return paired(differences)
    at = MEASURES.index(measure)
    mean = float(np.mean(differences))
    error = float(np.sqrt(sum(line["errors"][ours][name][at] ** 2 for line in lines))) / len(lines)
    half = float(stats.norm.ppf(0.975)) * error
    return Interval(mean, mean - half, mean + half)


def compared(lines: Sequence[Line], ours: str) -> list[str]:
    """Return the rankings that one is compared with: no oracle, and no variant of its own."""
    own = {OURS: (OURS, *VARIANTS)}.get(ours, RELIANCES)
    return [n for n in names(lines) if n not in {*own, *ORACLES}]


def dominated(lines: Sequence[Line], ours: str) -> list[str]:
    """Return the rankings that are better than ours beyond the interval in own loss and in selectivity together."""
    both = ("own", "selective")
    rivals = [n for n in names(lines) if n != ours and n not in ORACLES]
    return [n for n in rivals if all(gain(lines, ours, n, m).below for m in both)]


def tables(lines: list[Line]) -> str:
    """Return Markdown: facts, a table per measure against reliance, the mu-lasso's, the development networks, depth."""
    parts = kinds(lines)
    text = [facts(parts)]
    for measure, head in _HEADS.items():
        text += [f"**{head}; in brackets reliance less the ranking**", area_table(parts, measure, RELIANCE)]
    text += ["**Own minus others, in brackets the mu-lasso less the ranking**", area_table(parts, "selective", OURS)]
    development = kinds(lines, development=True)
    if development:
        text += ["**The development networks: own, own minus others**", development_table(development)]
    text += ["**Where the first five channels lie: mean depth, 0 the first layer, 1 the last**", depth_table(parts)]
    return "\n\n".join(text)


def facts(parts: Kinds) -> str:
    """Return a line for each kind of network."""
    rows = []
    for kind, lines in parts.items():
        first = lines[0]
        whole = [line["intact"]["recall"] for line in lines]
        rows.append(
            f"- {KINDS[kind].title}: {counted(kind, lines)}, {first['channels']} channels, {first['classes']} classes; "
            f"{first['images']['ranking']} training images rank, {first['images']['removal']} test images measure; "
            f"intact recall {min(whole):.1f} to {max(whole):.1f} %; {minutes(lines):.1f} minutes on {first['device']}; "
            f"commit {first['commit']}"
        )
    return "\n".join(rows)


def area_table(parts: Kinds, measure: str, ours: str) -> str:
    """Return areas with, after the colon, ours less the ranking's and its 95 % interval; the largest mean first."""
    digits = 1 + measure.endswith("log-odds")
    found = sorted(
        {n: None for lines in parts.values() for n in names(lines)},
        key=lambda n: -np.mean([area(x, n, measure) for part in parts.values() for x in part if n in x["curves"]]),
    )
    rows = []
    for name in [*(n for n in found if n not in ORACLES), *(n for n in found if n in ORACLES)]:
        row = [emphasised(name, [ours], [RANDOM, *ORACLES])]
        for lines in parts.values():
            cell = "–"
            if name in names(lines):
                known = having(lines, name)
                cell = number(float(np.mean([area(line, name, measure) for line in known])), f".{digits}f")
                cell += f" ({len(known)} of {len(lines)})" * (len(known) < len(lines))
                if name != ours:
                    cell += f": {against(gain(lines, ours, name, measure), more=True, digits=digits)}"
            row.append(cell)
        rows.append(row)
    return markdown(["ranking", *(KINDS[k].title for k in parts)], rows)


def development_table(parts: Kinds) -> str:
    """Return own loss and own minus others of every ranking on the networks that served development."""
    rows = []
    for name in dict.fromkeys(n for lines in parts.values() for n in names(lines)):
        row = [name]
        for lines in parts.values():
            cell = "–"
            if name in names(lines):
                known = having(lines, name)
                values = [float(np.mean([area(x, name, m) for x in known])) for m in ("own", "selective")]
                cell = ", ".join(map(number, values))
            row.append(cell)
        rows.append(row)
    return markdown(["ranking", *(KINDS[k].title for k in parts)], rows)


def depth_table(parts: Kinds) -> str:
    """Return the mean depth of the first channels of each ranking."""
    rows = []
    for name in dict.fromkeys(n for lines in parts.values() for line in lines for n in line["depth"]):
        known = [[line["depth"][name] for line in lines if name in line["depth"]] for lines in parts.values()]
        rows.append([name, *(f"{np.mean(values):.2f}" if values else "–" for values in known)])
    return markdown(["ranking", *(KINDS[k].title for k in parts)], rows)


def figure(lines: list[Line], path: Path) -> None:
    """Draw the recall that the class and the others lose against k, a column per kind of network."""
    parts = kinds(lines)
    with figure_file(path, 2.2 * len(parts) + 0.4, 5.2) as drawn:
        grid = drawn.subplots(2, len(parts), sharey=True, squeeze=False)
        for column, (kind, own) in zip(grid.T, parts.items(), strict=True):
            for axes, key in zip(column, ("own", "others"), strict=True):
                for name in (name for name in _SHOWN if name in names(own)):
                    mean = np.mean([line["curves"][name][key] for line in having(own, name)], axis=0)
                    colour, style = _SHOWN[name]
                    width = 2.2 if name in {RELIANCE, OURS} else 1.3
                    axes.plot(range(len(mean)), mean, style, color=colour, label=name, lw=width)
                axes.set_xticks(range(len(own[0]["ks"])), map(str, own[0]["ks"]))
                axes.grid(axis="y")
            column[0].set_title(KINDS[kind].title.replace(", ", "\n"), fontsize=8.5)
            column[1].set_xlabel("channels removed, k")
        grid[0, 0].set_ylabel("own class: recall lost, points")
        grid[1, 0].set_ylabel("other classes: recall lost, points")
        # A kind may lack a ranking: the legend names those of all kinds.
        handles = {h.get_label(): h for axes in grid[0] for h in axes.get_legend_handles_labels()[0]}
        drawn.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)


PAGE = Page("experiments.rankings.run", tables, {"curves.png": figure})  # the README, from results.json
