"""Stages at their edges, on a run of seconds: what is skipped, left out, gone on with, noted and refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_run import CLASSES, OUTPUTS, read, tiny_session, unreadable
from interpnet.pipelines.run.notes import Notes
from interpnet.pipelines.run.session import Session
from interpnet.pipelines.stages import (
    ablate,
    answers,
    collect,
    examples,
    explain,
    localise,
    report,
    solve,
    visualise,
)
from PIL import Image

from interpnet.ablation import Answers
from interpnet.engine import Channel, ChannelIndex, predicted
from interpnet.errors import InterpNetError, RunFolderError
from interpnet.gram import Gram
from interpnet.interpretation import Interpretation
from interpnet.mulasso import SelectionCurve


def solved(session: Session) -> Session:
    collect.run_collect(session)
    solve.run_solve(session)
    return session


# --- collect ----------------------------------------------------------------------------------------------


def test_images_that_cannot_be_read_are_listed_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = tiny_session(tmp_path / "run")
    # Also the last one, which no batch after it reports.
    unreadable(monkeypatch, session, "train", {3, 20})
    collect.run_collect(session)
    table = collect.load_table(session)
    assert len(table) == 19
    skipped = session.run.manifest["data"]["train"]["skipped"]
    assert [row[:2] for row in skipped] == [[3, "train 3"], [20, "train 20"]]
    assert session.run.stage("collect")["notes"] == ["2 training images could not be read and were left out."]
    kept = [i for i in range(21) if i not in {3, 20}]
    np.testing.assert_array_equal(table.labels, OUTPUTS[session.loaded.train.data.labels[kept]])


def test_skipped_images_of_an_earlier_part_are_still_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = tiny_session(tmp_path / "run")
    unreadable(monkeypatch, session, "train", {1, 5, 20})
    collect.run_collect(session)
    listed = session.run.manifest["data"]["train"]["skipped"]
    again = tiny_session(tmp_path / "run")
    again.run.manifest["stages"].pop("collect")
    unreadable(monkeypatch, again, "train", set())
    assert collect.run_collect(again)
    # The folder was complete: nothing was read again.
    assert again.run.stage("collect")["images_per_second"] is None
    assert [row[0] for row in listed] == [1, 5, 20]
    # The last one was skipped after the last row was written; the table notes the others.
    assert [row for row in again.run.manifest["data"]["train"]["skipped"] if row[0] < 20] == listed[:2]


def test_dead_layers_are_noted(tmp_path: Path) -> None:
    session = tiny_session(tmp_path / "run")
    session.loaded.model.second.bias.data.fill_(-100.0)
    collect.run_collect(session)
    assert session.run.stage("collect")["notes"] == ["Dead layers, zero on every image: relu:1"]


def test_the_folder_of_a_collection_of_something_else_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tiny_session(tmp_path / "run")
    assert collect._consumed(session, "key", 21) == 0
    collect.run_collect(session)
    key = session.run.key("collect")
    folder = session.run.folder("collect")
    whole = {path.name for path in folder.iterdir()}
    assert collect._consumed(session, key, 21) is None
    honest = collect.begun
    for change, expected in (
        ({"complete": False, "consumed": 4}, 4),
        ({"complete": False, "consumed": 20}, 20),
        # Read to the end but not finished, or of another key: begun again.
        ({"complete": False, "consumed": 21}, 0),
        ({"key": "another"}, 0),
        ({"key": "another", "complete": False, "consumed": 4}, 0),
    ):
        assert {path.name for path in folder.iterdir()} == whole
        with monkeypatch.context() as patch:
            patch.setattr(collect, "begun", lambda folder, key, change=change: honest(folder, key)._replace(**change))
            assert collect._consumed(session, key, 21) == expected
        assert (folder / "X.f32").exists() == (expected != 0)
        if expected == 0:
            session.run.manifest["stages"].pop("collect")
            collect.run_collect(session)
    (folder / "state.json").write_text("{")
    assert collect._consumed(session, key, 21) == 0
    assert list(folder.iterdir()) == []


def test_sums_that_were_lost_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "_SUMMED_ROWS", 4)
    session = solved(tiny_session(tmp_path / "run", mu=1.0))
    path = session.run.folder("collect") / collect.GRAM_FILE
    before = Gram.load(path)
    path.unlink()
    session.run.verified.clear()
    assert collect.run_collect(session)
    after = Gram.load(path)
    np.testing.assert_allclose(after.G, before.G)
    np.testing.assert_allclose(after.B, before.B)
    assert after.n == 21


def test_wide_tables_are_collected_without_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "gram_fits", lambda m, *_: m <= 9)
    session = tiny_session(tmp_path / "nine")
    collect.run_collect(session)
    assert (session.run.folder("collect") / collect.GRAM_FILE).is_file()
    monkeypatch.setattr(collect, "gram_fits", lambda m, *_: m <= 8)
    session = solved(tiny_session(tmp_path / "eight", mu=1.0))
    assert not (session.run.folder("collect") / collect.GRAM_FILE).exists()
    other = solved(tiny_session(tmp_path / "other", mu=1.0))
    np.testing.assert_allclose(
        solve.load_interpretation(session).coef, solve.load_interpretation(other).coef, atol=1e-7
    )


# --- solve ------------------------------------------------------------------------------------------------


def test_classes_without_a_channel_are_noted(tmp_path: Path) -> None:
    session = tiny_session(tmp_path / "run", mu=1.0, positive=True)
    # Channels that are active on other classes only: with weights not below zero there is none for these.
    collect.run_collect(session)
    notes = Notes()
    solve._solve(session, notes)
    summary = read(session, "weights/summary.json")
    silent = [c["name"] for c in summary["classes"] if c["n_relevant"] == 0 and c["n_images"]]
    assert any("without a relevant channel" in note for note in notes.texts) == bool(silent)


def test_the_files_of_an_earlier_choice_go(tmp_path: Path) -> None:
    given = {"counts": (16, 12, 8), "fit_on": "labels"}
    session = solved(tiny_session(tmp_path / "run", mu="auto", stability=2, **given))
    files = {"selection.json", "stability.npz"}
    assert files <= {path.name for path in session.run.folder("solve").iterdir()}
    assert session.run.stage("solve")["stability"] == 2
    session = tiny_session(tmp_path / "run", mu=2.0, **given)
    assert solve.run_solve(session)
    assert not files & {path.name for path in session.run.folder("solve").iterdir()}
    assert not solve.run_solve(session), "done"
    # A file that goes is made again.
    session = tiny_session(tmp_path / "run", mu=2.0, stability=2, **given)
    solve.run_solve(session)
    (session.run.folder("solve") / "stability.npz").unlink()
    assert solve.run_solve(session)


@pytest.mark.parametrize(("channels", "many"), [(4.0, False), (5.0, True)])
def test_a_choice_that_names_nearly_every_channel_says_so(
    channels: float, many: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mus = np.array([0.5, 1.0, 2.0])
    curve = SelectionCurve(mus, mus, mus / 9, None, None, mus, 1.0, 1.0, 1.0, "one_se", 5)
    monkeypatch.setattr(solve, "choose_mu", lambda *_: curve)
    honest = solve.summarise
    monkeypatch.setattr(solve, "summarise", lambda *args: honest(*args) | {"mean_relevant": channels})
    session = solved(tiny_session(tmp_path / "run", mu="auto", fit_on="labels"))
    notes = session.run.stage("solve")["notes"]
    # Of nine channels four are fewer than half, five are more.
    assert any("names 5 of 9 channels per class" in note for note in notes) == many


def test_weights_of_earlier_settings_are_refused(tmp_path: Path) -> None:
    solved(tiny_session(tmp_path / "run", mu=1.0))
    with pytest.raises(
        RunFolderError, match=r"'solve' wrote belongs to earlier settings or inputs; run `interpnet solve"
    ):
        solve.load_interpretation(tiny_session(tmp_path / "run", mu=2.0))
    with pytest.raises(RunFolderError, match="'ablate' has not run"):
        solve.require_current(tiny_session(tmp_path / "run", mu=1.0), "ablate", "key")


def test_a_class_without_images_or_weights_in_the_summary() -> None:
    index = ChannelIndex((("a", 2), ("b", 1)))
    coef = np.array([[1.0, -1.0, 2.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.5]])
    found = Interpretation(index, coef, ("x", "y", "z"), mu=4.0, gaps=np.array([1e-9, 0.0, 1e-7]))
    frequency = np.array([[0.6, 0.59, 1.0], [0.0] * 3, [0.0, 0.0, 0.1]])
    said = solve.summarise(found, np.array([5, 0, 7]), frequency)
    assert [(c["n_images"], c["n_relevant"], c["n_positive"], c["n_seldom"]) for c in said["classes"]] == [
        (5, 3, 2, 1),
        (0, 0, 0, 0),
        (7, 1, 1, 1),
    ]
    assert [c["layers"] for c in said["classes"]] == [{"a": 0.5, "b": 0.5}, {}, {"b": 1.0}]
    assert (said["mean_relevant"], said["worst_gap"], said["n_channels"], said["mu"]) == (2.0, 1e-7, 3, 4.0)
    header, rows = solve.channel_rows(found, frequency)
    assert header == ["class", "rank", "layer", "index", "weight", "frequency"]
    assert rows == [
        ["x", 1, "b", 0, 2.0, 1.0],
        ["x", 2, "a", 0, 1.0, 0.6],
        ["x", 3, "a", 1, -1.0, 0.59],
        ["z", 1, "b", 0, 0.5, 0.1],
    ]
    header, rows = solve.channel_rows(found)
    assert (header[-1], rows[0]) == ("weight", ["x", 1, "b", 0, 2.0])


# --- ablate -----------------------------------------------------------------------------------------------


def test_what_the_study_could_not_use_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = solved(tiny_session(tmp_path / "run", mu=1.0, repeats=1))
    test = session.loaded.test
    second = np.flatnonzero(test.data.labels == 1).tolist()
    unreadable(monkeypatch, session, "test", set(second))
    ablate.run_ablate(session)
    entry = session.run.stage("ablate")
    empty = CLASSES[int(OUTPUTS[1])]
    assert entry["notes"] == [
        "3 test images could not be read and were left out.",
        f"Classes without a test image, so without recall (1): {empty}",
    ]
    assert [row[0] for row in session.run.manifest["data"]["test"]["skipped"]] == second
    assert (session.run.path / "ablation" / "ablation.csv").read_text().count(f",{empty},0,") > 0
    assert entry["n_images"] == 6
    # What the network says of the others is kept by their positions in the data.
    kept = Answers.load(session.run.path / "ablation" / "ablation-answers.npz")
    assert kept.images.tolist() == [i for i in range(9) if i not in second]
    np.testing.assert_array_equal(kept.labels, OUTPUTS[test.data.labels[kept.images]])
    assert not ablate.run_ablate(session), "done"


def test_a_study_that_could_not_begin_in_the_middle_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = solved(tiny_session(tmp_path / "run", mu=1.0, repeats=1))
    honest = ablate.ablation_study

    def whole(*args: Any, **options: Any) -> Any:
        return replace(honest(*args, **options), why_whole="every removal ran the whole network, for reasons")

    monkeypatch.setattr(ablate, "ablation_study", whole)
    ablate.run_ablate(session)
    assert session.run.stage("ablate")["notes"] == [
        "The study took longer than it has to: every removal ran the whole network, for reasons."
    ]


def test_an_interrupted_study_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from interpnet.ablation import Passes

    session = solved(tiny_session(tmp_path / "run", mu=1.0, repeats=1))
    honest = Passes._run
    made: list[int] = []

    def breaking(self: Passes, *args: Any) -> Any:
        made.append(1)
        if len(made) == 2:
            raise KeyboardInterrupt
        return honest(self, *args)

    monkeypatch.setattr(Passes, "_run", breaking)
    with pytest.raises(KeyboardInterrupt, match="interrupted in stage 'ablate'"):
        ablate.run_ablate(session)
    kept = read(session, "ablation/measured.json")
    assert kept["key"] == ablate.ablate_key(session)
    assert len(kept["measured"]) == 1
    ablate.run_ablate(session)
    resumed = len(made) - 2
    monkeypatch.setattr(Passes, "_run", honest)
    other = solved(tiny_session(tmp_path / "other", mu=1.0, repeats=1))
    made.clear()
    monkeypatch.setattr(Passes, "_run", lambda *args: made.append(1) or honest(*args))
    ablate.run_ablate(other)
    assert resumed == len(made) - 1
    assert read(session, "ablation/ablation.json") == read(other, "ablation/ablation.json")


def test_no_study_is_none_and_one_of_other_settings_is_refused(tmp_path: Path) -> None:
    session = solved(tiny_session(tmp_path / "run", mu=1.0, repeats=1))
    assert ablate.load_ablation(session) is None
    ablate.run_ablate(session)
    assert ablate.load_ablation(session) is not None
    with pytest.raises(RunFolderError, match="'ablate' wrote belongs to earlier settings"):
        ablate.load_ablation(tiny_session(tmp_path / "run", mu=1.0, repeats=2))


# --- examples ---------------------------------------------------------------------------------------------


def test_predictions_are_of_the_images_that_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = tiny_session(tmp_path / "run", max_ablation_images=6)
    used = session.loaded.test_indices()
    unreadable(monkeypatch, session, "test", {int(used[1])})
    said, positions = answers.answers(session, predicted)
    assert positions.tolist() == [int(i) for i in used if i != used[1]]
    x = torch.stack([session.loaded.test.data[i][0] for i in positions.tolist()])
    assert said.tolist() == session.loaded.model(x).argmax(1).tolist()


def test_of_many_classes_each_has_an_example_before_any_has_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tiny_session(tmp_path / "run", examples=3, misclassified=1, max_examples=3)
    notes = Notes()
    truth = session.loaded.test.labels
    monkeypatch.setattr(examples, "answers", lambda _session, _read: (truth.copy(), np.arange(len(truth))))
    chosen = examples.choose(session, notes)
    assert sorted(truth[chosen].tolist()) == [0, 1, 2]
    assert notes.texts == ["Examples are 3 recognised images, drawn over 3 classes, not 3 per class (--max-examples)."]
    # As many as there may be say nothing.
    session = tiny_session(tmp_path / "run", examples=3, misclassified=1, max_examples=9)
    notes = Notes()
    chosen = examples.choose(session, notes)
    assert notes.texts == []
    assert truth[chosen].tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    wrong = (truth + 1) % 3
    monkeypatch.setattr(examples, "answers", lambda _session, _read: (wrong, np.arange(len(truth))))
    assert len(examples.choose(session, notes)) == 1


def explained(path: Path, **settings: Any) -> Session:
    session = solved(tiny_session(path, mu=1.5, repeats=1, methods=("gradient",), top=3, **settings))
    explain.run_explain(session)
    return session


def test_interrupted_examples_are_gone_on_with_by_whole_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "_GROUP", 2)
    session = explained(tmp_path / "run", examples=1, misclassified=3)
    whole = read(session, "explanations/examples.json")
    stems = sorted(path.stem for path in (session.run.path / "explanations" / "examples").glob("*.json"))
    assert stems == [f"{n:04d}" for n in range(len(whole["examples"]))]
    calls: list[int] = []
    honest = examples.explain_batch
    monkeypatch.setattr(examples, "explain_batch", lambda *args: calls.append(len(args[2])) or honest(*args))
    found = solve.load_interpretation(session)
    key = explain._pictures_key(session)
    assert examples.explain_examples(session, found, key, Notes()) == whole
    assert calls == []
    (session.run.path / "explanations" / "examples" / "0002.json").unlink()
    assert examples.explain_examples(session, found, key, Notes()) == whole
    assert calls == [2], "the group of the one that is gone"
    examples.explain_examples(session, found, "another key", Notes())
    assert sum(calls) == 2 + len(whole["examples"])


def test_what_an_image_cannot_show_is_said(tmp_path: Path) -> None:
    settings = {"mu": 1.0, "k": 3, "methods": ("nonesuch", "gradient")}
    session = solved(tiny_session(tmp_path / "run", variant="paper", **settings))
    index = collect.load_table(session).channels
    coef = np.zeros((3, 9))
    coef[0, 0] = 1.0
    coef[1, :2] = 1.0
    found = Interpretation(index, coef, CLASSES, info={"norm": "l2", "normalisation": "layer"})
    x = torch.stack([session.loaded.test.data[i][0] for i in range(3)])
    items = [examples.Item(f"user/{c}", f"image {c}", explained=c) for c in range(3)]
    records = examples.explain_batch(session, found, items, x, list(x.clamp(0, 1)))
    notes = [record["note"].split("; ") for record in records]
    assert [note[0] for note in notes] == [
        "only 1 channel of this class answers",
        "only 2 channels of this class answer",
        "this class has no relevant channel, so there is nothing to show",
    ]
    assert all(note[1].startswith("nonesuch: ") for note in notes)
    assert [len(record["channels"]) for record in records] == [1, 2, 0]
    assert [record["explained"] for record in records] == [0, 1, 2]
    assert all(set(record["baselines"]) == {"gradient", "edge", "random", "center"} for record in records)
    for record in records:
        files = examples._pictures(record)
        assert len(files) == 2 + 4 + len(record["channels"])
        assert all((session.run.folder("explain") / name).is_file() for name in files)
    # Their heading leaves the counts out of each image.
    said = examples.heading(session, records)
    assert said["rectifiers_seen"] == said["rectifiers_overridden"] == 2
    assert "rectifiers_seen" not in said["examples"][0]
    assert examples.heading(session, [])["rectifiers_seen"] == 0
    # Where others fill up for the channels of the class, this is said.
    filling = solved(tiny_session(tmp_path / "filling", **settings))
    records = examples.explain_batch(filling, found, items, x, list(x.clamp(0, 1)))
    others = [sum(channel["weight"] == 0 for channel in record["channels"]) for record in records]
    assert others[0] > 0
    assert records[0]["note"].startswith(
        f"{others[0]} of the channels shown are not relevant to the class, but fill up"
    )
    assert records[2]["note"].startswith("this class has no relevant channel: those shown contribute most among all")
    everything = solved(tiny_session(tmp_path / "all", choose="all", **settings))
    records = examples.explain_batch(everything, found, items, x, list(x.clamp(0, 1)))
    assert records[0]["note"].startswith("nonesuch: ")


def test_an_image_of_another_size_has_its_sites_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = solved(tiny_session(tmp_path / "run", mu=1.0))
    seen: list[Any] = []
    honest = examples.explain
    monkeypatch.setattr(
        examples, "explain", lambda *args, **options: seen.append(options["trace"]) or honest(*args, **options)
    )
    found = solve.load_interpretation(session)
    examples.explain_with(session, found, torch.rand(1, 3, 16, 16), None)
    examples.explain_with(session, found, torch.rand(1, 3, 20, 16), [1])
    assert seen == [session.loaded.trace, None]


def test_the_strongest_pixels_of_a_picture_share_the_brightest_colour() -> None:
    """One pixel of a thousand is a hundred times the others: they are shown as bright as it."""
    heatmap = torch.full((40, 25), 0.5)
    heatmap[0, 0] = 50.0
    picture = torch.zeros(3, 40, 25)
    shown = examples.shown(heatmap, picture)
    flat = examples.shown(torch.full((40, 25), 0.5), picture)
    np.testing.assert_array_equal(shown[-1, -1], flat[-1, -1])
    zero = examples.shown(torch.zeros(40, 25), picture)
    assert (zero[-1, -1] != shown[-1, -1]).any()


# --- explain, visualise, localise -----------------------------------------------------------------------


def test_fewer_channels_than_there_are_is_noted_and_explanations_without_a_study_have_no_effects(
    tmp_path: Path,
) -> None:
    session = explained(tmp_path / "run", max_channels=2, examples=1, misclassified=0)
    listed = read(session, "explanations/classes.json")
    assert all(channel["effect"] is None for c in listed["classes"] for channel in c["channels"])
    assert [len(c["channels"]) for c in listed["classes"]] == [min(2, c["n_relevant"]) for c in listed["classes"]]
    notes = session.run.stage("explain")["notes"]
    few = any("At most 2 channels per class are pictured" in note for note in notes)
    assert few == (max(c["n_relevant"] for c in listed["classes"]) > 2)
    assert not (session.run.path / "explanations" / "localisation.json").exists()
    pictured = {(channel["layer"], channel["index"]) for c in listed["classes"] for channel in c["channels"]}
    assert session.run.stage("explain")["n_channels_pictured"] == len(pictured)
    assert session.run.stage("explain")["n_examples"] == len(read(session, "explanations/examples.json")["examples"])
    files = list((session.run.path / "explanations" / "channels").glob("*.json"))
    assert len(files) == len(pictured)


def test_channels_that_are_pictured_are_not_pictured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = solved(tiny_session(tmp_path / "run", mu=1.5, top=3))
    channels = [Channel("relu", 1), Channel("relu:1", 0), Channel("relu", 4)]
    first = visualise.visualise_channels(session, channels, "key")
    assert list(first) == channels
    folder = session.run.folder("explain")
    for channel, number in zip(channels, (1, 5, 4), strict=True):
        record = first[channel]
        assert record["mean"] == f"channels/{number:05d}_mean.png"
        assert (folder / record["mean"]).is_file()
        assert len(record["patches"]) == min(record["count"], 9)
        with Image.open(folder / record["mean"]) as picture:
            assert min(picture.size) >= 16
    asked: list[list[Channel]] = []
    honest = visualise.average_visualizations
    monkeypatch.setattr(
        visualise,
        "average_visualizations",
        lambda *args, **options: asked.append(list(args[3])) or honest(*args, **options),
    )
    assert visualise.visualise_channels(session, channels, "key") == first
    assert asked == []
    (folder / first[channels[1]]["mean"]).unlink()
    assert visualise.visualise_channels(session, channels, "key") == first
    assert asked == [[channels[1]]]
    visualise.visualise_channels(session, channels, "another")
    assert asked[1:] == [channels]
    monkeypatch.setattr(visualise, "_SMALLEST_GROUP", 1)
    monkeypatch.setattr(visualise, "_LARGEST_GROUP", 2)
    visualise.visualise_channels(session, channels, "third")
    assert asked[2:] == [channels[:2], channels[2:]]


def test_masks_of_another_size_are_not_compared_with(tmp_path: Path) -> None:
    session = solved(tiny_session(tmp_path / "run", mu=1.0, masks=True, methods=("gradient",)))
    found = solve.load_interpretation(session)
    data = session.loaded.test.data
    data._source.known = {"discriminative": np.ones((9, 8, 16), dtype=bool)}
    notes = Notes()
    assert localise.localise(session, {"mu-lasso": found}, {}, notes) is None
    assert notes.texts == [
        "The masks are of 8x16 pixels and the images were resized or cropped: nothing is compared with them."
    ]


def test_shares_of_a_cue_and_blank_maps_are_counted() -> None:
    maps = localise._Maps()
    where = np.array([2, 0])
    masks = {"discriminative": np.zeros((3, 2, 2), dtype=bool), "shortcut": np.zeros((3, 2, 2), dtype=bool)}
    masks["discriminative"][:, 0] = True
    masks["shortcut"][2, 0, 0] = True
    masks["shortcut"][0, 1] = True
    values = torch.tensor([[[3.0, -5.0], [0.0, 1.0]], [[0.0, -1.0], [0.0, -2.0]]])
    maps.add(values, masks, where)
    row = maps.row("x")
    # Of image 2 three of four parts lie in the cue; the other map has no positive part.
    assert (row["name"], row["cue"], row["blank"], row["n"]) == ("x", 0.75, 1, 2)
    assert row["sd"] > 0
    maps = localise._Maps()
    maps.add(values[1:], masks, where[1:])
    assert maps.row("y") == {"name": "y", "mean": maps.row("y")["mean"], "sd": 0.0, "blank": 1, "n": 1, "cue": None}


def test_a_class_without_images_or_channels_has_no_shares(tmp_path: Path) -> None:
    session = solved(tiny_session(tmp_path / "run", mu=1.0, masks=True))
    masks = session.loaded.test.data.masks
    assert masks is not None
    chosen = np.flatnonzero(session.loaded.test.labels != 1)
    channel = Channel("relu", 0)
    shown = {0: [(channel, 1.0)], 1: [(channel, 1.0)], 2: []}
    assert [entry["index"] for entry in localise._shares(session, shown, chosen, masks)] == [0]


# --- report -----------------------------------------------------------------------------------------------


def test_a_report_needs_stages_that_fit_each_other_and_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from interpnet.pipelines.report import build

    path = tmp_path / "run"
    settings: dict[str, Any] = {"mu": 1.5, "repeats": 1, "methods": ("gradient",), "top": 3, "examples": 1}
    session = solved(tiny_session(path, **settings))
    with pytest.raises(RunFolderError, match="the stage 'ablate' has not run"):
        report.run_report(session)
    ablate.run_ablate(session)
    with pytest.raises(RunFolderError, match="the stage 'explain' has not run"):
        report.run_report(session)
    explain.run_explain(session)
    built: list[Path] = []

    def building(run: Path, only: Any = None) -> Path:
        assert only is None
        (run / "report").mkdir(exist_ok=True)
        (run / "report" / "index.html").write_text("page")
        built.append(run)
        return run / "report" / "index.html"

    monkeypatch.setattr(build, "build_report", building)
    for again, expected in ((False, 1), (False, 1), (True, 2)):
        assert report.run_report(session, again=again) == path / "report" / "index.html"
        assert len(built) == expected
    session.run.manifest["notes"].append("something new to say")
    report.run_report(session)
    assert len(built) == 3
    monkeypatch.setattr(report, "_sources", lambda: "another version of the report")
    report.run_report(session)
    assert len(built) == 4
    session = tiny_session(path, **settings | {"k": 1})
    explain.run_explain(session)
    report.run_report(session)
    assert len(built) == 5
    settings["k"] = 1
    for change, stage in (({"mu": 2.0}, "solve"), ({"repeats": 2}, "ablate"), ({"top": 4}, "explain")):
        with pytest.raises(RunFolderError, match=f"'{stage}' wrote belongs to earlier settings"):
            report.run_report(tiny_session(path, **settings | change))
    other = tiny_session(path, **settings)
    other.run.manifest["stages"]["explain"]["key"] = "another"
    with pytest.raises(InterpNetError, match="'explain' wrote belongs to earlier settings"):
        report.run_report(other)
