"""Shards of a collection and their merging: the run is the one that one process would have made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.processes import command_in_processes
from helpers.small_audit import folder_of_images, manifest
from interpnet.pipelines import merge_runs
from interpnet.pipelines.cli.app import main
from interpnet.pipelines.stages import collect as collecting

from interpnet.errors import RunFolderError
from interpnet.interpretation import Interpretation
from interpnet.reliance import Contributions

NETWORK = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 3)
    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))
def make():
    return Net()
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network and images, the current one."""
    (tmp_path / "net.py").write_text(NETWORK)
    folder_of_images(tmp_path / "images", 3, each=7)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(collecting, "first_look", lambda *_: None)  # the network was never trained
    return tmp_path


def collect(out: str, *more: str) -> int:
    common = ("--batch-size", "2", "--contribution-images", "4", "--identify", "both", "--device", "cpu")
    return main(["collect", "net.py:make", "imagefolder:images", "--out", out, *common, *more])


def shards(count: int, *more: str) -> list[str]:
    names = [f"s{i}" for i in range(1, count + 1)]
    for i, name in enumerate(names, 1):
        assert collect(name, "--shard", f"{i}/{count}", *more) == 0
    return names


def interpretation(folder: Path) -> Interpretation:
    return Interpretation.load(folder / "interpretation.npz")


def check_same(one: Path, other: Path) -> None:
    """Compare two runs: the same rows, sums to rounding, and the same account of them."""
    for name in ("X.f32", "labels.bin", "predictions.i64", "indices.i64"):
        assert (one / "scores" / name).read_bytes() == (other / "scores" / name).read_bytes(), name
    states = [json.loads((run / "scores" / "state.json").read_text()) for run in (one, other)]
    for state in states:
        # Blocks end where rows were committed.
        del state["blocks"], state["checksum"]
    assert states[0] == states[1]
    with np.load(one / "scores" / "gram.npz") as first, np.load(other / "scores" / "gram.npz") as second:
        for name in ("G", "B", "yy", "n"):
            np.testing.assert_allclose(first[name], second[name], rtol=1e-12)
    mine, theirs = (Contributions.load(run / "contributions" / "contributions.npz") for run in (one, other))
    assert (mine.info, mine.images, mine.counts.tolist()) == (theirs.info, theirs.images, theirs.counts.tolist())
    np.testing.assert_allclose(mine.moments, theirs.moments, rtol=1e-12, atol=1e-15)
    a, b = manifest(one), manifest(other)
    assert "shard" not in b
    for name in ("identity", "data", "model", "collect", "notes", "subject_notes"):
        assert a[name] == b[name], name
    for stage in ("collect", "contributions"):
        for fact in ("key", "n_images", "accuracy", "n_classes_with_images", "n_channels", "notes", "files"):
            assert a["stages"][stage].get(fact) == b["stages"][stage].get(fact), (stage, fact)


@pytest.mark.parametrize("count", [3, 13])
def test_a_merged_run_is_that_of_one_process(here: Path, capsys: pytest.CaptureFixture[str], count: int) -> None:
    names = shards(count)
    said = capsys.readouterr().out
    assert f"next: interpnet merge RUN... --out ALL, with the run folders of all {count} shards" in said
    assert not list((here / "s1" / "contributions").glob("contributions.npz"))
    assert collect("one") == 0
    capsys.readouterr()
    assert main(["merge", *names[::-1], "--out", "all"]) == 0
    assert "next: interpnet audit --out all" in capsys.readouterr().out
    check_same(here / "one", here / "all")
    assert main(["merge", *names, "--out", "all"]) == 0
    assert capsys.readouterr().out.count("up to date, skipped") == 2
    assert main(["solve", "all", "--mu", "2"]) == 0
    assert main(["solve", "one", "--mu", "2"]) == 0
    one, other = (interpretation(here / run / "weights") for run in ("one", "all"))
    assert [one.relevant(c)[0][0] for c in range(3)] == [other.relevant(c)[0][0] for c in range(3)]
    np.testing.assert_allclose(one.coef, other.coef, rtol=1e-9)


def test_images_that_cannot_be_read_leave_room_for_others(here: Path) -> None:
    """The shards cannot know, so that contributions are collected afterwards: of the same images, in whole batches."""
    files = sorted((here / "images" / "train").rglob("*.png"))
    for file in (files[0], files[9], files[12], files[13]):
        file.write_bytes(b"damaged")
    names = shards(3, "--on-bad-image", "skip")
    assert collect("one", "--on-bad-image", "skip") == 0
    assert main(["merge", *names, "--out", "all"]) == 0
    assert "contributions" not in manifest(here / "all")["stages"]
    assert main(["collect", "all"]) == 0
    check_same(here / "one", here / "all")
    assert len(manifest(here / "all")["data"]["train"]["skipped"]) == 4


def test_processes_collect_what_one_collects_also_where_images_cannot_be_read(here: Path) -> None:
    files = sorted((here / "images" / "train").rglob("*.png"))
    for file in (files[0], files[9], files[12], files[13]):
        file.write_bytes(b"damaged")
    assert collect("one", "--on-bad-image", "skip") == 0
    options = ("--batch-size", "2", "--contribution-images", "4", "--identify", "both", "--on-bad-image", "skip")
    command = ("collect", "net.py:make", "imagefolder:images", *options, "--anyway", "--device", "cpu")
    for outcome in command_in_processes(2, *command, "--out", "two"):
        assert (outcome.code, outcome.err) == (0, "")
    assert not (here / "two" / "scores" / "parts").exists()
    notes = manifest(here / "two")["stages"]["collect"]["notes"]
    assert any("4 training images could not be read" in note for note in notes)
    check_same(here / "one", here / "two")


def test_a_shard_alone_is_no_run_to_go_on_with(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert collect("s2", "--shard", "2/3") == 0
    capsys.readouterr()
    for command in (["solve", "s2"], ["ablate", "s2"], ["report", "s2"], ["audit", "--out", "s2"]):
        assert main(command) == 2
        assert "run folder 's2' holds shard 2 of 3 alone; merge all first: interpnet merge" in capsys.readouterr().err
    assert collect("s2", "--shard", "1/3") == 2
    assert "run folder 's2' holds shard 2 of 3, and --shard 1/3 came" in capsys.readouterr().err
    assert main(["collect", "s2"]) == 0
    assert "collect: up to date, skipped" in capsys.readouterr().out
    assert collect("one") == 0
    assert collect("one", "--shard", "1/3") == 2
    assert "run folder 'one' holds all images, and --shard 1/3 came" in capsys.readouterr().err
    assert collect("one", "--shard", "1/3", "--fresh") == 0
    assert manifest(here / "one")["shard"] == [1, 3]


@pytest.mark.parametrize("shard", ["0/3", "4/3", "a/b", "3", "1/0", "1/3/2", "-1/3"])
def test_shards_that_cannot_be_are_refused(here: Path, capsys: pytest.CaptureFixture[str], shard: str) -> None:
    assert collect("s", f"--shard={shard}") == 2
    assert f"error: --shard is '{shard}'; expected I/N, the I-th of N shards" in capsys.readouterr().err
    assert not (here / "s").exists()


def test_runs_that_do_not_belong_together_are_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = shards(3)
    capsys.readouterr()

    def refused(*runs: str) -> str:
        assert main(["merge", *runs, "--out", "all"]) == 2
        assert not (here / "all").exists()
        return capsys.readouterr().err

    assert "error: shard 2 of 3 missing: collect with --shard 2/3" in refused("s1", "s3")
    assert "'s1' came twice" in refused("s1", "s1", "s2", "s3")
    shutil.copytree("s1", "copy")
    assert "shard 1 of 3 came twice" in refused("s1", "copy", "s2", "s3")
    assert "run folder 'absent' does not exist" in refused("s1", "absent")
    assert collect("one") == 0
    capsys.readouterr()
    assert "run folder 'one' holds no shard" in refused("s1", "one", "s3")
    assert collect("other", "--shard", "2/3", "--norm", "l2sq") == 0
    capsys.readouterr()
    assert "norm is 'l2' there and 'l2sq' here" in refused("s1", "other", "s3")
    assert collect("four", "--shard", "2/4") == 0
    capsys.readouterr()
    assert "is shard 2 of 4, and" in refused("s1", "four", "s3")
    data = json.loads((here / "s2" / "manifest.json").read_text())
    data["stages"]["collect"]["state"] = "interrupted"
    del data["checksum"]
    from interpnet.support.checksums import seal

    (here / "s2" / "manifest.json").write_text(json.dumps(seal(data)))
    assert "shard 2 of 3, 's2', is unfinished; interpnet collect s2 goes on with it" in refused(*names)
    assert main(["merge", *names]) == 2
    assert "--out is missing" in capsys.readouterr().err
    with pytest.raises(RunFolderError, match="runs is empty"):
        merge_runs([], here / "all")


def test_an_interrupted_merge_goes_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from interpnet.scores import _join, _table

    names = shards(3)
    assert collect("one") == 0
    monkeypatch.setattr(_join, "_COMMIT_BYTES", 1)
    honest = _table.ScoreWriter.append
    calls = [0]

    def breaking(*args: object) -> None:
        calls[0] += 1
        if calls[0] in {4, 9}:
            raise KeyboardInterrupt
        honest(*args)

    monkeypatch.setattr(_table.ScoreWriter, "append", breaking)
    assert [main(["merge", *names, "--out", "all"]) for _ in range(3)] == [130, 130, 0]
    check_same(here / "one", here / "all")


def test_torchrun_and_shards_are_one_too_many(here: Path) -> None:
    command = ("collect", "net.py:make", "imagefolder:images", "--shard", "1/2", "--out", "s")
    first, second = command_in_processes(2, *command)
    assert first.err.startswith("error: --shard 1/2 came to 2 processes of torchrun, which share the images by")
    assert (first.code, second.code) == (2, 2)
