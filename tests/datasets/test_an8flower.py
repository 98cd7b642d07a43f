"""an8Flower, generated: the same bytes everywhere, splits, masks, options, and what is kept on disk."""

from __future__ import annotations

import ast
import hashlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import interpnet.datasets as package
from interpnet.datasets import An8Flower, an8flower, an8flower_from_spec, load_dataset
from interpnet.datasets._an8flower import dataset as module
from interpnet.datasets._an8flower.options import SHORTCUTS, make_options
from interpnet.datasets._an8flower.scene import picture
from interpnet.errors import DataError

ALLOWED = {
    *("random", "errstate", "float32", "float64", "int64", "uint8", "uint16", "bool_", "ndarray"),
    *("arange", "array", "empty", "zeros", "full", "stack", "flatnonzero"),
    *("floor", "sqrt", "minimum", "maximum", "abs", "clip"),
}
# Of images and regions; they change only together with GENERATOR in _an8flower_options.py.
FINGERPRINTS = {
    "plain": "28851aedccaec8406bbfa415",
    "size 64": "851989be94c7afa9e384d233",
    "double": "463170707d0185f8f6c09d67",
    "hard": "6331a8cf6cf72a73972fcd0d",
    "background": "1defe22caf198db031bc969a",
    "pot": "67f90c47ee7fb4354c8a1ef0",
    "watermark": "620cd1d3dfd4a587c5379bc9",
    "texture": "a40d4e6bd187f31cd5b93e53",
    "position": "176afd56126df3684e16b5cd",
}
CASES = {
    "plain": ({"variant": "single-6c"}, "train", 112),
    "size 64": ({"variant": "single-6c", "seed": 3}, "test", 64),
    "double": ({"variant": "double-12c"}, "validation", 112),
    "hard": ({"variant": "single-6c", "contrast": "pale", "flower": 0.6, "noise": 0.1}, "train", 65),
    **{name: ({"variant": "double-12c", "shortcut": name, "strength": 0.8}, "train", 48) for name in SHORTCUTS},
}


@pytest.fixture(scope="module")
def small() -> An8Flower:
    return an8flower("double-12c", n=48, size=48, jobs=1)


# --- determinism ---


@pytest.mark.parametrize("case", CASES)
def test_the_bytes_are_those_of_every_other_machine(case: str):
    given, split, size = CASES[case]
    options = make_options(**given, size=size)
    digest = hashlib.sha256()
    for index in (0, 1, 7, 1000):
        made = picture(options, split, index, index % len(options.classes))
        digest.update(np.ascontiguousarray(made.image).tobytes() + made.regions.tobytes())
    assert digest.hexdigest()[:24] == FINGERPRINTS[case]


def test_pixels_meet_only_operations_whose_result_ieee_754_fixes():
    """Library functions, sums of floats in an unstated order and matrix products may differ between machines."""
    folder = Path(package.__file__).parent
    files = [folder / "_an8flower" / f"{name}.py" for name in ("exact", "render", "plant", "backdrop", "scene")]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "np":
                assert node.attr in ALLOWED, f"{file.name}:{node.lineno} np.{node.attr}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "math":
                assert node.attr in {"sqrt", "floor"}, f"{file.name}:{node.lineno} math.{node.attr}"
            assert not isinstance(node, ast.MatMult | ast.Pow), f"{file.name} has a matrix product or a power"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in {"sum", "mean", "dot", "std", "cumsum"}, f"{file.name}:{node.lineno}"


def test_processes_make_what_one_makes():
    alone, together = (an8flower("single-6c", "test", n=14, size=32, jobs=jobs) for jobs in (1, 2))
    for name in ("images", "regions", "labels", "azimuth", "individual"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(together, name))


def test_more_images_start_with_the_same_ones_and_seeds_differ():
    few = an8flower(n=6, size=32)
    many = an8flower(n=9, size=32)
    other = an8flower(n=6, size=32, seed=1)
    np.testing.assert_array_equal(few.images, many.images[:6])
    assert (few.images != other.images).mean() > 0.5


def test_a_seed_shows_the_same_scenes_at_any_size_and_contrast():
    small = an8flower(n=12, size=56, noise=0.0)
    large = an8flower(n=12, size=112, noise=0.0)
    np.testing.assert_array_equal(small.azimuth, large.azimuth)
    halved = large.images.reshape(12, 56, 2, 56, 2, 3).mean((2, 4))
    assert np.abs(halved - small.images).mean() < 2.0
    pale = an8flower(n=12, size=56, noise=0.0, contrast=0.3)
    np.testing.assert_array_equal(pale.regions, small.regions)
    outside = small.mask("background")
    np.testing.assert_array_equal(pale.images[outside], small.images[outside])


# --- splits ---


def test_no_view_of_one_split_is_within_five_degrees_of_another_split():
    angles = {split: an8flower(split=split, n=400, size=32).azimuth for split in ("train", "validation", "test")}
    for one, other in itertools.combinations(angles, 2):
        apart = np.abs(angles[one][:, None] - angles[other][None, :])
        assert np.minimum(apart, 360 - apart).min() >= 5.0
    for azimuth in angles.values():  # and each sees the plant from all around
        assert sorted(set((azimuth // 60).astype(int))) == list(range(6))


def test_classes_take_turns_and_have_default_numbers():
    data = an8flower("double-12c", n=30, size=32)
    assert data.labels.tolist() == [i % 12 for i in range(30)]
    assert data.labels.dtype == np.int64
    assert data.classes[0] == "red-flower"
    assert data.classes[11] == "pink-stem"
    assert len(an8flower("single-6c", "validation", size=32)) == 150


# --- masks ---


def test_masks_are_what_they_are_called(small: An8Flower):
    masks = small.masks
    assert {mask.shape for mask in masks.values()} == {(48, 48, 48)}
    assert {mask.dtype for mask in masks.values()} == {np.dtype(bool)}
    assert not (masks["petals"] & ~masks["plant"]).any()
    assert not (masks["stem"] & ~masks["plant"]).any()
    assert not (masks["background"] & masks["plant"]).any()
    flower = small.labels < 6
    np.testing.assert_array_equal(masks["discriminative"][flower], masks["petals"][flower])
    np.testing.assert_array_equal(masks["discriminative"][~flower], masks["stem"][~flower])
    for name, mask in masks.items():
        assert mask.any((1, 2)).all(), f"{name} is empty somewhere"
        assert not mask.all((1, 2)).any(), f"{name} is full somewhere"


def test_only_discriminative_pixels_know_the_colour():
    """The same scene in two colours differs where its part is, and nowhere else."""
    options = make_options("double-12c", size=64, noise=0.0)
    for first, second, part in ((0, 3, 1), (6, 9, 2)):
        one, two = (picture(options, "train", 5, label) for label in (first, second))
        np.testing.assert_array_equal(one.regions, two.regions)
        changed = (one.image != two.image).any(-1)
        inside = (one.regions & part) != 0
        assert changed[inside].all()
        touched = (one.regions & 8) != 0
        assert not changed[~touched].any()
        # One sample of four is of the part where a pixel outside its mask changes: at most a quarter of 255.
        difference = np.abs(one.image.astype(int) - two.image).max(-1)
        assert difference[changed & ~inside].max() <= 64
        assert difference[inside].max() > 128


def test_unknown_masks_are_refused(small: An8Flower):
    with pytest.raises(DataError, match=r"the mask.s name is .petal.; expected .petals. or .*did you mean 'petals'"):
        small.mask("petal")


# --- options ---


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"variant": "single6c"}, r"variant is 'single6c'.*did you mean 'single-6c'"),
        ({"split": "tset"}, r"split is 'tset'.*did you mean 'test'"),
        ({"split": "test-agree"}, r"split is 'test-agree', which only a data set with a shortcut has"),
        ({"shortcut": "watermrk"}, r"shortcut is 'watermrk'.*did you mean 'watermark'"),
        ({"sise": 64}, r"no option 'sise'.*did you mean 'size'"),
        ({"size": 31}, r"size is 31; expected a whole number from 32"),
        ({"size": 64.0}, r"size is 64.0; expected a whole number"),
        ({"strength": 1.5, "shortcut": "pot"}, r"strength is 1.5; expected a number from 0 to 1"),
        ({"strength": float("nan"), "shortcut": "pot"}, r"strength is nan; expected a number from 0 to 1"),
        ({"strength": 0.5}, r"strength is 0.5 without a shortcut"),
        ({"contrast": "palle"}, r"contrast is 'palle'.*did you mean 'pale'"),
        ({"contrast": -0.1}, r"contrast is -0.1; expected a number from 0 to 1"),
        ({"flower": 2}, r"flower is 2; expected a number from 0.3 to 1.2"),
        ({"noise": True}, r"noise is True; expected a number"),
        ({"n": 5}, r"n is 5; expected a whole number of at least 6, one image for each class"),
        ({"n": 6.0}, r"n is 6.0; expected a whole number"),
        ({"seed": -1}, r"seed is -1"),
        ({"n": 10**15, "jobs": 1}, r"n is 1000000000000000: so many images of size 112 need .* GB, more memory"),
        ({"jobs": 0, "n": 6}, r"jobs is 0; expected a whole number of at least 1"),
        ({"size": 32, "flower": 0.3, "n": 400}, r"image \d+ of train shows nothing of what tells its class"),
    ],
)
def test_bad_options_are_named(given: dict, message: str):
    with pytest.raises(DataError, match=message):
        an8flower(**given)


def test_specifications_name_options(tmp_path: Path):
    data = load_dataset("an8flower-single-6c?shortcut=pot&strength=0.9&size=40&n=12", split="test-agree", root=tmp_path)
    flower = an8flower("single-6c", "test-agree", shortcut="pot", strength=0.9, size=40, n=12)
    assert tuple(data[0][0].shape) == (3, 40, 40)
    np.testing.assert_array_equal((data.picture(3).numpy() * 255).round().transpose(1, 2, 0), flower.images[3])
    assert data.classes == flower.classes
    angle = int(flower.azimuth[3])
    assert data.name(3) == f"an8flower-single-6c/test-agree/blue/img3_p{flower.individual[3]}_r{angle}"
    again = an8flower_from_spec(data.spec, data.split, root=tmp_path)
    assert again.folder is not None
    np.testing.assert_array_equal(again.images, flower.images)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("an8flower-single-6d", r"unknown data set 'an8flower-single-6d'.*did you mean 'an8flower-single-6c'"),
        ("an8flower-single-6c?strenght=1", r"unknown option 'strenght'.*did you mean 'strength'"),
        ("an8flower-single-6c?split=test", r"unknown option 'split'"),
        ("an8flower-single-6c?size", r"'size' is no option, expected name=value"),
        ("an8flower-single-6c?n=6&n=7", r"option 'n' stands there twice"),
        ("an8flower-single-6c?size=big", r"size is .big.; expected a whole number"),
    ],
)
def test_bad_specifications_are_named(spec: str, message: str, tmp_path: Path):
    with pytest.raises(DataError, match=message):
        load_dataset(spec, root=tmp_path)
    assert not list(tmp_path.iterdir())


# --- what is kept ---


def _kept(root: Path) -> An8Flower:
    return an8flower("single-6c", "test", n=6, size=32, root=root)


def _never(*args: object) -> None:
    raise RuntimeError("made again")


def test_images_are_read_back_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = _kept(tmp_path)
    assert first.folder is not None
    assert [entry.name for entry in (tmp_path / "an8flower").iterdir()] == [first.folder.name]
    monkeypatch.setattr(module, "picture", _never)
    again = _kept(tmp_path)
    for name in ("images", "regions", "labels", "azimuth", "individual"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert again.cue is None
    with pytest.raises(RuntimeError, match="made again"):
        an8flower("single-6c", "test", n=7, size=32, root=tmp_path)


@pytest.mark.parametrize("harm", ["byte", "cut", "gone", "facts", "options"])
def test_a_damaged_folder_is_made_again(tmp_path: Path, harm: str):
    first = _kept(tmp_path)
    assert first.folder is not None
    images = first.folder / "images.npy"
    if harm == "byte":
        content = bytearray(images.read_bytes())
        content[-7] ^= 1
        images.write_bytes(content)
    elif harm == "cut":
        images.write_bytes(images.read_bytes()[:-100])
    elif harm == "gone":
        (first.folder / "labels.npy").unlink()
    elif harm == "facts":
        (first.folder / "facts.json").write_text("{")
    else:
        facts = first.folder / "facts.json"
        facts.write_text(facts.read_text().replace('"noise": 0.02', '"noise": 0.03'))
    np.testing.assert_array_equal(_kept(tmp_path).images, first.images)
    # And it is whole now, with nothing left beside it.
    assert [entry.name for entry in (tmp_path / "an8flower").iterdir()] == [first.folder.name]
    assert len(list(first.folder.iterdir())) == 7
    np.testing.assert_array_equal(np.load(images), first.images)


@pytest.mark.parametrize("error", [KeyboardInterrupt("stopped"), OSError("disk full")])
def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException):
    calls = iter(range(99))

    def save(*args: object, **options: object) -> None:
        if next(calls) == 3:
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", save)
        if isinstance(error, KeyboardInterrupt):
            with pytest.raises(KeyboardInterrupt, match="stopped"):
                _kept(tmp_path)
        else:
            assert _kept(tmp_path).folder is None
    assert not list((tmp_path / "an8flower").iterdir())
    assert _kept(tmp_path).folder is not None


_KILLED = """
import sys, time
import numpy as np
from interpnet.datasets import an8flower
real, calls = np.save, iter(range(99))
def save(*args, **options):
    if next(calls) == 3:
        print("in the middle", flush=True)
        time.sleep(600)
    real(*args, **options)
np.save = save
an8flower("single-6c", "test", n=6, size=32, root=sys.argv[1])
"""


def test_what_a_killed_process_left_is_never_read_and_goes_away(tmp_path: Path):
    with subprocess.Popen([sys.executable, "-c", _KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            raise RuntimeError("a pipe was asked for")
        assert process.stdout.readline() == "in the middle\n"
        process.send_signal(signal.SIGKILL)
    (left,) = (tmp_path / "an8flower").iterdir()
    assert left.name.startswith(".single-6c-test-")
    assert 0 < len(list(left.iterdir())) < 7
    found = _kept(tmp_path)
    np.testing.assert_array_equal(found.images, an8flower("single-6c", "test", n=6, size=32).images)
    assert found.folder is not None
    assert left.exists()  # another process may be writing it just now
    shutil.rmtree(found.folder)
    os.utime(left, (0, 0))
    assert _kept(tmp_path).folder is not None
    assert [entry.name for entry in (tmp_path / "an8flower").iterdir()] == [found.folder.name]


def test_where_nothing_can_be_written_images_are_in_memory(tmp_path: Path):
    (tmp_path / "an8flower").write_text("a file is in the way")
    data = _kept(tmp_path)
    assert data.folder is None
    assert len(data) == 6
