"""Infidelity and max-sensitivity: by hand, from their definitions, against Quantus and captum."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from helpers.networks import Spelled
from torch import Tensor, nn

from interpnet import attribute
from interpnet.attribution import draw, image_generators
from interpnet.errors import DataError, InterpNetError, ModelError
from interpnet.evaluate import infidelity, max_sensitivity
from interpnet.models import SmallCNN


def network() -> tuple[nn.Module, Tensor, Tensor]:
    model = Spelled("module").double().eval()
    generator = torch.Generator().manual_seed(9)
    images = torch.randn(3, 3, 6, 5, generator=generator, dtype=torch.float64)
    maps = torch.randn(3, 6, 5, generator=generator, dtype=torch.float64)
    return model, images, maps


def linear() -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False)).double().eval()
    model[1].weight.data = torch.tensor([[4.0, 3.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]]).double()
    return model


def naive(model: nn.Module, image: Tensor, values: Tensor, side: int, target: int, *, form: str, scaled: bool) -> float:
    """One image, patch by patch, in Python's numbers; the baseline is 0.3."""
    height, width = values.shape
    falls: list[float] = []
    said: list[float] = []
    for top in range(0, height, side):
        for left in range(0, width, side):
            without = image.clone()
            without[:, top : top + side, left : left + side] = 0.3
            with torch.no_grad():
                falls.append(float(model(image[None])[0, target] - model(without[None])[0, target]))
            pixels = [(i, j) for i in range(top, min(top + side, height)) for j in range(left, min(left + side, width))]
            if form == "gradient":
                said.append(math.fsum(float(values[p]) * (float(image[c][p]) - 0.3) for p in pixels for c in range(3)))
            else:
                said.append(math.fsum(float(values[p]) for p in pixels))
    scale = 1.0
    if scaled:
        scale = max(0.0, math.fsum(a * d for a, d in zip(said, falls, strict=True)) / math.fsum(a * a for a in said))
    return math.fsum((scale * a - d) ** 2 for a, d in zip(said, falls, strict=True)) / len(falls)


def test_by_hand() -> None:
    images = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    heatmap = torch.tensor([[[4.0, 3.0], [1.0, 2.0]]])
    found = infidelity(linear(), images, heatmap, 0, patch=1, scaled=False)
    assert found.curve.tolist() == [[0.0, 0.0, 1.0, 1.0]]
    assert found.mean == 0.5
    # The best scale is (16 + 9 + 2 + 2) / 30; what is left is 30 - 29^2 / 30, over four patches.
    assert infidelity(linear(), images, heatmap, 0, patch=1).mean == pytest.approx((30 - 29**2 / 30) / 4, rel=1e-12)
    # Upside down, no scale from 0 on helps: the squares of the falls are left.
    assert infidelity(linear(), images, -heatmap, 0, patch=1).mean == pytest.approx(30 / 4, rel=1e-12)
    assert infidelity(linear(), images, heatmap, 0, patch=2, scaled=False).curve.tolist() == [[0.0]]
    assert found.direction == "lower is better"
    assert list(found.controls) == ["random", "edge"]


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("form", ["contribution", "gradient"])
@pytest.mark.parametrize("side", [1, 2, 5])
def test_against_images_without_one_patch(side: int, form: str, scaled: bool) -> None:
    model, images, maps = network()
    target = [2, 0, 1]
    options: dict[str, Any] = {"form": form, "scaled": scaled}
    found = infidelity(model, images, maps, target, patch=side, baseline=0.3, controls=(), max_batch=4, **options)
    expected = [naive(model, images[b], maps[b], side, target[b], **options) for b in range(3)]
    np.testing.assert_allclose(found.values.numpy(), expected, rtol=1e-9, atol=1e-14)
    assert found.curve.shape == (3, math.ceil(6 / side) * math.ceil(5 / side))


def test_scale_does_not_count_and_alone_is_as_in_a_batch() -> None:
    model, images, maps = network()
    found = infidelity(model, images, maps, 1, patch=2)
    for factor in (1e200, 1e-200, 3.0):
        torch.testing.assert_close(
            infidelity(model, images, factor * maps, 1, patch=2, controls=()).values, found.values
        )
    alone = infidelity(model, images[1:2], maps[1:2], 1, patch=2)
    torch.testing.assert_close(alone.values[0], found.values[1])
    for name, control in alone.controls.items():
        torch.testing.assert_close(control.values[0], found.controls[name].values[1])
        known = attribute(model, images, 1, name)
        expected = infidelity(model, images, known, 1, patch=2, controls=(), constant="zero")
        torch.testing.assert_close(found.controls[name].values, expected.values)


def test_defaults_of_infidelity() -> None:
    model, images, maps = network()
    said = {"patch": 1, "form": "contribution", "scaled": True, "baseline": "blank", "score": "logit", "seed": 0}
    found = infidelity(model, images, maps)
    same = infidelity(model, images, maps, model(images).argmax(1), **said, controls=("random", "edge"))
    assert torch.equal(found.curve, same.curve)
    assert torch.equal(found.controls["random"].curve, same.controls["random"].curve)
    assert not torch.allclose(found.curve, infidelity(model, images, maps, score="probability").curve)
    nothing = infidelity(model, images, torch.zeros(3, 6, 5), constant="zero", controls=())
    assert nothing.flagged.all()
    assert torch.isfinite(nothing.values).all()


def test_max_sensitivity_by_hand_and_draw_by_draw() -> None:
    model, images, _ = network()
    double = max_sensitivity(model, images, lambda m, x: 2 * x.sum(1), radius=0.1, samples=4, seed=5)
    generators = image_generators(images, 5)
    changes = []
    for _ in range(4):
        noise = 0.1 * (2 * draw(images, generators, 3, 6, 5) - 1)
        assert noise.abs().max() <= 0.1
        # Of a map that is linear in the image, the change is the map of the noise.
        changes.append(
            [
                math.sqrt(math.fsum(float(v) ** 2 for v in noise[b].sum(0).flatten()))
                / math.sqrt(math.fsum(float(v) ** 2 for v in images[b].sum(0).flatten()))
                for b in range(3)
            ]
        )
    np.testing.assert_allclose(double.curve.numpy().T, changes, rtol=1e-9)
    np.testing.assert_allclose(double.values.numpy(), np.max(changes, 0), rtol=1e-9)
    assert (double.direction, double.range) == ("lower is better", (0.0, math.inf))
    alone = max_sensitivity(model, images[1:2], lambda m, x: 2 * x.sum(1), radius=0.1, samples=4, seed=5)
    torch.testing.assert_close(alone.curve[0], double.curve[1])
    once = torch.arange(30.0).view(1, 6, 5).expand(3, 6, 5)
    assert max_sensitivity(model, images, lambda m, x: once, samples=2).values.tolist() == [0.0, 0.0, 0.0]


def test_max_sensitivity_of_constant_maps_and_bad_ones() -> None:
    model, images, maps = network()

    def later(first: Tensor, then: Tensor) -> Any:
        made = iter([first, then])
        return lambda m, x: next(made)

    zeros = maps.clone()
    zeros[1:] = 0.0
    moved = zeros.clone()
    moved[2, 0, 0] = 1.0
    with pytest.raises(DataError, match="maps of the images: the map of images 1, 2 is constant"):
        max_sensitivity(model, images, later(zeros, moved), samples=1)
    found = max_sensitivity(model, images, later(zeros, moved), samples=1, constant="zero")
    assert found.values.tolist() == [0.0, 0.0, math.inf]
    assert found.flagged.tolist() == [False, True, True]
    with pytest.raises(DataError, match="maps of the changed images: NaN or infinity in images 1, 2"):
        max_sensitivity(model, images, later(maps, moved / moved), samples=1)
    with pytest.raises(DataError, match=r"explain: maps \(3, 5, 6\) came for changed images"):
        max_sensitivity(model, images, later(maps, maps.mT), samples=1)
    with pytest.raises(DataError, match="explain: it returned a NoneType for the images"):
        max_sensitivity(model, images, lambda m, x: None, samples=1)
    with pytest.raises(InterpNetError, match="radius is 0; expected a number above 0"):
        max_sensitivity(model, images, lambda m, x: x[:, 0], radius=0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"patch": 6}, InterpNetError, "patch is 6; expected a whole number from 1 to 5"),
        ({"form": "slope"}, InterpNetError, "form is 'slope'; expected 'contribution' or 'gradient'"),
        ({"score": "softmax"}, InterpNetError, "score is 'softmax'"),
        ({"heatmaps": torch.rand(3, 5, 6)}, DataError, r"heatmaps: shape \(3, 5, 6\) came for images \(3, 3, 6, 5\)"),
        ({"baseline": 1e308}, ModelError, "the model returns NaN or infinity for images 0, 1, 2 with pixels of"),
    ],
)
def test_bad_input(change: dict[str, Any], error: type[Exception], message: str) -> None:
    model, images, maps = network()
    with pytest.raises(error, match=message):
        infidelity(**{"model": model, "images": images, "heatmaps": maps, **change})


def test_on_every_device(device: str) -> None:
    model, images, maps = network()
    expected = infidelity(model, images, maps, patch=2)
    shaken = max_sensitivity(model, images, lambda m, x: x[:, 0], samples=2)
    found = infidelity(model.to(device), images, maps, patch=2)
    assert found.values.device.type == device
    torch.testing.assert_close(found.values.cpu(), expected.values)
    torch.testing.assert_close(
        max_sensitivity(model, images, lambda m, x: x[:, 0], samples=2).values.cpu(), shaken.values
    )


def quantus_inputs() -> tuple[nn.Module, Tensor, Tensor, list[int]]:
    model = SmallCNN(1, 4, 8, seed=0).eval()
    generator = torch.Generator().manual_seed(0)
    images, maps = (torch.rand(4, *s, generator=generator) for s in ((1, 8, 8), (8, 8)))
    return model, images, maps, [0, 1, 2, 3]


def test_infidelity_agrees_with_quantus() -> None:
    """Quantus leaves each patch out of what the patch before left; here every patch is left out alone."""
    model, images, maps, target = quantus_inputs()
    x = images.numpy().reshape(4, -1)

    def alone(arr: np.ndarray, indices: np.ndarray, **_: Any) -> np.ndarray:
        out = x.copy()
        np.put_along_axis(out, np.broadcast_to(indices, (4, indices.shape[-1])), 0.25, axis=1)
        return out

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantus = pytest.importorskip("quantus")
        theirs = quantus.Infidelity(
            perturb_patch_sizes=[4], n_perturb_samples=1, perturb_func=alone, disable_warnings=True
        )
        found = theirs(
            model=model,
            x_batch=images.numpy(),
            y_batch=np.array(target),
            a_batch=maps.numpy()[:, None],
            channel_first=True,
        )
    ours = infidelity(model, images, maps, target, patch=4, form="gradient", scaled=False, baseline=0.25, controls=())
    np.testing.assert_allclose(ours.values.numpy(), found, rtol=1e-6)


def test_infidelity_agrees_with_captum() -> None:
    captum = pytest.importorskip("captum.metrics")
    model, images, maps = network()
    patches = iter([(i, j) for i in range(0, 6, 2) for j in range(0, 4, 2)])

    def without(x: Tensor) -> tuple[Tensor, Tensor]:
        i, j = next(patches)
        gone = torch.zeros_like(x)
        gone[:, :, i : i + 2, j : j + 2] = x[:, :, i : i + 2, j : j + 2]
        return gone, x - gone

    images = images[..., :4]
    maps = maps[..., :4]
    for_all = maps[:, None].expand_as(images).contiguous()
    found = captum.infidelity(
        model, without, images, for_all, target=1, n_perturb_samples=6, max_examples_per_batch=3, normalize=True
    )
    # Its scale may be below 0, so a map and its negative have the lower of our two values.
    ours = [infidelity(model, images, m, 1, patch=2, form="gradient", controls=()).values for m in (maps, -maps)]
    torch.testing.assert_close(torch.minimum(*ours), found, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(*ours)


def test_max_sensitivity_agrees_with_quantus() -> None:
    model, images, _, target = quantus_inputs()
    generators = image_generators(images, 0)

    def shaken(arr: np.ndarray, indices: np.ndarray, **_: Any) -> np.ndarray:
        return arr + (0.2 * (2 * draw(images, generators, 1, 8, 8) - 1)).numpy().reshape(4, -1)

    def explain(model: nn.Module, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
        return attribute(model, torch.as_tensor(inputs), target, "gradient").numpy()[:, None]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantus = pytest.importorskip("quantus")
        theirs = quantus.MaxSensitivity(nr_samples=5, perturb_func=shaken, disable_warnings=True)
        found = theirs(
            model=model,
            x_batch=images.numpy(),
            y_batch=np.array(target),
            channel_first=True,
            explain_func=explain,
        )
    ours = max_sensitivity(model, images, lambda m, x: attribute(m, x, target, "gradient"), samples=5)
    assert ours.values.min() > 1e-3
    np.testing.assert_allclose(ours.values.numpy(), found, rtol=1e-6)
