"""S1: train networks with and without planted cues, audit each, and see which are found and repaired.

    python -m experiments.shortcuts.run [--set evaluation|development] [--quick]

Resumes from SET.json, a line per network: trained, tried where its cue agrees and disagrees, audited, and repaired
(those of the evaluation). --quick takes two networks and few images.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from experiments.common.runner import Results, command, rounded
from experiments.common.tables import Line
from experiments.shortcuts.audit import audited, channel_rows, cue_share, network_statistics
from experiments.shortcuts.plan import EPOCHS, SETS, Subject, behaviour, network, subjects
from experiments.shortcuts.repair import repairs
from experiments.shortcuts.table import write_readme

HERE = Path(__file__).parent


def examined(subject: Subject, work: Path, *, repair: bool = True, n: int | None = None, epochs: int = EPOCHS) -> Line:
    """Return what is found of one network: behaviour, statistics, channels, and for planted networks the repairs."""
    began = time.perf_counter()
    model = network(subject, work, epochs=epochs, n=n)
    training = time.perf_counter() - began
    a = audited(model, subject, work, n=n)
    line = {
        **vars(subject),
        "behaviour": behaviour(model, subject, work, n=n),
        "statistics": network_statistics(a),
        "channels": channel_rows(a, cue_share(a, work, n=n)),
        "repairs": {},
        "seconds_training": training,
    }
    if repair and subject.kind is not None:
        line["repairs"] = repairs(a, work, n=n)
    made: Line = rounded(line)
    return made


@command(set_=SETS, out="folder of the results")
def main(
    *, set_: str = "evaluation", work: Path = Path("runs/shortcuts"), out: Path = HERE, quick: bool = False
) -> None:
    """Examine what is missing, and write the set's JSON, the README's tables and the figure."""
    every = subjects(set_)
    words: dict[str, Any] = {"repair": set_ == "evaluation"}
    if quick:
        every = [every[4], every[-1]]
        words |= {"n": 36, "epochs": 1}
    by_number = {subject.number: subject for subject in every}
    results = Results(out / f"{set_}.json")
    for line in results.missing({"number": number} for number in by_number):
        line |= examined(by_number[line["number"]], work, **words)
    if not quick:
        write_readme(HERE)
