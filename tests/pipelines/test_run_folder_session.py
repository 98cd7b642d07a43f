"""How a stage is run, noted, skipped and refused, without any network: session.py, folder.py, identity.py, notes.py."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.tiny_run import said
from interpnet.pipelines.run import session as module
from interpnet.pipelines.run.config import RunConfig
from interpnet.pipelines.run.console import make_console
from interpnet.pipelines.run.folder import RunFolder
from interpnet.pipelines.run.identity import differences
from interpnet.pipelines.run.notes import Notes
from interpnet.pipelines.run.session import Interrupted, Session, readable_memory_errors
from rich.console import Console

from interpnet.errors import DataError, InterpNetError, RunFolderError
from interpnet.support.checksums import file_checksum


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """A session on a new folder."""
    run = RunFolder.create(tmp_path / "run")
    run.save()
    return Session(run, RunConfig(), "interpnet again", console=Console(file=io.StringIO()))


def writing(session: Session, *names: str, **done: Any) -> Callable[[Notes], dict[str, Any]]:
    """Return work that writes files with their own names in them."""

    def work(_notes: Notes) -> dict[str, Any]:
        for name in names:
            path = session.run.path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(name)
        return dict(done)

    return work


# --- a stage ----------------------------------------------------------------------------------------------


def test_a_stage_runs_once_for_its_inputs_and_says_so(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 11.23456, 20.0, 20.5])
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(times)))
    work = writing(session, "weights/a", "weights/b", mean=3)
    assert session.perform("solve", "k1", work, files=["weights/a"])
    entry = RunFolder.open(session.run.path).stage("solve")
    assert entry.pop("started").endswith("+00:00")
    checksums = {"weights/a": file_checksum(session.run.path / "weights/a")}
    assert entry == {
        "state": "complete",
        "key": "k1",
        "seconds": 1.235,
        "mean": 3,
        "files": ["weights/a"],
        "notes": [],
        "checksums": checksums,
    }
    assert said(session) == "solve ...\nsolve: done in 1.2 s\n"
    assert not session.perform("solve", "k1", work, files=["weights/a"])
    assert said(session).endswith("s\nsolve: up to date, skipped\n")
    assert session.perform("solve", "k2", work, files=["weights/a"])
    assert session.run.key("solve") == "k2"


def test_the_files_that_the_work_names_are_checked_rather_than_those_it_leaves(session: Session) -> None:
    work = writing(session, "weights/a", "weights/b", "weights/c.txt", written=("weights/b", "weights/*.txt"))
    session.perform("solve", "k", work, files=["weights/a"])
    assert list(session.run.stage("solve")["checksums"]) == ["weights/b", "weights/c.txt"]
    assert "written" not in session.run.stage("solve")
    # A changed one, a missing one and a missing one without a checksum.
    for name, change, what in (
        ("weights/b", lambda path: path.write_text("other"), "was changed or damaged since it was written"),
        ("weights/c.txt", Path.unlink, "is missing"),
        ("weights/a", Path.unlink, "is missing"),
    ):
        change(session.run.path / name)
        session.run.verified.clear()
        session.perform("solve", "k", work, files=["weights/a"])
        assert f"note: {name} {what}: solve is done again\n" in said(session)
        assert (session.run.path / name).read_text() == name


def test_more_damage_is_looked_for_and_what_is_damaged_goes_first(session: Session) -> None:
    work = writing(session, "weights/a")
    session.perform("solve", "k", work, files=["weights/a"])
    there: list[bool] = []

    def again(notes: Notes) -> dict[str, Any]:
        there.append((session.run.path / "weights" / "a").exists())
        return work(notes)

    assert session.perform("solve", "k", again, files=["weights/a"], check=lambda: {"weights/a": "is odd"})
    assert there == [False]
    assert "note: weights/a is odd: solve is done again\n" in said(session)
    assert not session.perform("solve", "k", again, files=["weights/a"], check=dict)


def test_notes_of_a_stage_are_said_and_kept(session: Session) -> None:
    def work(notes: Notes) -> dict[str, Any]:
        notes.add("[look]")
        notes.add("[look]")
        return {}

    session.perform("solve", "k", work)
    assert session.run.manifest["notes"] == ["[look]"]
    assert said(session).count("  note: [look]\n") == 1


def test_an_interrupted_stage_says_how_to_go_on(session: Session) -> None:
    states: list[Any] = []

    def work(_notes: Notes) -> dict[str, Any]:
        states.append(RunFolder.open(session.run.path).stage("solve")["state"])
        raise KeyboardInterrupt

    match = r"interrupted in stage 'solve'; run folder '.*run' is whole\. Go on with: interpnet again"
    with pytest.raises(Interrupted, match=match):
        session.perform("solve", "k", work)
    entry = RunFolder.open(session.run.path).stage("solve")
    assert (states, entry["state"], entry["key"]) == (["running"], "interrupted", "k")
    assert "failed" not in entry
    assert "started" in entry


def test_a_stage_that_fails_is_noted_as_such(session: Session) -> None:
    def work(_notes: Notes) -> dict[str, Any]:
        raise DataError("no such image")

    with pytest.raises(DataError, match="no such image"):
        session.perform("solve", "k", work)
    entry = RunFolder.open(session.run.path).stage("solve")
    assert (entry["state"], entry["failed"]) == ("interrupted", True)
    # The disk is full: what the user is told is the first error.
    session.run.save = lambda: (_ for _ in ()).throw(RunFolderError("disk full"))  # type: ignore[method-assign]
    with pytest.raises(RunFolderError, match="disk full"):
        session.record("solve", "k", work, "interrupted")


def test_no_stage_begins_after_a_signal(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "stop_asked", lambda: True)
    with pytest.raises(Interrupted, match=r"interrupted before stage 'solve'\. Go on with: interpnet again"):
        session.perform("solve", "k", writing(session))
    assert session.run.stage("solve") == {}


def test_an_accelerator_without_memory_is_advice() -> None:
    import torch

    with pytest.raises(InterpNetError, match="a smaller --batch-size, or --device cpu"), readable_memory_errors():
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(ValueError, match="other"), readable_memory_errors():
        raise ValueError("other")


def test_lines_are_printed_as_they_are(session: Session) -> None:
    session.say("[bold]" + "x" * 300 + "[/] 12 'y'")
    assert said(session) == "x" * 300 + " 12 'y'\n"
    assert make_console().width == 140


# --- notes ------------------------------------------------------------------------------------------------


def test_warnings_of_the_library_for_users_become_notes_and_others_stay() -> None:
    notes = Notes()

    def work() -> None:
        with notes.listening():
            for file, category, text in (
                ("/lib/interpnet/x.py", UserWarning, "ours"),
                ("/lib/interpnet/x.py", UserWarning, "ours"),
                ("/lib/pipelines/x.py", UserWarning, "ours, too"),
                ("/lib/torch/x.py", UserWarning, "stays: another's"),
                ("/lib/interpnet/x.py", DeprecationWarning, "stays: for programmers"),
            ):
                warnings.warn_explicit(text, category, file, 1)

    with pytest.warns(Warning, match="stays") as caught:
        work()
    assert notes.texts == ["ours", "ours, too"]
    assert [str(w.message) for w in caught] == ["stays: another's", "stays: for programmers"]
    assert [(w.filename, w.lineno) for w in caught] == [("/lib/torch/x.py", 1), ("/lib/interpnet/x.py", 1)]


# --- the folder -------------------------------------------------------------------------------------------


def test_a_complete_stage_lacks_its_key_without_its_files(session: Session) -> None:
    run = session.run
    run.mark("solve", "complete", "k", files=["a"])
    with pytest.raises(RunFolderError, match="'solve' has not run"):
        run.key("solve")
    (run.path / "a").mkdir()
    with pytest.raises(RunFolderError, match="a' is a folder and should be a file; run `interpnet solve"):
        run.key("solve")
    (run.path / "a").rmdir()
    (run.path / "a").touch()
    assert run.key("solve") == "k"
    for state, how in (("running", "was interrupted"), ("interrupted", "was interrupted")):
        run.mark("solve", state, "k", files=["a"])
        with pytest.raises(RunFolderError, match=f"'solve' {how}"):
            run.key("solve")
    assert not run.is_complete("solve", "k")


def test_files_are_compared_with_their_checksums_once(session: Session) -> None:
    run = session.run
    path = run.path / "a"
    path.write_text("a")
    run.mark("solve", "complete", "k", files=["a"], written=["a"])
    path.write_text("b")
    # This process has just written it.
    assert run.damage("solve") == {}
    other = RunFolder.open(run.path)
    assert other.damage("solve") == {"a": "was changed or damaged since it was written"}
    assert not other.is_done("solve", "k")
    with pytest.raises(RunFolderError, match=r"a' was changed or damaged .*; run `interpnet solve .*` to have it made"):
        other.verify("solve")
    assert "solve" not in other.verified
    path.write_text("a")
    other.verify("solve")
    assert other.is_done("solve", "k")
    path.write_text("b")
    assert other.damage("solve") == {}
    path.unlink()
    assert other.damage("solve") == {"a": "is missing"}
    # A stage that is marked anew is compared anew.
    other.mark("solve", "running", "k")
    assert "solve" not in other.verified


def test_damaged_files_are_deleted_and_folders_are_not(session: Session, tmp_path: Path) -> None:
    run = session.run
    (run.path / "a").touch()
    run.discard(["a", "absent"])
    assert not (run.path / "a").exists()
    (tmp_path / "outside").mkdir()
    (run.path / "link").symlink_to(tmp_path / "outside")
    run.discard(["link"])
    assert not (run.path / "link").is_symlink()
    assert (tmp_path / "outside").is_dir()
    (run.path / "b").mkdir()
    with pytest.raises(RunFolderError, match="b' is a folder and should be a file; move it elsewhere"):
        run.discard(["b"])


def test_a_run_has_results_where_a_stage_is_complete_or_a_pass_half_done(session: Session) -> None:
    run = session.run
    assert not run.has_results()
    run.mark("solve", "complete", "k")
    assert run.has_results()
    run.mark("solve", "interrupted", "k")
    assert not run.has_results()
    run.folder("collect").mkdir()
    (run.folder("collect") / "state.json").touch()
    assert not run.has_results()
    run.mark("collect", "interrupted", "k")
    assert run.has_results()
    run.mark("collect", "interrupted", "k", failed=True)
    assert not run.has_results()
    run.mark("collect", "running", "k")
    (run.folder("collect") / "state.json").unlink()
    assert not run.has_results()


def test_what_is_forgotten_and_what_is_cleared(session: Session) -> None:
    run = session.run
    run.manifest.update(model=1, data=2, collect=3, identity={"model": "a"}, mine=4)
    run.manifest["stages"] = {"solve": {"state": "interrupted"}, "filters": {"state": "complete"}}
    run.forget()
    assert {name: run.manifest.get(name) for name in ("model", "data", "collect", "identity", "stages", "mine")} == {
        "model": None,
        "data": None,
        "collect": None,
        "identity": {},
        "stages": {"filters": {"state": "complete"}},
        "mine": 4,
    }
    run.forget()
    created = run.manifest["created"] = "2001-02-03T04:05:06+00:00"
    run.verified.add("solve")
    for name in ("scores", "weights", "ablation", "explanations", "report", "other"):
        (run.path / name).mkdir()
    run.clear()
    assert [path.name for path in run.path.iterdir() if path.is_dir()] == ["other"]
    assert run.verified == set()
    assert RunFolder.open(run.path).manifest["created"] == created
    assert run.manifest["stages"] == {}


def test_what_the_manifest_lacks_is_named(session: Session) -> None:
    run = session.run
    run.manifest["model"] = {"classes": ["a"], "n": 3}
    assert run.known("model", "classes") == ["a"]
    for names in (("model", "kind"), ("model", "n", "x"), ("absent",)):
        with pytest.raises(RunFolderError, match=f"manifest.json' lacks {' / '.join(names)}; run `interpnet collect"):
            run.known(*names)


def test_settings_are_stored_once_and_refused_where_they_were_edited(session: Session) -> None:
    run = session.run
    run.store(RunConfig(mu=3.0))
    accepted = run.manifest["settings"]
    assert accepted == [file_checksum(run.path / "run.toml")]
    assert run.config().mu == 3.0
    before = (run.path / "run.toml").stat().st_mtime_ns
    run.store(RunConfig(mu=3.0))
    assert (run.path / "run.toml").stat().st_mtime_ns == before
    run.store(RunConfig(mu=4.0))
    assert run.manifest["settings"] != accepted
    assert len(run.manifest["settings"]) == 1
    # A command that was killed between the two writes: the manifest knows both.
    both = RunFolder.open(run.path).manifest["settings"]
    assert both == [*accepted, *run.manifest["settings"]]
    assert RunFolder.open(run.path).config().mu == 4.0
    (run.path / "run.toml").write_text("[solve]\nmu = 5.0\n")
    with pytest.raises(RunFolderError, match="is not as the last command wrote it"):
        run.config()
    # A run of an older version knows no checksum of its settings.
    del run.manifest["settings"]
    assert run.config().mu == 5.0


def test_notes_of_all_stages_are_gathered_once_in_their_order(session: Session) -> None:
    run = session.run
    run.manifest["subject_notes"] = ["of the subject", "twice"]
    run.manifest["stages"] = {
        "report": {"notes": ["last"]},
        "collect": {"notes": ["first", "twice"]},
        "filters": {"notes": ["elsewhere"]},
    }
    run.save()
    assert run.manifest["notes"] == ["of the subject", "twice", "first", "last"]


# --- what two runs differ in ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "here", "expected"),
    [
        ({}, {"model": {"kind": "A"}}, []),
        ({"model": {"kind": "A"}}, {"model": {"kind": "A"}}, []),
        ({"model": {"kind": "A"}}, {"model": {"kind": "B"}}, ["the class of the network is 'A' there and 'B' here"]),
        ({"model": {"n_layers": 1}}, {"model": {"n_layers": 2}}, []),
        (
            {"model": {"fingerprint": "0123456789abcdef"}},
            {"model": {"fingerprint": "abcdef0123456789"}},
            ["the weights is '0123456789ab' there and 'abcdef012345' here"],
        ),
        (
            {"model": {"output": "x" * 58}},
            {"model": {"output": "y" * 59}},
            [f"the output taken is '{'x' * 58}' there and '{'y' * 59}... here"],
        ),
        (
            {"model": {"classes": ["a", "b", "c", "d", "e"]}},
            {"model": {"classes": ["a", "x", "y", "z"]}},
            [f"class {i} is {a!r} there and {b!r} here" for i, a, b in ((1, "b", "x"), (2, "c", "y"), (3, "d", "z"))],
        ),
        (
            {"model": {"classes": ["a", "b"]}},
            {"model": {"classes": ["a"]}},
            ["there are 2 classes there and 1 here"],
        ),
        ({"model": {"classes": None}}, {"model": {"classes": ["a"]}}, ["there are 0 classes there and 1 here"]),
        ({"model": {"classes": ["a"]}}, {"model": {"classes": None}}, ["there are 1 classes there and 0 here"]),
        (
            {"data": {"train": {"n_images": 3, "spec": "x"}, "test": {"n_images": 4}}},
            {"data": {"train": {"n_images": 5, "spec": "x"}, "test": {"n_images": 6}}},
            [
                "n_images of the training images is 3 there and 5 here",
                "n_images of the test images is 4 there and 6 here",
            ],
        ),
        (
            {"data": {"train": {"preprocessing": {"crop": 1}}, "test": {"preprocessing": {"crop": 1}}}},
            {"data": {"train": {"preprocessing": {"crop": 2}}, "test": {"preprocessing": {"crop": 3}}}},
            ["crop is 1 there and 2 here"],
        ),
        ({"data": {"train": "odd"}, "model": "odd"}, {"data": {"train": {"spec": "x"}}, "model": {"kind": "A"}}, []),
        (
            {"collect": {"norm": "l2", "layers": ["a"]}, "model": {"kind": "A"}},
            {"collect": {"norm": "l2sq", "layers": ["a"]}, "model": {"kind": "B"}},
            ["the class of the network is 'A' there and 'B' here", "norm is 'l2' there and 'l2sq' here"],
        ),
    ],
)
def test_what_two_runs_differ_in_is_said_in_words(
    there: dict[str, Any], here: dict[str, Any], expected: list[str]
) -> None:
    assert differences(there, here) == expected
