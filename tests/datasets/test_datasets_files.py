"""Odd image files, and the size, channels and normalisation of what is read from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.image_files import noise, one_image
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from interpnet.datasets import BadImageError, load_dataset, make_loader, stack_images
from interpnet.datasets._pixels import match_channels
from interpnet.datasets._preprocess import make_preprocessing
from interpnet.errors import DataError


def test_names_beyond_ascii_and_html_come_through(tmp_path: Path):
    file, spec = one_image(tmp_path, "<b>naïve & 猫 'x'.png")
    Image.fromarray(noise(9, 9, 3)).save(file)
    data = load_dataset(spec)
    assert data.name(0) == "x/<b>naïve & 猫 'x'.png"
    assert tuple(data[0][0].shape) == (3, 9, 9)
    file.write_bytes(b"")
    with pytest.raises(BadImageError, match="naïve & 猫"):
        data[0]


def test_16_bit_grey_keeps_its_range(tmp_path: Path):
    file, spec = one_image(tmp_path)
    deep = np.linspace(0, 65535, 48).astype(np.uint16).reshape(6, 8)
    Image.fromarray(deep).save(file)
    picture = load_dataset(spec, channels=1).picture(0)
    torch.testing.assert_close(picture[0], torch.from_numpy(deep.astype(np.float32) / 65535))
    assert tuple(load_dataset(spec)[0][0].shape) == (3, 6, 8)


def test_float_image_must_lie_between_0_and_1(tmp_path: Path):
    file, spec = one_image(tmp_path, "a.tiff")
    values = np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5)
    Image.fromarray(values).save(file)
    torch.testing.assert_close(load_dataset(spec, channels=1).picture(0)[0], torch.from_numpy(values))
    Image.fromarray(values * 300).save(file)
    with pytest.raises(BadImageError, match=r"values outside \[0, 1\] in an image of mode F"):
        load_dataset(spec)[0]


def test_palette_with_transparency(tmp_path: Path):
    file, spec = one_image(tmp_path)
    palette = Image.new("P", (3, 2), 1)
    palette.putpalette([0, 0, 0, 255, 0, 51])
    palette.save(file, transparency=bytes([0, 128]))
    expected = torch.tensor([1.0, 0.0, 0.2]).view(3, 1, 1).expand(3, 2, 3)
    torch.testing.assert_close(load_dataset(spec).picture(0), expected)


def test_rgba_drops_alpha_and_cmyk_is_converted(tmp_path: Path):
    file, spec = one_image(tmp_path)
    Image.new("RGBA", (5, 4), (255, 51, 0, 7)).save(file)
    torch.testing.assert_close(load_dataset(spec).picture(0)[:, 0, 0], torch.tensor([1.0, 0.2, 0.0]))
    file.unlink()
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(file.with_suffix(".jpg"), quality=100)
    red = load_dataset(spec).picture(0)[:, 4, 4]
    torch.testing.assert_close(red, torch.tensor([1.0, 0.0, 0.0]), rtol=0, atol=0.02)


def test_grey_of_colour_is_the_luma_of_pillow(tmp_path: Path):
    file, spec = one_image(tmp_path)
    image = Image.fromarray(noise(7, 5, 3))
    image.save(file)
    expected = torch.from_numpy(np.array(image.convert("L"))) / 255
    torch.testing.assert_close(load_dataset(spec, channels=1).picture(0)[0], expected)


def test_exif_orientation_is_applied(tmp_path: Path):
    file, spec = one_image(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to show
    pixels = noise(4, 6)
    Image.fromarray(pixels).save(file, exif=exif)
    shown = load_dataset(spec, channels=1).picture(0)[0] * 255
    np.testing.assert_array_equal(shown.round().numpy().astype(np.uint8), np.rot90(pixels, -1))


def test_one_pixel_wide(tmp_path: Path):
    file, spec = one_image(tmp_path)
    Image.fromarray(noise(40, 1, 3)).save(file)
    assert tuple(load_dataset(spec)[0][0].shape) == (3, 40, 1)
    assert tuple(load_dataset(spec, image_size=16)[0][0].shape) == (3, 16, 16)
    Image.fromarray(noise(60_000, 1, 3)).save(file)
    with pytest.raises(BadImageError, match="too narrow to resize"):
        load_dataset(spec, image_size=256)[0]


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("workers", [0, 1])
def test_differing_sizes_name_both_and_the_remedy(folder: Path, batch_size: int, workers: int):
    Image.fromarray(noise(20, 30, 3)).save(folder / "dog" / "1.png")
    data = load_dataset(f"imagefolder:{folder}")
    with pytest.raises(DataError, match=r"10x12 and 'dog/1.png' is 20x30 pixels.*--image-size"):
        list(make_loader(data, batch_size=batch_size, num_workers=workers))
    with pytest.raises(DataError, match=r"'cat/0.png' is 10x12 and 'dog/1.png' is 20x30"):
        stack_images(data, [0, 4])
    sized = load_dataset(f"imagefolder:{folder}", image_size=8)
    assert stack_images(sized, range(5)).shape == (5, 3, 8, 8)


def test_size_and_crop_rules(folder: Path):
    spec = f"imagefolder:{folder}"
    assert load_dataset(spec, image_size=20).shape == (3, 20, 20)
    assert load_dataset(spec, image_size=20, crop=(18, 12)).shape == (3, 18, 12)
    assert load_dataset(spec, image_size=(6, 30)).shape == (3, 6, 30)
    plain = load_dataset(spec)
    cut = load_dataset(spec, crop=(6, 8))
    torch.testing.assert_close(cut.picture(0), plain.picture(0)[:, 2:8, 2:10], rtol=0, atol=0)
    with pytest.raises(BadImageError, match="10x12 pixels it is smaller than the crop 11x11; give image_size"):
        load_dataset(spec, crop=11)[0]


@settings(max_examples=40, derandomize=True)
@given(
    channels=st.sampled_from([1, 3, 5]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    mean=st.floats(-2, 2),
    std=st.floats(0.05, 5),
)
def test_undoing_normalisation_gives_the_pixels_back(channels: int, height: int, width: int, mean: float, std: float):
    steps = make_preprocessing(channels=channels, image_size=None, crop=None, mean=mean, std=std)
    pixels = torch.rand(channels, height, width, generator=torch.Generator().manual_seed(height * width))
    torch.testing.assert_close(steps.undo(steps.normalise(pixels)), pixels, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("have", "want"), [(1, 3), (2, 1), (2, 3), (3, 1), (4, 3), (4, 1), (5, 5)])
def test_channels_are_matched(have: int, want: int):
    assert match_channels(torch.zeros(have, 2, 2, dtype=torch.uint8), want).shape == (want, 2, 2)


def test_channels_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="has 5 channels, expected 3"):
        match_channels(torch.zeros(5, 2, 2), 3)
