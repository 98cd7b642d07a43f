"""Running one command line: what a user's mistake, Ctrl-C and a closed pipe end it with."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer
from typer.main import get_command

from interpnet.errors import InterpNetError

from ..run.several import leave, together
from ..run.stopping import end_with, stoppable
from .failures import (
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    EXIT_PIPE,
    say_end,
    silence,
    usable_streams,
    with_traceback,
)

#: The option that shows where an error came from.
TRACEBACK = "--traceback"


def run_line(app: typer.Typer, argv: Sequence[str] | None) -> int:
    """Run a command line and return its exit code; without ``argv`` that of the process, which then ends with it."""
    arguments = sys.argv[1:]
    if argv is not None:
        arguments = list(argv)
    # Anywhere on the line, for it is wanted once the rest is typed.
    shown = with_traceback.set(TRACEBACK in arguments)
    arguments = [argument for argument in arguments if argument != TRACEBACK]
    try:
        with usable_streams(), stoppable(to_the_end=argv is None):
            code = end_with(flushed(run(app, arguments)))
            if argv is None:
                leave(code)
            return code
    finally:
        with_traceback.reset(shown)


def run(app: typer.Typer, arguments: list[str]) -> int:
    """Run a command line and return its exit code."""
    try:
        with together():
            return _command(app, arguments)
    except InterpNetError as error:
        return say_end(f"error: {error}", EXIT_ERROR)
    except KeyboardInterrupt as error:
        return say_end("interrupted", EXIT_INTERRUPTED, error)


def _command(app: typer.Typer, arguments: list[str]) -> int:
    # The base of typer's errors for wrong arguments, which newer versions keep to themselves.
    usage_error: type[Exception] = next(
        base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
    )
    try:
        result = get_command(app).main(args=arguments, prog_name="interpnet", standalone_mode=False)
    except usage_error as error:
        message = getattr(error, "format_message", error.__str__)()
        return say_end(f"error: {message} (interpnet --help tells more)", EXIT_ERROR)
    except (KeyboardInterrupt, typer.Abort):
        return say_end("interrupted", EXIT_INTERRUPTED, KeyboardInterrupt())
    except typer.Exit as error:
        return error.exit_code
    except SystemExit as error:
        # Click ends so where nobody reads what it prints itself.
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        silence()
        return EXIT_PIPE
    except OSError as error:
        return _unprinted(error)
    if isinstance(result, int):
        return result
    return 0


def flushed(code: int) -> int:
    """Write out what is still to be printed, and return the exit code: that of a failure where it cannot be."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return _unprinted(error)
    return code


def _unprinted(error: OSError) -> int:
    """Return the exit code where something could not be printed."""
    code = EXIT_PIPE
    if not isinstance(error, BrokenPipeError):
        typer.echo(f"error: the output cannot be written: {error.strerror}", err=True)
        code = EXIT_ERROR
    silence()
    return code
