"""Explain images that a user names, with what a run learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from PIL import Image

from interpnet import plot
from interpnet.datasets import stack_images
from interpnet.plotting.style import any_letters
from interpnet.support.io import atomic_path, write_json

from ..report.own import NAMED_BY
from ..report.views import said_of
from ..run.photographs import photographs, stem
from ..run.session import Session
from .examples import Item, explain_batch, heading
from .identified import leading

FOLDER = "user"  # below explanations/, apart from the run's own examples
_COLUMNS = 6  # of everything in one picture


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
    # By what the channels are: a report leaves out what was explained by others.
    solved = session.run.stage(NAMED_BY[session.config.ways[0]]).get("key")
    for item, record in zip(items, records, strict=True):
        made = heading(session, [record])
        write_json(folder / f"{item.stem}.json", made | {"solved": solved})
        _whole(folder, item.stem, made, session.subject.classes)
    return records


def _whole(folder: Path, stem: str, made: Mapping[str, Any], classes: Sequence[str]) -> None:
    """Write all of an image's explanation as one picture: the image, its prediction, its channels with their maps."""
    (record,) = made["examples"]
    title = f"{PurePath(record['name']).name}: predicted {classes[record['predicted']]}"
    if record["predicted"] != record["explained"]:
        title += f", explained as {classes[record['explained']]}"
    title += f", probability {record['confidence']:.2f}"
    shown = [(record["image"], "image", "")]
    shown += [
        (channel["heatmap"], f"{channel['layer']}[{channel['index']}]", said_of(made, channel["response"]))
        for channel in record["channels"]
    ]
    if record["channels"]:
        shown.append((record["combined"], "combined", "of these channels"))
    panels = []
    for name, _, _ in shown:
        with Image.open(folder / name) as opened:
            panels.append(np.asarray(opened.convert("RGB")))
    with any_letters():
        figure = plot.pictures(
            panels,
            [above for _, above, _ in shown],
            captions=[below for _, _, below in shown],
            columns=min(len(shown), _COLUMNS),
            heading=title,
        )
        with atomic_path(folder / f"{stem}.png") as tmp:
            figure.savefig(tmp, dpi=150, facecolor="white", format="png")
