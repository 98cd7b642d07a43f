"""Attribution methods and rankings of the user's own that a run names: registered ones, and functions in files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any

from interpnet.ablation import find_ranking, rankings, register_ranking
from interpnet.attribution import METHODS, find_method, register_method
from interpnet.errors import InterpNetError
from interpnet.support.user_code import function_of, split_spec

from .config import RunConfig

#: The settings that can name files, each with how what they name is entered and found.
KINDS: dict[str, tuple[str, Callable[..., None], Callable[[str], Any]]] = {
    "methods": ("method", register_method, find_method),
    "rankings": ("ranking", register_ranking, find_ranking),
}
# What was registered because a run named its file, by setting: another run's file of that name takes its place.
_from_files: dict[str, set[str]] = {setting: set() for setting in KINDS}


def in_file(spec: str) -> bool:
    """Whether a method or ranking is named by its file, ``file.py:function``."""
    return spec.rpartition(":")[0].endswith(".py")


def short_names(specs: Iterable[str]) -> list[str]:
    """Return what methods or rankings are called in results: the function's name of those in files.

    Examples
    --------
    >>> short_names(["gradient", "mine/saliency.py:smooth"])
    ['gradient', 'smooth']
    """
    return [spec.rpartition(":")[2] if in_file(spec) else spec for spec in specs]


def check_named(settings: Mapping[str, Any]) -> None:
    """Refuse a method or ranking that is neither registered nor a function in a file, and two of one name."""
    for setting, (what, _, find) in KINDS.items():
        specs = settings.get(setting) or ()
        for spec in specs:
            if ".py" in spec:
                split_spec(spec, what, InterpNetError, "function", "is the " + what)
            else:
                find(spec)
        names = short_names(dict.fromkeys(specs))
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise InterpNetError(f"--{setting}: {names.count(twice[0])} of them are called {twice[0]!r}; rename one")


def register_named(config: RunConfig) -> None:
    """Import the files that the methods and rankings of a run name, and register their functions."""
    for setting, (what, register, _) in KINDS.items():
        for spec in filter(in_file, getattr(config, setting)):
            written, name = split_spec(spec, what, InterpNetError, "function", "is the " + what)
            path = Path(config.path(str(written)))
            with function_of(path, name, what, InterpNetError) as function:
                register(name, function, replace=name in _from_files[setting])
            _from_files[setting].add(name)


def code_digests(config: RunConfig, setting: str, known: Mapping[str, str]) -> dict[str, str]:
    """Return a digest of the code of each method or ranking of the user's own, by what the settings call it.

    ``known`` are those of the run so far, for what is not there any more: a program registered it, or its file is gone.
    """
    found = {}
    for spec in getattr(config, setting):
        if in_file(spec):
            file = Path(config.path(spec.rpartition(":")[0]))
            found[spec] = known.get(spec, "")
            if file.is_file():
                found[spec] = hashlib.sha256(file.read_bytes()).hexdigest()
        elif setting == "rankings" or spec not in METHODS or METHODS[spec].family == "own":
            function = _registered(setting, spec)
            found[spec] = known.get(spec, "") if function is None else _code_digest(function)
    return found


def _registered(setting: str, name: str) -> Any:
    """Return the function that is registered under a name, ``None`` where there is none."""
    if setting == "methods":
        return getattr(METHODS[name].run, "own_function", None) if name in METHODS else None
    return find_ranking(name) if name in rankings() else None


def _code_digest(function: Any) -> str:
    """Return a digest of what a function does, as far as its own code says it."""
    digest = hashlib.sha256()
    while isinstance(function, partial):
        digest.update(repr((function.args, function.keywords)).encode("utf-8", "backslashreplace"))
        function = function.func
    if not hasattr(function, "__code__"):
        # An object that can be called.
        function = getattr(type(function), "__call__", function)  # noqa: B004 - its function is wanted
    defaults = [getattr(function, name, None) for name in ("__qualname__", "__defaults__", "__kwdefaults__")]
    digest.update(repr(defaults).encode("utf-8", "backslashreplace"))
    if hasattr(function, "__code__"):
        _add_code(digest, function.__code__)
    return digest.hexdigest()


def _add_code(digest: Any, code: CodeType) -> None:
    digest.update(code.co_code + repr(code.co_names).encode())
    for constant in code.co_consts:
        # A function within the function; its repr has an address.
        if isinstance(constant, CodeType):
            _add_code(digest, constant)
        elif isinstance(constant, frozenset):
            # Its order is another in every process.
            digest.update(repr(sorted(map(repr, constant))).encode("utf-8", "backslashreplace"))
        else:
            digest.update(repr(constant).encode("utf-8", "backslashreplace"))
