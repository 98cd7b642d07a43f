"""The arithmetic of the factorial: effects and their interaction, paired over networks."""

from __future__ import annotations

from typing import Any

from experiments.pages import paired
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


def over_blurring(networks: list[dict[str, float]], rule: str, start: str, reduction: str) -> tuple[int, Interval]:
    """Return the blur that is best for the plain maps, and the overlap of resampled maps, as they are, above theirs.

    The blur is the one with the largest mean over the same networks, which favours blurring.
    """

    def overlap(scores: dict[str, float], how: str, blur: int) -> float:
        return cell(scores, "iou", rule, start, how, f"{reduction}/{blur}")

    best = max(BLURS, key=lambda blur: sum(overlap(s, "plain", blur) for s in networks))
    return best, paired([overlap(s, "resampled", 0) - overlap(s, "plain", best) for s in networks])


def both_blurred(networks: list[dict[str, float]], rule: str, start: str, reduction: str) -> Interval:
    """Return the gain of resampling where each of both maps has the blur that is best for it."""

    def overlap(scores: dict[str, float], how: str, blur: int) -> float:
        return cell(scores, "iou", rule, start, how, f"{reduction}/{blur}")

    best = {
        how: max(BLURS, key=lambda blur, how=how: sum(overlap(s, how, blur) for s in networks))  # type: ignore[misc]
        for how in ("plain", "resampled")
    }
    return paired([overlap(s, "resampled", best["resampled"]) - overlap(s, "plain", best["plain"]) for s in networks])
