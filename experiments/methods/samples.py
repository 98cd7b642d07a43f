"""Run every attribution method on the 500 ImageNet samples: none may fail.

    python -m experiments.methods.samples [--first 500] [--batch 10] [--state samples.jsonl]

Resumes from the state file, a line per method and batch; the result is experiments/methods/samples.json. Methods that
draw samples get few (see OPTIONS): it is about failures, not about smooth maps.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.common.runner import command
from experiments.common.tables import Line
from experiments.methods.subject import batch, squeezenet
from interpnet.attribution import Attribution, attribute_full, methods
from interpnet.support.allocator import keep_freed_memory
from interpnet.support.io import write_text

HERE = Path(__file__).parent


OPTIONS: dict[str, dict[str, Any]] = {
    "smoothgrad": {"samples": 2},
    "vargrad": {"samples": 2},
    "integrated_gradients": {"steps": 8},
    "expected_gradients": {"samples": 4},
    "occlusion": {"patch": 57, "stride": 57},
    "lime": {"samples": 12, "cells": 4},
    "kernel_shap": {"samples": 12, "cells": 4},
    "shapley_sampling": {"orders": 1, "cells": 3},
    "scorecam": {"channels": 8},
}


def measure(found: Attribution, seconds: float) -> Line:
    """Return what is kept of one method's maps of one batch."""
    maps = found.maps.flatten(1)
    return {
        "images": len(maps),
        "seconds": seconds,
        "finite": int(torch.isfinite(maps).all(1).sum()),
        "constant": int((maps.amax(1) == maps.amin(1)).sum()),
        "residual": _listed(found.residual),
        "flagged": sum(map(bool, _listed(found.flagged))),
    }


def _listed(values: Tensor | None) -> list[float]:
    return [] if values is None else [float(v) for v in values]


def summary(lines: list[Line]) -> Line:
    """Return the figures of one method over its batches."""
    residual = np.array([r for line in lines for r in line["residual"]])
    images = sum(line["images"] for line in lines)
    found = {k: sum(line[k] for line in lines) for k in ("finite", "constant", "flagged")}
    found.update(images=images, ms_per_image=round(1000 * sum(line["seconds"] for line in lines) / images, 1))
    if len(residual):
        found["residual"] = {
            "median": float(np.median(residual)),
            "95 %": float(np.quantile(residual, 0.95)),
            "largest": float(residual.max()),
        }
    return found


@command(
    first="how many of the samples",
    batch_="images at a time",
    state="a line per method and batch, from which a second run goes on",
)
def main(
    *, first: int = 500, batch_: int = 10, state: Path = Path("samples.jsonl"), out: Path = HERE / "samples.json"
) -> None:
    """Go on from the state file and write the result."""
    done: dict[tuple[str, int], Line] = {}
    if state.exists():
        for text in state.read_text().splitlines():
            entry = json.loads(text)
            done[entry["method"], entry["start"]] = entry
    keep_freed_memory()  # as the command line does: half of the time was the kernel's, clearing pages
    model = squeezenet()
    starts = range(0, first, batch_)
    with state.open("a") as log:
        for at in starts:
            todo = [m for m in methods() if (m.name, at) not in done]
            if not todo:
                continue
            images, target = batch(list(range(at, min(at + batch_, first))))
            for method in todo:
                began = time.perf_counter()
                found = attribute_full(model, images, target, method.name, **OPTIONS.get(method.name, {}))
                entry = {"method": method.name, "start": at, **measure(found, time.perf_counter() - began)}
                done[method.name, at] = entry
                log.write(json.dumps(entry) + "\n")
                log.flush()
            print(f"{at + len(images)} of {first} images", flush=True)
    result = {m.name: summary([done[m.name, at] for at in starts]) for m in methods()}
    write_text(out, json.dumps({"options": OPTIONS, "methods": result}, indent=1) + "\n")
    for name, row in result.items():
        print(name, row)
