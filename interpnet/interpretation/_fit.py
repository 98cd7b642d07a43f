"""From scores to an interpretation, the mu-lasso of every class, or from contributions, its reliance.

docs/method.md, sections 2 and 8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from interpnet.engine import ChannelIndex
from interpnet.errors import InterpNetError
from interpnet.gram import Gram, RowGram
from interpnet.interpretation._result import IDENTIFICATIONS, Interpretation
from interpnet.mulasso import MuLasso
from interpnet.reliance import Contributions, Reliance, clear_order
from interpnet.scores import ScoreTable
from interpnet.support.checks import (
    check_kinds,
    distinct_names,
    instance_of,
    number,
    one_of,
    optional,
    shown,
    whole_number,
)

_PRICE = 1.0
_MOST = 64


def interpret(
    source: ScoreTable | Gram | RowGram | Contributions | Reliance,
    *,
    by: str | None = None,
    classes: Sequence[str] | None = None,
    channels: ChannelIndex | None = None,
    mu: float = 10.0,
    positive: bool = False,
    tol: float = 1e-9,
    price: float = _PRICE,
    most: int = _MOST,
    info: Mapping[str, Any] | None = None,
) -> Interpretation:
    """Name the channels of every class: those that predict it (the mu-lasso), or those that its log-odds rest on.

    Parameters
    ----------
    source : ScoreTable, Gram, RowGram, Contributions or Reliance
        Scores with their labels, or the Gram matrices or rows of them (then ``channels`` says what the columns are),
        for the mu-lasso; contributions, or what :func:`interpnet.measure_reliance` made of them, for reliance.
    by : {"mu-lasso", "reliance"}, optional
        What the source is for, by default.
    classes : sequence of str, optional
        Names of the model's outputs; numbers without it, or the names that the contributions have.
    mu, positive, tol
        See :class:`interpnet.mulasso.MuLasso`.
    price, most
        By reliance, a class's channels are those whose specific contribution at this price
        (:meth:`interpnet.reliance.Contributions.specific`) is above 0 and at least twice its standard error, at most
        ``most`` of them, the largest first. A class of fewer than two images has none. A measured reliance has its own
        price and sets.
    info : mapping, optional
        What to note beside the weights. Of scores of images with several labels it is noted that the outputs are
        independent.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.random((50, 4)).astype(np.float32)
    >>> L = (X[:, :1] > 0.5).astype(np.float32)
    >>> gram = Gram.from_scores(X, L)
    >>> interpret(gram, channels=ChannelIndex((("conv", 4),)), mu=1.0).relevant(0)[0][0]
    Channel(layer='conv', index=0)
    """
    check_kinds(interpret, locals(), but=["source"])
    optional(one_of, by, "by", IDENTIFICATIONS)
    number(price, "price", least=0.0)
    whole_number(most, "most", least=1)
    if isinstance(source, Contributions | Reliance):
        if by == "mu-lasso":
            raise InterpNetError("source holds contributions; the mu-lasso needs a ScoreTable or Gram")
        if isinstance(source, Reliance):
            if (price, most) != (_PRICE, _MOST):
                raise InterpNetError(
                    f"price={price:g}, most={most}: a measured reliance has its own; pass them to measure_reliance()"
                )
            return _by_measured_reliance(source, classes, info)
        return _by_reliance(source, classes, price, most, info)
    if by == "reliance":
        raise InterpNetError(
            f"source is {shown(source)}, of type {type(source).__name__}; by='reliance' needs what "
            "collect_contributions() returns"
        )
    if isinstance(source, ScoreTable):
        if _several_labels(source):
            # An explanation must know that a label's log-odds are its logit.
            info = {"outputs": "independent"} | dict(info or {})
        gram = source.gram_or_rows()
        channels = source.channels
    else:
        instance_of(source, "source", (Gram, RowGram))
        gram = source
    if channels is None:
        raise InterpNetError("channels is missing; a Gram does not know what its columns are")
    names = map(str, range(gram.n_classes)) if classes is None else distinct_names(classes, "classes")
    # The tolerance is tighter than MuLasso's own: these weights are published with their certificates.
    solver = MuLasso(mu=mu, positive=positive, tol=tol).fit_gram(gram)
    gaps = solver.relative_gap_
    return Interpretation(channels, solver.coef_, tuple(names), float(mu), positive, gaps, dict(info or {}))


def _several_labels(table: ScoreTable) -> bool:
    """Whether an image has several labels, or none: rows of zeros and ones, not all of which have a single one."""
    labels = table.labels
    if labels.ndim == 1:
        return False
    return bool(((labels == 0) | (labels == 1)).all() and (labels.sum(1) != 1).any())


def _by_reliance(
    source: Contributions, classes: Sequence[str] | None, price: float, most: int, info: Mapping[str, Any] | None
) -> Interpretation:
    """Name each class's channels of clear specific contribution."""
    values = source.specific(price)
    stderr = source.specific_stderr(price)
    coef = np.zeros(values.shape)
    for j, row in enumerate(values):
        columns = clear_order(row, stderr[j], most)
        coef[j, columns] = row[columns]
    names = source.classes if classes is None else distinct_names(classes, "classes")
    notes = _collected(source, source.fill) | dict(info or {})
    return Interpretation(source.channels, coef, names, info=notes, by="reliance", price=float(price), stderr=stderr)


def _by_measured_reliance(
    source: Reliance, classes: Sequence[str] | None, info: Mapping[str, Any] | None
) -> Interpretation:
    """Name each class's measured set, with what removing it took."""
    found = source.contributions
    values = source.values
    coef = np.zeros(values.shape)
    for j in range(len(found.classes)):
        columns = source.columns(j)
        coef[j, columns] = values[j, columns]
    names = found.classes if classes is None else distinct_names(classes, "classes")
    notes = _collected(found, source.fill) | {
        "others": "mean",
        "share": source.share,
        "worth": source.worth,
        "enough": source.enough.tolist(),
        "ends": list(source.ends),
        # Without NaN, which JSON has not.
        "log_odds": [value if np.isfinite(value) else None for value in source.intact.tolist()],
        "log_odds_left": [value if np.isfinite(value) else None for value in source.left.tolist()],
    }
    notes |= dict(info or {})
    price = float(source.price)
    return Interpretation(found.channels, coef, names, info=notes, by="reliance", price=price, stderr=source.stderr)


def _collected(source: Contributions, fill: str) -> dict[str, Any]:
    """Return what an explanation must know of contributions, to take those of one image in the same way."""
    notes: dict[str, Any] = {"fill": fill, "outputs": source.info.get("outputs", "exclusive")}
    if source.fill != "zero":
        notes["reference"] = source.reference.tolist()
    return notes
