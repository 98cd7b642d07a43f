"""Run a function of the user's own file that makes a network."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import itertools
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from torch import nn

from interpnet.errors import InterpNetError, ModelError, did_you_mean

_serial = itertools.count()


def split_factory_spec(spec: str) -> tuple[Path, str]:
    """Split ``"path/to/file.py:factory"`` into the file and the function's name."""
    path, _, factory = spec.rpartition(":")
    if not path.endswith(".py") or not factory.isidentifier():
        raise ModelError(
            f"model {spec!r}: expected 'path/to/file.py:factory', a file and the function in it that makes the network"
        )
    return Path(path), factory


def run_factory(path: Path, factory: str, num_classes: int | None) -> nn.Module:
    """Import ``path`` under a name of its own and call ``factory`` in it.

    The file's folder can be imported from meanwhile and leaves no trace: ``sys.path`` is as before, and
    the folder's modules are forgotten, so that two folders may each have a ``blocks.py``. What the
    network needs of them is therefore imported at the top or in the factory, not in a ``forward``.
    """
    if not path.is_file():
        siblings = [entry.name for entry in path.parent.glob("*.py")]
        raise ModelError(f"model file {str(path)!r} does not exist{did_you_mean(path.name, siblings)}")
    with _importable_folder(path.resolve().parent):
        module = _import(path)
        function = getattr(module, factory, None)
        if not callable(function):
            known = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
            listed = f"; it has {', '.join(known[:8])}" if known else ""
            raise ModelError(f"{str(path)!r} has no function {factory!r}{did_you_mean(factory, known) or listed}")
        model = _call(function, path, factory, num_classes)
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"{path}:{factory} returned a {type(model).__name__}, expected a torch.nn.Module: let it return the network"
        )
    return model


def code_digest(path: Path, model: nn.Module) -> str:
    """SHA-256 over the factory's file and the files of its folder that define the model's ``forward``."""
    folder = path.resolve().parent
    files = {path.resolve()}
    for module in model.modules():
        code = getattr(getattr(type(module), "forward", None), "__code__", None)
        if code is not None and folder in Path(code.co_filename).parents:
            files.add(Path(code.co_filename))
    digest = hashlib.sha256()
    # By the path below the folder, so that a copy elsewhere has the same digest.
    for file in sorted(file for file in files if file.is_file()):
        digest.update(
            file.relative_to(folder).as_posix().encode("utf-8", "surrogateescape") + b"\0" + file.read_bytes() + b"\0"
        )
    return digest.hexdigest()


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


def _import(path: Path) -> ModuleType:
    # A number for each import: a file edited meanwhile, or another of that name, must not meet the first module.
    name = f"_interpnet_factory_{next(_serial)}_{path.stem}"
    file = path.resolve()
    spec = importlib.util.spec_from_file_location(name, file, loader=_FromSource(name, str(file)))
    if spec is None or spec.loader is None:
        raise ModelError(f"model file {str(path)!r} cannot be imported; expected a Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and annotations look their module up by name while it runs.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"importing model file {str(path)!r} failed: {_cause(error, file)}. "
            "Repair the file, or run it with python to see more"
        ) from error
    return module


def _call(function: Callable[..., object], path: Path, factory: str, num_classes: int | None) -> object:
    if isinstance(function, nn.Module) and num_classes is None:
        # A network made when the file was imported; to call it would be to run it.
        return function
    try:
        arguments = {}
        if num_classes is not None:
            _require_parameter(function, path, factory, num_classes)
            arguments["num_classes"] = num_classes
        return function(**arguments)
    except InterpNetError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(f"{path}:{factory} raised {_cause(error, path.resolve())}") from error


def _require_parameter(function: Callable[..., object], path: Path, factory: str, num_classes: int) -> None:
    """Raise a ModelError where a factory does not take ``num_classes``: without it, it would be ignored."""
    parameters = inspect.signature(function).parameters.values()
    taken = [one.name for one in parameters if one.kind is not inspect.Parameter.VAR_KEYWORD]
    if isinstance(function, nn.Module) or (len(taken) == len(parameters) and "num_classes" not in taken):
        raise ModelError(
            f"num_classes is {num_classes}, but {path}:{factory} takes {', '.join(taken) or 'no argument'}; give the "
            "function a parameter num_classes, or leave num_classes out (--num-classes)"
        )


def _cause(error: BaseException, file: Path) -> str:
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
