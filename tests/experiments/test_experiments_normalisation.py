"""Q2's script: a trial of seconds, resumed; solutions of a given size, fit and the explanation's channels by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from experiments.common import paths
from experiments.common.claims import Tally
from experiments.common.pages import END, begin
from experiments.common.subjects import Subject
from experiments.normalisation import claims, measures, run, scales, table
from interpnet.engine import ChannelIndex
from interpnet.gram import Gram
from interpnet.mulasso import MuLasso


def test_a_quick_trial_resumes_and_measures_every_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "FOLDS", 2)
    monkeypatch.setattr(paths, "RADII", 60)
    words = ["--quick", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "results.json")]
    run.main(words)
    (line,) = json.loads((tmp_path / "results.json").read_text())
    for row in line["scales"].values():
        assert row["gap"] < 1e-6
        assert all(0 < row["channels"][str(k)] <= k for k in scales.COUNTS)
        assert all(sum(shares) == pytest.approx(1, abs=1e-3) for shares in row["layers"].values())
        assert len(row["removal"]["own"]) == 1 + len(scales.COUNTS)
        assert 0 < row["overlap"]["3"]["iou"] < 1
    for row in line["late"].values():
        assert table.thirds(row["layers"]["5"])[:2] == [0, 0]
    for name in ("measured", "under"):
        monkeypatch.setattr(run, name, None)  # what is there is not done again
    run.main(words)


def subject() -> Subject:
    conv = nn.Conv2d(1, 2, 1, bias=False)
    conv.weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    model = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)).eval()
    images = torch.tensor([[[[3.0, 4.0]]], [[[-6.0, 8.0]]]])
    labels = np.array([0, 1])
    return Subject("hand", 0, model, ("a", "b"), images, labels, images, labels, 1.0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none", [[5, 0], [8, 6]]),
        ("size", [[12.5**0.5, 0], [32**0.5, 18**0.5]]),
        ("layer L1", [[1, 0], [4 / 7, 3 / 7]]),
    ],
)
def test_scores_of_each_scale_by_hand(name: str, expected: list[list[float]]) -> None:
    found = scales.scores(subject(), name)
    np.testing.assert_allclose(found.train, expected, rtol=1e-6)
    np.testing.assert_allclose(found.test, expected, rtol=1e-6)
    assert [a.tolist() for a in found.scaled()] == [[0, 0], [1, 1]]


def test_standardised_columns_have_mean_0_and_spread_1_and_constant_ones_vanish() -> None:
    X = np.column_stack([np.arange(6.0), np.full(6, 3.0)])
    shift, scale = scales.Scores(X, X, ChannelIndex((("a", 2),)), "standardise").scaled()
    Z = (X - shift) / scale
    np.testing.assert_allclose([Z[:, 0].mean(), Z[:, 0].std()], [0, 1], atol=1e-12)
    assert (Z[:, 1] == 0).all()
    shift, scale = scales.Scores(X, X, ChannelIndex((("a", 2),)), "centre").scaled(np.array([0, 1]))
    assert (shift.tolist(), scale.tolist()) == ([0.5, 3.0], [1.0, 1.0])


def test_a_solution_with_k_channels_is_the_mulasso_at_its_own_radius() -> None:
    rng = np.random.default_rng(1)
    X = rng.random((60, 30))
    target = np.eye(3)[np.arange(60) % 3]
    X[:, :3] += target
    found, gap = scales.solutions(X, target)
    assert gap < 1e-9
    gram = Gram.from_scores(X, target)
    for k, w in found.items():
        assert (np.count_nonzero(w, axis=1) > 0).all()
        assert (np.count_nonzero(w, axis=1) <= k).all()
        again = MuLasso(mu=np.abs(w).sum(1), tol=1e-9).fit_gram(gram).coef_
        np.testing.assert_allclose(again, w, atol=1e-6)
    assert np.count_nonzero(found[1], axis=1).tolist() == [1, 1, 1]
    assert np.abs(found[1]).argmax(1).tolist() == [0, 1, 2]


def test_gaps_are_the_certificate() -> None:
    """G = 1, B = 1, yy = 2 at w = 1/2, mu = 1: g = -1/2, gap = -1/4 + 1/2 of an objective of 1 at 0."""
    gram = Gram(np.eye(1), np.ones((1, 1)), np.array([2.0]), 2)
    assert scales.relative_gaps(gram, np.array([[0.5]]), np.array([1.0])).tolist() == [0.25]


def test_refit_is_least_squares_on_the_chosen_columns_with_an_intercept() -> None:
    rng = np.random.default_rng(0)
    X = rng.random((40, 4))
    target = np.column_stack([2 * X[:, 1] + 0.5, rng.random(40)])
    w = np.array([[0.0, 0.1, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    predicted = measures.refitted(X[:30], target[:30], X[30:], w)
    np.testing.assert_allclose(predicted[:, 0], target[30:, 0])
    np.testing.assert_allclose(predicted[:, 1], target[:30, 1].mean())


def test_cross_validation_sees_only_images_that_did_not_choose() -> None:
    """Labels without any signal: on held-out images no fit is better than the mean."""
    rng = np.random.default_rng(0)
    X = rng.random((60, 50))
    labels = rng.permutation(np.arange(60) % 3)
    found = scales.Scores(X, X, ChannelIndex((("a", 50),)))
    quality = measures.cross_validated(found, labels, np.eye(3)[labels])
    assert quality["10"]["r2_refit"] < 0
    assert quality["10"]["accuracy_refit"] < 0.6


def line_of(seed: int, own: dict[str, float]) -> dict[str, Any]:
    fitted = {str(k): {f"{a}_{b}": 0.5 for a in ("r2", "accuracy") for b in ("lasso", "refit")} for k in scales.COUNTS}
    scale = {
        name: {
            "gap": 1e-12,
            "fit": fitted,
            "layers": {str(k): [0.0, 0.25, 0.75] for k in scales.COUNTS},
            "removal": {"own": [1.0] + [value] * len(scales.COUNTS), "others": [1.0] * (1 + len(scales.COUNTS))},
        }
        for name, value in own.items()
    }
    return {"network": "mnist", "seed": seed, "scales": scale, "late": scale, "seconds": 60.0, "commit": "abc"}


def test_tables_and_claims_by_rule(tmp_path: Path) -> None:
    base = {"layer L1": 0.4, "size": 0.4, "standardised": 0.4, "layer L1, standardised": 0.4, "layer L1, centred": 0.4}
    lines = [line_of(i, {**base, "none": worse}) for i, worse in enumerate((0.1, 0.2, 0.1))]
    assert claims.tallied(lines, "own recall") == Tally(0, 4, ("none (mnist)",))
    assert claims.tallied(lines, "R², refitted") == Tally(0, 5, ())
    assert claims.tallied(lines, "IoU-AUC, 3 per class") == Tally(0, 0, ())  # no masks
    found = {c.figure.split(":")[0]: c.verdict for c in claims.claims(lines)}
    assert found["own recall"] == "does not hold"
    page = tmp_path / "README.md"
    page.write_text(f"{begin(table.PAGE.command)}\n{END}\n")
    table.PAGE.write(page, lines)
    text = page.read_text()
    # log2(1 + k) from 0 to log2(11): a fall over the first unit, then flat; 0.3, 0.2, 0.3 of it apart.
    assert table.gain(lines, "none", "own recall")[0] == pytest.approx(100 * (0.8 / 3) * (1 - 0.5 / np.log2(11)))
    assert "IoU-AUC" not in text
    assert "| layer L1 | 0 / 25 / 75 |" in text
    assert "**+" in text
    assert (tmp_path / "fit.png").stat().st_size > 1000
