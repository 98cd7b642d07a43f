"""Everything that runs on a GPU, tested and measured on one machine, in at most eight minutes.

    python -m experiments.benchmarks.gpu [--minutes 8] [--parts tests networks norms solver] [--out gpu.json]

``tests``: the CUDA tests of every room. ``networks``: scores, contributions and explanations in forward-equivalents of
the bare network, by precision and memory layout, with the peak of the device's memory; the ablation study in passes
over its images. ``norms``: the kernel that makes a score of a map, beside the same in torch.compile and a plain copy.
``solver``: 1,000 classes on the device, on this machine's processors, and SPAMS there.

Rows are printed and kept as they come; what the time does not allow is listed as left out. ``--device cpu --small``
tries the script itself where there is no GPU: its figures mean nothing.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import torch

from experiments.benchmarks import gpu_networks, gpu_norms, gpu_solver
from experiments.common import tables
from experiments.common.runner import command
from interpnet.support.io import write_json

#: A row to measure: its name and how.
Todo = tuple[str, Callable[[], dict[str, Any]]]
_ROOT = Path(__file__).parents[2]


def cuda_tests(seconds: float) -> dict[str, Any]:
    """Run the tests whose name has ``cuda``; return how many of each room passed, failed and were skipped."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "tests.xml"
        words = ["-q", "-k", "cuda", "-n", "4", "-p", "no:cacheprovider", "--junitxml", str(report), "tests"]
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pytest", *words],
                cwd=_ROOT,
                timeout=seconds,
                capture_output=True,
                text=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"left out": f"not done in {seconds:.0f} s"}
        if not report.is_file():
            return {"error": done.stdout[-2000:] + done.stderr[-2000:]}
        return outcomes(report)


def outcomes(report: Path) -> dict[str, Any]:
    """Return the outcomes of each room in a JUnit report, and the names of the tests that failed."""
    rooms: dict[str, Counter[str]] = {}
    failed = []
    # The file is pytest's of just now.
    for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314
        where = case.get("classname", "")
        room = [*where.split("."), ""][1]
        found = {child.tag for child in case} & {"failure", "error", "skipped"}
        outcome = (sorted(found) or ["passed"])[0]
        rooms.setdefault(room, Counter())[outcome] += 1
        if outcome in {"failure", "error"}:
            failed.append(f"{where}::{case.get('name')}")
    return {"rooms": {room: dict(counts) for room, counts in sorted(rooms.items())}, "failed": failed}


def machine(device: torch.device) -> dict[str, Any]:
    """Return what the figures depend on."""
    about: dict[str, Any] = {"device": str(device), "torch": torch.__version__, "cores": os.cpu_count()}
    about["processor"] = platform.processor() or platform.machine()
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        about["card"] = properties.name
        about["card_gib"] = round(properties.total_memory / 2**30, 1)
        about["cuda"] = torch.version.cuda
    return about


def measured(todo: Iterator[Todo], deadline: float) -> Iterator[dict[str, Any]]:
    """Yield a row for each thing to measure: its figures, why there are none, or that the time is over."""
    for name, work in todo:
        if time.monotonic() > deadline:
            yield {"name": name, "left out": "the time is over"}
            continue
        try:
            yield {"name": name, **work()}
        except torch.OutOfMemoryError as error:
            yield {"name": name, "left out": f"out of memory: {str(error).splitlines()[0]}"}
        except ImportError as error:
            yield {"name": name, "left out": str(error)}
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


PARTS: dict[str, Callable[[torch.device, bool], Iterator[Todo]]] = {
    "networks": gpu_networks.rows,
    "norms": gpu_norms.rows,
    "solver": gpu_solver.rows,
}
#: Which share of the time each part may take; what one leaves is the next ones'.
_SHARES = {"tests": 0.3, "networks": 0.4, "norms": 0.05, "solver": 0.25}


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows as a Markdown table; a row without figures says why."""
    columns = list(dict.fromkeys(name for row in rows for name in row if name != "left out"))
    lines = []
    for row in rows:
        values = [_shown(row.get(column, "")) for column in columns]
        if "left out" in row:
            values[-1] = row["left out"]
        lines.append(values)
    return tables.markdown(columns, lines)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value)


def _keep(out: Path | None, found: dict[str, Any]) -> None:
    if out is not None:
        write_json(out, found)


@command(
    minutes="for everything together",
    parts=("tests", *PARTS),
    device="what to run on",
    small="tiny networks and problems, to try the script",
)
def main(
    *,
    minutes: float = 8.0,
    parts: tuple[str, ...] = ("tests", *PARTS),
    device: str = "cuda",
    small: bool = False,
    out: Path | None = None,
) -> None:
    """Run the parts, print tables, and write JSON after each row."""
    on = torch.device(device)
    if on.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("this machine has no CUDA device; --device cpu --small tries the script without one")
    found: dict[str, Any] = {"machine": machine(on)}
    print(found["machine"], flush=True)
    start = time.monotonic()
    share = 0.0
    for part in parts:
        share += _SHARES[part] / sum(_SHARES[name] for name in parts)
        deadline = start + share * minutes * 60
        if part == "tests":
            found[part] = cuda_tests(deadline - time.monotonic())
            print(found[part], flush=True)
        else:
            found[part] = []
            for row in measured(PARTS[part](on, small), deadline):
                found[part].append(row)
                print(row, flush=True)
                _keep(out, found)
        _keep(out, found)
    for part in PARTS:
        if found.get(part):
            print(f"\n{part}\n\n{table(found[part])}")
    print(f"\n{time.monotonic() - start:.0f} s")
