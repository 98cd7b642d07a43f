"""From scores to an interpretation: the mu-lasso of every class (docs/method.md, section 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from interpnet.engine import ChannelIndex
from interpnet.errors import InterpNetError
from interpnet.gram import Gram
from interpnet.interpretation._result import Interpretation
from interpnet.mulasso import MuLasso
from interpnet.scores import ScoreTable
from interpnet.support.checks import check_kinds, distinct_names, instance_of


def interpret(
    source: ScoreTable | Gram,
    *,
    classes: Sequence[str] | None = None,
    channels: ChannelIndex | None = None,
    mu: float = 10.0,
    positive: bool = False,
    tol: float = 1e-9,
    info: Mapping[str, Any] | None = None,
) -> Interpretation:
    """Solve the mu-lasso of every class and return the weights.

    Parameters
    ----------
    source : ScoreTable or Gram
        Scores with their labels, or the Gram matrices of them (then ``channels`` says what the columns are).
    classes : sequence of str, optional
        Names of the model's outputs; numbers without it.
    mu, positive, tol
        See :class:`interpnet.mulasso.MuLasso`.
    info : mapping, optional
        What to note beside the weights.

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
    check_kinds(interpret, locals())
    if isinstance(source, ScoreTable):
        gram = source.gram()
        channels = source.channels
    else:
        gram = source
        instance_of(gram, "source", Gram)
    if channels is None:
        raise InterpNetError("channels is missing; a Gram does not know what its columns are")
    names = map(str, range(gram.n_classes)) if classes is None else distinct_names(classes, "classes")
    # The tolerance is tighter than MuLasso's own: these weights are published with their certificates.
    solver = MuLasso(mu=mu, positive=positive, tol=tol).fit_gram(gram)
    gaps = solver.relative_gap_
    return Interpretation(channels, solver.coef_, tuple(names), float(mu), positive, gaps, dict(info or {}))
