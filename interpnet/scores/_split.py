"""Collecting scores in several processes: each fills a table of some chunks of the images, and the first joins them.

The images are cut into chunks of whole batches, of which the r-th of n processes takes every n-th, so that each batch
is one that a process alone would run. An interrupted collection goes on with what no table there holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import xxhash

from interpnet.errors import InterpNetError, RanksError
from interpnet.gram import GramAccumulator
from interpnet.scores._batches import Batch, Loader
from interpnet.scores._chunks import Range, Run, chunks_of, without
from interpnet.scores._companion import SharedCompanion
from interpnet.scores._files import ScoreFiles
from interpnet.scores._intake import Intake, Memory, add_rows, has_room
from interpnet.scores._join import PARTS, There, gathered, join, new_part, there_in
from interpnet.scores._numbered import Share
from interpnet.scores._repeat import image_digests
from interpnet.scores._scorer import How, Scorer
from interpnet.scores._shared_rows import Covered, Ledger, rows_of
from interpnet.scores._table import ScoreTable, ScoreWriter, open_table
from interpnet.support.checks import instance_of
from interpnet.support.io import remove_tree
from interpnet.support.ranks import Ranks
from interpnet.support.types import Int64

T = TypeVar("T")
_SUMMED_ROWS = 2048


def collect_shard(
    how: How,
    loader: Loader,
    shard: tuple[int, int],
    out: Path | None,
    key: str,
    gram: GramAccumulator | None,
    *,
    progress: bool,
) -> ScoreTable:
    """Score the images of one shard alone; return the table of its rows."""
    share = Share(loader, how.keys, how.prepare)
    first = share.first()
    with how.scoring(first.images) as scorer:
        notes = scorer.info | {"shard": list(shard)}
        writer = _writer(scorer, out, key, notes)
        ledger = Ledger(writer)
        if how.contributions is not None:
            how.contributions.resume(writer.rows)
        intake = Intake(writer, scorer.trace.n_outputs, gram, how.contributions, ledger)
        if writer.complete:
            return writer.finish()
        ranges = without(share.ranges(shard[0] - 1, shard[1]), ledger.ranges)
        covered = Covered([])
        if share.by_number is None:
            covered = Covered(ledger.runs)
        _run(scorer, share, (ranges, shard[0] - 1, shard[1]), covered, intake, progress=progress)
        writer.info["images"] = share.n_images or covered.end
    return writer.finish()


def collect_by_ranks(
    how: How,
    loader: Loader,
    ranks: Ranks,
    out: Path | None,
    key: str,
    gram: GramAccumulator | None,
    *,
    progress: bool,
) -> ScoreTable:
    """Score the chunks of this process; return the table of all images on every one."""
    if gram is not None and gram.n:
        raise InterpNetError(f"gram holds {gram.n} rows already; expected an empty GramAccumulator")
    share = together(ranks, lambda: Share(loader, how.keys, how.prepare))
    first = together(ranks, share.first)
    with how.scoring(first.images) as scorer:
        looks = _agreed(ranks, scorer, share, first, key)
        there = There()
        if out is not None:
            found = together(ranks, lambda: _looked_up(ranks, scorer, out, key, looks))
            there = There(**ranks.share(found._asdict()))
        if not there.complete:
            if how.contributions is not None:
                _shared(how).share(ranks, there.folders(out))
            table = _collected(scorer, share, ranks, out, key, there, looks, gram, progress=progress)
        else:
            table = together(ranks, lambda: ScoreTable.load(str(out), verify=False))
            if gram is not None:
                together(ranks, lambda: _sum_up(gram, table, np.arange(len(table)), how.device, ranks))
    if gram is not None:
        gram.add_up(ranks)
    if how.contributions is not None and not there.complete:
        _shared(how).add_up(ranks)
    ranks.wait()
    if ranks.first and out is not None:
        remove_tree(out / PARTS)
    return table


def _collected(
    scorer: Scorer,
    share: Share,
    ranks: Ranks,
    out: Path | None,
    key: str,
    there: There,
    looks: str,
    gram: GramAccumulator | None,
    *,
    progress: bool,
) -> ScoreTable:
    """Score what no table holds yet, and join all of them."""
    runs = there.all_runs()
    covered = Covered(runs)
    ranges: list[Range] = []
    if share.by_number is not None:
        covered = Covered([])
        missing = without([(0, share.by_number.n_images)], [run[:2] for run in runs])
        ranges = chunks_of(share.by_number.n_images, share.by_number.batch_size, missing)
    mine = (ranges[ranks.rank :: ranks.world], ranks.rank, ranks.world)
    folder = None
    if out is not None:
        folder = new_part(out, there, ranks.rank)
    if scorer.how.contributions is not None:
        _shared(scorer.how).place(folder)
    writer = _writer(scorer, folder, key, scorer.info | {"first": looks})
    ledger = Ledger(writer)
    # Every process sums the rows that it scores.
    intake = Intake(writer, scorer.trace.n_outputs, gram, scorer.how.contributions, ledger)

    def score() -> None:
        if gram is not None and out is not None:
            for place, numbers in there.rows(out):
                files = ScoreFiles(place)
                _sum_up(gram, open_table(files, files.read_state()), numbers, scorer.how.device, ranks)
        if share.by_number is not None:
            _check_some(scorer, share, runs[ranks.rank :: ranks.world])
        _run(scorer, share, mine, covered, intake, progress=progress and ranks.first)

    together(ranks, score)
    n = share.n_images or covered.end
    ranks.agree("how many images the loader has", n)
    if share.by_number is None:
        ranks.agree("what the loader yields", covered.seen)
    if isinstance(writer, Memory):
        return gathered(writer, ledger.runs, ranks, n)

    def put_together() -> None:
        if ranks.first and out is not None:
            channels = scorer.reader.channels
            whole = ScoreWriter(out, channels, scorer.trace.n_outputs, key=key, info=scorer.info)
            join(whole, there_in(out, key).runs, n, progress=progress)

    together(ranks, put_together)
    return together(ranks, lambda: ScoreTable.load(str(out), verify=False))


def _shared(how: How) -> SharedCompanion:
    """Return what sums contributions, or refuse what cannot do so in several processes."""
    return instance_of(how.contributions, "contributions of several processes", SharedCompanion)


def _writer(scorer: Scorer, folder: Path | None, key: str, notes: dict[str, Any]) -> Memory | ScoreWriter:
    channels = scorer.reader.channels
    n_classes = scorer.trace.n_outputs
    if folder is None:
        return Memory(channels, n_classes, notes)
    return ScoreWriter(folder, channels, n_classes, key=key, info=notes)


def _run(
    scorer: Scorer,
    share: Share,
    mine: tuple[Sequence[Range], int, int],
    covered: Covered,
    intake: Intake,
    *,
    progress: bool,
) -> None:
    """Score the images of some ranges, or of every count-th chunk where they cannot be read by number."""
    ranges = mine[0]
    total = None
    if share.by_number is not None:
        total = sum(stop - start for start, stop in ranges)
    fresh = rows_of(share.batches(*mine), scorer.labels(), covered, scorer.how)
    scorer.run(fresh, intake, total, 0, progress=progress)
    if share.by_number is None:
        covered.close()


def _check_some(scorer: Scorer, share: Share, runs: Sequence[Run]) -> None:
    """Read one run of rows there are again: the images must be those that were scored."""
    known = [run for run in runs if run.digests]
    if not known or share.by_number is None:
        return
    shortest = min(known, key=lambda run: run.stop - run.start)
    covered = Covered([shortest])
    for _ in rows_of(share.batches([shortest[:2]], 0, 1), scorer.labels(), covered, scorer.how):
        pass
    covered.close()


def _agreed(ranks: Ranks, scorer: Scorer, share: Share, first: Batch, key: str) -> str:
    """Refuse ranks with another network, other images or settings; return the digest of the first images."""
    looks = f"{int(image_digests(first.images).sum(dtype=np.uint64)):016x}"
    if ranks.alone:
        return looks
    ranks.agree("key", key)
    ranks.agree("the layers of the network, or which of them are read", scorer.reader.channels.to_json())
    ranks.agree("the number of outputs", scorer.trace.n_outputs)
    ranks.agree("norm and normalisation", [scorer.how.norm, scorer.how.normalisation])
    ranks.agree("the weights of the network", _weights(scorer.how.model))
    ranks.agree("the number of images", share.n_images)
    if share.by_number is not None:
        ranks.agree("the size of the batches", share.by_number.batch_size)
    ranks.agree("the first images that the loader yields", looks)
    ranks.agree("whether gram or contributions are wanted", scorer.how.contributions is not None)
    return looks


def _weights(model: torch.nn.Module) -> str:
    """Return a checksum of a network's parameters and buffers."""
    total = xxhash.xxh3_64()
    for name, tensor in model.state_dict().items():
        total.update(name.encode())
        # What else a state holds, an extra state of any type, is not compared.
        if isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided and not tensor.is_quantized:
            total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _looked_up(ranks: Ranks, scorer: Scorer, out: Path, key: str, looks: str) -> There:
    """Return what rank 0 finds in the folder."""
    if not ranks.first:
        return There()
    if not key:
        # Nothing tells whose rows these are, so they are collected again.
        remove_tree(out / PARTS)
        return There()
    # What is another collection's, or damaged, is refused as it is of a process alone.
    ScoreWriter(out, scorer.reader.channels, scorer.trace.n_outputs, key=key, info=scorer.info)
    return there_in(out, key, looks)


def _sum_up(gram: GramAccumulator, table: ScoreTable, numbers: Int64, device: torch.device, ranks: Ranks) -> None:
    """Sum some rows of a table, of which every process takes a share."""
    mine = np.array_split(numbers, ranks.world)[ranks.rank]
    on_device = False
    for start in range(0, len(mine), _SUMMED_ROWS):
        part = mine[start : start + _SUMMED_ROWS]
        rows: Any = table.X[part]
        if device.type == "cuda":
            there = torch.from_numpy(rows).to(device)
            on_device = on_device or has_room(there, table.n_classes)
            if on_device:
                rows = there
        add_rows(gram, rows, table.labels[part], table.n_classes)


def together(ranks: Ranks, work: Callable[[], T]) -> T:
    """Return what ``work`` gives here, once all ranks have done theirs; where it fails on one, it does on all."""
    failed: Exception | None = None
    result: Any = None
    try:
        result = work()
    except Exception as error:
        failed = error
        if ranks.alone or isinstance(error, RanksError):
            raise
    said = ranks.collect("" if failed is None else f"{failed}")
    if failed is not None:
        raise failed
    for rank, text in enumerate(said):
        if text:
            raise RanksError(f"rank {rank} failed, and all end: {text}")
    done: T = result
    return done
