"""Run a function of the user's own file that makes a network."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path

from torch import nn

from interpnet.errors import ModelError
from interpnet.support.user_code import called, function_of, split_spec


def split_factory_spec(spec: str) -> tuple[Path, str]:
    """Split ``"path/to/file.py:factory"`` into the file and the function's name."""
    return split_spec(spec, "model", ModelError, "factory", "makes the network")


def run_factory(path: Path, factory: str, num_classes: int | None) -> nn.Module:
    """Call ``factory`` in the file ``path``, which is imported as :func:`function_of` says.

    What the network needs of other files is imported at the top or in the factory, not in a ``forward``.
    """
    with function_of(path, factory, "model", ModelError) as function:
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


def _call(function: Callable[..., object], path: Path, factory: str, num_classes: int | None) -> object:
    if isinstance(function, nn.Module) and num_classes is None:
        # A network made when the file was imported; to call it would be to run it.
        return function
    arguments = {}
    if num_classes is not None:
        _require_parameter(function, path, factory, num_classes)
        arguments["num_classes"] = num_classes
    return called(function, path, factory, ModelError, **arguments)


def _require_parameter(function: Callable[..., object], path: Path, factory: str, num_classes: int) -> None:
    """Raise a ModelError where a factory does not take ``num_classes``: without it, it would be ignored."""
    parameters = inspect.signature(function).parameters.values()
    taken = [one.name for one in parameters if one.kind is not inspect.Parameter.VAR_KEYWORD]
    if isinstance(function, nn.Module) or (len(taken) == len(parameters) and "num_classes" not in taken):
        raise ModelError(
            f"num_classes is {num_classes}, but {path}:{factory} takes {', '.join(taken) or 'no argument'}; give the "
            "function a parameter num_classes, or leave num_classes out (--num-classes)"
        )
