"""Classes shared out among the workers of the joblib backend that the user has chosen: processes, Dask or Ray."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from joblib import Parallel, delayed
from joblib.parallel import get_active_backend

from interpnet.errors import InterpNetError
from interpnet.support.types import Float64

# Seconds: joblib's own processes end when they were idle for five minutes, and a task that comes just then is lost
# now and then, so that whoever waits for it waits for ever. These stay until the program ends.
_IDLE = 7 * 24 * 3600
_OWN_PROCESSES = "LokyBackend"
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Workers:
    """Workers that share no memory with this process."""

    backend: str
    n_jobs: int
    streams: bool  # whether results come one by one

    def results(self, work: Callable[[Float64, Item], Result], G: Float64, items: Iterable[Item]) -> Iterator[Result]:
        """Yield ``work(G, item)`` of every item, in order; ``G`` goes to the workers once, not with every item.

        What a worker raises, and a worker that is lost, is an :class:`InterpNetError`.
        """
        return_as = "list"
        if self.streams:
            return_as = "generator"
        options = {}
        if self.backend == _OWN_PROCESSES:
            options["idle_worker_timeout"] = _IDLE
        try:
            # Each item is large: joblib must not gather several into one task.
            pool = Parallel(n_jobs=self.n_jobs, return_as=return_as, batch_size=1, **options)
            shared = self._shared(G)
            yield from pool(delayed(_at_worker)(work, shared, item) for item in items)
        except InterpNetError:
            raise
        except Exception as error:
            said = next(iter(str(error).splitlines()), "")
            raise InterpNetError(
                f"joblib's backend {self.backend} did not solve all classes: {type(error).__name__}: {said}; expected "
                f"workers that have this version of interpnet, and memory for the Gram matrix ({G.nbytes / 2**30:.1f} "
                "GiB). Without parallel_config(backend=...), threads of this process solve them"
            ) from error

    def _shared(self, G: Float64) -> Any:
        """Return what stands for ``G`` among the arguments: there joblib maps an array from a file, and Dask keeps it.

        Ray's backend would send it with every task, since joblib wraps what it submits.
        """
        if self.backend != "RayBackend":
            return G
        import ray

        return ray.put(G)


def workers_of(n_jobs: int | None) -> Workers | None:
    """Return the workers that ``joblib.parallel_config(backend=...)`` has chosen; None where threads do the work."""
    backend, configured = get_active_backend(prefer="threads")
    if getattr(backend, "uses_threads", False):
        return None
    # Whoever names a backend and no number wants all of its workers.
    jobs = n_jobs or configured or -1
    if jobs == 1:
        return None
    return Workers(type(backend).__name__, int(jobs), bool(backend.supports_return_generator))


def _at_worker(work: Callable[[Float64, Item], Any], G: Any, item: Item) -> Any:
    if not isinstance(G, np.ndarray):
        import ray

        G = ray.get(G)
    return work(_as_writable(G), item)


def _as_writable(array: Float64) -> Float64:
    """Return a view that torch takes without a warning; workers get memory that nobody may write to, and nobody does.

    The view does not keep ``array`` alive.
    """
    if array.flags.writeable:
        return array
    numbers = ctypes.cast(array.ctypes.data, ctypes.POINTER(ctypes.c_double))
    return np.ctypeslib.as_array(numbers, shape=array.shape)
