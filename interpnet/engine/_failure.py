"""Where a user's code failed: the exception, the layer, and the file and line, as words for one message."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import Any

import torch
from torch import nn

from interpnet.engine._early_stop import Stop
from interpnet.errors import InterpNetError

# The frames of torch and of this package are never what the user looks for.
_LIBRARIES = tuple(f"{folder}{os.sep}" for folder in (Path(torch.__file__).parent, Path(__file__).parents[1]))
_INSTALLED = ("site-packages", "dist-packages")
# A message of torch may list every backend that there is.
_LONGEST = 300
#: What passes through a forward pass unchanged: our own errors, the end of a pass that we asked for, memory that ran
#: out (callers go on with fewer images) and warnings that the user has turned into errors.
UNTOUCHED = (InterpNetError, Stop, MemoryError, torch.OutOfMemoryError, Warning)


def what_failed(error: BaseException) -> str:
    """Return an exception as one line: its type and the first lines of its text.

    Examples
    --------
    >>> what_failed(KeyError("logits"))
    "KeyError: 'logits'"
    """
    text = " ".join(str(error).split())
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} ..."
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def where_raised(error: BaseException, model: nn.Module | None = None) -> str:
    """Return the layer of ``model`` and the user's own file and line in which an exception was raised."""
    module: Any = None
    # The user's own code first, then that of other packages.
    places: dict[bool, str] = {}
    for frame, line in traceback.walk_tb(error.__traceback__):
        own = frame.f_locals.get("self")
        if isinstance(own, nn.Module):
            module = own
        file = frame.f_code.co_filename
        if not file.startswith(_LIBRARIES):
            places[any(part in file for part in _INSTALLED)] = f"file {file!r}, line {line}"
    words = []
    if model is not None and module is not None:
        words += [f"in layer {name!r}, {_kind(m)}" for name, m in model.named_modules() if m is module and name]
    place = places.get(False) or places.get(True)
    if place:
        words.append(place)
    return "; ".join(words) or "in torch's own code"


def _kind(module: nn.Module) -> str:
    kind = f"a {type(module).__name__}"
    channels = getattr(module, "in_channels", None)
    if isinstance(channels, int):
        return f"{kind} that takes {channels} channels"
    features = getattr(module, "in_features", None)
    if isinstance(features, int):
        return f"{kind} that takes {features} features"
    return kind
