"""How a command runs: its module is imported only now, and a user's mistake ends in one line."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NoReturn

import typer

EXIT_ERROR, EXIT_INTERRUPTED = 2, 130


def run_command(command: str, given: Mapping[str, Any], *, module: str = "interpnet.pipelines.cli.commands") -> None:
    """Run a command's work; end a user's mistake with one line and exit code 2, Ctrl-C with 130."""
    from interpnet.support.allocator import keep_freed_memory

    keep_freed_memory()
    try:
        getattr(import_module(module), command)(given)
    except KeyboardInterrupt as error:
        _end(str(error) or "interrupted", EXIT_INTERRUPTED)
    except (ValueError, OSError) as error:
        from interpnet.errors import InterpNetError

        if not isinstance(error, InterpNetError | OSError):
            raise
        _end(f"error: {error}", EXIT_ERROR)


def _end(message: str, code: int) -> NoReturn:
    """Print a message on one line of stderr, whatever it holds, and exit."""
    typer.echo(" ".join(message.split()), err=True)
    raise typer.Exit(code)
