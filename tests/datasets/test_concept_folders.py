"""Folders of images with concepts: three layouts, the same geometry for masks, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from interpnet.concepts import dissect
from interpnet.datasets import concept_folders
from interpnet.errors import DataError, InterpNetError

SIZE = (24, 16)  # width, height


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def mask(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def left(value: int = 1, rest: int = 0) -> np.ndarray:
    values = np.full((SIZE[1], SIZE[0]), rest)
    values[:, : SIZE[0] // 2] = value
    return values


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for i in range(3):
        picture(tmp_path / "street" / "images" / f"{i}.png", i)
        mask(tmp_path / "street" / "masks" / f"{i}.png", left(2, 255 if i else 1))
        picture(tmp_path / "parts" / "images" / f"{i}.jpg", i)
    (tmp_path / "street" / "names.txt").write_text("-\nroad\nsky\n", encoding="utf-8")
    mask(tmp_path / "parts" / "masks" / "wheel" / "0.png", left(255))
    mask(tmp_path / "parts" / "masks" / "door" / "2.png", left(1))
    picture(tmp_path / "textures" / "dots" / "a.png", 10)
    picture(tmp_path / "textures" / "dots" / "both.png", 11)
    picture(tmp_path / "textures" / "lines" / "same.png", 11)
    (tmp_path / ".hidden").mkdir()
    return tmp_path


def test_the_three_layouts(root: Path) -> None:
    found = concept_folders(root, batch_size=2)
    assert {name: one.concepts for name, one in found.items()} == {
        "parts": ("door", "wheel"), "street": ("road", "sky"), "textures": ("dots", "lines"),
    }  # fmt: skip
    assert [len(one) for one in found.values()] == [2, 2, 1]
    masks = torch.cat([marks for _, marks in found["street"]])
    assert masks.shape == (3, 16, 24)
    assert masks[0].unique().tolist() == [0, 1]
    assert masks[1].unique().tolist() == [-1, 1]
    assert (masks[:, :, :12] == 1).all()
    masks = torch.cat([marks for _, marks in found["parts"]])
    assert masks.sum((2, 3)).tolist() == [[0, 16 * 12], [0, 0], [16 * 12, 0]]
    assert masks[2, 0, :, :12].all()
    ((_, shows),) = found["textures"]
    assert shows.tolist() == [[True, False], [True, True]]  # one file stands in both folders


def test_masks_go_with_their_images(root: Path) -> None:
    # The image is its mask: what happens to one must happen to the other.
    for i in range(3):
        values = np.zeros((SIZE[1], SIZE[0]), dtype=np.uint8)
        values[4 * i : 4 * i + 8, 6:18] = 1
        mask(root / "street" / "masks" / f"{i}.png", values)
        Image.fromarray(values * 255).convert("RGB").save(root / "street" / "images" / f"{i}.png")
    found = concept_folders(root, image_size=32, crop=(20, 30), mean=0.5, std=0.5)["street"]
    ((images, marks),) = found
    assert images.shape == (3, 3, 20, 30)
    assert marks.shape == (3, 20, 30)
    agree = (images[:, 0] > 0) == (marks == 0)
    assert agree.double().mean() > 0.97  # but for the rounding of edges


def test_what_comes_can_be_dissected(root: Path) -> None:
    found = concept_folders(root)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 16 * 24, 2)
    )
    done = dissect(
        net, found, concepts={name: one.concepts for name, one in found.items()}, quantile=0.3, untrained=False,
        progress=False,
    )  # fmt: skip
    assert done.concepts == ("door", "wheel", "road", "sky", "dots", "lines")
    assert done.images == {"parts": 3, "street": 3, "textures": 2}
    assert done.images_with.tolist() == [1, 1, 1, 3, 2, 1]


def broken(what: str, root: Path) -> None:
    street = root / "street"
    if what == "no mask":
        (street / "masks" / "1.png").unlink()
    elif what == "size":
        mask(street / "masks" / "1.png", np.zeros((5, 5)))
    elif what == "value":
        mask(street / "masks" / "1.png", left(7))
    elif what == "colours":
        picture(street / "masks" / "1.png", 0)
    elif what == "broken mask":
        (street / "masks" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    elif what == "broken image":
        (street / "images" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    elif what == "names twice":
        (street / "names.txt").write_text("road\nroad\n", encoding="utf-8")
    elif what == "no names":
        (street / "names.txt").unlink()
    elif what == "no name":
        (street / "names.txt").write_text("-\n\n", encoding="utf-8")
    elif what == "no images":
        (street / "images").rename(street / "pictures")
    elif what == "strange mask":
        mask(root / "parts" / "masks" / "door" / "9.png", left())
    elif what == "empty":
        (root / "textures" / "none").mkdir()
    elif what == "nothing":
        (root / "empty").mkdir()
    elif what == "sizes":
        Image.fromarray(np.zeros((9, 9, 3), dtype=np.uint8)).save(street / "images" / "1.png")
        mask(street / "masks" / "1.png", np.zeros((9, 9)))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no mask", r"image '1.png' has no mask in masks/ \(1 of 3\); expected one of the same name for each"),
        ("size", r"1.png' is 5 x 5 pixels and its image 16 x 24; expected the same size"),
        ("value", r"1.png' has the value 7, and names.txt of 'street' names 3 values, from 0; add a line"),
        ("colours", r"1.png' has 3 colours; expected one number a pixel"),
        ("broken mask", r"mask '.*1.png' cannot be read"),
        ("broken image", r"image '.*1.png' cannot be read"),
        ("names twice", r"names 'road' twice; expected a line for each value"),
        ("no names", r"has neither names.txt .* nor a folder per concept in masks/"),
        ("no name", r"names no concept"),
        ("no images", r"has masks/ and no images/; expected both"),
        ("strange mask", r"has a mask '9' and images/ no image of that name \(1 such\)"),
        ("empty", r"none' has no image"),
        ("nothing", r"empty' has no folder; expected one per concept with its images"),
        ("sizes", r"images of \(3, 9, 9\) and \(3, 16, 24\) came; give image_size"),
    ],
)
def test_what_is_refused(what: str, message: str, root: Path) -> None:
    broken(what, root)
    with pytest.raises(DataError, match=message):
        [list(one) for one in concept_folders(root).values()]


def test_no_such_folder(tmp_path: Path) -> None:
    (tmp_path / "concepts").mkdir()
    with pytest.raises(DataError, match=r"does not exist.*concepts"):
        concept_folders(tmp_path / "concept")
    with pytest.raises(DataError, match="has no folder; expected one folder per category of concepts"):
        concept_folders(tmp_path / "concepts")


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"root": 5}, {"image_size": -1}, {"std": 0.0}, {"channels": "3"}])
def test_wrong_arguments(wrong: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(InterpNetError, match=next(iter(wrong))):
        concept_folders(**{"root": tmp_path, **wrong})  # type: ignore[arg-type]
