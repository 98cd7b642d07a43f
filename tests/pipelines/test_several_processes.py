"""Stages and commands in several processes: the same files as from one, one voice, and an end for all."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.processes import command_in_processes, in_processes
from helpers.same_runs import check_same
from helpers.small_audit import manifest
from helpers.tiny_run import Tiny, said, through, tiny_session
from interpnet.pipelines.run import session, several
from interpnet.pipelines.stages import examples
from torch import nn

from interpnet import audit
from interpnet.errors import DataError, LostRankError
from interpnet.models import SmallCNN, save_smallcnn
from interpnet.support.ranks import ranks_of

_BOTH: dict[str, Any] = {"identify": "both", "contribution_images": 100, "repeats": 2, "examples": 1, "top": 4}
_BOTH |= {"misclassified": 1, "max_channels": 2}


def stages(folder: str) -> str:
    """Run every stage but the report in the processes of the group; return what this one printed."""
    examples._GROUP = 2  # so that there is something to share
    run = tiny_session(Path(folder), **_BOTH)
    run.run.ranks = ranks_of("default")
    run.console.quiet = not run.ranks.first
    # As a command does: no rank writes before all have opened the folder.
    with run.run.locked():
        return said(through(run))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examples, "_GROUP", 2)
        run = tiny_session(folder, **_BOTH)
        with run.run.locked():
            through(run)
    return folder


@pytest.mark.parametrize("world", [2, 4])
def test_several_processes_write_what_one_writes(tmp_path: Path, alone: Path, world: int) -> None:
    done = in_processes(world, stages, str(tmp_path / "run"))
    assert [outcome.error for outcome in done] == [""] * world
    assert "explain: done" in done[0].result
    assert [outcome.result for outcome in done[1:]] == [""] * (world - 1)
    check_same(alone, tmp_path / "run")
    timeless = ("n_images", "key", "files", "notes", "checksums")
    one, other = (manifest(folder)["stages"] for folder in (alone, tmp_path / "run"))
    for name, entry in one.items():
        for fact in set(timeless[:-1]) & set(entry):
            assert entry[fact] == other[name][fact], (name, fact)


def test_several_processes_go_on_with_the_run_of_one_and_skip_what_is_there(alone: Path) -> None:
    before = manifest(alone)["stages"]
    first, second = in_processes(2, stages, str(alone))
    assert first.error == second.error == ""
    assert first.result.count("up to date, skipped") == 7
    assert manifest(alone)["stages"] == before


def other_images(folder: str) -> None:
    """Rank 1 sees other images than rank 0."""
    ranks = ranks_of("default")
    run = tiny_session(Path(folder), counts=(9, 7, 5 + ranks.rank))
    run.run.ranks = ranks
    with run.run.locked():
        through(run)


def test_processes_that_see_other_images_are_told_which(tmp_path: Path) -> None:
    for outcome in in_processes(2, other_images, str(tmp_path / "run")):
        assert outcome.error.startswith("RanksError: what is audited differs between the 2 processes (rank 0: {")
        assert '"set of training images"' in outcome.error
        assert "every rank must get the same model, images in the same order, and settings" in outcome.error


def test_a_mistake_that_all_see_is_told_once(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    for arguments, message in (
        (("audit", "smallcnn", "digits", "--nonsense"), "error: No such option: --nonsense"),
        (("audit", "smallcnn", "digits", "--weights", "absent.safetensors", "--out", out), "error: weights file"),
        (("solve", out), "error: run folder"),
    ):
        first, second = command_in_processes(2, *arguments)
        assert first.err.startswith(message)
        assert first.err.count("\n") == 1
        assert (first.code, second.code) == (2, 2)
        assert second.err == second.out == ""
    assert not Path(out).exists()


def test_what_is_not_split_is_done_by_rank_0(tmp_path: Path) -> None:
    first, second = command_in_processes(2, "--help")
    assert "torchrun" in first.out
    assert (first.code, second.code, second.out) == (0, 0, "")
    first, second = command_in_processes(2, "layers", "smallcnn", "digits", "--weights", str(tmp_path / "absent"))
    assert (first.code, second.code, second.err) == (2, 0, "")


def test_a_folder_in_use_is_refused_once(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    through(tiny_session(folder), "collect")
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        first, second = command_in_processes(2, "solve", str(folder))
    assert first.err.startswith(f"error: another process is at work in run folder {str(folder)!r}")
    assert (first.code, second.code, second.err) == (2, 2, "")


def audited(folder: str) -> tuple[str, bool, str]:
    """Audit from Python in the processes of the group; return the verdict, and what was printed."""
    generator = torch.Generator().manual_seed(1)
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
    for p in net.parameters():
        p.data = torch.randn(p.shape, generator=generator)
    images = torch.rand(24, 1, 4, 4, generator=generator)
    shown = io.StringIO()
    with contextlib.redirect_stderr(shown):
        found = audit(net, (images, net(images).argmax(1)), out=folder, anyway=True, examples=1, processes="default")
    return str(found.verdict), found.report().path.is_file(), shown.getvalue()


def test_an_audit_from_python_is_one_audit(tmp_path: Path) -> None:
    first, second = in_processes(2, audited, str(tmp_path / "run"))
    assert (first.error, second.error) == ("", "")
    assert first.result[:2] == second.result[:2]
    assert "report: done" in first.result[2]
    assert second.result[2] == ""


def killed(folder: str, images: int) -> str:
    """Run the stages; rank 1 is killed once its network was given so many images."""
    examples._GROUP = 2
    ranks = ranks_of("default")
    run = tiny_session(Path(folder), **_BOTH)
    run.run.ranks = ranks
    honest = Tiny.forward
    seen = 0

    def counting(self: Tiny, x: torch.Tensor) -> torch.Tensor:
        nonlocal seen
        seen += len(x)
        if seen > images and ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return honest(self, x)

    Tiny.forward = counting  # of this process, which is about to end
    try:
        with run.run.locked():
            through(run)
    except LostRankError as error:
        return str(error)
    return "done"


@pytest.mark.parametrize(("images", "then"), [(10, 3), (120, 2), (240, 1)])
def test_a_run_goes_on_after_a_process_was_killed(tmp_path: Path, alone: Path, images: int, then: int) -> None:
    folder = tmp_path / "run"
    first, second = in_processes(2, killed, str(folder), images)
    assert second.exit_code == -signal.SIGKILL
    assert first.result.startswith("rank 1 of 2 (process ")
    assert "the same command goes on with what is missing, also with another number of processes" in first.result
    done = in_processes(then, stages, str(folder))
    assert [outcome.error for outcome in done] == [""] * then
    check_same(alone, folder)


def unreadable_for_one(rank: int) -> None:
    """Rank 1 cannot read its images."""
    several._SAME = 0.5
    if rank == 1:
        session.Session.subject = property(_fail)


def _fail(_session: session.Session) -> None:
    raise DataError("image 7 ('cat.png') cannot be read")


def stopped(rank: int) -> None:
    """Both are asked to stop, as Ctrl-C does, in the midst of their work."""
    del rank
    # A suite that a shell has started in the background ignores SIGINT, and its children with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    session.Session.subject = property(lambda _session: signal.raise_signal(signal.SIGINT))


@pytest.fixture
def collecting(tmp_path: Path) -> tuple[str, ...]:
    """The words that collect the scores of a few digits."""
    weights = str(tmp_path / "digits.safetensors")
    save_smallcnn(SmallCNN(1, 10, image_size=8, width=8), weights)
    return ("collect", "smallcnn", "digits", "--weights", weights, "--out", str(tmp_path / "run"), "--max-images", "20")


def test_what_one_process_alone_meets_is_told_with_its_number(collecting: tuple[str, ...]) -> None:
    first, second = command_in_processes(2, *collecting, first=unreadable_for_one)
    assert second.err == "error: rank 1 of 2: image 7 ('cat.png') cannot be read\n"
    assert first.err.startswith(
        "error: rank 1 of 2 ended with \"image 7 ('cat.png') cannot be read\"; the same command"
    )
    assert (first.code, second.code) == (2, 2)


def test_ctrl_c_is_answered_once(collecting: tuple[str, ...]) -> None:
    first, second = command_in_processes(2, *collecting, first=stopped)
    assert first.err.startswith("interrupted")
    assert first.err.count("\n") == 1
    assert (second.err, first.code, second.code) == ("", 130, 130)
