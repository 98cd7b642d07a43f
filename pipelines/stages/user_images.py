"""Explain images that a user names, with what a run learned."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from interpnet.datasets import ImageData, stack_images
from interpnet.errors import DataError, did_you_mean
from interpnet.support.io import write_json

from ..run.field import as_trained
from ..run.session import Session
from .examples import Item, explain_batch, heading
from .identified import leading

FOLDER = "user"  # below explanations/, apart from the run's own examples


def explain_user_images(session: Session, names: Sequence[str], cls: str | None) -> list[dict[str, Any]]:
    """Explain image files for ``cls``, or each for its predicted class; write ``explanations/user/``.

    They are prepared as the run's own images were; where these were not resized, to their size.
    An unknown class, and a file that does not exist or is no image, are errors with close matches named.
    """
    paths = [_existing(Path(name)) for name in names]
    found = leading(session)
    explained = None
    if cls is not None:
        explained = found.class_index(cls)
    data = _prepared(session, names)
    items = [Item(f"{FOLDER}/{_stem(path)}", data.name(i), explained=explained) for i, path in enumerate(paths)]
    records: list[dict[str, Any]] = []  # one per image, in the order they were named
    size = session.config.batch_size
    for start in range(0, len(items), size):
        group = items[start : start + size]
        rows = range(start, start + len(group))
        records += explain_batch(session, found, group, stack_images(data, rows), [data.picture(i) for i in rows])
    folder = session.run.folder("explain")
    for item, record in zip(items, records, strict=True):
        write_json(folder / f"{item.stem}.json", heading(session, [record]))
    return records


def _existing(path: Path) -> Path:
    if path.is_file():
        return path
    if path.is_dir():
        raise DataError(f"--image {str(path)!r} is a folder; name image files, --image once for each")
    if path.exists():
        raise DataError(f"--image {str(path)!r} is a pipe or device, expected an image file")
    siblings = [entry.name for entry in path.parent.glob("*")]
    raise DataError(f"--image {str(path)!r} does not exist{did_you_mean(path.name, siblings)}")


def _prepared(session: Session, names: Sequence[str]) -> ImageData:
    return ImageData.from_files(names, spec="your images", **as_trained(session.subject.train.data))


def _stem(path: Path) -> str:
    """Return a file name for an image's results: readable, safe, and different for every path."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem)[:40].strip("-") or "image"
    return f"{readable}-{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:6]}"
