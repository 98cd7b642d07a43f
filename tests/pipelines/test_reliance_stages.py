"""Contributions beside the scores, what a class relies on, and runs that name channels both ways."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny_run import again, read, recorded, said, tensors, through, tiny_session, unreadable
from interpnet.pipelines.run.config import RunConfig
from interpnet.pipelines.run.folder import RunFolder
from interpnet.pipelines.run.session import Session
from interpnet.pipelines.stages import ablate, collect, contributions, explain, identified, reliance, solve, sums

from interpnet.engine import log_odds
from interpnet.errors import InterpNetError, RunFolderError
from interpnet.interpretation import Interpretation, interpret
from interpnet.reliance import Contributions, collect_contributions, measure_reliance
from interpnet.scores import ScoreTable

BOTH = {"identify": "both", "mu": 1.0, "repeats": 1, "methods": ("gradient",), "top": 4, "misclassified": 1}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run through all stages that names channels both ways."""
    return through(tiny_session(tmp_path_factory.mktemp("both") / "run", **BOTH)).run.path


@pytest.fixture
def session(done: Path, tmp_path: Path) -> Session:
    """A session on a copy of it."""
    return tiny_session(Path(shutil.copytree(done, tmp_path / "run")), **BOTH)


def same(a: Contributions, b: Contributions) -> None:
    np.testing.assert_array_equal(a.counts, b.counts)
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(a.stderr, b.stderr, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(a.log_odds, b.log_odds, rtol=1e-5)


# --- contributions ----------------------------------------------------------------------------------------


def test_contributions_are_those_of_the_training_images(session: Session) -> None:
    found = contributions.load_contributions(session)
    x, y = tensors(session)
    same(found, collect_contributions(session.loaded.model, [(x, y)], progress=False))
    assert found.classes == session.loaded.classes
    assert found.counts.tolist() == np.bincount(y, minlength=3).tolist()
    logits = session.loaded.model(x).detach()
    expected = [log_odds(logits, y)[y == c].mean().item() for c in range(3)]
    np.testing.assert_allclose(found.log_odds, expected, rtol=1e-5)
    assert not list(session.run.folder("contributions").glob("sums-*"))


def test_scores_are_those_of_a_pass_without_contributions(done: Path, tmp_path: Path) -> None:
    plain = through(tiny_session(tmp_path / "run", mu=1.0), "collect")
    for name in ("X.f32", "labels.bin", "predictions.i64", "gram.npz"):
        assert (done / "scores" / name).read_bytes() == (plain.run.path / "scores" / name).read_bytes()
    assert not plain.run.folder("contributions").exists()


@pytest.mark.parametrize(
    ("settings", "targets"),
    [({"contribution_images": 3}, "labels"), ({"fit_on": "predictions"}, "predictions"), ({"fill": "mean"}, "labels")],
    ids=str,
)
@pytest.mark.parametrize("beside", [True, False], ids=["one-pass", "afterwards"])
def test_one_pass_and_a_pass_of_their_own_agree(
    settings: dict[str, Any], targets: str, beside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contributions, "_CHUNK", 4)
    calls = recorded(monkeypatch, contributions, "collect_scores")
    session = tiny_session(tmp_path / "run", **settings | {"identify": {True: "both", False: "mu-lasso"}[beside]})
    through(session, "collect")
    if not beside:
        session = again(session, **settings, identify="both")
        assert not collect.run_collect(session)
    contributions.run_contributions(session)
    assert bool(calls) != beside
    found = contributions.load_contributions(session)
    x, y = tensors(session)
    y = {"labels": y, "predictions": session.loaded.model(x).argmax(1)}[targets]
    kept = np.sort(
        np.concatenate([np.flatnonzero(y == c)[: settings.get("contribution_images", 500)] for c in range(3)])
    )
    if settings.get("fill") == "mean":
        kept = np.arange(len(y))
    expected = collect_contributions(
        session.loaded.model, [(x[kept], y[kept])], fill=settings.get("fill", "zero"), progress=False
    )
    same(found, expected)


def test_an_interrupted_pass_of_their_own_goes_on_and_counts_nothing_twice(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = contributions.load_contributions(tiny_session(done, **BOTH))
    through(tiny_session(tmp_path / "run"), "collect")
    session = tiny_session(tmp_path / "run", **BOTH)
    monkeypatch.setattr(contributions, "_CHUNK", 5)
    honest = contributions.collect_scores
    parts: list[int] = []

    def breaking(*args: Any, total: int, **options: Any) -> ScoreTable:
        if len(parts) == 2:
            parts.append(0)
            raise KeyboardInterrupt
        parts.append(total)
        return honest(*args, total=total, **options)

    monkeypatch.setattr(contributions, "collect_scores", breaking)
    with pytest.raises(KeyboardInterrupt, match="interrupted in stage 'contributions'"):
        contributions.run_contributions(session)
    # The last sums, and those before them.
    assert len(list(session.run.folder("contributions").glob("sums-*"))) == 2
    session = tiny_session(tmp_path / "run", **BOTH)
    contributions.run_contributions(session)
    assert parts == [4, 4, 0, 4, 4, 4, 1], "whole batches, as scores are collected from"
    assert "going on at image 8 of 21" in said(session)
    same(contributions.load_contributions(session), whole)
    assert not list(session.run.folder("contributions").glob("sums-*"))


@pytest.mark.parametrize("lost", [False, True, "damaged"])
def test_an_interrupted_collection_goes_on_with_its_contributions(
    lost: bool | str, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the sums are lost, the scores go on and contributions are collected afterwards."""
    whole = contributions.load_contributions(tiny_session(done, **BOTH))
    monkeypatch.setattr("interpnet.scores._intake._COMMIT_ROWS", 1)
    session = tiny_session(tmp_path / "run", **BOTH)
    honest = sums.KeptSums.logits
    batches: list[int] = []

    def breaking(self: sums.KeptSums, *args: Any, **options: Any) -> Any:
        batches.append(1)
        if len(batches) == 4:
            raise KeyboardInterrupt
        return honest(self, *args, **options)

    monkeypatch.setattr(sums.KeptSums, "logits", breaking)
    with pytest.raises(KeyboardInterrupt, match="interrupted in stage 'collect'"):
        collect.run_collect(session)
    rows = ScoreTable.progress(session.run.folder("collect")).rows
    assert 0 < rows < 21
    files = sorted(session.run.folder("contributions").glob("sums-*"))
    # A kill between the two writes leaves sums that the scores do not count yet.
    assert f"{rows:09d}" in files[-1].name or f"{rows:09d}" in files[-2].name
    for file in files:
        if lost == "damaged":
            file.write_bytes(file.read_bytes()[:-40])
        elif lost:
            file.unlink()
    calls = recorded(monkeypatch, contributions, "collect_scores")
    session = tiny_session(tmp_path / "run", **BOTH)
    collect.run_collect(session)
    contributions.run_contributions(session)
    assert bool(calls) == bool(lost)
    same(contributions.load_contributions(session), whole)
    assert (session.run.path / "scores" / "X.f32").read_bytes() == (done / "scores" / "X.f32").read_bytes()


def test_sums_written_before_a_kill_are_taken_where_the_scores_count_fewer_rows(tmp_path: Path, done: Path) -> None:
    found = Contributions.load(done / "contributions" / contributions.FILE)
    files = sums.Sums(tmp_path, "k" * 64, "rows")
    for count in (4, 8, 12):
        files.write(count, found)
    # The state may still say 8.
    assert files.read(8) is not None
    assert files.read(12) is not None
    assert files.read(4) is None
    assert files.last()[0] == 12
    # A second process goes on from 8, and keeps it until 12 is written down.
    later = sums.Sums(tmp_path, "k" * 64, "rows", 8)
    later.write(12, found)
    assert later.read(8) is not None
    assert sums.Sums(tmp_path, "other" * 20, "rows").last() == (0, None)
    later.forget()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        ({"contribution_images": 2}, True),
        ({"fill": "mean"}, True),
        ({"fit_on": "predictions"}, True),
        ({"price": 2.0}, False),
        ({"mu": 2.0}, False),
        ({"repeats": 3}, False),
    ],
    ids=str,
)
def test_contributions_are_stale_after_what_they_depend_on(
    change: dict[str, Any], stale: bool, session: Session
) -> None:
    other = tiny_session(session.run.path, **BOTH | change)
    assert (contributions.contributions_key(other) != contributions.contributions_key(session)) == stale
    if stale:
        with pytest.raises(RunFolderError, match=r"'contributions' wrote belongs to earlier .*`interpnet collect "):
            contributions.load_contributions(other)
    else:
        contributions.load_contributions(other)


def test_a_damaged_file_is_noticed_and_made_again(session: Session) -> None:
    file = session.run.folder("contributions") / contributions.FILE
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(RunFolderError, match=r"contributions.npz' was changed or damaged.*`interpnet collect "):
        contributions.load_contributions(session)
    assert contributions.run_contributions(session)
    assert "contributions.npz was changed or damaged since it was written: contributions is done again" in said(session)
    contributions.load_contributions(session)


def test_unreadable_images_have_no_contributions_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = tiny_session(tmp_path / "run", **BOTH)
    x, y = tensors(session)
    unreadable(monkeypatch, session, "train", {0, 7})
    through(session, "contributions")
    kept = [i for i in range(len(y)) if i not in {0, 7}]
    expected = collect_contributions(session.loaded.model, [(x[kept], y[kept])], progress=False)
    same(contributions.load_contributions(session), expected)


# --- reliance ---------------------------------------------------------------------------------------------


def test_the_channels_relied_on_are_those_of_the_library(session: Session) -> None:
    whole = contributions.load_contributions(session)
    found = reliance.load_reliance(session)
    x, y = tensors(session)
    measured = measure_reliance(session.loaded.model, [(x, y)], whole, price=4.0, progress=False)
    expected = interpret(measured)
    np.testing.assert_allclose(found.coef, expected.coef, rtol=1e-5)
    assert (found.by, found.price, found.info["ends"]) == ("reliance", 4.0, list(measured.ends))
    averaged = Contributions.load(session.run.folder("contributions") / reliance.AVERAGED)
    np.testing.assert_allclose(averaged.mean, measured.contributions.mean, rtol=1e-5, atol=1e-7)
    rows = list(csv.DictReader((session.run.path / "weights" / "reliance.csv").read_text().splitlines()))
    assert [row["class"] for row in rows] == [name for c, name in enumerate(found.classes) for _ in found.columns(c)]
    first = rows[0]
    c = found.classes.index(first["class"])
    column = int(found.columns(c)[0])
    assert (first["layer"], int(first["index"])) == (found.channels[column].layer, found.channels[column].index)
    assert float(first["reliance"]) == pytest.approx(measured.values[c, column], rel=1e-5)
    assert float(first["standard_error"]) == pytest.approx(measured.stderr[c, column], rel=1e-5)
    assert float(first["contribution"]) == pytest.approx(whole.mean[c, column])


def test_reliance_is_measured_on_few_images_of_each_class(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = recorded(monkeypatch, reliance, "measure_reliance")
    given = {"price": 1.0, "fit_on": "predictions", "fill": "mean", "reliance_images": 3}
    other = tiny_session(session.run.path, **BOTH | given)
    through(other, "reliance")
    (call,) = calls
    assert (call["price"], call["images"]) == (1.0, 3)
    labels = collect.load_table(other).predictions
    expected = [i for i in range(21) if (labels[:i] == labels[i]).sum() < 3]
    assert [int(i) for batch in call["args"][1] for i in batch.indices] == expected
    assert other.run.stage("reliance")["n_images"] == len(expected)


def test_the_price_changes_what_is_relied_on_and_nothing_else(session: Session) -> None:
    other = tiny_session(session.run.path, **BOTH | {"price": 0.0})
    assert solve.solve_key(other) == solve.solve_key(session)
    assert reliance.reliance_key(other) != reliance.reliance_key(session)
    with pytest.raises(RunFolderError, match=r"'reliance' wrote belongs to earlier settings .*`interpnet solve "):
        reliance.load_reliance(other)
    assert not solve.run_solve(other)
    assert reliance.run_reliance(other)
    assert reliance.load_reliance(other).price == 0.0
    assert ablate.ablate_key(other) == ablate.ablate_key(session)
    assert ablate.ablate_key(other, "reliance") != ablate.ablate_key(session, "reliance")


# --- both ways --------------------------------------------------------------------------------------------


def test_a_run_made_by_the_mu_lasso_alone_stays_and_gains_the_other_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = BOTH | {"identify": "mu-lasso"}
    before = through(tiny_session(tmp_path / "run", **settings))
    keys = {name: before.run.key(name) for name in ("collect", "solve", "ablate", "explain")}
    session = tiny_session(tmp_path / "run", **BOTH)
    through(session)
    for stage in ("collect", "solve", "ablate"):
        assert session.run.key(stage) == keys[stage]
        assert f"{stage}: up to date, skipped" in said(session)
    assert session.run.key("explain") != keys["explain"]
    for name in ("contributions/contributions.npz", "weights/reliance.npz", "ablation/reliance.json"):
        assert (session.run.path / name).is_file()
    # Back again: what the mu-lasso found is still there.
    back = tiny_session(tmp_path / "run", **settings)
    assert not ablate.run_ablate(back)
    assert explain.explain_key(back) == keys["explain"]


def test_settings_of_before_there_was_a_choice_mean_the_mu_lasso(session: Session) -> None:
    path = session.run.path / "run.toml"
    session.run.store(session.config)
    run = RunFolder.open(session.run.path)
    assert run.config().ways == ("reliance", "mu-lasso")
    lines = [line for line in path.read_text().splitlines() if not line.startswith(("identify", "mu_rule"))]
    path.write_text("\n".join(lines))
    run.manifest.pop("settings", None)
    assert run.config().identify == "mu-lasso"
    assert run.config().mu_rule == "error"
    # A file that is named takes today's defaults.
    assert RunConfig.load(path).identify == "both"


def test_both_studies_are_made_of_their_own_channels(session: Session) -> None:
    for way, stem in (("mu-lasso", "ablation"), ("reliance", "reliance")):
        found = identified.load_way(session, way)
        study = ablate.load_ablation(session, way)
        removed = study.condition("relevant").removed
        np.testing.assert_array_equal(removed, (found.coef != 0).sum(1))
        rows = list(csv.DictReader((session.run.path / "ablation" / f"{stem}.csv").read_text().splitlines()))
        assert {row["condition"] for row in rows} >= {"relevant", "random", "d-prime"}
    assert json.loads((session.run.path / "ablation" / "ablation.json").read_text()) != json.loads(
        (session.run.path / "ablation" / "reliance.json").read_text()
    )


def test_channels_of_both_ways_are_pictured_and_reliance_explains(session: Session) -> None:
    entries = read(session, "explanations/classes.json")["classes"]
    relied = reliance.load_reliance(session)
    weights = solve.load_interpretation(session)
    for c, entry in enumerate(entries):
        places = [(channel["layer"], channel["index"]) for channel in entry["channels"]]
        first = [(channel.layer, channel.index) for channel, _ in relied.relevant(c)]
        second = [(channel.layer, channel.index) for channel, _ in weights.relevant(c)]
        assert places == list(dict.fromkeys(first + second))
        assert (entry["n_reliance"], entry["n_relevant"]) == (len(first), len(second))
        for channel, place in zip(entry["channels"], places, strict=True):
            assert (channel["reliance"] > 0) == (place in first)
            assert (channel["weight"] != 0) == (place in second)
    examples = read(session, "explanations/examples.json")
    assert examples["by"] == "reliance"
    for example in examples["examples"]:
        named = [(c.layer, c.index) for c, _ in relied.relevant(example["explained"])]
        # Those named come first, as many as there are with a contribution above 0; others fill up behind them.
        belongs = [(c["layer"], c["index"]) in named for c in example["channels"]]
        assert belongs == sorted(belongs, reverse=True)
        assert any(belongs)


def test_the_other_way_explains_where_it_is_asked_for(session: Session) -> None:
    other = tiny_session(session.run.path, **BOTH | {"by": "mu-lasso"})
    assert other.config.ways == ("mu-lasso", "reliance")
    assert explain.explain_key(other) != explain.explain_key(session)
    explain.run_explain(other)
    assert read(other, "explanations/examples.json")["by"] == "mu-lasso"


def test_reliance_alone_needs_no_weights(tmp_path: Path) -> None:
    session = through(tiny_session(tmp_path / "run", **BOTH | {"identify": "reliance"}))
    assert not (session.run.path / "weights" / "interpretation.npz").exists()
    assert session.run.stage("solve") == {}
    entry = read(session, "explanations/classes.json")["classes"][0]
    assert "n_relevant" not in entry
    assert "weight" not in entry["channels"][0]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"identify": "lasso"}, "--identify is 'lasso'; expected mu-lasso or reliance or both"),
        ({"price": -1.0}, "--price is -1.0; expected a number of at least 0"),
        ({"price": float("nan")}, "--price is nan; expected a number of at least 0"),
        ({"price": float("inf")}, "--price is inf; expected a number of at least 0"),
        ({"contribution_images": 0}, "--contribution-images is 0; expected a whole number of at least 1"),
        ({"mu_rule": "best"}, "--mu-rule is 'best'; expected accuracy or error"),
        ({"identify": "mu-lasso", "by": "reliance"}, "--by is 'reliance', but --identify is 'mu-lasso'"),
        ({"by": "weights"}, "--by is 'weights'; expected mu-lasso or reliance"),
    ],
    ids=str,
)
def test_wrong_settings_say_what_is_expected(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(InterpNetError, match=match):
        RunConfig(**settings)


def test_an_old_file_of_weights_still_loads(session: Session) -> None:
    assert Interpretation.load(session.run.path / "weights" / "interpretation.npz").by == "mu-lasso"
