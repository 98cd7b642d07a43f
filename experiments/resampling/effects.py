"""The arithmetic of the factorial: effects and their interaction, paired over networks."""

from __future__ import annotations

from typing import Any

from experiments.common.pages import paired
from experiments.resampling.measure import BLURS

Line = dict[str, Any]
Interval = tuple[float, float, float]


def kinds_of(lines: list[Line]) -> list[tuple[str, str]]:
    """Return the kinds of networks, (architecture, data), in the order they were measured."""
    return list(dict.fromkeys((x["architecture"], x["data"]) for x in lines))


def part(lines: list[Line], kind: tuple[str, str]) -> list[dict[str, float]]:
    """Return the scores of the networks of a kind."""
    return [x["scores"] for x in lines if (x["architecture"], x["data"]) == kind]


def cell(scores: dict[str, float], measure: str, rule: str, start: str, how: str, end: str) -> float:
    """Return one cell's score; ``end`` is the reduction, and for overlap the blur."""
    return scores[f"{measure}/{rule}/{start}/{how}/{end}"]


def effects(networks: list[dict[str, float]], measure: str, rule: str, end: str) -> dict[str, Interval]:
    """Return the effects of a 2x2 factorial with intervals over networks.

    Parameters
    ----------
    networks : list of dict
        Scores of each network.
    measure, rule, end
        See :func:`cell`.

    Returns
    -------
    dict of str to (float, float, float)
        Mean and ends of the 95 % interval of: ``channels``, the mean over both ways back of channels less logit;
        ``resampling``, the mean over both starts of resampled less plain; ``resampling, channels`` and ``resampling,
        logit``, the same at one start; ``interaction``, the former less the latter; ``excess``, the size of the
        effect of the channels less the size of that of resampling.
    """
    rows: dict[str, list[float]] = {}
    for scores in networks:
        cp, cr, lp, lr = (
            cell(scores, measure, rule, start, how, end)
            for start in ("channels", "logit")
            for how in ("plain", "resampled")
        )
        channels, resampling = (cp + cr - lp - lr) / 2, (cr + lr - cp - lp) / 2
        found = {
            "channels": channels,
            "resampling": resampling,
            "resampling, channels": cr - cp,
            "resampling, logit": lr - lp,
            "interaction": (cr - cp) - (lr - lp),
            "excess": abs(channels) - abs(resampling),
        }
        for name, value in found.items():
            rows.setdefault(name, []).append(value)
    return {name: paired(values) for name, values in rows.items()}


def best_blur(networks: list[dict[str, float]], rule: str, start: str, how: str, reduction: str) -> int:
    """Return the blur with which a cell overlaps most, in the mean over the networks."""
    return max(BLURS, key=lambda b: sum(cell(n, "iou", rule, start, how, f"{reduction}/{b}") for n in networks))


def at_best_blur(networks: list[dict[str, float]], rule: str, reduction: str) -> list[dict[str, float]]:
    """Return the networks' overlaps with each cell at its own best blur, under the end ``REDUCTION/best``.

    The blur is chosen on the same networks, one number for all of them.
    """
    chosen = {
        (start, how): best_blur(networks, rule, start, how, reduction)
        for start in ("channels", "logit")
        for how in ("plain", "resampled")
    }
    return [
        {
            f"iou/{rule}/{start}/{how}/{reduction}/best": cell(n, "iou", rule, start, how, f"{reduction}/{blur}")
            for (start, how), blur in chosen.items()
        }
        for n in networks
    ]


def over_blurring(networks: list[dict[str, float]], rule: str, start: str, reduction: str) -> tuple[int, Interval]:
    """Return the blur that is best for the plain maps, and the overlap of resampled maps, as they are, above theirs.

    The blur is chosen on the same networks, which favours blurring.
    """
    best = best_blur(networks, rule, start, "plain", reduction)
    gains = [
        cell(n, "iou", rule, start, "resampled", f"{reduction}/0")
        - cell(n, "iou", rule, start, "plain", f"{reduction}/{best}")
        for n in networks
    ]
    return best, paired(gains)
