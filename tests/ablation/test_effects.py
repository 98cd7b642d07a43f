"""Changes paired by image: sums by class, intervals over images and draws, and how often these cover the truth."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from interpnet.ablation import AblationResult, Effect, adjusted, as_result, effect_by_class, recall_interval
from interpnet.ablation._changes import Gathered, Outcome, Pass, changes_of
from interpnet.ablation._effect import Draws
from interpnet.ablation._plan import Plan
from interpnet.ablation._rows import deal, foreign_classes
from interpnet.ablation._unpaired import changes_of_recall
from interpnet.engine import ChannelIndex
from interpnet.errors import InterpNetError
from interpnet.interpretation import Interpretation
from interpnet.scores import ScoreTable

NAN = float("nan")


# --- one mean over classes --------------------------------------------------------------------------------


def test_a_mean_over_classes_by_hand() -> None:
    """Variances 2 of two images and 4 of four: V = (2/2 + 4/4) / 4 = 1/2, df = (1/2)^2 / (1/16 + (1/16)/3) = 3."""
    values = [1.0, 3.0, -2.0, 0.0, 0.0, 2.0 + math.sqrt(2), 2.0 - math.sqrt(2)]
    classes = np.array([0, 0, 2, 2, 2, 2, 2])
    effect = effect_by_class(values, classes, 3)
    np.testing.assert_array_equal(effect.count, [2, 0, 5])
    np.testing.assert_allclose(effect.mean, [2.0, NAN, 0.4])
    assert effect.overall() == pytest.approx(1.2)
    variances = [np.var([1.0, 3.0], ddof=1), np.var(values[2:], ddof=1)]
    parts = [variances[0] / 2 / 4, variances[1] / 5 / 4]
    assert effect.stderr() == pytest.approx(math.sqrt(sum(parts)))
    df = sum(parts) ** 2 / (parts[0] ** 2 / 1 + parts[1] ** 2 / 4)
    low, high = effect.interval()
    assert (low + high) / 2 == pytest.approx(1.2)
    # Tables of Student's t: 12.706, 4.303, 3.182, 2.776, 2.571 for 1 to 5 degrees of freedom.
    assert 12.706 > (high - low) / 2 / effect.stderr() > 2.571
    assert 1 < df < 5


def test_one_class_is_student_s_t() -> None:
    effect = effect_by_class([0.4, 0.5, 0.7, 0.6], np.zeros(4, dtype=np.int64), 1)
    half = 3.182446305 * np.std([0.4, 0.5, 0.7, 0.6], ddof=1) / 2
    assert effect.interval() == pytest.approx((0.55 - half, 0.55 + half))
    assert effect.of(0).interval() == effect.interval()
    # The one-sided p-value of t = 8.52 with three degrees of freedom is 0.0017, but four images can say 1/16.
    assert effect.p_value() == 1 / 16
    assert (-effect).p_value() == 1.0


def test_what_little_can_be_said_of_few_images() -> None:
    one = effect_by_class([0.5], np.array([1]), 3)
    assert one.overall() == 0.5
    assert np.isnan(one.interval()).all()
    assert one.p_value() == 1.0
    none = effect_by_class([], np.zeros(0, dtype=np.int64), 2)
    assert math.isnan(none.overall())
    assert none.p_value() == 1.0
    # Classes with one image each are a plain sample.
    singles = effect_by_class([0.1, 0.2, 0.6], np.array([0, 1, 2]), 3)
    assert singles.stderr() == pytest.approx(np.std([0.1, 0.2, 0.6], ddof=1) / math.sqrt(3))


def test_no_change_of_recall_is_no_proof_that_there_is_none() -> None:
    effect = effect_by_class(np.zeros(20), np.zeros(20, dtype=np.int64), 1, share=True)
    low, high = effect.interval()
    assert low == -high
    # Of 20 images one more might have changed: 2.09 / sqrt(20 * 22).
    assert high == pytest.approx(2.093024 / math.sqrt(440), rel=1e-5)
    all_lost = effect_by_class(-np.ones(3), np.zeros(3, dtype=np.int64), 1, share=True)
    assert all_lost.interval()[0] == -1.0, "a change of recall is at least -1"
    assert (-all_lost).p_value() == 1 / 8, "three images out of three"
    half = effect_by_class([1.0, 1.0, 0.0, 0.0, 0.0, 0.0], np.zeros(6, dtype=np.int64), 1, share=True)
    assert half.p_value() >= 1 / 4, "two images changed"


def test_draws_widen_an_interval_and_a_single_draw_more_so() -> None:
    """Ten images of variance 1 with two draws: 1/10 + s^2 (1/2 - 1/10), and s^2 more for a draw by itself."""
    base = {"mean": np.array([0.5]), "variance": np.array([1.0]), "count": np.array([10])}
    for of_draws, more in ((0.5, 0.2), (-0.5, 0.0)):
        drawn = Effect(**base, draws=Draws(np.array([2]), np.array([of_draws])))
        assert drawn.stderr() == pytest.approx(math.sqrt(0.1 + more))
        one = drawn._spread(one_draw=True)
        assert one.variance == pytest.approx(0.1 + more + max(of_draws, 0))
    unknown = Effect(**base, draws=Draws(np.array([1]), np.array([NAN])))
    assert np.isnan(unknown.interval(one_draw=True)).all(), "nothing says what a draw changes"


def test_a_single_draw_has_the_tail_of_an_exponential() -> None:
    """Of an exponential distribution, t deviations above the mean are exceeded with probability exp(-1 - t)."""
    draws = Draws(np.array([10_000]), np.array([4.0]))
    effect = Effect(np.array([6.0]), np.array([1e-9]), np.array([1000]), draws=draws)
    assert effect.p_value(one_draw=True) == pytest.approx(math.exp(-4.0), rel=1e-3)
    # 3 deviations of a normal distribution would be 0.0013; the mean of all draws has hardly any error.
    assert effect.p_value() < 1e-20
    # Of many classes the mean is as good as normal.
    draws = Draws(np.full(400, 10_000), np.full(400, 4.0))
    many = Effect(np.full(400, 0.3), np.full(400, 1e-9), np.full(400, 1000), draws=draws)
    assert 0.00135 < many.p_value(one_draw=True) < 0.0025


def test_a_level_is_a_share() -> None:
    effect = effect_by_class([0.4, 0.5], np.zeros(2, dtype=np.int64), 1)
    with pytest.raises(InterpNetError, match="level is 1; expected a share between 0 and 1"):
        effect.interval(1)
    with pytest.raises(InterpNetError, match="level is 0; expected a share between 0 and 1"):
        recall_interval(np.array([0.5]), np.array([3]), 0)


def test_recalls_have_exact_intervals_within_zero_and_one() -> None:
    # Clopper and Pearson: 8 of 10 is 0.4439 to 0.9748, none of 10 is 0 to 0.3085.
    assert recall_interval(np.array([0.8]), np.array([10])) == pytest.approx((0.4439, 0.9748), abs=0.02)
    assert recall_interval(np.array([0.0]), np.array([10])) == pytest.approx((0.0, 0.3085), abs=1e-4)
    assert recall_interval(np.array([1.0, NAN, 1.0]), np.array([5, 0, 5])) == pytest.approx((0.6915, 1.0), abs=1e-4)
    assert np.isnan(recall_interval(np.array([NAN]), np.array([0]))).all()
    # Classes that are known to differ say more together than as many images of one kind.
    low, high = recall_interval(np.array([1.0, 0.0]), np.array([50, 50]))
    assert 0.4 < low < high < 0.6


def test_draws_widen_the_interval_of_a_recall_too() -> None:
    """Draws in which either nobody or everybody of a class is recognised: ten draws of ten images are ten images."""
    recall = np.array([0.8])
    draws = Draws(np.array([10]), np.array([0.16]))
    wide = recall_interval(recall, np.array([100]), draws=draws)
    assert wide == pytest.approx(recall_interval(recall, np.array([10])), abs=0.02)
    assert recall_interval(recall, np.array([100]), draws=draws._replace(variance=np.array([-0.1]))) == pytest.approx(
        recall_interval(recall, np.array([100]))
    )


def test_false_discoveries_by_hand() -> None:
    # Benjamini and Hochberg: 4 p-values, times 4, 2, 4/3 and 1.
    np.testing.assert_allclose(adjusted(np.array([0.04, 0.005, NAN, 0.9, 0.02])), [0.16 / 3, 0.02, NAN, 0.9, 0.04])
    assert adjusted(np.array([])).shape == (0,)


SIZES = {
    "two of 8": [8, 8],
    "ten of 5": [5] * 10,
    "uneven": [1, 2, 3, 5, 8, 20, 40, 80],
    "one image each": [1] * 60,
    "some with one": [1] * 5 + [10] * 5,
}


@pytest.mark.parametrize("name", SIZES)
def test_intervals_cover_the_truth(name: str) -> None:
    """Of 250 samples each: log-odds of unequal spread, recalls near the end of their range, rare and common changes."""
    sizes = np.array(SIZES[name])
    n_classes = len(sizes)
    labels = np.repeat(np.arange(n_classes), sizes)
    rng = np.random.default_rng(len(sizes))
    at = np.linspace(0, 1, n_classes)
    recall = 0.85 + 0.14 * at
    lost = 0.05 + 0.3 * at
    covered = np.zeros(4)
    for _ in range(250):
        odds = effect_by_class(2 * at[labels] + (0.5 + at[labels]) * rng.normal(size=len(labels)), labels, n_classes)
        seen = recall_interval(rng.binomial(sizes, recall) / sizes, sizes)
        draw = rng.random(len(labels))
        common = effect_by_class(-1.0 * (draw < lost[labels]), labels, n_classes, share=True)
        rare = effect_by_class(np.where(draw < 0.02, 1.0, -1.0 * (draw > 0.98)), labels, n_classes, share=True)
        ends = np.array([odds.interval(), seen, common.interval(), rare.interval()])
        truth = np.array([1.0, recall.mean(), -lost.mean(), 0.0])
        covered += (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    # 95 % less three standard errors of 250 samples, and what small classes cost.
    assert (covered / 250 >= [0.90, 0.90, 0.90, 0.94]).all(), covered / 250


def test_intervals_over_draws_cover_the_mean_of_all_draws() -> None:
    """Two classes of 40 images, of which two at a time share a draw that moves them twice as much as anything else.

    Images alone would be too sure.
    """
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 40)
    group = deal(labels)
    intact = Outcome(np.ones(80, dtype=bool), np.zeros(80, dtype=np.float32))
    covered = np.zeros(2)
    for _ in range(250):
        taken = rng.normal(0, 2.0, (2, 20))[labels, group] + rng.normal(0, 1.0, 80)
        made = Pass(Outcome(intact.right, taken.astype(np.float32)), labels, group)
        own = changes_of(intact, labels, 2, Gathered([made], [made]))["log_odds"].own
        plain = effect_by_class(taken, labels, 2)
        for i, (low, high) in enumerate((own.interval(), plain.interval())):
            covered[i] += low <= 0 <= high
    assert covered[0] / 250 >= 0.91
    assert covered[1] / 250 < 0.9


# --- changes of images ------------------------------------------------------------------------------------


def outcome(*log_odds: float) -> Outcome:
    return Outcome(np.array(log_odds) > 0, np.array(log_odds, dtype=np.float32))


def test_changes_of_four_images_by_hand() -> None:
    """Two classes of two images; the control takes 1 from each, the named channels 2 or 3 of their own class's."""
    labels = np.array([0, 0, 1, 1])
    intact = outcome(1.0, 2.0, 3.0, 4.0)
    named = Gathered(
        [Pass(outcome(-1.0, 0.0, 1.0, 1.0), labels)], [Pass(outcome(1.0, 1.0, 3.0, 3.0), np.array([1, 1, 0, 0]))]
    )
    control = Gathered(
        [Pass(outcome(0.0, 1.0, 2.0, 3.0), labels)], [Pass(outcome(0.0, 1.0, 2.0, 3.0), np.array([1, 1, 0, 0]))]
    )
    ours = changes_of(intact, labels, 2, named)
    theirs = changes_of(intact, labels, 2, control, named)
    odds = ours["log_odds"]
    np.testing.assert_allclose(odds.own.mean, [-2.0, -2.5])
    np.testing.assert_allclose(odds.own.variance, [0.0, 0.5])
    np.testing.assert_allclose(odds.others.mean, [-0.5, -0.5])
    np.testing.assert_allclose(odds.specific.mean, [1.5, 2.0])
    # The others' images that lost class 0's channels are those of class 1, and the other way round.
    np.testing.assert_allclose(odds.by_removed.mean, [-0.5, -0.5])
    assert odds.own_beyond is None
    beyond = theirs["log_odds"]
    assert beyond.own_beyond is not None
    assert beyond.specific_beyond is not None
    np.testing.assert_allclose(beyond.own_beyond.mean, [1.0, 1.5])
    np.testing.assert_allclose(beyond.specific_beyond.mean, [1.5, 2.0])
    np.testing.assert_allclose(beyond.specific.mean, [0.0, 0.0])
    # Image 0 is no longer recognised, nor is image 1, whose log-odds are zero.
    np.testing.assert_allclose(ours["recall"].own.mean, [-1.0, 0.0])
    # log p = -log(1 + exp(-z)).
    before = [-math.log1p(math.exp(-z)) for z in (1.0, 2.0)]
    after = [-math.log1p(math.exp(-z)) for z in (-1.0, 0.0)]
    np.testing.assert_allclose(ours["log_probability"].own.mean[0], np.mean(after) - np.mean(before))


def test_log_probabilities_of_very_sure_images_are_finite() -> None:
    np.testing.assert_allclose(outcome(800.0, -800.0, 30.0).value("log_probability"), [0.0, -800.0, -math.exp(-30)])


def test_the_variance_between_draws_by_hand() -> None:
    """Draws of 0 and 4 with two images each, +-1 about them: between 8 = 2 s^2 + 2, for variances of 2 within."""
    labels = np.zeros(4, dtype=np.int64)
    group = np.array([0, 1, 0, 1])
    intact = outcome(0.0, 0.0, 0.0, 0.0)
    made = Pass(outcome(-1.0, 3.0, 1.0, 5.0), labels, group)
    draws = changes_of(intact, labels, 1, Gathered([made], [made]))["log_odds"].own.draws
    assert draws is not None
    assert draws.number.tolist() == [2]
    # Mean square between 16, within 2, two images per draw: (16 - 2) / 2.
    np.testing.assert_allclose(draws.variance, [7.0])
    # With one draw per pass, passes are compared: means 1 and 3.
    single = [Pass(outcome(*[mean] * 4), labels, np.zeros(4, dtype=np.int64)) for mean in (1.0, 3.0)]
    draws = changes_of(intact, labels, 1, Gathered(single, single))["log_odds"].own.draws
    assert draws is not None
    np.testing.assert_allclose(draws.variance, [2.0])


# --- which channels, and whose ----------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "n_classes"), [(3, 5), (4, 5), (8, 5), (6, 4), (1, 7), (10, 3), (12, 10)])
def test_after_as_many_turns_as_there_are_other_classes_each_image_has_met_them_all(size: int, n_classes: int) -> None:
    labels = np.repeat(np.arange(n_classes), size)
    turns = np.array([foreign_classes(labels, n_classes, 3, turn) for turn in range(n_classes - 1)])
    for i, label in enumerate(labels):
        assert sorted(turns[:, i].tolist()) == [c for c in range(n_classes) if c != label]
    for turn in turns:
        pairs = np.bincount(labels * n_classes + turn, minlength=n_classes**2).reshape(n_classes, n_classes)
        off = pairs[~np.eye(n_classes, dtype=bool)]
        assert off.max() - off.min() <= 1, "each turn is spread evenly"


def test_few_turns_of_few_images_meet_as_many_classes_as_they_can() -> None:
    labels = np.repeat(np.arange(9), 2)
    met = [set() for _ in range(9)]
    for turn in range(4):
        for label, foreign in zip(labels, foreign_classes(labels, 9, 0, turn), strict=True):
            met[label].add(foreign)
    assert [len(m) for m in met] == [8] * 9


def test_images_are_dealt_out_in_groups_of_two_or_more() -> None:
    for size, groups in ((1, 1), (2, 1), (3, 1), (4, 2), (7, 3), (20, 10), (50, 25)):
        counts = np.bincount(deal(np.zeros(size, dtype=np.int64)))
        assert len(counts) == groups
        assert counts.max() - counts.min() <= 1


def test_d_prime_by_hand() -> None:
    """Channel 0: means 3 and 1, variances 1 and 1, d' = 2. Channel 1 varies in nothing; 2 is lower in the class."""
    X = np.array([[2, 1, 0], [4, 1, 1], [0, 1, 5], [2, 1, 7]], dtype=np.float32)
    labels = np.array([0, 0, 1, 1])
    index = ChannelIndex((("relu", 3),))
    table = ScoreTable(X, labels, labels, index, np.arange(4), 2)
    plan = Plan(Interpretation(index, np.eye(2, 3), ("a", "b")), table, ("d-prime",), 1, 0, False, False)
    np.testing.assert_allclose(plan._ranking("d-prime", 0), [2.0, 0.0, -5.5 / math.sqrt((0.25 + 1) / 2)])
    everything = np.ones(3, dtype=bool)
    assert plan.columns("d-prime", 0, everything).tolist() == [0]
    assert plan.columns("d-prime", 1, everything).tolist() == [2]


# --- results of format 1 ----------------------------------------------------------------------------------


def earlier(**changes: Any) -> AblationResult:
    value: dict[str, Any] = {
        "format": "interpnet-ablation-1",
        "classes": ["a", "b"],
        "support": [50, 50],
        "intact": [0.9, 0.7],
        "fill": "zero",
        "n_images": 100,
        "repeats": 2,
        "seed": 0,
        "conditions": [
            {"name": "relevant", "layers": "all", "removed": [1, 1], "own": [[0.5, 0.3]], "others": [[0.7, 0.8]]},
            {
                "name": "random",
                "layers": "all",
                "removed": [1, 1],
                "own": [[1.0, 0.98], [0.86, 0.7]],
                "others": [[0.7, 0.9], [0.7, 0.9]],
            },
        ],
        "curve": None,
        "single": {"0": [{"layer": "relu", "index": 0, "weight": 1.0, "own_drop": 0.1, "others_change": None}]},
    }
    return as_result(json.loads(json.dumps(value | changes)))


def test_a_result_of_format_1_is_read_without_what_it_lacks() -> None:
    found = earlier()
    assert (found.log_odds, found.log_probability, found.turns, found.by) == (None, None, 1, "mu-lasso")
    assert math.isnan(found.pairs)
    assert all(not c.changes for c in found.conditions)
    assert math.isnan(found.single[0][0].log_odds_drop)
    # Ten draws gave "0.851 to 1.042" once.
    low, high = found.condition("random").interval_own()
    assert (low, high) == (0.0, 1.0)


def test_its_changes_of_recall_are_as_if_every_recall_had_other_images() -> None:
    found = earlier()
    named, random = found.conditions
    changes = changes_of_recall(found, random, named)
    np.testing.assert_allclose(changes.own.mean, [0.03, 0.14])
    assert changes.own_beyond is not None
    assert changes.specific_beyond is not None
    np.testing.assert_allclose(changes.own_beyond.mean, [0.43, 0.54])
    per_image = np.array([0.93 * 0.07 + 0.5 * 0.5, 0.84 * 0.16 + 0.3 * 0.7]) * 50 / 49
    np.testing.assert_allclose(changes.own_beyond.variance, per_image)
    assert changes.own_beyond.draws is not None
    np.testing.assert_allclose(changes.own_beyond.draws.variance, [0.14**2 / 2, 0.28**2 / 2])
    # Own minus others: 0.0 - -0.4 and -0.1 - -0.4 with the named channels, 0.0 - 0.03 and 0.0 - 0.14 with random ones.
    np.testing.assert_allclose(changes.specific_beyond.mean, [0.4 + 0.03, 0.3 + 0.14])
