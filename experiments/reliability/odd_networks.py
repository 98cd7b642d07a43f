"""Odd networks that compute what a plain one computes, or nothing at all; each with what must come of it.

Meanings are those of ``odd_values``, of a network that stands for the plain one; ``scores`` and ``maps`` have one each,
because a network without gradients has scores, but no heatmaps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Plain(nn.Module):
    """Two convolutions with rectifiers, the mean, three outputs."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(4, 5, 3, stride=2, padding=1)
        self.relu2 = nn.ReLU()
        self.fc = nn.Linear(5, 3)
        for weights in self.parameters():
            weights.data = torch.randn(weights.shape, generator=generator) * 0.4
        self.eval()

    def features(self, x: Tensor) -> Tensor:
        """Return the last maps."""
        maps: Tensor = self.relu2(self.conv2(self.relu1(self.conv1(x))))
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.fc(self.features(x).mean((2, 3)))
        return logits


class InPlace(Plain):
    """Shifts its input in place."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the plain logits of the images as they were given."""
        return super().forward(x.sub_(0.25).div_(2.0).mul_(2.0).add_(0.25))


class InPlaceShift(Plain):
    """Normalises in place, as some published networks do."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of (x - 0.5) / 0.25."""
        return super().forward(x.sub_(0.5).div_(0.25))


class Shift(Plain):
    """What :class:`InPlaceShift` means."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of (x - 0.5) / 0.25."""
        return super().forward((x - 0.5) / 0.25)


class Forwarded(Plain):
    """Changes the forward pass by a function of the network and the images."""

    def __init__(self, run: Callable[[Forwarded, Tensor], Any]) -> None:
        super().__init__()
        self.run = run

    def forward(self, x: Tensor) -> Any:
        """Return what the function makes."""
        return self.run(self, x)

    def plain(self, x: Tensor) -> Tensor:
        """Return the plain logits."""
        logits: Tensor = self.fc(self.features(x).mean((2, 3)))
        return logits


class Stateful(Plain):
    """Answers by how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        """Return logits that change from call to call."""
        self.calls += 1
        return super().forward(x) * (1 + 0.1 * (self.calls % 3))


class Lazy(nn.Module):
    """Has layers without weights as yet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.LazyConv2d(4, 3)
        self.fc = nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        result: Tensor = self.fc(F.relu(self.conv(x)).mean((2, 3)))
        return result


def _without_gradients(net: Forwarded, x: Tensor) -> Tensor:
    with torch.no_grad():
        return net.plain(x)


def _in_inference_mode(net: Forwarded, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return net.plain(x)


def _rectified(rectify: Callable[[Tensor], Tensor]) -> Callable[[Forwarded, Tensor], Tensor]:
    """Return a forward pass whose rectifiers are written by hand."""

    def run(net: Forwarded, x: Tensor) -> Tensor:
        x = rectify(net.conv1(x))
        x = rectify(net.conv2(x))
        result: Tensor = net.fc(x.mean((2, 3)))
        return result

    return run


def _indexed(x: Tensor) -> Tensor:
    x = x.clone()
    x[x < 0] = 0
    return x


def _checkpointed(*, reentrant: bool) -> Callable[[Forwarded, Tensor], Tensor]:
    def run(net: Forwarded, x: Tensor) -> Tensor:
        maps = checkpoint(net.features, x, use_reentrant=reentrant)
        result: Tensor = net.fc(maps.mean((2, 3)))
        return result

    return run


def _raising(error: BaseException) -> Callable[[Forwarded, Tensor], Tensor]:
    def run(_net: Forwarded, _x: Tensor) -> Tensor:
        raise error

    return run


def _nan(net: Forwarded, x: Tensor) -> Tensor:
    logits = net.plain(x).clone()
    logits[0, 1] = float("nan")
    return logits


def _infinite(net: Forwarded, x: Tensor) -> Tensor:
    logits = net.plain(x).clone()
    logits[-1, 0] = float("inf")
    return logits


def _masked(net: Forwarded, x: Tensor) -> Tensor:
    """Write the output by a boolean mask, as networks with operating points do."""
    logits = net.plain(x)
    out = torch.zeros_like(logits)
    high = logits > 0
    out[high] = logits[high]
    out[~high] = logits[~high]
    return out


def _of(change: Callable[[Plain], Any]) -> Callable[[], Any]:
    return lambda: change(Plain())


def _forward(run: Callable[[Any, Tensor], Any]) -> Callable[[], nn.Module]:
    return lambda: Forwarded(run).eval()


def _normed(net: Plain) -> Plain:
    net.conv1 = nn.utils.parametrizations.weight_norm(net.conv1)
    return net


def _frozen(net: Plain) -> Plain:
    return net.requires_grad_(False)


def _quantised(net: Plain) -> nn.Module:
    with torch.no_grad():
        return torch.ao.quantization.quantize_dynamic(net, {nn.Linear})  # type: ignore[no-any-return, no-untyped-call]


def _traced(net: Plain) -> Any:
    return torch.jit.trace(net, torch.rand(2, 3, 12, 12))  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class OddNetwork:
    """A network, and what must come of its scores and of its heatmaps; ``like`` makes the plain one it stands for."""

    make: Callable[[], Any]
    scores: str = "none"
    maps: str = "none"
    like: Callable[[], nn.Module] = Plain


#: ``warned``: a value with a warning, or a refusal.
NETWORKS = {
    "None": OddNetwork(lambda: None),
    "a text": OddNetwork(lambda: "resnet18"),
    "a class": OddNetwork(lambda: InPlace),
    "a function": OddNetwork(lambda: Plain().forward, "same", "same"),
    "no weights, no layers": OddNetwork(lambda: nn.Sequential(nn.Flatten(), nn.Identity()), "finite", "finite"),
    "works in place, same values": OddNetwork(InPlace, "must", "must"),
    "normalises in place": OddNetwork(InPlaceShift, "must", "must", Shift),
    "stateful": OddNetwork(Stateful, "warned", "warned"),
    "lazy": OddNetwork(Lazy),
    "forward under no_grad": OddNetwork(_forward(_without_gradients), "must"),
    "forward in inference mode": OddNetwork(_forward(_in_inference_mode), "same"),
    "dropout always on": OddNetwork(
        _forward(lambda net, x: F.dropout(net.plain(x), 0.5, training=True)), "warned", "warned"
    ),
    "noise": OddNetwork(_forward(lambda net, x: net.plain(x) + torch.randn(3)), "warned", "warned"),
    "batch statistics": OddNetwork(
        _forward(lambda net, x: net.plain(F.batch_norm(x, None, None, training=True))), "warned", "warned"
    ),
    "mean of the batch taken off": OddNetwork(
        _forward(lambda net, x: net.plain(x) - net.plain(x).mean(0)), "warned", "warned"
    ),
    "NaN logits": OddNetwork(_forward(_nan)),
    "an infinite logit": OddNetwork(_forward(_infinite)),
    "logits of integers": OddNetwork(_forward(lambda net, x: net.plain(x).long()), "finite"),
    "complex logits": OddNetwork(_forward(lambda net, x: net.plain(x) + 0j)),
    "returns None": OddNetwork(_forward(lambda _net, _x: None)),
    "returns a text": OddNetwork(_forward(lambda _net, _x: "cat")),
    "returns a number": OddNetwork(_forward(lambda net, x: net.plain(x).sum())),
    "returns classes": OddNetwork(_forward(lambda net, x: net.plain(x).argmax(1))),
    "returns maps": OddNetwork(_forward(lambda net, x: net.features(x))),
    "returns numpy": OddNetwork(_forward(lambda net, x: net.plain(x).detach().numpy())),
    "returns one image too few": OddNetwork(_forward(lambda net, x: net.plain(x)[:-1])),
    "returns a tuple of one": OddNetwork(_forward(lambda net, x: (net.plain(x),)), "same", "same"),
    "returns an empty tuple": OddNetwork(_forward(lambda _net, _x: ())),
    "returns a dictionary": OddNetwork(_forward(lambda net, x: {"logits": net.plain(x)}), "same", "same"),
    "detached logits": OddNetwork(_forward(lambda net, x: net.plain(x).detach()), "must"),
    "logits through numpy": OddNetwork(
        _forward(lambda net, x: torch.from_numpy(net.plain(x).detach().numpy().copy())), "same"
    ),
    "output by boolean mask": OddNetwork(_forward(_masked), "must", "same"),
    "raises RuntimeError": OddNetwork(_forward(_raising(RuntimeError("mine")))),
    "raises KeyError": OddNetwork(_forward(_raising(KeyError("mine")))),
    "raises StopIteration": OddNetwork(_forward(_raising(StopIteration()))),
    "raises AssertionError": OddNetwork(_forward(_raising(AssertionError()))),
    "recurses for ever": OddNetwork(_forward(lambda net, x: net(x))),
    "wants two inputs": OddNetwork(lambda: nn.Bilinear(3, 3, 3)),
    "half": OddNetwork(_of(lambda net: net.half()), "finite", "finite"),
    "bfloat16": OddNetwork(_of(lambda net: net.bfloat16()), "finite", "finite"),
    "float64": OddNetwork(_of(lambda net: net.double()), "same", "same"),
    "on meta": OddNetwork(_of(lambda net: net.to("meta"))),
    "in training mode": OddNetwork(_of(lambda net: net.train()), "must", "must"),
    "frozen": OddNetwork(_of(_frozen), "must", "must"),
    "weight norm": OddNetwork(_of(_normed), "same", "same"),
    "DataParallel": OddNetwork(_of(nn.DataParallel), "same", "same"),
    "torch.jit.trace": OddNetwork(_of(_traced)),
    "torch.jit.script": OddNetwork(_of(torch.jit.script)),
    "torch.export": OddNetwork(
        _of(lambda net: torch.export.export(net, (torch.rand(2, 3, 12, 12),)).module()), "same", "same"
    ),
    "dynamically quantised": OddNetwork(_of(_quantised), "finite", "finite"),
    "a copy": OddNetwork(_of(copy.deepcopy), "must", "must"),
    "checkpointed, reentrant": OddNetwork(_forward(_checkpointed(reentrant=True)), "same", "same"),
    "checkpointed, not reentrant": OddNetwork(_forward(_checkpointed(reentrant=False)), "same", "same"),
    "max with 0": OddNetwork(_forward(_rectified(lambda x: torch.maximum(x, torch.zeros(())))), "same", "same"),
    "where": OddNetwork(_forward(_rectified(lambda x: torch.where(x > 0, x, 0.0))), "same", "same"),
    "x * (x > 0)": OddNetwork(_forward(_rectified(lambda x: x * (x > 0))), "same", "same"),
    "(x + |x|) / 2": OddNetwork(_forward(_rectified(lambda x: (x + x.abs()) / 2)), "same", "same"),
    "masked_fill": OddNetwork(_forward(_rectified(lambda x: x.masked_fill(x < 0, 0.0))), "same", "same"),
    "indexing": OddNetwork(_forward(_rectified(_indexed)), "same", "same"),
    "clamp": OddNetwork(_forward(_rectified(lambda x: x.clamp(min=0))), "same", "same"),
    "F.relu": OddNetwork(_forward(_rectified(F.relu)), "must", "must"),
    "F.relu in place": OddNetwork(_forward(_rectified(lambda x: F.relu(x, inplace=True))), "must", "must"),
    "threshold": OddNetwork(_forward(_rectified(lambda x: F.threshold(x, 0.0, 0.0))), "same", "same"),
}
