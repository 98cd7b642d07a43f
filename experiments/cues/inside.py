"""S6: cues inside the subject, by pasting what channels answer to into other images and taking it out of their own.

    python -m experiments.cues.inside [--work FOLDER] [--only 0-59]

Networks with a tag on the subject, and a part of those with a stamp in a corner and of those that rely on nothing; the
parts were fixed before any of their results was there. Of every class the three channels that contribute most beyond
what they contribute to any other class. What is found of one network is kept in the working folder, so that a second
run goes on; ``inside.json`` and the page are written once all are there.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from experiments.common.pages import committed, fill
from experiments.common.runner import Results, command, rounded
from experiments.cues.inside_table import COMMAND, best, concentration, text
from experiments.cues.plan import Split, Subject, split_of
from experiments.cues.train import WORK, chosen, facts_of, kept_file, network
from experiments.cues.truth import channel_truth, independent
from interpnet.engine import Channel
from interpnet.plotting import save_png
from interpnet.reliance import collect_contributions
from interpnet.scores import collect_scores
from interpnet.shortcuts import Pasted, paste_probe
from interpnet.support.io import write_text
from interpnet.support.types import Bools

HERE = Path(__file__).parent
#: Of each kind, of the networks for choosing and of those that report, numbers that this divides.
_EVERY = {"tag": (1, 1), "stamp": (2, 2), None: (6, 4)}
_CHANNELS = 3  # of each class
_IMAGES = 100  # of each class
_CONTRIBUTING = 50
_BATCH = 100
_PICTURED = 252  # the network of the picture, which reports
_ROWS = 3
_ENLARGED = 2
_COVERED = 0.5  # of a cue's pixels by a patch that counts as its


def looked_at(work: Path, only: str) -> list[Subject]:
    """Return the networks that are looked at."""
    found = []
    for subject in chosen(only):
        behaviour = facts_of(subject, work)["behaviour"]
        kind = subject.kind if subject.cued else None
        if kind not in _EVERY or (kind is None and (behaviour["relies"] or behaviour["classes"])):
            continue
        if subject.number % _EVERY[kind][subject.split == "report"] == 0:
            found.append(subject)
    return found


def probed(subject: Subject, work: Path) -> dict[str, Any]:
    """Return what pasting and removing does, for every class and channel."""
    model = network(subject, work)
    split = split_of(subject, "train", work)
    batches = list(zip(torch.split(split.images, _BATCH), torch.split(split.labels, _BATCH), strict=True))
    began = time.perf_counter()
    contributions = collect_contributions(model, batches, images=_CONTRIBUTING, progress=False)
    channels = {
        k: [channel for channel, _ in contributions.ranking(k)[:_CHANNELS]] for k in range(len(contributions.classes))
    }
    probe = paste_probe(model, batches, channels, images=_IMAGES, seed=subject.seed, max_batch=_BATCH, progress=False)
    seconds = time.perf_counter() - began
    truth = _truth(subject, model, work, len(channels))
    cued = _where(subject, split, work)
    return {
        "number": subject.number,
        "seconds": seconds,
        "passes": probe.passes,
        "images": min(len(split.labels), _IMAGES * len(channels)),
        "pairs": [_line(pair, truth, cued, split) for pair in probe.pairs],
    }


def _truth(subject: Subject, model: nn.Module, work: Path, n_classes: int) -> dict[tuple[int, Channel], float]:
    """Return what share of the effects of class and cue on a channel's score is the cue's."""
    split = independent(subject, work)
    table = collect_scores(model, [(split.images, split.labels)], progress=False)
    truth = channel_truth(np.asarray(table.X, dtype=np.float64), split, n_classes)
    shares = truth.share(np.ones_like(truth.by_class))
    return {(k, c): float(shares[k, j]) for k in range(n_classes) for j, c in enumerate(table.channels)}


def _where(subject: Subject, split: Split, work: Path) -> Bools | None:
    """Return (N, H, W): where the cue is in the training images."""
    if subject.kind is None:
        return None
    without = split_of(subject, "train", work, draw="absent").images
    found: Bools = ((split.images - without).abs().sum(1) > 0).numpy()
    return found


def _line(pair: Pasted, truth: dict[tuple[int, Channel], float], cued: Bools | None, split: Split) -> dict[str, Any]:
    moves = {
        f"{name} {part}": getattr(getattr(pair, name), part)
        for name in ("raised", "fell")
        for part in ("whole", "control", "beyond", "low", "p")
    }
    plain = ("index", "n", "area", "gap", "reordered", "elsewhere", "taken", "taken_before", "taken_control")
    follows = truth[(pair.index, pair.channel)]
    return {
        "channel": str(pair.channel),
        **{name: getattr(pair, name) for name in plain},
        **moves,
        "follows": follows if np.isfinite(follows) else None,
        "is the cue": _is_cue(pair, cued, split),
    }


def _is_cue(pair: Pasted, cued: Bools | None, split: Split) -> float | None:
    """Return in which share of the images shown the patch covers half of the class's own cue; None without one."""
    if cued is None:
        return None
    found = []
    for example in (*pair.pasted, *pair.removed):
        places = example.places
        own = cued[example.donor] & (split.cue[example.donor] == pair.index)
        if places is not None and own.any():
            found.append(float((places[0].numpy() & own).sum() / own.sum()) >= _COVERED)
    return float(np.mean(found)) if found else 0.0


def sheet(work: Path, file: Path) -> None:
    """Write what a most concentrated patch does: image, donor, with the patch; image of the class, without it."""
    subject = chosen(str(_PICTURED))[0]
    line = best(json.loads(kept_file(subject, work, "inside").read_text()))
    first = max(line["pairs"], key=concentration)
    layer, _, index = first["channel"].rpartition("[")
    split = split_of(subject, "train", work)
    channels = {first["index"]: [Channel(layer, int(index.rstrip("]")))]}
    probe = paste_probe(
        network(subject, work),
        [(split.images, split.labels)],
        channels,
        images=_IMAGES,
        seed=subject.seed,
        progress=False,
    )
    rows = []
    for pasted, removed in zip(probe.pairs[0].pasted[:_ROWS], probe.pairs[0].removed[:_ROWS], strict=True):
        if pasted.pictures is None or removed.pictures is None:
            continue
        pictures = torch.cat([pasted.pictures, removed.pictures[[0, 2]]])
        bytes_of = ((pictures + 2) / 4 * 255).clamp(0, 255).byte().movedim(1, -1).numpy()
        rows.append(np.concatenate([np.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=255) for x in bytes_of], 1))
    grid = np.concatenate(rows).repeat(_ENLARGED, 0).repeat(_ENLARGED, 1)
    save_png(file, grid)


@command(only="the numbers of the networks, such as 0-59 or 3,7,9")
def main(
    *, work: Path = WORK, only: str = "0-399", out: Path = HERE / "inside.json", page: Path = HERE / "README.md"
) -> None:
    """Look at what is missing; with all there, write the results and the page."""
    for subject in looked_at(work, only):
        if not kept_file(subject, work, "inside").exists():
            line = probed(subject, work)
            write_text(kept_file(subject, work, "inside"), json.dumps(rounded(line, 4)))
            print(subject.number, subject.source, subject.kind, f"{line['seconds']:.1f} s", flush=True)
    every = looked_at(work, "0-399")
    if all(kept_file(subject, work, "inside").exists() for subject in every):
        results = Results(out)
        results.lines = [best(json.loads(kept_file(subject, work, "inside").read_text())) for subject in every]
        results.write()
        sheet(work, page.with_name("inside.png"))
        fill(page, COMMAND, text(results.lines, committed(__file__), committed(__file__, "networks.json")))
