"""The channels that a run names for each class, by either way of naming them."""

from __future__ import annotations

from interpnet.interpretation import Interpretation

from ..run.config import MU_LASSO, RELIANCE
from ..run.session import Session
from .reliance import load_reliance, reliance_key
from .solve import load_interpretation, solve_key


def way_key(session: Session, way: str) -> str:
    """Return the key of the channels that one way names."""
    return {MU_LASSO: solve_key, RELIANCE: reliance_key}[way](session)


def load_way(session: Session, way: str) -> Interpretation:
    """Open the channels that one way names; those of earlier settings are a RunFolderError."""
    return {MU_LASSO: load_interpretation, RELIANCE: load_reliance}[way](session)


def leading(session: Session) -> Interpretation:
    """Open the channels by which images are explained."""
    return load_way(session, session.config.ways[0])
