"""Average visualizations as files: one record a channel, so that an interrupted stage keeps what it has."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

from interpnet.engine import Channel
from interpnet.errors import RunFolderError
from interpnet.explanation import AverageVisualization, average_visualizations
from interpnet.plotting import enlarge, save_png
from interpnet.support.io import read_json, write_json

from ..run.session import Session
from .collect import load_table

_KEEP = 9
_MEAN_SIZE, _PATCH_SIZE = 160, 96
# Channels are pictured in groups: as many as fit into this memory, but not so many that an interruption loses much.
_GROUP_BYTES = 2**30
_SMALLEST_GROUP, _LARGEST_GROUP = 16, 256


def visualise_channels(session: Session, channels: Sequence[Channel], key: str) -> dict[Channel, dict[str, Any]]:
    """Write the average visualization of each channel; return each one's record, with paths below ``explanations/``.

    Channels whose record is there with the same ``key`` are not made again.
    """
    folder = session.run.folder("explain")
    table = load_table(session)
    records: dict[Channel, dict[str, Any]] = {}
    missing: list[Channel] = []
    for channel in channels:
        record = _saved(session, f"channels/{table.channels.position(channel):05d}", key)
        if record is None:
            missing.append(channel)
        else:
            records[channel] = record
    if records:
        session.say(f"  {len(records)} of {len(channels)} channels are pictured already")
    per_channel = 4 * math.prod(session.subject.trace.image_shape) * (_KEEP + 1)
    size = min(max(_GROUP_BYTES // per_channel, _SMALLEST_GROUP), _LARGEST_GROUP)
    for start in range(0, len(missing), size):
        group = missing[start : start + size]
        made = average_visualizations(
            session.subject.model,
            session.subject.train.data,
            table,
            group,
            top=session.config.top,
            keep=_KEEP,
            batch_size=session.config.batch_size,
            device=session.subject.device,
            output=session.subject.output,
        )
        for channel in group:
            stem = f"channels/{table.channels.position(channel):05d}"
            records[channel] = _write(session, stem, made[channel])
            write_json(folder / f"{stem}.json", {"key": key, "record": records[channel]})
    return records


def _saved(session: Session, stem: str, key: str) -> dict[str, Any] | None:
    """Return a channel's record where it was made with the same inputs and its pictures are there."""
    folder = session.run.folder("explain")
    with contextlib.suppress(RunFolderError, KeyError):
        saved = read_json(folder / f"{stem}.json")
        record: dict[str, Any] = saved["record"]
        files = [record["mean"], *record["patches"]]
        if saved["key"] == key and all((folder / file).is_file() for file in files):
            return record
    return None


def _write(session: Session, stem: str, made: AverageVisualization) -> dict[str, Any]:
    folder = session.run.folder("explain")
    mean, patches = f"{stem}_mean.png", [f"{stem}_p{i:02d}.png" for i in range(len(made.crops))]
    save_png(folder / mean, enlarge(made.mean, _MEAN_SIZE))
    for name, crop in zip(patches, made.crops, strict=True):
        save_png(folder / name, enlarge(crop, _PATCH_SIZE))
    return {
        "mean": mean,
        "patches": patches,
        "count": made.count,
        "field": list(made.field),
        "whole_image": made.whole_image,
    }
