"""Data sets of the package datasets: the same images as in the folder they were made from, and every fault named."""

from __future__ import annotations

import io
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.shards import CLASSES, folder_of_kinds, png, rows_of
from PIL import Image

import interpnet.datasets._sources as sources
from interpnet.datasets import ImageData, load_dataset, make_loader
from interpnet.datasets import _hub as hub_module
from interpnet.errors import DataError, InterpNetError

hugging = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the copies that the package makes of parquet out of the user's cache, and its bars out of the tests."""
    monkeypatch.setattr(hugging.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    hugging.disable_progress_bars()


def features(**more: Any) -> Any:
    return hugging.Features({"image": hugging.Image(), "label": hugging.ClassLabel(names=list(CLASSES))} | more)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images, and data sets of it in every form."""
    hugging.disable_progress_bars()
    root = tmp_path_factory.mktemp("hub")
    folder = folder_of_kinds(root / "folder")
    parts = {
        name: hugging.Dataset.from_list(rows_of(folder / split), features=features())
        for name, split in (("train", "train"), ("validation", "val"))
    }
    hugging.DatasetDict(parts).save_to_disk(str(root / "saved"), num_shards={"train": 3, "validation": 1})
    (root / "parquet").mkdir()
    for name, part in parts.items():
        part.to_parquet(str(root / "parquet" / f"{name}-00000-of-00001.parquet"))
    return root


def loaded(place: str | Path, **options: Any) -> ImageData:
    return load_dataset(f"hf:{place}", **options)


def saved(root: Path, rows: list[dict[str, Any]], kinds: Any = None) -> Path:
    hugging.Dataset.from_list(rows, features=kinds).save_to_disk(str(root / "one"))
    return root / "one"


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("form", ["saved", "parquet", "saved/{train,validation}/*.arrow"])
def test_rows_are_the_folder_they_were_made_from(made: Path, form: str, split: str) -> None:
    folder = load_dataset(f"imagefolder:{made / 'folder'}", split=split, image_size=16)
    rows = loaded(made / form, split=split, image_size=16)
    assert rows.classes == folder.classes == CLASSES
    assert rows.labels.tolist() == folder.labels.tolist()
    assert all(torch.equal(rows[i][0], folder[i][0]) for i in range(len(folder)))
    assert len(rows) == len(folder) == 18


def test_names_and_notes_say_which_split(made: Path) -> None:
    data = loaded(made / "saved", split="test")
    assert data.name(3) == "saved/validation/3"
    assert data.notes == ("Training images are those of 'train', test images those of 'validation'.",)
    one = loaded(made / "saved" / "train", split="test")
    assert one.name(17) == "train/17"
    assert one.fingerprint() == loaded(made / "saved" / "train").fingerprint()


def test_workers_read_each_image_once(made: Path) -> None:
    data = loaded(made / "saved", image_size=16)
    alone = torch.cat([batch.images for batch in make_loader(data, batch_size=5)])
    loader = make_loader(data, batch_size=5, indices=range(3, 18), num_workers=2)
    batches = list(loader)
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(3, 18))
    assert torch.equal(torch.cat([batch.images for batch in batches]), alone[3:])
    again = pickle.loads(pickle.dumps(data))  # noqa: S301
    assert torch.equal(again[4][0], data[4][0])


LABELS: dict[str, tuple[Any, list[Any], list[Any], tuple[str, ...]]] = {
    "numbers": (hugging.Value("int32"), [2, 0], [2, 0], ("0", "1", "2")),
    "names": (hugging.Value("string"), ["wolf", "boat"], [1, 0], ("boat", "wolf")),
    "lists of classes": (
        hugging.features.Sequence(hugging.ClassLabel(names=["a", "b", "c"])),
        [[2, 0], []],
        [[1, 0, 1], [0, 0, 0]],
        ("a", "b", "c"),
    ),
    "lists of names": (
        hugging.features.Sequence(hugging.Value("string")),
        [["b"], ["a", "b"]],
        [[0, 1], [1, 1]],
        ("a", "b"),
    ),
    "rows of 0 and 1": (
        hugging.features.Sequence(hugging.Value("int8")),
        [[0, 1], [1, 1]],
        [[0, 1], [1, 1]],
        ("0", "1"),
    ),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_of_every_form(tmp_path: Path, case: str) -> None:
    kind, labels, expected, classes = LABELS[case]
    rows = [{"image": {"bytes": png(i), "path": None}, "target": label} for i, label in enumerate(labels)]
    data = loaded(saved(tmp_path, rows, hugging.Features({"image": hugging.Image(), "target": kind})))
    found = data.targets
    if found is None:
        found = data.labels
    assert found.astype(int).tolist() == expected
    assert data.classes == classes
    assert data.numbered is classes[0].isdigit()


def test_columns_by_type_by_name_and_by_option(tmp_path: Path) -> None:
    names = hugging.ClassLabel(names=["x", "y"])
    kinds = hugging.Features({"img": hugging.Image(), "coarse": names})
    path = saved(tmp_path / "a", [{"img": {"bytes": png(), "path": None}, "coarse": 1}], kinds)
    assert loaded(path).labels.tolist() == [1]
    kinds = hugging.Features(
        {"a": hugging.Value("binary"), "b": hugging.Value("binary"), "fine": names, "coarse": names}
    )
    path = saved(tmp_path / "b", [{"a": png(1), "b": png(2), "fine": 0, "coarse": 1}], kinds)
    with pytest.raises(DataError, match=r"has the columns a, b, fine, coarse; say which holds the images: \?inputs="):
        loaded(path)
    with pytest.raises(DataError, match=r"has the columns a, b, fine, coarse; say which holds the labels: \?labels="):
        loaded(f"{path}?inputs=a")
    with pytest.raises(DataError, match=r"has no 'coarze' for labels=coarze; .* did you mean 'coarse'"):
        loaded(f"{path}?inputs=a&labels=coarze")
    data = loaded(f"{path}?inputs=b&labels=coarse", channels=1, mean=0, std=1)
    assert data.labels.tolist() == [1]
    assert round(float(data[0][0].max()) * 255) == 2


def test_images_that_rows_name_as_files(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(5))
    rows = [{"image": {"bytes": None, "path": str(tmp_path / "x.png")}, "label": 0}]
    kinds = hugging.Features(
        {"image": {"bytes": hugging.Value("binary"), "path": hugging.Value("string")}, "label": hugging.Value("int64")}
    )
    data = loaded(saved(tmp_path, rows, kinds), channels=1, mean=0, std=1)
    assert round(float(data[0][0].max()) * 255) == 5
    assert len(data.fingerprint()) == 64


def test_rows_without_an_image_are_named_or_left_out(tmp_path: Path) -> None:
    rows = [{"image": {"bytes": content, "path": None}, "label": 0} for content in (png(), b"no image")]
    rows.append({"image": None, "label": 0})
    path = saved(tmp_path, rows, features())
    with pytest.raises(DataError, match=r"image 'one/1' cannot be read: it is no image of a known format"):
        list(make_loader(loaded(path)))
    loader = make_loader(loaded(path, on_bad_image="skip"))
    assert [len(batch.labels) for batch in loader] == [1]
    assert [(image.name, image.reason) for image in loader.skipped][1] == ("one/2", "its row holds no image")
    assert len(loaded(path).fingerprint()) == 64


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "hidden": (
        hugging.ClassLabel(names=["x", "y"]),
        -1,
        r"row 0 of split 'one' has the label -1; expected a class number",
    ),
    "missing": (
        hugging.Value("int64"),
        None,
        r"row 0 of split 'one' has the label 'None' \(NoneType\); expected a class",
    ),
    "a float": (hugging.Value("float32"), 1.5, r"row 0 of split 'one' has the label '1.5' \(float\); expected a class"),
    "yes or no": (hugging.Value("bool"), True, r"row 0 of split 'one' has the label 'True' \(bool\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_labels_that_are_refused(tmp_path: Path, case: str) -> None:
    kind, value, said = REFUSED[case]
    rows = [{"image": {"bytes": png(), "path": None}, "label": value}]
    path = saved(tmp_path, rows, hugging.Features({"image": hugging.Image(), "label": kind}))
    with pytest.raises(DataError, match=said):
        loaded(path)


def test_columns_that_hold_no_encoded_images(tmp_path: Path) -> None:
    path = saved(tmp_path, [{"image": [[1, 2], [3, 4]], "label": 0}])
    with pytest.raises(DataError, match=r"column 'image' of split 'one' is .*; expected images \(datasets.Image\) or"):
        loaded(path)


def test_splits_that_do_not_fit(tmp_path: Path, made: Path) -> None:
    rows = [{"image": {"bytes": png(), "path": None}, "label": 0}]
    one = hugging.Dataset.from_list(rows, features=features())
    other = hugging.Dataset.from_list(
        rows, features=hugging.Features({"image": hugging.Image(), "label": hugging.ClassLabel(names=["x"])})
    )
    hugging.DatasetDict({"train": one, "test": other}).save_to_disk(str(tmp_path / "a"))
    with pytest.raises(
        DataError, match="the splits 'train' and 'test' have other classes under 'label': 'cat', 'dog',"
    ):
        loaded(tmp_path / "a", split="test")
    hugging.DatasetDict({"en": one, "de": one}).save_to_disk(str(tmp_path / "b"))
    with pytest.raises(DataError, match=r"has the splits en, de; expected train and one of test, validation. Give the"):
        loaded(tmp_path / "b")
    hugging.DatasetDict({"train": one, "test": one, "validation": one}).save_to_disk(str(tmp_path / "c"))
    assert loaded(tmp_path / "c", split="test").name(0) == "c/test/0"
    assert loaded(f"{tmp_path / 'c'}?test=validation", split="test").name(0) == "c/validation/0"
    with pytest.raises(DataError, match=r"has no split 'valid' for \?test=valid; it has train, test, validation; did"):
        loaded(f"{tmp_path / 'c'}?test=valid")
    with pytest.raises(DataError, match=r"has one split; \?test= names a split of several"):
        loaded(f"{made}/saved/train?test=validation")
    (tmp_path / "d").mkdir()
    hugging.Dataset.from_dict({"image": [], "label": []}, features=features()).to_parquet(
        str(tmp_path / "d" / "x.parquet")
    )
    with pytest.raises(DataError, match=r"split 'train' of '.*' has no rows|corresponds to no data"):
        loaded(tmp_path / "d")


def test_places_that_are_refused(tmp_path: Path, made: Path) -> None:
    with pytest.raises(DataError, match=r"'ylecun/mnist' is not on this machine; hf: reads what is on a disk. Save"):
        loaded("ylecun/mnist")
    with pytest.raises(DataError, match=r"'.*/savd' is not on this machine; did you mean 'saved'"):
        loaded(made / "savd")
    with pytest.raises(DataError, match=r"matches no file; expected shards \(.parquet, .arrow\); .* 'imagefolder:/"):
        loaded(made / "folder" / "train")
    (tmp_path / "x.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(DataError, match=r"x.parquet' is no data set that the package datasets can read"):
        loaded(tmp_path / "x.parquet")
    (tmp_path / "x.arrow").write_bytes(b"no arrow at all")
    with pytest.raises(DataError, match=r"x.arrow' is no data set that the package datasets can read"):
        loaded(tmp_path / "x.arrow")
    with pytest.raises(DataError, match=r"has files of .arrow, .parquet; expected a folder of save_to_disk"):
        loaded(f"{tmp_path}/x.*")


def test_a_damaged_saved_data_set_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, [{"image": {"bytes": png(), "path": None}, "label": 0}], features())
    arrow = next(path.glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:300])
    with pytest.raises(DataError, match="is no data set that the package datasets can read"):
        loaded(path)
    arrow.unlink()
    with pytest.raises(DataError, match="is no data set that the package datasets can read"):
        loaded(path)


@pytest.mark.parametrize("limit", [1 << 30, 0])
def test_the_fingerprint_knows_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(sources, "_HASH_CONTENT_UP_TO", limit)
    seen = set()
    for value in (1, 2):
        path = saved(tmp_path / str(value), [{"image": {"bytes": png(value), "path": None}, "label": 0}], features())
        seen.add(loaded(path).fingerprint())
        assert loaded(path).fingerprint() in seen
    assert len(seen) == 2


def test_bits_and_bands_are_looked_at_as_in_folders(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), 900, dtype=np.uint16)).save(buffer, "PNG")
    path = saved(tmp_path, [{"image": {"bytes": buffer.getvalue(), "path": None}, "label": 0}], features())
    with pytest.raises(DataError, match=r"use only values up to 900 of 65535 .*--max-value 1023"):
        loaded(path)
    assert round(float(loaded(path, max_value=1023, channels=1, mean=0, std=1)[0][0].max()) * 1023) == 900


def test_the_package_that_is_missing_is_named(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InterpNetError, match=r"data 'hf:.*saved' needs datasets, .* pip install 'interpnet\[data\]'"):
        loaded(made / "saved")


def test_the_bars_of_the_package_stay_as_they_were(made: Path) -> None:
    loaded(made / "saved")
    assert hugging.utils.are_progress_bars_disabled()
    hugging.enable_progress_bars()
    loaded(made / "saved")
    assert not hugging.utils.are_progress_bars_disabled()


def test_the_word_before_a_place_is_told(made: Path, tmp_path: Path) -> None:
    for place, word in (("saved", "hf"), ("parquet", "hf"), ("saved/train", "hf"), ("folder", "imagefolder")):
        with pytest.raises(DataError, match=f"unknown data set .*; did you mean '{word}:{made / place}'"):
            load_dataset(str(made / place))
    with pytest.raises(DataError, match=r"saved' matches no file; expected shards \(.tar\); did you mean 'hf:/"):
        load_dataset(f"webdataset:{made / 'saved'}")
    (tmp_path / "0.tar").touch()
    with pytest.raises(DataError, match=r"expected shards \(.parquet, .arrow\); did you mean 'webdataset:/"):
        loaded(tmp_path)


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "_CHECKED_EVERY", 2)
    rows = [{"image": {"bytes": png(i), "path": None}, "label": 0} for i in range(4)]
    path = saved(tmp_path, rows, features())
    data = loaded(path)
    data[0]
    for change in (lambda file: os.utime(file, (0, 0)), lambda file: file.unlink()):
        data = loaded(path)
        data[0]
        data[1]
        change(next(path.glob("*.arrow")))
        with pytest.raises(DataError, match="a file of 'one' changed while it was read: images would be others than"):
            [data[i] for i in (2, 3, 2)]
