"""The images "from the field" of a run: a folder's, or a program's own; without labels, prepared as the run's are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from interpnet.datasets import ImageData, make_loader, stack_images
from interpnet.errors import DataError, InterpNetError, RunFolderError
from interpnet.support.types import Int64

from .config import PYTHON
from .folder import digest
from .own_images import own_data
from .own_reading import Images, Keys
from .split import balanced

if TYPE_CHECKING:
    from .session import Session

_STAGE = "shortcuts"
_MEMO = "field"
_LOOKED_AT = 16  # training images by which finished tensors are judged
_SLACK = 1e-3  # by which pixels may leave [0, 1]: rounding


def as_trained(train: ImageData) -> dict[str, Any]:
    """Return the settings by which image files become inputs as the training images are: at least of their size.

    A :class:`DataError` where the training images come finished and nobody says how they were normalised.
    """
    if train.finished:
        _require_pixels(train)
    return _steps(train)


def _steps(train: ImageData) -> dict[str, Any]:
    steps = dict(train.preprocessing)
    if steps["image_size"] is None and steps["crop"] is None:
        steps["image_size"] = list(train.shape[1:])
    return steps


def _require_pixels(train: ImageData) -> None:
    """Refuse finished training images whose values were no pixels before what is known of their normalisation."""
    some = np.unique(np.linspace(0, len(train) - 1, _LOOKED_AT).astype(int)).tolist()
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (train.mean, train.std))
    low, high = (float(value) for value in (stack_images(train, some) * std + mean).aminmax())
    if low < -_SLACK or high > 1 + _SLACK:
        raise DataError(
            f"the training images come as finished tensors, with values from {low:.2g} to {high:.2g} once mean and std "
            "are undone, so nobody knows how image files become like them; give the mean and std by which they were "
            "normalised (--mean, --std), or images that are prepared alike, as tensors"
        )


@dataclass(frozen=True)
class Field:
    """The images of the field of one run."""

    data: ImageData
    limit: int  # of those that are used
    seed: int

    @cached_property
    def used(self) -> Int64:
        """The positions of those that are looked at: all, or so many drawn at random."""
        return balanced(np.zeros(len(self.data), dtype=np.int64), self.limit, self.seed)

    @property
    def key(self) -> str:
        """What stands for them in the key of a stage."""
        return digest([self.data.fingerprint(), self.data.preprocessing])

    def loader(self, batch_size: int, workers: int) -> Any:
        """Return batches of those that are used; what cannot be read is left out or an error, as the run says."""
        return make_loader(self.data, batch_size=batch_size, num_workers=workers, indices=self.used)


def field_of(session: Session) -> Field | None:
    """Return the images from the field, read once; ``None`` where the settings name none.

    A :class:`DataError` where they are missing, hold no image, or are not of the size that the network sees.
    """
    spec = session.config.field
    if not spec:
        return None
    if _MEMO not in session.memo:
        data = _loaded(session, spec)
        session.memo[_MEMO] = Field(data, session.config.shortcut_images, session.config.seed)
    found: Field = session.memo[_MEMO]
    return found


def _loaded(session: Session, spec: str) -> ImageData:
    config = session.config
    train = session.loaded.train.data
    own = session.own
    if own is not None and own.field is not None:
        data = _of_program(own.field, own.keys, train, config.on_bad_image)
    elif spec.startswith(PYTHON):
        raise RunFolderError(
            f"this run was made from Python, and what it calls {spec!r} is in no file; call audit() with the same "
            "field=, or name a folder of images (--field FOLDER), or none (--field none)"
        )
    else:
        folder = Path(config.path(spec)).expanduser()
        data = ImageData.from_folder(folder, spec=spec, on_bad_image=config.on_bad_image, **as_trained(train))
    if data.shape != train.shape:
        raise DataError(
            f"the images from the field ({spec}) have the shape {data.shape}, and the training images {train.shape}; "
            "expected one shape, so that the network sees them alike: resize or crop them as the training images are"
        )
    return data


def _of_program(images: Images, keys: Keys, train: ImageData, on_bad_image: str) -> ImageData:
    if isinstance(images, Tensor):
        images = [images]
    keys = replace(keys, labelled=False)
    settings = {"on_bad_image": on_bad_image, "channels": train.shape[0]}
    try:
        data = own_data(images, split="field", classes=None, keys=keys, settings=settings, hint=_steps(train))
    except DataError as error:
        raise DataError(f"field: {error}") from error
    if train.finished and not data.finished:
        _require_pixels(train)
    return data


def field_key(session: Session, *, noted: bool = False) -> list[Any]:
    """Return what the field is in the key of the stage that looks at it; nothing where there is none, as before.

    Where it cannot be read any more, and with ``noted`` always, it is what the run noted when it was looked at.
    """
    spec = session.config.field
    if not spec:
        return []
    entry = session.run.stage(_STAGE)
    known = (entry.get("field") or {}) if entry.get("state") == "complete" and not session.fresh else {}
    same = known.get("key") if known.get("spec") == spec else None
    if noted:
        return [same or spec]
    try:
        found = field_of(session)
    except InterpNetError as error:
        if same is None:
            raise
        session.say_notes([f"What was found in the images from the field stands, but: {error}"])
        return [same]
    return [] if found is None else [found.key]
