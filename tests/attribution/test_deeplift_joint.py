"""DeepLIFT where values are joined: norms, softmax and products, against loops in float64, by hand, and complete."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.deeplift import METHODS, Wrap, raw
from helpers.networks import images
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interpnet.attribution._deeplift.joint import multiply, softmax, standardise
from interpnet.engine import Call, tensors_in

# A class whose score does not change has a map of zeros.
pytestmark = pytest.mark.filterwarnings("ignore:.*zero everywhere")


def asked(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Call:
    return Call(func, args, kwargs, func.__name__, None, "here", "")


def multipliers(rule: Callable[..., Tensor], call: Call, x: Tensor, x0: Tensor, signal: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    y = rule(call.on(x), x, x0)
    torch.testing.assert_close(y.detach(), call.on(x.detach()).run(), rtol=0, atol=0)
    return torch.autograd.grad(y, x, signal)[0]


def near(*shape: int, seed: int = 5) -> tuple[Tensor, Tensor]:
    """Return an image and a baseline that is equal to it at a third of the positions."""
    x = images(*shape, seed=seed)
    x0 = images(*shape, seed=seed + 1)
    return x, torch.where(images(*shape, seed=seed + 2) > 0.4, x, x0)


def ratio(y: float, y0: float, x: float, x0: float, slope: float) -> float:
    """Return the rescale rule's multiplier, ``slope`` where nothing moves."""
    return (y - y0) / (x - x0) if x != x0 else slope


def norm_by_steps(x: np.ndarray, x0: np.ndarray, signal: np.ndarray, eps: float, *, centred: bool) -> np.ndarray:
    """The multipliers of one norm of N values: back from the quotient, root, mean and squares, one after another."""
    n = len(x)
    c = x - x.mean() * centred
    c0 = x0 - x0.mean() * centred
    v = float((c * c).sum()) / n + eps
    v0 = float((c0 * c0).sum()) / n + eps
    q = math.sqrt(v)
    q0 = math.sqrt(v0)
    # Of c = y q: dc = (q + q0) / 2 dy + (y + y0) / 2 dq.
    m_c = signal / ((q + q0) / 2)
    m_q = -sum(m_c[i] * (c[i] / q + c0[i] / q0) / 2 for i in range(n))
    m_v = m_q * ratio(q, q0, v, v0, 0.5 / q)
    for i in range(n):
        m_c[i] += m_v / n * ratio(c[i] ** 2, c0[i] ** 2, c[i], c0[i], 2 * c[i])
    return m_c - m_c.mean() * centred


NORMS: dict[str, tuple[Callable[[Tensor], Call], Callable[[Tensor], Tensor], bool]] = {
    # The call, its values as (rows, N), and whether it takes the mean away.
    "layer": (lambda w: asked(F.layer_norm, None, (6,), w[:6], w[:6], 0.1), lambda x: x.flatten(0, 2), True),
    "layer of two axes": (
        lambda w: asked(F.layer_norm, None, (2, 6), eps=0.1),
        lambda x: x.flatten(0, 1).flatten(1),
        True,
    ),
    "layer, torch's own": (
        lambda w: asked(torch.layer_norm, None, (6,), None, None, 0.1),
        lambda x: x.flatten(0, 2),
        True,
    ),
    "group": (lambda w: asked(F.group_norm, None, 2, w[:4], eps=0.1), lambda x: x.reshape(6, -1), True),
    "instance": (lambda w: asked(F.instance_norm, None, weight=w[:4], eps=0.1), lambda x: x.reshape(12, -1), True),
    "root mean square": (lambda w: asked(F.rms_norm, None, (6,), w[:6], 0.1), lambda x: x.flatten(0, 2), False),
}


@pytest.mark.parametrize("name", NORMS)
def test_norms_by_their_steps(name: str) -> None:
    make, rows, centred = NORMS[name]
    call = make(images(8, seed=3))
    x, x0 = near(3, 4, 2, 6)
    if "layer" not in name and "root" not in name:
        weights = images(8, seed=3)[:4].view(1, 4, 1, 1)
    else:
        weights = images(8, seed=3)[:6] if call.argument(2, "weight") is not None else torch.ones(1)
    signal = images(3, 4, 2, 6, seed=9)
    got = multipliers(standardise, call, x, x0, signal)
    back = [rows(t).numpy() for t in (x, x0, signal * weights)]
    expected = [norm_by_steps(a, b, s, 0.1, centred=centred) for a, b, s in zip(*back, strict=True)]
    assert rows(got).numpy() == pytest.approx(np.stack(expected), abs=1e-11)


def test_norms_by_hand() -> None:
    one = torch.ones(1, dtype=torch.float64)
    # Of a single value, y = x / sqrt(x^2 + 1): from 0 to sqrt 3 it rises by sqrt 3 / 2, so the multiplier is 1/2.
    call = asked(F.rms_norm, None, (1,), eps=1.0)
    assert float(multipliers(standardise, call, 3**0.5 * one, 0 * one, one)) == pytest.approx(0.5)
    # Its sign alone matters if there is no epsilon to speak of: from -1 to 3 it rises by 2, from 1 to 3 by 0.
    call = asked(F.rms_norm, None, (1,), eps=1e-30)
    assert float(multipliers(standardise, call, 3 * one, -one, one)) == pytest.approx(2 / 4)
    assert float(multipliers(standardise, call, 3 * one, one, one)) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("step", [0.0, 1e-12, 1e-6, 0.3, 1.0, 1e6])
@pytest.mark.parametrize("base", [0.0, 1e-3, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_norms_are_complete_and_no_part_is_much_larger_than_the_whole(
    step: float, base: float, dtype: torch.dtype
) -> None:
    x0 = (base * images(50, 8, seed=1)).to(dtype)
    x = x0 + (step * images(50, 8, seed=2)).to(dtype)
    signal = images(50, 8, seed=3).to(dtype)
    call = asked(F.layer_norm, None, (8,))
    parts = multipliers(standardise, call, x, x0, signal) * (x - x0)
    gained = (signal * (call.on(x).run() - call.on(x0).run())).sum(1)
    torch.testing.assert_close(parts.sum(1), gained, rtol=0, atol=100 * torch.finfo(dtype).eps)
    # Also from a baseline that does not vary at all: as much as each output moves, times two.
    assert bool((parts.abs().sum(1) <= 4 * 8**0.5 * signal.abs().sum(1)).all())


def softmax_by_steps(z: np.ndarray, z0: np.ndarray, signal: np.ndarray, *, log: bool) -> np.ndarray:
    """The multipliers of a softmax of N values: back from exponential, difference, logarithm, sum and exponentials."""
    n = len(z)
    total = sum(math.exp(v) for v in z)
    total0 = sum(math.exp(v) for v in z0)
    u = z - math.log(total)
    u0 = z0 - math.log(total0)
    m_u = np.array(signal)
    if not log:
        for i in range(n):
            m_u[i] *= ratio(math.exp(u[i]), math.exp(u0[i]), u[i], u0[i], math.exp(u[i]))
    m_total = -m_u.sum() * ratio(math.log(total), math.log(total0), total, total0, 1 / total)
    exps = [ratio(math.exp(z[i]), math.exp(z0[i]), z[i], z0[i], math.exp(z[i])) for i in range(n)]
    return m_u + m_total * np.array(exps)


@pytest.mark.parametrize("func", [F.softmax, torch.softmax, F.log_softmax])
@pytest.mark.parametrize("dim", [1, -1])
def test_softmax_by_its_steps(func: Callable[..., Any], dim: int) -> None:
    x, x0 = near(2, 5, 4)
    x0[0] = x[0]  # and one image that is its baseline
    signal = images(2, 5, 4, seed=9)
    got = multipliers(softmax, asked(func, None, dim), x, x0, signal)
    rows = [t.movedim(dim, -1).flatten(0, 1).numpy() for t in (x, x0, signal, got)]
    for z, z0, s, m in zip(*rows, strict=True):
        assert m == pytest.approx(softmax_by_steps(z, z0, s, log=func is F.log_softmax), abs=1e-12)


@pytest.mark.parametrize("size", [1e-9, 1.0, 1000.0, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softmax_of_any_size_is_finite_and_complete(size: float, dtype: torch.dtype) -> None:
    z, z0 = (t.to(dtype) * size for t in near(40, 6))
    signal = images(40, 6, seed=9).to(dtype)
    call = asked(F.softmax, None, 1)
    m = multipliers(softmax, call, z, z0, signal)
    gained = (signal * (z.softmax(1) - z0.softmax(1))).sum(1)
    # Logarithms this large are rounded.
    allowed = 200 * torch.finfo(dtype).eps * (1 + size)
    torch.testing.assert_close((m * (z - z0)).sum(1), gained, rtol=0, atol=allowed)


def test_a_constant_added_to_all_logits_of_both_changes_nothing() -> None:
    z, z0 = near(3, 6)
    signal = images(3, 6, seed=9)
    call = asked(F.softmax, None, 1)
    here = multipliers(softmax, call, z, z0, signal)
    torch.testing.assert_close(multipliers(softmax, call, z + 800, z0 + 800, signal), here, rtol=1e-10, atol=1e-10)


def test_what_a_mask_takes_out_has_nothing() -> None:
    z, z0 = near(2, 4)
    signal = images(2, 4, seed=9)
    call = asked(F.softmax, None, 1)
    masked = [F.pad(t, (0, 1), value=-math.inf) for t in (z, z0)]
    got = multipliers(softmax, call, *masked, F.pad(signal, (0, 1), value=7.0))
    torch.testing.assert_close(got[:, :4], multipliers(softmax, call, z, z0, signal))
    assert got[:, 4].tolist() == [0.0, 0.0]


PRODUCTS: dict[str, tuple[Callable[[Tensor, Tensor], Call], tuple[int, ...], tuple[int, ...]]] = {
    "matmul": (lambda a, b: asked(torch.matmul, a, b), (2, 3, 4, 5), (2, 3, 5, 2)),
    "matmul, broadcast": (lambda a, b: asked(Tensor.matmul, a, other=b), (2, 3, 4, 5), (5, 2)),
    "mm": (lambda a, b: asked(torch.mm, a, b), (4, 5), (5, 2)),
    "bmm": (lambda a, b: asked(torch.bmm, a, b), (3, 4, 5), (3, 5, 2)),
    "baddbmm": (
        lambda a, b: asked(torch.baddbmm, torch.ones(4, 2).double(), a, b, beta=2, alpha=3),
        (3, 4, 5),
        (3, 5, 2),
    ),
    "einsum": (lambda a, b: asked(torch.einsum, "bqc,bkc->bqk", a, b), (3, 4, 5), (3, 2, 5)),
    "einsum, in a list": (lambda a, b: asked(torch.einsum, "bqc,bkc->qk", [a, b]), (3, 4, 5), (3, 2, 5)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_each_factor_of_a_product_has_its_shapley_value(name: str) -> None:
    make, *shapes = PRODUCTS[name]
    a, b = (images(*shape, seed=i).requires_grad_() for i, shape in enumerate(shapes))
    a0, b0 = (images(*shape, seed=7 + i) for i, shape in enumerate(shapes))

    def f(one: Tensor, two: Tensor) -> Tensor:
        return make(one.detach(), two.detach()).run()

    call = make(a, b)
    bases = iter([a0, b0])
    inputs = call.tensors()
    y = multiply(call, inputs, [next(bases) if t.requires_grad else t for t in inputs])
    torch.testing.assert_close(y.detach(), f(a, b))
    signal = images(*y.shape, seed=20)
    for_a, for_b = torch.autograd.grad(y, (a, b), signal)
    of_a = (f(a, b0) - f(a0, b0) + f(a, b) - f(a0, b)) / 2
    of_b = (f(a0, b) - f(a0, b0) + f(a, b) - f(a, b0)) / 2
    for m, step, of in ((for_a, a - a0, of_a), (for_b, b - b0, of_b)):
        assert float((m * step.detach()).sum()) == pytest.approx(float((signal * of).sum()), abs=1e-10)


def test_a_sum_inside_a_product_has_its_own_part() -> None:
    c, a, b = (images(*shape, seed=i).requires_grad_() for i, shape in enumerate([(3, 2), (3, 4), (4, 2)]))
    bases = [images(*t.shape, seed=9) for t in (c, a, b)]
    call = asked(torch.addmm, c, a, b, beta=2)
    y = multiply(call, list(tensors_in(call.args)), bases)
    signal = images(3, 2, seed=20)
    found = torch.autograd.grad(y, (c, a, b), signal)
    torch.testing.assert_close(found[0], 2 * signal)
    total = sum(float((m * (t.detach() - t0)).sum()) for m, t, t0 in zip(found, (c, a, b), bases, strict=True))
    assert total == pytest.approx(float((signal * (y.detach() - torch.addmm(*bases, beta=2))).sum()))


LAYERS: dict[str, Callable[[Tensor], Tensor]] = {
    "layer norm": lambda v: F.layer_norm(v, (4,)),
    "layer norm of little": lambda v: F.layer_norm(v * 1e-3, (4,), eps=1e-12),
    "root mean square norm": lambda v: F.rms_norm(v, (4,)),
    "group norm": lambda v: F.group_norm(v, 2),
    "softmax": lambda v: v.softmax(-1),
    "log softmax": lambda v: v.log_softmax(1),
    "gelu": F.gelu,
    "gate": lambda v: v * F.silu(v.flip(1)),
}


@given(
    names=st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=3),
    method=st.sampled_from(METHODS),
    moved=st.lists(st.booleans(), min_size=4, max_size=4),
    step=st.sampled_from([1e-9, 1e-3, 1.0, 30.0]),
    seed=st.integers(0, 100),
)
@settings(max_examples=40)
def test_chains_are_complete_wherever_the_image_is_its_baseline(
    names: list[str], method: str, moved: list[bool], step: float, seed: int
) -> None:
    x0 = images(2, 1, 1, 4, seed=seed)
    x = x0 + step * images(2, 1, 1, 4, seed=seed + 1) * torch.tensor(moved)
    weights = [images(4, 4, seed=seed + 2 + i) for i, _ in enumerate(names)]

    def f(v: Tensor) -> Tensor:
        for name, w in zip(names, weights, strict=True):
            v = LAYERS[name](F.linear(v, w))
        return v[:, :1]

    found = attribute_chain(f, x, x0, method)
    expected = (f(x.flatten(1)) - f(x0.flatten(1)))[:, 0]
    # Differences of norms that magnify are differences of numbers this large.
    allowed = 1e-9 * (found.abs().sum(1) + f(x.flatten(1)).abs()[:, 0] + step)
    assert bool(((found.sum(1) - expected).abs() <= allowed).all())


def attribute_chain(f: Callable[[Tensor], Tensor], x: Tensor, x0: Tensor, method: str) -> Tensor:
    from interpnet.attribution import attribute_full
    from interpnet.engine import OneColumn

    found = attribute_full(Wrap(f).eval(), x, 0, method, baseline=x0, output=OneColumn()).raw
    assert found is not None
    return found.flatten(1)


@pytest.mark.parametrize("method", METHODS)
def test_an_instance_norm_on_running_statistics_is_linear(method: str) -> None:
    mean = images(3, seed=1)
    net = Wrap(
        lambda v: F.gelu(F.instance_norm(v.view(-1, 3, 2), mean, mean.abs() + 1, use_input_stats=False)).sum((1, 2))
    )
    assert float(raw(net, images(2, 1, 1, 6), method).abs().max()) > 0
