"""S6: what shares are usual in networks without a shortcut, from the networks of the split "choose" alone.

    python -m experiments.cues.reference [--work FOLDER]

Writes ``reference.json``: for each part the quantile of its share over the classes of the networks that rely on no cue.
``interpnet.shortcuts`` holds the same numbers.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from experiments.common.runner import command
from experiments.cues.plan import Subject, drawn, split_of, subjects
from experiments.cues.train import WORK, facts_of, network
from interpnet.shortcuts import find
from interpnet.support.io import write_text
from interpnet.support.types import Float64

HERE = Path(__file__).parent
QUANTILE = 0.98
_BATCH = 100
OUTSIDE = "outside the subject"
_PLACES = {"top", "middle", "bottom", "left", "right"}
_LEAST = 0.10  # no share below is suspicious: a tenth of what makes a class is little, whatever it goes with
_MASKED = ("flowers", "photographs", "fashion", "mnist")  # sources that know where the subject is


def shares(subject: Subject, work: Path) -> dict[str, Float64]:
    """Return the screened share (C,) of every part; what lies outside the subject's mask is one where it is known.

    The corners are one part, and so are the middles of the edges: where a flower's petals are is no rule for others.
    """
    model = network(subject, work)
    images, labels, _ = split_of(subject, "train", work)
    batches = list(zip(torch.split(images, _BATCH), torch.split(labels, _BATCH), strict=True))
    found = find(model, batches, seed=subject.seed, max_batch=_BATCH, progress=False)
    every: dict[str, list[Float64]] = {}
    for name, values in zip(found.parts, found.shares, strict=True):
        every.setdefault(_group(name), []).append(values)
    if subject.source in _MASKED and subject.kind != "position":
        masks = torch.from_numpy(drawn(subject, "train", work)[1].copy())
        masks[~masks.flatten(1).any(1)] = True  # a subject too dark to be seen: nothing around it
        found = find(model, batches, masks=masks, seed=subject.seed, max_batch=_BATCH, progress=False)
        every[OUTSIDE] = [found.shares[found.parts.index(OUTSIDE)]]
    return {name: np.concatenate(values) for name, values in every.items()}


def _group(name: str) -> str:
    if not set(name.split()) <= _PLACES:
        return name
    return "edge" if "middle" in name else "corner"


@command(out="where the usual shares are kept")
def main(*, work: Path = WORK, out: Path = HERE / "reference.json") -> None:
    """Look at the networks of "choose" that rely on no cue, and keep the quantiles."""
    every: dict[str, list[Float64]] = {}
    for subject in subjects():
        if subject.split != "choose" or facts_of(subject, work)["behaviour"]["relies"]:
            continue
        print(subject.number, subject.source, subject.kind, flush=True)
        for part, values in shares(subject, work).items():
            every.setdefault(part, []).append(values)
    usual = {}
    for part, found in every.items():
        quantile = float(np.nanquantile(np.concatenate(found), QUANTILE))
        usual[part] = round(max(quantile, _LEAST), 2)
    write_text(out, json.dumps(usual, indent=1) + "\n")
