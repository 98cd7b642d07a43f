"""Comparing and checking runs of which something is missing: classes that were not studied, images, stages."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.compared_runs import CLASSES, EACH, edit, run_of
from helpers.report_fixture import class_names
from helpers.shortcut_findings import findings, write_shortcuts
from interpnet.pipelines.cli.app import main
from interpnet.pipelines.comparing.recalls import of_losses
from interpnet.pipelines.report.load import clean, load_run
from interpnet.pipelines.report.verdict import study_verdicts
from scipy import stats

import interpnet as ip
from interpnet.ablation import Answers, Effect, as_result
from interpnet.support.io import write_json

NAMES = class_names(CLASSES)
SHOWN = [clean(name) for name in NAMES]


def pair_of_runs(folder: Path, right: dict[int, float] | None = None) -> tuple[Path, Path]:
    return run_of(folder / "a"), run_of(folder / "b", right, seed=2)


def study_some(run: Path, only: list[int]) -> None:
    """Make a run one whose channels were removed for some classes alone."""
    path = run / "ablation" / "ablation.json"
    write_json(path, as_result(json.loads(path.read_text())).restricted(only).to_json())


def without_answers(run: Path) -> None:
    for path in (run / "ablation").glob("*-answers.npz"):
        path.unlink()


def test_verdicts_are_those_of_their_class_where_an_earlier_one_has_no_images(tmp_path: Path) -> None:
    runs = pair_of_runs(tmp_path)
    for run in runs:
        kept = Answers.load(run / "ablation" / "ablation-answers.npz")
        kept.rows(kept.labels != 2).save(run / "ablation" / "ablation-answers.npz")
    recalls = ip.compare(*runs).recalls
    assert recalls is not None
    assert [one.name for one in recalls.classes] == [name for c, name in enumerate(SHOWN) if c != 2]
    levels = {name: found.level for name, found in zip(SHOWN, _class_verdicts(runs[0]), strict=True)}
    assert len({levels[one.name] for one in recalls.classes}) > 1
    for one in recalls.classes:
        assert one.verdicts["mu-lasso"] == (levels[one.name],) * 2


def _class_verdicts(run: Path) -> tuple[object, ...]:
    return study_verdicts(load_run(run))["mu-lasso"].classes


def test_channels_of_classes_that_were_not_studied_are_not_lost(tmp_path: Path) -> None:
    a, b = pair_of_runs(tmp_path)
    study_some(b, [1, 3])
    found = ip.compare(a, b)
    assert found.channels is not None
    assert [one.name for one in found.channels.ways[0].classes] == [SHOWN[1], SHOWN[3]]
    assert all(one.state == "kept" for of in found.channels.ways[0].classes for one in of.channels)
    assert found.channels.ways[0].counts[0] == found.channels.ways[0].counts[1]
    assert any("B studied 2 of its 8 classes" in note for note in found.notes)
    assert found.recalls is not None
    assert [one.name for one in found.recalls.classes if one.verdicts] == [SHOWN[1], SHOWN[3]]
    assert len(found.recalls.classes) == CLASSES
    assert main(["compare", str(a), str(b)]) == 0
    study_some(a, [0])
    assert ip.compare(a, b).channels is None


def test_images_are_those_of_the_classes_in_common(tmp_path: Path) -> None:
    a, b = pair_of_runs(tmp_path)
    for run in (a, b):
        without_answers(run)
    path = b / "ablation" / "ablation.json"
    write_json(path, json.loads(path.read_text()) | {"support": [EACH] * (CLASSES - 1) + [0], "n_images": 123})
    recalls = ip.compare(a, b).recalls
    assert recalls is not None
    assert recalls.images == (EACH * (CLASSES - 1),) * 2


def test_labels_of_the_same_images_widen_an_interval_of_two_samples(tmp_path: Path) -> None:
    a, b = pair_of_runs(tmp_path)
    shared = 4e-4
    for run in (a, b):
        without_answers(run)
        edit(run, lambda manifest: manifest["model"].update(outputs="independent"))
        path = run / "ablation" / "ablation.json"
        clusters = [[shared] * CLASSES, EACH]
        write_json(path, json.loads(path.read_text()) | {"outputs": "independent", "clusters": clusters})
    recalls = ip.compare(a, b).recalls
    assert recalls is not None
    # Each label's recall is 0.9; what images share adds to the variance of a mean over classes.
    of_labels = 2 * 0.9 * 0.1 / (EACH - 1) / CLASSES
    of_images = 2 * shared / CLASSES
    images = CLASSES * EACH
    half = 1.96 * math.sqrt(of_labels + of_images + 1 / (images * (images + 2)))
    assert recalls.recall.high == pytest.approx(half, rel=0.01)


def test_a_class_that_is_suspicious_for_another_part_is_not_gone(tmp_path: Path) -> None:
    """Of each class one part is judged, so that nothing says that the other suspicion went."""
    a, b = pair_of_runs(tmp_path)
    whole = findings(NAMES)
    write_shortcuts(a, NAMES, whole)
    write_shortcuts(b, NAMES, replace(whole, classes=(replace(whole.classes[0], part="top left"), *whole.classes[1:])))
    found = ip.compare(a, b)
    assert found.looks is not None
    verdicts = [one.verdict for one in found.looks if one.name == SHOWN[0]]
    assert verdicts == ["suspicious in A, another part in B", "suspicious in B, another part in A"]
    assert found.headline[2] == f"Suspicious in both, most for another part: “{SHOWN[0]}”."
    assert json.loads(json.dumps(found.to_json()))["looks"][0]["suspicious"] == [True, None]


def test_losses_of_all_images_have_an_interval() -> None:
    """Where every image is lost, or none, a sum of variances is zero; one image more says what else may be."""
    nothing, everything = (
        Effect(np.full(2, mean), np.zeros(2), np.array([10, 10]), share=True) for mean in (0.0, -1.0)
    )
    change = of_losses(nothing, everything)
    assert change is not None
    half = float(stats.t.ppf(0.975, 18)) / math.sqrt(20 * 22)
    # Both may lose less than they did by one image; the second can lose no more.
    assert (change.change, change.low, change.high) == pytest.approx((-1, -1 - half, -1 + math.sqrt(2) * half))
    assert change.said == "lower"
    same = of_losses(everything, everything)
    assert same is not None
    assert (same.low, same.high, same.p) == pytest.approx((-half, half, 1.0))
    apart = Effect(np.array([np.nan, 0.0]), np.zeros(2), np.array([0, 10]), share=True)
    assert of_losses(apart, replace(everything, count=np.array([10, 0]))) is None


def test_where_all_classes_differ_no_others_are_spoken_of(tmp_path: Path) -> None:
    a, b = pair_of_runs(tmp_path, dict.fromkeys(range(CLASSES), 0.5))
    assert "others" not in ip.compare(a, b).headline[1]


def test_a_check_reads_the_recall_of_classes_that_were_not_studied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tmp_path / "run", {5: 0.2})
    study_some(run, [1, 3])
    check = ["check", str(run), "--allow-shortcuts", "--json"]
    assert main([*check, "--min-recall", "0.5"]) == 1
    found = {one["name"]: one["number"] for one in json.loads(capsys.readouterr().out)["checks"]}
    assert found["recall of each class"] == 0.2
    assert found["accuracy"] == pytest.approx((0.9 * 7 + 0.2) / CLASSES)


def test_a_check_leaves_out_what_did_not_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path / "run")
    check = ["check", str(run), "--allow-shortcuts", "--min-accuracy", "0.5"]
    assert main(check) == 0
    edit(run, lambda manifest: manifest["stages"]["ablate"].update(state="interrupted"))
    assert main(check) == 2
    assert "no test image has been looked at; run `interpnet ablate" in capsys.readouterr().err


def test_a_limit_of_zero_on_falls_asks_for_a_run_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path / "run")
    assert main(["check", str(run), "--allow-shortcuts", "--max-recall-loss", "0"]) == 2
    assert "--max-recall-loss came, and no run to compare with" in capsys.readouterr().err
    assert main(["check", str(run), "--allow-shortcuts", "--no-known-shortcuts"]) == 0


def test_a_log_says_how_a_command_ended_that_went_well(tmp_path: Path) -> None:
    log = tmp_path / "check.log"
    assert main(["check", str(run_of(tmp_path / "run")), "--allow-shortcuts", "--quiet", "--log", str(log)]) == 0
    assert log.read_text().endswith("Z exit code 0\n")
