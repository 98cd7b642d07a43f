"""What it costs to solve without an (m, m) matrix, against the matrix in memory.

    OMP_NUM_THREADS=1 python -m experiments.benchmarks.wide --work DIR --parts efficientnet routes thousand stream

``--work`` keeps scores between runs (10 GB). Every measurement has a process of its own. Memory is the peak of
what the process allocated (RssAnon, sampled), without the pages of the mapped scores, which the system takes back.
Seconds without another word are of the processor, as the machine was busy with other work.
"""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.benchmarks.measuring import kibibytes
from experiments.benchmarks.wide_scores import Scores, written
from experiments.common.runner import command
from interpnet.gram import Gram, RowGram
from interpnet.mulasso import MuLasso
from interpnet.support.io import write_json
from interpnet.support.ranks import ALONE
from interpnet.support.types import Float64

PARTS = ("efficientnet", "routes", "thousand", "stream", "long stream")
MU = 10.0
TOL = 1e-9
_PIXELS = 96
_PER_CLASS = 200
_STEP = 1024  # rows that are read at once


class Memory:
    """The peak of this process's own memory while the block runs, in GiB, above that at its beginning."""

    def __enter__(self) -> Memory:
        self.start = kibibytes("RssAnon")
        self.peak = self.start
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.peak = max(self.peak, kibibytes("RssAnon"))

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def gib(self) -> float:
        """The peak, above what there was at the beginning."""
        return round((self.peak - self.start) / 2**20, 2)


def alone(function: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    """Return what a function of this module returns in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def solved(make: Callable[[], Any]) -> dict[str, Any]:
    """Make a Gram or rows, solve, and return times, memory and certificate."""
    with Memory() as memory:
        clock = np.array([time.perf_counter(), time.process_time()])
        gram = make()
        made = np.array([time.perf_counter(), time.process_time()])
        model = MuLasso(MU, tol=TOL).fit_gram(gram)
        end = np.array([time.perf_counter(), time.process_time()])
    found: dict[str, Any] = {
        "seconds to sum, by the clock and of the processor": np.round(made - clock, 2).tolist(),
        "seconds to solve": np.round(end - made, 2).tolist(),
        "GiB": memory.gib,
        "largest relative gap": float(model.relative_gap_.max()),
        "channels per class": round(float((model.coef_ != 0).sum(axis=1).mean()), 1),
        "half squared error": [float(x) for x in objective(model.coef_, gram)[:3]],
    }
    if isinstance(gram, RowGram):
        found |= {"passes": gram.passes, "reads of columns": gram.reads, "largest working set": gram.widest}
    return found


def objective(coef: Float64, gram: Gram | RowGram) -> Float64:
    """Return the objectives of the first classes."""
    few = np.arange(min(3, len(coef)))
    columns = np.flatnonzero(coef[few].any(axis=0))
    weights = coef[few][:, columns]
    if isinstance(gram, Gram):
        quadratic = np.einsum("pk,pk->p", weights @ gram.G[np.ix_(columns, columns)], weights)
        value: Float64 = quadratic / 2 - np.einsum("pk,kp->p", weights, gram.B[np.ix_(columns, few)]) + gram.yy[few] / 2
        return value
    return gram.squared_error(columns, weights, few) / 2


# --- EfficientNetV2-S ------------------------------------------------------------------------------------------


def collected(work: str) -> dict[str, Any]:
    """Score Tiny-ImageNet images with an EfficientNetV2-S of random weights; return the cost."""
    import torch
    import torchvision
    from torchvision import transforms

    from experiments.common.shared_data import shared_data
    from interpnet.scores import collect_scores

    images = Path(work) / "tiny"
    if not images.is_dir():
        import tarfile

        with tarfile.open(shared_data() / "tiny_imagenet" / "train.tar") as tar:
            tar.extractall(images, filter="data")
    steps = [transforms.Resize(_PIXELS), transforms.ToTensor(), transforms.Normalize([0.45] * 3, [0.23] * 3)]
    data = torchvision.datasets.ImageFolder(str(images), transforms.Compose(steps))
    truth = np.array(data.targets)
    chosen = np.concatenate([np.flatnonzero(truth == c)[:_PER_CLASS] for c in range(len(data.classes))])
    torch.manual_seed(0)
    network = torchvision.models.efficientnet_v2_s(weights=None)
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    # Of random weights the statistics must be those of images, or the signal dies on its way.
    shuffled = torch.utils.data.DataLoader(data, 64, shuffle=True, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for (batch, _), _ in zip(shuffled, range(4), strict=False):
            network(batch)
    network.eval()
    loader = torch.utils.data.DataLoader(torch.utils.data.Subset(data, chosen.tolist()), 32)
    with Memory() as memory:
        clock = time.process_time()
        table = collect_scores(network, loader, out=Path(work) / "efficientnet", progress=False)
    seconds = time.process_time() - clock
    rate = round(len(table) / seconds, 1)
    return {
        "images": len(table),
        "channels": len(table.channels),
        "seconds": round(seconds, 1),
        "images/s": rate,
        "GiB": memory.gib,
    }


def efficientnet(work: str, n_classes: int) -> dict[str, Any]:
    """Solve for 10 of Tiny-ImageNet's classes, or for 100, which are its classes split by brightness."""
    from interpnet.scores import ScoreTable

    table = ScoreTable.load(Path(work) / "efficientnet", verify=False)
    truth = np.asarray(table.labels)
    if n_classes == 10:
        n = int(np.count_nonzero(truth < 10))
        return {"images": n, **solved(lambda: RowGram.from_scores(table.X[:n], truth[:n], n_classes=10))}
    # The mean score of the first channels stands for the brightness.
    bright = table.X[:, :1].mean(axis=1)
    labels = np.zeros(len(truth), dtype=np.int64)
    first = 0
    classes = np.unique(truth)
    for c, parts in zip(classes, np.diff(np.linspace(0, n_classes, len(classes) + 1).astype(int)), strict=True):
        rows = np.flatnonzero(truth == c)
        labels[rows[np.argsort(bright[rows], kind="stable")]] = first + np.arange(len(rows)) * parts // len(rows)
        first += int(parts)
    return {"images": len(truth), **solved(lambda: RowGram.from_scores(table.X, labels, n_classes=n_classes))}


# --- the matrix in memory, or not at all --------------------------------------------------------


def mapped(work: str, n: int, m: int, n_classes: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
    """Return synthetic scores, written once, and their labels."""
    scores = Scores(n, m, n_classes)
    path = Path(work) / f"{n}x{m}x{n_classes}.f32"
    if not path.is_file():
        written(scores, str(path))
    return np.memmap(path, np.float32, "r", shape=(n, m)), scores.labels


def route(work: str, name: str, n: int, m: int, n_classes: int, rows: int) -> dict[str, Any]:
    """Solve in one of the ways, from the first ``rows`` rows."""
    X, labels = mapped(work, n, m, n_classes)
    X = X[:rows]
    labels = labels[:rows]
    ways = {"rows": RowGram.from_scores, "matrix": Gram.from_scores}
    make: Any = ways[name]
    return {"rows": rows, "channels": m, "classes": n_classes, **solved(lambda: make(X, labels, n_classes=n_classes))}


# --- rows that are never stored -----------------------------------------------------------------------------------


def stream(rows: int, m: int, n_classes: int, columns: int, again: int | None = None) -> dict[str, Any]:
    """Certify once over rows that are made on the fly; return the seconds of a pass, and of making the rows alone.

    With ``again`` so many blocks of 1,024 rows come again and again; the sum over all must then be the multiple of the
    sum over those.
    """
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.choice(m, columns, replace=False))
    weights = rng.standard_normal((n_classes, columns)) / columns

    def summed(scores: Scores) -> Float64:
        problem = RowGram((scores, scores.labels, n_classes, None), _STEP, ALONE)
        return problem.gradient(chosen, weights, np.arange(n_classes))

    scores = Scores(rows, m, n_classes, again=again)
    with Memory() as memory:
        clock = time.process_time()
        whole = summed(scores)
        seconds = time.process_time() - clock
    clock = time.process_time()
    for start in range(0, rows, _STEP):
        scores[start : start + _STEP]
    made = time.process_time() - clock
    found = {
        "rows": rows,
        "classes": n_classes,
        "seconds of a pass": round(seconds, 1),
        "of which the rows are made in": round(made, 1),
        "GiB": memory.gib,
        "hours of a pass over 10 million rows, without making them": round((seconds - made) / rows * 1e7 / 3600, 2),
    }
    if again is not None:
        times = rows // (again * _STEP)
        once = times * summed(Scores(again * _STEP, m, n_classes, again=again))
        found["blocks that come again"] = again
        found["relative difference from the multiple"] = float(np.abs(whole - once).max() / np.abs(once).max())
    return found


@command(work="folder for scores", parts=PARTS, out="where the results are kept")
def main(*, work: str, parts: tuple[str, ...] = PARTS, out: str = "experiments/benchmarks/wide.json") -> None:
    """Measure the parts, and write what was found after each."""
    path = Path(out)
    found: dict[str, Any] = {}
    if path.is_file():
        found = json.loads(path.read_text())
    tasks: dict[str, list[tuple[str, Callable[..., dict[str, Any]], tuple[Any, ...]]]] = {
        "efficientnet": [
            ("collected", collected, (work,)),
            *[(f"{c} classes", efficientnet, (work, c)) for c in (10, 100)],
        ],
        "routes": [(name, route, (work, name, 20_000, 16_000, 100, 20_000)) for name in ("rows", "matrix")],
        "thousand": [
            ("rows", route, (work, "rows", 100_000, 22_720, 1000, 100_000)),
            ("matrix, a tenth of the rows", route, (work, "matrix", 100_000, 22_720, 1000, 10_000)),
        ],
        "stream": [(f"{rows}", stream, (rows, 22_720, 10, 500)) for rows in (8192, 32_768)],
        "long stream": [(f"{rows}", stream, (rows, 22_720, 10, 500, 4)) for rows in (1_003_520, 10_002_432)],
    }
    for part in parts:
        for name, function, arguments in tasks[part]:
            found.setdefault(part, {})[name] = alone(function, *arguments)
            print(part, name, json.dumps(found[part][name]), flush=True)
            write_json(path, found)
