"""The least squares problems the solver is measured on: two of real networks, and generated ones of any size.

    python -m experiments.benchmarks.solver_problems [--m 1024] [--classes 50] [--images 20000]

The generated scores imitate the CIFAR-10 ResNets' (as a command this module prints both side by side): non-negative
scores that sum to one in each layer; a coefficient of variation around 0.4; dense but mostly weak correlations; a
spectrum that falls like a power of its index; the classes visible in every layer, most in the last ones.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from experiments.common.runner import command
from experiments.common.shared_data import shared_data
from interpnet.gram import Gram, GramAccumulator
from interpnet.scores import ScoreTable

# Of the model: latent factors per image, the exponent of their sizes, how much of them the next layer keeps, the
# size of what is each channel's own, and how far classes lie apart in the first and in the last layer.
FACTORS = 192
DECAY = 0.6
KEPT = 0.93
OWN = 0.1
APART = (0.4, 1.0)
SPREAD = 0.28
_BLOCK = 2048  # images at a time


@dataclass(frozen=True)
class Problem:
    """A Gram matrix, and the score matrix where a solver wants it."""

    name: str
    gram: Gram
    X: npt.NDArray[Any] | None = None
    labels: npt.NDArray[Any] | None = None


def resnet20() -> Problem:
    """Return the problem of CIFAR-10 ResNet-20 (m = 688, C = 10)."""
    with np.load(shared_data() / "solver" / "cifar10_resnet20_gram.npz") as data:
        return Problem("ResNet-20", Gram(data["G"], data["B"], data["yy"], round(float(data["yy"].sum()))))


def resnet56() -> Problem:
    """Score the 50,000 training images with CIFAR-10 ResNet-56 (m = 2,032, C = 10); the score matrix is kept.

    In a process of its own: keeping freed memory, which makes scoring fast, would also change the peers' times.
    """
    with tempfile.TemporaryDirectory() as folder:
        worker = multiprocessing.get_context("spawn").Process(target=_score_resnet56, args=(folder,))
        worker.start()
        worker.join()
        if worker.exitcode != 0:
            raise RuntimeError(f"scoring ResNet-56 failed with exit code {worker.exitcode}")
        table = ScoreTable.load(Path(folder) / "scores")
        return Problem("ResNet-56", table.gram(), np.array(table.X), np.array(table.labels))


def _score_resnet56(folder: str) -> None:
    # Imported in this process alone: the measuring one needs no torch, and its memory stays as it is.
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    from experiments.common.shared_data import trained_resnet, unpack
    from interpnet.scores import collect_scores
    from interpnet.support.allocator import keep_freed_memory

    keep_freed_memory()
    unpack("train", f"{folder}/images")
    normalise = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    images = ImageFolder(f"{folder}/images", transforms.Compose([transforms.ToTensor(), normalise]))
    collect_scores(trained_resnet(56), DataLoader(images, batch_size=128), out=f"{folder}/scores")


def widths(m: int) -> list[int]:
    """Return layer widths that sum to ``m``: six stages, each twice as wide as the one before, like a ResNet's."""
    unit = m // 64
    layers = [unit * w for w in (1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 8, 8, 8)]
    return [*layers, m - sum(layers)]


def generated(m: int, n_classes: int, *, images: int = 40_960, device: torch.device | None = None) -> Problem:
    """Return a generated problem; its Gram matrix is summed block by block, on a CUDA device if one is given."""
    rng = np.random.default_rng(0)
    layers = widths(m)
    size = (np.arange(FACTORS) + 1.0) ** -DECAY
    size /= np.sqrt((size**2).sum())  # so that the signal has variance 1
    loadings = [rng.standard_normal((FACTORS, w)) for w in layers]
    centre = rng.standard_normal((n_classes, FACTORS))
    level = [0.6 * rng.standard_normal(w) for w in layers]
    total = GramAccumulator(m, n_classes)
    for start in range(0, images, _BLOCK):
        n = min(_BLOCK, images - start)
        labels = rng.integers(n_classes, size=n)
        own = rng.standard_normal((n, FACTORS))
        parts = []
        for depth, (A, a) in enumerate(zip(loadings, level, strict=True)):
            apart = np.interp(depth, (0, len(layers) - 1), APART)
            own = KEPT * own + np.sqrt(1 - KEPT**2) * rng.standard_normal(own.shape)
            signal = ((own + apart * centre[labels]) * size) @ A
            score = np.exp(a + SPREAD * signal + OWN * rng.standard_normal((n, len(a))))
            parts.append(score / score.sum(1, keepdims=True))
        rows: Any = np.hstack(parts).astype(np.float32)
        if device is not None and device.type == "cuda":
            rows = torch.from_numpy(rows).to(device)
        total.add(rows, labels)
    # Without a copy: the largest are 4 GB.
    return Problem(f"{m:,} x {n_classes:,}", total.finish())


def describe(gram: Gram, layers: list[int]) -> dict[str, float]:
    """Return what the generator was fitted to: variation, correlations, spectrum, distance of the classes."""
    mean = gram.B.sum(1) / gram.n
    cov = gram.G / gram.n - np.outer(mean, mean)
    live = np.diagonal(cov) > 1e-14 * mean.max() ** 2  # a dead channel has no correlations
    sd = np.sqrt(np.diagonal(cov)[live])
    R = cov[np.ix_(live, live)] / np.outer(sd, sd)
    place = np.repeat(np.arange(len(layers)), layers)[live]
    values = np.sort(np.linalg.eigvalsh(R))[::-1] / len(R)
    off = ~np.eye(len(R), dtype=bool)  # without the diagonal
    gap = np.abs(place[:, None] - place)
    away = ((gram.B / gram.yy)[live] - mean[live, None]) / sd[:, None]
    found = {
        "coefficient of variation, median": float(np.median(sd / mean[live])),
        "|correlation|, median": float(np.median(np.abs(R[off]))),
        "|correlation|, 99 %": float(np.quantile(np.abs(R[off]), 0.99)),
        "|correlation|, next layer": float(np.abs(R[gap == 1]).mean()),
        "|correlation|, half the depth apart": float(np.abs(R[gap == len(layers) // 2]).mean()),
        "class mean, first layer (sd)": float(np.sqrt((away[place == 0] ** 2).mean())),
        "class mean, last layer (sd)": float(np.sqrt((away[place == len(layers) - 1] ** 2).mean())),
    }
    for share in (0.0, 0.01, 0.03, 0.1, 0.3, 0.6):
        found[f"eigenvalue at {share:.0%} of the spectrum / m"] = float(values[int(share * len(values))])
    return found


@command(m="channels", images="rows of scores")
def main(*, m: int = 1024, classes: int = 50, images: int = 20000) -> None:
    """Print the real problem's figures beside those of generated ones."""
    real = describe(resnet20().gram, [16] * 7 + [32] * 6 + [64] * 6)
    made = describe(generated(m, classes, images=images).gram, widths(m))
    print(f"{'':44} {'ResNet-20':>10} {'generated':>10}")
    for name, value in real.items():
        print(f"{name:44} {value:10.4f} {made[name]:10.4f}")
