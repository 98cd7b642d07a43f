"""Files of contributions: what was saved comes back, and what is damaged or foreign is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from interpnet.engine import ChannelIndex
from interpnet.errors import InterpNetError, RunFolderError
from interpnet.reliance import Contributions

CHANNELS = ChannelIndex((("a", 2), ("b", 1)))


def contributions(**changes: object) -> Contributions:
    values = {
        "channels": CHANNELS,
        "classes": ("x", "y"),
        "counts": np.array([3, 0]),
        "margins": np.array([1.5, 0.0]),
        "moments": np.arange(15.0).reshape(5, 1, 3),
        "level": np.ones(3),
        "fill": "mean",
        "images": 4,
        "info": {"outputs": "exclusive"},
    }
    return Contributions(**(values | changes))


def changed(path: Path, **arrays: object) -> None:
    with np.load(path, allow_pickle=False) as data:
        content = dict(data)
    np.savez(path, **(content | arrays))


def test_all_of_it_comes_back(tmp_path):
    found = contributions()
    found.save(tmp_path / "c.npz")
    read = Contributions.load(tmp_path / "c.npz")
    for name in ("channels", "classes", "fill", "images", "info"):
        assert getattr(read, name) == getattr(found, name)
    for name in ("counts", "margins", "moments", "level", "reference", "mean", "stderr"):
        np.testing.assert_array_equal(getattr(read, name), getattr(found, name))
    np.testing.assert_array_equal((read + found).counts, [6, 0])


def test_a_flipped_number_is_noticed(tmp_path):
    contributions().save(tmp_path / "c.npz")
    moments = contributions().moments
    moments[0, 0, 0] += 1e-12
    changed(tmp_path / "c.npz", moments=moments)
    with pytest.raises(RunFolderError, match="the checksum of moments does not fit"):
        Contributions.load(tmp_path / "c.npz")


def test_an_edited_description_is_noticed(tmp_path):
    contributions().save(tmp_path / "c.npz")
    with np.load(tmp_path / "c.npz", allow_pickle=False) as data:
        meta = json.loads(str(data["meta"]))
    changed(tmp_path / "c.npz", meta=np.array(json.dumps(meta | {"images": 5})))
    with pytest.raises(RunFolderError, match="is damaged or was edited"):
        Contributions.load(tmp_path / "c.npz")
    changed(tmp_path / "c.npz", meta=np.array(json.dumps(meta | {"format": "interpnet-contributions-9"})))
    with pytest.raises(RunFolderError, match="has format 'interpnet-contributions-9'; expected"):
        Contributions.load(tmp_path / "c.npz")


def test_what_is_no_file_of_contributions_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="does not exist"):
        Contributions.load(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", X=np.zeros(3))
    with pytest.raises(RunFolderError, match="holds no contributions: it lacks"):
        Contributions.load(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("no zip")
    with pytest.raises(RunFolderError, match="holds no contributions that can be read"):
        Contributions.load(tmp_path / "text.npz")
    with pytest.raises(InterpNetError, match=r"expected a name that ends in \.npz"):
        contributions().save(tmp_path / "c.zip")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": np.array([3])}, r"counts is no \(2,\) array"),
        ({"counts": np.array([3, -1])}, r"counts is no \(2,\) array"),
        ({"counts": np.array([3.0, 0.0])}, r"counts is no \(2,\) array"),
        ({"moments": np.zeros((2, 1, 3))}, r"moments has shape \(2, 1, 3\); expected \(5, 1, 3\)"),
        ({"moments": np.zeros((5, 2, 3))}, r"moments has shape \(5, 2, 3\); expected \(5, 1, 3\)"),
        ({"margins": np.array([np.nan, 0.0])}, "margins holds NaN or infinity"),
        ({"level": np.zeros(2)}, r"level has shape \(2,\); expected \(3,\)"),
        ({"fill": "median"}, "fill is 'median'; expected 'zero' or 'mean' or 'given'"),
        ({"images": -1}, "images is -1; expected a whole number of at least 0"),
        ({"classes": ("x", 1)}, "a name in classes is 1"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(InterpNetError, match=message):
        contributions(**changes)


def test_classes_are_found_by_name_and_prices_are_not_negative():
    found = contributions()
    assert found.class_index("y") == 1
    with pytest.raises(InterpNetError, match="unknown class 'z'"):
        found.ranking("z")
    with pytest.raises(InterpNetError, match=r"price is -0\.5; expected a number of at least 0"):
        found.specific(-0.5)
