"""Mu chosen on held-out images, class weights, stability; pipelines/run/selection.py, stages/."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from helpers.small_audit import Stop, as_older, audit, folder_of_images, manifest, results
from interpnet.pipelines.cli.app import main
from interpnet.pipelines.run.config import RunConfig
from interpnet.pipelines.run.folder import RunFolder, digest
from interpnet.pipelines.run.notes import Notes
from interpnet.pipelines.run.selection import STABILITY_FILE, how_chosen, read_frequencies, read_selection
from interpnet.pipelines.run.session import Session
from interpnet.pipelines.stages import select
from interpnet.pipelines.stages.select import choose_mu, sample_weights
from interpnet.pipelines.stages.solve import solve_key

from interpnet.errors import InterpNetError
from interpnet.gram import _memory
from interpnet.interpretation import Interpretation
from interpnet.scores import ScoreTable

AUTO = ["--mu", "auto", "--stability", "3"]


def found_in(run) -> Interpretation:
    return Interpretation.load(run / "weights" / "interpretation.npz")


# --- wrong words --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--mu", "atuo"], "--mu is 'atuo'; expected a number above 0, or auto; did you mean 'auto'?"),
        (["--mu", "0"], "--mu is 0.0; expected a number above 0, or auto"),
        (["--mu", "nan"], "--mu is nan; expected a number above 0, or auto"),
        (["--class-weight", "equal"], "--class-weight is 'equal'; expected none or balanced"),
        (["--stability", "-5"], "--stability is -5; expected a whole number of at least 0"),
        (["--stability", "some"], "--stability"),
    ],
)
def test_wrong_words_are_one_line_and_leave_the_run_as_it_was(arguments, expected, finished, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    assert main(["solve", str(finished), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert expected in error
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()} == before


# --- the key of the stage ---------------------------------------------------------------------------------


def key(run, **settings) -> str:
    folder = RunFolder.open(run)
    return solve_key(Session(folder, folder.config().override(settings), "again"))


def test_what_is_not_used_does_not_make_an_earlier_run_stale(finished, weights, tmp_path, capsys):
    collected = RunFolder.open(finished).key("collect")
    before = digest(["solve", 1, collected, {"mu": 10.0, "positive": False, "fit_on": "auto"}])
    assert key(finished) == before
    assert key(finished, seed=3) == before
    changed = [
        key(finished, mu="auto"),
        key(finished, mu="auto", seed=3),
        key(finished, class_weight="balanced"),
        key(finished, stability=3),
        key(finished, stability=4),
        key(finished, stability=3, seed=3),
        key(finished, mu=5),
    ]
    assert len({before, *changed}) == 1 + len(changed)


def test_a_run_folder_from_before_these_settings_is_up_to_date(run, capsys):
    as_older(run)
    text = (run / "run.toml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("class_weight", "stability"))]
    assert len(lines) == len(text.splitlines()) - 2
    (run / "run.toml").write_text("\n".join(lines) + "\n")
    old = found_in(run)
    info = {name: value for name, value in old.info.items() if name not in {"mu_rule", "class_weight"}}
    Interpretation(old.channels, old.coef, old.classes, old.mu, old.positive, old.gaps, info).save(
        run / "weights" / "interpretation.npz"
    )
    assert main(["audit", "--out", str(run)]) == 0
    text = capsys.readouterr().out
    assert text.count("up to date, skipped") == 9
    assert main(["report", str(run)]) == 0


# --- the stage --------------------------------------------------------------------------------------------


def test_auto_chooses_mu_and_says_how(run, capsys):
    assert main(["solve", str(run), *AUTO]) == 0
    text = " ".join(capsys.readouterr().out.split())
    found = found_in(run)
    selection = read_selection(run / "weights")
    assert found.mu == selection.chosen
    assert found.info["mu_rule"] == "accuracy"
    assert 'mu = "auto"' in (run / "run.toml").read_text()
    assert (manifest(run)["stages"]["solve"]["mu"], manifest(run)["stages"]["solve"]["mu_rule"]) == (
        found.mu,
        "accuracy",
    )
    m = len(found.channels)
    assert (selection.n_folds, selection.rule, selection.most) == (5, "accuracy", min(32, m / 10))
    # The rule, from the curve that was written: the smallest mu whose accuracy is within one standard error of the best
    # of those that name few enough.
    few = np.where(selection.channels_mean <= selection.most, selection.accuracy_mean, -1)
    best = int(np.argmax(few))
    assert selection.chosen == selection.mus[few >= few[best] - selection.accuracy_se[best]].min()
    assert np.abs(found.coef).sum(1).max() <= found.mu * (1 + 1e-9)
    assert f"mu = {found.mu:.4g}, chosen on held-out images" in text
    assert how_chosen(selection) in text
    assert "nearly every channel helps to predict" not in text
    assert "share of 6 half samples" in text
    # What mu it chose is all that auto does to the weights.
    assert main(["solve", str(run), "--mu", repr(found.mu), "--stability", "0"]) == 0
    np.testing.assert_array_equal(found_in(run).coef, found.coef)
    assert found_in(run).info["mu_rule"] == "given"


def test_the_curve_is_that_of_images_held_out(run):
    """The smallest and largest radius against a fit on four fifths of the images, made here from the scores."""
    from sklearn.model_selection import StratifiedKFold

    from interpnet.mulasso import MuLasso

    assert main(["solve", str(run), "--mu", "auto"]) == 0
    selection = read_selection(run / "weights")
    table = ScoreTable.load(run / "scores")
    X = np.asarray(table.X, np.float64)
    y = np.asarray(table.labels)
    for t in (0, selection.position(selection.chosen)):
        accuracy = []
        error = []
        for inside, outside in StratifiedKFold(5, shuffle=True, random_state=7).split(X, y):
            model = MuLasso(mu=float(selection.mus[t])).fit(X[inside], y[inside])
            error.append(np.mean((X[outside] @ model.coef_.T - np.eye(10)[y[outside]]) ** 2))
            accuracy.append(model.score(X[outside], y[outside]))
        # Other folds than the pipeline's, so equal up to their chance.
        assert selection.error_mean[t] == pytest.approx(np.mean(error), rel=0.1)
        assert selection.accuracy_mean[t] == pytest.approx(np.mean(accuracy), abs=0.06)


def test_frequencies_stand_beside_the_weights_and_go_with_their_setting(run, capsys):
    assert main(["solve", str(run), *AUTO]) == 0
    found = found_in(run)
    known = read_frequencies(run / "weights", found.coef.shape)
    assert known.n_subsamples == 6
    np.testing.assert_allclose(known.frequency * 6, np.round(known.frequency * 6), atol=1e-12)
    assert known.frequency[found.coef != 0].mean() > known.frequency[found.coef == 0].mean() + 0.3
    rows = list(csv.DictReader((run / "weights" / "channels.csv").read_text().splitlines()))
    expected = [known.frequency[c, column] for c in range(10) for column in found.columns(c)]
    assert [float(row["frequency"]) for row in rows] == expected
    summary = json.loads((run / "weights" / "summary.json").read_text())["classes"]
    below = ((known.frequency < 0.6) & (found.coef != 0)).sum(1)
    assert [entry["n_seldom"] for entry in summary] == below.tolist()
    first = results_of_solve(run)
    (run / "weights" / STABILITY_FILE).unlink()  # a file of the stage: it is made again, and the same
    capsys.readouterr()
    assert main(["solve", str(run)]) == 0
    assert "solve: done" in capsys.readouterr().out
    assert results_of_solve(run) == first
    assert main(["solve", str(run)]) == 0
    assert "solve: up to date, skipped" in capsys.readouterr().out
    assert main(["solve", str(run), "--mu", "10", "--stability", "0"]) == 0
    assert read_selection(run / "weights") is None
    assert read_frequencies(run / "weights", found.coef.shape) is None
    assert "frequency" not in (run / "weights" / "channels.csv").read_text().splitlines()[0]


def results_of_solve(run) -> dict:
    folder = run / "weights"
    with np.load(folder / STABILITY_FILE, allow_pickle=False) as data:
        frequency = data["frequency"].tolist()
    texts = {name: (folder / name).read_text() for name in ("channels.csv", "summary.json", "selection.json")}
    return {"frequency": frequency, "coef": found_in(run).coef.tolist(), **texts}


def test_what_follows_is_stale_after_another_choice(run, capsys):
    assert main(["solve", str(run), "--stability", "2"]) == 0
    capsys.readouterr()
    assert main(["report", str(run)]) == 2
    assert f"run `interpnet ablate {run}` again" in capsys.readouterr().err


def test_auto_works_on_the_predictions_and_with_balanced_classes(run):
    assert main(["solve", str(run), "--mu", "auto", "--fit-on", "predictions", "--class-weight", "balanced"]) == 0
    found = found_in(run)
    facts = manifest(run)["stages"]["solve"]
    assert (found.info["fit_on"], found.info["class_weight"]) == ("predictions", "balanced")
    assert (facts["fit_on"], facts["class_weight"]) == ("predictions", "balanced")
    # The same problem spelled out: every row times the root of its image's weight.
    from interpnet.gram import Gram
    from interpnet.mulasso import MuLasso

    table = ScoreTable.load(run / "scores")
    y = np.asarray(table.predictions)
    counts = np.bincount(y, minlength=10)
    assert counts.min() < counts.max()
    root = np.sqrt(len(y) / (10 * counts[y]))[:, None]
    gram = Gram.from_scores(np.asarray(table.X, np.float64) * root, np.eye(10)[y] * root)
    expected = MuLasso(mu=found.mu).fit_gram(gram).coef_
    np.testing.assert_allclose(found.coef, expected, atol=1e-4)


def test_weights_give_every_class_the_same_total():
    targets = np.array([0, 0, 0, 2])
    np.testing.assert_allclose(sample_weights(targets, RunConfig(class_weight="balanced")), [2 / 3, 2 / 3, 2 / 3, 2])
    assert sample_weights(targets, RunConfig()) is None


def test_an_interrupted_solve_goes_on_to_the_same_result(run, monkeypatch, capsys):
    from interpnet.pipelines.stages import solve

    with monkeypatch.context() as patch:
        patch.setattr(solve, "measure_stability", Stop(None, 1))
        assert main(["solve", str(run), *AUTO]) == 130
    assert f"Go on with: interpnet solve {run}" in capsys.readouterr().err
    assert manifest(run)["stages"]["solve"]["state"] == "interrupted"
    assert main(["report", str(run)]) == 2
    assert "'solve' was interrupted" in capsys.readouterr().err
    assert main(["solve", str(run)]) == 0
    again = results_of_solve(run)
    assert main(["solve", str(run), "--mu", "3", "--stability", "0"]) == 0
    assert main(["solve", str(run), *AUTO]) == 0
    assert results_of_solve(run) == again


# --- classes too small for folds --------------------------------------------------------------------------


def table_of(labels: list[int], m: int = 6) -> ScoreTable:
    from interpnet.engine import ChannelIndex

    rng = np.random.default_rng(0)
    y = np.array(labels, np.int64)
    X = rng.random((len(y), m)).astype(np.float32)
    X[np.arange(len(y)), y] += 1
    X /= X.sum(1, keepdims=True)
    return ScoreTable(X, y, y, ChannelIndex((("a", m),)), np.arange(len(y)), 4, {})


NAMES = ("ant", "bee", "cat", "dog")


@pytest.mark.parametrize(("smallest", "folds"), [(2, 2), (4, 4), (5, 5), (9, 5)])
def test_small_classes_mean_fewer_folds_and_a_note(smallest, folds):
    notes = Notes()
    table = table_of([0] * 20 + [1] * 20 + [3] * smallest)  # no image of class 2
    chosen = choose_mu(table, "labels", RunConfig(mu="auto"), NAMES, notes)
    assert chosen.n_folds == folds
    said = [f"mu was chosen with {folds} folds rather than 5: class 'dog' has only {smallest} images."]
    assert notes.texts == (said if folds < 5 else [])


@pytest.mark.parametrize(("rule", "said"), [("error", True), ("accuracy", False)])
def test_a_choice_at_the_end_of_the_grid_is_a_note_in_the_words_of_the_command_line(rule, said, monkeypatch):
    from interpnet.mulasso import _cross_validation as mulasso_cv

    monkeypatch.setattr(mulasso_cv, "default_mus", lambda *_, **__: np.array([1e-4, 2e-4, 3e-4]))
    notes = Notes()
    with notes.listening():
        found = choose_mu(table_of([0, 1, 3] * 10), "labels", RunConfig(mu="auto", mu_rule=rule), NAMES, notes)
    # The error falls with every mu of that grid; the smallest has the same channels and names as many images.
    assert found.chosen == found.mus[-1 if said else 0]
    text = "The chosen mu = 0.0003 is the largest of the 3 values tried; one beyond it may do better"
    assert notes.texts == [f"{text} (--mu takes any number)."] * said


@pytest.mark.parametrize(
    ("labels", "fit_on", "match"),
    [
        (
            [0] * 9 + [1] * 9 + [3],
            "labels",
            r"class 'dog' has 1 image by its label; expected at least 2.*--mu a number",
        ),
        ([0] * 9 + [3], "predictions", "class 'dog' has 1 image by its prediction.*try --fit-on labels"),
        ([1] * 9, "labels", "all 9 labels are class 'bee'; expected at least two classes"),
    ],
)
def test_classes_that_cannot_be_split_are_named(labels, fit_on, match):
    with pytest.raises(InterpNetError, match=match):
        choose_mu(table_of(labels), fit_on, RunConfig(mu="auto"), NAMES, Notes())


# A Gram matrix of 1,000 channels takes 8 MB; those of the blocks may take half of the memory.
@pytest.mark.parametrize(("memory", "blocks"), [(np.inf, 16), (256e6, 16), (255e6, 14), (130e6, 8), (128e6, 8)])
def test_halves_are_made_of_as_many_blocks_as_fit(memory, blocks, monkeypatch):
    monkeypatch.setattr(_memory, "physical_memory", lambda: memory)
    assert select._blocks(table_of([0] * 16, m=1000), 35) == blocks


@pytest.mark.parametrize(
    ("images", "memory", "pairs", "match"),
    [
        (15, 1e9, 3, "--stability: there are 15 images; expected at least 16"),
        (16, 128e6, 36, "--stability is 36; the 8 blocks of images that fit into memory make 35 different pairs"),
        (16, 1e9, 6436, "--stability is 6436; the 16 blocks .* Give at most 6435; 20 to 50 are usual"),
    ],
)
def test_halves_that_cannot_be_made_are_refused(images, memory, pairs, match, monkeypatch):
    monkeypatch.setattr(_memory, "physical_memory", lambda: memory)
    with pytest.raises(InterpNetError, match=match):
        select._blocks(table_of([0] * images, m=1000), pairs)


NET = """
from torch import nn


def make():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
    )
"""


def test_one_image_a_class_is_one_line_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    folder_of_images(tmp_path / "images", 4, each=1)
    assert main(["collect", "net.py:make", "imagefolder:images", "--out", "run"]) == 0
    assert main(["solve", "run", "--mu", "auto", "--fit-on", "labels"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--mu auto: class 'class 0' has 1 image by its label; expected at least 2 in every class" in error
    assert main(["solve", "run", "--mu", "5", "--fit-on", "labels"]) == 0


# --- the whole run ----------------------------------------------------------------------------------------


def test_an_audit_with_everything_is_reproducible_and_shows_it(weights, tmp_path):
    first = tmp_path / "first"
    second = tmp_path / "second"
    assert audit(weights, first, *AUTO, "--class-weight", "balanced") == 0
    page = (first / "report" / "index.html").read_text()
    assert 'id="sparsity"' in page
    assert "share of 6 random halves" in page
    assert main(["audit", "--config", str(first / "run.toml"), "--out", str(second)]) == 0
    assert results(second) == results(first)
    assert results_of_solve(second) == results_of_solve(first)


def test_the_demo_s_words_are_kept_for_going_on():
    from interpnet.pipelines.cli.commands_model import _words

    settings = {"mu": "auto", "class_weight": "balanced", "stability": 20, "positive": False, "seed": 3}
    words = "--mu auto --class-weight balanced --stability 20 --signed --seed 3"
    assert " ".join(_words(settings)) == words
