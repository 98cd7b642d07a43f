"""The ablation study against plain passes over its images, and against that of another installation.

    python -m experiments.benchmarks.ablation_study --other OLD/.venv/bin/python --work DIR [--out results.json]

Every study is a process of its own: it times plain passes as the study runs them (channels_last, on copies of the
images), the study, and plain passes again. A pass-equivalent is the study's processor time over that of a pass.
The two installations take turns and study the same channels, which the mu-lasso names. Compared are the recalls of what
is not drawn, which must be equal, their log-odds, and the widths of intervals. Those of random controls vary with the
draws by themselves, so they are root mean squares over several seeds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.benchmarks.measuring import kibibytes, seconds
from experiments.common.imagenet import photographs
from experiments.common.runner import command
from experiments.common.subjects import KINDS, Subject, batches
from interpnet.ablation import AblationResult, Condition, ablation_study, as_result
from interpnet.engine import evaluating, forward_logits, placed
from interpnet.interpretation import interpret
from interpnet.scores import collect_scores
from interpnet.support.allocator import keep_freed_memory
from interpnet.support.io import write_json

#: Kinds of networks of the experiments (experiments/common/subjects.py), and EfficientNet-Lite0 on few photographs.
NETWORKS = ("single-6c", "cifar10", "efficientnet")
_PHOTOGRAPHS = (slice(0, 4), 20, 8)  # classes, and photographs of each to name channels and to measure
#: Seeds for the widths of random controls.
_SEEDS = {"single-6c": 4, "cifar10": 4, "efficientnet": 1}
_PLAIN = 3  # passes before the study, and as many after it


def one(network: str, work: Path, out: Path) -> None:
    """Study a network; write its times, its memory and the result to ``out``."""
    keep_freed_memory()
    subject = subject_of(network, work)
    table = collect_scores(subject.model, batches(subject.train, subject.train_labels), progress=False)
    found = interpret(table, classes=subject.classes, mu=subject.mu)
    tested = batches(subject.test, subject.test_labels)
    before = kibibytes("VmHWM")
    times = [plain(subject.model, tested) for _ in range(1 + _PLAIN)][1:]
    done: list[AblationResult] = []
    clock, processor = seconds(
        lambda: done.append(ablation_study(subject.model, tested, found, table=table, device="cpu", progress=False))
    )
    times += [plain(subject.model, tested) for _ in range(_PLAIN)]
    record = {"clock_s": clock, "processor_s": processor, "pass_s": statistics.median(times)}
    record["more_memory_mib"] = (kibibytes("VmHWM") - before) / 1024
    drawn_by_seed = []
    for seed in range(_SEEDS[network]):
        only: dict[str, Any] = {"controls": ("random", "random-per-layer"), "curve": False, "single": False}
        study = ablation_study(subject.model, tested, found, seed=seed, device="cpu", progress=False, **only)
        drawn_by_seed.append(widths(c for c in study.conditions if drawn(c)))
    write_json(out, record | {"images": len(subject.test), "result": done[0].to_json(), "widths": drawn_by_seed})


def subject_of(network: str, work: Path) -> Subject:
    """Return one of ``NETWORKS`` with its images."""
    if network != "efficientnet":
        return KINDS[network].load(0, work, "cpu")
    asked = photographs("efficientnet", *_PHOTOGRAPHS)
    return Subject(network, 0, asked.model, asked.classes, *asked.train, *asked.test, 10.0)


def plain(model: torch.nn.Module, tested: list[Any]) -> float:
    """Return the processor time of one pass over the images."""

    def run() -> None:
        with placed(model, torch.device("cpu"), "auto") as put, evaluating(model), torch.inference_mode():
            for images, _ in tested:
                forward_logits(model, images, None, put)

    return seconds(run)[1]


def in_a_process(python: str, network: str, work: Path) -> dict[str, Any]:
    """Return what :func:`one` writes, run by the installation of ``python``, whose checkout it is in."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "one.json"
        checkout = Path(python).absolute().parents[2]
        code = (
            "import importlib.util, sys; from pathlib import Path; "
            f"spec = importlib.util.spec_from_file_location('ablation_study', {str(Path(__file__).resolve())!r}); "
            "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module); "
            f"module.one({network!r}, Path({str(work.resolve())!r}), Path({str(out)!r}))"
        )
        environment = os.environ | {"PYTHONPATH": str(checkout)}
        subprocess.run([python, "-W", "ignore", "-c", code], check=True, cwd=folder, env=environment)
        record: dict[str, Any] = json.loads(out.read_text())
        return record


def drawn(condition: Condition) -> bool:
    """Whether a condition removes random channels."""
    return condition.name.startswith("random")


def widths(conditions: Iterable[Condition]) -> dict[str, float]:
    """Return the width of every interval, by condition, measure and change."""
    found = {}
    for condition in conditions:
        for measure, changes in condition.changes.items():
            for name, effect in vars(changes).items():
                if effect is not None:
                    low, high = effect.interval()
                    found[f"{condition.name} {condition.layers} {measure} {name}"] = high - low
    return found


def root_mean_square(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return it of each of several widths over the seeds."""
    return {name: float(np.sqrt(np.mean([row[name] ** 2 for row in rows]))) for name in rows[0]}


def compared(one_side: dict[str, Any], other_side: dict[str, Any]) -> dict[str, Any]:
    """Return how two studies of the same channels agree."""
    this = as_result(one_side["result"])
    other = as_result(other_side["result"])
    pairs = [(a, b) for a, b in zip(this.conditions, other.conditions, strict=True) if not drawn(a)]
    recalls = [getattr(a, part) for a, _ in pairs for part in ("own", "others")]
    others = [getattr(b, part) for _, b in pairs for part in ("own", "others")]
    odds = [np.abs(a.changes["log_odds"].own.mean - b.changes["log_odds"].own.mean) for a, b in pairs]
    mine = widths(a for a, _ in pairs)
    named = [mine[name] / width for name, width in widths(b for _, b in pairs).items() if width > 0]
    mine = root_mean_square(one_side["widths"])
    ratios = {name: mine[name] / width for name, width in root_mean_square(other_side["widths"]).items() if width > 0}
    random = list(ratios.values())
    return {
        "recalls equal": all(np.array_equal(a, b, equal_nan=True) for a, b in zip(recalls, others, strict=True)),
        "largest difference of log-odds": float(np.nanmax(odds)),
        "widths of what is not drawn, this/other": [min(named), max(named)],
        "widths of random controls, this/other": [statistics.median(random), min(random), max(random)],
        "by change": ratios,
    }


@command(networks=NETWORKS, other="the Python of the other installation, in .venv/bin of its checkout")
def main(
    *,
    other: str,
    work: Path,
    repeats: int = 1,
    networks: tuple[str, ...] = NETWORKS,
    out: Path | None = None,
) -> None:
    """Study every network by both installations in turn, print the figures, and write JSON if asked to."""
    rows = []
    for network in networks:
        records: dict[str, list[dict[str, Any]]] = {"this": [], "other": []}
        for _ in range(repeats):
            for side, python in (("other", other), ("this", sys.executable)):
                records[side].append(in_a_process(python, network, work))
        row: dict[str, Any] = {"network": network, "images": records["this"][0]["images"]}
        for side, found in records.items():
            row[side] = {
                "passes": statistics.median(r["processor_s"] / r["pass_s"] for r in found),
                **{key: statistics.median(r[key] for r in found) for key in found[0] if key.endswith(("_s", "_mib"))},
            }
        row |= compared(records["this"][0], records["other"][0])
        row["why_whole"] = records["this"][0]["result"]["why_whole"]
        print(json.dumps({key: value for key, value in row.items() if key != "by change"}), flush=True)
        rows.append(row)
    if out:
        write_json(out, {"torch": torch.__version__, "threads": torch.get_num_threads(), "rows": rows})
