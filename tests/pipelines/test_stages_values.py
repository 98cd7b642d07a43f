"""What the stages hand to the library and what they write, on a run of seconds; keys that hold all that matters."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_run import CLASSES, OUTPUTS, Calls, again, read, recorded, tensors, through, tiny_session
from interpnet.pipelines.run.notes import Notes
from interpnet.pipelines.run.session import Session
from interpnet.pipelines.run.split import Batches
from interpnet.pipelines.stages import (
    ablate,
    collect,
    examples,
    explain,
    localise,
    solve,
    visualise,
)
from interpnet.pipelines.stages.records import Records

from interpnet.ablation import AblationResult
from interpnet.gram import Gram
from interpnet.interpretation import Interpretation, interpret
from interpnet.mulasso import MuLassoCV, stability_selection
from interpnet.scores import ScoreTable, collect_scores

# --- collect ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"norm": "l2sq"}, {"layers": ("second",)}, {"batch_size": 1}], ids=str)
def test_the_collection_is_of_the_training_images_as_configured(settings: dict[str, Any], tmp_path: Path) -> None:
    session = through(tiny_session(tmp_path / "run", **settings), "collect")
    table = collect.load_table(session)
    x, y = tensors(session)
    layers = settings.get("layers", ("default",))
    norm = settings.get("norm", "l2")
    expected = collect_scores(session.loaded.model, [(x, y)], layers=layers, norm=norm, progress=False)
    np.testing.assert_allclose(table.X, expected.X, rtol=1e-6)
    np.testing.assert_array_equal(table.labels, y)
    np.testing.assert_array_equal(table.predictions, session.loaded.model(x).argmax(1))
    np.testing.assert_array_equal(table.indices, np.arange(len(y)))
    assert table.channels == expected.channels
    assert table.info["norm"] == norm
    gram = Gram.load(session.run.folder("collect") / collect.GRAM_FILE)
    direct = Gram.from_scores(np.asarray(table.X), np.asarray(y), n_classes=3)
    np.testing.assert_allclose(gram.G, direct.G)
    np.testing.assert_allclose(gram.B, direct.B)
    entry = session.run.stage("collect")
    assert (entry["n_images"], entry["n_channels"]) == (21, len(expected.channels))
    assert entry["accuracy"] == pytest.approx(float((table.predictions == y.numpy()).mean()))
    assert 0 < entry["accuracy"] < 1, "labels and predictions must differ, or nothing tells them apart"


def test_the_most_training_images_are_balanced_and_follow_the_seed(tmp_path: Path) -> None:
    chosen = []
    for name, seed in (("a", 0), ("b", 0), ("c", 5)):
        session = through(tiny_session(tmp_path / name, max_images=9, seed=seed), "collect")
        table = collect.load_table(session)
        assert np.bincount(table.labels).tolist() == [3, 3, 3]
        _, y = tensors(session)
        np.testing.assert_array_equal(table.labels, y[session.loaded.train_indices()])
        chosen.append(session.loaded.train_indices().tolist())
    assert chosen[0] == chosen[1] != chosen[2]


def test_an_interrupted_collection_goes_on_at_the_image_after_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = through(tiny_session(tmp_path / "whole"), "collect")
    monkeypatch.setattr("interpnet.scores._intake._COMMIT_ROWS", 1)
    monkeypatch.setattr(collect, "first_look", lambda *_: None)
    session = tiny_session(tmp_path / "run")
    asked: list[list[int]] = []
    honest = type(session.loaded).batches

    class Breaking:
        """Batches that end in Ctrl-C after two."""

        def __init__(self, inner: Batches) -> None:
            self.loader = inner.loader
            self.inner = inner
            self.n_images = inner.n_images

        def __iter__(self) -> Any:
            for n, batch in enumerate(self.inner):
                if n == 2:
                    raise KeyboardInterrupt
                yield batch

    def breaking(subject: Any, split: Any, indices: Any) -> Any:
        asked.append(np.asarray(indices).tolist())
        made = honest(subject, split, indices)
        return Breaking(made) if len(asked) == 1 else made

    monkeypatch.setattr(type(session.loaded), "batches", breaking)
    with pytest.raises(KeyboardInterrupt, match="interrupted in stage 'collect'"):
        collect.run_collect(session)
    consumed = read(session, "scores/state.json")["consumed"]
    assert 0 < consumed < 21
    collect.run_collect(session)
    assert asked == [list(range(21)), list(range(consumed, 21))]
    a = collect.load_table(session)
    b = collect.load_table(whole)
    np.testing.assert_array_equal(a.X, b.X)
    np.testing.assert_array_equal(a.labels, b.labels)
    ours = Gram.load(session.run.folder("collect") / collect.GRAM_FILE)
    theirs = Gram.load(whole.run.folder("collect") / collect.GRAM_FILE)
    np.testing.assert_allclose(ours.G, theirs.G)
    np.testing.assert_allclose(ours.B, theirs.B)


# --- solve ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit_on", ["labels", "predictions"])
@pytest.mark.parametrize("class_weight", ["none", "balanced"])
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("saved", [True, False])
def test_weights_are_those_of_the_targets_and_weights_asked_for(
    fit_on: str, class_weight: str, positive: bool, saved: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"fit_on": fit_on, "class_weight": class_weight, "positive": positive, "mu": 1.3, "norm": "l2sq"}
    if not saved:
        monkeypatch.setattr(collect, "gram_fits", lambda *_sizes: False)
    session = through(tiny_session(tmp_path / "run", **settings), "solve")
    assert (session.run.folder("collect") / collect.GRAM_FILE).is_file() == saved
    table = collect.load_table(session)
    targets = {"labels": table.labels, "predictions": table.predictions}[fit_on]
    assert not np.array_equal(table.labels, table.predictions)
    weight = None
    if class_weight == "balanced":
        counts = np.bincount(targets, minlength=3)
        weight = len(targets) / (np.count_nonzero(counts) * counts[targets])
    gram = Gram.from_scores(np.asarray(table.X), targets, n_classes=3, sample_weight=weight)
    expected = interpret(gram, classes=CLASSES, channels=table.channels, mu=1.3, positive=positive)
    found = solve.load_interpretation(session)
    np.testing.assert_allclose(found.coef, expected.coef, atol=1e-7)
    assert (found.mu, found.positive, found.classes) == (1.3, positive, CLASSES)
    assert found.info == {
        "norm": "l2sq",
        "normalisation": "layer",
        "fit_on": fit_on,
        "n_images": 21,
        "mu_rule": "given",
        "class_weight": class_weight,
    }
    summary = read(session, "weights/summary.json")
    assert [c["n_images"] for c in summary["classes"]] == np.bincount(targets, minlength=3).tolist()
    for c, entry in enumerate(summary["classes"]):
        w = found.coef[c]
        assert (entry["index"], entry["name"]) == (c, CLASSES[c])
        assert (entry["n_relevant"], entry["n_positive"]) == (int((w != 0).sum()), int((w > 0).sum()))
        assert entry["l1"] == pytest.approx(np.abs(w).sum())
        shares = {"relu": np.abs(w[:5]).sum(), "relu:1": np.abs(w[5:]).sum()}
        for layer, total in shares.items():
            assert entry["layers"].get(layer, 0.0) == pytest.approx(total / np.abs(w).sum())
    used = [(found.coef[c] != 0).sum() for c in range(3) if summary["classes"][c]["n_images"]]
    assert summary["mean_relevant"] == pytest.approx(np.mean(used))
    assert summary["worst_gap"] == pytest.approx(found.gaps.max())
    entry = session.run.stage("solve")
    assert (entry["mu"], entry["fit_on"], entry["class_weight"]) == (1.3, fit_on, class_weight)
    assert (entry["positive"], entry["norm"], entry["stability"]) == (positive, "l2sq", 0)
    rows = list(csv.DictReader((session.run.path / "weights" / "channels.csv").read_text().splitlines()))
    listed = [(row["class"], row["layer"], int(row["index"]), float(row["weight"])) for row in rows]
    assert listed == [
        (name, channel.layer, channel.index, value)
        for c, name in enumerate(CLASSES)
        for channel, value in found.relevant(c)
    ]
    assert [int(row["rank"]) for row in rows] == [
        rank for c in range(3) for rank in range(1, len(found.relevant(c)) + 1)
    ]


@pytest.mark.parametrize(("n", "expected"), [(5, "labels"), (4, "predictions")])
def test_few_labels_are_left_for_the_predictions(n: int, expected: str, tmp_path: Path) -> None:
    session = through(tiny_session(tmp_path / "run", counts=(n, n, n), mu=1.0), "solve")
    assert session.run.stage("solve")["fit_on"] == expected
    assert any("fewer than 5" in note for note in session.run.stage("solve")["notes"]) == (expected == "predictions")


AUTO = {"mu": "auto", "fit_on": "labels", "counts": (16, 12, 8)}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"class_weight": "balanced", "seed": 4},
        {"positive": True, "fit_on": "predictions"},
        {"mu_rule": "error"},
    ],
    ids=str,
)
def test_mu_is_chosen_as_the_estimator_chooses_it_with_the_same_settings(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = through(tiny_session(tmp_path / "run", **AUTO | settings), "solve")
    table = collect.load_table(session)
    config = session.config
    targets = {"labels": table.labels, "predictions": table.predictions}[config.fit_on]
    weight = {"none": None, "balanced": "balanced"}[config.class_weight]
    folds = min(5, int(np.bincount(targets)[np.bincount(targets) > 0].min()))
    with warnings.catch_warnings(action="ignore"):
        # At most a tenth of the nine channels, which is less than one.
        rule = {"accuracy": {"rule": "accuracy", "most_channels": 1.0}, "error": {}}[config.mu_rule]
        model = MuLassoCV(cv=folds, positive=config.positive, class_weight=weight, random_state=config.seed, **rule)
        model.fit(np.asarray(table.X), targets)
    selection = read(session, "weights/selection.json")
    assert selection["chosen"] == pytest.approx(model.mu_)
    np.testing.assert_allclose(selection["error_mean"], model.curve_.error_mean)
    np.testing.assert_allclose(selection["accuracy_mean"], model.curve_.accuracy_mean)
    np.testing.assert_allclose(selection["channels_mean"], model.curve_.channels_mean)
    assert solve.load_interpretation(session).mu == pytest.approx(model.mu_)
    assert session.run.stage("solve")["mu_rule"] == selection["rule"] == model.rule
    assert selection.get("most") == model.most_channels


@pytest.mark.parametrize(
    "settings",
    [{}, {"class_weight": "balanced", "seed": 4}, {"positive": True, "stability": 2}, {"fit_on": "predictions"}],
    ids=str,
)
def test_frequencies_are_those_of_the_halves_with_the_same_settings(settings: dict[str, Any], tmp_path: Path) -> None:
    given = {"mu": 0.7, "stability": 3, "counts": (16, 12, 8), "fit_on": "labels"} | settings
    session = through(tiny_session(tmp_path / "run", **given), "solve")
    table = collect.load_table(session)
    config = session.config
    targets = {"labels": table.labels, "predictions": table.predictions}[config.fit_on]
    expected = stability_selection(
        np.asarray(table.X),
        targets,
        mu=0.7,
        n_pairs=config.stability,
        positive=config.positive,
        class_weight={"none": None, "balanced": "balanced"}[config.class_weight],
        seed=config.seed,
        progress=False,
    )
    from interpnet.mulasso import Stability

    saved = Stability.load(session.run.folder("solve") / "stability.npz")
    np.testing.assert_allclose(saved.frequency[np.unique(targets)], expected.frequency)
    found = solve.load_interpretation(session)
    rows = list(csv.DictReader((session.run.path / "weights" / "channels.csv").read_text().splitlines()))
    frequencies = [float(row["frequency"]) for row in rows]
    assert frequencies == [saved.frequency[c, column] for c in range(3) for column in found.columns(c)]
    seldom = [sum(saved.frequency[c, column] < 0.6 for column in found.columns(c)) for c in range(3)]
    assert [c["n_seldom"] for c in read(session, "weights/summary.json")["classes"]] == seldom


def test_frequencies_of_a_class_without_images_are_zero_and_the_others_stay_in_their_rows(tmp_path: Path) -> None:
    session = through(tiny_session(tmp_path / "run", counts=(16, 0, 8), mu=0.7, stability=2, fit_on="labels"), "solve")
    from interpnet.mulasso import Stability

    saved = Stability.load(session.run.folder("solve") / "stability.npz")
    empty = int(OUTPUTS[1])
    assert (saved.frequency[empty] == 0).all()
    assert all(saved.frequency[c].any() for c in range(3) if c != empty)


# --- ablate -----------------------------------------------------------------------------------------------


ABLATE: dict[str, Any] = {"repeats": 3, "seed": 2, "fill": "mean", "max_ablation_images": 6}


def test_every_setting_reaches_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = through(tiny_session(tmp_path / "run", mu=1.0, **ABLATE), "solve")
    calls = recorded(monkeypatch, ablate, "ablation_study")
    ablate.run_ablate(session)
    (call,) = calls
    model, batches, found = call["args"]
    assert model is session.loaded.model
    np.testing.assert_array_equal(found.coef, solve.load_interpretation(session).coef)
    assert (call["repeats"], call["seed"], call["fill"]) == (3, 2, "mean")
    assert call["key"] == ablate.ablate_key(session)
    np.testing.assert_array_equal(call["table"].X, collect.load_table(session).X)
    seen = torch.cat([batch.images for batch in batches])
    x, y = tensors(session, "test")
    chosen = session.loaded.test_indices()
    assert len(chosen) == 6
    torch.testing.assert_close(seen, x[chosen])
    assert torch.cat([batch.labels for batch in batches]).tolist() == y[chosen].tolist()
    result = ablate.load_ablation(session)
    assert result is not None
    assert (result.repeats, result.seed, result.fill, result.n_images) == (3, 2, "mean", 6)
    assert result.support.tolist() == np.bincount(y[chosen], minlength=3).tolist()
    assert {c.name for c in result.conditions} >= {"relevant", "random", "highest-activation"}
    assert any("6 of 9 test images" in note for note in session.run.stage("ablate")["notes"])
    entry = session.run.stage("ablate")
    assert (entry["n_images"], entry["repeats"], entry["fill"]) == (6, 3, "mean")
    assert entry["mean_intact"] == pytest.approx(result.mean_intact)
    assert entry["mean_relevant"] == pytest.approx(result.condition("relevant").mean_own())
    assert not (session.run.path / "ablation" / "measured.json").exists()


def test_the_csv_of_a_study_has_its_numbers() -> None:
    from interpnet.ablation import Condition

    made = Condition(
        "random",
        "conv",
        np.array([2.0, 0.0]),
        np.array([[0.25, 0.5], [1.0, np.nan]]),
        np.array([[0.75, 1.0], [0.0, 0.125]]),
    )
    result = AblationResult(("a", "b"), np.array([4, 0]), np.array([0.875, np.nan]), "zero", 4, 2, 0, (made,))
    assert ablate.ablation_rows(result) == [
        ["random", "conv", 0, "a", 4, "2", "0.875", "0.25", "0.75"],
        ["random", "conv", 0, "b", 0, "0", "", "0.5", "1"],
        ["random", "conv", 1, "a", 4, "2", "0.875", "1", "0"],
        ["random", "conv", 1, "b", 0, "0", "", "", "0.125"],
    ]


# --- keys -------------------------------------------------------------------------------------------------

OTHER: dict[str, dict[str, Any]] = {
    "solve": {"mu": 2.0, "positive": True, "fit_on": "predictions", "class_weight": "balanced", "stability": 2},
    "ablate": {"repeats": 4, "fill": "mean", "seed": 1},
    "explain": {
        "examples": 1,
        "misclassified": 3,
        "k": 2,
        "max_channels": 5,
        "top": 9,
        "variant": "paper",
        "choose": "all",
        "rectifier": "deconvnet",
        "start": "ones",
        "resample": False,
        "smooth": 1.5,
        "saturate": 0.9,
        "reduction": "max",
        "methods": ("gradient",),
        "seed": 1,
        "max_ablation_images": 4,
        "batch_size": 3,
    },
}
KEYS: dict[str, Callable[[Session], str]] = {
    "solve": solve.solve_key,
    "ablate": ablate.ablate_key,
    "explain": explain.explain_key,
}


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A run up to its ablation."""
    return through(tiny_session(tmp_path_factory.mktemp("keys") / "run", mu=1.0, repeats=2), "ablate")


@pytest.mark.parametrize(("stage", "name"), [(stage, name) for stage in OTHER for name in OTHER[stage]])
def test_every_setting_of_a_stage_is_in_its_key(stage: str, name: str, solved: Session) -> None:
    base = {"mu": 1.0, "repeats": 2}
    before = KEYS[stage](again(solved, **base))
    assert before == KEYS[stage](again(solved, **base))
    assert KEYS[stage](again(solved, **base | {name: OTHER[stage][name]})) != before


@pytest.mark.parametrize(
    "choice", [{"mu": "auto"}, {"mu": 1.0, "stability": 2}, {"mu": "auto", "stability": 2}], ids=str
)
def test_the_seed_is_in_the_solve_key_where_it_decides_something(choice: dict[str, Any], solved: Session) -> None:
    assert solve.solve_key(again(solved, seed=1, **choice)) != solve.solve_key(again(solved, **choice))
    # Without a choice or halves nothing is drawn.
    assert solve.solve_key(again(solved, mu=1.0, seed=1)) == solve.solve_key(again(solved, mu=1.0))


@pytest.mark.parametrize("stage", ["ablate", "explain"])
def test_what_comes_before_a_stage_is_in_its_key(stage: str, solved: Session) -> None:
    base = {"mu": 1.0, "repeats": 2}
    before = KEYS[stage](again(solved, **base))
    assert KEYS[stage](again(solved, **base | {"mu": 3.0})) != before, "other weights"
    for change in (
        lambda m: m["stages"]["collect"].update(key="another"),
        lambda m: m["identity"].update({"set of test images": "another"}),
    ):
        other = again(solved, **base)
        other.run.manifest = json.loads(json.dumps(other.run.manifest))
        change(other.run.manifest)
        assert KEYS[stage](other) != before


def test_an_ablation_made_since_makes_the_explanations_stale(solved: Session) -> None:
    base = {"mu": 1.0, "repeats": 2}
    before = explain.explain_key(again(solved, **base))
    assert explain.explain_key(again(solved, **base | {"repeats": 5})) != before
    other = again(solved, **base)
    other.run.manifest = json.loads(json.dumps(other.run.manifest))
    del other.run.manifest["stages"]["ablate"]
    assert explain.explain_key(other) != before


def test_scores_of_another_collection_make_the_weights_stale(solved: Session) -> None:
    base = {"mu": 1.0, "repeats": 2}
    before = solve.solve_key(again(solved, **base))
    other = again(solved, **base)
    other.run.manifest = json.loads(json.dumps(other.run.manifest))
    other.run.manifest["stages"]["collect"]["key"] = "another"
    assert solve.solve_key(other) != before


def test_where_and_how_fast_a_run_goes_is_in_no_key(solved: Session) -> None:
    base = {"mu": 1.0, "repeats": 2}
    for stage in ("solve", "ablate"):
        before = KEYS[stage](again(solved, **base))
        for change in ({"device": "auto"}, {"workers": 1}, {"batch_size": 2}):
            assert KEYS[stage](again(solved, **base | change)) == before


# --- explain ----------------------------------------------------------------------------------------------

EXPLAIN: dict[str, Any] = {
    "mu": 1.5,
    "repeats": 1,
    "k": 2,
    "variant": "paper",
    "rectifier": "deconvnet",
    "resample": False,
    "reduction": "max",
    "methods": ("gradient",),
    "top": 4,
    "max_channels": 3,
    "seed": 3,
    "examples": 1,
    "misclassified": 2,
}


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, dict[str, Calls]]:
    """A run with settings of its own for everything, and what its explain stage asked the library for."""
    calls: dict[str, Calls] = {}
    with pytest.MonkeyPatch.context() as patch:
        session = through(tiny_session(tmp_path_factory.mktemp("explained") / "run", masks=True, **EXPLAIN), "ablate")
        for module, name in (
            (examples, "explain"),
            (examples, "attribute"),
            (visualise, "average_visualizations"),
            (localise, "channel_signal"),
        ):
            calls[name] = recorded(patch, module, name)
        # More than one batch, so that an image's place in its batch is not its place among the images.
        patch.setattr(localise, "_BATCH", 4)
        explain.run_explain(session)
    return session, calls


def test_every_setting_reaches_the_explanations(explained: tuple[Session, dict[str, Calls]]) -> None:
    session, calls = explained
    found = solve.load_interpretation(session)
    assert calls["explain"]
    for call in calls["explain"]:
        assert call["args"][0] is session.loaded.model
        np.testing.assert_array_equal(call["args"][2].coef, found.coef)
        assert (call["k"], call["rectifier"], call["resample"], call["reduction"]) == (2, "deconvnet", False, "max")
        assert (call["variant"], call["choose"], call["seed"], call["smooth"]) == ("paper", None, None, None)
        assert call["trace"] is session.loaded.trace
    for call in calls["average_visualizations"]:
        assert call["args"][1] is session.loaded.train.data
        assert (call["top"], call["keep"], call["batch_size"]) == (4, 9, 4)
        np.testing.assert_array_equal(call["args"][2].X, collect.load_table(session).X)
    for call in calls["channel_signal"]:
        assert (call["rectifier"], call["resample"]) == ("deconvnet", False)
    assert {call["args"][3] for call in calls["attribute"]} == {"gradient", "edge", "random", "center"}
    for call in calls["attribute"]:
        assert call["seed"] == 3


def test_examples_are_recognised_images_and_mistakes(explained: tuple[Session, dict[str, Calls]]) -> None:
    session, _ = explained
    found = read(session, "explanations/examples.json")
    model = session.loaded.model
    x, y = tensors(session, "test")
    with torch.no_grad():
        logits = model(x)
    right = logits.argmax(1) == y
    assert 0 < int(right.sum()) < len(right), "the network must make mistakes"
    assert (found["k"], found["rule"], found["resample"], found["reduction"]) == (2, "deconvnet", False, "max")
    assert (found["variant"], found["start"], found["smooth"], found["saturate"]) == ("paper", "activation", 0.0, 1.0)
    assert found["methods"] == ["gradient"]
    entries = found["examples"]
    recognised = [e for e in entries if e["predicted"] == e["true"]]
    mistakes = [e for e in entries if e["predicted"] != e["true"]]
    assert entries == recognised + mistakes
    assert [e["true"] for e in recognised] == sorted({int(label) for label in y[right]})
    assert len(mistakes) == min(2, int((~right).sum()))
    coef = solve.load_interpretation(session)
    for entry in entries:
        i = entry["dataset_index"]
        assert entry["name"] == f"test {i}"
        assert entry["true"] == int(y[i])
        assert entry["predicted"] == entry["explained"] == int(logits[i].argmax())
        assert entry["confidence"] == pytest.approx(float(logits[i].softmax(0)[entry["explained"]]), rel=1e-5)
        scores = collect_scores(model, [(x[i : i + 1], y[i : i + 1])], progress=False).X[0]
        best = coef.top_channels(scores, entry["explained"], 2)
        assert [(c["layer"], c["index"]) for c in entry["channels"]] == [(c.layer, c.index) for c, _ in best]
        for shown, (channel, response) in zip(entry["channels"], best, strict=True):
            assert shown["weight"] == coef.coef[entry["explained"], coef.channels.position(channel)]
            assert shown["response"] == pytest.approx(response, rel=1e-4)
    assert set(entries[0]["baselines"]) == {"gradient", "edge", "random", "center"}


def test_the_seed_decides_which_images_are_examples(tmp_path: Path) -> None:
    chosen = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1), ("d", 2)):
        session = tiny_session(tmp_path / name, seed=seed, examples=1, misclassified=1)
        chosen.append(examples.choose(session, Notes()))
    assert chosen[0] == chosen[1]
    assert len({tuple(c) for c in chosen}) > 1


def test_classes_show_their_channels_and_what_each_does_alone(explained: tuple[Session, dict[str, Calls]]) -> None:
    session, _ = explained
    found = solve.load_interpretation(session)
    study = ablate.load_ablation(session)
    assert study is not None
    counts = np.bincount(collect.load_table(session).labels, minlength=3)
    listed = read(session, "explanations/classes.json")
    assert listed["top"] == 4
    for c, entry in enumerate(listed["classes"]):
        assert (entry["index"], entry["name"], entry["n_train"]) == (c, CLASSES[c], counts[c])
        assert entry["n_relevant"] == len(found.columns(c))
        assert entry["gap"] == found.gaps[c]
        expected = found.relevant(c)[:3]
        assert [(s["layer"], s["index"], s["weight"]) for s in entry["channels"]] == [
            (channel.layer, channel.index, weight) for channel, weight in expected
        ]
        effects = {effect.channel: effect for effect in study.single[c]}
        for shown, (channel, _) in zip(entry["channels"], expected, strict=True):
            effect = effects[channel]
            assert shown["effect"] == {"own": effect.own_drop, "others": effect.others_change}
            assert 1 <= shown["count"] <= 4
            assert shown["family"] == "conv"


def test_overlaps_are_of_the_maps_for_the_true_class_with_the_masks_of_the_same_images(
    explained: tuple[Session, dict[str, Calls]],
) -> None:
    from interpnet.attribution import attribute
    from interpnet.evaluate import iou_auc
    from interpnet.explanation import explain as explain_images

    session, _ = explained
    places = read(session, "explanations/localisation.json")
    x, y = tensors(session, "test")
    masks = torch.from_numpy(session.loaded.test.data.masks["discriminative"])
    found = solve.load_interpretation(session)
    options = {"variant": "paper", "k": 2, "rectifier": "deconvnet", "resample": False, "reduction": "max"}
    ours = explain_images(session.loaded.model, x, found, classes=y, **options).combined
    gradient = attribute(session.loaded.model, x, y, "gradient")
    rows = {row["name"]: row for row in places["methods"]}
    assert places["n_images"] == len(y)
    for name, maps in (("interpnet", ours), ("gradient", gradient)):
        expected = iou_auc(maps.clamp(min=0), masks, constant="zero").values
        assert rows[name]["mean"] == pytest.approx(float(expected.mean()), abs=1e-6)
        assert rows[name]["sd"] == pytest.approx(float(expected.std()), abs=1e-6)
        assert rows[name]["n"] == len(y)


def test_shares_are_of_the_class_s_own_images(explained: tuple[Session, dict[str, Calls]]) -> None:
    from interpnet.explanation import channel_signal

    session, _ = explained
    places = read(session, "explanations/localisation.json")
    x, y = tensors(session, "test")
    masks = torch.from_numpy(session.loaded.test.data.masks["discriminative"])
    found = solve.load_interpretation(session)
    assert places["classes"]
    for entry in places["classes"]:
        mine = (y == entry["index"]).nonzero()[:, 0]
        assert entry["n_images"] == len(mine)
        weighted = found.relevant(entry["index"])[:3]
        for shown, (channel, _) in zip(entry["channels"], weighted, strict=True):
            assert (shown["layer"], shown["index"]) == (channel.layer, channel.index)
            signals = channel_signal(session.loaded.model, x[mine], channel, rectifier="deconvnet", resample=False)
            maps = signals.signals[:, 0].abs().amax(1)
            shares = (maps * masks[mine]).sum((1, 2)) / maps.sum((1, 2))
            shares = shares[shares.isfinite()]
            expected = float(shares.mean()) if len(shares) else None
            assert shown["shares"]["discriminative"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("asked", [0, 2])
def test_ones_own_class_is_explained_with_its_weight_and_confidence(
    asked: int, explained: tuple[Session, dict[str, Calls]], tmp_path: Path
) -> None:
    session, _ = explained
    x, _ = tensors(session, "test")
    found = solve.load_interpretation(session)
    with torch.no_grad():
        logits = session.loaded.model(x)
    other = int((logits.argmax(1) != asked).nonzero()[0, 0])
    items = [examples.Item("user/one", "one", explained=asked)]
    (record,) = examples.explain_batch(session, found, items, x[other : other + 1], [x[other].clamp(0, 1)])
    assert record["explained"] == asked
    assert record["predicted"] == int(logits[other].argmax()) != asked
    assert record["confidence"] == pytest.approx(float(logits[other].softmax(0)[asked]), rel=1e-5)
    for shown in record["channels"]:
        column = found.channels.slice(shown["layer"]).start + shown["index"]
        assert shown["weight"] == found.coef[asked, column]


# --- records ----------------------------------------------------------------------------------------------


def test_a_record_is_found_again_with_the_same_key_and_all_its_pictures(tmp_path: Path) -> None:
    saved = Records(tmp_path, "key", lambda record: record["pictures"])
    (tmp_path / "a.png").write_bytes(b"x")
    saved.put("one", {"pictures": ["a.png"], "value": 7})
    assert saved.get("one") == {"pictures": ["a.png"], "value": 7}
    assert saved.get("two") is None
    assert Records(tmp_path, "another", saved.pictures).get("one") is None
    (tmp_path / "b.png").write_bytes(b"y")
    saved.put("three", {"pictures": ["a.png", "b.png"]})
    assert saved.get("three") is not None
    (tmp_path / "b.png").write_bytes(b"z")
    assert saved.get("three") is None
    (tmp_path / "b.png").unlink()
    assert saved.get("three") is None
    (tmp_path / "four.json").write_text("{}")
    assert saved.get("four") is None


@pytest.mark.parametrize(("busy", "most", "expected"), [(3, 2, 2), (3, 12, 3), (0, 5, 0)])
def test_the_channels_shown_are_the_largest_weights(busy: int, most: int, expected: int) -> None:
    from interpnet.engine import ChannelIndex

    coef = np.zeros((2, 3))
    coef[0, :busy] = [0.5, -3.0, 1.0][:busy]
    found = Interpretation(ChannelIndex((("relu", 3),)), coef, ("a", "b"))
    shown = explain.shown_channels([found], most)
    assert [weight for _, weight in shown[0]] == [-3.0, 1.0, 0.5][:expected]
    assert shown[1] == []


def test_a_report_of_many_classes_shows_fewer_channels_each() -> None:
    from interpnet.engine import ChannelIndex

    coef = np.zeros((5, 6))
    coef[:4] = np.arange(1, 7)
    found = Interpretation(ChannelIndex((("relu", 6),)), coef, tuple("abcde"))
    # Four classes have channels, so each may show two of the eight.
    assert [len(row) for row in explain.shown_channels([found], 12, 8).values()] == [2, 2, 2, 2, 0]


def test_a_table_is_refused_before_the_collection_is_complete(tmp_path: Path) -> None:
    from interpnet.errors import RunFolderError

    session = tiny_session(tmp_path / "run")
    with pytest.raises(RunFolderError, match="the stage 'collect' has not run"):
        collect.load_table(session)
    assert isinstance(collect.load_table(through(session, "collect")), ScoreTable)
