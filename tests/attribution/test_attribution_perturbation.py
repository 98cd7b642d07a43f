"""Occlusion, LIME and Shapley values against enumeration, scikit-learn and captum."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
import torch
from helpers.networks import Branches
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from interpnet.attribution import attribute, attribute_full
from interpnet.attribution._coalitions import kernel_coalitions, lime_weights, permutation_coalitions, ridge
from interpnet.attribution._segments import image_segments
from interpnet.engine import OneColumn
from interpnet.errors import InterpNetError

captum = pytest.importorskip("captum.attr", reason="captum is a development dependency")

X = torch.randn(2, 2, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def box() -> nn.Module:
    torch.manual_seed(3)
    return Branches().double().eval()


class Table(nn.Module):
    """A score that knows only which of 2x2 quarters are shown: any game of four players."""

    def __init__(self, worth: dict[frozenset[int], float]) -> None:
        super().__init__()
        self.worth = worth

    def forward(self, x: Tensor) -> Tensor:
        shown = [x[:, 0, r, c] > 0 for r in (0, -1) for c in (0, -1)]
        sets = [frozenset(k for k in range(4) if bool(shown[k][i])) for i in range(len(x))]
        worth = x.new_tensor([self.worth[s] for s in sets])
        return torch.stack([worth, -worth], 1)


def game() -> dict[frozenset[int], float]:
    generator = np.random.default_rng(0)
    return {frozenset(s): float(generator.normal()) for n in range(5) for s in combinations(range(4), n)}


def shapley(worth: dict[frozenset[int], float]) -> list[float]:
    """Return the Shapley values by their definition."""
    values = []
    for k in range(4):
        rest = [p for p in range(4) if p != k]
        values.append(
            sum(
                (worth[frozenset({*s, k})] - worth[frozenset(s)]) / (4 * comb(3, n))
                for n in range(4)
                for s in combinations(rest, n)
            )
        )
    return values


@pytest.mark.parametrize("stride", [4, 2])
def test_occlusion_agrees_with_captum(stride: int) -> None:
    model = box()
    theirs = captum.Occlusion(model).attribute(
        X, sliding_window_shapes=(2, 4, 4), strides=(2, stride, stride), baselines=0.3, target=torch.tensor([0, 2])
    )
    ours = attribute(model, X, [0, 2], "occlusion", patch=4, stride=stride, baseline=0.3)
    torch.testing.assert_close(ours.float(), theirs[:, 0], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(theirs[:, 0], theirs[:, 1])


def test_occlusion_reaches_the_border_and_counts_what_hides_each_pixel() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 1, bias=False)).double().eval()
    x = torch.randn(1, 1, 5, 5, dtype=torch.float64)
    w = (model[1].weight.view(5, 5) * x[0, 0]).detach()  # type: ignore[operator, union-attr]
    ours = attribute(model, x, 0, "occlusion", patch=2, stride=2, output=OneColumn())
    total = torch.zeros(5, 5, dtype=torch.float64)
    times = torch.zeros(5, 5)
    for r in (0, 2, 3):  # the last patch is moved inwards
        for c in (0, 2, 3):
            total[r : r + 2, c : c + 2] += w[r : r + 2, c : c + 2].sum()
            times[r : r + 2, c : c + 2] += 1
    torch.testing.assert_close(ours[0], total / times)
    whole = attribute(model, x, 0, "occlusion", patch=5, output=OneColumn())
    torch.testing.assert_close(whole[0], w.sum().expand(5, 5))
    for options in ({"patch": 6}, {"patch": 2, "stride": 3}, {"patch": 0}, {"stride": 0}):
        with pytest.raises(InterpNetError, match="expected 1 <= stride <= patch <= 5"):
            attribute(model, x, 0, "occlusion", **options)


def test_kernel_shap_with_all_coalitions_and_many_orders_give_the_shapley_values() -> None:
    worth = game()
    expected = shapley(worth)
    model = Table(worth).eval()
    x = torch.ones(1, 1, 8, 8)
    found = attribute_full(model, x, 0, "kernel_shap", cells=2, samples=14)
    np.testing.assert_allclose(found.info["values"][0], expected, atol=1e-6)
    corners = found.maps[0, [0, 0, -1, -1], [0, -1, 0, -1]]
    np.testing.assert_allclose(corners, expected, atol=1e-6)
    orders = attribute_full(model, x, 0, "shapley_sampling", cells=2, orders=4000, max_batch=1000)
    np.testing.assert_allclose(orders.info["values"][0], expected, atol=0.05)
    for result in (found, orders):
        assert result.residual is not None
        assert float(result.residual) < 1e-6


def test_sampled_kernel_shap_comes_near_the_enumerated_one() -> None:
    model = box()
    exact = attribute_full(model, X, [0, 2], "kernel_shap", cells=3, samples=510).info["values"]
    near = attribute_full(model, X, [0, 2], "kernel_shap", cells=3, samples=400, max_batch=200).info["values"]
    for a, b in zip(exact, near, strict=True):
        assert 0 < float((a - b).norm() / a.norm()) < 0.2


@pytest.mark.filterwarnings("ignore")
def test_shapley_values_agree_with_captum() -> None:
    model = box()
    mask = image_segments(X, "grid", 2).cells[:1, None].repeat(1, 2, 1, 1)
    theirs = captum.ShapleyValues(model).attribute(X, baselines=0.1, target=torch.tensor([0, 2]), feature_mask=mask)
    ours = attribute(model, X, [0, 2], "kernel_shap", cells=2, samples=14, baseline=0.1)
    torch.testing.assert_close(ours.float(), theirs[:, 0].float(), rtol=1e-5, atol=1e-6)


def test_coalitions_of_the_kernel_have_its_sizes_and_come_in_complements() -> None:
    masks, weights = kernel_coalitions(30, 4000, torch.Generator().manual_seed(0))
    assert masks.shape == (4000, 30)
    assert torch.equal(masks[::2], ~masks[1::2])
    assert torch.equal(weights, torch.ones(4000, dtype=torch.float64))
    law = np.array([1 / (s * (30 - s)) for s in range(1, 30)])
    counts = np.bincount(masks.sum(1), minlength=31)[1:30] / 4000
    np.testing.assert_allclose(counts, law / law.sum(), atol=0.02)
    # Every segment is as likely as any other.
    np.testing.assert_allclose(masks.double().mean(0), 0.5, atol=1e-12)


def test_orders_add_one_segment_at_a_time() -> None:
    masks, order = permutation_coalitions(4, 2, torch.Generator().manual_seed(0))
    assert torch.equal(order.sort(1).values, torch.arange(4).expand(2, 4))
    for i, row in enumerate(masks.view(2, 3, 4)):
        for j in range(3):
            assert set(row[j].nonzero()[:, 0].tolist()) == set(order[i, : j + 1].tolist())


def test_ridge_is_that_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(40, 6, generator=generator) < 0.5
    y = torch.randn(40, generator=generator).double()
    weights = lime_weights(masks, 0.25)
    b, r2 = ridge(masks, y, weights, 1.0)
    peer = Ridge(alpha=1.0).fit(masks.numpy(), y.numpy(), sample_weight=weights.numpy())
    np.testing.assert_allclose(b, peer.coef_, rtol=1e-8)
    assert r2 == pytest.approx(peer.score(masks.numpy(), y.numpy(), sample_weight=weights.numpy()))


def test_lime_weights_by_hand() -> None:
    weights = lime_weights(torch.tensor([[True] * 4, [True, False, False, False], [False] * 4]), 0.25)
    # Cosine distances 0, 1 - 1/2 and 1.
    np.testing.assert_allclose(weights, [1.0, np.exp(-0.5 * 4), np.exp(-0.5 * 16)], rtol=1e-12)


def test_lime_finds_a_linear_score() -> None:
    class Sums(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x[:, 0].sum((1, 2)), x[:, 1].sum((1, 2))], 1)

    found = attribute_full(Sums().eval(), X, 1, "lime", cells=4, samples=400, alpha=1e-9)
    quarters = X[:, 1].unfold(1, 4, 4).unfold(2, 4, 4).sum((3, 4)).flatten(1)
    torch.testing.assert_close(torch.stack(found.info["values"]), quarters, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.info["r2"], torch.ones(2), rtol=1e-6, atol=1e-6)


def test_segments() -> None:
    grid = image_segments(torch.zeros(2, 1, 5, 7), "grid", 3)
    assert grid.counts == (9, 9)
    assert grid.cells.shape == (2, 5, 7)
    assert set(grid.cells.unique().tolist()) == set(range(9))
    fine = image_segments(torch.zeros(1, 1, 2, 3), "grid", 9)
    assert fine.counts == (6,)
    own = torch.tensor([[7, 7, 2], [7, 9, 2]])
    given = image_segments(torch.zeros(2, 1, 2, 3), own, 5)
    assert given.cells[1].tolist() == [[1, 1, 0], [1, 2, 0]]
    for kind, cells, message in (
        ("hexagons", 3, "segments='hexagons'; expected 'grid'"),
        ("grid", 0, "cells is 0; expected a whole number"),
        ("grid", 1, "a single segment"),
        (torch.zeros(3, 3), 3, r"segments: shape \(3, 3\), torch\.float32 came"),
    ):
        with pytest.raises(InterpNetError, match=message):
            image_segments(torch.zeros(1, 1, 2, 3), kind, cells)


@pytest.mark.parametrize("colours", [1, 2, 3])
def test_superpixels_follow_the_picture_and_images_may_have_different_numbers(colours: int) -> None:
    pytest.importorskip("skimage", reason="an extra")
    halves = torch.zeros(2, colours, 16, 16)
    halves[0, :, :, 8:] = 5.0
    halves[1, :, 8:] = -2.0
    found = image_segments(halves, "superpixels", 3)
    left = found.cells[0, :, :7].unique()
    right = found.cells[0, :, 9:].unique()
    assert not set(left.tolist()) & set(right.tolist())
    for i, n in enumerate(found.counts):
        assert set(found.cells[i].unique().tolist()) == set(range(n))


@pytest.mark.parametrize(
    ("method", "options"), [("lime", {}), ("kernel_shap", {}), ("shapley_sampling", {"orders": 2})]
)
def test_superpixels_alone_and_in_a_batch(method: str, options: dict[str, int]) -> None:
    pytest.importorskip("skimage", reason="an extra")
    model = box()
    x = 0.1 * X
    x[0, :, :, 8:] += 4.0
    x[1, :, :5] -= 3.0
    together = attribute_full(model, x, 1, method, segments="superpixels", cells=3, **options)
    assert len({len(v) for v in together.info["values"]}) == 2, "the images should differ in their number of segments"
    for i in range(2):
        alone = attribute(model, x[i : i + 1], 1, method, segments="superpixels", cells=3, **options)
        torch.testing.assert_close(alone[0], together.maps[i], rtol=1e-7, atol=1e-10)


def test_bad_options() -> None:
    model = box()
    for method, options, message in (
        ("lime", {"samples": 1}, "samples is 1; expected a whole number of at least 2"),
        ("kernel_shap", {"samples": 0}, "samples is 0; expected a whole number of at least 2"),
        ("shapley_sampling", {"orders": 0}, "orders is 0; expected a whole number of at least 1"),
    ):
        with pytest.raises(InterpNetError, match=message):
            attribute(model, X, 0, method, **options)
