"""Comparing what two runs wrote: the same files, and the same numbers but for the rounding of sums in another order."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

_CLOSE = 1e-12
# Checksums are of numbers, which may differ by rounding; a manifest has times, and blocks of rows end at commits.
_OTHERS = frozenset({"checksum", "checksums", "files", "manifest", "blocks"})


def check_same(one: Path, other: Path, but: frozenset[str] = frozenset({"manifest.json"})) -> None:
    """Raise an AssertionError that names the first file in which two run folders differ; ``but`` are not compared."""
    names = _names(one) - but
    assert not names ^ (_names(other) - but), "only one of them has these"
    for name in sorted(names):
        _check_file(one / name, other / name, name)


def _names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _check_file(one: Path, other: Path, name: str) -> None:
    if one.suffix == ".json":
        _check_value(json.loads(one.read_text()), json.loads(other.read_text()), name)
    elif one.suffix == ".csv":
        _check_value(_cells(one), _cells(other), name)
    elif one.suffix == ".npz":
        with np.load(one) as first, np.load(other) as second:
            assert first.files == second.files, name
            for key in first.files:
                _check_array(first[key], second[key], f"{name} {key}")
    else:
        assert one.read_bytes() == other.read_bytes(), name


def _check_array(one: np.ndarray, other: np.ndarray, name: str) -> None:
    if one.dtype.kind == "f":
        # Of numbers that nearly cancel, the rounding is that of the large ones.
        large = float(np.abs(one).max(initial=0.0, where=np.isfinite(one)))
        if name.endswith(" gaps"):
            # A solution's relative gap is nothing but rounding.
            large = 1.0
        np.testing.assert_allclose(one, other, rtol=_CLOSE, atol=_CLOSE * large, err_msg=name)
    elif one.dtype.kind == "U" and one.ndim == 0 and str(one).startswith("{"):
        _check_value(json.loads(str(one)), json.loads(str(other)), name)
    else:
        np.testing.assert_array_equal(one, other, err_msg=name)


def _cells(path: Path) -> list[list[Any]]:
    with path.open(newline="") as lines:
        return [[_number(cell) for cell in row] for row in csv.reader(lines)]


def _number(cell: str) -> Any:
    try:
        return float(cell)
    except ValueError:
        return cell


def _check_value(one: Any, other: Any, where: str) -> None:
    if isinstance(one, dict) and isinstance(other, dict):
        assert one.keys() == other.keys(), where
        for key in one.keys() - _OTHERS:
            _check_value(one[key], other[key], f"{where} {key}")
    elif isinstance(one, list) and isinstance(other, list):
        assert len(one) == len(other), where
        for i, (first, second) in enumerate(zip(one, other, strict=True)):
            _check_value(first, second, f"{where} {i}")
    elif isinstance(one, float) and isinstance(other, float):
        assert math.isclose(one, other, rel_tol=_CLOSE, abs_tol=_CLOSE) or (math.isnan(one) and math.isnan(other)), (
            f"{where}: {one} and {other}"
        )
    else:
        assert one == other, f"{where}: {one!r} and {other!r}"
