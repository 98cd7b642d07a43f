"""The stage that searches for shortcuts: which images, with what, what it leaves, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_run import OUTPUTS, again, read, recorded, said, tensors, through, tiny_session
from interpnet.pipelines.run.config import RunConfig
from interpnet.pipelines.run.session import Session
from interpnet.pipelines.run.shortcuts import load_shortcuts, load_shown, picture_names
from interpnet.pipelines.run.split import balanced
from interpnet.pipelines.stages import shortcuts
from PIL import Image

from interpnet.errors import ModelError, RunFolderError

SETTINGS: dict[str, Any] = {"mu": 1.0, "seed": 3}
# Enough images for numbers.
MANY = SETTINGS | {"counts": (60, 50, 40), "batch_size": 16}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, list[dict[str, Any]]]:
    """A run whose scores are there and whose shortcuts were searched, and what the library was asked."""
    session = through(tiny_session(tmp_path_factory.mktemp("searched") / "run", **MANY), "collect")
    with pytest.MonkeyPatch.context() as patch:
        calls = recorded(patch, shortcuts, "find")
        # Every class counts as suspicious, so that each has pictures.
        patch.setattr("interpnet.shortcuts._findings.ClassFinding.suspicious", True)
        shortcuts.run_shortcuts(session)
    return session, calls


def test_the_search_gets_the_training_images_and_the_settings(searched: Any) -> None:
    session, (call,) = searched
    subject = session.loaded
    x, y = tensors(session)
    batches = list(call["args"][1])
    torch.testing.assert_close(torch.cat([batch.images for batch in batches]), x)
    assert torch.cat([batch.labels for batch in batches]).tolist() == y.tolist()
    assert call["args"][0] is subject.model
    assert (call["names"], call["classes"], call["masks"]) == (["first", "second", "third"], None, None)
    assert (call["images"], call["seed"], call["max_batch"]) == (None, 3, 16)


def test_what_was_found_is_in_the_folder(searched: Any) -> None:
    session, _ = searched
    found = load_shortcuts(session.run.path)
    assert found is not None
    assert {one.name for one in found.classes} == {"first", "second", "third"}
    assert found.n == 150
    entry = session.run.stage("shortcuts")
    assert (entry["n_images"], len(entry["suspicious"])) == (150, 3)
    # One channel is pasted and taken out, which costs as many passes as there are images, and more of so few.
    assert entry["passes"] <= 9
    assert len(found.inside) == 1
    shown = load_shown(session.run.path)["inside"]
    assert len(shown) == sum(one.moves for one in found.inside)
    folder = session.run.path / "shortcuts"
    for entry in shown:
        assert [len(names) for names in (*entry["pasted"], *entry["removed"])] == [3, 3, 2, 2]
        assert all((folder / name).exists() for names in (*entry["pasted"], *entry["removed"]) for name in names)
    kept = set(entry["checksums"])
    assert any(one.examples for one in found.classes)
    for one in found.classes:
        for number in range(len(one.examples)):
            for name in picture_names(one.index, number):
                assert f"shortcuts/{name}" in kept
                with Image.open(session.run.path / "shortcuts" / name) as picture:
                    assert picture.size == (192, 192)
    assert "shortcuts/shortcuts.json" in kept


def test_a_picture_is_the_image_as_it_is(searched: Any) -> None:
    session, _ = searched
    found = load_shortcuts(session.run.path)
    assert found is not None
    one = next(one for one in found.classes if one.examples)
    x, _ = tensors(session)
    with Image.open(session.run.path / "shortcuts" / picture_names(one.index, 0)[0]) as picture:
        shown = np.asarray(picture)[6::12, 6::12].transpose(2, 0, 1) / 255
    np.testing.assert_allclose(shown, x[one.examples[0].rest].clamp(0, 1), atol=0.01)


def test_it_is_done_once_and_again_where_a_file_is_damaged(tmp_path: Path) -> None:
    session = through(tiny_session(tmp_path / "run", **SETTINGS), "collect")
    assert shortcuts.run_shortcuts(session)
    other = again(session, **SETTINGS)
    assert not shortcuts.run_shortcuts(other)
    assert "shortcuts: up to date, skipped" in said(other)
    path = session.run.path / "shortcuts" / "shortcuts.json"
    before = path.read_bytes()
    path.write_bytes(before[:-9])
    other = again(session, **SETTINGS)
    assert shortcuts.run_shortcuts(other)
    assert "was changed or damaged" in said(other)
    assert path.read_bytes() == before


@pytest.mark.parametrize("changed", [{"seed": 4}, {"shortcut_images": 20}, {"only": ("second",)}], ids=str)
def test_every_setting_of_the_stage_is_in_its_key(changed: dict[str, Any], searched: Any) -> None:
    session, _ = searched
    before = shortcuts.shortcuts_key(again(session, **MANY))
    assert before == session.run.stage("shortcuts")["key"]
    assert shortcuts.shortcuts_key(again(session, **MANY | changed)) != before


def test_a_report_of_fewer_classes_takes_the_search_of_all(searched: Any) -> None:
    session, _ = searched
    fewer = again(session, **MANY, only=("second",))
    assert shortcuts.searched_key(fewer) == session.run.stage("shortcuts")["key"]


def test_some_images_are_taken_balanced_and_no_unreadable_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = through(tiny_session(tmp_path / "run", shortcut_images=12, **SETTINGS), "collect")
    session.run.manifest["data"]["train"]["skipped"] = [[4, "a", "b"], [0, "c", "d"]]
    calls = recorded(monkeypatch, shortcuts, "find")
    shortcuts.run_shortcuts(session)
    kept = np.array([i for i in range(21) if i not in {0, 4}])
    expected = kept[balanced(session.loaded.train.labels[kept], 12, 3)]
    assert np.concatenate([batch.indices for batch in calls[0]["args"][1]]).tolist() == expected.tolist()
    assert (
        "Shortcuts were searched in 12 of 19 training images, balanced by class (--shortcut-images)."
        in session.run.stage("shortcuts")["notes"]
    )


def test_of_all_others_together_as_many_images_are_taken_as_of_the_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = through(tiny_session(tmp_path / "run", only=("second",), shortcut_images=8, **SETTINGS), "collect")
    calls = recorded(monkeypatch, shortcuts, "find")
    shortcuts.run_shortcuts(session)
    labels = np.concatenate([batch.labels for batch in calls[0]["args"][1]])
    assert ((labels == 1).sum(), len(labels)) == (4, 8)
    assert calls[0]["classes"] == (1,)
    found = load_shortcuts(session.run.path)
    assert found is not None
    assert [one.name for one in found.classes] == ["second"]


@pytest.mark.parametrize(
    ("mask", "used"), [("good", True), ("empty", False), ("full", False), ("small", False), ("absent", False)]
)
def test_a_mask_of_the_subject_is_used_where_it_fits(mask: str, used: bool, tmp_path: Path) -> None:
    session = tiny_session(tmp_path / "run", masks=True)
    data = session.loaded.train.data
    made = np.zeros((21, 16, 16), dtype=bool)
    made[:, 4:9, 3:9] = True
    if mask == "empty":
        made[6] = False
    if mask == "full":
        made[6] = True
    if mask == "small":
        made = made[:, :8]
    data._source.known = {} if mask == "absent" else {"plant": made}  # type: ignore[attr-defined]
    found = shortcuts._subject_masks(data, np.array([2, 6]))
    assert (found is not None) == used
    if found is not None:
        np.testing.assert_array_equal(found, made)
    # An image that is not used may have any mask.
    if mask in {"empty", "full"}:
        assert shortcuts._subject_masks(data, np.array([2, 7])) is not None


@pytest.mark.parametrize(
    ("batch_size", "side", "expected"), [(64, 32, 64), (64, 224, 16), (8, 224, 8), (64, 448, 4), (64, 4000, 1)]
)
def test_fewer_large_images_run_at_once(batch_size: int, side: int, expected: int) -> None:
    assert shortcuts._most_at_once(batch_size, (side, side)) == expected


def refuse(*_args: Any, **_options: Any) -> Any:
    raise ModelError("no gradient comes back")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shortcut_images": 0}, "Shortcuts were not searched: as asked (--shortcut-images 0)."),
        ({"counts": (8, 0, 0)}, "Shortcuts were not searched: the images are all of one class"),
        ({"broken": True}, "Shortcuts were not searched: no gradient comes back"),
    ],
    ids=["as asked", "one class", "model"],
)
def test_what_cannot_be_searched_is_a_note_and_leaves_nothing(
    settings: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if settings.pop("broken", False):
        monkeypatch.setattr(shortcuts, "find", refuse)
    session = through(tiny_session(tmp_path / "run", **SETTINGS, **settings), "collect")
    folder = session.run.folder("shortcuts")
    folder.mkdir()
    (folder / "shortcuts.json").write_text("{}")
    assert shortcuts.run_shortcuts(session)
    assert message in said(session)
    assert load_shortcuts(session.run.path) is None
    assert not shortcuts.run_shortcuts(session), "what was refused once is not tried again"


def test_the_outline_of_a_region_by_hand() -> None:
    """A square of 2 x 2 of 4 x 4 pixels, each eight pixels large: inside, two pixels of colour and one of black."""
    region = np.zeros((4, 4), dtype=bool)
    region[1:3, 1:3] = True
    drawn = shortcuts.outlined(np.full((32, 32, 3), 99, np.uint8), region)
    expected = np.full((32, 32, 3), 99)
    expected[8:24, 8:24] = (255, 140, 0)
    expected[10:22, 10:22] = 0
    expected[11:21, 11:21] = 99
    np.testing.assert_array_equal(drawn, expected)


def test_findings_of_another_format_are_refused(tmp_path: Path) -> None:
    (tmp_path / "shortcuts").mkdir()
    (tmp_path / "shortcuts" / "shortcuts.json").write_text('{"format": "interpnet-shortcuts-9"}')
    with pytest.raises(RunFolderError, match="format 'interpnet-shortcuts-9' came; expected 'interpnet-shortcuts-1'"):
        load_shortcuts(tmp_path)


@pytest.mark.parametrize(("written", "images"), [("240", 2000), ("50", 50)])
def test_a_configuration_of_an_earlier_version_is_read(written: str, images: int, tmp_path: Path) -> None:
    """What nobody had chosen is today's default, and what somebody had chosen stays."""
    path = tmp_path / "run.toml"
    path.write_text(f"[explain]\nmax_swapped_images = {written}\n")
    assert RunConfig.load(path).shortcut_images == images
    path.write_text(f"[explain]\nmax_swapped_images = {written}\n\n[shortcuts]\nshortcut_images = 7\n")
    assert RunConfig.load(path).shortcut_images == 7


def test_classes_are_numbered_as_the_outputs_are(searched: Any) -> None:
    session, _ = searched
    written = read(session, "shortcuts/shortcuts.json")
    counts = {entry["index"]: entry["n"] for entry in written["classes"]}
    assert [counts[int(OUTPUTS[c])] for c in range(3)] == [60, 50, 40]
