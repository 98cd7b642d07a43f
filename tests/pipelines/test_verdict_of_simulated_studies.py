"""Verdicts of studies whose truth is known, since they are simulated: how often they say too much, and how little."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.simulated_studies import Simulated
from interpnet.pipelines.report import charts
from interpnet.pipelines.report import verdict as judged
from interpnet.pipelines.report.load import RunData

from interpnet.ablation import Condition, as_result


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what the level of a verdict does not depend on."""
    monkeypatch.setattr(judged, "class_verdicts", lambda *_args, **_options: ())
    monkeypatch.setattr("interpnet.ablation._changes.MEASURES", ("recall", "log_odds"))


def levels(kind: Simulated, number: int, seed: int = 0, only: list[int | str] | None = None) -> Counter[str]:
    found: Counter[str] = Counter()
    for i in range(number):
        study = kind.study(np.random.default_rng([seed, i]))
        if only is not None:
            study = study.restricted(only)
        found[judged.verdict(study).level] += 1
    return found


@pytest.mark.usefixtures("quickly")
def test_of_a_thousand_studies_of_nothing_at_most_one_in_twenty_says_shown() -> None:
    """The named channels are one more random draw: lists differ with a long tail, classes are few, small or uneven."""
    nothing = (
        Simulated([20] * 10),
        Simulated([100] * 10),
        Simulated([50] * 2),
        Simulated([10] * 3, no_luck=True),
        Simulated([6] * 24, spread=2.0),
        Simulated([1] * 60),
        Simulated([1, 1, 2, 3, 5, 8, 20, 40]),
        Simulated([20] * 10, everybody=2.0),
    )
    shown = [levels(kind, 125, seed)["shown"] for seed, kind in enumerate(nothing)]
    assert sum(shown) <= 50
    # No kind of study is much worse than the others: more than 14 of 125 has a chance below 1 in 1,000 at 5 %.
    assert max(shown) <= 14


@pytest.mark.usefixtures("quickly")
def test_two_of_many_classes_say_shown_as_seldom_and_find_what_is_there() -> None:
    """Of 625 such studies of nothing, by other seeds, 6 said "shown"."""
    nothing = (Simulated([20] * 10), Simulated([6] * 24, spread=2.0), Simulated([20] * 10, everybody=2.0))
    shown = [levels(kind, 20, seed, [1, 3])["shown"] for seed, kind in enumerate(nothing)]
    assert sum(shown) <= 6
    assert levels(Simulated([50] * 5, named=4.0), 10, only=[1, 3])["shown"] >= 9


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize(
    ("kind", "least"),
    [
        (Simulated([20] * 10, named=2.0), 0.8),
        (Simulated([50] * 2, named=4.0), 0.6),
        (Simulated([6] * 24, named=2.0), 0.8),
    ],
    ids=["10 classes of 20", "2 classes of 50", "24 classes of 6"],
)
def test_effects_are_found(kind: Simulated, least: float) -> None:
    assert levels(kind, 25)["shown"] >= least * 25


def test_few_of_the_classes_that_are_called_shown_are_not() -> None:
    wrong = 0
    right = 0
    for i in range(12):
        study = Simulated([30] * 8, named=4.0, spread=0.4).study(np.random.default_rng(i))
        none = Simulated([30] * 8, spread=0.4).study(np.random.default_rng([i, 1]))
        right += sum(c.level == "shown" for c in judged.verdict(study).classes)
        wrong += sum(c.level == "shown" for c in judged.verdict(none).classes)
    assert right >= 0.7 * 12 * 8
    assert wrong <= 0.05 * 12 * 8


def test_classes_in_words() -> None:
    """One class is relied on, one shares its loss with the others, one loses nothing, and two cannot be judged."""
    rng = np.random.default_rng(3)
    study = Simulated([60, 60, 400, 1, 60], named=5.0, spread=0.2, noise=0.3, general=0.0).study(rng)
    named = study.conditions[0]
    for changes in study.conditions[1].changes.values():
        changes.own_beyond.mean[2] = 0.0
    for changes in named.changes.values():
        # Class 2 loses nothing, and class 1 no more than the others do.
        changes.own.mean[2] = 0.0
        changes.own.variance[2] = 0.001
        changes.by_removed.mean[1] = changes.own.mean[1]
    removed = np.array([5.0, 5.0, 5.0, 5.0, 0.0])
    conditions = (Condition("relevant", "all", removed, named.own, named.others, named.changes), *study.conditions[1:])
    found = judged.verdict(as_result(study.__class__(**vars(study) | {"conditions": conditions}))).classes
    assert [c.level for c in found] == ["shown", "mixed", "not shown", "open", "open"]
    assert found[0].sentence.startswith(
        "Removing them costs class 0 more than any control does, and more than it costs"
    )
    assert "but not shown to be more than it costs the others" in found[1].sentence
    assert found[2].sentence.startswith("Removing them changes hardly anything (recall 0.00, ")
    assert found[2].sentence.endswith("do not cite these channels for class 2.")
    assert found[3].sentence == "There is one test image of class 3, too few to judge by."
    assert found[4].sentence == "No channel is named for class 4."


def test_without_a_random_control_no_class_is_judged() -> None:
    study = Simulated([60] * 4, named=5.0, spread=0.2, noise=0.3).study(np.random.default_rng(3))
    known = judged.verdict(study)
    assert any(one.startswith("Class by class it is shown for") for one in known.details)
    assert known.details[-1].startswith("Intervals are over test images, paired, and over the draws of random controls")
    alone = study.__class__(**vars(study) | {"conditions": study.conditions[:1]})
    found = judged.verdict(alone)
    assert {c.level for c in found.classes} == {"open"}
    assert all(c.sentence.endswith("but no random control was run to compare it with.") for c in found.classes)
    assert not any(one.startswith("Class by class") for one in found.details)
    assert found.details[-1].startswith("Intervals are over test images, paired; ")
    words = charts.captions(RunData(Path("run"), {}, alone.classes, studies={"mu-lasso": alone}))
    assert "random" not in words["ablation"]


def test_a_loss_beyond_the_average_of_random_channels_is_told_from_one_beyond_any_luck() -> None:
    rng = np.random.default_rng(5)
    study = Simulated([60] * 4, named=6.0, spread=2.5, noise=0.3).study(rng)
    found = judged.verdict(study).classes
    words = [c for c in found if "more than as many random channels do on average" in c.sentence]
    assert words
    assert {c.level for c in words} == {"mixed"}
    # Nothing of the kind where the named channels do exactly what random ones do.
    nothing = Simulated([60] * 4, no_luck=True, noise=0.3).study(rng)
    assert not [c for c in judged.verdict(nothing).classes if c.level in {"mixed", "shown"}]


@pytest.mark.parametrize(("margin", "level"), [(2.0, "shown"), (0.0, "shown"), (-1.2, "mixed")])
def test_of_a_network_that_may_be_guessing_nothing_is_shown(margin: float, level: str) -> None:
    study = Simulated([60] * 4, named=5.0, spread=0.2, noise=0.3, margin=margin).study(np.random.default_rng(3))
    found = judged.verdict(study)
    assert found.level == level
    # A quarter is what guessing among four classes gives.
    guessing = study.interval_intact()[0] <= 0.25
    assert guessing == (level == "mixed")
    assert ("not shown to recognise the classes beyond chance (0.25)" in found.judgement) == guessing
    assert "shown" not in {c.level for c in found.classes} or not guessing
