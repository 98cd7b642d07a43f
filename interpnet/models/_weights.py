"""Files of weights, read without running code from them."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file

from interpnet.errors import ModelError, did_you_mean
from interpnet.models._checkpoint import stand_ins
from interpnet.models._state_dicts import Weights
from interpnet.support.io import as_path

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".ckpt", ".bin", ".tar")

_SHOWN_KEYS = 4


def existing_file(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` as a :class:`~pathlib.Path` of a file, or raise ModelError with close matches."""
    file = as_path(path)
    if file.is_file():
        return file
    if file.is_dir():
        raise ModelError(f"{str(path)!r} is a folder, expected a file of weights")
    if not file.parent.is_dir():
        raise ModelError(f"weights file {str(path)!r} does not exist, nor does its folder")
    names = [entry.name for entry in file.parent.iterdir() if entry.is_file()]
    raise ModelError(f"weights file {str(path)!r} does not exist{did_you_mean(file.name, names)}")


def read_weights(path: str | os.PathLike[str]) -> Weights:
    """Read a safetensors file or a torch checkpoint onto the CPU.

    A torch checkpoint is read with ``weights_only=True``, which runs no code from it. A file that is missing, damaged,
    of another kind, a TorchScript archive, holds no weights, or needs unpickling is a ModelError.

    Examples
    --------
    >>> import tempfile, pathlib, torch
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "w.pt"
    >>> torch.save({"state_dict": torch.nn.Linear(2, 1).state_dict()}, path)
    >>> sorted(read_weights(path).names)
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
        # By its content, because safetensors opens no name that is not UTF-8.
        if str(file).encode(errors="ignore").decode() != str(file):
            return Weights(repr(str(file)), load(file.read_bytes()))
        return Weights(repr(str(file)), load_file(str(file)))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, MemoryError) as error:
        raise ModelError(
            f"weights file {str(path)!r} is damaged or no safetensors file ({error}); copy or download it again"
        ) from error


def _read_torch(file: Path) -> Weights:
    shown = repr(str(file))
    if _is_torchscript(file):
        raise ModelError(
            f"{shown} is a TorchScript archive, which hides the network's operators; save the original "
            "model's weights instead: torch.save(model.state_dict(), 'weights.pt')"
        )
    try:
        with stand_ins(), warnings.catch_warnings():
            # Torch speaks of pickle's protocols and of how long it checks.
            warnings.simplefilter("ignore")
            content = torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        # Torch raises this one type for a pickle that wants code and for bytes that are no pickle.
        if not _looks_pickled(file):
            raise ModelError(f"{shown} is no torch checkpoint, or damaged; copy or download it again") from error
        raise ModelError(
            f"{shown} needs unpickling, which could run any code in it, and is refused. Convert it where you "
            "trust it: load it with your own code, then torch.save(model.state_dict(), 'weights.pt')"
        ) from error
    except Exception as error:
        # A damaged file makes torch raise whatever its first wrong byte leads to; its messages go on for many lines.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{shown} is damaged or no torch checkpoint ({reason}); copy or download it again") from error
    return _weights_in(content, shown)


def _weights_in(content: object, shown: str) -> Weights:
    if not isinstance(content, Mapping):
        raise ModelError(f"{shown} holds a {type(content).__name__}, expected a state dict: names to tensors")
    weights = Weights(shown, content)
    if not weights.state_dicts:
        names = ", ".join(repr(str(name)) for name in list(content)[:_SHOWN_KEYS]) or "nothing"
        raise ModelError(
            f"{shown} holds {names}, expected a state dict (names to tensors), bare or under a key such as 'state_dict'"
        )
    return weights


def _is_torchscript(file: Path) -> bool:
    with suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(file) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
    return False


def _looks_pickled(file: Path) -> bool:
    # A zip archive, as torch writes today, or a bare pickle of protocol 2 or later, as it once did.
    with file.open("rb") as handle:
        start = handle.read(4)
    return start == b"PK\x03\x04" or start[:1] == b"\x80"
