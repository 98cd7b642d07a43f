"""What collect and solve count, say and refuse at their limits, with values by hand."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.tiny_run import CLASSES, OUTPUTS, again, read, recorded, said, through, tiny_session, unreadable
from interpnet.pipelines.auditing import terminal_tables
from interpnet.pipelines.run.config import RunConfig
from interpnet.pipelines.run.notes import Notes
from interpnet.pipelines.stages import collect, explain, select, solve
from interpnet.pipelines.stages.sums import Counted

from interpnet.datasets import BatchLoader
from interpnet.engine import ChannelIndex
from interpnet.errors import InterpNetError
from interpnet.gram import Gram
from interpnet.interpretation import Interpretation
from interpnet.mulasso import SelectionCurve, Stability, stability_selection
from interpnet.scores import ScoreTable


def clock(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> None:
    """Give the collection a clock that shows these times."""
    times = iter(seconds)
    monkeypatch.setattr(collect, "time", SimpleNamespace(monotonic=lambda: next(times)))


def table(labels: list[int], predictions: list[int] | None = None, m: int = 2) -> Any:
    """Return what the choices read of a table of scores."""
    targets = {"labels": np.array(labels), "predictions": np.array(predictions or labels)}
    rows = np.random.default_rng(0).random((len(labels), m)).astype(np.float32)

    class Table:
        X = rows
        channels = ChannelIndex((("a", m),))

        def __len__(self) -> int:
            return len(labels)

        def targets(self, of: str) -> np.ndarray:
            return targets[of]

    return Table()


# --- collect ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "expected"), [(9.0, 2.33), (0.0, 21e9)])
def test_the_speed_is_of_the_images_of_this_pass(
    seconds: float, expected: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tiny_session(tmp_path / "run")
    clock(monkeypatch, 100.0, 100.0 + seconds)
    collect.run_collect(session)
    assert session.run.stage("collect")["images_per_second"] == pytest.approx(expected, rel=1e-12)
    assert "going on" not in said(session)


@pytest.mark.parametrize(
    ("waited", "seconds", "noted"), [(70.0, 100.0, True), (49.0, 100.0, False), (7.0, 10.0, False)]
)
def test_long_waiting_for_images_is_said_with_the_remedy(
    waited: float, seconds: float, noted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tiny_session(tmp_path / "run")
    clock(monkeypatch, 0.0, seconds)

    def timed(loader: BatchLoader, batches: Any) -> Any:
        loader.waited = waited
        return batches

    monkeypatch.setattr(BatchLoader, "_timed", timed)
    collect.run_collect(session)
    entry = session.run.stage("collect")
    if noted:
        assert entry["waited"] == 0.7
        assert "The network waited for images 70% of the time; --workers N reads them ahead in N" in said(session)
        terminal_tables.show_collect(session.console, entry)
        assert "  waited for images 70% of the time; the network alone: 1 images/s\n" in said(session)
    else:
        assert "waited" not in said(session)


def test_a_collection_that_goes_on_says_where_and_counts_what_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = through(tiny_session(tmp_path / "run"), "collect")
    table = collect.load_table(session)
    session = again(session)
    session.run.manifest["stages"].clear()
    monkeypatch.setattr(collect, "_consumed", lambda *_: 8)
    monkeypatch.setattr(collect, "_pass", lambda *_, **__: table)
    clock(monkeypatch, 0.0, 4.0)
    collect.run_collect(session)
    assert "  going on at image 8 of 21\n" in said(session)
    assert session.run.stage("collect")["images_per_second"] == 3.25


def test_the_collection_is_asked_for_as_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = recorded(monkeypatch, collect, "collect_scores")
    session = through(tiny_session(tmp_path / "run", layers=("second",), norm="l2sq", max_images=9), "collect")
    (call,) = calls
    assert call["args"][0] is session.loaded.model
    assert (call["layers"], call["norm"], call["total"]) == (("second",), "l2sq", 9)
    assert (call["key"], call["out"]) == (session.run.key("collect"), session.run.path / "scores")
    gram = call["gram"].gram()
    assert gram.n == 9
    assert gram.B.shape == (4, 3)


def test_scores_whose_sums_have_no_room_are_solved_from_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = through(tiny_session(tmp_path / "usual"), "solve")
    assert "route" not in usual.run.stage("solve")
    monkeypatch.setattr("interpnet.gram._memory.usable_memory", lambda: 8 * 9 * 9.0)
    session = through(tiny_session(tmp_path / "run", mu="auto", stability=2), "collect")
    assert not (session.run.folder("collect") / collect.GRAM_FILE).exists()
    monkeypatch.setattr("interpnet.gram._memory.check_class_count", lambda *_sizes: None)
    monkeypatch.setattr("interpnet.gram._rows.check_class_count", lambda *_sizes: None)
    monkeypatch.setattr("interpnet.mulasso._working_sets.usable_memory", lambda: 1e9)
    through(session, "solve")
    entry = session.run.stage("solve")
    assert entry["route"] == "working sets"
    assert entry["passes"] >= 2
    assert entry["worst_gap"] <= 1e-9
    assert any("certified on all of them" in note for note in entry["notes"])


def test_sums_are_made_again_where_they_are_lost_and_not_too_wide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = through(tiny_session(tmp_path / "run"), "collect")
    table = collect.load_table(session)
    path = session.run.folder("collect") / collect.GRAM_FILE
    written = path.read_bytes()
    path.write_bytes(b"there")
    collect.sum_again(table, path)
    assert path.read_bytes() == b"there"
    path.unlink()
    asked: list[tuple[int, int]] = []

    def fits(m: int, parts: int) -> bool:
        asked.append((m, parts))
        return len(asked) > 1

    monkeypatch.setattr(collect, "gram_fits", fits)
    collect.sum_again(table, path)
    assert not path.exists()
    collect.sum_again(table, path)
    assert Gram.load(path).n == 21
    assert len(path.read_bytes()) == len(written)


def test_what_is_left_of_a_collection_without_a_state_is_deleted(tmp_path: Path) -> None:
    session = through(tiny_session(tmp_path / "run"), "collect")
    folder = session.run.folder("collect")
    key = session.run.key("collect")
    (folder / "state.json").unlink()
    assert collect._consumed(session, key, 21) == 0
    assert list(folder.iterdir()) == []
    assert "note" not in said(session)


def test_a_damaged_state_is_named_before_the_collection_is_begun_again(tmp_path: Path) -> None:
    session = through(tiny_session(tmp_path / "run"), "collect")
    (session.run.folder("collect") / "state.json").write_text("{")
    collect._consumed(session, session.run.key("collect"), 21)
    assert "  note: '" in said(session)
    assert said(session).endswith(": collected again\n")


def test_skipped_training_images_are_listed_with_their_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = tiny_session(tmp_path / "run")
    unreadable(monkeypatch, session, "train", {3, 20})
    collect.run_collect(session)
    rows = session.run.manifest["data"]["train"]["skipped"]
    assert [row[0] for row in rows] == [3, 20]
    assert all("damaged" in row[2] for row in rows)


def test_a_last_class_without_images_is_counted(tmp_path: Path) -> None:
    """The third output has no image, so that counts of what is there alone would be too short."""
    settings = {"counts": (0, 7, 5), "mu": 1.0, "fit_on": "labels", "top": 2, "examples": 1, "misclassified": 0}
    session = through(tiny_session(tmp_path / "run", **settings), "solve")
    explain.run_explain(session)
    assert OUTPUTS[0] == 2
    assert [c["n_images"] for c in read(session, "weights/summary.json")["classes"]] == [7, 5, 0]
    assert [c["n_train"] for c in read(session, "explanations/classes.json")["classes"]] == [7, 5, 0]


# --- solve ------------------------------------------------------------------------------------------------


def test_the_solve_stage_notes_what_it_was_made_with(tmp_path: Path) -> None:
    session = through(tiny_session(tmp_path / "run", mu=1.3, fit_on="labels", norm="l2sq"), "solve")
    entry = session.run.stage("solve")
    summary = read(session, "weights/summary.json")
    assert entry["mu_rule"] == "given"
    assert (entry["mean_relevant"], entry["worst_gap"]) == (summary["mean_relevant"], summary["worst_gap"])
    assert (summary["mu"], summary["positive"], summary["n_channels"]) == (1.3, False, 9)
    assert summary["info"] == solve.load_interpretation(session).info
    assert [c["gap"] for c in summary["classes"]] == solve.load_interpretation(session).gaps.tolist()
    assert entry["notes"] == []
    other = through(tiny_session(tmp_path / "other", mu=1.3, positive=True), "solve")
    assert read(other, "weights/summary.json")["positive"] is True


def test_the_sums_of_the_collection_are_used_where_they_are_of_the_same_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = through(tiny_session(tmp_path / "run", mu=1.0), "collect")
    table = collect.load_table(session)
    made: list[str] = []
    honest = ScoreTable.gram

    def making(self: ScoreTable, fit_on: str, **options: Any) -> Gram:
        made.append(fit_on)
        return honest(self, fit_on, **options)

    monkeypatch.setattr(ScoreTable, "gram", making)
    solve._gram(session, table, "labels")
    assert made == []
    solve._gram(session, table, "predictions")
    solve._gram(again(session, class_weight="balanced"), table, "labels")
    (session.run.folder("collect") / collect.GRAM_FILE).unlink()
    solve._gram(session, table, "labels")
    assert made == ["predictions", "labels", "labels"]


@pytest.mark.parametrize(
    ("labels", "wanted", "expected", "note"),
    [
        ([0] * 5 + [1] * 5, "auto", "labels", None),
        ([0] * 5 + [1] * 4, "auto", "predictions", r"The labels give 4\.5 images per class on average, fewer than 5: "),
        ([0] * 4 + [1] * 4, "labels", "labels", None),
        ([0] * 5 + [1] * 5, "predictions", "predictions", "Fitted on the network's predictions rather than"),
    ],
)
def test_what_is_fitted_and_why(labels: list[int], wanted: str, expected: str, note: str | None) -> None:
    notes = Notes()
    images = Counted(len(labels), len(set(labels)), by_outputs=False)
    assert solve._target(images, wanted, notes) == expected
    assert len(notes.texts) == (note is not None)
    if note:
        assert re.match(note, notes.texts[0])


@pytest.mark.parametrize(("channels", "many"), [(4.5, False), (4.75, True)])
@pytest.mark.parametrize("mu", [1.0, "auto"])
def test_classes_without_a_channel_and_choices_that_say_little_are_noted(
    channels: float, many: bool, mu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of twelve classes with images eleven name no channel; the one without images is not among them."""
    session = through(tiny_session(tmp_path / "run", fit_on="labels", mu=mu), "collect")
    mus = np.array([0.5, 1.0, 2.0])
    curve = SelectionCurve(mus, mus, mus / 9, None, None, mus, 1.0, 1.0, 1.0, "one_se", 5)
    monkeypatch.setattr(solve, "choose_mu", lambda *_: curve)
    honest = solve.summarise

    def summarising(*args: Any) -> dict[str, Any]:
        classes = [{"name": f"c{i:02d}", "n_images": 3, "n_relevant": int(i == 0)} for i in range(12)]
        return honest(*args) | {
            "classes": [*classes, {"name": "none", "n_images": 0, "n_relevant": 0}],
            "mean_relevant": channels,
        }

    monkeypatch.setattr(solve, "summarise", summarising)
    solve.run_solve(session)
    silent = ", ".join(f"c{i:02d}" for i in range(1, 11))
    notes = session.run.stage("solve")["notes"]
    assert notes[0] == f"Classes with images but without a relevant channel (11): {silent}"
    assert len(notes) == 1 + (many and mu == "auto")


def test_without_images_there_are_no_channels_to_average() -> None:
    found = Interpretation(ChannelIndex((("a", 2),)), np.array([[1.0, 0.0], [0.0, 2.0]]), ("x", "y"), gaps=np.zeros(2))
    assert solve.summarise(found, np.array([0, 0]))["mean_relevant"] == 0.0
    assert solve.summarise(found, np.array([0, 3]))["mean_relevant"] == 1.0
    assert "n_seldom" not in solve.summarise(found, np.array([0, 3]))["classes"][0]


# --- select -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("targets", "folds", "note"),
    [
        ([0] * 5 + [2] * 9, 5, None),
        ([0] * 9 + [2] * 5, 5, None),
        ([0] * 9 + [2] * 4, 4, "mu was chosen with 4 folds rather than 5: class 'third' has only 4 images."),
        ([0] * 2 + [2] * 6, 2, "mu was chosen with 2 folds rather than 5: class 'first' has only 2 images."),
    ],
)
def test_folds_are_five_or_the_images_of_the_smallest_class(targets: list[int], folds: int, note: str | None) -> None:
    notes = Notes()
    assert select._folds(np.array(targets), "labels", CLASSES, notes) == folds
    assert notes.texts == ([] if note is None else [note])


@pytest.mark.parametrize(
    ("targets", "fit_on", "match"),
    [
        ([1] * 6, "labels", "all 6 labels are class 'second'; expected at least two classes"),
        ([0] * 6 + [1], "labels", r"class 'second' has 1 image by its label; .* or try --fit-on predictions"),
        ([0] + [2] * 6, "predictions", r"class 'first' has 1 image by its prediction; .* or try --fit-on labels"),
    ],
)
def test_too_few_images_for_folds_are_refused(targets: list[int], fit_on: str, match: str) -> None:
    with pytest.raises(InterpNetError, match=match):
        select._folds(np.array(targets), fit_on, CLASSES, Notes())


def test_halves_whose_sums_do_not_fit_are_made_of_sixteen_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(select, "parts_fit", lambda m, parts: asked.append((m, parts)))
    assert select._blocks(table([0] * 16), 1) == 16
    assert asked == [(2, 16), (2, 14), (2, 12), (2, 10), (2, 8)]


@pytest.mark.parametrize(
    ("mu_rule", "rule"), [("error", {"rule": "one_se"}), ("accuracy", {"rule": "accuracy", "most_channels": 1.5})]
)
@pytest.mark.parametrize(("end", "seed"), [("smallest", 2**32 + 2**31 + 4), (None, 2**31 + 4)])
def test_the_estimator_gets_the_settings_and_its_end_becomes_a_note(
    end: str | None, seed: int, mu_rule: str, rule: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    class Estimator:
        curve_ = SimpleNamespace(end=end, chosen=0.5, mus=[0.5, 1.0, 2.0])

        def __init__(self, **options: Any) -> None:
            given.append(options)

        def fit(self, X: Any, y: Any) -> Estimator:
            given.append((X, y))
            warnings.warn("the chosen mu is 0.5, at an end", UserWarning, stacklevel=1)
            warnings.warn("something else", UserWarning, stacklevel=1)
            return self

    monkeypatch.setattr("interpnet.mulasso.MuLassoCV", Estimator)
    scores = table([0] * 5 + [1] * 6, [0] * 3 + [1] * 8, m=15)
    config = RunConfig(mu="auto", mu_rule=mu_rule, positive=True, class_weight="balanced", seed=seed)
    notes = Notes()
    with pytest.warns(UserWarning, match="something else") as caught:
        assert select.choose_mu(scores, "predictions", config, CLASSES, notes) is Estimator.curve_
    assert len(caught) == 1
    options = {"cv": 3, "positive": True, "class_weight": "balanced", "random_state": 2**31 + 4}
    assert given[0] == options | rule
    assert given[1][0] is scores.X
    np.testing.assert_array_equal(given[1][1], scores.targets("predictions"))
    said = [note for note in notes.texts if "folds" not in note]
    expected = "The chosen mu = 0.5 is the smallest of the 3 values tried; one beyond it may do better (--mu takes any "
    assert said == ([f"{expected}number)."] if end else [])


@pytest.mark.parametrize(("m", "most"), [(9, 1.0), (10, 1.0), (11, 1.1), (310, 31.0), (320, 32.0), (1000, 32.0)])
def test_the_most_channels_of_a_choice_are_a_tenth_of_them_or_thirty_two(m: int, most: float) -> None:
    assert select.most_channels(m) == pytest.approx(most)


@pytest.mark.parametrize(("blocks", "most"), [(16, 6435), (14, 1716), (12, 462), (10, 126), (8, 35)])
def test_pairs_of_halves_are_as_many_as_the_blocks_that_fit_make(
    blocks: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(select, "parts_fit", lambda _m, parts: parts <= blocks)
    assert select._blocks(table([0] * 16), most) == blocks
    with pytest.raises(
        InterpNetError, match=f"the {blocks} blocks of images that fit into memory make {most} different"
    ):
        select._blocks(table([0] * 16), most + 1)
    with pytest.raises(InterpNetError, match="there are 15 images; expected at least 16"):
        select._blocks(table([0] * 15), 1)


def test_halves_are_asked_for_as_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    scores = table([0] * 9 + [2] * 9, [0] * 10 + [2] * 8)

    def halving(X: Any, y: Any, **options: Any) -> Stability:
        given.update(options, X=X, y=y)
        return stability_selection(X, y, **options)

    monkeypatch.setattr("interpnet.mulasso.stability_selection", halving)
    config = RunConfig(stability=2, positive=True, class_weight="balanced", seed=5)
    made = select.measure_stability(scores, "predictions", config, 0.75, 4, tmp_path)
    assert {name: given[name] for name in ("mu", "n_pairs", "n_blocks", "positive", "class_weight", "seed")} == {
        "mu": 0.75,
        "n_pairs": 2,
        "n_blocks": 16,
        "positive": True,
        "class_weight": "balanced",
        "seed": 5,
    }
    assert given["X"] is scores.X
    np.testing.assert_array_equal(given["y"], scores.targets("predictions"))
    assert made.shape == (4, 2)
    assert not made[[1, 3]].any()
    np.testing.assert_array_equal(Stability.load(tmp_path / "stability.npz").frequency, made)
