"""DeepLIFT by values computed otherwise: the paper's examples, loops, explicit float64 matrices, and captum."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.deeplift import METHODS, Wrap, raw
from helpers.networks import images
from torch import Tensor, nn

from interpnet.attribution import attribute_full

# A class whose score does not change has a map of zeros.
pytestmark = pytest.mark.filterwarnings("ignore:.*zero everywhere")


class Minimum(nn.Module):
    """min(a, b) = a - relu(a - b): the paper's case for RevealCancel."""

    def __init__(self) -> None:
        super().__init__()
        self.difference = nn.Linear(2, 1, bias=False)
        self.difference.weight.data = torch.tensor([[1.0, -1.0]])

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return x[:, :1] - F.relu(self.difference(x))


def test_the_papers_minimum_gives_all_to_one_input_under_rescale_and_half_each_under_revealcancel() -> None:
    x = torch.tensor([[[[3.0, 1.0]]]], dtype=torch.float64)
    assert raw(Minimum(), x).flatten().tolist() == pytest.approx([0.0, 1.0])
    # dz = 3 - 1; dy+ = [f(3) + f(2)]/2 - [f(0) + f(-1)]/2 = 2.5, dy- = -0.5; so a: 3 - 2.5, b: +0.5.
    assert raw(Minimum(), x, "deeplift_revealcancel").flatten().tolist() == pytest.approx([0.5, 0.5])


def test_saturation_by_hand() -> None:
    # y = 1 - relu(1 - a - b) at (2, 1) from 0: the gradient is 0, the difference 1 is shared 2 : 1.
    net = Wrap(lambda v: 1 - F.relu(F.linear(v, -torch.ones(1, 2, dtype=v.dtype), torch.ones(1, dtype=v.dtype))))
    x = torch.tensor([[[[2.0, 1.0]]]], dtype=torch.float64)
    assert raw(net, x).flatten().tolist() == pytest.approx([2 / 3, 1 / 3])


def test_product_is_the_shapley_value_of_its_factors() -> None:
    class Gate(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :, :, 0] * x[:, :, :, 1]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = Gate()

        def forward(self, x: Tensor) -> Tensor:
            return self.gate(x).flatten(1)

    x = torch.tensor([[[[3.0, 5.0]]]], dtype=torch.float64)
    base = torch.tensor([[[1.0, 2.0]]], dtype=torch.float64)
    # Orders: a first (3-1)*2 = 4, then b 3*(5-2) = 9; b first 1*3 = 3, then a 2*5 = 10.
    assert raw(Net(), x, baseline=base).flatten().tolist() == pytest.approx([(4 + 10) / 2, (9 + 3) / 2])


def windows(n: int, k: int, s: int, p: int, d: int) -> list[list[int]]:
    starts = range(-p, n + p - d * (k - 1), s)
    return [[i for j in range(k) if 0 <= (i := a + j * d) < n] for a in starts]


@pytest.mark.parametrize(("k", "s", "p", "d"), [(2, 2, 0, 1), (3, 1, 1, 1), (3, 2, 1, 1), (2, 1, 0, 2), (4, 3, 2, 1)])
def test_maximum_by_an_explicit_loop_over_windows(k: int, s: int, p: int, d: int) -> None:
    n = 11
    x = images(1, 1, 1, n, seed=1)
    x0 = images(1, 1, n, seed=2)
    w = images(n, seed=3)
    v = x.flatten().numpy()
    v0 = x0.flatten().numpy()
    expected = np.zeros(n)
    for weight, window in zip(w.numpy(), windows(n, k, s, p, d), strict=False):
        i, i0 = (window[int(np.argmax(u[window]))] for u in (v, v0))
        y = v[i]
        y0 = v0[i0]
        expected[i if y >= y0 else i0] += weight * (y - y0)
    m = len(windows(n, k, s, p, d))

    class Pool(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (F.max_pool1d(x[:, :, 0], k, s, p, d).flatten(1) * w[:m]).sum(1, keepdim=True)

    assert raw(Pool(), x, baseline=x0).flatten().numpy() == pytest.approx(expected, abs=1e-12)


def rescale_reference(weights: list[tuple[np.ndarray, np.ndarray]], x: np.ndarray, x0: np.ndarray) -> np.ndarray:
    """Multipliers of a dense network of rectifiers, as explicit matrices."""
    steps = []
    for w, b in weights[:-1]:
        z = w @ x + b
        z0 = w @ x0 + b
        steps.append((w, (np.maximum(z, 0) - np.maximum(z0, 0)) / (z - z0)))
        x = np.maximum(z, 0)
        x0 = np.maximum(z0, 0)
    m = weights[-1][0][0]
    for w, ratio in reversed(steps):
        m = w.T @ (m * ratio)
    return m


def reveal_reference(weights: list[tuple[np.ndarray, np.ndarray]], x: np.ndarray, x0: np.ndarray) -> np.ndarray:
    """The same under RevealCancel: the paper's multipliers, loop by loop, 1/2 where an input does not move."""
    relu = lambda v: max(v, 0.0)  # noqa: E731
    steps = []
    for w, b in weights[:-1]:
        dx = x - x0
        z0 = w @ x0 + b
        plus_share = np.where(w * dx > 0, 1.0, np.where(w * dx < 0, 0.0, 0.5))
        plus = (plus_share * w * dx).sum(1)
        minus = ((1 - plus_share) * w * dx).sum(1)
        ups = []
        downs = []
        for p, n, c in zip(plus, minus, z0, strict=True):
            up = (relu(c + p) - relu(c)) / 2 + (relu(c + n + p) - relu(c + n)) / 2
            down = (relu(c + n) - relu(c)) / 2 + (relu(c + p + n) - relu(c + p)) / 2
            limit = (float(c > 0) + float(c + p + n > 0)) / 2
            ups.append(up / p if p else limit)
            downs.append(down / n if n else limit)
        steps.append((w, plus_share, np.array(ups), np.array(downs)))
        x = np.maximum(w @ x + b, 0)
        x0 = np.maximum(z0, 0)
    m = weights[-1][0][0]
    for w, plus_share, up, down in reversed(steps):
        m = (w * plus_share).T @ (m * up) + (w * (1 - plus_share)).T @ (m * down)
    return m


@pytest.mark.parametrize(
    ("method", "reference"), [("deeplift", rescale_reference), ("deeplift_revealcancel", reveal_reference)]
)
@pytest.mark.parametrize("seed", range(3))
def test_dense_networks_by_explicit_matrices(method: str, reference: Callable[..., np.ndarray], seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = (6, 7, 5, 4)
    weights = [(rng.normal(size=(b, a)), rng.normal(size=b)) for a, b in pairwise(sizes)]
    x, x0 = rng.normal(size=(2, 6))
    x[2] = x0[2]  # an input that does not move
    layers: list[nn.Module] = [nn.Flatten()]
    for w, b in weights:
        layer = nn.Linear(w.shape[1], w.shape[0]).double()
        layer.weight.data = torch.from_numpy(w)
        layer.bias.data = torch.from_numpy(b)
        layers += [layer, nn.ReLU()]
    got = raw(
        nn.Sequential(*layers[:-1]),
        torch.from_numpy(x)[None, None, None],
        method,
        baseline=torch.from_numpy(x0)[None, None],
    )
    assert got.flatten().numpy() == pytest.approx(reference(weights, x, x0) * (x - x0), abs=1e-12)


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    out = copy.deepcopy(conv)
    scale = norm.weight.data / (norm.running_var + norm.eps).sqrt()
    out.weight.data = conv.weight.data * scale[:, None, None, None]
    out.bias.data = (conv.bias.data - norm.running_mean) * scale + norm.bias.data
    return out


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_norm_and_the_convolution_it_folds_into_are_one_linear_layer(method: str) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 4, 3).double()
    norm = nn.BatchNorm2d(4).double()
    norm.weight.data = torch.tensor([1.0, -2.0, 0.5, -0.3], dtype=torch.float64)
    norm.running_mean.normal_()
    norm.bias.data.normal_()
    tail = [nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 1)]
    x = images(2, 2, 6, 6)
    torch.testing.assert_close(
        raw(nn.Sequential(conv, norm, *tail), x, method), raw(nn.Sequential(folded(conv, norm), *tail), x, method)
    )


def test_revealcancel_through_a_sum_an_average_and_a_concatenation_is_the_composed_linear_layer() -> None:
    torch.manual_seed(0)
    a = nn.Conv2d(2, 3, 1)
    b = nn.Conv2d(2, 3, 1)
    joined = nn.Conv2d(4, 3, 1)
    joined.weight.data = torch.cat([a.weight.data, b.weight.data], 1)
    joined.bias.data = a.bias.data + b.bias.data

    class Sum(nn.Module):
        def __init__(self, *parts: nn.Module) -> None:
            super().__init__()
            self.parts = nn.ModuleList(parts)

        def forward(self, x: Tensor) -> Tensor:
            if len(self.parts) == 1:
                z = self.parts[0](x)
            else:
                z = self.parts[0](x[:, :2])
                z += self.parts[1](x[:, 2:])
            return F.relu(torch.cat([z, z[:, :1] * 2], 1)[:, :3]).flatten(1).sum(1, keepdim=True)

    x = images(2, 4, 3, 3)
    one, two = (raw(Sum(*p), x, "deeplift_revealcancel") for p in ((joined,), (a, b)))
    torch.testing.assert_close(one, two)


MOVES = {
    "view": lambda x: x.view(x.shape),
    "reshape": lambda x: x.reshape(x.shape),
    "flatten": lambda x: x.flatten(1).unflatten(1, x.shape[1:]),
    "slice": lambda x: x[:, :],
    "permute": lambda x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2),
    "transpose": lambda x: x.transpose(1, 2).transpose(1, 2),
    "roll": lambda x: x.roll(1, 2).roll(-1, 2),
    "chunk": lambda x: torch.cat(x.chunk(3, 1), 1),
    "split": lambda x: torch.cat(x.split([1, 2], 1), 1),
    "clone": lambda x: x.clone(),
    "contiguous": lambda x: x.contiguous(),
    "pad": lambda x: F.pad(x, (1, 1))[..., 1:-1],
    "dropout": lambda x: F.dropout(x, training=False),
}


@pytest.mark.parametrize("name", MOVES)
def test_revealcancel_follows_a_difference_through_what_only_moves_values(name: str) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, 2)

    class Net(nn.Module):
        def __init__(self, move: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            self.conv = conv
            self.move = move

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.move(self.conv(x))).flatten(1).sum(1, keepdim=True)

    x = images(2, 2, 4, 4)
    moved, plain = (raw(Net(move), x, "deeplift_revealcancel") for move in (MOVES[name], lambda y: y))
    torch.testing.assert_close(moved, plain)


def test_agrees_with_captum_on_a_plain_sequence() -> None:
    captum = pytest.importorskip("captum.attr")
    torch.manual_seed(0)
    net = (
        nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(4, 5, 3),
            nn.ELU(),
            nn.Flatten(),
            nn.Linear(20, 7),
            nn.Softplus(),
            nn.Linear(7, 3),
        )
        .double()
        .eval()
    )
    x = images(2, 3, 10, 10)
    base = images(2, 3, 10, 10, seed=5)
    with pytest.warns(UserWarning, match="Setting forward, backward hooks"):
        expected = captum.DeepLift(net).attribute(x.clone().requires_grad_(), base, target=[2, 0])
    got = attribute_full(net, x, [2, 0], "deeplift", baseline=base).raw
    torch.testing.assert_close(got, expected.detach())
