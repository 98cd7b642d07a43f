"""The authors' layout of an8Flower: what is read, and what is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.image_files import noise
from PIL import Image

from interpnet.datasets import load_dataset, released_an8flower
from interpnet.datasets._an8flower.files import _check_mask
from interpnet.errors import DataError


def _mask(side: int = 12) -> np.ndarray:
    mask = np.zeros((side, side), dtype=np.uint8)
    mask[2:5, 3:9] = 255
    return mask


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """Two classes of two pictures; masks beside the first class's, in a folder for the second's."""
    for c in (0, 1):
        folder = tmp_path / f"class{c}"
        (folder / "masks").mkdir(parents=True)
        for i, (p, r) in enumerate([(2, 90), (1, 10)]):
            stem = f"class{c}_img{i}_p{p}_r{r}"
            Image.fromarray(noise(12, 12, 3)).save(folder / f"{stem}.jpg")
            Image.fromarray(_mask()).save(folder / (f"{stem}_mask.png" if c == 0 else f"masks/{stem}.png"))
    return tmp_path


def test_pictures_and_masks_are_read(released: Path):
    data = released_an8flower(released)
    assert (data.images.shape, data.images.dtype) == ((4, 12, 12, 3), np.uint8)
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert data.classes == ("class0", "class1")
    assert data.names[1] == "class0/class0_img1_p1_r10.jpg"
    assert data.individual.tolist() == [2, 1, 2, 1]
    assert data.angle.tolist() == [90, 10, 90, 10]
    np.testing.assert_array_equal(data.mask, np.broadcast_to(_mask() > 0, (4, 12, 12)))
    with Image.open(released / data.names[2]) as image:
        np.testing.assert_array_equal(data.images[2], np.asarray(image.convert("RGB")))


def test_pictures_are_a_data_set(released: Path):
    data = load_dataset(f"an8flower-released:{released}")
    assert len(data) == 4
    assert data.name(3) == "class1/class1_img1_p1_r10.jpg"
    assert data.classes == ("class0", "class1")


def test_a_mask_of_the_pictures_own_name_is_no_picture(released: Path):
    folder = released / "class0"
    (folder / "class0_img0_p2_r90_mask.png").rename(folder / "class0_img0_p2_r90.png")
    assert len(released_an8flower(released)) == 4


def test_a_missing_mask_is_named(released: Path):
    (released / "class0" / "class0_img1_p1_r10_mask.png").unlink()
    with pytest.raises(
        DataError,
        match=r"1 of 4 pictures have no mask: 'class0/class0_img1_p1_r10.jpg'; expected 'class0_img1_p1_r10_mask.png'",
    ):
        released_an8flower(released)


def test_all_missing_masks_are_named_before_a_picture_is_read(released: Path):
    for mask in (released / "class0").glob("*_mask.png"):
        mask.unlink()
    (released / "class1" / "masks" / "class1_img1_p1_r10.png").unlink()
    (released / "class0" / "class0_img0_p2_r90.jpg").write_bytes(b"no picture")
    with pytest.raises(
        DataError, match=r"3 of 4 pictures .*: 'class0/.*img0.*', 'class0/.*img1.*', 'class1/.*img1.*';"
    ):
        released_an8flower(released)
    for i in range(9):
        Image.fromarray(noise(12, 12, 3)).save(released / "class1" / f"class1_img{i}_p7_r7.jpg")
    with pytest.raises(DataError, match=r"12 of 13 pictures have no mask: .* and 8 more; expected"):
        released_an8flower(released)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (_mask(10), r"mask 'class0/class0_img0_p2_r90_mask.png' is 10x10 pixels, expected 12x12"),
        (np.zeros((12, 12), np.uint8), r"mask 'class0/class0_img0_p2_r90_mask.png' is empty"),
        (np.full((12, 12), 255, np.uint8), r"mask 'class0/class0_img0_p2_r90_mask.png' is full"),
    ],
)
def test_bad_masks_are_named(released: Path, mask: np.ndarray, message: str):
    Image.fromarray(mask).save(released / "class0" / "class0_img0_p2_r90_mask.png")
    with pytest.raises(DataError, match=message):
        released_an8flower(released)


def test_a_mask_is_some_pixels_of_its_image_but_not_all():
    image = noise(4, 6, 3)
    mask = np.zeros((4, 6), dtype=bool)
    with pytest.raises(DataError, match=r"mask 'm\.png' is empty; expected the pixels that tell the class"):
        _check_mask(mask, image, "m.png")
    mask[1, 2] = True
    _check_mask(mask, image, "m.png")
    with pytest.raises(DataError, match=r"mask 'm\.png' is 6x4 pixels, expected 4x6 \(height x width\)"):
        _check_mask(mask.T, image, "m.png")
    _check_mask(~mask, image, "m.png")
    with pytest.raises(DataError, match=r"mask 'm\.png' is full"):
        _check_mask(mask | True, image, "m.png")


def test_other_bad_folders_are_named(released: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"nowhere' does not exist"):
        released_an8flower(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"an8Flower folder '' is no folder"):
        load_dataset("an8flower-released:")
    with pytest.raises(DataError, match=r"jpg' is a file; give the folder of the class folders"):
        released_an8flower(released / "class0" / "class0_img0_p2_r90.jpg")
    (tmp_path / "bare" / "empty").mkdir(parents=True)
    with pytest.raises(DataError, match=r"has no class folders of pictures; expected CLASS/classC_imgI_pP_rR.jpg"):
        released_an8flower(tmp_path / "bare")
    Image.fromarray(noise(9, 12, 3)).save(released / "class1" / "class1_img0_p2_r90.jpg")
    with pytest.raises(DataError, match=r"'class1/class1_img0_p2_r90.jpg' is 9x12 pixels, but 'class0/.*' is 12x12"):
        released_an8flower(released)
    (released / "class1" / "class1_img0_p2_r90.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"picture 'class1/class1_img0_p2_r90.jpg' cannot be read"):
        released_an8flower(released)
