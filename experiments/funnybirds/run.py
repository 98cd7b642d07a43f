"""C4: who knows which parts of a bird decide, before the renderer removes them.

    python -m experiments.funnybirds.render --clone funnybirds --out data/FunnyBirds --classes 15 --train 100 \
        --test 12 --masks 15 --size 128 --drawn 256
    python -m experiments.funnybirds.run --birds data/FunnyBirds [--networks 3] [--quick]

Resumes: weights and values stay in the working folder, results.json has a line for each network and one for all.
--quick trains for one epoch, measures no dear method, and writes no page.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.common.arrays import kept
from experiments.common.runner import Results, rounded, study
from experiments.funnybirds.agreement import compared, usual
from experiments.funnybirds.birds import Birds, logits_of, losses, network
from experiments.funnybirds.importance import AREA, CONTROLS, OURS, PAINTED, USUAL, USUAL_OF_CLASS, Explained
from experiments.funnybirds.sheet import sheet
from experiments.funnybirds.table import PAGE
from interpnet.support.types import Bools, Float64

HERE = Path(__file__).parent
_EPOCHS = 30


@dataclass(frozen=True)
class Subject:
    """One network with what removing the parts of the test images costs its answers."""

    explained: Explained
    accuracy: float
    lost: Float64  # (N, P)
    other: Bools  # (N, P): whether the answer is another one

    def values(self, folder: Path, *, quick: bool) -> dict[str, Float64]:
        """Return what every way says of the parts (N, P); what took long is kept in ``folder``."""
        model, data, classes = self.explained.model, self.explained.data, self.explained.classes
        found = {}
        for name, way in self.explained.ways().items():
            if not quick or name in {OURS, *CONTROLS}:
                found[name] = kept(folder / f"{name}.npy", way)
        found[PAINTED], _ = losses(model, data.images, data.painted, classes)
        found[USUAL] = usual(self.lost, data.seen, np.zeros(len(classes), dtype=np.int64))
        found[USUAL_OF_CLASS] = usual(self.lost, data.seen, classes.numpy())
        return found


def subject(data: Birds, seed: int, folder: Path, epochs: int) -> Subject:
    """Train a network, or read its weights from ``folder``, and remove every part of every test image."""
    model, right = network(data, seed, folder / "weights.safetensors", epochs)
    classes = logits_of(model, data.images).argmax(1)
    return Subject(Explained(model, data, classes), right, *losses(model, data.images, data.removed, classes))


def effects(data: Birds, lost: Float64, other: Bools) -> dict[str, list[float]]:
    """Return for each part the mean loss, how often the answer is another one, and in how many images it is seen."""
    found = {}
    for p, part in enumerate(data.test.parts):
        rows = data.seen[:, p]
        found[part] = [float(lost[rows, p].mean()), float(other[rows, p].mean()), int(rows.sum())]
    return found


@study(PAGE, "runs/funnybirds", birds="folder that the recipe rendered")
def main(
    results: Results, work: Path, *, quick: bool, birds: Path = Path("data/FunnyBirds"), networks: int = 3
) -> None:
    """Train what is missing, measure, and write."""
    data = Birds(birds)
    epochs = 1 if quick else _EPOCHS
    folders = [work / f"{seed}-{epochs}" for seed in range(networks)]
    for line in results.missing({"network": seed} for seed in range(networks)):
        one = subject(data, line["network"], folders[line["network"]], epochs)
        one.values(folders[line["network"]], quick=quick)
        line |= {"accuracy": one.accuracy, "images": len(one.lost), "parts": effects(data, one.lost, one.other)}
        if not quick:
            named = one.explained.dissection
            line |= {"named": {part: len(named.detectors(part)) for part in data.test.parts}}
            line["channels"] = len(named.channels)
        line.update(rounded(line))
    for line in results.missing([{"networks": networks}]):
        every = [subject(data, seed, folder, epochs) for seed, folder in enumerate(folders)]
        ways = [one.values(folder, quick=quick) for one, folder in zip(every, folders, strict=True)]
        line["ways"] = rounded(compared(ways, [(one.lost, data.seen) for one in every], OURS, AREA))
    first = subject(data, 0, folders[0], epochs)
    sheet(data, first.lost, work / "birds.png" if quick else HERE / "birds.png")
