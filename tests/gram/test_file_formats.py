"""Files of Grams and stability selections carry a format; those without one are of earlier versions and are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interpnet.pipelines.run.selection import how_chosen

from interpnet.errors import InterpNetError, RunFolderError
from interpnet.gram import Gram
from interpnet.mulasso import SelectionCurve, Stability

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


MUS = np.array([1.0, 2.0, 4.0])


def curve(chosen: Any) -> SelectionCurve:
    return SelectionCurve(MUS, MUS, MUS / 9, None, None, MUS, chosen, chosen, chosen, "one_se", 5)


@pytest.mark.parametrize(
    ("chosen", "end"),
    [
        (1.0, "smallest"),
        (2.0, ""),
        (4.0, "largest"),
        (np.array([1.0, 1.0]), "smallest"),
        (np.array([4.0, 4.0, 4.0]), "largest"),
        (np.array([1.0, 4.0]), ""),
        (np.array([2.0]), ""),
    ],
)
def test_the_end_of_the_radii(chosen: Any, end: str) -> None:
    assert curve(chosen).end == end


def test_words_about_one_mu_per_class_are_refused() -> None:
    with pytest.raises(InterpNetError, match="one mu per class"):
        how_chosen(curve(np.array([1.0, 2.0])))
    assert "smallest" in how_chosen(curve(1.0))
