"""S6's tables, from results.json: networks, kinds of cue, classes and channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.common.tables import Interval, Line, markdown, proportion, sections
from experiments.cues.compared import Told, better_split, cases_of, told
from experiments.cues.plan import chooses
from experiments.cues.planting import KINDS
from experiments.cues.pools import SOURCES
from experiments.cues.rivals import STATISTICS
from experiments.shortcuts.table import areas, auc

COMMAND = "experiments.cues.run"
_DRAWS = 1000  # of the bootstrap
_CARRIES = 0.5  # a channel follows the cue if the cue does more to its score than the class

Lines = Sequence[Line]


def suspicion_of(one: dict[str, Any]) -> float:
    """Return how far the lower end of a class's share is beyond what is usual for its part."""
    return float(one["low"] - one["usual"])


def worst(line: Line) -> dict[str, Any]:
    """Return a network's most suspicious class."""
    found: dict[str, Any] = max(line["classes"], key=suspicion_of)
    return found


def joined(lines: Lines, networks: Lines) -> list[Line]:
    """Return the lines with their plan and behaviour, of the networks on which nothing was chosen."""
    known = {line["number"]: line for line in networks}
    return [known[line["number"]] | line for line in lines if not chooses(line["number"])]


def all_told(lines: Lines, networks: Lines) -> Told:
    """Return how well the suspicions tell networks and classes, as the rivals are judged."""
    return told(cases_of(lines, networks, lambda line: [suspicion_of(one) for one in line["classes"]]))


def area(rest: Lines) -> Interval:
    """Return the area with which the largest suspicion tells the networks that rely on their cue."""
    return auc([relies(line) for line in rest], [suspicion_of(worst(line)) for line in rest])


def ahead(lines: Lines, networks: Lines, rivals: Lines) -> dict[str, Interval]:
    """Return by how much our area of networks is larger than each rival's, with intervals over networks drawn again."""
    known = {line["number"]: line["behaviour"]["relies"] for line in networks}
    ours = {line["number"]: suspicion_of(worst(line)) for line in lines if not chooses(line["number"])}
    truth = np.array([known[number] for number in ours])
    n = len(truth)
    rng = np.random.default_rng(0)
    # How often each network is drawn; the first row is the networks as they are.
    times = np.array([np.ones(n), *(np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(_DRAWS))])
    own = areas(truth, np.array(list(ours.values())), np.arange(n), times)
    found = {}
    for name in STATISTICS:
        split = better_split(rivals, networks, name)
        largest = {line["number"]: max(line[split][name]) for line in rivals}
        gain = own - areas(truth, np.array([largest[number] for number in ours]), np.arange(n), times)
        low, high = np.nanquantile(gain[1:], [0.025, 0.975])
        found[name] = Interval(float(gain[0]), float(low), float(high))
    return found


def relies(line: Line) -> bool:
    """Return whether a network relies on its cue."""
    return bool(line["behaviour"]["relies"])


def of_kind(rest: Lines, kind: str) -> list[Line]:
    """Return the networks that rely on a kind of cue, and all that rely on none."""
    return [line for line in rest if not relies(line) or line["kind"] == kind]


def suspected(rest: Lines, *, rely: bool) -> Interval:
    """Return which share of the classes that rely on a cue, or that do not, is suspected.

    Those that do not are of networks that rely on no cue: in the others a class can lose what another one's cue draws.
    """
    found = [
        suspicion_of(one) > 0
        for line in rest
        for one in line["classes"]
        if (one["index"] in line["behaviour"]["classes"]) == rely and (rely or not relies(line))
    ]
    return proportion(sum(found), len(found))


def channel_area(rest: Lines) -> Interval:
    """Return the area with which a channel's suspicion tells the channels that follow a cue.

    Of the ten channels that contribute most to each class. A channel's suspicion is the part's share of its score times
    how far the class is suspected; the interval draws networks.
    """
    truth, values, owners = [], [], []
    for line in rest:
        by_class = {one["index"]: max(0.0, suspicion_of(one)) for one in line["classes"]}
        for index, _, share, follows in line["channels"]:
            truth.append(follows > _CARRIES)
            # Where no class is suspected the share alone decides the order.
            values.append(share * by_class[int(index)] + 1e-6 * share)
            owners.append(line["number"])
    return auc(truth, values, owners)


def text(lines: Lines, networks: Lines, rivals: Lines) -> str:
    """Return the page's tables."""
    rest = joined(lines, networks)
    seconds = np.median([line["seconds"] for line in lines])
    one = all_told(lines, networks)
    facts = (
        f"{len(rest)} networks report, {sum(map(relies, rest))} of which rely on their cue; the usual shares and the "
        f"statistic were chosen on the other {len(lines) - len(rest)} (ROC-AUC there {one.chosen:.2f}). `find` took "
        f"{seconds:.1f} seconds a network (median, one thread) and {max(x['passes'] for x in lines):.1f} forward "
        "passes at most."
    )
    rows = [
        ["networks that rely on a cue: ROC-AUC", _area(one.networks)],
        ["classes that rely on it: ROC-AUC", _area(one.classes)],
        ["the same, found at the threshold that the rivals are given, %", _percent(one.power)],
        ["false alarms there, %", _percent(one.false)],
        ["classes that rely, suspected, %", _percent(suspected(rest, rely=True))],
        ["classes of networks that rely on none, suspected (false alarms), %", _percent(suspected(rest, rely=False))],
        ["channels that follow the cue: ROC-AUC", _area(channel_area(rest))],
        ["the same, of relying networks", _area(channel_area([line for line in rest if relies(line)]))],
    ]
    parts = {
        "What the search finds (95 % intervals)": markdown(["", "found"], rows),
        "By kind of cue, and by source": _kinds(rest),
        "Ahead of what the literature suspects, by ROC-AUC of networks": markdown(
            ["statistic", "ahead by"], [[name, _area(value)] for name, value in ahead(lines, networks, rivals).items()]
        ),
    }
    return sections(parts, facts)


def _kinds(rest: Lines) -> str:
    rows = []
    for kind in KINDS:
        here = of_kind(rest, kind)
        own = [line for line in here if relies(line)]
        parts = sorted({worst(line)["part"] for line in own})
        rows.append([kind, len(own), _area(area(here)), ", ".join(parts)])
    for source in SOURCES:
        here = [line for line in rest if line["source"] == source]
        rows.append([f"*{source}*", sum(map(relies, here)), _area(area(here)), ""])
    return (
        "The networks that rely on one kind of cue, against all that rely on none; of a source, its own.\n\n"
        + markdown(["cue or source", "networks that rely", "ROC-AUC", "parts suspected"], rows)
    )


def _area(found: Interval) -> str:
    return "{:.2f} ({:.2f} to {:.2f})".format(*found)


def _percent(found: Interval) -> str:
    return "{:.1f} ({:.1f} to {:.1f})".format(*(100 * value for value in found))
