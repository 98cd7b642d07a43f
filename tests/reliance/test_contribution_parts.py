"""The parts that collect contributions: pairs of image and class, options, files' texts, and one image at a time."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from helpers.weighing import Weighing, ones
from torch import Tensor, nn

from interpnet.engine import ChannelIndex, Instrument, evaluating, find_sites, instrument
from interpnet.errors import DataError, InterpNetError, ModelError
from interpnet.models import fingerprint_model
from interpnet.reliance import (
    ContributionReader,
    Contributions,
    ContributionSums,
    collect_contributions,
    image_contributions,
)
from interpnet.reliance import _collect as module
from interpnet.reliance._pairs import labelled, rounds, said

NAN = float("nan")


def collect(net: nn.Module, batches: Any, **options: Any) -> Contributions:
    return collect_contributions(net, batches, **({"layers": "relu", "progress": False} | options))


def test_pairs_of_labels_targets_and_predictions() -> None:
    targets = torch.tensor([[0.5, 0.51, 0.0], [1.0, 0.0, 1.0]])
    assert labelled(targets).tolist() == [[0, 1], [1, 0], [1, 2]]
    assert labelled(targets, 2).tolist() == [[2, 1], [3, 0], [3, 2]]
    assert labelled(torch.tensor([2, 0], dtype=torch.int32), 4).tolist() == [[4, 2], [5, 0]]
    logits = torch.tensor([[9.0, 0.0, 0.0], [1.0, 3.0, 2.0], [0.0, -1.0, 0.5]])
    assert said(logits, "exclusive").tolist() == [[0, 0], [1, 1], [2, 2]]
    assert said(logits, "exclusive", 1).tolist() == [[1, 1], [2, 2]]
    assert said(logits, "independent", 1).tolist() == [[1, 0], [1, 1], [1, 2], [2, 2]]
    assert said(torch.full((1, 3), NAN), "exclusive").tolist() == [[0, 0]]


def test_rounds_take_each_image_once() -> None:
    assert rounds(np.zeros((0, 2), dtype=np.int64)) == []
    pairs = np.array([[1, 0], [1, 2], [1, 3], [4, 0], [5, 1], [5, 2]])
    assert [part.tolist() for part in rounds(pairs)] == [[[1, 0], [4, 0], [5, 1]], [[1, 2], [5, 2]], [[1, 3]]]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no image": ({"images": 0}, "images is 0"),
    "outputs": ({"outputs": "both"}, "outputs is 'both'"),
    "targets": ({"targets": "truth"}, "targets is 'truth'"),
    "twice the same class": ({"classes": ["a", "a"]}, "classes"),
    "classes of another model": ({"classes": ["a"]}, "classes has 1 names; the model has 2 outputs"),
    "fill": ({"fill": "median"}, "fill is 'median'; expected 'zero' or 'mean'"),
    "fill not finite": ({"fill": [NAN, 0.0]}, "fill holds NaN or infinity"),
    "fill of another size": ({"fill": [0.0]}, r"fill has shape \(1,\); expected \(2,\)"),
    "too thin": ({"thinned": (0.91,)}, "a share in thinned is 0.91"),
    "removed and mean": ({"removed": [[0], []], "fill": "mean"}, "fill='mean' is known only when the pass ends"),
    "lists of another model": ({"removed": [[0]]}, "removed has 1 lists; the model has 2 outputs"),
    "below the columns": ({"removed": [[0, -1], []]}, "removed reaches from -1 to 0; expected columns from 0 to 1"),
    "past the columns": ({"removed": [[], [1, 2]]}, "removed reaches from 1 to 2; expected columns from 0 to 1"),
    "total": ({"total": -1}, "total is -1"),
    "progress": ({"progress": 2}, "progress is 2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_options_that_cannot_be(name: str) -> None:
    options, match = REFUSED[name]
    with pytest.raises(InterpNetError, match=match):
        collect(Weighing([[4.0, 3.0], [0.0, 1.0]]), ones(4, 2), **options)


def test_options_at_their_limits_and_what_is_noted_of_them() -> None:
    net = Weighing([[4.0, 3.0], [0.0, 1.0]])
    plain = collect(net, ones(4, 2), images=1)
    how = {"image_shape": [2, 1, 1], "outputs": "exclusive", "targets": "labels"}
    assert plain.info == how | {"weights": fingerprint_model(net)}
    assert (plain.classes, plain.counts.tolist(), plain.images) == (("0", "1"), [1, 1], 4)
    removed = collect(net, ones(4, 2), removed=[[0, 1], 1])
    assert removed.info["removed"] == [[0, 1], [1]]
    assert removed.mean.tolist() == [[0.0, 0.0], [-4.0, 0.0]]
    assert collect(net, ones(4, 2), removed=[[], []]).info == plain.info
    thin = collect(net, ones(4, 2), thinned=(0.0, 0.9))
    assert thin.info == plain.info | {"thinned": [0.0, 0.9]}


def test_removed_and_thinned_add_up() -> None:
    net = Weighing([[4.0, 3.0, 2.0, 1.0], [0.0] * 4])
    batches = [(torch.ones(1, 4, 1, 1), torch.tensor([0]))]
    found = collect(net, batches, removed=[[2], []], thinned=(0.25,))
    gone = int(np.random.default_rng([0, 0]).permutation(4)[0])
    expected = np.array([4.0, 3.0, 0.0, 1.0]) / 0.75
    expected[gone] = 0.0
    np.testing.assert_allclose(found.mean[0], expected)


def test_progress_counts_every_image_of_a_loader_of_known_length(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    @contextmanager
    def bar(title: str, total: Any, *, enabled: bool) -> Any:
        shown.append((title, total, enabled))
        yield shown.append

    monkeypatch.setattr(module, "progress_bar", bar)
    net = Weighing([[4.0, 3.0], [0.0, 1.0]])
    collect(net, [*ones(3, 2), *ones(2, 2)], total=7, progress=True)
    assert shown == [("Collecting contributions", 7, True), 3, 2]
    shown.clear()
    loader = torch.utils.data.DataLoader([(torch.ones(2, 1, 1), i % 2) for i in range(5)], batch_size=4)
    collect(net, loader)
    assert shown == [("Collecting contributions", 5, False), 4, 1]


def test_labels_are_needed_and_named_by_their_place() -> None:
    net = Weighing([[4.0, 3.0], [0.0, 1.0]])
    images = torch.ones(2, 2, 1, 1)
    with pytest.raises(DataError, match=r"the loader yields no labels.* or pass targets='predictions'"):
        collect(net, [images])
    with pytest.raises(DataError, match="image 3"):
        collect(net, [(images, torch.tensor([0, 1])), (images, torch.tensor([1, 2]))])
    keyed = [{"pixels": images, "kind": torch.tensor([1, 1])}]
    found = collect(net, keyed, inputs="pixels", labels="kind")
    assert found.counts.tolist() == [0, 2]


def test_sums_go_on_from_a_start_and_keep_its_cap() -> None:
    net = Weighing([[4.0, 3.0], [0.0, 1.0]])
    start = collect(net, ones(3, 2, 1), images=4)
    sums = ContributionSums(start=start, images=4)
    images = torch.full((3, 2, 1, 1), 2.0)
    with evaluating(net, frozen=True):
        trace = find_sites(net, images)
        sums.open(net, trace, trace.select("relu"), images, None)
        sums.add(images, torch.zeros(3, dtype=torch.long), torch.arange(3, 6), lambda x: x)
    found = sums.result()
    assert (found.counts.tolist(), found.images) == ([4, 0], 6)
    # Three images of ones and one of twos.
    assert found.mean[0].tolist() == [(3 * 4 + 8) / 4, (3 * 2 + 4) / 4]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(36, 3)]
    return nn.Sequential(*layers).double()


def pictures() -> Tensor:
    return torch.randn(5, 1, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("outputs", ["exclusive", "independent"])
@pytest.mark.parametrize("reference", [None, np.array([0.5, -1.0, 0.2, 3.0])])
def test_single_images_are_as_by_hand(outputs: str, reference: np.ndarray | None) -> None:
    net = network().eval()
    x = pictures()
    classes = torch.tensor([2, 0, 1, 1, 2])
    maps = torch.relu(net[0](x)).detach().requires_grad_()
    logits = net[3](maps.flatten(1))
    z = logits.gather(1, classes[:, None])[:, 0]
    if outputs == "exclusive":
        others = logits.masked_fill(torch.eye(3, dtype=torch.bool)[classes], -torch.inf)
        z = z - torch.logsumexp(others, 1)
    (gradient,) = torch.autograd.grad(z.sum(), maps)
    level = torch.zeros(4, dtype=torch.float64)
    if reference is not None:
        level = torch.from_numpy(reference)
    expected = ((maps - level[:, None, None]) * gradient).sum((2, 3)).detach().numpy()
    net.train()
    seen: list[Tensor] = []

    def choose(said_: Tensor) -> list[int]:
        seen.append(said_)
        return classes.tolist()

    given = net, x, find_sites(net, x).select("default"), choose
    with torch.inference_mode():
        found = image_contributions(*given, reference=reference, outputs=outputs)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(seen[0], logits.detach())
    assert not seen[0].requires_grad
    assert net.training
    assert all(p.requires_grad for p in net.parameters())
    assert torch.equal(x, pictures())


def test_an_image_of_a_gradient_not_finite_is_named_with_its_last_layer() -> None:
    class Rooted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.ReLU()
            self.two = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            maps = self.two(self.one(x)).flatten(1)
            return torch.cat([maps.sum(1, keepdim=True).sqrt(), maps], 1)

    net = Rooted()
    x = torch.ones(3, 2, 1, 1)
    x[2] = 0
    sites = find_sites(net, x).select(["one", "two"])
    with pytest.raises(DataError, match="the gradient of image 2 of the batch is NaN or infinite at layer 'two'"):
        image_contributions(net, x, sites, lambda logits: [0] * 3)
    pair = image_contributions(net, x[:2], sites, lambda logits: [0] * 2, output=lambda y: y[:, :2])
    # 1 / (2 sqrt 2) less the derivative of the other logit, the first map itself.
    np.testing.assert_allclose(pair[:, 2:], [[0.5 / 2**0.5 - 1, 0.5 / 2**0.5]] * 2, rtol=1e-6)


def test_a_network_whose_layers_change_is_refused() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2)).eval()
    reader = ContributionReader(find_sites(net, torch.ones(1, 3)).select(["1"]))
    other = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    watched = Instrument(reads=reader.reads, edits=reader.edits)
    with (
        evaluating(other, frozen=True),
        instrument(other, watched),
        pytest.raises(ModelError, match=r"layer '1' had 2 channels when it was traced and has shape \(1, 4\) now"),
    ):
        other(torch.ones(1, 3))
    with pytest.raises(ModelError, match=r"layers \['1'\] did not run"):
        reader.take()
    with evaluating(net, frozen=True), torch.no_grad(), instrument(net, watched):
        net(torch.ones(1, 3))
    assert reader.silent() == ["1"]
    with pytest.raises(ModelError, match="no gradient came back to any of the layers"):
        reader.take()


def test_a_backward_pass_that_fails_says_why() -> None:
    class Overwritten(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            out = self.relu(x).sigmoid()
            result = out * 2
            out.mul_(2)
            return result.flatten(1)

    with pytest.raises(ModelError, match=r"overwrites a map that its backward pass needs.*do not work in place"):
        collect(Overwritten(), ones(2, 2), layers=["relu"])

    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            raise RuntimeError("no such derivative")

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return Broken.apply(self.relu(x).flatten(1))

    with pytest.raises(RuntimeError, match="no such derivative"):
        collect(Odd(), ones(2, 2), layers=["relu"])


def test_sums_of_other_classes_or_of_settings_are_told_apart() -> None:
    channels = ChannelIndex((("a", 1),))

    def made(**changes: Any) -> Contributions:
        values: dict[str, Any] = {
            "channels": channels,
            "classes": ("x", "y", "z"),
            "counts": np.array([0, 2, 1]),
            "margins": np.array([0.0, 3.0, 1.0]),
            "moments": np.array([[[2.0], [5.0]], [[3.0], [25.0]]]),
            "level": np.array([7.0]),
            "fill": "given",
            "images": 3,
            "info": {"outputs": "exclusive"},
        }
        return Contributions(**(values | changes))

    other = made(
        counts=np.array([1, 0, 1]),
        margins=np.array([4.0, 0.0, 2.0]),
        moments=np.array([[[9.0], [1.0]], [[81.0], [1.0]]]),
    )
    both = made() + other
    assert both.counts.tolist() == [1, 2, 2]
    assert both.margins.tolist() == [4.0, 3.0, 3.0]
    assert both.moments[..., 0].tolist() == [[9.0, 2.0, 6.0], [81.0, 3.0, 26.0]]
    assert (both.level.tolist(), both.images, both.info, both.fill) == ([7.0], 6, {"outputs": "exclusive"}, "given")
    assert both.mean[:, 0].tolist() == [9.0, 1.0, 3.0]
    assert both.log_odds.tolist() == [4.0, 1.5, 1.5]
    # Variance of two values with mean 3 and squares of 26: (26 - 18) / 1, over 2.
    np.testing.assert_allclose(both.stderr[:, 0], [np.nan, np.sqrt((3 - 2) / 2), 2.0])
    with pytest.raises(InterpNetError, match=r"different classes cannot be added: .*'z'\) and .*'w'\);"):
        made() + made(classes=("x", "y", "w"))
    with pytest.raises(InterpNetError, match="different reference cannot be added"):
        made() + made(level=np.array([6.0]))
    with pytest.raises(InterpNetError, match=r"different thinned cannot be added: None and 0;"):
        made() + made(info={"outputs": "exclusive", "thinned": 0})
    with pytest.raises(InterpNetError, match="different outputs cannot be added: exclusive and None"):
        made() + made(info={})
    assert (made(fill="zero") + made(fill="zero", level=np.zeros(1))).images == 6
