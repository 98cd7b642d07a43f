"""Commands and functions in processes of their own, so that one may be killed, may hang, or may end anyhow.

A command takes seconds to import torch and a tenth of that to run. Most cases therefore run in a fork of this process,
which has imported everything and has one thread. Charts are left blank: drawing them takes three quarters of an audit
of this size, and the tables beside them hold the same numbers.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

#: Seconds after which a process counts as hanging; nothing here takes a tenth of it on an idle machine.
PATIENCE = 120.0
# What takes long to import is imported before the example is run, so that it is not imported twice.
_SLOW = ("torch", "sympy", "interpnet.pipelines.cli.commands", "interpnet.pipelines.report.charts", "PIL.Image")
_MEMORY = 12 * 2**30  # bytes of address space: an array of terabytes is then an error here, not the machine's end


@dataclass(frozen=True)
class Ended:
    """How a process ended: exit status (negative: the signal that ended it) and what it wrote."""

    code: int
    out: str
    err: str
    hung: bool = False

    @property
    def fate(self) -> str:
        """``done``, ``refused`` (2, one line), ``interrupted`` (130, one line), or what is bad about it."""
        if self.hung:
            return "hang"
        if self.code not in {0, 1, 2, 130} or "Traceback (most recent call last)" in self.err + self.out:
            return "internal error"
        if self.code == 0:
            return "done"
        words = {2: "refused", 130: "interrupted"}
        # One line, also of what was printed before: a user reads the last one first.
        if self.err.strip().count("\n") or not self.err.strip():
            return "unclear"
        return words.get(self.code, "unclear")

    @property
    def last(self) -> str:
        """Exit status and the last line of the errors."""
        lines = self.err.strip().splitlines() or self.out.strip().splitlines() or [""]
        return f"exit {self.code}: {lines[-1][:300]}"


@dataclass
class Running:
    """A process at work; it leads a group of its own, its workers included."""

    pid: int
    streams: tuple[Path, Path]
    began: float = field(default_factory=time.monotonic)
    status: int | None = None

    def poll(self) -> int | None:
        """Return the exit status where it has ended."""
        if self.status is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status

    def send(self, number: int, *, group: bool = False) -> None:
        """Send a signal to it, or to its whole group, unless it has ended."""
        if self.poll() is None:
            target = {True: os.killpg, False: os.kill}[group]
            target(self.pid, number)

    def wait(self, patience: float = PATIENCE) -> Ended:
        """Wait for its end; past the patience its group is killed."""
        limit = time.monotonic() + patience
        hung = False
        while self.poll() is None:
            if time.monotonic() > limit:
                hung = True
                self.send(signal.SIGKILL, group=True)
            time.sleep(0.002)
        out, err = (path.read_text(encoding="utf-8", errors="replace") for path in self.streams)
        for path in self.streams:
            path.unlink()
        return Ended(self.status or 0, out, err, hung)


def _streams() -> tuple[Path, Path]:
    return (_empty_file(), _empty_file())


def _empty_file() -> Path:
    handle, name = tempfile.mkstemp(prefix="reliability-")
    os.close(handle)
    return Path(name)


def fork(function: Callable[[], int | None], where: Path, setup: Callable[[], None] | None = None) -> Running:
    """Run a function in a fork, in the folder ``where``; what it returns is the exit status (None: 0).

    ``setup`` runs before it, in the fork.
    """
    streams = _streams()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _child(function, where, streams, setup)
    return Running(pid, streams)


def blank_charts() -> None:
    """Make every figure write a file without drawing, from now on."""
    from matplotlib.figure import Figure

    setattr(Figure, "savefig", _save_blank)  # noqa: B010 - for mypy it would be another type


def _save_blank(_figure: Any, target: Any, **options: Any) -> None:
    if options.get("format") == "svg":
        target.write("<svg></svg>")
    else:
        Path(target).write_bytes(b"a chart")


def _child(
    function: Callable[[], int | None], where: Path, streams: tuple[Path, Path], setup: Callable[[], None] | None
) -> NoReturn:
    status = 1
    try:
        os.setpgid(0, 0)
        os.chdir(where)
        # Errors read as a command's do: without the colours and the width of this terminal.
        os.environ.update(NO_COLOR="1", TERM="dumb")
        for number, path in enumerate((Path(os.devnull), *streams)):
            handle = os.open(path, os.O_RDWR)
            os.dup2(handle, number)
            os.close(handle)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        blank_charts()
        if setup is not None:
            setup()
        status = function() or 0
    except SystemExit as error:
        status = _exit_status(error)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
    finally:
        _leave(status)


def _exit_status(error: SystemExit) -> int:
    if isinstance(error.code, int):
        return error.code
    if error.code is None:
        return 0
    print(error.code, file=sys.stderr)
    return 1


def _leave(status: int) -> NoReturn:
    """End a fork as an interpreter ends, without what this process had registered for its own end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            status = 120  # as the interpreter does
    os._exit(status)


def command(arguments: Sequence[str]) -> Callable[[], int]:
    """Return what runs ``interpnet ARGUMENTS`` in this process."""

    def run() -> int:
        from interpnet.pipelines.cli.app import main

        # As the process's own arguments, for main() ends a process otherwise than a call in the midst of one.
        sys.argv = ["interpnet", *arguments]
        return int(main())

    return run


def interpnet(
    arguments: Sequence[str], where: Path, setup: Callable[[], None] | None = None, patience: float = PATIENCE
) -> Ended:
    """Run ``interpnet ARGUMENTS`` in a fork to its end."""
    return fork(command(arguments), where, setup).wait(patience)


_AS_A_USER = """import sys
from experiments.reliability.processes import blank_charts, command
blank_charts()
sys.exit(command(sys.argv[1:])())
"""


def spawned(arguments: Sequence[str], where: Path, **streams: Any) -> subprocess.Popen[str]:
    """Start ``interpnet ARGUMENTS`` as a user does, in a new interpreter, as the leader of a group."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        [sys.executable, "-c", _AS_A_USER, *arguments],
        cwd=where,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env={**os.environ, "NO_COLOR": "1", "TERM": "dumb", "PYTHONPATH": path},
        **streams,
    )


def spawn(arguments: Sequence[str], where: Path) -> Running:
    """Start ``interpnet ARGUMENTS`` with its output in files."""
    streams = _streams()
    with streams[0].open("wb") as out, streams[1].open("wb") as err:
        process = spawned(arguments, where, stdout=out, stderr=err)
    process.returncode = 0  # it is waited for here, not by subprocess
    return Running(process.pid, streams)


def isolated(
    function: Callable[[], Any], where: Path, patience: float = PATIENCE, setup: Callable[[], None] | None = None
) -> tuple[Ended, Any]:
    """Run a function in a fork; return how that ended, and the JSON-able value (None where there is none)."""
    place = _empty_file()

    def run() -> None:
        place.write_text(json.dumps(function()), encoding="utf-8")

    ended = fork(run, where, setup).wait(patience)
    text = place.read_text(encoding="utf-8")
    place.unlink()
    value = None
    if ended.code == 0 and text:
        value = json.loads(text)
    return ended, value


def import_everything(example: Callable[[], int | None], where: Path) -> None:
    """Import here what ``example`` imports, found out in a fork: forks then start at once.

    It does not run here, because it would start threads, which forks do not have.
    """
    for name in _SLOW:
        import_module(name)

    def names() -> list[str]:
        status = example()
        if status:
            raise SystemExit(status)
        return [name for name, module in list(sys.modules.items()) if getattr(module, "__spec__", None)]

    ended, found = isolated(names, where)
    if found is None:
        raise RuntimeError(f"the undisturbed example failed: {ended.err or ended.out}")
    for name in found:
        if name not in sys.modules and not name.startswith("_"):
            try:
                __import__(name)
            except ImportError:
                continue  # a module that its package makes up
    settle()


def settle() -> None:
    """Keep what is imported out of the garbage collector's way: forks share it, and collect in no time."""
    gc.collect()
    gc.freeze()


@contextmanager
def stopped_at_end(process: Running) -> Iterator[Running]:
    """Kill a process and its workers at the end, whatever happens."""
    try:
        yield process
    finally:
        process.send(signal.SIGKILL, group=True)
