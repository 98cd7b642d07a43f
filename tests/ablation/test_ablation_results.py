"""Results read back, checked and compared; recalls kept in a file, found again for the same removal alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interpnet.ablation import AblationResult, Condition, as_result, find_condition, finite_mean, interval
from interpnet.ablation._changes import Outcome
from interpnet.ablation._checkpoint import Measured
from interpnet.ablation._result import Curve, SingleEffect, plain
from interpnet.engine import Channel
from interpnet.errors import InterpNetError, RunFolderError

NAN = float("nan")


def result(**changes: Any) -> AblationResult:
    values: dict[str, Any] = {
        "classes": ("a", "b"),
        "support": np.array([3, 0]),
        "intact": np.array([0.75, NAN]),
        "fill": "mean",
        "n_images": 3,
        "repeats": 2,
        "seed": 5,
        "conditions": (
            Condition("relevant", "all", np.array([1.0, 0.0]), np.array([[0.5, NAN]]), np.array([[NAN, 0.25]])),
            Condition("random", "conv", np.array([2.0, 1.0]), np.full((2, 2), 0.5), np.full((2, 2), 0.25)),
        ),
        "curve": Curve(np.array([1, 2]), np.array([[0.5, NAN], [0.25, NAN]]), np.full((2, 1, 2), 0.75)),
        "single": {0: [SingleEffect(Channel("relu", 3), -1.5, 0.25, NAN)], 1: []},
    }
    return AblationResult(**values | changes)


def same(a: Any, b: Any) -> bool:
    return json.dumps(plain(a)) == json.dumps(plain(b))


@pytest.mark.parametrize("changes", [{}, {"curve": None}, {"single": {}}], ids=str)
def test_a_result_survives_json_number_by_number(changes: dict[str, Any]) -> None:
    made = result(**changes)
    text = json.dumps(made.to_json(), allow_nan=False)
    for again in (AblationResult.from_json(json.loads(text)), as_result(json.loads(text))):
        for name in ("classes", "fill", "n_images", "repeats", "seed"):
            assert getattr(again, name) == getattr(made, name)
        np.testing.assert_array_equal(again.support, made.support)
        np.testing.assert_array_equal(again.intact, made.intact)
        for mine, theirs in zip(again.conditions, made.conditions, strict=True):
            assert (mine.name, mine.layers) == (theirs.name, theirs.layers)
            np.testing.assert_array_equal(mine.removed, theirs.removed)
            np.testing.assert_array_equal(mine.own, theirs.own)
            np.testing.assert_array_equal(mine.others, theirs.others)
        assert (again.curve is None) == (made.curve is None)
        if made.curve is not None and again.curve is not None:
            np.testing.assert_array_equal(again.curve.k, made.curve.k)
            np.testing.assert_array_equal(again.curve.own, made.curve.own)
            np.testing.assert_array_equal(again.curve.random, made.curve.random)
        assert again.single.keys() == made.single.keys()
        for c, effects in made.single.items():
            for mine, theirs in zip(again.single[c], effects, strict=True):
                assert mine[:3] == theirs[:3]
                assert math.isnan(mine.others_change) == math.isnan(theirs.others_change)
    assert as_result(made) is made


def test_what_json_says_beside_the_numbers() -> None:
    said = result().to_json()
    assert said["mean_intact"] == 0.75
    first, second = said["conditions"]
    assert (first["mean_own"], first["mean_others"], first["interval_own"]) == (0.5, 0.25, [0.5, 0.5])
    assert (second["mean_own"], second["mean_others"]) == (0.5, 0.25)
    assert (second["interval_own"], second["interval_others"]) == ([0.5, 0.5], [0.25, 0.25])
    assert said["intact"] == [0.75, None]
    assert said["single"]["0"] == [
        {
            "layer": "relu",
            "index": 3,
            "weight": -1.5,
            "own_drop": 0.25,
            "others_change": None,
            "log_odds_drop": None,
            "log_odds_stderr": None,
            "others_log_odds_change": None,
            "others_log_odds_stderr": None,
        }
    ]


def changed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    said = json.loads(json.dumps(result().to_json()))
    change(said)
    return said


WRONG: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "support": (lambda s: s.update(support=[3]), r"support has shape \(1,\); expected \(2,\)"),
    "intact": (lambda s: s.update(intact=[[1.0, 0.5]]), r"intact has shape \(1, 2\); expected \(2,\)"),
    "removed": (
        lambda s: s["conditions"][0].update(removed=[1.0]),
        r"removed of 'relevant' has shape \(1,\); expected \(2,\)",
    ),
    "own": (
        lambda s: s["conditions"][1].update(own=[0.5, 0.5]),
        r"own of 'random' has shape \(2,\); expected \(repeats, 2\)",
    ),
    "others": (
        lambda s: s["conditions"][1].update(others=[[0.5, 0.5, 0.5]]),
        r"others of 'random' has shape \(1, 3\); expected \(repeats, 2\)",
    ),
    "no classes": (lambda s: s.pop("classes"), "the ablation result lacks 'classes'; run the ablation again"),
    "no own": (lambda s: s["conditions"][0].pop("own"), "the ablation result lacks 'own'"),
    "words": (lambda s: s.update(intact=["a", "b"]), "the ablation result cannot be read"),
    "a list": (lambda s: s.update(single=[]), "the ablation result cannot be read"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_named(name: str) -> None:
    change, message = WRONG[name]
    with pytest.raises(InterpNetError, match=message):
        as_result(changed(change))


def test_other_formats_and_things_are_refused() -> None:
    with pytest.raises(RunFolderError, match="format 'x' is no ablation result; expected 'interpnet-ablation-2'"):
        as_result(changed(lambda s: s.update(format="x")))
    with pytest.raises(InterpNetError, match=r"expected an AblationResult or its to_json\(\) dictionary, got list"):
        as_result([])


def test_conditions_are_found_by_both_names() -> None:
    made = result()
    assert made.condition("relevant") is made.conditions[0]
    assert made.condition("random", "conv") is made.conditions[1]
    assert find_condition(made, "random") is None
    assert find_condition(made, "relevant", "conv") is None
    with pytest.raises(KeyError, match="no condition 'random' on 'all'; there are"):
        made.condition("random")


def test_means_and_intervals_of_few_values() -> None:
    assert finite_mean([1.0, NAN, math.inf, 3.0]) == 2.0
    assert math.isnan(finite_mean([NAN]))
    assert interval(np.array([0.25])) == (0.25, 0.25)
    assert interval(np.array([0.25, NAN])) == (0.25, 0.25)
    low, high = interval(np.array([0.25, 0.75, NAN]))
    half = 12.7062047364 * 0.25 * math.sqrt(2) / math.sqrt(2)  # t with one degree of freedom, sd / sqrt(2) = 0.25
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half))
    low, high = interval(np.array([0.25, 0.75]), level=0.5)
    assert (high - low) / 2 == pytest.approx(0.25)  # the quartile of t with one degree of freedom is 1


# --- what was measured, kept ------------------------------------------------------------------------------------------


def kept(measured: Measured, what: str, value: float) -> float:
    """Return the log-odds of the second of two removals, as they are known or as they are measured now."""
    outcome = Outcome(np.array([True, False]), np.array([-1.5, value], np.float32))
    found = measured.get(what, 2, lambda: outcome)
    assert found.right.tolist() == [True, False]
    assert found.log_odds[0] == -1.5
    return float(found.log_odds[1])


def test_what_has_a_name_is_measured_once(tmp_path: Path) -> None:
    measured = Measured(tmp_path / "m.json", "key")
    assert kept(measured, "own", 0.5) == 0.5
    assert kept(measured, "own", 0.75) == 0.5
    assert kept(measured, "others", 0.25) == 0.25
    measured.save()
    again = Measured(tmp_path / "m.json", "key")
    assert kept(again, "own", 9.0) == 0.5
    assert kept(again, "others", 9.0) == 0.25
    longer = Outcome(np.array([True]), np.zeros(1, np.float32))
    assert len(again.get("own", 1, lambda: longer).right) == 1, "of another number of removals it is another"
    for other in (Measured(tmp_path / "m.json", "another"), Measured(), Measured(tmp_path / "absent.json", "key")):
        assert kept(other, "own", 9.0) == 9.0


def test_every_image_and_every_bit_of_its_log_odds_is_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    outcome = Outcome(rng.random(37) < 0.5, rng.normal(size=37).astype(np.float32))
    Measured(tmp_path / "m.json", "key").get("own", 37, lambda: outcome)
    found = Measured(tmp_path / "m.json", "key").get("own", 37, lambda: pytest.fail("it is known"))
    np.testing.assert_array_equal(found.right, outcome.right)
    np.testing.assert_array_equal(found.log_odds, outcome.log_odds)
    assert found.log_odds.dtype == np.float32


HEAD = '"format": "interpnet-ablation-checkpoint-3", "key": "key"'


@pytest.mark.parametrize(
    "content",
    [
        "{damaged",
        "[]",
        "3",
        "null",
        '{"format": "interpnet-ablation-checkpoint-2", "key": "key", "images": 2, "passes": {}}',
        f"{{{HEAD}}}",
        f'{{{HEAD}, "measured": []}}',
        f'{{{HEAD}, "measured": {{"own": 1}}}}',
        f'{{{HEAD}, "measured": {{"own": {{"right": "gA=="}}}}}}',
        f'{{{HEAD}, "measured": {{"own": {{"right": "gAA=", "log_odds": "AADAvw=="}}}}}}',
        f'{{{HEAD}, "measured": {{"own": {{"right": "gA==", "log_odds": "AADAfw=="}}}}}}',
        f'{{{HEAD}, "measured": {{"own": {{"right": "g", "log_odds": "AADAvw=="}}}}}}',
    ],
)
def test_a_file_that_is_no_checkpoint_is_replaced(content: str, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(content)
    assert kept(Measured(path, "key"), "own", 0.5) == 0.5
    assert list(json.loads(path.read_text())["measured"]) == ["own"]
