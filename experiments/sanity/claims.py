"""What E4 found, from its results.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.common.claims import Claim, verdict_of
from experiments.common.maps import PAPER
from experiments.localisation.table import CONTROLS

HERE = Path(__file__).parent
#: The same rule from the logit.
LOGIT = "logit guided resampled"

Network = dict[str, dict[str, Any]]


def networks(lines: list[dict[str, Any]]) -> dict[tuple[str, int], Network]:
    """Return for each (subject, seed) the lines by method, where both maps and the controls were measured."""
    found: dict[tuple[str, int], Network] = {}
    for line in lines:
        found.setdefault((line["subject"], line["seed"]), {})[line["method"]] = line
    return {key: every for key, every in found.items() if {PAPER, LOGIT, *CONTROLS} <= set(every)}


def by_subject(found: dict[tuple[str, int], Network], value: Callable[[Network], float]) -> str:
    """Return the mean of a value over the networks of each subject, in one line."""
    values: dict[str, list[float]] = {}
    for (subject, _), network in found.items():
        values.setdefault(subject, []).append(value(network))
    means = {subject: f"{sum(v) / len(v):.2f}".replace("-", "−") for subject, v in values.items()}
    return ", ".join(f"{subject} {mean}" for subject, mean in means.items())


def claims() -> list[Claim]:
    """Return E4's claims; each holds where every network shows it."""
    found = networks(json.loads((HERE / "results.json").read_text()))

    def insertion_over_controls(network: Network) -> float:
        return float(network[PAPER]["insertion"] - max(network[c]["insertion"] for c in CONTROLS))

    def class_rank(method: str) -> Callable[[Network], float]:
        return lambda network: float(network[method]["class_rank"])

    def insertion(method: str) -> Callable[[Network], float]:
        return lambda network: float(network[method]["insertion"])

    sensitive = [class_rank(PAPER)(n) < class_rank(LOGIT)(n) for n in found.values()]
    useful = [insertion_over_controls(n) > 0 for n in found.values()]
    return [
        Claim(
            "E4",
            "The method's maps depend more on the class than those from the logit under the same rule",
            f"rank correlation between classes: {by_subject(found, class_rank(PAPER))}; from the logit "
            f"{by_subject(found, class_rank(LOGIT))}; lower on {sum(sensitive)} of {len(sensitive)} networks",
            verdict_of(sensitive),
            "classes that share channels have equal maps",
        ),
        Claim(
            "E4",
            "What the method marks restores the class better than every control (random, edges, a blob in the middle)",
            f"insertion less the best control's: {by_subject(found, insertion_over_controls)}; above on {sum(useful)} "
            f"of {len(useful)} networks",
            verdict_of(useful),
            "little of a class comes back with the edges of the object, which is what they mark: insertion "
            f"{by_subject(found, insertion(PAPER))}; of edges alone {by_subject(found, insertion('edge'))}; of a blob "
            f"{by_subject(found, insertion('center'))}",
        ),
    ]
