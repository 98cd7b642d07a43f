"""The report's verdict: no further than the numbers, and not called the class's own where it is not."""

from __future__ import annotations

import dataclasses
import math

import pytest
from interpnet.pipelines.report.load import RunData, Swapped
from interpnet.pipelines.report.numbers import signed
from interpnet.pipelines.report.verdict import verdict
from interpnet.pipelines.report.views import surroundings_share, swap_rows

from interpnet.ablation import as_result


def small(own: float, random: list[float], highest: float | None = None, others: float = 0.79) -> dict:
    def entry(name: str, draws: list[float]) -> dict:
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
        "support": [9, 9],
        "intact": [0.8, 0.8],
        "fill": "zero",
        "n_images": 18,
        "repeats": len(random),
        "seed": 0,
        "conditions": conditions,
        "curve": None,
        "single": {},
    }


@pytest.mark.parametrize(
    ("data", "level", "words"),
    [
        (small(0.46, [0.76, 0.77, 0.78], 0.7), "shown", "0.24 lower than the strongest of them"),
        (small(0.46, [0.76, 0.77, 0.78], 0.4), "mixed", "not beyond removing those with the highest mean activation"),
        (small(0.46, [0.3, 0.5, 0.7], 0.5), "not shown", "but not beyond removing random ones: this study does not"),
        (small(0.77, [0.70, 0.77, 0.84]), "not shown", "not beyond what the controls do"),
        (small(0.9, [0.95, 0.96, 0.97]), "not shown", "not beyond what the controls do"),
        (small(0.46, [0.77]), "mixed", "drawn only once"),
        (small(0.46, []), "open", "No control was run"),
    ],
)
def test_the_judgement_goes_no_further_than_the_numbers(data, level, words):
    found = verdict(as_result(data))
    assert found.level == level
    assert words in found.judgement
    assert ("relies on the named channels." in found.judgement) == (level == "shown" or "drawn only once" in words)


def test_a_control_that_fells_every_class_alike_is_told_from_one_that_finds_the_class() -> None:
    def entry(name: str, own: float, others: float) -> dict:
        return {"name": name, "layers": "all", "removed": [4, 6], "own": [[own] * 2] * 3, "others": [[others] * 2] * 3}

    data = small(0.46, [])
    data["conditions"] = [entry("relevant", 0.46, 0.78), entry("random", 0.77, 0.76)]
    blunt = verdict(as_result(data | {"conditions": [*data["conditions"], entry("highest-activation", 0.2, 0.2)]}))
    assert blunt.level == "shown"
    assert "costs the others as much" in blunt.judgement
    assert "those channels serve every class, the named ones this class" in blunt.judgement
    sharp = verdict(as_result(data | {"conditions": [*data["conditions"], entry("highest-activation", 0.2, 0.78)]}))
    assert sharp.level == "mixed"
    tiny = verdict(as_result(data | {"conditions": [data["conditions"][0], entry("random", 0.4, 0.4)]}))
    assert tiny.level == "mixed", "random removal fells the whole of a tiny network"
    vague = [entry("relevant", 0.6, 0.62), entry("random", 0.77, 0.76), entry("highest-activation", 0.4, 0.4)]
    unspecific = verdict(as_result(data | {"conditions": vague}))
    assert unspecific.level == "mixed", "named channels that cost the others as much are not called the class's own"
    assert "the named ones this class" not in unspecific.judgement
    worse = verdict(as_result(data | {"conditions": [data["conditions"][0], entry("random", 0.4, 0.78)]}))
    assert worse.level == "not shown"


def test_an_effect_on_everybody_is_not_called_the_class_s_own():
    mostly = verdict(as_result(small(0.4, [0.78, 0.79], others=0.75)))
    everybody = verdict(as_result(small(0.4, [0.78, 0.79], others=0.45)))
    assert any("mostly the class's own" in d for d in mostly.details)
    assert any("not specific to the class" in d for d in everybody.details)


def test_a_removal_that_helps_is_not_called_a_loss():
    assert "does not lower its own recall: from 0.80 to 0.90" in verdict(as_result(small(0.9, [0.7, 0.8]))).headline


def test_a_study_of_nothing_says_so():
    data = small(0.4, [0.7])
    data["conditions"][0]["removed"] = [0, 0]
    assert verdict(as_result(data)).level == "open"
    assert "were not removed" in verdict(as_result({**data, "conditions": []})).headline


def test_a_network_at_chance_is_pointed_out():
    data = {**small(0.4, [0.5, 0.51]), "intact": [0.5, 0.5]}
    assert any("near chance (0.50)" in d for d in verdict(as_result(data)).details)


def test_signs():
    assert [signed(v) for v in (0.123, -0.123, -0.0001, float("nan"))] == ["+0.12", "−0.12", "0.00", "–"]


def test_swapped_surroundings_are_shown_most_suspicious_first(tmp_path):
    run = RunData(
        tmp_path,
        {},
        ("cat", "<b>dog</b>"),
        swapped={"middle": Swapped(60, 0.25, 0.5, {0: 0.125, 1: math.nan}, {(0, "conv", 3): 0.75})},
    )
    rows = swap_rows(run)
    assert [row["label"] for row in rows] == ["cat", "<b>dog</b>"]
    assert rows[0]["middle"] == 0.125
    assert math.isnan(rows[0]["mask"])
    assert math.isnan(rows[1]["middle"])
    assert surroundings_share(run, 0, "conv", 3) == 0.75
    assert math.isnan(surroundings_share(run, 1, "conv", 3))
    both = dataclasses.replace(
        run, swapped={**run.swapped, "mask": Swapped(60, 0, 1, {0: 0.1, 1: 0.9}, {(0, "conv", 3): 0.5})}
    )
    assert [row["label"] for row in swap_rows(both)] == ["<b>dog</b>", "cat"]
    assert surroundings_share(both, 0, "conv", 3) == 0.5
