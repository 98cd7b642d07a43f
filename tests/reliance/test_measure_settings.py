"""What the measurement of reliance hands on: every setting, to every part, and the limits of each argument."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.weighing import Weighing, ones
from torch import Tensor, nn

from interpnet.engine import ChannelIndex
from interpnet.errors import DataError, InterpNetError
from interpnet.reliance import Contributions, Reliance, clear_order, collect_contributions, measure_reliance
from interpnet.reliance import _measure as module
from interpnet.reliance._chosen import ChosenImages

GAINS = [[4.0, 3.0], [0.0, 0.0]]


class Pair(nn.Module):
    """Two layers of channels and a network that returns its logits second."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.ReLU()
        self.two = nn.ReLU()
        self.weigh = nn.Linear(2, 2, bias=False)
        self.weigh.weight.data = torch.tensor(GAINS)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = self.one(x)
        return first, self.weigh(self.two(first + 1).flatten(1))


def second(out: Any) -> Tensor:
    return out[1]


def test_every_setting_reaches_the_thinned_contributions_and_every_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Pair()
    images = torch.ones(4, 2, 1, 1)
    batches = [{"pixels": images, "kind": torch.tensor([0, 1, 0, 1])}]
    keys: dict[str, Any] = {"inputs": "pixels", "labels": "kind"}
    found = collect_contributions(
        net, batches, layers=["two"], output=second, classes=["cat", "dog"], fill=[0.5, 0.25], progress=False, **keys
    )
    asked: dict[str, Any] = {}
    placings: list[tuple[Any, ...]] = []
    shown: list[Any] = []

    def collect(model: nn.Module, loader: Any, **given: Any) -> Contributions:
        asked.update(given)
        assert model is net
        assert [labels.tolist() for _, labels, *_ in loader] == [[0, 1, 0, 1]]
        return collect_contributions(model, loader, **(given | {"progress": False}))

    def put_down(*given: Any) -> Any:
        placings.append(given[1:])
        return placed(*given)

    def bar(title: str, total: Any, *, enabled: bool) -> Any:
        shown.append((title, total, enabled))
        return progress_bar(title, total, enabled=False)

    placed = module.placed
    progress_bar = module.progress_bar
    monkeypatch.setattr(module, "collect_contributions", collect)
    monkeypatch.setattr(module, "placed", put_down)
    monkeypatch.setattr(module, "progress_bar", bar)
    got = measure_reliance(
        net, batches, found, price=2.0, share=0.7, worth=0.9, thinned=(0.0, 0.5), output=second, device="cpu",
        memory_format="contiguous", progress=True, **keys,
    )  # fmt: skip
    reference = asked.pop("fill")
    np.testing.assert_array_equal(reference, [0.5, 0.25])
    assert asked == {
        "layers": ["two"],
        "images": None,
        "outputs": "exclusive",
        "classes": ("cat", "dog"),
        "thinned": (0.0, 0.5),
        "device": torch.device("cpu"),
        "output": second,
        "memory_format": "contiguous",
        "progress": True,
    }
    assert placings == [(torch.device("cpu"), "contiguous")]
    assert shown == [("Measuring reliance", None, True)]
    assert (got.fill, got.price, got.share, got.worth) == ("given", 2.0, 0.7, 0.9)
    # The maps are 2, less the references; logits 8 + 6, and 0 for the other.
    assert got.intact.tolist() == [14.0, -14.0]
    assert got.contributions.classes == ("cat", "dog")
    assert got.columns("cat").tolist() == got.columns(0).tolist()


def test_defaults_are_those_of_the_method() -> None:
    net = Weighing([[8.0, *[0.1] * 69], [0.0] * 70])
    batches = ones(6, 70, 1)
    found = collect_contributions(net, batches, layers="relu", progress=False)
    got = measure_reliance(net, batches, found, progress=False)
    assert (got.price, got.share, got.worth) == (4.0, 0.5, 0.1)
    assert got.contributions.info["thinned"] == [0.0, 0.05, 0.1, 0.2, 0.3]
    assert len(measure_reliance(net, batches, found, thinned=(), progress=False).order[0]) == 64
    # A hundred images of a class: the images after that would change its log-odds.
    many = torch.ones(101, 1, 1, 1)
    many[100] = 1e4
    net = Weighing([[1.0], [0.0]])
    batches = [(many, torch.zeros(101, dtype=torch.long))]
    found = collect_contributions(net, batches, layers="relu", progress=False)
    assert measure_reliance(net, batches, found, thinned=(), progress=False).intact[0] == pytest.approx(1.0)


LIMITS: dict[str, tuple[list[Any], list[Any]]] = {
    "price": ([0.0, 9.0], [-0.1, float("nan"), "a"]),
    "share": ([0.01, 1.0], [0.009, 1.01]),
    "worth": ([0.0, 1.0], [-0.01, 1.01]),
    "most": ([1, 2], [0, 1.5]),
    "images": ([1, None], [0, -1]),
    "progress": ([False], [2, "no"]),
}


@pytest.mark.parametrize("name", LIMITS)
def test_arguments_have_limits(name: str) -> None:
    net = Weighing(GAINS)
    found = collect_contributions(net, ones(4, 2), layers="relu", progress=False)
    good, bad = LIMITS[name]
    for value in good:
        options = {"thinned": (), "progress": False, name: value}
        assert measure_reliance(net, ones(4, 2), found, **options).sizes.shape == (2,)
    for value in bad:
        with pytest.raises(InterpNetError, match=name):
            measure_reliance(net, ones(4, 2), found, **({"progress": False} | {name: value}))


def test_more_than_five_hundred_images_are_all_averaged() -> None:
    images = torch.ones(600, 1, 1, 1)
    images[500:] = 3.0
    batches = [(images, torch.zeros(600, dtype=torch.long))]
    net = Weighing([[1.0], [0.0]])
    found = collect_contributions(net, batches, layers="relu", progress=False)
    assert found.mean[0, 0] == pytest.approx(1.0)
    got = measure_reliance(net, batches, found, images=None, thinned=(), progress=False)
    assert got.contributions.mean[0, 0] == pytest.approx(800 / 600)


class Fragile(nn.Module):
    """NaN where its second channel is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        maps = self.relu(x).flatten(1)
        return torch.stack([0 * maps[:, 0], maps[:, 1] + 0 * maps[:, 1] / maps[:, 1]], 1)


def test_logits_that_a_removal_breaks_name_the_image_and_the_batch() -> None:
    net = Fragile()
    images = torch.ones(3, 2, 1, 1)
    batches = [(images[:2], torch.tensor([0, 0])), (images, torch.tensor([0, 1, 1]))]
    found = collect_contributions(net, batches, layers="relu", progress=False)
    match = r"image 3 \(in batch 1 of the pass, both counted from 0\) has NaN or infinite logits with channels removed"
    with pytest.raises(DataError, match=match):
        measure_reliance(net, batches, found, thinned=(), progress=False)


def test_thinned_passes_that_break_say_that_channels_were_removed() -> None:
    net = Fragile()
    batches = [(torch.ones(6, 2, 1, 1), torch.zeros(6, dtype=torch.long))]
    with pytest.raises(DataError, match="NaN or infinite logits with channels removed"):
        collect_contributions(net, batches, layers="relu", thinned=(0.5,), progress=False)


def test_each_image_comes_once_for_every_class_it_has_and_again_on_every_turn() -> None:
    images = torch.arange(3.0).view(3, 1)
    targets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.6, 0.5, 0.4]])
    chosen = ChosenImages(
        [(images[:2], targets[:2]), (images[2:], targets[2:])], 3, None, None, inputs=None, labels=None
    )
    for _ in range(2):
        got = [(x.flatten().tolist(), c.tolist()) for x, c in chosen]
        assert got == [([0.0, 0.0], [0, 2]), ([2.0], [0])]
    one = ChosenImages([(images, torch.tensor([1, 1, 0]))], 3, 1, None, inputs=None, labels=None)
    for _ in range(2):
        assert [(x.flatten().tolist(), c.tolist()) for x, c in one] == [([0.0, 2.0], [1, 0])]
    none = ChosenImages([(images[:1], torch.tensor([1]))] * 2, 3, 1, None, inputs=None, labels=None)
    assert len(list(none)) == 1


def test_wrong_labels_are_named_by_their_place_in_the_data() -> None:
    images = torch.zeros(2, 1)
    batches = [(images, torch.tensor([0, 1])), (images, torch.tensor([1, 7]))]
    chosen = ChosenImages(batches, 3, None, None, inputs=None, labels=None)
    with pytest.raises(DataError, match="image 3"):
        list(chosen)


def test_only_clear_values_are_ordered() -> None:
    values = np.array([1.0, 3.0, 3.0, 0.0, -1.0, 2.0, np.nan, 0.5])
    stderr = np.array([0.5, 0.1, 0.1, 0.0, 0.1, 1.01, 0.1, np.nan])
    assert clear_order(values, stderr, 9).tolist() == [1, 2, 0]
    assert clear_order(values, stderr, 2).tolist() == [1, 2]


def test_values_and_errors_are_those_against_the_mean_of_the_others() -> None:
    channels = ChannelIndex((("a", 2),))
    mean = np.array([[4.0, 1.0], [1.0, -3.0], [3.0, 2.0]])
    moments = np.stack([2 * mean, 2 * (mean**2 + 0.25)])
    found = Contributions(channels, ("x", "y", "z"), np.array([2, 2, 2]), np.zeros(3), moments, np.zeros(2))
    nothing = np.zeros(3)
    got = Reliance(
        found, "zero", 4.0, 0.5, 0.1, (np.array([1, 0]),) * 3, np.array([1, 2, 0]), np.array([1, 2, 0]),
        ("share",) * 3, nothing, nothing,
    )  # fmt: skip
    np.testing.assert_allclose(got.values[0], [4 - 4 * 2.0, 1 - 4 * 1.0])
    # Both of the others count for the first channel, for the second only the third class.
    np.testing.assert_allclose(got.stderr[0], [np.hypot(0.5, 4 * np.sqrt(0.5) / 2), np.hypot(0.5, 4 * 0.5 / 2)])
    assert got.columns("y").tolist() == [1, 0]
    assert got.relevant("x") == [(found.channels[1], -3.0)]
    assert got.relevant(2) == []
