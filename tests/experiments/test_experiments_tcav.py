"""C3: what raises a class, by rule, the page, and the images that are compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from experiments.boats.photographs import Photographs
from experiments.tcav import claims, images, table


def line(way: str, **effects: dict[str, float]) -> dict[str, Any]:
    """Return a line of three layers and five images; effects of the last layer by class and concept."""
    classes = {}
    for name in images.CLASSES:
        own = [effects.get(name, {}).get(concept, 0.0) for concept in images.CONCEPTS]
        by_image = [[value / 3 + 0.001 * i for i in range(5)] for value in own]
        by_layer = [[0.0, 0.0, value] for value in own]
        classes[name] = {
            "effect": by_layer,
            "effect_interval": [[[value - 0.01, value + 0.01] for value in row] for row in by_layer],
            "effect_p_value": [[1.0, 1.0, 0.01 if value else 1.0] for value in own],
            "score": [[0.5, 0.5, 0.9]] * 4,
            "p_value": [[1.0] * 3] * 4,
            "random_effect": [0.02] * 3,
            "random_score": [[0.3, 0.7]] * 3,
            "by_image": by_image,
        }
    return {
        "way": way, "layers": ["a", "b", "c"], "concepts": list(images.CONCEPTS), "sets": 80,
        "accuracy": [[0.9] * 3] * 4, "separates": [[True] * 3] * 4, "random_accuracy": [0.5] * 3, "classes": classes,
        "seconds": 60.0, "commit": "abc", "device": "cpu",
    }  # fmt: skip


LINES = [
    line(
        table.WHOLE,
        zebra={"stripes": 0.3},
        tiger={"stripes": 0.3, "other textures": 0.4},
        gondola={"water": 0.2},
        lifeboat={"water": 0.2},
        tractor={"water": 0.1},
        lion={"stripes": -0.2, "other textures": -0.4},
    ),
    line(table.POOLED),
    *map(line, table.UNTRAINED),
    line(table.AGAIN, zebra={"stripes": 0.3}, tiger={"stripes": 0.3}, tabby={"stripes": 0.1}),
    {
        "way": table.CAPTUM, "layer": "c", "vectors": 5, "score": 0.0, "vector": 4e-9, "effect": 2e-6,
        "effect of captum": 0.06, "commit": "abc",
    },
]  # fmt: skip


def test_a_class_is_raised_beyond_random_sets_and_the_concept_beside() -> None:
    whole = LINES[0]
    assert table.raised(whole, "zebra", "stripes")
    assert not table.raised(whole, "tiger", "stripes")  # other textures raise it more
    assert not table.raised(whole, "lion", "stripes")  # less downwards than other textures is not up
    assert not table.raised(whole, "tabby", "stripes")
    assert table.beside(whole, "tiger", "stripes").mean < 0
    without = {**whole, "separates": [[False] * 3] * 4}
    assert not table.raised(without, "zebra", "stripes")


def test_claims_follow_from_what_is_raised() -> None:
    expected, others, captum = claims.claims(LINES)
    assert (expected.short, expected.verdict) == ("3 of 5 classes", "holds in part")
    assert expected.figure.startswith("last layer, images that the rule was not chosen on: zebra by stripes, tiger by")
    assert expected.tested.endswith("first: zebra by stripes, gondola by water, lifeboat by water")
    assert (others.short, others.verdict) == ("17 of 17 pairs", "holds")
    assert others.figure == "last layer: none; over three layers: tractor by water; with random weights 0 of 66 pairs"
    assert captum.verdict == "holds in part"
    assert [bool(one.reason) for one in (expected, others, captum)] == [True, False, True]


def test_the_page_has_a_table_for_each_way() -> None:
    text = table.text(LINES)
    assert text.count("| zebra |") == 6
    assert "+0.000 +0.000 **+0.300** ↑<br>0.50 0.50 0.90" in text
    assert "stripes less other textures: zebra ↑ | +0.100 (+0.100 to +0.100), raised |" in text
    assert "on the same 5 vectors at `c`" in text


def test_photographs_of_a_concept_are_the_first_of_each_class_and_of_those_held_out_or_not() -> None:
    given = Photographs(
        torch.arange(8).view(8, 1, 1, 1), np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.zeros((8, 4)),
        np.array([False, False, False, True] * 2), ("seashore", "lakeside"),
    )  # fmt: skip
    assert images.of_classes(given, ("seashore", "lakeside"), 3).ravel().tolist() == [0, 4, 1]
    assert images.of_classes(given, ("lakeside",), 5, held_out=True).ravel().tolist() == [7]
    assert images.of_classes(given, ("seashore", "lakeside"), 2, part=1).ravel().tolist() == [1, 5]


def test_batches_are_made_each_time_they_are_asked_for() -> None:
    batches = images.Batches(torch.full((5, 3, 64, 64), 255, dtype=torch.uint8), 2)
    for _ in range(2):
        assert [tuple(part.shape) for (part,) in batches] == [(2, 3, 224, 224)] * 2 + [(1, 3, 224, 224)]
    assert torch.allclose(batches.inputs(1), torch.ones(1, 3, 224, 224))
