"""Ablation: what a class, and the others, lose when the channels relevant to it are removed.

Every image of class c runs with class c's channels removed (its *own* recall), and, in a second pass,
with the channels of another class j removed (the *others'* recall of class j), so two passes over the
images measure a condition for all classes at once. Random controls of the same size, drawn over all
channels or layer by layer, say what removing anything would do. Source: Oramas et al., ICLR 2019,
section 4.1, with the controls its reviewers asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from interpnet.ablation._checkpoint import Measured
from interpnet.ablation._passes import Lists, Passes
from interpnet.ablation._removal import Fill, ablate
from interpnet.ablation._result import AblationResult, Condition, Curve, SingleEffect
from interpnet.engine import Output, evaluating, placed, resolve_device, unwrap
from interpnet.errors import InterpNetError
from interpnet.interpretation import Interpretation
from interpnet.scores import ScoreTable
from interpnet.support.progress import progress_bar

__all__ = ["AblationResult", "Condition", "Curve", "Fill", "SingleEffect", "ablate", "ablation_study"]

CONTROLS = ("random", "random-per-layer", "highest-activation")
_CURVE_REPEATS = 3


def ablation_study(
    model: nn.Module,
    loader: Iterable[Any],
    interpretation: Interpretation,
    *,
    table: ScoreTable | None = None,
    controls: Sequence[str] = CONTROLS,
    repeats: int = 10,
    seed: int = 0,
    fill: str = "zero",
    curve: bool = True,
    single: bool = True,
    device: str | torch.device | None = None,
    output: Output | None = None,
    memory_format: str = "auto",
    progress: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    key: str = "",
) -> AblationResult:
    """Measure what removing the relevant channels does, against controls.

    Conditions, each on all layers and on convolutional layers only: ``relevant`` (nonzero weight),
    ``relevant-positive``, ``random`` (as many channels as are relevant to the class, over all its
    layers), ``random-per-layer`` (as many in each layer), ``highest-activation`` (as many, by mean score).
    Random controls never draw a relevant channel of the class.

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    loader : iterable of (images, labels) batches
        Labelled images that were not used for training; iterated once for every pass, so it must start
        anew each time (a DataLoader without shuffling, or a list).
    interpretation : Interpretation
    table : ScoreTable, optional
        The training scores: needed for ``highest-activation`` and left out without it.
    controls : sequence of str
        Which of ``random``, ``random-per-layer``, ``highest-activation`` to run.
    repeats : int
        Draws of every random control.
    seed : int
        Of the draws, and of which other class's channels each image loses.
    fill : {"zero", "mean"}
        What removed maps are overwritten with: zero, or each channel's mean activation over the images
        of ``loader``.
    curve : bool
        Also remove the k channels of largest ``|weight|`` for k = 1, 2, 4, ... up to all, and k random
        ones (three draws: the curve is the one part whose controls are cut short).
    single : bool
        Also remove each relevant channel alone.
    device, output, memory_format, progress
        As in :func:`interpnet.scores.collect_scores`.
    checkpoint : path, optional
        Keep every measured recall in this file, so that an interrupted study goes on where it stopped.
    key : str
        Identifies model, images, interpretation and settings: a checkpoint with another key is not used.

    Returns
    -------
    AblationResult

    Raises
    ------
    DataError
        No image, labels that are no class numbers, a loader that can be read only once.

    Examples
    --------
    >>> from interpnet.engine import ChannelIndex
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(2, 2))
    >>> found = Interpretation(ChannelIndex((("1", 2),)), np.eye(2), ("a", "b"))
    >>> batches = [(torch.rand(6, 1, 1, 1), torch.tensor([0, 1] * 3))]
    >>> ablation_study(net, batches, found, repeats=2, progress=False).conditions[0].name
    'relevant'
    """
    unknown = set(controls) - set(CONTROLS)
    if unknown:
        raise InterpNetError(f"controls={sorted(unknown)}; expected some of {', '.join(CONTROLS)}")
    if repeats < 1:
        raise InterpNetError(f"repeats={repeats}; expected at least 1")
    if fill not in {"zero", "mean"}:
        raise InterpNetError(f"fill={fill!r}; expected 'zero' or 'mean'")
    model = unwrap(model)
    where = resolve_device(device, model)
    with placed(model, where, memory_format) as last, evaluating(model), torch.inference_mode():
        plan = _Plan(interpretation, controls, table, repeats, seed, curve=curve, single=single)
        run = Passes(
            model,
            loader,
            interpretation,
            where,
            output,
            channels_last=last,
            seed=seed,
            measured=Measured(checkpoint, key),
        )
        if fill == "mean":
            run.fill_with_means()
        return plan.measure(run, fill, progress=progress)


class _Plan:
    """Which channels each condition removes for each class."""

    def __init__(
        self,
        interpretation: Interpretation,
        controls: Sequence[str],
        table: ScoreTable | None,
        repeats: int,
        seed: int,
        *,
        curve: bool,
        single: bool,
    ) -> None:
        self._i, self._repeats, self._seed = interpretation, repeats, seed
        self._controls = [c for c in CONTROLS if c in controls and (c != "highest-activation" or table is not None)]
        self._curve, self._single = curve, single
        self._table = table
        self._layer_of = np.repeat(
            np.arange(len(interpretation.channels.sizes)), [n for _, n in interpretation.channels.sizes]
        )
        self._means: list[npt.NDArray[np.float64]] = []

    def measure(self, run: Passes, fill: str, *, progress: bool) -> AblationResult:
        conv = np.isin(self._layer_of, [i for i, s in enumerate(run.sites) if s.family == "conv"])
        everywhere = np.ones(len(self._layer_of), dtype=bool)
        groups = [("all", everywhere)]
        if conv.any() and not conv.all():
            groups.append(("conv", conv))
        relevant = [self._i.columns(c) for c in range(run.C)]
        ks = _powers(max((len(r) for r in relevant), default=0)) if self._curve else []
        longest = max((len(r) for r in relevant), default=0) if self._single else 0
        passes = 1 + len(groups) * sum(self._draws(c) for c in ("relevant", "relevant-positive", *self._controls)) * 2
        passes += len(ks) * (1 + min(self._repeats, _CURVE_REPEATS)) + 2 * longest
        with progress_bar("Ablating", passes, unit="passes", enabled=progress) as advance:
            intact = run.own(None)
            advance(1)
            conditions = [
                self._condition(run, kind, name, allowed, advance)
                for name, allowed in groups
                for kind in ("relevant", "relevant-positive", *self._controls)
            ]
            found_curve = self._measure_curve(run, relevant, ks, advance) if ks else None
            effects = self._measure_single(run, relevant, intact, advance) if self._single else {}
        return AblationResult(
            self._i.classes, run.support, intact, fill, run.n, self._repeats, self._seed, tuple(conditions),
            found_curve, effects,
        )  # fmt: skip

    def _draws(self, kind: str) -> int:
        return self._repeats if kind.startswith("random") else 1

    def _condition(
        self, run: Passes, kind: str, layers: str, allowed: npt.NDArray[np.bool_], advance: Callable[[int], None]
    ) -> Condition:
        own, others, removed = [], [], np.zeros(run.C)
        for r in range(self._draws(kind)):
            lists = [self._list(kind, c, allowed, np.random.default_rng([self._seed, 2, r, c])) for c in range(run.C)]
            removed = np.array([len(x) for x in lists], dtype=float)
            own.append(run.own(lists))
            others.append(run.others(lists))
            advance(2)
        return Condition(kind, layers, removed, np.stack(own), np.stack(others))

    def _list(
        self, kind: str, c: int, allowed: npt.NDArray[np.bool_], rng: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        relevant = self._i.columns(c)
        relevant = relevant[allowed[relevant]]
        if kind == "relevant":
            return relevant
        if kind == "relevant-positive":
            positive: npt.NDArray[np.int64] = relevant[self._i.coef[c][relevant] > 0]
            return positive
        free = allowed.copy()
        free[self._i.columns(c)] = False
        pool = np.flatnonzero(free)
        if kind == "random":
            drawn: npt.NDArray[np.int64] = rng.choice(pool, min(len(relevant), len(pool)), replace=False)
            return drawn
        if kind == "highest-activation":
            means = self._class_means(c)
            candidates = np.flatnonzero(allowed)
            highest: npt.NDArray[np.int64] = candidates[np.argsort(-means[candidates], kind="stable")[: len(relevant)]]
            return highest
        parts = []
        for layer, count in zip(*np.unique(self._layer_of[relevant], return_counts=True), strict=True):
            here = pool[self._layer_of[pool] == layer]
            parts.append(rng.choice(here, min(count, len(here)), replace=False))
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def _class_means(self, c: int) -> npt.NDArray[np.float64]:
        """Return the mean scores over the class's training images: the strongest ranking of this kind."""
        if self._table is None:
            raise InterpNetError("the control 'highest-activation' needs table=, the training scores")
        while len(self._means) <= c:
            target = self._table.labels if self._table.labels.ndim == 1 else self._table.predictions
            self._means.append(self._table.channel_means(np.flatnonzero(target == len(self._means))))
        return self._means[c]

    def _measure_curve(self, run: Passes, relevant: Lists, ks: Sequence[int], advance: Callable[[int], None]) -> Curve:
        own = np.stack([self._step(run, [r[:k] for r in relevant], advance) for k in ks])
        m = len(self._layer_of)
        repeats = min(self._repeats, _CURVE_REPEATS)
        random = np.zeros((len(ks), repeats, run.C))
        for r in range(repeats):
            orders = []
            for c in range(run.C):
                pool = np.setdiff1d(np.arange(m), relevant[c])
                orders.append(np.random.default_rng([self._seed, 3, r, c]).permutation(pool)[: len(relevant[c])])
            for i, k in enumerate(ks):
                random[i, r] = self._step(run, [o[:k] for o in orders], advance)
        return Curve(np.array(ks), own, random)

    @staticmethod
    def _step(run: Passes, lists: Lists, advance: Callable[[int], None]) -> npt.NDArray[np.float64]:
        advance(1)
        return run.own(lists)

    def _measure_single(
        self,
        run: Passes,
        relevant: Lists,
        intact: npt.NDArray[np.float64],
        advance: Callable[[int], None],
    ) -> dict[int, list[SingleEffect]]:
        """Remove the first channel of every class at once, then the second, ..."""
        none: list[npt.NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)] * run.C
        before = run.others(none)
        effects: dict[int, list[SingleEffect]] = {c: [] for c in range(run.C)}
        for k in range(max((len(r) for r in relevant), default=0)):
            lists = [r[k : k + 1] for r in relevant]
            own, others = run.own(lists), run.others(lists)
            advance(2)
            for c, r in enumerate(relevant):
                if k < len(r):
                    column = int(r[k])
                    effects[c].append(
                        SingleEffect(
                            self._i.channels[column],
                            float(self._i.coef[c][column]),
                            float(intact[c] - own[c]),
                            float(others[c] - before[c]),
                        )
                    )
        return effects


def _powers(n: int) -> list[int]:
    """Return 1, 2, 4, ... and n itself."""
    ks = [1 << i for i in range(n.bit_length()) if 1 << i <= n]
    return ks if not ks or ks[-1] == n else [*ks, n]
