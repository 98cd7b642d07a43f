"""Parameter randomisation, its pieces by hand: what is drawn, how it is settled, what is told besides the curves."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from interpnet.errors import DataError
from interpnet.evaluate import parameter_randomisation
from interpnet.evaluate._reinitialise import output_sizes, redraw, settle, weighted_layers


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def generator_of(seed: int, name: str) -> torch.Generator:
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


@pytest.mark.parametrize("how", ["permute", "normal"])
def test_a_draw_by_its_definition(how: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    (layer,) = weighted_layers(model, torch.rand(2, 1, 3, 4, dtype=torch.float64)).layers
    redraw(model, layer, how, 9)
    for name, old in before.items():
        flat = old.flatten()
        generator = generator_of(9, name)
        if how == "permute":
            expected = flat[torch.randperm(len(flat), generator=generator)]
        else:
            drawn = torch.randn(len(flat), generator=generator, dtype=torch.float64)
            expected = drawn * math.sqrt(((flat - flat.mean()) ** 2).mean()) + flat.mean()
        torch.testing.assert_close(dict(model.named_parameters())[name].flatten(), expected, rtol=1e-12, atol=1e-15)


def test_a_settled_layer_has_its_old_size_and_a_dead_one_stays() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).double().eval()
    images = some(5, 1, 2, 2)
    layers = weighted_layers(model, images).layers
    sizes = output_sizes(model, layers, images)
    with torch.no_grad():
        first = model[1](images.flatten(1))
        expected = {"1": first.square().mean().sqrt(), "3": model(images).square().mean().sqrt()}
        torch.testing.assert_close(sizes, expected)
        for at, factor in ((1, 7.0), (3, 0.01)):
            model[at].weight *= factor
            model[at].bias *= factor
        settle(model, layers, [], sizes, images)
        torch.testing.assert_close(model[1](images.flatten(1)), first)
        assert model(images).square().mean().sqrt().item() == pytest.approx(sizes["3"].item())
        # Nothing comes through a layer of zeros: no factor brings it back, and none is infinite.
        model[1].weight.zero_()
        model[1].bias.zero_()
        settle(model, layers, [], sizes, images)
        assert all(bool(torch.isfinite(p).all()) for p in model.parameters())
        assert not model[1].weight.any()


def test_momenta_and_modes_are_put_back_also_after_an_error() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3, momentum=0.25), nn.Linear(3, 2)).eval()
    layers = weighted_layers(model, torch.rand(2, 1, 2, 2)).layers
    sizes = output_sizes(model, layers, torch.rand(2, 1, 2, 2))
    for count in (4, 1):
        try:
            settle(model, layers, ["2"], sizes, torch.rand(count, 1, 2, 2))
        except DataError as error:
            assert "images: 1 came, too few" in str(error)  # noqa: PT017 - the state after it is what is tested
        assert (model[2].momentum, model[2].training) == (0.25, False)


class Auxiliary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(144, 6)
        self.second = nn.Linear(6, 2)
        self.idle = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x.flatten(1))))


def test_what_a_randomisation_tells_besides_its_curves() -> None:
    torch.manual_seed(0)
    images = torch.rand(3, 1, 12, 12)

    def gradient(model: nn.Module, x: Tensor) -> Tensor:
        x = x.requires_grad_()
        return torch.autograd.grad(model(x)[:, 0].sum(), x)[0][:, 0]

    found = parameter_randomisation(Auxiliary(), images, gradient)
    assert found.layers == ("second", "first")
    assert found.unused == ("idle.weight", "idle.bias")
    assert found.spearman_abs.name == found.spearman.name == "parameter_randomisation_spearman"
    assert found.ssim_abs.name == found.ssim.controls["random"].name == "parameter_randomisation_ssim"
    assert found.spearman.thresholds.tolist() == [0.5, 1.0]
    assert found.constant.shape == (3, 2)
    assert not found.constant.any()
    one = parameter_randomisation(Auxiliary(), images, gradient, stages=1)
    assert one.layers == ("first",)
    assert one.spearman.thresholds.tolist() == [1.0]
    again = parameter_randomisation(Auxiliary(), images, gradient, how="permute", seed=0, window=11, max_batch=64)
    assert again.layers == found.layers


def test_maps_of_another_size_after_randomising() -> None:
    torch.manual_seed(0)
    model = Auxiliary()
    trained = model.second.weight.clone()

    def explain(m: nn.Module, x: Tensor) -> Tensor:
        return x[:, 0] if torch.equal(m.second.weight, trained) else x[:, 0, 1:]

    with pytest.raises(DataError, match=r"maps: shape \(3, 11, 12\) came after \(3, 12, 12\) before randomising"):
        parameter_randomisation(model, torch.rand(3, 1, 12, 12), explain)


def test_the_batch_that_settles_is_as_large_as_allowed() -> None:
    """Batch norms are estimated on the first ``max_batch`` images, and the maps are made of all of them."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).eval()
    images = torch.rand(6, 1, 12, 12)
    statistics = []

    def explain(m: nn.Module, x: Tensor) -> Tensor:
        assert len(x) == 6
        statistics.append((m[2].running_mean.clone(), m[1](x[:4].flatten(1)).mean(0).detach()))
        return x[:, 0]

    parameter_randomisation(model, images, explain, max_batch=4)
    torch.testing.assert_close(statistics[-1][0], statistics[-1][1])
    # With the last layer drawn alone the norm below it keeps what it had.
    assert torch.equal(statistics[1][0], model[2].running_mean)


def test_rank_correlation_of_stages_by_scipy() -> None:
    torch.manual_seed(3)
    images = torch.rand(2, 1, 12, 12)
    maps = [some(2, 12, 12, seed=s) - 0.5 for s in (1, 2, 3)]
    made = iter(maps)
    found = parameter_randomisation(Auxiliary(), images, lambda m, x: next(made))
    for score, of in ((found.spearman, lambda m: m), (found.spearman_abs, np.abs)):
        for s, later in enumerate(maps[1:]):
            for b in range(2):
                expected = spearmanr(of(maps[0][b].numpy()).ravel(), of(later[b].numpy()).ravel()).statistic
                assert score.curve[b, s].item() == pytest.approx(expected)
