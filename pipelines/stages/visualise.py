"""Average visualizations as files: one record per channel, so that an interrupted stage keeps what it has."""

from __future__ import annotations

import math
from collections.abc import Sequence

from interpnet.engine import Channel
from interpnet.explanation import AverageVisualization, average_visualizations
from interpnet.plotting import enlarge, save_png
from interpnet.support.progress import progress_bar

from ..run.folder import digest
from ..run.session import Session
from .collect import load_table
from .records import Record, Records

_VERSION = 2  # a change of what is pictured makes earlier pictures stale
_KEEP = 9  # patches of a channel, as many as the report shows in a row
_MEAN_SIZE = 160  # pixels
_PATCH_SIZE = 96  # pixels
# Channels are pictured in groups: as many as fit into this memory, but not so many that an interruption loses much.
_GROUP_BYTES = 2**30  # of crops, held until their mean is known
_SMALLEST_GROUP = 16
_LARGEST_GROUP = 256


def visualise_channels(session: Session, channels: Sequence[Channel], key: str) -> dict[Channel, Record]:
    """Write the average visualization of each channel; return each one's record, with paths below ``explanations/``.

    Channels whose record is there with the same ``key`` are not made again. Of several processes each pictures some of
    the others.
    """
    subject = session.subject
    table = load_table(session)
    key = digest([key, _VERSION])
    saved = Records(session.run.folder("explain"), key, lambda record: [record["mean"], *record["patches"]])
    stems = {channel: f"channels/{table.channels.position(channel):05d}" for channel in channels}
    known = {channel: saved.get(stem) for channel, stem in stems.items()}
    records = {channel: record for channel, record in known.items() if record is not None}
    ranks = session.ranks
    ranks.wait()  # before anybody writes more of them
    missing = [channel for channel in channels if channel not in records]
    if records:
        session.say(f"  {len(records)} of {len(channels)} channels are pictured already")
    per_channel = 4 * math.prod(subject.trace.image_shape) * (_KEEP + 1)
    size = min(max(_GROUP_BYTES // per_channel, _SMALLEST_GROUP), _LARGEST_GROUP)
    size = min(size, max(1, -(-len(missing) // ranks.world)))
    groups = range(0, len(missing), size)
    for start in [groups[i] for i in ranks.mine(len(groups))]:
        group = missing[start : start + size]
        made = average_visualizations(  # docs/method.md, section 3
            subject.model,
            subject.train.data,
            table,
            group,
            top=session.config.top,
            keep=_KEEP,
            batch_size=session.config.batch_size,
            device=subject.device,
            output=subject.output,
        )
        with progress_bar("Writing pictures", len(group), unit="channels") as advance:
            for channel in group:
                records[channel] = _write(saved, stems[channel], made[channel])
                advance(1)
    # By their place, for a name in JSON is a text.
    for made_by_one in ranks.collect([(i, records[c]) for i, c in enumerate(missing) if c in records]):
        records |= {missing[i]: record for i, record in made_by_one}
    return records


def _write(saved: Records, stem: str, made: AverageVisualization) -> Record:
    """Write a channel's pictures, then its record."""
    record: Record = {
        "mean": f"{stem}_mean.png",
        "patches": [f"{stem}_p{i:02d}.png" for i in range(len(made.crops))],
        "count": made.count,
        "field": list(made.field),
        "whole_image": made.whole_image,
        "by_padding": made.by_padding,
    }
    save_png(saved.folder / record["mean"], enlarge(made.mean, _MEAN_SIZE), durable=False)
    for name, crop in zip(record["patches"], made.crops, strict=True):
        save_png(saved.folder / name, enlarge(crop, _PATCH_SIZE), durable=False)
    saved.put(stem, record)
    return record
