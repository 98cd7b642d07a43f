"""LRP's rules on single layers against zennit, in float64, and the parts of them that a rectifier leaves away."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.networks import images
from torch import Tensor, nn

from interpnet.backward._lrp.layers import Layer, send_down
from interpnet.backward._lrp.terms import (
    alpha_beta_rule,
    epsilon_rule,
    exactly,
    flat_rule,
    gamma_rule,
    stabilised,
    z_box_rule,
    z_plus_rule,
)
from interpnet.engine import Convolution

PLAIN = stabilised(1e-6)


def layers(kind: str) -> tuple[nn.Module, Layer, tuple[int, ...]]:
    """Return a module, the same as a layer of ours, and the shape of its input."""
    torch.manual_seed(0)
    if kind == "linear":
        module: nn.Module = nn.Linear(12, 7).double()
        return module, Layer(F.linear, module.weight.detach(), module.bias.detach()), (3, 12)
    channels = {"conv": 4, "first": 3}[kind]
    module = nn.Conv2d(channels, 6, 3, stride=2, padding=1).double()
    how = Convolution((2, 2), ((1, 1), (1, 1)), (1, 1), 1)
    own = Layer(lambda x, w, b: F.conv2d(x, w, b, 2, 1), module.weight.detach(), module.bias.detach(), how)
    return module, own, (3, channels, 9, 8)


def by_zennit(rule: Any, module: nn.Module, x: Tensor, above: Tensor) -> Tensor:
    rule.stored_tensors["input"] = (x,)
    (below,) = rule.backward(module, (x,), (above,))
    return below.detach()


def pairs(x: Tensor, *, bias: bool) -> dict[str, tuple[Any, Any]]:
    """Return zennit's rules with ours, by name."""
    zennit = pytest.importorskip("zennit")
    rules = zennit.rules
    zero = [] if bias else ["bias"]
    low, high = x - 1.0, x + 2.0
    scaled = zennit.core.Stabilizer(0.05, norm_scale=True)
    return {
        "epsilon": (rules.Epsilon(1e-6, zero_params=zero), partial(epsilon_rule, inverse=PLAIN, bias=bias)),
        "relative": (
            rules.Epsilon(scaled, zero_params=zero),
            partial(epsilon_rule, inverse=stabilised(0.05, relative=True), bias=bias),
        ),
        "zero": (rules.Epsilon(lambda z: z, zero_params=zero), partial(epsilon_rule, inverse=exactly, bias=bias)),
        "z plus": (rules.ZPlus(zero_params=zero), partial(z_plus_rule, inverse=PLAIN, bias=bias)),
        "alpha 1": (
            rules.AlphaBeta(1.0, 0.0, zero_params=zero),
            partial(alpha_beta_rule, alpha=1.0, beta=0.0, inverse=PLAIN, bias=bias),
        ),
        "alpha 2": (
            rules.AlphaBeta(2.0, 1.0, zero_params=zero),
            partial(alpha_beta_rule, alpha=2.0, beta=1.0, inverse=PLAIN, bias=bias),
        ),
        "gamma": (rules.Gamma(0.25, zero_params=zero), partial(gamma_rule, gamma=0.25, inverse=PLAIN, bias=bias)),
        "flat": (rules.Flat(), partial(flat_rule, inverse=PLAIN)),
        "box": (rules.ZBox(low, high, zero_params=zero), partial(z_box_rule, bounds=(low, high), inverse=PLAIN)),
    }


@pytest.mark.parametrize("signs", ["both", "positive"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["conv", "first", "linear"])
def test_every_rule_is_zennits_on_one_layer(kind: str, bias: bool, signs: str) -> None:
    module, layer, shape = layers(kind)
    x = images(*shape)
    if signs == "positive":
        x = x.clamp(min=0)
    above = images(*module(x).shape, seed=1)
    for name, (theirs, ours) in pairs(x, bias=bias).items():
        expected = by_zennit(theirs, module, x, above)
        terms = ours(layer, x)
        got = send_down(terms, above, x)
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-11, msg=lambda text, name=name: f"{name}: {text}")
        torch.testing.assert_close(send_down(terms, above, x), got, rtol=0, atol=0)
        # The output, where it is known, need not be computed again.
        known = send_down(ours(layer, x, module(x).detach()), above, x)
        torch.testing.assert_close(known, got, rtol=1e-10, atol=1e-11)


def test_on_inputs_that_are_nowhere_negative_half_of_the_products_is_left_away() -> None:
    _, layer, shape = layers("conv")
    x = images(*shape)
    counts = {}
    for name, part in (("both", x), ("positive", x.clamp(min=0))):
        counts[name] = [
            len(z_plus_rule(layer, part, inverse=PLAIN, bias=True)),
            len(alpha_beta_rule(layer, part, alpha=2.0, beta=1.0, inverse=PLAIN, bias=True)),
            len(gamma_rule(layer, part, gamma=0.25, inverse=PLAIN, bias=True)),
        ]
    assert counts == {"both": [2, 4, 4], "positive": [1, 2, 2]}


def test_denominators_by_hand() -> None:
    z = torch.tensor([[2.0, -2.0, 0.0, -0.0]]).double()
    assert stabilised(0.5)(z).tolist() == [[1 / 2.5, -1 / 2.5, 2.0, 2.0]]
    # The root mean square of (3, -4, 0, 0) is 2.5: epsilon is 0.25 here, and 0.5 in a sample twice as large.
    z = torch.tensor([[3.0, -4.0, 0.0, 0.0], [6.0, -8.0, 0.0, 0.0]]).double()
    expected = torch.tensor([[1 / 3.25, -1 / 4.25, 4.0, 4.0], [1 / 6.5, -1 / 8.5, 2.0, 2.0]]).double()
    torch.testing.assert_close(stabilised(0.1, relative=True)(z), expected)
    assert exactly(torch.tensor([4.0, -0.5, 0.0, 1e-45])).tolist() == [0.25, -2.0, 0.0, 0.0]


def test_a_layer_without_weights_is_asked_for_none() -> None:
    with pytest.raises(RuntimeError, match="a layer without weights"):
        _ = Layer(lambda x: x).weights
    assert send_down([], torch.ones(1, 2), torch.ones(1, 3)).tolist() == [[0.0, 0.0, 0.0]]
