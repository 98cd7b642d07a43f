"""What classes draw, and groups among a class's own images, in the report: words by hand, and what is missing."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.report_fixture import NASTY, class_names, make_run
from helpers.shortcut_findings import findings, shown, with_beside, write_shortcuts
from interpnet.pipelines.report.build import build_report
from interpnet.pipelines.report.drawn import DrawnView, field_count, field_sentence, shared_by
from interpnet.pipelines.report.load import RunData, load_run
from interpnet.pipelines.report.pictures import Pictures
from interpnet.pipelines.report.section import Section
from interpnet.pipelines.report.shortcuts import looks_of
from markupsafe import escape

from interpnet.errors import RunFolderError

NAMES = ("carton", "cat", "dog", "owl")


def sections(run: RunData) -> dict[str, Section]:
    said = looks_of(run, Pictures(run.folder / "shortcuts"))
    assert said is not None
    return {section.anchor: section for section in said.sections}


@pytest.fixture
def run(tmp_path: Path) -> RunData:
    found = with_beside(findings(NAMES), NAMES)
    return RunData(tmp_path, {}, NAMES, shortcuts=found, beside=shown(tmp_path, NAMES))


def test_images_from_the_field_in_words(run: RunData) -> None:
    section = sections(run)["field"]
    assert section.level == "not shown"
    assert section.headline == (
        "1 class draws images from the field more than chance would: “carton” (22 of 200, 2 with the same thing at the "
        "same place)."
    )
    (view,) = section.view.shown
    assert isinstance(view, DrawnView)
    assert view.heading == "22 of 200 images from the field"
    assert view.sentence == (
        "22 of 200 images from the field (11 %) lean to “carton”, more than 95 % of the training images of other "
        "classes do. Of all training images 5 % lean to it (p below 0.001). 2 of the 3 strongest are taken for it."
    )
    assert view.share is not None
    assert view.share.sentence == (
        "2 images from the field share what the first picture shows, at the same place; it covers 4.6 % of the image. "
        "Two halves of the images drawn show it alike (correlation 0.75; so much by chance: p = 0.01)."
    )
    assert view.share.names == ("shop/a.png", "shop/b.png")
    # Log-odds of 2, 0 and -2.
    assert [shot.caption for shot in view.shots] == [
        "taken for carton, 88.1 %; bears it",
        "taken for dog; carton: 50.0 %",
        "taken for carton, 11.9 %",
    ]
    assert view.shots[0].title == "carton 0.png"
    assert all(shot.source for shot in (*view.shots, *view.own, view.share.picture))
    assert view.channels[0].said == (
        "contributes +1.50; in 64 % of these images as high as in the top 1 % of training images"
    )
    assert view.channels[0].top == "7 of “cat”, 3 of “carton”"
    assert section.facts == [
        {"index": 0, "name": "carton", "n": 22, "share": 0.11, "expected": 0.05, "p": 1e-5, "shared_by": 2}
    ]


def test_mistakes_in_words_and_only_those_that_stand_out(run: RunData) -> None:
    section = sections(run)["mistakes"]
    assert section.headline == "1 class draws more mistakes than the others: “cat” (12 images)."
    (view,) = section.view.shown
    assert view.sentence == (
        "12 training images of other classes (3.0 %) are taken for “cat”; 1.0 % would be, were all mistakes spread "
        "evenly over the classes (p = 0.020)."
    )
    assert view.shots[0].title == "an image of dog"
    assert view.share is None


def test_two_groups_in_words(run: RunData) -> None:
    section = sections(run)["groups"]
    assert section.headline == "1 class is recognised by two kinds of evidence: “owl”."
    (view,) = section.view.shown
    assert view.sentence == (
        "The 130 training images of “owl” that are recognised fall into two groups, of 90 and 40, which other channels "
        "carry. Images of one kind would seem so clearly to be of two with p below 0.001, adjusted over the classes."
    )
    first, second = view.groups
    assert (first.n, second.n, first.n_pictured) == (90, 40, 2)
    assert first.channels[0].said == "contributes +1.20 to this group, −0.10 to the other"
    assert first.picture != second.picture


def test_a_field_that_no_class_draws_says_so_and_without_a_field_nothing_does(run: RunData) -> None:
    assert run.shortcuts is not None
    quiet = replace(run, shortcuts=replace(run.shortcuts, drawn=(), grouped=()))
    said = sections(quiet)
    assert set(said) == {"field"}
    assert said["field"].level == "shown"
    assert said["field"].headline == (
        "No class draws the 200 images from the field more than training images of other classes."
    )
    assert sections(replace(quiet, beside={})) == {}
    assert field_count(replace(quiet, beside={})) is None


def test_without_anything_shared_nothing_is_red(run: RunData) -> None:
    assert run.shortcuts is not None
    field = next(one for one in run.shortcuts.drawn if one.source == "field")
    beside = dict(run.beside)
    beside["drawn"] = [{name: value for name, value in entry.items() if name != "common"} for entry in beside["drawn"]]
    plain = replace(run, beside=beside)
    section = sections(plain)["field"]
    assert section.level == "mixed"
    assert not section.view.shared
    assert "“carton” (22 of 200)." in section.headline
    assert "They share nothing at one place" in section.view.shown[0].meaning
    assert shared_by(plain, field) == 0
    assert field_sentence(plain, field, 200) == "22 of 200 images from the field lean to “carton”"
    assert field_sentence(run, field, 200).endswith("; 2 images share something at the same place")


def test_a_report_of_some_classes_shows_what_these_draw(run: RunData) -> None:
    assert set(sections(replace(run, only=(1, 2)))) == {"field", "mistakes"}
    assert sections(replace(run, only=(1, 2)))["field"].view.shown == ()


def test_findings_without_pictures_are_words(tmp_path: Path) -> None:
    """As a run of an older version left them."""
    found = with_beside(findings(NAMES), NAMES)
    said = sections(RunData(tmp_path, {}, NAMES, shortcuts=found))
    assert set(said) == {"mistakes", "groups"}
    assert said["mistakes"].view.shown[0].shots == ()
    assert said["groups"].view.shown[0].groups[0].picture is None


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(
        tmp_path_factory.mktemp("beside") / "run", classes=8, stages=("collect", "solve"), shortcuts=True, beside=True
    )


def test_the_page_has_it_as_text_with_tables_beside(made: Path, tmp_path: Path, blank_charts: None) -> None:
    folder = shutil.copytree(made, tmp_path / "run")
    page = build_report(folder).read_text(encoding="utf-8")
    for anchor in ("field", "mistakes", "groups", "field-0", "training-1", "groups-3"):
        assert page.count(f'id="{anchor}"') == 1
    for anchor in ("field", "mistakes", "groups"):
        assert f'<a href="#{anchor}">' in page
    assert NASTY[0] not in page
    assert str(escape(f"“{NASTY[0]}” (22 of 200")) in page
    summary = json.loads((folder / "report" / "report.json").read_text())["shortcuts"]
    assert [one["groups"] for one in summary["groups"]] == [[90, 40]]
    with (folder / "report" / "drawn.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["source"], row["shares_it"]) for row in rows] == [
        *[("field", "0")] * 3,
        *[("field", "1")] * 2,
        *[("training", "0")] * 3,
    ]


def test_missing_pictures_are_counted_and_damaged_facts_refused(made: Path, tmp_path: Path, blank_charts: None) -> None:
    folder = shutil.copytree(made, tmp_path / "run")
    (folder / "shortcuts" / "common_c0000.png").unlink()
    assert "1 pictures are missing or damaged: “common_c0000.png”" in build_report(folder).read_text(encoding="utf-8")
    path = folder / "shortcuts" / "shortcuts.json"
    broken = json.loads(path.read_text())
    del broken["shown"]["drawn"][0]["files"][0]["odds"]
    path.write_text(json.dumps(broken))
    with pytest.raises(RunFolderError, match=r"shortcuts\.json' lacks 'odds'; delete it and run .interpnet shortcuts"):
        build_report(folder)


def test_a_run_without_findings_has_no_section(made: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made, tmp_path / "run")
    shutil.rmtree(folder / "shortcuts")
    assert load_run(folder).beside == {}
    write_shortcuts(folder, class_names(8))
    assert load_run(folder).beside == {}
