"""Run every attribution method on the 500 ImageNet samples: none may fail.

    python -m experiments.methods.samples [--first 500] [--batch 10] [--state samples-state.json]

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

from experiments.attribution_table.networks import QUICK
from experiments.common.imagenet import squeezenet
from experiments.common.runner import Results, command
from experiments.common.tables import Line
from experiments.methods.subject import batch
from interpnet.attribution import Attribution, attribute_full, methods
from interpnet.support.allocator import keep_freed_memory
from interpnet.support.io import write_text

HERE = Path(__file__).parent
OPTIONS: dict[str, dict[str, Any]] = {
    **QUICK,
    "smoothgrad": {"samples": 2},
    "vargrad": {"samples": 2},
    "occlusion": {"patch": 57, "stride": 57},
    "lime": {"samples": 12, "cells": 4},
    "kernel_shap": {"samples": 12, "cells": 4},
}


def measure(found: Attribution, seconds: float) -> Line:
    """Return what is kept of one method's maps of one batch."""
    maps = found.maps.flatten(1)
    residual, flagged = ([] if values is None else values.tolist() for values in (found.residual, found.flagged))
    return {
        "images": len(maps),
        "seconds": seconds,
        "finite": int(torch.isfinite(maps).all(1).sum()),
        "constant": int((maps.amax(1) == maps.amin(1)).sum()),
        "residual": residual,
        "flagged": sum(flagged),
    }


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
    *, first: int = 500, batch_: int = 10, state: Path = Path("samples-state.json"), out: Path = HERE / "samples.json"
) -> None:
    """Go on from the state file and write the result."""
    results = Results(state)
    keep_freed_memory()  # as the command line does: half of the time was the kernel's, clearing pages
    model = squeezenet()
    names = [m.name for m in methods()]
    starts = range(0, first, batch_)
    for at in starts:
        todo = results.todo({"method": name, "start": at} for name in names)
        if not todo:
            continue
        images, target = batch(list(range(at, min(at + batch_, first))))
        for line in results.missing(todo):
            method = line["method"]
            began = time.perf_counter()
            found = attribute_full(model, images, target, method, **OPTIONS.get(method, {}))
            line |= measure(found, time.perf_counter() - began)
    kept = [line for line in results.lines if line["start"] in starts]
    result = {name: summary([line for line in kept if line["method"] == name]) for name in names}
    write_text(out, json.dumps({"options": OPTIONS, "methods": result}, indent=1) + "\n")
    for name, row in result.items():
        print(name, row)
