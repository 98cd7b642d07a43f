"""What M1 found, from its results.json."""

from __future__ import annotations

from collections.abc import Callable

from experiments.common.claims import Claim, counted, judged, verdict_of
from experiments.common.pages import committed
from experiments.common.tables import Interval, signed
from experiments.maps.settings import METHODS, PAPER
from experiments.maps.table import Case, cases, chosen_setting, name_of, of_counts

RELEVANCE = "lrp_epsilon_plus_flat"
_REASON = (
    "guided Grad-CAM++ weighs its map by where the last layer answers, which boxes reward; on ImageNet samples no "
    "image names channels, and three of all carry less than the logit; more channels change little"
)


def claims() -> list[Claim]:
    """Return M1's claims; a case is a kind of network and data."""
    lines = committed(__file__)
    setting = chosen_setting(lines)
    found = cases(lines)
    masks = [case for case in found if case.measure != "gain"]
    photographs = [
        case for case in found if case.measure != "iou" and not case.kind.endswith(("12c", "6c", "resnet18"))
    ]

    def less(case: Case, other: str | None) -> Interval | None:
        return case.less(name_of(setting, case), other) if other else None

    def effects(chosen: list[Case], other: Callable[[Case], str | None]) -> dict[str, Interval]:
        parts = {case.title: less(case, other(case)) for case in chosen}
        return {title: part for title, part in parts.items() if part is not None}

    paper = effects(found, lambda _: str(PAPER))

    def hardest(form: str, end: str) -> dict[str, Interval]:
        """Return what is left against the method with the lowest end of the interval, which need not be the best."""

        def other(case: Case) -> str | None:
            ends = {}
            for method in METHODS:
                name = case.best([method], form)
                against = less(case, name)
                if name is not None and against is not None:
                    ends[name] = getattr(against, end)
            return min(ends, key=ends.__getitem__, default=None)

        return effects(masks, other)

    plain = hardest("plain", "low")
    blurred = hardest("at its best blur", "high")
    cut = hardest("saturated, at its best blur", "high")
    relevance = effects(photographs, lambda case: case.best([RELEVANCE], "plain"))
    tested = of_counts(lines)
    return [
        judged(
            "M1",
            "The chosen map lies better on what tells the class than the paper's, and its pixels decide more",
            paper,
            "kinds and measures",
            _words(paper),
            "by deletion and insertion nearly every map of the plants is level: few pixels decide, and all find them",
        ),
        _not_beaten(
            "It is first among maps without blur, each as its authors publish it", plain, strict=True, tested=tested
        ),
        _not_beaten(
            "No method beats it, each at the blur that is best for these images", blurred, strict=False, tested=tested
        ),
        _not_beaten(
            "No method beats it where all are saturated as well, each at its best blur",
            cut,
            strict=False,
            tested=tested,
        ),
        _not_beaten(
            "On photographs it is at least level with LRP epsilon-plus-flat from the logit, by each measure",
            relevance,
            strict=False,
            tested=tested,
        ),
    ]


def _words(effects: dict[str, Interval]) -> str:
    """Return the extremes of some differences, with what they are of."""
    order = sorted(effects, key=lambda title: effects[title].mean)
    ends = [f"{signed(effects[title])} ({title})" for title in (order[0], order[-1])]
    return f"chosen less the other, points, from {ends[0]} to {ends[1]}"


def _not_beaten(claim: str, effects: dict[str, Interval], *, strict: bool, tested: str) -> Claim:
    """Return a claim that a case shows where the interval is above zero (``strict``), or not below it."""
    shown = [effect.above if strict else not effect.below for effect in effects.values()]
    figure = _words(effects)
    short = counted(shown, "kinds" if strict else "cases")
    return Claim("M1", claim, short, figure, verdict_of(shown), _REASON, tested, tuple(effects.items()))
