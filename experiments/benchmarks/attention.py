"""What attention in its parts costs beside the fused kernel that a network would take.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python -m experiments.benchmarks.attention --out FILE.json

vit_b_16 as torchvision draws it, with random weights: the plain forward pass, the same while the engine
watches it, and the forward pass with the gradient at the image, in rounds that take turns. By processor time.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from experiments.benchmarks.measuring import seconds
from experiments.common.runner import command
from interpnet.engine import Instrument, instrument
from interpnet.support.allocator import keep_freed_memory
from interpnet.support.io import write_json

NETWORK, SIDE, BATCH = "vit_b_16", 224, 4


def attended(tokens: int, batch: int) -> dict[str, Callable[[], Tensor]]:
    """Return the attention of vit_b_16's heads alone: by the fused kernel, and in its parts."""
    q, k, v = torch.randn(3, batch, 12, tokens, 64)
    watched = nn.Module()
    watched.forward = lambda: nn.functional.scaled_dot_product_attention(q, k, v)

    def parts() -> Tensor:
        with instrument(watched, Instrument(observe=lambda _call, _out: None)):
            found: Tensor = watched()
        return found

    return {"fused": watched, "in parts": parts}


def passes() -> dict[str, Callable[[], Tensor]]:
    """Return passes through the whole network: plain, and while the engine watches it."""
    model = getattr(torchvision.models, NETWORK)(weights=None).eval().requires_grad_(requires_grad=False)
    images = torch.randn(BATCH, 3, SIDE, SIDE)

    def parts(x: Tensor = images) -> Tensor:
        with instrument(model, Instrument(observe=lambda _call, _out: None)):
            found: Tensor = model(x)
        return found

    def backward(run: Callable[[Tensor], Tensor]) -> Tensor:
        x = images.clone().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(run(x)[:, 0].sum(), x)[0]

    return {
        "fused": lambda: model(images),
        "in parts": parts,
        "fused, with gradient": lambda: backward(model),
        "in parts, with gradient": lambda: backward(parts),
    }


def compare(what: str, runs: dict[str, Callable[[], Tensor]], repeats: int) -> dict[str, Any]:
    """Time runs in rounds; return the medians and how many times the fused kernel's time the parts take."""
    with torch.no_grad():
        for run in runs.values():
            run()
        rounds = [{name: seconds(run)[1] for name, run in runs.items()} for _ in range(repeats)]
    row: dict[str, Any] = {"what": what}
    for name in runs:
        row[name] = round(statistics.median(r[name] for r in rounds), 4)
        if name.startswith("in parts"):
            ratios = [r[name] / r[name.replace("in parts", "fused")] for r in rounds]
            row[f"{name}, ratio"] = [round(f(ratios), 2) for f in (statistics.median, min, max)]
    return row


@command()
def main(*, repeats: int = 5, out: Path | None = None) -> None:
    """Time each, print the figures, and write JSON if asked to."""
    keep_freed_memory()
    todo = {f"attention of 12 heads, {tokens} tokens": attended(tokens, 8) for tokens in (50, 197, 785)}
    rows = []
    for what, runs in [*todo.items(), (NETWORK, passes())]:
        rows.append(compare(what, runs, repeats))
        print(json.dumps(rows[-1]), flush=True)
        if out:
            write_json(out, {"torch": torch.__version__, "threads": torch.get_num_threads(), "rows": rows})
