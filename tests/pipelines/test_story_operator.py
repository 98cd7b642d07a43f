"""An operator's build, through the command alone: audit two checkpoints, compare them, stop where one is worse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.junit import read_junit
from helpers.small_audit import folder_of_images
from interpnet.pipelines.cli.app import main

import interpnet as ip

# A small network, and as little of an audit as there is.
TRAINING = ("--width", "4")
LITTLE = ("--repeats", "1", "--examples", "0", "--misclassified", "0", "--max-channels", "1")
LITTLE = (*LITTLE, "--methods", "gradient", "--shortcut-images", "24", "--identify", "mu-lasso", "--quiet")


def test_a_build_stops_at_a_worse_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # Its figures would take longer than everything else.
    monkeypatch.setattr("interpnet.pipelines.report.build.make_charts", lambda _run, _folder: {})
    folder_of_images(Path("photos"), 3, each=16, test=12)
    for name, epochs in (("good", "30"), ("early", "1")):
        train = ("train", "imagefolder:photos", "--out", f"{name}.safetensors", "--epochs", epochs, *TRAINING)
        assert main(train) == 0
        audit = ("audit", "smallcnn", "imagefolder:photos", "--weights", f"{name}.safetensors", "--out", name, *LITTLE)
        capsys.readouterr()
        assert main((*audit, "--anyway", "--log", "audit.log", "--json")) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["format"], told["run"]) == ("interpnet-report-1", name)
    log = Path("audit.log").read_text()
    assert log.count("interpnet audit\n") == 2
    assert log.count(" report: early/report") == 1

    # What changed, for a person and for a program.
    assert main(["compare", "good", "early", "--html", "changes.html", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["recalls"]["paired"] is True
    assert told["recalls"]["accuracy"]["second"] < told["recalls"]["accuracy"]["first"]
    assert told["recalls"]["accuracy"]["differs"] is True
    assert Path("changes.html").stat().st_size > 10_000

    # The good checkpoint passes by the limits of the repository, and against itself of yesterday.
    Path("limits.toml").write_text("[check]\nmin_accuracy = 0.8\nfail_on_shortcut = false\n")
    check = ("check", "good", "--config", "limits.toml", "--quiet")
    assert main((*check, "--junit", "good.xml")) == 0
    assert read_junit(Path("good.xml")).attrib["failures"] == "0"
    assert capsys.readouterr().out == ""

    # The other one fails, and the build shows why.
    check = ("check", "early", "--config", "limits.toml", "--against", "good", "--junit", "early.xml", "--github")
    assert main(check) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("::error title=interpnet check")]
    suite = read_junit(Path("early.xml"))
    assert int(suite.attrib["failures"]) == len(lines) >= 2
    failed = {case.attrib["name"] for case in suite.findall("testcase") if case.find("failure") is not None}
    assert {"accuracy", "accuracy against the baseline"} <= failed

    # The same from Python.
    found = ip.compare(ip.load_run("good"), "early")
    assert found.recalls is not None
    assert found.recalls.to_json() == told["recalls"]
