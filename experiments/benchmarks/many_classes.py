"""The mu-lasso of many classes on joblib's workers: seconds, memory, and whether every way finds the same bits.

    python -m experiments.benchmarks.many_classes [--solved 24] [--ways processes dask ray] [--out many_classes.json]

The Gram matrix is that of a factor model of 100,000 rows of scores: the means of the classes, what images share, and
what is each channel's own. It is made from the model and not summed over rows, which would take longer than all solves.
The first ``--solved`` classes are solved by each way; a class takes the same time whatever the number of the others.

Memory is what all processes hold of their own (what several share counts once) and what lies in /dev/shm, where joblib
and Ray keep what workers share, above that before; the matrix itself, which this process holds, is not in it.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from scipy.linalg.blas import dsyrk

from experiments.benchmarks.solver_problems import widths
from experiments.common.runner import command
from interpnet.gram import Gram
from interpnet.mulasso import MuLasso
from interpnet.support.io import write_json

ROWS = 100_000
MU = 10.0
_FACTORS = 192
_SPREAD = 0.28  # what images share, relative to a channel's mean
_OWN = 0.15  # what is a channel's own
_PAUSE = 0.2  # seconds between two looks at the memory


def modelled(m: int, n_classes: int) -> Gram:
    """Return the Gram matrix of ``ROWS`` rows of scores that sum to one in each layer, evenly over the classes."""
    rng = np.random.default_rng(0)
    layers = widths(m)
    level = np.exp(0.6 * rng.standard_normal(m))
    size = (np.arange(_FACTORS) + 1.0) ** -0.6
    size /= np.sqrt((size**2).sum())
    loadings = size[:, None] * rng.standard_normal((_FACTORS, m))
    centres = level * np.exp(_SPREAD * rng.standard_normal((n_classes, _FACTORS)) @ loadings)
    ends = np.cumsum(layers)
    for start, end in zip(ends - layers, ends, strict=True):
        centres[:, start:end] /= centres[:, start:end].sum(1, keepdims=True)
    mean = centres.mean(0)
    each = ROWS / n_classes
    rows = np.concatenate([np.sqrt(each) * centres, np.sqrt(ROWS) * _SPREAD * mean * loadings])
    # dsyrk fills one triangle, in the order of columns.
    G = np.asarray(dsyrk(1.0, np.asfortranarray(rows.T), lower=1)).T
    del rows
    for i in range(0, m, 512):
        G[i : i + 512, :i] = G[:i, i : i + 512].T
        block = G[i : i + 512, i : i + 512]
        block[:] = np.triu(block) + np.triu(block, 1).T
    G[np.diag_indices(m)] += ROWS * (_OWN * mean) ** 2
    gram = Gram(np.ascontiguousarray(G), np.ascontiguousarray(each * centres.T), np.full(n_classes, each), ROWS)
    # It is definite as made; the test would take as long as some classes.
    object.__setattr__(gram, "is_definite", True)
    return gram


def held() -> float:
    """Return the memory of this process and all below it, and of /dev/shm, in GiB (Linux)."""
    total = shutil.disk_usage("/dev/shm").used // 1024  # noqa: S108 - it is only looked at
    left = ["self"]
    while left:
        one = Path("/proc") / left.pop()
        try:
            rollup = (one / "smaps_rollup").read_text()
            total += sum(int(rollup.split(f"{kind}:")[1].split()[0]) for kind in ("Pss_Anon", "Pss_File"))
            for task in (one / "task").iterdir():
                left += (task / "children").read_text().split()
        except (OSError, IndexError):
            continue  # it has ended
    return total / 2**20


def measured(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Return what ``work`` returns, its seconds, and the most memory above that before."""
    before = held()
    most = before
    ended = threading.Event()

    def look() -> None:
        nonlocal most
        while not ended.wait(_PAUSE):
            most = max(most, held())

    watcher = threading.Thread(target=look)
    watcher.start()
    start = time.perf_counter()
    try:
        result = work()
    finally:
        ended.set()
        watcher.join()
    return result, {"seconds": time.perf_counter() - start, "GiB more": most - before}


@contextmanager
def processes(n: int) -> Iterator[None]:
    """Have classes solved by joblib's own processes."""
    with joblib.parallel_config(backend="loky", n_jobs=n):
        yield


@contextmanager
def dask(n: int) -> Iterator[None]:
    """Have classes solved by a local Dask cluster, one process whose threads share the Gram matrix."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=1, threads_per_worker=n, dashboard_address=None, memory_limit=0) as cluster,
        Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        yield


@contextmanager
def ray(n: int) -> Iterator[None]:
    """Have classes solved by a local Ray cluster."""
    import ray
    from ray.util.joblib import register_ray

    ray.init(num_cpus=n, include_dashboard=False, log_to_driver=False)
    register_ray()
    try:
        with joblib.parallel_config(backend="ray"):
            yield
    finally:
        ray.shutdown()


def _kept(out: Path, size: str, facts: dict[str, Any], records: dict[str, dict[str, Any]]) -> None:
    """Write what was measured beside what ``out`` holds of other sizes and ways: a later way may run out of memory."""
    kept = {}
    if out.is_file():
        kept = json.loads(out.read_text())
    ways = kept.get(size, {}).get("ways", {})
    write_json(out, {**kept, size: {**facts, "ways": {**ways, **records}}})


WAYS: dict[str, Callable[[int], Any]] = {"processes": processes, "dask": dask, "ray": ray}


@command(m="channels", classes="of the problem", solved="how many of them are solved", workers="of each way", ways=WAYS)
def main(
    m: int = 22_720,
    classes: int = 1000,
    solved: int = 24,
    workers: int = 2,
    ways: tuple[str, ...] = tuple(WAYS),
    out: Path | None = None,
) -> None:
    """Print a row for each way and write them to ``out``."""
    whole = modelled(m, classes)
    gram = object.__new__(Gram)
    some = {"G": whole.G, "B": np.ascontiguousarray(whole.B[:, :solved]), "yy": whole.yy[:solved], "n": whole.n}
    # The same matrix, without the copies of a new Gram's checks.
    for name, value in {**some, "is_definite": True}.items():
        object.__setattr__(gram, name, value)
    records: dict[str, dict[str, Any]] = {}

    def fit(threads: int | None) -> MuLasso:
        return MuLasso(mu=MU, tol=1e-9, n_jobs=threads).fit_gram(gram)

    first, records["one thread"] = measured(lambda: fit(1))
    _, records[f"{workers} threads"] = measured(lambda: fit(workers))
    print(f"{(first.coef_ != 0).sum(1).mean():.0f} channels, gap {first.relative_gap_.max():.1e}", flush=True)
    facts = {"classes": classes, "solved": solved, "workers": workers, "mu": MU, "Gram GiB": gram.G.nbytes / 2**30}
    print(records, flush=True)
    for name in ways:

        def run(name: str = name) -> MuLasso:
            # The start of the cluster belongs to what it costs.
            with WAYS[name](workers):
                return fit(None)

        found, record = measured(run)
        same = [getattr(found, part).tobytes() == getattr(first, part).tobytes() for part in ("coef_", "dual_gap_")]
        records[name] = {**record, "same bits": all(same)}
        print(name, records[name], flush=True)
        if out is not None:
            _kept(out, f"{m} channels", facts, records)
