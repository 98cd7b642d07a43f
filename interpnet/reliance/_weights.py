"""Whose contributions they are: those of other weights are of another network, though its layers are the same."""

from __future__ import annotations

from torch import nn

from interpnet.errors import InterpNetError, ModelError
from interpnet.models import fingerprint_model
from interpnet.reliance._contributions import Contributions


def weights_of(model: nn.Module) -> str | None:
    """Return a fingerprint of a network's weights, ``None`` where they cannot be read.

    Examples
    --------
    >>> weights_of(nn.ReLU()) == weights_of(nn.Tanh()), weights_of(nn.Linear(1, 1)) == weights_of(nn.Linear(1, 1))
    (True, False)
    """
    try:
        return fingerprint_model(model)
    # Contributions need no state dict.
    except ModelError:
        return None


def check_same_weights(model: nn.Module, contributions: Contributions) -> None:
    """Raise :class:`InterpNetError` where contributions are known to be of a network with other weights."""
    known = contributions.info.get("weights")
    if known is not None and known != weights_of(model):
        raise InterpNetError(
            "the contributions are of a network with other weights than this model has; collect them again with it"
        )
