"""LRP and DeepLIFT on sums with a factor: ``alpha`` of add and sub, on either side, in every spelling."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from interpnet.attribution import attribute_full

# A sum of two branches, and the weights of its two terms.
SUMS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], tuple[float, float]]] = {
    "add": (lambda a, b: a + b, (1.0, 1.0)),
    "add with alpha": (lambda a, b: torch.add(a, b, alpha=2.0), (1.0, 2.0)),
    "method with alpha": (lambda a, b: a.add(b, alpha=-3.0), (1.0, -3.0)),
    "in place with alpha": (lambda a, b: a.clone().add_(b, alpha=0.5), (1.0, 0.5)),
    "sub": (lambda a, b: a - b, (1.0, -1.0)),
    "sub with alpha": (lambda a, b: torch.sub(a, b, alpha=2.0), (1.0, -2.0)),
    "method sub with alpha": (lambda a, b: a.sub(b, alpha=0.25), (1.0, -0.25)),
    "rsub": (torch.rsub, (-1.0, 1.0)),
    "rsub with alpha": (lambda a, b: torch.rsub(a, b, alpha=2.0), (-2.0, 1.0)),
}


class Sum(nn.Module):
    """Two rectified linear branches, added up and summed to one logit per class."""

    def __init__(self, add: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.add = add
        self.a = nn.Linear(3, 4, bias=False)
        self.b = nn.Linear(3, 4, bias=False)
        self.out = nn.Linear(4, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.out(self.add(torch.relu(self.a(x)), torch.relu(self.b(x))))


@pytest.mark.parametrize("name", SUMS)
def test_each_term_has_its_weight(name: str) -> None:
    add, (first, second) = SUMS[name]
    torch.manual_seed(3)
    net = Sum(add).double().eval()
    x = torch.rand(2, 1, 1, 3, dtype=torch.float64) + 0.1
    flat = x.flatten(1)
    v = net.out.weight[1].detach()
    # Without biases LRP-0 gives each input its value times the gradient: by hand, branch by branch.
    expected = torch.zeros_like(flat)
    for branch, weight in ((net.a, first), (net.b, second)):
        on = (flat @ branch.weight.T > 0).double().detach()
        expected += weight * flat * ((on * v) @ branch.weight.detach())
    found = attribute_full(net, x, 1, "lrp_0").raw.flatten(1)
    torch.testing.assert_close(found, expected)
    # From a reference of zeros, where every rectifier is off, DeepLIFT's multipliers are z's own: the same values.
    lift = attribute_full(net, x, 1, "deeplift", baseline=0.0).raw.flatten(1)
    torch.testing.assert_close(lift.sum(1), net(x)[:, 1].detach())
    torch.testing.assert_close(lift, expected)
