"""The README's tables and figure, from results.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.maps import RULES
from experiments.common.pages import fill, markdown, signed
from experiments.resampling.effects import Interval, at_best_blur, cell, effects, kinds_of, over_blurring, part
from experiments.resampling.measure import BLURS, REDUCTIONS
from interpnet.plotting.style import BLUE, INK, MUTED, VERMILLION, house_style, new_figure
from interpnet.support.io import atomic_path

COMMAND = "experiments.resampling.run"
Line = dict[str, Any]
_EFFECTS = ("channels", "resampling", "resampling, channels", "resampling, logit", "interaction")


def overlap_table(lines: list[Line], *, blurred: bool = False) -> str:
    """Return Markdown: the four combinations and the effects on IoU-AUC, for each kind, rule and reduction.

    ``blurred``: each cell at its own best blur.
    """
    head = ["network, data", "rule", "colours", "logit plain", "logit resampled", "channels plain",
            "channels resampled", *(f"effect: {e}" for e in _EFFECTS)]  # fmt: skip
    rows = []
    for kind in _with_masks(lines):
        networks = part(lines, kind)
        for rule in RULES:
            for reduction in REDUCTIONS:
                shown = at_best_blur(networks, rule, reduction) if blurred else networks
                end = f"{reduction}/{'best' if blurred else 0}"
                found = effects(shown, "iou", rule, end)
                row = [f"{100 * _mean(shown, 'iou', rule, s, h, end):.1f}" for s, h in _COMBINATIONS]
                rows.append([", ".join(kind), rule, reduction, *row, *(_points(found[e]) for e in _EFFECTS)])
    return markdown(head, rows)


def blur_table(lines: list[Line]) -> str:
    """Return Markdown: whether a blur of the plain maps of channels does what resampling does."""
    head = ["network, data", "rule", "colours", *(f"plain, blur {b} px" for b in BLURS), "resampled",
            "resampled less best plain"]  # fmt: skip
    rows = []
    for kind in _with_masks(lines):
        networks = part(lines, kind)
        for rule in RULES:
            for reduction in REDUCTIONS:
                plain = [_mean(networks, "iou", rule, "channels", "plain", f"{reduction}/{b}") for b in BLURS]
                after = _mean(networks, "iou", rule, "channels", "resampled", f"{reduction}/0")
                _, gain = over_blurring(networks, rule, "channels", reduction)
                figures = [f"{100 * v:.1f}" for v in (*plain, after)]
                rows.append([", ".join(kind), rule, reduction, *figures, _points(gain)])
    return markdown(head, rows)


def class_table(lines: list[Line]) -> str:
    """Return Markdown: rank correlation between classes in the four combinations, and the effects."""
    head = ["network, data", "rule", "measure", "logit plain", "logit resampled", "channels plain",
            "channels resampled", "effect: channels", "effect: resampling", "interaction"]  # fmt: skip
    rows = []
    for kind in kinds_of(lines):
        networks = part(lines, kind)
        for rule in RULES:
            for measure in ("rank", "structure"):
                found = effects(networks, measure, rule, "positive")
                row = [_two(_mean(networks, measure, rule, s, h, "positive")) for s, h in _COMBINATIONS]
                shown = ("channels", "resampling", "interaction")
                rows.append([", ".join(kind), rule, measure, *row, *(_interval(found[e]) for e in shown)])
    return markdown(head, rows)


def grid_table(lines: list[Line]) -> str:
    """Return Markdown: the share of the maps' energy at stride 2, before and after."""
    head = ["network, data", "rule", "start", "plain", "resampled"]
    rows = []
    for kind in kinds_of(lines):
        networks = part(lines, kind)
        for rule in RULES:
            for start in ("channels", "logit"):
                shares = [
                    np.mean([n[f"grid/{rule}/{start}/{how}"] for n in networks]) for how in ("plain", "resampled")
                ]
                rows.append([", ".join(kind), rule, start, *(f"{100 * v:.1f} %" for v in shares)])
    return markdown(head, rows)


def table(lines: list[Line]) -> str:
    """Return all tables."""
    facts = []
    for architecture, data in kinds_of(lines):
        here = [x for x in lines if (x["architecture"], x["data"]) == (architecture, data)]
        facts.append(
            f"- {architecture}, {data}: {len(here)} network{'s' if len(here) > 1 else ''}, {here[0]['images']} images "
            f"each, {sum(x['seconds'] for x in here) / 60:.0f} minutes, commit "
            f"{', '.join(sorted({x['commit'] for x in here}))}"
        )
    parts = [
        "\n".join(facts),
        "### Q3: IoU-AUC in percent, effects in points",
        overlap_table(lines),
        "### Q3: against a blur of the plain map",
        blur_table(lines),
        "### Q3: each map at its own best blur of 0 to 4 pixels",
        overlap_table(lines, blurred=True),
        "### The grid: share of the energy at the frequencies of stride 2",
        grid_table(lines),
        "### Q4: likeness of maps for different classes of one image (low: sensitive to the class)",
        class_table(lines),
    ]
    return "\n\n".join(parts)


_COMBINATIONS = tuple((s, h) for s in ("logit", "channels") for h in ("plain", "resampled"))


def _with_masks(lines: list[Line]) -> list[tuple[str, str]]:
    return [k for k in kinds_of(lines) if any(name.startswith("iou") for name in part(lines, k)[0])]


def _mean(networks: list[dict[str, float]], measure: str, rule: str, start: str, how: str, end: str) -> float:
    return float(np.mean([cell(n, measure, rule, start, how, end) for n in networks]))


def _points(interval: Interval) -> str:
    mean, low, high = interval
    return signed((100 * mean, 100 * low, 100 * high)) if np.isfinite(low) else f"{100 * mean:+.1f}".replace("-", "−")


def _interval(interval: Interval) -> str:
    return signed(interval, 2) if np.isfinite(interval[1]) else _two(interval[0])


def _two(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def figure(lines: list[Line], path: Path) -> None:
    """Draw overlap (left) and class sensitivity (right) of the four combinations under the guided rule."""
    panels = [("iou", "positive/0", _with_masks(lines)), ("rank", "positive", kinds_of(lines))]
    with house_style():
        drawn = new_figure(9.0, 3.6)
        axes = drawn.subplots(1, 2)
        for axis, (measure, end, kinds) in zip(axes, panels, strict=True):
            scale = 100 if measure == "iou" else 1
            for i, (start, how) in enumerate(_COMBINATIONS):
                for j, kind in enumerate(kinds):
                    values = [scale * cell(n, measure, "guided", start, how, end) for n in part(lines, kind)]
                    at = j + (i - 1.5) * 0.2
                    colour = VERMILLION if start == "channels" else BLUE
                    filled = colour if how == "resampled" else "white"
                    axis.bar(
                        at,
                        np.mean(values),
                        0.17,
                        color=filled,
                        edgecolor=colour,
                        label=f"{start}, {how}" if not j else None,
                    )
                    axis.plot([at] * len(values), values, ".", color=MUTED, markersize=4)
                    if measure == "iou":
                        smooth = at_best_blur(part(lines, kind), "guided", "positive")
                        mean = 100 * _mean(smooth, "iou", "guided", start, how, "positive/best")
                        named = {"label": "blurred, at its best"} if (i, j) == (0, 0) else {}
                        axis.plot([at], [mean], "D", color=INK, markersize=5, **named)
            axis.set_xticks(range(len(kinds)), ["\n".join(k) for k in kinds])
            axis.grid(axis="y")
        axes[0].set_ylabel("IoU-AUC, %")
        axes[0].set_title("Overlap with what tells the class")
        axes[1].set_ylabel("rank correlation")
        axes[1].set_title("Likeness of maps of different classes")
        drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
        with atomic_path(path) as part_file:
            drawn.savefig(part_file, dpi=110, bbox_inches="tight")


def write_readme(path: Path, lines: list[Line]) -> None:
    """Put the tables between the README's marks."""
    fill(path, COMMAND, table(lines))
