"""Concepts in an audit: the stage that names channels, its section of the report, and what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.concept_images import write_squares
from helpers.corner_run import NETWORKS, write_images
from helpers.tiny_run import SIZE, read, said, through, tiny_session
from interpnet.pipelines.cli.app import main
from interpnet.pipelines.report.concepts import concept_table, named_of
from interpnet.pipelines.report.load import load_run
from interpnet.pipelines.report.pictures import Pictures
from interpnet.pipelines.run.concept_sources import concepts_of
from interpnet.pipelines.run.session import Session
from interpnet.pipelines.stages import concepts, report

from interpnet.concepts import Dissection
from interpnet.errors import DataError, LayerError

NAMES = {"red": "red <b>", "green": "green", "blue": "blue"}


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("concepts")
    write_squares(folder, NAMES, n=40, side=SIZE)
    return folder


@pytest.fixture(scope="module")
def done(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    session = through(tiny_session(tmp_path_factory.mktemp("runs") / "run", concepts=str(squares)), "shortcuts")
    assert concepts.run_concepts(session)
    report.run_report(session)
    session.run.store(session.config)
    session.run.save()
    return session.run.path


@pytest.fixture
def run(done: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    shutil.copytree(done, tmp_path / "run")
    return tmp_path / "run"


def opened(run: Path, squares: Path | str, **settings: Any) -> Session:
    return tiny_session(run, concepts=str(squares), **settings)


def test_the_folder_holds_the_names_of_the_channels_of_classes(done: Path) -> None:
    found = Dissection.load(done / "concepts" / "dissection.npz")
    kept = json.loads((done / "concepts" / "concepts.json").read_text())
    assert kept["images"] == {"squares": 40}
    assert (kept["channels"], kept["named"]) == (9, int(found.named.sum()))
    assert kept["of_classes"]
    for entry in kept["of_classes"]:
        row = next(i for i, c in enumerate(found.channels) if (c.layer, c.index) == (entry["layer"], entry["index"]))
        assert [name["concept"] for name in entry["names"]] == [name.concept for name in found.names(row)]
        assert entry["null"] == found.null[row]
        for name in entry["names"]:
            assert name["floor"] == found.floor[row, found.concepts.index(name["concept"])]
        assert (done / "concepts" / entry["file"]).is_file()


def test_the_report_says_it_of_each_class_and_in_a_section(done: Path) -> None:
    page = (done / "report" / "index.html").read_text()
    kept = json.loads((done / "concepts" / "concepts.json").read_text())
    section = page.split('id="concepts"')[1].split("<section")[0]
    assert "What its channels have words for" in section
    assert f"of {len(kept['of_classes'])} channels named for classes detect" in section
    assert "Of 40 images of squares" in section
    assert section.count("data:image/") == len(kept["of_classes"])
    classes = page.split('id="classes"')[1]
    assert classes.count('<a href="#concepts">Concept</a>') >= len(kept["of_classes"])
    assert "red <b>" not in page
    rows = list(csv.DictReader((done / "report" / "concepts.csv").read_text().splitlines()))
    assert {(row["layer"], row["channel"]) for row in rows} == {
        (entry["layer"], str(entry["index"])) for entry in kept["of_classes"]
    }
    facts = json.loads((done / "report" / "report.json").read_text())["concepts"]
    assert facts["concepts"] == ["red <b>", "green", "blue"]


def test_each_name_stands_beside_the_floor_of_its_category() -> None:
    names = [
        {"concept": name, "category": kind, "iou": 0.5, "low": 0.4, "high": 0.6, "floor": floor}
        for name, kind, floor in (("red", "colours", 0.3), ("square", "shapes", 0.1))
    ]
    entry = {"names": names, "null": 0.05, "floor": 0.3}
    run: Any = SimpleNamespace(words={("a", 0): entry})
    assert [row["floor"] for row in concept_table(run)] == [0.3, 0.1]


def test_done_is_done_and_numbers_stay_for_other_channels(
    run: Path, squares: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(run, squares)
    assert not concepts.run_concepts(session)
    assert "concepts: up to date, skipped" in said(session)
    monkeypatch.setattr(concepts, "dissect", None)
    other = opened(run, squares, max_channels=1)
    assert concepts.run_concepts(other)
    before = Dissection.load(run / "concepts" / "dissection.npz")
    assert read(other, "concepts/concepts.json")["named"] == int(before.named.sum())


def test_a_report_stays_where_the_images_are_gone(run: Path, squares: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    shutil.copytree(squares, away)
    # The same images elsewhere are the same.
    assert not concepts.run_concepts(opened(run, away))
    shutil.rmtree(away)
    key = json.loads((run / "manifest.json").read_text())["stages"]["concepts"]["key"]
    assert concepts.current_key(opened(run, away)) == key
    with pytest.raises(DataError, match="gone"):
        concepts.current_key(opened(run, tmp_path / "gone"))


def test_without_concepts_there_is_no_section(run: Path, squares: Path) -> None:
    session = opened(run, "")
    assert not concepts.run_concepts(session)
    session.run.store(session.config)
    found = load_run(run)
    assert found.concepts is None
    assert named_of(found, (), Pictures(run)) is None
    assert not found.words


def test_layers_that_cannot_be_compared_are_a_note(run: Path, squares: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise LayerError("layers: 'mix' cannot be compared with masks")

    monkeypatch.setattr(concepts, "dissect", refuse)
    monkeypatch.setattr(concepts, "_numbers_key", lambda _: "another")
    session = opened(run, squares)
    assert concepts.run_concepts(session)
    assert "Channels have no names by concepts: layers: 'mix'" in said(session)
    named = named_of(load_run(run), (), Pictures(run))
    assert named is not None
    assert named.refused == "layers: 'mix' cannot be compared with masks"


def test_channels_with_a_name_come_first_and_none_is_said(done: Path) -> None:
    kept = json.loads((done / "concepts" / "concepts.json").read_text())
    first, second = kept["of_classes"][:2]
    second["names"] = [{"concept": "<i>", "category": "squares", "iou": 0.5, "low": 0.4, "high": 0.6}]
    run = replace(load_run(done), concepts=kept | {"of_classes": [first, second]})
    rows = [SimpleNamespace(layer=one["layer"], index=one["index"]) for one in (first, second)]
    classes = [SimpleNamespace(name="a", channels=rows), SimpleNamespace(name="b", channels=rows[1:])]
    named = named_of(run, classes, Pictures(done / "concepts"))  # type: ignore[arg-type]
    assert named is not None
    assert named.headline == "1 of 2 channels named for classes detect one of 3 concepts: <i>."
    (shown,), (folded,) = named.shown, named.folded
    assert shown.names == ("<i> 0.50 (0.40 to 0.60)",)
    assert shown.classes == ("a", "b")
    assert shown.strip is not None
    assert folded.names == ()
    assert folded.beside.startswith("closest: ")


def test_images_that_nobody_knows_how_to_prepare(tmp_path: Path) -> None:
    session = tiny_session(tmp_path / "run", concepts="nowhere")
    with pytest.raises(DataError, match="nowhere"):
        concepts_of(session)
    session = tiny_session(tmp_path / "run", concepts="generated:shapes")
    sources = concepts_of(session)
    assert sources is not None
    assert sources["shapes"].size == (SIZE, SIZE)  # type: ignore[union-attr]


def test_a_mistyped_folder_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images", train=12, test=6)
    (tmp_path / "nets.py").write_text(NETWORKS)
    words = ["nets.py:corner", "imagefolder:images", "--out", "run", "--mean", "0", "--std", "1", "--device", "cpu"]
    assert main(["audit", *words, "--concepts", "nowhere"]) == 2
    assert "'nowhere'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    # Without them the name is no setting of the run.
    assert main(["collect", *words]) == 0
    assert "concepts" not in (tmp_path / "run" / "run.toml").read_text().replace("[concepts]", "")
