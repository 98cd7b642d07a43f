"""A user's own attribution method: the contract of all methods holds for it, and what it does wrong is named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import test_attribution_contract as contract
import torch
from torch import Tensor, nn

import interpnet as ip
from interpnet.attribution import METHODS, attribute, attribute_full, find_method, register_method, unregister_method
from interpnet.errors import InterpNetError


class Linear(nn.Module):
    """Logit j is the sum over pixels of weight j times the pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(24.0).view(2, 3, 2, 2) / 10)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bchw,jchw->bj", x, self.weight)


def gradient_times_input(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    images.requires_grad_()
    score = model(images).gather(1, targets[:, None]).sum()
    return torch.autograd.grad(score, images)[0] * images


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    for method in list(METHODS.values()):
        if method.family == "own":
            unregister_method(method.name)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> str:
    register_method("own", gradient_times_input, paper="Shrikumar et al. 2016", cost=3)
    monkeypatch.setitem(contract.METHODS, "own", METHODS["own"])
    return "own"


@pytest.mark.parametrize("name", ["strided", "resnet18", "squeezenet1_1"])
def test_the_contract_of_all_methods_on_networks(own: str, name: str) -> None:
    contract.test_right_on_every_network(name, own)


def test_the_rest_of_the_contract(own: str) -> None:
    contract.test_knows_its_target_or_says_that_it_does_not(own)
    contract.test_one_target_a_sample(own)
    contract.test_max_batch_is_kept_and_changes_nothing(own, 1)
    contract.test_max_batch_is_kept_and_changes_nothing(own, 3)
    contract.test_a_seed_matters_to_methods_that_draw_and_to_no_others(own)


def test_it_is_one_of_the_methods(own: str) -> None:
    method = ip.methods()[-1]
    assert (method.name, method.family, method.paper, method.price()) == (own, "own", "Shrikumar et al. 2016", 3)
    model = Linear()
    x = torch.rand(3, 3, 2, 2)
    full = attribute_full(model.eval(), x, [0, 1, 0], own)
    expected = model.weight.detach()[[0, 1, 0]] * x
    torch.testing.assert_close(full.raw, expected)
    torch.testing.assert_close(full.maps, expected.sum(1))
    torch.testing.assert_close(attribute(model, x, 1, own, reduction="max"), (model.weight[1] * x).amax(1).detach())
    unregister_method(own)
    with pytest.raises(InterpNetError, match="unknown method 'own'"):
        find_method(own)


def test_it_is_given_copies_logits_and_its_options() -> None:
    came: list[Any] = []

    def mine(model: nn.Module, images: Tensor, targets: Tensor, *, steps: int = 4) -> Any:
        came.append((model(images), images.clone(), targets.clone(), steps))
        images.zero_()
        targets.zero_()
        return np.ones((len(images), 2, 2), dtype=np.int64)

    register_method("mine", mine)
    net = Linear().eval()
    x = torch.rand(2, 3, 2, 2)
    kept = x.clone()
    maps = attribute(nn.Sequential(net, Boxed()).eval(), x, 1, "mine", steps=8, output=lambda out: out["logits"])
    torch.testing.assert_close(x, kept)
    ((logits, images, targets, steps),) = came
    torch.testing.assert_close(logits.detach(), net(kept).detach())
    torch.testing.assert_close(images, kept)
    assert (targets.tolist(), steps) == ([1, 1], 8)
    # Whole numbers become the images' type.
    assert (maps.dtype, maps.tolist()) == (torch.float32, [[[1.0, 1.0], [1.0, 1.0]]] * 2)
    with pytest.raises(InterpNetError, match="'mine' has no option 'stepps'; did you mean 'steps'"):
        attribute(net, x, 1, "mine", stepps=3)
    with pytest.raises(InterpNetError, match="'mine' takes no layer"):
        attribute(net, x, 1, "mine", layer="weight")


class Boxed(nn.Module):
    def forward(self, logits: Tensor) -> dict[str, Tensor]:
        return {"logits": logits}


def test_random_numbers_are_those_of_the_seed() -> None:
    register_method("noise", lambda model, images, targets: torch.rand_like(images[:, 0]))
    before = torch.get_rng_state()
    first, same, other = (attribute(Linear().eval(), torch.ones(1, 3, 2, 2), 0, "noise", seed=s) for s in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_map_without_colours_is_reduced_as_one_of_a_single_colour() -> None:
    register_method("mine", lambda model, images, targets: -images[:, 0])
    x = torch.ones(1, 3, 2, 2)
    for reduction, value in ((None, -1.0), ("sum", -1.0), ("abs", 1.0), ("max", 1.0)):
        full = attribute_full(Linear().eval(), x, 0, "mine", reduction=reduction)
        assert full.raw is None
        assert full.maps.unique().tolist() == [value]
    with pytest.warns(UserWarning, match="zero everywhere"):
        assert not attribute(Linear().eval(), x, 0, "mine", reduction="positive").any()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (torch.zeros(2, 3, 2), r"'own' returned shape \(2, 3, 2\); expected \(2, 2, 2\) or \(2, 3, 2, 2\), a map or a"),
        (torch.zeros(2, 1, 2, 2), r"returned shape \(2, 1, 2, 2\)"),
        (torch.tensor([1.0, torch.nan])[:, None, None].expand(2, 2, 2), "not finite for image 1 of its batch"),
        (np.full((2, 2, 2), np.inf), "not finite for image 0 of its batch"),
        (torch.zeros(2, 2, 2, dtype=torch.complex64), "of torch.complex64; expected a Tensor of real numbers"),
        (torch.zeros(2, 2, 2).to_sparse(), "expected a Tensor of real numbers"),
        (torch.zeros(2, 2, 2, device="meta"), "returned a Tensor without values; expected maps on cpu"),
        (np.array([["a"]]), "expected a Tensor of real numbers"),
        (np.ma.array(np.zeros((2, 2, 2)), mask=True), "what method='own' returned has 8 masked values"),
        ([[0.0]], r"returned \[\[0.0\]\]; expected a Tensor of real numbers"),
        (None, "returned None; expected a Tensor"),
    ],
)
def test_what_is_no_map_is_refused(returned: Any, message: str) -> None:
    register_method("own", lambda model, images, targets: returned)
    with pytest.raises(InterpNetError, match=message):
        attribute(Linear().eval(), torch.ones(2, 3, 2, 2), 0, "own")


def test_what_it_raises_is_named_with_its_line() -> None:
    def mine(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return {}["maps"]  # type: ignore[no-any-return]

    register_method("own", mine)
    with pytest.raises(InterpNetError, match=r"method='own' raised KeyError: 'maps' \(.*test_own_methods.py:\d+\)"):
        attribute(Linear().eval(), torch.ones(2, 3, 2, 2), 0, "own")


def test_memory_that_ends_halves_the_batch() -> None:
    sizes: list[int] = []

    def mine(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        sizes.append(len(images))
        # What the failed pass did to its images is not seen by the next.
        images.add_(1)
        if len(images) > 2:
            raise torch.OutOfMemoryError
        return images[:, 0]

    register_method("own", mine)
    with pytest.warns(UserWarning, match="going on with"):
        maps = attribute(Linear().eval(), torch.ones(8, 3, 2, 2), 0, "own", max_batch=8)
    assert maps.unique().tolist() == [2.0]
    assert sizes == [8, 4, 2, 2, 2, 2]


@pytest.mark.parametrize("what", ["weight", "swap", "hook", "module"])
def test_a_network_left_changed_is_an_error(what: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 2), nn.BatchNorm2d(2), nn.Flatten()).eval()

    def mine(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        assert isinstance(model, nn.Sequential)
        if what == "weight":
            with torch.no_grad():
                model[0].weight.mul_(2)
        elif what == "swap":
            model[0].bias = nn.Parameter(torch.zeros(2))
        elif what == "hook":
            model[1].register_forward_hook(lambda *_: None)
        else:
            model.train()
            model(images)
        return images[:, 0]

    register_method("own", mine)
    named = {"weight": "0.weight", "swap": "0.bias", "hook": "hooks of 1", "module": "1.num_batches_tracked"}
    with pytest.raises(InterpNetError, match=rf"'own' left the network changed \({named[what]}"):
        attribute(net, torch.ones(2, 3, 2, 2), 0, "own")
    assert not net.training


@pytest.mark.parametrize(
    ("name", "function", "message"),
    [
        ("gradient", len, "the method name 'gradient' is taken by the library"),
        ("GradCAM++", len, "'GradCAM.*' is taken by the library"),
        ("combined", len, "'combined' is taken by the library"),
        ("h3", len, "'h3' is taken by the library"),
        ("a/b", len, "the method name is 'a/b'; expected a letter"),
        (None, len, "the method name is None"),
        ("own", None, "the method is None; expected a function"),
        ("own", lambda model: model, r"cannot be called as <lambda>\(model, images, targets\)"),
    ],
)
def test_wrong_registrations(name: Any, function: Any, message: str) -> None:
    known = list(METHODS)
    with pytest.raises(InterpNetError, match=message):
        register_method(name, function)
    assert list(METHODS) == known


def test_a_taken_name_is_replaced_only_when_asked() -> None:
    register_method("own", lambda model, images, targets: images[:, 0])
    with pytest.raises(InterpNetError, match="a method 'own' is registered already; expected another name, or replace"):
        register_method("own", lambda model, images, targets: images[:, 0])
    register_method("own", lambda model, images, targets: images[:, 0] + 1, replace=True)
    assert attribute(Linear().eval(), torch.ones(1, 3, 2, 2), 0, "own").unique().tolist() == [2.0]
    with pytest.raises(InterpNetError, match="method 'gradient' is one of the library"):
        unregister_method("gradient")


@pytest.mark.parametrize("device", ["cuda"])
def test_maps_come_back_to_the_networks_device(device: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    register_method("own", lambda model, images, targets: images[:, 0].cpu().numpy())
    maps = attribute(Linear().eval().to(device), torch.ones(2, 3, 2, 2), 0, "own")
    assert maps.device.type == device
