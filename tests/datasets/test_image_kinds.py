"""Images of other bands, bits and pages than photographs have, and files that are none."""

from __future__ import annotations

import os
import socket
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.image_files import noise, one_image
from PIL import Image, TiffImagePlugin
from torch.utils.data import Dataset

from interpnet.datasets import BadImageError, ImageData, load_dataset, make_loader
from interpnet.datasets._decode import read_image
from interpnet.errors import DataError


def deep(height: int, width: int, top: int, *channels: int, lowest: int = 0) -> np.ndarray:
    """Return 16-bit pixels from ``lowest`` up to ``top``, both included."""
    pixels = np.random.default_rng(top).integers(lowest, top + 1, (height, width, *channels)).astype(np.uint16)
    pixels.flat[0] = top
    return pixels


# --- bands ---


@pytest.mark.parametrize(("mode", "bands"), [("RGBA", 4), ("LA", 2), ("L", 1), ("RGB", 3), ("P", 3), ("1", 1)])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_bands_are_kept_as_they_are(mode: str, bands: int, ending: str, tmp_path: Path):
    file, spec = one_image(tmp_path, f"a.{ending}")
    image = Image.fromarray(noise(5, 6, 4)).convert(mode)
    image.save(file)
    data = load_dataset(spec, channels=bands, mean=0, std=1)
    expected = np.asarray(image.convert({"1": "L", "P": "RGB"}.get(mode, mode)))
    np.testing.assert_array_equal(data[0][0].numpy(), np.float32(np.atleast_3d(expected).transpose(2, 0, 1) / 255))


def test_dropped_bands_are_noted(tmp_path: Path):
    file, spec = one_image(tmp_path, "a.tif")
    Image.fromarray(noise(5, 6, 4)).save(file)
    assert "1 have transparency or further bands, which are dropped" in load_dataset(spec).notes[0]
    assert load_dataset(spec, channels=4, mean=0, std=1).notes == ()


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 4), ("L", 4), ("RGBA", 5), ("L", 2), ("CMYK", 4), ("I;16", 2)])
def test_bands_that_are_missing_are_not_made_up(mode: str, channels: int, tmp_path: Path):
    file, spec = one_image(tmp_path, "a.tif")
    pixels = np.full((4, 4), 60000, np.uint16)
    image = Image.fromarray(pixels) if mode == "I;16" else Image.new(mode, (4, 4))
    image.save(file)
    with pytest.raises(BadImageError, match=f"expected {channels}"):
        load_dataset(spec, channels=channels, mean=0, std=1)[0]


@pytest.mark.parametrize("channels", [0, -1, True, 2.0, "3"])
def test_channels_must_be_a_number(channels: object, folder: Path):
    with pytest.raises(DataError, match="channels is"):
        load_dataset(f"imagefolder:{folder}", channels=channels)


def test_other_bands_need_their_own_normalisation(folder: Path):
    with pytest.raises(DataError, match=r"mean and std are not given for 4 channels"):
        load_dataset(f"imagefolder:{folder}", channels=4, mean=0.5)


@pytest.mark.parametrize(("bands", "photometric"), [(4, "rgb"), (5, "rgb"), (6, "minisblack"), (13, "minisblack")])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tiffs_of_many_bands(bands: int, photometric: str, planar: str, dtype: type, tmp_path: Path):
    tifffile = pytest.importorskip("tifffile")
    file, spec = one_image(tmp_path, "a.tif")
    pixels = np.random.default_rng(0).random((7, 6, bands))
    top = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    pixels = (pixels * top).astype(dtype)
    stored = pixels if planar == "contig" else pixels.transpose(2, 0, 1)
    tifffile.imwrite(file, stored, photometric=photometric, planarconfig=planar)
    data = load_dataset(spec, channels=bands, mean=0, std=1)
    np.testing.assert_allclose(data[0][0].numpy(), pixels.transpose(2, 0, 1) / top, rtol=1e-6)
    if bands > 4:
        with pytest.raises(BadImageError, match=f"has {bands} channels, expected 3"):
            load_dataset(spec)[0]


def test_without_tifffile_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tifffile = pytest.importorskip("tifffile")
    file, spec = one_image(tmp_path, "a.tif")
    tifffile.imwrite(file, noise(5, 5, 6), photometric="minisblack", planarconfig="contig")
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    with pytest.raises(BadImageError, match="install tifffile"):
        load_dataset(spec, channels=6, mean=0, std=1)[0]


# --- bits ---


@pytest.mark.parametrize(("top", "white"), [(200, 255), (1023, 1023), (3000, 4095), (4095, 4095), (8000, 16383)])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_fewer_bits_in_16_are_refused_until_white_is_known(top: int, white: int, ending: str, tmp_path: Path):
    file, spec = one_image(tmp_path, f"a.{ending}")
    pixels = deep(6, 8, top)
    Image.fromarray(pixels).save(file)
    with pytest.raises(DataError, match=rf"values up to {top} of 65535 .*nearly black.*--max-value {white}\)"):
        load_dataset(spec)
    picture = load_dataset(spec, channels=1, max_value=white).picture(0)
    np.testing.assert_allclose(picture[0].numpy(), pixels / white, rtol=1e-6)
    # Whoever has dark images may have them.
    picture = load_dataset(spec, channels=1, max_value=65535).picture(0)
    np.testing.assert_allclose(picture[0].numpy(), pixels / 65535, rtol=1e-6)


def test_half_dark_images_are_noted_and_bright_ones_are_not(tmp_path: Path):
    file, spec = one_image(tmp_path)
    Image.fromarray(deep(6, 8, 16383)).save(file)
    assert "give --max-value 16383" in load_dataset(spec).notes[0]
    Image.fromarray(deep(6, 8, 60000)).save(file)
    assert load_dataset(spec).notes == ()


def test_one_bright_image_of_the_sample_is_enough(tmp_path: Path):
    file, spec = one_image(tmp_path)
    for i in range(40):
        Image.fromarray(deep(4, 4, 900)).save(file.with_name(f"{i:02}.png"))
    Image.fromarray(deep(4, 4, 50_000)).save(file.with_name("00.png"))
    assert load_dataset(spec).notes == ()


def write_colours(file: Path, pixels: np.ndarray, kind: str) -> None:
    """Write 16-bit colours as a PNG or TIFF."""
    if kind == "png":
        file.write_bytes(png_of_16_bits(pixels))
        return
    tifffile = pytest.importorskip("tifffile")
    if kind == "separate":
        pixels = pixels.transpose(2, 0, 1)
    tifffile.imwrite(file, pixels, photometric="rgb", planarconfig=kind)


@pytest.mark.parametrize("kind", ["png", "contig", "separate"])
def test_bright_colours_of_16_bits(kind: str, tmp_path: Path):
    file, spec = one_image(tmp_path)
    pixels = deep(5, 6, 65535, 3)
    write_colours(file, pixels, kind)
    picture = load_dataset(spec).picture(0)
    np.testing.assert_allclose(picture.numpy(), pixels.transpose(2, 0, 1) / 65535, atol=1 / 255)
    picture = load_dataset(spec, max_value=65535).picture(0)
    np.testing.assert_allclose(picture.numpy(), pixels.transpose(2, 0, 1) / 65535, rtol=1e-6)


def test_colours_and_transparency_of_16_bits(tmp_path: Path):
    file, spec = one_image(tmp_path)
    pixels = deep(5, 6, 65535, 4)
    file.write_bytes(png_of_16_bits(pixels))
    data = load_dataset(spec, channels=4, mean=0, std=1, max_value=65535)
    np.testing.assert_allclose(data[0][0].numpy(), pixels.transpose(2, 0, 1) / 65535, rtol=1e-6)
    with pytest.raises(BadImageError, match="expected 5"):
        load_dataset(spec, channels=5, mean=0, std=1, max_value=65535)[0]


@pytest.mark.parametrize("kind", ["png", "contig", "separate"])
def test_colours_of_12_bits_in_16(kind: str, tmp_path: Path):
    file, spec = one_image(tmp_path)
    pixels = deep(5, 6, 4095, 3)
    write_colours(file, pixels, kind)
    with pytest.raises(DataError, match=r"--max-value 4095"):
        load_dataset(spec)
    picture = load_dataset(spec, max_value=4095).picture(0)
    np.testing.assert_allclose(picture.numpy(), pixels.transpose(2, 0, 1) / 4095, rtol=1e-6)


def chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_of_16_bits(pixels: np.ndarray) -> bytes:
    """Return a colour PNG of 16 bits, which Pillow cannot write."""
    height, width, colours = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[colours], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_white_of_images_of_8_bits(tmp_path: Path):
    file, spec = one_image(tmp_path)
    pixels = noise(4, 4, 3) // 4
    Image.fromarray(pixels).save(file)
    plain = load_dataset(spec)
    torch.testing.assert_close(load_dataset(spec, max_value=255)[0][0], plain[0][0], rtol=0, atol=0)
    np.testing.assert_allclose(
        load_dataset(spec, max_value=63).picture(0).numpy(), pixels.transpose(2, 0, 1) / 63, rtol=1e-6
    )
    with pytest.raises(BadImageError, match="8 bits per channel, which end at 255; max_value 4095"):
        load_dataset(spec, max_value=4095)[0]
    with pytest.raises(BadImageError, match=r"values outside \[0, 10\]"):
        load_dataset(spec, max_value=10)[0]


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "4095"])
def test_white_must_be_a_number_above_0(value: object, folder: Path):
    with pytest.raises(DataError, match=r"max_value is .*number above 0"):
        load_dataset(f"imagefolder:{folder}", max_value=value)


def test_white_is_for_files():
    with pytest.raises(DataError, match="max_value is 255 with data 'digits'; it is for image folders"):
        load_dataset("digits", max_value=255)


@pytest.mark.parametrize(("dtype", "white"), [(np.int32, 100_000), (np.float32, 255.0)])
def test_whole_numbers_and_floats_beyond_16_bits(dtype: type, white: float, tmp_path: Path):
    file, spec = one_image(tmp_path, "a.tif")
    pixels = np.linspace(0, white, 12).astype(dtype).reshape(3, 4)
    Image.fromarray(pixels).save(file)
    with pytest.raises(BadImageError, match=r"values outside .*max_value \(--max-value\) says which value is white"):
        load_dataset(spec)[0]
    picture = load_dataset(spec, channels=1, max_value=white).picture(0)
    np.testing.assert_allclose(picture[0].numpy(), pixels / white, rtol=1e-6)
    Image.fromarray(-pixels).save(file)
    with pytest.raises(BadImageError, match="values outside"):
        load_dataset(spec, max_value=white)[0]


def test_white_is_part_of_the_preparation_only_where_given(folder: Path):
    assert "max_value" not in load_dataset(f"imagefolder:{folder}").preprocessing
    assert load_dataset(f"imagefolder:{folder}", max_value=255).preprocessing["max_value"] == 255


class Items(Dataset):
    """Images with the label 0."""

    def __init__(self, *images: object):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple:
        return self.images[i], 0


def test_wrapped_images_of_fewer_bits():
    pixels = deep(4, 5, 4095)
    with pytest.raises(DataError, match=r"nearly black.*max_value=4095"):
        ImageData.from_dataset(Items(Image.fromarray(pixels)), "a")
    for image in (Image.fromarray(pixels), pixels.astype(np.int32), torch.from_numpy(pixels.astype(np.int64))):
        data = ImageData.from_dataset(Items(image), "a", channels=1, max_value=4095)
        np.testing.assert_allclose(data.picture(0)[0].numpy(), pixels / 4095, rtol=1e-6)
    with pytest.raises(DataError, match=r"of torch.int32, expected uint8 or float.*max_value="):
        ImageData.from_dataset(Items(pixels.astype(np.int32)), "a")


# --- mean and std ---


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), r"mean is 123.675,116.28,103.53.*mean=0.485,0.456,0.406"),
        (127.5, 127.5, r"mean is 127.5.*--mean 0.5,0.5,0.5"),
        ((104.0, 117.0, 123.0), 1.0, "divide it by 255"),
        (0.0, 255.0, "std is 255.*std=1,1,1"),
        (0.5, (58.4, 57.1, 57.4), "std is 58.4"),
        (-128, 1, "mean is -128"),
        (33.3, 78.6, "mean is 33.3"),
    ],
)
def test_mean_and_std_of_pixels_up_to_255_are_refused(mean: object, std: object, message: str, folder: Path):
    with pytest.raises(DataError, match=message):
        load_dataset(f"imagefolder:{folder}", mean=mean, std=std)
    with pytest.raises(DataError, match=message):
        ImageData.from_dataset(Items(noise(4, 4, 3)), "a", mean=mean, std=std)


@pytest.mark.parametrize(
    ("mean", "std"), [(0.0, 1.0), (0.5, 0.5), ((0.485, 0.456, 0.406), 1 / 255), (0.0, 1 / 255), (1.0, 2.0)]
)
def test_other_normalisations_are_allowed(mean: object, std: object, folder: Path):
    assert np.isfinite(load_dataset(f"imagefolder:{folder}", mean=mean, std=std)[0][0].numpy()).all()


def test_finished_inputs_may_have_any_units():
    data = ImageData.from_dataset(Items(torch.full((1, 4, 4), 100.0)), "a", mean=-300, std=1000)
    assert data[0][0].mean() == 100


@pytest.mark.parametrize("value", [True, "0.5", [[0.5]], None, (0.5, float("inf"), 0.5), (0.5, 0.5), object()])
def test_mean_must_be_numbers(value: object):
    with pytest.raises(DataError, match="mean is"):
        ImageData.from_dataset(Items(noise(4, 4, 3)), "a", mean=value)


# --- pages ---


@pytest.mark.parametrize("ending", ["tif", "gif", "webp", "png"])
def test_pages_and_animations_are_refused_or_skipped(ending: str, tmp_path: Path):
    file, spec = one_image(tmp_path, f"b.{ending}")
    pages = [Image.fromarray(noise(8, 8 + i, 3)[:, :8]) for i in range(3)]
    pages[0].save(file, save_all=True, append_images=pages[1:])
    pages[0].save(file.with_name("a.png"))
    with pytest.raises(BadImageError, match="several frames or pages, expected one image"):
        load_dataset(spec)[1]
    loader = make_loader(load_dataset(spec, on_bad_image="skip"))
    assert [batch.indices.tolist() for batch in loader] == [[0]]
    assert loader.skipped[0].name == f"x/b.{ending}"


@pytest.mark.parametrize("ending", ["tif", "gif", "webp", "png"])
def test_a_single_page_is_read(ending: str, tmp_path: Path):
    file, spec = one_image(tmp_path, f"a.{ending}")
    Image.fromarray(noise(8, 8, 3)).save(file, save_all=True)
    assert load_dataset(spec)[0][0].shape == (3, 8, 8)


def test_smaller_copies_in_a_tiff_are_no_pages(tmp_path: Path):
    file, spec = one_image(tmp_path, "a.tif")
    pixels = noise(8, 8, 3)
    with TiffImagePlugin.AppendingTiffWriter(str(file), True) as writer:
        Image.fromarray(pixels).save(writer, format="TIFF")
        writer.newFrame()
        Image.fromarray(pixels[::2, ::2]).save(writer, format="TIFF", tiffinfo={254: 1})
    with Image.open(file) as image:
        assert image.n_frames == 2
    np.testing.assert_array_equal(load_dataset(spec).picture(0).numpy() * 255, pixels.transpose(2, 0, 1))


# --- files that are no images ---


def refused(path: Path, reason: str) -> None:
    """Check that reading a file gives one of the errors that become a BadImageError, and a note or a skip."""
    spec = f"imagefolder:{path.parent.parent}"
    data = load_dataset(spec)
    with pytest.raises(BadImageError, match=reason):
        data[0]
    assert len(data.fingerprint()) == 64
    Image.new("RGB", (4, 4)).save(path.with_name("zz.png"))
    loader = make_loader(load_dataset(spec, on_bad_image="skip"))
    assert sum(len(batch.labels) for batch in loader) == 1
    assert len(loader.skipped) == 1


def test_a_named_pipe_does_not_hang(tmp_path: Path):
    file, _spec = one_image(tmp_path)
    os.mkfifo(file)
    refused(file, "no file but a named pipe")


def test_a_pipe_of_another_ending_does_not_hang(tmp_path: Path):
    file, spec = one_image(tmp_path)
    os.mkfifo(file.with_name("pipe"))
    Image.new("RGB", (4, 4)).save(file)
    with pytest.warns(UserWarning, match="1 without ending"):
        assert len(load_dataset(spec)) == 1


def test_a_device_is_not_read(tmp_path: Path):
    file, _spec = one_image(tmp_path)
    file.symlink_to("/dev/zero")
    refused(file, "no file but a device")


def test_a_socket_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file, _spec = one_image(tmp_path)
    # A socket's path is at most about 100 characters long.
    monkeypatch.chdir(file.parent)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(file.name)
        refused(file, "no file but a socket")


def test_a_folder_named_like_an_image_is_a_folder(tmp_path: Path):
    file, spec = one_image(tmp_path)
    file.mkdir()
    Image.new("RGB", (4, 4)).save(file / "b.png")
    assert load_dataset(spec).name(0) == "x/a.png/b.png"


def archive() -> bytes:
    """Return a ZIP archive."""
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        target.writestr("a.txt", "text")
    return buffer.getvalue()


def huge_png() -> bytes:
    """Return a PNG that claims 60,000 x 60,000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


# Pillow warns of damaged details beside raising.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"hello", "no image of a known format"),
        (archive(), "a ZIP archive"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image of a known format"),
        (b"8BPS\0\1" + bytes(40), "no image of a known format"),
        (b"\xd7\xcd\xc6\x9a" + bytes(40), "no image of a known format"),
        (huge_png(), "exceeds limit|pixels"),
        (b"II*\0\x08\0\0\0\xff\xff", "."),
        (b"P6 4 4 255\n", "."),
        (b"BM" + b"\xff" * 60, "."),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "."),
        (b"GIF89a\xff\xff\xff\xff\0\0\0", "."),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "."),
    ],
    ids=range(14),
)
def test_contents_that_are_no_image(content: bytes, reason: str, tmp_path: Path):
    file, _spec = one_image(tmp_path)
    file.write_bytes(content)
    refused(file, reason)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "gif", "bmp", "webp", "ppm", "jp2"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_cut_files(ending: str, share: float, tmp_path: Path):
    file, _spec = one_image(tmp_path, f"a.{ending}")
    Image.fromarray(noise(40, 40, 3)).save(file)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    refused(file, ".")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "gif", "bmp", "webp", "ppm", "jp2", "avif"])
def test_bytes_changed_at_random_give_an_image_or_an_error_of_ours(ending: str, tmp_path: Path):
    file, spec = one_image(tmp_path, f"a.{ending}")
    try:
        Image.fromarray(noise(12, 12, 3)).save(file)
    except (OSError, ValueError, KeyError):
        pytest.skip(f"this Pillow cannot write {ending}")
    content = file.read_bytes()
    draw = np.random.default_rng(0)
    data = load_dataset(spec)
    for _ in range(60):
        changed = bytearray(content)
        for place in draw.integers(0, len(content), 3):
            changed[place] = draw.integers(256)
        file.write_bytes(changed)
        try:
            image, _label = data[0]
        except BadImageError:
            continue
        assert image.shape[0] == 3


def test_tiny_and_long_images(tmp_path: Path):
    file, spec = one_image(tmp_path)
    Image.new("RGB", (1, 1), (255, 0, 0)).save(file)
    assert load_dataset(spec)[0][0].shape == (3, 1, 1)
    assert load_dataset(spec, image_size=8)[0][0].shape == (3, 8, 8)
    Image.new("L", (60_000, 1)).save(file)
    assert load_dataset(spec)[0][0].shape == (3, 1, 60_000)


def test_decoders_errors_are_of_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file, spec = one_image(tmp_path)
    Image.new("RGB", (4, 4)).save(file)

    def fail(*_args: object, **_options: object) -> None:
        raise MemoryError

    monkeypatch.setattr("interpnet.datasets._decode.image_to_tensor", fail)
    with pytest.raises(BadImageError, match="MemoryError"):
        load_dataset(spec)[0]
    with pytest.raises(ValueError, match="MemoryError"):
        read_image(file, 3)
