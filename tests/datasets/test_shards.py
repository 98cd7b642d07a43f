"""Tar shards: the same images as in the folder they were made from, each by its place, and every fault named."""

from __future__ import annotations

import gc
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.shards import folder_and_shards, loaded, one, png, sample, write_tar

import interpnet.datasets._sources as sources
from interpnet.datasets import ImageData, load_dataset, make_loader
from interpnet.datasets import _index as index_module
from interpnet.datasets import _samples as samples_module
from interpnet.datasets import _webdataset as webdataset_module
from interpnet.datasets._index import Shard, Wanted
from interpnet.datasets._places import located, shard_files
from interpnet.datasets._samples import index_of
from interpnet.errors import DataError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_and_shards(tmp_path_factory.mktemp("made"))


def images_of(data: ImageData) -> list[bytes]:
    return [data[i][0].numpy().tobytes() for i in range(len(data))]


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    "pattern",
    [
        "shards",
        "shards/*.tar",
        "shards/{train,val}-*.tar",
        "shards/train-{0000..0004}.tar?test={root}/shards/val-{0000..0004}.tar",
    ],
)
def test_shards_are_the_folder_they_were_made_from(made: Path, pattern: str, split: str) -> None:
    folder = load_dataset(f"imagefolder:{made / 'folder'}", split=split, image_size=16)
    shards = loaded(f"{made}/{pattern.replace('{root}', str(made))}", split=split, image_size=16)
    assert shards.classes == folder.classes
    assert shards.labels.tolist() == folder.labels.tolist()
    assert images_of(shards) == images_of(folder)
    assert shards.preprocessing == folder.preprocessing
    assert shards.name(5) == {"train": "train-0001.tar/cat/5.jpeg", "test": "val-0001.tar/cat/5.jpeg"}[split]


# The package leaves its last shard open.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_samples_are_those_of_webdataset_in_its_order(made: Path) -> None:
    wds = pytest.importorskip("webdataset")
    read = list(wds.WebDataset(str(made / "shards" / "train-{0000..0004}.tar"), shardshuffle=False, empty_check=False))
    data = loaded(made / "shards" / "train-{0000..0004}.tar")
    assert len(data) == len(read) == 18
    for i, theirs in enumerate(read):
        name = data.name(i)
        suffix = name.rpartition(".")[2]
        assert name == f"{Path(theirs['__url__']).name}/{theirs['__key__']}.{suffix}"
        assert data._source.encoded(i) == theirs[suffix]  # type: ignore[attr-defined]
        assert data.classes[data.labels[i]] == theirs["cls"].decode()
    del read
    gc.collect()


def test_shards_that_webdataset_wrote_are_read(tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset")
    with wds.ShardWriter(str(tmp_path / "all-%03d.tar"), maxcount=2, verbose=0) as sink:
        for i in range(5):
            sink.write({"__key__": f"k{i}", "png": png(i), "cls": i % 3, "json": {"label": 7}})
    data = loaded(tmp_path, channels=1, mean=0, std=1)
    assert data.labels.tolist() == [0, 1, 2, 0, 1]
    assert [round(float(data[i][0].max()) * 255) for i in range(5)] == [0, 1, 2, 3, 4]
    assert data.numbered


def test_workers_and_parts_of_ranks_read_each_image_once(made: Path) -> None:
    data = loaded(made / "shards", image_size=16)
    whole = torch.cat([batch.images for batch in make_loader(data, batch_size=4)])
    for world in (1, 3):
        parts = []
        for rank in range(world):
            chunks = [range(start, min(start + 4, 18)) for start in range(0, 18, 4)][rank::world]
            indices = [i for chunk in chunks for i in chunk]
            loader = make_loader(data, batch_size=4, indices=indices, num_workers=2)
            parts += [(int(i), image) for batch in loader for i, image in zip(batch.indices, batch.images, strict=True)]
        assert sorted(i for i, _ in parts) == list(range(18))
        assert all(torch.equal(image, whole[i]) for i, image in parts)


def test_a_source_can_be_sent_to_another_process(made: Path) -> None:
    data = loaded(made / "shards")
    data[0]
    again = pickle.loads(pickle.dumps(data))  # noqa: S301
    assert images_of(again) == images_of(data)


def test_few_files_stay_open(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webdataset_module, "_MOST_OPEN", 2)
    data = loaded(made / "shards")
    assert len(images_of(data)) == 18
    opened = data._source._files._open  # type: ignore[attr-defined]
    assert len(opened) == 2
    del data
    assert not opened


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_of_every_format(tmp_path: Path, form: int) -> None:
    keys = ["a" * 60 + "/" + "b" * 60, "häßlich/ö", "plain"]
    if form != tarfile.USTAR_FORMAT:
        keys.append("c" * 300)
    path = one(tmp_path, *[part for i, key in enumerate(keys) for part in sample(key, str(i), i)], format=form)
    data = loaded(path, channels=1, mean=0, std=1)
    assert [data.name(i) for i in range(len(keys))] == [f"one.tar/{key}.png" for key in keys]
    assert [round(float(data[i][0].max()) * 255) for i in range(len(keys))] == list(range(len(keys)))


def test_names_that_lead_out_of_the_folder_are_names(tmp_path: Path) -> None:
    data = loaded(one(tmp_path, *sample("../../etc/x"), *sample("/abs/y", "1"), *sample("n\xe9\ny", "1")))
    assert data.name(0) == "one.tar/../../etc/x.png"
    assert data.name(1) == "one.tar/abs/y.png" or data.name(1) == "one.tar//abs/y.png"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.tar"]
    data[0]


def test_a_large_number_is_read_from_the_header(tmp_path: Path) -> None:
    path = one(tmp_path, *sample("a"))
    raw = bytearray(path.read_bytes())
    size = len(png())
    # GNU tar writes sizes beyond 8 GiB as bytes; a small one may stand so, too.
    raw[124:136] = b"\x80" + size.to_bytes(11, "big")
    raw[148:156] = b" " * 8
    raw[148:156] = f"{sum(raw[:512]):06o}\0 ".encode()
    path.write_bytes(raw)
    assert len(loaded(path)) == 1


LABELS: dict[str, tuple[list[tuple[str, bytes]], list[Any], tuple[str, ...]]] = {
    "numbers": ([("cls", b"2\n"), ("cls", b" 0 ")], [2, 0], ("0", "1", "2")),
    "names": ([("cls", b"wolf"), ("cls", b"boat\n")], [1, 0], ("boat", "wolf")),
    "text": ([("txt", b"wolf"), ("txt", b"boat")], [1, 0], ("boat", "wolf")),
    "cls before json": ([("cls", b"1"), ("cls", b"0")], [1, 0], ("0", "1")),
    "json": ([("json", b'{"id": 5, "label": 1}'), ("json", b'{"label": 0}')], [1, 0], ("0", "1")),
    "json of names": ([("json", b'{"target": "x"}'), ("json", b'{"target": "a"}')], [1, 0], ("a", "x")),
    "json without a key": ([("json", b"1"), ("json", b"0")], [1, 0], ("0", "1")),
    "several numbers": (
        [("json", b'{"labels": [2, 0]}'), ("json", b'{"labels": []}')],
        [[1, 0, 1], [0, 0, 0]],
        ("0", "1", "2"),
    ),
    "several names": ([("json", b'{"labels": []}'), ("json", b'{"labels": ["b", "a"]}')], [[0, 0], [1, 1]], ("a", "b")),
    "rows of 0 and 1": (
        [("json", b'{"y": [0, 1, 1]}'), ("json", b'{"y": [1, 0, 0]}')],
        [[0, 1, 1], [1, 0, 0]],
        ("0", "1", "2"),
    ),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_of_every_form(tmp_path: Path, case: str) -> None:
    labels, expected, classes = LABELS[case]
    members = [
        part for i, (suffix, text) in enumerate(labels) for part in [(f"{i}.png", png()), (f"{i}.{suffix}", text)]
    ]
    data = loaded(one(tmp_path, *members))
    found = data.targets
    if found is None:
        found = data.labels
    assert found.astype(int).tolist() == expected
    assert data.classes == classes


def test_image_and_label_can_be_named(tmp_path: Path) -> None:
    member = [("a.left.png", png(1)), ("a.right.png", png(2)), ("a.breed", b"pug"), ("a.json", b'{"kind": "dog"}')]
    path = one(tmp_path, *member)
    options: dict[str, Any] = {"channels": 1, "mean": 0, "std": 1}
    for inputs, value in (("left.png", 1), ("right.png", 2)):
        data = loaded(f"{path}?inputs={inputs}&labels=breed", **options)
        assert round(float(data[0][0].max()) * 255) == value
        assert data.classes == ("pug",)
    assert loaded(f"{path}?inputs=left.png&labels=kind").classes == ("dog",)
    with pytest.raises(
        DataError, match=r"sample 'a' of shard '.*one.tar' has several images \(.left.png, .right.png\)"
    ):
        loaded(f"{path}?labels=breed")
    with pytest.raises(DataError, match=r"has no member .top.png, which inputs= names, among its members \(.left.png,"):
        loaded(f"{path}?labels=breed&inputs=top.png")


def test_the_plain_image_counts_beside_further_pictures(tmp_path: Path) -> None:
    path = one(tmp_path, ("a.jpg", png(3)), ("a.seg.png", png(9)), ("a.cls", b"1"))
    assert round(float(loaded(path, channels=1, mean=0, std=1)[0][0].max()) * 255) == 3


def test_what_webdataset_leaves_out_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "one.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("folder", "folder/inner"):
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE
            tar.addfile(info)
        link = tarfile.TarInfo("folder/b.png")
        link.type = tarfile.SYMTYPE
        link.linkname = "a.png"
        tar.addfile(link)
    inner = write_tar(
        tmp_path / "two.tar", [("__meta__", b"{}"), ("folder/.hidden", b"x"), ("LICENSE", b"x"), *sample("a")]
    )
    # A tar within a tar's end is a tar: the first one's members, then the second's.
    path.write_bytes(path.read_bytes().rstrip(b"\0").ljust(3 * 512, b"\0") + inner.read_bytes())
    inner.unlink()
    with pytest.warns(UserWarning, match="left out: 3 hidden or without an ending, 1 links"):
        data = loaded(path)
    assert len(data) == 1
    assert data.notes == ("Members of the shards that were left out: 3 hidden or without an ending, 1 links.",)


def test_folders_of_splits_and_the_same_shards_for_both(tmp_path: Path) -> None:
    for split, label in (("train", "0"), ("valid", "1")):
        write_tar(tmp_path / split / "000.tar", sample("a", label))
    assert [loaded(tmp_path, split=split).labels.tolist() for split in ("train", "test")] == [[0], [1]]
    only = [loaded(tmp_path / "valid", split=split) for split in ("train", "test")]
    assert only[0].fingerprint() == only[1].fingerprint()


def test_ranges_count_as_a_shell_does(tmp_path: Path) -> None:
    for name in ("8", "9", "10", "008"):
        (tmp_path / f"{name}.tar").touch()
    assert [path.name for path in shard_files(f"{tmp_path}/{{8..10}}.tar", (".tar",))] == ["8.tar", "9.tar", "10.tar"]
    assert [path.name for path in shard_files(f"{tmp_path}/{{008..008}}.tar", (".tar",))] == ["008.tar"]


@pytest.mark.parametrize("limit", [1 << 30, 0])
def test_the_fingerprint_knows_content_order_and_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(sources, "_HASH_CONTENT_UP_TO", limit)
    path = one(tmp_path, *sample("a"), *sample("b", "1"))
    same = loaded(path).fingerprint()
    assert loaded(path).fingerprint() == same
    seen = {same}
    for members in ([*sample("a", "0", 1), *sample("b", "1")], [*sample("b", "1"), *sample("a")], [*sample("a")] * 1):
        one(tmp_path, *members)
        seen.add(loaded(path).fingerprint())
    assert len(seen) == 4
    one(tmp_path, *sample("a"), *sample("b", "1"))
    # Beyond the limit a copy is known by its time of change.
    assert (loaded(path).fingerprint() == same) is (limit > 0)


def test_a_shard_that_changes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = one(tmp_path, *sample("a"), *sample("b", "1"))
    data = loaded(path)
    data[0]
    one(tmp_path, *sample("a", "0", 7), *sample("b", "1"))
    with pytest.raises(DataError, match="changed while it was read: images would be others than their labels say"):
        data[1]
    path.unlink()
    with pytest.raises(DataError, match="cannot be read: No such file"):
        pickle.loads(pickle.dumps(data))[0]  # noqa: S301


def test_an_image_that_cannot_be_decoded_is_named_or_left_out(tmp_path: Path) -> None:
    path = one(tmp_path, *sample("a"), ("b.png", b"no image"), ("b.cls", b"1"), ("c.png", b""), ("c.cls", b"1"))
    with pytest.raises(DataError, match=r"image 'one.tar/b.png' cannot be read: it is no image of a known format"):
        list(make_loader(loaded(path)))
    loader = make_loader(loaded(path, on_bad_image="skip"))
    assert [len(batch.labels) for batch in loader] == [1]
    assert [image.name for image in loader.skipped] == ["one.tar/b.png", "one.tar/c.png"]


def test_the_index_is_small_and_counted(tmp_path: Path) -> None:
    members = [part for i in range(1000) for part in ((f"n{i:08d}.jpg", b""), (f"n{i:08d}.cls", b"1"))]
    index = index_of((Shard.at(one(tmp_path, *members)),), Wanted())
    assert index.nbytes / 1000 < 25
    assert [index.name(i) for i in (0, 255, 256, 999)] == [f"n{i:08d}.jpg" for i in (0, 255, 256, 999)]


LABELLED = {"numbers": ["3", "1"], "names": ["cat", "dog"], "lists": ["[1]", "[]"], "lists of names": ['["x"]', "[]"]}


@pytest.mark.parametrize("case", LABELLED)
def test_the_index_of_many_images_is_kept_for_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    suffix = {True: "json", False: "cls"}["lists" in case]
    members = [(".hidden", b"x")]
    for i in range(700):
        members += [(f"k{i}.png", png(i % 250)), (f"k{i}.{suffix}", LABELLED[case][i % 2].encode())]
    wanted = (Shard.at(one(tmp_path, *members)),), Wanted()
    index_of.cache_clear()
    small = index_of(*wanted)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(index_module, "_KEPT_FROM", 700)
    index_of.cache_clear()
    index_of(*wanted)
    folder = next((tmp_path / "cache" / "interpnet" / "shards").iterdir())
    monkeypatch.setattr(samples_module, "members", lambda *_: pytest.fail("read again"))
    index_of.cache_clear()
    kept = index_of(*wanted)
    assert isinstance(kept.blocks, np.memmap)
    for name in ("firsts", "blocks", "sizes", "names", "name_sizes", "name_places"):
        assert np.array_equal(getattr(kept, name), getattr(small, name))
    assert kept.labels.values.tolist() == small.labels.values.tolist()
    assert kept.labels.names == small.labels.names
    assert (kept.labels.counts is None) == (small.labels.counts is None)
    assert kept.left_out == small.left_out == {"hidden or without an ending": 1}
    # A damaged file, and a shard that changed, are read again.
    (folder / "blocks.npy").write_bytes(b"damaged")
    index_of.cache_clear()
    with pytest.raises(pytest.fail.Exception, match="read again"):
        index_of(*wanted)
    index_of.cache_clear()
    with pytest.raises(pytest.fail.Exception, match="read again"):
        index_of((Shard(wanted[0][0].path, wanted[0][0].size, 0),), Wanted())
    index_of.cache_clear()


def test_names_of_many_are_those_of_each(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    keys = [f"{i}-{'x' * rng.integers(30)}ü" for i in range(600)]
    for shard, part in enumerate((keys[:250], keys[250:])):
        write_tar(tmp_path / f"{shard}.tar", [member for key in part for member in sample(key)])
    names = loaded(tmp_path)._source.names
    each = [names[i] for i in range(600)]
    assert each == [f"{int(i >= 250)}.tar/{key}.png" for i, key in enumerate(keys)]
    for first, last in ((0, 600), (0, 1), (255, 257), (256, 512), (249, 251), (599, 600), (7, 7)):
        assert names[first:last] == each[first:last]
    assert names[::-7] == each[::-7]


def test_places_of_a_run_are_found_from_its_folder(made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = "shards/train-*.tar?labels=cls&test=shards/val-{0000..0004}.tar"
    found = located(place, str(made))
    assert found == f"{made}/shards/train-*.tar?labels=cls&test={made}/shards/val-{{0000..0004}}.tar"
    monkeypatch.chdir(made)
    assert located(place, str(tmp_path)) == place
    assert located("shards/none.tar", str(tmp_path)) == "shards/none.tar"
