"""S1's claims, from evaluation.json."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from experiments.common.claims import Claim
from experiments.common.pages import paired, signed
from experiments.shortcuts.audit import FLAG
from experiments.shortcuts.table import (
    PROPOSED,
    WITH_MASKS,
    Lines,
    auc,
    channels_of,
    relies,
    repair_gains,
    told,
)

_FILE = Path(__file__).parent / "evaluation.json"
_OTHERS = ("SpRAy-like clusters", "class-activation difference", "random")


def claims() -> list[Claim]:
    """Return what S1 says, decided by its numbers."""
    if not _FILE.exists():
        return []
    lines: Lines = json.loads(_FILE.read_text())
    return [_networks(lines), _with_masks(lines), _channels(lines), _removal(lines), _taught(lines)]


def _area(lines: Lines, name: str) -> tuple[float, float, float]:
    return auc([relies(x) for x in lines], [x["statistics"][name] for x in lines])


def _networks(lines: Lines) -> Claim:
    """Hold if the interval's lower end is above the area of every comparison; in part if above one half."""
    area, low, high = _area(lines, PROPOSED)
    others = {name: _area(lines, name)[0] for name in _OTHERS}
    verdict = "holds" if low > max(others.values()) else "holds in part" if low > 0.5 else "does not hold"
    return Claim(
        "S1",
        "Without masks, the audit's context share tells networks that rely on a planted cue",
        f"ROC-AUC {area:.2f} ({low:.2f} to {high:.2f}), {len(lines)} networks; "
        + ", ".join(f"{name} {value:.2f}" for name, value in others.items()),
        verdict,
        "the subject is assumed in the middle: petals outside it count as surroundings",
    )


def _with_masks(lines: Lines) -> Claim:
    """Hold if the interval's lower end is above 0.9."""
    area, low, high = _area(lines, WITH_MASKS)
    return Claim(
        "S1",
        "With the subject's mask, the context share tells them",
        f"ROC-AUC {area:.2f} ({low:.2f} to {high:.2f})",
        "holds" if low > 0.9 else "holds in part" if low > 0.5 else "does not hold",
        "cues that touch the subject",
    )


def _channels(lines: Lines) -> Claim:
    """Hold if flagged channels are right in more than 80 %, and more often than as many by activation difference."""
    every = channels_of(lines, relying=False)
    found = {how: told(every, how, FLAG[how]) for how in FLAG}
    rate = float(np.mean([c["truth"] > 0.5 for c in every]))
    best = min(found[how]["precision"] for how in FLAG)
    return Claim(
        "S1",
        "Channels flagged by the audit follow the cue rather than the class",
        f"precision {found['disc']['precision']:.2f} without and {found['mask']['precision']:.2f} with masks; "
        f"any channel {rate:.2f}",
        "holds" if best > 0.8 else "holds in part" if best > rate else "does not hold",
        "on networks without a cue every flag is wrong",
    )


def _removal(lines: Lines) -> Claim:
    """Hold if more is won where the cue disagrees, and nothing lost without a cue, beyond the intervals."""
    name = "flagged removed, last layer (disc)"
    gain, price = paired(repair_gains(lines, name, "disagree")), paired(repair_gains(lines, name, "clean"))
    won = gain[1] > 0
    return Claim(
        "S1",
        "Removing the flagged channels repairs a network",
        f"{signed(gain)} points where the cue disagrees, {signed(price)} without a cue ({_n(lines)} networks)",
        "holds" if won and price[2] >= 0 else "holds in part" if won else "does not hold",
        "what is left was never trained to decide alone: on the same features, a classifier fitted on swaps wins",
    )


def _taught(lines: Lines) -> Claim:
    """Hold if the interval of the gain is above zero and above that of fitting anew on the images as they are."""
    name, control = "classifier fitted on swapped surroundings (mask)", "classifier fitted anew"
    gain = paired(repair_gains(lines, name, "disagree"))
    plain = repair_gains(lines, control, "disagree")
    more = paired([a - b for a, b in zip(repair_gains(lines, name, "disagree"), plain, strict=True)])
    return Claim(
        "S1",
        "Fitting the classifier again on images with swapped surroundings repairs a network",
        f"{signed(gain)} points where the cue disagrees, {signed(more)} more than fitting it on the images as they are",
        "holds" if gain[1] > 0 and more[1] > 0 else "holds in part" if gain[1] > 0 else "does not hold",
        "networks that rely on the cue alone have no feature of the petals left",
    )


def _n(lines: Lines) -> int:
    return sum(map(relies, lines))
