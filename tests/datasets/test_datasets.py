"""Data sets: names, folders, fingerprints, wrapped data sets."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.image_files import noise
from PIL import Image
from torch.utils.data import Dataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from interpnet.datasets import ImageData, load_dataset, stack_images
from interpnet.errors import DataError

IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


# --- digits, mnist, cifar10 ---


def test_digits_splits_are_a_stratified_partition_of_scikit_learns_images():
    from sklearn.datasets import load_digits

    train = load_dataset("digits")
    test = load_dataset("digits", split="test")
    images, targets = load_digits(return_X_y=True)
    together = np.concatenate([[data.picture(i).numpy().ravel() for i in range(len(data))] for data in (train, test)])
    labels = np.concatenate([train.labels, test.labels])
    ours = sorted(zip(labels.tolist(), (together * 16).round().astype(int).tolist(), strict=True))
    theirs = sorted(zip(targets.tolist(), images.astype(int).tolist(), strict=True))
    assert ours == theirs
    share = np.bincount(test.labels) / np.bincount(labels)
    assert share.min() > 0.19
    assert share.max() <= 0.2


def test_digits_are_normalised_by_their_own_mean_and_deviation():
    data = load_dataset("digits")
    batch = stack_images(data, range(len(data))).double()
    assert abs(batch.mean().item()) < 1e-3
    assert abs(batch.std().item() - 1) < 1e-3


def test_digits_names_classes_and_types():
    data = load_dataset("digits", split="test")
    image, label = data[17]
    assert data.name(17) == "digits/test/17"
    assert data.classes == tuple("0123456789")
    assert (image.dtype, tuple(image.shape), type(label)) == (torch.float32, (1, 8, 8), int)
    assert data.labels.dtype == np.int64
    assert data[-1][1] == data[len(data) - 1][1]
    with pytest.raises(IndexError, match="image 400 of a data set of 355"):
        data[400]


def test_grey_data_as_colour_repeats_the_channel():
    grey = load_dataset("digits")
    colour = load_dataset("digits", channels=3)
    torch.testing.assert_close(colour[5][0], grey[5][0].expand(3, -1, -1), rtol=0, atol=0)
    assert colour.mean == grey.mean * 3


def test_unknown_names_and_settings_name_what_is_known(folder: Path):
    with pytest.raises(DataError, match=r"unknown data set 'digit'.*did you mean 'digits'"):
        load_dataset("digit")
    with pytest.raises(DataError, match=r"did you mean 'imagefolder:.*photos'"):
        load_dataset(str(folder))
    with pytest.raises(DataError, match=r"split is 'tset'.*did you mean 'test'"):
        load_dataset("digits", split="tset")
    with pytest.raises(DataError, match=r"on_bad_image is 'skipp'.*did you mean 'skip'"):
        load_dataset("digits", on_bad_image="skipp")
    with pytest.raises(DataError, match="channels is 2, expected 1"):
        load_dataset("digits", channels=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size is 0, expected a positive"),
        ({"image_size": (8, 8, 8)}, "image_size is .*pair"),
        ({"image_size": True}, "image_size is True"),
        ({"crop": -3}, "crop is -3"),
        ({"image_size": 8, "crop": 9}, "crop 9 is larger than image_size 8"),
        ({"mean": (0.1, 0.2)}, "mean is .*expected one finite number, or one for each of 1 channels"),
        ({"mean": float("nan")}, "mean is nan"),
        ({"std": 0.0}, "std is .*positive"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict, message: str):
    with pytest.raises(DataError, match=message):
        load_dataset("digits", **options)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_absent_download_says_what_to_do(name: str, tmp_path: Path):
    with pytest.raises(DataError, match=rf"{name!r} is not, or not whole, below .*--data-root"):
        load_dataset(name, root=tmp_path, download=False)


def test_failing_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from torchvision.datasets import MNIST

    def refuse(self: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(MNIST, "download", refuse)
    with pytest.raises(DataError, match=r"could not be downloaded .*not known.*--data-root"):
        load_dataset("mnist", root=tmp_path)


@pytest.mark.shared
def test_mnist_agrees_with_torchvision(shared_data: Path):
    from torchvision.datasets import MNIST

    data = load_dataset("mnist", split="test", root=shared_data / "mnist")
    reference = MNIST(str(shared_data / "mnist"), train=False)
    assert len(data) == 10_000
    expected = (v2.functional.pil_to_tensor(reference[7][0]) / 255 - 0.1307) / 0.3081
    torch.testing.assert_close(data[7][0], expected)
    assert data[7][1] == reference[7][1]


# --- image folders ---


def test_folder_agrees_with_torchvision(folder: Path):
    data = load_dataset(f"imagefolder:{folder}")
    reference = ImageFolder(str(folder))
    assert data.classes == tuple(reference.classes)
    assert data.labels.tolist() == reference.targets
    assert [data.name(i) for i in range(5)] == [
        "cat/0.png",
        "cat/1.png",
        "cat/2.png",
        "dog/0.png",
        "dog/1.png",
    ]
    pixels = v2.functional.pil_to_tensor(reference[3][0]) / 255
    torch.testing.assert_close(data[3][0], (pixels - IMAGENET_MEAN) / IMAGENET_STD)
    torch.testing.assert_close(data.picture(3), pixels)


@pytest.mark.shared
def test_resizing_photographs_agrees_with_torchvisions_usual_transform(shared_data: Path, tmp_path: Path):
    with tarfile.open(shared_data / "imagenet" / "samples.tar") as archive:
        members = [m for m in archive.getmembers() if m.name.endswith(".jpg")][:3]
        archive.extractall(tmp_path, members, filter="data")
    data = load_dataset(f"imagefolder:{tmp_path}", image_size=200, crop=181)
    usual = v2.Compose([v2.Resize(200), v2.CenterCrop(181), v2.PILToTensor()])
    reference = ImageFolder(str(tmp_path), transform=usual)
    for i in range(3):
        # Pillow and torch round a resized pixel's last bit differently.
        torch.testing.assert_close(data.picture(i), reference[i][0] / 255, rtol=0, atol=1.01 / 255)


def test_split_folders_share_the_training_classes(tmp_path: Path):
    for part, names in (("train", "abc"), ("val", "bc")):
        for name in names:
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(tmp_path / part / name / "i.png")
    train, test = (load_dataset(f"imagefolder:{tmp_path}", split=split) for split in ("train", "test"))
    assert train.classes == test.classes == ("a", "b", "c")
    # A plain listing of val/ would number b as 0.
    assert test.labels.tolist() == [1, 2]
    assert test.empty_classes == ("a",)
    (tmp_path / "val" / "cc").mkdir()
    with pytest.raises(DataError, match=r"val' has the class 'cc', which .*train' lacks"):
        load_dataset(f"imagefolder:{tmp_path}", split="test")


def test_lone_train_folder_is_not_taken_for_a_class(folder: Path, tmp_path: Path):
    outer = tmp_path / "outer"
    outer.mkdir()
    folder.rename(outer / "train")
    with pytest.raises(DataError, match="train folder but no test or val"):
        load_dataset(f"imagefolder:{outer}")


def test_whole_folder_serves_both_splits(folder: Path):
    train, test = (load_dataset(f"imagefolder:{folder}", split=split) for split in ("train", "test"))
    assert train.fingerprint() == test.fingerprint()


def test_folder_mistakes_are_named(folder: Path, tmp_path: Path):
    with pytest.raises(DataError, match="lacks its folder"):
        load_dataset("imagefolder:")
    with pytest.raises(DataError, match="does not exist; did you mean 'photos'"):
        load_dataset(f"imagefolder:{tmp_path / 'photo'}")
    with pytest.raises(DataError, match="is a file, expected a folder"):
        load_dataset(f"imagefolder:{folder / 'cat' / '0.png'}")
    with pytest.raises(DataError, match="has no subfolders"):
        load_dataset(f"imagefolder:{folder / 'cat'}")
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match=r"no images in its 1 class folders.*jpg"):
        load_dataset(f"imagefolder:{tmp_path / 'empty'}")


def test_class_without_an_image_is_kept_and_reported(folder: Path):
    (folder / "bird").mkdir()
    data = load_dataset(f"imagefolder:{folder}")
    assert data.classes == ("bird", "cat", "dog")
    assert data.empty_classes == ("bird",)
    assert data.labels.min() == 1


def test_hidden_files_and_folders_are_no_data(folder: Path):
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / "cat" / "._0.png").write_bytes(b"fork")
    (folder / "cat" / "notes.txt").write_text("no image")
    data = load_dataset(f"imagefolder:{folder}")
    assert data.classes == ("cat", "dog")
    assert len(data) == 5


# --- fingerprints ---


def test_fingerprint_follows_content_names_and_labels(folder: Path):
    def fingerprint() -> str:
        return load_dataset(f"imagefolder:{folder}", image_size=8).fingerprint()

    first = fingerprint()
    os.utime(folder / "cat" / "0.png", (1, 1))  # a copy of the same files is the same data
    assert fingerprint() == first
    (folder / "cat" / "0.png").rename(folder / "cat" / "00.png")
    renamed = fingerprint()
    (folder / "cat" / "00.png").rename(folder / "cat" / "0.png")
    assert renamed != first
    assert fingerprint() == first
    pixels = np.array(Image.open(folder / "dog" / "1.png"))
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(folder / "dog" / "1.png")
    changed = fingerprint()
    assert changed != first
    (folder / "cat" / "2.png").rename(folder / "dog" / "2.png")
    assert fingerprint() not in {first, renamed, changed}


def test_large_folders_are_fingerprinted_by_size_and_time(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("interpnet.datasets._sources._HASH_CONTENT_UP_TO", 10)
    first = load_dataset(f"imagefolder:{folder}").fingerprint()
    os.utime(folder / "cat" / "0.png", (1, 1))
    assert load_dataset(f"imagefolder:{folder}").fingerprint() != first


def test_fingerprint_is_of_the_data_not_of_its_preparation():
    assert load_dataset("digits").fingerprint() == load_dataset("digits", image_size=16, mean=0.0).fingerprint()
    assert load_dataset("digits").fingerprint() != load_dataset("digits", split="test").fingerprint()


def test_deleted_folder_is_a_data_error(folder: Path):
    data = load_dataset(f"imagefolder:{folder}")
    (folder / "cat" / "0.png").unlink()
    with pytest.raises(DataError, match="changed or cannot be read"):
        data.fingerprint()


# --- wrapped data sets ---


class Pairs(Dataset):
    """Images of any kind with labels, and nothing else."""

    def __init__(self, images: list, labels: list):
        self.images = images
        self.given = labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple:
        return self.images[i], self.given[i]


def test_wrapped_tensors_are_finished_inputs():
    images = torch.randn(3, 11, 5, 4)
    data = ImageData.from_dataset(TensorDataset(images, torch.tensor([1, 0, 1])), "ab")
    torch.testing.assert_close(data[2][0], images[2], rtol=0, atol=0)
    assert data.shape == (11, 5, 4)
    assert data.labels.tolist() == [1, 0, 1]
    assert data.name(2) == "TensorDataset/2"
    picture = data.picture(2)
    assert (picture.min(), picture.max()) == (0, 1)  # never were pixels: scaled, not clipped


def test_wrapped_tensors_are_shown_un_normalised():
    pixels = torch.rand(2, 3, 6, 6)
    pairs = TensorDataset((pixels - IMAGENET_MEAN) / IMAGENET_STD, torch.tensor([0, 1]))
    data = ImageData.from_dataset(
        pairs, "ab", mean=IMAGENET_MEAN.flatten().tolist(), std=IMAGENET_STD.flatten().tolist()
    )
    torch.testing.assert_close(data.picture(1), pixels[1], rtol=0, atol=1e-6)


def test_wrapped_pillow_and_uint8_images_are_raw():
    pixels = noise(10, 12, 3)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for image in (Image.fromarray(pixels), pixels, tensor):
        data = ImageData.from_dataset(Pairs([image], [0]), ["x"], image_size=8, mean=0.5, std=0.5)
        assert data.shape == (3, 8, 8)
        torch.testing.assert_close(data[0][0], data.picture(0) * 2 - 1)


def test_wrapped_labels_follow_subset_and_target_transform(folder: Path):
    doubled = ImageFolder(str(folder), target_transform=lambda label: 2 * label)
    data = ImageData.from_dataset(Subset(doubled, [4, 0]), ["cat", "odd", "dog"])
    assert data.labels.tolist() == [2, 0]
    assert [data[i][1] for i in range(2)] == [2, 0]
    assert ImageData.from_dataset(Subset(ImageFolder(str(folder)), [4])).classes == ("cat", "dog")


def test_wrapped_mistakes_are_named():
    good = torch.zeros(1, 8, 8)
    with pytest.raises(DataError, match="map-style torch Dataset"):
        ImageData.from_dataset(iter([]), ["a"])
    with pytest.raises(DataError, match=r"no \.classes; give classes="):
        ImageData.from_dataset(Pairs([good], [0]))
    with pytest.raises(DataError, match=r"image 1 has label 2, outside the 2 classes \(0 to 1\)"):
        ImageData.from_dataset(Pairs([good, good], [0, 2]), "ab")
    with pytest.raises(DataError, match="label -1, outside"):
        ImageData.from_dataset(Pairs([good], [0]), "ab", labels=[-1])
    with pytest.raises(DataError, match="labels are of type float64, expected whole numbers"):
        ImageData.from_dataset(Pairs([good], [0.5]), "ab")
    with pytest.raises(DataError, match=r"expected one class number each.*targets \(1, 3\) of 0 and 1"):
        ImageData.from_dataset(TensorDataset(good[None], torch.eye(2)[:1]), "abc")
    with pytest.raises(DataError, match="item 0 of the data set has label 1, but its list of labels says 0"):
        ImageData.from_dataset(Pairs([good], [1]), "ab", labels=[0])
    with pytest.raises(DataError, match="has no images"):
        ImageData.from_dataset(Pairs([], []), "ab")
    with pytest.raises(DataError, match="resize in the data set's own transform"):
        ImageData.from_dataset(Pairs([good], [0]), "ab", image_size=16)[0]
    with pytest.raises(DataError, match="image that is str, expected a tensor"):
        ImageData.from_dataset(Pairs(["a.png"], [0]), "ab")
    with pytest.raises(DataError, match="names has 2 entries for 1 images"):
        ImageData.from_dataset(Pairs([good], [0]), "ab", names=["x", "y"])


@pytest.mark.parametrize("labels", [[True, 0], [0, True], [0, 0.5], [0, [1]], [[0], [1]], 3, [None, 0], ["0", "1"]])
def test_labels_of_another_kind_are_refused(labels: object):
    good = torch.zeros(1, 8, 8)
    with pytest.raises(DataError, match="labels"):
        ImageData.from_dataset(Pairs([good, good], [0, 1]), "ab", labels=labels)


@pytest.mark.parametrize("label", [0.5, "0", [0], None, torch.tensor([0, 1]), 1])
def test_an_item_with_another_label_is_refused(label: object):
    with pytest.raises(DataError, match="item 0 of the data set has label"):
        ImageData.from_dataset(Pairs([torch.zeros(1, 8, 8)], [label]), "ab", labels=[0])[0]


@pytest.mark.parametrize(
    "label", [1, np.int32(1), np.uint8(1), torch.tensor(1), torch.tensor(1, dtype=torch.uint8), 1.0]
)
def test_numbers_of_any_library_are_labels(label: object):
    assert ImageData.from_dataset(Pairs([torch.zeros(1, 8, 8)], [label]), "ab", labels=[1])[0][1] == 1


def test_class_names_differ():
    with pytest.raises(DataError, match="classes names 'a' more than once"):
        ImageData.from_dataset(Pairs([torch.zeros(1, 8, 8)], [0]), ["a", "b", "a"])
    with pytest.raises(DataError, match=r"classes is 0\.5, expected the classes' names"):
        ImageData.from_dataset(Pairs([torch.zeros(1, 8, 8)], [0]), 0.5)


def test_classes_without_names_are_called_by_their_numbers():
    data = ImageData.from_dataset(Pairs([torch.zeros(1, 8, 8)] * 2, [0, 2]), 3)
    assert data.classes == ("0", "1", "2")
    assert data.numbered
    assert not ImageData.from_dataset(Pairs([torch.zeros(1, 8, 8)], [0]), ["0"]).numbered
