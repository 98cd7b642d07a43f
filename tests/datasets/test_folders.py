"""Layouts of image folders: splits by any name, links, and files that are left out."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from helpers.image_files import noise
from PIL import Image

from interpnet.datasets import ImageData, load_dataset
from interpnet.datasets._splits import pair_of, split_name
from interpnet.errors import DataError


def fill(root: Path, *folders: str, n: int = 1) -> Path:
    """Write ``n`` small images into each folder below ``root``."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            Image.fromarray(noise(4, 5, 3)).save(root / folder / f"{i}.png")
    return root


def quiet(root: Path, split: str = "train") -> ImageData:
    """Load a folder whose warnings are looked at elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return load_dataset(f"imagefolder:{root}", split=split)


# --- splits ---


@pytest.mark.parametrize(
    ("training", "test"),
    [
        ("train", "test"),
        ("Training", "Testing"),
        ("TRAIN", "TEST"),
        ("train", "dev"),
        ("training_set", "test_set"),
        ("Train", "Val"),
        ("training", "validation"),
        ("seg_train", "seg_test"),
        ("train data", "test data"),
        ("train-images", "valid"),
        ("trainset", "testset"),
        ("TrainData", "ValidationData"),
        ("asl_alphabet_train", "asl_alphabet_test"),
        ("trainImages", "eval"),
        ("train", "hold-out"),
        ("01.train", "01.test"),
    ],
)
def test_splits_are_known_by_any_usual_name(training: str, test: str, tmp_path: Path):
    fill(tmp_path, f"{training}/cat", f"{training}/dog", n=2)
    fill(tmp_path, f"{test}/cat", f"{test}/dog")
    train, tested = quiet(tmp_path), quiet(tmp_path, "test")
    assert train.classes == tested.classes == ("cat", "dog")
    assert (len(train), len(tested)) == (4, 2)
    if (training, test) != ("train", "test"):
        assert f"Training images are those of {training!r}, test images those of {test!r}" in train.notes[0]


@pytest.mark.parametrize(
    "name", ["restrain", "contest", "latest", "medieval", "strain", "invalid", "tester", "trainer", "cat", "train_test"]
)
def test_words_that_hold_a_split_are_none(name: str):
    assert split_name(name) is None


def test_the_test_folder_is_chosen_by_a_documented_order_and_the_rest_is_named(tmp_path: Path):
    fill(tmp_path, "train/a", "train/b", "val/a", "dev/b", "test/a", "pred/x")
    data = quiet(tmp_path, "test")
    assert data.name(0) == "a/0.png"
    assert len(data) == 1
    assert "test images those of 'test'; left out beside them: 'dev', 'pred', 'val'" in data.notes[0]
    assert pair_of(["VAL", "pred", "Test", "Train"]) == (["Train"], ["Test", "VAL"])
    assert pair_of(["a_train", "a_test", "b_train", "b_test"]) == ([], [])


def test_splits_within_a_folder_of_their_own_name_and_below_one_folder(tmp_path: Path):
    fill(
        tmp_path, "archive/seg_train/seg_train/sea", "archive/seg_train/seg_train/ice", "archive/seg_test/seg_test/ice"
    )
    assert quiet(tmp_path).classes == ("ice", "sea")
    assert quiet(tmp_path, "test").labels.tolist() == [0]
    assert quiet(tmp_path / "archive", "test").classes == ("ice", "sea")


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["Training/a", "Training/b"], "has a Training folder but no test or val folder beside it"),
        (["val/a", "val/b"], "has a val folder but no train folder beside it"),
        (["test/a", "val/a"], r"\('test', 'val'\) are splits, not classes; expected train/CLASS/IMAGE"),
        (["train", "test"], r"\('test', 'train'\) are splits, not classes"),
        (["Train", "Validation", "Test"], "are splits, not classes"),
        (["train/a", "train/b", "test"], "are splits, not classes"),
        (["train/a", "train/b", "extra"], "looks like a split, but its counterpart is missing beside 'extra'"),
        (["train/a", "train/b", "pred/a", "pred/b"], "looks like a split, but its counterpart is missing"),
        (["train/a", "Training/a", "test/a"], "several folders for training"),
        (["photos/a", "photos/b"], "single folder 'photos', whose subfolders 'a', 'b' look like the classes"),
    ],
)
def test_what_looks_like_half_a_split_is_refused(folders: list[str], message: str, tmp_path: Path):
    fill(tmp_path, *folders)
    with pytest.raises(DataError, match=message):
        load_dataset(f"imagefolder:{tmp_path}")


@pytest.mark.parametrize(
    ("folders", "note"),
    [
        (["bus", "car", "train"], "'train' is taken for a class"),
        (["test", "control"], "'test' is taken for a class"),
        (["invalid", "valid"], "'valid' is taken for a class"),
        (["2019/cat", "2019/dog", "2020/cat", "2020/dog"], "same subfolders .'cat', 'dog'. and are taken for classes"),
    ],
)
def test_classes_that_are_called_like_splits_are_noted(folders: list[str], note: str, tmp_path: Path):
    import re

    fill(tmp_path, *folders)
    data = load_dataset(f"imagefolder:{tmp_path}")
    assert data.classes == tuple(sorted({folder.partition("/")[0] for folder in folders}))
    assert any(re.search(note, text) for text in data.notes)


def test_classes_that_are_no_splits_are_not_noted(folder: Path):
    assert load_dataset(f"imagefolder:{folder}").notes == ()


def test_the_current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    data = load_dataset("imagefolder:.")
    assert data.name(3) == "dog/0.png"
    assert data.fingerprint() == load_dataset(f"imagefolder:{folder}").fingerprint()
    assert data[3][0].shape == (3, 10, 12)


# --- what counts as an image ---


def test_images_of_all_endings_are_read_and_others_counted(folder: Path):
    cat = folder / "cat"
    image = Image.open(cat / "0.png")
    for ending in ("gif", "webp", "bmp", "tif", "ppm", "jp2"):
        image.save(cat / f"b.{ending}")
    for name in ("c.jfif", "c.jpe", "C.JPG", "no-ending", "odd.jpg_large", "d.image"):
        image.save(cat / name, format="JPEG")
    (cat / "e").write_bytes((cat / "b.bmp").read_bytes())
    (cat / "f").write_bytes((cat / "b.ppm").read_bytes())
    (cat / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (cat / "letter").write_text("BMW is no bitmap")
    (cat / "poem").write_text("P1 is no portable bitmap")
    (cat / "labels.csv").write_text("0,1")
    (folder / "stray.jpg").write_bytes((cat / "c.jpe").read_bytes())
    with pytest.warns(
        UserWarning, match=r"left out of .*photos' \(5\): .*1 \.heic.*convert these files to JPEG"
    ) as caught:
        data = load_dataset(f"imagefolder:{folder}", image_size=8)
    assert len(caught) == 1
    text = str(caught[0].message)
    assert "2 without ending" in text
    assert "1 .csv" in text
    assert "1 images outside of the class folders" in text
    assert data.notes == (text,)
    assert len(data) == 3 + 6 + 6 + 2 + 2
    assert all(data[i][0].shape == (3, 8, 8) for i in range(len(data)))


def test_texts_alone_are_noted_without_a_warning(folder: Path):
    (folder / "cat" / "notes.txt").write_text("no image")
    assert load_dataset(f"imagefolder:{folder}").notes == (f"Files left out of {str(folder)!r}: 1 .txt.",)


def test_what_systems_and_tools_leave_is_passed_over(folder: Path):
    cat = folder / "cat"
    for name in ("Thumbs.db", ".DS_Store", "._0.png", ".hidden.png", "desktop.ini"):
        (cat / name).write_bytes(b"x")
    for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir"):
        fill(folder, name, f"cat/{name}")
    data = load_dataset(f"imagefolder:{folder}")
    assert (len(data), data.classes, data.notes) == (5, ("cat", "dog"), ())


def test_a_folder_without_images_says_what_it_has(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.heic").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no images in its 1 class folders; left out there: 1 \.heic"):
        load_dataset(f"imagefolder:{tmp_path}")


def test_a_folder_that_cannot_be_read_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch):
    real = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("inner"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    fill(folder, "cat/inner")
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"inner' cannot be read: Permission denied"):
        load_dataset(f"imagefolder:{folder}")


def test_classes_that_differ_in_case_are_named(tmp_path: Path):
    fill(tmp_path, "Cat", "cat", "dog")
    with pytest.warns(UserWarning, match="differ only in case: 'Cat', 'cat'"):
        assert load_dataset(f"imagefolder:{tmp_path}").classes == ("Cat", "cat", "dog")


# --- links ---


@pytest.mark.parametrize("target", ["..", "../..", ".", "../cat", "../dog"])
def test_links_to_folders_that_are_read_do_not_multiply_images(target: str, folder: Path):
    (folder / "cat" / "again").symlink_to(target)
    with pytest.warns(UserWarning, match=r"not followed \(1\): 'cat/again'"):
        data = load_dataset(f"imagefolder:{folder}")
    assert len(data) == 5


def test_class_folders_that_are_links(folder: Path, tmp_path: Path):
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "cat").symlink_to(folder / "cat")
    (linked / "dog").symlink_to(folder / "dog")
    data = load_dataset(f"imagefolder:{linked}")
    assert (len(data), data.classes, data.notes) == (5, ("cat", "dog"), ())
    (linked / "up").symlink_to("..")
    with pytest.warns(UserWarning, match="'up'"):
        assert load_dataset(f"imagefolder:{linked}").classes == ("cat", "dog")
    (linked / "kitten").symlink_to("cat")
    with pytest.raises(DataError, match=r"the class folders 'cat' and 'kitten' of .* are one folder"):
        load_dataset(f"imagefolder:{linked}")


def test_a_folder_reached_by_name_and_link_has_its_own_name(folder: Path):
    fill(folder, "cat/z")
    (folder / "cat" / "a").symlink_to("z")
    data = quiet(folder)
    assert len(data) == 6
    assert data.name(3) == "cat/z/0.png"


def test_links_to_images(folder: Path, tmp_path: Path):
    (folder / "cat" / "same.png").symlink_to("0.png")
    fill(tmp_path, "elsewhere")
    (folder / "cat" / "other.png").symlink_to(tmp_path / "elsewhere" / "0.png")
    with pytest.warns(UserWarning, match=r"images of their own \(1\): 'cat/same.png'"):
        data = load_dataset(f"imagefolder:{folder}")
    assert len(data) == 7


def test_a_broken_link_is_an_image_that_cannot_be_read(folder: Path):
    (folder / "cat" / "0.png").unlink()
    (folder / "cat" / "0.png").symlink_to("gone.png")
    data = load_dataset(f"imagefolder:{folder}")
    assert len(data) == 5
    with pytest.raises(DataError, match=r"'cat/0.png' cannot be read: No such file"):
        data[0]
    assert len(data.fingerprint()) == 64


# --- names ---


def test_names_that_are_no_utf_8_are_read_and_shown(tmp_path: Path):
    name = os.fsdecode(b"caf\xe9")
    fill(tmp_path, name, "tea")
    (tmp_path / name / "0.png").rename(tmp_path / name / os.fsdecode(b"\xff\xfe.png"))
    data = load_dataset(f"imagefolder:{tmp_path}")
    assert data.classes == ("caf\\xe9", "tea")
    assert data.name(0) == "caf\\xe9/\\xff\\xfe.png"
    assert data[0][0].shape == (3, 4, 5)
    for text in (*data.classes, data.name(0)):
        text.encode()
    assert len(data.fingerprint()) == 64


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "猫", "🐈", "\u202egnp", "x" * 200, "<b>", "=1+1", "'q'"])
def test_odd_names_are_read(name: str, tmp_path: Path):
    fill(tmp_path, name)
    data = load_dataset(f"imagefolder:{tmp_path}")
    assert data.classes == (name,)
    assert np.isfinite(data[0][0].numpy()).all()


# --- without classes ---


def unlabelled(root: Path, **settings: object) -> ImageData:
    steps = {"channels": 3, "image_size": None, "crop": None, "mean": 0, "std": 1}
    return ImageData.from_folder(root, spec="shop", **steps | settings)


def test_a_folder_without_classes_is_read_with_all_below_it(tmp_path: Path):
    fill(tmp_path, ".", "b", "b/c", ".hidden", "__MACOSX", n=2)
    (tmp_path / "note.txt").write_text("x")
    (tmp_path / "b" / "film.mp4").write_bytes(b"x")
    (tmp_path / "b" / "again").symlink_to(tmp_path)
    (tmp_path / "z.png").symlink_to(tmp_path / "0.png")
    data = unlabelled(tmp_path)
    names = [data.name(i) for i in range(len(data))]
    assert names == ["0.png", "1.png", "z.png", "b/0.png", "b/1.png", "b/c/0.png", "b/c/1.png"]
    assert (set(data.labels.tolist()), data.classes, data.spec) == ({0}, ("any",), "shop")
    left_out, links, copies = data.notes
    assert "1 .txt, 1 .mp4" in left_out or "1 .mp4, 1 .txt" in left_out
    assert "not followed (1): 'b/again'" in links
    assert "count as images of their own (1): 'z.png'" in copies
    np.testing.assert_allclose(data[0][0].numpy() * 255, noise(4, 5, 3).transpose(2, 0, 1), atol=1e-3)


def test_a_folder_without_classes_is_prepared_and_told_apart_by_its_content(tmp_path: Path):
    fill(tmp_path, ".", n=2)
    before = unlabelled(tmp_path).fingerprint()
    assert unlabelled(tmp_path, image_size=(2, 3), channels=1)[0][0].shape == (1, 2, 3)
    assert unlabelled(tmp_path).fingerprint() == before
    (tmp_path / "1.png").rename(tmp_path / "2.png")
    assert unlabelled(tmp_path).fingerprint() != before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shops", r"'.*shops' does not exist \(did you mean 'shop'\?\)|does not exist.*'shop'"),
        ("empty", "holds no image; left out there: 2 .txt. Known endings are"),
        ("file", "is a file, expected a folder with images"),
    ],
)
def test_no_folder_and_one_without_images_are_refused(name: str, message: str, tmp_path: Path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "empty").mkdir()
    for text in ("a.txt", "b.txt"):
        (tmp_path / "empty" / text).write_text("x")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=message):
        unlabelled(tmp_path / name)
