"""A network with random weights everywhere is what the last stage of parameter randomisation looks at."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from interpnet.errors import DataError
from interpnet.evaluate import parameter_randomisation, randomised


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 81, 3)).eval()


@pytest.mark.parametrize("how", ["permute", "normal"])
def test_it_is_the_last_stage(how: str) -> None:
    net = network()
    images = torch.rand(8, 1, 13, 13, generator=torch.Generator().manual_seed(1))
    seen: list[dict[str, torch.Tensor]] = []

    def explain(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return x[:, 0] + torch.rand(len(x), 13, 13, generator=torch.Generator().manual_seed(len(seen)))

    parameter_randomisation(net, images, explain, stages=1, how=how, seed=3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = randomised(net, images, how=how, seed=3)
    for name, value in found.state_dict().items():
        torch.testing.assert_close(value, seen[-1][name], rtol=0, atol=0)
        assert torch.equal(net.state_dict()[name], before[name])
    assert not torch.equal(found[0].weight, net[0].weight)


def test_what_runs_through_keeps_its_size() -> None:
    net = network()
    images = torch.rand(64, 1, 13, 13, generator=torch.Generator().manual_seed(2))
    other = randomised(net, images, seed=5)
    with torch.no_grad():
        for end in (4, 7):
            mine, theirs = (model[:end](images).square().mean().sqrt() for model in (net, other))
            assert 0.5 < float(theirs / mine) < 2.0


def test_too_few_images_for_a_batch_norm() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)).eval()
    with pytest.raises(DataError, match="too few to estimate a batch norm's statistics"):
        randomised(net, torch.rand(1, 1, 2, 2))
