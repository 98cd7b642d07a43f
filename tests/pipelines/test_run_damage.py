"""Files of a run folder that are no longer what was written: made again, or refused by name; never other results."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.small_audit import as_older, folder_of_images, manifest, results
from interpnet.pipelines.cli.app import main
from interpnet.pipelines.report.build import build_report

from interpnet.errors import RunFolderError
from interpnet.support.checksums import seal

# A file of every kind, with the command that wrote it and the one that reads it first.
FILES = {
    "scores/X.f32": ("collect", "solve"),
    "scores/labels.bin": ("collect", "solve"),
    "scores/predictions.i64": ("collect", "solve"),
    "scores/indices.i64": ("collect", "solve"),
    "scores/state.json": ("collect", "solve"),
    "scores/gram.npz": ("collect", "solve"),
    "weights/interpretation.npz": ("solve", "ablate"),
    "weights/summary.json": ("solve", "ablate"),
    "weights/channels.csv": ("solve", "ablate"),
    "weights/reliance.npz": ("solve", "ablate"),
    "weights/reliance.csv": ("solve", "ablate"),
    "contributions/averaged.npz": ("solve", "ablate"),
    "ablation/ablation.json": ("ablate", "report"),
    "ablation/reliance.json": ("ablate", "report"),
    "ablation/ablation.csv": ("ablate", "report"),
    "explanations/classes.json": ("explain", "report"),
    "explanations/examples.json": ("explain", "report"),
    "explanations/channels/*_mean.png": ("explain", "report"),
    "explanations/channels/*.json": ("explain", "report"),
    "explanations/examples/*_image.png": ("explain", "report"),
    "explanations/examples/*.json": ("explain", "report"),
    "shortcuts/shortcuts.json": ("shortcuts", "report"),
}


# Stages that are no commands of their own.
STAGES = {
    "contributions/contributions.npz": "contributions",
    "contributions/averaged.npz": "reliance",
    "ablation/reliance.json": "ablate-reliance",
}


def first(run: Path, pattern: str) -> Path:
    return min(run.glob(pattern))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


NETWORK = """
import torch
from torch import nn
def make(channels=4):
    torch.manual_seed(0)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3)
    return nn.Sequential(nn.Conv2d(3, channels, 3), nn.ReLU(), *head)
"""
TINY = ["--repeats", "1", "--examples", "1", "--misclassified", "0", "--max-channels", "1", "--methods", "gradient"]
TINY += ["--anyway"]  # it was never trained


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete audit of a tiny network, in a second."""
    where = tmp_path_factory.mktemp("tiny")
    (where / "net.py").write_text(NETWORK)
    folder_of_images(where / "images", 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        assert main(["audit", "net.py:make", "imagefolder:images", "--out", str(where / "run"), *TINY]) == 0
    return where / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def copies(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Make copies of it."""
    return lambda: Path(shutil.copytree(finished, tmp_path_factory.mktemp("copy") / "run"))


@pytest.mark.parametrize("damage", [flip, empty, cut, Path.unlink, folder])
@pytest.mark.parametrize("name", FILES)
def test_the_stage_that_reads_a_damaged_file_refuses_it(name, damage, copies, capsys):
    run = copies()
    path = first(run, name)
    damage(path)
    writer, reader = FILES[name]
    # Other settings, so that the stage has to run.
    more = {"solve": ["--mu", "3"], "ablate": ["--repeats", "1"], "report": []}[reader]
    assert main([reader, str(run), *more]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    if damage is not Path.unlink:
        assert path.name in error or "state.json" in error
    assert f"interpnet {writer} {run}" in error


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("scores/X.f32", flip),
        ("scores/gram.npz", flip),
        ("scores/labels.bin", Path.unlink),
        ("weights/channels.csv", flip),
        ("weights/interpretation.npz", empty),
        ("contributions/contributions.npz", flip),
        ("contributions/averaged.npz", Path.unlink),
        ("ablation/reliance.json", cut),
        ("explanations/channels/*_mean.png", flip),
        ("explanations/examples/*.json", flip),
        ("shortcuts/shortcuts.json", cut),
        ("report/classes.csv", empty),
    ],
)
def test_an_audit_makes_the_damaged_stage_again(name, damage, copies, finished, capsys):
    run = copies()
    damage(first(run, name))
    writer = STAGES.get(name) or FILES.get(name, ("report", ""))[0]
    assert main(["audit", "--out", str(run)]) == 0
    text = capsys.readouterr().out
    assert f"{writer} is done again" in text
    assert f"{writer}: done" in text
    assert results(run) == results(finished)
    for again in ("scores/X.f32", "scores/gram.npz", "weights/channels.csv"):
        assert (run / again).read_bytes() == (finished / again).read_bytes()
    assert main(["audit", "--out", str(run)]) == 0
    assert capsys.readouterr().out.count("up to date, skipped") == 9


def test_weights_of_another_run_are_noticed(copies, capsys):
    """They are whole in themselves; only the manifest knows that they are another run's."""
    run = copies()
    other = copies()
    assert main(["solve", str(other), "--mu", "2"]) == 0
    shutil.copy(other / "weights" / "interpretation.npz", run / "weights" / "interpretation.npz")
    capsys.readouterr()
    assert main(["ablate", str(run), "--repeats", "1"]) == 2
    assert "interpretation.npz' was changed or damaged since it was written; run `interpnet solve" in (
        capsys.readouterr().err
    )


def test_a_folder_in_a_files_place_is_not_deleted(copies, capsys):
    run = copies()
    folder(run / "weights" / "summary.json")
    (run / "weights" / "summary.json" / "precious").write_text("text")
    assert main(["audit", "--out", str(run)]) == 2
    assert "summary.json' is a folder and should be a file; move it elsewhere" in capsys.readouterr().err
    assert (run / "weights" / "summary.json" / "precious").read_text() == "text"


@pytest.mark.parametrize("key", ["key", "record", "files", "checksum"])
def test_an_interrupted_explain_believes_no_damaged_record(key, copies, finished, capsys):
    """The stage was not finished, so the manifest has no checksums of its files: each record has its own."""
    run = copies()
    entry = manifest(run)
    entry["stages"]["explain"] = {"state": "interrupted", "key": "k"}
    (run / "manifest.json").write_text(json.dumps(seal(entry)))
    record = first(run, "explanations/channels/*.json")
    content = json.loads(record.read_text())
    content[key] = {"key": "k", "record": {**content["record"], "count": 1}, "files": {}, "checksum": ""}[key]
    record.write_text(json.dumps(content))
    picture = first(run, "explanations/examples/*_h0.png")
    flip(picture)
    assert main(["audit", "--out", str(run)]) == 0
    assert results(run) == results(finished)
    assert picture.read_bytes() == (finished / picture.relative_to(run)).read_bytes()


# --- the manifest ----------------------------------------------------------------------------------------


def set_in(content: dict, path: str, value: object) -> None:
    *above, last = path.split("/")
    for name in above:
        content = content[name]
    content[last] = value


ENTRIES = [
    ("format", "interpnet-run-9"),
    ("created", 3),
    ("identity", []),
    ("identity/model", 7),
    ("stages", []),
    ("stages/solve", "complete"),
    ("stages/solve/state", "done"),
    ("stages/solve/key", None),
    ("stages/solve/files", "weights"),
    ("stages/solve/files", [3]),
    ("stages/solve/checksums", []),
    ("stages/solve/checksums", {"weights/summary.json": 3}),
    ("stages/solve/notes", "note"),
    ("notes", "note"),
    ("subject_notes", {}),
    ("settings", "x"),
    ("model", []),
    ("model/classes", [1, 2]),
    ("data", {"train": []}),
    ("data/train/skipped", [[1]]),
    ("data/train/preprocessing", []),
]


@pytest.mark.parametrize(("path", "value"), ENTRIES)
def test_a_damaged_manifest_is_refused_by_name(path, value, finished, tmp_path, capsys):
    for checksum in ("old", "new"):
        run = tmp_path / checksum
        run.mkdir()
        shutil.copy(finished / "run.toml", run)
        content = manifest(finished)
        set_in(content, path, value)
        if checksum == "new":
            content = seal(content)
        (run / "manifest.json").write_text(json.dumps(content))
        for command in (["report", str(run)], ["audit", "--out", str(run)], ["collect", str(run)]):
            assert main(command) == 2
            error = capsys.readouterr().err
            assert error.count("\n") == 1
            assert "manifest.json" in error or "interpnet-run-9" in error
    assert not (run / "scores").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": NaN}', "\x00" * 50])
def test_a_manifest_that_is_none_is_refused_and_can_be_started_over(text, run, capsys):
    (run / "manifest.json").write_text(text)
    assert main(["report", str(run)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "manifest.json" in error or "format None" in error
    assert main(["collect", "--config", str(run / "run.toml"), "--out", str(run), "--fresh"]) == 0
    assert manifest(run)["stages"]["collect"]["state"] == "complete"
    assert not (run / "weights").exists()


def test_every_flipped_bit_of_a_manifest_is_noticed_or_harmless(finished, tmp_path):
    from interpnet.pipelines.run.manifest import read_manifest

    whole = (finished / "manifest.json").read_bytes()
    expected = read_manifest(finished)
    noticed = 0
    tried = range(0, 8 * len(whole), 61)
    for position in tried:
        data = bytearray(whole)
        data[position // 8] ^= 1 << (position % 8)
        (tmp_path / "manifest.json").write_bytes(data)
        try:
            assert read_manifest(tmp_path) == expected
        except RunFolderError:
            noticed += 1
    assert noticed > 0.6 * len(tried)


# --- run.toml --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["solve"], ["ablate"], ["explain"], ["report"], ["collect"], ["audit", "--out"]])
def test_an_edited_configuration_is_not_taken_silently(command, run, capsys):
    """One flipped bit makes mu = 10 a mu = 18."""
    text = (run / "run.toml").read_text()
    (run / "run.toml").write_text(text.replace("mu = 10.0", "mu = 18.0"))
    assert main([*command, str(run)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "run.toml' is not as the last command wrote it: it was edited or damaged" in error
    assert f"interpnet audit --config {run / 'run.toml'} --out {run}" in error


def test_an_edited_configuration_can_be_named(run, capsys):
    text = (run / "run.toml").read_text()
    (run / "run.toml").write_text(text.replace("mu = 10.0", "mu = 18.0"))
    assert main(["audit", "--config", str(run / "run.toml"), "--out", str(run)]) == 0
    assert "Relevant channels (mu = 18)" in capsys.readouterr().out
    assert main(["solve", str(run)]) == 0
    assert "solve: up to date, skipped" in capsys.readouterr().out


# --- runs without checksums, and readers -----------------------------------------------------------------


def test_a_run_without_checksums_says_so(run, capsys):
    as_older(run)
    assert main(["audit", "--out", str(run)]) == 0
    text = capsys.readouterr().out
    stages = "collect, contributions, solve, reliance, ablate, ablate-reliance, explain, shortcuts, report"
    assert f"An older version wrote {stages} without checksums" in text
    assert text.count("up to date, skipped") == 9
    assert main(["report", str(run)]) == 0
    assert "without checksums" in (run / "report" / "index.html").read_text()
    assert "checksum" in manifest(run)


def test_a_report_from_python_verifies_what_it_shows(run):
    flip(first(run, "explanations/channels/*_mean.png"))
    with pytest.raises(RunFolderError, match=r"_mean.png' was changed or damaged since it was written"):
        build_report(run)
