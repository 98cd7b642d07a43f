"""What the network looks at, in the report's verdict: words by hand, names as text, and run folders without it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.report_fixture import NASTY, class_names, make_run
from helpers.shortcut_findings import findings, write_shortcuts
from interpnet.pipelines.report.build import build_report
from interpnet.pipelines.report.load import RunData, load_run
from interpnet.pipelines.report.pictures import Pictures
from interpnet.pipelines.report.shortcuts import looks_of, part_words
from markupsafe import escape

from interpnet.errors import RunFolderError
from interpnet.shortcuts import Findings

NAMES = ("carton", "cat", "dog", "owl")


def looks(found: Findings, names: tuple[str, ...] = NAMES) -> object:
    run = RunData(Path("run"), {}, names, shortcuts=found)
    return looks_of(run, Pictures(Path("nowhere")))


def test_every_class_in_words() -> None:
    said = looks(findings(NAMES))
    assert [one.level for one in said.classes] == ["not shown", "mixed", "shown", "open"]
    carton, cat, owl, dog = (one.sentence for one in said.classes)
    assert carton == (
        "When a patch is exchanged between images, 0.83 (0.74 to 0.91) of what speaks for “carton” follows it; of "
        "classes without a shortcut 98 % stay below 0.25."
    )
    assert cat == (
        "When the frame is exchanged between images, 0.40 (0.10 to 0.70) of what speaks for “cat” follows it; of "
        "classes without a shortcut 98 % stay below 0.35. The interval reaches below that, so these images do not "
        "decide. A share of 0.31 would have been found 8 times of 10."
    )
    assert owl == ("No part moved “owl” beyond what is usual. A share of 0.31 would have been found 8 times of 10.")
    assert dog == "1 image is too few to say what “dog” goes by."
    assert (
        said.headline
        == "1 of 4 classes goes by a part of the image more than is usual without a shortcut: “carton” by a patch."
    )
    assert said.level == "not shown"


def test_a_suspicious_class_has_its_pictures_predictions_and_channels() -> None:
    carton, *others = looks(findings(NAMES)).classes
    assert carton.effect == (
        "Of images of other classes that got this part of an image of “carton”, 84 % are taken for it; without it 2 %."
    )
    before, donor, after = carton.swaps[0].shots
    # Log-odds of -2 and 3 are 11.9 % and 95.3 %.
    assert before.caption == "taken for cat; carton: 11.9 %"
    assert donor.caption == "an image of carton"
    assert after.caption == "taken for carton; carton: 95.3 %"
    assert carton.channels[0].label == "layer3.0.relu[0]"
    assert carton.channels[0].top == "6 of “carton”, 3 of “cat”, 1 of “owl”"
    assert not any(one.swaps or one.channels for one in others)


def test_a_run_without_suspicion_says_its_power() -> None:
    whole = findings(NAMES)
    plain = [one for one in whole.classes if one.name == "owl"]
    said = looks(replace(whole, classes=(*plain, replace(plain[0], detectable=0.5), replace(plain[0], detectable=0.4))))
    assert said.level == "shown"
    assert said.headline == "No class goes by any part of the image more than is usual in networks without a shortcut."
    assert said.judgement == "In the median class a share of 0.40 would have been found 8 times of 10."
    undecided = looks(replace(whole, classes=whole.classes[1:]))
    assert undecided.level == "mixed"
    assert undecided.headline.startswith("No class is shown to go by any part of the image")
    assert "1 of 3 classes are not decided: more images may tell (interpnet shortcuts run --shortcut-images N)." in (
        undecided.judgement
    )
    nothing = looks(replace(whole, classes=whole.classes[-1:]))
    assert (nothing.level, nothing.judgement) == ("open", "")


def test_many_suspicious_classes_are_named_up_to_six() -> None:
    names = tuple(f"c{i}" for i in range(9))
    whole = findings(names)
    many = tuple(replace(whole.classes[0], index=i, name=name) for i, name in enumerate(names))
    said = looks(replace(whole, classes=many), names)
    assert said.headline.startswith("9 of 9 classes go by a part")
    assert said.headline.endswith("“c5” by a patch and 3 more.")


def test_what_was_not_confirmed_says_so(tmp_path: Path, blank_charts: None) -> None:
    names = class_names(8)
    whole = findings(names)
    first = replace(whole.classes[0], confirmed=False)
    folder = make_run(tmp_path / "run", classes=8)
    write_shortcuts(folder, names, replace(whole, classes=(first, *whole.classes[1:])))
    page = build_report(folder).read_text()
    assert "The same exchanges chose the part, which makes the share larger than it is." in page


def test_the_page_has_it_in_the_verdict_and_names_are_text(tmp_path: Path, blank_charts: None) -> None:
    folder = make_run(tmp_path / "run", classes=8, shortcuts=True)
    page = build_report(folder).read_text()
    head = page[page.index('<header id="summary">') : page.index("</header>")]
    assert head.index("What it looks at") < head.index("What removing channels costs")
    assert f"<bdi>{escape(NASTY[0])}</bdi>: a patch" in head
    assert NASTY[0] not in page
    assert NASTY[1] not in page
    # Three examples of three pictures, and the command that repairs.
    section = head[head.index('id="look-0"') : head.index("</article>")]
    assert section.count("<img ") - section.count("<img class=") == 9
    # The top patches of two of its channels, which the run has pictured.
    assert section.count('<img class="strip"') == 2
    assert f"<code>interpnet repair {folder}</code>" in head
    # A class without suspicion says so with the power, beside its channels.
    assert page.count("would have been found 8 times of 10.") >= 6
    rows = list(csv.DictReader((folder / "report" / "shortcuts.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert [row["suspicious"] for row in rows] == ["1", *["0"] * 7]
    assert (rows[0]["part"], rows[0]["share"], rows[0]["usual"]) == ("a patch", "0.83", "0.25")
    written = json.loads((folder / "report" / "report.json").read_text())["shortcuts"]
    assert written["level"] == "not shown"
    assert written["classes"][0]["suspicious"] is True
    assert written["classes"][-1]["share"] is None


def test_a_run_of_an_older_version_says_how_to_search(tmp_path: Path, blank_charts: None) -> None:
    folder = make_run(tmp_path / "run", classes=8)
    (folder / "explanations" / "surroundings.json").write_text('{"ways": {}}')
    page = build_report(folder).read_text()
    assert f"<code>interpnet shortcuts {folder}</code> makes it." in page
    assert 'id="looks"' not in page
    assert not (folder / "report" / "shortcuts.csv").exists()
    assert json.loads((folder / "report" / "report.json").read_text())["shortcuts"] is None


def test_what_was_refused_is_said(tmp_path: Path, blank_charts: None) -> None:
    folder = make_run(tmp_path / "run", classes=8)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["stages"]["shortcuts"] = {"state": "complete", "key": "x", "refused": "all of <one> class"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    page = build_report(folder).read_text()
    assert "Nobody knows what it looks at beside the subject: all of &lt;one&gt; class" in page


def test_a_missing_picture_is_named(tmp_path: Path, blank_charts: None) -> None:
    folder = make_run(tmp_path / "run", classes=8, shortcuts=True)
    (folder / "shortcuts" / "c0000_1_made.png").unlink()
    page = build_report(folder).read_text()
    assert "1 pictures are missing or damaged: “c0000_1_made.png”." in page


def test_some_classes_are_shown_alone(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", classes=8, shortcuts=True)
    run = load_run(folder, [0, 3])
    assert run.shortcuts is not None
    assert [one.index for one in run.shortcuts.classes] == [0, 3]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", classes=8, shortcuts=True)
    path = folder / "shortcuts" / "shortcuts.json"
    path.write_text(path.read_text().replace('"classes"', '"klasses"'))
    with pytest.raises(RunFolderError, match="the findings lack 'classes'; search again"):
        load_run(folder)
    path.write_text("{")
    with pytest.raises(RunFolderError, match=r"shortcuts/shortcuts[.]json"):
        load_run(folder)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("top middle", "the middle of the upper edge"),
        ("outside the subject", "what lies outside the subject"),
        ("the colours", "the colours"),
    ],
)
def test_a_part_in_a_sentence(name: str, words: str) -> None:
    assert part_words(name) == words
