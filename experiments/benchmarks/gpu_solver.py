"""The solver on a device, on the processors of the same machine, and SPAMS there: seconds for 1,000 classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import torch

from experiments.benchmarks.collect import timed
from experiments.benchmarks.solver_peers import certificate, spams_gram
from experiments.benchmarks.solver_problems import Problem, generated
from interpnet.gram import Gram
from interpnet.mulasso import MuLasso
from interpnet.support.types import Float64

#: Channels and classes; the second is ResNet-50 on ImageNet.
SIZES = ((8_192, 1_000), (22_720, 1_000))
_MU = 10.0
# Classes that are given to SPAMS and to the processors: all of them take half an hour. Their time is scaled up.
_FEW = 20


def rows(device: torch.device, small: bool) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield every size on the device, on the processors, and with SPAMS."""
    sizes = ((64, 10),) if small else SIZES
    for m, n_classes in sizes:
        problem = cache(partial(generated, m, n_classes, device=device))
        where = f"{m:,} channels, {n_classes:,} classes"
        yield f"{where}, {device}", partial(_ours, problem, device.type, n_classes)
        yield f"{where}, processors", partial(_ours, problem, "cpu", _FEW)
        yield f"{where}, SPAMS", partial(_spams, problem)
        problem.cache_clear()


def _part(gram: Gram, classes: int) -> Gram:
    """Return the Gram of the first classes."""
    if classes >= gram.n_classes:
        return gram
    return Gram(gram.G, np.ascontiguousarray(gram.B[:, :classes]), gram.yy[:classes].copy(), gram.n)


def _row(gram: Gram, of: int, seconds: float, coef: Float64) -> dict[str, Any]:
    """Return the figures of one solver: seconds for all classes, as measured on ``gram``'s."""
    return {
        "classes": gram.n_classes,
        "seconds for all": seconds * of / gram.n_classes,
        "gap": float(certificate(gram, coef, _MU, positive=False)[1]),
        "channels": float((coef != 0).sum(1).mean()),
    }


def _ours(made: Callable[[], Problem], device: str, classes: int) -> dict[str, Any]:
    problem = made()
    gram = _part(problem.gram, classes)
    model = MuLasso(_MU, device=device, n_jobs=-1, tol=1e-9)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = timed(lambda: model.fit_gram(gram), torch.device(device))
    row = _row(gram, problem.gram.n_classes, seconds, model.coef_)
    if device == "cuda":
        row["peak GiB"] = torch.cuda.max_memory_allocated() / 2**30
    return row


def _spams(made: Callable[[], Problem]) -> dict[str, Any]:
    problem = made()
    gram = _part(problem.gram, _FEW)
    solve = spams_gram(Problem(problem.name, gram), torch.get_num_threads())
    found: list[Float64] = []
    seconds = timed(lambda: found.append(solve(_MU, False)), torch.device("cpu"))
    return _row(gram, problem.gram.n_classes, seconds, found[0])
