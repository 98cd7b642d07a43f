"""Images with several labels: wrapped data sets, tables of files, batches, fingerprints, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset, TensorDataset

from interpnet.datasets import ImageData, load_dataset, make_loader
from interpnet.errors import DataError

TARGETS = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 1], [1, 1, 1]])
NAMES = ["cat", "dog", "sun"]


def pixels(n: int = 4) -> torch.Tensor:
    return torch.arange(n).view(n, 1, 1, 1).expand(n, 1, 2, 2) / 10


def wrapped(targets: Any = TARGETS, **options: Any) -> ImageData:
    targets = torch.as_tensor(targets)
    return ImageData.from_dataset(TensorDataset(pixels(len(targets)), targets), NAMES, **options)


@pytest.mark.parametrize("kind", [torch.int64, torch.float32, torch.bool, torch.uint8])
def test_targets_are_found_in_a_data_set(kind: torch.dtype) -> None:
    data = wrapped(torch.as_tensor(TARGETS).to(kind))
    assert data.targets is not None
    assert data.targets.dtype == bool
    np.testing.assert_array_equal(data.targets, TARGETS)
    assert len(data) == 4
    image, label = data[2]
    assert isinstance(label, torch.Tensor)
    assert label.tolist() == [0.0, 1.0, 1.0]
    assert float(image.max()) == pytest.approx(0.2)
    assert data.empty_classes == ()
    assert wrapped([[1, 0, 0], [0, 0, 0]]).empty_classes == ("dog", "sun")


def test_targets_are_found_in_items_in_a_subset_and_as_given() -> None:
    items = [(image, target.tolist()) for image, target in zip(pixels(), TARGETS, strict=True)]
    np.testing.assert_array_equal(ImageData.from_dataset(items, NAMES).targets, TARGETS)
    part = Subset(TensorDataset(pixels(), torch.as_tensor(TARGETS)), [3, 0])
    np.testing.assert_array_equal(ImageData.from_dataset(part, NAMES).targets, TARGETS[[3, 0]])
    np.testing.assert_array_equal(ImageData.from_dataset(items, NAMES, labels=TARGETS).targets, TARGETS)


def test_class_numbers_of_such_images_are_refused_not_guessed() -> None:
    data = wrapped()
    with pytest.raises(
        DataError, match=r"image 0 of .* has 2 labels, so it has no class number; targets \(N, C\) says"
    ):
        _ = data.labels
    with pytest.raises(DataError, match="has no class number"):
        _ = make_loader(data).labels
    single = ImageData.from_dataset(TensorDataset(pixels(), torch.tensor([0, 1, 2, 0])), NAMES)
    assert single.targets is None
    assert single.labels.tolist() == [0, 1, 2, 0]
    assert wrapped([[0, 0, 1], [1, 0, 0]]).labels.tolist() == [2, 0]


def test_batches_carry_targets() -> None:
    batches = list(make_loader(wrapped(), batch_size=3, indices=[3, 1, 0, 2]))
    assert [tuple(batch.labels.shape) for batch in batches] == [(3, 3), (1, 3)]
    assert batches[0].labels.dtype == torch.float32
    np.testing.assert_array_equal(torch.cat([batch.labels for batch in batches]), TARGETS[[3, 1, 0, 2]])


def test_the_fingerprint_covers_the_targets() -> None:
    other = TARGETS.copy()
    other[1, 2] = 1
    prints = {wrapped(targets).fingerprint() for targets in (TARGETS, TARGETS, other)}
    assert len(prints) == 2


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ([[1, 0, 2]] * 4, "target of image 0 is 2 for class 2; expected 0 or 1"),
        ([[1.0, 0.0, float("nan")]] * 4, "target of image 0 is nan for class 2"),
        ([[1, 0]] * 4, r"labels have shape \(4, 2\) for 4 images and 3 classes, expected one class number"),
        ([[1, 0, 1], [1], [0], [0]], "labels are list, expected one class number"),
    ],
)
def test_labels_that_are_no_targets_are_refused(labels: Any, match: str) -> None:
    with pytest.raises(DataError, match=match):
        ImageData.from_dataset(TensorDataset(pixels(), torch.zeros(4)), NAMES, labels=labels)


def test_items_whose_targets_are_others_than_listed_are_refused() -> None:
    data = ImageData.from_dataset(TensorDataset(pixels(), torch.tensor(TARGETS)), NAMES, labels=TARGETS)
    data._source.dataset.tensors[1][1, 0] = 1
    with pytest.raises(DataError, match=r"item 1 of the data set has label \[1, 0, 0\], but its list of labels says"):
        _ = data[1]


def files(folder: Path, n: int = 4) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.new("RGB", (3, 2), (60 * i, 0, 0)).save(folder / f"{i}.png")


COLUMNS = "file,cat,dog,sun\n0.png,1,0,1\n1.png,0,0,0\n2.png,0,1,1\n3.png,1,1,1\n"
WORDS = "filename,labels\n0.png,cat; sun\n1.png,\n2.png,sun|dog\n3.png,cat;dog;sun\n"


@pytest.mark.parametrize(
    "text", [COLUMNS, WORDS, "\ufeff" + COLUMNS.replace("\n", "\r\n"), COLUMNS.replace(",1", ",True")]
)
def test_a_table_of_columns_or_of_names(text: str, tmp_path: Path) -> None:
    files(tmp_path)
    (tmp_path / "labels.csv").write_bytes(text.encode())
    for spec in (f"csv:{tmp_path}", f"csv:{tmp_path / 'labels.csv'}"):
        data = load_dataset(spec)
        assert data.classes == ("cat", "dog", "sun")
        np.testing.assert_array_equal(data.targets, TARGETS)
        assert [data.name(i) for i in range(4)] == ["0.png", "1.png", "2.png", "3.png"]
        assert float(data.picture(3)[0].max()) == pytest.approx(180 / 255)
        assert load_dataset(spec, split="test").fingerprint() == data.fingerprint()


def test_one_name_in_each_row_is_a_class_number(tmp_path: Path) -> None:
    files(tmp_path)
    (tmp_path / "labels.csv").write_text("file,label\n0.png,dog\n1.png,cat\n2.png,dog\n3.png,cat\n")
    assert load_dataset(f"csv:{tmp_path}").labels.tolist() == [1, 0, 1, 0]
    (tmp_path / "labels.csv").write_text("file,label\n0.png,dog;cat\n")
    with pytest.raises(
        DataError, match=r"line 2 of 'labels.csv' has 2 labels under 'label'; expected one. Call the col"
    ):
        load_dataset(f"csv:{tmp_path}")


def test_splits_by_a_column_and_by_files(tmp_path: Path) -> None:
    files(tmp_path / "images")
    rows = [f"images/{i}.png,{split},{i % 2},1" for i, split in enumerate(["train", "Training", "val", "test"])]
    (tmp_path / "labels.csv").write_text("\n".join(["file,split,a,b", *rows]))
    train, test = (load_dataset(f"csv:{tmp_path}", split=split) for split in ("train", "test"))
    assert [train.name(i) for i in range(len(train))] == ["images/0.png", "images/1.png"]
    assert [test.name(i) for i in range(len(test))] == ["images/3.png"]
    assert train.notes == ("Splits of the table that are not used: val.",)
    (tmp_path / "labels.csv").unlink()
    (tmp_path / "train.csv").write_text("file,tags\nimages/0.png,b\nimages/1.png,c\n")
    (tmp_path / "test.csv").write_text("file,tags\nimages/2.png,a;b\n")
    train, test = (load_dataset(f"csv:{tmp_path}", split=split) for split in ("train", "test"))
    assert train.classes == test.classes == ("a", "b", "c")
    np.testing.assert_array_equal(test.targets, [[1, 1, 0]])


REFUSED = [
    ("cat,dog\n1,0\n", "the first column of table .* is 'cat'; expected the files' names under file, filename"),
    ("", "the first column of table .* is nothing"),
    ("file,a,b\n", "has no row below its header"),
    ("file\n0.png\n", "has a column without a name, or none of a class"),
    ("file,a,a\n0.png,1,0\n", "has two columns called 'a'"),
    ("file,a,\n0.png,1,0\n", "has a column without a name"),
    ("file,a,b\n0.png,1\n", "line 2 of 'labels.csv' has 2 cells and the header 3"),
    ("file,a,b\n0.png,1,\n", "line 2 of 'labels.csv' has '' under 'b'; expected 0 or 1"),
    ("file,a,b\n0.png,1,-1\n", "line 2 of 'labels.csv' has '-1' under 'b'; expected 0 or 1"),
    ("file,a,b\n,1,0\n", "line 2 of 'labels.csv' names no file"),
    ("file,a,b\n0.png,1,0\n0.png,0,1\n", "line 3 of 'labels.csv' has '0.png', as line 2 of 'labels.csv' has"),
    (
        "file,a,b\n0.png,1,0\n7.png,0,1\n",
        "line 3 of 'labels.csv' names '7.png', which is no file beside the table; 1 of 2",
    ),
    ("file,split,a\n0.png,train,1\n1.png,later,1\n", "line 3 of 'labels.csv' has the split 'later'; expected train"),
    ("file,split,a\n0.png,test,1\n", "has the splits test; expected train and test"),
    ("file,labels\n0.png,\n", "no row of table .* has a label"),
    ("file,a,b\n0.png,0,0\n", "no row of table .* has a label"),
    ("file;a;b\n0.png;1;0\n", r"is 'file;a;b' \(cells are separated by commas\); expected"),
    ("file,split,a,b\n0.png,train,1,0\n0.png,test,1,0\n", "line 3 of 'labels.csv' has '0.png', as line 2"),
    ("file,labels\n0.png,a;a\n", "line 2 of 'labels.csv' has a label twice"),
    (b"file,labels\n0.png,\xe9\n", "cannot be read .*expected CSV in UTF-8"),
]


@pytest.mark.parametrize(("text", "match"), REFUSED)
def test_tables_that_are_none_are_refused_with_the_line(text: str | bytes, match: str, tmp_path: Path) -> None:
    files(tmp_path)
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(DataError, match=match):
        load_dataset(f"csv:{tmp_path}")


def test_places_without_a_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no CSV file; expected labels.csv, or train.csv and test.csv"):
        load_dataset(f"csv:{tmp_path}")
    (tmp_path / "labels.csv").write_text(COLUMNS)
    with pytest.raises(DataError, match=r"does not exist; did you mean 'labels.csv'"):
        load_dataset(f"csv:{tmp_path / 'label.csv'}")
    with pytest.raises(DataError, match="did you mean 'csv:"):
        load_dataset(str(tmp_path / "labels.csv"))
    if Path("/dev/null").exists():
        with pytest.raises(DataError, match="'/dev/null' is a pipe or device; expected a CSV file"):
            load_dataset("csv:/dev/null")
    with pytest.raises(DataError, match="lacks its folder or file, expected csv:PATH"):
        load_dataset("csv:")
    (tmp_path / "labels.csv").rename(tmp_path / "train.csv")
    (tmp_path / "test.csv").write_text("file,cat,cow\n0.png,1,0\n")
    with pytest.raises(DataError, match=r"columns of tables 'test.csv' and 'train.csv' differ \(cow, dog, sun\)"):
        load_dataset(f"csv:{tmp_path}")


@pytest.mark.parametrize(
    "text", ["file,defect\n0.png,0\n1.png,1\n2.png,1\n", "file,labels\n0.png,\n1.png,defect\n2.png,defect\n"]
)
def test_a_single_class_is_there_or_not(text: str, tmp_path: Path) -> None:
    files(tmp_path)
    (tmp_path / "labels.csv").write_text(text)
    data = load_dataset(f"csv:{tmp_path}")
    assert data.classes == ("not defect", "defect")
    assert data.targets is None
    assert data.labels.tolist() == [0, 1, 1]
    assert data[1][1] == 1


def test_targets_that_take_a_gradient_are_read() -> None:
    items = [
        (image, target) for image, target in zip(pixels(), torch.tensor(TARGETS).float().requires_grad_(), strict=True)
    ]
    np.testing.assert_array_equal(ImageData.from_dataset(items, NAMES).targets, TARGETS)
