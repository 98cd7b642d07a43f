"""E1's script: a trial of seconds, resumed; the arithmetic of differences, selectivity and intervals by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.ablation import claims, run, table
from experiments.ablation.table import Group, classes_below, difference, groups, recall
from experiments.common.claims import VERDICTS
from experiments.common.pages import END, begin
from interpnet.ablation import CONTROLS

T_95_OF_2 = 12.7062047  # Student's quantile with one degree of freedom


def test_a_quick_trial_resumes_and_measures_every_condition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--quick", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "results.json")]
    run.main(words)
    paper, reliance = json.loads((tmp_path / "results.json").read_text())
    assert [c["name"] for c in paper["conditions"]] == ["relevant", "relevant-positive", *CONTROLS]
    assert [len(c["own"]) for c in paper["conditions"]] == [1, 1, 2, 2, 1, 1]  # passes
    relevant, _, drawn, by_layer, highest, _ = paper["conditions"]
    assert relevant["removed"] == drawn["removed"] == by_layer["removed"] == highest["removed"] > 0
    assert relevant["own"][0] == pytest.approx(np.mean(relevant["by_class"]), abs=1e-4)
    assert paper["intact"] == reliance["intact"] > 0.5
    assert [line["by"] for line in (paper, reliance)] == ["mu-lasso", "reliance"]
    assert reliance["conditions"][0]["removed"] > 0
    assert relevant["own"][0] < paper["intact"]
    assert sum(paper["thirds"]["all"]) == pytest.approx(1, abs=1e-3)
    monkeypatch.setattr(run, "measured", None)  # what is there is not done again
    run.main(words)


def line_of(
    seed: int, subject: str = "mnist", layers: tuple[str, ...] = ("all",), **own: list[float]
) -> dict[str, object]:
    conditions = [
        {
            "name": name.replace("_", "-"),
            "layers": where,
            "removed": 3.0,
            "own": values,
            "others": [v + 0.2 for v in values],
            "by_class": [float(np.mean(values)), 0.5],
        }
        for where in layers
        for name, values in own.items()
    ]
    return {
        "subject": subject,
        "seed": seed,
        "setting": "paper",
        "mu": 10.0,
        "fill": "zero",
        "train_images": 100,
        "images": 50,
        "classes": 2,
        "channels": 20,
        "channels_a_class": 3.0,
        "intact": 0.9,
        "seconds": 6.0,
        "thirds": {k: [0.5, 0.25, 0.25] for k in ("relevant", "highest", "all")},
        "conditions": conditions,
        "commit": "abc",
    }


ALL = Group("mnist", "all")


def test_intervals_are_over_draws_for_one_network_and_over_networks_for_several() -> None:
    one = [line_of(0, relevant=[0.4], random=[0.6, 0.8])]
    half = T_95_OF_2 * np.std([0.6, 0.8], ddof=1) / 2**0.5
    assert recall(one, ALL, "random", "own") == pytest.approx((0.7, 0.7 - half, 0.7 + half))
    assert recall(one, ALL, "relevant", "own") == (0.4, 0.4, 0.4)
    assert difference(one, ALL, "random") == pytest.approx((-0.3, -0.3 - half, -0.3 + half))
    two = [*one, line_of(1, relevant=[0.5], random=[0.5, 0.7])]
    assert difference(two, ALL, "random") == pytest.approx((-0.2, -0.2 - T_95_OF_2 * 0.1, -0.2 + T_95_OF_2 * 0.1))
    assert recall(two, ALL, "random", "own") == pytest.approx((0.65, 0.65 - T_95_OF_2 * 0.05, 0.65 + T_95_OF_2 * 0.05))
    assert difference(two, ALL, "highest-activation") is None


def test_selectivity_is_what_the_others_keep_beyond_the_class() -> None:
    lines = [line_of(0, relevant=[0.4], random=[0.6])]
    assert recall(lines, ALL, "relevant", "selectivity") == pytest.approx((0.2, 0.2, 0.2))
    assert difference(lines, ALL, "random", "selectivity") == pytest.approx((0.0, 0.0, 0.0))
    lines[0]["conditions"][0]["others"] = [0.9]  # type: ignore[index]
    assert difference(lines, ALL, "random", "selectivity") == pytest.approx((0.3, 0.3, 0.3))


def test_classes_are_counted_where_the_method_costs_more_and_ties_are_not() -> None:
    lines = [line_of(s, relevant=[0.4], random=[0.6]) for s in (0, 1)]
    assert classes_below(lines, ALL, "random") == (2, 4)


def test_groups_keep_the_order_and_a_network_of_one_kind_has_one() -> None:
    lines = [line_of(0, "b", relevant=[0.1]), line_of(0, "a", ("conv", "all"), relevant=[0.1])]
    assert groups(lines, ["a", "b", "c"]) == [Group("a", "all"), Group("a", "conv"), Group("b", "all")]


def test_thirds_of_unequal_layers() -> None:
    assert run.thirds([0, 0, 3, 5], [1] * 6) == [0.5, 0.25, 0.25]
    assert run.thirds([], [4]) == [0, 0, 0]


def test_the_page_has_a_row_a_group_and_a_figure(tmp_path: Path) -> None:
    conditions = {
        "relevant": [0.4],
        "relevant_positive": [0.5],
        "random": [0.6, 0.8],
        "random_per_layer": [0.6, 0.8],
        "highest_activation": [0.1],
    }
    lines = [line_of(0, "mnist-fc", ("all", "conv"), **conditions), line_of(0, "single-6c", **conditions)]
    page = tmp_path / "README.md"
    page.write_text(f"words\n{begin(table.PAGE.command)}\nold\n{END}\nmore\n")
    table.PAGE.write(page, lines)
    written = page.read_text()
    cells = "1 | 3.0 of 20 | 90.0 | 40.0 | 50.0 | 70.0 ± 127.1 | 70.0 ± 127.1 | 10.0 | – |"
    assert f"| MNIST, with FC layer, convolutional only | {cells}" in written
    assert "| an8Flower single-6c | −30.0 (−157.1 to +97.1) |" in written
    assert "old" not in written
    assert (tmp_path / "ablation.png").stat().st_size > 1000


def study(name: str, seed: int, relevant: float, others: float) -> dict[str, object]:
    line = line_of(
        seed, name, relevant=[relevant], random=[0.8, 0.82], random_per_layer=[0.7, 0.72], highest_activation=[0.1]
    )
    line["conditions"][0]["others"] = [others]  # type: ignore[index]
    return line


def test_claims_hold_where_every_study_is_won_and_say_which_are_not() -> None:
    won = [study("mnist", s, 0.3 + 0.01 * s, 0.9) for s in range(3)]
    lost = [study("single-6c", s, 0.71 + 0.01 * s, 0.9) for s in range(3)]
    assert claims.beyond_random(won).verdict == "holds"
    part = claims.beyond_random([*won, *lost])
    assert part.verdict == "holds in part"
    assert "an8Flower single-6c (3.0 channels per class)" in part.reason
    assert "MNIST" not in part.reason
    assert claims.beyond_random(lost).verdict == "does not hold"
    assert claims.selective(won).verdict == "holds"  # 0.9 - 0.3 is above the 0.2 of both controls
    assert claims.selective(lost).verdict == "does not hold"
    positive = difference(lost, Group("single-6c", "all"), "random", "selectivity", ours="highest-activation")
    assert positive == pytest.approx((0.0, 0.0, 0.0))  # both keep 0.2 more of the others
    against = claims.beyond_highest(won)
    assert against.verdict == "does not hold"
    assert against.reason == "they cost the other classes 60.0 to 60.0 points as well, the identified ones 0.0 to 0.0"


def test_reliance_is_judged_by_own_recall_and_selectivity_against_both_random_controls() -> None:
    won = [study("mnist", s, 0.3 + 0.01 * s, 0.9) for s in range(3)]
    lost = [study("single-6c", s, 0.71 + 0.01 * s, 0.9) for s in range(3)]
    lines = [{**line, "setting": setting} for setting in ("paper", "reliance") for line in won]
    found = claims.by_reliance([*lines, *lost])
    assert (found.verdict, found.figure) == ("holds", "won 1 of 1 studies; of the same, the mu-lasso's 1")
    found = claims.by_reliance([*lines, *lost, *({**line, "setting": "reliance"} for line in lost)])
    assert (found.verdict, found.reason) == ("holds in part", "not won: an8Flower single-6c")
    assert claims.by_reliance(won).verdict == "open"


def test_a_study_without_channels_to_remove_is_none() -> None:
    line = study("mnist", 0, 0.3, 0.9)
    for condition in line["conditions"]:  # type: ignore[attr-defined]
        condition["removed"] = 0.2
    assert claims.studies([line]) == []
    assert len(claims.studies([study("mnist", 0, 0.3, 0.9)])) == 1


def test_claims_are_read_from_the_committed_results() -> None:
    found = claims.claims()
    assert [c.key for c in found] == ["E1"] * 4
    assert all(c.verdict in VERDICTS for c in found)
    assert all(len(c.figure) <= 180 for c in found)
