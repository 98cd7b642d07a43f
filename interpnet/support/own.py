"""What a user registers under a name of his own: the name, which goes into file names, and the function."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from interpnet.errors import InterpNetError
from interpnet.support.checks import shown
from interpnet.support.user_code import cause

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,39}")


def check_name(name: Any, what: str, taken: Collection[str], own: Collection[str], *, replace: bool) -> None:
    """Refuse a name for ``what`` that is no name, is one of the library's (``taken``), or one of the user's ``own``.

    Capitals make no difference to what is taken: some file systems know none.

    Examples
    --------
    >>> check_name("mine", "method", ["gradient"], [], replace=False)
    >>> check_name("Gradient", "method", ["gradient"], [], replace=True)
    Traceback (most recent call last):
    ...
    interpnet.errors.InterpNetError: the method name 'Gradient' is taken by the library; expected another name
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InterpNetError(
            f"the {what} name is {shown(name)}; expected a letter, then at most 39 letters, digits, '_', '-' or '+'"
        )
    if name.lower() in {one.lower() for one in taken}:
        raise InterpNetError(f"the {what} name {name!r} is taken by the library; expected another name")
    same = [one for one in own if one.lower() == name.lower()]
    if same and not (replace and name in own):
        raise InterpNetError(
            f"a {what} {same[0]!r} is registered already; expected another name, or replace=True to take its place"
        )


def check_function(function: Any, what: str, arguments: tuple[str, ...]) -> Callable[..., Any]:
    """Return what can be called with that many arguments, by position; ``arguments`` are their names in words.

    Examples
    --------
    >>> check_function(len, "method", ("model", "images", "targets"))
    Traceback (most recent call last):
    ...
    interpnet.errors.InterpNetError: the method's function len cannot be called as len(model, images, targets)
    """
    words = ", ".join(arguments)
    if not callable(function):
        raise InterpNetError(f"the {what} is {shown(function)}; expected a function ({words})")
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError as error:
        name = getattr(function, "__name__", type(function).__name__)
        raise InterpNetError(f"the {what}'s function {name} cannot be called as {name}({words})") from error
    except ValueError:
        # Some functions written in C do not say what they take.
        pass
    checked: Callable[..., Any] = function
    return checked


def raised(function: Any, error: Exception) -> str:
    """Return what a registered function raised, with its own line, after "raised".

    Examples
    --------
    >>> raised(len, TypeError("no length")).partition(" (")[0]
    'TypeError: no length'
    """
    code = getattr(function, "__code__", None)
    if error.__traceback__ is None:
        return f"{type(error).__name__}: {error}"
    return cause(error, Path(getattr(code, "co_filename", "")))
