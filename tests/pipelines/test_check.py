"""``interpnet check``: exit codes, the table, JSON, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.report_fixture import class_names, make_run
from helpers.shortcut_findings import findings, write_shortcuts
from interpnet.pipelines.cli.app import main

from interpnet.ablation import as_result

NAMES = class_names(8)
# Without pictures, which a check does not look at.
MEASURED = ("collect", "solve", "ablate")


@pytest.fixture
def suspicious(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", classes=8, stages=MEASURED, shortcuts=True)


@pytest.fixture
def fine(tmp_path: Path) -> Path:
    folder = make_run(tmp_path / "run", classes=8, stages=MEASURED)
    whole = findings(NAMES)
    write_shortcuts(folder, NAMES, replace(whole, classes=whole.classes[1:]))
    return folder


def accuracy(folder: Path) -> float:
    """Return the share of test images recognised: recalls weighted by images."""
    study = as_result(json.loads((folder / "ablation" / "ablation.json").read_text()))
    known = study.support > 0
    return float((study.intact[known] * study.support[known]).sum() / study.support[known].sum())


def test_a_suspicious_class_is_a_finding(suspicious: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(suspicious)]) == 1
    text = capsys.readouterr().out
    assert "beyond the limit" in text
    assert "(a patch)" in text
    assert main(["check", str(suspicious), "--fail-on-shortcut"]) == 1
    assert main(["check", str(suspicious), "--allow-shortcuts"]) == 0


def test_no_suspicious_class_is_fine(fine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(fine)]) == 0
    text = capsys.readouterr().out
    assert "none found" in text
    assert "beyond the limit" not in text


@pytest.mark.parametrize(("limit", "code"), [("0.57", 1), ("0.59", 0)])
def test_a_suspicion_beyond_the_limit_is_a_finding(limit: str, code: int, suspicious: Path) -> None:
    """0.83 of which 0.25 is usual is a suspicion of 0.58."""
    assert main(["check", str(suspicious), "--allow-shortcuts", "--max-suspicion", limit]) == code


@pytest.mark.parametrize(("below", "code"), [(-0.01, 0), (0.01, 1)])
def test_an_accuracy_below_the_limit_is_a_finding(below: float, code: int, fine: Path) -> None:
    assert main(["check", str(fine), "--min-accuracy", f"{accuracy(fine) + below:.6f}"]) == code


def test_json_is_for_programs(suspicious: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(suspicious), "--json", "--max-suspicion", "0.9"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["format"], told["run"], told["passed"]) == ("interpnet-check-1", str(suspicious), False)
    by_name = {one["name"]: one for one in told["checks"]}
    assert by_name["accuracy"]["number"] == pytest.approx(accuracy(suspicious))
    assert (by_name["shortcuts"]["number"], by_name["shortcuts"]["passed"]) == (1, False)
    assert by_name["suspicion"]["number"] == pytest.approx(0.58)
    assert by_name["suspicion"]["passed"] is True


def refused(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["stages"]["shortcuts"] = {"state": "complete", "key": "x", "refused": "several labels"}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_what_cannot_be_searched_is_said_and_no_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path / "run", classes=8, stages=MEASURED)
    refused(folder)
    assert main(["check", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["checks"][-1]
    assert (told["name"], told["value"], told["passed"]) == ("shortcuts", "not searched: several labels", None)
    # Who asks for a number is told that there is none.
    assert main(["check", str(folder), "--max-suspicion", "0.2"]) == 2
    assert "was not searched for shortcuts: several labels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stages", "options", "message"),
    [
        (MEASURED, [], "was not searched for shortcuts: run `interpnet shortcuts"),
        (MEASURED, ["--max-suspicion", "1.5"], "--max-suspicion is 1.5; expected a number"),
        (MEASURED, ["--min-accuracy", "90"], "--min-accuracy is 90.0; expected a number from 0"),
        (("collect", "solve"), ["--min-accuracy", "0.9"], "no test image has been looked at; run `interpnet ablate"),
    ],
)
def test_wrong_input_is_one_line(
    stages: tuple[str, ...], options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path / "run", classes=8, stages=stages)
    assert main(["check", str(folder), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_run_without_a_search_can_be_checked_for_accuracy(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", classes=8, stages=MEASURED)
    assert main(["check", str(folder), "--allow-shortcuts", "--min-accuracy", "0.1"]) == 0


def test_no_run_folder_is_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "absent")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_classes_too_small_for_any_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path / "run", classes=8, stages=MEASURED)
    whole = findings(NAMES)
    write_shortcuts(folder, NAMES, replace(whole, classes=whole.classes[-1:]))
    assert np.isnan(whole.classes[-1].share)
    assert main(["check", str(folder)]) == 0
    assert main(["check", str(folder), "--max-suspicion", "0.2"]) == 2
    assert "too few images" in capsys.readouterr().err
