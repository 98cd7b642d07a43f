"""The solver against what people use: same problem, one process, same threads, repeats alternated.

    python -m experiments.benchmarks.solver [--problems resnet20,resnet56,4096,8192] [--threads 2] [--out solver.json]

For every problem, sign rule and radius: seconds (median), the ratio to ours, the sum of the classes' objectives above
ours (relative to that at w = 0), the worst relative duality gap (recomputed here from G, B and w), and channels
per class. Peers that are too slow on a problem are left out there by name, not silently. SPAMS from X runs once.

Needs the peers `spams-bin`, `spgl1` and `scm2cpp-learn` and, for ResNet-56, the shared data (its images are scored
first, in a minute).
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import logging
import os
import platform
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.benchmarks.measuring import printed, seconds
from experiments.benchmarks.solver_peers import PEERS, Solver, certificate, multipliers, ours
from experiments.benchmarks.solver_problems import Problem, generated, resnet20, resnet56
from experiments.common import tables
from experiments.common.runner import command
from interpnet.gram import Gram
from interpnet.mulasso import mulasso_path
from interpnet.support.io import read_json, write_json
from interpnet.support.types import Float64

MUS = (5.0, 10.0, 50.0, 200.0)  # radii (docs/method.md, section 2)
FROM_X = ("SPAMS, X", "ours, X")  # once, at mu = 50: the former takes most of a minute
PROBLEMS: dict[str, Callable[[], Problem]] = {
    "resnet20": resnet20,
    "resnet56": resnet56,
    "4096": lambda: generated(4096, 200),
    "8192": lambda: generated(8192, 1000),
}


def parts(problem: Problem) -> list[tuple[Problem, tuple[float, ...]]]:
    """Return what is measured at which radii: of 1,000 classes, 50 at the largest radius (SPAMS takes half an hour)."""
    gram = problem.gram
    if gram.n_classes < 1000:
        return [(problem, MUS)]
    few = Gram(gram.G, np.ascontiguousarray(gram.B[:, :50]), gram.yy[:50].copy(), gram.n)
    return [(problem, MUS[:3]), (Problem(f"{gram.m:,} x 50 of {gram.n_classes:,}", few), MUS[3:])]


def measure(
    problem: Problem, threads: int, repeats: int, names: list[str], mus: tuple[float, ...]
) -> Iterator[dict[str, Any]]:
    """Time ours and the peers in turn on one problem."""
    solve = ours(problem, threads)
    solvers = {name: made for name in names if (made := PEERS[name](problem, threads)) is not None}
    at_zero = float(problem.gram.yy.sum() / 2)
    # Peers that took long at a radius are not asked for larger ones, SPAMS excepted.
    slow: dict[bool, set[str]] = {False: set(), True: set()}
    for positive, mu in itertools.product((False, True), mus):
        times: dict[str, list[tuple[float, float]]] = {"ours": []}
        coefs = {"ours": solve(mu, positive)}
        multipliers(problem.gram, mu, positive=positive)
        for name, peer in solvers.items():
            # SPGL1 has signed weights only, and at 50 ends at 20,000 iterations and half a minute without a result.
            if (name == "SPGL1" and (positive or mu > 10)) or (name in FROM_X and (mu != 50.0 or positive)):
                continue
            if (name == "scm2cpp-learn, told" and positive) or name in slow[positive]:
                continue
            times[name] = []
            rounds = 1 if name in FROM_X else repeats
            for _ in range(rounds):
                times["ours"].append(_seconds(solve, mu, positive)[0])
                took, coefs[name] = _seconds(peer, mu, positive)
                times[name].append(took)
                if took[0] > 10:  # once is enough for what is that slow
                    slow[positive] |= {name} - {"SPAMS, Gram"}
                    break
        certified = {name: certificate(problem.gram, w, mu, positive=positive) for name, w in coefs.items()}
        for name, seconds_of in times.items():
            value, gap = certified[name]
            median, processor = (statistics.median(column) for column in zip(*seconds_of, strict=True))
            own, own_processor = (statistics.median(column) for column in zip(*times["ours"], strict=True))
            yield {
                "problem": problem.name,
                "m": problem.gram.m,
                "classes": problem.gram.n_classes,
                "mu": mu,
                "positive": positive,
                "solver": name,
                "seconds": median,
                "ratio": median / own,
                "processor_ratio": processor / own_processor,
                "excess": (value - certified["ours"][0]) / at_zero,
                "gap": gap,
                "channels": float((coefs[name] != 0).sum(1).mean()),
            }


def _seconds(solver: Solver, mu: float, positive: bool) -> tuple[tuple[float, float], Float64]:
    """Return the seconds, by the clock and of all processors together, and the weights."""
    # Peers that stop short say so, some at length; the gap says it too.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        coefs: list[Float64] = []
        took = seconds(lambda: coefs.append(solver(mu, positive)))
        return took, coefs[0]


def path_cost(problem: Problem, threads: int, repeats: int) -> dict[str, Any]:
    """Time the whole path up to mu = 200 (20 radii) against the single solution there."""
    mus = np.geomspace(5.0, 200.0, 20)
    solve = ours(problem, threads)
    found = []
    for _ in range(repeats):
        paths = [partial(mulasso_path, problem.gram, radii, tol=1e-9, n_jobs=threads) for radii in (MUS, mus)]
        found.append([_seconds(solve, 200.0, False)[0][0], *(seconds(path)[0] for path in paths)])
    single, four, twenty = (statistics.median(column) for column in zip(*found, strict=True))
    row = {"problem": problem.name, "single": single, "four": four, "twenty": twenty}
    return {**row, "four_over_single": four / single, "twenty_over_single": twenty / single}


_MEMORY = """
from pathlib import Path
import numpy as np
from experiments.benchmarks.measuring import kibibytes
from interpnet.mulasso import mulasso_path
from interpnet.gram import Gram
mulasso_path(Gram.from_scores(np.eye(3), [0, 1, 2]), [1.0])  # loads what the solver needs
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
before = kibibytes("VmRSS")
gram = Gram.load({path!r})
mulasso_path(gram, [200.0], tol=1e-9, n_jobs={threads})
print((kibibytes("VmHWM") - before) * 1024)
"""


def peak_memory(gram: Gram, threads: int) -> dict[str, float]:
    """Return the peak of a process that reads the Gram matrix and solves at mu = 200 (Linux), above the libraries."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gram.npz"
        gram.save(path)
        peak = printed(_MEMORY.format(path=str(path), threads=threads))
    return {"peak_mib": peak / 2**20, "peak_over_gram": peak / gram.G.nbytes}


def markdown(rows: list[dict[str, Any]], ratio: str = "ratio") -> str:
    """Return the results as a table: one line per problem, rule and radius; the peers' seconds as multiples of ours."""
    peers = [name for name in dict.fromkeys(row["solver"] for row in rows) if name != "ours"]
    lines = []
    for (problem, positive, mu), part in tables.grouped(rows, "problem", "positive", "mu").items():
        found = {row["solver"]: row for row in part}
        own = found["ours"]
        figures = [f"{own['channels']:.1f}", f"{own['seconds']:.4f}", f"{own['gap']:.0e}"]
        # A peer that is off by more than a millionth of the objective has not solved the problem.
        times = {name: f"{row[ratio]:.3g}{' (off)' * (abs(row['gap']) > 1e-6)}" for name, row in found.items()}
        lines.append([problem, ("±", "≥ 0")[positive], f"{mu:g}", *figures, *(times.get(name, "") for name in peers)])
    return tables.markdown(["problem", "w", "mu", "channels", "ours, s", "gap", *peers], lines)


@command(
    problems="comma-separated",
    threads="of every solver",
    peers="separated by semicolons; by default all below m = 1,000, beyond that SPAMS and coordinate descent",
    table="print saved results as a Markdown table, and stop",
    processor="the table by processor time",
)
def main(
    *,
    problems: str = "resnet20,resnet56,4096,8192",
    threads: int = 2,
    repeats: int = 5,
    peers: str = "",
    out: Path | None = None,
    table: tuple[Path, ...] = (),
    processor: bool = False,
) -> None:
    """Run and print the table."""
    if table:
        saved = [read_json(path) for path in table]
        ratio = ("ratio", "processor_ratio")[processor]
        print(markdown([row for results in saved for row in results["rows"]], ratio))
        return
    logging.disable(logging.WARNING)
    torch.set_num_threads(threads)
    about = {"machine": platform.machine(), "cores": os.cpu_count(), "threads": threads}
    about |= {"torch": torch.__version__, "numpy": np.__version__, "repeats": repeats}
    found: dict[str, list[dict[str, Any]]] = {"rows": [], "paths": [], "memory": []}
    for key in problems.split(","):
        problem = PROBLEMS[key]()
        names = peers.split(";") if peers else list(PEERS)[: 8 if problem.gram.m < 1000 else 6]
        found["memory"].append({"problem": problem.name, **peak_memory(problem.gram, threads)})
        rounds = repeats if problem.gram.m < 8000 else min(repeats, 3)
        for part, mus in parts(problem):
            for row in measure(part, threads, rounds, names, mus):
                found["rows"].append(row)
                print(json.dumps(row), flush=True)
        found["paths"].append(path_cost(parts(problem)[-1][0], threads, rounds))
        print(json.dumps(found["paths"][-1]), json.dumps(found["memory"][-1]), flush=True)
        if out is not None:
            write_json(out, {**about, **found})
    print(markdown(found["rows"]))
