"""Gradient checkpointing: sites, scores, maps and explanations are those of the network without it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils import checkpoint

from interpnet.attribution import attribute
from interpnet.engine import Channel, Instrument, find_sites, instrument
from interpnet.engine._recompute import without_recomputation
from interpnet.explanation import channel_heatmap, explain
from interpnet.interpretation import interpret
from interpnet.scores import collect_scores

X = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(3))
Y = torch.tensor([0, 1, 2, 0])
Wrap = Callable[..., Any]


def plainly(part: Wrap, *args: Any) -> Any:
    return part(*args)


def reentrant(part: Wrap, *args: Any) -> Any:
    return checkpoint.checkpoint(part, *args, use_reentrant=True)


def not_reentrant(part: Wrap, *args: Any) -> Any:
    return checkpoint.checkpoint(part, *args, use_reentrant=False)


def without_random_state(part: Wrap, *args: Any) -> Any:
    return checkpoint.checkpoint(part, *args, use_reentrant=False, preserve_rng_state=False, determinism_check="none")


def nested(part: Wrap, *args: Any) -> Any:
    return not_reentrant(lambda *inner: not_reentrant(part, *inner), *args)


def nested_reentrant(part: Wrap, *args: Any) -> Any:
    return reentrant(lambda *inner: not_reentrant(part, *inner), *args)


def sequential(part: Wrap, *args: Any) -> Any:
    return checkpoint.checkpoint_sequential([part, nn.Identity()], 2, *args, use_reentrant=True)


def sequential_not_reentrant(part: Wrap, *args: Any) -> Any:
    return checkpoint.checkpoint_sequential([part, nn.Identity()], 2, *args, use_reentrant=False)


WRAPS = [
    reentrant, not_reentrant, without_random_state, nested, nested_reentrant, sequential, sequential_not_reentrant,
]  # fmt: skip


class Net(nn.Module):
    """Three blocks, each wrapped: a module with a functional rectifier, a residual one in place, the classifier."""

    def __init__(self, wrap: Wrap) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.down = nn.Conv2d(6, 8, 3, stride=2)
        self.out = nn.Linear(8, 3)
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator) * 0.4
        self.wrap = wrap

    def residual(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y += x
        return F.dropout(F.relu_(y), training=self.training)

    def last(self, x: Tensor) -> Tensor:
        return F.relu(self.down(x))

    def forward(self, x: Tensor) -> Tensor:
        x = self.wrap(self.stem, x)
        x = self.wrap(self.residual, x)
        x = self.wrap(self.last, x)
        return self.out(x.mean((2, 3)))


METHODS = [
    "gradient", "guided", "deconvnet", "gradient_x_input", "integrated_gradients", "gradcam", "gradcam++", "layercam",
    "guided_gradcam", "lrp_epsilon", "lrp_gamma", "deeplift", "deeplift_revealcancel", "occlusion",
]  # fmt: skip


@pytest.mark.parametrize("wrap", WRAPS)
def test_everything_is_as_without_checkpointing(wrap: Wrap) -> None:
    net = Net(wrap).eval()
    plain = Net(plainly).eval()
    assert find_sites(net, X).sites == find_sites(plain, X).sites
    tables = [collect_scores(n, [(X, Y)], progress=False) for n in (net, plain)]
    np.testing.assert_array_equal(tables[0].X, tables[1].X)
    found = interpret(tables[1], mu=2.0)
    for rectifier in ("guided", "deconvnet", "gradient"):
        for layer in tables[0].channels.layers:
            got, expected = (channel_heatmap(n, X, Channel(layer, 2), rectifier=rectifier) for n in (net, plain))
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    got, expected = (explain(n, X, found, k=2, variant="paper") for n in (net, plain))
    assert got.rectifiers_seen == got.rectifiers_overridden == 3
    torch.testing.assert_close(got.signals, expected.signals, rtol=1e-5, atol=1e-6)
    for method in METHODS:
        options = {"integrated_gradients": {"steps": 3}}.get(method, {})
        got, expected = (attribute(n, X, 1, method, **options) for n in (net, plain))
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6, msg=f"{method}: another map")


@pytest.mark.parametrize("wrap", WRAPS)
def test_training_outside_is_as_ever(wrap: Wrap) -> None:
    net = Net(wrap).eval()
    attribute(net, X, 1, "gradient")
    calls: list[str] = []
    net.down.register_forward_hook(lambda *_: calls.append("down"))
    leaf = X.clone().requires_grad_()
    net(leaf).sum().backward()
    # Forward, and again in the backward pass: checkpoint_sequential runs its last part once, the others twice or more.
    assert len(calls) >= 2
    assert "apply" not in vars(checkpoint.CheckpointFunction)
    assert "__enter__" not in vars(checkpoint._checkpoint_hook)


def test_densenet_with_little_memory() -> None:
    nets = []
    for memory_efficient in (True, False):
        torch.manual_seed(0)
        net = torchvision.models.DenseNet(
            growth_rate=4, block_config=(2, 2), num_init_features=8, num_classes=3, memory_efficient=memory_efficient
        )
        nets.append(net.eval())
    x = torch.randn(2, 3, 32, 32)
    names = [[s.name for s in find_sites(net, x).select("default")] for net in nets]
    assert names[0] == names[1]
    for method in ("gradient", "guided", "gradcam"):
        got, expected = (attribute(net, x, 1, method) for net in nets)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_another_thread_checkpoints_meanwhile() -> None:
    """A part runs once in the thread of the block, and is computed again in the other one."""
    counts: dict[str, int] = {"here": 0, "there": 0}

    def part(where: str) -> Callable[[Tensor], Tensor]:
        def count(x: Tensor) -> Tensor:
            counts[where] += 1
            return x.exp().exp()

        return count

    def train() -> None:
        x = torch.ones(1, requires_grad=True)
        reentrant(part("there"), not_reentrant(part("there"), x)).backward()

    with without_recomputation():
        x = torch.ones(1, requires_grad=True)
        y = reentrant(part("here"), not_reentrant(part("here"), x))
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
    y.backward()
    assert counts == {"here": 2, "there": 4}


def test_an_exception_inside_leaves_nothing_behind() -> None:
    def fails(_x: Tensor) -> Tensor:
        raise KeyError("wrong")

    net = Net(plainly).eval()
    for wrap in (reentrant, not_reentrant):
        with pytest.raises(KeyError, match="wrong"), instrument(net, Instrument()):
            wrap(fails, torch.ones(1, requires_grad=True))
    assert "apply" not in vars(checkpoint.CheckpointFunction)
    assert "__exit__" not in vars(checkpoint._checkpoint_hook)
    x = torch.ones(1, requires_grad=True)
    not_reentrant(torch.exp, x).backward()
    torch.testing.assert_close(x.grad, torch.ones(1).exp())
