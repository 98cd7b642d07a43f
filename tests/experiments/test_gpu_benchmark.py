"""The script for a machine with a GPU: every part of it runs without one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from experiments.benchmarks import gpu, plan
from interpnet.support.io import read_json

REPORT = """<testsuites><testsuite>
<testcase classname="tests.scores.test_a" name="one[cuda]"/>
<testcase classname="tests.scores.test_a" name="two[cuda]"><failure/></testcase>
<testcase classname="tests.gram.test_b" name="three[cuda]"><skipped/></testcase>
</testsuite></testsuites>"""


def test_every_part_runs_on_the_processor_and_keeps_its_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("spams", reason="SPAMS is a peer of the solver")
    out = tmp_path / "gpu.json"
    gpu.main(["--device", "cpu", "--small", "--parts", "networks", "norms", "solver", "--out", str(out)])
    found = read_json(out)
    assert [row["name"] for row in found["solver"]] == [
        "64 channels, 10 classes, cpu",
        "64 channels, 10 classes, processors",
        "64 channels, 10 classes, SPAMS",
    ]
    assert all("left out" not in row for part in gpu.PARTS for row in found[part])
    assert max(row["ours, error"] for row in found["norms"]) < 1e-6
    assert all(row["gap"] < 1e-9 for row in found["solver"][:2])
    assert len(found["networks"]) == 2 * 3 + 1  # layouts, precisions, and the study
    assert "| name | bare, images/s |" in capsys.readouterr().out


def test_what_the_time_does_not_allow_is_listed(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    gpu.main(["--device", "cpu", "--small", "--parts", "norms", "--minutes", "0", "--out", str(out)])
    assert {row["left out"] for row in read_json(out)["norms"]} == {"the time is over"}


def test_outcomes_are_counted_by_room(tmp_path: Path) -> None:
    report = tmp_path / "tests.xml"
    report.write_text(REPORT)
    found = gpu.outcomes(report)
    assert found["rooms"] == {"gram": {"skipped": 1}, "scores": {"passed": 1, "failure": 1}}
    assert found["failed"] == ["tests.scores.test_a::two[cuda]"]


def test_a_machine_without_a_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device; --device cpu --small tries the script"):
        gpu.main([])


def test_the_plan_on_the_page_is_what_the_measured_costs_give(capsys: pytest.CaptureFixture[str]) -> None:
    plan.main([])
    table = capsys.readouterr().out.partition("\n\n")[0]
    page = Path(plan.__file__).parents[2] / "docs" / "scale.md"
    assert table in page.read_text(encoding="utf-8"), "run python -m experiments.benchmarks.plan"
    assert len(table.splitlines()) == 2 + 9
