"""Run every attribution method on the 500 ImageNet samples: none may fail.

    python -m experiments.methods.samples [--first 500] [--batch 10] [--state samples.jsonl]

Resumes from the state file, a line a method and batch; the result is experiments/methods/samples.json. Methods that
draw samples get few (see OPTIONS): it is about failures, not about smooth maps.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.methods.subject import batch, path_here, squeezenet
from interpnet.attribution import Attribution, attribute_full, methods
from interpnet.support.allocator import keep_freed_memory
from interpnet.support.io import write_text

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


def measure(found: Attribution, seconds: float) -> dict[str, Any]:
    """Return what is kept of one method's maps of one batch."""
    maps = found.maps.flatten(1)
    return {
        "images": len(maps),
        "seconds": seconds,
        "finite": int(torch.isfinite(maps).all(1).sum()),
        "constant": int((maps.amax(1) == maps.amin(1)).sum()),
        "residual": [] if found.residual is None else [float(r) for r in found.residual],
        "flagged": 0 if found.flagged is None else int(found.flagged.sum()),
    }


def summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
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


def main() -> None:
    """Go on from the state file and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=500)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--state", type=Path, default=Path("samples.jsonl"))
    parser.add_argument("--out", type=Path, default=path_here("samples.json"))
    options = parser.parse_args()
    done: dict[tuple[str, int], dict[str, Any]] = {}
    if options.state.exists():
        for line in options.state.read_text().splitlines():
            entry = json.loads(line)
            done[entry["method"], entry["start"]] = entry
    keep_freed_memory()  # as the command line does: half of the time was the kernel's, clearing pages
    model = squeezenet()
    starts = range(0, options.first, options.batch)
    with options.state.open("a") as state:
        for start in starts:
            todo = [m for m in methods() if (m.name, start) not in done]
            if not todo:
                continue
            images, target = batch(list(range(start, min(start + options.batch, options.first))))
            for method in todo:
                began = time.perf_counter()
                found = attribute_full(model, images, target, method.name, **OPTIONS.get(method.name, {}))
                entry = {"method": method.name, "start": start, **measure(found, time.perf_counter() - began)}
                done[method.name, start] = entry
                state.write(json.dumps(entry) + "\n")
                state.flush()
            print(f"{start + len(images)} of {options.first} images", flush=True)
    result = {m.name: summary([done[m.name, s] for s in starts]) for m in methods()}
    write_text(options.out, json.dumps({"options": OPTIONS, "methods": result}, indent=1) + "\n")
    for name, row in result.items():
        print(name, row)


if __name__ == "__main__":
    main()
