"""What is read off a network, once: decisions, log-odds, scores and contributions; kept in a working folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.common.imagenet import Grouped, networks
from experiments.common.subjects import batches
from experiments.cue_conflict.effects import told_apart
from experiments.cue_conflict.images import CLASSES, conflicts, halves, members, samples, textures
from interpnet.reliance import Contributions, collect_contributions
from interpnet.scores import collect_scores
from interpnet.support.io import atomic_path
from interpnet.support.types import Int64

Arrays = dict[str, Any]


def measured(network: str, work: Path, each: int | None = None) -> Arrays:
    """Return the arrays of a network, from the working folder where they are there.

    ``probabilities`` (N, 1000) and ``logits`` (N, 16) of the conflicts, the classes' logits being the logsumexp of
    their members'; ``shape``, ``texture`` and their pictures (N,); ``scores`` (N, m) with ``layer`` (m,) and
    ``layers``; ``apart`` (m,), how well a score tells the textures of photographs apart; ``natural``, what every
    channel contributes to each class (16, m), specific, on photographs, and ``natural_counts`` (16,) of these;
    ``used0`` and ``used1``, the same on both halves of the conflicts for the class that the network says.
    ``seconds`` is how long all that took. ``each`` takes at most so many images of everything.
    """
    file = work / f"{network}{'' if each is None else f'-{each}'}.npz"
    if not file.exists():
        began = time.perf_counter()
        arrays = _measured(network, each)
        arrays["seconds"] = time.perf_counter() - began
        with atomic_path(file) as part, part.open("wb") as stream:
            np.savez(stream, **arrays)
    with np.load(file, allow_pickle=False) as kept:
        return dict(kept)


def _measured(network: str, each: int | None) -> Arrays:
    model, prepare = networks(network)
    asked = Grouped(model, members()).eval()
    found = conflicts(prepare, each)
    table = collect_scores(asked, batches(found.images, found.shape), progress=False)
    arrays: Arrays = found._asdict()
    del arrays["images"]
    arrays |= _outputs(model, found.images)
    arrays["scores"] = np.asarray(table.X, dtype=np.float32)
    arrays["layers"] = np.array(table.channels.layers)
    arrays["layer"] = np.repeat(np.arange(len(table.channels.sizes)), [size for _, size in table.channels.sizes])
    half = halves(found.shape_picture)
    for part in (0, 1):
        # Every label is one that the network says; those that come do not matter.
        used = _contributions(asked, found.images[half == part], found.shape[half == part], targets="predictions")
        arrays[f"used{part}"] = used.specific().astype(np.float32)
        arrays[f"used{part}_counts"] = used.counts
    own = samples(prepare, each)
    natural = _contributions(asked, *own)
    arrays["natural"], arrays["natural_counts"] = natural.specific().astype(np.float32), natural.counts
    pictures, _ = textures(prepare, each)
    seen = collect_scores(asked, batches(*pictures), progress=False)
    arrays["apart"] = told_apart(np.asarray(seen.X, dtype=np.float32), pictures.labels)
    return arrays


def _outputs(model: nn.Module, images: Tensor) -> Arrays:
    """Return the outputs' probabilities and the classes' logits."""
    with torch.no_grad():
        logits = torch.cat([model(part).double() for part in torch.split(images, 25)])
    groups = torch.stack([logits[:, group].logsumexp(1) for group in members()], 1)
    return {"probabilities": logits.softmax(1).numpy(), "logits": groups.numpy()}


def _contributions(asked: nn.Module, images: Tensor, labels: Int64, targets: str = "labels") -> Contributions:
    return collect_contributions(
        asked, batches(images, labels), classes=CLASSES, images=None, targets=targets, progress=False
    )
