"""C1's script: a trial of seconds, resumed; its images; the rules of its claims."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.probes import claims, run
from experiments.probes.images import FLOWERS, cornered


def test_a_quick_trial_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--quick", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "results.json")]
    run.main(words)
    (line,) = json.loads((tmp_path / "results.json").read_text())
    assert line["targets"] == ["class", "colour", "cue", "place"]
    assert np.shape(line["accuracy"]) == (4, len(line["layers"]))
    assert line["n"] == [120] * 4
    np.testing.assert_allclose(line["chance"][:2], [1 / 6, 1 / 3], atol=1e-3)
    monkeypatch.setattr(run, "measured", None)  # what is there is not done again
    run.main(words)


def test_every_second_image_has_a_square_in_one_of_four_corners() -> None:
    images, corner = cornered(torch.ones(80, 3, 32, 32))
    assert np.bincount(corner + 1).tolist() == [40, 10, 10, 10, 10]
    rows, columns = {0: slice(5), 1: slice(27, 32)}, {0: slice(5), 1: slice(27, 32)}
    for image, c in zip(images, corner, strict=True):
        assert float((image == 0).sum()) == (75 if c >= 0 else 0)
        if c >= 0:
            assert bool((image[:, rows[c // 2], columns[c % 2]] == 0).all())


def line_of(network: str, first: float, last: float) -> dict[str, Any]:
    rows = [[first, last]] * 4
    return {
        "network": network,
        "targets": ["class", "colour", "cue", "place"],
        "accuracy": rows,
        "reliance": 0.02,
        "interval": [[[x - 0.05, x + 0.05] for x in row] for row in rows],
    }


def test_the_claims_follow_from_the_intervals() -> None:
    rising = [line_of(name, 0.3, 0.8) for name in ("a", *FLOWERS)]
    level = [line_of(f"{name}, untrained", 0.3, 0.32) for name in ("a", *FLOWERS)]
    found = claims.claims(rising + level)
    assert [one.verdict for one in found] == ["holds", "does not hold", "holds"]
    assert found[0].effects[0][1].mean == pytest.approx(48)
    assert [name for name, _ in found[1].effects] == [
        "colour: a", "cue: a", "place: a", "colour: flowers", "place: flowers", "colour: flowers, cue always",
        "place: flowers, cue always",
    ]  # fmt: skip
    assert "flowers loses 2 points" not in found[2].reason
    falling = [line_of(name, 0.8, 0.3) for name in ("a", *FLOWERS)]
    found = claims.claims(falling + level)
    assert [one.verdict for one in found] == ["does not hold", "holds", "does not hold"]
    assert "flowers loses 2 points where its cue disagrees" in found[2].reason
