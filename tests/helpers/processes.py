"""Several processes of a test: a function in each of them, in one group of torch.distributed."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

_SECONDS = 60.0  # after which a test of several processes has failed
# Forked from a process that has loaded torch and nothing else: loading it again would take seconds for every one.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["torch.distributed", "interpnet", "interpnet.pipelines.cli.commands"])


class Outcome(NamedTuple):
    """How a function ended in one process."""

    result: Any  # what it returned
    error: str  # the kind and text of what it raised, else empty
    exit_code: int | None


def in_processes(world: int, function: Callable[..., Any], *args: Any) -> list[Outcome]:
    """Return how ``function(*args)`` ended in each of ``world`` processes, which are one gloo group.

    The function stands at the top of a test file, and what it returns is pickled.
    """
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for rank in range(world):
            ours, theirs = _processes.Pipe()
            arguments = (rank, world, Path(folder) / "store", theirs, function, args)
            process = _processes.Process(target=_run, args=arguments, daemon=True)
            process.start()
            theirs.close()
            started.append((process, ours))
        return [_outcome(process, ours) for process, ours in started]


def _run(
    rank: int, world: int, store: Path, to_test: Connection, function: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    try:
        sent = (function(*args), "")
    except Exception as error:  # noqa: BLE001 - the test looks at it
        sent = (None, f"{type(error).__name__}: {error}")
    to_test.send(sent)


def _outcome(process: Any, ours: Connection) -> Outcome:
    result: Any = None
    error = ""
    try:
        if ours.poll(_SECONDS):
            result, error = ours.recv()
    except EOFError:
        error = "it ended early"
    process.join(_SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
        error = error or "it did not end"
    return Outcome(result, error, process.exitcode)
