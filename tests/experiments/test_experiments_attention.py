"""A1's script: a trial of seconds, resumed; the rules of its claims."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.attention import claims, run
from experiments.attention.table import WAYS, text, way

FEW = {name: WAYS[name] for name in ("random", way("attnlrp", 0.25))}


def test_a_quick_trial_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--quick", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "results.json")]
    monkeypatch.setattr(run, "WAYS", FEW)
    run.main(words)
    (line,) = json.loads((tmp_path / "results.json").read_text())
    assert set(line["ways"]) == set(FEW)
    assert all(len(one["gain"]) == 3 for one in line["ways"].values())
    assert line["ways"][way("attnlrp", 0.25)]["residual"] >= 0
    monkeypatch.setattr(run, "measured", None)  # what is there is not done again
    run.main(words)


def line_of(seed: int, **gains: float) -> dict[str, Any]:
    wiggle = np.array([-0.01, 0.0, 0.01])
    ways = {name: {"gain": [0.1, 0.1, 0.1], "inside": 0.5} for name in WAYS}
    names = {"ours": way("attnlrp", method="lrp_0"), "cp": way("cp", method="lrp_0"), "gamma": way("attnlrp", 0.25)}
    for name, gain in gains.items():
        ways[names[name]]["gain"] = (gain + wiggle * (name == "ours")).tolist()
    return {"seed": seed, "ways": ways, "accuracy": 0.9, "images": 3, "seconds": 60.0, "commit": "abc"}


def test_the_claims_follow_from_the_images() -> None:
    lines = [line_of(0, ours=0.3, gamma=0.2), line_of(1, ours=0.5, cp=0.5, gamma=0.2)]
    found = claims.claims(lines)
    assert [one.verdict for one in found] == ["holds", "does not hold", "holds"]
    assert [round(effect.mean) for _, effect in found[0].effects] == [40, 40]
    assert "AttnLRP with lrp_0, chosen on another network" in found[0].claim
    assert "Gamma (0.25, chosen on another network)" in found[2].claim
    assert "+0.50 (+0.48 to +0.52)" in text(lines)
