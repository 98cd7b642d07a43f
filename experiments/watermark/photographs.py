"""The photographs of S2's second part: as they are, with the watermark, and with its pixels in another order."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from experiments.common.imagenet import Images, read
from experiments.common.shared_data import shared_data
from experiments.watermark.run import laid_out
from interpnet.engine import Instrument, Site, evaluating, find_sites, instrument
from interpnet.errors import DataError
from interpnet.models import last_layer
from interpnet.scores import ScoreReader
from interpnet.shortcuts import overlaid
from interpnet.support.io import atomic_path
from interpnet.support.types import Float64, Int64

PLAIN, MARK = "as they are", "watermark"
#: The watermark's pixels in another order, anywhere in the image; and within the rectangle that it covers.
CONTROL, IN_PLACE = "control", "control in its place"
VERSIONS = (PLAIN, MARK, CONTROL, IN_PLACE)
PARTS = 5  # that photographs go to in turn
_BATCH = 20
_QUICK = 60  # photographs of a trial
_SIDE = 224


class Overlay(NamedTuple):
    """What lies on an image: (3, H, W) in the network's units, and how much of it is seen (H, W)."""

    picture: Tensor
    opacity: Tensor


class Roles(NamedTuple):
    """Positions of photographs: those a network's user has, those from the field, and those held out."""

    training: Int64
    field: Int64
    held: Int64
    marked: Int64  # positions within ``field`` of the quarter that bears the watermark


class Answers(NamedTuple):
    """What the network gives for N photographs."""

    logits: Float64  # (N, 1000)
    scores: Float64  # (N, m): of every channel
    features: Float64  # (N, F): what the last layer gets


def watermark(work: Path) -> Overlay:
    """Return ImageNet-W's watermark, from the working folder where it is."""
    file = work / "watermark.npz"
    if not file.exists():
        try:
            from imagenet_w import AddWatermark
        except ImportError as error:
            raise DataError("ImageNet-W's watermark is not here: pip install imagenet-w") from error
        colour, opacity = laid_out(AddWatermark(_SIDE))
        with atomic_path(file) as part, part.open("wb") as opened:
            np.savez(opened, picture=(2 * colour - 1).numpy(), opacity=opacity.numpy())
    found = np.load(file)
    return Overlay(torch.from_numpy(found["picture"]), torch.from_numpy(found["opacity"]))


def photographs(prepare: Callable[[Any], Tensor], *, quick: bool = False) -> Images:
    """Return all samples, one of every second class of ImageNet, in the order of the classes."""
    with tarfile.open(shared_data() / "imagenet" / "samples.tar") as archive:
        files = sorted(member.name for member in archive.getmembers() if member.isfile())
        chosen = {2 * i: [name] for i, name in enumerate(files[: _QUICK if quick else None])}
        return read(archive, chosen, prepare)


def roles(n: int, part: int) -> Roles:
    """Return which of n photographs are what in one of the :data:`PARTS` turns: each is held out once.

    Examples
    --------
    >>> [rows.tolist() for rows in roles(5, 4)[:3]]
    [[0, 1], [2, 3], [4]]
    """
    of = (np.arange(n) - part) % PARTS
    training, field, held = (np.flatnonzero(np.isin(of, own)) for own in ((1, 2), (3, 4), (0,)))
    marked = np.sort(np.random.default_rng(part).choice(len(field), len(field) // 4, replace=False))
    return Roles(training, field, held, marked)


def versions(images: Tensor, overlay: Overlay) -> dict[str, Tensor]:
    """Return the photographs, with the overlay, and each with its pixels in orders of its own.

    An order is drawn among the pixels of the image, or of the rectangle that the overlay covers, colour and opacity
    together.
    """
    rows, columns = (torch.nonzero(overlay.opacity.sum(axis)).flatten() for axis in (1, 0))
    within = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
    draws = torch.Generator().manual_seed(0)
    made: dict[str, list[Tensor]] = {CONTROL: [], IN_PLACE: []}
    for image in images[:, None]:
        for name, place in ((CONTROL, (slice(None), slice(None))), (IN_PLACE, within)):
            both = torch.cat([overlay.picture, overlay.opacity[None]])
            own = both[(slice(None), *place)].flatten(1)
            order = torch.randperm(own.shape[1], generator=draws)
            both[(slice(None), *place)] = own[:, order].view_as(both[(slice(None), *place)])
            made[name].append(overlaid(image, both[:-1], both[-1]))
    shuffled = {name: torch.cat(found) for name, found in made.items()}
    return {PLAIN: images, MARK: overlaid(images, *overlay), **shuffled}


def answers(model: Any, images: Tensor) -> Answers:
    """Run the network over photographs."""
    parts = []
    layer = last_layer(model, images[:2])
    reader = ScoreReader(sites(model, images))
    with torch.no_grad(), evaluating(model), instrument(model, Instrument(reads=reader.reads)):
        for batch in torch.split(images, _BATCH):
            features, logits = layer.features(batch)
            parts.append([x.double().numpy() for x in (logits, reader.take(), features)])
    return Answers(*(np.concatenate(of) for of in zip(*parts, strict=True)))


def features_of(model: Any, images: Tensor) -> Tensor:
    """Return what the last layer gets (N, F)."""
    layer = last_layer(model, images[:2])
    return torch.cat([layer.features(batch)[0] for batch in torch.split(images, _BATCH)])


def sites(model: nn.Module, images: Tensor) -> list[Site]:
    """Return the layers whose channels are scored."""
    with evaluating(model):
        return list(find_sites(model, images[:2]).select("default"))


def kept_answers(work: Path, name: str, run: Callable[[], Answers]) -> Answers:
    """Return answers from the working folder, or run and keep them."""
    file = work / f"{name.replace(' ', '-')}.npz"
    if not file.exists():
        with atomic_path(file) as part, part.open("wb") as opened:
            np.savez(opened, **run()._asdict())
    return Answers(**{key: rows.astype(np.float64) for key, rows in np.load(file).items()})
