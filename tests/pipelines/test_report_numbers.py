"""Sentences, tooltips and captions of the report say no more than the numbers beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.report_fixture import make_run
from helpers.shortcut_findings import findings
from interpnet.pipelines.report.build import build_report
from interpnet.pipelines.report.carriers import counted
from interpnet.pipelines.report.class_verdict import class_verdicts
from interpnet.pipelines.report.load import RunData, load_run
from interpnet.pipelines.report.pictures import Pictures
from interpnet.pipelines.report.shortcuts import looks_of
from interpnet.pipelines.report.verdict import verdict
from PIL import Image

from interpnet.ablation import Changes, Condition, Effect, as_result
from interpnet.support.io import read_json, write_json

NAMES = ("carton", "cat", "dog", "owl")


def study(own: float, others: float, highest: float, highest_others: float, images: int = 200) -> Any:
    """Return a study of format 1 of two classes, 0.8 of whose images are recognised."""

    def entry(name: str, left: float, beside: float) -> dict[str, Any]:
        return {"name": name, "layers": "all", "removed": [4, 6], "own": [[left] * 2] * 3, "others": [[beside] * 2] * 3}

    return as_result(
        {
            "format": "interpnet-ablation-1",
            "classes": ["a", "b"],
            "support": [images, images],
            "intact": [0.8, 0.8],
            "fill": "zero",
            "n_images": 2 * images,
            "repeats": 3,
            "seed": 0,
            "conditions": [
                entry("relevant", own, others),
                entry("random", 0.77, 0.76),
                entry("highest-activation", highest, highest_others),
            ],
            "curve": None,
            "single": {},
        }
    )


@pytest.mark.parametrize(
    ("highest", "words"),
    [
        (0.16, "leaves a class less recall (0.16, the named channels 0.35), but costs the others too"),
        (0.34, "leaves a recall that these images do not tell from theirs (0.34, the named channels 0.35; difference "),
    ],
)
def test_what_two_removals_cost_is_compared_by_the_interval_of_their_difference(highest: float, words: str) -> None:
    found = verdict(study(0.35, 0.78, highest, 0.2))
    assert words in found.judgement
    assert "as much" not in found.judgement


def test_a_control_that_costs_more_is_said_to() -> None:
    found = verdict(study(0.46, 0.78, 0.2, 0.78))
    assert (
        "not beyond removing those with the highest mean activation, which leaves a class less recall (0.20, the "
        "named channels 0.46)"
    ) in found.judgement


def test_one_removed_channel_is_not_called_channels() -> None:
    one = study(0.35, 0.78, 0.7, 0.7)
    conditions = tuple(replace(c, removed=np.array([1.0, 1.0])) for c in one.conditions)
    assert verdict(replace(one, conditions=conditions)).headline.startswith("Removing the one channel that InterpNet")


def effect(mean: float, spread: float, images: int = 50) -> Effect:
    return Effect(np.array([mean]), np.array([spread**2]), np.array([images]))


def changes(own: Effect, others: Effect) -> Changes:
    return Changes(own, others, effect(0.1, 0.1), others, effect(0.0, 0.3), effect(0.0, 0.3))


@pytest.mark.parametrize(
    ("odds", "words"),
    [
        (effect(-0.72, 2.7), "but the log-odds, by which classes are judged, do not fall beyond chance"),
        (effect(0.0, 0.1), "but the log-odds, by which classes are judged, do not fall beyond chance"),
    ],
)
def test_a_recall_that_falls_is_not_said_to_cost_nothing(odds: Effect, words: str) -> None:
    """Recall −0.16, −0.27 to −0.05: "do not show that removing them costs anything" contradicted that."""
    recall = effect(-0.16, 0.37)
    assert recall.interval()[1] < 0
    named = {"recall": changes(recall, effect(0.0, 0.1)), "log_odds": changes(odds, effect(0.0, 0.1))}
    condition = Condition("relevant", "all", np.array([4.0]), np.array([[0.64]]), np.array([[0.8]]), named)
    whole = replace(study(0.4, 0.7, 0.7, 0.7), classes=("red",), support=np.array([50]), intact=np.array([0.8]))
    (found,) = class_verdicts(whole, condition, named, [(named, True)], held_out=True)
    assert found.level == "not shown"
    assert found.sentence.startswith("Removing them may cost red something (recall −0.16, ")
    assert words in found.sentence


def html(folder: Path) -> str:
    return build_report(folder).read_text(encoding="utf-8")


def test_the_number_beside_a_class_is_called_a_change(tmp_path: Path) -> None:
    page = html(make_run(tmp_path, classes=3, pictured=1, stages=("collect", "solve", "ablate")))
    assert 'title="change of its own recall when the channels that predict it are removed"' in page
    assert "own recall without" not in page


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (("all", "conv"), "Filled: channels of all layers. Hollow: channels of convolutional layers only."),
        (("all",), "Channels of all layers were removed."),
        (("conv",), "Channels of convolutional layers only were removed."),
    ],
)
def test_captions_name_the_markers_that_are_drawn(tmp_path: Path, layers: Sequence[str], words: str) -> None:
    folder = make_run(tmp_path, classes=3, stages=("collect", "solve", "ablate"))
    path = folder / "ablation" / "ablation.json"
    data = read_json(path)
    data["conditions"] = [c for c in data["conditions"] if c["layers"] in layers and c["name"] != "random-per-layer"]
    write_json(path, data)
    page = html(folder)
    assert words in page
    assert ("Hollow" in page) == (len(layers) == 2)
    # Only the controls that were run are explained.
    assert "drawn at random, or those with the highest mean activation." in page
    assert "same number from each layer" not in page


def test_a_curve_without_accuracies_has_no_words_of_them(tmp_path: Path) -> None:
    from helpers.report_fixture import mu_selection
    from interpnet.pipelines.run.selection import write_selection

    folder = make_run(tmp_path, classes=3, chosen=True, stages=("collect", "solve"))
    assert "“Accuracy” is that of the regression" in html(folder)
    write_selection(folder / "weights", mu_selection(accuracy=False))
    assert "“Accuracy”" not in html(folder)


def test_what_stands_below_a_heatmap_is_called_what_it_is(tmp_path: Path) -> None:
    folder = make_run(tmp_path, classes=3, pictured=1)
    path = folder / "explanations" / "examples.json"
    data = read_json(path)
    assert "weight × score " in html(folder)
    write_json(path, data | {"by": "reliance", "choose": "all", "saturate": 0.99})
    page = html(folder)
    assert "weight × score" not in page
    assert "contributes +" in page
    assert "InterpNet: channels that contribute most" in page
    assert "of a channel’s map the strongest 1 %, share the brightest colour" in page


def test_a_strip_is_as_wide_as_the_pictures_in_it(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    strip = Pictures(tmp_path).strip(["a.png", "gone.png", "a.png"], 8, 9)
    assert strip.n == 2
    assert strip.source is not None


def test_a_share_that_no_image_could_show_is_not_promised() -> None:
    given = findings(NAMES)
    wide = replace(given.classes[2], low=0.0, high=1.0, detectable=4.87)
    said = looks_of(RunData(Path("run"), {}, NAMES, shortcuts=replace(given, classes=(wide,))), Pictures(Path("no")))
    assert said is not None
    assert "4.87" not in said.classes[0].sentence
    assert said.headline.startswith("No class is shown to go by")
    assert said.judgement == "In 1 of 1 classes not even a share of 1 would have been found 8 times of 10."
    assert said.level == "mixed"


def test_bars_stay_within_their_ends(tmp_path: Path) -> None:
    folder = make_run(tmp_path, classes=4, shortcuts=True, stages=("collect", "solve", "ablate"))
    path = folder / "shortcuts" / "shortcuts.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["classes"][0] |= {"share": 1.2, "low": 0.9, "high": 1.5}
    write_json(path, data)
    assert load_run(folder).shortcuts is not None
    page = html(folder)
    assert "left:90.0%;width:10.0%" in page
    assert "left:100%" in page.replace("100.0%", "100%")


def test_classes_that_are_numbers_are_told_from_how_many_images_they_have() -> None:
    run = RunData(Path("run"), {}, ("0", "2", "9", "4", "7"))
    assert counted(run, [(0, 5), (1, 2), (2, 2), (3, 1)]) == "5 of “0”, 2 of “2”, 2 of “9”, 1 other"
    assert counted(run, [(0, 5), (1, 2), (2, 2), (3, 1), (4, 1)]).endswith(", 2 others")
