"""V's script: a trial of seconds, resumed; average precision, choice and differences by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from experiments.common.pages import END, begin
from experiments.variant import run, table
from experiments.variant.select import (
    KS,
    LAYERS,
    MUS,
    PAPER,
    REDUCTIONS,
    SEEDS,
    Setting,
    alone,
    chosen,
    precision,
    ranked,
)
from interpnet.explanation import COMBINATIONS


def test_average_precision_by_hand() -> None:
    maps = torch.tensor([[[4.0, 3.0, 2.0, 1.0]], [[1.0, 1.0, 1.0, 1.0]]])
    masks = torch.tensor([[[True, False, False, True]], [[True, False, False, False]]])
    # Ranked first and fourth: (1/1 + 2/4) / 2. All tied: the mask's share.
    assert precision(maps, masks).tolist() == [0.75, 0.25]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30).filter(
        lambda x: any(m for _, m in x)
    )
)
def test_average_precision_is_scikit_learns(pixels: list[tuple[int, bool]]) -> None:
    values = np.array([v for v, _ in pixels], dtype=float)
    mask = np.array([m for _, m in pixels])
    found = precision(torch.from_numpy(values)[None, None], torch.from_numpy(mask)[None, None])
    assert found.item() == pytest.approx(average_precision_score(mask, values))


def test_a_quick_trial_resumes_and_measures_every_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "on_cifar", lambda *_, **__: {"data": "cifar10", "paper": {}, "chosen": {}})
    words = ["--quick", "--work", str(tmp_path / "work"), "--out", str(tmp_path)]
    run.main(words)
    (line,) = json.loads((tmp_path / "selection.json").read_text())
    assert len(line["settings"]) == len(LAYERS) * len(MUS) * len(SEEDS) * len(KS) * len(REDUCTIONS) * len(COMBINATIONS)
    assert all(0 <= row["iou"] <= 1 and 0 < row["precision"] <= 1 for row in line["settings"])
    flowers, _ = json.loads((tmp_path / "confirmation.json").read_text())
    assert set(flowers["chosen"]) == {"iou", "precision", "pointing"}
    (reason,) = json.loads((tmp_path / "reason.json").read_text())
    assert reason["darker"]["images"] + reason["brighter"]["images"] == 6
    for name in ("measured", "on_masks", "on_cifar", "asked"):
        monkeypatch.setattr(run, name, None)  # what is there is not done again
    run.main(words)


def line_of(seed: int, **scores: float) -> dict[str, Any]:
    """Return a line with the paper's setting at 0.2 and others changed in one field."""
    settings = {
        PAPER: 0.2,
        Setting(reduction="abs"): scores["abs"],
        Setting(k=8): scores["k8"],
        Setting(k=8, reduction="abs"): scores["both"],
    }
    return {
        "seed": seed,
        "n_images": 6,
        "seconds": 60.0,
        "accuracy": 1.0,
        "settings": [{**vars(s), "iou": v, "precision": 2 * v} for s, v in settings.items()],
    }


def test_the_choice_is_the_best_mean_and_of_equals_the_simplest() -> None:
    lines = [line_of(0, abs=0.3, k8=0.2, both=0.3), line_of(1, abs=0.4, k8=0.1, both=0.4)]
    assert chosen(lines) == Setting(reduction="abs")
    assert chosen([line_of(0, abs=0.3, k8=0.2, both=0.31)]) == Setting(k=8, reduction="abs")
    assert ranked(lines)[-1][0] == Setting(k=8)
    assert ranked(lines, "precision")[0][1] == pytest.approx(0.7)
    changes = {(f, v): iou for f, v, iou, _ in alone(lines)}
    assert changes["reduction", "abs"] == pytest.approx([0.1, 0.2])
    assert changes["k", 8] == pytest.approx([0.0, -0.1])


def test_tables_and_figure(tmp_path: Path) -> None:
    lines = [line_of(i, abs=0.3 + 0.1 * i, k8=0.2, both=0.25) for i in range(2)]
    flowers = [
        {
            "data": "double-12c",
            "seed": i,
            "commit": "abc",
            "seconds": 6.0,
            "paper": {"iou": 0.2, "precision": 0.5, "pointing": 0.5},
            "chosen": {"iou": 0.3 + 0.1 * i, "precision": 0.6, "pointing": 0.7},
        }
        for i in range(2)
    ]
    two = {name: {"deletion": [0.2, 0.4], "insertion": [0.6, 0.8]} for name in ("paper", "random", "edge", "center")}
    cifar = {
        "data": "cifar10",
        "network": "ResNet-20",
        "n_images": 2,
        "commit": "abc",
        "seconds": 6.0,
        **two,
        "chosen": {"deletion": [0.1, 0.3], "insertion": [0.7, 0.9]},
    }
    (tmp_path / "selection.json").write_text(json.dumps(lines))
    (tmp_path / "confirmation.json").write_text(json.dumps([*flowers, cifar]))
    reasons = [
        {"seed": i, "darker": {"images": 9, "gain": 0.1}, "brighter": {"images": 3, "gain": 0.01 * i}, "spearman": 0.5}
        for i in range(2)
    ]
    (tmp_path / "reason.json").write_text(json.dumps(reasons))
    (tmp_path / "README.md").write_text(f"words\n{begin(table.COMMAND)}\nold\n{END}\n")
    table.write_readme(tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "### Confirmation of: every layer, mu 5, k 3, abs, max" in page
    assert "| reduction | abs | +15.0 (−48.5 to +78.5) |" in page
    assert "| double-12c, 2 small networks | IoU-AUC, % | 20.0 | 35.0 | +15.0 (−48.5 to +78.5) |" in page
    assert "| deletion (lower is better) | 0.300 | 0.200 | −0.100 (−0.100 to −0.100) |" in page
    assert "| petals darker than a ring around them | 9 | +10.0 (+10.0 to +10.0) |" in page
    assert "old" not in page
    assert (tmp_path / "changes.png").stat().st_size > 1000
