"""S4: effects against least squares, what is cut and laid, the committed labels and outlines, and the head's fit."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

import experiments.husky_wolf as here
from experiments.husky_wolf.effects import difference, draws_of, swap_effects
from experiments.husky_wolf.network import fitted
from experiments.husky_wolf.photographs import (
    SIDE,
    Photographs,
    disc,
    green,
    labelled,
    outlines,
    pieces,
    snow_by_rule,
    tiled,
    white,
)
from experiments.husky_wolf.pictures import NOTHING, Pairs, every_pair, exchanged, inside, laid_around


def files() -> list[str]:
    with Path(here.__file__).with_name("snow.csv").open(encoding="utf-8") as file:
        return [row["file"] for row in csv.DictReader(file)]


def photographs() -> Photographs:
    """Return six grey photographs, four of the test set, each of its own brightness."""
    values = torch.arange(6) / 10
    images = values.view(6, 1, 1, 1).expand(6, 3, SIDE, SIDE)
    labels = np.array([0, 1, 0, 0, 1, 1])
    return Photographs(images, labels, np.array([False, False, True, True, True, True]), tuple("abcdef"))


def test_every_photograph_has_its_snow_and_every_test_photograph_its_outline() -> None:
    names = files()
    snow = labelled(tuple(names))
    wolves = np.array(["/wolf/" in name for name in names])
    assert len(names) == 100
    assert (snow[wolves] > 0).all()
    assert (snow[~wolves] == 0).all()
    covered = outlines([name for name in names if name.startswith("test/")]).float().mean((1, 2))
    assert len(covered) == 20
    assert 0.05 < float(covered.min()) < float(covered.max()) < 0.9


def test_white_and_green_pixels_by_hand() -> None:
    colours = torch.tensor([[1.0, 1.0, 1.0], [0.6, 0.6, 0.6], [1.0, 0.8, 0.8], [0.2, 0.5, 0.2], [0.5, 0.52, 0.5]])
    image = colours.T[None, :, :, None]
    assert white(image)[0, :, 0].tolist() == [True, False, False, False, False]
    assert green(image)[0, :, 0].tolist() == [False, False, False, True, False]
    picture = torch.zeros(1, 3, SIDE, SIDE)
    picture[:, :, :, : SIDE // 2] = 1.0
    assert snow_by_rule(picture)[0] == pytest.approx(0.5)


def test_a_piece_comes_from_the_whitest_edge_and_tiles_without_a_step() -> None:
    image = torch.zeros(2, 3, SIDE, SIDE)
    image[1, :, -60:, -60:] = torch.rand(3, 60, 60, generator=torch.Generator().manual_seed(0)) / 9 + 0.88
    (piece,) = pieces(image, white(image), 1)
    assert torch.equal(piece, image[1, :, -piece.shape[1] :, -piece.shape[2] :])
    whole = tiled(piece)
    side = piece.shape[1]
    assert torch.equal(whole[:, :side, :side], piece)
    assert torch.equal(whole[:, :, side - 1], whole[:, :, side])
    assert torch.equal(whole[:, side - 1], whole[:, side])


def test_exchanged_surroundings_and_what_is_laid_around() -> None:
    given = photographs()
    pictures = exchanged(given, "disc 0.4")
    pairs = every_pair(given)
    assert len(pictures) == 16
    for picture, middle, around in zip(pictures, pairs.middle, pairs.around, strict=True):
        assert float(picture[0, SIDE // 2, SIDE // 2]) == pytest.approx(middle / 10)
        assert float(picture[0, 0, 0]) == pytest.approx(around / 10)
    laid = laid_around(given, torch.ones(3, SIDE, SIDE), "disc 0.4")
    assert float(laid[0, 0, 0, 0]) == 1.0
    assert float(laid[0, 0, SIDE // 2, SIDE // 2]) == pytest.approx(0.2)
    assert not inside(given, NOTHING).any()
    assert float(disc(0.25).float().mean()) == pytest.approx(np.pi / 16, rel=0.01)


def test_swap_effects_are_those_of_least_squares_without_the_pairs_of_an_image_with_itself() -> None:
    given = photographs()
    pairs = every_pair(given)
    rng = np.random.default_rng(0)
    odds = rng.normal(size=len(pairs.middle))
    odds[pairs.middle == pairs.around] = 1e6  # are left out
    found = swap_effects(odds, pairs, given.labels)
    # Cells of three and of four pairs: least squares with each cell as heavy.
    rest = pairs.middle != pairs.around
    m, s = (given.labels[rows][rest].astype(np.float64) for rows in pairs)
    x = odds[rest]
    cells = np.array([[x[(m == i) & (s == j)].mean() for j in (0, 1)] for i in (0, 1)])
    assert found["middle"].mean == pytest.approx((cells[1] - cells[0]).mean())
    assert found["surroundings"].mean == pytest.approx((cells[:, 1] - cells[:, 0]).mean())
    differ = m != s
    assert found["follow"].mean == pytest.approx(((x > 0) == s)[differ].mean())
    assert Pairs(*pairs) == pairs


def test_draws_keep_as_many_of_each_class_and_a_constant_difference_has_no_spread() -> None:
    labels = np.array([0, 0, 1, 1, 1])
    weights = draws_of(labels, 50)
    assert weights[0].tolist() == [1] * 5
    assert set(weights[:, :2].sum(1)) == {2}
    assert set(weights[:, 2:].sum(1)) == {3}
    one = np.random.default_rng(0).normal(size=(5, 4))
    assert tuple(difference(one + 2, one, labels)) == pytest.approx((2.0, 2.0, 2.0))


def test_the_head_tells_what_a_line_tells_and_its_log_odds_are_those_of_the_fit() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 30)
    features = rng.normal(size=(60, 5)) + 3 * labels[:, None] * np.array([1.0, 0, 0, 0, 0])
    features[:, 4] = 7.0  # a constant feature gets no weight that matters
    head = fitted(features, labels)
    assert ((head.log_odds(features) > 0) == labels).mean() > 0.9
    assert abs(head.weight[0]) == max(abs(head.weight))
