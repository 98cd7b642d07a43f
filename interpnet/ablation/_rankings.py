"""A user's own rankings of channels, studied as conditions of an ablation beside the named channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from interpnet.ablation._result import CONDITION_LABELS
from interpnet.errors import InterpNetError, did_you_mean
from interpnet.reliance import Contributions
from interpnet.scores import ScoreTable
from interpnet.support.checks import check_kinds, real_array
from interpnet.support.own import check_function, check_name, raised
from interpnet.support.types import Float64

#: ``function(table, contributions)`` gives scores (C, m), by which each class's channels are removed, largest first.
Ranking = Callable[[ScoreTable | None, Contributions | None], Any]
_RANKINGS: dict[str, Ranking] = {}


def register_ranking(name: str, function: Ranking, *, replace: bool = False) -> None:
    """Enter a ranking of channels of your own, for ``ablation_study(controls=[..., name])``.

    In the study it is a condition: for each class it removes as many channels as are relevant to the class, those with
    the largest scores; of equal ones the first. Channels that are relevant may be among them.

    Parameters
    ----------
    name : str
        What results call it: a letter, then letters, digits, ``_``, ``-`` and ``+``, at most 40.
    function : callable
        ``function(table, contributions)`` with the training scores (:class:`~interpnet.scores.ScoreTable`) and the
        contributions (:class:`~interpnet.reliance.Contributions`), each None where the study was not given it. It
        returns scores (C, m), an array or a Tensor of finite numbers: a row for each output of the network, a column
        for each channel of the table.
    replace : bool
        Take the place of one of your own rankings of that name.

    Raises
    ------
    InterpNetError
        Another kind of name or function, or a name that is taken: by a condition of every study, or without
        ``replace`` by another ranking of yours.

    Examples
    --------
    >>> register_ranking("largest-mean", lambda table, _: [table.channel_means()] * table.n_classes)
    >>> rankings()
    ('largest-mean',)
    >>> unregister_ranking("largest-mean")
    """
    check_kinds(register_ranking, locals(), but=["name", "function"])
    check_name(name, "ranking", CONDITION_LABELS, _RANKINGS, replace=replace)
    _RANKINGS[name] = check_function(function, "ranking", ("table", "contributions"))


def unregister_ranking(name: str) -> None:
    """Take a ranking of your own out again; an unknown name is an InterpNetError."""
    find_ranking(name)
    del _RANKINGS[name]


def rankings() -> tuple[str, ...]:
    """Return the names of your own rankings, in the order in which they were registered."""
    return tuple(_RANKINGS)


def find_ranking(name: str) -> Ranking:
    """Return the ranking of that name, or raise :class:`InterpNetError` with close matches."""
    if name not in _RANKINGS:
        raise InterpNetError(
            f"unknown ranking {name!r}{did_you_mean(name, _RANKINGS)}; enter it with register_ranking({name!r}, ...)"
        )
    return _RANKINGS[name]


def scores_of(
    name: str, table: ScoreTable | None, contributions: Contributions | None, shape: tuple[int, int]
) -> Float64:
    """Return the scores ``shape`` = (C, m) of a registered ranking, checked."""
    if table is None and contributions is None:
        raise InterpNetError(f"the ranking {name!r} needs table=, the training scores, or contributions=")
    what = f"the ranking {name!r}"
    function = find_ranking(name)
    try:
        returned = function(table, contributions)
    except InterpNetError:
        raise
    except Exception as error:
        raise InterpNetError(f"{what} raised {raised(function, error)}") from error
    scores: Float64 = real_array(returned, f"what {what} returned").astype(np.float64)
    if scores.shape != shape:
        raise InterpNetError(
            f"{what} returned shape {scores.shape}; expected {shape}: a row for each class, a column for each channel"
        )
    bad = np.argwhere(~np.isfinite(scores))
    if len(bad):
        c, column = bad[0].tolist()
        raise InterpNetError(
            f"{what} returned {scores[c, column]} for class {c} and column {column}; expected finite numbers. Give "
            "what should come last a low score"
        )
    return scores
