"""The errors a user can cause, each with what came, what was expected and what to do.

All derive from :class:`InterpNetError`, so ``except InterpNetError`` catches every mistake of
the user's side and none of ours. The command line prints them as one line and exits with code 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class InterpNetError(ValueError):
    """Base of every error whose remedy lies with the caller."""


class ModelError(InterpNetError):
    """A model that cannot be loaded or traced."""


class DataError(InterpNetError):
    """Images, labels or a data set that cannot be used."""


class LayerError(InterpNetError):
    """A layer, site or channel that the model does not have."""


class RunFolderError(InterpNetError):
    """A run folder or saved artefact that is stale, foreign or unwritable."""


class RanksError(InterpNetError):
    """A process of several that was lost, or that has something else than the others."""


class LostRankError(RanksError):
    """Another process of several that is gone or does not answer."""


def did_you_mean(name: str, known: Iterable[str], limit: int = 4) -> str:
    """Return ``"; did you mean 'a' or 'b'?"`` for the names of ``known`` close to ``name``, else ``""``.

    Examples
    --------
    >>> did_you_mean("layr1.relu", ["layer1.relu", "fc"])
    "; did you mean 'layer1.relu'?"
    """
    matches = get_close_matches(name, list(known), n=limit, cutoff=0.6)
    if not matches:
        return ""
    return f"; did you mean {' or '.join(map(repr, matches))}?"
