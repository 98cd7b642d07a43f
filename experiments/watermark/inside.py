"""S2: what the watermark's channel answers to, cut by its heatmap and pasted into photographs without the watermark.

    pip install imagenet-w -e '.[photos]'
    python -m experiments.watermark.inside [--work runs/watermark]

The channels are those that contribute most to the carton on the one photograph of a carton, beyond what they contribute
to any other of some classes. Photographs of other classes with the watermark give the patch; what they get is known to
be the watermark alone. ``inside.json`` and the page are written at the end.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.common.imagenet import networks
from experiments.common.pages import fill
from experiments.common.runner import Results, command, rounded
from experiments.common.tables import markdown
from experiments.watermark.photographs import photographs, watermark
from experiments.watermark.run import CARTON
from interpnet.engine import log_odds
from interpnet.reliance import collect_contributions
from interpnet.shortcuts import Pasted, overlaid, paste_probe

HERE = Path(__file__).parent
COMMAND = "experiments.watermark.inside"
_BATCH = 8
_OTHERS = 40  # photographs that get patches, and whose classes the channels are compared with
_MARKED = 16  # photographs with the watermark, which give patches
_CHANNELS = 3
_DONORS = 10


def line_of(pair: Pasted, mark: torch.Tensor) -> dict[str, Any]:
    """Return a channel's figures, and how much of the watermark the patches shown cover."""
    covered = [
        float((example.places[0] & mark).sum() / example.places[0].sum())
        for example in (*pair.pasted, *pair.removed)
        if example.places is not None
    ]
    return {
        "channel": str(pair.channel),
        "n": pair.n,
        "area": pair.area,
        "gap": pair.gap,
        "raised": list(vars(pair.raised).values()),
        "fell": list(vars(pair.fell).values()),
        "reordered": pair.reordered,
        "elsewhere": pair.elsewhere,
        "in the watermark": float(np.mean(covered)),
        "concentration": pair.concentration,
    }


def table(lines: list[dict[str, Any]]) -> str:
    """Return the page's table."""
    facts, rows = lines[0], lines[1:]
    head = [
        "channel",
        "patch, % of the image",
        "of the patch in the watermark, %",
        "carton rises",
        "beyond the control",
    ]
    head += ["pixels in another order", "at another place", "lost without it, beyond the control"]
    body = [
        [
            row["channel"],
            f"{100 * row['area']:.1f}",
            f"{100 * row['in the watermark']:.0f}",
            f"{row['raised'][0]:+.2f}",
            "{2:+.2f} ({3:+.2f} to {4:+.2f})".format(*row["raised"]),
            f"{row['reordered']:+.2f}",
            f"{row['elsewhere']:+.2f}",
            "{2:+.2f} ({3:+.2f} to {4:+.2f})".format(*row["fell"]),
        ]
        for row in rows
    ]
    told = (
        f"EfficientNet-Lite0; patches of {rows[0]['n']} photographs with the watermark, each on three of {_OTHERS} "
        f"others; log-odds of the carton, which the whole watermark raises by {facts['whole']:.2f} in those that give "
        f"patches. {facts['passes']:.0f} forward passes, {facts['seconds']:.0f} seconds of a busy core."
    )
    return told + "\n\n" + markdown(head, body)


def _whole(model: Any, before: torch.Tensor, images: torch.Tensor, marked: torch.Tensor) -> float:
    """Return by how much the watermark raises the carton's log-odds in the photographs that bear it."""
    values = []
    with torch.no_grad():
        for pixels in (before[marked], images[_OTHERS:]):
            logits = torch.cat([model(part) for part in torch.split(pixels, _BATCH)])
            values.append(log_odds(logits, torch.full((len(logits),), CARTON)).mean())
    return float(values[1] - values[0])


@command(out="where the results are kept", page="which is filled")
def main(
    *, work: Path = Path("runs/watermark"), out: Path = HERE / "inside.json", page: Path = HERE / "README.md"
) -> None:
    """Name the channels, paste and take out their patches, and write the page."""
    model, prepare = networks("efficientnet")
    given = photographs(prepare)
    labels = torch.from_numpy(given.labels)
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(given.labels != CARTON))
    others, marked = (torch.from_numpy(rows) for rows in (chosen[:_OTHERS], chosen[_OTHERS : _OTHERS + _MARKED]))
    carton = torch.nonzero(labels == CARTON).flatten()
    began = time.perf_counter()
    seen = torch.cat([carton, others])
    batches = list(zip(torch.split(given.images[seen], _BATCH), torch.split(labels[seen], _BATCH), strict=True))
    contributions = collect_contributions(model, batches, progress=False)
    channels = [channel for channel, _ in contributions.ranking(CARTON)[:_CHANNELS]]
    overlay = watermark(work)
    images = torch.cat([given.images[others], overlaid(given.images[marked], overlay.picture, overlay.opacity)])
    taken_for = torch.cat([labels[others], torch.full((len(marked),), CARTON)])
    batches = list(zip(torch.split(images, _BATCH), torch.split(taken_for, _BATCH), strict=True))
    probe = paste_probe(model, batches, {CARTON: channels}, donors=_DONORS, max_batch=_BATCH, progress=False)
    facts = {
        "passes": probe.passes,
        "seconds": time.perf_counter() - began,
        "whole": _whole(model, given.images, images, marked),
    }
    results = Results(out)
    results.lines = rounded([facts, *(line_of(pair, overlay.opacity > 0) for pair in probe.pairs)], 3)
    results.write()
    fill(page, COMMAND, table(results.lines))
