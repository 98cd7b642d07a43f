"""An audit of a network with thousands of outputs, ten of which have images, against one with these ten alone.

    python -m experiments.benchmarks.many_outputs [--outputs 21841] [--repeats 3] [--out many_outputs.json]

The network is a small one for the digits: two convolutions with random weights, and a last layer fitted to what they
see; of the larger network every further output is far below. Both are audited in turn, with the same settings; seconds
are this process's, by the clock and of the processor, and those of each stage by the clock. The bare network's forward
passes over the same images, which have the larger last layer too, are timed beside them.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from interpnet.pipelines import audit
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from experiments.benchmarks.measuring import seconds
from experiments.common.runner import command
from interpnet.datasets import ImageData, load_dataset, stack_images
from interpnet.support.io import read_json, write_json

_WIDTH = 64
_FAR_BELOW = -200.0
_DIGITS = 10
_TRAIN = 600
_TEST = 160


def images(data: ImageData, n: int) -> TensorDataset:
    """Return the first ``n`` images with their labels."""
    return TensorDataset(stack_images(data, range(n)), torch.as_tensor(data.labels[:n]).long())


def network(n_outputs: int, train: TensorDataset) -> nn.Module:
    """Return the network; its first ten outputs know the digits."""
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(1, _WIDTH, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(_WIDTH, _WIDTH, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
    )
    pixels, labels = train.tensors
    with torch.no_grad():
        seen = body(pixels)
    fitted = LogisticRegression(max_iter=300).fit(seen.numpy(), labels.numpy())
    last = nn.Linear(seen.shape[1], n_outputs)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(_FAR_BELOW)
        last.weight[:_DIGITS] = torch.from_numpy(fitted.coef_)
        last.bias[:_DIGITS] = torch.from_numpy(fitted.intercept_)
    return nn.Sequential(*body, last).eval()


def once(model: nn.Module, train: TensorDataset, test: TensorDataset, n_outputs: int) -> dict[str, Any]:
    """Audit a network; return seconds of the whole, of each stage, and of the bare network."""
    names = [f"class {c}" for c in range(n_outputs)]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        run = {"classes": names, "out": out, "examples": 1, "methods": "gradient"}
        clock, processor = seconds(lambda: audit(model, train, test, **run))
        stages = read_json(out / "manifest.json")["stages"]
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    found: dict[str, Any] = {"clock": clock, "processor": processor, "mib": size / 2**20}
    found["stages"] = {name: entry["seconds"] for name, entry in stages.items()}
    pixels: Tensor = train.tensors[0]
    with torch.inference_mode():
        found["forward"] = seconds(lambda: [model(part) for part in torch.split(pixels, 64)])[0]
    return found


@command(outputs="of the larger network")
def main(*, outputs: int = 21_841, repeats: int = 3, out: Path | None = None) -> None:
    """Audit both in turn, print medians, and write JSON if asked to."""
    train = images(load_dataset("digits", split="train"), _TRAIN)
    test = images(load_dataset("digits", split="test"), _TEST)
    models = {n: network(n, train) for n in (_DIGITS, outputs)}
    once(models[_DIGITS], train, test, _DIGITS)  # loads what an audit needs
    rounds = [{n: once(model, train, test, n) for n, model in models.items()} for _ in range(repeats)]
    rows = []
    for n in models:
        row: dict[str, Any] = {"outputs": n}
        for what in ("clock", "processor", "forward", "mib"):
            row[what] = statistics.median(found[n][what] for found in rounds)
        stages = rounds[0][n]["stages"]
        row["stages"] = {name: statistics.median(found[n]["stages"][name] for found in rounds) for name in stages}
        rows.append(row)
        print(json.dumps(row), flush=True)
    ratio = statistics.median(r[outputs]["processor"] / r[_DIGITS]["processor"] for r in rounds)
    print(f"{outputs:,} outputs take {ratio:.2f} times the processor time of {_DIGITS}")
    if out:
        write_json(out, {"threads": torch.get_num_threads(), "repeats": repeats, "ratio": ratio, "rows": rows})
