"""S1's tables and figure, from evaluation.json and development.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from experiments.common import tables
from experiments.common.pages import figure_file, fill
from experiments.common.tables import Interval, Line, emphasised, markdown, number, paired, signed
from experiments.shortcuts.audit import FLAG
from experiments.shortcuts.plan import KINDS, RELIES
from interpnet.plotting.style import BLUE, MUTED, VERMILLION
from interpnet.support.types import Bools, Float64, Int64

COMMAND = "experiments.shortcuts.run"
#: The statistic proposed: the best without masks on the development networks.
PROPOSED = "context share, largest class"
WITH_MASKS = "context share, mean (masks)"
_DRAWS = 2000  # of the bootstrap
#: Suspicions of a channel: label, key, and the key with whose limit as many are flagged.
_SUSPICIONS = (
    ("context share above 0.7", "disc", "disc"),
    ("class-activation difference, as many", "difference", "disc"),
    ("random, as many", "random", "disc"),
    ("context share above 0.5 (masks)", "mask", "mask"),
    ("heatmap outside the plant, as many (masks)", "outside", "mask"),
)
Lines = Sequence[Line]


def relies(line: Line) -> bool:
    """Return whether a network's accuracy is at least 10 points lower where the cue disagrees."""
    return bool(line["behaviour"]["reliance"] >= RELIES)


def auc(truth: Sequence[bool], values: Sequence[float], units: Sequence[int] | None = None) -> Interval:
    """Return the area under the ROC curve with its 95 % bootstrap interval; draws with one group only do not count.

    What has the same number in ``units`` is drawn together: the classes of a network.
    """
    t = np.asarray(truth)
    v = np.asarray(values, dtype=np.float64)
    if t.all() or not t.any():
        return Interval(float("nan"), float("nan"), float("nan"))
    known, unit = np.unique(np.arange(len(t)) if units is None else units, return_inverse=True)
    times = np.random.default_rng(0).multinomial(len(known), np.full(len(known), 1 / len(known)), size=_DRAWS)
    low, high = np.nanquantile(areas(t, v, unit, times), [0.025, 0.975])
    return Interval(float(areas(t, v, unit, np.ones((1, len(known))))[0]), float(low), float(high))


def areas(truth: Bools, values: Float64, unit: Int64, times: NDArray[Any]) -> Float64:
    """Return the area under the ROC curve of each draw, NaN where it lacks a group.

    ``unit`` (n,) says which of U units each number belongs to, ``times`` (draws, U) how often each unit is drawn. The
    pairs in order, ties half, are counted once for every two units; a draw only weighs them.
    """
    _, rank = np.unique(values, return_inverse=True)
    one, other = (_counted(rank[part], unit[part], (rank.max() + 1, times.shape[1])) for part in (truth, ~truth))
    pairs = one.T @ (np.cumsum(other, axis=0) - other / 2)
    all_pairs = (times @ one.sum(0)) * (times @ other.sum(0))
    ordered = (times @ pairs * times).sum(1)
    found: Float64 = np.divide(ordered, all_pairs, out=np.full(len(times), np.nan), where=all_pairs > 0)
    return found


def _counted(rank: Int64, unit: Int64, shape: tuple[int, int]) -> Float64:
    """Return how many numbers of each rank each unit has."""
    found: Float64 = np.zeros(shape)
    np.add.at(found, (rank, unit), 1.0)
    return found


def area_of(lines: Lines, name: str) -> Interval:
    """Return the area with which a statistic tells the networks that rely on their cue."""
    return auc([relies(x) for x in lines], [x["statistics"][name] for x in lines])


def network_table(sets: dict[str, Lines]) -> str:
    """Return Markdown: ROC-AUC of every statistic for "relies", and its correlation with how much."""
    lines = sets["evaluation"]
    reliance = [x["behaviour"]["reliance"] for x in lines]
    rows = []
    for name in lines[0]["statistics"]:
        found = area_of(lines, name)
        with np.errstate(invalid="ignore"):
            r = float(np.corrcoef([x["statistics"][name] for x in lines], reliance)[0, 1])
        before = f"{area_of(sets['development'], name).mean:.2f}" if "development" in sets else "–"
        area = f"{found.mean:.2f} ({found.low:.2f} to {found.high:.2f})"
        row = [emphasised(name, (PROPOSED, WITH_MASKS)), area, number(r, "+.2f"), before]
        rows.append((found.mean, row))
    rows.sort(key=lambda x: ("(masks)" in x[1][0], -x[0]))  # those without masks first, the best on top
    head = ["statistic", "ROC-AUC (95 % interval)", "correlation with reliance", "ROC-AUC, development"]
    return markdown(head, [row for _, row in rows])


def channels_of(lines: Lines, *, relying: bool) -> list[dict[str, Any]]:
    """Return the channels whose truth is known, of all networks or of those that rely on their cue."""
    return [c for x in lines if relies(x) or not relying for c in x["channels"] if c["truth"] is not None]


def channel_table(lines: Lines) -> str:
    """Return Markdown: how well channels that follow the cue are distinguished from the others."""
    everyone, relying = (channels_of(lines, relying=relying) for relying in (False, True))
    rows = []
    for label, key, like in _SUSPICIONS:
        at = FLAG[like]
        if key != like:
            rate = flag_rate(everyone, like, at)
            at = float(np.quantile([suspicion(c, key, i) for i, c in enumerate(everyone)], 1 - rate))
        one, other = (flag_quality(part, key, at) for part in (everyone, relying))
        figures = [one["auc"], one["precision"], one["recall"], other["auc"], other["precision"]]
        cells = [f"{value:.2f}" for value in figures]
        rows.append([label, cells[0], f"{one['flagged']:.0f} of {len(everyone)}", *cells[1:]])
    head = (
        "suspicion of a channel | ROC-AUC | flagged | precision | recall | ROC-AUC, relying networks | precision there"
    )
    return markdown(head.split(" | "), rows)


def suspicion(channel: dict[str, Any], key: str, place: int) -> float:
    """Return a channel's suspicion; -1 where its share is unknown. Random numbers are fixed by the channel's place."""
    if key == "random":
        return float(np.random.default_rng([5, place]).random())
    value = channel[key]
    return -1.0 if value is None else float(value)  # unknown: below every known share


def flag_rate(channels: Sequence[dict[str, Any]], key: str, limit: float) -> float:
    """Return the share of channels above the limit."""
    return float(np.mean([suspicion(c, key, 0) > limit for c in channels]))


def flag_quality(channels: Sequence[dict[str, Any]], key: str, limit: float) -> dict[str, float]:
    """Return ROC-AUC, number flagged, precision and recall against "the cue does more to it than the class"."""
    truth = np.array([c["truth"] > 0.5 for c in channels])
    values = np.array([suspicion(c, key, i) for i, c in enumerate(channels)])
    flagged = values > limit
    # Without a flag there is no precision: 0 / 0.
    with np.errstate(invalid="ignore"):
        found = {"precision": (truth & flagged).sum() / flagged.sum(), "recall": flagged[truth].mean()}
    found |= {"auc": roc_auc_score(truth, values), "flagged": flagged.sum()}
    return {name: float(value) for name, value in found.items()}


def repair_gains(lines: Lines, name: str, split: str) -> list[float]:
    """Return, for every relying network, the points of accuracy that a repair wins on a split."""
    return [100 * (x["repairs"][name][split] - x["repairs"]["as it is"][split]) for x in lines if relies(x)]


def repair_table(lines: Lines) -> str:
    """Return Markdown: accuracy of the relying networks after every repair, with the gains paired over networks."""
    used = [x["repairs"] for x in lines if relies(x)]
    rows = []
    for name in used[0]:
        removed = float(np.mean([repairs[name]["removed"] for repairs in used]))
        row = [name, f"{removed:.1f}"]
        for split, with_gain in (("disagree", True), ("agree", False), ("clean", True)):
            row.append(f"{100 * float(np.mean([repairs[name][split] for repairs in used])):.1f}")
            if with_gain:
                gain = signed(paired(repair_gains(lines, name, split)))
                row.append(gain * (name != "as it is"))
        rows.append(row)
    head = ["repair", "channels removed", "cue disagrees, %", "gain, points", "cue agrees, %", "without cue, %"]
    return markdown([*head, "gain, points"], rows)


def kinds_table(lines: Lines) -> str:
    """Return Markdown: reliance of every planted network, by kind and strength."""
    rows = []
    for kind in KINDS:
        here = sorted((x for x in lines if x["kind"] == kind), key=lambda x: int(x["number"]))
        rows.append([kind, *(f"{x['strength']:g}: {abs(round(100 * x['behaviour']['reliance']))}" for x in here)])
    return markdown(["kind", *[f"network {i + 1}" for i in range(max(len(r) for r in rows) - 1)]], rows)


def figure(lines: Lines, path: Path) -> None:
    """Draw reliance against the two proposed statistics, one point per network."""
    with figure_file(path, 8.0, 3.4, 120) as drawn:
        panels = drawn.subplots(1, 2, sharey=True)
        panels[0].set_title("Subject assumed in the middle")
        panels[1].set_title("Subject's mask known")
        for axes, name in zip(panels, (PROPOSED, WITH_MASKS), strict=True):
            for planted, colour, marker, label in ((False, MUTED, "s", "no cue"), (True, BLUE, "o", "cue planted")):
                here = [x for x in lines if (x["kind"] is not None) == planted]
                shares = [x["statistics"][name] for x in here]
                reliance = [100 * x["behaviour"]["reliance"] for x in here]
                axes.scatter(shares, reliance, c=colour, marker=marker, s=26, label=label, alpha=0.85, linewidths=0)
            axes.axhline(100 * RELIES, color=VERMILLION, lw=1, ls="--")
            axes.set_xlabel(f"{name.replace(' (masks)', '')} (0 subject, 1 surroundings)")
            axes.set_xlim(-0.03, 1.03)
        panels[0].set_ylabel("reliance: accuracy lost where\nthe cue disagrees, points")
        panels[0].legend(loc="upper left", frameon=False)


def write_readme(folder: Path) -> None:
    """Put the tables between the README's marks and draw the figure."""
    files = {name: folder / f"{name}.json" for name in ("evaluation", "development")}
    sets = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
    lines = sets.get("evaluation")
    if not lines:
        return
    relying = sum(map(relies, lines))
    planted = sum(x["kind"] is not None for x in lines)
    clean = [x["behaviour"]["clean"] for x in lines if not x["kind"]]
    training = sum(x["seconds_training"] for x in lines) / 60
    counted = f", {training:.0f} of them training" if training >= 1 else "; the weights were there already"
    facts = (
        f"{len(lines)} networks, {planted} with a planted cue, of which {relying} rely on it; accuracy of those "
        f"without one {min(clean):.2f} to {max(clean):.2f}. {tables.minutes(lines):.0f} minutes{counted}. "
        f"Commit {tables.commits(lines)}."
    )
    parts = {
        "Reliance, points, by strength of the cue": kinds_table(lines),
        "Networks": network_table(sets),
        "Channels": channel_table(lines),
        f"Repair, means over the {relying} relying networks": repair_table(lines),
    }
    fill(folder / "README.md", COMMAND, tables.sections(parts, facts))
    figure(lines, folder / "reliance.png")
