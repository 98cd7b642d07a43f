"""The README's tables and figure, from results.json."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from experiments.common.maps import RULES
from experiments.common.pages import Page, figure_file
from experiments.common.tables import Interval, Line, commits, grouped, markdown, minutes, number, paired, signed
from experiments.resampling.measure import BLURS, HOW, REDUCTIONS, STARTS
from interpnet.plotting.style import BLUE, INK, MUTED, VERMILLION

Scores = dict[str, float]  # of one network
Kinds = dict[tuple[str, str], list[Scores]]
#: The cells of the 2x2 factorial: where the signal starts, and whether it is resampled.
CELLS = tuple((start, how) for start in STARTS for how in HOW)
_EFFECTS = ("channels", "resampling", "resampling, channels", "resampling, logit", "interaction")
_CELLS = tuple((start, how) for start in reversed(STARTS) for how in HOW)  # the pages have the logit first
_FOUR = [" ".join(one) for one in _CELLS]


def kinds_of(lines: Iterable[Line]) -> Kinds:
    """Return the scores of the networks of each kind, (architecture, data), in the order they were measured."""
    kinds = grouped(lines, "architecture", "data").items()
    return {(architecture, data): [x["scores"] for x in here] for (architecture, data), here in kinds}


def masked(kinds: Kinds) -> Kinds:
    """Return the kinds whose overlap with a mask was measured."""
    return {kind: part for kind, part in kinds.items() if any(name.startswith("iou") for name in part[0])}


def cell(scores: Scores, measure: str, rule: str, start: str, how: str, end: str) -> float:
    """Return one cell's score; ``end`` is the reduction, and for overlap the blur."""
    return scores[f"{measure}/{rule}/{start}/{how}/{end}"]


def mean(networks: list[Scores], measure: str, rule: str, start: str, how: str, end: str) -> float:
    """Return the mean of a cell over networks."""
    return float(np.mean([cell(n, measure, rule, start, how, end) for n in networks]))


def effects(networks: list[Scores], measure: str, rule: str, end: str) -> dict[str, Interval]:
    """Return the effects of a 2x2 factorial with intervals over networks; for the other arguments see :func:`cell`."""
    rows: dict[str, list[float]] = {}
    for scores in networks:
        # c and l for channels and logit, p and r for plain and resampled.
        cp, cr, lp, lr = (cell(scores, measure, rule, start, how, end) for start, how in CELLS)
        channels = (cp + cr - lp - lr) / 2  # a mean over both ways back
        resampling = (cr + lr - cp - lp) / 2  # a mean over both starts
        found = {
            "channels": channels,
            "resampling": resampling,
            "resampling, channels": cr - cp,  # at one start
            "resampling, logit": lr - lp,
            "interaction": (cr - cp) - (lr - lp),
            "excess": abs(channels) - abs(resampling),  # by how much the channels' effect is larger
        }
        for name, value in found.items():
            rows.setdefault(name, []).append(value)
    return {name: paired(values) for name, values in rows.items()}


def best_blur(networks: list[Scores], rule: str, start: str, how: str, reduction: str) -> int:
    """Return the blur with which a cell overlaps most, in the mean over the networks."""
    return max(BLURS, key=lambda b: sum(cell(n, "iou", rule, start, how, f"{reduction}/{b}") for n in networks))


def at_best_blur(networks: list[Scores], rule: str, reduction: str) -> list[Scores]:
    """Return the overlaps with each cell at its best blur, one for all networks, under the end ``REDUCTION/best``."""
    found: list[Scores] = [{} for _ in networks]
    for start, how in CELLS:
        blur = best_blur(networks, rule, start, how, reduction)
        for one, scores in zip(found, networks, strict=True):
            value = cell(scores, "iou", rule, start, how, f"{reduction}/{blur}")
            one[f"iou/{rule}/{start}/{how}/{reduction}/best"] = value
    return found


def over_blur(networks: list[Scores], rule: str, start: str, reduction: str) -> tuple[int, Interval]:
    """Return the blur that is best for the plain maps, and the overlap of resampled maps, as they are, above theirs.

    The blur is chosen on the same networks, which favours blurring.
    """
    best = best_blur(networks, rule, start, "plain", reduction)
    cells = [("resampled", f"{reduction}/0"), ("plain", f"{reduction}/{best}")]
    pairs = [[cell(n, "iou", rule, start, how, end) for how, end in cells] for n in networks]
    return best, paired([resampled - plain for resampled, plain in pairs])


def _rows(kinds: Kinds, endings: tuple[str, ...]) -> Iterator[tuple[list[str], list[Scores], str, str]]:
    """Yield the first cells of a row, networks, rule and ending of every combination."""
    for kind, networks in kinds.items():
        for rule in RULES:
            for ending in endings:
                yield [", ".join(kind), rule, ending], networks, rule, ending


def overlap_table(kinds: Kinds, *, blurred: bool = False) -> str:
    """Return Markdown: overlap in the four combinations, and the effects; ``blurred``: each cell at its best blur."""
    rows = []
    for row, networks, rule, reduction in _rows(masked(kinds), REDUCTIONS):
        end = f"{reduction}/0"
        if blurred:
            networks = at_best_blur(networks, rule, reduction)
            end = f"{reduction}/best"
        found = effects(networks, "iou", rule, end)
        four = [f"{100 * mean(networks, 'iou', rule, s, h, end):.1f}" for s, h in _CELLS]
        rows.append([*row, *four, *(_interval(found[e].times(100), 1) for e in _EFFECTS)])
    return markdown(["network, data", "rule", "colours", *_FOUR, *(f"effect: {e}" for e in _EFFECTS)], rows)


def blur_table(kinds: Kinds) -> str:
    """Return Markdown: whether a blur of the plain maps of channels does what resampling does."""
    rows = []
    for row, networks, rule, reduction in _rows(masked(kinds), REDUCTIONS):
        shown = [mean(networks, "iou", rule, "channels", "plain", f"{reduction}/{b}") for b in BLURS]
        shown.append(mean(networks, "iou", rule, "channels", "resampled", f"{reduction}/0"))
        _, gain = over_blur(networks, rule, "channels", reduction)
        rows.append([*row, *(f"{100 * v:.1f}" for v in shown), _interval(gain.times(100), 1)])
    blurs = [f"plain, blur {b} px" for b in BLURS]
    return markdown(["network, data", "rule", "colours", *blurs, "resampled", "resampled less best plain"], rows)


def class_table(kinds: Kinds) -> str:
    """Return Markdown: rank correlation between classes in the four combinations, and the effects."""
    rows = []
    for row, networks, rule, measure in _rows(kinds, ("rank", "structure")):
        found = effects(networks, measure, rule, "positive")
        four = [number(mean(networks, measure, rule, s, h, "positive"), ".2f") for s, h in _CELLS]
        shown = (found[e] for e in ("channels", "resampling", "interaction"))
        rows.append([*row, *four, *(_interval(one, 2) for one in shown)])
    head = ["network, data", "rule", "measure", *_FOUR, "effect: channels", "effect: resampling", "interaction"]
    return markdown(head, rows)


def grid_table(kinds: Kinds) -> str:
    """Return Markdown: the share of the maps' energy at stride 2, before and after."""
    rows = []
    for row, networks, rule, start in _rows(kinds, STARTS):
        shares = [np.mean([n[f"grid/{rule}/{start}/{how}"] for n in networks]) for how in HOW]
        rows.append([*row, *(f"{100 * v:.1f} %" for v in shares)])
    return markdown(["network, data", "rule", "start", *HOW], rows)


def table(lines: list[Line]) -> str:
    """Return all tables."""
    kinds = kinds_of(lines)
    facts = [
        f"- {', '.join(kind)}: {len(here)} network{'s' * (len(here) > 1)}, {here[0]['images']} images each, "
        f"{minutes(here):.0f} minutes, commit {commits(here)}"
        for kind, here in grouped(lines, "architecture", "data").items()
    ]
    parts = [
        "\n".join(facts),
        "### Q3: IoU-AUC in percent, effects in points",
        overlap_table(kinds),
        "### Q3: against a blur of the plain map",
        blur_table(kinds),
        "### Q3: each map at its own best blur of 0 to 4 pixels",
        overlap_table(kinds, blurred=True),
        "### The grid: share of the energy at the frequencies of stride 2",
        grid_table(kinds),
        "### Q4: likeness of maps for different classes of one image (low: sensitive to the class)",
        class_table(kinds),
    ]
    return "\n\n".join(parts)


def _interval(found: Interval, digits: int) -> str:
    """Return an effect with its interval; alone where a single network gives none."""
    if math.isfinite(found.low):
        return signed(found, digits)
    return number(found.mean, f"{'+' * (digits == 1)}.{digits}f")


def figure(lines: list[Line], path: Path) -> None:
    """Draw overlap (left) and class sensitivity (right) of the four combinations under the guided rule."""
    kinds = kinds_of(lines)
    panels = (("iou", "positive/0", 100, masked(kinds)), ("rank", "positive", 1, kinds))
    with figure_file(path, 9.0, 3.6) as drawn:
        axes = drawn.subplots(1, 2)
        for axis, (measure, end, scale, shown) in zip(axes, panels, strict=True):
            for i, (start, how) in enumerate(_CELLS):
                colour = {"channels": VERMILLION, "logit": BLUE}[start]
                filled = {"resampled": colour, "plain": "white"}[how]
                at = np.arange(len(shown)) + (i - 1.5) * 0.2  # four bars around each kind
                where = (measure, "guided", start, how, end)
                values = [[scale * cell(n, *where) for n in part] for part in shown.values()]
                heights = [np.mean(v) for v in values]
                axis.bar(at, heights, 0.17, color=filled, edgecolor=colour, label=f"{start}, {how}")
                for x, dots in zip(at, values, strict=True):
                    axis.plot([x] * len(dots), dots, ".", color=MUTED, markersize=4)
                if measure == "iou":
                    smooth = [at_best_blur(part, "guided", "positive") for part in shown.values()]
                    means = [100 * mean(n, "iou", "guided", start, how, "positive/best") for n in smooth]
                    # A label that begins with an underscore is left out of the legend.
                    label = "_" * (i > 0) + "blurred, at its best"
                    axis.plot(at, means, "D", color=INK, markersize=5, label=label)
            axis.set_xticks(range(len(shown)), ["\n".join(kind) for kind in shown])
            axis.grid(axis="y")
        axes[0].set_ylabel("IoU-AUC, %")
        axes[0].set_title("Overlap with what tells the class")
        axes[1].set_ylabel("rank correlation")
        axes[1].set_title("Likeness of maps of different classes")
        drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)


PAGE = Page("experiments.resampling.run", table, {"factorial.png": figure})  # the README, from results.json
