"""Explain images that a user names, with what a run learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from interpnet.datasets import stack_images
from interpnet.support.io import write_json

from ..run.photographs import photographs, stem
from ..run.session import Session
from .examples import Item, explain_batch, heading
from .identified import leading

FOLDER = "user"  # below explanations/, apart from the run's own examples


def explain_user_images(session: Session, names: Sequence[str], cls: str | None) -> list[dict[str, Any]]:
    """Explain image files for ``cls``, or each for its predicted class; write ``explanations/user/``.

    They are prepared as the run's own images were; where these were not resized, to their size.
    An unknown class, and a file that does not exist or is no image, are errors with close matches named.
    """
    data = photographs(names, session.subject.train.data)
    found = leading(session)
    explained = None
    if cls is not None:
        explained = found.class_index(cls)
    items = [Item(f"{FOLDER}/{stem(name)}", data.name(i), explained=explained) for i, name in enumerate(names)]
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
