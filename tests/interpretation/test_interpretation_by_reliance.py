"""Interpretations by reliance: which channels are named, with which price and error, and their files."""

from __future__ import annotations

import numpy as np
import pytest

from interpnet.engine import Channel, ChannelIndex
from interpnet.errors import InterpNetError, RunFolderError
from interpnet.gram import Gram
from interpnet.interpretation import Interpretation, interpret
from interpnet.reliance import Contributions

CHANNELS = ChannelIndex((("a", 2), ("b", 2)))


def contributions() -> Contributions:
    """Two classes of four images each; means x 4, 1, 0.5, -1 and y 1, 3, 0, 2, all with deviations of their own."""
    means = np.array([[4.0, 1.0, 0.5, -1.0], [1.0, 3.0, 0.0, 2.0]])
    errors = np.array([[0.5, 0.1, 0.5, 0.1], [1.0, 1.0, 0.0, 0.5]])
    squares = errors**2 * 12 + 4 * means**2  # (squares - sum^2/n) / (n (n - 1)) is the error's square
    return Contributions(
        CHANNELS, ("x", "y", "z"), np.array([4, 4, 0]), np.zeros(3), np.stack([4 * means, squares]), np.zeros(4)
    )


def test_the_channels_named_are_those_at_least_twice_their_error():
    found = interpret(contributions(), by="reliance")
    # S of x: 4 - 1, 1 - 3, 0.5 - 0, -1 - 2; of y: 1 - 4, 3 - 1, 0 - 0.5, 2 - 0
    # Errors of x: hypot(0.5, 1) = 1.118, ..., 0.5 for the third, which is not named; of y: 1.005 for the second
    np.testing.assert_allclose(found.coef, [[3, 0, 0, 0], [0, 0, 0, 2], [0, 0, 0, 0]])
    np.testing.assert_allclose(found.stderr[0], [np.hypot(0.5, 1), np.hypot(0.1, 1), 0.5, np.hypot(0.1, 0.5)])
    np.testing.assert_allclose(found.stderr[1, 1], np.hypot(1, 0.1))
    assert np.isnan(found.stderr[2]).all()
    assert (found.by, found.price) == ("reliance", 1.0)
    assert found.relevant("y") == [(Channel("b", 1), 2.0)]


def test_the_price_and_the_number_of_channels_are_choices():
    free = interpret(contributions(), price=0)
    np.testing.assert_allclose(free.coef, [[4, 1, 0, 0], [0, 3, 0, 2], [0, 0, 0, 0]])
    np.testing.assert_allclose(interpret(contributions(), price=0, most=1).coef[1], [0, 3, 0, 0])


def test_the_names_can_be_given():
    assert interpret(contributions(), classes=["cat", "dog", "cow"]).classes == ("cat", "dog", "cow")


def test_a_file_holds_all_of_it(tmp_path):
    found = interpret(contributions(), price=0.5, info={"seed": 1})
    found.save(tmp_path / "r.npz")
    read = Interpretation.load(tmp_path / "r.npz")
    for name in ("coef", "stderr"):
        np.testing.assert_array_equal(getattr(read, name), getattr(found, name))
    assert (read.by, read.price, read.info["seed"], read.classes) == ("reliance", 0.5, 1, ("x", "y", "z"))


def test_a_mulasso_is_written_as_before(tmp_path):
    found = Interpretation(CHANNELS, np.eye(3, 4), ("x", "y", "z"))
    found.save(tmp_path / "w.npz")
    with np.load(tmp_path / "w.npz", allow_pickle=False) as data:
        assert sorted(data.files) == ["coef", "gaps", "meta"]
        assert '"interpnet-interpretation-1"' in str(data["meta"])
    read = Interpretation.load(tmp_path / "w.npz")
    assert (read.by, read.price, read.stderr) == ("mu-lasso", None, None)


def test_a_file_without_its_errors_is_refused(tmp_path):
    interpret(contributions()).save(tmp_path / "r.npz")
    with np.load(tmp_path / "r.npz", allow_pickle=False) as data:
        np.savez(tmp_path / "less.npz", **{name: data[name] for name in ("coef", "gaps", "meta")})
    with pytest.raises(RunFolderError, match=r"less\.npz' holds no interpretation that can be read"):
        Interpretation.load(tmp_path / "less.npz")


def test_a_source_that_does_not_fit_is_refused():
    with pytest.raises(InterpNetError, match="source holds contributions; the mu-lasso needs a ScoreTable or Gram"):
        interpret(contributions(), by="mu-lasso")
    gram = Gram.from_scores(np.eye(4), np.eye(4))
    with pytest.raises(InterpNetError, match="by='reliance' needs what collect_contributions"):
        interpret(gram, by="reliance", channels=CHANNELS)
    with pytest.raises(InterpNetError, match="price is -1; expected a number of at least 0"):
        interpret(contributions(), price=-1)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"price": 1.0}, "price and stderr belong to by='reliance'"),
        ({"by": "reliance", "stderr": np.zeros((3, 4))}, "price is None"),
        ({"by": "reliance", "price": 1.0}, "stderr is None; expected float64 numbers of shape"),
        ({"by": "lasso"}, "by is 'lasso'; expected 'mu-lasso' or 'reliance'"),
    ],
)
def test_what_belongs_together_is_checked(more, message):
    with pytest.raises(InterpNetError, match=message):
        Interpretation(CHANNELS, np.eye(3, 4), ("x", "y", "z"), **more)


def test_a_negative_weight_is_no_reliance():
    with pytest.raises(InterpNetError, match="coef has a negative weight"):
        Interpretation(CHANNELS, -np.eye(3, 4), ("x", "y", "z"), by="reliance", price=1.0, stderr=np.zeros((3, 4)))
