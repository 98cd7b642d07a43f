"""A finished audit in MLflow, TensorBoard and Weights & Biases: read back with their own readers."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interpnet.pipelines import log
from interpnet.pipelines.report.load import load_run
from interpnet.pipelines.tracking import facts as facts_module
from interpnet.pipelines.tracking import log as log_module
from interpnet.pipelines.tracking.facts import Facts, gather

from interpnet.errors import InterpNetError, RunFolderError


@pytest.fixture(scope="module")
def run(finished: Path) -> Path:
    """A complete audit of ten classes, which no test changes."""
    return finished


def written(run: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "report" / name).read_text(encoding="utf-8").splitlines()))


def test_the_numbers_are_those_of_the_report(run: Path) -> None:
    found = gather(run)
    assert found.name == run.name
    chosen = {"model.model": "smallcnn", "data.data": "digits", "solve.mu": "10.0", "explain.top": "8"}
    assert {name: found.settings[name] for name in chosen} == chosen
    assert found.settings["explain.methods"] == "gradient, guided, gradcam++"
    assert "run.directory" not in found.settings
    for way, name in (("reliance", "reliance_ablation.csv"), ("mu-lasso", "ablation.csv")):
        rows = [row for row in written(run, name) if row["layers"] == "all" and row["condition"] != "intact"]
        assert len(rows) >= 4
        for row in rows:
            assert found.numbers[f"{way}/recall/{row['condition']}"] == pytest.approx(float(row["own_recall"]))
    classes = written(run, "classes.csv")
    names = [row["class"] for row in classes]
    keys = [key for key in found.numbers if key.startswith("classes/")]
    assert len(keys) == len(names)
    for key, row in zip(keys, classes, strict=True):
        assert found.numbers[key] == pytest.approx(float(row["recall_intact"]))
        assert found.numbers[f"mu-lasso/{key.removesuffix('recall')}channels"] == float(row["relevant_channels"])
        assert found.numbers[f"reliance/{key.removesuffix('recall')}channels"] == float(row["relied_on_channels"])
        left = found.numbers[f"reliance/{key}"]
        assert left == pytest.approx(float(row["recall_relied_on_removed"]))
    told = json.loads((run / "report" / "report.json").read_text())["named"]
    assert found.words["reliance.level"] == told["reliance"]["verdict"]["level"]
    assert found.numbers["mu-lasso/verdict_shown"] == float(told["mu-lasso"]["verdict"]["level"] == "shown")
    assert np.isfinite(list(found.numbers.values())).all()
    kept = {file.name for file in found.files}
    assert kept == {file.name for file in (run / "report").iterdir()} | {"run.toml", "manifest.json"}
    assert {"ablation.png", "reliance_ablation.png"} <= {file.name for file in found.figures}


def test_names_of_classes_are_those_that_trackers_take(monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
    for name in gather(run).numbers:
        assert not set(name) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-. :/")
    monkeypatch.setattr(facts_module, "MOST_CLASSES", 2)
    assert not [name for name in gather(run).numbers if "classes/" in name]


def test_classes_that_were_not_studied_count_for_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = load_run(run)
    relied = read.named["reliance"]
    study = read.studies["reliance"]
    coef = relied.coef.copy()
    intact = study.intact.copy()
    coef[0] = 0
    intact[0] = np.nan
    some = replace(
        read,
        relied=replace(relied, coef=coef),
        studies={**read.studies, "reliance": replace(study, intact=intact)},
    )
    monkeypatch.setattr(facts_module, "load_run", lambda _folder: some)
    counts = np.count_nonzero(coef[1:], axis=1)
    numbers = gather(run).numbers
    assert numbers["reliance/channels"] == counts.mean()
    logged = [v for k, v in numbers.items() if k.startswith("reliance/classes") and k.endswith("channels")]
    assert logged == counts.tolist()


@pytest.mark.parametrize(
    ("to", "where", "message"),
    [
        ("mlfow", {}, "to='mlfow'|to is 'mlfow'"),
        ("mlflow", {"experimnt": "a"}, "mlflow takes no 'experimnt'; did you mean 'experiment'.*it takes uri"),
        ("tensorboard", {"project": "a"}, "tensorboard takes no 'project'.*it takes folder, name"),
        (3, {}, "to is 3; expected a string"),
    ],
)
def test_wrong_places_are_named(run: Path, to: Any, where: dict[str, str], message: str) -> None:
    with pytest.raises(InterpNetError, match=message):
        log(run, to, **where)


def test_what_is_no_finished_run_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="holds no run"):
        log(tmp_path, "mlflow")
    folder = tmp_path / "half"
    shutil.copytree(run, folder)
    (folder / "report" / "index.html").unlink()
    with pytest.raises(RunFolderError, match="has no report, which is logged too; run `interpnet report"):
        log(folder, "mlflow")
    (folder / "report" / "index.html").write_text("page")
    (folder / "report" / "report.json").write_text("{}")
    with pytest.raises(RunFolderError, match=r"report.json' lacks 'named'; delete it and run"):
        log(folder, "mlflow")


@pytest.mark.parametrize("to", ["mlflow", "tensorboard", "wandb"])
def test_a_missing_package_is_one_line(run: Path, to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, to, None)
    with pytest.raises(InterpNetError, match=rf"log\(to=\"{to}\"\) needs {to}.* run: pip install 'interpnet\[{to}\]'"):
        log(run, to)


def test_what_a_tracker_refuses_is_one_line(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(_facts: Facts, *, uri: str | None = None) -> str:
        raise OSError(f"no answer from\n {uri}")

    monkeypatch.setitem(log_module.TRACKERS, "mlflow", refusing)
    with pytest.raises(InterpNetError, match="mlflow did not take the audit: OSError: no answer from http://x"):
        log(run, "mlflow", uri="http://x")


def test_mlflow_holds_the_audit(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # MLflow 3 keeps runs in files only where it is told to.
    for name in ("MLFLOW_ALLOW_FILE_STORE", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "true")
    mlflow = pytest.importorskip("mlflow")
    # Its default store is in the current folder.
    monkeypatch.chdir(tmp_path)
    before = mlflow.get_tracking_uri()
    uri = (tmp_path / "store").as_uri()
    keys = [log(run, "mlflow", uri=uri, experiment="audits") for _ in range(2)]
    assert mlflow.get_tracking_uri() == before
    assert mlflow.active_run() is None
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("audits")
    kept = client.search_runs([experiment.experiment_id])
    assert {one.info.run_id for one in kept} == set(keys)
    found = gather(run)
    one = client.get_run(keys[0])
    assert (one.info.status, one.info.run_name) == ("FINISHED", run.name)
    assert one.data.metrics == pytest.approx(dict(found.numbers))
    assert one.data.params == dict(found.settings)
    assert one.data.tags["interpnet.reliance.level"] == found.words["reliance.level"]
    listed = {entry.path for entry in client.list_artifacts(keys[0], "audit/report")}
    assert "audit/report/index.html" in listed
    assert len(listed) == len(list((run / "report").iterdir()))
    assert {entry.path for entry in client.list_artifacts(keys[0], "audit")} >= {"audit/run.toml"}


def test_many_numbers_and_long_texts_fit_into_mlflow(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_ALLOW_FILE_STORE", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "true")
    mlflow = pytest.importorskip("mlflow")
    found = gather(run)
    many = {f"n/{i}": float(i) for i in range(1100)}
    texts = {f"s.{i}": "x" * 9000 for i in range(120)}
    monkeypatch.setattr(log_module, "gather", lambda _: Facts("many", "t", texts, many, found.words, found.files[:1]))
    uri = (tmp_path / "store").as_uri()
    kept = mlflow.MlflowClient(uri).get_run(log(run, "mlflow", uri=uri, name="large"))
    assert kept.info.run_name == "large"
    assert (len(kept.data.metrics), len(kept.data.params)) == (1100, 120)


def test_tensorboard_holds_the_audit(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = log(run, "tensorboard", folder=str(tmp_path / "events"), name="first")
    assert out == str(tmp_path / "events" / "first")
    reader = EventAccumulator(out)
    reader.Reload()
    tags = reader.Tags()
    found = gather(run)
    assert set(found.numbers) <= set(tags["scalars"])
    for name, value in found.numbers.items():
        assert reader.Scalars(name)[0].value == pytest.approx(value, rel=1e-6)
    assert {f"figures/{file.stem}" for file in found.figures} == set(tags["images"])
    (text,) = reader.Tensors("audit/text_summary")
    assert found.words["reliance.headline"] in text.tensor_proto.string_val[0].decode()


def test_wandb_holds_the_audit_offline(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    out = Path(log(run, "wandb", mode="offline", folder=str(tmp_path / "w&b")))
    assert out.is_relative_to(tmp_path / "w&b")
    assert wandb.run is None
    (content,) = out.parent.glob("*.wandb")
    wanted = {b"reliance/recall/relevant", b"solve.mu", run.name.encode()}
    # Another process writes it, a moment later.
    for _ in range(100):
        if all(text in content.read_bytes() for text in wanted):
            break
        time.sleep(0.1)
    assert {text for text in wanted if text in content.read_bytes()} == wanted
    assert list(out.rglob("*.html"))
