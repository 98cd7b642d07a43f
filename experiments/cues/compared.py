"""S6: what the literature suspects of each of the 400 networks, and how well that tells those that rely on a cue.

    python -m experiments.cues.compared [--work FOLDER] [--only 0-59]

Resumes from rivals.json, a line per network. Every statistic is computed from the training images and from the
validation images; which of the two is chosen on the networks for choosing, and the others report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.common.pages import committed, fill
from experiments.common.runner import Results, command, rounded
from experiments.common.tables import Interval, Line, markdown, proportion
from experiments.cues.plan import chooses, split_of
from experiments.cues.rivals import STATISTICS, suspicions
from experiments.cues.train import WORK, chosen, network
from experiments.shortcuts.table import auc
from interpnet.support.types import Float64

HERE = Path(__file__).parent
COMMAND = "experiments.cues.compared"
SPLITS = ("train", "validation")
FALSE_ALARMS = 0.05  # of the classes without a cue, at the threshold


class Case(NamedTuple):
    """A network with a number for each of its classes, and which of them rely on a cue."""

    number: int
    relies: bool  # the network
    classes: tuple[int, ...]  # that rely
    found: Float64  # (C,)


class Told(NamedTuple):
    """How well a statistic tells networks and classes that rely on a cue, on the networks that report."""

    chosen: float  # ROC-AUC of the networks for choosing
    networks: Interval  # ROC-AUC
    classes: Interval  # ROC-AUC, whose interval draws networks
    false: Interval  # classes without a cue above the threshold
    power: Interval  # classes that rely above it


def told(cases: Sequence[Case]) -> Told:
    """Return how well numbers of classes tell; a network's number is its largest.

    The threshold is the one that 5 % of the classes that do not rely exceed, on the networks for choosing.
    """
    first = _for_choosing(cases)
    rest = [case for case in cases if not chooses(case.number)]
    quiet, _ = _classes(first)
    threshold = np.quantile(quiet, 1 - FALSE_ALARMS)
    negative, positive = _classes(rest)
    values = np.concatenate([case.found for case in rest])
    truth = [c in case.classes for case in rest for c in range(len(case.found))]
    units = [case.number for case in rest for _ in case.found]
    return Told(
        _networks(first).mean,
        _networks(rest),
        auc(truth, values.tolist(), units),
        proportion(int((negative > threshold).sum()), len(negative)),
        proportion(int((positive > threshold).sum()), len(positive)),
    )


def _networks(cases: Sequence[Case]) -> Interval:
    return auc([case.relies for case in cases], [float(case.found.max()) for case in cases])


def _classes(cases: Sequence[Case]) -> tuple[Float64, Float64]:
    """Return the numbers of the classes that do not rely on a cue, and of those that do."""
    rely = np.concatenate([np.isin(np.arange(len(case.found)), case.classes) for case in cases])
    values = np.concatenate([case.found for case in cases])
    return values[~rely], values[rely]


def cases_of(lines: Sequence[Line], networks: Sequence[Line], found: Callable[[Line], Sequence[float]]) -> list[Case]:
    """Return the cases of lines with a ``number``, with the truth of ``networks.json``."""
    known = {line["number"]: line["behaviour"] for line in networks}
    return [
        Case(x["number"], known[x["number"]]["relies"], tuple(known[x["number"]]["classes"]), np.array(found(x)))
        for x in lines
    ]


def better_split(lines: Sequence[Line], networks: Sequence[Line], name: str) -> str:
    """Return the images from which a statistic does better on the networks for choosing."""
    every = {split: _networks(_for_choosing(_cases(lines, networks, name, split))).mean for split in SPLITS}
    return max(SPLITS, key=lambda split: every[split])


def best(lines: Sequence[Line], networks: Sequence[Line], name: str) -> tuple[str, Told]:
    """Return the images from which a statistic does better on the networks for choosing, and how well it tells."""
    split = better_split(lines, networks, name)
    return split, told(_cases(lines, networks, name, split))


def _cases(lines: Sequence[Line], networks: Sequence[Line], name: str, split: str) -> list[Case]:
    """Return the cases of a statistic from a split's images."""
    return cases_of(lines, networks, lambda line: line[split][name])


def _for_choosing(cases: Sequence[Case]) -> list[Case]:
    """Return the networks on which what is chosen is chosen."""
    return [case for case in cases if chooses(case.number)]


def text(lines: Sequence[Line], networks: Sequence[Line]) -> str:
    """Return the page's table, the best statistic first."""
    rows = sorted(((name, *best(lines, networks, name)) for name in STATISTICS), key=lambda row: -row[2].networks.mean)
    table = [
        [name, split, f"{one.chosen:.2f}", *(_area(v) for v in (one.networks, one.classes)), *map(_share, one[3:])]
        for name, split, one in rows
    ]
    head = ["statistic", "images", "networks for choosing", "**networks**", "classes", "false alarms, %", "found, %"]
    return (
        "ROC-AUC of networks and classes that rely on a cue; *false alarms* and *found*: classes that do not rely and "
        f"that do, above the threshold that {100 * FALSE_ALARMS:.0f} % of the former exceed on the networks for "
        f"choosing. {len(lines)} networks, of which {sum(not chooses(x['number']) for x in lines)} report.\n\n"
        + markdown(head, table)
    )


def _area(value: Interval) -> str:
    return "{:.2f} ({:.2f} to {:.2f})".format(*value)


def _share(value: Interval) -> str:
    return "{:.0f} ({:.0f} to {:.0f})".format(*(100 * v for v in value))


@command(
    out="where the results are kept", page="which is filled", only="the numbers of the networks, such as 0-59 or 3,7,9"
)
def main(
    *, work: Path = WORK, out: Path = HERE / "rivals.json", page: Path = HERE / "README.md", only: str = "0-399"
) -> None:
    """Compute what is missing, and write the page's table from all that is there."""
    by_number = {subject.number: subject for subject in chosen(only)}
    results = Results(out)
    for line in results.missing({"number": number} for number in by_number):
        subject = by_number[line["number"]]
        model = network(subject, work)
        for split in SPLITS:
            images, labels, _ = split_of(subject, split, work)
            found = suspicions(model, images, labels, seed=subject.seed)
            line[split] = rounded({name: values.tolist() for name, values in found.items()})
    results.lines.sort(key=lambda line: int(line["number"]))
    results.write()
    fill(page, COMMAND, text(results.lines, committed(__file__, "networks.json")))
