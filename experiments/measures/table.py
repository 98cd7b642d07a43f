"""The page of M2: which measures agree, which methods are ahead, and what it cost."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.common.pages import Page, figure_file
from experiments.common.tables import Interval, Line, commits, markdown, minutes, number
from experiments.measures.agreement import (
    NAMES,
    Network,
    between_measures,
    between_networks,
    interval,
    networks_of,
    pooled,
    told_apart,
    within_and_between,
)
from experiments.measures.settings import CONTROLS, QUESTIONS
from experiments.measures.sheet import sheet
from experiments.measures.subjects import KINDS
from interpnet.support.io import write_text
from interpnet.support.types import Float64

HERE = Path(__file__).parent
_BEST = 3  # methods named
_PAIRS = 8  # of measures named
_FIRM = 0.5  # a tau that lets one network speak for another


def order_of(found: dict[str, Network]) -> dict[str, dict[str, float]]:
    """Return by measure each method's mean rank over the networks that have it, the best first."""
    ranks: dict[str, dict[str, list[float]]] = {name: {} for name in NAMES}
    for one in found.values():
        for j, name in enumerate(NAMES):
            for method, rank in zip(one.methods, one.orders[0, :, j].tolist(), strict=True):
                if np.isfinite(rank):
                    ranks[name].setdefault(method, []).append(rank)
    means = {name: {m: float(np.mean(v)) for m, v in own.items()} for name, own in ranks.items()}
    return {name: dict(sorted(own.items(), key=lambda pair: -pair[1])) for name, own in means.items()}


def text(lines: list[Line]) -> str:
    """Return the page's Markdown."""
    found = networks_of(lines)
    taus = pooled(between_measures(found))
    carried = between_networks(found)
    parts = [
        _counts(lines),
        "### What to conclude\n\n" + _conclusions(lines, taus, carried),
        "### How alike two measures order the methods\n\n" + _agreement(taus),
        "### Each measure\n\n" + _each(lines, taus, carried),
        "### Networks\n\n" + _networks(lines),
        "### Seconds\n\n" + _seconds(lines),
        "### Not measured\n\n" + _refused(lines),
    ]
    return "\n\n".join(parts)


def mean_with_others(taus: Float64, name: str, others: Sequence[str] = NAMES) -> Float64:
    """Return the mean tau (draws,) of a measure with others."""
    columns = [NAMES.index(other) for other in others if other != name]
    found = taus[:, NAMES.index(name), columns]
    there = np.isfinite(found)
    means: Float64 = np.where(there, found, 0.0).sum(1) / np.maximum(there.sum(1), 1)
    return means


def _counts(lines: list[Line]) -> str:
    with_values = sum("values" in line for line in lines)
    methods, networks, names = (len({line[key] for line in lines}) for key in ("method", "network", "measure"))
    return (
        f"{methods} methods, {names} measures, {networks} networks: {with_values} of {len(lines)} cells have values. "
        f"{minutes(lines):.0f} minutes of work, summed over processes that shared a device. Commit {commits(lines)}."
    )


def _conclusions(lines: list[Line], taus: Float64, carried: Float64) -> str:
    within, between = (interval(one) for one in within_and_between(taus, QUESTIONS.values()))
    kept = {name: interval(carried[:, NAMES.index(name)]) for name in NAMES}
    firm = [f"`{name}`" for name in NAMES if kept[name].low > _FIRM]
    loose = [f"`{name}`" for name in NAMES if kept[name].high < _FIRM]
    beaten = [f"`{name}`" for name, (_, ahead, methods) in _controls(lines).items() if 2 * ahead < methods]
    order = order_of(networks_of(lines))
    first = list(dict.fromkeys(next(iter(own)) for own in order.values() if own))
    return f"""\
- **Choose the question before the method.** Two measures of one question order the methods alike with a tau of
  {_tau(within)}, measures of different questions with {_tau(between)}.
  {len(first)} methods are the first on some measure: {_listed(first)}.
- **What carries over to another network** (tau above {_FIRM} beyond the interval): {_listed(firm)}.
  Below it: {_listed(loose)}. Where it is low, measure your own network.
- **A map that knows nothing of the network is ahead of most methods** on {_listed(beaten)}:
  these can show that a map is wrong, not that it is right.
- **Few images do not tell neighbours apart**: the table of measures has the share of pairs of methods that the images
  here tell apart."""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _controls(lines: list[Line]) -> dict[str, tuple[str, int, int]]:
    """Return by measure the best control, how many methods are ahead of it, and how many there are."""
    found = {}
    for name, order in order_of(networks_of(lines, controls=True)).items():
        methods = [m for m in order if m not in CONTROLS]
        best = next((m for m in order if m in CONTROLS), "")
        found[name] = (best, sum(order[m] > order[best] for m in methods) if best else len(methods), len(methods))
    return found


def _agreement(taus: Float64) -> str:
    pairs: list[tuple[Interval, str]] = []
    for i, first in enumerate(NAMES):
        for j in range(i + 1, len(NAMES)):
            ends = interval(taus[:, i, j])
            if np.isfinite(ends.mean):
                pairs.append((ends, f"`{first}` and `{NAMES[j]}`"))
    pairs.sort(key=lambda pair: -pair[0].mean)
    values = [ends.mean for ends, _ in pairs]
    head = ["measures", "tau (95 % over images)"]
    above = sum(ends.above for ends, _ in pairs)
    below = sum(ends.below for ends, _ in pairs)
    words = (
        f"Kendall's tau of the methods' mean ranks, averaged over networks, controls left out. Of {len(pairs)} pairs "
        f"{above} agree beyond the interval, {below} disagree; the median tau is "
        f"{number(float(np.median(values)), '+.2f')}."
    )
    ends_of = [*pairs[:_PAIRS], *pairs[-_PAIRS:]]
    rows = [[names, _tau(ends)] for ends, names in dict.fromkeys(ends_of)]
    return f"{words}\n\n![agreement](agreement.png)\n\nThe most and the least alike:\n\n{markdown(head, rows)}"


def _each(lines: list[Line], taus: Float64, carried: Float64) -> str:
    everything = order_of(networks_of(lines, controls=True))
    controls = _controls(lines)
    apart = told_apart(networks_of(lines))
    rows = []
    for question, own in QUESTIONS.items():
        for name in own:
            j = NAMES.index(name)
            order = everything[name]
            methods = [m for m in order if m not in CONTROLS]
            best, ahead, _ = controls[name]
            rows.append(
                [
                    question if name == own[0] else "",
                    f"`{name}`",
                    _tau(interval(carried[:, j])),
                    number(float(mean_with_others(taus, name)[0]), "+.2f"),
                    ", ".join(methods[:_BEST]),
                    f"{100 * apart[j]:.0f} %" if np.isfinite(apart[j]) else "–",
                    f"{best}, {ahead} of {len(methods)}",
                ]
            )
    head = [
        "question",
        "measure",
        "tau with its own order on other networks",
        "mean tau with other measures",
        "ahead",
        "pairs of methods told apart",
        "best control, and how many methods are ahead of it",
    ]
    return markdown(head, rows)


def _networks(lines: list[Line]) -> str:
    rows = []
    for name in dict.fromkeys(line["network"] for line in lines):
        own = [line for line in lines if line["network"] == name]
        images = max((len(line.get("values", ())) for line in own), default=0)
        rows.append([KINDS[name].title, images, len({line["method"] for line in own}), f"{minutes(own):.1f}"])
    return markdown(["network", "images", "methods", "minutes"], rows)


def _seconds(lines: list[Line]) -> str:
    rows = []
    by_measure, by_method = Counter[str](), Counter[str]()
    for line in lines:
        by_measure[line["measure"]] += line["seconds"]
        by_method[line["method"]] += line["seconds"]
    for (measure, a), (method, b) in zip(by_measure.most_common(), by_method.most_common(), strict=False):
        rows.append([f"`{measure}`", f"{a:.0f}", f"`{method}`", f"{b:.0f}"])
    words = "Of all networks. What several measures of a method share (its maps) is counted with the first that asks."
    return f"{words}\n\n{markdown(['measure', 'seconds', 'method', 'seconds'], rows)}"


def _refused(lines: list[Line]) -> str:
    reasons: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        if "refused" in line:
            reason = re.sub(r" \([^)]*\)?|\b\d+\b", "", line["refused"])[:100]
            reasons.setdefault((line["method"], reason), []).append(line["network"])
    rows = [[f"`{method}`", len(cells), reason.replace("|", "/")] for (method, reason), cells in reasons.items()]
    return markdown(["method", "cells", "why"], sorted(rows, key=lambda row: -int(row[1])))


def _tau(ends: Interval) -> str:
    if not np.isfinite(ends.mean):
        return "–"
    return f"{number(ends.mean, '+.2f')} ({number(ends.low, '+.2f')} to {number(ends.high, '+.2f')})"


def agreement_figure(lines: list[Line], path: Path) -> None:
    """Draw tau of every pair of measures."""
    taus = pooled(between_measures(networks_of(lines)))[0]
    order = [NAMES.index(name) for own in QUESTIONS.values() for name in own]
    shown = taus[np.ix_(order, order)]
    names = [NAMES[i].replace("_", " ") for i in order]
    with figure_file(path, 9.5, 8.5) as figure:
        axes = figure.subplots()
        axes.imshow(shown, cmap="PuOr_r", vmin=-1, vmax=1)
        axes.grid(visible=False)
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        for i in range(len(names)):
            for j in range(len(names)):
                if i != j and np.isfinite(shown[i, j]):
                    colour = ("black", "white")[int(abs(shown[i, j]) > 0.6)]
                    axes.text(
                        j,
                        i,
                        f"{100 * shown[i, j]:.0f}".replace("-", "−"),
                        ha="center",
                        va="center",
                        fontsize=7,
                        color=colour,
                    )
        axes.set_title("Kendall's tau of two measures' orders of methods, × 100, mean over networks", fontsize=10)


PAGE = Page("experiments.measures.run", text, {"agreement.png": agreement_figure})


def write_page(lines: list[Line]) -> None:
    """Write the README's tables, the figure, and the table that one can sort."""
    PAGE.write(HERE / "README.md", lines)
    write_text(HERE / "table.html", sheet(lines))
