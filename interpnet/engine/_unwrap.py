"""The network itself, inside of what wraps it."""

from __future__ import annotations

import torch
from torch import nn

from interpnet.engine._readable import check_runnable
from interpnet.errors import ModelError


def _hint(model: object) -> str:
    if isinstance(model, type):
        return f": an instance, such as {model.__name__}()"
    if type(model).__name__ == "ExportedProgram":
        return ": the Python module that was exported, with the same weights"
    return ""


def unwrap(model: nn.Module) -> nn.Module:
    """Return the eager module inside ``torch.compile``, ``DataParallel`` or ``DistributedDataParallel``.

    What is no module, has a TorchScript module in it, or parameters without values, is a :class:`ModelError`.

    Examples
    --------
    >>> unwrap(torch.nn.DataParallel(torch.nn.ReLU()))
    ReLU()
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"model is a {type(model).__name__}; expected a torch.nn.Module{_hint(model)}")
    # Wrappers nest: a compiled model in a parallel one, or the other way round.
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrap(model.module)
    inner = getattr(model, "_orig_mod", None)
    if isinstance(inner, nn.Module):
        return unwrap(inner)
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            part = f"its part {name!r}" if name else "it"
            raise ModelError(
                f"the model cannot be traced: {part} is a TorchScript module, which hides its operators. "
                "Pass the original Python module with the same weights instead."
            )
    check_runnable(model)
    return model
