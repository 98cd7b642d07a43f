"""Files that survive crashes, and text that harms no terminal: io.py, checksums.py, text.py, csv_table.py."""

from __future__ import annotations

import csv
import json
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from interpnet.errors import RunFolderError
from interpnet.support import io
from interpnet.support.checksums import check_seal, checksum, file_checksum, seal
from interpnet.support.csv_table import safe_cell, write_csv
from interpnet.support.text import one_line, printable

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("size", [0, 1, 2**22 - 1, 2**22, 2**22 + 1])
def test_a_files_checksum_is_that_of_its_bytes(tmp_path, size):
    data = np.random.default_rng(0).bytes(size)
    (tmp_path / "file").write_bytes(data)
    assert file_checksum(tmp_path / "file") == f"{size}-{xxhash.xxh3_64(data).hexdigest()}"
    assert checksum(data) == xxhash.xxh3_64(data).hexdigest()


@settings(max_examples=100, derandomize=True)
@given(content=st.dictionaries(st.text(max_size=6), JSON, max_size=4))
def test_what_was_sealed_is_the_same_after_a_file(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("seal") / "a.json"
    io.write_json(path, seal(content))
    check_seal(io.read_object(path), "it")
    changed = {**io.read_object(path), "one more": 1}
    with pytest.raises(RunFolderError, match="it is damaged or was edited"):
        check_seal(changed, "it")


def test_every_flipped_bit_of_a_sealed_file_is_noticed_or_harmless(tmp_path):
    path = tmp_path / "a.json"
    value = seal({"rows": 3, "names": ["a", "b"], "share": 0.1})
    io.write_json(path, value)
    whole = path.read_bytes()
    refused = 0
    for position in range(8 * len(whole)):
        data = bytearray(whole)
        data[position // 8] ^= 1 << (position % 8)
        path.write_bytes(data)
        try:
            read = io.read_object(path)
            check_seal(read, "it")
        except RunFolderError:
            refused += 1
            continue
        assert read == value, "only spaces between the values may change"
    assert refused > 0.8 * 8 * len(whole)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ('{"a": -Infinity}', "-Infinity is no JSON number"),
        ("[" * 100_000, "cannot be read"),
        ("[1]", "holds a list; expected a JSON object"),
        ("3", "holds a int; expected a JSON object"),
        ("null", "holds a NoneType; expected a JSON object"),
        (b"\xff\xfe{}", "cannot be read"),
        (b"{}\x00", "cannot be read"),
    ],
)
def test_damaged_json_is_named(tmp_path, text, match):
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RunFolderError, match=match) as caught:
        io.read_object(path)
    assert "a.json" in str(caught.value)


def test_a_folder_or_nothing_in_the_place_of_json_is_named(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(RunFolderError, match="cannot be read"):
        io.read_object(tmp_path / "a.json")
    with pytest.raises(RunFolderError, match="does not exist"):
        io.read_object(tmp_path / "b.json")


def test_json_holds_names_that_are_no_utf8(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    io.write_json(tmp_path / "a.json", seal({"name": name, name: 1}))
    text = (tmp_path / "a.json").read_bytes().decode("utf-8")
    assert r"caf\udce9.png" in text
    read = io.read_object(tmp_path / "a.json")
    check_seal(read, "it")
    assert os.fsencode(read["name"]) == b"caf\xe9.png"


@pytest.mark.parametrize("flip", range(0, 700, 7))
def test_a_damaged_npz_is_refused_or_the_same(tmp_path, flip):
    """Every member carries a CRC, so a flipped bit is noticed unless it lies in a date or the like."""
    path = tmp_path / "a.npz"
    np.savez(path, a=np.arange(6.0), b=np.array("text"))
    data = bytearray(path.read_bytes())
    data[flip % len(data)] ^= 1 << (flip % 8)
    path.write_bytes(data)
    with suppress(RunFolderError), io.read_arrays(path, ["a", "b"], "pair") as read:
        assert read["a"].tolist() == [0, 1, 2, 3, 4, 5]
        assert str(read["b"]) == "text"


@pytest.mark.parametrize("size", [0, 1, 10, 100])
def test_a_cut_npz_is_refused(tmp_path, size):
    path = tmp_path / "a.npz"
    np.savez(path, a=np.arange(6.0))
    os.truncate(path, size)
    with (
        pytest.raises(RunFolderError, match=r"a.npz' holds no pair that can be read"),
        io.read_arrays(path, "a", "pair"),
    ):
        pass


def test_a_writer_leaves_its_file_or_nothing_and_syncs_the_folder(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(io, "sync_folder", synced.append)
    io.write_text(tmp_path / "a.txt", "whole")
    assert synced == [tmp_path]
    with pytest.raises(ZeroDivisionError, match="division"), io.atomic_path(tmp_path / "a.txt") as part:
        part.write_text(f"half {1 / 0}")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_a_long_name_can_be_written(tmp_path):
    io.write_text(tmp_path / f"{'ä' * 120}.txt", "text")
    assert len(list(tmp_path.iterdir())) == 1


def test_what_killed_writers_left_goes_and_nothing_else(tmp_path):
    outside = tmp_path / "outside"
    run = tmp_path / "run"
    for folder in (outside, run / "scores" / "deep", run / "mine"):
        folder.mkdir(parents=True)
    left = [run / ".interpnet-state.abc.json", run / "scores" / "deep" / ".interpnet-x.png"]
    kept = [run / ".hidden", run / "mine" / ".interpnet-a.txt", outside / ".interpnet-b.txt", run / "scores" / "X.f32"]
    for path in (*left, *kept):
        path.write_text("text")
    (run / "weights").symlink_to(outside)
    (run / "scores" / ".interpnet-link").symlink_to(outside / ".interpnet-b.txt")
    assert io.remove_temporaries(run, below=("scores", "weights", "absent")) == 2
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)


def test_a_tree_is_removed_but_not_what_its_links_lead_to(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("text")
    (tmp_path / "link").symlink_to(outside)
    (tmp_path / "tree" / "inner").mkdir(parents=True)
    (tmp_path / "tree" / "inner" / "link").symlink_to(outside)
    (tmp_path / "tree" / "file").symlink_to(outside / "precious")
    io.remove_tree(tmp_path / "link")
    io.remove_tree(tmp_path / "tree")
    io.remove_tree(tmp_path / "absent")
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert (outside / "precious").read_text() == "text"


def test_a_link_is_not_written_through(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "X.f32").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        io.open_own(tmp_path / "X.f32", os.O_WRONLY)
    assert (tmp_path / "victim").read_text() == "precious"


# --- text ------------------------------------------------------------------------------------------------

HOSTILE = [
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\r",
    "\n",
    "\t",
    "\x00",
    "\x7f",
    "\x9b31m",
    "\u202e",
    "\u2066",
    "\u2028",
    "\udce9",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_nothing_hostile_is_printed(hostile):
    shown = printable(f"a{hostile}b")
    assert shown.isprintable()
    assert shown.startswith("a")
    assert shown.endswith("b")
    shown.encode()
    assert one_line(f"a{hostile}b").isprintable()


@pytest.mark.parametrize("good", ["Größe", "猫", "שלום", "سلام", "👩‍👧", "a b", "~", "é"])
def test_names_of_any_language_stay(good):
    assert printable(good) == good
    assert safe_cell(good) == good


@pytest.mark.parametrize(
    "start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", " =", "\u00a0=", "\n="]
)
def test_no_cell_is_a_formula(start, tmp_path):
    write_csv(tmp_path / "a.csv", ["name", "value"], [[f"{start}HYPERLINK(1)", -0.5]])
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as handle:
        _, (cell, number) = csv.reader(handle)
    assert cell.startswith("'")
    assert cell.replace("\u00a0", " ").isprintable()
    assert number == "-0.5"


def test_numbers_stay_numbers(tmp_path):
    rows = [[-0.1, float("nan"), None, 3, float("-inf"), np.float64(-2.5), "-3"]]
    write_csv(tmp_path / "a.csv", list("abcdefg"), rows)
    assert (tmp_path / "a.csv").read_text() == "a,b,c,d,e,f,g\n-0.1,,,3,,-2.5,'-3\n"


def test_a_folder_that_cannot_be_written_is_one_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match=r"cannot write .*File exists.*Free disk space"):
        io.write_json(Path(tmp_path / "file" / "a.json"), {})
    with pytest.raises(ValueError, match="Out of range float"):
        io.write_json(tmp_path / "a.json", {"a": float("nan")})
    assert json.loads((tmp_path / "file").read_text() or "[]") == []
