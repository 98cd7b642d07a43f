"""The concepts that name channels beside their pictures, as a dissection of the pictured layers finds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from interpnet.concepts import Dissection, dissect
from interpnet.engine import Channel, Site

from ..run.concept_sources import Sources
from ..run.subject import Subject
from .parts import Arrays

#: Of each name of a channel, what :func:`named` keeps.
FACTS = ("concepts", "iou", "low", "high")


def nameable(layers: Sequence[Site]) -> list[Site]:
    """Return the sites that can be compared with masks: their maps lie over the image, or are one number."""
    return [site for site in layers if not site.map_shape or len(site.grid) == 2]


def named(subject: Subject, sources: Sources, columns: Mapping[str, Sequence[int]]) -> Arrays:
    """Dissect layers; of their channels ``columns`` return under ``"LAYER/CHANNEL/"`` the :data:`FACTS`, best first."""
    if not columns:
        return {}
    found = dissect(
        subject.model,
        sources,
        layers=list(columns),
        seed=subject.config.seed,
        device=subject.device,
        output=subject.output,
    )
    arrays: Arrays = {}
    for layer, own in columns.items():
        for column in own:
            arrays |= {f"{layer}/{column}/{key}": values for key, values in _facts(found, layer, column).items()}
    return arrays


def _facts(found: Dissection, layer: str, column: int) -> Arrays:
    names = found.names(Channel(layer, column))
    numbers = {key: np.array([getattr(name, key) for name in names], np.float64) for key in FACTS[1:]}
    return {FACTS[0]: np.array([name.concept for name in names], np.str_), **numbers}
