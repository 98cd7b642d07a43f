"""Run folders met again: what is done, stale, foreign or interrupted; pipelines/run/, stages/."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from helpers.small_audit import SMALL, Stop, audit, folder_of_images, manifest, results
from interpnet.pipelines.cli.app import main
from interpnet.pipelines.stages import collect

#: Figures are made but not drawn: test_pipeline_end_to_end.py and test_report.py draw those of whole audits.
pytestmark = pytest.mark.usefixtures("blank_charts")


def test_what_is_done_is_not_done_again(run, weights, capsys):
    before = manifest(run)["stages"]
    assert audit(weights, run) == 0
    assert main(["audit", "--out", str(run)]) == 0
    text = capsys.readouterr().out
    for stage in ("collect", "solve", "ablate", "explain", "report"):
        assert text.count(f"{stage}: up to date, skipped") == 2
    assert manifest(run)["stages"] == before


def test_changed_settings_redo_what_depends_on_them(run, weights, capsys):
    assert audit(weights, run, "--repeats", "3") == 0
    text = capsys.readouterr().out
    assert "collect: up to date, skipped" in text
    assert "solve: up to date, skipped" in text
    assert "ablate: done" in text
    assert json.loads((run / "ablation" / "ablation.json").read_text())["repeats"] == 3


def test_a_deleted_file_is_made_again(run, weights, capsys):
    before = (run / "weights" / "channels.csv").read_text()
    (run / "weights" / "channels.csv").unlink()
    assert audit(weights, run) == 0
    assert "solve: done" in capsys.readouterr().out
    assert (run / "weights" / "channels.csv").read_text() == before


def test_stage_commands_and_stale_artefacts(run, capsys):
    assert main(["solve", str(run), "--mu", "2", "--positive"]) == 0
    coef = np.array(results(run)["coef"])
    assert coef.min() >= 0
    assert np.abs(coef).sum(1).max() <= 2 * (1 + 1e-9)
    capsys.readouterr()
    assert main(["report", str(run)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "'ablate' wrote belongs to earlier settings" in error
    assert f"run `interpnet ablate {run}` again" in error
    assert main(["ablate", str(run), "--repeats", "1", "--fill", "mean"]) == 0
    assert json.loads((run / "ablation" / "ablation.json").read_text())["fill"] == "mean"
    assert main(["explain", str(run), "--k", "2"]) == 0
    assert main(["report", str(run)]) == 0
    assert f"report: {run / 'report' / 'index.html'}" in capsys.readouterr().out
    assert json.loads((run / "explanations" / "examples.json").read_text())["k"] == 2
    assert "mu = 2.0" in (run / "run.toml").read_text()


def test_a_stage_before_its_turn_says_what_to_run(weights, tmp_path, capsys):
    run = tmp_path / "run"
    arguments = ["collect", "smallcnn", "digits", "--weights", str(weights), "--out", str(run), "--max-images", "50"]
    assert main(arguments) == 0
    for command, first in (("ablate", "solve"), ("explain", "solve"), ("report", "solve")):
        capsys.readouterr()
        assert main([command, str(run)]) == 2
        assert f"run `interpnet {first} {run}` first" in capsys.readouterr().err
    assert main(["collect", str(run)]) == 0
    assert "collect: up to date" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (["--layers", "conv"], r"configuration of collect"),
        (["--norm", "l2sq"], r"configuration of collect"),
        (["--mean", "0.5"], r"preparation of images"),
        (["OTHER WEIGHTS"], r"model"),
        (["OTHER DATA"], r"set of training images"),
    ],
)
def test_a_foreign_run_folder_is_refused(change, what, run, weights, tmp_path, capsys):
    from interpnet.models import SmallCNN, save_smallcnn

    data = "digits"
    if change == ["OTHER WEIGHTS"]:
        weights = tmp_path / "other.safetensors"
        change = []
        save_smallcnn(SmallCNN(1, 10, 8, 4, seed=7), weights)
    elif change == ["OTHER DATA"]:
        folder_of_images(tmp_path / "images", 10)
        data = f"imagefolder:{tmp_path / 'images'}"
        change = ["--channels", "1", "--mean", "0", "--std", "1"]
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != ".lock"}
    arguments = ["audit", "smallcnn", data, "--weights", str(weights), "--out", str(run), *SMALL, *change]
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"belongs to another {what}" in error
    assert "--fresh" in error
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != ".lock"} == before


def test_fresh_starts_over(run, weights, capsys):
    assert audit(weights, run, "--fresh", "--norm", "l2sq") == 0
    text = capsys.readouterr().out
    assert "collect: done" in text
    assert manifest(run)["stages"]["solve"]["norm"] == "l2sq"


def test_fresh_with_a_mistake_deletes_nothing(run, weights, capsys):
    assert audit(weights, run, "--fresh", "--layers", "nonsense") == 2
    assert (run / "report" / "index.html").is_file()
    assert manifest(run)["stages"]["report"]["state"] == "complete"


def test_an_interrupted_collection_goes_on_at_the_last_chunk(finished, weights, tmp_path, monkeypatch, capsys):
    from interpnet.pipelines.run import subject

    from interpnet.scores import _intake

    monkeypatch.setattr(_intake, "_COMMIT_ROWS", 128)
    monkeypatch.setattr(collect, "first_look", lambda *_: None)
    read: list[int] = []
    original = subject.Batches.__iter__

    def counting(self):
        for batch in original(self):
            read.extend(batch.indices.tolist())
            if interrupting and len(read) > 250:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(subject.Batches, "__iter__", counting)
    interrupting = True
    run = tmp_path / "run"
    assert audit(weights, run) == 130
    captured = capsys.readouterr()
    assert f"Go on with: interpnet audit --out {run}" in captured.err
    assert manifest(run)["stages"]["collect"]["state"] == "interrupted"
    state = json.loads((run / "scores" / "state.json").read_text())
    assert 0 < state["consumed"] < 400
    interrupting = False
    read[:] = []
    assert main(["collect", str(run)]) == 0
    assert f"going on at image {state['consumed']} of 400" in capsys.readouterr().out
    assert len(read) == 400 - state["consumed"]
    for name in ("X.f32", "labels.bin", "predictions.i64", "indices.i64"):
        ours, theirs = (np.fromfile(folder / "scores" / name, np.uint8) for folder in (run, finished))
        if name == "X.f32":
            np.testing.assert_allclose(ours.view(np.float32), theirs.view(np.float32), rtol=1e-5, atol=1e-7)
        else:
            assert (ours == theirs).all()


def test_an_interrupted_explain_keeps_its_pictures(run, finished, monkeypatch, capsys):
    from interpnet.pipelines.stages import examples, visualise

    shutil.rmtree(run / "explanations")
    with monkeypatch.context() as patch:
        # Three methods and three controls a group: the second group of examples is stopped at its first.
        patch.setattr(examples, "attribute", Stop(examples.attribute, 7))
        assert main(["explain", str(run)]) == 130
    assert "interrupted in stage 'explain'" in capsys.readouterr().err
    assert manifest(run)["stages"]["explain"]["state"] == "interrupted"
    kept = {path: path.stat().st_mtime_ns for path in (run / "explanations").rglob("*.png")}
    assert kept
    done = sorted((run / "explanations" / "examples").glob("*.json"))
    assert 0 < len(done) < len(results(finished)["explanations/examples.json"]["examples"])
    with monkeypatch.context() as patch:
        patch.setattr(visualise, "average_visualizations", Stop(None, 1))  # is not called again
        assert main(["explain", str(run)]) == 0
    assert results(run) == results(finished)
    finished_first = {
        path for path in kept if path.name.startswith(tuple(d.stem for d in done)) or path.parent.name == "channels"
    }
    assert all(path.stat().st_mtime_ns == kept[path] for path in finished_first)


def test_an_interrupted_ablation_can_be_run_again(run, finished, monkeypatch, capsys):
    from interpnet.pipelines.stages import ablate

    shutil.rmtree(run / "ablation")
    with monkeypatch.context() as patch:
        patch.setattr(ablate, "ablation_study", Stop(None, 1))
        assert main(["ablate", str(run)]) == 130
    assert f"Go on with: interpnet ablate {run}" in capsys.readouterr().err
    assert main(["ablate", str(run)]) == 0
    assert results(run) == results(finished)


def test_a_full_disk_ends_with_one_line_and_goes_on_later(weights, tmp_path, monkeypatch, capsys):
    import errno
    import os

    from interpnet.scores._table import ScoreWriter

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _no_space)
        assert audit(weights, run) == 2
    assert os.strerror(errno.ENOSPC) in capsys.readouterr().err

    write = ScoreWriter._write
    with monkeypatch.context() as patch:
        patch.setattr(ScoreWriter, "_write", staticmethod(lambda path, data: _no_space(path)))
        assert audit(weights, run) == 2
    assert ScoreWriter._write is write
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert os.strerror(errno.ENOSPC) in captured.err
    assert manifest(run)["stages"]["collect"]["state"] == "interrupted"
    assert audit(weights, run) == 0


def _no_space(*_arguments):
    import errno
    import os

    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
