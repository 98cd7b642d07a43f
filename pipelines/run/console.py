"""Where a command prints what it finds: the terminal, unless it is to be quiet, and a log file, where one is kept."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from interpnet.errors import InterpNetError, RunFolderError
from interpnet.support.progress import no_bars
from interpnet.support.text import one_line

_PIPED_WIDTH = 140  # characters: a file has no width, and tables need one


@dataclass
class Log:
    """A text file to which lines are added, each with its time (UTC)."""

    file: TextIO

    def write(self, text: str) -> None:
        """Add some lines."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for line in text.splitlines():
            self.file.write(f"{now} {line}".rstrip() + "\n")
        self.file.flush()


@dataclass(frozen=True)
class _Printing:
    """What a command line said about what it prints."""

    quiet: bool = False
    stderr: bool = False  # stdout is for JSON alone
    log: Log | None = None


_printing: ContextVar[_Printing] = ContextVar("_printing", default=_Printing())  # noqa: B039 - it is frozen


class _Console(Console):
    """A console whose reader may leave: rich would end the process with the exit code of a finding."""

    log_file: Log | None = None

    def on_broken_pipe(self) -> None:
        """Let the command end as it does for any stream that nobody reads."""
        raise BrokenPipeError

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, and write the same into the log."""
        super().print(*objects, **options)
        if self.log_file is not None:
            text = io.StringIO()
            Console(file=text, width=_PIPED_WIDTH, force_jupyter=False, color_system=None).print(*objects, **options)
            self.log_file.write(text.getvalue())


def make_console(*, stderr: bool = False, quiet: bool = False, logged: bool = False) -> Console:
    """Return a console for results: on a terminal as wide as that, else wide enough for tables.

    With ``logged`` it prints nothing, but for the log. What :func:`printing` says of a command holds for all of its
    consoles.
    """
    printing = _printing.get()
    # In a notebook lines of text take less room than what rich makes of them.
    console = _Console(stderr=stderr or printing.stderr, quiet=quiet or logged or printing.quiet, force_jupyter=False)
    if not quiet:
        console.log_file = printing.log
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    return console


@contextmanager
def printing(command: str, *, quiet: bool = False, log: str | None = None, json: bool = False) -> Iterator[None]:
    """Let a command print nothing but errors, and keep in a file what it prints or would print, and how it ends.

    With ``json`` stdout is left to the JSON. ``InterpNetError`` for a file that cannot be written.
    """
    with ExitStack() as held:
        if quiet:
            held.enter_context(no_bars())
        kept = None
        if log is not None:
            kept = Log(held.enter_context(_appended(log)))
            kept.write(f"interpnet {command}")
        before = _printing.set(_Printing(quiet, json, kept))
        held.callback(_printing.reset, before)
        try:
            yield
        except BaseException as error:
            if kept is not None:
                kept.write(_end(error))
            raise
        if kept is not None:
            kept.write("exit code 0")


def _end(error: BaseException) -> str:
    """Say how a command ended."""
    code = getattr(error, "exit_code", None)
    if code is not None:
        return f"exit code {code}"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return one_line(f"{type(error).__name__}: {error}")


@contextmanager
def _appended(path: str) -> Iterator[TextIO]:
    """Open a file to add to; the folder it is to lie in is made."""
    with ExitStack() as held:
        with writing("--log", path):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            file = held.enter_context(Path(path).open("a", encoding="utf-8", errors="backslashreplace"))
        yield file


@contextmanager
def writing(option: str, path: str | Path) -> Iterator[None]:
    """Say of a file that an option names, and that cannot be written, so and why; an ``InterpNetError``."""
    try:
        yield
    except (OSError, RunFolderError) as error:
        cause = error.__cause__ or error
        raise InterpNetError(
            f"{option} {str(path)!r} cannot be written ({getattr(cause, 'strerror', None) or cause}); name a file in a "
            "folder that you may write to"
        ) from error
