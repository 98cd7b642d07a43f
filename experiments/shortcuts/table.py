"""S1's tables and figure, from evaluation.json and development.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from experiments.common.pages import fill, markdown, paired, signed
from experiments.shortcuts.audit import FLAG
from experiments.shortcuts.networks import RELIES
from experiments.shortcuts.plan import KINDS
from interpnet.plotting.style import BLUE, MUTED, VERMILLION, house_style, new_figure
from interpnet.support.io import atomic_path

COMMAND = "experiments.shortcuts.run"
#: The statistic proposed: the best without masks on the development networks.
PROPOSED = "context share, largest class"
WITH_MASKS = "context share, mean (masks)"
_DRAWS = 2000
Lines = Sequence[dict[str, Any]]


def relies(line: dict[str, Any]) -> bool:
    """Return whether a network's accuracy is at least 10 points lower where the cue disagrees."""
    return bool(line["behaviour"]["reliance"] >= RELIES)


def auc(truth: Sequence[bool], values: Sequence[float]) -> tuple[float, float, float]:
    """Return the area under the ROC curve with its 95 % bootstrap interval; draws with one group only do not count."""
    t, v = np.asarray(truth), np.asarray(values, dtype=np.float64)
    if t.all() or not t.any():
        return float("nan"), float("nan"), float("nan")
    # The area is the share of (relying, other) pairs in order; a draw weighs each network by how often it came.
    order = (v[t][:, None] > v[~t]) + 0.5 * (v[t][:, None] == v[~t])
    times = np.random.default_rng(0).multinomial(len(t), np.full(len(t), 1 / len(t)), size=_DRAWS)
    one, other = times[:, t], times[:, ~t]
    kept = (one.sum(1) > 0) & (other.sum(1) > 0)
    drawn = np.einsum("di,ij,dj->d", one, order, other)[kept] / (one.sum(1) * other.sum(1))[kept]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(order.mean()), float(low), float(high)


def network_table(sets: dict[str, Lines]) -> str:
    """Return Markdown: ROC-AUC of every statistic for "relies", and its correlation with how much."""
    lines = sets["evaluation"]
    head = ["statistic", "ROC-AUC (95 % interval)", "correlation with reliance", "ROC-AUC, development"]
    rows = []
    for name in lines[0]["statistics"]:
        values = [x["statistics"][name] for x in lines]
        found = auc([relies(x) for x in lines], values)
        with np.errstate(invalid="ignore"):
            r = float(np.corrcoef(values, [x["behaviour"]["reliance"] for x in lines])[0, 1])
        others = sets.get("development")
        cell = (
            "–" if not others else f"{auc([relies(x) for x in others], [x['statistics'][name] for x in others])[0]:.2f}"
        )
        mark = "**" if name in (PROPOSED, WITH_MASKS) else ""
        area = f"{found[0]:.2f} ({found[1]:.2f} to {found[2]:.2f})"
        rows.append((found[0], [f"{mark}{name}{mark}", area, f"{r:+.2f}".replace("-", "−"), cell]))
    rows.sort(key=lambda x: ("(masks)" in x[1][0], -x[0]))
    return markdown(head, [row for _, row in rows])


def channels_of(lines: Lines, *, relying: bool) -> list[dict[str, Any]]:
    """Return the channels whose truth is known, of all networks or of those that rely on their cue."""
    return [c for x in lines if relies(x) or not relying for c in x["channels"] if c["truth"] is not None]


def channel_table(lines: Lines) -> str:
    """Return Markdown: how well channels that follow the cue are told from the others."""
    head = [
        "suspicion of a channel",
        "ROC-AUC",
        "flagged",
        "precision",
        "recall",
        "ROC-AUC, relying networks",
        "precision there",
    ]
    rows = []
    everyone, relying = channels_of(lines, relying=False), channels_of(lines, relying=True)
    rates = {how: flag_rate(everyone, how, FLAG[how]) for how in FLAG}
    for label, key, limit in (
        ("context share above 0.7", "disc", FLAG["disc"]),
        ("class-activation difference, as many", "difference", None),
        ("random, as many", "random", None),
        ("context share above 0.5 (masks)", "mask", FLAG["mask"]),
        ("heatmap outside the plant, as many (masks)", "outside", None),
    ):
        at = limit
        if at is None:
            rate = rates["mask" if key == "outside" else "disc"]
            at = float(np.quantile([suspicion(c, key, i) for i, c in enumerate(everyone)], 1 - rate))
        one, other = told(everyone, key, at), told(relying, key, at)
        rows.append([label, f"{one['auc']:.2f}", f"{one['flagged']:.0f} of {len(everyone)}", f"{one['precision']:.2f}",
                     f"{one['recall']:.2f}", f"{other['auc']:.2f}", f"{other['precision']:.2f}"])  # fmt: skip
    return markdown(head, rows)


def suspicion(channel: dict[str, Any], key: str, number: int) -> float:
    """Return a channel's suspicion; -1 where its share is unknown. Random numbers are fixed by the channel's place."""
    if key == "random":
        return float(np.random.default_rng([5, number]).random())
    value = channel[key]
    return -1.0 if value is None else float(value)


def flag_rate(channels: Sequence[dict[str, Any]], key: str, limit: float) -> float:
    """Return the share of channels above the limit."""
    return float(np.mean([suspicion(c, key, 0) > limit for c in channels]))


def told(channels: Sequence[dict[str, Any]], key: str, limit: float) -> dict[str, float]:
    """Return ROC-AUC, number flagged, precision and recall against "the cue does more to it than the class"."""
    truth = np.array([c["truth"] > 0.5 for c in channels])
    values = np.array([suspicion(c, key, i) for i, c in enumerate(channels)])
    flagged = values > limit
    return {
        "auc": float(roc_auc_score(truth, values)),
        "flagged": float(flagged.sum()),
        "precision": float(truth[flagged].mean()) if flagged.any() else float("nan"),
        "recall": float(flagged[truth].mean()),
    }


def repair_gains(lines: Lines, name: str, split: str) -> list[float]:
    """Return, for every relying network, the points of accuracy that a repair wins on a split."""
    return [100 * (x["repairs"][name][split] - x["repairs"]["as it is"][split]) for x in lines if relies(x)]


def repair_table(lines: Lines) -> str:
    """Return Markdown: accuracy of the relying networks after every repair, with the gains paired over networks."""
    used = [x for x in lines if relies(x)]
    head = [
        "repair",
        "channels removed",
        "cue disagrees, %",
        "gain, points",
        "cue agrees, %",
        "without cue, %",
        "gain, points",
    ]
    rows = []
    for name in used[0]["repairs"]:
        mean = {
            k: float(np.mean([x["repairs"][name][k] for x in used])) for k in ("disagree", "agree", "clean", "removed")
        }
        gains = [
            signed(paired(repair_gains(lines, name, s))) if name != "as it is" else "" for s in ("disagree", "clean")
        ]
        disagree, agree, clean = (f"{100 * mean[k]:.1f}" for k in ("disagree", "agree", "clean"))
        rows.append([name, f"{mean['removed']:.1f}", disagree, gains[0], agree, clean, gains[1]])
    return markdown(head, rows)


def kinds_table(lines: Lines) -> str:
    """Return Markdown: reliance of every planted network, by kind and strength."""
    rows = []
    for kind in KINDS:
        here = sorted((x for x in lines if x["kind"] == kind), key=lambda x: x["number"])
        rows.append([kind, *(f"{x['strength']:g}: {abs(round(100 * x['behaviour']['reliance']))}" for x in here)])
    return markdown(["kind", *[f"network {i + 1}" for i in range(max(len(r) for r in rows) - 1)]], rows)


def figure(lines: Lines, path: Path) -> None:
    """Draw reliance against the two proposed statistics, one point a network."""
    with house_style():
        drawn = new_figure(8.0, 3.4)
        left, right = drawn.subplots(1, 2, sharey=True)
        for axes, name, title in (
            (left, PROPOSED, "Subject assumed in the middle"),
            (right, WITH_MASKS, "Subject's mask known"),
        ):
            for planted, colour, marker, label in ((False, MUTED, "s", "no cue"), (True, BLUE, "o", "cue planted")):
                here = [x for x in lines if (x["kind"] is not None) == planted]
                axes.scatter(
                    [x["statistics"][name] for x in here], [100 * x["behaviour"]["reliance"] for x in here],
                    c=colour, marker=marker, s=26, label=label, alpha=0.85, linewidths=0,
                )  # fmt: skip
            axes.axhline(100 * RELIES, color=VERMILLION, lw=1, ls="--")
            axes.set_xlabel(f"{name.replace(' (masks)', '')} (0 subject, 1 surroundings)")
            axes.set_title(title)
            axes.set_xlim(-0.03, 1.03)
        left.set_ylabel("reliance: accuracy lost where\nthe cue disagrees, points")
        left.legend(loc="upper left", frameon=False)
        with atomic_path(path) as part:
            drawn.savefig(part, dpi=120, bbox_inches="tight")


def write_readme(folder: Path) -> None:
    """Put the tables between the README's marks and draw the figure."""
    sets = {
        name: json.loads(f.read_text())
        for name in ("evaluation", "development")
        if (f := folder / f"{name}.json").exists()
    }
    lines = sets.get("evaluation")
    if not lines:
        return
    n_relying, planted = sum(map(relies, lines)), [x for x in lines if x["kind"]]
    clean = [x["behaviour"]["clean"] for x in lines if not x["kind"]]
    whole, training = (sum(x[k] for x in lines) / 60 for k in ("seconds", "seconds_training"))
    counted = f", {training:.0f} of them training" if training >= 1 else "; the weights were there already"
    facts = (
        f"{len(lines)} networks, {len(planted)} with a planted cue, of which {n_relying} rely on it; accuracy of those "
        f"without one {min(clean):.2f} to {max(clean):.2f}. {whole:.0f} minutes{counted}. "
        f"Commit {', '.join(sorted({x['commit'] for x in lines}))}."
    )
    parts = {
        "Reliance, points, by strength of the cue": kinds_table(lines),
        "Networks": network_table(sets),
        "Channels": channel_table(lines),
        f"Repair, means over the {n_relying} relying networks": repair_table(lines),
    }
    text = "\n\n".join([facts, *(f"### {title}\n\n{part}" for title, part in parts.items())])
    fill(folder / "README.md", COMMAND, text)
    figure(lines, folder / "reliance.png")
