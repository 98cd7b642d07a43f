"""S6, cues inside the subject: the statistic by hand, which pair speaks for a class, and who counts as what."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.cues.inside_table import (
    ahead,
    area,
    best,
    beyond,
    class_area,
    concentration,
    joined,
    of_kind,
    relying,
    threshold,
    unaware,
)


def pair(index: int = 0, low: float = 2.0, **values: Any) -> dict[str, Any]:
    plain = {"index": index, "n": 12, "area": 0.05, "gap": 8.0, "raised low": low, "fell low": 3.0}
    return plain | values


def test_concentration_is_computed_by_hand() -> None:
    # A quarter of the class on a twentieth of the image.
    assert concentration(pair()) == pytest.approx(5.0)
    assert concentration(pair(low=4.0)) == pytest.approx(3 / 8 / 0.05)
    for missing in ({"n": 0}, {"raised low": None}, {"fell low": float("nan")}, {"gap": -1.0}):
        assert concentration(pair(**missing)) == -1.0


def test_the_most_concentrated_pair_speaks_for_its_class() -> None:
    line = {"number": 3, "pairs": [pair(1, 1.0), pair(0, 2.0), pair(0, 1.0), pair(0, n=0)]}
    assert [(one["index"], one["raised low"]) for one in best(line)["pairs"]] == [(0, 2.0), (1, 1.0)]


def lines() -> list[dict[str, Any]]:
    def line(
        number: int, kind: str | None, low: float, classes: list[int], low_of_others: float = 0.1
    ) -> dict[str, Any]:
        return {
            "number": number,
            "kind": kind,
            "behaviour": {"relies": bool(classes), "classes": classes},
            "pairs": [pair(0, low), pair(1, low_of_others)],
        }

    return [
        line(0, "tag", 2.5, [0]),
        line(1, "tag", 0.2, []),
        line(2, None, 0.4, [], 0.3),
        line(3, "stamp", 2.0, [0]),
        line(300, "tag", 2.4, [0]),
        line(301, None, 0.1, []),
    ]


def every() -> list[dict[str, Any]]:
    found = [
        {"number": line["number"], "classes": [{"low": low, "usual": 0.1}]}
        for line, low in zip(lines(), (0.0, 0.2, 0.1, 0.9, 0.8, 0.2), strict=True)
    ]
    return joined(lines(), found, lines())


def test_networks_that_rely_are_told_from_all_that_rely_on_none() -> None:
    tags = of_kind(every(), "tag")
    assert [line["number"] for line in tags] == [0, 1, 2, 300, 301]
    assert area(tags).mean == 1.0
    # The search has the first below all three others: three of six pairs are in order.
    assert ahead(tags).mean == pytest.approx(0.5)
    assert class_area(tags).mean == 1.0


def test_classes_that_rely_and_those_of_networks_that_rely_on_none() -> None:
    assert [pair["raised low"] for pair in relying(every())] == [2.5, 2.0, 2.4]
    assert len(unaware(every())) == 6
    limit = threshold(every())
    # Of 0.2, 0.1, 0.4 and 0.3, each over 0.4, the quantile 0.98 lies just below the largest.
    assert limit == pytest.approx((0.3 + 0.94 * 0.1) / 0.4)
    assert beyond(relying(every()), limit).mean == 1.0
    assert beyond(unaware(every()), limit).mean == pytest.approx(1 / 6)
