"""A repair in words and on its page: figures by hand, names as text, what is missing, and the report beside it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from helpers.repair_facts import repair_facts, write_repair
from helpers.report_fixture import NASTY, class_names, make_run
from interpnet.pipelines.report.build import build_report
from interpnet.pipelines.report.repair import WAYS, build_repair_report, repair_view
from interpnet.pipelines.run.repair_settings import HOW
from markupsafe import escape

from interpnet.errors import RunFolderError
from interpnet.shortcuts._repair import HOW as LIBRARY

NAMES = ("wolf", "husky", "fox")


def test_every_way_of_the_library_that_gives_weights_is_known() -> None:
    assert set(HOW) == set(LIBRARY) - {"reactive"}
    assert set(WAYS) == set(HOW) - {"auto"}


def test_an_accepted_repair_in_words() -> None:
    view = repair_view(repair_facts(NAMES))
    assert view.accepted
    assert view.headline == (
        "With the suspicious part of another image 75.0 % of the images are recognised, 50.0 % before and 55.0 % after "
        "the control; as they are 87.5 %, 90.0 % before."
    )
    assert view.way == "What was done: the whole network was trained on (--how training, learning rate 0.001)."
    assert view.suspicious == "“wolf” by the top left corner"
    assert view.reading == (
        "Measured on 80 test images held out (the others chose the repair), fitted on 20 training images. Control: the "
        "same repair with parts of images of the same class, which tell nothing new."
    )
    assert [row.values for row in view.rows[:2]] == [(0.9, 0.875, 0.9), (0.5, 0.75, 0.55)]
    assert view.rows[2].values == pytest.approx((0.3, 0.55, 0.35))
    assert [row.what for row in view.rows[3:]] == [
        "drawn scenes whose planted cue agrees",
        "drawn scenes whose planted cue disagrees",
    ]
    assert view.rows[4].values[:2] == (0.3, 0.8)
    assert math.isnan(view.rows[4].values[2])
    # A class without an image held out is left out.
    assert [(c.name, c.part, c.n) for c in view.classes] == [("wolf", "the top left corner", 40), ("husky", "", 40)]
    assert view.advice == ()


def test_what_was_not_accepted_says_what_else_there_is() -> None:
    view = repair_view(repair_facts(NAMES, accepted=False))
    assert view.headline == (
        "Nothing was accepted. With the suspicious part of another image 50.0 % of the images are recognised, as they "
        "are 90.0 %. Of the best, ridge: costs 1.20% of clean accuracy."
    )
    assert view.advice[0] == (
        "A bound of 1.2 % (--max-clean-loss 0.012) would leave ridge with pull to the old weights 0.1, which changes "
        "the accuracy with exchanged parts by +12.0 points."
    )
    assert "--clean unmoved" in view.advice[1]
    assert "(--how training)" in view.advice[2]
    assert view.advice[3] == "More images decide more: 20 were used (--max-images)."
    facts = repair_facts(NAMES, accepted=False)
    facts["clean"] = "unmoved"
    facts["settings"] |= {"how": "ridge", "max_images": 2000}
    view = repair_view(facts)
    assert view.advice[1:] == ("--how auto tries the other ways, too.",)


def test_the_best_strength_of_each_way_and_its_figures_on_images_held_out() -> None:
    facts = repair_facts(NAMES)
    facts["candidates"] += [{**facts["candidates"][0], "strength": 0.01, "exchanged": 0.1, "held": [-0.01, 0.15]}]
    view = repair_view(facts)
    assert [(t.how, t.strength, t.exchanged) for t in view.best] == [
        ("ridge", "pull to the old weights 0.01", 0.15),
        ("projection", "directions: 2", 0.2),
        ("training", "learning rate 0.001", 0.3),
    ]


def test_the_page_shows_names_as_text(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", classes=8)
    write_repair(folder, class_names(8))
    page = build_repair_report(folder).read_text()
    assert NASTY[0] not in page
    assert f"<bdi>{escape(NASTY[0])}</bdi>: the top left corner" in page
    assert page.count("<img ") == 4
    # Log-odds of 3 and -1 are 95.3 % and 26.9 %.
    assert "95.3 %" in page
    assert "26.9 %" in page
    assert "not tried: &lt;large&gt;" in page
    assert f"interpnet audit --config {folder}/repair/run.toml --out runs/NAME" in page


def test_missing_pictures_are_said(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", classes=8)
    write_repair(folder, class_names(8))
    (folder / "repair" / "c0000_1_made.png").unlink()
    page = build_repair_report(folder).read_text()
    assert "1 pictures are missing or damaged." in page


def test_the_page_of_what_was_not_accepted_has_no_weights(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", classes=8)
    write_repair(folder, class_names(8), accepted=False)
    page = build_repair_report(folder).read_text()
    assert "What else can be tried" in page
    assert "How to load it" not in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "interpnet-repair-9"}, "format 'interpnet-repair-9'; expected 'interpnet-repair-1'"),
        ({"before": {}}, r"repair.json' lacks .*delete it and run `interpnet repair"),
        ({"suspicious": []}, r"has no repair to show; run `interpnet repair"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(change: dict[str, object], message: str, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", classes=8)
    facts = write_repair(folder, class_names(8)) | change
    (folder / "repair" / "repair.json").write_text(json.dumps(facts))
    with pytest.raises(RunFolderError, match=message):
        build_repair_report(folder)


@pytest.mark.parametrize(("accepted", "said"), [(True, "That was done:"), (False, "That was tried.")])
def test_the_report_says_what_came_of_it(accepted: bool, said: str, tmp_path: Path, blank_charts: None) -> None:
    folder = make_run(tmp_path / "run", classes=8, shortcuts=True)
    write_repair(folder, class_names(8), accepted=accepted)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["stages"]["shortcuts"] = {"state": "complete", "key": "a"}
    for searched, shown in (("a", True), ("b", False)):
        manifest["stages"]["repair"] = {"state": "complete", "key": "x", "searched": searched}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        page = build_report(folder).read_text()
        # A repair by an earlier search is none of these findings.
        assert (said in page) is shown
        assert ('href="../repair/report.html"' in page) is shown


def test_a_run_made_from_python_names_the_calls(tmp_path: Path, blank_charts: None) -> None:
    folder = make_run(tmp_path / "run", classes=8, shortcuts=True)
    (folder / "run.toml").write_text('[model]\nmodel = "python:Net"\n\n[data]\ndata = "python:images"\n')
    page = build_report(folder).read_text()
    assert "interpnet.shortcuts.repair(model, train, found)" in page
    assert "<code>interpnet repair" not in page
