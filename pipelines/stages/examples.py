"""Example images: which ones, each explained by its top channels beside other methods and controls."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interpnet.attribution import AttributionWarning, attribute
from interpnet.datasets import stack_images
from interpnet.engine import evaluating, logits_of
from interpnet.errors import InterpNetError, RunFolderError
from interpnet.explanation import Explanation, explain
from interpnet.interpretation import Interpretation
from interpnet.plotting import enlarge, render, save_png
from interpnet.support.io import read_json, write_json

from ..run.config import CONTROLS
from ..run.session import Notes, Session

_SIZE = 192
# A single pixel often outshines the rest of a large map by far; so many share the brightest colour.
_SATURATED = 0.005
_GROUP = 8
# A report with more of them is read by nobody.
_MOST_EXAMPLES = 60


@dataclass(frozen=True)
class Item:
    """An image to explain: its file names' stem, what a reader calls it, and what is known of it."""

    stem: str
    name: str
    index: int | None
    true: int | None
    explained: int | None


def explain_examples(session: Session, found: Interpretation, key: str, notes: Notes) -> dict[str, Any]:
    """Choose test images, explain those that are not explained yet, and return ``examples.json``."""
    subject, folder = session.subject, session.run.folder("explain")
    chosen = choose(session, notes)
    items = [
        Item(f"examples/{n:04d}", subject.test.data.name(i), i, int(subject.test.labels[i]), None)
        for n, i in enumerate(chosen)
    ]
    records: list[dict[str, Any]] = []
    for start in range(0, len(items), _GROUP):
        group = items[start : start + _GROUP]
        saved = [_saved(session, item, key) for item in group]
        made = [record for record in saved if record is not None]
        # A whole group at a time: which images share a batch must not depend on an interruption.
        if len(made) < len(group):
            indices = [item.index for item in group if item.index is not None]
            images = stack_images(subject.test.data, indices)
            pictures = [subject.test.data.picture(i) for i in indices]
            made = explain_batch(session, found, group, images, pictures)
            for item, record in zip(group, made, strict=True):
                write_json(folder / f"{item.stem}.json", {"key": key, "record": record})
        records += made
    return heading(session, records)


def heading(session: Session, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return ``examples.json``: how the images were explained, and the images."""
    config = session.config
    return {
        "k": config.k,
        "rectifier": config.rectifier,
        "resample": config.resample,
        "reduction": config.reduction,
        "methods": list(config.methods),
        "rectifiers_seen": records[0]["rectifiers_seen"] if records else 0,
        "rectifiers_overridden": records[0]["rectifiers_overridden"] if records else 0,
        "examples": [{k: v for k, v in r.items() if not k.startswith("rectifiers_")} for r in records],
    }


def choose(session: Session, notes: Notes) -> list[int]:
    """Return the test images to explain: some recognised ones a class, then some mistakes; fixed by the seed."""
    subject, config = session.subject, session.config
    predicted, readable = predict(session)
    truth = subject.test.labels[readable]
    order = np.random.default_rng(config.seed).permutation(len(readable))
    each = config.examples
    present = np.unique(truth)
    if each * len(present) > _MOST_EXAMPLES:
        notes.add(
            f"Examples are {_MOST_EXAMPLES} recognised images, drawn over {len(present)} classes, not {each} a class."
        )
    rank: dict[int, int] = {}
    right: list[tuple[int, int, int]] = []
    wrong: list[int] = []
    for at in order:
        label, i = int(truth[at]), int(readable[at])
        if predicted[at] != label:
            wrong.append(i)
        elif rank.get(label, 0) < each:
            rank[label] = rank.get(label, 0) + 1
            right.append((rank[label], label, i))
    # Every class's first example before any class's second where not all fit.
    kept = right if len(right) <= _MOST_EXAMPLES else sorted(right, key=lambda r: r[0])[:_MOST_EXAMPLES]
    recognised = [i for _, label, i in sorted(kept, key=lambda r: (r[1], r[0]))]
    return recognised + wrong[: config.misclassified]


def predict(session: Session) -> tuple[np.ndarray, np.ndarray]:
    """Return the predicted classes of the test images in use, and these images' positions; unreadable ones left out."""
    subject, config = session.subject, session.config
    batches = subject.test.batches(batch_size=config.batch_size, workers=config.workers, indices=subject.test_indices())
    predicted, positions = [], []
    with evaluating(subject.model), torch.inference_mode():
        for batch in batches:
            logits = logits_of(subject.model(batch.images.to(subject.device)), len(batch.images), subject.output)
            predicted.append(logits.argmax(1).cpu().numpy())
            positions.append(batch.indices.numpy())
    return np.concatenate(predicted), np.concatenate(positions)


def explain_batch(
    session: Session, found: Interpretation, items: Sequence[Item], images: Tensor, pictures: Sequence[Tensor]
) -> list[dict[str, Any]]:
    """Explain a batch, write its pictures below ``explanations/`` and return the images' records.

    Parameters
    ----------
    items : sequence of Item
        All with a class to explain, or all without one: then the predicted class is explained.
    images : Tensor (B, C, H, W)
        As the model wants them.
    pictures : sequence of Tensor (C, H, W)
        The same in [0, 1].
    """
    config, folder = session.config, session.run.folder("explain")
    images = images.to(session.subject.device)
    wanted = [item.explained for item in items if item.explained is not None]
    result = explain_with(session, found, images, wanted or None)
    others, missing = compared_maps(session, images, result.classes)
    records = []
    for b, item in enumerate(items):
        explained = int(result.classes[b])

        def picture(name: str, heatmap: Tensor, b: int = b, stem: str = item.stem) -> str:
            save_png(folder / f"{stem}_{name}.png", shown(heatmap.detach().cpu(), pictures[b]))
            return f"{stem}_{name}.png"

        save_png(folder / f"{item.stem}_image.png", enlarge(pictures[b], _SIZE))
        channels = [
            {
                "layer": channel.layer,
                "index": channel.index,
                "weight": float(found.coef[explained, found.channels.position(channel)]),
                "response": response,
                "heatmap": picture(f"h{j}", result.heatmaps[b, j]),
                "blank": bool(result.heatmaps[b, j].max() <= 0),
            }
            for j, (channel, response) in enumerate(zip(result.channels[b], result.responses[b], strict=True))
        ]
        records.append(
            {
                "name": item.name,
                "dataset_index": item.index,
                "true": item.true,
                "predicted": int(result.predictions[b]),
                "explained": explained,
                "confidence": float(result.confidences[b]),
                "image": f"{item.stem}_image.png",
                "channels": channels,
                "combined": picture("combined", result.combined[b]),
                "baselines": {method: picture(method, heatmap[b]) for method, heatmap in others.items()},
                "blank": [method for method, heatmap in others.items() if not bool(heatmap[b].any())],
                "note": "; ".join([*_few(found, explained, len(channels), config.k), *missing]),
                "rectifiers_seen": result.rectifiers_seen,
                "rectifiers_overridden": result.rectifiers_overridden,
            }
        )
    return records


def explain_with(
    session: Session, found: Interpretation, images: Tensor, classes: Tensor | Sequence[int] | None
) -> Explanation:
    """Explain a batch as the run is configured."""
    subject, config = session.subject, session.config
    return explain(
        subject.model,
        images,
        found,
        k=config.k,
        classes=classes,
        rectifier=config.rectifier,
        resample=config.resample,
        reduction=config.reduction,
        output=subject.output,
        trace=subject.trace if tuple(images.shape[1:]) == subject.trace.image_shape else None,
    )


def compared_maps(session: Session, images: Tensor, classes: Tensor) -> tuple[dict[str, Tensor], list[str]]:
    """Return the maps (B, H, W) of the run's other methods and the controls, by name, and why some are missing."""
    subject, config = session.subject, session.config
    maps: dict[str, Tensor] = {}
    missing: list[str] = []
    for method in dict.fromkeys((*config.methods, *CONTROLS)):
        try:
            with warnings.catch_warnings():
                # Of a map of zeros the report says so; modes were set when the model was loaded.
                warnings.simplefilter("ignore", AttributionWarning)
                maps[method] = attribute(
                    subject.model, images, classes, method, output=subject.output, seed=config.seed
                ).cpu()
        except InterpNetError as error:
            missing.append(f"{method}: {error}")
    return maps, missing


def shown(heatmap: Tensor, image: Tensor) -> np.ndarray:
    """Return the picture of a heatmap over its image; the strongest 0.5 % of its pixels share the brightest colour."""
    high = float(np.quantile(heatmap.numpy(), 1 - _SATURATED))
    return render(heatmap, image, size=_SIZE, vmin=0.0 if high > 0 else None, vmax=high if high > 0 else None)


def _few(found: Interpretation, explained: int, shown: int, k: int) -> list[str]:
    if shown >= k:
        return []
    if not len(found.columns(explained)):
        return ["this class has no relevant channel, so there is nothing to show"]
    return [f"only {shown or 'no'} channel{'' if shown == 1 else 's'} of this class answer{'s' if shown == 1 else ''}"]


def _saved(session: Session, item: Item, key: str) -> dict[str, Any] | None:
    """Return an image's record where it was made with the same inputs and its pictures are there."""
    folder = session.run.folder("explain")
    with contextlib.suppress(RunFolderError, KeyError):
        saved = read_json(folder / f"{item.stem}.json")
        record: dict[str, Any] = saved["record"]
        files = [record["image"], record["combined"], *record["baselines"].values()]
        files += [channel["heatmap"] for channel in record["channels"]]
        if saved["key"] == key and record["dataset_index"] == item.index:
            return record if all((folder / file).is_file() for file in files) else None
    return None
