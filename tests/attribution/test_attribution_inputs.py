"""What a call takes: every bad input, modes and missing packages around it, and memory that is short."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import shapes
from helpers.networks import Branches, Spelled, small, small_images
from torch import Tensor, nn

from interpnet.attribution import AttributionWarning, attribute, methods
from interpnet.attribution._registry import METHODS
from interpnet.errors import DataError, InterpNetError, LayerError, ModelError
from interpnet.support.extras import require


def test_bad_targets_and_names() -> None:
    model = small()
    x = small_images()
    with pytest.raises(InterpNetError, match=r"unknown method 'grad-cam'; did you mean .*'gradcam'"):
        attribute(model, x, 0, "grad-cam")
    with pytest.raises(InterpNetError, match=r"target has shape \(3,\); expected one class number for each of 2"):
        attribute(model, x, [0, 1, 2], "gradient")
    with pytest.raises(InterpNetError, match=r"target \[0, 3\] holds a class outside 0\.\.2"):
        attribute(model, x, [0, 3], "gradient")
    with pytest.raises(InterpNetError, match=r"target \[-1, -1\] holds a class outside 0\.\.2"):
        attribute(model, x, -1, "gradient")
    with pytest.raises(InterpNetError, match=r"target: dtype torch\.float32 came"):
        attribute(model, x, torch.tensor([0.0, 1.0]), "gradient")
    with pytest.raises(InterpNetError, match="'gradient' takes no layer"):
        attribute(model, x, 0, "gradient", layer="relu")
    with pytest.raises(InterpNetError, match="'gradient' takes no baseline"):
        attribute(model, x, 0, "gradient", baseline="blank")
    with pytest.raises(
        InterpNetError, match=r"has no option 'step'; did you mean 'steps'\?; its options: steps, bound"
    ):
        attribute(model, x, 0, "integrated_gradients", step=3)
    with pytest.raises(InterpNetError, match="reduction is 'mean'; expected 'sum' or 'positive' or 'abs' or 'max'"):
        attribute(model, x, 0, "gradient", reduction="mean")
    with pytest.raises(InterpNetError, match="'edge' has no colours to reduce"):
        attribute(model, x, 0, "edge", reduction="abs")
    with pytest.raises(InterpNetError, match="max_batch is 0; expected a whole number of at least 1"):
        attribute(model, x, 0, "gradient", max_batch=0)
    with pytest.raises(InterpNetError, match=r"seed is 0\.5; expected a whole number"):
        attribute(model, x, 0, "random", seed=0.5)  # type: ignore[arg-type]
    with pytest.raises(LayerError, match=r"names 2 sites .* needs one"):
        attribute(model, x, 0, "upsampled_activation", layer=["relu", "relu:1"])
    with pytest.raises(LayerError, match="needs a layer with a 2-D map"):
        attribute(model, x, 0, "upsampled_activation", layer="out")
    dense = nn.Sequential(nn.Flatten(), nn.Linear(512, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    with pytest.raises(LayerError, match="the network has none"):
        attribute(dense, x, 0, "upsampled_activation")


@pytest.mark.parametrize("method", ["deconvnet", "gradcam"])
def test_a_map_that_is_zero_everywhere_is_said(method: str) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)).eval()
    with torch.no_grad():
        model[4].weight.copy_(torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]]))
        model[0].bias.fill_(3.0)
    with pytest.warns(AttributionWarning, match=rf"method='{method}': 1 of 2 maps are zero everywhere \(sample 1\)"):
        maps = attribute(model, small_images(), [0, 1], method)
    assert maps[0].any()
    assert not maps[1].any()


def test_whole_numbers_of_any_kind_are_targets() -> None:
    model = small()
    x = small_images()
    expected = attribute(model, x, [1, 1], "gradient")
    for target in (1, np.int64(1), torch.tensor(1), torch.tensor([1, 1], dtype=torch.uint8), np.array([1, 1])):
        assert torch.equal(attribute(model, x, target, "gradient"), expected)


def test_bad_images() -> None:
    model = small()
    x = small_images()
    with pytest.raises(DataError, match=r"shape \(2, 3, 16, 16\).*Conv2d that takes 2 channels"):
        attribute(model, torch.rand(2, 3, 16, 16), 0, "gradient")
    with pytest.raises(DataError, match=r"dtype torch\.uint8 came; expected floating point"):
        attribute(model, torch.zeros(2, 2, 16, 16, dtype=torch.uint8), 0, "gradient")
    with pytest.raises(DataError, match=r"dtype torch\.float64 came .* pass images\.to\(torch\.float32\)"):
        attribute(model, x.double(), 0, "gradient")
    with pytest.raises(DataError, match=r"shape \(2, 16, 16\) came; expected \(B, C, H, W\)"):
        attribute(model, x[:, 0], 0, "gradient")
    with pytest.raises(DataError, match="NaN or infinity"):
        attribute(model, x / 0, 0, "gradient")
    with pytest.raises(DataError, match="a ndarray came"):
        attribute(model, x.numpy(), 0, "gradient")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", [m.name for m in methods() if "baseline" in m.needs])
def test_bad_baselines(method: str) -> None:
    model = small()
    x = small_images()
    for shape in [(3, 2, 16, 16), (2, 16), (2, 8, 8), (1, 2, 2, 16, 16)]:
        with pytest.raises(InterpNetError, match=r"baseline: shape .* came; expected \(2, 16, 16\), or one such"):
            attribute(model, x, 0, method, baseline=torch.zeros(shape))
    with pytest.raises(InterpNetError, match="baseline='grey'; expected 'blank', 'blurred', a number, or a tensor"):
        attribute(model, x, 0, method, baseline="grey")


def test_a_baseline_of_its_own_for_each_sample_follows_it_through_small_batches() -> None:
    model = small()
    x = small_images(3)
    baseline = 0.3 * small_images(3).flip(0)
    together = attribute(model, x, [0, 1, 2], "integrated_gradients", baseline=baseline, steps=5)
    parts = attribute(model, x, [0, 1, 2], "integrated_gradients", baseline=baseline, steps=5, max_batch=2)
    torch.testing.assert_close(parts, together)
    for i in range(3):
        alone = attribute(model, x[i : i + 1], i, "integrated_gradients", baseline=baseline[i], steps=5)
        torch.testing.assert_close(alone[0], together[i])


def test_training_mode_is_forced_to_evaluation_restored_and_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # The tests' check of shapes stands between the call and the package; it is not the user's line.
    monkeypatch.setattr(shapes, "__name__", "interpnet.shapes")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten())
    model.append(nn.Linear(4 * 14 * 14, 3))
    model.train()
    model[1].eval()
    x = small_images(5)
    flags = [m.training for m in model.modules()]
    statistics = model[1].running_mean.clone()  # type: ignore[union-attr, operator]
    with pytest.warns(AttributionWarning, match="came in training mode; it runs in evaluation mode") as said:
        found = attribute(model, x, 1, "smoothgrad", max_batch=2, samples=3)
    assert len(said) == 1
    assert said[0].filename == __file__
    assert flags == [m.training for m in model.modules()]
    assert torch.equal(model[1].running_mean, statistics)  # type: ignore[arg-type, union-attr]
    torch.testing.assert_close(attribute(model.eval(), x, 1, "smoothgrad", max_batch=2, samples=3), found)


@pytest.mark.parametrize("method", ["guided", "deconvnet"])
def test_a_network_without_rectifiers_has_no_rule_to_follow(method: str) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 14 * 14, 2)).eval()
    with pytest.raises(ModelError, match=f"no rectifier was seen in this network, so the rule '{method}' would be"):
        attribute(model, small_images(), 0, method)


class Detached(nn.Module):
    """Gradients do not reach the image."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Branches()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x.detach())
        return y


@pytest.mark.parametrize("method", ["gradient", "integrated_gradients", "smoothgrad", "simple_taylor"])
def test_a_model_that_detaches_its_input_is_named(method: str) -> None:
    with pytest.raises(ModelError, match="no gradient of the class's logit reaches the images"):
        attribute(Detached().eval(), small_images(), 0, method)
    assert attribute(Detached().eval(), small_images(), 0, "occlusion", patch=8).std() > 0


@pytest.mark.parametrize("method", ["gradient", "guided", "integrated_gradients", "occlusion", "gradcam"])
def test_images_need_no_gradient_and_modes_around_the_call_do_not_matter(method: str) -> None:
    model = small()
    x = small_images()
    expected = attribute(model, x, 0, method)
    with torch.no_grad():
        assert torch.equal(attribute(model, x, 0, method), expected)
    with torch.inference_mode():
        assert torch.equal(attribute(model, x.clone(), 0, method), expected)
    leaf = x.clone().requires_grad_()
    assert torch.equal(attribute(model, leaf, 0, method), expected)
    assert leaf.grad is None
    for p in model.parameters():
        p.requires_grad_(False)
    assert torch.equal(attribute(model, x, 0, method), expected)


def test_a_missing_extra_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    wanting = replace(METHODS["gradient"], needs=frozenset({"extra:nothing_such"}))
    monkeypatch.setitem(METHODS, "gradient", wanting)
    with pytest.raises(InterpNetError, match=r"is not installed here .* run: pip install 'interpnet\[methods\]'"):
        attribute(small(), small_images(), 0, "gradient")


def test_superpixels_without_scikit_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(InterpNetError, match=r"needs scikit-image, .* pip install 'interpnet\[methods\]'"):
        attribute(small(), small_images(), 0, "lime", segments="superpixels")
    assert attribute(small(), small_images(), 0, "lime", samples=8, cells=2).std() > 0
    with pytest.raises(InterpNetError, match="method='demo' needs nothing_such"):
        require("nothing_such", "method='demo'")


class Full(Branches):
    """A device whose memory holds two images."""

    most = 2

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        y: Tensor = super().forward(x)
        return y


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("gradient", {}),
        ("integrated_gradients", {"steps": 8}),
        ("occlusion", {"patch": 8, "stride": 4}),
        ("smoothgrad", {"samples": 5}),
    ],
)
def test_out_of_memory_halves_the_batch_once_said(method: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = Full().eval()
    x = small_images(7)
    plain = Branches().eval()
    plain.load_state_dict(model.state_dict())
    with pytest.warns(AttributionWarning, match="out of memory: going on with 8 images a pass") as said:
        found = attribute(model, x, 1, method, **options)
    assert len(said) == 1
    torch.testing.assert_close(found, attribute(plain, x, 1, method, **options), rtol=1e-4, atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small_batches = attribute(model, x, 1, method, max_batch=2, **options)
    torch.testing.assert_close(small_batches, found, rtol=1e-4, atol=1e-6)


def test_out_of_memory_with_a_single_image() -> None:
    model = Full().eval()
    model.most = 0
    with (
        pytest.warns(AttributionWarning, match="out of memory"),
        pytest.raises(InterpNetError, match=r"does not hold one image of shape \(2, 16, 16\) under method='gradient'"),
    ):
        attribute(model, small_images(), 1, "gradient")


def test_networks_with_other_outputs_and_spellings() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Branches()

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"logits": self.inner(x)}

    output: Callable[[Any], Tensor] = lambda y: y["logits"]  # noqa: E731 - as a user writes it
    torch.manual_seed(0)
    model = Wrapped().eval()
    x = small_images()
    for method in ("gradient", "guided", "occlusion", "upsampled_activation"):
        expected = attribute(model.inner, x, 1, method)
        torch.testing.assert_close(attribute(model, x, 1, method, output=output), expected)
    with pytest.raises(ModelError, match="output='logits'"):
        attribute(model, x, 1, "gradient")
    signals = [attribute(Spelled(s).eval(), torch.ones(1, 3, 12, 12), 1, "guided") for s in ("inplace", "functional")]
    torch.testing.assert_close(signals[0], signals[1])
