"""What E4 found, from its results.json."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from experiments.common.claims import Claim, counted, verdict_of
from experiments.common.maps import PAPER
from experiments.common.pages import committed
from experiments.common.tables import Line, grouped, number
from experiments.localisation.table import CONTROLS

LOGIT = "logit guided resampled"  # the same rule from the logit

Network = dict[str, Line]


def networks(lines: Iterable[Line]) -> dict[tuple[str, int], Network]:
    """Return for each (subject, seed) the lines by method, where both maps and the controls were measured."""
    found = {}
    for (subject, seed), part in grouped(lines, "subject", "seed").items():
        by_method = {line["method"]: line for line in part}
        if {PAPER, LOGIT, *CONTROLS} <= set(by_method):
            found[subject, seed] = by_method
    return found


def by_subject(found: dict[tuple[str, int], Network], value: Callable[[Network], float]) -> str:
    """Return the mean of a value over the networks of each subject, in one line."""
    values: dict[str, list[float]] = {}
    for (subject, _), network in found.items():
        values.setdefault(subject, []).append(value(network))
    return ", ".join(f"{subject} {number(sum(v) / len(v), '.2f')}" for subject, v in values.items())


def of(method: str, measure: str) -> Callable[[Network], float]:
    """Return the function that reads a method's measure off a network."""
    return lambda network: float(network[method][measure])


def insertion_over_controls(network: Network) -> float:
    """Return the method's insertion less the best control's."""
    return of(PAPER, "insertion")(network) - max(of(c, "insertion")(network) for c in CONTROLS)


def claims() -> list[Claim]:
    """Return E4's claims; each holds where every network shows it."""
    found = networks(committed(__file__))
    rank, from_logit = (of(method, "class_rank") for method in (PAPER, LOGIT))
    insertion = {method: by_subject(found, of(method, "insertion")) for method in (PAPER, "edge", "center")}
    sensitive = [rank(n) < from_logit(n) for n in found.values()]
    useful = [insertion_over_controls(n) > 0 for n in found.values()]
    return [
        Claim(
            "E4",
            "The method's maps depend more on the class than those from the logit under the same rule",
            counted(sensitive, "networks"),
            f"rank correlation between classes: {by_subject(found, rank)}; from the logit "
            f"{by_subject(found, from_logit)}; lower on {counted(sensitive, 'networks')}",
            verdict_of(sensitive),
            "classes that share channels have equal maps",
        ),
        Claim(
            "E4",
            "What the method marks restores the class better than every control (random, edges, a blob in the middle)",
            counted(useful, "networks"),
            f"insertion less the best control's: {by_subject(found, insertion_over_controls)}; above on "
            f"{counted(useful, 'networks')}",
            verdict_of(useful),
            "little of a class comes back with the edges of the object, which is what they mark",
            f"insertion {insertion[PAPER]}; of edges alone {insertion['edge']}; of a blob {insertion['center']}",
        ),
    ]
