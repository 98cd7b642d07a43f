"""Averages of gradients: against captum, against sums written out, and their exact cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.networks import Branches
from torch import Tensor, nn

from experiments.attribution_table.networks import images, network
from interpnet.attribution import attribute, attribute_full
from interpnet.engine import find_sites
from interpnet.errors import InterpNetError

captum = pytest.importorskip("captum.attr", reason="captum is a development dependency")

TARGET = torch.tensor([3, 1])


class Smooth(nn.Module):
    """A network without kinks."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.a = nn.Conv2d(2, 3, 3)
        self.b = nn.Linear(3 * 36, 3)
        for p in self.parameters():
            p.data = 0.3 * torch.randn(p.shape, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.b(torch.tanh(self.a(x)).flatten(1))
        return y


def smooth() -> tuple[nn.Module, Tensor]:
    return Smooth().double().eval(), torch.randn(2, 2, 8, 8, dtype=torch.float64)


def raw(model: nn.Module, x: Tensor, target: object, method: str, **options: object) -> Tensor:
    found = attribute_full(model, x, target, method, **options).raw  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["squeezenet1_1", "vgg11_bn"])
def test_integrated_gradients_agree_with_captum(name: str) -> None:
    # captum rounds its quadrature weights to single precision.
    model = network(name, double=True, narrow=True)
    x = images(double=True)
    baseline = 0.2 * images(double=True).flip(0)
    peer = captum.IntegratedGradients(model)
    theirs = peer.attribute(x, baselines=baseline, target=TARGET, n_steps=4, method="gausslegendre").detach()
    ours = raw(model, x, TARGET, "integrated_gradients", baseline=baseline, steps=4)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7 * float(theirs.abs().max()))


def test_integrated_gradients_of_a_smooth_network_are_complete() -> None:
    model, x = smooth()
    residuals = []
    for steps in (2, 4, 12):
        found = attribute_full(model, x, TARGET.clamp(max=2), "integrated_gradients", steps=steps, max_batch=5)
        assert found.raw is not None
        assert found.residual is not None
        with torch.no_grad():
            scores = model(x) - model(torch.zeros_like(x))
        expected = scores[torch.arange(2), TARGET.clamp(max=2)]
        off = (found.raw.sum((1, 2, 3)) - expected).abs() / expected.abs()
        torch.testing.assert_close(found.residual, off, rtol=1e-3, atol=1e-12)
        residuals.append(float(found.residual.max()))
    assert residuals[0] > 10 * residuals[1] > 100 * residuals[2]
    assert residuals[2] < 1e-6
    flagged = attribute_full(model, x, 1, "integrated_gradients", steps=2, bound=1e-12).flagged
    assert flagged is not None
    assert flagged.all()


def noises(x: Tensor, samples: int, seed: int = 0) -> list[Tensor]:
    """Return the noise that smoothgrad adds, as it is documented: by seed and pixels."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 2)).to(x).eval()
    # The check of a new network runs it more than once.
    find_sites(model, x)
    # Another model may not change the noise; so read the draws off what this one is shown.
    seen: list[Tensor] = []
    handle = model.register_forward_pre_hook(lambda _m, args: seen.append(args[0].detach().clone()))
    attribute(model, x, 0, "smoothgrad", samples=samples, noise=1.0, seed=seed, max_batch=len(x))
    handle.remove()
    return [s - x for s in seen[1:]]


def test_smoothgrad_and_vargrad_are_moments_of_the_signals_of_noisy_images() -> None:
    model = Branches().double().eval()
    x = torch.randn(2, 2, 16, 16, dtype=torch.float64)
    added = noises(x, 6)
    spread = [float((n[i] / (x[i].max() - x[i].min())).std()) for n in added for i in range(2)]
    assert all(0.9 < s < 1.1 for s in spread)
    for inner in ("gradient", "guided", "gradient_x_input"):
        signals = torch.stack([raw(model, x + 0.2 * n, [0, 2], inner) for n in added])
        mean = raw(model, x, [0, 2], "smoothgrad", inner=inner, samples=6, noise=0.2)
        torch.testing.assert_close(mean, signals.mean(0), rtol=1e-9, atol=1e-12)
        variance = raw(model, x, [0, 2], "vargrad", inner=inner, samples=6, noise=0.2, max_batch=5)
        torch.testing.assert_close(variance, signals.var(0, unbiased=False), rtol=1e-7, atol=1e-12)


def test_what_the_inner_method_needs_is_handed_on() -> None:
    model = Branches().double().eval()
    x = torch.randn(2, 2, 16, 16, dtype=torch.float64)
    added = noises(x, 4)
    baseline = torch.randn(2, 2, 16, 16, dtype=torch.float64)
    ours = raw(model, x, 1, "smoothgrad", inner="simple_taylor", baseline=baseline, samples=4, noise=0.1)
    expected = torch.stack([raw(model, x + 0.1 * n, 1, "simple_taylor", baseline=baseline) for n in added]).mean(0)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)
    with pytest.raises(InterpNetError, match="takes no baseline"):
        attribute(model, x, 1, "smoothgrad", baseline=baseline)


@pytest.mark.filterwarnings("ignore")
def test_smoothgrad_agrees_with_captum_in_the_mean() -> None:
    """Different draws of the same noise: their means over many draws agree within the noise's own error."""
    model, x = smooth()
    scale = float(x[:1].max() - x[:1].min())
    tunnel = captum.NoiseTunnel(captum.Saliency(model))
    settings = {"stdevs": 0.1 * scale, "nt_samples": 2000, "nt_samples_batch_size": 500, "abs": False, "target": 1}
    for kind, method in (("smoothgrad", "smoothgrad"), ("vargrad", "vargrad")):
        theirs = tunnel.attribute(x[:1], nt_type=kind, **settings).detach()
        ours = raw(model, x[:1], 1, method, samples=2000, noise=0.1, max_batch=500)
        assert float((ours - theirs).norm() / theirs.norm()) < 0.1
        plain = raw(model, x[:1], 1, "gradient")
        assert float((ours - plain).norm() / plain.norm()) > 0.02, "the noise did nothing"


def test_expected_gradients_of_one_baseline_are_integrated_gradients_in_the_mean() -> None:
    model, x = smooth()
    baseline = torch.randn(1, 2, 8, 8, dtype=torch.float64)
    exact = raw(model, x, 1, "integrated_gradients", baseline=baseline, steps=20)
    ours = raw(model, x, 1, "expected_gradients", references=baseline, samples=3000, max_batch=500)
    assert float((ours - exact).norm() / exact.norm()) < 0.02


def test_expected_gradients_of_a_linear_score_by_hand() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 2)).double().eval()
    x = torch.randn(3, 2, 2, 2, dtype=torch.float64)
    references = torch.randn(1, 2, 2, 2, dtype=torch.float64)
    weight = model[1].weight[1].view(2, 2, 2).detach()  # type: ignore[operator, union-attr]
    found = attribute_full(model, x, 1, "expected_gradients", references=references, samples=7)
    torch.testing.assert_close(found.raw, weight * (x - references))
    assert found.residual is not None
    assert float(found.residual.max()) < 1e-9
    # By default the baselines have one colour, that of a pixel: their differences sum to zero over all pixels.
    many = raw(model, x, 1, "expected_gradients", samples=4000, max_batch=4000)
    mean_colour = x.mean((2, 3), keepdim=True)
    assert float((many - weight * (x - mean_colour)).abs().max()) < 0.1


def test_bad_options() -> None:
    model, x = smooth()
    for method, options, message in (
        ("smoothgrad", {"inner": "smoothgrad"}, "already averages over noise; expected e.g. gradient"),
        ("smoothgrad", {"inner": "gradiant"}, "unknown method 'gradiant'; did you mean 'gradient'"),
        ("smoothgrad", {"inner": "occlusion"}, "inner='occlusion' has no signal at the image's colours"),
        ("smoothgrad", {"samples": 0}, "samples is 0; expected a whole number of at least 1"),
        ("smoothgrad", {"noise": 0.0}, r"noise is 0\.0; expected a number above 0"),
        ("vargrad", {"samples": 1}, "samples is 1; expected a whole number of at least 2"),
        ("integrated_gradients", {"steps": 2.5}, r"steps is 2\.5; expected a whole number"),
        ("expected_gradients", {"samples": True}, "samples is True; expected a whole number"),
        ("expected_gradients", {"references": torch.zeros(4, 1, 8, 8)}, r"references: shape \(4, 1, 8, 8\) came"),
        ("simple_taylor", {"at": "half"}, "at is 'half'; expected 'baseline' or 'image'"),
    ):
        with pytest.raises(InterpNetError, match=message):
            attribute(model, x, 1, method, **options)


def test_quadrature_weights_are_those_of_gauss_and_legendre() -> None:
    """The integral of a polynomial of degree 2n - 1 is exact with n steps."""

    class Power(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.sum((1, 2, 3)) ** 6, x.sum((1, 2, 3))], 1)

    x = torch.tensor([[[[0.5, 0.7]]]], dtype=torch.float64)
    found = raw(Power().eval(), x, 0, "integrated_gradients", steps=3)
    np.testing.assert_allclose(found.sum(), 1.2**6, rtol=1e-12)
    np.testing.assert_allclose(found[0, 0, 0], [1.2**5 * 0.5, 1.2**5 * 0.7], rtol=1e-12)
