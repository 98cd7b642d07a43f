"""Ablation: what a class, and the others, lose when the channels relevant to it are removed.

Source: Oramas et al., ICLR 2019, section 4.1, with the controls its reviewers asked for; docs/method.md, section 6.1,
says how two passes over the images measure a condition for all classes at once.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from interpnet.ablation._answers import Answers
from interpnet.ablation._changes import Gathered, Pass, changes_of, draws_of, mean_of_others
from interpnet.ablation._checkpoint import Measured
from interpnet.ablation._effect import Effect, effect_by_class, recall_interval
from interpnet.ablation._passes import Draw, Lists, Passes
from interpnet.ablation._plan import CONTROLS, Drawn, Plan
from interpnet.ablation._result import AblationResult, Condition, Curve, SingleEffect
from interpnet.engine import OUTPUTS, Output, evaluating, for_outputs, placed, resolve_device, unwrap
from interpnet.errors import InterpNetError
from interpnet.interpretation import Interpretation
from interpnet.reliance import Contributions
from interpnet.scores import Loader, Prepare, ScoreTable
from interpnet.support.checks import check_kinds, instance_of, one_of, text, true_or_false, whole_number
from interpnet.support.class_names import chosen_classes
from interpnet.support.progress import progress_bar
from interpnet.support.ranks import ranks_of
from interpnet.support.types import Float64

# Removals of other classes' channels, over all images, that a condition gets where the caller does not say, in at most
# so many passes.
_ENOUGH = 2000
_MOST_TURNS = 8


def ablation_study(
    model: nn.Module,
    loader: Loader,
    interpretation: Interpretation,
    *,
    table: ScoreTable | None = None,
    controls: Sequence[str] = CONTROLS,
    repeats: int = 2,
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
    turns: int | None = None,
    outputs: str = "exclusive",
    only: Sequence[int | str] | None = None,
    contributions: Contributions | None = None,
    prepare: Prepare | None = None,
    group: Any = None,
) -> AblationResult:
    """Measure what removing the relevant channels does, against controls.

    Conditions, each on all layers and on convolutional layers only: ``relevant`` (nonzero weight),
    ``relevant-positive``, ``random`` (as many channels as are relevant to the class, over all layers),
    ``random-per-layer`` (as many in each layer), ``highest-activation`` (as many, by mean score over the class's
    training images), ``d-prime`` (as many, by d' of the scores of these images against all others).

    Recall, log-odds and log-probability are measured on every image with and without its channels, so that changes are
    paired by image, and so is what a control costs beyond the relevant channels (docs/method.md, section 6.1).

    Where an image can have several labels (``outputs="independent"``), what is measured is by pair of an image and a
    label that it has: the label is recognised where its logit is above 0, and its log-odds are the logit. The images
    without a label say how often it is a false alarm, and with its recall how precise it is.

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    loader : iterable of (images, labels) batches
        Labelled images that were not used for training. Images of up to 1 GiB are kept; beyond that it is iterated
        twice, or three times to fill with means, so it must start again each time with the same images in the same
        order (a DataLoader without shuffling, or a list), which is checked.
    table : ScoreTable, optional
        The training scores; without it the controls ``highest-activation`` and ``d-prime`` are left out.
    controls : sequence of str
        Which of ``CONTROLS`` to run, and rankings of your own (:func:`interpnet.register_ranking`).
    repeats, seed : int
        Passes over the images for every random control, in each of which two images of a class share a draw, and the
        seed of the draws, which also says which other classes' channels each image loses.
    fill : {"zero", "mean"}
        What removed maps are overwritten with: zero, or each channel's mean activation over the images of ``loader``.
    curve, single : bool
        Also remove the k channels of largest ``|weight|`` for k = 1, 2, 4, ... up to all, and k random ones; also
        remove each relevant channel alone.
    device, output, memory_format, progress
        As in :func:`interpnet.scores.collect_scores`.
    checkpoint : path, optional
        Keep what is measured in this file, so that an interrupted study goes on after its last whole batch.
    key : str
        Identifies model, images, interpretation and settings: a checkpoint with another key is not used.
    inputs, labels, prepare
        As in :func:`interpnet.scores.collect_scores`; labels may be names of the interpretation's classes.
    turns : int, optional
        In how many passes each image loses the channels of another class, a different one every time: C - 1 for all
        other classes, of C that have channels. By default 2 to 8, so that at least 2,000 removals are measured where
        there are few images.
    outputs : {"exclusive", "independent"}
        ``"independent"``: each output is a question of its own, and the loader yields targets (B, C) of 0 and 1.
    only : sequence of class numbers or names, optional
        Remove the channels of these classes alone, which takes their share of the time: from their own images, and from
        as many images of all other classes as in a study of every class. The result is that of such a study,
        :meth:`AblationResult.restricted` to these classes.
    contributions : Contributions, optional
        Those of the training images, for rankings of your own.
    group : process group of torch.distributed, or "default", optional
        Its processes share the work: each passes the same arguments, measures every world-th batch, and gets the whole
        result, that of one process. Each keeps a checkpoint of its own beside ``checkpoint``.

    Raises
    ------
    InterpNetError
        An unknown class in ``only``, with close matches.
    DataError
        No image, labels that are no class numbers, a loader that can be read only once or that yields other images,
        labels or another order in a later pass.

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
    if turns is not None:
        turns = whole_number(turns, "turns", least=1)
    one_of(outputs, "outputs", OUTPUTS)
    output = for_outputs(output, outputs)
    studied = None
    if only is not None:
        studied = chosen_classes(only, interpretation.classes)
    plan = Plan(interpretation, table, controls, repeats, seed, curve, single, outputs, studied, contributions)
    _ = plan.own  # a ranking that is refused is no surprise after the passes
    model = unwrap(model)
    where = resolve_device(device, model)
    ranks = ranks_of(group)
    measured = Measured(checkpoint, key, ranks)
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
            progress=progress,
            outputs=outputs,
            only=studied,
            prepare=prepare,
            ranks=ranks,
        )
        if fill == "mean":
            run.fill_with_means()
        turns = _turns(turns, len(run.labels), int(run.rows.named.sum()))
        asked = _Asked.of(plan, run, turns)
        run.alarm_pass(plan.relevant, turns)
        with progress_bar("Ablating", run.removals, unit="removals", enabled=progress) as advance:
            run.measure(advance)
        intact = run.intact
        by_class: dict[str, Any] = {
            measure: effect_by_class(intact.value(measure), run.labels, run.C).mean
            for measure in ("log_odds", "log_probability")
        }
        alarms: tuple[Float64 | None, Float64 | None] = (None, None)
        if outputs == "independent":
            alarms = run.false_alarms
        result = AblationResult(
            classes=interpretation.classes,
            support=run.support,
            intact=run.recall_of_all(intact),
            fill=fill,
            n_images=run.n,
            repeats=plan.repeats,
            seed=plan.seed,
            conditions=_conditions(plan, run, asked),
            curve=_curve(plan, run, asked),
            single=_single(plan, run, asked),
            turns=turns,
            by=interpretation.by,
            pairs=_covered(run, turns),
            why_whole=run.why_whole,
            outputs=outputs,
            false_alarms=alarms[0],
            false_alarms_removed=alarms[1],
            clusters=run.clusters(intact.value("recall")),
            answers=Answers(run.rows.images, run.labels, intact.right, intact.log_odds),
            **by_class,
        )
    if studied is None:
        return result
    # The curve was measured of these classes alone.
    return replace(result.restricted(studied), curve=result.curve)


@dataclass(frozen=True)
class _Asked:
    """The numbers of the passes that a study asks for: own ones and those in which others' channels are lost."""

    conditions: list[tuple[Drawn, list[int], list[int]]]
    # For each step of the curve, with named channels and with random ones.
    curve: list[tuple[int, int]]
    # For the first channel of every class, the second, ...
    single: list[tuple[int, int]]

    @classmethod
    def of(cls, plan: Plan, run: Passes, turns: int) -> _Asked:
        """Ask for all passes of a study."""
        conditions = []
        for condition in plan.conditions(run.sites):
            kind, _, allowed, repeats = condition
            if repeats:
                draw = partial(plan.draws, kind, allowed)
                own = [run.drawn_pass(draw, r) for r in range(repeats)]
                others = [run.drawn_pass(draw, r, r % turns) for r in range(repeats)]
            else:
                lists = plan.lists(kind, allowed)
                own = [run.own_pass(lists)]
                others = [run.others_pass(lists, turn) for turn in range(turns)]
            conditions.append((condition, own, others))
        # The first k of what the control draws over all layers.
        draw = partial(plan.draws, "random", np.ones(len(plan.layer_of), dtype=bool))
        curve = [
            (run.own_pass([columns[:k] for columns in plan.relevant]), run.drawn_pass(partial(_first, draw, k), 0))
            for k in plan.steps
        ]
        single = []
        for k in range(plan.longest * plan.single):
            lists = [columns[k : k + 1] for columns in plan.relevant]
            single.append((run.own_pass(lists), run.others_pass(lists)))
        return cls(conditions, curve, single)


def _first(draw: Draw, k: int, c: int, number: int, count: int) -> Lists:
    return [columns[:k] for columns in draw(c, number, count)]


def _conditions(plan: Plan, run: Passes, asked: _Asked) -> tuple[Condition, ...]:
    """Return every condition, the controls beside the named channels of the same layers."""
    found = []
    named: dict[str, Gathered] = {}
    for (kind, layers, allowed, repeats), of_own, of_others in asked.conditions:
        made = Gathered([run.made(number) for number in of_own], [run.made(number) for number in of_others])
        named.setdefault(layers, made)
        compared = None if kind.startswith("relevant") else named[layers]
        removed = np.array([len(columns) for columns in plan.lists(kind, allowed)], dtype=float)
        own = np.stack([run.recall(one.outcome) for one in made.own])
        others = run.recall_of_others(made.others)[None]
        if repeats:
            others = np.stack([run.recall_of_others([one]) for one in made.others])
        changes = changes_of(run.intact, run.labels, run.C, made, compared, run.several)
        clusters = run.clusters(np.mean([one.outcome.value("recall") for one in made.own], axis=0))
        found.append(Condition(kind, layers, removed, own, others, changes, clusters))
    return tuple(found)


def _curve(plan: Plan, run: Passes, asked: _Asked) -> Curve | None:
    """Return what removing the first k relevant channels of every class does, and k random ones, for growing k."""
    if not plan.steps:
        return None
    named = [run.made(number) for number, _ in asked.curve]
    random = [run.made(number) for _, number in asked.curve]
    changes = [[_of_log_odds(run, one).mean for one in passes] for passes in (named, random)]
    ends = [[_recall_ends(run, one) for one in passes] for passes in (named, random)]
    return Curve(
        k=np.array(plan.steps),
        own=np.stack([run.recall(one.outcome) for one in named]),
        random=np.stack([run.recall(one.outcome)[None] for one in random]),
        own_log_odds=np.stack(changes[0]),
        random_log_odds=np.stack(changes[1]),
        own_ends=np.array(ends[0]),
        random_ends=np.array(ends[1]),
    )


def _recall_ends(run: Passes, one: Pass) -> tuple[float, float]:
    """Return the interval of the mean recall of a pass."""
    draws = draws_of([one], [one.outcome.value("recall")], run.labels, run.C)
    clusters = run.clusters(one.outcome.value("recall"))
    return recall_interval(run.recall(one.outcome), run.support, draws=draws, clusters=clusters)


def _of_log_odds(run: Passes, one: Pass) -> Effect:
    """Return the change of log-odds by the class whose channels the images lost."""
    return effect_by_class(one.change("log_odds", run.intact.value("log_odds")), one.classes, run.C)


def _of_other_classes(run: Passes, one: Pass) -> Effect:
    """Return the same without the rows that lost their own class's channels, for their image lacks no other."""
    change = one.change("log_odds", run.intact.value("log_odds"))
    change = np.where(one.classes != run.labels, change, np.nan)
    return effect_by_class(change, one.classes, run.C, images=run.several)


def _single(plan: Plan, run: Passes, asked: _Asked) -> dict[int, list[SingleEffect]]:
    """Return what removing each relevant channel alone does."""
    if not plan.single:
        return {}
    own_before = run.recall(run.intact)
    others_before = run.recall_of_others([Pass(run.intact, run.foreign)])
    effects: dict[int, list[SingleEffect]] = {c: [] for c in range(run.C)}
    for k, (of_own_pass, of_others_pass) in enumerate(asked.single):
        own = run.made(of_own_pass)
        others = run.made(of_others_pass)
        own_drop = own_before - run.recall(own.outcome)
        others_change = run.recall_of_others([others]) - others_before
        of_own = _of_log_odds(run, own)
        of_others = _of_other_classes(run, others)
        change = others.outcome.value("log_odds") - run.intact.value("log_odds")
        others_log_odds = mean_of_others(others.classes, run.labels, change, run.C)
        for c in plan.weighted:
            # None where a class has no more channels.
            for column in plan.relevant[c][k : k + 1].tolist():
                effects[c].append(
                    SingleEffect(
                        channel=plan.interpretation.channels[column],
                        weight=float(plan.interpretation.coef[c][column]),
                        own_drop=float(own_drop[c]),
                        others_change=float(others_change[c]),
                        log_odds_drop=-float(of_own.mean[c]),
                        log_odds_stderr=of_own.of(c).stderr(),
                        others_log_odds_change=float(others_log_odds[c]),
                        others_log_odds_stderr=of_others.of(c).stderr(),
                    )
                )
    return effects


def _turns(asked: int | None, n_images: int, n_named: int) -> int:
    """Return in how many passes each image loses the channels of another class, of ``n_named`` that have any."""
    if asked is None:
        asked = min(max(2, -(-_ENOUGH // n_images)), _MOST_TURNS)
    # After as many, each image has met every other class.
    return max(1, min(asked, n_named - 1))


def _covered(run: Passes, turns: int) -> float:
    """Return the share of pairs (an image's class, another class with channels) that so many turns cover.

    NaN where there is no pair.
    """
    named = run.rows.named
    pairs = int((np.count_nonzero(named) - named[run.support > 0]).sum())
    if not pairs:
        return math.nan
    cells = np.unique([run.labels * run.C + run.foreign_classes(turn) for turn in range(turns)])
    # A row whose image has every label loses its own.
    met = np.count_nonzero(cells // run.C != cells % run.C)
    return met / pairs
