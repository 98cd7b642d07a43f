"""What a network computes, told apart from how its file is written: modules, and the calls of one forward pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from interpnet.engine import evaluating, tensors_in
from interpnet.support.checksums import checksum

from .folder import digest


def architecture(model: nn.Module, images: Tensor, output: Callable[[Any], Any] | None = None) -> str:
    """Return a digest of a network's modules and of every torch call that a forward pass on ``images`` makes.

    ``output``, a function of what the network returns, is part of the pass.

    Two files with the same digest (and the same weights) make the same network as far as one pass shows: the same
    operators in the same order, of the same tensors, with the same constants. A scripted module's calls cannot be seen;
    its code counts instead.
    """
    scripted = [module.code for module in model.modules() if isinstance(module, torch.jit.ScriptModule)]
    own = images.clone()  # a network may work on its input in place
    calls = _Calls(model, own)
    with evaluating(model), torch.inference_mode(), calls:
        result = model(own)
        if output is not None:
            output(result)
    # A module's text may hold addresses of functions.
    text = re.sub(r"0x[0-9a-fA-F]+", "", repr(model))
    return digest([text, scripted, calls.made])


class _Calls(TorchFunctionMode):
    """Notes the torch functions that make tensors, each with what it was given."""

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        super().__init__()
        self.made: list[list[str]] = []
        # By identity: a tensor's own equality compares its numbers. The tensors are kept, so no identity comes twice.
        self._names: dict[int, tuple[str, Tensor]] = {id(images): ("images", images)}
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            self._names[id(tensor)] = (name, tensor)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = [self._shown(value) for value in (args, dict(kwargs or {}))]
        result = func(*args, **(kwargs or {}))
        tensors = list(tensors_in(result))
        # What makes no tensor (a shape, a text) shows in the constants of later calls.
        if tensors:
            self.made.append([str(resolve_name(func) or getattr(func, "__name__", func)), *given])
        for position, tensor in enumerate(tensors):
            self._names.setdefault(id(tensor), (f"{len(self.made)}.{position}", tensor))
        return result

    def _shown(self, value: Any) -> str:
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, list | tuple):
            return f"[{', '.join(map(self._shown, value))}]"
        if isinstance(value, dict):
            return f"{{{', '.join(f'{key}: {self._shown(entry)}' for key, entry in value.items())}}}"
        # The same network on another device is the same network.
        if isinstance(value, torch.device) or (isinstance(value, str) and value.partition(":")[0] in {"cpu", "cuda"}):
            return "device"
        return re.sub(r"0x[0-9a-fA-F]+", "", repr(value))

    def _tensor(self, value: Tensor) -> str:
        kind = f"{value.dtype} {tuple(value.shape)}"
        if id(value) in self._names:
            return f"{self._names[id(value)][0]} {kind}"
        # A constant of the file: its numbers count.
        return f"{checksum(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)} {kind}"
