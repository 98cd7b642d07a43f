"""Files of Grams and stability selections carry a format; those without one are of earlier versions and are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interpnet.errors import RunFolderError
from interpnet.gram import Gram
from interpnet.mulasso import Stability

CASES = [
    (Gram(np.eye(2), np.ones((2, 1)), np.ones(1), 3), "interpnet-gram-1"),
    (Stability(np.array([[1.0, 0.5]]), 4, 10.0, False), "interpnet-stability-1"),
]


@pytest.mark.parametrize(("value", "name"), CASES)
def test_files_carry_a_format(value: Any, name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    value.save(path)
    with np.load(path) as data:
        arrays = {key: data[key] for key in data.files}
    assert str(arrays.pop("format")) == name
    first = next(iter(arrays))
    # As earlier versions wrote it.
    np.savez(path, **arrays)
    np.testing.assert_array_equal(getattr(type(value).load(path), first), getattr(value, first))
    np.savez(path, format=np.array(f"{name[:-1]}2"), **arrays)
    with pytest.raises(RunFolderError, match=rf"a.npz' has format '{name[:-1]}2'; expected '{name}'"):
        type(value).load(path)
