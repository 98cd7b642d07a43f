"""The report's verdict: no further than the intervals, and not called the class's own where it is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from interpnet.pipelines.report.numbers import signed
from interpnet.pipelines.report.verdict import verdict

from interpnet.ablation import AblationResult, Condition, as_result
from interpnet.ablation._changes import Gathered, Outcome, Pass, changes_of


def small(
    own: float, random: list[float], highest: float | None = None, others: float = 0.79, images: int = 200
) -> dict[str, Any]:
    """Return a study of format 1, without pairs: two classes of so many images, 0.8 of which are recognised."""

    def entry(name: str, draws: list[float]) -> dict[str, Any]:
        return {
            "name": name,
            "layers": "all",
            "removed": [4, 6],
            "own": [[d, d] for d in draws],
            "others": [[others, others]] * len(draws),
        }

    conditions = [entry("relevant", [own])]
    conditions += [entry("random", random)] if random else []
    conditions += [] if highest is None else [entry("highest-activation", [highest])]
    return {
        "format": "interpnet-ablation-1",
        "classes": ["a", "b"],
        "support": [images, images],
        "intact": [0.8, 0.8],
        "fill": "zero",
        "n_images": 2 * images,
        "repeats": len(random),
        "seed": 0,
        "conditions": conditions,
        "curve": None,
        "single": {},
    }


@pytest.mark.parametrize(
    ("data", "level", "words"),
    [
        (small(0.46, [0.76, 0.77, 0.78], 0.7), "shown", "0.24 lower than with the strongest of them"),
        (small(0.46, [0.76, 0.77, 0.78], 0.7, images=9), "not shown", "not beyond what the controls do"),
        (small(0.46, [0.76, 0.77, 0.78], 0.4), "mixed", "not beyond removing those with the highest mean activation"),
        (small(0.46, [0.76, 0.77, 0.78], 0.48), "mixed", "not beyond removing those with the highest mean activation"),
        (
            small(0.46, [0.76, 0.77, 0.78], others=0.46),
            "mixed",
            "It is not shown that a class loses more than the others do in recall (−0.34, the others −0.34; ",
        ),
        (small(0.46, [0.3, 0.5, 0.7], 0.7), "not shown", "but not beyond removing random ones: this study does not"),
        (small(0.77, [0.70, 0.77, 0.84]), "not shown", "not beyond what the controls do"),
        (small(0.9, [0.95, 0.96, 0.97]), "not shown", "not beyond what the controls do"),
        (small(0.46, [0.77]), "not shown", "not beyond what the controls do"),
        (small(0.46, [], 0.7), "mixed", "No random control was run"),
        (small(0.46, []), "open", "No control was run"),
    ],
)
def test_the_judgement_goes_no_further_than_the_intervals(data: dict[str, Any], level: str, words: str) -> None:
    found = verdict(as_result(data))
    assert found.level == level
    assert words in found.judgement
    assert ("relies on the named channels." in found.judgement) == (level == "shown")


def test_the_photographs_that_an_earlier_version_called_shown() -> None:
    """150 photographs of ten classes: 0.933 to 0.867 with the named channels, to 0.855 with random ones per layer."""

    def entry(name: str, draws: list[float], others: float) -> dict[str, Any]:
        return {
            "name": name,
            "layers": "all",
            "removed": [3] * 10,
            "own": [[draw] * 10 for draw in draws],
            "others": [[others] * 10] * len(draws),
        }

    around = [0.001 * i for i in range(-5, 5)]
    study = small(0.9, [])
    study |= {"classes": list("abcdefghij"), "support": [15] * 10, "intact": [0.933] * 10, "repeats": 10}
    random = entry("random", [0.93 + d for d in around], 0.93)
    per_layer = entry("random-per-layer", [0.855 + d for d in around], 0.88)
    study["conditions"] = [entry("relevant", [0.867], 0.92), random, per_layer]
    assert verdict(as_result(study)).level == "not shown"
    # Neither is it where only the weaker control was run: 10 of 150 images, without pairs, are within chance.
    study["conditions"] = [entry("relevant", [0.867], 0.92), random]
    assert verdict(as_result(study)).level == "not shown"


def test_the_same_photographs_paired_image_by_image() -> None:
    """Named channels: 10 of 140 recognised images lost. Random ones: 1. Random ones of the same layers: 11 to 13."""
    labels = np.repeat(np.arange(10), 15)
    right = np.ones(150, dtype=bool)
    right[::15] = False

    def outcome(lost: Sequence[int]) -> Outcome:
        left = right.copy()
        left[list(lost)] = False
        return Outcome(left, np.where(left, 1.0, -1.0).astype(np.float32))

    foreign = (labels + 1) % 10
    groups = np.arange(150) % 7
    first = range(1, 150, 15)
    named = Gathered([Pass(outcome(first), labels)], [Pass(outcome([]), foreign)])
    drawn = {
        "random": [[2], [31]],
        "random-per-layer": [[*range(3, 150, 15), 4], [*range(5, 150, 15), 6, 21, 36]],
    }
    conditions = []
    for name, lost in {"relevant": None, **drawn}.items():
        made = named
        if lost is not None:
            made = Gathered(
                [Pass(outcome(rows), labels, groups) for rows in lost], [Pass(outcome([]), foreign, groups)] * 2
            )
        changes = changes_of(outcome([]), labels, 10, made, None if lost is None else named)
        own = np.full(10, 14 / 15) + changes["recall"].own.mean
        conditions.append(Condition(name, "all", np.full(10, 3.0), own[None], np.full((1, 10), 14 / 15), changes))
    support = np.full(10, 15)
    study = AblationResult(tuple("abcdefghij"), support, np.full(10, 14 / 15), "zero", 150, 2, 0, tuple(conditions))
    assert round(conditions[0].mean_own(), 3) == 0.867
    assert round(conditions[2].mean_own(), 3) == 0.853
    found = verdict(study)
    assert found.level == "not shown"
    assert "not beyond removing random ones of the same layers" in found.judgement
    assert "beyond removing random ones, but" in found.judgement


def test_a_control_that_fells_every_class_alike_is_told_from_one_that_finds_the_class() -> None:
    def entry(name: str, own: float, others: float) -> dict[str, Any]:
        return {"name": name, "layers": "all", "removed": [4, 6], "own": [[own] * 2] * 3, "others": [[others] * 2] * 3}

    data = small(0.46, [])
    data["conditions"] = [entry("relevant", 0.46, 0.78), entry("random", 0.77, 0.76)]
    blunt = verdict(as_result(data | {"conditions": [*data["conditions"], entry("highest-activation", 0.2, 0.2)]}))
    assert blunt.level == "shown"
    assert "costs the others too: those channels serve every class, the named ones this class" in blunt.judgement
    sharp = verdict(as_result(data | {"conditions": [*data["conditions"], entry("highest-activation", 0.2, 0.78)]}))
    assert sharp.level == "mixed"
    tiny = verdict(as_result(data | {"conditions": [data["conditions"][0], entry("random", 0.4, 0.4)]}))
    assert tiny.level == "not shown", "random removal fells the whole of a tiny network, and so nothing is shown"


def test_without_a_test_split_nothing_is_shown() -> None:
    study = as_result(small(0.46, [0.76, 0.77, 0.78], 0.7))
    assert verdict(study).level == "shown"
    found = verdict(study, held_out=False)
    assert found.level == "mixed"
    assert "there is no test split, which flatters them" in found.judgement
    assert {c.level for c in verdict(study).classes} == {"shown"}
    assert {c.level for c in found.classes} == {"mixed"}


def test_a_removal_that_helps_is_not_called_a_loss() -> None:
    headline = verdict(as_result(small(0.9, [0.7, 0.8]))).headline
    assert "does not lower its own recall: from 0.80 to 0.90" in headline
    headline = verdict(as_result(small(0.78, [0.7, 0.8], images=9))).headline
    assert "changes its own recall from 0.80 to 0.78" in headline, "not lowers: chance can do that"


def test_a_study_of_nothing_says_so() -> None:
    data = small(0.4, [0.7])
    data["conditions"][0]["removed"] = [0, 0]
    assert verdict(as_result(data)).level == "open"
    assert "were not removed" in verdict(as_result({**data, "conditions": []})).headline


def test_a_network_at_chance_is_pointed_out() -> None:
    data = {**small(0.4, [0.5, 0.51]), "intact": [0.5, 0.5]}
    assert any("near chance (0.50)" in d for d in verdict(as_result(data)).details)


def test_the_words_follow_how_channels_were_identified() -> None:
    study = as_result(small(0.46, [0.76, 0.77, 0.78]))
    assert "channels that InterpNet names for a class" in verdict(study).headline
    reliance = dataclasses.replace(study, by="reliance")
    assert "channels that a class is found to rely on" in verdict(reliance).headline


def test_signs():
    assert [signed(v) for v in (0.123, -0.123, -0.0001, float("nan"))] == ["+0.12", "−0.12", "0.00", "–"]
