"""Run campaigns one after the other, each with its results file."""

from __future__ import annotations

import os
import tempfile
import time
from importlib import import_module
from pathlib import Path

from experiments.common.runner import Results
from experiments.common.tables import Line
from experiments.reliability.campaign import Campaign, Draw
from experiments.reliability.table import faults, summary

RESULTS = Path(__file__).parent / "results"
#: In the order of the page; each is a module here with a ``CAMPAIGN``.
CAMPAIGNS = (
    "corruptions",
    "kills",
    "signals",
    "concurrency",
    "odd_inputs",
    "odd_commands",
    "hostile_files",
    "leaks",
    "determinism",
)


def campaign(name: str) -> Campaign:
    """Return a campaign by its name."""
    found: Campaign = import_module(f"experiments.reliability.{name}").CAMPAIGN
    return found


def run(names: list[str], n: dict[str, int] | int | None, seed: int, out: str, minutes: float | None = None) -> int:
    """Run the cases that ``out`` does not hold yet; return 1 where one of all those there is bad.

    ``n``: how many cases of each, or of each by name; by default those of the long run.
    """
    import torch

    # Forks have one thread only, so this process must not have more.
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    lines = []
    with tempfile.TemporaryDirectory(prefix="reliability-") as folder:
        for name in names:
            one = campaign(name)
            results = Results(Path(out) / f"{name}.json")
            count = one.long
            if isinstance(n, dict):
                count = n[name]
            elif n is not None:
                count = n
            wanted: list[Line] = [{"campaign": name, "seed": seed, "case": number} for number in range(count)]
            _go_on(one, results, wanted, Path(folder), minutes)
            lines += [line for line in results.lines if line["campaign"] == name]
    print(summary(lines))
    bad = faults(lines)
    for line in bad:
        print(f"{line['campaign']} {line['case']}: {line['verdict']}: {line['what']}: {line['detail']}")
    return int(bool(bad))


def _go_on(one: Campaign, results: Results, wanted: list[Line], folder: Path, minutes: float | None) -> None:
    if not results.todo(wanted):
        return
    limit = time.monotonic() + 60 * (minutes or 1e6)
    shared = one.prepare(folder.resolve())
    for line in results.missing(wanted):
        if time.monotonic() < limit:
            line.update(one.attempt(shared, Draw(line["campaign"], line["seed"], line["case"])))
