"""Files of weights: read them without running code from them, and fit them to a model strictly."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from interpnet.errors import ModelError, did_you_mean

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".ckpt", ".bin", ".tar")

# What DataParallel, torch.compile and Lightning put before every name.
_WRAPPER_PREFIXES = ("module.", "_orig_mod.", "model.")
_SHOWN_KEYS = 4


def existing_file(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` as a :class:`~pathlib.Path` of a file, or raise ModelError with close matches."""
    file = Path(path)
    if file.is_file():
        return file
    if file.is_dir():
        raise ModelError(f"{str(path)!r} is a folder, expected a file of weights")
    if not file.parent.is_dir():
        raise ModelError(f"weights file {str(path)!r} does not exist, nor does its folder")
    names = [entry.name for entry in file.parent.iterdir() if entry.is_file()]
    raise ModelError(f"weights file {str(path)!r} does not exist{did_you_mean(file.name, names)}")


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a state dict from a safetensors file or a torch checkpoint, onto the CPU.

    A torch checkpoint is read with ``weights_only=True``, which runs no code from it; it may be the bare
    state dict or hold one under ``"state_dict"`` or ``"model"``. A file that is missing, damaged, of another kind, a
    TorchScript archive, or needs unpickling is a ModelError.

    Examples
    --------
    >>> import tempfile, pathlib, torch
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "w.pt"
    >>> torch.save({"state_dict": torch.nn.Linear(2, 1).state_dict()}, path)
    >>> sorted(read_weights(path))
    ['bias', 'weight']
    """
    file = existing_file(path)
    suffix = file.suffix.lower()
    if suffix not in WEIGHT_SUFFIXES:
        raise ModelError(
            f"weights file {str(path)!r} ends in {suffix!r}, expected .safetensors, .pt or .pth; "
            "write one with safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
        )
    if suffix != ".safetensors":
        return _read_torch(file)
    try:
        return load_file(str(file))
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"weights file {str(path)!r} is damaged or no safetensors file ({error}); copy or download it again"
        ) from error


def _read_torch(file: Path) -> dict[str, Tensor]:
    shown = repr(str(file))
    if _is_torchscript(file):
        raise ModelError(
            f"{shown} is a TorchScript archive, which hides the network's operators; save the original "
            "model's weights instead: torch.save(model.state_dict(), 'weights.pt')"
        )
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        # Torch raises this one type for a pickle that wants code and for bytes that are no pickle.
        if not _looks_pickled(file):
            raise ModelError(f"{shown} is no torch checkpoint, or damaged; copy or download it again") from error
        raise ModelError(
            f"{shown} needs unpickling, which could run any code in it, and is refused. Convert it where you "
            "trust it: load it with your own code, then torch.save(model.state_dict(), 'weights.pt')"
        ) from error
    except (RuntimeError, EOFError, OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        # Torch's messages go on for many lines; some errors have none.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{shown} is damaged or no torch checkpoint ({reason}); copy or download it again") from error
    return _state_dict_in(content, shown)


def _is_torchscript(file: Path) -> bool:
    with suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(file) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
    return False


def _looks_pickled(file: Path) -> bool:
    # A zip archive, as torch writes today, or a bare pickle of protocol 2 or later, as it once did.
    with file.open("rb") as handle:
        start = handle.read(4)
    return start == b"PK\x03\x04" or start[:1] == b"\x80"


def _state_dict_in(content: object, shown: str) -> dict[str, Tensor]:
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise ModelError(f"{shown} holds a {type(content).__name__}, expected a state dict: names to tensors")
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not state or len(state) < len(content):
        names = ", ".join(repr(str(name)) for name in list(content)[:_SHOWN_KEYS]) or "nothing"
        raise ModelError(
            f"{shown} holds {names}, expected a state dict (names to tensors), bare or under 'state_dict' or 'model'"
        )
    return state


def fit_weights(model: nn.Module, weights: Mapping[str, Tensor], *, source: str) -> None:
    """Load ``weights`` into ``model``, strictly, after taking off a wrapper's uniform prefix.

    ``num_batches_tracked`` of a BatchNorm may be missing: evaluation does not use it. Where names or shapes do not
    fit, a ModelError lists the first few of each kind, says that they come from ``source``, and the model is unchanged.
    """
    own = model.state_dict()
    weights = _without_prefix(weights, own)
    missing = [name for name in own if name not in weights and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in weights if name not in own]
    misshaped = [
        f"{name} {tuple(weights[name].shape)} for {tuple(value.shape)}"
        for name, value in own.items()
        if name in weights and isinstance(value, Tensor) and weights[name].shape != value.shape
    ]
    if missing or unexpected or misshaped:
        kinds = {"missing": missing, "unexpected": unexpected, "shape": misshaped}
        text = "; ".join(_listed(kind, keys) for kind, keys in kinds.items() if keys)
        if not missing and not unexpected:
            text += _class_count_hint(weights, own)
        raise ModelError(f"weights {source!r} do not fit {type(model).__name__}: {text}")
    # Not strict, because of the missing counters; all else is checked above.
    model.load_state_dict(weights, strict=False)


def _without_prefix(weights: Mapping[str, Tensor], own: Mapping[str, object]) -> dict[str, Tensor]:
    state = dict(weights)
    foreign = [prefix for prefix in _WRAPPER_PREFIXES if not any(name.startswith(prefix) for name in own)]
    # Wrappers nest in any order, so one pass over the prefixes is not enough.
    while state and (shared := [p for p in foreign if all(name.startswith(p) for name in state)]):
        state = {name.removeprefix(shared[0]): value for name, value in state.items()}
    return state


def _listed(kind: str, keys: list[str]) -> str:
    more = f" and {len(keys) - _SHOWN_KEYS} more" if len(keys) > _SHOWN_KEYS else ""
    return f"{kind} {', '.join(keys[:_SHOWN_KEYS])}{more}"


def _class_count_hint(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Say ``num_classes=N`` where only first axes differ, all in the same way, as for a fine-tuned classifier."""
    pairs = {
        (weights[name].shape[0], value.shape[0])
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape and value.dim() and weights[name].dim()
    }
    # Where other axes differ too, it is another architecture, and the hint would mislead.
    same_tails = all(weights[name].shape[1:] == value.shape[1:] for name, value in own.items() if name in weights)
    if len(pairs) == 1 and same_tails:
        theirs, ours = pairs.pop()
        return f". The file seems to be for {theirs} classes where the model has {ours}: give num_classes={theirs}"
    return ""
