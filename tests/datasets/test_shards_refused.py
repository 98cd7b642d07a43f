"""Every fault of a tar shard, of a sample in it and of its place is one line that names it."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import numpy as np
import pytest
from helpers.shards import folder_and_shards, loaded, one, png, sample, write_tar

from interpnet.errors import DataError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_and_shards(tmp_path_factory.mktemp("made"))


REFUSED: dict[str, tuple[list[tuple[str, bytes]], str]] = {
    "no label": ([("a.png", png())], r"sample 'a' of shard '.*one.tar' has no label among its members \(.png\)"),
    "no image": ([("a.cls", b"1")], r"sample 'a' of shard '.*one.tar' has no image among its members \(.cls\)"),
    "apart": ([("a.png", png()), ("b.png", png()), ("a.cls", b"1"), ("b.cls", b"1")], "sample 'a' .* has no label"),
    "twice": ([*sample("a"), *sample("b"), *sample("a")], "has the sample 'a' twice; expected the members"),
    "member twice": ([("a.png", png()), ("a.png", png()), ("a.cls", b"1")], "has the member 'a.png' twice"),
    "several images": ([("a.jpg", png()), ("a.png", png()), ("a.cls", b"1")], r"has several images \(.jpg, .png\)"),
    "empty label": ([("a.png", png()), ("a.cls", b" \n")], r"has an empty label \(.cls\)"),
    "long label": ([("a.png", png()), ("a.txt", b"x" * 300)], "has the label 'xxx.*expected the name of a class, on"),
    "several lines": ([("a.png", png()), ("a.txt", b"x\ny")], "expected the name of a class, on one line"),
    "bytes for a label": ([("a.png", png()), ("a.cls", b"\xff\xfe")], r"has a label that is no UTF-8 text \(.cls\)"),
    "huge label": ([("a.png", png()), ("a.json", b" " * (1 << 20) + b"1")], r"has a label of 1048577 bytes \(.json\)"),
    "hidden": ([("a.png", png()), ("a.cls", b"-1")], "has the label -1; expected a class number from 0"),
    "an identifier": ([("a.png", png()), ("a.cls", b"123456789")], "has the label 123456789; expected a class number"),
    "mixed": (
        [*sample("a", "1"), *sample("b", "cat")],
        r"sample 'b' .* 'cat' \(str\); expected a class number, as the",
    ),
    "a float": ([("a.png", png()), ("a.json", b"1.5")], r"has the label '1.5' \(float\); expected a class number,"),
    "yes or no": ([("a.png", png()), ("a.json", b"true")], r"has the label 'True' \(bool\); expected a class number,"),
    "no key": (
        [("a.png", png()), ("a.json", b'{"breed": 1}')],
        r"has no label or .* in its .json \(there: breed\); say",
    ),
    "broken json": ([("a.png", png()), ("a.json", b"{")], "has a .json that cannot be read: Expecting property name"),
    "deep json": ([("a.png", png()), ("a.json", b"[" * 100_000)], "has a .json that cannot be read"),
    "a label twice": ([("a.png", png()), ("a.json", b"[2, 2]")], "image 'one.tar/a.png' has a label twice"),
    "nothing": ([("README", b"x")], r"shard '.*one.tar' has no images \(1 other members\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_faults_of_samples_are_named(tmp_path: Path, case: str) -> None:
    members, said = REFUSED[case]
    path = one(tmp_path, *members)
    with pytest.raises(DataError, match=said):
        loaded(path)


def test_a_tar_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    path = one(tmp_path, *sample("a"), *sample("b", "1"))
    whole = path.read_bytes()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    for length in range(1, end, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut off|no tar file"):
            loaded(path)
    path.write_bytes(whole[:end])
    with pytest.raises(DataError, match=r"ends after member 'b.cls' \(number 4\) without the empty blocks"):
        loaded(path)
    path.write_bytes(whole[: 512 + 100])
    with pytest.raises(
        DataError, match=r"member 'a.png' \(number 1\) of shard '.*' is cut off: the file ends at byte 612"
    ):
        loaded(path)


def test_a_tar_changed_at_random_is_read_or_refused(tmp_path: Path) -> None:
    path = one(tmp_path, *sample("a" * 120), *sample("b", "1"), format=tarfile.PAX_FORMAT)
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(300):
        raw = bytearray(whole)
        for at in rng.integers(0, len(whole.rstrip(b"\0")), rng.integers(1, 4)):
            raw[at] = rng.integers(256)
        path.write_bytes(raw)
        try:
            len(loaded(path))
        except DataError:
            refused += 1
    assert refused > 150


FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", r"shard '.*' is empty \(0 bytes\)"),
    "gzip": (gzip.compress(b"x" * 600), r"is compressed \(gzip\): no image in it can be read by itself"),
    "text": (b"hello " * 200, r"shard '.*' is no tar file; expected shards as webdataset writes them"),
    "short": (b"hello", r"is cut off|is no tar file"),
    "blocks of zeros": (bytes(10240), "has no images"),
}


@pytest.mark.parametrize("case", FILES)
def test_what_is_no_tar(tmp_path: Path, case: str) -> None:
    content, said = FILES[case]
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(DataError, match=said):
        loaded(tmp_path / "x.tar")


def test_joined_and_sparse_tars_are_refused(tmp_path: Path) -> None:
    path = one(tmp_path, *sample("a"))
    whole = path.read_bytes()
    path.write_bytes(whole + whole)
    with pytest.raises(DataError, match=r"goes on behind its end, after member 'a.cls' \(number 2\), as tars do that"):
        loaded(path)
    raw = bytearray(whole)
    raw[156:157] = b"S"
    raw[148:156] = b" " * 8
    raw[148:156] = f"{sum(raw[:512]):06o}\0 ".encode()
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"is of a kind that is not read here \(b'S'\).*no --sparse"):
        loaded(path)


PLACES = {
    "http://host/a-{0..3}.tar": "is not on this machine; copy the shards to a disk first",
    "pipe:cat a.tar": "is not on this machine",
    "s3://bucket/a.tar": "is not on this machine",
    "{root}/no-*.tar": r"matches no file; expected shards \(.tar\)",
    "{root}/shards/train-{0000..0009}.tar": "5 of 10 shards of .* are not there; the first is '.*train-0005.tar'",
    "{root}/shards/trian-0000.tar": "1 of 1 shards .* did you mean 'train-0000.tar'",
    "{root}/shards/train-{0003..0001}.tar": r"\{0003..0001\} stands for -1 shards; expected 1 to 1000000, rising",
    "{root}/shards/train-{0000,0000}.tar": "names the shard '.*train-0000.tar' twice; its images would count twice",
    "{root}/folder": r"matches no file; expected shards",
    "{root}/shards?label=cls": "has the option 'label'; expected test, inputs, labels; did you mean 'labels'",
    "{root}/shards?labels=": "has the option 'labels' twice or without a value",
    "{root}/shards/train-*.tar?test={root}/shards": "the shard '.*train-0000.tar' is in both the training and the test",
    "{root}/shards/{train-0000,val-0001,val-0000}.tar?labels=x": "no 'x' for labels=x",
    "?labels=x": "has no path before its options",
    "": "data set 'webdataset:' lacks its folder or file",
}


@pytest.mark.parametrize("place", PLACES)
def test_places_that_are_refused(made: Path, place: str) -> None:
    with pytest.raises(DataError, match=PLACES[place]):
        loaded(place.replace("{root}", str(made)))


def test_kinds_of_shards_that_are_no_pair_are_refused(tmp_path: Path) -> None:
    for name in ("train-0", "train-1", "extra-0"):
        write_tar(tmp_path / f"{name}.tar", sample("a"))
    with pytest.raises(DataError, match=r"are of several kinds and no pair .*'train-0.tar \(2\)'; give a pattern"):
        loaded(tmp_path)
    write_tar(tmp_path / "test-0.tar", sample("a", "1"))
    data = loaded(tmp_path, split="test")
    assert len(data) == 1
    assert data.notes == ("Shards that belong to neither the training nor the test: 'extra-0.tar'.",)


def test_a_class_that_the_training_lacks_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", [*sample("a", "cat"), *sample("b", "dog")])
    write_tar(tmp_path / "test-0.tar", [*sample("a", "dog"), *sample("b", "dgo")])
    with pytest.raises(DataError, match=r"image 'test-0.tar/b.png' is of the class 'dgo', which .* did you mean 'dog'"):
        loaded(tmp_path, split="test")
    write_tar(tmp_path / "test-0.tar", sample("a", "1"))
    with pytest.raises(DataError, match="has labels of another kind than the training images"):
        loaded(tmp_path, split="test")
