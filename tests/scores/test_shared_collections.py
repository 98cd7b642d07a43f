"""One collection in several processes and in shards: the table is that of one process, bit for bit."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.processes import in_processes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from interpnet.errors import DataError, InterpNetError, RunFolderError
from interpnet.gram import GramAccumulator
from interpnet.reliance import ContributionSums, collect_contributions
from interpnet.scores import ScoreTable, collect_scores, merge_scores
from interpnet.scores._chunks import batches_of, chunks_of, without
from interpnet.support.io import remove_tree

N = 23
X = torch.rand(N, 2, 3, 3, generator=torch.Generator().manual_seed(3))
Y = torch.arange(N) % 3
NAMES = ("X.f32", "labels.bin", "predictions.i64", "indices.i64")


class Stopped(RuntimeError):
    pass


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).eval()


def loader(size: int = 2, **options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(X, Y), batch_size=size, **options)


def collected(source: Any, folder: Path | None = None, **options: Any) -> ScoreTable:
    return collect_scores(network(), source, out=folder, key="k", progress=False, **options)


def whole(folder: Path) -> Path:
    collected(list(loader()), folder)
    return folder


def same_files(folder: Path, expected: Path) -> None:
    for name in NAMES:
        assert (folder / name).read_bytes() == (expected / name).read_bytes(), name
    states = [json.loads((path / "state.json").read_text()) for path in (folder, expected)]
    for state in states:
        del state["blocks"], state["checksum"]
    assert states[0] == states[1]
    assert not (folder / "parts").exists()
    ScoreTable.load(folder)


ranges = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=6).map(
    lambda pairs: [(start, start + length) for start, length in pairs]
)


@settings(max_examples=200)
@given(st.integers(1, 3000), st.integers(1, 5), ranges, st.integers(1, 7))
def test_chunks_are_whole_batches_and_cover_each_image_once(n: int, size: int, known: Any, world: int) -> None:
    missing = without([(0, n)], known)
    chunks = chunks_of(n, size, missing)
    counts = np.zeros(n, dtype=int)
    for start, stop in known:
        counts[start:stop] = 1
    for rank in range(world):
        for start, stop in batches_of(chunks[rank::world], size):
            counts[start:stop] += 1
            assert start // size == (stop - 1) // size, "a batch lies within one of all images"
    assert (counts == 1).all()
    assert len(chunks_of(n, size)) <= 512


def as_ranks(folder: str, out: str | None, kind: str) -> dict[str, Any]:
    """Collect in this process of several."""
    source: Any = loader()
    if kind == "batches":
        source = list(loader())
    if kind == "once":
        source = iter(list(loader()))
    gram = GramAccumulator(4, 3)
    sums = ContributionSums(images=None)
    path = None
    if out is not None:
        path = Path(folder) / out
    table = collected(source, path, gram=gram, contributions=sums, group="default")
    total = gram.gram()
    found = sums.result()
    return {
        "X": np.array(table.X),
        "indices": table.indices,
        "labels": table.labels,
        "info": {name: table.info[name] for name in ("norm", "skipped")},
        "G": total.G,
        "B": total.B,
        "n": total.n,
        "moments": found.moments,
        "counts": found.counts,
    }


@pytest.mark.parametrize(("world", "kind", "out"), [(2, "number", "a"), (3, "batches", "a"), (2, "once", None)])
def test_processes_of_a_group_get_what_one_gets(tmp_path: Path, world: int, kind: str, out: str | None) -> None:
    gram = GramAccumulator(4, 3)
    sums = ContributionSums(images=None)
    expected = collected(loader(), tmp_path / "one", gram=gram, contributions=sums)
    done = in_processes(world, as_ranks, str(tmp_path), out, kind)
    assert [outcome.error for outcome in done] == [""] * world
    for outcome in done:
        found = outcome.result
        np.testing.assert_array_equal(found["X"], expected.X)
        np.testing.assert_array_equal(found["indices"], np.arange(N))
        np.testing.assert_array_equal(found["labels"], expected.labels)
        assert found["info"] == {"norm": "l2", "skipped": []}
        np.testing.assert_allclose(found["G"], gram.gram().G, rtol=1e-12)
        np.testing.assert_allclose(found["B"], gram.gram().B, rtol=1e-12)
        np.testing.assert_allclose(found["moments"], sums.result().moments, rtol=1e-12)
        np.testing.assert_array_equal(found["counts"], sums.result().counts)
        assert found["n"] == N
    if out is not None:
        same_files(tmp_path / out, tmp_path / "one")


def test_rows_on_a_device_are_summed_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors of the processor stand for those of a GPU: the sums take them as they are, and get the same numbers."""
    plain = GramAccumulator(4, 3)
    collected(loader(), gram=plain)
    there = GramAccumulator(4, 3)
    honest = there.add
    kinds = []

    def add(rows: Any, labels: Any) -> None:
        kinds.append(type(rows))
        honest(rows, labels)

    monkeypatch.setattr(there, "add", add)
    monkeypatch.setattr("interpnet.scores._intake.has_room", lambda scores, n_classes: True)
    collected(loader(), gram=there)
    assert set(kinds) == {torch.Tensor}
    np.testing.assert_array_equal(there.gram().G, plain.gram().G)
    np.testing.assert_array_equal(there.gram().B, plain.gram().B)


def contributing(kind: str, fill: str) -> Any:
    source: Any = {"number": loader(), "batches": list(loader())}[kind]
    found = collect_contributions(
        network(), source, images=None, fill=fill, thinned=[0.3] * (fill == "zero"), progress=False, group="default"
    )
    return found.moments, found.level, found.images, found.counts


def limited() -> None:
    collect_contributions(network(), loader(), progress=False, group="default")


@pytest.mark.parametrize(("kind", "fill"), [("number", "zero"), ("batches", "mean")])
def test_contributions_of_a_group_are_those_of_one_process(kind: str, fill: str) -> None:
    options: dict[str, Any] = {"images": None, "fill": fill, "thinned": [0.3] * (fill == "zero"), "progress": False}
    expected = collect_contributions(network(), loader(), **options)
    for outcome in in_processes(2, contributing, kind, fill):
        assert outcome.error == ""
        moments, level, images, counts = outcome.result
        np.testing.assert_allclose(moments, expected.moments, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(level, expected.level, rtol=1e-12)
        assert images == N
        np.testing.assert_array_equal(counts, expected.counts)
    for outcome in in_processes(2, limited):
        assert "images is 500: the first of each class in the order of the images are known to no" in outcome.error


def differ(what: str) -> None:
    from torch.distributed import get_rank

    source: Any = loader()
    images = X
    net = network()
    if get_rank() == 1:
        if what == "weights":
            net[0].weight.data[0] += 1.0
        if what == "images":
            images = X.flip(0)
        if what == "number":
            images = X[:-1]
        if what == "order":
            images = torch.cat([X[:2], X[2:].flip(0)])
    if what == "order":
        source = list(zip(images.split(2), Y.split(2), strict=True))
    elif what != "weights":
        source = DataLoader(TensorDataset(images, Y[: len(images)]), batch_size=2)
    if what == "failure" and get_rank() == 1:
        images = X.clone()
        images[3] = np.nan
        source = DataLoader(TensorDataset(images, Y), batch_size=2)
    collect_scores(net, source, progress=False, group="default")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("weights", "the weights of the network differs between the 2 processes"),
        ("images", "the first images that the loader yields differs between"),
        ("number", "the number of images differs between the 2 processes"),
        ("order", "what the loader yields differs between the 2 processes"),
    ],
)
def test_ranks_that_see_something_else_are_refused(what: str, message: str) -> None:
    for outcome in in_processes(2, differ, what):
        assert message in outcome.error


def test_where_one_rank_fails_all_end() -> None:
    one, other = in_processes(2, differ, "failure")
    assert other.error.startswith("DataError: image 3 makes NaN")
    assert one.error.startswith("RanksError: rank 1 failed, and all end: image 3 makes NaN")


@pytest.mark.parametrize(("kind", "count"), [("number", 1), ("number", 14), ("batches", 3)])
def test_merged_shards_are_what_one_process_writes(tmp_path: Path, kind: str, count: int) -> None:
    folders = [tmp_path / f"shard{i}" for i in range(count)]
    source: Any = {"number": loader(), "batches": list(loader())}[kind]
    grams = []
    for i, folder in enumerate(folders, 1):
        gram = GramAccumulator(4, 3)
        table = collected(source, folder, shard=(i, count), gram=gram)
        assert gram.n == len(table)
        if gram.n:
            grams.append(gram.gram())
    merged = merge_scores(folders[::-1], tmp_path / "all", progress=False)
    same_files(tmp_path / "all", whole(tmp_path / "one"))
    total = grams[0]
    for gram in grams[1:]:
        total = total + gram
    np.testing.assert_allclose(total.G, merged.gram().G, rtol=1e-12)
    merge_scores(folders, tmp_path / "all", progress=False)
    same_files(tmp_path / "all", tmp_path / "one")


def stops(after: int, size: int = 2) -> Iterator[Any]:
    for i, batch in enumerate(loader(size)):
        if i == after:
            raise Stopped
        yield batch


class Unsteady(TensorDataset):
    """Items of which one cannot be read, for a while."""

    broken = -1

    def __getitem__(self, index: int) -> Any:
        if index == Unsteady.broken:
            raise Stopped
        return super().__getitem__(index)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interpnet.scores._intake._COMMIT_ROWS", 4)
    monkeypatch.setattr(Unsteady, "broken", -1)


@pytest.mark.parametrize("stop", [1, 9, 22])
def test_a_shard_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    source = DataLoader(Unsteady(X, Y), batch_size=2)
    for i in (1, 2):
        monkeypatch.setattr(Unsteady, "broken", stop)
        try:
            collected(source, tmp_path / str(i), shard=(i, 2))
        except Stopped:
            monkeypatch.setattr(Unsteady, "broken", -1)
            collected(source, tmp_path / str(i), shard=(i, 2))
    merge_scores([tmp_path / "1", tmp_path / "2"], tmp_path / "all", progress=False)
    same_files(tmp_path / "all", whole(tmp_path / "one"))


def rank_stops(folder: str, broken: int) -> None:
    from interpnet.scores import _intake

    _intake._COMMIT_ROWS = 4  # of this process alone
    Unsteady.broken = broken
    collected(DataLoader(Unsteady(X, Y), batch_size=2), Path(folder), group="default")


@pytest.mark.parametrize("begun", ["by one", "by two"])
def test_any_number_of_processes_goes_on_with_what_others_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: str
) -> None:
    folder = tmp_path / "run"
    if begun == "by one":
        with pytest.raises(Stopped, match=r"^$"):
            collected(stops(5), folder)
    for broken in (13, 21):
        in_processes(2, rank_stops, str(folder), broken)
    parts = sorted((folder / "parts").iterdir())
    assert len(parts) == 4, "each process of each run left a part"
    states = [path / "state.json" for path in parts if (path / "state.json").exists()]
    assert sum(json.loads(state.read_text())["rows"] for state in states) >= 8
    read = []
    counting = TensorDataset(X, Y)
    monkeypatch.setattr(TensorDataset, "__getitem__", lambda self, i: read.append(i) or (X[i], Y[i]))
    gram = GramAccumulator(4, 3)
    collected(DataLoader(counting, batch_size=2), folder, gram=gram)
    assert len(set(read)) < N, "what there were rows of is not read again"
    same_files(folder, whole(tmp_path / "one"))
    # Rows of earlier runs, of the joined table and of parts, and those of this one are each summed once.
    assert gram.n == N
    rows = ScoreTable.load(folder).X.astype(np.float64)
    np.testing.assert_allclose(gram.gram().G, rows.T @ rows, rtol=1e-12)


class Cut(BaseException):
    """The process ends at once."""


def test_joining_survives_a_kill_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from interpnet.scores import _join, _table

    folders = [tmp_path / str(i) for i in (1, 2, 3)]
    for i, folder in enumerate(folders, 1):
        collected(loader(), folder, shard=(i, 3))
    whole(tmp_path / "one")
    monkeypatch.setattr(_join, "_COMMIT_BYTES", 1)
    writes = [0]
    limit = [0]
    plain = _table.ScoreWriter._write

    def write(path: Path, data: bytes) -> None:
        writes[0] += 1
        if writes[0] == limit[0]:
            plain(path, data[: len(data) // 2])
            raise Cut
        plain(path, data)

    monkeypatch.setattr(_table.ScoreWriter, "_write", staticmethod(write))
    kills = 0
    for first in range(1, 60, 9):
        remove_tree(tmp_path / "all")
        for at in (first, 5, 11, 10**6):
            writes[0] = 0
            limit[0] = at
            try:
                merge_scores(folders, tmp_path / "all", progress=False)
            except Cut:
                kills += 1
        same_files(tmp_path / "all", tmp_path / "one")
    assert kills >= 15


def test_a_kill_while_parts_are_deleted_leaves_a_complete_table(tmp_path: Path) -> None:
    folder = whole(tmp_path / "run")
    shutil.copytree(folder, folder / "parts" / "000000")
    (folder / "parts" / "000000" / "state.json").write_text("half")
    collected(loader(), folder)
    same_files(folder, whole(tmp_path / "one"))


def shards(tmp_path: Path, **changed: Any) -> list[Path]:
    """Three shards, of which the second is made with other options."""
    folders = [tmp_path / f"s{i}" for i in (1, 2, 3)]
    for i, folder in enumerate(folders, 1):
        options: dict[str, Any] = {"shard": (i, 3), "key": "k"}
        if i == 2:
            options |= changed
        collect_scores(network(), options.pop("source", loader()), out=folder, progress=False, **options)
    return folders


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"norm": "l2sq"}, r"another norm \(l2 in the first, l2sq in the second\)"),
        ({"key": "other"}, r"another model, data or settings"),
        ({"shard": (2, 4)}, r"s2' is shard 2 of 4, and '.*s1' shard 1 of 3"),
        ({"shard": (1, 3)}, r"shard 1 of 3 came twice, '.*s1' and '.*s2'"),
        ({"source": loader(5)}, r"both hold the scores of image|no table holds the scores of images"),
        ({"source": DataLoader(TensorDataset(X[:9], Y[:9]), batch_size=2)}, r"another images \(23 in the"),
    ],
)
def test_shards_that_do_not_belong_together_are_named(tmp_path: Path, changed: Any, message: str) -> None:
    folders = shards(tmp_path, **changed)
    with pytest.raises(RunFolderError, match=message):
        merge_scores(folders, tmp_path / "all", progress=False)


def test_what_is_missing_unfinished_or_no_shard_is_named(tmp_path: Path) -> None:
    folders = shards(tmp_path)
    with pytest.raises(RunFolderError, match=r"^shard 2 of 3 missing: collect with --shard 2/3"):
        merge_scores([folders[0], folders[2]], tmp_path / "all", progress=False)
    with pytest.raises(RunFolderError, match=r"^shards 1, 2 of 3 missing"):
        merge_scores(folders[2:], tmp_path / "all", progress=False)
    with pytest.raises(RunFolderError, match=r"folders is empty"):
        merge_scores([], tmp_path / "all", progress=False)
    with pytest.raises(RunFolderError, match=r"which is one of the shards"):
        merge_scores(folders, folders[1], progress=False)
    with pytest.raises(RunFolderError, match=r"holds no shard"):
        merge_scores([whole(tmp_path / "one")], tmp_path / "all", progress=False)
    with pytest.raises(RunFolderError, match=r"s1' holds the scores of shard 1 of 3, and all images came"):
        collected(loader(), folders[0])
    with pytest.raises(RunFolderError, match=r"one' holds the scores of all images, and shard 1 of 3 came"):
        collected(loader(), tmp_path / "one", shard=(1, 3))
    with pytest.raises(Stopped, match=r"^$"):
        collected(stops(9), tmp_path / "half", shard=(1, 1))
    with pytest.raises(RunFolderError, match=r"shard 1 of 1, '.*half', is unfinished \(\d+ images so far\)"):
        merge_scores([tmp_path / "half"], tmp_path / "all", progress=False)
    data = bytearray((folders[1] / "X.f32").read_bytes())
    data[5] ^= 1
    (folders[1] / "X.f32").write_bytes(data)
    with pytest.raises(RunFolderError, match=r"s2/X.f32' is damaged"):
        merge_scores(folders, tmp_path / "all", progress=False)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"folders": 5}, "folders is 5; expected a list"),
        ({"folders": "one"}, "folders is 'one'; expected a list"),
        ({"folders": [None]}, "a folder in folders is None"),
        ({"folders": ["absent"]}, "absent"),
        ({"out": 5}, "out is 5; expected the name of a file or folder"),
        ({"progress": "no"}, "progress is 'no'; expected True or False"),
    ],
)
def test_wrong_arguments_of_a_merge_are_one_line(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InterpNetError, match=message):
        merge_scores(**{"folders": ["a"], "out": tmp_path, **wrong})


def test_groups_that_cannot_be_are_refused() -> None:
    for group in ("default", 5):
        with pytest.raises(InterpNetError, match=r"torch.distributed is not initialized; expected None"):
            collected(loader(), group=group)


@pytest.mark.parametrize("shard", [(0, 3), (4, 3), (1,), "1/3", (1, 0), (1.0, 3)])
def test_shards_that_cannot_be_are_refused(shard: Any) -> None:
    with pytest.raises(InterpNetError, match=r"shard"):
        collected(loader(), shard=shard)


def test_loaders_that_give_each_process_other_images_are_refused() -> None:
    with pytest.raises(DataError, match=r"the loader shuffles; pass one with shuffle=False"):
        collected(loader(shuffle=True), shard=(1, 2))
    sampler = DistributedSampler(TensorDataset(X, Y), num_replicas=2, rank=0)
    with pytest.raises(DataError, match=r"DistributedSampler, which leaves each process a part"):
        collected(loader(sampler=sampler), shard=(1, 2))
    dropping = loader(collate_fn=lambda items: (X[:1], Y[:1]))
    with pytest.raises(DataError, match=r"images 0 to 1 came as a batch of 1: several processes read"):
        collected(dropping, shard=(1, 2))


def test_other_images_than_a_shard_began_with_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Stopped, match=r"^$"):
        collected(stops(7), tmp_path, shard=(1, 1))
    with pytest.raises(DataError, match=r"images 0 to \d+ are not those that an interrupted collection scored"):
        collected(list(zip(X.flip(0).split(2), Y.split(2), strict=True)), tmp_path, shard=(1, 1))
    with pytest.raises(DataError, match=r"in the middle of a batch"):
        collected(list(loader(5)), tmp_path, shard=(1, 1))
    with pytest.raises(DataError, match=r"the images ended at number"):
        collected(list(loader())[:2], tmp_path, shard=(1, 1))


def test_the_state_of_many_commits_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from interpnet.engine import ChannelIndex
    from interpnet.scores._table import ScoreWriter

    monkeypatch.setattr("interpnet.scores._table._LEAST_BLOCK", 4)
    monkeypatch.setattr("interpnet.scores._table._SHARE", 8)
    writer = ScoreWriter(tmp_path, ChannelIndex((("a", 1),)), 2, key="k", info={})
    for i in range(600):
        writer.append(np.full((1, 1), i, np.float32), np.zeros(1, np.int64), np.zeros(1, np.int64), np.full(1, i))
        writer.commit(i + 1)
        if i == 299:
            writer = ScoreWriter(tmp_path, ChannelIndex((("a", 1),)), 2, key="k", info={})
    writer.finish()
    blocks = json.loads((tmp_path / "state.json").read_text())["blocks"]
    assert len(blocks) < 60, "and not 600"
    assert ScoreTable.load(tmp_path).X[:, 0].tolist() == list(range(600))
    with tempfile.TemporaryDirectory() as copy:
        ScoreTable.load(tmp_path).save(copy)
        assert ScoreTable.load(copy).X[-1, 0] == 599
