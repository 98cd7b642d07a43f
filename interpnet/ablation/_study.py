"""Ablation: what a class, and the others, lose when the channels relevant to it are removed.

Source: Oramas et al., ICLR 2019, section 4.1, with the controls its reviewers asked for; docs/method.md, section 6.1,
says how two passes over the images measure a condition for all classes at once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from interpnet.ablation._checkpoint import Measured
from interpnet.ablation._passes import Lists, Passes
from interpnet.ablation._result import AblationResult, Condition, Curve, SingleEffect
from interpnet.engine import Output, Site, evaluating, placed, resolve_device, unwrap
from interpnet.errors import InterpNetError
from interpnet.interpretation import Interpretation
from interpnet.scores import Loader, ScoreTable
from interpnet.support.checks import check_kinds, instance_of, listed, optional, text, true_or_false, whole_number
from interpnet.support.progress import progress_bar
from interpnet.support.types import Float64, Int64

Mask = npt.NDArray[np.bool_]
_Drawn = tuple[str, str, Mask, int]
CONTROLS = ("random", "random-per-layer", "highest-activation")
_CURVE_REPEATS = 3  # at most, for each draw of the random curve costs a pass for every point
_NONE: Int64 = np.zeros(0, dtype=np.int64)


def ablation_study(
    model: nn.Module,
    loader: Loader,
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
    inputs: str | None = None,
    labels: str | None = None,
) -> AblationResult:
    """Measure what removing the relevant channels does, against controls.

    Conditions, each on all layers and on convolutional layers only: ``relevant`` (nonzero weight),
    ``relevant-positive``, ``random`` (as many channels as are relevant to the class, over all layers),
    ``random-per-layer`` (as many in each layer), ``highest-activation`` (as many, by mean score).

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    loader : iterable of (images, labels) batches
        Labelled images that were not used for training. Images of up to 1 GiB are kept; beyond that it is iterated for
        every pass, so it must start again each time with the same images in the same order (a DataLoader without
        shuffling, or a list), which every pass checks.
    table : ScoreTable, optional
        The training scores; without it the control ``highest-activation`` is left out.
    controls : sequence of str
        Which of ``CONTROLS`` to run.
    repeats, seed : int
        Draws of every random control, and their seed, which also says which other class's channels each image loses.
    fill : {"zero", "mean"}
        What removed maps are overwritten with: zero, or each channel's mean activation over the images of ``loader``.
    curve, single : bool
        Also remove the k channels of largest ``|weight|`` for k = 1, 2, 4, ... up to all, and k random ones (at most
        three draws); also remove each relevant channel alone.
    device, output, memory_format, progress
        As in :func:`interpnet.scores.collect_scores`.
    checkpoint : path, optional
        Keep every measured recall in this file, so that an interrupted study goes on where it stopped.
    key : str
        Identifies model, images, interpretation and settings: a checkpoint with another key is not used.
    inputs, labels : str, optional
        The keys of images and labels where a batch is a dictionary; the common ones are known.

    No image, labels that are no class numbers, a network with one output, a loader that can be read only once or that
    yields other images, labels or another order in a later pass is a :class:`DataError`.

    Examples
    --------
    >>> from interpnet.engine import ChannelIndex
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(2, 2))
    >>> found = Interpretation(ChannelIndex((("1", 2),)), np.eye(2), ("a", "b"))
    >>> batches = [(torch.rand(6, 1, 1, 1), torch.tensor([0, 1] * 3))]
    >>> ablation_study(net, batches, found, repeats=2, progress=False).conditions[0].name
    'relevant'
    """
    check_kinds(ablation_study, locals())
    if fill not in ("zero", "mean"):
        raise InterpNetError(f"fill={fill!r}; expected 'zero' or 'mean'")
    true_or_false(progress, "progress")
    text(key, "key")
    repeats = whole_number(repeats, "repeats", least=1)
    seed = whole_number(seed, "seed", least=0)
    instance_of(interpretation, "interpretation", Interpretation)
    # Made before anything runs, for it refuses wrong arguments.
    plan = _Plan(interpretation, table, controls, repeats, seed, curve, single)
    model = unwrap(model)
    where = resolve_device(device, model)
    measured = Measured(checkpoint, key)
    with placed(model, where, memory_format) as put, evaluating(model), torch.inference_mode():
        run = Passes(
            model,
            loader,
            interpretation,
            put=put,
            output=output,
            seed=plan.seed,
            measured=measured,
            inputs=inputs,
            labels=labels,
        )
        if fill == "mean":
            run.fill_with_means()
        conditions = plan.conditions(run.sites)
        with progress_bar("Ablating", plan.passes(conditions), unit="passes", enabled=progress) as measured.advance:
            intact = run.own(None)
            return AblationResult(
                classes=interpretation.classes,
                support=run.support,
                intact=intact,
                fill=fill,
                n_images=run.n,
                repeats=plan.repeats,
                seed=plan.seed,
                conditions=tuple(_condition(plan, run, *condition) for condition in conditions),
                curve=_curve(plan, run),
                single=_single(plan, run, intact),
            )


@dataclass(frozen=True)
class _Plan:
    """What a study measures: which channels each condition removes for each class, and how often it is drawn."""

    interpretation: Interpretation
    table: ScoreTable | None
    controls: Sequence[str]
    repeats: int
    seed: int
    curve: bool
    single: bool

    def __post_init__(self) -> None:
        unknown = [control for control in listed(self.controls, "controls") if control not in CONTROLS]
        if unknown:
            raise InterpNetError(f"controls={unknown}; expected some of {', '.join(CONTROLS)}")
        optional(instance_of, self.table, "table", ScoreTable)
        true_or_false(self.curve, "curve")
        true_or_false(self.single, "single")

    @cached_property
    def relevant(self) -> list[Int64]:
        """The columns relevant to each class, by falling ``|weight|``."""
        # Of thousands of classes few may have images, and so weights.
        weighted = np.count_nonzero(self.interpretation.coef, axis=1)
        columns = [_NONE] * len(weighted)
        for c in np.flatnonzero(weighted).tolist():
            columns[c] = self.interpretation.columns(c)
        return columns

    @cached_property
    def weighted(self) -> list[int]:
        """The classes with a relevant channel."""
        return [c for c, columns in enumerate(self.relevant) if len(columns)]

    def lists(self, kind: str, allowed: Mask, draw: int) -> list[Int64]:
        """Return the columns that condition ``kind`` removes for each class in one draw."""
        lists = [_NONE] * len(self.relevant)
        for c in self.weighted:
            # A generator for each draw and class, so that no draw depends on what else is measured.
            lists[c] = self.columns(kind, c, allowed, np.random.default_rng([self.seed, 2, draw, c]))
        return lists

    @cached_property
    def longest(self) -> int:
        """The most channels that are relevant to one class."""
        return max(len(columns) for columns in self.relevant)

    @cached_property
    def layer_of(self) -> Int64:
        """The number of each column's layer (m,)."""
        sizes = [size for _, size in self.interpretation.channels.sizes]
        return np.repeat(np.arange(len(sizes)), sizes)

    @property
    def steps(self) -> list[int]:
        """How many channels each point of the curve removes: 1, 2, 4, ... and all."""
        if not self.curve or not self.longest:
            return []
        return sorted({self.longest, *(1 << i for i in range(self.longest.bit_length()))})

    def conditions(self, sites: Sequence[Site]) -> list[_Drawn]:
        """Return (kind, layers, which columns may be removed, draws) of all conditions, in order."""
        kinds = ["relevant", "relevant-positive", *(c for c in CONTROLS if c in self.controls)]
        if self.table is None and "highest-activation" in kinds:
            kinds.remove("highest-activation")
        conv = np.isin(self.layer_of, [i for i, site in enumerate(sites) if site.family == "conv"])
        groups = {"all": np.ones_like(conv)}
        if conv.any() and not conv.all():  # else the second group would repeat the first, or be empty
            groups["conv"] = conv
        draws = {kind: self.repeats for kind in kinds if kind.startswith("random")}  # the others do not vary
        return [(kind, layers, mask, draws.get(kind, 1)) for layers, mask in groups.items() for kind in kinds]

    def passes(self, conditions: Sequence[_Drawn]) -> int:
        """Return how many passes over the images there are, for the progress bar."""
        curve = len(self.steps) * (1 + min(self.repeats, _CURVE_REPEATS))
        single = self.single * (1 + 2 * self.longest)
        return 1 + 2 * sum(draws for *_, draws in conditions) + curve + single

    def columns(self, kind: str, c: int, allowed: Mask, rng: np.random.Generator) -> Int64:
        """Return the columns that condition ``kind`` removes for class c, among those ``allowed`` (m,)."""
        relevant = self.relevant[c]
        if kind == "relevant-positive":
            relevant = self.interpretation.columns(c, "positive")
        relevant = relevant[allowed[relevant]]
        if kind.startswith("relevant"):
            return relevant
        if kind == "highest-activation":
            candidates = np.flatnonzero(allowed)
            # This control may draw relevant channels: often they are the active ones.
            falling = np.argsort(-self._class_means(c)[candidates], kind="stable")
            return candidates[falling[: len(relevant)]]
        free = allowed.copy()
        free[self.relevant[c]] = False  # a random control never draws a channel that is relevant to the class
        pool = np.flatnonzero(free)
        if kind == "random":
            drawn: Int64 = rng.choice(pool, min(len(relevant), len(pool)), replace=False)
            return drawn
        parts = [np.zeros(0, dtype=np.int64)]
        for layer, count in zip(*np.unique(self.layer_of[relevant], return_counts=True), strict=True):
            here = pool[self.layer_of[pool] == layer]
            parts.append(rng.choice(here, min(count, len(here)), replace=False))
        return np.concatenate(parts)

    def _class_means(self, c: int) -> Float64:
        """Return the mean scores (m,) over a class's training images: the strongest ranking of this kind."""
        if self.table is None:
            raise InterpNetError("the control 'highest-activation' needs table=, the training scores")
        if c not in self._means:
            # A target matrix names no single class.
            target = self.table.labels if self.table.labels.ndim == 1 else self.table.predictions
            self._means[c] = self.table.channel_means(np.flatnonzero(target == c))
        return self._means[c]

    @cached_property
    def _means(self) -> dict[int, Float64]:
        return {}


def _condition(plan: _Plan, run: Passes, kind: str, layers: str, allowed: Mask, draws: int) -> Condition:
    lists: Lists = []
    own = []
    others = []
    for r in range(draws):
        lists = plan.lists(kind, allowed, r)
        own.append(run.own(lists))
        others.append(run.others(lists))
    removed = np.array([len(columns) for columns in lists], dtype=float)
    return Condition(kind, layers, removed, np.stack(own), np.stack(others))


def _curve(plan: _Plan, run: Passes) -> Curve | None:
    """Remove the first k relevant channels of every class, and k random ones, for growing k."""
    if not plan.steps:
        return None
    own = np.stack([run.own([columns[:k] for columns in plan.relevant]) for k in plan.steps])
    random = np.zeros((len(plan.steps), min(plan.repeats, _CURVE_REPEATS), run.C))
    for r in range(random.shape[1]):
        orders = [_NONE] * run.C
        for c in plan.weighted:
            relevant = plan.relevant[c]
            pool = np.setdiff1d(np.arange(len(plan.layer_of)), relevant)
            orders[c] = np.random.default_rng([plan.seed, 3, r, c]).permutation(pool)[: len(relevant)]
        for i, k in enumerate(plan.steps):
            random[i, r] = run.own([order[:k] for order in orders])
    return Curve(np.array(plan.steps), own, random)


def _single(plan: _Plan, run: Passes, intact: Float64) -> dict[int, list[SingleEffect]]:
    """Remove the first channel of every class at once, then the second, ..."""
    if not plan.single:
        return {}
    # With nothing removed.
    before = run.others([_NONE] * run.C)
    effects: dict[int, list[SingleEffect]] = {c: [] for c in range(run.C)}
    for k in range(plan.longest):
        lists = [columns[k : k + 1] for columns in plan.relevant]
        own_drop = intact - run.own(lists)
        others_change = run.others(lists) - before
        for c in plan.weighted:
            # None where a class has no more channels.
            for column in lists[c].tolist():
                channel = plan.interpretation.channels[column]
                weight = float(plan.interpretation.coef[c][column])
                effects[c].append(SingleEffect(channel, weight, float(own_drop[c]), float(others_change[c])))
    return effects
