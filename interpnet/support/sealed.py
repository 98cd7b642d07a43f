"""Arrays in one ``.npz`` file with what they are, every array and the description under a checksum."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from interpnet.errors import RunFolderError
from interpnet.support.checks import instance_of
from interpnet.support.checksums import check_seal, checksum, seal
from interpnet.support.io import atomic_path, npz_path, read_arrays

Arrays = dict[str, npt.NDArray[Any]]


def write_sealed(
    path: str | os.PathLike[str], arrays: Mapping[str, Any], meta: Mapping[str, Any], *, small: bool
) -> None:
    """Write arrays and a JSON-able description with its ``format``, atomically and without pickling.

    ``small`` compresses, which takes longer.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "two.npz"
    >>> write_sealed(path, {"two": np.array(2)}, {"format": "numbers-1", "of": "apples"}, small=False)
    >>> with read_sealed(path, ["two"], "numbers", "numbers-1") as (meta, arrays):
    ...     meta["of"], int(arrays["two"])
    ('apples', 2)
    """
    sums = {name: _sum_of(array) for name, array in arrays.items()}
    sealed = json.dumps(seal({**meta, "checksums": sums}), allow_nan=False)
    save = np.savez_compressed if small else np.savez
    # Through a handle, because savez would append a suffix to the name.
    with atomic_path(npz_path(path)) as tmp, tmp.open("wb") as handle:
        save(handle, **dict(arrays), meta=np.array(sealed))


@contextmanager
def read_sealed(
    path: str | os.PathLike[str], names: Sequence[str], what: str, file_format: str
) -> Iterator[tuple[dict[str, Any], Arrays]]:
    """Yield the description and the arrays ``names`` that :func:`write_sealed` wrote.

    A file that is missing, damaged, of another format, or whose content does not make a ``what`` (an error within the
    ``with`` block) is a :class:`RunFolderError`.
    """
    with read_arrays(path, (*names, "meta"), what) as data:
        meta = instance_of(json.loads(str(data.pop("meta"))), "meta", dict)
        if meta.get("format") != file_format:
            raise RunFolderError(f"{str(path)!r} has format {meta.get('format')!r}; expected {file_format!r}")
        check_seal(meta, repr(str(path)))
        for name, array in data.items():
            if _sum_of(array) != meta["checksums"][name]:
                raise ValueError(f"the checksum of {name} does not fit")
        yield meta, data


def _sum_of(array: npt.NDArray[Any]) -> str:
    return checksum(np.ascontiguousarray(array).tobytes())
