"""Example images: which ones, each explained by its top channels beside other methods and controls."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from interpnet.attribution import AttributionWarning, attribute
from interpnet.backward import RECTIFIER_RULES
from interpnet.datasets import stack_images
from interpnet.engine import predicted
from interpnet.errors import InterpNetError
from interpnet.explanation import Explanation, explain
from interpnet.interpretation import Interpretation
from interpnet.plotting import enlarge, render, save_png
from interpnet.support.progress import progress_bar

from ..run.chosen import chosen as chosen_classes_of
from ..run.chosen import of_chosen
from ..run.config import CONTROLS
from ..run.notes import Notes
from ..run.own_code import short_names
from ..run.session import Session
from .answers import answers
from .drawing import drawing
from .label_examples import choose_pairs
from .records import Record, Records

_SIZE = 192  # pixels
# A single pixel often outshines the rest of a large map by far; so many share the brightest colour.
_SATURATED = 0.005
_EVEN = 0.5  # the probability from which on an independent output is said
_GROUP = 8  # images explained together, and lost together by an interruption


@dataclass(frozen=True)
class Item:
    """An image to explain."""

    stem: str  # its pictures are called STEM_WHAT.png
    name: str  # what a reader calls it
    index: int | None = None  # its position in the data
    true: int | None = None  # its label
    explained: int | None = None  # the class to explain it for
    labels: tuple[int, ...] | None = None  # those that it has, where it can have several


def explain_examples(session: Session, found: Interpretation, key: str, notes: Notes) -> dict[str, Any]:
    """Choose test images, explain those that are not explained yet, and return ``examples.json``."""
    test = session.subject.test
    chosen = _items(session, notes)
    saved = Records(session.run.folder("explain"), key, _pictures)
    records: dict[str, Record] = {}
    with progress_bar("Explaining images", len(chosen)) as advance:
        for number, start in enumerate(range(0, len(chosen), _GROUP)):
            items = chosen[start : start + _GROUP]
            # Of several processes each has its groups.
            if not session.ranks.has(number):
                advance(len(items))
                continue
            indices = [item.index for item in items if item.index is not None]
            known = [saved.get(item.stem) for item in items]
            made = [record for record in known if record is not None]
            # A whole group at a time: which images share a batch must not depend on an interruption.
            if [record["dataset_index"] for record in made] != indices:
                images = stack_images(test.data, indices)
                made = explain_batch(session, found, items, images, [test.data.picture(i) for i in indices])
                for item, record in zip(items, made, strict=True):
                    saved.put(item.stem, record)
            records |= {item.stem: record for item, record in zip(items, made, strict=True)}
            advance(len(indices))
    for made_by_one in session.ranks.collect(records):
        records |= made_by_one
    return heading(session, [records[item.stem] for item in chosen])


def _items(session: Session, notes: Notes) -> list[Item]:
    """Return the test images to explain; each for a label, where an image can have several."""
    test = session.subject.test
    if not session.independent:
        images = enumerate(choose(session, notes))
        return [Item(f"examples/{n:04d}", test.data.name(i), i, int(test.labels[i])) for n, i in images]
    items = []
    for n, (i, label) in enumerate(choose_pairs(session, notes)):
        labels = tuple(np.flatnonzero(test.targets[i]).tolist())
        items.append(Item(f"examples/{n:04d}", test.data.name(i), i, None, label, labels))
    return items


def _pictures(record: Record) -> list[str]:
    """Return the files of an image's record."""
    heatmaps = [channel["heatmap"] for channel in record["channels"]]
    return [record["image"], record["combined"], *record["baselines"].values(), *heatmaps]


def heading(session: Session, records: Sequence[Record]) -> dict[str, Any]:
    """Return ``examples.json``: how the images were explained, and the images."""
    config = session.config
    counted = {"rectifiers_seen": 0, "rectifiers_overridden": 0}
    for record in records[:1]:  # the same for all
        counted = {name: record[name] for name in counted}
    return {
        "k": config.k,
        "by": session.config.ways[0],
        **_drawn(session),
        "methods": short_names(config.methods),
        **counted,
        "examples": [{k: v for k, v in record.items() if k not in counted} for record in records],
    }


def _drawn(session: Session) -> dict[str, Any]:
    """Return how heatmaps were drawn, every option by name."""
    how = drawing(session)
    every = how.complete(min(session.subject.trace.image_shape[1:]))
    rule = every.get("rule") or every["rectifier"]
    resample = session.config.resample
    if resample is None:
        resample = rule in RECTIFIER_RULES
    names = ("choose", "smooth", "saturate", "reduction", "combination")
    # "rectifier" is what the rule was called before.
    return {"variant": how.variant, "rule": rule, "rectifier": rule, "start": every["seed"], "resample": resample} | {
        name: every[name] for name in names
    }


def choose(session: Session, notes: Notes) -> list[int]:
    """Return the test images to explain: some recognised ones per class, then some mistakes; fixed by the seed."""
    config = session.config
    said, readable = answers(session, predicted)
    truth = session.subject.test.labels[readable]
    only = chosen_classes_of(session)
    wanted = of_chosen(truth, only)
    taken_for = of_chosen(said, only)
    present = np.unique(truth[wanted])
    most = config.max_examples
    if config.examples * len(present) > most:
        notes.add(
            f"Examples are {most} recognised images, drawn over {len(present)} classes, not {config.examples} per "
            "class (--max-examples)."
        )
    taken: dict[int, int] = {}
    right: list[tuple[int, int, int]] = []
    wrong: list[int] = []
    for at in np.random.default_rng(config.seed).permutation(len(readable)):
        label = int(truth[at])
        rank = taken.get(label, 0)
        if said[at] != label:
            if wanted[at] or taken_for[at]:
                wrong.append(int(readable[at]))
        elif wanted[at] and rank < config.examples:
            taken[label] = rank + 1
            right.append((rank, label, int(readable[at])))
    # Every class's first example before any class's second where not all fit.
    if len(right) > most:
        right = sorted(right, key=lambda entry: entry[0])[:most]
    by_class = sorted(right, key=lambda entry: entry[1])
    return [image for _, _, image in by_class] + wrong[: config.misclassified]


def explain_batch(
    session: Session, found: Interpretation, items: Sequence[Item], images: Tensor, pictures: Sequence[Tensor]
) -> list[Record]:
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
    images = images.to(session.subject.device)  # before explain and attribute, which run where their images are
    wanted = [item.explained for item in items if item.explained is not None]  # all or none, see above
    result = explain_with(session, found, images, wanted or None)
    others, missing = compared_maps(session, images, result.classes)
    batch = _Batch(session, found, result, others, missing)
    return [batch.record(b, item, pictures[b]) for b, item in enumerate(items)]


@dataclass(frozen=True)
class _Batch:
    """A batch of images with all of their maps."""

    session: Session
    found: Interpretation
    result: Explanation
    others: dict[str, Tensor]
    missing: list[str]

    def record(self, b: int, item: Item, picture: Tensor) -> Record:
        """Write the pictures of one image and return its record."""
        folder = self.session.run.folder("explain")
        result = self.result

        def written(name: str, heatmap: Tensor) -> str:
            file = f"{item.stem}_{name}.png"
            save_png(folder / file, shown(heatmap.detach().cpu(), picture), durable=False)
            return file

        save_png(folder / f"{item.stem}_image.png", enlarge(picture, _SIZE), durable=False)
        explained = int(result.classes[b])
        channels = [
            {
                "layer": channel.layer,
                "index": channel.index,
                "weight": float(self.found.coef[explained, self.found.channels.position(channel)]),
                "response": response,
                "heatmap": written(f"h{j}", result.heatmaps[b, j]),
                "blank": bool(result.heatmaps[b, j].max() <= 0),
            }
            for j, (channel, response) in enumerate(zip(result.channels[b], result.responses[b], strict=True))
        ]
        several: dict[str, Any] = {}
        if self.session.independent:
            several["given"] = bool(result.confidences[b] > _EVEN)
        if item.labels is not None:
            several["labels"] = list(item.labels)
        return {
            **several,
            "name": item.name,
            "dataset_index": item.index,
            "true": item.true,
            "predicted": int(result.predictions[b]),
            "explained": explained,
            "confidence": float(result.confidences[b]),  # the probability of the class explained
            "image": f"{item.stem}_image.png",
            "channels": channels,
            "combined": written("combined", result.combined[b]),
            "baselines": {method: written(method, heatmap[b]) for method, heatmap in self.others.items()},
            "blank": [method for method, heatmap in self.others.items() if not bool(heatmap[b].any())],
            "note": "; ".join([*self._few(explained, channels), *self.missing]),
            "rectifiers_seen": result.rectifiers_seen,
            "rectifiers_overridden": result.rectifiers_overridden,
        }

    def _few(self, explained: int, channels: Sequence[Mapping[str, Any]]) -> list[str]:
        """Say why there are fewer channels of the class than asked for."""
        count = sum(channel["weight"] != 0 for channel in channels)
        if count >= self.session.config.k or (channels and drawing(self.session).complete(1)["choose"] == "all"):
            return []
        if count < len(channels):
            if not len(self.found.columns(explained)):
                return ["this class has no relevant channel: those shown contribute most among all"]
            return [f"{len(channels) - count} of the channels shown are not relevant to the class, but fill up"]
        if not len(self.found.columns(explained)):
            return ["this class has no relevant channel, so there is nothing to show"]
        said = {0: "no channels of this class answer", 1: "1 channel of this class answers"}
        return [f"only {said.get(count, f'{count} channels of this class answer')}"]


def explain_with(
    session: Session, found: Interpretation, images: Tensor, classes: Tensor | Sequence[int] | None
) -> Explanation:
    """Explain a batch as the run is configured."""
    subject = session.subject
    config = session.config
    how = drawing(session)
    # A user's image can be of another size, where the network's sites have to be found again.
    same_shape = tuple(images.shape[1:]) == subject.trace.image_shape
    return explain(  # docs/method.md, section 4
        subject.model,
        images,
        found,
        k=config.k,
        classes=classes,
        variant=how.variant,
        resample=config.resample,
        **how.given,
        output=subject.output,
        trace=subject.trace if same_shape else None,
    )


def compared_maps(session: Session, images: Tensor, classes: Tensor) -> tuple[dict[str, Tensor], list[str]]:
    """Return the maps (B, H, W) of the run's other methods and the controls, by name, and why some are missing."""
    subject = session.subject
    config = session.config
    maps: dict[str, Tensor] = {}
    missing: list[str] = []
    for method in dict.fromkeys((*short_names(config.methods), *CONTROLS)):
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
    if high <= 0:
        return render(heatmap, image, size=_SIZE)
    return render(heatmap, image, size=_SIZE, vmin=0.0, vmax=high)
