"""Signals, closed pipes and killed workers: the command says so in one line, and the audit can be gone on with."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from experiments.common.tables import Line
from experiments.reliability.campaign import Campaign, Draw, verdict
from experiments.reliability.kills import Shared, judge_again, prepare, wait_for
from experiments.reliability.processes import Ended, Running, command, fork, spawn, spawned, stopped_at_end
from experiments.reliability.scene import STAGES
from experiments.reliability.stopping import kill_at

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def attempt(shared: Shared, draw: Draw) -> Line:
    """Disturb one audit and run it again."""
    kind: Callable[[Shared, Draw], Line] = draw.of([*[by_signal] * 6, *[closed_pipe] * 2, killed_worker, full_pipe])
    return kind(shared, draw)


def by_signal(shared: Shared, draw: Draw) -> Line:
    """Send a signal at a random moment of a random stage, as often as an impatient user does."""
    random = draw.random
    scene = shared.scene
    run = scene.fresh("run")
    arguments = scene.audit(run.name)
    number = random.choice(_SIGNALS)
    stage = random.choice(list(STAGES))
    if random.random() < 0.5:
        nth = random.randint(1, shared.changes[STAGES[stage]])
        what = f"{number.name} at file operation {nth} in {STAGES[stage]}"
        ended = fork(command(arguments), scene.where, partial(kill_at, nth, STAGES[stage], number)).wait()
    else:
        start: Callable[[], Running] = partial(fork, command(arguments), scene.where)
        if random.random() < 0.2:
            start = partial(spawn, arguments, scene.where)
        times = random.choice([1, 1, 2, 5])
        what = f"{times} x {number.name} in {stage}"
        with stopped_at_end(start()) as process:
            wait_for(process, run, stage, random.uniform(0, shared.seconds[stage]))
            for _ in range(times):
                process.send(number)
                time.sleep(0.01)
            ended = process.wait()
    return _judge(shared, what, run, arguments, ended)


def _judge(shared: Shared, what: str, run: Path, arguments: list[str], ended: Ended) -> Line:
    if ended.code == -signal.SIGHUP:
        return verdict(what, "unclear", "SIGHUP ended the command as it stood, without a word")
    if ended.fate not in {"interrupted", "done", "refused"}:
        return verdict(what, ended.fate, f"exit {ended.code}: {ended.err}")
    return judge_again(shared, what, run, arguments, ended.fate)


def closed_pipe(shared: Shared, draw: Draw) -> Line:
    """Close the other end of the command's output, as ``| head -3`` does; the results are written all the same."""
    random = draw.random
    scene = shared.scene
    run = scene.fresh("run")
    arguments = scene.audit(run.name)
    lines = random.randrange(4)
    both = random.random() < 0.3
    what = f"pipe closed after {lines} lines" + ", errors too" * both
    errors_to = {True: subprocess.STDOUT, False: subprocess.PIPE}[both]
    process = spawned(arguments, scene.where, stdout=subprocess.PIPE, stderr=errors_to)
    assert process.stdout is not None
    for _ in range(lines):
        process.stdout.readline()
    process.stdout.close()
    errors = ""
    if process.stderr is not None:
        errors = process.stderr.read()
        process.stderr.close()
    code = process.wait()
    # A shell's tools end so: quietly, by the signal or with its number.
    if code in {-signal.SIGPIPE, 128 + signal.SIGPIPE, 0, 130} and errors.count("\n") <= 1:
        return judge_again(shared, what, run, arguments, "done")
    return verdict(what, ("unclear", "internal error")["Traceback" in errors], f"exit {code}: {errors}")


def full_pipe(shared: Shared, _draw: Draw) -> Line:
    """Write the output to a device that is full."""
    scene = shared.scene
    run = scene.fresh("run")
    arguments = scene.audit(run.name)

    def setup() -> None:
        handle = os.open("/dev/full", os.O_WRONLY)
        os.dup2(handle, 1)

    ended = fork(command(arguments), scene.where, setup).wait()
    # Nothing could be said on stdout; one line on stderr and a status other than 0 is all there is to ask for.
    if "Traceback" in ended.err or ended.err.count("\n") > 2:
        return verdict("output on a full device", "internal error", f"exit {ended.code}: {ended.err}")
    return judge_again(shared, "output on a full device", run, arguments, "done")


def killed_worker(shared: Shared, draw: Draw) -> Line:
    """Kill a process that reads images, as the kernel does when memory is short."""
    random = draw.random
    scene = shared.scene
    run = scene.fresh("run")
    arguments = scene.audit(run.name)
    after = random.uniform(0, 0.05)
    what = f"a worker killed {after:.3f} s after its start"
    with stopped_at_end(fork(command([*arguments, "--workers", "2"]), scene.where)) as process:
        children: list[int] = []
        while process.poll() is None and not children:
            children = _children(process.pid)
        time.sleep(after)
        for child in children[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        ended = process.wait()
    if ended.fate not in {"refused", "done"}:
        return verdict(what, ended.fate, f"exit {ended.code}: {ended.err}")
    return judge_again(shared, what, run, arguments, ended.fate)


def _children(pid: int) -> list[int]:
    """Return the processes that a process has started, on Linux."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    except OSError:
        return []
    return [int(word) for word in text.split()]


CAMPAIGN = Campaign("signals, closed pipes, killed workers, then the audit run again", 120, prepare, attempt)
