"""S3: boxes filled and pasted by hand, effects against least squares, and whose water effect counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from experiments.boats import table
from experiments.boats.effects import effects_of, log_odds_of, share, summary
from experiments.boats.photographs import ON_LAND, ON_WATER, SCENES, WATER, Photographs
from experiments.boats.sheet import typical
from experiments.boats.swaps import SURROUNDINGS, filled, pasted, swaps_of


def test_a_filled_box_is_the_mean_of_its_ring_where_all_are_as_far() -> None:
    image = torch.zeros(3, 7, 7, dtype=torch.uint8)
    image[:, 0] = 100
    image[:, 6] = 100
    image[0, :, 0] = 200
    done = filled(image, (3, 3, 3, 3))
    # The box with its margin is the inner five; the middle pixel sees the ring from all sides alike.
    ring = [(y, x) for y in range(7) for x in range(7) if y in (0, 6) or x in (0, 6)]
    weights = np.array([1 / ((y - 3) ** 2 + (x - 3) ** 2) for y, x in ring])
    values = np.array([float(image[0, y, x]) for y, x in ring])
    assert int(done[0, 3, 3]) == round(float((weights * values).sum() / weights.sum()))
    assert torch.equal(done[:, 0], image[:, 0])
    same = torch.full((3, 4, 4), 7, dtype=torch.uint8)
    assert torch.equal(filled(same, (0, 0, 3, 3)), same)


def test_what_is_pasted_stays_in_its_box_and_fills_it() -> None:
    plate = torch.zeros(3, 8, 8, dtype=torch.uint8)
    image = torch.arange(64, dtype=torch.uint8).view(1, 8, 8).expand(3, 8, 8)
    same = pasted(plate, image, (1, 2, 3, 4))
    assert torch.equal(same[:, 2:5, 1:4], image[:, 2:5, 1:4])
    assert int(same.sum()) == int(image[:, 2:5, 1:4].long().sum())
    grown = pasted(plate, torch.full((3, 8, 8), 9, dtype=torch.uint8), (2, 2, 7, 7), (0, 0, 1, 1))
    assert bool((grown[:, 2:, 2:] == 9).all())
    assert int((grown > 0).sum()) == 3 * 36


def photographs(each: int = 4) -> Photographs:
    """Return grey photographs, each of its own brightness, with the same box."""
    classes = (*ON_WATER, *ON_LAND, *SCENES)
    n = each * len(classes)
    images = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 3, 64, 64).contiguous()
    boxes = np.tile([10, 20, 40, 50], (n, 1))
    return Photographs(images, np.repeat(np.arange(len(classes)), each), boxes, np.ones(n, dtype=bool), classes)


def test_swaps_take_the_box_from_one_photograph_and_the_rest_from_another() -> None:
    given = photographs()
    c = given.classes.index("lifeboat")
    roads = torch.full((5, 3, 64, 64), 250, dtype=torch.uint8)
    made = swaps_of(given, c, roads, most=3)
    assert len(made.rows) == 3
    assert set(made.put) == {(content, where) for content in ("own", "other") for where in SURROUNDINGS}
    groups = {"own": ("lifeboat",), "water": WATER, "land": ON_LAND}
    for (content, where), pictures in made.put.items():
        for row, picture in zip(made.rows, pictures, strict=True):
            inside = sorted(set(picture[:, 20:51, 10:41].flatten().tolist()))
            around = sorted(set(picture[:, :18].flatten().tolist()))
            allowed = ("lifeboat",) if content == "own" else ON_LAND
            assert given.classes[given.labels[inside[0]]] in allowed
            assert (inside == [row]) == (content == "own")
            assert around == [250] if where == "street" else given.classes[given.labels[around[0]]] in groups[where]
    assert made.whole["grey"][0, 0, 0, 0] == 128
    assert torch.equal(made.whole["original"], given.images[made.rows])
    again = swaps_of(given, c, roads, most=3)
    assert all(torch.equal(again.named()[name], picture) for name, picture in made.named().items())


def test_effects_are_those_of_least_squares() -> None:
    rng = np.random.default_rng(0)
    names = [f"{content} on {where}" for content in ("own", "other") for where in SURROUNDINGS]
    x = {name: rng.normal(size=30) for name in (*names, "original", "grey")}
    found = effects_of(x)
    design = []
    for name in names:
        content, _, where = name.partition(" on ")
        design.append([1, content == "own", *(where == s for s in ("own", "water", "street"))])
    means = np.array([x[name].mean() for name in names])
    _, box, own, water, street = np.linalg.lstsq(np.array(design, dtype=np.float64), means, rcond=None)[0]
    for name, value in (("box", box), ("own", own), ("water", water), ("street", street)):
        assert found[name].mean() == pytest.approx(value)
    assert found["water against street"].mean() == pytest.approx(water - street)
    both = (found["water, subject"] + found["water, other"]) / 2
    np.testing.assert_allclose(both, found["water"])
    summed = summary(found)
    assert summed["box"].low < summed["box"].mean < summed["box"].high


def test_shares_and_log_odds_by_hand() -> None:
    values = share(np.array([1.0, -1.0, 3.0, -1.0]), np.array([3.0, 2.0, -1.0, -2.0]))
    np.testing.assert_allclose(values[:3], [0.25, 0.0, 1.0])
    assert np.isnan(values[3])
    # Of the outputs 0 and 2 only: the others do not compete.
    logits = np.array([[1.0, 50.0, 3.0]])
    assert log_odds_of(logits, 2, [0, 2])[0] == pytest.approx(2.0)


def test_the_typical_photograph_is_recognised_and_has_the_median_change() -> None:
    zero = np.zeros((4, 2))
    street = np.array([[0.0, 9.0], [3.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    original = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])  # the first is taken for the other class
    assert typical({"original": original, "own on water": zero, "own on street": street}, 0, [0, 1]) == 3


def lines(water: float, street: float) -> list[dict[str, Any]]:
    """Return one class of one network, with these effects and narrow intervals."""
    effects = {name: [v, v - 0.1, v + 0.1] for name, v in (("water", water), ("water against street", street))}
    return [{"network": "n", "what": "swaps", "class": "goose", "effects": {"things": effects}}]


def test_water_counts_where_it_raises_a_class_against_land_and_against_streets() -> None:
    assert table.needs_water(lines(0.5, 0.5), "n", "goose")
    assert not table.needs_water(lines(0.05, 0.5), "n", "goose")
    assert not table.needs_water(lines(0.5, -0.5), "n", "goose")
