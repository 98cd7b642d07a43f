"""S6: are the networks, classes and channels found that rely on a cue, beside what the literature suspects.

    python -m experiments.cues.run [--work FOLDER] [--only 0-59]

Looks at the networks that ``experiments.cues.train`` left in the working folder. What was found of each is kept there,
so that a second run goes on and several may share the work; ``results.json`` and the page are written once all are
there. The usual shares are those of ``experiments.cues.reference``, from the networks of the split "choose" alone, and
what the literature suspects is ``experiments.cues.compared``'s.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.common.pages import committed, fill
from experiments.common.runner import Results, command, rounded
from experiments.cues.plan import Subject, split_of, subjects
from experiments.cues.table import COMMAND, text
from experiments.cues.train import WORK, chosen, kept_file, network
from experiments.cues.truth import channel_truth, independent
from interpnet.scores import collect_scores
from interpnet.shortcuts import Findings, find
from interpnet.support.io import write_text
from interpnet.support.types import Float64

HERE = Path(__file__).parent
_IMAGES = 200  # of each class
_BATCH = 100


def looked_at(subject: Subject, work: Path) -> dict[str, Any]:
    """Return what is found of a network: by class, by channel, and what the rivals say."""
    model = network(subject, work)
    images, labels, _ = split_of(subject, "train", work)
    began = time.perf_counter()
    batches = list(zip(torch.split(images, _BATCH), torch.split(labels, _BATCH), strict=True))
    found = find(model, batches, images=_IMAGES, seed=subject.seed, max_batch=_BATCH, progress=False)
    seconds = time.perf_counter() - began
    return {
        "number": subject.number,
        "passes": found.passes,
        "seconds": seconds,
        "images": found.n,
        "classes": [_class_line(one) for one in sorted(found.classes, key=lambda one: one.index)],
        "channels": _channels(subject, model, found, work),
    }


def _class_line(one: Any) -> dict[str, Any]:
    numbers = {name: float(getattr(one, name)) for name in ("share", "low", "high", "usual", "detectable", "raised")}
    return {"index": one.index, "part": one.part, "kind": one.kind, "confirmed": one.confirmed, **numbers}


def _channels(subject: Subject, model: torch.nn.Module, found: Findings, work: Path) -> list[list[float]]:
    """Return [class, contribution, share, truth] of the ten channels that contribute most to each class.

    The share is the part's, the truth the cue's in what class and cue do to the score, on images whose cue is
    independent of the class; 0 without a cue.
    """
    split = independent(subject, work)
    table = collect_scores(model, [(split.images, split.labels)], progress=False)
    scores: Float64 = np.asarray(table.X, dtype=np.float64)
    truth = channel_truth(scores, split, found.shares.shape[1])
    shares = truth.share(np.ones_like(truth.by_class))
    lines = []
    for one in found.classes:
        for carrier in one.channels:
            known = shares[one.index, table.channels.position(carrier.channel)]
            if np.isfinite(known) and np.isfinite(carrier.share):
                lines.append([one.index, *(round(x, 2) for x in (carrier.contribution, carrier.share, float(known)))])
    return lines


@command(only="the numbers of the networks, such as 0-59 or 3,7,9")
def main(
    *, work: Path = WORK, only: str = "0-399", out: Path = HERE / "results.json", page: Path = HERE / "README.md"
) -> None:
    """Look at what is missing; with all there, write the results and the page."""
    for subject in chosen(only):
        if not kept_file(subject, work, "found").exists():
            line = looked_at(subject, work)
            write_text(kept_file(subject, work, "found"), json.dumps(rounded(line, 3)))
            worst = max(one["share"] - one["usual"] for one in line["classes"])
            print(subject.number, subject.source, subject.kind, f"{worst:+.2f}", f"{line['seconds']:.1f} s", flush=True)
    if all(kept_file(subject, work, "found").exists() for subject in subjects()):
        results = Results(out)
        results.lines = [json.loads(kept_file(s, work, "found").read_text()) for s in subjects()]
        results.write()
        fill(
            page, COMMAND, text(results.lines, committed(__file__, "networks.json"), committed(__file__, "rivals.json"))
        )
