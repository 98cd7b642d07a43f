"""Which classes a run counts and studies: those with images, those of ``--only``."""

from __future__ import annotations

import io
import shutil
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.tiny_run import again, read, recorded, said, through, tiny_session
from interpnet.pipelines.auditing.terminal_tables import show_ablation
from interpnet.pipelines.cli.commands import configured
from interpnet.pipelines.cli.options import Request
from interpnet.pipelines.report import build, charts, load
from interpnet.pipelines.report.channels import Limits
from interpnet.pipelines.report.numbers import percent
from interpnet.pipelines.run import chosen
from interpnet.pipelines.run.config import RunConfig
from interpnet.pipelines.run.session import Session
from interpnet.pipelines.run.settings import Given
from interpnet.pipelines.stages import ablate, contributions, explain, reliance, report, solve
from interpnet.pipelines.stages.sums import counted
from rich.console import Console

from interpnet.ablation import _passes, _rows
from interpnet.errors import InterpNetError, RunFolderError
from interpnet.interpretation import Interpretation
from interpnet.plot import class_recall


def test_images_per_class_are_counted_over_the_classes_that_have_images(tmp_path: Path) -> None:
    """12 images of two classes are six each, however many outputs the network has."""
    session = through(tiny_session(tmp_path / "run", counts=(6, 6, 0), identify="both"), "reliance")
    assert counted(session)[:2] == (12, 2)
    assert session.run.stage("solve")["fit_on"] == "labels"
    assert "fitted on the network's predictions" not in said(session)
    # The data's third class is the network's second output.
    without = 1
    for name in ("interpretation", "reliance"):
        found = Interpretation.load(tmp_path / "run" / "weights" / f"{name}.npz")
        assert not found.coef[without].any()
    measured = contributions.load_contributions(session)
    assert np.asarray(measured.counts).tolist() == [6, 0, 6]
    # Sums of the pass that collected the scores: they were of the same targets.
    assert not list((tmp_path / "run" / "contributions").glob("sums-*"))


def test_four_images_per_class_that_has_any_are_fitted_on_predictions(tmp_path: Path) -> None:
    session = through(tiny_session(tmp_path / "run", counts=(5, 4, 0)), "solve")
    assert session.run.stage("solve")["fit_on"] == "predictions"
    assert "The labels give 4.5 images per class on average, fewer than 5" in said(session)


def test_a_run_that_an_older_version_collected_keeps_its_count(tmp_path: Path) -> None:
    session = through(tiny_session(tmp_path / "run", counts=(6, 6, 0), identify="both"), "collect")
    del session.run.manifest["stages"]["collect"]["n_classes_with_images"]
    session.run.save()
    older = again(session, counts=(6, 6, 0), identify="both", anyway=True)
    through(older, "reliance")
    assert older.run.stage("solve")["fit_on"] == "predictions"
    assert "4 images per class on average (over all outputs, as an older version counted that began this run" in said(
        older
    )
    solve.load_interpretation(older)
    contributions.load_contributions(older)


def test_a_study_that_counted_classes_without_channels_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older version dealt out the channels of every output; the second one has no image here, and no channel."""
    settings: dict[str, Any] = {"counts": (6, 6, 0), "repeats": 1, "anyway": True}
    with monkeypatch.context() as older:
        older.setattr(_passes, "Rows", SimpleNamespace(of=lambda labels, n, _named: _rows.Rows.of(labels, n)))
        session = through(tiny_session(tmp_path / "run", **settings), "ablate")
    before = ablate.load_ablation(session)
    assert before is not None
    assert np.isfinite(before.condition("relevant").others[0, 1])
    report_of = again(session, **settings)
    assert ablate.load_ablation(report_of) is not None  # what there is can be read
    assert ablate.run_ablate(report_of)
    assert "in whose study images of other classes lost the channels of classes without: ablate is done" in said(
        report_of
    )
    after = ablate.load_ablation(report_of)
    assert after is not None
    assert np.isnan(after.condition("relevant").others[0, 1])
    assert not ablate.run_ablate(again(session, **settings))


# --- --only -----------------------------------------------------------------------------------------------

ONLY = {"identify": "both", "examples": 2, "misclassified": 3, "top": 2, "max_channels": 2, "anyway": True}


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figures out of reports, for drawing them takes longer than all the rest."""
    monkeypatch.setattr(build, "make_charts", lambda *_: {})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A run of every class, finished but for its report."""
    return through(tiny_session(tmp_path_factory.mktemp("only") / "run", **ONLY))


@pytest.fixture
def copied(whole: Session, tmp_path: Path) -> Path:
    shutil.copytree(whole.run.path, tmp_path / "run")
    return tmp_path / "run"


def states(session: Session) -> dict[str, str]:
    return {name: entry["started"] + entry["key"] for name, entry in session.run.manifest["stages"].items()}


def test_only_these_classes_channels_are_removed_pictured_and_shown(tmp_path: Path, whole: Session) -> None:
    session = through(tiny_session(tmp_path / "run", only=("second",), **ONLY))
    study = ablate.load_ablation(session, "reliance")
    full = ablate.load_ablation(whole, "reliance")
    assert study is not None
    assert full is not None
    assert study.only == (1,)
    part = full.restricted([1])
    np.testing.assert_array_equal(study.condition("relevant").own, part.condition("relevant").own)
    rows = (tmp_path / "run" / "ablation" / "reliance.csv").read_text().splitlines()[1:]
    assert {row.split(",")[3] for row in rows} == {"second"}
    assert [entry["name"] for entry in read(session, "explanations/classes.json")["classes"]] == ["second"]
    shown = read(session, "explanations/examples.json")["examples"]
    assert shown
    assert all(1 in (entry["true"], entry["predicted"]) for entry in shown)
    assert all(entry["true"] == 1 for entry in shown if entry["true"] == entry["predicted"])
    # All images are collected, and the others' contributions are what a channel is priced by.
    assert session.run.stage("collect")["key"] == whole.run.stage("collect")["key"]
    assert session.run.stage("reliance")["key"] == whole.run.stage("reliance")["key"]


def test_the_report_of_some_classes_says_so_and_shows_no_other(tmp_path: Path) -> None:
    session = through(tiny_session(tmp_path / "run", only=("second", "0"), **ONLY))
    report.run_report(session)
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "Of 2 of 3 classes, as asked: <bdi>first</bdi>, <bdi>second</bdi>." in page
    assert "This report is of 2 of 3 classes, as asked (--only)" in page
    assert "--only all` studies every class." in page
    assert 'id="class-2"' not in page
    assert 'id="class-1"' in page
    summary = read(session, "report/report.json")
    assert [c["name"] for c in summary["classes"]] == ["first", "second"]
    rows = (tmp_path / "run" / "report" / "classes.csv").read_text().splitlines()[1:]
    assert len(rows) == 2


def test_a_finished_audit_is_filtered_without_measuring_again(copied: Path) -> None:
    session = tiny_session(copied, only=("third",), **ONLY)
    before = states(session)
    ablate.run_ablate(session)
    assert "ablate-reliance: up to date, skipped" in said(session)
    report.run_report(session)
    after = states(session)
    assert {name: after[name] for name in before} == before
    page = (copied / "report" / "index.html").read_text()
    assert "Of 1 of 3 classes" in page
    assert "--only all` shows every class." in page
    # And all are shown again.
    report.run_report(tiny_session(copied, **ONLY))
    assert "Of 1 of 3 classes" not in (copied / "report" / "index.html").read_text()


def test_pictures_of_fewer_classes_are_made_of_those_there_are(copied: Path) -> None:
    session = tiny_session(copied, only=("third",), **ONLY)
    before = states(session)
    explain.run_explain(session)
    after = states(session)
    assert [name for name in before if after[name] != before[name]] == ["explain"]
    assert "channels are pictured already" in said(session)
    report.run_report(session)
    with pytest.raises(RunFolderError, match=r"'explain' was done for other classes \(--only\); run .* --only all`"):
        report.run_report(tiny_session(copied, **ONLY))
    with pytest.raises(RunFolderError, match=r"'explain' was done for other classes .* --only first,third`"):
        report.run_report(tiny_session(copied, only=("third", "first"), **ONLY))


def test_a_study_of_some_classes_does_for_fewer_and_not_for_more(tmp_path: Path) -> None:
    session = through(tiny_session(tmp_path / "run", only=("first", "third"), **ONLY), "ablate")
    fewer = tiny_session(tmp_path / "run", only=("third",), **ONLY)
    assert not ablate.run_ablate(fewer)
    assert ablate.load_ablation(fewer, "reliance").only == (2,)  # type: ignore[union-attr]
    assert not ablate.run_ablate(session)
    more = tiny_session(tmp_path / "run", **ONLY)
    assert ablate.run_ablate(more)
    assert ablate.load_ablation(more, "reliance").only is None  # type: ignore[union-attr]


def test_figures_are_of_these_classes(whole: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = recorded(monkeypatch, charts.plot, "layer_relevance")
    run = load.load_run(whole.run.path, [2, 0])
    monkeypatch.setattr(charts, "_removals", lambda _study: iter(()))
    assert {name for name, _, _ in charts.draw_figures(run)} == {"layers", "reliance_layers"}
    assert [call["args"][2] for call in drawn] == [["first", "third"]] * 2
    assert [call["args"][0].shape for call in drawn] == [(2, 2)] * 2
    axes = class_recall(run.studies["reliance"]).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "third"]


def test_every_class_by_name_is_every_class(copied: Path) -> None:
    session = tiny_session(copied, only=("second", "third", "first"), **ONLY)
    assert chosen.chosen(session) is None
    assert not ablate.run_ablate(session)


def test_a_class_is_named_as_the_run_calls_it_as_its_folder_or_by_number(copied: Path) -> None:
    """Folder "a" holds the images of output 2."""
    for name, expected in (("first", 0), ("a", 2), ("1", 1)):
        assert chosen.chosen(tiny_session(copied, only=(name,), **ONLY)) == (expected,)


@pytest.mark.parametrize(
    ("only", "match"),
    [
        (("secund",), "unknown class 'secund'; did you mean 'second'"),
        (("7",), "class 7 does not exist; expected 0 to 2"),
        (("second",), "--only names 'second', of which the data 'tiny' has no image; expected some of first, third"),
    ],
)
def test_a_class_that_is_not_there_is_refused_before_anything_runs(
    only: tuple[str, ...], match: str, tmp_path: Path
) -> None:
    session = tiny_session(tmp_path / "run", only=only, **ONLY)
    # The data's third class is the second output.
    for split in ("train", "test"):
        object.__setattr__(getattr(session.loaded, split), "labels", np.array([0, 2]))
    with pytest.raises(InterpNetError, match=match):
        chosen.check_chosen(session)
    assert not (tmp_path / "run").exists()


def test_the_command_line_takes_names_all_and_nothing_empty() -> None:
    def only(*words: str, base: RunConfig | None = None) -> tuple[str, ...]:
        given = Given.read([e for e in fields(RunConfig) if e.name == "only"], {"only": list(words)})
        return configured(given, Request(), base).only

    assert only("boat, wolf", "3") == ("boat", "wolf", "3")
    assert only("all", base=RunConfig(only=("boat",))) == ()
    with pytest.raises(InterpNetError, match="--only is empty; expected classes by name or number, or all"):
        only("")
    assert RunConfig(only=("boat",)).override({}).only == ("boat",)


# --- limits -----------------------------------------------------------------------------------------------

LIMITED: dict[str, Any] = {**ONLY, "examples": 4}


def test_limits_that_bite_are_noted_with_their_option(tmp_path: Path) -> None:
    """Of 21 training images, 9, 7 and 5 of a class, and 9 test images with masks."""
    session = tiny_session(
        tmp_path / "run",
        masks=True,
        reliance_images=6,
        max_pictured=3,
        max_masked_images=4,
        max_examples=2,
        **LIMITED,
    )
    session = through(session)
    text = said(session)
    for expected in (
        "Reliance is measured on 17 of 21 training images, at most 6 of each class (--reliance-images).",
        "At most 1 channels per class are pictured, the first by weight or reliance (--max-pictured 3 in all)",
        "Maps are compared with masks on 4 of 9 test images, balanced by class (--max-masked-images).",
        "Examples are 2 recognised images, drawn over 3 classes, not 4 per class (--max-examples).",
    ):
        assert expected in text
    assert read(session, "explanations/localisation.json")["n_images"] == 4


def test_classes_of_which_no_more_channels_may_be_named_are_noted(
    whole: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The sets of the second and third class end at the limit, that of the third because it takes its share."""
    honest = reliance.measure_reliance

    def ending(*args: Any, **options: Any) -> Any:
        return replace(honest(*args, **options), sizes=np.array([1, 2, 2]), ends=("noise", "most", "share"))

    shutil.copytree(whole.run.path, tmp_path / "run")
    monkeypatch.setattr(reliance, "measure_reliance", ending)
    session = tiny_session(tmp_path / "run", max_relied=2, price=0.0, **ONLY)
    reliance.run_reliance(session)
    expected = "Classes that may rely on more channels than the 2 that are named at most (--max-relied; 1): second"
    assert expected in session.run.stage("reliance")["notes"]


@pytest.mark.parametrize(
    ("settings", "stale"),
    [
        ({"reliance_images": 101}, "reliance"),
        ({"max_relied": 63}, "reliance"),
        ({"max_examples": 61}, "explain"),
        ({"max_pictured": 1201}, "explain"),
        ({"max_masked_images": 121}, "explain"),
    ],
)
def test_a_limit_makes_stale_what_it_limits_and_no_picture(settings: Any, stale: str, whole: Session) -> None:
    other = again(whole, **ONLY | settings)
    assert (reliance.reliance_key(other) == reliance.reliance_key(whole)) == (stale == "explain")
    assert explain.explain_key(other) != explain.explain_key(whole)
    assert (explain._pictures_key(other) == explain._pictures_key(whole)) == (stale == "explain")


def test_a_report_shows_as_much_as_somebody_asked_for() -> None:
    assert Limits.of(RunConfig()) == Limits(1200, 120)
    assert Limits.of(RunConfig(max_pictured=2000, max_examples=300, misclassified=20)) == Limits(2000, 320)


def test_the_terminal_compares_the_others_with_what_they_were(whole: Session) -> None:
    """Intact, the others of the first class are the second and third."""
    study = ablate.load_ablation(again(whole, only=("first",), **ONLY))
    full = ablate.load_ablation(again(whole, **ONLY))
    assert study is not None
    assert full is not None
    console = Console(file=io.StringIO(), width=140)
    show_ablation(console, study, "mu-lasso")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    nothing = next(line for line in text.splitlines() if "nothing" in line)
    assert percent(float(full.intact[0])) in nothing
    assert percent(float(full.intact[1:].mean())) in nothing
    assert "means over first" in text
