"""A network that is not a function of its image is refused with the cause; one that is, is not."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interpnet.ablation import ablate
from interpnet.engine import Channel, find_sites
from interpnet.engine._function import RandomnessWarning
from interpnet.errors import ModelError
from interpnet.explanation import channel_heatmap
from interpnet.scores import collect_scores


class Net(nn.Module):
    """A small network with a step of its own between its layers."""

    def __init__(self, step: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)
        self.norm = nn.BatchNorm2d(8)
        self.register_buffer("mean", torch.zeros(8, 1, 1))
        self.count = 0
        self.last: Any = None
        self.step = step
        self.generator = torch.Generator().manual_seed(1)
        self.numbers = np.random.default_rng(1)
        # Batch norms whose statistics differ from those of any batch.
        self.norm.running_var.fill_(2.0)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.step(self, self.conv(x)))
        return self.head(x.mean((2, 3)))


def _counter(net: Any, x: Tensor) -> Tensor:
    net.count += 1
    return x * (1 + 0.01 * net.count)


def _running(net: Any, x: Tensor) -> Tensor:
    net.mean.mul_(0.9).add_(0.1 * x.mean((0, 2, 3)).view(-1, 1, 1))
    return x - net.mean


def _replaced(net: Any, x: Tensor) -> Tensor:
    net.mean = 0.9 * net.mean + 0.1 * x.mean((0, 2, 3)).view(-1, 1, 1)
    return x - net.mean


def _previous(net: Any, x: Tensor) -> Tensor:
    last = net.last
    net.last = x.mean((0, 2, 3), keepdim=True).detach()
    return x if last is None else x + 0.1 * last


def _cached(net: Any, x: Tensor) -> Tensor:
    # The first batch of every size is given for all later ones.
    net.last = net.last or {}
    return net.last.setdefault(x.shape, x.detach())


def _rare(net: Any, x: Tensor) -> Tensor:
    # Stochastic depth as in torchvision, left on: a whole batch loses the layer one time in a thousand.
    return x * torch.empty(1, 1, 1, 1).bernoulli_(0.999)


def _rare_rows(net: Any, x: Tensor) -> Tensor:
    return x * (torch.rand(len(x), 1, 1, 1) < 0.999)


RANDOM: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "dropout": (lambda net, x: F.dropout(x, 0.5), "'dropout' in the network's own"),
    "rare dropout": (lambda net, x: F.dropout(x, 1e-5), "'dropout'"),
    "dropout2d": (lambda net, x: F.dropout2d(x, 0.01), "'dropout2d'"),
    "dropout in place": (lambda net, x: F.dropout(x, 0.01, inplace=True), "'dropout'"),
    "torch.dropout": (lambda net, x: torch.dropout(x, 0.01, True), "'dropout'"),
    "alpha dropout": (lambda net, x: F.alpha_dropout(x, 0.3, training=True), "'alpha_dropout'"),
    "rand": (lambda net, x: x + 0.01 * torch.rand(x.shape), "'rand'"),
    "randn": (lambda net, x: x + 0.01 * torch.randn(x.shape[1:]), "'randn'"),
    "randn_like": (lambda net, x: x + 0.001 * torch.randn_like(x), "'randn_like'"),
    "normal": (lambda net, x: x + torch.normal(0.0, 0.01, x.shape), "'normal'"),
    "uniform_": (lambda net, x: x * torch.empty_like(x).uniform_(0.99, 1.01), "'uniform'"),
    "bernoulli": (lambda net, x: x * torch.bernoulli(torch.full_like(x, 0.99)), "'bernoulli'"),
    "stochastic depth": (_rare, "'bernoulli'"),
    "stochastic depth by image": (_rare_rows, "'rand'"),
    "own generator": (lambda net, x: x + 0.01 * torch.rand(x.shape, generator=net.generator), "'rand'"),
    "permuted channels": (lambda net, x: x[:, torch.randperm(8)], "'randperm'"),
    "numpy": (lambda net, x: x * float(np.random.uniform(0.9, 1)), "outside of torch"),  # noqa: NPY002
    "numpy generator": (lambda net, x: x * float(net.numbers.uniform(0.9, 1)), "outside of torch"),
    "Python": (lambda net, x: x * random.uniform(0.9, 1.0), "outside of torch"),  # noqa: S311
}
STATE: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "counter": (_counter, "keeps something between calls"),
    "running mean": (_running, "changes its buffer 'mean'"),
    "replaced buffer": (_replaced, "changes its buffer 'mean'"),
    "the batch before": (_previous, "keeps something between calls"),
}
BATCH: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "batch mean": (lambda net, x: x - x.mean(), "over the batch axis"),
    "batch mean by channel": (lambda net, x: x - x.mean((0, 2, 3), keepdim=True), "over the batch axis"),
    "batch maximum": (lambda net, x: x / x.amax(), "over the batch axis"),
    "sorted": (lambda net, x: x.sort(0).values, "over the batch axis"),
    "flipped": (lambda net, x: x.flip(0), "over the batch axis"),
    "rolled": (lambda net, x: x + 0.1 * x.roll(1, 0), "over the batch axis"),
    "first image": (lambda net, x: x - x[:1], "over the batch axis"),
    "batch norm in training": (
        lambda net, x: F.batch_norm(x, net.norm.running_mean, net.norm.running_var, training=True),
        "'batch_norm' in the network's own",
    ),
    "no running statistics": (lambda net, x: F.batch_norm(x, None, None, training=True), "'batch_norm'"),
    "module in training": (lambda net, x: net.norm.train()(x), "'batch_norm' in 'norm'"),
    "cache by shape": (_cached, "beside other images"),
}


@pytest.mark.parametrize("images", [1, 2, 5])
@pytest.mark.parametrize("name", [*RANDOM, *STATE, *BATCH])
def test_a_network_that_is_no_function_of_its_image_is_refused(name: str, images: int) -> None:
    step, cause = {**RANDOM, **STATE, **BATCH}[name]
    with pytest.raises(ModelError, match=f"does not depend on the image alone.*{cause}"):
        find_sites(Net(step), torch.rand(images, 3, 6, 6))


@pytest.mark.parametrize("name", [*RANDOM, *STATE, *BATCH])
def test_it_is_refused_again_and_leaves_buffers_and_random_state_as_they_were(name: str) -> None:
    model = Net({**RANDOM, **STATE, **BATCH}[name][0])
    images = torch.rand(4, 3, 6, 6)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    for run in (
        lambda: collect_scores(model, [(images, torch.zeros(4, dtype=torch.long))], progress=False),
        lambda: channel_heatmap(model, images, Channel("relu", 0)),
        lambda: find_sites(model, torch.zeros(1, 3, 6, 6)),
    ):
        with pytest.raises(ModelError, match="does not depend on the image alone"):
            run()
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])  # noqa: NPY002


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", ["rare dropout", "stochastic depth", "stochastic depth by image", "dropout"])
def test_no_seed_of_the_callers_hides_what_is_drawn(name: str, seed: int) -> None:
    step, cause = RANDOM[name]
    model = Net(step)
    images = torch.rand(2, 3, 6, 6)
    torch.manual_seed(seed)
    with pytest.raises(ModelError, match=f"gave different outputs twice.*{cause}"):
        find_sites(model, images)


def _seeded_each_time(net: Any, x: Tensor) -> Tensor:
    return x + torch.rand(x.shape[1:], generator=torch.Generator().manual_seed(3))


def _seeds_torch(net: Any, x: Tensor) -> Tensor:
    torch.manual_seed(5)
    return x + torch.rand(x.shape[1:])


def _masked(net: Any, x: Tensor) -> Tensor:
    # As masked autoencoders do: shuffled, nothing left out, and put back.
    order = torch.rand(x.shape[-1]).argsort()
    return x[..., order][..., order.argsort()]


def _lazy(net: Any, x: Tensor) -> Tensor:
    if net.last is None:
        net.last = torch.linspace(0, 1, x.shape[-1])
    return x + net.last


def _observed(net: Any, x: Tensor) -> Tensor:
    # Statistics that the output does not use.
    net.mean.copy_(x.mean((0, 2, 3)).view(-1, 1, 1))
    return x


def _renormed(net: Any, x: Tensor) -> Tensor:
    net.head.weight.data = torch.renorm(net.head.weight.data, 2, 0, 1.0)
    return x


FUNCTIONS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "nothing": lambda net, x: x,
    "dropout of nothing": lambda net, x: F.dropout(x, 0.0),
    "dropout that is off": lambda net, x: F.dropout(x, 0.5, training=net.training),
    "batch norm": lambda net, x: net.norm(x),
    "drawn and unused": lambda net, x: [torch.rand(3), x][1],
    "seeded each time": _seeded_each_time,
    "seeds torch": _seeds_torch,
    "certain bernoulli": lambda net, x: x * torch.bernoulli(torch.ones_like(x)),
    "shuffled and put back": _masked,
    "a cache of positions": _lazy,
    "observed": _observed,
    "weights kept small": _renormed,
    "rounded": lambda net, x: (8 * x).round() / 8,
    "own mean": lambda net, x: x - x.mean((1, 2, 3), keepdim=True),
    "a batch of one": lambda net, x: x.reshape(1, 8, 6, 6),
    "not a number": lambda net, x: x / 0.0,
    "zeros": lambda net, x: x * 0.0,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_network_that_is_a_function_of_its_image_is_not_refused(name: str) -> None:
    model = Net(FUNCTIONS[name])
    images = torch.rand(1 if name == "a batch of one" else 3, 3, 6, 6)
    before = {key: value.clone() for key, value in model.state_dict().items() if key != "head.weight"}
    state = torch.get_rng_state()
    for _ in range(2):
        assert find_sites(model, images).n_outputs == 4
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_low_precision_is_no_dependence_on_the_batch(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1)]
    for _ in range(8):
        layers += [nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 64, 5)).eval()
    images = torch.randn(4, 3, 8, 8)
    assert find_sites(model.to(dtype), images).n_outputs == 5
    with torch.autocast("cpu", torch.bfloat16):
        assert find_sites(model.float(), images).n_outputs == 5
    with pytest.raises(ModelError, match="over the batch axis"):
        find_sites(Net(BATCH["batch mean"][0]).to(dtype), torch.rand(2, 3, 6, 6))


def test_an_unchanged_network_is_checked_once_and_a_changed_one_again() -> None:
    passes = [0]

    def step(net: Any, x: Tensor) -> Tensor:
        passes[0] += 1
        return x

    model = Net(step)
    images = torch.rand(4, 3, 6, 6)

    def needed(x: Tensor = images) -> int:
        passes[0] = 0
        find_sites(model, x)
        return passes[0]

    assert needed() == 6
    assert needed() == needed(torch.rand(2, 3, 6, 6)) == 1
    assert needed(images[..., :5]) == 6
    with torch.no_grad():
        model.head.bias.add_(1.0)
    assert needed() == 6
    model.step = lambda net, x: F.dropout(x, 0.1)
    with pytest.raises(ModelError, match="'dropout'"):
        find_sites(model, images)


def test_rare_draws_of_python_are_a_warning() -> None:
    model = Net(lambda net, x: x if random.random() < 1 - 1e-9 else -x)  # noqa: S311
    state = random.getstate()
    with pytest.warns(RandomnessWarning, match="numpy or Python"):
        find_sites(model, torch.rand(2, 3, 6, 6))
    assert random.getstate() == state


def test_ablate_checks_what_is_not_logits_and_leaves_training_alone() -> None:
    model = Net(lambda net, x: F.dropout(x, 0.5, training=net.training)).train()
    x = torch.rand(2, 3, 6, 6)
    with ablate(model, [Channel("relu", 0)]):
        assert not torch.equal(model(x), model(x))
    ablated = Net(RANDOM["dropout"][0])
    with ablate(ablated, [Channel("relu", 0)]), pytest.raises(ModelError, match="'dropout'"):
        ablated(x)
