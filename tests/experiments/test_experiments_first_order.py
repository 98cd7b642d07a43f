"""R1's script: a trial of seconds, resumed; agreement against hand-computed values; the rules of its claims."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.common.pages import END, begin
from experiments.first_order import claims, run, table


def test_a_quick_trial_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--quick", "--device", "cpu", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "results.json")]
    run.main(words)
    (line,) = json.loads((tmp_path / "results.json").read_text())
    assert line["removed"] == run.TRIAL[1]
    assert sum(part["channels"] for part in line["thirds"]) == sum(one["channels"] for one in line["layers"]) == 30
    assert line["all"]["rank"] > 0.5
    # The last layer's maps reach the logits through a mean and a linear map: what is left is the logsumexp's curvature.
    assert line["thirds"][2]["slope"] == pytest.approx(1, abs=0.1)
    monkeypatch.setattr(run, "measured", None)  # what is there is not done again
    run.main(words)


def test_agreement_is_within_classes() -> None:
    x = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    y = np.array([[10.0, 20.0, 30.0], [1.0, 2.0, 3.0]])
    every = np.ones(3, dtype=bool)
    assert run.agreement(x, y, every) == {"channels": 3, "rank": 0.0, "slope": round(150 / 28, 4)}
    assert run.agreement(x, y, np.array([True, True, False]))["rank"] is None
    assert run.agreement(np.zeros((1, 3)), y[:1], every)["slope"] is None


def line_of(network: str, ranks: list[float], slopes: list[float]) -> dict[str, Any]:
    thirds = [{"channels": 9, "rank": r, "slope": s} for r, s in zip(ranks, slopes, strict=True)]
    return {
        "network": network,
        "seed": 1,
        "device": "cpu",
        "channels": 27,
        "removed": 27,
        "images": 10,
        "classes": 2,
        "seconds": 60.0,
        "commit": "abc",
        "all": {"channels": 27, "rank": 0.8, "slope": 0.9},
        "thirds": thirds,
        "layers": [{"layer": "relu", **thirds[0]}, {"layer": "last", "channels": 1, "rank": None, "slope": None}],
        "points": [[0.1, 0.2, 0], [0.3, 0.1, 1], [-0.2, 0.0, 2]],
    }


LINES = [line_of("mnist", [0.9, 0.8, 0.7], [1.0, 1.1, 0.5]), line_of("cifar10", [0.4, 0.8, 0.9], [1.0, 1.0, 1.0])]


def test_claims_need_every_third() -> None:
    order, size = claims.claims(LINES)
    assert (order.verdict, order.short) == ("holds in part", "1 of 2 networks")
    assert "a third of cifar10" in order.reason
    assert (size.verdict, size.short) == ("holds in part", "1 of 2 networks")
    assert claims.in_order(LINES[:1]).verdict == "holds"
    assert claims.in_size(LINES[:1]).verdict == "does not hold"


def test_the_page_has_a_row_for_every_network_and_layer(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"words\n{begin(table.PAGE.command)}\nold\n{END}\nmore\n")
    table.PAGE.write(page, LINES)
    text = page.read_text()
    assert "| MNIST | 0.80, 0.90 | 0.90, 1.00 | 0.80, 1.10 | 0.70, 0.50 |" in text
    assert "| last | 1 | – |" in text
    assert (tmp_path / "effects.png").stat().st_size > 1000
