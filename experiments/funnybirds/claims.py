"""What C4 found, by rule from results.json."""

from __future__ import annotations

from experiments.common.claims import Claim, graded, tally
from experiments.common.pages import committed
from experiments.common.tables import Interval, Line
from experiments.funnybirds.importance import AREA, BEST, NAMED, OURS, USUAL, USUAL_OF_CLASS
from experiments.funnybirds.table import both, kind, sorted_ways


def claims(lines: list[Line] | None = None) -> list[Claim]:
    """Return C4's claims, on the committed results where no others are given."""
    if lines is None:
        lines = committed(__file__)
    single, joint = both(lines)
    ways = dict(sorted_ways(joint))
    return [_maps(ways, len(single)), _image(ways), _names(ways)]


def _said(value: Interval) -> str:
    return f"{value.mean:.2f} ({value.low:.2f} to {value.high:.2f})"


def _maps(ways: dict[str, dict[str, Interval]], networks: int) -> Claim:
    """Judge: nothing that knows as much orders the parts better than ours, and ours is better than some."""
    others = [(name, one["ours less it"]) for name, one in ways.items() if kind(name) in {"map", "control"}]
    counts = tally(others, more=True)
    return Claim(
        "C4",
        "No other map or control orders a bird's parts more like their removal than contributions laid out by heatmaps",
        counts.short,
        f"{networks} network{'s' * (networks > 1)}, rank correlation {_said(ways[OURS]['order'])}, {counts.counts} of "
        f"{counts.total}{counts.names(', behind ')}",
        counts.verdict,
        reason="" if counts.verdict == "holds" else "heatmaps are blurred beyond small parts",
    )


def _image(ways: dict[str, dict[str, Interval]]) -> Claim:
    """Judge: an explanation knows more than what the part costs on average, in all images and in those of the class."""
    shown = [ways[name]["ours less it"].above for name in (USUAL, USUAL_OF_CLASS)]
    usual, own = (_said(ways[name]["order"]) for name in (USUAL, USUAL_OF_CLASS))
    return Claim(
        "C4",
        "Contributions laid out by heatmaps say more of an image than what its parts usually cost",
        f"{ways[OURS]['order'].mean:.2f}, usual {ways[USUAL]['order'].mean:.2f}",
        f"rank correlation {_said(ways[OURS]['order'])}; the part's mean loss in other images {usual}, in others of "
        f"the class {own}",
        graded(full=all(shown), part=any(shown)),
        reason="" if all(shown) else "a class goes by the same parts in most of its images",
    )


def _names(ways: dict[str, dict[str, Interval]]) -> Claim:
    """Judge: channels named after a part contribute as the part matters, more than its area says."""
    shown = [ways[name]["beyond control"].above for name in (NAMED, BEST)]
    named, best, area = (_said(ways[name]["order"]) for name in (NAMED, BEST, AREA))
    return Claim(
        "C4",
        "Channels that dissection names after a part contribute as much as removing the part costs",
        f"{ways[NAMED]['order'].mean:.2f}, area {ways[AREA]['order'].mean:.2f}",
        f"rank correlation {named}; of channels by the part that they overlap most {best}; the part's area {area}",
        graded(full=all(shown), part=any(shown)),
        reason="" if all(shown) else "few channels have a name, and a channel that sees a part need not be of it alone",
    )
