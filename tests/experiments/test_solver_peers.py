"""The peers of the solver's benchmark solve the same problem, and what solves nothing is seen."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.benchmarks import solver_peers
from experiments.benchmarks.solver_peers import PEERS, certificate, ours
from experiments.benchmarks.solver_problems import Problem
from interpnet.gram import Gram

NEEDS = {"SPAMS, Gram": "spams", "SPAMS, X": "spams", "scm2cpp-learn, told": "scm2cpp_learn", "SPGL1": "spgl1"}


@pytest.fixture(scope="module")
def problem() -> Problem:
    """Return a problem of 40 images, 3 classes and 8 channels, of which one is always zero."""
    rng = np.random.default_rng(0)
    X = rng.uniform(0.1, 1.0, (40, 8))
    X[:, 5] = 0.0
    labels = np.arange(40) % 3
    return Problem("small", Gram.from_scores(X, labels), X, labels)


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("name", ["ours", *PEERS])
def test_every_peer_is_certified(name: str, positive: bool, problem: Problem) -> None:
    if positive and name in {"SPGL1", "scm2cpp-learn, told"}:
        pytest.skip("has no sign rule")
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    peer = ({"ours": ours} | PEERS)[name](problem, 1)
    assert peer is not None
    for mu in (0.1, 0.4):
        objective, gap = certificate(problem.gram, peer(mu, positive), mu, positive=positive)
        assert gap <= 1e-6
        # No weights at all are far from it.
        zero, far = certificate(problem.gram, np.zeros((3, 8)), mu, positive=positive)
        assert (objective < zero, far > 1e-3) == (True, True)


def test_weights_that_are_no_numbers_are_off(problem: Problem) -> None:
    # CovLasso gives such for a column without scores.
    coef = np.zeros((3, 8))
    coef[1, 5] = np.nan
    assert certificate(problem.gram, coef, 0.4, positive=False)[1] == np.inf


def test_a_peer_without_time_left_is_off(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver_peers, "_SECONDS", -1.0)
    coef = PEERS["sklearn Gram CD, told"](problem, 1)(0.4, False)
    assert (coef == 0).all()
    assert certificate(problem.gram, coef, 0.4, positive=False)[1] > 1e-3
