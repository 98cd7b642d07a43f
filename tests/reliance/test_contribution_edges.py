"""Networks and data at the edges: cut gradients, one output, other axes, in-place operators, numbers not finite."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from interpnet.engine import Instrument, OneColumn, evaluating, find_sites, instrument, log_odds
from interpnet.errors import DataError, InterpNetError, ModelError
from interpnet.reliance import Contributions, collect_contributions, measure_reliance


def batches(x: Tensor, y: Tensor | None = None, size: int = 2) -> list[tuple[Tensor, Tensor]]:
    labels = torch.arange(len(x)) % 3 if y is None else y
    return list(zip(x.split(size), labels.split(size), strict=True))


def images(*shape: int, n: int = 4, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, *shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


def collect(net: nn.Module, x: Tensor, y: Tensor | None = None, **options) -> Contributions:
    return collect_contributions(net.eval(), batches(x, y), progress=False, **options)


def reference(net: nn.Module, x: Tensor) -> np.ndarray:
    """Return the contributions (N, m) by a copy of every map, kept in the graph, and plain autograd."""
    net = copy.deepcopy(net).eval()
    sites = find_sites(net, x[:2]).select()
    kept: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str):
        def edit(out: Tensor) -> Tensor:
            leaf = out.clone()
            kept[name] = (leaf, leaf.detach().clone())
            return leaf.clone()  # what is overwritten later is this one

        return edit

    x = x.clone().requires_grad_()
    with (
        evaluating(net, frozen=True),
        instrument(net, Instrument(edits={s.name: s.editing(keep(s.name)) for s in sites})),
    ):
        logits = net(x)
    z = log_odds(logits, torch.arange(len(x)) % 3)
    gradients = torch.autograd.grad(z.sum(), [kept[s.name][0] for s in sites])
    rows = []
    for site, gradient in zip(sites, gradients, strict=True):
        products = (kept[site.name][1] * gradient).movedim(site.axis, 1)
        rows.append(products.flatten(2).sum(2) if products.dim() > 2 else products)
    return torch.cat(rows, 1).detach().numpy()


def agree(net: nn.Module, x: Tensor) -> None:
    rows = reference(net, x)
    found = collect(net, x)
    classes = np.arange(len(x)) % 3
    for c in range(3):
        np.testing.assert_allclose(found.mean[c], rows[classes == c].mean(0), rtol=1e-11, atol=1e-13)


class Inplace(nn.Module):
    """Maps that are overwritten after they were made: by sums, by a second rectifier, in a view."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(2, 4, 3, padding=1)
        self.two = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = torch.relu_(self.one(x))
        second = nn.functional.leaky_relu(self.two(first), 0.1)
        second += first
        second.mul_(0.5)
        third = nn.functional.leaky_relu(self.two(second), 0.2)
        third[:, :2] = 0.25
        third = nn.functional.hardtanh_(third, -0.3, 0.9)
        return self.last(third.mean((2, 3)))


class View(nn.Module):
    """Maps that are views, of which the whole is used afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(2, 4, 3, padding=1)
        self.two = nn.Conv2d(4, 4, 1)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.one(x)
        torch.relu_(maps.flatten(2))
        more = self.two(maps)
        torch.relu_(more.flatten(2))
        return self.last(more.mean((2, 3)))


class Tokens(nn.Module):
    """Channels last: an embedding of patches, a layer on tokens (B, positions, channels), and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(2, 8, 2, stride=2)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.up = nn.Linear(8, 12)
        self.down = nn.Linear(12, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        tokens = tokens + self.down(nn.functional.gelu(self.up(tokens)))
        return self.head(tokens.mean(1))


def seeded(build) -> nn.Module:
    torch.manual_seed(0)
    return build().double()


NETWORKS = {
    "in place": (Inplace, (2, 6, 6)),
    "view": (View, (2, 6, 6)),
    "tokens": (Tokens, (2, 6, 6)),
    "signals": (lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(28, 3)), (2, 9)),
    "volumes": (
        lambda: nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(32, 3)),
        (1, 4, 4, 4),
    ),
    "units": (lambda: nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)), (5,)),
    "normed": (
        lambda: nn.Sequential(
            *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
            *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)),
        ),
        (1, 7, 7),
    ),
    "one site": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.SiLU(inplace=True), nn.Flatten(), nn.Linear(4, 3)),
        (1, 3, 3),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_they_are_those_of_copied_maps(name):
    build, shape = NETWORKS[name]
    agree(seeded(build), images(*shape))


def test_float32_is_near_float64_whatever_the_caller_casts():
    net = seeded(NETWORKS["units"][0])
    x = images(5)
    exact = collect(net, x)
    with torch.autocast("cpu"):
        found = collect(copy.deepcopy(net).float(), x.float(), memory_format="contiguous")
    assert np.abs(found.mean - exact.mean).max() < 0.02
    found = collect(copy.deepcopy(net).float(), x.float())
    np.testing.assert_allclose(found.mean, exact.mean, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_the_memory_format_does_not_matter(memory_format):
    net = seeded(NETWORKS["normed"][0])
    x = images(1, 7, 7)
    found = collect(net, x, memory_format=memory_format)
    np.testing.assert_allclose(found.mean, collect(net, x).mean, rtol=1e-11, atol=1e-13)


class Cut(nn.Module):
    """A network that leaves the graph somewhere: ``where`` says how."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.one = nn.Conv2d(2, 4, 3)
        self.two = nn.Conv2d(4, 4, 1)
        self.last = nn.Linear(4, 3)
        self.where = where

    def forward(self, x: Tensor) -> Tensor:
        if self.where == "all":
            with torch.no_grad():
                return self.rest(torch.relu(self.one(x)))
        if self.where == "inference":
            with torch.inference_mode():
                return self.rest(torch.relu(self.one(x)))
        if self.where == "first":
            with torch.no_grad():
                first = torch.relu(self.one(x))
            return self.rest(first)
        first = torch.relu(self.one(x))
        if self.where == "between":
            first = first.detach()
        if self.where == "a path":
            return self.rest(first) + self.last(first.detach().mean((2, 3)))
        if self.where == "a shift":
            # A constant taken away from all logits changes no log-odds, detached or not.
            logits = self.rest(first)
            return logits - logits.detach().amax(1, keepdim=True)
        return self.rest(first)

    def rest(self, first: Tensor) -> Tensor:
        return self.last(torch.relu(self.two(first)).mean((2, 3)))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("all", r"no gradient comes back to layer 'relu', on which the log-odds depend: .*torch.no_grad\(\)"),
        (
            "inference",
            r"no gradient comes back to layer 'relu', on which the log-odds depend: .*torch.inference_mode\(\)",
        ),
        ("first", r"no gradient comes back to layer 'relu', on which the log-odds depend: .*torch.no_grad\(\)"),
        ("between", "no gradient comes back to layer 'relu', on which the log-odds depend: .*'detach'"),
        ("a path", "the gradient at layer 'relu' leaves out a path.*'detach'"),
    ],
)
def test_a_gradient_that_is_cut_is_refused(where, message):
    with pytest.raises(ModelError, match=message):
        collect(seeded(lambda: Cut(where)), images(2, 5, 5))


def test_a_detached_constant_that_changes_nothing_is_none():
    whole = collect(seeded(lambda: Cut("")), images(2, 5, 5))
    shifted = collect(seeded(lambda: Cut("a shift")), images(2, 5, 5))
    np.testing.assert_allclose(shifted.mean, whole.mean, rtol=1e-11, atol=1e-13)


class Branch(nn.Module):
    """A second head that the logits do not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(2, 4, 3)
        self.side = nn.Conv2d(4, 5, 1)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = torch.relu(self.one(x))
        return self.last(first.mean((2, 3))), torch.relu(self.side(first)).sum(1, keepdim=True)


def test_a_branch_that_the_logits_do_not_depend_on_contributes_nothing():
    found = collect(seeded(Branch), images(2, 5, 5), output=lambda y: y[0], layers=["relu", "relu:1"])
    assert found.channels.sizes == (("relu", 4), ("relu:1", 5))
    assert (found.mean[:, 4:] == 0).all()
    assert (found.mean[:, :4] != 0).any()


def test_one_output_is_two_classes_or_a_question_of_its_own():
    net = seeded(lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 1)))
    x = images(2, 5, 5)
    alone = collect(net, x, torch.ones(4, 1), output=OneColumn())
    assert alone.counts.tolist() == [4]
    np.testing.assert_array_equal(collect(net, x, torch.ones(4, 1), outputs="independent").mean, alone.mean)
    pair = collect(net, x, torch.tensor([1, 1, 1, 1]))
    assert pair.counts.tolist() == [0, 4]
    np.testing.assert_allclose(pair.mean[1], alone.mean[0], rtol=1e-12)
    np.testing.assert_allclose(alone.specific(), alone.mean)
    other = collect(net, x, torch.tensor([0, 0, 0, 0]))
    np.testing.assert_allclose(other.mean[0], -alone.mean[0], rtol=1e-12)


class Root(nn.Module):
    """The root of a mean that is zero on some images: its derivative there is infinite, times zero NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(1, 3, 1, bias=False)
        self.two = nn.Conv2d(3, 3, 1)
        self.last = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = torch.relu(self.one(x))
        norm = first.square().sum((1, 2, 3), keepdim=True).sqrt()
        return self.last((torch.relu(self.two(first)) + norm).mean((2, 3)))


def test_a_gradient_that_is_not_finite_names_image_and_layer():
    x = images(1, 3, 3)
    x[3] = 0
    message = "the gradient of image 3 is NaN or infinite at layer 'relu', or its map is"
    with pytest.raises(DataError, match=message):
        collect(seeded(Root), x)


def test_logits_that_are_not_finite_name_the_image():
    x = images(1, 3, 3)
    x[2, 0, 0, 0] = float("nan")
    with pytest.raises(DataError, match=r"image 2 .* has NaN or infinite logits"):
        collect(seeded(Root), x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))
    x = images(2, 5, 5, dtype=torch.float32)
    exact = collect(net, x)
    half = collect(copy.deepcopy(net).to(dtype), x)
    np.testing.assert_allclose(half.mean, exact.mean, atol=0.03)


def test_small_gradients_are_not_lost_in_float16():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.AvgPool2d(64), nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        net[4].weight.mul_(1e-3)
    x = images(1, 64, 64, dtype=torch.float32)
    exact = collect(net, x)
    half = collect(copy.deepcopy(net).half(), x)
    np.testing.assert_allclose(half.mean, exact.mean, rtol=0.02, atol=1e-6)
    assert np.abs(exact.mean).max() > 1e-4


def test_contributions_of_other_networks_do_not_add_up():
    x = images(2, 9)
    build = NETWORKS["signals"][0]
    mine = collect(seeded(build), x)
    with pytest.raises(InterpNetError, match="contributions of different channels cannot be added"):
        mine + collect(seeded(lambda: nn.Sequential(nn.Conv1d(2, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(35, 3))), x)
    with pytest.raises(InterpNetError, match="contributions of different fill cannot be added"):
        mine + collect(seeded(build), x, fill="mean")
    with pytest.raises(InterpNetError, match="contributions of different reference cannot be added"):
        collect(seeded(build), x, fill=np.zeros(4)) + collect(seeded(build), x, fill=np.ones(4))
    with pytest.raises(InterpNetError, match="contributions of different outputs cannot be added"):
        mine + collect(seeded(build), x, outputs="independent")
    other = seeded(build)
    with torch.no_grad():
        other[0].bias += 1
    with pytest.raises(InterpNetError, match="contributions of different weights cannot be added"):
        mine + collect(other, x)
    with pytest.raises(InterpNetError, match="of a network with other weights than this model has"):
        measure_reliance(other, batches(x), mine, progress=False)
    with pytest.raises(TypeError):
        mine + 1


def test_an_image_of_several_classes_needs_independent_outputs():
    with pytest.raises(DataError, match="an image has several classes"):
        collect(seeded(NETWORKS["signals"][0]), images(2, 9), torch.ones(4, 3))


def test_a_layer_that_does_not_run_again_is_refused():
    class Either(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Conv2d(1, 3, 1)
            self.last = nn.Linear(3, 3)
            self.rectified = True

        def forward(self, x: Tensor) -> Tensor:
            out = self.one(x)
            if self.rectified:
                out = torch.relu(out)
            return self.last(out.mean((2, 3)))

    net = seeded(Either)

    def changing():
        yield from batches(images(1, 3, 3))[:1]
        net.rectified = False
        yield from batches(images(1, 3, 3))

    with pytest.raises(ModelError, match=r"layers \['relu'\] did not run"):
        collect_contributions(net, changing(), progress=False)


def test_the_network_is_left_as_it_was():
    net = seeded(NETWORKS["normed"][0]).train()
    before = copy.deepcopy(net.state_dict())
    x = images(1, 7, 7)
    copy_of_x = x.clone()
    collect_contributions(net, batches(x), progress=False)
    assert net.training
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))
    assert torch.equal(x, copy_of_x)
    assert not net[0]._forward_hooks


def test_many_classes_of_few_images_take_the_room_of_those_with_images():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 1000)).double()
    x = images(1, 3, 3, n=6)
    found = collect(net, x, torch.tensor([999, 5, 5, 17, 999, 5]))
    assert found.moments.shape == (2, 3, 4)
    assert found.present.tolist() == [5, 17, 999]
    assert found.specific().shape == (1000, 4)
