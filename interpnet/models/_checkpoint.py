"""What a checkpoint holds beside weights, read without its classes: inert stand-ins take their places.

``torch.load(weights_only=True)`` refuses every class that it does not know. Metrics as numpy scalars, or the command
line's options, are no reason to refuse the weights beside them. The stand-ins keep that refusal's promise: nothing of
numpy or of the file is called with what the file says.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Numbers only: an array of objects is a list of whatever the file says.
_NUMBERS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1"}


class _Inert:
    """Stands for an object of which nothing is needed."""

    def __new__(cls, *_arguments: object, **_named: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_arguments: object, **_named: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass


class _Type(_Inert):
    """Stands for a numpy dtype, of which it keeps code and byte order."""

    def __init__(self, code: object = "", *_rest: object) -> None:
        self.code = str(code)
        self.order = "="

    def __setstate__(self, state: Any) -> None:
        self.order = str(state[1])


class StoredArray(_Inert):
    """Stands for a numpy array; :meth:`tensor` reads its numbers."""

    _state: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        self._state = tuple(state)

    def tensor(self) -> Tensor | None:
        """Return the numbers as a tensor, or None where these are no numbers or do not fit the shape."""
        try:
            _version, shape, kind, is_fortran, content = self._state
            if kind.code not in _NUMBERS or not isinstance(content, bytes):
                return None
            numbers = np.frombuffer(content, np.dtype(kind.code).newbyteorder(kind.order))
            array = numbers.reshape(tuple(shape))
            if is_fortran:
                array = numbers.reshape(tuple(shape)[::-1]).T
            return torch.from_numpy(np.array(array, dtype=kind.code, order="C"))
        except (TypeError, ValueError, AttributeError):
            return None


def _stored_array(*_arguments: object) -> StoredArray:
    return StoredArray()


_STAND_INS: dict[str, Any] = {
    "numpy.ndarray": StoredArray,
    "numpy.dtype": _Type,
    "argparse.Namespace": _Inert,
    "types.SimpleNamespace": _Inert,
    "datetime.datetime": _Inert,
    "datetime.date": _Inert,
    "datetime.timedelta": _Inert,
    # Lightning's dictionary of hyper-parameters, by the names of its versions.
    "pytorch_lightning.utilities.parsing.AttributeDict": OrderedDict,
    "lightning.pytorch.utilities.parsing.AttributeDict": OrderedDict,
    "lightning_fabric.utilities.data.AttributeDict": OrderedDict,
    "lightning.fabric.utilities.data.AttributeDict": OrderedDict,
}
# numpy 1 and 2.
_STAND_INS |= {f"numpy.{core}.multiarray.scalar": _Inert for core in ("core", "_core")}
_STAND_INS |= {f"numpy.{core}.multiarray._reconstruct": _stored_array for core in ("core", "_core")}
_STAND_INS |= {
    f"{module}.{name}": _Inert
    for module in ("pathlib", "pathlib._local")
    for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
}


def stand_ins() -> AbstractContextManager[Any]:
    """Let ``torch.load(weights_only=True)`` meet harmless classes that checkpoints often name."""
    return torch.serialization.safe_globals([(stand_in, name) for name, stand_in in _STAND_INS.items()])
