"""Run folders of older versions are read, or refused with what to do (docs/compatibility.md)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.small_audit import manifest
from interpnet.pipelines.cli.app import main

from interpnet.interpretation import Interpretation
from interpnet.mulasso import Stability
from interpnet.scores import ScoreTable

FIRST = Path(__file__).parents[1] / "data" / "run-1"


@pytest.fixture
def old(tmp_path, monkeypatch) -> Path:
    """A copy of the run folder that version 0.1.0 wrote, beside its network."""
    shutil.copytree(FIRST, tmp_path / "audits")
    monkeypatch.chdir(tmp_path / "audits")
    return tmp_path / "audits" / "run"


def test_the_report_of_a_first_run_gives_the_same_numbers(old):
    assert main(["report", str(old)]) == 0
    written = json.loads((old / "report" / "report.json").read_text())
    expected = json.loads((FIRST / "expected_report.json").read_text())
    assert {name: written[name] for name in expected} == expected


def test_the_results_of_a_first_run_load(old):
    found = Interpretation.load(old / "weights" / "interpretation.npz")
    table = ScoreTable.load(old / "scores")
    assert found.coef.shape == (10, 20)
    assert table.X.shape == (60, 20)
    assert list(found.channels) == list(table.channels)
    stability = Stability.load(old / "weights" / "stability.npz")
    assert stability.frequency.shape == (10, 20)
    assert stability.n_subsamples == 4


def test_a_first_run_goes_on(old, capsys):
    """Its settings, its network and its images are the same to today's program, so nothing is done again."""
    assert main(["audit", "--out", str(old)]) == 0
    text = capsys.readouterr().out
    for stage in ("collect", "solve", "ablate", "explain"):
        assert f"{stage}: up to date, skipped" in text


def test_a_stage_of_a_first_run_can_be_done_again(old, capsys):
    before = Interpretation.load(old / "weights" / "interpretation.npz").coef
    (old / "weights" / "channels.csv").unlink()
    assert main(["solve", str(old)]) == 0
    assert "solve: done" in capsys.readouterr().out
    np.testing.assert_allclose(Interpretation.load(old / "weights" / "interpretation.npz").coef, before, atol=1e-9)


def test_a_run_of_a_newer_format_is_refused_with_what_to_do(old, capsys):
    entry = manifest(old)
    entry["format"] = "interpnet-run-2"
    (old / "manifest.json").write_text(json.dumps(entry))
    assert main(["report", str(old)]) == 2
    error = capsys.readouterr().err
    assert "interpnet-run-2" in error
    assert "interpnet-run-1" in error
