"""E4's script: a trial of seconds, resumed, and the table it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.sanity import run, table

HERE = Path(run.__file__).parent


def tried(words: list[str], out: Path) -> dict[tuple[str, str], dict[str, float]]:
    run.main(["--quick", "--out", str(out), *words])
    return {(line["subject"], line["method"]): line for line in json.loads(out.read_text())}


def test_a_quick_trial_on_flowers_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--subjects", "single-6c", "double-12c", "--work", str(tmp_path)]
    lines = tried(words, tmp_path / "results.json")
    three = ("gradient", "channels guided resampled", "edge")
    assert list(lines) == [(subject, method) for subject in ("single-6c", "double-12c") for method in three]
    edge = lines["single-6c", "edge"]  # it sees neither class nor weights
    assert (edge["class_rank"], edge["weights_rank"]) == (pytest.approx(1), pytest.approx(1))
    assert all(0 <= line[k] <= 1 for line in lines.values() for k in ("deletion", "insertion"))
    monkeypatch.setattr(run, "examine", None)  # what is there is not done again
    assert tried(words, tmp_path / "results.json") == lines


@pytest.mark.shared
def test_a_quick_trial_on_the_shared_network(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERPNET_SHARED_DATA", str(shared_data))
    lines = tried(["--subjects", "resnet20", "--work", str(tmp_path)], tmp_path / "results.json")
    assert lines["resnet20", "gradient"]["weights_rank"] < 0.6
    assert lines["resnet20", "edge"]["class_rank"] == pytest.approx(1)


def test_every_name_has_its_maps() -> None:
    names = run.names(quick=False)
    assert len(set(names)) == len(names) > 40
    assert set(run.names(quick=True)) <= set(names)
    assert {"logit guided resampled", "channels gradient plain", "lime", "edge"} <= set(names)


def test_the_table_gives_means_over_networks_sorted_by_class_sensitivity_and_marks_controls() -> None:
    rest = {**dict.fromkeys(table.COLUMNS, 0.5), "blank": 1, "images": 4, "seconds": 60.0, "commit": "abc"}
    lines = [
        {"subject": "a", "seed": 0, "method": "edge", **rest, "class_rank": 1.0},
        {"subject": "a", "seed": 0, "method": "cam", **rest, "class_rank": -0.25},
        {"subject": "a", "seed": 1, "method": "cam", **rest, "class_rank": -0.75},
    ]
    text = table.table(lines)
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert rows[0].startswith("| cam | −0.50 | 0.50 |")
    assert rows[0].endswith("| 2 |")
    assert rows[1].startswith("| *edge* | 1.00 |")
    assert "**a**: 2 networks, 4 images each; 3 minutes; commit abc." in text


def test_the_page_is_not_stale(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text((HERE / "README.md").read_text())
    table.PAGE.write(page, json.loads((HERE / "results.json").read_text()))
    assert page.read_text() == (HERE / "README.md").read_text()
