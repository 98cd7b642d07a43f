"""How a command ends that cannot go on: one line on stderr, and the exit code that says whose fault it was."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import NoReturn, TextIO

import typer

from interpnet.errors import InterpNetError
from interpnet.support.text import one_line, printable

from ..run.several import to_be_said

EXIT_BUG = 1  # ours
EXIT_ERROR = 2  # a user's mistake
EXIT_INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it
EXIT_PIPE = 141  # 128 and the number of SIGPIPE: nobody reads what we print
#: Whether an error shows where it came from (``--traceback``).
with_traceback: ContextVar[bool] = ContextVar("with_traceback", default=False)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End a user's mistake with one line and exit code 2, Ctrl-C with 130, a mistake of ours with 1."""
    from interpnet.support.allocator import keep_freed_memory

    keep_freed_memory()
    try:
        yield
    except KeyboardInterrupt as error:
        end(str(error) or "interrupted", EXIT_INTERRUPTED, error)
    except BrokenPipeError:
        silence()
        raise typer.Exit(EXIT_PIPE) from None
    except (InterpNetError, OSError) as error:
        _show(error)
        end(f"error: {error}", EXIT_ERROR, error)
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, a user gets one line
        _show(error)
        reason = _of_the_machine(error)
        if reason:
            end(f"error: {reason}", EXIT_ERROR)
        end(
            f"internal error: {type(error).__name__}: {error} ({_where(error)}); this is a bug of InterpNet, not a "
            "mistake of yours. Run again with --traceback and report what it prints",
            EXIT_BUG,
        )


def _of_the_machine(error: Exception) -> str:
    """Return what to say of an error that is neither the user's nor ours; empty for others."""
    text = str(error)
    if "DataLoader worker" in text:
        first = text.splitlines()[0]
        return (
            f"a process that reads images ended early, often because memory ran out ({first}); use fewer --workers "
            "(0: none) or a smaller --batch-size"
        )
    if isinstance(error, MemoryError) or "not enough memory" in text:
        return f"memory ran out ({text or 'MemoryError'}); use a smaller --batch-size, fewer --layers or fewer images"
    return ""


def _where(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"


def _show(error: Exception) -> None:
    if with_traceback.get():
        for line in "".join(traceback.format_exception(error)).splitlines():
            _write(printable(line))


def end(message: str, code: int, error: BaseException | None = None) -> NoReturn:
    """Print a message on one line of stderr, whatever it holds, and exit."""
    raise typer.Exit(say_end(message, code, error))


def say_end(message: str, code: int, error: BaseException | None = None) -> int:
    """Print why the command ends on one line of stderr, unless another of several processes does; return the code."""
    said, code = to_be_said(message, code, error)
    if said is not None:
        _write(one_line(said))
    return code


def _write(line: str) -> None:
    # Nobody may be there to read it.
    with suppress(OSError, ValueError):
        typer.echo(line, err=True)


def silence() -> None:
    """Send what is still to be printed nowhere: its reader has gone, and Python would complain at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextmanager
def usable_streams() -> Iterator[None]:
    """Make stdout and stderr such that printing can only fail where the disk is full.

    Closed ones lead nowhere, letters that a terminal lacks are written as escapes, and warnings take one line.
    """
    # The lowest free numbers: else the next file that is opened would be stdout to everybody.
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    if sys.stdout is None:
        sys.stdout = _nowhere()
    if sys.stderr is None:
        sys.stderr = _nowhere()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    before = warnings.formatwarning
    warnings.formatwarning = _on_one_line
    try:
        yield
    finally:
        warnings.formatwarning = before


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


def _on_one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    del line  # of the source, which would be a second line
    return f"{printable(filename)}:{lineno}: {category.__name__}: {one_line(message)}\n"
