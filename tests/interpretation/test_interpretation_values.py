"""What an interpretation says of its weights, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from interpnet.engine import Channel, ChannelIndex
from interpnet.gram import Gram
from interpnet.interpretation import Interpretation, interpret
from interpnet.mulasso import MuLasso
from interpnet.scores import ScoreTable

INDEX = ChannelIndex((("a", 2), ("b", 2)))
FOUND = Interpretation(INDEX, np.array([[1.0, -3.0, 0.0, 2.0], [0.0, 0.0, 0.5, -0.5]]), ("x", "y"))


def test_relevant_channels_by_the_size_of_their_weights() -> None:
    assert FOUND.columns(0).tolist() == [1, 3, 0]
    assert FOUND.columns("x", "positive").tolist() == [3, 0]
    # Equal sizes stand in the order of the channels.
    assert FOUND.columns("y").tolist() == [2, 3]
    assert FOUND.relevant("x")[0] == (Channel("a", 1), -3.0)


def test_top_channels_answer_positively() -> None:
    scores = np.array([0.5, 0.1, 9.0, 0.3])
    np.testing.assert_allclose(FOUND.response(scores, 0), [0.5, -0.3, 0.0, 0.6])
    top = FOUND.top_channels(scores, 0, 4)
    assert [channel for channel, _ in top] == [Channel("b", 1), Channel("a", 0)]
    np.testing.assert_allclose([value for _, value in top], [0.6, 0.5])
    assert [channel for channel, _ in FOUND.top_channels(scores, 0, 1)] == [Channel("b", 1)]
    assert FOUND.top_channels(-scores, "y") == [(Channel("b", 1), pytest.approx(0.15))]


def test_shares_of_layers_are_each_class_s_own() -> None:
    np.testing.assert_allclose(FOUND.layer_relevance(), [[4 / 6, 2 / 6], [0.0, 1.0]])
    empty = Interpretation(INDEX, np.zeros((1, 4)), ("z",))
    np.testing.assert_array_equal(empty.layer_relevance(), [[0.0, 0.0]])


@pytest.mark.parametrize("positive", [False, True])
def test_interpret_asks_for_what_it_was_given(positive: bool) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 4))
    gram = Gram.from_scores(X, X @ np.array([[1.0, 0.0], [-1.0, 2.0], [0.0, -1.0], [0.5, 0.0]]))
    found = interpret(gram, channels=INDEX, mu=1.2, positive=positive, info={"note": 1})
    expected = MuLasso(1.2, positive=positive, tol=1e-9).fit_gram(gram)
    np.testing.assert_allclose(found.coef, expected.coef_)
    assert (found.coef.min() >= 0) == positive
    assert (found.mu, found.positive, found.classes, found.info) == (1.2, positive, ("0", "1"), {"note": 1})
    assert (found.gaps <= 1e-9).all()


@pytest.mark.parametrize(
    ("labels", "outputs"),
    [
        ([0, 1, 1, 0], None),
        ([[1, 0], [0, 1], [0, 1], [1, 0]], None),
        ([[0.5, 0.5], [0.25, 0.5], [0.0, 1.0], [1.0, 0.0]], None),
        ([[1, 1], [0, 1], [0, 1], [1, 0]], "independent"),
        ([[0, 0], [0, 1], [0, 1], [1, 0]], "independent"),
    ],
)
def test_scores_of_images_with_several_labels_are_noted(labels: list[object], outputs: str | None) -> None:
    X = np.random.default_rng(0).random((4, 4)).astype(np.float32)
    given = np.asarray(labels, dtype=np.float32 if np.ndim(labels) > 1 else np.int64)
    table = ScoreTable(X, given, np.zeros(4, np.int64), INDEX, np.arange(4), 2)
    assert interpret(table, mu=1.0).info.get("outputs") == outputs
    assert interpret(table, mu=1.0, info={"outputs": "exclusive"}).info["outputs"] == "exclusive"
