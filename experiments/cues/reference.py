"""S6: what shares are usual in networks without a shortcut, from the networks of the split "choose" alone.

    python -m experiments.cues.reference [--work FOLDER] [--only 0-59]

Resumes, and several processes may share the work. Writes ``reference.json``: for each part the quantile of its share
over the classes of the networks that rely on no cue.
``interpnet.shortcuts`` holds the same numbers.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from experiments.common.runner import command
from experiments.cues.plan import Subject, drawn, split_of, subjects
from experiments.cues.train import WORK, chosen, facts_of, kept_file, network
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


@command(only="the numbers of the networks, such as 0-59 or 3,7,9", out="where the usual shares are kept")
def main(*, work: Path = WORK, only: str = "0-399", out: Path = HERE / "reference.json") -> None:
    """Look at the networks of "choose" that rely on no cue and are missing; with all there, keep the quantiles."""
    quiet = [s for s in subjects() if s.split == "choose" and not facts_of(s, work)["behaviour"]["relies"]]
    numbers = {subject.number for subject in chosen(only)}
    for subject in quiet:
        file = kept_file(subject, work, "usual")
        if subject.number in numbers and not file.exists():
            print(subject.number, subject.source, subject.kind, flush=True)
            found = {part: [float(x) for x in values] for part, values in shares(subject, work).items()}
            write_text(file, json.dumps(found))
    if not all(kept_file(subject, work, "usual").exists() for subject in quiet):
        return
    every: dict[str, list[float]] = {}
    for subject in quiet:
        for part, values in json.loads(kept_file(subject, work, "usual").read_text()).items():
            every.setdefault(part, []).extend(values)
    usual = {part: round(max(float(np.nanquantile(found, QUANTILE)), _LEAST), 2) for part, found in every.items()}
    write_text(out, json.dumps(usual, indent=1) + "\n")
