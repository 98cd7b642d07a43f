"""Outputs that are put together: the classifier's layers are found behind assignments, stacks and writes in place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interpnet.attribution import attribute
from interpnet.engine import Channel, find_sites
from interpnet.errors import ModelError
from interpnet.explanation import Unit, channel_heatmap, channel_signal, explain
from interpnet.interpretation import interpret
from interpnet.scores import collect_scores

X = torch.randn(5, 2, 10, 9, generator=torch.Generator().manual_seed(3))
Y = torch.tensor([0, 1, 2, 3, 0])
Finish = Callable[["Net", Tensor], Tensor]


class Net(nn.Module):
    """Two convolutions with rectifiers, and four heads of one logit each, put together by ``finish``."""

    def __init__(self, finish: Finish) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.a = nn.Conv2d(2, 5, 3)
        self.b = nn.Conv2d(5, 6, 3, stride=2)
        self.heads = nn.ModuleList([nn.Linear(6, 1) for _ in range(4)])
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator) * 0.5
        self.register_buffer("thresholds", torch.tensor([0.3, 0.4, 0.5, 0.6]))
        self.finish = finish

    def columns(self, x: Tensor) -> list[Tensor]:
        return [head(x)[:, 0] for head in self.heads]

    def forward(self, x: Tensor) -> Tensor:
        return self.finish(self, F.relu(self.b(F.relu(self.a(x)))).mean((2, 3)))


def stacked(net: Net, x: Tensor) -> Tensor:
    return torch.stack(net.columns(x), 1)


def joined(net: Net, x: Tensor) -> Tensor:
    return torch.cat([head(x) for head in net.heads], 1)


def assigned(net: Net, x: Tensor) -> Tensor:
    out = torch.empty(len(x), 4)
    for j, column in enumerate(net.columns(x)):
        out[:, j] = column
    return out


def assigned_from_zeros(net: Net, x: Tensor) -> Tensor:
    out = x.new_zeros(len(x), 4)
    for j, head in enumerate(net.heads):
        out[:, j : j + 1] = head(x)
    return out


def copied_into_columns(net: Net, x: Tensor) -> Tensor:
    out = torch.zeros(len(x), 4)
    for j, column in enumerate(net.columns(x)):
        out[:, j].copy_(column)
    return out


def added_to_columns(net: Net, x: Tensor) -> Tensor:
    out = torch.zeros(len(x), 4)
    for j, column in enumerate(net.columns(x)):
        place = out.select(1, j)
        place += column
    return out


def scattered(net: Net, x: Tensor) -> Tensor:
    out = torch.zeros(len(x), 4)
    at = torch.tensor([2, 0, 3, 1]).expand(len(x), 4)
    return out.scatter(1, at, torch.stack(net.columns(x), 1)[:, [2, 0, 3, 1]])


def scattered_in_place(net: Net, x: Tensor) -> Tensor:
    out = torch.zeros(len(x), 4)
    return out.scatter_(1, torch.arange(4).expand(len(x), 4), torch.stack(net.columns(x), 1))


def index_copied(net: Net, x: Tensor) -> Tensor:
    return torch.zeros(len(x), 4).index_copy(1, torch.arange(4), torch.stack(net.columns(x), 1))


def index_put(net: Net, x: Tensor) -> Tensor:
    return torch.zeros(len(x), 4).index_put((torch.arange(len(x)),), torch.stack(net.columns(x), 1))


def index_put_in_place(net: Net, x: Tensor) -> Tensor:
    out = torch.zeros(len(x), 4)
    out.index_put_((torch.arange(len(x)),), torch.stack(net.columns(x), 1))
    return out


def index_added(net: Net, x: Tensor) -> Tensor:
    return torch.zeros(len(x), 4).index_add(1, torch.arange(4), torch.stack(net.columns(x), 1))


def selected(net: Net, x: Tensor) -> Tensor:
    columns = torch.stack(net.columns(x)[::-1], 1)
    return columns.index_select(1, torch.tensor([3, 2, 1, 0]))


def gathered(net: Net, x: Tensor) -> Tensor:
    columns = torch.stack(net.columns(x)[::-1], 1)
    return columns.gather(1, torch.tensor([3, 2, 1, 0]).expand(len(x), 4))


def masked_scattered(net: Net, x: Tensor) -> Tensor:
    out = torch.zeros(len(x), 4)
    return out.masked_scatter(torch.ones(len(x), 4, dtype=torch.bool), torch.stack(net.columns(x), 1))


def written_out(net: Net, x: Tensor) -> Tensor:
    out = torch.empty(len(x), 4)
    if torch.is_grad_enabled():  # torch records no gradient for out=
        return stacked(net, x)
    torch.stack(net.columns(x), 1, out=out)
    return out


# All of them give the columns themselves.
SAME = [
    joined, assigned, assigned_from_zeros, copied_into_columns, added_to_columns, scattered, scattered_in_place,
    index_copied, index_put, index_put_in_place, index_added, selected, gathered, masked_scattered, written_out,
]  # fmt: skip


def by_operating_point(net: Net, x: Tensor) -> Tensor:
    """Torchxrayvision's way: probabilities stretched around a threshold for each class, below and above it."""
    p = torch.sigmoid(stacked(net, x))
    thresholds = net.thresholds.expand(len(p), -1)
    out = torch.zeros(p.shape) + 0.5
    low = p < thresholds
    out[low] = p[low] / (thresholds[low] * 2)
    out[~low] = 1.0 - ((1.0 - p[~low]) / ((1 - thresholds[~low]) * 2))
    return out


def by_where(net: Net, x: Tensor) -> Tensor:
    p = torch.sigmoid(stacked(net, x))
    return torch.where(p < net.thresholds, p / (net.thresholds * 2), 1 - (1 - p) / ((1 - net.thresholds) * 2))


def masked_class(net: Net, x: Tensor) -> Tensor:
    out = stacked(net, x)
    out[:, 3] = -9.0
    return out


def filled_class(net: Net, x: Tensor) -> Tensor:
    return stacked(net, x).masked_fill(torch.tensor([False, False, False, True]), -9.0)


PAIRS = [*[(finish, stacked) for finish in SAME], (by_operating_point, by_where), (masked_class, filled_class)]


@pytest.mark.parametrize(("finish", "plain"), PAIRS, ids=lambda f: f.__name__)
def test_the_classifier_is_found_and_everything_is_the_same(finish: Finish, plain: Finish) -> None:
    net = Net(finish).eval()
    other = Net(plain).eval()
    trace = find_sites(net, X)
    assert {s.name for s in trace.sites if s.kind == "linear" and s.output} == {f"heads.{j}" for j in range(4)}
    assert not any(s.output for s in trace.sites if s.kind in {"conv", "rectifier"})
    tables = [collect_scores(n, [(X, Y)], progress=False) for n in (net, other)]
    assert tables[0].channels.layers == ("relu", "relu:1")
    np.testing.assert_array_equal(tables[0].X, tables[1].X)
    np.testing.assert_array_equal(tables[0].predictions, tables[1].predictions)
    found = interpret(tables[0], mu=2.0)
    got, expected = (explain(n, X, found, k=2, variant="paper") for n in (net, other))
    torch.testing.assert_close(got.confidences, expected.confidences)
    torch.testing.assert_close(got.combined, expected.combined)
    for start in (Channel("relu:1", 2), Unit(1)):
        got, expected = (channel_heatmap(n, X, start) for n in (net, other))
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-7)
    for method in ("gradient", "guided", "gradient_x_input"):
        got, expected = (attribute(n, X, 1, method) for n in (net, other))
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-7)


def test_what_never_passes_an_operator_is_refused_where_it_is_needed() -> None:
    class Cached(Net):
        def forward(self, x: Tensor) -> Tensor:
            return torch.from_numpy(super().forward(x).detach().numpy())

    net = Cached(stacked).eval()
    with pytest.raises(ModelError, match=r"output was not made by an operator|does not depend|numpy"):
        find_sites(net, X)


class Parts(nn.Module):
    """Feature maps written into parts of a tensor, before a rectifier."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Conv2d(2, 3, 3)
        self.b = nn.Conv2d(2, 4, 3)
        self.out = nn.Linear(7, 3)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(x)
        if self.how == "cat":
            y = torch.cat([a, b], 1)
        elif self.how == "zeros":
            y = torch.zeros(len(x), 7, *a.shape[2:])
            y[:, :3] = a
            y[:, 3:] = b
        else:
            y = torch.cat([torch.zeros_like(a), b], 1)
            y[:, :3] = a
        return self.out(F.relu(y).mean((2, 3)))


@pytest.mark.parametrize("how", ["zeros", "overwritten"])
def test_maps_written_into_parts_keep_their_channels(how: str) -> None:
    net = Parts(how).eval()
    plain = Parts("cat").eval()
    sites = [find_sites(n, X).select("default")[0] for n in (net, plain)]
    assert [(s.name, s.axis, s.channels) for s in sites] == [("relu", 1, 7)] * 2
    got, expected = (channel_signal(n, X, Channel("relu", 5)).signals for n in (net, plain))
    torch.testing.assert_close(got, expected)


def test_zeroing_a_part_keeps_channels_and_fields() -> None:
    class Zeroed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(2, 3, 3)
            self.out = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            y[:, :, 0] = 0
            return self.out(F.relu(y).mean((2, 3)))

    (site,) = find_sites(Zeroed().eval(), X).select("default")
    assert (site.axis, site.channels) == (1, 3)
    assert [entry[1].hi for entry in site.fields if entry] == [2.0, 2.0]
