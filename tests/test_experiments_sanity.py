"""E4's script: a trial of seconds where the shared data is, and the table it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.sanity import run


@pytest.mark.shared
def test_a_quick_trial_resumes(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERPNET_SHARED_DATA", str(shared_data))
    words = ["--quick", "--out", str(tmp_path / "results.json")]
    run.main(words)
    lines = {line["method"]: line for line in json.loads((tmp_path / "results.json").read_text())}
    assert set(lines) == {"gradient", "channels guided resampled", "edge"}
    edge = lines["edge"]  # it sees neither class nor weights
    assert (edge["class_rank"], edge["weights_rank"]) == (pytest.approx(1), pytest.approx(1))
    assert lines["gradient"]["weights_rank"] < 0.6
    assert all(0 <= line[k] <= 1 for line in lines.values() for k in ("deletion", "insertion"))
    monkeypatch.setattr(run, "examine", None)  # what is there is not done again
    run.main(words)


def test_the_table_is_sorted_by_class_sensitivity_and_marks_controls() -> None:
    keys = (
        "class_structure",
        "weights_rank",
        "weights_rank_absolute",
        "weights_structure",
        "weights_rank_after_the_top",
    )
    rest = {**dict.fromkeys((*keys, "deletion", "insertion"), 0.5), "blank": 1, "images": 4, "seconds": 60.0}
    text = run.table([{"method": "edge", "class_rank": 1.0, **rest}, {"method": "cam", "class_rank": -0.25, **rest}])
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert rows[0].startswith("| cam | −0.25 | 0.50 |")
    assert rows[1].startswith("| *edge* | 1.00 |")
    assert "4 images; 2 minutes." in text
