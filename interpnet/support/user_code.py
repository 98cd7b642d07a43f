"""A function in a file of the user's own: its file imported, found by name, and what it raises put in words."""

from __future__ import annotations

import importlib.util
import itertools
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from interpnet.errors import InterpNetError, did_you_mean

_serial = itertools.count()


def split_spec(spec: str, what: str, kind: type[InterpNetError], function: str, does: str) -> tuple[Path, str]:
    """Split ``"path/to/file.py:function"`` into the file and the function's name.

    For the error of type ``kind``: ``what`` the file is for, what such a ``function`` is called, and what it ``does``.

    Examples
    --------
    >>> split_spec("nets/mine.py:make", "model", InterpNetError, "factory", "makes the network")[1]
    'make'
    """
    path, _, name = spec.rpartition(":")
    if not path.endswith(".py") or not name.isidentifier():
        raise kind(f"{what} {spec!r}: expected 'path/to/file.py:{function}', a file and the function in it that {does}")
    return Path(path), name


@contextmanager
def function_of(path: Path, name: str, what: str, kind: type[InterpNetError]) -> Iterator[Callable[..., Any]]:
    """Import ``path`` under a name of its own and give what is called ``name`` in it.

    The file's folder can be imported from meanwhile and leaves no trace: ``sys.path`` is as before, and the folder's
    modules are forgotten, so that two folders may each have a ``blocks.py``. What is needed of them is therefore
    imported at the top of the file or while the function runs.
    """
    if not path.is_file():
        siblings = [entry.name for entry in path.parent.glob("*.py")]
        raise kind(f"{what} file {str(path)!r} does not exist{did_you_mean(path.name, siblings)}")
    with _importable_folder(path.resolve().parent):
        module = _import(path, what, kind)
        function = getattr(module, name, None)
        if not callable(function):
            known = [word for word, value in vars(module).items() if callable(value) and not word.startswith("_")]
            listed = f"; it has {', '.join(known[:8])}" if known else ""
            raise kind(f"{str(path)!r} has no function {name!r}{did_you_mean(name, known) or listed}")
        yield function


def called(
    function: Callable[..., Any], path: Path, name: str, kind: type[InterpNetError], *args: Any, **kwargs: Any
) -> Any:
    """Call a function of :func:`function_of`; what it raises becomes one error with the user's file and line."""
    try:
        return function(*args, **kwargs)
    except InterpNetError:
        raise
    except (Exception, SystemExit) as error:
        raise kind(f"{path}:{name} raised {cause(error, path.resolve())}") from error


@contextmanager
def _importable_folder(folder: Path) -> Iterator[None]:
    path_before = list(sys.path)
    modules_before = set(sys.modules)
    bytecode_before = sys.dont_write_bytecode
    sys.path.insert(0, str(folder))
    # Bytecode is taken for that of a file edited within the second, if its size is the same.
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = bytecode_before
        sys.path[:] = path_before
        for name in set(sys.modules) - modules_before:
            file = getattr(sys.modules[name], "__file__", None)
            if file is not None and folder in Path(file).parents:
                del sys.modules[name]
        # Finders remember a folder's listing; a file edited and loaded again must be seen.
        importlib.invalidate_caches()


class _FromSource(SourceFileLoader):
    """What runs a file as it is now, whatever bytecode lies beside it."""

    def get_code(self, fullname: str) -> CodeType:
        """Compile the file."""
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _import(path: Path, what: str, kind: type[InterpNetError]) -> ModuleType:
    # A number for each import: a file edited meanwhile, or another of that name, must not meet the first module.
    name = f"_interpnet_file_{next(_serial)}_{path.stem}"
    file = path.resolve()
    spec = importlib.util.spec_from_file_location(name, file, loader=_FromSource(name, str(file)))
    if spec is None or spec.loader is None:
        raise kind(f"{what} file {str(path)!r} cannot be imported; expected a Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and annotations look their module up by name while it runs.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise kind(
            f"importing {what} file {str(path)!r} failed: {cause(error, file)}. "
            "Repair the file, or run it with python to see more"
        ) from error
    return module


def cause(error: BaseException, file: Path) -> str:
    """Name the error and the deepest line of the user's own folder that led to it."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if file.parent in Path(frame.filename).parents]
    where = (own or frames)[-1]
    hint = ""
    if isinstance(error, ImportError) and "relative import" in str(error):
        hint = "; the file is no part of a package: import what lies beside it by name, 'from blocks import ...'"
    return f"{type(error).__name__}: {error} ({where.filename}:{where.lineno}){hint}"
