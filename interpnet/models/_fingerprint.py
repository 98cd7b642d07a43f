"""What tells one network's values from another's."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from interpnet.engine import check_runnable
from interpnet.errors import ModelError


def fingerprint_model(model: nn.Module) -> str:
    """SHA-256 over the state dict's names, dtypes, shapes and bytes, in the order of the names.

    Of a quantised tensor its integers and what they stand for count. A parameter without values (of a lazy module, or
    on the device ``meta``) is a :class:`ModelError`.
    """
    check_runnable(model)
    digest = hashlib.sha256()
    # Sorted, because the order of a state dict is that of the code that made the modules.
    try:
        state = sorted(model.state_dict().items())
    except Exception as error:
        raise ModelError(f"{type(model).__name__}.state_dict() raised {type(error).__name__}: {error}") from error
    for name, value in state:
        _add(digest, name, value)
    return digest.hexdigest()


def _add(digest: Any, name: str, value: Any) -> None:
    """Add one entry of a state dict to a digest; the weights of a quantised linear map come in a tuple."""
    if isinstance(value, tuple | list):
        for i, entry in enumerate(value):
            _add(digest, f"{name}.{i}", entry)
    elif isinstance(value, Tensor) and value.is_quantized:
        _add(digest, name, [value.int_repr(), value.dequantize()])
    elif isinstance(value, Tensor):
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        flat = value.detach().cpu().to_dense().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    else:  # a module's extra state; its text is the best that holds for any object
        digest.update(f"{name}\0{type(value).__qualname__}\0{value!r}\0".encode())
