"""Several processes of a test: a function in each of them, in one group of torch.distributed."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

_SECONDS = 60.0  # after which a test of several processes has failed
# Forked from a process that has loaded torch and nothing else: loading it again would take seconds for every one.
_processes = multiprocessing.get_context("forkserver")
_LOADED = ("torch.distributed", "interpnet", "interpnet.pipelines.auditing.steps", "interpnet.pipelines.report.build")
_processes.set_forkserver_preload(["interpnet.pipelines.cli.commands", "torch._dynamo", "sklearn.metrics", *_LOADED])


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
        return _outcomes(world, _in_group, str(Path(folder) / "store"), function, args)


class Ended(NamedTuple):
    """How a command line ended in one process."""

    code: int
    out: str
    err: str


def command_in_processes(world: int, *arguments: str, first: Callable[[int], None] | None = None) -> list[Ended]:
    """Return how ``interpnet ARGUMENTS`` ended in each of ``world`` processes that torchrun would have started.

    ``first``, which stands at the top of a test file, is called with the process's rank before.
    """
    from torch.distributed import TCPStore

    # torchrun's own process keeps the store, so that it is there whichever of the others ends.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    outcomes = _outcomes(world, _command, store.port, arguments, first)
    assert [outcome.error for outcome in outcomes] == [""] * world
    return [outcome.result for outcome in outcomes]


def _outcomes(world: int, target: Callable[..., Any], *args: Any) -> list[Outcome]:
    started = []
    for rank in range(world):
        ours, theirs = _processes.Pipe()
        process = _processes.Process(target=_run, args=(theirs, target, rank, world, *args), daemon=True)
        process.start()
        theirs.close()
        started.append((process, ours))
    return [_outcome(process, ours) for process, ours in started]


def _in_group(rank: int, world: int, store: str, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    from torch import distributed

    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    return function(*args)


def _command(
    rank: int, world: int, port: int, arguments: tuple[str, ...], first: Callable[[int], None] | None
) -> Ended:
    from interpnet.pipelines.cli.app import main

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    if first is not None:
        first(rank)
    out = io.StringIO()
    err = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    return Ended(code, out.getvalue(), err.getvalue())


def _run(to_test: Connection, target: Callable[..., Any], *args: Any) -> None:
    import torch

    torch.set_num_threads(1)
    try:
        sent = (target(*args), "")
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
