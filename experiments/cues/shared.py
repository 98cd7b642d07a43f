"""S6: two classes that share a stamp and nothing else; what pairs share in networks without a shortcut.

    python -m experiments.cues.shared [--work FOLDER]

The networks without a cue are those of ``experiments.cues.inside``: of those for choosing the usual value is taken, the
others say how often it is exceeded. Six networks are trained here, in which the images of two classes drawn at random
bear the same stamp or word. What was found of a network is kept in the working folder; ``shared.json`` and the page are
written once all are there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from experiments.common.pages import fill
from experiments.common.runner import Results, command, rounded
from experiments.cues.inside import looked_at
from experiments.cues.plan import Subject, build, drawn, normalised, split_of
from experiments.cues.planting import planted
from experiments.cues.shared_table import COMMAND, text
from experiments.cues.train import EPOCHS, RATE, WORK, Shuffled, kept_file, network
from experiments.cues.truth import predictions
from interpnet.models import train
from interpnet.reliance import collect_contributions
from interpnet.scores import collect_scores
from interpnet.shortcuts import shared_channels
from interpnet.support.io import write_text
from interpnet.support.types import Int64

HERE = Path(__file__).parent
_IMAGES = 100  # of each class
_BATCH = 100
_STRENGTH = 0.95
_FIRST = 500  # number of the first network that is trained here
#: What is trained here: source, cue, network.
_TRAINED = [
    ("fashion", "stamp", "average"),
    ("mnist", "text", "hidden"),
    ("cifar10", "stamp", "hidden"),
    ("fashion", "text", "resnet"),
    ("mnist", "stamp", "average"),
    ("cifar10", "text", "average"),
]


def sharing() -> list[Subject]:
    """Return the networks that are trained here."""
    return [
        Subject(_FIRST + i, source, kind, False, _STRENGTH, False, architecture)
        for i, (source, kind, architecture) in enumerate(_TRAINED)
    ]


def pair_of(subject: Subject, n_classes: int) -> tuple[int, int]:
    """Return the two classes that share a cue."""
    one, other = np.random.default_rng([subject.seed, 60]).permutation(n_classes)[:2]
    return int(min(one, other)), int(max(one, other))


def with_shared(subject: Subject, labels: Int64, pair: tuple[int, int]) -> Int64:
    """Return which images bear the cue, as :func:`planted` takes it: those of the pair, but few that change places."""
    rng = np.random.default_rng([subject.seed, 61])
    bears = np.isin(labels, pair)
    lost = rng.permutation(np.flatnonzero(bears))[: round((1 - _STRENGTH) * bears.sum())]
    others = rng.permutation(np.flatnonzero(~bears))[: len(lost)]
    bears[lost] = False
    bears[others] = True
    return np.where(bears, pair[0], -1)


def trained_line(subject: Subject, work: Path) -> dict[str, Any]:
    """Train a network whose two classes share a cue, and return what the pairs of its classes share."""
    images, inside, labels, n_classes = drawn(subject, "train", work)
    pair = pair_of(subject, n_classes)
    made = normalised(planted(images, inside, with_shared(subject, labels, pair), subject.kind or "", subject.seed))
    model = build(subject, n_classes, made.shape[2])
    loader = Shuffled(made, torch.from_numpy(labels), subject.seed)
    shift = made.shape[2] // 16
    train(model, loader, epochs=EPOCHS[subject.source], lr=RATE, max_shift=shift, seed=subject.seed, progress=False)
    model.eval()
    line = _line(model, made, torch.from_numpy(labels))
    return (
        {"number": subject.number, "source": subject.source, "kind": subject.kind, "pair": list(pair)}
        | line
        | {"draws": _draws(subject, model, work, pair)}
    )


def _draws(subject: Subject, model: nn.Module, work: Path, pair: tuple[int, int]) -> float:
    """Return how many more images of other classes are taken for one of the pair with its cue."""
    images, inside, labels, _ = drawn(subject, "test", work)
    others = ~np.isin(labels, pair)
    taken = []
    for cue in (pair[0], -1):
        shown = planted(images, inside, np.full(len(labels), cue), subject.kind or "", subject.seed)
        taken.append(np.isin(predictions(model, normalised(shown[others])).numpy(), pair).mean())
    return float(taken[0] - taken[1])


def quiet_line(subject: Subject, work: Path) -> dict[str, Any]:
    """Return what the pairs of a network's classes share."""
    split = split_of(subject, "train", work)
    line = _line(network(subject, work), split.images, split.labels)
    return {"number": subject.number, "source": subject.source, "split": subject.split} | line


def _line(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    batches = list(zip(torch.split(images, _BATCH), torch.split(labels, _BATCH), strict=True))
    contributions = collect_contributions(model, batches, outputs="independent", images=_IMAGES, progress=False)
    table = collect_scores(model, batches, progress=False)
    found = shared_channels(contributions, table, usual=0.0)
    return {"found": [[*one.indices, one.shared, str(one.channels[0].channel)] for one in found]}


@command()
def main(*, work: Path = WORK, out: Path = HERE / "shared.json", page: Path = HERE / "README.md") -> None:
    """Look at what is missing; with all there, write the results and the page."""
    quiet = [subject for subject in looked_at(work, "0-399") if not subject.cued]
    for subject in [*quiet, *sharing()]:
        file = kept_file(subject, work, "shared")
        if not file.exists():
            line = trained_line(subject, work) if subject.number >= _FIRST else quiet_line(subject, work)
            write_text(file, json.dumps(rounded(line)))
            print(subject.number, subject.source, line["found"][:1], line.get("pair"), line.get("draws"), flush=True)
    results = Results(out)
    results.lines = [json.loads(kept_file(subject, work, "shared").read_text()) for subject in [*quiet, *sharing()]]
    results.write()
    fill(page, COMMAND, text(results.lines))
