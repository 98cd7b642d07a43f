"""The polyphase form of resampling and transposed convolution against the two steps written out."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interpnet.backward import _polyphase
from interpnet.backward._polyphase import Transposed, nearest, prepare, whole_factor
from interpnet.engine import Convolution

TRANSPOSE = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


def two_steps(
    signal: Tensor,
    weight: Tensor,
    size: tuple[int, ...],
    *,
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Tensor:
    """docs/method.md, section 5, by torch's operators: resample to d_hat, transposed convolution of stride 1, crop."""
    kernel = weight.shape[2:]
    target = [D + a + b - dl * (k - 1) for D, (a, b), dl, k in zip(size, padding, dilation, kernel, strict=True)]
    resampled = F.interpolate(signal, target, mode="nearest")
    full = TRANSPOSE[len(size) - 1](resampled, weight, dilation=dilation, groups=groups)
    return full[(..., *[slice(a, a + D) for D, (a, _) in zip(size, padding, strict=True)])]


def prepared_for(
    weight: Tensor,
    signal: tuple[int, ...],
    size: tuple[int, ...],
    *,
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    groups: int,
    stride: tuple[int, ...] | None = None,
) -> Transposed:
    """Prepare a layer: resampled, or as the gradient of a convolution with ``stride``."""
    how = Convolution(stride or (2,) * len(size), padding, dilation, groups)
    return prepare(weight, signal, size, how, resample=stride is None)


def resampled_transpose(signal: Tensor, weight: Tensor, size: tuple[int, ...], **how: object) -> Tensor:
    return prepared_for(weight, tuple(signal.shape[2:]), size, **how)(signal)


@st.composite
def layers(draw: st.DrawFn) -> dict[str, object]:
    """A layer whose resampled size is a whole multiple of its output along every axis, or along none in particular."""
    n = draw(st.integers(1, 3))
    whole = draw(st.booleans())
    kernel = []
    dilation = []
    padding = []
    size = []
    d = []
    for _ in range(n):
        k = draw(st.integers(1, 7 if n < 3 else 3))
        dl = draw(st.integers(1, 4))
        a = draw(st.integers(0, 4))
        b = draw(st.integers(0, 4))
        positions = draw(st.integers(1, 6))
        target = positions * draw(st.integers(1, 4)) + (0 if whole else draw(st.integers(0, 2)))
        D = target - a - b + dl * (k - 1)
        if D < 1:
            a = 0
            b = 0
            D = target + dl * (k - 1)
        kernel.append(k)
        dilation.append(dl)
        padding.append((a, b))
        size.append(D)
        d.append(positions)
    return {
        "groups": draw(st.integers(1, 3)),
        "kernel": kernel,
        "dilation": tuple(dilation),
        "padding": tuple(padding),
        "size": tuple(size),
        "d": d,
        "last": n == 2 and draw(st.booleans()),
        "seed": draw(st.integers(0, 9)),
    }


@settings(max_examples=150)
@given(layers())
def test_equals_the_two_steps(layer: dict) -> None:
    generator = torch.Generator().manual_seed(layer["seed"])
    g = layer["groups"]
    weight = torch.randn(2 * g, 2, *layer["kernel"], dtype=torch.float64, generator=generator)
    signal = torch.randn(2, 2 * g, *layer["d"], dtype=torch.float64, generator=generator)
    if layer["last"]:
        signal = signal.contiguous(memory_format=torch.channels_last)
    how = {"padding": layer["padding"], "dilation": layer["dilation"], "groups": g}
    expected = two_steps(signal, weight, layer["size"], **how)
    got = resampled_transpose(signal, weight, layer["size"], **how)
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11, check_stride=False)


KERNELS = [(1, 1), (3, 3), (7, 7), (2, 5), (4, 1)]


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("factor", [(2, 2), (2, 3), (4, 1)], ids=str)
@pytest.mark.parametrize(("groups", "dilation"), [(1, (1, 1)), (2, (1, 2)), (2, (2, 3)), (4, (1, 1))])
def test_every_kernel_padding_dilation_group_and_shape(
    kernel: tuple[int, int], factor: tuple[int, int], groups: int, dilation: tuple[int, int]
) -> None:
    weight = torch.randn(4, 3, *kernel, dtype=torch.float64)
    d = (5, 3)
    signal = torch.randn(2, 4, *d, dtype=torch.float64)
    for before, after in itertools.product((0, 1, 3), repeat=2):
        target = [a * f for a, f in zip(d, factor, strict=True)]
        sizes = [t - before - after + dl * (k - 1) for t, dl, k in zip(target, dilation, kernel, strict=True)]
        if min(sizes) < 1:
            continue
        how = {"padding": ((before, after),) * 2, "dilation": dilation, "groups": groups}
        got = resampled_transpose(signal, weight, tuple(sizes), **how)
        torch.testing.assert_close(got, two_steps(signal, weight, tuple(sizes), **how), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("kernel", "padding", "products"), [(7, 3, 16), (3, 1, 4), (1, 0, 1)], ids=["7x7/2", "3x3/2", "1x1/2"]
)
def test_products_a_pixel_of_the_usual_layers(kernel: int, padding: int, products: int) -> None:
    """At an input of 56, each phase of the usual strided layers has (ceil((k-1)/2) + 1)^2 taps."""
    weight = torch.randn(4, 2, kernel, kernel)
    how = {"padding": ((padding, padding),) * 2, "dilation": (1, 1), "groups": 1}
    prepared = prepared_for(weight, (28, 28), (56, 56), **how)
    assert math.prod(prepared.weight.shape[2:]) == products
    assert [a.factor for a in prepared.axes] == [2, 2]
    assert [a.d for a in prepared.axes] == [28, 28]
    # Equal phases are computed once; else there is one set of output channels for each of the four.
    assert prepared.weight.shape[0] == (2 if kernel == 1 else 8)


def test_taps_by_hand() -> None:
    """Signal (1, 2), taps (a, b, c), f = 2: resampled 1 1 2 2; padding 1 on both sides, D = 4."""
    weight = torch.tensor([[[1.0, 10.0, 100.0]]], dtype=torch.float64)
    signal = torch.tensor([[[1.0, 2.0]]], dtype=torch.float64)
    got = resampled_transpose(signal, weight, (4,), padding=((1, 1),), dilation=(1,), groups=1)
    # Position m takes a*u[m+1] + b*u[m] + c*u[m-1] of u = 1 1 2 2, zero outside.
    assert got.tolist() == [[[11.0, 2 + 10 + 100, 2 + 20 + 100, 20 + 200]]]
    prepared = prepared_for(weight, (2,), (4,), padding=((1, 1),), dilation=(1,), groups=1)
    # Phase 0 sees a alone and then b + c; phase 1 sees a + b and then c (stored last tap first).
    assert prepared.weight.tolist() == [[[110.0, 1.0]], [[100.0, 11.0]]]


def test_falls_back_where_the_size_is_no_whole_multiple(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(2, 3, 11, 11).double()
    signal = torch.randn(1, 2, 54, 54).double()
    how = {"padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    prepared = prepared_for(weight, (54, 54), (224, 224), **how)
    assert [a.factor for a in prepared.axes] == [1, 1]
    assert [a.d for a in prepared.axes] == [214, 214]
    seen = []
    monkeypatch.setattr(_polyphase, "nearest", lambda s, size: seen.append(size) or nearest(s, size))
    torch.testing.assert_close(prepared(signal), two_steps(signal, weight, (224, 224), **how))
    assert seen == [(214, 214)]
    assert (whole_factor(112, 224), whole_factor(54, 214)) == (2, 0)


@pytest.mark.parametrize("stride", [(2, 2), (3, 1), (4, 2)], ids=str)
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("dilation", [(1, 1), (2, 3)], ids=str)
def test_strided_transpose_is_the_gradient(
    stride: tuple[int, int], kernel: tuple[int, int], dilation: tuple[int, int]
) -> None:
    x = torch.randn(2, 2, 23, 20, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 1, *kernel, dtype=torch.float64)
    y = F.conv2d(x, weight, stride=stride, padding=(2, 1), dilation=dilation, groups=2)
    signal = torch.randn_like(y)
    (expected,) = torch.autograd.grad(y, x, signal)
    how = {"padding": ((2, 2), (1, 1)), "dilation": dilation, "groups": 2, "stride": stride}
    got = prepared_for(weight, tuple(y.shape[2:]), (23, 20), **how)(signal)
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)
