"""What a class's log-odds do along the directions of concepts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from interpnet.support.brief import brief
from interpnet.support.checks import number, one_of
from interpnet.support.types import Bools, Float32, Float64


class ConceptWarning(UserWarning):
    """A concept of which a layer says too little, with the reason."""


@brief
@dataclass(frozen=True, eq=False)
class TcavResult:
    """K concepts at L layers, each against R random sets, on M images of a class.

    With ``against`` there is one vector for each concept instead of R.
    """

    concepts: tuple[str, ...]
    layers: tuple[str, ...]
    target: int
    score: Float64  # (K, L): share of the images with a positive derivative along the concept, mean over random sets
    interval: Float64  # (K, L, 2): of the score at 95 %, over images
    p_value: Float64  # (K, L): of the score, two-sided, adjusted for the K * L tests
    effect: Float64  # (K, L): mean derivative, in log-odds for one standard deviation along the concept
    effect_interval: Float64  # (K, L, 2)
    effect_p_value: Float64  # (K, L)
    accuracy: Float64  # (K, L): of the vectors on images that were held out, mean of both sides; chance is 0.5
    separates: Bools  # (K, L): whether that is beyond chance
    scores: Float64  # (K, L, R): the score with each random set
    random_score: Float64  # (L, R): what a random set in the place of the concept has
    random_effect: Float64  # (L, R)
    random_accuracy: Float64  # (L,)
    by_image: Float64  # (K, L, M): the effect on each image
    cavs: tuple[Float32, ...] = field(repr=False)  # for each layer (K, R, ...): vectors of length 1 towards the concept

    def found(self, level: float = 0.05, *, by: str = "effect") -> list[tuple[str, str, float]]:
        """Return (concept, layer, effect or score) that differ from random sets', those that stand out most first.

        Of a concept whose vectors do not separate its images nothing is found. ``level``: the expected share of false
        ones. ``by`` is ``"effect"`` or ``"score"``; choose before you look.
        """
        number(level, "level", least=0, most=1)
        one_of(by, "by", ("effect", "score"))
        values, p_values, usual = self.score, self.p_value, 0.5
        if by == "effect":
            values, p_values, usual = self.effect, self.effect_p_value, 0.0
        rows = [
            (self.concepts[k], self.layers[i], float(values[k, i]))
            for k, i in np.argwhere(self.separates & (p_values <= level))
        ]
        return sorted(rows, key=lambda row: -abs(row[2] - usual))
