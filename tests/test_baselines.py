"""Baselines: against captum where captum is right, and one contract over every method."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchvision
from networks import Branches, Spelled
from torch import nn

from interpnet.baselines import attribute, methods
from interpnet.errors import InterpNetError, LayerError

captum = pytest.importorskip("captum.attr", reason="captum is a development dependency")


@pytest.fixture(scope="module")
def squeezenet() -> nn.Module:
    torch.manual_seed(0)
    model = torchvision.models.squeezenet1_1(weights=None, num_classes=7).eval()
    return model.double()


X = torch.randn(2, 3, 48, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TARGET = torch.tensor([3, 5])


@pytest.mark.filterwarnings("ignore")  # captum warns about the hooks it sets, on every call
@pytest.mark.parametrize(
    ("method", "peer"),
    [("gradient", "Saliency"), ("guided", "GuidedBackprop"), ("deconvnet", "Deconvolution")],
)
def test_agrees_with_captum(squeezenet: nn.Module, method: str, peer: str) -> None:
    theirs = getattr(captum, peer)(squeezenet).attribute(X.clone().requires_grad_(), target=TARGET)
    ours = attribute(squeezenet, X, TARGET, method)
    torch.testing.assert_close(ours, theirs.detach().abs().amax(1), rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_gradcam_agrees_with_captum(squeezenet: nn.Module) -> None:
    layer = squeezenet.features[12].expand3x3_activation
    theirs = captum.LayerGradCam(squeezenet, layer).attribute(X, target=TARGET, relu_attributions=True)
    ours = attribute(squeezenet, X, TARGET, "gradcam", layer="features.12.expand3x3_activation")
    expected = F.interpolate(theirs.detach(), (48, 48), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", [m.name for m in methods()])
@pytest.mark.parametrize("build", [lambda: Spelled("inplace"), Branches], ids=["spelled", "branches"])
def test_contract(method: str, build: type[nn.Module]) -> None:
    model = build().train()
    x = torch.randn(3, 3 if isinstance(model, Spelled) else 2, 16, 16)
    kept = x.clone()
    flags = [m.training for m in model.modules()]
    maps = attribute(model, x, 1, method)
    assert maps.shape == (3, 16, 16)
    assert torch.isfinite(maps).all()
    assert all(float(m.std()) > 0 for m in maps) or method == "gradcam"
    torch.testing.assert_close(attribute(model, x[1:2], 1, method)[0], maps[1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(attribute(model, x, 1, method), maps, rtol=0, atol=0)
    assert torch.equal(x, kept)
    assert flags == [m.training for m in model.modules()]
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    with pytest.raises(InterpNetError, match=r"outside 0\.\.|expected one class number"):
        attribute(model, x, [99, 0, 0], method)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_errors() -> None:
    model, x = Branches(), torch.randn(2, 2, 16, 16)
    with pytest.raises(InterpNetError, match="unknown method 'grad-cam'; did you mean 'gradcam'"):
        attribute(model, x, 0, "grad-cam")
    with pytest.raises(InterpNetError, match=r"target has shape \(3,\)"):
        attribute(model, x, [0, 1, 2])
    with pytest.raises(InterpNetError, match="takes no layer"):
        attribute(model, x, 0, "gradient", layer="relu")
    with pytest.raises(LayerError, match="names 2 sites; Grad-CAM needs one"):
        attribute(model, x, 0, "gradcam", layer=["relu", "relu:1"])
    dense = nn.Sequential(nn.Flatten(), nn.Linear(512, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(LayerError, match="needs a convolutional layer"):
        attribute(dense, x, 0, "gradcam")
