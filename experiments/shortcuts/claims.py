"""S1's claims, from evaluation.json."""

from __future__ import annotations

import numpy as np

from experiments.common.claims import Claim, graded
from experiments.common.pages import committed
from experiments.common.tables import Interval, paired, signed
from experiments.shortcuts import table
from experiments.shortcuts.audit import FLAG
from experiments.shortcuts.table import PROPOSED, WITH_MASKS, Lines

_OTHERS = ("SpRAy-like clusters", "class-activation difference", "random")  # what the proposed statistic has to beat


def claims() -> list[Claim]:
    """Return what S1 says, decided by its numbers."""
    lines: Lines = committed(__file__, "evaluation.json")
    return [_networks(lines), _with_masks(lines), _channels(lines), _removal(lines), _taught(lines)]


def _area(found: Interval) -> str:
    return f"ROC-AUC {found.mean:.2f} ({found.low:.2f} to {found.high:.2f})"


def _above_chance(found: Interval) -> tuple[tuple[str, Interval], ...]:
    """Return the effect for the forest plot: 0.5 is what a coin reaches."""
    return (("ROC-AUC less 0.5", Interval(*(value - 0.5 for value in found)).times(100)),)


def _networks(lines: Lines) -> Claim:
    """Hold if the interval's lower end is above the area of every comparison; in part if above one half."""
    found = table.area_of(lines, PROPOSED)
    others = {name: table.area_of(lines, name).mean for name in _OTHERS}
    return Claim(
        "S1",
        "Without masks, the context share tells networks that rely on a planted cue",
        f"ROC-AUC {found.mean:.2f}",
        f"{_area(found)}, {len(lines)} networks; {', '.join(f'{name} {value:.2f}' for name, value in others.items())}",
        graded(full=found.low > max(others.values()), part=found.low > 0.5),
        "the subject is assumed in the middle: petals outside it count as surroundings",
        effects=_above_chance(found),
    )


def _with_masks(lines: Lines) -> Claim:
    """Hold if the interval's lower end is above 0.9."""
    found = table.area_of(lines, WITH_MASKS)
    return Claim(
        "S1",
        "With the subject's mask, the context share tells them",
        f"ROC-AUC {found.mean:.2f}",
        _area(found),
        graded(full=found.low > 0.9, part=found.low > 0.5),
        "cues that touch the subject",
        effects=_above_chance(found),
    )


def _channels(lines: Lines) -> Claim:
    """Hold if flagged channels are right in more than 80 %, and more often than as many by activation difference."""
    every = table.channels_of(lines, relying=False)
    precision = {how: table.flag_quality(every, how, FLAG[how])["precision"] for how in FLAG}
    rate = float(np.mean([c["truth"] > 0.5 for c in every]))  # what flagging at random would reach
    least = min(precision.values())
    return Claim(
        "S1",
        "Channels flagged by the context share follow the cue rather than the class",
        f"precision {precision['disc']:.2f}",
        f"precision {precision['disc']:.2f} without and {precision['mask']:.2f} with masks; any channel {rate:.2f}",
        graded(full=least > 0.8, part=least > rate),
        "on networks without a cue every flag is wrong",
    )


def _removal(lines: Lines) -> Claim:
    """Hold if more is won where the cue disagrees, and nothing lost without a cue, beyond the intervals."""
    name = "flagged removed, last layer (disc)"
    gain, price = (paired(table.repair_gains(lines, name, split)) for split in ("disagree", "clean"))
    return Claim(
        "S1",
        "Removing the flagged channels repairs a network",
        f"{signed(gain)} points",
        f"{signed(gain)} points where the cue disagrees, {signed(price)} without a cue "
        f"({sum(map(table.relies, lines))} networks)",
        graded(full=gain.above and not price.below, part=gain.above),
        "what is left was never trained to decide alone: on the same features, a classifier fitted on swaps wins",
        effects=(("where the cue disagrees", gain), ("without a cue", price)),
    )


def _taught(lines: Lines) -> Claim:
    """Hold if the interval of the gain is above zero and above that of fitting again on the images as they are."""
    swapped, plain = (
        table.repair_gains(lines, name, "disagree")
        for name in ("classifier fitted on swapped surroundings (mask)", "classifier fitted again")
    )
    gain = paired(swapped)
    more = paired([a - b for a, b in zip(swapped, plain, strict=True)])
    return Claim(
        "S1",
        "Fitting the classifier again on images with swapped surroundings repairs a network",
        f"{signed(gain)} points",
        f"{signed(gain)} points where the cue disagrees, {signed(more)} more than fitting it on the images as they are",
        graded(full=gain.above and more.above, part=gain.above),
        "networks that rely on the cue alone have no feature of the petals left",
        effects=(("where the cue disagrees", gain), ("more than without swaps", more)),
    )
