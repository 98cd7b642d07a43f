"""How much of a class's log-odds goes with the subject, with its own surroundings, and with water."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from experiments.boats.swaps import SURROUNDINGS
from experiments.common.tables import Interval, of_draws
from interpnet.engine import all_log_odds
from interpnet.support.types import Float64

_DRAWS = 2000  # of the bootstrap
Effects = dict[str, Float64]


def log_odds_of(logits: Float64, c: int, among: list[int]) -> Float64:
    """Return the log-odds (N,) of class ``c`` among some outputs, of which it is one."""
    odds: Float64 = all_log_odds(torch.from_numpy(logits[:, among])).numpy()[:, among.index(c)]
    return odds


def effects_of(x: Mapping[str, Float64]) -> Effects:
    """Return each photograph's effects (n,) from a class's log-odds on its pictures.

    ``x["own on water"]`` and so on, as :meth:`experiments.boats.swaps.Swaps.named` calls them. The additive model

        x = e + a [the box shows the class] + b_s [it lies on surroundings s]

    has land as its reference; every photograph has all eight combinations, so that least squares gives differences of
    means: ``"box"`` is a, ``"own"``, ``"water"`` and ``"street"`` are b_s. ``"water, subject"`` and ``"water, other"``
    are water against land with the subject and with another in its place, ``"pasting"`` what lying on another
    photograph of the class costs, and ``"grey"`` what lying on grey costs.
    """
    box = np.mean([x[f"own on {s}"] - x[f"other on {s}"] for s in SURROUNDINGS], axis=0)
    against_land = {
        s: {content: x[f"{content} on {s}"] - x[f"{content} on land"] for content in ("own", "other")}
        for s in SURROUNDINGS
        if s != "land"
    }
    found = {"box": box, **{s: (two["own"] + two["other"]) / 2 for s, two in against_land.items()}}
    found["water against street"] = found["water"] - found["street"]
    found["water, subject"] = against_land["water"]["own"]
    found["water, other"] = against_land["water"]["other"]
    found["pasting"] = x["own on own"] - x["original"]
    found["grey"] = x["grey"] - x["original"]
    return found


def share(part: Float64, rest: Float64) -> Float64:
    """Return ``part / (part + rest)``, each at least 0; NaN where both are 0."""
    one, other = np.maximum(part, 0.0), np.maximum(rest, 0.0)
    total = one + other
    found: Float64 = np.divide(one, total, out=np.full_like(total, np.nan), where=total > 0)
    return found


def summary(found: Effects) -> dict[str, Interval]:
    """Return the mean of every effect with its 95 % bootstrap interval over photographs, and the shares.

    ``"share of own surroundings"`` is b_own / (a + b_own), ``"share of water"`` b_water / (a + b_water).
    """
    n = len(found["box"])
    draws = np.random.default_rng(0).integers(0, n, (_DRAWS, n))
    # The first row are the photographs as they are.
    means = {name: np.append(values.mean(), values[draws].mean(1)) for name, values in found.items()}
    for name, part in (("share of own surroundings", "own"), ("share of water", "water")):
        means[name] = share(means[part], means["box"])
    return {name: of_draws(values) for name, values in means.items()}
