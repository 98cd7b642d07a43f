"""Deletion and insertion: by hand, against images changed pixel by pixel, and against Quantus's pixel flipping."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from helpers.networks import Spelled
from torch import Tensor, nn

from interpnet import attribute
from interpnet.engine import find_sites
from interpnet.errors import DataError, InterpNetError, ModelError
from interpnet.evaluate import deletion, insertion
from interpnet.evaluate._perturbation import _ranks
from interpnet.models import SmallCNN


def linear(weights: Tensor) -> nn.Module:
    """Class 0's logit is the sum of weight times pixel; class 1's is 0."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(weights.numel(), 2, bias=False)).double().eval()
    model[1].weight.data = torch.stack([weights.flatten(), torch.zeros(weights.numel())]).double()
    return model


def network() -> tuple[nn.Module, Tensor, Tensor]:
    model = Spelled("module").double().eval()
    generator = torch.Generator().manual_seed(6)
    images = torch.randn(3, 3, 6, 5, generator=generator, dtype=torch.float64)
    maps = torch.randn(3, 6, 5, generator=generator, dtype=torch.float64)
    return model, images, maps


def naive_curve(
    model: nn.Module, start: Tensor, end: Tensor, order: list[tuple[int, int]], steps: int, target: int, score: str
) -> list[float]:
    """One image at a time, one pixel at a time; the probability by the definition of the softmax."""
    found = []
    for k in range(steps + 1):
        x = start.clone()
        for i, j in order[: math.floor(k * len(order) / steps)]:
            x[:, i, j] = end[:, i, j]
        with torch.no_grad():
            logits = [float(v) for v in model(x[None])[0]]
        total = math.fsum(math.exp(v) for v in logits)
        found.append(logits[target] if score == "logit" else math.exp(logits[target]) / total)
    return found


def test_by_hand() -> None:
    model = linear(torch.tensor([[4.0, 3.0], [2.0, 1.0]]))
    images = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    heatmap = torch.tensor([[[4.0, 3.0], [1.0, 2.0]]])  # the two lower pixels in the wrong order
    out = deletion(model, images, heatmap, 0, steps=4, score="logit")
    assert out.curve is not None
    assert out.thresholds is not None
    assert out.curve.tolist() == [[10.0, 6.0, 3.0, 2.0, 0.0]]
    assert out.thresholds.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert out.mean == 0.25 * (5 + 6 + 3 + 2)
    assert out.range == (-math.inf, math.inf)
    into = insertion(model, images, heatmap, 0, steps=2, score="logit", baseline="blank")
    assert into.curve is not None
    assert into.curve.tolist() == [[0.0, 7.0, 10.0]]
    assert into.mean == 0.5 * (3.5 + 8.5)
    other = deletion(model, images, heatmap, 1, steps=1)  # class 1's probability is 1 / (1 + exp(10)), then 1/2
    assert other.mean == pytest.approx((1 / (1 + math.exp(10)) + 0.5) / 2)
    assert (out.direction, into.direction) == ("lower is better", "higher is better")
    assert other.range == (0.0, 1.0)
    # Five pixels in two steps: floor(5/2) = 2, then all.
    uneven = deletion(
        linear(torch.arange(5.0)),
        torch.ones(1, 1, 1, 5, dtype=torch.float64),
        torch.arange(5.0)[None, None],
        0,
        steps=2,
        score="logit",
    )
    assert uneven.curve is not None
    assert uneven.thresholds is not None
    assert uneven.curve.tolist() == [[10.0, 3.0, 0.0]]
    assert uneven.thresholds.tolist() == [0.0, 0.4, 1.0]


def test_no_order_beats_the_true_one_on_a_linear_model() -> None:
    weights = torch.tensor([[1.5, -2.0], [0.5, 3.0]])
    model = linear(weights)
    images = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    orders = torch.tensor(list(itertools.permutations(range(4))), dtype=torch.float32).view(-1, 2, 2)
    everything = deletion(model, images.repeat(24, 1, 1, 1), orders, 0, steps=4, controls=())
    best = deletion(model, images, weights[None], 0, steps=4, controls=())
    assert best.mean == pytest.approx(everything.values.min().item(), abs=1e-15)
    assert (everything.values > best.mean + 1e-9).sum() == 23


@pytest.mark.parametrize("score", ["probability", "logit"])
@pytest.mark.parametrize("steps", [1, 7, 30])
@pytest.mark.parametrize("measured", [deletion, insertion])
def test_against_images_changed_one_by_one(measured: Any, steps: int, score: str) -> None:
    model, images, maps = network()
    base = torch.full_like(images, 0.3)
    target = [2, 0, 1]
    found = measured(model, images, maps, target, steps=steps, score=score, baseline=0.3, controls=(), max_batch=4)
    pixels = list(itertools.product(range(6), range(5)))
    start, end = (images, base) if measured is deletion else (base, images)
    for b in range(3):
        order = sorted(pixels, key=lambda p, b=b: -float(maps[b][p]))
        curve = naive_curve(model, start[b], end[b], order, steps, target[b], score)
        np.testing.assert_allclose(found.curve[b].numpy(), curve, rtol=1e-9, atol=1e-12)
        at = [math.floor(k * 30 / steps) / 30 for k in range(steps + 1)]
        area = sum((q - p) * (u + v) / 2 for p, q, u, v in zip(at, at[1:], curve, curve[1:], strict=False))
        assert found.values[b].item() == pytest.approx(area, rel=1e-9)


@pytest.mark.parametrize("measured", [deletion, insertion])
def test_the_controls_are_the_same_measure_of_their_maps(measured: Any) -> None:
    model, images, maps = network()
    found = measured(model, images, maps, 1, steps=6, seed=3)
    assert list(found.controls) == ["random", "edge"]
    for name, control in found.controls.items():
        known = attribute(model, images, 1, name, seed=3)
        torch.testing.assert_close(measured(model, images, known, 1, steps=6, seed=3).curve, control.curve)
        assert control.name == found.name
        assert not torch.equal(control.curve, found.curve)
        # The intact and the last image are the same for every map.
        torch.testing.assert_close(control.curve[:, [0, -1]], found.curve[:, [0, -1]])


@pytest.mark.parametrize("measured", [deletion, insertion])
def test_an_image_scores_alone_what_it_scores_in_a_batch(measured: Any) -> None:
    model, images, maps = network()
    maps = maps.round()  # ties
    whole = measured(model, images, maps, steps=9, max_batch=5)
    for b in range(3):
        alone = measured(model, images[b : b + 1], maps[b : b + 1], steps=9, max_batch=1)
        torch.testing.assert_close(alone.curve[0], whole.curve[b], rtol=1e-10, atol=1e-12)
        for name, control in alone.controls.items():
            torch.testing.assert_close(control.curve[0], whole.controls[name].curve[b], rtol=1e-10, atol=1e-12)


def test_the_target_is_the_predicted_class_by_default() -> None:
    model, images, maps = network()
    predicted = model(images).argmax(1)
    assert len(set(predicted.tolist())) > 1
    a = deletion(model, images, maps, steps=4, controls=())
    assert torch.equal(a.values, deletion(model, images, maps, predicted, steps=4, controls=()).values)
    assert not torch.equal(a.values, deletion(model, images, maps, 3, steps=4, controls=()).values)


def test_no_pass_is_larger_than_allowed() -> None:
    model, images, maps = network()
    # The check of a new network takes up to three images.
    find_sites(model, images)
    sizes: list[int] = []
    inner = model.forward

    def forward(x: Tensor) -> Tensor:
        sizes.append(x.shape[0])
        return inner(x)

    model.forward = forward  # type: ignore[method-assign]
    deletion(model, images, maps, steps=10, max_batch=2)
    assert max(sizes) == 2
    assert sum(sizes) >= 3 * 11 * 3


def test_equal_pixels_go_in_a_seeded_order_without_a_favourite_place() -> None:
    images = torch.rand(400, 1, 4, 4)
    maps = torch.zeros(400, 4, 4)
    maps[:, 1, 2] = 1.0
    ranks = _ranks(images, maps, 0).view(400, 16).double()
    assert bool((ranks[:, 6] == 0).all())
    others = torch.cat([ranks[:, :6], ranks[:, 7:]], 1)
    assert bool((others.sort(1).values == torch.arange(1.0, 16.0)).all())
    # The mean of 400 draws from 1 .. 15 has a standard error of 0.216.
    assert (others.mean(0) - 8).abs().max() < 4 * 0.216
    assert torch.equal(_ranks(images, maps, 0).double(), ranks)
    assert not torch.equal(_ranks(images, maps, 1).double(), ranks)


def test_a_constant_map_is_refused_or_taken_at_random() -> None:
    model, images, maps = network()
    maps[2] = 0.5
    with pytest.raises(DataError, match="heatmaps: the map of image 2 is constant"):
        deletion(model, images, maps)
    found = deletion(model, images, maps, constant="zero", steps=5)
    assert found.flagged is not None
    assert found.flagged.tolist() == [False, False, True]


def test_the_model_and_the_images_are_left_alone() -> None:
    model = SmallCNN(3, 4, 8, seed=0).train()
    images = torch.rand(2, 3, 8, 8)
    maps = torch.rand(2, 8, 8)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    kept = images.clone()
    drawn = torch.get_rng_state()
    a = insertion(model, images, maps, steps=4)
    assert all(m.training for m in model.modules())
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(images, kept)
    assert torch.equal(torch.get_rng_state(), drawn)
    torch.testing.assert_close(a.values, insertion(model.eval(), images, maps, steps=4).values)


def test_on_every_device(device: str) -> None:
    model, images, maps = network()
    expected = deletion(model, images, maps, steps=5)
    found = deletion(model.to(device), images, maps, steps=5)
    assert found.values.device.type == device
    torch.testing.assert_close(found.values.cpu(), expected.values)
    torch.testing.assert_close(found.controls["random"].values.cpu(), expected.controls["random"].values)


class Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :2] / x.flatten(1)[:, :1]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"heatmaps": torch.rand(3, 5, 6)}, DataError, r"heatmaps: shape \(3, 5, 6\) came for images \(3, 3, 6, 5\)"),
        ({"heatmaps": torch.rand(2, 6, 5)}, DataError, r"heatmaps: shape \(2, 6, 5\) came"),
        ({"heatmaps": torch.full((3, 6, 5), math.nan)}, DataError, "NaN or infinity in images 0, 1, 2"),
        ({"images": torch.full((3, 3, 6, 5), math.inf).double()}, DataError, "images hold NaN or infinity"),
        ({"steps": 0}, InterpNetError, "steps is 0; expected a whole number from 1 to 30"),
        ({"steps": 31}, InterpNetError, "steps is 31; expected a whole number from 1 to 30"),
        ({"steps": 2.5}, InterpNetError, "steps is 2.5; expected a whole number"),
        ({"max_batch": 0}, InterpNetError, "max_batch is 0; expected a whole number of at least 1"),
        ({"seed": -1}, InterpNetError, "seed is -1; expected a whole number of at least 0"),
        ({"score": "softmax"}, InterpNetError, "score is 'softmax'; expected 'probability' or 'logit'"),
        ({"baseline": "grey"}, InterpNetError, "baseline='grey'; expected 'blank', 'blurred'"),
        ({"target": 4}, InterpNetError, r"holds a class outside 0\.\.3"),
        ({"target": [0, 1]}, InterpNetError, r"target has shape \(2,\)"),
        ({"controls": ["edges"]}, InterpNetError, "unknown method 'edges'; did you mean 'edge'"),
        ({"model": Broken(), "baseline": 0.0}, ModelError, "the model returns NaN or infinity for images 0, 1, 2"),
    ],
)
def test_bad_input(change: dict[str, Any], error: type[Exception], message: str) -> None:
    model, images, maps = network()
    given = {"model": model, "images": images, "heatmaps": maps, "steps": 5, **change}
    with pytest.raises(error, match=message):
        deletion(**given)


def test_the_curve_agrees_with_quantus() -> None:
    model = SmallCNN(1, 4, 8, seed=0).eval()
    generator = torch.Generator().manual_seed(0)
    images, maps = (torch.rand(4, *s, generator=generator) for s in ((1, 8, 8), (8, 8)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantus = pytest.importorskip("quantus")
        flipping = quantus.PixelFlipping(
            features_in_step=8, perturb_baseline=0.0, abs=False, normalise=False, disable_warnings=True
        )
        found = flipping(
            model=model,
            x_batch=images.numpy(),
            y_batch=np.array([0, 1, 2, 3]),
            a_batch=maps.numpy()[:, None],
            softmax=True,
            channel_first=True,
        )
    ours = deletion(model, images, maps, [0, 1, 2, 3], steps=8, controls=())
    assert ours.curve is not None
    assert ours.curve.std(1).min() > 1e-4
    np.testing.assert_allclose(np.array(found), ours.curve[:, 1:].numpy(), rtol=1e-5)
