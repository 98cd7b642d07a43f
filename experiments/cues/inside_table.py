"""Tables of cues inside the subject, from inside.json: networks, classes, and whether the patch is the cue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from experiments.common.tables import Interval, Line, markdown, proportion, sections
from experiments.cues.plan import chooses
from experiments.cues.table import suspicion_of
from experiments.shortcuts.table import areas, auc

COMMAND = "experiments.cues.inside"
_QUANTILE = 0.98  # of the classes of networks for choosing that rely on none
_DRAWS = 1000  # of the bootstrap
_FOLLOWS = 0.5  # a channel follows the cue if the cue does more to its score than the class
_KEPT = (
    *("index", "channel", "n", "area", "gap", "raised beyond", "raised low", "fell beyond", "fell low"),
    *("reordered", "elsewhere", "taken", "taken_before", "follows", "is the cue"),
)
_NONE = -1.0  # of a class whose channels answer to nothing

Lines = Sequence[Line]


def concentration(pair: Line) -> float:
    """Return how many times its share of the image a patch carries of its class, by the lower ends of both moves.

    The smaller of what it brings into other images and what the class's own lose without it, as a share of what sets
    the class's images apart, over the patch's share of the image.
    """
    ends = (pair["raised low"], pair["fell low"])
    if not pair["n"] or None in ends or not np.isfinite(ends).all() or pair["gap"] <= 0:
        return _NONE
    return float(min(ends) / pair["gap"] / pair["area"])


def best(line: Line) -> Line:
    """Return a network's line with the pair of every class whose patch is most concentrated."""
    pairs = [
        max((pair for pair in line["pairs"] if pair["index"] == k), key=concentration)
        for k in sorted({pair["index"] for pair in line["pairs"]})
    ]
    return line | {"pairs": [{name: pair.get(name) for name in _KEPT} for pair in pairs]}


def joined(lines: Lines, found: Lines, networks: Lines) -> list[Line]:
    """Return the lines with their networks' plan and behaviour, and what the search suspects of each network."""
    known = {line["number"]: line for line in networks}
    suspected = {line["number"]: max(map(suspicion_of, line["classes"])) for line in found}
    return [known[line["number"]] | line | {"search": suspected[line["number"]]} for line in lines]


def of_kind(lines: Lines, kind: str) -> list[Line]:
    """Return the networks that rely on a kind of cue, and all that rely on none."""
    return [line for line in lines if line["kind"] == kind or not relies(line)]


def relies(line: Line) -> bool:
    """Return whether a network relies on its cue."""
    return bool(line["behaviour"]["relies"])


def worst(line: Line) -> float:
    """Return the largest concentration of a network's classes."""
    return max(map(concentration, line["pairs"]))


def area(lines: Lines) -> Interval:
    """Return the area with which the concentration tells the networks that rely."""
    return auc([relies(line) for line in lines], [worst(line) for line in lines])


def search_area(lines: Lines) -> Interval:
    """Return the area with which the search's suspicion tells the same networks."""
    return auc([relies(line) for line in lines], [line["search"] for line in lines])


def ahead(lines: Lines) -> Interval:
    """Return by how much the concentration's area is larger than the search's, over networks drawn again."""
    truth = np.array([relies(line) for line in lines])
    n = len(truth)
    rng = np.random.default_rng(0)
    times = np.array([np.ones(n), *(np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(_DRAWS))])
    ours, other = (
        areas(truth, np.array(values), np.arange(n), times)
        for values in ([worst(line) for line in lines], [line["search"] for line in lines])
    )
    low, high = np.nanquantile((ours - other)[1:], [0.025, 0.975])
    return Interval(float(ours[0] - other[0]), float(low), float(high))


def class_area(lines: Lines) -> Interval:
    """Return the area of the classes that rely, against those of the networks that rely on none."""
    rows = [
        (pair["index"] in line["behaviour"]["classes"], concentration(pair), line["number"])
        for line in lines
        for pair in line["pairs"]
        if not relies(line) or pair["index"] in line["behaviour"]["classes"]
    ]
    truth, values, owners = zip(*rows, strict=True)
    return auc(truth, values, owners)


def threshold(lines: Lines) -> float:
    """Return what 98 % of the classes stay below, of the networks for choosing that rely on none."""
    values = [
        concentration(pair) for line in lines if chooses(line["number"]) and not relies(line) for pair in line["pairs"]
    ]
    return float(np.quantile(values, _QUANTILE))


def relying(lines: Iterable[Line]) -> list[Line]:
    """Return the best pairs of the classes that rely on their cue."""
    return [
        pair
        for line in lines
        if relies(line)
        for pair in line["pairs"]
        if pair["index"] in line["behaviour"]["classes"]
    ]


def unaware(lines: Iterable[Line]) -> list[Line]:
    """Return the best pairs of all classes of the networks that rely on no cue."""
    return [pair for line in lines if not relies(line) for pair in line["pairs"]]


def beyond(pairs: Lines, limit: float) -> Interval:
    """Return which share of the pairs is more concentrated than a limit."""
    return proportion(sum(concentration(pair) > limit for pair in pairs), len(pairs))


def text(lines: Lines, found: Lines, networks: Lines) -> str:
    """Return the page's tables."""
    every = joined(lines, found, networks)
    limit = threshold(every)
    seconds = np.median([line["seconds"] for line in lines])
    passes = np.median([line["passes"] / line["images"] for line in lines])
    facts = (
        f"{len(every)} networks, {sum(map(relies, every))} of which rely on their cue. Three channels of every class: "
        f"{seconds:.0f} seconds a network (median, one thread, a busy machine), {passes:.1f} forward passes over 100 "
        f"images of each class. 98 % of the classes of networks for choosing that rely on none stay below a "
        f"concentration of {limit:.1f}."
    )
    parts = {
        "Networks that rely on a cue, ROC-AUC (95 % intervals)": _networks(every),
        "Classes": _classes(every, limit),
    }
    return sections(parts, facts)


def _splits(every: Lines) -> list[tuple[str, list[Line]]]:
    return [
        ("choose", [line for line in every if chooses(line["number"])]),
        ("report", [line for line in every if not chooses(line["number"])]),
    ]


def _networks(every: Lines) -> str:
    rows = []
    for kind in ("tag", "stamp"):
        for split, lines in _splits(every):
            here = of_kind(lines, kind)
            counts = f"{sum(map(relies, here))} of {len(here)}"
            values = [_area(f(here)) for f in (area, search_area, ahead)]
            rows.append([kind, split, counts, *values])
    return markdown(["cue", "networks", "rely", "pasted and taken out", "the search", "ahead by"], rows)


def _classes(every: Lines, limit: float) -> str:
    rows = []
    for kind in ("tag", "stamp"):
        for split, lines in _splits(every):
            here = of_kind(lines, kind)
            pairs = relying(here)
            moved = [np.mean([pair[f"{name} beyond"] / pair["gap"] for pair in pairs]) for name in ("raised", "fell")]
            rows.append(
                [
                    f"{kind}, rely",
                    split,
                    len(pairs),
                    _percent(beyond(pairs, limit)),
                    *(f"{100 * value:.0f}" for value in moved),
                    f"{100 * np.mean([pair['area'] for pair in pairs]):.1f}",
                    f"{100 * np.mean([pair['is the cue'] for pair in pairs]):.0f}",
                    _percent(proportion(sum(_follows(pair) for pair in pairs), len(pairs))),
                    _area(class_area(here)),
                ]
            )
    for split, lines in _splits(every):
        pairs = unaware(lines)
        known = [pair for pair in pairs if pair["gap"] > 0 and pair["n"]]
        moved = [np.mean([pair[f"{name} beyond"] / pair["gap"] for pair in known]) for name in ("raised", "fell")]
        area_of = f"{100 * np.mean([pair['area'] for pair in known]):.1f}"
        alarms = _percent(beyond(pairs, limit))
        rows.append(
            [
                "of networks that rely on none",
                split,
                len(pairs),
                alarms,
                *(f"{100 * value:.0f}" for value in moved),
                area_of,
                "",
                "",
                "",
            ]
        )
    heads = [
        "classes",
        "networks",
        "n",
        "beyond the limit, %",
        "brought along, %",
        "lost without it, %",
        "patch, % of the image",
        "patch is the cue, % of images",
        "channel follows the cue, %",
        "ROC-AUC",
    ]
    return (
        "The most concentrated of a class's three channels. Brought along and lost: beyond the control, of what sets "
        "the class's images apart.\n\n" + markdown(heads, rows)
    )


def _follows(pair: dict[str, Any]) -> bool:
    return pair["follows"] is not None and pair["follows"] > _FOLLOWS


def _area(found: Interval) -> str:
    return "{:.2f} ({:.2f} to {:.2f})".format(*found)


def _percent(found: Interval) -> str:
    return "{:.0f} ({:.0f} to {:.0f})".format(*(100 * value for value in found))
