"""Images that a user names: which are taken, how they are prepared, and the files they leave."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_run import CLASSES, recorded, tensors, through, tiny_session
from interpnet.pipelines.run import photographs
from interpnet.pipelines.run.session import Session
from interpnet.pipelines.stages import examples, solve, user_images
from PIL import Image

from interpnet.errors import DataError, InterpNetError

SETTINGS: dict[str, Any] = {"mu": 1.5, "methods": ("gradient",), "batch_size": 2, "k": 2}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A run up to its weights."""
    return through(tiny_session(tmp_path_factory.mktemp("user") / "run", **SETTINGS), "solve")


@pytest.fixture(scope="module")
def files(session: Session, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three images as the network knows them, and one of another size."""
    folder = tmp_path_factory.mktemp("images")
    x, _ = tensors(session, "test")
    names = []
    for i in (0, 3, 7):
        pixels = (255 * x[i].clamp(0, 1)).round().byte().permute(1, 2, 0).numpy()
        names.append(str(folder / f"my image {i}.png"))
        Image.fromarray(pixels).save(names[-1])
    names.insert(1, str(folder / "wide.png"))
    Image.fromarray(np.full((20, 40, 3), 90, np.uint8)).save(names[1])
    return names


def test_images_are_explained_in_the_order_they_were_named(
    session: Session, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = recorded(monkeypatch, user_images, "explain_batch")
    records = user_images.explain_user_images(session, files, None)
    assert [record["name"] for record in records] == files
    assert [len(call["args"][2]) for call in calls] == [2, 2]
    folder = session.run.folder("explain")
    for name, record in zip(files, records, strict=True):
        pixels = np.full((16, 16, 3), 90, np.uint8)  # what the wide one is when it was resized
        if not name.endswith("wide.png"):
            with Image.open(name) as image:
                pixels = np.array(image)
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            logits = session.loaded.model(x)[0]
        assert record["predicted"] == record["explained"] == int(logits.argmax())
        assert record["confidence"] == pytest.approx(float(logits.softmax(0).max()), rel=1e-4)
        assert (record["dataset_index"], record["true"]) == (None, None)
        stem = record["image"].removesuffix("_image.png")
        assert stem.startswith("user/")
        saved = json.loads((folder / f"{stem}.json").read_text())
        assert saved.pop("solved") == session.run.stage("solve")["key"]
        with Image.open(folder / f"{stem}.png") as whole:
            # As wide as the image, its channels and their sum side by side.
            assert whole.width > 150 * len(record["channels"])
        assert saved == json.loads(json.dumps(examples.heading(session, [record])))
        assert saved["rectifiers_seen"] == 2
        with Image.open(folder / record["image"]) as picture:
            shown = np.asarray(picture.resize((16, 16), Image.Resampling.NEAREST))
        np.testing.assert_allclose(shown, pixels, atol=1)
    assert len({record["image"] for record in records}) == 4


def test_images_are_explained_for_the_class_that_was_named(
    session: Session, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = solve.load_interpretation(session)
    calls = recorded(monkeypatch, examples, "attribute")
    for c, name in enumerate(CLASSES):
        (record,) = user_images.explain_user_images(session, files[:1], name)
        assert record["explained"] == c
        # The other methods' maps beside it are for the same class.
        assert [call["args"][2].tolist() for call in calls] == [[c]] * 4
        calls.clear()
        for channel in record["channels"]:
            column = found.channels.slice(channel["layer"]).start + channel["index"]
            assert channel["weight"] == found.coef[c, column]
    with pytest.raises(InterpNetError, match=r"'secnd'.*'second'"):
        user_images.explain_user_images(session, files[:1], "secnd")


@pytest.mark.parametrize(
    ("image_size", "crop", "expected"),
    [
        (None, None, (3, 16, 24)),
        ([8, 10], None, (3, 8, 10)),
        (None, [6, 4], (3, 6, 4)),
        ([12, 12], [6, 4], (3, 6, 4)),
    ],
)
def test_images_are_prepared_as_the_run_s_own_or_else_brought_to_their_size(
    image_size: Any, crop: Any, expected: tuple[int, ...], files: list[str]
) -> None:
    steps = {
        "channels": 3,
        "image_size": image_size,
        "crop": crop,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "max_value": None,
    }
    train = SimpleNamespace(preprocessing=dict(steps), shape=(3, 16, 24), finished=False)
    train_data: Any = train
    data = photographs.photographs(files[1:2], train_data)
    assert (data.spec, data.name(0)) == ("your images", files[1])
    assert data[0][0].shape == expected
    assert float(data[0][0].mean()) == pytest.approx((90 / 255 - 0.5) / 0.25, abs=1e-5)
    # What is said of the run's own images stays as it was.
    assert train.preprocessing == steps


def test_what_is_no_image_file_is_refused(session: Session, files: list[str], tmp_path: Path) -> None:
    folder = Path(files[0]).parent
    with pytest.raises(DataError, match=r"is a folder; name image files, --image once for each"):
        user_images.explain_user_images(session, [str(folder)], None)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"pipe' is a pipe or device, expected an image file"):
        user_images.explain_user_images(session, [files[0], str(tmp_path / "pipe")], None)
    with pytest.raises(DataError, match=r"widee.png' does not exist; did you mean 'wide.png'\?"):
        user_images.explain_user_images(session, [str(folder / "widee.png")], None)


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("plain_1-2.png", "plain_1-2"),
        ("my image (3).jpg", "my-image-3"),
        ("x" * 50 + ".png", "x" * 40),
        ("y" * 39 + "--z.png", "y" * 39),
        ("ä.png", "image"),
        ("a.b.png", "a-b"),
    ],
)
def test_the_stem_of_an_image_is_readable_safe_and_of_its_whole_path(name: str, readable: str, tmp_path: Path) -> None:
    path = tmp_path / name
    digest = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()
    assert photographs.stem(str(path)) == f"{readable}-{digest[:6]}"
    assert photographs.stem(str(tmp_path / "other" / name)) != photographs.stem(str(path))
    assert photographs.stem(str(tmp_path / "other" / ".." / name)) == photographs.stem(str(path))
