"""Activations that a network's author writes by hand, each with torch's own operator, and a network to put them in."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Act = Callable[[Tensor], Tensor]
X = torch.randn(3, 2, 9, 8, generator=torch.Generator().manual_seed(3))
Y = torch.tensor([0, 1, 2])


def assigned(x: Tensor) -> Tensor:
    x[x < 0] = 0
    return x


def assigned_in_a_copy(x: Tensor) -> Tensor:
    y = x.clone()
    y[y <= 0] = 0.0
    return y


def picked_into_zeros(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[x > 0] = x[x > 0]
    return y


def picked_and_scaled(x: Tensor) -> Tensor:
    x[x < 0] *= 0
    return x


def leaky_assigned(x: Tensor) -> Tensor:
    mask = x < 0
    x[mask] = x[mask] * 0.1
    return x


def multiplied_in_place(x: Tensor) -> Tensor:
    x *= x > 0
    return x


def halved_in_place(x: Tensor) -> Tensor:
    y = x.abs()
    y += x
    y /= 2
    return y


def rooted_in_place(x: Tensor) -> Tensor:
    # The root saves its own result for the gradient, and loses it here.
    y = (x * x).sqrt()
    y += x
    y /= 2
    return y


def in_two_statements(x: Tensor) -> Tensor:
    x = x + x.abs()
    x = x / 2
    return x  # noqa: RET504 - the map itself is let go of


def leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1)


RELUS: dict[str, Act] = {
    "where zeros_like": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "where number": lambda x: torch.where(x < 0, 0, x),
    "where tensor": lambda x: torch.where(x <= 0, torch.tensor(0.0), x),
    "where method": lambda x: x.where(x > 0, torch.zeros(1)),
    "mask": lambda x: x * (x > 0),
    "mask first": lambda x: (x > 0) * x,
    "mask float": lambda x: x * (x > 0).float(),
    "mask type_as": lambda x: (x > 0).type_as(x) * x,
    "mask to": lambda x: (x >= 0).to(x.dtype) * x,
    "mask int": lambda x: (x >= 0).int() * x,
    "mask detached": lambda x: x * (x.detach() > 0),
    "mask inverted": lambda x: x * ~(x < 0),
    "mask from one": lambda x: x * (1 - (x < 0).float()),
    "mask moved": lambda x: x.masked_fill((x < 0).to(x.device), 0),
    "mul gt": lambda x: x.mul(x.gt(0)),
    "mul_ gt": lambda x: x.mul_(x > 0),
    "heaviside": lambda x: x * torch.heaviside(x.detach(), torch.tensor(0.0)),
    "sign": lambda x: x * (torch.sign(x) + 1) / 2,
    "maximum": lambda x: torch.maximum(x, torch.tensor(0.0)),
    "maximum zero first": lambda x: torch.maximum(torch.tensor(0.0), x),
    "maximum zeros first": lambda x: torch.maximum(torch.zeros_like(x), x),
    "max zeros_like": lambda x: torch.max(x, torch.zeros_like(x)),
    "max new_zeros": lambda x: torch.max(x, x.new_zeros(x.shape)),
    "max zeros": lambda x: torch.max(x, torch.zeros(x.shape)),
    "max zeros on the device": lambda x: torch.max(x, torch.zeros(x.shape).to(x.device)),
    "max of nothing": lambda x: torch.max(x, 0 * x),
    "max full": lambda x: torch.max(x, torch.full_like(x, 0)),
    "fmax": lambda x: torch.fmax(x, torch.tensor(0.0)),
    "negative minimum": lambda x: -torch.min(-x, torch.tensor(0.0)),
    "less the negative part": lambda x: x - x.clamp(max=0),
    "absolute, halved": lambda x: (x + x.abs()) / 2,
    "half the absolute": lambda x: 0.5 * (x + abs(x)),
    "two halves": lambda x: 0.5 * x + 0.5 * x.abs(),
    "root of the square": lambda x: (x + (x * x).sqrt()) / 2,
    "masked_fill": lambda x: x.masked_fill(x < 0, 0),
    "masked_fill_": lambda x: x.masked_fill_(x < 0, 0),
    "masked_fill not": lambda x: x.masked_fill(torch.logical_not(x > 0), 0.0),
    "clamp": lambda x: x.clamp(min=0),
    "clip": lambda x: x.clip(0),
    "threshold": lambda x: F.threshold(x, 0, 0),
    "assigned": assigned,
    "assigned in a copy": assigned_in_a_copy,
    "picked into zeros": picked_into_zeros,
    "picked and scaled": picked_and_scaled,
    "multiplied in place": multiplied_in_place,
    "halved in place": halved_in_place,
    "root in place": rooted_in_place,
    "two statements": in_two_statements,
}
LEAKY: dict[str, Act] = {
    "where": lambda x: torch.where(x > 0, x, 0.1 * x),
    "max": lambda x: torch.max(x, 0.1 * x),
    "maximum": lambda x: torch.maximum(0.1 * x, x),
    "two rectifiers": lambda x: F.relu(x) - 0.1 * F.relu(-x),
    "two masks": lambda x: x * (x > 0) + 0.1 * x * (x <= 0),
    "two clamps": lambda x: x.clamp(min=0) + 0.1 * x.clamp(max=0),
    "rectifier and minimum": lambda x: F.relu(x) + 0.1 * torch.min(x, torch.zeros_like(x)),
    "absolute": lambda x: 0.55 * x + 0.45 * x.abs(),
    "assigned": leaky_assigned,
}
# Each with torch's own operator.
OTHERS: dict[str, tuple[Act, Act]] = {
    "relu6 clamp": (lambda x: x.clamp(0, 6), F.relu6),
    "relu6 min": (lambda x: torch.min(F.relu(x), torch.tensor(6.0)), F.relu6),
    "relu6 where": (lambda x: torch.where(x > 6, torch.full_like(x, 6), x * (x > 0)), F.relu6),
    "swish": (lambda x: x * torch.sigmoid(x), F.silu),
    "swish, exponential": (lambda x: x / (1 + torch.exp(-x)), F.silu),
    "swish, of a number divided": (lambda x: x * (1 / (1 + torch.exp(-x))), F.silu),
    "softplus, of a number's power": (lambda x: torch.log(1 + 2.718281828459045**x), F.softplus),
    "gelu": (lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)), F.gelu),
    "gelu tanh": (
        lambda x: 0.5 * x * (1 + torch.tanh(0.7978845608028654 * (x + 0.044715 * x**3))),
        lambda x: F.gelu(x, approximate="tanh"),
    ),
    "hardswish": (lambda x: x * F.relu6(x + 3) / 6, F.hardswish),
    "hardswish clamp": (lambda x: x * (x + 3).clamp(0, 6) / 6, F.hardswish),
    "hardswish gate": (lambda x: x.mul(F.relu6(x.add(3.0)).div(6.0)), F.hardswish),
    "mish": (lambda x: x * torch.tanh(F.softplus(x)), F.mish),
    "mish, exponential": (lambda x: x * torch.tanh(torch.log1p(torch.exp(x))), F.mish),
    "softplus": (lambda x: torch.log(1 + torch.exp(x)), F.softplus),
    "elu": (lambda x: torch.where(x > 0, x, torch.exp(x) - 1), F.elu),
    "elu in two parts": (lambda x: F.relu(x) + torch.expm1(x.clamp(max=0)), F.elu),
    "swish behind a rectifier": (lambda x: (lambda r: r * torch.sigmoid(r))(F.relu(x)), lambda x: F.silu(F.relu(x))),
}
SPELLINGS: dict[str, tuple[Act, Act]] = {
    **{f"relu {name}": (act, F.relu) for name, act in RELUS.items()},
    **{f"leaky {name}": (act, leaky) for name, act in LEAKY.items()},
    **OTHERS,
}


class Net(nn.Module):
    """Convolution, batch norm, activation, strided convolution, activation, pooling, linear map, activation, logits."""

    def __init__(self, act: Act, width: int = 4) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.conv1 = nn.Conv2d(2, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 5, 3, stride=2)
        self.fc = nn.Linear(5, 6)
        self.out = nn.Linear(6, 3)
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator) * 0.6
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn(self.conv1(x)))
        x = self.act(self.conv2(x)).mean((2, 3))
        return self.out(self.act(self.fc(x)))
