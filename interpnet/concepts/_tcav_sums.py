"""Scores, effects and their p-values, from the derivatives along all vectors."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from interpnet.ablation import adjusted
from interpnet.concepts._significance import intervals, rank_p, wilson
from interpnet.concepts._tcav_layer import AtLayer, Members
from interpnet.concepts._tcav_result import ConceptWarning, TcavResult
from interpnet.support.types import Bools, Float64


def summed_up(
    layers: Sequence[AtLayer], members: Members, names: tuple[str, ...], targets: Sequence[int], seed: int
) -> tuple[TcavResult, ...]:
    """Return the result of all layers for each class."""
    accuracy = np.stack([layer.accuracy for layer in layers], 1)
    separates = _separates(accuracy, members, names)
    known: dict[str, Any] = {
        "concepts": tuple(members.concepts),
        "layers": names,
        "accuracy": accuracy,
        "separates": separates,
        "random_accuracy": np.array([layer.random_accuracy for layer in layers]),
        "cavs": tuple(layer.cavs for layer in layers),
    }
    of_classes = zip(*(layer.derivatives for layer in layers), strict=True)
    return tuple(
        TcavResult(target=target, **known, **_of_class(np.stack(own), members, seed))
        for target, own in zip(targets, of_classes, strict=True)
    )


def _of_class(derivatives: Float64, members: Members, seed: int) -> dict[str, Any]:
    """Return scores and effects from a class's derivatives (L, P, M)."""
    k = len(members.concepts)
    r = members.of_concepts
    # Of each concept, layer, random set and image.
    ours = np.moveaxis(derivatives[:, : k * r].reshape(len(derivatives), k, r, -1), 1, 0)
    pairs = derivatives[:, k * r :]
    positive = (ours > 0).astype(np.float64)
    # Half of the images without a derivative: so turning a vector round turns its score round 0.5.
    leaning = (np.sign(ours).mean((2, 3)), in_turn(np.sign(pairs).mean(2), members))
    random_effect = in_turn(pairs.mean(2), members)
    draws = np.random.default_rng(seed)
    return {
        "score": positive.mean((2, 3)),
        "interval": intervals(positive.mean(2), draws),
        "p_value": _p_values(*leaning),
        "effect": ours.mean((2, 3)),
        "effect_interval": intervals(ours.mean(2), draws),
        "effect_p_value": _p_values(ours.mean((2, 3)), random_effect),
        "scores": positive.mean(3),
        "random_score": 0.5 + leaning[1] / 2,
        "random_effect": random_effect,
        "by_image": ours.mean(2),
    }


def in_turn(pairs: Float64, members: Members) -> Float64:
    """Return (L, R): the mean of a number (L, P) of all vectors between a random set and the others, towards it.

    The number turns its sign with the vector. Where each set is in one pair only, it is that pair's.
    """
    if members.against is not None:
        return pairs
    sums = np.zeros((len(pairs), len(members.random)))
    for p, (i, j) in enumerate(members.pairs):
        sums[:, i] += pairs[:, p]
        sums[:, j] -= pairs[:, p]
    return sums / (len(members.random) - 1)


def _p_values(ours: Float64, null: Float64) -> Float64:
    """Return adjusted p-values (K, L) of numbers (K, L) against those of random sets (L, R)."""
    found = np.array([[rank_p(value, null[i]) for i, value in enumerate(row)] for row in ours])
    return adjusted(found.ravel()).reshape(found.shape)


def _separates(accuracy: Float64, members: Members, names: tuple[str, ...]) -> Bools:
    """Return whether accuracies (K, L) are beyond chance, as Wilson's interval has it, and warn where not."""
    found = np.array(
        [
            [wilson(value, len(rows))[0] > 0.5 for value in values]
            for rows, values in zip(members.concepts.values(), accuracy, strict=True)
        ]
    )
    for k, name in enumerate(members.concepts):
        bad = [f"{names[i]!r} ({accuracy[k, i]:.2f})" for i in np.flatnonzero(~found[k])]
        if bad:
            more = f" and {len(bad) - 4} more" if len(bad) > 4 else ""
            warnings.warn(
                f"the vectors of concept {name!r} do not tell its images from others that they were not made of, at "
                f"{', '.join(bad[:4])}{more}: their accuracy is not beyond chance, 0.5. What is said along them is of "
                "no concept",
                ConceptWarning,
                stacklevel=4,
            )
    return found
