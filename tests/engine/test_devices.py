"""The whole library on each device: what runs on the CPU runs on CUDA and gives the same numbers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.networks import Branches, Spelled
from torch import nn

from experiments.attribution_table.networks import Strided
from interpnet.ablation import ablate, ablation_study
from interpnet.attribution import attribute, methods
from interpnet.engine import Channel
from interpnet.engine._device import full_precision
from interpnet.explanation import average_visualizations, explain
from interpnet.interpretation import interpret
from interpnet.scores import collect_scores

X = torch.randn(24, 3, 12, 12, generator=torch.Generator().manual_seed(8))
Y = torch.arange(24) % 4
BATCHES = [(X[:10], Y[:10]), (X[10:], Y[10:])]


def test_scores_run_where_asked_and_leave_the_model_where_it_was(device: str) -> None:
    model = Spelled("inplace")
    expected = collect_scores(model, BATCHES, device="cpu", progress=False)
    table = collect_scores(model, BATCHES, device=device, progress=False)
    np.testing.assert_allclose(table.X, expected.X, rtol=1e-4, atol=1e-6)
    assert next(model.parameters()).device.type == "cpu"


def test_explanations_follow_the_model(device: str) -> None:
    found = interpret(collect_scores(Spelled("inplace"), BATCHES, progress=False), mu=3.0)
    expected = explain(Spelled("inplace"), X, found, variant="paper")
    result = explain(Spelled("inplace").to(device), X, found, variant="paper")
    assert result.signals.device.type == device
    assert result.channels == expected.channels
    torch.testing.assert_close(result.signals.cpu(), expected.signals, rtol=1e-3, atol=1e-4)


def test_ablation_studies_agree(device: str) -> None:
    model = Spelled("reused")
    table = collect_scores(model, BATCHES, progress=False)
    found = interpret(table, mu=3.0)
    for fill in ("zero", "mean"):
        options = {"table": table, "repeats": 2, "fill": fill, "progress": False}
        expected = ablation_study(model, BATCHES, found, device="cpu", **options)
        got = ablation_study(model, BATCHES, found, device=device, **options)
        for ours, theirs in zip(got.conditions, expected.conditions, strict=True):
            np.testing.assert_array_equal(ours.own, theirs.own)
            np.testing.assert_array_equal(ours.others, theirs.others)
            for measure, changes in theirs.changes.items():
                mine = ours.changes[measure].own.mean
                np.testing.assert_allclose(mine, changes.own.mean, rtol=1e-3, atol=1e-4)


def test_ablating_by_hand(device: str) -> None:
    model = Spelled("functional").to(device).eval()
    lists = [[Channel("relu:1", i % 8), Channel("relu:3", 2)] for i in range(24)]
    with torch.no_grad(), ablate(model, lists):
        got = model(X.to(device)).cpu()
    with torch.no_grad(), ablate(model.cpu(), lists):
        torch.testing.assert_close(got, model(X), rtol=1e-4, atol=1e-5)


def test_average_visualizations_agree(device: str) -> None:
    model = Spelled("module")
    table = collect_scores(model, BATCHES, progress=False)
    data = [(x, int(y)) for x, y in zip(X, Y, strict=True)]
    channel = Channel("r1", int(table.X[:, :6].sum(0).argmax()))
    expected = average_visualizations(model, data, table, [channel], top=5, progress=False)[channel]
    got = average_visualizations(model.to(device), data, table, [channel], top=5, progress=False)[channel]
    np.testing.assert_allclose(got.mean, expected.mean, rtol=1e-6)


@pytest.mark.parametrize("method", [m.name for m in methods()])
@pytest.mark.parametrize(
    "build", [lambda: Spelled("method"), Branches, Strided], ids=["spelled", "branches", "strided"]
)
def test_baselines_follow_the_model(device: str, method: str, build: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = build().eval()
    if method == "cam" and not isinstance(model, Strided):
        return  # it needs a global average and one linear layer
    images = X[:4] if isinstance(model, Spelled) else torch.randn(4, 2 if isinstance(model, Branches) else 3, 16, 16)
    expected = attribute(model, images, 1, method)
    got = attribute(model.to(device), images, 1, method)
    assert got.device.type == device
    torch.testing.assert_close(got.cpu(), expected, rtol=1e-3, atol=1e-4)


def test_convolutions_on_cuda_run_in_float32_as_it_is_written_and_the_setting_comes_back():
    cudnn = torch.backends.cudnn
    assert cudnn.allow_tf32
    with full_precision(torch.device("cuda")):
        assert not cudnn.allow_tf32
    assert cudnn.allow_tf32
    with pytest.raises(RuntimeError, match="stop"), full_precision(torch.device("cuda")):
        raise RuntimeError("stop")
    assert cudnn.allow_tf32
    with full_precision(torch.device("cpu")):
        assert cudnn.allow_tf32


def test_where_each_kind_of_operator_has_a_setting_the_convolutions_own_is_changed(monkeypatch):
    class Separate:
        conv = SimpleNamespace(fp32_precision="tf32")

        @property
        def allow_tf32(self) -> bool:
            raise RuntimeError("a mix of the legacy and new APIs")

    monkeypatch.setattr(torch.backends, "cudnn", Separate())
    with full_precision(torch.device("cuda")):
        assert Separate.conv.fp32_precision == "ieee"
    assert Separate.conv.fp32_precision == "tf32"
