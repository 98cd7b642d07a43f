"""What the stages of reliance hand to the library, note of themselves, and write into their table."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny_run import recorded, through, tiny_session
from interpnet.pipelines.run.session import Session
from interpnet.pipelines.stages import collect, contributions, reliance, sums

from interpnet.engine import ChannelIndex
from interpnet.interpretation import Interpretation
from interpnet.reliance import Contributions

ALONE = {"identify": "reliance", "layers": ("relu:1",), "fit_on": "labels"}


def turned(logits: torch.Tensor) -> torch.Tensor:
    return logits.flip(1)


def with_output(session: Session) -> Session:
    """Have a session read its logits the other way round."""
    session.__dict__["loaded"] = replace(session.loaded, output=turned)
    return session


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has scores and no contributions; one class has no images."""
    given = ALONE | {"identify": "mu-lasso"}
    session = with_output(tiny_session(tmp_path_factory.mktemp("scores") / "run", counts=(9, 0, 5), **given))
    return through(session, "collect").run.path


@pytest.fixture
def collected(scores: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(scores, tmp_path / "run"))


def test_every_setting_reaches_the_library(collected: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = with_output(
        tiny_session(collected, counts=(9, 0, 5), contribution_images=6, price=2.0, fill="mean", **ALONE)
    )
    monkeypatch.setattr(contributions, "_CHUNK", 7)
    passes = recorded(monkeypatch, contributions, "collect_scores")
    summed = recorded(monkeypatch, contributions, "ContributionSums")
    measured = recorded(monkeypatch, reliance, "measure_reliance")
    contributions.run_contributions(session)
    # The mean is that of all images.
    assert [call["total"] for call in passes] == [4, 4, 4, 2]
    for call in passes:
        model, loader = call.pop("args")
        assert model is session.loaded.model
        assert sum(len(batch.images) for batch in loader) == call.pop("total")
        del call["contributions"]
        assert call == {"layers": ("relu:1",), "device": torch.device("cpu"), "output": turned}
    for call in summed:
        assert call.pop("args") == ()
        assert call == {
            "fill": "mean",
            "images": None,
            "outputs": "exclusive",
            "classes": ["first", "second", "third"],
        }
    noted = session.run.stage("contributions")
    assert (noted["n_images"], noted["most_images"], noted["fill"]) == (11, 6, "mean")
    reliance.run_reliance(session)
    (call,) = measured
    model, loader, found = call.pop("args")
    assert model is session.loaded.model
    assert sum(len(batch.images) for batch in loader) == 14
    assert found.images == 14
    settings = {"price": 2.0, "most": 64, "images": 100, "group": None}
    assert call == settings | {"device": torch.device("cpu"), "output": turned}
    noted = session.run.stage("reliance")
    assert (noted["price"], noted["n_images"]) == (2.0, 14)
    chosen = reliance.load_reliance(session)
    # The class without images does not count in the mean.
    assert noted["mean_relevant"] == np.mean([len(chosen.columns(c)) for c in (1, 2)])
    assert found.counts.tolist() == [0, 5, 6]


def test_classes_that_rely_on_nothing_are_noted(collected: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = with_output(tiny_session(collected, counts=(9, 0, 5), **ALONE))
    honest = reliance.interpret

    def silenced(*args: object) -> Interpretation:
        found = honest(*args)
        coef = found.coef.copy()
        coef[[0, 2]] = 0.0
        return replace(found, coef=coef)

    monkeypatch.setattr(reliance, "interpret", silenced)
    reliance.run_reliance(session)
    (note,) = session.run.stage("reliance")["notes"]
    assert note == "Classes that rely on no channel beyond twice its standard error (1): third"
    table = (session.run.path / "weights" / "reliance.csv").read_text().splitlines()
    assert table[0] == "class,rank,layer,index,reliance,standard_error,contribution"
    assert {row.split(",")[0] for row in table[1:]} == {"second"}
    assert [int(row.split(",")[1]) for row in table[1:]] == list(range(1, len(table)))


def test_rows_have_the_numbers_of_their_channel() -> None:
    channels = ChannelIndex((("a", 2), ("b", 1)))
    coef = np.array([[0.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    moments = np.arange(12.0).reshape(2, 2, 3)
    measured = Contributions(channels, ("x", "y"), np.array([2, 4]), np.zeros(2), moments, np.zeros(3))
    stderr = np.array([[0.5, 0.25, 0.125], [1.0, 1.0, 1.0]])
    found = Interpretation(channels, coef, ("x", "y"), by="reliance", price=1.0, stderr=stderr)
    rows = reliance.reliance_rows(found, measured)
    assert rows == [["x", 1, "b", 0, 3.0, 0.125, 1.0], ["x", 2, "a", 1, 2.0, 0.25, 0.5]]
    plain = Interpretation(channels, coef, ("x", "y"))
    assert [row[5] for row in reliance.reliance_rows(plain, measured)] == [None, None]


def test_the_last_sums_that_can_be_read_are_gone_on_with(tmp_path: Path) -> None:
    channels = ChannelIndex((("a", 1),))
    made = [
        Contributions(channels, ("x",), np.array([n]), np.zeros(1), np.ones((2, 1, 1)), np.zeros(1), images=n)
        for n in (2, 10, 900)
    ]
    files = sums.Sums(tmp_path, "0123456789abcdefghij", "images")
    for found in made:
        found.save(tmp_path / f"sums-0123456789abcdef-images-{found.images:09d}.npz")
    made[0].save(tmp_path / "sums-0123456789abcdef-images-later.npz")
    made[0].save(tmp_path / "sums-0123456789abcdef-rows-000000950.npz")
    count, found = files.last()
    assert found is not None
    assert (count, found.images) == (900, 900)
    (tmp_path / "sums-0123456789abcdef-images-000000900.npz").write_bytes(b"cut off")
    count, found = files.last()
    assert found is not None
    assert (count, found.images) == (10, 10)
    assert files.read(3) is None
    files.write(40, made[1])
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["sums-0123456789abcdef-images-000000040.npz"]
    files.write(50, made[1])
    assert len(list(tmp_path.iterdir())) == 2
    files.forget([50])
    assert [path.name for path in tmp_path.iterdir()] == ["sums-0123456789abcdef-images-000000050.npz"]


def test_contributions_in_the_pass_of_the_scores_are_asked_for_as_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = with_output(
        tiny_session(
            tmp_path / "run", counts=(9, 0, 5), contribution_images=6, fill="mean", **ALONE | {"fit_on": "predictions"}
        )
    )
    asked = recorded(monkeypatch, collect, "KeptSums")
    through(session, "collect")
    (call,) = asked
    assert isinstance(call.pop("args")[0], sums.Sums)
    assert call == {
        "fill": "mean",
        "images": 6,
        "targets": "predictions",
        "classes": ["first", "second", "third"],
        "start": None,
        "outputs": "exclusive",
    }
    files = list((session.run.path / "contributions").iterdir())
    # Of all the images, by rows of the scores.
    assert [path.name[-18:] for path in files] == ["rows-000000014.npz"]
