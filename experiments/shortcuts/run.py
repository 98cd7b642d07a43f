"""S1: train networks with and without planted cues, audit each, and see which are found and repaired.

    python -m experiments.shortcuts.run [--set evaluation|development] [--quick]

A network at a time: trained (or read from the working folder), tried where its cue agrees and disagrees, audited,
repaired (those of the evaluation); its line is written to SET.json, and what is there is not done again. --quick takes
two networks and few images.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from experiments.common.pages import commit, measured_before
from experiments.shortcuts.audit import audited, channel_rows, cue_share, network_statistics
from experiments.shortcuts.networks import EPOCHS, behaviour, network
from experiments.shortcuts.plan import SETS, Subject, subjects
from experiments.shortcuts.repair import repairs
from experiments.shortcuts.table import write_readme
from interpnet.support.allocator import keep_freed_memory
from interpnet.support.io import write_text

HERE = Path(__file__).parent


def examined(
    subject: Subject, work: Path, *, repair: bool = True, n: int | None = None, epochs: int = EPOCHS
) -> dict[str, Any]:
    """Return one network's line: behaviour, statistics, channels, and for planted networks the repairs."""
    began = time.perf_counter()
    model = network(subject, work, epochs=epochs, n=n)
    trained = time.perf_counter()
    a = audited(model, subject, work, n=n)
    line = {
        **vars(subject),
        "behaviour": behaviour(model, subject, work, n=n),
        "statistics": network_statistics(a),
        "channels": channel_rows(a, cue_share(a, work, n=n)),
        "repairs": repairs(a, work, n=n) if repair and subject.kind is not None else {},
        "commit": commit(),
        "seconds_training": trained - began,
        "seconds": time.perf_counter() - began,
    }
    rounded: dict[str, Any] = _rounded(line)
    return rounded


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return round(value, 4) if isinstance(value, float) else value


def main(arguments: list[str] | None = None) -> None:
    """Examine what is missing, and write the set's JSON, the README's tables and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="evaluation", choices=list(SETS))
    parser.add_argument("--work", type=Path, default=Path("runs/shortcuts"), help="weights and images")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the results")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    keep_freed_memory()  # thousands of passes of the same sizes
    options.work.mkdir(parents=True, exist_ok=True)
    file = options.out / f"{options.set}.json"
    lines = measured_before(file)
    done = {line["number"] for line in lines}
    every = subjects(options.set)
    words: dict[str, Any] = {"repair": options.set == "evaluation"}
    if options.quick:
        every, words = [every[4], every[-1]], {**words, "n": 60, "epochs": 2}
    for subject in every:
        if subject.number in done:
            continue
        lines.append(examined(subject, options.work, **words))
        text = ",\n".join(json.dumps(line) for line in sorted(lines, key=lambda x: int(x["number"])))
        write_text(file, f"[\n{text}\n]\n")
        print(subject, lines[-1]["behaviour"], f"{lines[-1]['seconds']:.0f} s", flush=True)
    if not options.quick:
        write_readme(HERE)


if __name__ == "__main__":
    main()
