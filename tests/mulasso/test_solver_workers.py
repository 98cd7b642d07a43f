"""Classes solved by the workers of joblib's backends: the bits of one process, and one line where a worker fails."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from joblib.externals.loky import get_reusable_executor
from joblib.parallel import BACKENDS

from interpnet.errors import InterpNetError
from interpnet.gram import Gram
from interpnet.mulasso import MuLasso, mulasso_path
from interpnet.mulasso._solver import _certified, _schedule, _workers
from interpnet.mulasso._solver._workers import Workers, _as_writable, _at_worker, workers_of


@pytest.fixture
def gram(monkeypatch: pytest.MonkeyPatch) -> Gram:
    """Return a problem whose nine classes make five batches; some end in step, others alone."""
    monkeypatch.setattr(_schedule, "_ELEMENTS", {"cpu": 3000})
    rng = np.random.default_rng(0)
    return Gram.from_scores(rng.random((500, 300)), rng.integers(0, 9, 500), n_classes=9)


def solved(gram: Gram, **options: Any) -> list[bytes]:
    """Return every number of two radii's solutions, as bytes."""
    found = _certified.solve(gram, np.array([2.0, 0.5]), _certified.Options(tol=1e-12, **options))
    return [part.tobytes() for part in (found.coef, found.gap, found.relative, found.n_iter, found.active)]


@contextmanager
def processes() -> Iterator[None]:
    # Workers that another test left idle end after a while, which a task that comes just then waits for in vain.
    get_reusable_executor().shutdown(wait=True, kill_workers=True)
    try:
        with joblib.parallel_config(backend="loky", n_jobs=2):
            yield
    finally:
        get_reusable_executor().shutdown(wait=True, kill_workers=True)


@contextmanager
def dask() -> Iterator[None]:
    distributed = pytest.importorskip("distributed")
    # Threads of one worker share the Gram matrix; only one process has to load torch.
    settings = {"n_workers": 1, "threads_per_worker": 2, "dashboard_address": None}
    with (
        distributed.LocalCluster(**settings) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        yield


@contextmanager
def ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Its own for this cluster; Ray would otherwise write one to the home folder.
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        ray = pytest.importorskip("ray")
        pytest.importorskip("ray.util.joblib").register_ray()
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        try:
            with joblib.parallel_config(backend="ray"):
                yield
        finally:
            ray.shutdown()


def test_idle_processes_stay_whatever_joblib_would_do(gram: Gram, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    honest = BACKENDS["loky"].configure

    def configure(self: Any, *args: Any, **options: Any) -> int:
        asked.append(options["idle_worker_timeout"])
        return honest(self, *args, **options)

    monkeypatch.setattr(BACKENDS["loky"], "configure", configure)
    with processes():
        solved(gram)
    assert set(asked) == {7 * 24 * 3600}


@pytest.mark.parametrize("cluster", [processes, dask, ray])
def test_workers_find_the_bits_of_one_process(cluster: Any, gram: Gram) -> None:
    alone = solved(gram)
    with cluster():
        assert workers_of(None) is not None
        assert solved(gram) == alone


def test_ray_gets_the_matrix_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without a cluster: what stands in the tasks is what was put, and a worker gets it by that.
    kept: list[Any] = []
    store = SimpleNamespace(put=lambda G: kept.append(G) or "ref", get=lambda ref: kept[0])
    monkeypatch.setitem(sys.modules, "ray", store)
    G = np.eye(2)
    sent: list[Any] = []

    def at_worker(work: Any, shared: Any, item: int) -> Any:
        sent.append(shared)
        return _at_worker(work, shared, item)

    monkeypatch.setattr(_workers, "_at_worker", at_worker)
    assert list(Workers("RayBackend", 1, streams=True).results(lambda G, i: G[0, 0] + i, G, range(3))) == [1, 2, 3]
    assert sent == ["ref"] * 3
    assert len(kept) == 1
    assert kept[0] is G


@pytest.mark.parametrize("threads", [2, 3])
def test_so_do_threads(threads: int, gram: Gram) -> None:
    assert solved(gram, n_jobs=threads) == solved(gram, n_jobs=1)


def test_a_path_and_a_warm_start_on_workers(gram: Gram) -> None:
    mus = [3.0, 0.5, 1.0]
    first = MuLasso(mu=1.0, warm_start=True).fit_gram(gram)
    path = mulasso_path(gram, mus)
    second = first.fit_gram(gram).n_iter_.copy()
    with joblib.parallel_config(backend="loky", n_jobs=2):
        assert mulasso_path(gram, mus).tobytes() == path.tobytes()
        assert first.fit_gram(gram).n_iter_.tolist() == second.tolist()


def test_what_fits_one_batch_stays_here(gram: Gram, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_schedule, "_ELEMENTS", {"cpu": 2**18})
    monkeypatch.setattr(Workers, "results", None)
    with joblib.parallel_config(backend="loky", n_jobs=2):
        assert solved(gram)


def test_which_backends_have_workers() -> None:
    assert workers_of(None) is None
    assert workers_of(3) is None
    with joblib.parallel_config(backend="threading", n_jobs=2):
        assert workers_of(None) is None
    with joblib.parallel_config(backend="loky", n_jobs=1):
        assert workers_of(None) is None
    with joblib.parallel_config(backend="loky", n_jobs=3):
        assert workers_of(None) == Workers("LokyBackend", 3, streams=True)
        assert workers_of(2) == Workers("LokyBackend", 2, streams=True)
    with joblib.parallel_config(backend="loky"):
        assert workers_of(None) == Workers("LokyBackend", -1, streams=True)


# Written here, so that workers get them by value and need not import this file with its libraries.
PERISH = lambda G, item: item == 3 and os._exit(9)  # noqa: E731
FAIL = lambda G, item: 1 / (item - 3)  # noqa: E731


@pytest.mark.parametrize(
    ("work", "said"), [(PERISH, "TerminatedWorkerError: A worker"), (FAIL, "ZeroDivisionError: division by zero;")]
)
def test_a_worker_that_fails_is_one_line(work: Any, said: str) -> None:
    message = f"^joblib's backend LokyBackend did not solve all classes: {said}.*Gram matrix \\(0.0 GiB\\).*$"
    with pytest.raises(InterpNetError, match=message) as caught:
        list(Workers("LokyBackend", 2, streams=True).results(work, np.eye(2), range(6)))
    assert "\n" not in str(caught.value)


def test_an_error_of_ours_stays_as_it_is() -> None:
    def refuse(G: Any, item: int) -> int:
        raise InterpNetError("item is wrong")

    with pytest.raises(InterpNetError, match=r"^item is wrong$"):
        list(Workers("LokyBackend", 2, streams=True).results(refuse, np.eye(2), range(2)))


def test_memory_that_is_read_only_is_viewed_not_copied() -> None:
    array = np.arange(6.0).reshape(2, 3)
    assert _as_writable(array) is array
    array.flags.writeable = False
    view = _as_writable(array)
    assert torch.from_numpy(view).tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert view.ctypes.data == array.ctypes.data
