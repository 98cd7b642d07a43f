"""Files of weights made to do harm."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import save_file

MARK = "ran.txt"  # what code that runs would write


class _Runs:
    """Writes a file where it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.place, "code ran"))


def _pickled(where: Path, name: str = "w.pt", **options: Any) -> Path:
    torch.save({"0.weight": torch.zeros(4, 3, 3, 3), "x": _Runs(where / MARK)}, where / name, **options)
    return where / name


def _written(where: Path, name: str, data: bytes) -> Path:
    (where / name).write_bytes(data)
    return where / name


def _safetensors(where: Path, head: bytes, length: int | None = None) -> Path:
    size = len(head) if length is None else length
    return _written(where, "w.safetensors", struct.pack("<Q", size) + head + bytes(64))


def _state() -> dict[str, torch.Tensor]:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), *[torch.nn.Identity()] * 3, torch.nn.Linear(4, 3))
    return {key: one.clone() for key, one in net.state_dict().items()}


def _good(where: Path, change: Callable[[dict[str, torch.Tensor]], None], form: str = "safetensors") -> Path:
    state = _state()
    change(state)
    path = where / f"w.{form}"
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def _zip(where: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(where / "w.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, data in entries.items():
            archive.writestr(entry, data)
    return where / "w.pt"


def _cut(path: Path, random: Random) -> Path:
    os.truncate(path, random.randrange(1, path.stat().st_size))
    return path


def _with_nan(state: dict[str, torch.Tensor]) -> None:
    state["0.weight"][0, 0, 0, 0] = float("nan")


def _without_bias(state: dict[str, torch.Tensor]) -> None:
    del state["4.bias"]


_HEAD = {"0.weight": {"dtype": "F32", "shape": [4, 3, 3, 3], "data_offsets": [0, 10**12]}}
HARMLESS = {"good", "good, as .pt"}
WEIGHTS: dict[str, Callable[[Path, Random], Path]] = {
    "good": lambda w, _: _good(w, lambda _s: None),
    "good, as .pt": lambda w, _: _good(w, lambda _s: None, "pt"),
    "a pickle that runs code": lambda w, _: _pickled(w),
    "an old pickle that runs code": lambda w, _: _pickled(w, _use_new_zipfile_serialization=False),
    "a pickle that runs code, named .safetensors": lambda w, _: _pickled(w, "w.safetensors"),
    "a bare pickle that runs code": lambda w, _: _written(w, "w.pth", pickle.dumps(_Runs(w / MARK))),
    "a bare pickle, named .bin": lambda w, _: _written(w, "w.bin", pickle.dumps(_Runs(w / MARK))),
    "nothing": lambda w, _: _written(w, "w.safetensors", b""),
    "nothing, as .pt": lambda w, _: _written(w, "w.pt", b""),
    "noise": lambda w, r: _written(w, "w.safetensors", r.randbytes(999)),
    "noise, as .pt": lambda w, r: _written(w, "w.pt", r.randbytes(999)),
    "a header of 10^18 bytes": lambda w, _: _safetensors(w, b"{}", 10**18),
    "a header that is no JSON": lambda w, _: _safetensors(w, b"{nonsense"),
    "offsets past the end": lambda w, _: _safetensors(w, json.dumps(_HEAD).encode()),
    "cut off": lambda w, r: _cut(_good(w, lambda _s: None), r),
    "cut off, as .pt": lambda w, r: _cut(_good(w, lambda _s: None, "pt"), r),
    "a zip of other files": lambda w, _: _zip(w, {"../../escaped.txt": b"x", "a": b"y"}),
    "a zip bomb": lambda w, _: _zip(w, {"archive/data.pkl": bytes(100_000_000)}),
    "weights with NaN": lambda w, _: _good(w, _with_nan),
    "an entry missing": lambda w, _: _good(w, _without_bias),
    "an entry too many": lambda w, _: _good(w, lambda s: s.update(more=torch.zeros(3))),
    "another shape": lambda w, _: _good(w, lambda s: s.update({"4.weight": torch.zeros(5, 4)})),
    "integers": lambda w, _: _good(w, lambda s: s.update({"4.weight": torch.zeros(3, 4, dtype=torch.int64)})),
    "complex": lambda w, _: _good(w, lambda s: s.update({"4.weight": torch.zeros(3, 4, dtype=torch.complex64)}), "pt"),
    "text": lambda w, _: _written(w, "w.safetensors", b"weights"),
    "JSON": lambda w, _: _written(w, "w.pt", b'{"0.weight": 1}'),
    "a list": lambda w, _: _saved(w, [1, 2, 3]),
    "a number": lambda w, _: _saved(w, 3),
    "None": lambda w, _: _saved(w, None),
    "an empty dictionary": lambda w, _: _saved(w, {}),
    "names that are numbers": lambda w, _: _saved(w, {1: torch.zeros(3), 2: torch.zeros(3)}),
}


def _saved(where: Path, value: Any) -> Path:
    torch.save(value, where / "w.pt")
    return where / "w.pt"
