"""Channel heatmaps and explanations: the seed, many layers in one backward pass, and what they leave behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.networks import Branches, Spelled
from torch import Tensor, nn

from interpnet.engine import Channel, ChannelIndex, find_sites
from interpnet.errors import InterpNetError, LayerError
from interpnet.explanation import channel_heatmap, channel_signal, explain, normalise, reduce_colours
from interpnet.explanation._heatmap import REDUCTIONS
from interpnet.interpretation import Interpretation, interpret
from interpnet.scores import collect_scores


def test_the_seed_is_the_activation_map_itself() -> None:
    """Under the plain gradient the signal is the gradient of 1/2 ||A_c||^2, by torch's own autograd."""
    model = Branches().double().eval()
    x = torch.randn(3, 2, 16, 16, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    a = F.relu(model.a(leaf))
    b = F.relu(model.b(leaf))
    expected = torch.autograd.grad(0.5 * b[:, 2].square().sum(), leaf)[0]
    got = channel_signal(model, x, Channel("relu:1", 2), rectifier="gradient", resample=False)
    torch.testing.assert_close(got.signals[:, 0], expected)
    assert a.requires_grad


def test_one_backward_pass_serves_channels_in_different_layers() -> None:
    model = Spelled("inplace")
    x = torch.randn(4, 3, 10, 10)
    picks = [[Channel("r1", 0), Channel("r4", 3)], [Channel("r3", 5)], [], [Channel("r2", 1), Channel("r2", 2)]]
    together = channel_signal(model, x, picks).signals
    assert together.shape == (4, 2, 3, 10, 10)
    for i, row in enumerate(picks):
        for j in range(2):
            if j < len(row):
                alone = channel_signal(model, x[i : i + 1], row[j]).signals[0, 0]
                torch.testing.assert_close(together[i, j], alone, rtol=1e-4, atol=2e-5)
            else:
                assert (together[i, j] == 0).all()


class Overwritten(nn.Module):
    """A normalisation whose output an in-place ReLU, and then an in-place sum, overwrite."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.bn = nn.BatchNorm2d(3)
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        torch.relu_(y)
        y += 1.0
        return self.fc(y.mean((2, 3)))


def test_maps_that_are_overwritten_later_are_still_right() -> None:
    model = Overwritten().eval()
    x = torch.randn(2, 1, 6, 6)
    leaf = x.clone().requires_grad_()
    expected = torch.autograd.grad(0.5 * model.bn(model.conv(leaf))[:, 1].square().sum(), leaf)[0]
    got = channel_signal(model, x, Channel("bn", 1), rectifier="gradient", resample=False)
    torch.testing.assert_close(got.signals[:, 0], expected)
    relu = torch.autograd.grad(0.5 * F.relu(model.bn(model.conv(leaf)))[:, 1].square().sum(), leaf)[0]
    # The same network under torch's own autograd raises, because the sum overwrites what the ReLU saved.
    got = channel_signal(model, x, Channel("relu", 1), rectifier="guided", resample=False)
    torch.testing.assert_close(got.signals[:, 0], relu)


def test_explanations_of_maps_that_are_overwritten_later() -> None:
    model = Overwritten().eval()
    x = torch.randn(3, 1, 6, 6)
    found = Interpretation(ChannelIndex((("bn", 3),)), np.ones((2, 3)), ("a", "b"))
    result = explain(model, x, found, k=2, variant="paper")
    for i, row in enumerate(result.channels):
        for j, channel in enumerate(row):
            alone = channel_signal(model, x[i : i + 1], channel).signals[0, 0]
            torch.testing.assert_close(result.signals[i, j], alone, rtol=1e-4, atol=1e-5)


def test_heatmap_of_a_known_detector() -> None:
    """A channel that sees a bright pixel lights up there and nowhere else; a silent image gives a blank map."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(49, 2))
    model[0].weight.data.fill_(2.0)
    x = torch.zeros(2, 1, 7, 7)
    x[0, 0, 2, 5] = 3.0
    maps = channel_heatmap(model, x, Channel("1", 0))
    assert maps[0].nonzero().tolist() == [[2, 5]]
    assert maps[0, 2, 5] == 12.0  # activation 6, times the weight 2
    assert (maps[1] == 0).all()


def test_no_weight_gradient_and_nothing_left_behind() -> None:
    model = Spelled("inplace").train()
    x = torch.randn(2, 3, 8, 8)
    kept = x.clone()
    flags = [(m.training) for m in model.modules()]
    explain(model, x, Interpretation(ChannelIndex((("r2", 8),)), np.ones((4, 8)), tuple("abcd")), variant="paper")
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert flags == [m.training for m in model.modules()]
    assert torch.equal(x, kept)
    assert not x.requires_grad
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_explain_is_one_forward_and_k_backward_passes() -> None:
    model = Spelled("module").eval()
    x = torch.randn(8, 3, 8, 8)
    found = interpret(collect_scores(model, [(x, torch.arange(8) % 4)], progress=False), mu=2.0)
    traced = find_sites(model, x)
    forwards = []
    handle = model.register_forward_hook(lambda *_: forwards.append(1))
    explain(model, x, found, k=3, trace=traced, variant="paper")
    handle.remove()
    assert len(forwards) == 1


def test_explanation_chooses_by_weight_times_score() -> None:
    torch.manual_seed(4)
    model = Spelled("functional").eval()
    x = torch.randn(6, 3, 8, 8)
    table = collect_scores(model, [(x, torch.arange(6) % 4)], progress=False)
    found = interpret(table, classes=list("abcd"), mu=3.0)
    result = explain(model, x, found, k=3, variant="paper")
    with torch.no_grad():
        logits = model(x)
    assert result.predictions.tolist() == result.classes.tolist() == logits.argmax(1).tolist()
    torch.testing.assert_close(result.confidences, logits.softmax(1).amax(1))
    for i in range(6):
        response = found.coef[int(result.classes[i])] * table.X[i]
        order = [int(c) for c in np.argsort(-response, kind="stable")[:3] if response[c] > 0]
        assert result.channels[i] == [table.channels[c] for c in order]
        np.testing.assert_allclose(result.responses[i], response[order], rtol=1e-5)
    torch.testing.assert_close(result.combined, result.heatmaps.amax(1))
    assert float(result.heatmaps.min()) >= 0.0
    assert float(result.heatmaps.max()) <= 1.0
    other = explain(model, x, found, k=3, classes="c", variant="paper")
    assert other.classes.tolist() == [2] * 6
    listed = explain(model, x, found, k=3, classes=[2] * 6, variant="paper")
    torch.testing.assert_close(other.combined, listed.combined)


def test_fewer_positive_responses_than_k() -> None:
    model = Spelled("module").eval()
    coef = np.zeros((4, 8))
    coef[:, 1] = 1.0
    coef[:, 2] = -5.0
    found = Interpretation(ChannelIndex((("r2", 8),)), coef, tuple("abcd"))
    result = explain(model, torch.randn(3, 3, 8, 8), found, k=3, variant="paper")
    assert result.heatmaps.shape == (3, 3, 8, 8)
    assert all(len(row) <= 1 for row in result.channels)
    assert (result.heatmaps[:, 1:] == 0).all()


def test_reductions_and_normalisation_by_hand() -> None:
    signal = torch.tensor([[[1.0, -2.0]], [[3.0, -4.0]], [[-5.0, 0.5]]])
    assert reduce_colours(signal, "positive").tolist() == [[4.0, 0.5]]
    assert reduce_colours(signal, "abs").tolist() == [[9.0, 6.5]]
    assert reduce_colours(signal, "max").tolist() == [[5.0, 4.0]]
    assert normalise(torch.tensor([[-1.0, 1.0, 3.0]])).tolist() == [[0.0, 0.5, 1.0]]
    assert normalise(torch.full((2, 2), 7.0)).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert reduce_colours(-signal, "sum").tolist() == [[1.0, 5.5]]
    assert set(REDUCTIONS) == {"positive", "abs", "max", "sum"}


def test_errors() -> None:
    model = Spelled("module")
    x = torch.randn(2, 3, 8, 8)
    found = Interpretation(ChannelIndex((("r2", 8),)), np.ones((4, 8)), tuple("abcd"))
    cases = [
        (lambda: channel_heatmap(model, x, Channel("r2x", 0)), "unknown layer 'r2x'; did you mean"),
        (lambda: channel_heatmap(model, x, Channel("r2", 8)), "channel 8 of layer 'r2' does not exist"),
        (lambda: channel_heatmap(model, x, [Channel("r2", 0)]), "1 channels came for 2 images"),
        (
            lambda: channel_heatmap(model, x, Channel("r2", 0), reduction="mean"),
            "reduction is 'mean'; expected 'abs' or 'positive' or 'max' or 'sum'",
        ),
        (lambda: explain(model, x, found, k=0, variant="paper"), "k is 0; expected a whole number of at least 1"),
        (lambda: explain(model, x, found, classes="z", variant="paper"), "unknown class 'z'"),
        (lambda: explain(model, x, found, classes=4, variant="paper"), "class 4 does not exist; expected 0 to 3"),
        (lambda: explain(model, x, found, classes=[1], variant="paper"), "1 entries for 2 images"),
        (
            lambda: explain(
                model, x, Interpretation(ChannelIndex((("r2", 7),)), np.ones((4, 7)), tuple("abcd")), variant="paper"
            ),
            "8 channels in this model and 7 in the interpretation",
        ),
        (
            lambda: explain(
                model, x, Interpretation(ChannelIndex((("r2", 8),)), np.ones((3, 8)), tuple("abc")), variant="paper"
            ),
            "4 outputs and the interpretation 3 classes",
        ),
    ]
    for call, message in cases:
        with pytest.raises((InterpNetError, LayerError), match=message):
            call()
        assert not any(m._forward_hooks for m in model.modules())


def test_relevance_save_load(tmp_path: object) -> None:
    found = Interpretation(
        ChannelIndex((("a", 2), ("b", 1))), np.array([[0.0, 1.0, -2.0]]), ("<b>",), 5.0, True, np.array([1e-9])
    )
    path = f"{tmp_path}/i.npz"
    found.save(path)
    again = Interpretation.load(path)
    np.testing.assert_array_equal(again.coef, found.coef)
    assert (again.classes, again.mu, again.positive, again.channels) == (("<b>",), 5.0, True, found.channels)
    np.testing.assert_allclose(found.layer_relevance(), [[1 / 3, 2 / 3]])
    assert found.relevant(0, "positive") == [(Channel("a", 1), 1.0)]
