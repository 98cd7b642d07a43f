"""What an explanation takes and refuses: how many channels, which classes, starts, traces; pictures' data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from helpers.networks import Step
from torch import Tensor, nn

from interpnet.engine import Channel, ChannelIndex, find_sites
from interpnet.errors import DataError, InterpNetError, LayerError, ModelError
from interpnet.explanation import (
    Unit,
    average_visualization,
    average_visualizations,
    channel_heatmap,
    channel_signal,
    explain,
    normalise,
    reduce_colours,
)
from interpnet.explanation._patches import _best
from interpnet.explanation._signals import backpropagate, check_signals
from interpnet.explanation._starts import OUTPUT, deepest_first, places, seeds_of
from interpnet.interpretation import Interpretation
from interpnet.scores import ScoreTable

INDEX = ChannelIndex((("1", 2),))
FOUND = Interpretation(INDEX, np.array([[2.0, 1.0], [0.0, 3.0]]), ("cat", "dog"))
X = torch.tensor([[[[1.0, 2.0]], [[0.5, 0.0]]], [[[0.0, 1.0]], [[3.0, 3.0]]]])


def network(*more: nn.Module) -> nn.Module:
    """Channel c is colour c, and logit c its sum."""
    model = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.ReLU(), Step(lambda x: x.sum((2, 3))), *more).eval()
    model[0].weight.data = torch.eye(2).view(2, 2, 1, 1)
    return model


@pytest.mark.parametrize(("k", "fits"), [(1, True), (2, True), (3, True), (4, False), (0, False), (2.0, False)])
def test_how_many_channels_may_be_asked_for(k: Any, fits: bool) -> None:
    """Three are the default, also of a network with two channels; more than there are would be rows of zeros."""
    if fits:
        result = explain(network(), X, FOUND, k=k, variant="paper")
        assert result.signals.shape == (2, k, 2, 1, 2)
        assert [len(row) for row in result.channels] == [min(k, 2), 1]
    else:
        with pytest.raises(InterpNetError, match=f"k is {k}; expected a whole number"):
            explain(network(), X, FOUND, k=k, variant="paper")


def test_as_many_channels_as_there_are_may_be_asked_for() -> None:
    wide = Interpretation(ChannelIndex((("1", 5),)), np.ones((2, 5)), ("a", "b"))
    model = nn.Sequential(nn.Conv2d(2, 5, 1), nn.ReLU(), nn.Flatten(), nn.Linear(10, 2)).eval()
    assert explain(model, X, wide, k=5, variant="paper").signals.shape[1] == 5
    with pytest.raises(InterpNetError, match="k is 6; expected a whole number of at most 5"):
        explain(model, X, wide, k=6, variant="paper")


@pytest.mark.parametrize(
    ("classes", "explained"),
    [
        (None, [0, 1]),
        (1, [1, 1]),
        ("cat", [0, 0]),
        ([1, 0], [1, 0]),
        ((0, 1), [0, 1]),
        (torch.tensor([1, 1]), [1, 1]),
        (np.array([0, 0]), [0, 0]),
    ],
)
def test_classes_in_every_form(classes: Any, explained: list[int]) -> None:
    result = explain(network(), X, FOUND, classes=classes, variant="paper")
    assert result.classes.tolist() == explained
    assert result.predictions.tolist() == [0, 1]
    logits = torch.tensor([[3.0, 0.5], [1.0, 6.0]])
    torch.testing.assert_close(result.confidences, logits.softmax(1)[[0, 1], explained])
    for row, c in zip(result.channels, explained, strict=True):
        assert {channel.index for channel in row} <= set(np.flatnonzero(FOUND.coef[c]).tolist())


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([0], "classes has 1 entries for 2 images; expected one per image"),
        ([0, 1, 1], "classes has 3 entries for 2 images"),
        (2, "2"),
        ([0, -1], "-1"),
        ("bird", "bird"),
        (torch.tensor([0.5, 1.0]), "0.5"),
    ],
)
def test_classes_that_are_not_there(classes: Any, message: str) -> None:
    with pytest.raises(InterpNetError, match=message):
        explain(network(), X, FOUND, classes=classes, variant="paper")


def test_an_interpretation_of_another_network_is_refused() -> None:
    with pytest.raises(InterpNetError, match="the model has 3 outputs and the interpretation 2 classes"):
        explain(network(nn.Linear(2, 3)), X, FOUND, variant="paper")


def test_logits_that_are_not_finite_are_refused_by_image() -> None:
    model = network(Step(lambda z: torch.where(z > 5, float("inf"), z)))
    with pytest.raises(DataError, match="image 1 of the batch has NaN or infinite logits"):
        explain(model, X, FOUND, variant="paper")


def test_a_trace_and_an_output_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(Step(lambda z: {"logits": z}))
    read: dict[str, Any] = {"output": lambda out: out["logits"]}
    trace = find_sites(model, X, **read)
    plain = explain(model, X, FOUND, **read, variant="paper")
    signal = channel_signal(model, X, Channel("1", 1), **read).signals
    for room in ("_explain", "_heatmap"):
        monkeypatch.setattr(f"interpnet.explanation.{room}.find_sites", None)
    assert torch.equal(explain(model, X, FOUND, trace=trace, **read, variant="paper").signals, plain.signals)
    assert torch.equal(channel_signal(model, X, Channel("1", 1), trace=trace, **read).signals, signal)
    heatmap = channel_heatmap(model, X, Channel("1", 1), trace=trace, **read)
    assert torch.equal(heatmap, signal[:, 0].abs().sum(1))


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (Channel("1", 2), "channel 2 of layer '1' does not exist; expected 0 to 1"),
        (Channel("1", -1), "channel -1 of layer '1' does not exist"),
        (Unit(2), "output unit 2 does not exist; expected 0 to 1"),
        (Unit(-1), "output unit -1 does not exist"),
        (Channel("7", 0), "unknown layer '7'"),
        (Channel("1", True), "expected a Channel"),
        (Channel(1, 0), "expected a Channel"),  # type: ignore[arg-type]
        (frozenset(), "an empty set of channels came"),
        (frozenset({Channel("1", 0), "1"}), "channels: '1' came; expected a Channel"),
        ([Channel("1", 0)], "1 channels came for 2 images; expected one for all or one per image"),
        ([Channel("1", 0)] * 3, "3 channels came for 2 images"),
    ],
)
def test_starts_that_are_not_there(start: Any, message: str) -> None:
    with pytest.raises(InterpNetError, match=message):
        channel_signal(network(), X, start)


def test_places_of_a_set_have_an_order_of_their_own() -> None:
    both = {Unit(1), Channel("b", 0), Channel("a", 2), Channel("a", 0)}
    assert places(both) == [("a", 0), ("a", 2), ("b", 0), (OUTPUT, 1)]
    assert places(Channel("a", 2)) == [("a", 2)]
    order = {"a": 0, "b": 1}
    picks = [[Channel("a", 0), Unit(0), Channel("b", 1)], [{Channel("a", 1), Unit(1)}, Channel("b", 0)], []]
    assert deepest_first(picks, order) == [[1, 2, 0], [0, 1], []]


def test_seeds_lie_at_their_own_images_and_channels() -> None:
    model = network()
    sites = {site.name: site for site in find_sites(model, X).sites}
    maps = {"1": X.clone(), OUTPUT: X.sum((2, 3))}
    seeds = seeds_of({0: Channel("1", 1), 1: {Channel("1", 0), Unit(1)}}, maps, sites, "activation")
    expected = torch.zeros_like(X)
    expected[0, 1] = X[0, 1]
    expected[1, 0] = X[1, 0]
    assert torch.equal(seeds["1"], expected)
    assert seeds[OUTPUT].tolist() == [[0.0, 0.0], [0.0, 6.0]]


def test_layers_that_were_not_traced_are_named() -> None:
    model = network()
    sites = find_sites(model, X).sites
    with pytest.raises(LayerError, match=r"layers \['7', '8'\] were not traced; expected some of \['0', '1'\]"):
        backpropagate(model, X, sites, [[Channel("8", 0)], [Channel("7", 0), Unit(0)]])


class Cut(nn.Module):
    """Two layers; the graph ends between them where ``ends`` says so."""

    def __init__(self, ends: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 2, 1)
        self.second = nn.Conv2d(2, 2, 1)
        self.ends = ends

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        y = torch.relu(self.second(x.detach() if self.ends else x))
        return (x + y).mean((2, 3))


def test_a_check_of_signals_looks_at_every_layer() -> None:
    for ends in (False, True):
        model = Cut(ends).eval()
        sites = [site for site in find_sites(model, X).sites if site.name in {"relu", "relu:1"}]
        assert len(sites) == 2
        if ends:
            # The last layer's gradient does not reach the images; then also where it is not the last.
            for some in (sites, sites[::-1]):
                with pytest.raises(ModelError, match="layer 'relu:1'"):
                    check_signals(model, X, some)
        else:
            check_signals(model, X, sites)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: normalise(torch.zeros(2, 2), axes=0), "axes is 0; expected a whole number of at least 1"),
        (lambda: normalise(torch.zeros(3), axes=2), r"maps: shape \(3,\) came; expected \(\.\.\., 2 axes"),
        (lambda: reduce_colours(torch.zeros(2, 2), axes=0), "axes is 0"),
        (lambda: reduce_colours(torch.zeros(2, 2)), r"signal: shape \(2, 2\) came; expected colours before 2 spatial"),
        (lambda: reduce_colours(torch.zeros(2, 2, 2), "mean"), "reduction is 'mean'"),
        (
            lambda: channel_heatmap(network(), X, Channel("1", 0), seed="zeros"),
            "seed is 'zeros'; expected 'activation'",
        ),
    ],
)
def test_odd_axes_and_words(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InterpNetError, match=message):
        call()


def table(scores: list[float], indices: list[int] | None = None) -> ScoreTable:
    n = len(scores)
    X_ = np.stack([scores, np.zeros(n)], 1).astype(np.float32)
    numbers = np.arange(n) if indices is None else np.array(indices)
    zero = np.zeros(n, dtype=np.int64)
    return ScoreTable(X_, zero, zero, INDEX, numbers, 2, {"image_shape": [2, 1, 2]})


def test_the_best_images_are_those_with_positive_scores_ties_by_position() -> None:
    made = table([0.5, 2.0, 0.0, 2.0, 0.5, 3.0], [10, 11, 12, 14, 15, 17])
    assert _best(made, Channel("1", 0), 100).tolist() == [17, 11, 14, 10, 15]
    assert _best(made, Channel("1", 0), 2).tolist() == [17, 11]
    assert _best(made, Channel("1", 1), 3).tolist() == []


@pytest.fixture
def bar(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the bar was told."""
    told: list[Any] = []

    @contextmanager
    def shown(*args: Any, **options: Any) -> Iterator[Callable[[int], None]]:
        told.append((args, options))
        yield told.append

    monkeypatch.setattr("interpnet.explanation._patches.progress_bar", shown)
    return told


def test_each_image_runs_once_in_batches_of_the_size_asked_for(bar: list[Any]) -> None:
    model = network()
    data = [(X[i % 2] + i, 0) for i in range(5)]
    made = table([1.0, 2.0, 3.0, 4.0, 5.0])
    sizes: list[int] = []
    find_sites(model, data[0][0][None])
    model.register_forward_pre_hook(lambda _module, given: sizes.append(len(given[0])))
    found = average_visualizations(
        model, data, made, [Channel("1", 0), Channel("1", 1)], batch_size=2, progress=False, device="cpu"
    )
    assert sizes[-3:] == [2, 2, 1]
    assert bar == [
        (("Finding maxima", 5), {"enabled": False}),
        *(2, 2, 1),
        (("Averaging crops", 5), {"enabled": False}),
        *(1, 1, 1, 1, 1),
    ]
    assert found[Channel("1", 0)].indices.tolist() == [4, 3, 2, 1, 0]
    assert found[Channel("1", 1)].count == 0
    average_visualization(model, data, made, Channel("1", 0), top=2)
    assert bar[10:] == [
        (("Finding maxima", 2), {"enabled": True}),
        2,
        (("Averaging crops", 2), {"enabled": True}),
        1,
        1,
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([(X[0].numpy(), 0)] * 3, "image 2 of data is a ndarray; expected a Tensor"),
        ([X[0]] * 2, r"data is a list without an \(image, label\) item 2"),
        ({0: (X[0], 0)}, "data is a dict without an .* item 2"),
        (5, "data is a int without"),
    ],
)
def test_data_sets_that_are_none(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        average_visualization(network(), data, table([1.0, 2.0, 3.0]), Channel("1", 0), progress=False)


def test_averages_with_an_output_of_its_own_and_an_unknown_channel() -> None:
    data = [(X[i % 2], 0) for i in range(3)]
    wrapped = nn.DataParallel(network(Step(lambda z: {"logits": z})))
    made = average_visualization(
        wrapped, data, table([1.0, 2.0, 3.0]), Channel("1", 0), output=lambda out: out["logits"], progress=False
    )
    assert made.count == 3
    for options in ({"top": 0}, {"batch_size": 0}, {"keep": -1}):
        with pytest.raises(InterpNetError, match=f"{next(iter(options))} is"):
            average_visualization(network(), data, table([1.0] * 3), Channel("1", 0), progress=False, **options)
    with pytest.raises(LayerError, match="unknown layer '7'"):
        average_visualization(network(), data, table([1.0] * 3), Channel("7", 0), progress=False)
