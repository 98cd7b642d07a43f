"""A user's own ranking of channels: a condition of the study as every control, refused where it cannot be right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import interpnet as ip
from interpnet.ablation import AblationResult, ablation_study, rankings, register_ranking, unregister_ranking
from interpnet.engine import ChannelIndex
from interpnet.errors import InterpNetError
from interpnet.interpretation import Interpretation
from interpnet.reliance import collect_contributions
from interpnet.scores import collect_scores

# Class j is channel j; channel 2 says nothing, and channel 3 a little of class 1.
WEIGHT = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.1]])
NET = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
with torch.no_grad():
    NET[0].weight.copy_(torch.eye(4).view(4, 4, 1, 1))
    NET[4].weight.copy_(WEIGHT)
    NET[4].bias.copy_(torch.tensor([0.0, 0.5]))
NET.eval()
Y = torch.arange(12) % 2
X = torch.full((12, 4, 2, 2), 0.2)
X[torch.arange(12), Y] += 1.0
BATCHES = [(X[:8], Y[:8]), (X[8:], Y[8:])]
FOUND = Interpretation(ChannelIndex((("1", 4),)), np.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]), ("cat", "dog"))
TABLE = collect_scores(NET, BATCHES, progress=False)


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    for name in rankings():
        unregister_ranking(name)


def study(*names: str, **given: Any) -> AblationResult:
    return ablation_study(NET, BATCHES, FOUND, controls=names, repeats=1, progress=False, **given)


def test_it_is_a_condition_that_removes_its_own_channels() -> None:
    # For cats the channel that says nothing, for dogs the right one.
    register_ranking("mine", lambda table, _contributions: [[0, 0, 1, 0], [0.0, 2.0, 1.0, -5.0]])
    result = study("mine", table=TABLE)
    assert [c.name for c in result.conditions] == ["relevant", "relevant-positive", "mine"]
    mine = result.condition("mine")
    assert mine.removed.tolist() == [1, 1]
    # A cat without channel 2 is a cat; a dog without channel 1 has 0.5 + 0.02 against 0.2.
    np.testing.assert_allclose(mine.own, [[1.0, 1.0]])
    named = result.condition("relevant")
    # A cat without channel 0 has 0 against 0.72.
    np.testing.assert_allclose(named.own, [[0.0, 1.0]])
    # The difference to the named channels, image by image, as for every control.
    beyond = mine.changes["recall"].own_beyond
    assert beyond is not None
    np.testing.assert_allclose(np.abs(beyond.mean), [1.0, 0.0])
    assert named.changes["recall"].own_beyond is None


def test_ties_go_to_the_first_channel_and_the_result_is_kept_in_json() -> None:
    register_ranking("level", lambda table, _: torch.zeros(2, 4, requires_grad=True))
    result = study("random", "level", table=TABLE)
    again = AblationResult.from_json(json.loads(json.dumps(result.to_json())))
    assert [c.name for c in again.conditions] == ["relevant", "relevant-positive", "random", "level"]
    # Channel 0 of both: cats lose theirs.
    np.testing.assert_allclose(again.condition("level").own, [[0.0, 1.0]])


def test_it_is_given_the_scores_and_the_contributions() -> None:
    came: list[Any] = []

    def mine(table: Any, contributions: Any) -> Any:
        came.append((table, contributions))
        return contributions.mean

    register_ranking("by-contribution", mine)
    contributions = collect_contributions(NET, BATCHES, classes=["cat", "dog"], progress=False)
    result = study("by-contribution", contributions=contributions)
    assert came == [(None, contributions)]
    np.testing.assert_allclose(result.condition("by-contribution").own, [[0.0, 1.0]])


def test_the_other_conditions_are_the_same_beside_it() -> None:
    register_ranking("mine", lambda table, _: np.ones((2, 4)))
    without = study("random", "highest-activation", table=TABLE).to_json()
    beside = study("mine", "random", "highest-activation", table=TABLE).to_json()
    kept = [c for c in beside["conditions"] if c["name"] != "mine"]
    assert kept == without["conditions"]
    assert [c["name"] for c in beside["conditions"]][-1] == "mine"


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (np.ones((4, 2)), r"the ranking 'mine' returned shape \(4, 2\); expected \(2, 4\): a row for each class"),
        ([[1.0, 2.0], [1.0]], "what the ranking 'mine' returned cannot be read as an array"),
        (None, "what the ranking 'mine' returned is None"),
        ("best", "what the ranking 'mine' returned is 'best'"),
        ([[0, 0, 0, 0], [0, np.nan, 0, 0]], "returned nan for class 1 and column 1; expected finite numbers"),
        ([[0, 0, np.inf, 0], [0, 0, 0, 0]], "returned inf for class 0 and column 2"),
    ],
)
def test_what_is_no_ranking_is_refused(returned: Any, message: str) -> None:
    register_ranking("mine", lambda table, _: returned)
    with pytest.raises(InterpNetError, match=message):
        study("mine", table=TABLE)


def test_what_it_raises_is_named() -> None:
    register_ranking("mine", lambda table, contributions: contributions.mean)
    with pytest.raises(InterpNetError, match="the ranking 'mine' raised AttributeError: 'NoneType' object has no attr"):
        study("mine", table=TABLE)
    with pytest.raises(InterpNetError, match="'mine' needs table=, the training scores, or contributions="):
        study("mine")


def test_other_channels_than_those_of_the_study_are_refused() -> None:
    register_ranking("mine", lambda table, _: np.ones((2, 4)))
    other = collect_contributions(NET, BATCHES, layers=["0"], classes=["cat", "dog"], progress=False)
    with pytest.raises(InterpNetError, match="contributions has other channels than the interpretation"):
        study("mine", table=TABLE, contributions=other)
    study("random", table=TABLE, contributions=other)  # no ranking reads them


@pytest.mark.parametrize(
    ("name", "function", "message"),
    [
        ("", len, "the ranking name is ''; expected a letter"),
        ("../x", len, "the ranking name is '../x'"),
        (3, len, "the ranking name is 3"),
        ("x" * 41, len, "at most 39 letters"),
        ("random", len, "'random' is taken by the library"),
        ("Relevant", len, "'Relevant' is taken by the library"),
        ("mine", 5, "the ranking is 5; expected a function"),
        ("mine", lambda table: table, r"cannot be called as <lambda>\(table, contributions\)"),
    ],
)
def test_wrong_registrations(name: Any, function: Any, message: str) -> None:
    with pytest.raises(InterpNetError, match=message):
        register_ranking(name, function)
    assert rankings() == ()


def test_a_taken_name_is_replaced_only_when_asked() -> None:
    def low(_table: Any, _contributions: Any) -> Any:
        return np.zeros((2, 4))

    ip.register_ranking("mine", low)
    for name in ("mine", "MINE"):
        with pytest.raises(InterpNetError, match="a ranking 'mine' is registered already; expected another name, or"):
            ip.register_ranking(name, low)
    ip.register_ranking("mine", lambda table, _: [[0, 0, 1, 0], [0, 0, 1, 0]], replace=True)
    assert ip.rankings() == ("mine",)
    np.testing.assert_allclose(study("mine", table=TABLE).condition("mine").own, [[1.0, 1.0]])
    ip.unregister_ranking("mine")
    with pytest.raises(InterpNetError, match="unknown ranking 'mine'; enter it with register_ranking"):
        ip.unregister_ranking("mine")
    with pytest.raises(InterpNetError, match=r"controls=\['mine'\]; expected some of random"):
        study("mine", table=TABLE)
