"""``interpnet dissect``: from a folder of masks, or generated concepts, to table, page, JSON and CSV."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.concept_images import write_squares
from interpnet.pipelines.cli.app import main
from PIL import Image

from interpnet.concepts import Dissection

SIDE = 24
NETWORK = """
import torch
from torch import nn


def make():
    # Red beyond green and blue; always on; brightness; off.
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        weights = [[1.0, -1.0, -1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
        net[0].weight.copy_(torch.tensor(weights)[:, :, None, None])
        net[0].bias.copy_(torch.tensor([0.0, 1.0, 0.0, -1.0]))
    return net
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network in net.py, and concepts/ with red and blue squares, four frames a film."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NETWORK, encoding="utf-8")
    write_squares(tmp_path / "concepts", {"red": "red <b>", "blue": "blue"})
    return tmp_path


COMMON = ["net.py:make", "concepts", "--device", "cpu", "--step", "1", "--quantile", "0.02", "--no-control"]


def run(*words: str) -> int:
    return main(["dissect", *words])


def test_from_a_folder_to_a_page(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*COMMON, "--groups", "^[^_]+", "--best", "2") == 0
    text = capsys.readouterr().out
    folder = place / "runs" / "make-concepts-concepts"
    assert "1 of 4 channels have a name" in text
    assert "1[0]" in text
    assert "report: runs/make-concepts-concepts/dissection.html" in text
    found = Dissection.load(folder / "dissection.npz")
    (name,) = found.names(0)
    assert (name.concept, name.category) == ("red <b>", "squares")
    assert name.iou > 0.5
    assert found.names(1) == ()
    rows = list(csv.DictReader((folder / "dissection.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["channel"] for row in rows] == ["0", "1", "2", "3"]
    assert rows[0]["name"] == "red <b>"
    said = json.loads((folder / "dissection.json").read_text(encoding="utf-8"))
    assert said["images"] == {"squares": 80}
    assert said["concepts"][0]["best"][0]["iou"] == name.iou
    assert set(said["layers"][0]["floors"].values()) == {None}
    page = (folder / "dissection.html").read_text(encoding="utf-8")
    assert "red &lt;b&gt;" in page
    assert "<b>" not in page.split("<main")[1].split("<footer")[0].replace("<b>20", "")
    assert page.count("images in which 1[0] is strongest") == 1


def test_what_is_done_is_not_done_again(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(*COMMON, "--out", "first") == 0
    first = json.loads((place / "first" / "dissection.json").read_text(encoding="utf-8"))
    capsys.readouterr()
    assert run(*COMMON, "--out", "first", "--pictures", "2") == 0
    assert "first has these numbers; only the pictures are made again" in capsys.readouterr().out
    again = json.loads((place / "first" / "dissection.json").read_text(encoding="utf-8"))
    assert again["concepts"] == first["concepts"]
    assert run(*COMMON, "--out", "first", "--seed", "1") == 2
    error = capsys.readouterr().err
    assert "'first' holds the dissection of another model or other concepts, layers or settings" in error
    assert "give another folder (--out), or --fresh" in error
    assert run(*COMMON, "--out", "first", "--seed", "1", "--fresh") == 0
    assert json.loads((place / "first" / "dissection.json").read_text(encoding="utf-8"))["settings"]["seed"] == 1

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("interpnet.pipelines.dissection.work.dissect", stopped)
    capsys.readouterr()
    assert run(*COMMON, "--out", "second") == 130
    assert "interrupted; what is done is kept in 'second'. Go on with the same command" in capsys.readouterr().err
    assert not (place / "second").exists()


def test_generated_concepts_and_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("net.py:make", "generated:colours", "--image-size", "16", "--json", "--no-control", "--step", "1") == 0
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert said["images"] == {"colours": 200}
    red = next(one for one in said["concepts"] if one["concept"] == "red")
    assert red["best"][0]["index"] == 0
    assert (place / "runs" / "make-colours-concepts" / "dissection.html").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["net.py:make", "nowhere"], r"'nowhere'"),
        (["net.py:make", "generated"], "--image-size is missing: the model does not say how large its images are"),
        (
            ["net.py:make", "generated:squares", "--image-size", "16"],
            "kinds has 'squares', which is none; expected some",
        ),
        (["net.py:make", "concepts", "--groups", "("], "--groups is '(', which is no regular expression"),
        (["net.py:make", "concepts", "--groups", "tape"], "--groups is 'tape', which is found in the name of no image"),
        (["net.py:make", "concepts", "--layers", "nine"], "nine"),
        (
            ["net.py:make", "concepts", "--quantile", "0.7"],
            "--quantile is 0.7; expected a number from 0.000001",
        ),
        (["net.py:make", "concepts", "--step", "0"], "--step is 0; expected a whole number of at least 1"),
        (["net.py:make", "concepts", "--out", "net.py"], "'net.py' is a file; choose a folder"),
        (["net.py:make", "concepts", "--out", "."], "'.' is not empty and holds no dissection; choose another folder"),
        (["net.py:make"], "CONCEPTS"),
    ],
)
def test_mistakes(place: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 2
    assert message in capsys.readouterr().err


def rewrite(place: Path, name: str, mask: np.ndarray) -> None:
    Image.fromarray(mask.astype(np.uint8)).save(place / "concepts" / "squares" / "masks" / name)


def test_masks_that_do_not_fit(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(place, "film0_0.png", np.zeros((SIDE, SIDE + 1)))
    assert run(*COMMON) == 2
    assert "film0_0.png' is 24 x 25 pixels and its image 24 x 24; expected the same size" in capsys.readouterr().err
    rewrite(place, "film0_0.png", np.full((SIDE, SIDE), 7))
    assert run(*COMMON) == 2
    assert "has the value 7, and names.txt of 'squares' names 3 values" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "said"), [(255, "no image shows"), (1, "no image shows 'blue'")])
def test_a_concept_that_is_nowhere(place: Path, value: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (place / "concepts" / "squares" / "masks").iterdir():
        rewrite(place, path.name, np.full((SIDE, SIDE), value))
    assert run(*COMMON) == 2
    assert said in capsys.readouterr().err


def test_a_concept_everywhere_names_nothing_and_one_of_one_image_may(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    category = place / "concepts" / "whole"
    for concept, count in (("all", 12), ("single", 1)):
        (category / concept).mkdir(parents=True)
        for i in range(count):
            source = place / "concepts" / "squares" / "images" / f"film{i}_0.png"
            (category / concept / f"{i}.png").write_bytes(source.read_bytes())
    assert run(*COMMON, "--quantile", "0.005") == 0
    text = capsys.readouterr().out
    assert "note: no channel can be named by 'all' (100% of its images)" in text
    found = Dissection.load(place / "runs" / "make-concepts-concepts" / "dissection.npz")
    assert found.detectors("all") == []
    assert found.images == {"squares": 80, "whole": 12}
    assert found.images_with.tolist() == [80, 80, 12, 1]
