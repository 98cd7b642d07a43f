"""A program's own images: every form gives the same images and labels, or one line that says what to give instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interpnet.pipelines.run.own_images import name_of, own_data
from interpnet.pipelines.run.own_reading import Keys
from PIL import Image
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from interpnet.datasets import ImageData, make_loader
from interpnet.errors import DataError

N = 12
IMAGES = torch.rand(N, 3, 6, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2] * 4)
NAMES = ["ash", "beech", "cedar"]
ONE_HOT = torch.nn.functional.one_hot(LABELS, 3)


class Items(Dataset[Any]):
    """Items made by a function of their position."""

    def __init__(self, make: Any, n: int = N, **attributes: Any) -> None:
        self._make = make
        self._n = n
        vars(self).update(attributes)

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, i: int) -> Any:
        if i >= self._n:
            raise IndexError(i)
        return self._make(i)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return zip(IMAGES, LABELS, strict=True)


class Endless(IterableDataset[Any]):
    def __init__(self, items: Any) -> None:
        self._items = items

    def __iter__(self) -> Any:
        return iter(self._items)


def read(images: Any, classes: Any = None, keys: Keys | None = None, **settings: Any) -> ImageData:
    return own_data(images, split="train", classes=classes, keys=keys or Keys(), settings=settings, hint={})


def pairs(i: int) -> tuple[Tensor, int]:
    return IMAGES[i], int(LABELS[i])


def batches(size: int = 5) -> list[Any]:
    return list(zip(IMAGES.split(size), LABELS.split(size), strict=True))


FORMS: dict[str, Any] = {
    "loader": lambda: DataLoader(TensorDataset(IMAGES, LABELS), 5),
    "loader that shuffles": lambda: DataLoader(TensorDataset(IMAGES, LABELS), 5, shuffle=True),
    "loader that drops the last": lambda: DataLoader(TensorDataset(IMAGES, LABELS), 5, drop_last=True),
    "loader with weights": lambda: DataLoader(
        TensorDataset(IMAGES, LABELS), 5, sampler=WeightedRandomSampler([1.0] * N, 3)
    ),
    "loader of dictionaries": lambda: DataLoader(
        Items(lambda i: {"image": IMAGES[i], "label": LABELS[i], "path": f"{i}.png"}), 5
    ),
    "loader with more": lambda: DataLoader(Items(lambda i: (*pairs(i), i + 100)), 5),
    "loader without batches": lambda: DataLoader(TensorDataset(IMAGES, LABELS), batch_size=None),
    "loader of a stream": lambda: DataLoader(Stream(), 5),
    "collate of one's own": lambda: DataLoader(
        Items(pairs), 5, collate_fn=lambda items: {"x": torch.stack([x for x, _ in items]), "y": [y for _, y in items]}
    ),
    "column of labels": lambda: DataLoader(TensorDataset(IMAGES, LABELS[:, None]), 5),
    "one-hot": lambda: DataLoader(TensorDataset(IMAGES, ONE_HOT), 5),
    "one-hot floats": lambda: DataLoader(TensorDataset(IMAGES, ONE_HOT.float()), 5),
    "float64 images": lambda: DataLoader(TensorDataset(IMAGES.double(), LABELS), 5),
    "data set": lambda: Items(pairs),
    "data set with targets": lambda: Items(pairs, targets=LABELS.tolist()),
    "data set of dictionaries": lambda: Items(lambda i: {"pixel_values": IMAGES[i], "labels": int(LABELS[i])}),
    "list of items": lambda: [pairs(i) for i in range(N)],
    "list of batches": batches,
    "pair of tensors": lambda: (IMAGES, LABELS),
    "pair of arrays": lambda: (IMAGES.numpy(), LABELS.numpy()),
    "data set of ours": lambda: ImageData.from_dataset(TensorDataset(IMAGES, LABELS), NAMES),
    "loader of ours": lambda: make_loader(ImageData.from_dataset(TensorDataset(IMAGES, LABELS), NAMES), shuffle=True),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_images_and_labels(form: str) -> None:
    data = read(FORMS[form]())
    assert data.labels.tolist() == LABELS.tolist()
    assert torch.equal(torch.stack([data[i][0] for i in range(N)]), IMAGES)
    assert [data[i][1] for i in range(N)] == LABELS.tolist()
    assert data.classes in (("0", "1", "2"), tuple(NAMES))
    assert data.finished


def test_names_are_numbered_by_the_classes_of_the_network_or_the_data_set() -> None:
    named = DataLoader(Items(lambda i: (IMAGES[i], NAMES[LABELS[i]])), 5)
    assert read(named, ["cedar", "ash", "beech"]).labels.tolist() == [1, 2, 0] * 4
    assert read(Items(lambda i: (IMAGES[i], NAMES[LABELS[i]]), classes=NAMES)).labels.tolist() == LABELS.tolist()


def test_labels_of_two_classes_as_a_loss_wants_them() -> None:
    binary = (LABELS > 0).float()
    for labels in (binary, binary[:, None], binary.bool()):
        assert read((IMAGES, labels)).labels.tolist() == binary.int().tolist()


def test_several_labels_stay_targets() -> None:
    targets = torch.tensor([[1, 1, 0], [0, 0, 0], [0, 0, 1]] * 4)
    data = read(DataLoader(TensorDataset(IMAGES, targets.float()), 5))
    assert data.targets is not None
    assert data.targets.tolist() == targets.bool().tolist()


def test_raw_images_are_prepared_as_set_and_others_by_a_function() -> None:
    pixels = (IMAGES * 255).byte()
    photos = Items(lambda i: (Image.fromarray(pixels[i].permute(1, 2, 0).numpy()), int(LABELS[i])))
    expected = (pixels / 255 - 0.5) / 0.25
    for raw in (photos, DataLoader(TensorDataset(pixels, LABELS), 5)):
        data = read(raw, mean=0.5, std=0.25)
        assert not data.finished
        torch.testing.assert_close(torch.stack([data[i][0] for i in range(N)]), expected)
    last = DataLoader(TensorDataset(pixels.permute(0, 2, 3, 1), LABELS), 5)
    data = read(last, keys=Keys(prepare=lambda images: (images.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25))
    torch.testing.assert_close(torch.stack([data[i][0] for i in range(N)]), expected)


def test_the_weights_publishers_size_is_for_raw_images_only() -> None:
    hint = {"image_size": 4, "crop": 4, "mean": [0.5], "std": [0.5], "channels": 3}
    options: dict[str, Any] = {"split": "test", "classes": None, "keys": Keys(), "settings": {}}
    assert own_data((IMAGES, LABELS), hint=hint, **options)[0][0].shape == (3, 6, 5)
    photos = [(Image.new("RGB", (8, 8)), 0), (Image.new("RGB", (8, 8)), 1)]
    assert own_data(photos, hint=hint, **options)[0][0].shape == (3, 4, 4)


def test_a_part_of_a_data_set_keeps_its_order_and_its_names(tmp_path: Path) -> None:
    samples = [(str(tmp_path / NAMES[LABELS[i]] / f"{i}.png"), int(LABELS[i])) for i in range(N)]
    whole = Items(pairs, samples=samples, root=str(tmp_path), classes=NAMES, targets=LABELS.tolist())
    part = DataLoader(whole, 2, sampler=SubsetRandomSampler([7, 3, 5]))
    for images in (part, DataLoader(Subset(whole, [3, 5, 7]))):
        data = read(images)
        assert data.labels.tolist() == LABELS[[3, 5, 7]].tolist()
        assert torch.equal(data[1][0], IMAGES[5])
        assert data.name(1) == f"{NAMES[LABELS[5]]}/5.png"
        assert data.classes == tuple(NAMES)
        assert data.spec == "python:Items"
    assert name_of(part) == "Items"


class Table:
    """What an audit needs of a table of the library datasets."""

    def __init__(self) -> None:
        self.column_names = ["image", "label", "id"]
        self.features = {"label": type("ClassLabel", (), {"names": NAMES})()}

    def __len__(self) -> int:
        return N

    def __getitem__(self, key: Any) -> Any:
        if key == "label":
            return LABELS.tolist()
        return {"image": IMAGES[key], "label": int(LABELS[key]), "id": key}


def test_a_table_tells_its_labels_and_their_names_by_column() -> None:
    data = read(Table())
    assert data.classes == tuple(NAMES)
    assert data.labels.tolist() == LABELS.tolist()
    assert torch.equal(data[4][0], IMAGES[4])
    with pytest.raises(DataError, match=r"'kind' is no key of the batch, which has \['id', 'image', 'label'\]"):
        read(Table(), keys=Keys(labels="kind"))


def noisy(i: int) -> tuple[Tensor, int]:
    return IMAGES[i] + torch.rand(()), int(LABELS[i])


def moody(i: int) -> tuple[Tensor, int]:
    return IMAGES[i], int(torch.randint(1000, ()))


REFUSED: dict[str, tuple[Any, str]] = {
    "an iterator": (lambda: iter(batches()), "can be read once only"),
    "nothing": (list, "a list that yields nothing"),
    "a loader of nothing": (lambda: DataLoader(Items(pairs, 0), 5), "an Items that yields nothing|that yields nothing"),
    "images alone": (lambda: [IMAGES], "without labels"),
    "items without labels": (lambda: Items(lambda i: {"image": IMAGES[i]}), "without labels"),
    "unknown keys": (lambda: Items(lambda i: {"picture": IMAGES[i], "label": 0}), r"name its images with inputs='...'"),
    "two keys": (lambda: Items(lambda i: {"image": IMAGES[i], "label": 0, "target": 1}), "say which with labels="),
    "names without classes": (lambda: [(IMAGES, ["a"] * N)], r"pass classes=\[...\]"),
    "names and numbers": (lambda: [(IMAGES[i], ["a", 1][i % 2]) for i in range(N)], "labels of one type"),
    "fractions": (lambda: (IMAGES, LABELS + 0.5), "labels of two classes are 0 and 1|expected .* class numbers"),
    "negative labels": (lambda: (IMAGES, LABELS - 1), "labels must lie in 0"),
    "soft labels": (lambda: (IMAGES, torch.rand(N, 3)), "expected 0 or 1 for every class"),
    "fewer labels than images": (lambda: [(IMAGES, LABELS[:5])], "12 images and 5 labels"),
    "images that change": (lambda: DataLoader(Items(noisy), 5), "another one each time it is read"),
    "labels that change": (lambda: Items(moody), "expected the same each time|outside|labels must"),
    "wrong targets": (lambda: Items(pairs, targets=[0] * N), "expected the same each time"),
    "mixing": (
        lambda: DataLoader(Items(pairs), 4, collate_fn=lambda items: (IMAGES[:3], LABELS[:3])),
        "makes 3 images of one",
    ),
    "channels last": (
        lambda: [(IMAGES[i].permute(1, 2, 0).numpy().astype(np.int32), 0) for i in range(N)],
        "max_value= says which value is white",
    ),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_cannot_be_audited_is_refused_with_the_remedy(form: str) -> None:
    make, message = REFUSED[form]
    with pytest.raises(DataError, match=message):
        read(make())


def test_a_function_that_prepares_must_give_one_image_of_one() -> None:
    with pytest.raises(DataError, match=r"prepare= made a Tensor \(3, 6, 5\) of a batch of one image"):
        read((IMAGES, LABELS), keys=Keys(prepare=lambda images: images[0]))
    with pytest.raises(DataError, match="prepare= failed"):
        read((IMAGES, LABELS), keys=Keys(prepare=lambda images: images.no_such))


def test_more_than_fits_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interpnet.pipelines.run.own_reading._KEEP_BYTES", IMAGES[:7].nbytes)
    with pytest.raises(DataError, match="cannot be read at a position"):
        read(DataLoader(Stream(), 5))
    photographs = ((Image.new("RGB", (5, 6)), i % 3) for i in range(N))
    monkeypatch.setattr("interpnet.pipelines.run.own_reading._KEEP_BYTES", 7 * 6 * 5 * 3)
    with pytest.raises(DataError, match="cannot be read at a position"):
        read(Endless(photographs))


def test_images_kept_are_those_of_their_time() -> None:
    def reused() -> Any:
        memory = torch.empty_like(IMAGES[:4])
        for start in range(0, N, 4):
            memory.copy_(IMAGES[start : start + 4])
            yield memory, LABELS[start : start + 4]

    class Loader:
        def __iter__(self) -> Any:
            return reused()

    data = read(Loader())
    assert torch.equal(torch.stack([data[i][0] for i in range(N)]), IMAGES)
