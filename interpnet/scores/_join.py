"""Tables of some of the images joined to the one that a single process would have written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from interpnet.errors import DataError, RunFolderError
from interpnet.scores._chunks import Run, checked_shard, in_order, runs_from_json
from interpnet.scores._files import Progress, ScoreFiles
from interpnet.scores._intake import Memory
from interpnet.scores._resume import added, known_fingerprint
from interpnet.scores._shared_rows import UNKNOWN
from interpnet.scores._table import ScoreTable, ScoreWriter, open_table
from interpnet.support.checks import is_whole, listed, true_or_false
from interpnet.support.io import as_path
from interpnet.support.progress import progress_bar
from interpnet.support.ranks import Ranks
from interpnet.support.types import Int64

#: The folder beside the rows in which processes that share a collection keep theirs.
PARTS = "parts"
_AGAIN = "delete the folder and collect again"
_BLOCK = 4096  # rows copied at a time
_COMMIT_BYTES = 2**28  # what an interruption may cost
# Notes that belong to a part and not to the whole.
_OF_A_PART = ("runs", "first", "shard", "images", "skipped", "fingerprint")


class There(NamedTuple):
    """What earlier runs left of a collection."""

    runs: Mapping[str, Sequence[Any]] = {}  # of the parts, by their folders
    first: Sequence[Any] = ()  # the run that the table of all images holds already, in a list
    complete: bool = False
    number: int = 0  # of the next part

    @property
    def done(self) -> int:
        """How many images the table of all images holds."""
        return sum(Run(*run).stop for run in self.first)

    def folders(self, out: Path | None) -> list[Path]:
        """Return the folders of all tables there are."""
        whole = [out] * len(self.first)
        return [*filter(None, whole), *map(Path, self.runs)]

    def rows(self, out: Path) -> Iterator[tuple[Path, Int64]]:
        """Yield the folders of all tables, each with the numbers of those of its rows that none before it holds."""
        for run in self.first:
            yield out, np.arange(Run(*run).rows)
        for folder, runs in self.runs.items():
            joined = [Run(*run).stop <= self.done for run in runs]
            yield Path(folder), np.flatnonzero(np.repeat(np.invert(joined), [Run(*run).rows for run in runs]))

    def all_runs(self) -> list[Run]:
        """Return the runs of all tables by position."""
        parts = (Run(*run) for of_one in self.runs.values() for run in of_one)
        # What is joined already is in both.
        return sorted([*(Run(*run) for run in self.first), *(run for run in parts if run.stop > self.done)])


def new_part(out: Path, there: There, rank: int) -> Path:
    """Return the folder in which a rank keeps its rows."""
    return out / PARTS / f"{there.number + rank:06d}"


def there_in(out: Path, key: str, looks: str | None = None) -> There:
    """Return what a folder holds of the collection ``key``; damage and another collection's are a RunFolderError.

    Other first images than those of the digest ``looks`` are a :class:`DataError`.
    """
    runs: dict[str, list[Run]] = {}
    complete = False
    first: list[Run] = []
    if (out / "state.json").is_file():
        state = _checked(out)
        if state["key"] != key:
            raise RunFolderError(f"{str(out)!r} holds scores of another collection; {_AGAIN}")
        complete = state["complete"]
        known = known_fingerprint(state["info"])
        placed = UNKNOWN
        if known is not None:
            placed = int(known, 16)
        if state["consumed"]:
            first = [Run(0, state["consumed"], state["rows"], 0, placed)]
    numbers = [-1]
    for folder in sorted((out / PARTS).glob("[0-9]*")):
        numbers.append(int(folder.name))
        # Nothing was committed, or all of it is joined already.
        if complete or not (folder / "state.json").is_file():
            continue
        state = _checked(folder)
        if state["key"] != key:
            raise RunFolderError(f"{str(folder)!r} holds scores of another collection; {_AGAIN}")
        if looks is not None and state["info"].get("first") != looks:
            raise DataError(
                f"the first images are not those that {str(folder)!r} holds the scores of; pass the same images in the "
                "same order (no shuffling, no random augmentation), or delete the folder to collect again"
            )
        runs[str(folder)] = _runs(folder, state)
    in_order(runs)
    return There(runs, first, complete, max(numbers) + 1)


def begun(folder: Path, key: str) -> Progress:
    """Return how far a collection of one process or several has come, or how far another one is that is there.

    Errors as :func:`there_in`.
    """
    if (folder / "state.json").is_file():
        state = ScoreFiles(folder).read_state()
        if state["key"] != key:
            return Progress(state["key"], state["rows"], state["consumed"], state["complete"])
    there = there_in(folder, key)
    rows = sum(run.rows for run in there.all_runs())
    consumed = sum(run.stop - run.start for run in there.all_runs())
    return Progress(key, rows, consumed, there.complete)


def _checked(folder: Path) -> dict[str, Any]:
    """Return the state of a table whose rows agree with their checksums."""
    files = ScoreFiles(folder)
    state = files.read_state()
    files.verify(state)
    return state


def _runs(folder: Path, state: Mapping[str, Any]) -> list[Run]:
    """Return the runs of a table, as its notes have them."""
    notes = state["info"]
    try:
        return runs_from_json(notes.get("runs", []), state["rows"], len(notes.get("skipped", [])))
    except (ValueError, TypeError) as error:
        raise RunFolderError(f"{str(folder / 'state.json')!r} cannot be used ({error}); {_AGAIN}") from error


def join(whole: ScoreWriter, runs: Mapping[str, Sequence[Any]], n: int, *, progress: bool) -> ScoreTable:
    """Copy the rows of several tables by position behind those of ``whole``, and finish it with ``n`` images.

    It goes on where it was interrupted: what ``whole`` holds already is left out.
    """
    tables: dict[str, ScoreTable] = {}
    fingerprint = known_fingerprint(whole.info)
    if not whole.rows:
        fingerprint = "0"
    rows = whole.rows
    done = whole.consumed
    waiting = 0
    placed = in_order({name: [Run(*run) for run in own] for name, own in runs.items()})
    with progress_bar("Joining scores", n, done=done, enabled=progress) as advance:
        for name, row, skip, run in placed:
            if run.stop <= done:
                continue
            if run.start != done:
                raise RunFolderError(f"no table holds the scores of images {done} to {run.start - 1}; {_AGAIN}")
            if name not in tables:
                files = ScoreFiles(Path(name))
                tables[name] = open_table(files, files.read_state())
            table = tables[name]
            for start in range(row, row + run.rows, _BLOCK):
                part = slice(start, min(start + _BLOCK, row + run.rows))
                whole.append(table.X[part], table.labels[part], table.predictions[part], table.indices[part])
                waiting += table.X[part].nbytes
            whole.info["skipped"].extend(table.info["skipped"][skip : skip + run.skipped])
            if fingerprint is not None:
                fingerprint = added(fingerprint, run.fingerprint(rows))
                whole.info["fingerprint"] = fingerprint
            rows += run.rows
            advance(run.stop - done)
            done = run.stop
            if waiting > _COMMIT_BYTES:
                whole.commit(done)
                waiting = 0
    if done != n:
        raise RunFolderError(f"no table holds the scores of images {done} to {n - 1}; {_AGAIN}")
    whole.commit(done)
    return whole.finish()


def gathered(own: Memory, runs: Sequence[Run], ranks: Ranks, n: int) -> ScoreTable:
    """Return the table of all ranks' rows in memory, on every one."""
    columns = [block[1].shape[1:] for block in own.blocks[:1]]
    shapes = ranks.collect([list(shape) for shape in columns])
    labels_of = next((shape[0] for shape in shapes if shape), [])
    kind = {0: np.int64, 1: np.float32}[len(labels_of)]
    empty = (
        np.zeros((0, len(own.channels)), np.float32),
        np.zeros((0, *labels_of), kind),
        np.zeros(0, np.int64),
        np.zeros(0, np.int64),
    )
    arrays = [np.concatenate(parts) for parts in zip(empty, *own.blocks, strict=True)]
    notes = ranks.collect({"runs": [list(run) for run in runs], "skipped": own.info["skipped"]})
    placed = in_order({f"rank {i}": [Run(*run) for run in note["runs"]] for i, note in enumerate(notes)})
    first = np.cumsum([0, *(sum(run[2] for run in note["runs"]) for note in notes)])
    order = []
    skipped = []
    done = 0
    for name, row, skip, run in placed:
        if run.start != done:
            raise DataError(f"no process scored images {done} to {run.start - 1} of {n}")
        rank = int(name.removeprefix("rank "))
        order.append(np.arange(first[rank] + row, first[rank] + row + run.rows))
        skipped += notes[rank]["skipped"][skip : skip + run.skipped]
        done = run.stop
    if not first[-1]:
        raise DataError("the loader yielded no image; expected at least one (images, labels) batch")
    X, labels, predictions, indices = (ranks.gather_rows(array)[np.concatenate(order)] for array in arrays)
    info = {name: value for name, value in own.info.items() if name not in _OF_A_PART} | {"skipped": skipped}
    return ScoreTable(X, labels, predictions, own.channels, indices, own.n_classes, info)


def merge_scores(
    folders: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str], *, progress: bool = True
) -> ScoreTable:
    """Join the tables of all shards of a collection to the table of all images.

    X, labels, predictions and indices are, bit for bit, those that one process would have collected. Rows are copied
    in blocks; an interrupted call goes on where it stopped, and the shards stay as they are.

    Parameters
    ----------
    folders : sequence of folders
        What ``collect_scores(shard=(i, n), out=folder)`` wrote for every i, in any order.
    out : folder
        Where the table goes; it must be another folder.
    progress : bool
        A bar on a terminal.

    Raises
    ------
    RunFolderError
        A shard that is missing, there twice, unfinished, damaged or of another collection, each named with its folder;
        a full disk.

    Examples
    --------
    >>> import tempfile, torch
    >>> from interpnet.scores import collect_scores
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(36, 2))
    >>> batches = [(torch.rand(8, 1, 5, 5), torch.zeros(8, dtype=torch.long)) for _ in range(4)]
    >>> folders = [f"{tempfile.mkdtemp()}/shard" for _ in range(3)]
    >>> for i, folder in enumerate(folders, 1):
    ...     _ = collect_scores(net, batches, shard=(i, 3), out=folder, progress=False)
    >>> merge_scores(folders, f"{tempfile.mkdtemp()}/scores", progress=False).X.shape
    (32, 4)
    """
    true_or_false(progress, "progress")
    paths = [as_path(folder, "a folder in folders") for folder in listed(folders, "folders")]
    target = as_path(out, "out")
    if target.resolve() in {path.resolve() for path in paths}:
        raise RunFolderError(f"out is {str(target)!r}, which is one of the shards; choose another folder")
    states = {str(path): _checked(path) for path in paths}
    n = check_shards(states)
    one = next(iter(states.values()))
    notes = {name: value for name, value in one["info"].items() if name not in _OF_A_PART}
    channels = open_table(ScoreFiles(paths[0]), one).channels
    whole = ScoreWriter(target, channels, one["n_classes"], key=one["key"], info=notes | {"skipped": []})
    if whole.complete:
        return whole.finish()
    return join(whole, {name: _runs(Path(name), state) for name, state in states.items()}, n, progress=progress)


def shards_in(folders: Sequence[Path]) -> int:
    """Return how many images a collection has of which some folders hold all shards; the errors are merge_scores'.

    Only what their states say is looked at.
    """
    return check_shards({str(folder): ScoreFiles(folder).read_state() for folder in folders})


def check_shards(states: Mapping[str, Mapping[str, Any]]) -> int:
    """Refuse tables, by the names of their folders, that are not all shards of one collection; return its images."""
    if not states:
        raise RunFolderError("folders is empty; expected the folders of all shards")
    shards: dict[str, tuple[int, int]] = {}
    for name, state in states.items():
        try:
            shards[name] = checked_shard(state["info"].get("shard"))
        except DataError as error:
            raise RunFolderError(f"{name!r} holds no shard: collect it with --shard i/n, or shard=(i, n)") from error
    first = next(iter(states))
    for name, state in states.items():
        i, count = shards[name]
        if not state["complete"]:
            raise RunFolderError(
                f"shard {i} of {count}, {name!r}, is unfinished ({state['rows']} images so far): the same command as "
                "before goes on with it"
            )
        if count != shards[first][1]:
            raise RunFolderError(
                f"{name!r} is shard {i} of {count}, and {first!r} shard {shards[first][0]} of {shards[first][1]}; "
                "expected shards of one number"
            )
        _check_fits(first, states[first], name, state)
    by_number: dict[int, str] = {}
    for name, (i, count) in shards.items():
        if i in by_number:
            raise RunFolderError(f"shard {i} of {count} came twice, {by_number[i]!r} and {name!r}; pass each once")
        by_number[i] = name
    count = shards[first][1]
    missing = [str(i) for i in range(1, count + 1) if i not in by_number]
    if missing:
        what = "shard"
        if len(missing) > 1:
            what = "shards"
        raise RunFolderError(
            f"{what} {', '.join(missing)} of {count} missing: collect with --shard {missing[0]}/{count}, and pass the "
            "folders of all shards"
        )
    n = states[first]["info"].get("images")
    if not is_whole(n):
        raise RunFolderError(f"{first!r} does not say how many images there are; {_AGAIN}")
    return int(n)


def _check_fits(first: str, one: Mapping[str, Any], name: str, other: Mapping[str, Any]) -> None:
    """Refuse a table of other channels, classes, settings or images than the first one."""
    pairs = {
        "layers": (one["channels"], other["channels"]),
        "number of classes": (one["n_classes"], other["n_classes"]),
        "model, data or settings": (one["key"], other["key"]),
    }
    for what in ("norm", "normalisation", "image_shape", "images"):
        pairs[what] = (one["info"].get(what), other["info"].get(what))
    different = [what for what, (mine, theirs) in pairs.items() if mine != theirs]
    if different:
        mine, theirs = (str(value)[:40] for value in pairs[different[0]])
        raise RunFolderError(
            f"{first!r} and {name!r} are no shards of one collection: another {', '.join(different)} ({mine} in the "
            f"first, {theirs} in the second)"
        )
