"""What a stage takes for done, does again and refuses: keys, files and their checksums, on a run of seconds."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny_run import again, recorded, said, through, tiny_session, unreadable
from interpnet.pipelines.run.folder import digest
from interpnet.pipelines.run.session import Session
from interpnet.pipelines.stages import ablate, collect, drawing, examples, explain, report, solve, visualise
from interpnet.pipelines.stages.records import Records

from interpnet.ablation import AblationResult, Condition
from interpnet.errors import ModelError, RunFolderError
from interpnet.scores import ScoreTable

SETTINGS: dict[str, Any] = {
    "mu": 1.5, "repeats": 1, "methods": ("gradient",), "top": 3, "examples": 1, "variant": "paper",
}  # fmt: skip
RUN = {
    "collect": collect.run_collect,
    "solve": solve.run_solve,
    "ablate": ablate.run_ablate,
    "explain": explain.run_explain,
}
# Of each stage the files that it must leave, and the others whose checksums are kept.
LEFT = {
    "collect": (["scores/state.json", "scores/X.f32"], ["scores/state.json", "scores/gram.npz"]),
    "solve": (["weights/interpretation.npz", "weights/channels.csv", "weights/summary.json"], []),
    "ablate": (["ablation/ablation.json", "ablation/ablation.csv", "ablation/ablation-answers.npz"], []),
    "explain": (
        ["explanations/classes.json", "explanations/examples.json"],
        ["explanations/examples/0000.json", "explanations/examples/0000_image.png"],
    ),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A run up to its explanations; tests that change it take a copy."""
    return through(tiny_session(tmp_path_factory.mktemp("finished") / "run", **SETTINGS))


@pytest.fixture
def copy(finished: Session, tmp_path: Path) -> Session:
    """A session of its own on a copy of the run."""
    return tiny_session(Path(shutil.copytree(finished.run.path, tmp_path / "run")), **SETTINGS)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


# --- keys -------------------------------------------------------------------------------------------------


def test_keys_are_those_of_runs_that_are_finished_already(finished: Session) -> None:
    """A change here makes every run made so far stale: raise the stage's version only where it writes other things."""
    collected = digest(["collect", 1, finished.run.manifest["identity"]])
    assert finished.run.key("collect") == collected
    solved = digest(["solve", 1, collected, {"mu": 1.5, "positive": False, "fit_on": "auto"}])
    assert finished.run.key("solve") == solved
    images = finished.loaded.test.data.fingerprint()
    settings = {"repeats": 1, "fill": "zero", "max_ablation_images": None}
    assert finished.run.key("ablate") == digest(["ablate", 1, solved, images, settings, 0])
    shown = {
        "examples": 1,
        "misclassified": 10,
        "k": 3,
        "max_channels": 12,
        "top": 3,
        "rectifier": "guided",
        "resample": True,
        "reduction": "abs",
        "methods": ["gradient"],
    }
    pictures = digest(["explain", 3, solved, images, shown, 0, None, 4])
    assert finished.run.key("explain") == digest([pictures, finished.run.key("ablate")])


# --- files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", LEFT)
def test_a_stage_lists_its_files_and_keeps_their_checksums(stage: str, finished: Session) -> None:
    files, more = LEFT[stage]
    entry = finished.run.stage(stage)
    assert entry["files"] == files
    checked = {name for name in files if name != "scores/X.f32"} | set(more)
    assert checked <= set(entry["checksums"])
    # The rows of the scores have checksums of their own.
    assert "scores/X.f32" not in entry["checksums"]


@pytest.mark.parametrize(
    ("stage", "file"),
    [
        ("collect", "scores/X.f32"),
        ("collect", "scores/labels.bin"),
        ("collect", "scores/gram.npz"),
        ("solve", "weights/channels.csv"),
        ("ablate", "ablation/ablation.csv"),
        ("explain", "explanations/examples/0000.json"),
    ],
)
def test_a_damaged_file_is_named_and_its_stage_done_again(stage: str, file: str, copy: Session) -> None:
    path = copy.run.path / file
    before = path.read_bytes()
    assert not RUN[stage](copy)
    assert said(copy) == f"{stage}: up to date, skipped\n"
    flip(path)
    other = again(copy, **SETTINGS)
    assert RUN[stage](other)
    assert f"{stage} is done again" in said(other)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("file", "load"),
    [
        ("scores/gram.npz", collect.load_table),
        ("scores/X.f32", collect.load_table),
        ("weights/interpretation.npz", solve.load_interpretation),
        ("weights/channels.csv", solve.load_interpretation),
        ("ablation/ablation.json", ablate.load_ablation),
    ],
)
def test_a_damaged_file_is_refused_by_name_where_it_is_read(file: str, load: Any, copy: Session) -> None:
    assert load(copy) is not None
    flip(copy.run.path / file)
    stage = {"scores": "collect", "weights": "solve", "ablation": "ablate"}[file.partition("/")[0]]
    with pytest.raises(
        RunFolderError, match=rf"{file}' (was|is) (changed|damaged).*`interpnet {stage} {copy.run.path}`"
    ):
        load(again(copy, **SETTINGS))


def test_a_study_of_an_odd_content_is_refused_by_name(copy: Session) -> None:
    (copy.run.path / "ablation" / "ablation.json").write_text('{"classes": 3}')
    copy.run.verified.add("ablate")
    with pytest.raises(RunFolderError, match=r"ablation.json' cannot be used: "):
        ablate.load_ablation(copy)


def test_the_rows_of_the_scores_are_compared_with_their_checksums_once(
    copy: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[bool] = []
    honest = ScoreTable.load

    def loading(folder: Path, *, verify: bool = True) -> ScoreTable:
        verified.append(verify)
        return honest(folder, verify=verify)

    monkeypatch.setattr(ScoreTable, "load", loading)
    collect.load_table(copy)
    collect.load_table(copy)
    assert verified == [True, False]
    # The stage compares them before it is skipped, and while it writes them.
    other = again(copy, **SETTINGS)
    collect.run_collect(other)
    collect.load_table(other)
    assert verified[2:] == [False]
    other.run.manifest["stages"].pop("collect")
    collect.run_collect(other)
    collect.load_table(other)
    assert verified[3:] == [False, False]
    new = through(tiny_session(copy.run.path.parent / "new", **SETTINGS), "collect")
    collect.load_table(new)
    assert verified[5:] == [False]


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["collect", "ablate", "explain"])
def test_a_finished_stage_of_another_network_is_refused(stage: str, copy: Session) -> None:
    other = dataclasses.replace(copy.loaded, info=dataclasses.replace(copy.loaded.info, fingerprint="e" * 64))
    copy.__dict__["loaded"] = other
    with pytest.raises(RunFolderError, match="belongs to another model"):
        RUN[stage](copy)


@pytest.mark.parametrize("stage", ["ablate", "explain"])
def test_stale_weights_are_refused_before_the_network_is_loaded(
    stage: str, copy: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = again(copy, **SETTINGS | {"mu": 2.5})

    def loading(_config: Any) -> None:
        pytest.fail("the network was loaded")

    del other.__dict__["loaded"]
    monkeypatch.setattr("interpnet.pipelines.run.subject.load_subject", loading)
    with pytest.raises(RunFolderError, match="'solve' wrote belongs to earlier settings"):
        RUN[stage](other)


def test_a_stale_study_is_refused_before_pictures_are_made(copy: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    other = again(copy, **SETTINGS | {"repeats": 2})
    monkeypatch.setattr(explain, "visualise_channels", lambda *_: pytest.fail("pictures were made"))
    with pytest.raises(RunFolderError, match="'ablate' wrote belongs to earlier settings"):
        explain.run_explain(other)


def test_pictures_stay_where_only_the_study_is_another(copy: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    other = again(copy, **SETTINGS | {"repeats": 2})
    ablate.run_ablate(other)
    for module, name in ((visualise, "average_visualizations"), (examples, "explain")):
        monkeypatch.setattr(module, name, lambda *_args, **_options: pytest.fail("a picture was made again"))
    before = json.loads((copy.run.path / "explanations" / "examples.json").read_text())
    assert explain.run_explain(other)
    assert json.loads((copy.run.path / "explanations" / "examples.json").read_text()) == before


def test_what_would_end_the_explanations_is_said_before_the_first_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {"layers": ("second",), "rectifier": "deconvnet", "resample": False}
    session = tiny_session(tmp_path / "run", **chosen)
    calls = recorded(monkeypatch, drawing, "check_signals")
    explain.check_explain(session)
    (call,) = calls
    model, first, sites = call["args"]
    assert model is session.loaded.model
    assert first is session.loaded.first
    assert [site.name for site in sites] == ["second"]
    assert (call["rectifier"], call["resample"], call["output"]) == ("deconvnet", False, None)

    def refusing(*_args: Any, **_options: Any) -> None:
        raise ModelError("no way back")

    monkeypatch.setattr(drawing, "check_signals", refusing)
    with pytest.raises(ModelError, match=r"the stage explain cannot run: no way back\. Without it: interpnet collect"):
        explain.check_explain(session)
    session.run.manifest["stages"]["explain"] = {"state": "interrupted"}
    with pytest.raises(ModelError, match="the stage explain cannot run"):
        explain.check_explain(session)
    # What is done need not be possible.
    session.run.manifest["stages"]["explain"] = {"state": "complete"}
    explain.check_explain(session)


# --- records and the report -------------------------------------------------------------------------------


def test_a_record_that_was_changed_is_not_found(tmp_path: Path) -> None:
    saved = Records(tmp_path, "key", lambda _: [])
    saved.put("one", {"value": 7})
    path = tmp_path / "one.json"
    path.write_text(path.read_text().replace("7", "8"))
    assert json.loads(path.read_text())["record"] == {"value": 8}
    assert saved.get("one") is None


def test_a_report_notes_its_size_and_its_files(copy: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    from interpnet.pipelines.report import build

    def building(run: Path, only: Any = None) -> Path:
        assert only is None
        (run / "report").mkdir()
        for name in build.REPORT_FILES:
            path = run / "report" / name.replace("*", "x")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("some page")
        return run / "report" / "index.html"

    monkeypatch.setattr(build, "build_report", building)
    assert "report" not in copy.run.manifest["stages"]
    # Also where there is none that could be made again.
    report.run_report(copy, again=True)
    entry = copy.run.stage("report")
    assert (entry["bytes"], entry["files"]) == (9, ["report/index.html"])
    assert len(entry["checksums"]) == len(build.REPORT_FILES)
    expected = digest(["report", explain.explain_key(copy), copy.run.manifest["notes"], report._sources()])
    assert entry["key"] == expected


def test_the_report_s_own_files_are_in_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "pipelines" / "report"
    (folder / "templates").mkdir(parents=True)
    monkeypatch.setattr(report, "__file__", str(tmp_path / "pipelines" / "stages" / "report.py"))
    (folder / "build.py").write_bytes(b"one")
    (folder / "templates" / "page.html").write_bytes(b"two")
    before = report._sources()
    # What Python compiles is no other version.
    for name in ("build.pyc", "templates/page.pyo"):
        (folder / name).write_bytes(b"compiled")
        assert report._sources() == before
    (folder / "templates" / "page.html").write_bytes(b"three")
    changed = report._sources()
    assert changed != before
    (folder / "templates" / "page.html").rename(folder / "page.html")
    moved = report._sources()
    assert moved not in {before, changed}
    (folder / "empty.py").touch()
    assert report._sources() != moved


def test_what_a_study_cannot_measure_is_null_and_at_most_ten_classes_are_named(
    copy: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the study left no checkpoint, which is made with the first measurement."""
    names = tuple(f"c{i:02d}" for i in range(12))
    nothing = np.full(12, np.nan)
    row = np.full((1, 12), np.nan)
    conditions = (Condition("relevant", "all", np.zeros(12), row, row),)
    result = AblationResult(names, np.zeros(12, np.int64), nothing, "zero", 0, 1, 0, conditions)
    monkeypatch.setattr(ablate, "ablation_study", lambda *_args, **_options: result)
    other = again(copy, **SETTINGS | {"seed": 7})
    assert ablate.run_ablate(other)
    entry = other.run.stage("ablate")
    assert (entry["mean_intact"], entry["mean_relevant"]) == (None, None)
    assert entry["notes"] == [
        f"Classes without a test image, so without recall (12): {', '.join(names[:10])}",
    ]
    header = (other.run.path / "ablation" / "ablation.csv").read_text().splitlines()[0]
    assert header == "condition,layers,repeat,class,images,removed,intact,own,others"


def test_skipped_test_images_are_listed_with_their_reason(copy: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    unreadable(monkeypatch, copy, "test", {3})
    copy.run.manifest["stages"].pop("ablate")
    ablate.run_ablate(copy)
    (row,) = copy.run.manifest["data"]["test"]["skipped"]
    assert row[:2] == [3, "test 3"]
    assert "damaged" in row[2]
