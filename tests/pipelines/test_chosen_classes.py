"""Which classes a run counts and studies: those with images, those of ``--only``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from helpers.tiny_run import again, said, through, tiny_session
from interpnet.pipelines.stages import contributions, solve
from interpnet.pipelines.stages.sums import counted

from interpnet.interpretation import Interpretation


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
