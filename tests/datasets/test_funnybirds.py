"""FunnyBirds' layout: pictures, part maps, pictures without parts and things; and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from interpnet.datasets import FunnyBirds, funny_birds, load_dataset
from interpnet.errors import DataError

PARTS = {"wing": [{"model": "a.glb", "color": "red"}], "beak": [{"model": "b.glb"}, {"model": "c.glb"}]}
#: Rows of a part map of 8 x 8 pixels, and what they show.
ROWS = {
    0: (255, 255, 0),  # beak
    1: (0, 255, 1),  # one wing
    2: (0, 255, 2),  # the other
    3: (170, 170, 170),  # body
    4: (204, 204, 205),  # the second thing of the background
    5: (255, 255, 1),  # nothing: a colour between others
}


def _save(file: Path, pixels: np.ndarray, mode: str = "RGBA") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two birds of two kinds for training, without part maps, and two for the test."""
    (tmp_path / "parts.json").write_text(json.dumps(PARTS))
    classes = [{"class_idx": k, "parts": {"wing": 0, "beak": k}} for k in (0, 1)]
    (tmp_path / "classes.json").write_text(json.dumps(classes))
    for split in ("train", "test"):
        scenes = [{"class_idx": 1, "bg_objects": ""}, {"class_idx": 0, "bg_objects": "4,0,"}]
        (tmp_path / f"dataset_{split}.json").write_text(json.dumps(scenes))
        for i, scene in enumerate(scenes):
            _save(tmp_path / split / f"{scene['class_idx']}/{i:06d}.png", np.full((8, 8, 3), 10 * i + 5))
    painted = np.zeros((8, 8, 3))
    for row, colour in ROWS.items():
        painted[row, row:] = colour
    for name in ("1/000000", "0/000001"):
        _save(tmp_path / f"test_part_map/{name}.png", painted)
    changes = tmp_path / "test_interventions/0/000001"
    for k, name in enumerate(("body_beak", "body_wing", "body_", "background_interventions/1")):
        _save(changes / f"{name}.png", np.full((8, 8, 3), 100 + k), "RGB")
    return tmp_path


@pytest.fixture
def birds(folder: Path) -> FunnyBirds:
    return funny_birds(folder, "test")


def test_pictures_are_read_without_their_transparency(birds: FunnyBirds):
    assert (len(birds), birds.labels.tolist(), birds.classes) == (2, [1, 0], ("0", "1"))
    assert birds.parts == ("beak", "wing")
    assert birds.names == ("test/1/000000.png", "test/0/000001.png")
    np.testing.assert_array_equal(birds.image(1), np.full((8, 8, 3), 15))


def test_part_maps_are_masks_of_parts_body_and_things(birds: FunnyBirds):
    masks = birds.masks(0)
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {"beak": 8, "wing": 7 + 6, "body": 5}
    assert masks["wing"][2, 2:].all()
    assert [birds.things(i) for i in (0, 1)] == [0, 2]
    assert birds.thing_masks(0).shape == (0, 8, 8)
    assert birds.thing_masks(1).sum((1, 2)).tolist() == [0, 4]
    assert birds.named_masks()["beak"].shape == (2, 8, 8)


def test_what_was_left_out_together_is_listed_and_read(birds: FunnyBirds):
    assert birds.removals(1) == (("beak",), ("beak", "wing"), ("wing",))
    assert birds.removals(0) == ()
    for parts, value in ((("wing",), 100), (("beak",), 101), (("wing", "beak"), 102)):
        assert birds.without(1, parts)[0, 0, 0] == value
    assert birds.without_thing(1, 1)[0, 0, 0] == 103


def test_networks_get_the_same_pictures_with_their_masks(folder: Path):
    data = load_dataset(f"funnybirds:{folder}", split="test", mean=0, std=1)
    assert (len(data), data.labels.tolist(), data.name(1)) == (2, [1, 0], "test/0/000001.png")
    np.testing.assert_allclose(data[1][0], 15 / 255, rtol=1e-6)
    assert data.masks is not None
    assert sorted(data.masks) == ["beak", "body", "wing"]
    assert load_dataset(f"funnybirds:{folder}", split="train").masks is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "dataset_test.json",
            None,
            r"has no 'dataset_test.json', expected FunnyBirds' layout.*did you mean 'dataset_tr",
        ),
        ("classes.json", "[", r"classes.json' cannot be read: .*render it again"),
        ("parts.json", "[]", r"parts.json' holds something else than FunnyBirds' description"),
        ("dataset_test.json", "[3]", r"dataset_test.json' holds something else"),
        ("dataset_test.json", "[]", r"dataset_test.json' has no scene"),
        ("parts.json", '{"crest": []}', r"has the part 'crest', expected some of beak, eye, foot, tail, wing"),
        ("classes.json", '[{"class_idx": 1}]', r"classes.json' has class_idx \[1\], expected 0 to 0 in order"),
        ("dataset_test.json", '[{"class_idx": 2}]', r"dataset_test.json' has class_idx 2, expected 0 to 1"),
        ("test/1/000000.png", None, r"lacks 1 of 2 pictures, the first 'test/1/000000.png'; render it again"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(folder: Path, name: str, content: str | None, message: str):
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(DataError, match=message):
        funny_birds(folder, "test")


def test_what_is_missing_or_damaged_is_named_when_it_is_asked_for(folder: Path, birds: FunnyBirds):
    with pytest.raises(DataError, match=r"has no 'train_part_map/1/000000.png'; render it again"):
        funny_birds(folder).masks(0)
    with pytest.raises(DataError, match=r"has no 'test_interventions/1/000000/body_beak.png'"):
        birds.without(0, ("wing",))
    _save(folder / "test_part_map/1/000000.png", np.zeros((4, 8, 3)))
    with pytest.raises(DataError, match=r"'test_part_map/1/000000.png' is 4 x 8 pixels and its picture 8 x 8"):
        birds.masks(0)
    (folder / "test/1/000000.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"000000.png' cannot be read: .*; delete it, and render it again"):
        birds.image(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b: b.image(2), r"i is 2; expected a whole number from 0 to 1"),
        (lambda b: b.without(1, "wing"), r"parts is 'wing', expected a tuple of beak, wing; did you mean 'wing'"),
        (lambda b: b.without(1, ("wings",)), r"parts is \('wings',\), expected .*did you mean 'wing'"),
        (lambda b: b.without_thing(1, 2), r"k is 2; expected a whole number from 0 to 1"),
        (lambda b: b.without_thing(0, 0), r"'test/1/000000.png' has nothing in its background"),
    ],
)
def test_wrong_questions(birds: FunnyBirds, call: Any, message: str):
    with pytest.raises(DataError, match=message):
        call(birds)


def test_wrong_arguments(folder: Path):
    with pytest.raises(DataError, match=r"split is 'validation'; expected 'train' or 'test'"):
        funny_birds(folder, "validation")
    with pytest.raises(DataError, match=r"is a file, expected a folder with dataset_test.json"):
        funny_birds(folder / "parts.json")
    with pytest.raises(DataError, match="data set 'funnybirds:' lacks its folder"):
        load_dataset("funnybirds:")
