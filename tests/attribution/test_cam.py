"""The CAM family: against the papers' formulas written out, and against torchcam and captum where they are right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from helpers.networks import Branches, Spelled
from torch import Tensor, nn

from experiments.attribution_table.networks import network
from interpnet.attribution import attribute
from interpnet.attribution._attribute import attribute_full
from interpnet.engine import find_sites
from interpnet.errors import InterpNetError, LayerError, ModelError

NAMES = ("cam", "gradcam", "gradcam++", "layercam", "scorecam", "guided_gradcam", "guided_gradcam++")


class Head(nn.Module):
    """Two convolutions, then a global average and one linear layer, or something else in between."""

    def __init__(self, head: str = "average") -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(11)
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 5, 3, stride=2, padding=1)
        self.hidden = nn.Linear(5, 5)
        self.fc = nn.Linear(5, 4)
        self.wide = nn.Linear(5 * 16, 4)
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator) * 0.5
        self.head = head
        self.eval()

    def maps(self, x: Tensor) -> Tensor:
        return F.relu(self.b(F.relu(self.a(x))))

    def top(self, maps: Tensor) -> Tensor:
        if self.head == "flat":
            return self.wide(maps.flatten(1))
        pooled = maps.mean((2, 3)) if self.head != "maximum" else maps.amax((2, 3))
        if self.head == "hidden":
            pooled = torch.tanh(self.hidden(pooled))
        return self.fc(pooled)

    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.maps(x))


X = torch.randn(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
TARGET = [1, 3, 0]


def maps_and_gradient(model: Head) -> tuple[np.ndarray, np.ndarray]:
    """Central differences of the logit in every activation: no autograd."""
    with torch.no_grad():
        maps = model.maps(X)
        h = 1e-5
        gradient = torch.zeros_like(maps)
        for i in np.ndindex(*maps.shape[1:]):
            step = torch.zeros_like(maps)
            step[(slice(None), *i)] = h
            change = model.top(maps + step) - model.top(maps - step)
            gradient[(slice(None), *i)] = change[range(3), TARGET] / (2 * h)
    return maps.numpy(), gradient.numpy()


def enlarge(low: np.ndarray) -> Tensor:
    return F.interpolate(torch.from_numpy(low)[:, None], (8, 8), mode="bilinear", align_corners=False)[:, 0]


def gradcam_pp(A: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Chattopadhay et al. 2018, equation 19 with the derivatives of exp(F) (their common factor left out)."""
    low = np.zeros((A.shape[0], *A.shape[2:]))
    for b, k in np.ndindex(*A.shape[:2]):
        weight = 0.0
        for i, j in np.ndindex(*A.shape[2:]):
            d = g[b, k, i, j]
            below = 2 * d**2 + A[b, k].sum() * d**3
            weight += (d**2 / below if below else 0.0) * max(d, 0.0)
        low[b] += weight * A[b, k]
    return np.maximum(low, 0)


@pytest.mark.parametrize("head", ["average", "hidden", "flat"])
def test_gradient_family_by_formula(head: str) -> None:
    model = Head(head).double()
    A, g = maps_and_gradient(model)
    expected = {
        "gradcam": np.maximum((g.mean((2, 3), keepdims=True) * A).sum(1), 0),
        "gradcam++": gradcam_pp(A, g),
        "layercam": (np.maximum(g, 0) * A).sum(1),
    }
    for method, low in expected.items():
        got = attribute(model, X, TARGET, method)
        torch.testing.assert_close(got, enlarge(low), rtol=1e-5, atol=1e-8)
    assert float(attribute(model, X, TARGET, "gradcam", relu=False).min()) < 0


def test_cam_is_the_classifier_on_every_position() -> None:
    model = Head().double()
    with torch.no_grad():
        low = torch.einsum("bk,bkij->bij", model.fc.weight[TARGET], model.maps(X))
        logits = model(X)[range(3), TARGET]
    torch.testing.assert_close(low.mean((1, 2)) + model.fc.bias[TARGET], logits)
    got = attribute(model, X, TARGET, "cam")
    torch.testing.assert_close(got, enlarge(low.detach().numpy()))
    torch.testing.assert_close(
        attribute(model, X, TARGET, "cam", relu=True), enlarge(low.detach().clamp(min=0).numpy())
    )


@pytest.mark.parametrize("relu", [False, True])
def test_gradcam_is_cam_up_to_a_positive_factor_on_a_global_average_network(relu: bool) -> None:
    for model, x in (
        (Head().double(), X),
        (network("resnet18", double=True, narrow=True), torch.rand(2, 3, 64, 64)),
    ):
        x = x.double()
        cam = attribute(model.eval(), x, 1, "cam", relu=relu)
        gradcam = attribute(model, x, 1, "gradcam", relu=relu)
        positions = 16 if isinstance(model, Head) else 4
        torch.testing.assert_close(gradcam * positions, cam, rtol=1e-8, atol=1e-10)
        assert float(cam.abs().max()) > 0


def test_scorecam_by_formula() -> None:
    model = Head("hidden").double()
    with torch.no_grad():
        A = model.maps(X)
        low = torch.zeros(3, 4, 4, dtype=torch.float64)
        for b in range(3):
            scores = []
            for k in range(5):
                a = A[b, k]
                mask = (a - a.min()) / (a.max() - a.min()) if a.max() > a.min() else torch.zeros_like(a)
                up = F.interpolate(mask[None, None], (8, 8), mode="bilinear", align_corners=False)[0]
                scores.append(model((X[b] * up)[None])[0, TARGET[b]])
            weights = torch.stack(scores).softmax(0)
            low[b] = torch.einsum("k,kij->ij", weights, A[b]).clamp(min=0)
    expected = enlarge(low.numpy())
    torch.testing.assert_close(attribute(model, X, TARGET, "scorecam"), expected)
    torch.testing.assert_close(attribute(model, X, TARGET, "scorecam", channels=5, max_batch=2), expected)
    fewer = attribute(model, X, TARGET, "scorecam", channels=2)
    assert not torch.allclose(fewer, expected)


@pytest.mark.parametrize("limit", [1, 4, 7])
def test_scorecam_honours_max_batch(limit: int) -> None:
    model = Head().double()
    # The check of a new network takes up to three images.
    find_sites(model, X)
    sizes = []
    handle = model.register_forward_pre_hook(lambda _m, args: sizes.append(len(args[0])))
    limited = attribute(model, X, TARGET, "scorecam", max_batch=limit)
    handle.remove()
    assert max(sizes) <= limit
    torch.testing.assert_close(limited, attribute(model, X, TARGET, "scorecam"))


@pytest.mark.filterwarnings("ignore")  # captum and torchcam warn about their own hooks and defaults
@pytest.mark.parametrize(
    ("method", "peer"), [("cam", "CAM"), ("gradcam", "GradCAM"), ("layercam", "LayerCAM"), ("scorecam", "ScoreCAM")]
)
def test_agrees_with_torchcam(method: str, peer: str) -> None:
    """Not its Grad-CAM++: torchcam 0.5 divides a copy there (``alpha[idx][mask].div_``), so its alpha is g^2."""
    methods = pytest.importorskip("torchcam.methods", reason="torchcam is an optional dependency")
    model = (
        nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(6, 9, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(9, 5),
        )
        .double()
        .eval()
    )
    x = X[:1]
    options = {"fc_layer": "6"} if method == "cam" else {}
    with getattr(methods, peer)(model, "3", input_shape=(3, 8, 8), **options) as extractor:
        scores = model(x.clone().requires_grad_())
        low = extractor(2, scores, normalized=False)[0]
    expected = F.interpolate(low[:, None], (8, 8), mode="bilinear", align_corners=False)[:, 0].detach()
    if method == "scorecam":  # theirs normalises the small maps with 1e-8 added to the span
        torch.testing.assert_close(attribute(model, x, 2, method, layer="3"), expected, rtol=1e-6, atol=1e-9)
    else:
        torch.testing.assert_close(attribute(model, x, 2, method, layer="3"), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_guided_gradcam_agrees_with_captum() -> None:
    captum = pytest.importorskip("captum.attr", reason="captum is an optional dependency")
    torch.manual_seed(0)
    model = torchvision.models.squeezenet1_1(weights=None, num_classes=5).double().eval()
    x = torch.randn(2, 3, 48, 48, dtype=torch.float64)
    layer = model.features[12].expand3x3_activation
    peer = captum.GuidedGradCam(model, layer)
    theirs = peer.attribute(x.clone().requires_grad_(), target=3, interpolate_mode="bilinear").detach()
    ours = attribute_full(model, x, 3, "guided_gradcam", layer="features.12.expand3x3_activation")
    torch.testing.assert_close(ours.raw, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", ["guided_gradcam", "guided_gradcam++"])
def test_guided_methods_are_products(method: str) -> None:
    model = Head().double()
    found = attribute_full(model, X, TARGET, method)
    guided = attribute_full(model, X, TARGET, "guided").raw
    cam = attribute(model, X, TARGET, method.removeprefix("guided_"))
    torch.testing.assert_close(found.raw, guided * cam[:, None])
    assert found.info == {"layer": "relu:1"}
    resampled = attribute_full(model, X, TARGET, method, resample=True).raw
    assert not torch.allclose(resampled, found.raw)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer4.0.relu:1"),
        ("densenet121", "relu"),
        ("googlenet", "inception5b:cat"),
        ("squeezenet1_1", "features.12:cat"),
        ("mobilenet_v3_small", "features.8.2"),
        ("convnext_tiny", "features.5.0:add"),
    ],
)
def test_default_target_layer(name: str, layer: str) -> None:
    """The last convolutional map; where branches are concatenated, all of them."""
    model = network(name, narrow=True)
    assert attribute_full(model, torch.randn(1, 3, 64, 64), 0, "layercam").info["layer"] == layer


def test_cam_refuses_what_it_cannot_be_right_on() -> None:
    cases = [
        (Head("hidden"), "this network has 'tanh' at 'tanh' there"),
        (Head("flat"), "needs a global average after layer 'relu:1'"),
        (Head("maximum"), "needs a global average after layer 'relu:1'"),
    ]
    for model, message in cases:
        with pytest.raises(ModelError, match=message):
            attribute(model.double().eval(), X, 0, "cam")


def test_cam_of_a_convolution_that_is_averaged_last_is_the_class_s_own_map() -> None:
    body = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)]
    for rectified in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(*body, *([nn.ReLU()] if rectified else []), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        model = model.double().eval()
        with torch.no_grad():
            maps = model[: 3 + rectified](X)[:, 1:2]
        found = attribute_full(model, X, 1, "cam")
        assert found.info["layer"] == str(2 + rectified)
        enlarged = torch.nn.functional.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
        torch.testing.assert_close(found.maps, enlarged)


def test_errors() -> None:
    with pytest.raises(InterpNetError, match="channels is 0; expected a whole number of at least 1"):
        attribute(Head().double(), X, 0, "scorecam", channels=0)
    dense = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.ReLU(), nn.Linear(4, 2)).double().eval()
    for method in NAMES:
        with pytest.raises(LayerError, match="needs a layer with a 2-D map"):
            attribute(dense, X, 0, method)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in dense.modules())


@pytest.mark.parametrize("method", [n for n in NAMES if n != "cam"])
@pytest.mark.parametrize("build", [lambda: Spelled("inplace"), lambda: Spelled("method"), Branches])
def test_a_sample_does_not_depend_on_its_batch(method: str, build: object) -> None:
    model = build().double().eval()
    x = torch.randn(3, 2 if isinstance(model, Branches) else 3, 16, 16, dtype=torch.float64)
    maps = attribute(model, x, [0, 1, 2], method)
    for i in range(3):
        torch.testing.assert_close(attribute(model, x[i : i + 1], [i], method)[0], maps[i])
