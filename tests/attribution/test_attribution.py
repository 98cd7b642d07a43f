"""Baselines: gradients against captum where captum is right, and the call's own arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.networks import small, small_images
from torch import Tensor, nn

from experiments.attribution_table.networks import images, network
from interpnet.attribution import attribute, attribute_full, resolve_baseline
from interpnet.attribution._call import relative_residual
from interpnet.attribution._inputs import blurred
from interpnet.errors import InterpNetError

captum = pytest.importorskip("captum.attr", reason="captum is a development dependency")

TARGET = torch.tensor([3, 1])
NETS = ["squeezenet1_1", "vgg11_bn"]


@pytest.mark.filterwarnings("ignore")  # captum warns about the hooks it sets, on every call
@pytest.mark.parametrize(
    ("method", "peer", "options"),
    [
        ("gradient", "Saliency", {"abs": False}),
        ("guided", "GuidedBackprop", {}),
        ("deconvnet", "Deconvolution", {}),
        ("gradient_x_input", "InputXGradient", {}),
    ],
)
@pytest.mark.parametrize("name", NETS)  # the last varies slowest: each network is built once
def test_agrees_with_captum(method: str, peer: str, options: dict[str, Any], name: str) -> None:
    model = network(name, double=True, narrow=True)
    x = images(double=True)
    theirs = getattr(captum, peer)(model).attribute(x.clone().requires_grad_(), target=TARGET, **options)
    ours = attribute_full(model, x, TARGET, method)
    assert ours.raw is not None
    torch.testing.assert_close(ours.raw, theirs.detach(), rtol=1e-9, atol=1e-9 * float(theirs.abs().max()))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("method", "peer"), [("gradient", "Saliency"), ("guided", "GuidedBackprop"), ("deconvnet", "Deconvolution")]
)
@pytest.mark.parametrize("name", NETS)
def test_agrees_with_captum_in_single_precision(method: str, peer: str, name: str) -> None:
    model = network(name, narrow=True)
    x = images()
    theirs = getattr(captum, peer)(model).attribute(x.clone().requires_grad_(), target=TARGET)
    theirs = theirs.detach().abs().amax(1)
    off = (attribute(model, x, TARGET, method) - theirs).abs().max() / theirs.max()
    assert float(off) < 1e-5


def test_reductions_of_one_signal() -> None:
    model = small()
    x = small_images()
    raw = attribute_full(model, x, 0, "gradient").raw
    assert raw is not None
    expected = {
        "sum": raw.sum(1),
        "positive": raw.clamp(min=0).sum(1),
        "abs": raw.abs().sum(1),
        "max": raw.abs().amax(1),
    }
    for reduction, maps in expected.items():
        assert torch.equal(attribute(model, x, 0, "gradient", reduction=reduction), maps)
    assert torch.equal(attribute(model, x, 0, "gradient"), expected["max"])


def test_simple_taylor_on_a_quadratic_by_hand() -> None:
    class Square(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.square().sum((1, 2, 3)), x.sum((1, 2, 3))], 1)

    x = torch.tensor([[[[1.0, 2.0]]]])
    # F = sum x^2, b = (0.5, 0.5): (x - b) * 2b = (0.5, 1.5); F(x) - F(b) = 5 - 0.5 = 4.5.
    found = attribute_full(Square().eval(), x, 0, "simple_taylor", baseline=0.5)
    torch.testing.assert_close(found.maps, torch.tensor([[[0.5, 1.5]]]))
    torch.testing.assert_close(found.residual, torch.tensor([(4.5 - 2.0) / 4.5], dtype=torch.float64))
    assert found.flagged is not None
    assert found.flagged.tolist() == [True]
    # At the image: (x - b) * 2x = (1, 6).
    at_image = attribute_full(Square().eval(), x, 0, "simple_taylor", baseline=0.5, at="image")
    torch.testing.assert_close(at_image.maps, torch.tensor([[[1.0, 6.0]]]))
    # A linear score has no higher terms.
    linear = attribute_full(Square().eval(), x, 1, "simple_taylor", baseline="blank")
    assert linear.residual is not None
    assert float(linear.residual) == 0


def test_upsampled_activation_by_hand() -> None:
    model = small()
    x = small_images()
    with torch.no_grad():
        maps = F.relu(F.conv2d(x, model.a.weight, model.a.bias, padding=1))  # type: ignore[union-attr, arg-type]
    strongest = maps.flatten(2).norm(dim=2).argmax(1)
    found = attribute_full(model, x, 0, "upsampled_activation", layer="relu")
    assert found.info["layer"] == "relu"
    assert torch.equal(found.info["channel"], strongest)
    torch.testing.assert_close(found.maps, maps[torch.arange(2), strongest])
    summed = attribute(model, x, 0, "upsampled_activation", layer="relu", channel="sum")
    torch.testing.assert_close(summed, maps.sum(1))
    third = attribute(model, x, 0, "upsampled_activation", layer="relu", channel=2)
    torch.testing.assert_close(third, maps[:, 2])
    with pytest.raises(InterpNetError, match="channel=9; layer 'relu' has channels 0 to 3"):
        attribute(model, x, 0, "upsampled_activation", layer="relu", channel=9)
    with pytest.raises(InterpNetError, match="channel='best'; expected 'strongest'"):
        attribute(model, x, 0, "upsampled_activation", channel="best")


def test_controls_by_hand() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 2)).eval()
    step = torch.zeros(1, 1, 5, 5)
    step[..., 3:] = 1.0
    edges = attribute(model, step, 0, "edge")[0]
    expected = torch.zeros(5, 5)
    expected[:, 2:4] = 4.0  # 1 + 2 + 1 across the step, nothing along it, borders repeated
    torch.testing.assert_close(edges, expected)
    center = attribute(model, step, 0, "center", width=0.2)[0]
    assert float(center[2, 2]) == 1.0
    assert float(center[2, 3]) == pytest.approx(float(np.exp(-0.5)))
    torch.testing.assert_close(center, center.T)
    noise = attribute(model, step, 0, "random")
    assert 0 <= float(noise.min()) < float(noise.max()) < 1
    with pytest.raises(InterpNetError, match="width is 0; expected a number above 0"):
        attribute(model, step, 0, "center", width=0)


def test_baselines_by_hand() -> None:
    x = torch.arange(12.0).view(1, 1, 3, 4)
    assert torch.equal(resolve_baseline(x, "blank"), torch.zeros_like(x))
    assert torch.equal(resolve_baseline(x, x[0]), x)
    weights = np.exp(-((np.arange(3)[:, None] - np.arange(3)) ** 2) / (2 * 0.7**2))
    rows = weights / weights.sum(1, keepdims=True)
    weights = np.exp(-((np.arange(4)[:, None] - np.arange(4)) ** 2) / (2 * 0.7**2))
    columns = weights / weights.sum(1, keepdims=True)
    expected = rows @ x[0, 0].numpy() @ columns.T
    np.testing.assert_allclose(blurred(x, 0.7)[0, 0].numpy(), expected, rtol=1e-6)


def test_residuals_are_relative_and_finite() -> None:
    total = torch.tensor([3.0, 0.0, 1e-9])
    expected = torch.tensor([2.0, 0.0, 0.0])
    size = torch.tensor([5.0, 0.0, 1.0])
    torch.testing.assert_close(relative_residual(total, expected, size), torch.tensor([0.5, 0.0, 1e-3]))
