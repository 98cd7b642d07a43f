"""Parameter randomisation: the draw keeps the network alive, the user's model stays, and the scores are the maps'."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.networks import Branches, Spelled
from scipy.stats import spearmanr
from torch import Tensor, nn

from interpnet import attribute, channel_heatmap
from interpnet.engine import Channel, Instrument, instrument
from interpnet.errors import DataError, InterpNetError, ModelError
from interpnet.evaluate import parameter_randomisation, spearman, ssim
from interpnet.evaluate._reinitialise import output_sizes, redraw, settle, weighted_layers
from interpnet.models import SmallCNN


def by(method: str, target: int = 0) -> Any:
    signed = {"reduction": "sum"} if method == "gradient" else {}
    return lambda m, x: attribute(m, x, target, method, **signed)


def normed(depth: int = 6) -> tuple[nn.Module, Tensor]:
    """A deep network whose batch norms hold the statistics of its own activations, as after training."""
    torch.manual_seed(3)
    blocks = [
        nn.Sequential(nn.Conv2d(8 if i else 3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()) for i in range(depth)
    ]
    model = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    for block in blocks:  # trained layers differ in scale, and norms make up for it
        block[0].weight.data *= 10 ** (2 * torch.rand(()) - 1)
        block[1].weight.data.uniform_(0.5, 1.5)
        block[1].momentum = None
    images = torch.randn(12, 3, 14, 14)
    model.train()(images)
    return model.eval(), images


def plain(depth: int = 12) -> tuple[nn.Module, Tensor]:
    """A deep network without norms, initialised so that its activations keep their size."""
    torch.manual_seed(4)
    layers: list[nn.Module] = []
    for i in range(depth):
        conv = nn.Conv2d(8 if i else 3, 8, 3, padding=1)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        layers += [conv, nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    return model.eval(), torch.randn(6, 3, 14, 14)


def sizes(model: nn.Module, images: Tensor) -> dict[str, float]:
    """The root mean square of every operator's output."""
    found: dict[str, float] = {}

    def observe(call: Any, out: Any) -> None:
        if call.name:
            found[call.name] = out.double().square().mean().sqrt().item()

    with torch.no_grad(), instrument(model, Instrument(observe=observe)):
        model(images)
    return found


def shuffled(model: nn.Module, images: Tensor, how: str) -> nn.Module:
    """All layers drawn anew and settled."""
    work = copy.deepcopy(model)
    found = weighted_layers(work, images)
    before = output_sizes(work, found.layers, images)
    for layer in found.layers:
        redraw(work, layer, how, 0)
    settle(work, found.layers, [name for _, name in found.norms], before, images)
    return work


def test_layers_in_the_order_of_execution() -> None:
    found = weighted_layers(Spelled("reused").eval(), torch.randn(2, 3, 8, 8))
    assert [layer.name for layer in found.layers] == ["conv1", "conv2", "conv3", "fc1", "fc2"]
    assert found.layers[0].parameters == ("conv1.weight", "conv1.bias", "bn1.weight", "bn1.bias")
    assert found.layers[0].scaled == ("conv1.weight", "conv1.bias")
    assert found.layers[0].site == "conv1"
    assert [name for _, name in found.norms] == ["bn1"]
    assert found.layers[0].at < found.norms[0][0] < found.layers[1].at
    assert found.unused == ()
    branches = weighted_layers(Branches(), torch.randn(2, 2, 12, 12))
    assert [layer.name for layer in branches.layers] == ["a", "b", "squeeze", "excite", "c", "out"]


class Odd(nn.Module):
    """A norm before the first layer, a bare matrix, a layer run out of order and twice, and one never run."""

    def __init__(self) -> None:
        super().__init__()
        self.late = nn.Linear(4, 3)
        self.norm = nn.LayerNorm(4)
        self.matrix = nn.Parameter(torch.randn(4, 4))
        self.idle = nn.Linear(2, 2)
        self.early = nn.Linear(4, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x.flatten(1))
        x = self.early(F.relu(self.early(x)))
        return self.late(x @ self.matrix)


def test_layers_of_an_odd_network() -> None:
    found = weighted_layers(Odd(), torch.randn(3, 1, 2, 2))
    assert [layer.name for layer in found.layers] == ["early", "(root)", "late"]
    assert found.layers[0].parameters == ("early.weight", "norm.weight", "norm.bias")
    assert found.unused == ("idle.weight", "idle.bias")
    with pytest.raises(ModelError, match="no layer with a matrix of weights"):
        weighted_layers(nn.Sequential(nn.BatchNorm2d(1), nn.Flatten()).eval(), torch.randn(3, 1, 2, 2))


@pytest.mark.parametrize("how", ["permute", "normal"])
def test_a_draw_keeps_the_layers_own_statistics(how: str) -> None:
    model = Spelled("module").eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    layer = weighted_layers(model, torch.randn(2, 3, 8, 8)).layers[2]
    redraw(model, layer, how, 5)
    after = model.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed == {"conv3.weight", "conv3.bias"}
    old = before["conv3.weight"].flatten()
    new = after["conv3.weight"].flatten()
    assert abs(torch.corrcoef(torch.stack([old, new]))[0, 1]) < 4 / math.sqrt(old.numel())
    if how == "permute":
        assert torch.equal(old.sort().values, new.sort().values)
    assert new.mean().item() == pytest.approx(old.mean().item(), abs=4 * 0.4 / math.sqrt(old.numel()))
    assert new.std().item() == pytest.approx(old.std().item(), rel=0.15)
    again = Spelled("module").eval()
    redraw(again, layer, how, 5)
    assert torch.equal(again.conv3.weight, after["conv3.weight"])
    redraw(again, layer, how, 6)
    assert not torch.equal(again.conv3.weight, after["conv3.weight"])


@pytest.mark.parametrize("how", ["permute", "normal"])
@pytest.mark.parametrize("make", [normed, plain])
def test_activations_neither_explode_nor_vanish(make: Any, how: str) -> None:
    model, images = make()
    before = sizes(model, images)
    after = sizes(shuffled(model, images, how), images)
    assert before.keys() == after.keys()
    ratios = [after[k] / before[k] for k in before]
    assert min(ratios) > 0.3
    assert max(ratios) < 3.0


def test_what_happens_without_settling() -> None:
    """The reason for it: old statistics and a framework's own initialisation take the signal away."""
    model, images = normed()
    broken = copy.deepcopy(model)
    for module in broken.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.reset_parameters()
    before = sizes(model, images)
    after = sizes(broken, images)
    ratios = [after[k] / before[k] for k in before]
    assert min(ratios) < 0.2 or max(ratios) > 5.0

    model, images = plain()
    faded = copy.deepcopy(model)
    for module in faded.modules():
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    # What differs from image to image is gone; settled, some of it is still there.
    with torch.no_grad():
        spread = [m(images).std(0).mean() / m(images).abs().mean() for m in (faded, shuffled(model, images, "permute"))]
    assert spread[0] < 1e-3
    assert spread[1] > 10 * spread[0]


def test_statistics_of_batch_norms_are_those_of_the_images() -> None:
    model, images = normed(depth=2)
    work = shuffled(model, images, "permute")
    x = images
    with torch.no_grad():
        for i in range(2):
            conv = work[i][0]
            norm = work[i][1]
            out = conv(x)
            np.testing.assert_allclose(norm.running_mean, out.mean((0, 2, 3)), atol=1e-6)
            np.testing.assert_allclose(norm.running_var, out.transpose(0, 1).flatten(1).var(1), rtol=1e-3)
            # In the pass that settles, norms divide by the biased variance of the images themselves.
            x = F.relu(F.batch_norm(out, None, None, norm.weight, norm.bias, training=True))
    assert work[0][1].momentum is None
    assert not any(m.training for m in work.modules())


def naive_cascade(model: nn.Module, images: Tensor, explain: Any, seed: int) -> list[Tensor]:
    """The maps of the cascade, each stage from a fresh copy."""
    found = weighted_layers(model, images)
    before = output_sizes(model, found.layers, images)
    maps = []
    for n in range(1, len(found.layers) + 1):
        work = copy.deepcopy(model)
        drawn = found.layers[-n:]
        for layer in drawn:
            redraw(work, layer, "permute", seed)
        settle(work, drawn, [name for at, name in found.norms if at > drawn[0].at], before, images)
        maps.append(explain(work, images))
    return maps


@pytest.mark.parametrize("make", [normed, plain])
def test_the_scores_are_those_of_the_maps(make: Any) -> None:
    model, images = make(3)
    explain = by("gradient", 1)
    found = parameter_randomisation(model, images, explain, seed=2)
    original = explain(model, images)
    maps = naive_cascade(model, images, explain, 2)
    assert found.layers[0] == found_last(model)
    assert found.spearman.curve is not None
    assert found.spearman.thresholds is not None
    assert found.spearman.curve.shape == (len(images), 4)
    assert found.spearman.thresholds.tolist() == [0.25, 0.5, 0.75, 1.0]
    for score, alike, of in (
        (found.spearman, spearman, lambda m: m),
        (found.spearman_abs, spearman, torch.abs),
        (found.ssim, ssim, lambda m: m),
        (found.ssim_abs, ssim, torch.abs),
    ):
        expected = torch.stack([alike(of(original), of(m)) for m in maps], 1)
        torch.testing.assert_close(score.curve, expected, rtol=0, atol=2e-3)
        assert torch.equal(score.values, score.curve[:, -1])
        assert score.direction == "lower is better"
        noise = attribute(model, images, 0, "random", seed=2)
        torch.testing.assert_close(score.controls["random"].values, alike(of(original), noise))
    by_hand = spearmanr(original[0].flatten(), maps[-1][0].flatten()).statistic
    assert found.spearman.values[0].item() == pytest.approx(by_hand, abs=2e-3)


def found_last(model: nn.Module) -> str:
    return [name for name, m in model.named_modules() if isinstance(m, nn.Linear)][-1]


def test_a_linear_network_by_hand() -> None:
    """Its gradient is its weights: the score is the rank correlation of the weights with their permutation."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 2))
    found = parameter_randomisation(model, torch.rand(3, 1, 12, 12), by("gradient"))
    assert found.layers == ("1",)
    drawn = copy.deepcopy(model)
    redraw(drawn, weighted_layers(drawn, torch.rand(2, 1, 12, 12)).layers[0], "permute", 0)
    old, new = (m[1].weight[0].detach().numpy() for m in (model, drawn))
    np.testing.assert_allclose(found.spearman.values.numpy(), spearmanr(old, new).statistic, atol=1e-6)
    assert abs(found.spearman.mean) < 4 / math.sqrt(143)


def test_methods_that_ignore_the_network_are_found_out() -> None:
    model, images = normed()
    edge = parameter_randomisation(model, images, by("edge"))
    assert edge.spearman.curve is not None
    np.testing.assert_allclose(edge.spearman.curve.numpy(), 1.0, rtol=1e-9)
    np.testing.assert_allclose(edge.ssim.curve.numpy(), 1.0, rtol=1e-9)
    gradient = parameter_randomisation(model, images, by("gradient"))
    assert abs(gradient.spearman.mean) < 0.2
    assert abs(gradient.spearman.controls["random"].mean) < 0.1


def test_channel_heatmaps_and_stages() -> None:
    model = SmallCNN(3, 4, 16, seed=1)
    images = torch.rand(4, 3, 16, 16)
    channel = Channel("blocks.2.relu", 3)
    found = parameter_randomisation(model, images, lambda m, x: channel_heatmap(m, x, channel), stages=3)
    everything = parameter_randomisation(model, images, lambda m, x: channel_heatmap(m, x, channel))
    n = len(everything.layers)
    at = [n * (i + 1) // 3 - 1 for i in range(3)]
    assert found.layers == tuple(everything.layers[i] for i in at)
    assert found.layers[-1] == "blocks.0.conv"
    assert everything.spearman.curve is not None
    assert found.spearman.curve is not None
    torch.testing.assert_close(found.spearman.curve[:, -1], everything.spearman.curve[:, -1], rtol=0, atol=1e-3)
    # The classifier lies above this channel: drawing it anew changes nothing.
    np.testing.assert_allclose(everything.spearman.curve[:, 0].numpy(), 1.0, rtol=1e-6)
    assert (everything.spearman.values < 0.9).all()


def test_the_users_model_is_left_alone() -> None:
    model = SmallCNN(3, 4, 12, seed=1).train()
    images = torch.rand(4, 3, 12, 12)
    model.blocks[1].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    flags = [m.training for m in model.modules()]
    kept = images.clone()
    drawn = torch.get_rng_state()
    seen: list[nn.Module] = []

    def explain(m: nn.Module, x: Tensor) -> Tensor:
        seen.append(m)
        maps = attribute(m, x, 1, "gradient")
        x.zero_()
        return maps

    a = parameter_randomisation(model, images, explain)
    assert all(m is not model for m in seen)
    assert [m.training for m in model.modules()] == flags
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(p.requires_grad for p in model.parameters())
    assert torch.equal(images, kept)
    assert torch.equal(torch.get_rng_state(), drawn)
    b = parameter_randomisation(model, images, explain)
    assert torch.equal(a.ssim.curve, b.ssim.curve)
    assert not torch.equal(a.ssim.curve, parameter_randomisation(model, images, explain, seed=1).ssim.curve)


def test_constant_maps_are_refused_before_and_counted_after() -> None:
    model, images = normed(2)
    trained = model[0][0].weight.clone()

    def explain(m: Any, x: Tensor) -> Tensor:
        maps = x.mean(1)
        maps[1] *= float(torch.equal(m[0][0].weight, trained))
        return maps

    found = parameter_randomisation(model, images, explain)
    assert found.constant.nonzero().tolist() == [[1, 2]]
    assert found.spearman.values[1].item() == 0.0
    assert found.spearman.flagged is not None
    assert not found.spearman.flagged.any()
    with pytest.raises(DataError, match="maps of the network as it is: the map of images 0, 1, 2, 3 and 8 more"):
        parameter_randomisation(model, images, lambda m, x: 0 * x[:, 0])
    flat = parameter_randomisation(model, images, lambda m, x: 0 * x[:, 0], constant="zero")
    assert flat.spearman.flagged is not None
    assert flat.spearman.flagged.all()


def test_on_every_device(device: str) -> None:
    model, images = normed(3)
    expected = parameter_randomisation(model, images, by("gradient"))
    found = parameter_randomisation(model.to(device), images, by("gradient"))
    assert found.ssim.values.device.type == device
    torch.testing.assert_close(found.ssim.values.cpu(), expected.ssim.values, rtol=0, atol=0.05)


def nan_when_random(m: Any, x: Tensor) -> Tensor:
    maps = x.mean(1)
    if not torch.equal(m[-1].weight, normed(2)[0][-1].weight):
        maps[2, 0, 0] = math.nan
    return maps


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"how": "reset"}, InterpNetError, "how is 'reset'; expected 'permute' or 'normal'"),
        ({"seed": -1}, InterpNetError, "seed is -1; expected a whole number of at least 0"),
        ({"max_batch": 0}, InterpNetError, "max_batch is 0; expected a whole number of at least 1"),
        ({"stages": 4}, InterpNetError, "stages is 4; expected a whole number from 1 to 3"),
        ({"stages": 0}, InterpNetError, "stages is 0; expected a whole number from 1 to 3"),
        ({"window": 15}, InterpNetError, r"window=15 is larger than the maps, \(14, 14\)"),
        ({"constant": "skip"}, InterpNetError, "constant is 'skip'; expected 'error' or 'zero'"),
        (
            {"explain": lambda m, x: x},
            DataError,
            r"explain returned shape \(12, 3, 14, 14\), torch.float32 for the network as it is",
        ),
        ({"explain": lambda m, x: None}, DataError, "explain returned a NoneType"),
        ({"explain": nan_when_random}, DataError, "maps of the network random down to 4: NaN or infinity in image 2"),
        ({"images": [1]}, DataError, "images: a list came"),
        ({"model": "resnet18"}, ModelError, "model is a str"),
    ],
)
def test_bad_input(change: dict[str, Any], error: type[Exception], message: str) -> None:
    model, images = normed(2)
    given = {"model": model, "images": images, "explain": lambda m, x: x.mean(1), **change}
    with pytest.raises(error, match=message):
        parameter_randomisation(**given)


def test_too_few_images_for_a_batch_norm() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)).eval()
    with pytest.raises(DataError, match="images: 1 came, too few to estimate a batch norm's statistics"):
        parameter_randomisation(model, torch.rand(1, 1, 12, 12), lambda m, x: x[:, 0])


def test_a_model_that_cannot_be_copied() -> None:
    model, images = normed(2)
    model.cache = model[-1].weight * 2  # a tensor with a graph
    with pytest.raises(ModelError, match="the model cannot be copied"):
        parameter_randomisation(model, images, lambda m, x: x.mean(1))
