"""S6's repairs as tables, from repaired.json."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from experiments.common.tables import Interval, Line, markdown, number, points, sections
from experiments.cues.planting import KINDS

COMMAND = "experiments.cues.repaired"
#: How the cue of the test images is drawn.
SHOWN = ("natural", "agree", "disagree", "absent")
#: By the key of a line: what was done.
WAYS = {
    "ours": "ours",
    "dfr": "DFR, images whose cue is independent of the class",
    "dfr_natural": "DFR, images as they come",
    "afr": "AFR",
    "jtt": "JTT",
}
_DRAWS = 2000  # of the bootstrap

Lines = Sequence[Line]


def of(line: Line, way: str) -> dict[str, float]:
    """Return a network's accuracies after a repair; those before where nothing was suspicious."""
    found: dict[str, float] = line[way if way in line else "before"]
    return found


def had(lines: Lines, way: str) -> list[Line]:
    """Return the lines of a way: JTT was trained for some networks only."""
    return [line for line in lines if way in line or way == "ours"]


def change(lines: Lines, way: str, shown: str) -> Interval:
    """Return by how much accuracy rises, with an interval over networks drawn again."""
    return _resampled(_rises(lines, way, shown), np.mean)


def share_of_dfr(lines: Lines, way: str = "ours", other: str = "dfr") -> Interval:
    """Return our mean rise where the cue disagrees, as a share of DFR's on the same networks."""
    both = np.stack([_rises(lines, way, "disagree"), _rises(lines, other, "disagree")], 1)
    return _resampled(both, lambda rows: rows[:, 0].mean() / rows[:, 1].mean())


def ahead(lines: Lines, other: str, way: str = "ours") -> Interval:
    """Return by how much more accuracy rises where the cue disagrees than with another way, on the same networks."""
    lines = had(lines, other)
    return _resampled(_rises(lines, way, "disagree") - _rises(lines, other, "disagree"), np.mean)


def _rises(lines: Lines, way: str, shown: str) -> np.ndarray:
    return np.array([of(line, way)[shown] - line["before"][shown] for line in lines])


def _resampled(values: np.ndarray, of_rows: Callable[[np.ndarray], float]) -> Interval:
    rng = np.random.default_rng(0)
    n = len(values)
    drawn = [of_rows(values[rng.integers(0, n, n)]) for _ in range(_DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(of_rows(values)), float(low), float(high))


def relying(lines: Lines, turn: int = 2) -> list[Line]:
    """Return the networks of a round that rely on their cue."""
    return [line for line in lines if line["relies"] and line["round"] == turn]


def text(lines: Lines) -> str:
    """Return the page's tables."""
    rely = relying(lines)
    quiet = [line for line in lines if not line["relies"] and line["round"] == 2]
    named = [line for line in rely if line["parts"]]
    taken = [line for line in rely if line.get("accepted")]
    touched = [line for line in quiet if line["parts"]]
    seconds = np.median([line["seconds"] for line in named])
    facts = (
        f"{len(rely)} networks that rely on their cue and were not in the first round. Of {len(named)} the search "
        f"suspects something, so that there is a part to exchange; {len(taken)} repairs were accepted, "
        f"{refused(rely, 'gain')} refused because no gain stood out or stayed, and {refused(rely, 'costs')} because of "
        f"what they cost. Search and repair took {seconds:.0f} seconds a network (median, a busy machine). Of "
        f"{len(quiet)} networks that rely on none, {len(touched)} are suspected, and "
        f"{sum(bool(line.get('accepted')) for line in quiet)} repaired."
    )
    twice = [line["jtt"]["seconds"] for line in rely if "jtt" in line]
    if twice:
        facts += f" JTT trained twice in {np.median(twice):.0f} seconds of a processor (median of {len(twice)})."
    parts = {
        "Accuracy after less accuracy before, points (95 % intervals over networks)": _ways(rely),
        "Where a repair was accepted": _ways(taken),
        "By kind of cue: where the cue disagrees, points": _kinds(rely),
        "The part that is exchanged tells nothing of the class, or comes from the same class": _control(taken),
        "Networks that rely on no cue and are repaired nonetheless": _quiet(touched),
        "The first round, other networks: one suspicious part at random, of any image": _ways(relying(lines, 1)),
    }
    return sections(parts, facts)


def refused(lines: Lines, why: str) -> int:
    """Return how many repairs were refused for a reason that has this word."""
    return sum(why in line["why"] for line in lines if line["parts"] and not line["accepted"])


def _ways(rely: Lines) -> str:
    if not rely:
        return "None."
    before = [f"{100 * np.mean([line['before'][shown] for line in rely]):.1f} %" for shown in SHOWN]
    rows = [["*accuracy before*", len(rely), *before, ""]]
    for way, name in WAYS.items():
        own = had(rely, way)
        if own:
            less = "" if way == "ours" else points(ahead(rely, way))
            rows.append([name, len(own), *(points(change(own, way, shown)) for shown in SHOWN), less])
    head = [
        "",
        "networks",
        "as they come",
        "cue agrees",
        "**cue disagrees**",
        "**without the cue**",
        "ours is ahead by",
    ]
    return markdown(head, rows)


def _kinds(rely: Lines) -> str:
    rows = []
    for kind in KINDS:
        own = [line for line in rely if line["kind"] == kind]
        if own:
            means = (100 * _rises(own, way, "disagree").mean() for way in ("ours", "dfr", "afr"))
            parts = sorted({part for line in own for part in line["parts"]})
            taken = sum(bool(line.get("accepted")) for line in own)
            rows.append([kind, len(own), taken, *(number(mean, "+.0f") for mean in means), ", ".join(parts)])
    head = ["cue", "networks", "repaired", "ours", "DFR", "AFR", "parts exchanged"]
    return markdown(head, rows)


def _control(taken: Lines) -> str:
    if not taken:
        return "No repair was accepted."
    mean = {what: np.mean([line["exchanged"][what] for line in taken]) for what in ("before", "after", "control")}
    return (
        f"On validation images with exchanged parts, held out, {100 * mean['before']:.1f} % are right before, "
        f"{100 * mean['after']:.1f} % after the repair and {100 * mean['control']:.1f} % after the control, which is "
        "trained as long at the same rate, with parts of images of the same class."
    )


def _quiet(touched: Lines) -> str:
    if not touched:
        return "None."
    rows = [
        [line["number"], line["source"], line["kind"] or "none", ", ".join(line["parts"]),
         "yes" if line["accepted"] else "no",
         number(100 * _rises([line], "ours", "absent")[0], "+.1f")]
        for line in touched
    ]  # fmt: skip
    head = ["network", "source", "decoy", "part", "repaired", "without the cue, points"]
    return markdown(head, rows)
