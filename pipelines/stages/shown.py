"""What a report shows of images that classes draw, and of groups among a class's own: pictures, and what they are.

Findings hold numbers of images; here each gets its name, its picture with the place outlined, and what the network
takes it for. The facts stand in ``shortcuts.json`` beside the findings, under ``shown``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from interpnet.datasets import Batch, ImageData, stack_images
from interpnet.engine import evaluating, forward_logits, log_odds, to_device
from interpnet.errors import InterpNetError
from interpnet.plotting import enlarge, save_png
from interpnet.shortcuts import CommonOverlay, Drawn, Example, Findings, Grouped, Pasted
from interpnet.support.types import Int64

from ..run.field import Field
from ..run.session import Session
from .outline import box_of, outlined, square_at

_SIZE = 192  # pixels of a picture
_LARGE = 320  # of the picture of what images have in common
_IMAGES = 6  # pictured of those that a class draws, and of a group
_EXAMPLES = 2  # pictured of what a channel's patch moves, and of what it is taken out of
_OWN = 3  # pictured of the class's own training images, to compare with
#: Of the adjusted p-value of classes that training images are drawn to, from where they are listed only.
LEVEL = 0.05
_MOST = 6  # classes of each kind that have pictures
_MOST_OF_IMAGE = 0.6  # a box that covers more outlines nothing
_STRONG = 0.5  # of the largest difference: what lies above is within the box
_SWING = 0.45  # of the largest difference on the picture's middle grey

Picture = npt.NDArray[np.uint8]


class Looked:
    """The images from the field as a search reads them, and which they were."""

    def __init__(self, field: Field, session: Session) -> None:
        config = session.config
        self.data: ImageData = field.data
        self.loader = field.loader(config.batch_size, config.workers)
        self.rows: list[int] = []  # the position of each image that was read
        self.failed: InterpNetError | None = None

    def __iter__(self) -> Iterator[Batch]:
        self.rows = []
        try:
            for batch in self.loader:
                self.rows += batch.indices.tolist()
                yield batch
        except InterpNetError as error:
            self.failed = error
            raise

    @property
    def skipped(self) -> list[list[Any]]:
        """Position, name and reason of those that could not be read."""
        return [list(one) for one in self.loader.skipped]


@dataclass(frozen=True)
class Shown:
    """What is pictured of one search."""

    session: Session
    found: Findings
    looked: Looked | None  # None where there were no images from the field

    def write(self) -> dict[str, Any]:
        """Write the pictures below ``shortcuts/`` and return the facts."""
        facts: dict[str, Any] = {
            "drawn": [self._drawn(one) for one in _pictured(self.found.drawn)],
            "grouped": [self._grouped(one) for one in self.found.grouped[:_MOST]],
            "inside": [self._inside(number, one) for number, one in enumerate(self.found.inside) if one.moves],
        }
        if self.looked is not None:
            facts["field"] = {"n": len(self.looked.rows), "spec": self.looked.data.spec}
        return facts

    @property
    def _train(self) -> ImageData:
        return self.session.subject.train.data

    def _drawn(self, one: Drawn) -> dict[str, Any]:
        data, positions = self._of(one)
        stem = f"drawn_{one.source}_c{one.index:04d}"
        taken, odds = self._said(data, positions, one.index)
        bearing = set() if one.common is None else set(one.common.images)
        files = []
        for number, at in enumerate(positions[:_IMAGES]):
            bears = one.images[number] in bearing
            region = _region(one, number, bears=bears, shape=data.shape[1:])
            file = self._picture(f"{stem}_{number}.png", data, at, region)
            entry = {"file": file, "name": data.name(at), "taken": taken[number], "odds": odds[number], "bears": bears}
            if one.source == "training":
                entry["true"] = int(self.session.subject.train.labels[at])
            files.append(entry)
        facts = {
            "index": one.index,
            "source": one.source,
            "files": files,
            "names": [data.name(at) for at in positions],
            "taken": sum(c == one.index for c in taken),
            "own": self._own(one.index, stem),
        }
        if one.common is not None and self.looked is not None:
            facts["common"] = self._common(one.common, f"common_c{one.index:04d}.png", self.looked)
        return facts

    def _of(self, one: Drawn) -> tuple[ImageData, list[int]]:
        """Return the images that a class draws: their data, and their positions in it."""
        if one.source == "field" and self.looked is not None:
            return self.looked.data, [self.looked.rows[i] for i in one.images]
        return self._train, list(one.images)

    def _said(self, data: ImageData, positions: Sequence[int], index: int) -> tuple[list[int], list[float]]:
        """Return the classes that images are taken for, and their log-odds of one class."""
        subject = self.session.subject
        size = self.session.config.batch_size
        taken: list[int] = []
        odds: list[float] = []
        with torch.no_grad(), evaluating(subject.model):
            for start in range(0, len(positions), size):
                images = to_device(stack_images(data, positions[start : start + size]), subject.device)
                logits = forward_logits(subject.model, images, subject.output).float().cpu()
                taken += logits.argmax(1).tolist()
                odds += log_odds(logits, torch.full((len(logits),), index)).tolist()
        return taken, odds

    def _picture(self, name: str, data: ImageData, at: int, region: npt.NDArray[np.bool_] | None = None) -> str:
        picture = enlarge(data.picture(at), _SIZE)
        if region is not None:
            picture = outlined(picture, region)
        save_png(self.session.run.folder("shortcuts") / name, picture, durable=False)
        return name

    def _own(self, index: int, stem: str) -> list[str]:
        """Picture some training images of a class, spread over all that were used."""
        split = self.session.subject.train
        used = self.session.subject.train_indices()
        own = _spread(used[split.labels[used] == index], _OWN)
        unreadable = {row[0] for row in self.session.run.manifest["data"]["train"].get("skipped", [])}
        own = [at for at in own if at not in unreadable]
        return [self._picture(f"{stem}_own_{number}.png", split.data, at) for number, at in enumerate(own)]

    def _common(self, common: CommonOverlay, name: str, looked: Looked) -> dict[str, Any]:
        std = torch.tensor(looked.data.std).view(-1, 1, 1)
        picture = enlarge(on_grey(common.pattern * std), _LARGE)
        save_png(self.session.run.folder("shortcuts") / name, picture, durable=False)
        return {
            "file": name,
            "n": len(common.images),
            "names": [looked.data.name(looked.rows[i]) for i in common.images],
            "covered": common.covered,
            "agreement": common.agreement,
            "p": common.p,
        }

    def _grouped(self, one: Grouped) -> dict[str, Any]:
        data = self._train
        groups = []
        for at, group in enumerate(one.groups):
            files = [
                {"file": self._picture(f"group_c{one.index:04d}_{at}_{number}.png", data, i), "name": data.name(i)}
                for number, i in enumerate(group.images[:_IMAGES])
            ]
            groups.append(files)
        return {"index": one.index, "groups": groups}

    def _inside(self, number: int, one: Pasted) -> dict[str, Any]:
        """Picture what a channel's patch moved: of each kind some images, before and after."""

        def files(what: str, examples: Sequence[Example], shown: Sequence[int], outline: int) -> list[list[str]]:
            return [
                self._example(f"inside_{number}_{what}_{i}", example.pictures, example.places, shown, outline)
                for i, example in enumerate(examples[:_EXAMPLES])
                if example.pictures is not None
            ]

        return {
            "index": one.index,
            "channel": [one.channel.layer, one.channel.index],
            "pasted": files("pasted", one.pasted, (0, 1, 2), 1),
            "removed": files("removed", one.removed, (0, 2), 0),
        }

    def _example(
        self, stem: str, pictures: Tensor, places: Tensor | None, shown: Sequence[int], outline: int
    ) -> list[str]:
        """Picture some of an example's three images, with the patch outlined in one of them."""
        made = [enlarge(picture, _SIZE) for picture in self._train.displayed(pictures)]
        if places is not None:
            made[outline] = outlined(made[outline], places[0].numpy())
        names = [f"{stem}_{at}.png" for at in shown]
        for name, at in zip(names, shown, strict=True):
            save_png(self.session.run.folder("shortcuts") / name, made[at], durable=False)
        return names


def _pictured(drawn: Sequence[Drawn]) -> list[Drawn]:
    """Return the classes that are pictured: of each source the first, where chance would hardly give so many."""
    field = [one for one in drawn if one.source == "field"][:_MOST]
    training = [one for one in drawn if one.source == "training" and one.p < LEVEL][:_MOST]
    return field + training


def _region(one: Drawn, number: int, *, bears: bool, shape: tuple[int, ...]) -> npt.NDArray[np.bool_] | None:
    """Return the place (H, W) to outline in one of the images that a class draws."""
    if bears and one.common is not None:
        strength = one.common.pattern.abs().amax(0)
        box = box_of((strength > _STRONG * strength.max()).numpy())
        return box if box.mean() <= _MOST_OF_IMAGE else None
    if not one.places:
        return None
    return square_at(one.places[number], (shape[0], shape[1]))


def _spread(positions: Int64, n: int) -> list[int]:
    """Return at most ``n`` of some positions, evenly spread."""
    if not len(positions):
        return []
    chosen = np.unique(np.linspace(0, len(positions) - 1, n).round().astype(np.int64))
    return [int(at) for at in positions[chosen]]


def on_grey(difference: Tensor) -> Tensor:
    """Return a difference of pixels (C, H, W) as a picture in [0, 1]: nothing is grey, the largest nearly white.

    Examples
    --------
    >>> on_grey(torch.tensor([[[0.0, -0.1, 0.2]]])).flatten().tolist()
    [0.5, 0.2750000059604645, 0.949999988079071]
    """
    largest = float(difference.abs().max()) or 1.0
    return 0.5 + difference / largest * _SWING
