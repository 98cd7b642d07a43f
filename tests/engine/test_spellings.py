"""One network written five ways gives one set of scores, ablations and heatmaps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.networks import SPELLINGS, Spelled

from interpnet.engine import Channel, find_sites
from interpnet.explanation import channel_signal
from interpnet.interpretation import interpret
from interpnet.scores import collect_scores

X = torch.randn(6, 3, 12, 10, generator=torch.Generator().manual_seed(3))
Y = torch.tensor([0, 1, 2, 3, 0, 1])


def default_names(model: torch.nn.Module) -> list[str]:
    return [s.name for s in find_sites(model, X).select("default")]


@pytest.fixture(scope="module")
def reference() -> Spelled:
    return Spelled("module")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_scores_are_identical(reference: Spelled, spelling: str) -> None:
    a = collect_scores(reference, [(X, Y)], progress=False)
    b = collect_scores(Spelled(spelling), [(X, Y)], progress=False)
    assert [n for _, n in a.channels.sizes] == [n for _, n in b.channels.sizes] == [6, 8, 8, 10]
    np.testing.assert_array_equal(a.X, b.X)
    np.testing.assert_array_equal(a.predictions, b.predictions)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_ablations_are_identical(reference: Spelled, spelling: str) -> None:
    from interpnet.ablation import ablate

    model = Spelled(spelling).eval()
    results = []
    for net in (reference.eval(), model):
        names = default_names(net)
        lists = [[Channel(names[i % 4], 1), Channel(names[1], i)] for i in range(len(X))]
        with torch.no_grad(), ablate(net, lists):
            results.append(net(X))
    assert not torch.equal(results[0], reference(X))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


@pytest.mark.parametrize("resample", [True, False])
@pytest.mark.parametrize("rectifier", ["gradient", "deconvnet", "guided"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_signals_are_identical(reference: Spelled, spelling: str, rectifier: str, resample: bool) -> None:
    model = Spelled(spelling)
    signals = []
    for net in (reference, model):
        names = default_names(net)
        picks = [[Channel(names[i % 4], 2), Channel(names[3], i)] for i in range(len(X))]
        result = channel_signal(net, X, picks, rectifier=rectifier, resample=resample)
        assert (result.report.seen, result.report.overridden) == (4, 4)
        signals.append(result.signals)
    assert signals[0].abs().sum() > 0
    torch.testing.assert_close(signals[0], signals[1], rtol=1e-6, atol=1e-7)


def test_interpretations_are_identical(reference: Spelled) -> None:
    from interpnet.explanation import explain

    expected = None
    for spelling in SPELLINGS:
        model = Spelled(spelling)
        found = interpret(collect_scores(model, [(X, Y)], progress=False), mu=2.0)
        result = explain(model, X, found, k=2, variant="paper")
        assert result.rectifiers_seen == result.rectifiers_overridden == 4
        if expected is None:
            expected = result.combined
        torch.testing.assert_close(result.combined, expected, rtol=1e-5, atol=1e-6)
