"""Explaining images against the bare network and against captum: forward-equivalents, alternated in one process.

    python -m experiments.benchmarks.explain [--repeats 7] [--batch 8] [--size 224] [--out results.json]

ResNet-50 with random weights. A round runs, in turn: the bare forward pass (contiguous, as a user runs it, and
channels_last, as ``explain`` does); ``explain`` with k=3, guided, with and without resampling; three captum
``NeuronGuidedBackprop`` calls for the same channels; ``explain`` by contributions, and by LRP's rules. A figure is the
median over rounds of its time divided by that round's forward pass, by the clock and by processor time, which other
work disturbs less (set OMP_WAIT_POLICY=passive, so that waiting threads do not count). Peak memory is that of a fresh
process for each.
"""

from __future__ import annotations

import copy
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from experiments.benchmarks.measuring import peak_of, seconds
from experiments.common.runner import command
from interpnet.engine import Channel, ChannelIndex, Trace, find_sites
from interpnet.explanation import explain
from interpnet.interpretation import Interpretation
from interpnet.support.allocator import keep_freed_memory
from interpnet.support.io import write_json

#: All channels in the last block (the deepest backward there is), and one in each of three stages.
CHOICES = {
    "last block": [Channel("layer4.2.relu:2", c) for c in (7, 300, 1100)],
    "three stages": [Channel("layer2.3.relu:2", 7), Channel("layer3.5.relu:2", 300), Channel("layer4.2.relu:2", 1100)],
}
RUNS = (  # in the order of a round
    "forward",
    "forward channels_last",
    "resampled",
    "unresampled",
    "captum",
    "paper by contribution",
    "relevance",
    "relevance, flat",
    "gamma by weight",
    "flat by weight",
)


def network() -> nn.Module:
    """Return ResNet-50 in evaluation mode with BatchNorm statistics measured on noise, as trained ones are."""
    torch.manual_seed(0)
    model: nn.Module = torchvision.models.resnet50(weights=None).train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, 3, 128, 128))
    return model.eval()


def interpretation(trace: Trace, channels: list[Channel]) -> Interpretation:
    """Return an interpretation of the default channels in which every class relies on the given ones."""
    index: ChannelIndex = trace.index()
    coef = np.zeros((1000, len(index)))
    for channel in channels:
        coef[:, index.position(channel)] = 1.0
    return Interpretation(index, coef, tuple(str(c) for c in range(1000)))


def captum_signals(model: nn.Module, images: Tensor, channels: list[Channel]) -> list[Tensor]:
    """Return captum's guided backpropagation from each channel's map (seeded with the map, as ours)."""
    from captum.attr import NeuronGuidedBackprop  # type: ignore[import-untyped, unused-ignore]

    modules = dict(model.named_modules())
    signals = []
    for channel in channels:
        block = modules[channel.layer.split(".relu")[0]]

        def energy(out: Tensor, index: int = channel.index) -> Tensor:
            return 0.5 * out[:, index].square().sum((1, 2))

        method = NeuronGuidedBackprop(model, block)
        signals.append(method.attribute(images.clone().requires_grad_(), neuron_selector=energy).detach())
    return signals


def runs(model: nn.Module, images: Tensor, channels: list[Channel]) -> dict[str, Callable[[], Any]]:
    """Return what one round runs."""
    trace = find_sites(model, images)
    reasons = interpretation(trace, channels)
    last = images.contiguous(memory_format=torch.channels_last)

    def forward(x: Tensor) -> None:
        with torch.no_grad():
            model(x)

    return {
        "forward": lambda: forward(images),
        "forward channels_last": lambda: forward(last),
        "resampled": lambda: explain(model, images, reasons, k=3, trace=trace, variant="paper"),
        "unresampled": lambda: explain(model, images, reasons, k=3, trace=trace, resample=False, variant="paper"),
        "captum": lambda: captum_signals(model, images, channels),
        "paper by contribution": lambda: explain(
            model, images, reasons, k=3, trace=trace, variant="paper", choose="contribution"
        ),
        # The default; contributions of all layers, and another rule.
        "relevance": lambda: explain(model, images, reasons, k=3, trace=trace),
        "relevance, flat": lambda: explain(model, images, reasons, k=3, trace=trace, rule="lrp_epsilon_plus_flat"),
        # The rules alone, from the maps of the channels with the largest responses.
        "gamma by weight": lambda: explain(
            model, images, reasons, k=3, trace=trace, choose="weight", seed="activation"
        ),
        "flat by weight": lambda: explain(
            model, images, reasons, k=3, trace=trace, choose="weight", seed="activation", rule="lrp_epsilon_plus_flat"
        ),
    }


def agree(model: nn.Module, images: Tensor, channels: list[Channel]) -> float:
    """Return the largest relative difference between our unresampled signals and captum's, in float64.

    In float32 both are some 4e-4 from it on this network: rounding decides the sign of a few inputs of rectifiers.
    """
    model = copy.deepcopy(model).double()
    images = images[:2].double()
    ours = runs(model, images, channels)["unresampled"]()
    theirs = dict(zip(channels, captum_signals(model, images, channels), strict=True))
    every = ((i, j, channel) for i, row in enumerate(ours.channels) for j, channel in enumerate(row))
    pairs = [(ours.signals[i, j], theirs[channel][i]) for i, j, channel in every]
    return max(float((own - expected).norm() / expected.norm()) for own, expected in pairs)


def compare(name: str, batch: int, size: int, repeats: int) -> dict[str, Any]:
    """Time a choice of channels in rounds; return medians in forward-equivalents."""
    model = network()
    images = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))
    todo = runs(model, images, CHOICES[name])
    for run in todo.values():
        run()
    rounds = [{what: seconds(todo[what]) for what in RUNS} for _ in range(repeats)]
    row: dict[str, Any] = {"channels": name, "batch": batch, "size": size}
    for i, unit in enumerate(("clock", "processor")):
        part: dict[str, Any] = {"forward_s": statistics.median(r["forward"][i] for r in rounds)}
        for what in RUNS[1:]:
            part[what] = statistics.median(r[what][i] / r["forward"][i] for r in rounds)
        for what in RUNS[2:4]:
            pairs = [r["captum"][i] / r[what][i] for r in rounds]
            part[f"captum/{what}"] = [statistics.median(pairs), min(pairs), max(pairs)]
        row[unit] = part
    row["difference from captum"] = agree(model, images, CHOICES[name])
    return row


def peak_memory(what: str, name: str, batch: int, size: int) -> float:
    """Run one thing once in a fresh process; return its peak resident memory in MiB."""
    code = (
        "import torch\n"
        "from experiments.benchmarks.explain import CHOICES, network, runs\n"
        f"images = torch.randn({batch}, 3, {size}, {size})\n"
        f"runs(network(), images, CHOICES[{name!r}])[{what!r}]()\n"
    )
    return peak_of(code)


@command(batch="images at a time", size="pixels along a side", choices=CHOICES)
def main(
    *,
    repeats: int = 7,
    batch: int = 8,
    size: int = 224,
    choices: tuple[str, ...] = tuple(CHOICES),
    no_memory: bool = False,
    out: Path | None = None,
) -> None:
    """Run all parts, print tables, and write JSON if asked to."""
    keep_freed_memory()  # as the command line does; it speeds up both sides alike
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {repeats} rounds")
    rows = []
    memory = {}
    for name in choices:
        rows.append(compare(name, batch, size, repeats))
        print(json.dumps(rows[-1]), flush=True)
    if not no_memory:
        for what in RUNS:
            memory[what] = peak_memory(what, "last block", batch, size)
            print(f"peak memory, {what}: {memory[what]:.0f} MiB", flush=True)
    if out:
        write_json(out, {"rows": rows, "memory_mib": memory})
