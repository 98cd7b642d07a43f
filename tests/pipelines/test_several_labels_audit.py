"""An audit of images with several labels, from the first look to the report, against counts by plain torch."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.labelled_run import LABELS, PLANTED, labelled_session
from helpers.tiny_run import read, said, through
from interpnet.pipelines.auditing import terminal_tables
from interpnet.pipelines.cli.app import main
from interpnet.pipelines.run.session import Session
from interpnet.pipelines.stages import contributions as contributions_stage
from interpnet.pipelines.stages.ablate import load_ablation
from interpnet.pipelines.stages.collect import load_table
from interpnet.pipelines.stages.contributions import load_contributions
from interpnet.pipelines.stages.identified import load_way
from interpnet.pipelines.stages.report import run_report
from interpnet.pipelines.stages.user_images import explain_user_images
from PIL import Image
from rich.console import Console

from interpnet.errors import InterpNetError
from interpnet.models import SmallCNN, save_smallcnn
from interpnet.scores import ScoreTable

WAYS = ("reliance", "mu-lasso")


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Session:
    session = through(labelled_session(tmp_path_factory.mktemp("labels") / "run", misclassified=6), "shortcuts")
    run_report(session)
    return session


def of_test(session: Session) -> tuple[torch.Tensor, np.ndarray]:
    """Return the test images and which labels they have."""
    test = session.loaded.test
    return torch.stack([test.data[i][0] for i in range(len(test.data))]), test.targets


def given(session: Session, without: Any = ()) -> np.ndarray:
    """Return which labels the network gives the test images, some channels set to zero by a plain hook."""
    model = session.loaded.model

    def zero(_module: Any, _inputs: Any, out: torch.Tensor) -> torch.Tensor:
        out = out.clone()
        out[:, list(without)] = 0.0
        return out

    handle = model.relu.register_forward_hook(zero)
    try:
        with torch.no_grad():
            return (model(of_test(session)[0]) > 0).numpy()
    finally:
        handle.remove()


@pytest.mark.parametrize("way", WAYS)
def test_the_planted_channels_are_named(audited: Session, way: str) -> None:
    found = load_way(audited, way)
    assert found.info["outputs"] == "independent"
    assert [int(found.columns(c)[0]) for c in range(3)] == list(PLANTED)


@pytest.mark.parametrize("way", WAYS)
def test_recall_and_precision_are_those_of_a_count(audited: Session, way: str) -> None:
    result = load_ablation(audited, way)
    assert result is not None
    found = load_way(audited, way)
    _, has = of_test(audited)
    before = given(audited)
    for j in range(3):
        after = given(audited, found.columns(j))
        assert result.intact[j] == pytest.approx(before[has[:, j], j].mean())
        assert result.precision[j] == pytest.approx((before & has)[:, j].sum() / before[:, j].sum())
        assert result.condition("relevant").own[0, j] == pytest.approx(after[has[:, j], j].mean())
        assert result.false_alarms_removed[j] == pytest.approx(after[~has[:, j], j].mean())
    assert result.intact.mean() > 0.6
    assert (result.condition("relevant").own == 0).all()


def test_the_table_of_the_study_has_precision(audited: Session) -> None:
    result = load_ablation(audited, "reliance")
    with (audited.run.path / "ablation/reliance.csv").open() as file:
        rows = list(csv.DictReader(file))
    first = {row["class"]: row for row in rows if (row["condition"], row["layers"]) == ("relevant", "all")}
    for j, name in enumerate(LABELS):
        assert float(first[name]["precision_intact"]) == pytest.approx(result.precision[j], abs=1e-5)
        assert float(first[name]["false_alarms_intact"]) == pytest.approx(result.false_alarms[j], abs=1e-5)
        assert first[name]["precision_own"] == ""  # no image is given the label any more
        assert float(first[name]["false_alarms_own"]) == 0.0
    assert {row["precision_own"] for row in rows if row["condition"] == "random"} == {""}


def test_the_report_says_recall_and_precision_of_each_label(audited: Session) -> None:
    folder = audited.run.path / "report"
    page = (folder / "index.html").read_text()
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "Recall and precision of each label" in text
    assert "classifies" not in text
    assert "named correctly" not in text
    counts = audited.loaded.test.targets.sum(1)
    assert f"Images 40 Labels per image {counts.mean():.2f} Images without a label {(counts == 0).sum()}" in text
    results = {way: load_ablation(audited, way) for way in WAYS}
    first = results["reliance"]
    for j, name in enumerate(LABELS):
        row = re.search(rf"{name} \d+ training, {first.support[j]} test images ([\d.]+) ([\d.]+) ", text)
        assert row is not None, name
        assert row.groups() == (f"{first.intact[j]:.3f}", f"{first.precision[j]:.3f}")
    with (folder / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["precision_intact"]) for row in rows] == pytest.approx(first.precision)
    assert [row["precision_relevant_removed"] for row in rows] == [""] * 3
    summary = read(audited, "report/report.json")
    assert [entry["precision_intact"] for entry in summary["classes"]] == pytest.approx(first.precision)
    # What a label is given to images that lack it is chance.
    assert "near chance" not in text


def test_the_report_names_hits_misses_and_false_alarms(audited: Session) -> None:
    page = (audited.run.path / "report/index.html").read_text()
    tags = re.findall(r'<span class="tag (good|bad)">([a-z ]+)</span> of <bdi>([a-z ]+)</bdi>', page)
    assert tags[0] == ("good", "hit", LABELS[0])
    assert {(tone, kind) for tone, kind, _ in tags} == {("good", "hit"), ("bad", "miss"), ("bad", "false alarm")}
    assert len(tags) == 12
    with (audited.run.path / "report/examples.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["predicted"] for row in rows} == {*LABELS, "not given"}


def test_the_terminal_has_a_table_of_labels(audited: Session) -> None:
    result = load_ablation(audited, "reliance")
    console = Console(file=io.StringIO(), width=140)
    terminal_tables.show_collect(console, audited.run.stage("collect"))
    terminal_tables.show_ablation(console, result, "reliance")
    shown = console.file.getvalue()
    assert "accuracy" not in shown
    change = result.condition("random").changes["recall"].others
    row = next(line for line in shown.splitlines() if "│ random " in line).replace("−", "-")
    assert float(row.split("│")[5].split("±")[0]) == pytest.approx(100 * change.overall(), abs=0.06)
    for j, name in enumerate(LABELS):
        row = next(line for line in shown.splitlines() if name in line)
        numbers = [cell.strip() for cell in row.split("│")[2:-1]]
        assert numbers[:3] == [
            str(result.support[j]),
            f"{100 * result.intact[j]:.1f} %",
            f"{100 * result.precision[j]:.1f} %",
        ]
        assert numbers[3:] == ["0.0 %", "–"]


def test_scores_and_contributions_are_by_label(audited: Session) -> None:
    table = load_table(audited)
    np.testing.assert_array_equal(table.labels, audited.loaded.train.targets)
    found = load_contributions(audited)
    assert found.info["outputs"] == "independent"
    np.testing.assert_array_equal(found.counts, audited.loaded.train.targets.sum(0))


def test_contributions_that_a_lost_file_makes_anew_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pass beside the scores and a pass of its own take the same labels of the same images."""
    session = through(labelled_session(tmp_path / "run", contribution_images=7), "contributions")
    first = load_contributions(session)
    assert first.counts.max() == 7
    (session.run.path / "contributions/contributions.npz").unlink()
    monkeypatch.setattr(contributions_stage, "_CHUNK", 5)
    contributions_stage.run_contributions(session)
    again = load_contributions(session)
    np.testing.assert_array_equal(again.counts, first.counts)
    np.testing.assert_allclose(again.mean, first.mean, rtol=1e-5, atol=1e-7)


def test_examples_are_hits_misses_and_false_alarms(audited: Session) -> None:
    records = read(audited, "explanations/examples.json")["examples"]
    _, has = of_test(audited)
    says = given(audited)
    kinds = []
    for record in records:
        i, label = record["dataset_index"], record["explained"]
        assert record["labels"] == np.flatnonzero(has[i]).tolist()
        assert record["given"] == says[i, label]
        assert record["given"] == (record["confidence"] > 0.5)
        assert record["true"] is None
        assert has[i, label] or says[i, label]
        kinds.append((bool(has[i, label]), bool(says[i, label])))
    assert kinds[:6] == [(True, True)] * 6  # two of every label
    assert [record["explained"] for record in records[:6]] == [0, 0, 1, 1, 2, 2]
    wrong = kinds[6:]
    assert len(wrong) == 6
    assert {(True, False), (False, True)} == set(wrong)
    assert wrong[:2] == [(True, False), (False, True)]


def test_what_needs_one_class_per_image_is_left_out_with_a_note(audited: Session) -> None:
    assert not (audited.run.path / "shortcuts/shortcuts.json").exists()
    notes = " ".join(audited.run.manifest["notes"])
    assert "Shortcuts were not searched: an image can have several labels" in notes


def test_the_stages_are_done_once(audited: Session) -> None:
    again = labelled_session(audited.run.path, misclassified=6)
    through(again)
    assert said(again).count("up to date, skipped") == 7


def test_mu_and_stability_are_found_for_labels(tmp_path: Path) -> None:
    session = labelled_session(tmp_path / "run", identify="mu-lasso", mu="auto", stability=4)
    through(session, "solve")
    summary = read(session, "weights/summary.json")
    assert [entry["n_images"] for entry in summary["classes"]] == session.loaded.train.targets.sum(0).tolist()
    assert all("n_seldom" in entry for entry in summary["classes"])
    assert session.run.stage("solve")["mu_rule"] == "one_se"
    assert "no single class of it is right or wrong" in " ".join(session.run.manifest["notes"])
    assert [int(load_way(session, "mu-lasso").columns(c)[0]) for c in range(3)] == list(PLANTED)


@pytest.mark.parametrize(
    ("given_", "match"),
    [
        ({"fit_on": "predictions"}, "--fit-on is predictions, and an image of this data can have several labels"),
        ({"class_weight": "balanced"}, "--class-weight is balanced, and an image of this data can have several labels"),
    ],
)
def test_settings_that_need_one_label_are_refused(given_: dict[str, Any], match: str, tmp_path: Path) -> None:
    session = labelled_session(tmp_path / "run", identify="mu-lasso", **given_)
    with pytest.raises(InterpNetError, match=re.escape(match)):
        through(session, "solve")


def test_fewer_images_are_balanced_over_the_labels(tmp_path: Path) -> None:
    session = labelled_session(tmp_path / "run", identify="mu-lasso", max_images=30, max_ablation_images=20)
    through(session, "ablate")
    assert session.run.stage("collect")["n_images"] == 30
    assert session.run.stage("ablate")["n_images"] == 20


def test_some_labels_are_studied_and_shown(tmp_path: Path) -> None:
    session = through(labelled_session(tmp_path / "run", identify="mu-lasso", only=("blue disc", "green bar")))
    result = load_ablation(session, "mu-lasso")
    assert result is not None
    assert np.isfinite(result.precision).tolist() == [False, True, True]
    assert np.isfinite(result.false_alarms_removed).tolist() == [False, True, True]
    records = read(session, "explanations/examples.json")["examples"]
    assert {record["explained"] for record in records} == {1, 2}


def test_images_of_the_user_are_explained_for_the_largest_logit(audited: Session, tmp_path: Path) -> None:
    """Where even that is not given, the table says so."""
    grey = tmp_path / "grey.png"
    Image.new("RGB", (16, 16), (90, 90, 90)).save(grey)
    (record,) = explain_user_images(labelled_session(audited.run.path, misclassified=6), [str(grey)], None)
    assert (record["given"], "labels" in record) == (False, False)
    assert record["confidence"] < 0.5
    console = Console(file=io.StringIO(), width=140)
    terminal_tables.show_explained(console, LABELS, [record], "folder")
    assert "not given" in console.file.getvalue()


@pytest.fixture
def on_disk(tmp_path: Path) -> list[str]:
    """Return a small network and a table of images with several labels, as arguments of the command line."""
    header = ",".join(["file", *"abcdefghij"])
    rows = [",".join([f"{i}.png", *("01"[(i + j) % 3 == 0] for j in range(10))]) for i in range(20)]
    (tmp_path / "labels.csv").write_text("\n".join([header, *rows]))
    for i in range(20):
        Image.new("RGB", (8, 8), (12 * i, 90, 90)).save(tmp_path / f"{i}.png")
    torch.manual_seed(0)
    weights = tmp_path / "weights.safetensors"
    save_smallcnn(SmallCNN(3, 10, 8), weights)
    return ["smallcnn", f"csv:{tmp_path}", "--weights", str(weights), "--out", str(tmp_path / "run")]


def test_a_table_of_files_is_collected_by_label(on_disk: list[str]) -> None:
    assert main(["collect", *on_disk, "--anyway", "--identify", "mu-lasso"]) == 0
    run = Path(on_disk[-1])
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["model"]["outputs"] == "independent"
    assert manifest["stages"]["collect"]["state"] == "complete"
    table = ScoreTable.load(run / "scores")
    assert table.labels.shape == (20, 10)
    assert table.labels[3].tolist() == [1, 0, 0] * 3 + [1]


def test_one_label_per_image_is_asked_for_in_vain(on_disk: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collect", *on_disk, "--outputs", "exclusive"]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert "--outputs is exclusive, but image '0.png' has 4 labels; expected one label per image" in shown
    assert not Path(on_disk[-1]).exists()


def test_a_filter_report_of_such_images_is_refused(on_disk: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["filters", *on_disk]) == 2
    assert "can have several labels, and this report groups images by their one class" in " ".join(
        capsys.readouterr().err.split()
    )


def test_images_without_labels_are_not_said_to_be_left_out(audited: Session) -> None:
    """Reliance is measured on the images that have a label; fewer of each are noted only where there are more."""
    assert "Reliance is measured on" not in " ".join(audited.run.manifest["notes"])
