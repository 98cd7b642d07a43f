"""Rank correlation and structural similarity of maps, and class sensitivity, which is made of them."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from helpers.networks import Spelled
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr
from torch import Tensor

from interpnet import attribute
from interpnet.errors import DataError, InterpNetError
from interpnet.evaluate import class_sensitivity, spearman, ssim
from interpnet.evaluate._similarity import ranks


def naive_ssim(a: np.ndarray, b: np.ndarray, side: int) -> float:
    """Wang et al.'s definition, window by window."""
    a, b = ((m - m.min()) / (m.max() - m.min()) for m in (a, b))
    at = np.arange(side) - side // 2
    w = np.exp(-(at[:, None] ** 2 + at**2) / (2 * 1.5**2))
    w /= w.sum()
    found = []
    for i, j in itertools.product(range(a.shape[0] - side + 1), range(a.shape[1] - side + 1)):
        x = a[i : i + side, j : j + side]
        y = b[i : i + side, j : j + side]
        mx = (w * x).sum()
        my = (w * y).sum()
        vx = (w * (x - mx) ** 2).sum()
        vy = (w * (y - my) ** 2).sum()
        cov = (w * (x - mx) * (y - my)).sum()
        c = 0.01**2
        d = 0.03**2
        found.append((2 * mx * my + c) * (2 * cov + d) / ((mx**2 + my**2 + c) * (vx + vy + d)))
    return float(np.mean(found))


def some(seed: int, *shape: int, levels: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if levels:
        return torch.randint(levels, shape, generator=generator).double()
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_ranks_by_hand() -> None:
    assert ranks(torch.tensor([30.0, 10.0, 20.0])).tolist() == [3, 1, 2]
    assert ranks(torch.tensor([2.0, 2.0, 1.0, 2.0])).tolist() == [3, 3, 1, 3]
    assert ranks(torch.tensor([[0.0, -0.0], [5.0, 5.0]])).tolist() == [[1.5, 1.5], [1.5, 1.5]]


@settings(max_examples=50)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30))
def test_ranks_are_scipys(values: list[int]) -> None:
    assert ranks(torch.tensor(values, dtype=torch.float32)).tolist() == rankdata(values).tolist()


@pytest.mark.parametrize("levels", [0, 3])
def test_spearman_is_scipys(levels: int) -> None:
    a = some(0, 6, 7, 9, levels=levels)
    b = some(1, 6, 7, 9, levels=levels)
    b[0] = a[0] ** 3
    b[1] = -a[1]
    expected = [spearmanr(x.flatten(), y.flatten()).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(spearman(a, b).numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(spearman(a.float(), b.float()).numpy(), expected, atol=1e-12)


def test_spearman_by_hand() -> None:
    a = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert spearman(a, torch.tensor([[10.0, 30.0], [20.0, 99.0]])).item() == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert spearman(a, -a).item() == pytest.approx(-1.0)
    # The ranks of two pixels are shorter than 1 before they are scaled.
    assert spearman(a[:1], 7 * a[:1]).item() == pytest.approx(1.0)
    flat = torch.ones(2, 2)
    assert spearman(torch.stack([a, flat, flat]), torch.stack([flat, 0 * flat, a])).tolist() == [0.0, 1.0, 0.0]


def test_maps_whose_absolute_values_are_constant_are_flagged_as_asked() -> None:
    maps = torch.rand(2, 2, 12, 12, generator=torch.Generator().manual_seed(0))
    maps[1, 0] = torch.ones(12, 12)
    maps[1, 0, :6] = -1.0
    with pytest.raises(DataError, match=r"absolute maps.*image 1"):
        class_sensitivity(maps, absolute=True)
    found = class_sensitivity(maps, absolute=True, constant="zero")
    assert found.spearman.flagged.tolist() == [False, True]
    assert not class_sensitivity(maps, constant="zero").spearman.flagged.any()


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(2, 6))
def test_spearman_knows_the_order_alone(seed: int, height: int, width: int) -> None:
    a = some(seed, 2, height, width)
    b = some(seed + 1, 2, height, width)
    found = spearman(a, b)
    assert bool((found.abs() <= 1).all())
    torch.testing.assert_close(spearman(a.exp(), 3 * b - 1), found, rtol=0, atol=1e-12)
    torch.testing.assert_close(spearman(b, a), found, rtol=0, atol=1e-12)
    torch.testing.assert_close(spearman(a, -b), -found, rtol=0, atol=1e-12)


@pytest.mark.parametrize("window", [3, 7, 11])
def test_ssim_is_the_definition(window: int) -> None:
    a = some(2, 4, 12, 14)
    b = some(3, 4, 12, 14)
    b[0] = a[0] + 0.3 * b[0]
    b[1] = 1 - a[1]
    expected = [naive_ssim(x.numpy(), y.numpy(), window) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(ssim(a, b, window=window).numpy(), expected, atol=1e-9)
    assert expected[0] > 0.5
    assert expected[1] < 0


def test_ssim_is_scikit_images() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    a = some(4, 3, 16, 20).abs()
    b = some(5, 3, 16, 20)
    b[0] = a[0] + 0.2 * b[0]
    scaled = [((m - m.amin((1, 2), True)) / (m.amax((1, 2), True) - m.amin((1, 2), True))).numpy() for m in (a, b)]
    expected = [
        metrics.structural_similarity(
            x, y, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for x, y in zip(*scaled, strict=True)
    ]
    np.testing.assert_allclose(ssim(a, b).numpy(), expected, atol=1e-12)


def test_ssim_at_its_ends() -> None:
    a = some(6, 2, 11, 11)
    np.testing.assert_allclose(ssim(a, 5 * a - 2).numpy(), 1.0, rtol=1e-12)
    assert ssim(torch.zeros(11, 11), torch.ones(11, 11)).item() == 1.0  # two constant maps are one picture
    torch.testing.assert_close(ssim(a[:1], a), torch.stack([ssim(a[0], a[0]), ssim(a[0], a[1])]))


def naive_sensitivity(maps: Tensor) -> tuple[list[float], list[float]]:
    order = []
    structure = []
    for image in maps.numpy():
        pairs = list(itertools.combinations(image, 2))
        order.append(np.mean([spearmanr(x.ravel(), y.ravel()).statistic for x, y in pairs]))
        structure.append(np.mean([naive_ssim(x, y, 11) for x, y in pairs]))
    return order, structure


@pytest.mark.parametrize("absolute", [False, True])
def test_class_sensitivity_is_the_mean_over_pairs(absolute: bool) -> None:
    maps = some(7, 2, 4, 12, 13)
    maps[1, 2] = maps[1, 0]
    found = class_sensitivity(maps, absolute=absolute)
    order, structure = naive_sensitivity(maps.abs() if absolute else maps)
    np.testing.assert_allclose(found.spearman.values.numpy(), order, atol=1e-12)
    np.testing.assert_allclose(found.ssim.values.numpy(), structure, atol=1e-9)
    assert found.pairs == tuple(itertools.combinations(range(4), 2))
    assert found.spearman.curve is not None
    assert found.ssim.curve is not None
    assert found.spearman.curve.shape == found.ssim.curve.shape == (2, 6)
    same = found.pairs.index((0, 2))
    assert found.spearman.curve[1, same].item() == pytest.approx(1.0)
    assert found.ssim.curve[1, same].item() == pytest.approx(1.0)
    for score in (found.spearman, found.ssim):
        assert score.direction == "lower is better"
        assert score.range == (-1.0, 1.0)
    alone = class_sensitivity(maps[1:], absolute=absolute)
    torch.testing.assert_close(alone.spearman.values, found.spearman.values[1:], rtol=1e-12, atol=0)


def test_a_function_makes_the_maps() -> None:
    model = Spelled("module").eval()
    images = torch.randn(3, 3, 12, 12)

    def maps(method: str) -> Any:
        return lambda m, x, t: attribute(m, x, t, method)

    found = class_sensitivity(maps("gradient"), model, images, [0, 2, 3])
    made = torch.stack([attribute(model, images, c, "gradient") for c in (0, 2, 3)], 1)
    torch.testing.assert_close(found.ssim.curve, class_sensitivity(made).ssim.curve)
    own = torch.tensor([[0, 1], [1, 2], [3, 0]])
    per_image = class_sensitivity(maps("gradient"), model, images, own)
    torch.testing.assert_close(
        per_image.spearman.values[2], class_sensitivity(maps("gradient"), model, images[2:], [3, 0]).spearman.values[0]
    )
    # The control that ignores the class altogether, and the one of noise, which is the same for each class.
    for control in ("edge", "random"):
        assert class_sensitivity(maps(control), model, images, [0, 1]).spearman.mean == pytest.approx(1.0)
    assert abs(class_sensitivity(torch.rand(20, 2, 12, 12)).spearman.mean) < 4 / math.sqrt(20 * 143)


def test_a_constant_map_is_refused_or_counted() -> None:
    maps = some(8, 3, 2, 11, 11)
    maps[1] = 0.0
    maps[2, 0] = 2.0
    with pytest.raises(DataError, match="maps: the map of images 1, 2 is constant"):
        class_sensitivity(maps)
    found = class_sensitivity(maps, constant="zero")
    assert found.spearman.flagged is not None
    assert found.spearman.flagged.tolist() == [False, True, True]
    assert found.spearman.values[1:].tolist() == [1.0, 0.0]
    assert found.ssim.values[1].item() == 1.0
    signs = torch.sign(some(9, 1, 2, 11, 11))
    with pytest.raises(DataError, match="absolute maps: the map of image 0 is constant"):
        class_sensitivity(signs, absolute=True)


def test_on_every_device(device: str) -> None:
    maps = some(10, 2, 3, 11, 12)
    found = class_sensitivity(maps.to(device))
    assert found.ssim.values.device.type == device
    torch.testing.assert_close(found.ssim.values.cpu(), class_sensitivity(maps).ssim.values)


GOOD = torch.rand(2, 3, 11, 11)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: class_sensitivity(GOOD[:, :1]), "maps of 1 class came; expected at least two"),
        (lambda: class_sensitivity(GOOD[0]), r"maps: shape \(3, 11, 11\), torch.float32 came"),
        (lambda: class_sensitivity(GOOD / 0 * 0), "maps: NaN or infinity in images 0, 1"),
        (lambda: class_sensitivity(GOOD[..., :9]), r"window=11 is larger than the maps, \(11, 9\)"),
        (lambda: class_sensitivity(GOOD, window=4), "window=4; expected an odd number"),
        (lambda: class_sensitivity(GOOD, classes=[0, 1]), "go with a function that makes the maps"),
        (lambda: class_sensitivity(lambda m, x, t: x), "without model, images or classes"),
        (lambda: asked(lambda m, x, t: x[:, 0], [0, 1, 0]), r"classes \[0, 1, 0\] hold a class twice"),
        (lambda: asked(lambda m, x, t: x[:, 0], [[0, 1]]), r"classes: shape \(1, 2\), torch.int64 came"),
        (lambda: asked(lambda m, x, t: x[:, 0], [0.5, 1]), r"classes: shape \(2, 2\), torch.float32 came"),
        (
            lambda: asked(lambda m, x, t: x, [0, 1]),
            r"the function returned shape \(2, 3, 11, 11\), torch.float32 for class 0",
        ),
        (lambda: asked(lambda m, x, t: None, [0, 1]), "the function returned a NoneType for class 0"),
        (lambda: ssim(GOOD, GOOD[..., :10]), r"maps: shapes \(2, 3, 11, 11\) and \(2, 3, 11, 10\) came"),
        (lambda: spearman(GOOD, torch.full_like(GOOD, math.nan)), "maps: NaN or infinity in images 0, 1, 2, 3 and 2"),
    ],
)
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(InterpNetError, match=message):
        call()


def asked(function: Any, classes: Any) -> Any:
    return class_sensitivity(function, Spelled("module"), GOOD, classes)


def test_similarities_agree_with_quantus() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantus = pytest.importorskip("quantus")
        a = some(11, 5, 8, 8)
        b = some(12, 5, 8, 8)
        found = [quantus.correlation_spearman(x.numpy().ravel(), y.numpy().ravel()) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(spearman(a, b).numpy(), found, atol=1e-12)
