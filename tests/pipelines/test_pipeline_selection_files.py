"""The settings around the choice of mu, and the files it leaves: pipelines/run/selection.py, config.py."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.report_fixture import mu_selection
from interpnet.pipelines.run.config import RunConfig
from interpnet.pipelines.run.selection import (
    STABILITY_FILE,
    how_chosen,
    read_frequencies,
    read_selection,
    seldom,
    selection_json,
    write_selection,
)
from interpnet.pipelines.run.settings import radius

from interpnet.errors import InterpNetError, RunFolderError
from interpnet.mulasso import SelectionCurve, Stability


def curve(**changes) -> SelectionCurve:
    """Four radii; the error is smallest at 8, and 4 lies within one standard error of it."""
    values = {
        "mus": np.array([2.0, 4.0, 8.0, 16.0]),
        "error_mean": np.array([0.4, 0.21, 0.2, 0.3]),
        "error_se": np.array([0.1, 0.02, 0.02, 0.02]),
        "accuracy_mean": np.array([0.5, 0.875, 0.9, 0.6]),
        "accuracy_se": np.full(4, 0.01),
        "channels_mean": np.array([1.0, 3.5, 7.25, 9.0]),
        "chosen": 4.0,
        "best": 8.0,
        "one_se": 4.0,
        "rule": "one_se",
        "n_folds": 5,
    }
    return SelectionCurve(**{**values, **changes})


# --- the settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "value"), [("5", 5.0), ("1e-3", 0.001), ("auto", "auto")])
def test_mu_is_a_number_or_auto(text, value, tmp_path):
    assert radius(text) == value
    config = RunConfig(mu=radius(text), class_weight="balanced", stability=20)
    config.save(tmp_path / "run.toml")
    assert RunConfig.load(tmp_path / "run.toml") == config
    assert type(RunConfig.load(tmp_path / "run.toml").mu) is type(value)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"mu": 0.0}, "--mu is 0.0; expected a number above 0, or auto"),
        ({"mu": -2}, "--mu is -2; expected a number above 0, or auto"),
        ({"mu": float("nan")}, "--mu is nan; expected a number above 0"),
        ({"mu": float("inf")}, "--mu is inf; expected a number above 0"),
        ({"mu": "Auto"}, "--mu is 'Auto'; expected a number above 0, or auto"),
        ({"mu": True}, "--mu is True; expected a number above 0"),
        (
            {"class_weight": "balance"},
            "--class-weight is 'balance'; expected none or balanced; did you mean 'balanced'",
        ),
        ({"stability": -1}, "--stability is -1; expected a whole number of at least 0"),
        ({"stability": 2.5}, "--stability is 2.5; expected a whole number"),
    ],
)
def test_wrong_settings_say_what_is_expected(given, match):
    with pytest.raises(InterpNetError, match=match):
        RunConfig(**given)


# --- the files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "found",
    [curve(), curve(accuracy_mean=None, accuracy_se=None), curve(rule="accuracy", most=3.5), mu_selection()],
)
def test_a_choice_survives_its_file(tmp_path, found):
    write_selection(tmp_path, found)
    again = read_selection(tmp_path)
    assert selection_json(again) == selection_json(found)
    assert how_chosen(again) == how_chosen(found)


def test_a_choice_in_words():
    assert how_chosen(curve()) == (
        "4 values of mu from 2 to 16 were tried on held-out images, 5 folds. The held-out error is smallest at mu = 8; "
        "taken is mu = 4, the smallest within one standard error of it. The regression names the class of 87.5 % of "
        "the held-out images with 3.5 channels per class, against 90.0 % with 7.2 channels per class at the smallest "
        "error."
    )
    assert how_chosen(curve(chosen=8.0)).endswith(
        "smallest at mu = 8, and no smaller mu comes within one standard error of it, so that one was taken. The "
        "regression names the class of 90.0 % of the held-out images with 7.2 channels per class."
    )
    said = how_chosen(curve(chosen=8.0, rule="best"))
    assert said.endswith("The held-out error is smallest at mu = 8, which was taken.")
    assert how_chosen(curve(accuracy_mean=None)).endswith(
        "Held-out error 0.21 with 3.5 channels per class, against held-out error 0.2 with 7.2 channels per class at "
        "the smallest error."
    )


def test_a_choice_by_accuracy_in_words():
    # 0.875 at mu = 4 lies within one standard error, 0.03, of the best, 0.9 at mu = 8.
    found = curve(rule="accuracy", accuracy_se=np.full(4, 0.03), most=8.0)
    assert how_chosen(found) == (
        "4 values of mu from 2 to 16 were tried on held-out images, 5 folds. Taken is mu = 4, the smallest whose "
        "accuracy is within one standard error of the best among those that name at most 8 channels per class. The "
        "regression names the class of 87.5 % of the held-out images with 3.5 channels per class, against 90.0 % with "
        "7.2 channels per class at the best accuracy of all."
    )
    assert how_chosen(curve(rule="accuracy", chosen=8.0, most=None)).endswith(
        "Taken is mu = 8, the smallest whose accuracy is within one standard error of the best. The regression names "
        "the class of 90.0 % of the held-out images with 7.2 channels per class."
    )
    # What the bound on the channels costs.
    bound = how_chosen(curve(rule="accuracy", most=4.0))
    assert bound.endswith(
        "at the best accuracy of all. More channels would predict better: from mu = 8 on, 90.0 % with 7.2 channels per "
        "class, the accuracy is within one standard error of the best of all."
    )


def test_the_radius_that_is_enough_for_the_accuracy_is_named():
    # 0.875 at mu = 4 lies within one standard error, 0.03, of the best, 0.9 at mu = 8; 0.5 at mu = 2 does not.
    found = curve(accuracy_se=np.full(4, 0.03), chosen=8.0)
    assert found.enough == 4.0
    assert how_chosen(found).endswith(
        "For accuracy alone a smaller mu would do: from mu = 4 on, 87.5 % with 3.5 channels per class, it is within "
        "one standard error of its best."
    )
    assert "For accuracy alone" not in how_chosen(curve(accuracy_se=np.full(4, 0.03)))
    assert curve().enough == 8.0
    assert curve(accuracy_mean=None, accuracy_se=None).enough is None


@pytest.mark.parametrize(("chosen", "end"), [(2.0, "smallest"), (4.0, ""), (8.0, ""), (16.0, "largest")])
def test_the_end_of_what_was_tried_is_pointed_out(chosen, end):
    found = curve(chosen=chosen, best=chosen)
    assert found.end == end
    said = f"That is the {end} tried, so one beyond it may do better." in how_chosen(found)
    assert said == bool(end)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"format": "other"}, "format 'other'; expected 'interpnet-selection-1'"),
        ({"error_se": [1.0]}, r"error_se of shape \(1,\); expected \(4,\)"),
        ({"error_mean": None}, "has no error_mean"),
        ({"mus": None}, "has no mus"),
        ({"rule": "luck"}, "has rule 'luck'; expected accuracy, one_se, best"),
        ({"most": "many"}, r"selection.json' cannot be used .*; delete it and run `interpnet solve` again"),
        ({"mus": ["a"]}, r"selection.json' cannot be used .*; delete it and run `interpnet solve` again"),
        ({"channels_mean": ...}, r"selection.json' lacks 'channels_mean'; delete it and run `interpnet solve` again"),
    ],
)
def test_a_damaged_choice_is_named(tmp_path, change, match):
    data = {**selection_json(curve()), **change}
    (tmp_path / "selection.json").write_text(json.dumps({k: v for k, v in data.items() if v is not ...}))
    with pytest.raises(RunFolderError, match=match):
        read_selection(tmp_path)


def test_damaged_frequencies_are_named(tmp_path):
    Stability(np.zeros((2, 3)), 4, 10.0, False).save(tmp_path / STABILITY_FILE)
    with pytest.raises(RunFolderError, match=r"shape \(2, 3\); expected \(2, 4\)"):
        read_frequencies(tmp_path, (2, 4))
    np.savez(tmp_path / STABILITY_FILE, frequency=np.full((2, 3), 1.5), n_subsamples=4, mu=1.0, positive=False)
    with pytest.raises(
        RunFolderError, match=r"every value from 0 to 1.*; delete it to have it made again by `interpnet solve`"
    ):
        read_frequencies(tmp_path, (2, 3))
    (tmp_path / STABILITY_FILE).write_text("no zip")
    with pytest.raises(RunFolderError, match=r"stability.npz' holds no stability selection .*; delete it"):
        read_frequencies(tmp_path, (2, 3))


def test_seldom_begins_below_the_threshold():
    assert [seldom(f) for f in (0.0, 0.59, 0.6, 1.0, float("nan"))] == [True, True, False, False, False]
