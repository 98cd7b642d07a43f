"""LRP's rules by hand, and every method by explicit float64 matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.lrp import METHODS, Residual
from helpers.lrp_by_hand import (
    Array,
    Dense,
    dense,
    rule_alpha_beta,
    rule_box,
    rule_epsilon,
    rule_flat,
    rule_gamma,
    rule_relative,
    rule_sum,
    rule_zero,
    up,
)
from helpers.networks import images
from torch import Tensor, nn

from interpnet.attribution import attribute_full
from interpnet.engine import OneColumn


def reference(net: Residual, image: Tensor, target: int, method: str) -> Array:
    shape = tuple(image.shape)
    half = (3, shape[1] // 2, shape[2] // 2)
    ones = nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False).double()
    ones.weight.data.fill_(1)
    first = dense(lambda v: net.bn1(net.conv1(v)), shape, ones)
    second = dense(net.conv2, half)
    pool = dense(lambda v: F.avg_pool2d(v, 2), half)
    last = dense(net.fc, (12,))
    x = image.flatten().numpy()
    h = up(first.W @ x + first.b)
    z = second.W @ h + second.b
    y = up(z + h)
    p = pool.W @ y
    pixels = image.flatten(1)
    low, high = (np.repeat(v.numpy(), shape[1] * shape[2]) for v in (pixels.amin(1), pixels.amax(1)))

    def plus(d: Dense, x: Array, R: Array) -> Array:
        return rule_alpha_beta(d, x, R, 1, 0)

    def box(d: Dense, x: Array, R: Array) -> Array:
        return rule_box(d, x, R, low, high)

    def eps(d: Dense, x: Array, R: Array) -> Array:
        return rule_epsilon(d, x, R, 1e-6)

    def two_one(d: Dense, x: Array, R: Array) -> Array:
        return rule_alpha_beta(d, x, R, 2, 1)

    rules = {
        "lrp_0": (rule_zero, rule_zero, rule_zero),
        "lrp_epsilon": (rule_relative, rule_relative, rule_relative),
        "lrp_gamma": (rule_gamma, rule_gamma, eps),
        "lrp_alpha1beta0": (plus, plus, eps),
        "lrp_alpha2beta1": (two_one, two_one, eps),
        "lrp_zbox": (box, rule_gamma, eps),
        "lrp_epsilon_plus_flat": (rule_flat, plus, eps),
        "deep_taylor": (box, plus, plus),
    }[method]
    R = np.zeros(4)
    R[target] = (last.W @ p + last.b)[target]
    R = rules[2](last, p, R)
    R = rule_epsilon(pool, y, R, 0 if method == "lrp_0" else 1e-6) if method != "lrp_0" else _zero_safe(pool, y, R)
    Rh, Rz = rule_sum(h, z, R, method)
    R = Rh + rules[1](second, h, Rz)
    return rules[0](first, x, R).reshape(shape)


def _zero_safe(d: Dense, x: Array, R: Array) -> Array:
    z = d.W @ x
    return x * (d.W.T @ np.divide(R, z, out=np.zeros_like(R), where=z != 0))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_by_explicit_matrices(method: str) -> None:
    net = Residual()
    x = images(2, 2, 8, 8)
    found = attribute_full(net, x, [3, 1], method)
    for i, target in enumerate((3, 1)):
        np.testing.assert_allclose(found.raw[i].numpy(), reference(net, x[i], target, method), rtol=1e-9, atol=1e-12)
    score = net(x).gather(1, torch.tensor([[3], [1]]))[:, 0].detach()
    total = found.raw.sum((1, 2, 3))
    torch.testing.assert_close(found.residual, (total - score).abs() / score.abs())
    torch.testing.assert_close(total + found.info["absorbed"], score)


def test_rules_by_hand() -> None:
    # z = 2 * 1 - 1 * 1 + 1 = 2: LRP-0 gives (2, -1), the bias keeps 1.
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 1)).double().eval()
    net[1].weight.data = torch.tensor([[2.0, -1.0]]).double()
    net[1].bias.data = torch.tensor([1.0]).double()
    x = torch.ones(1, 1, 1, 2, dtype=torch.float64)
    found = attribute_full(net, x, 0, "lrp_0", output=OneColumn())
    assert found.raw.flatten().tolist() == [2, -1]
    assert found.info["absorbed"].tolist() == [1]
    assert found.residual.tolist() == [0.5]
    assert found.flagged.tolist() == [False]
    assert attribute_full(net, x, 0, "lrp_0", output=OneColumn(), bound=0.4).flagged.tolist() == [True]
    # Without the bias's share: 2 * (2, -1) / (2 - 1).
    assert attribute_full(net, x, 0, "lrp_0", output=OneColumn(), zero_bias=True).raw.flatten().tolist() == [4, -2]
    # epsilon of half the root mean square: z + 1 = 3.
    assert attribute_full(
        net, x, 0, "lrp_epsilon", epsilon=0.5, output=OneColumn()
    ).raw.flatten().tolist() == pytest.approx([4 / 3, -2 / 3])
    # z-box with bounds 0 and 3: 2 * (1 - 0) = 2 and -1 * (1 - 3) = 2.
    got = attribute_full(net, x, 0, "deep_taylor", low=0.0, high=3.0, output=OneColumn()).raw.flatten().tolist()
    assert got == pytest.approx([1, 1], rel=1e-6)
