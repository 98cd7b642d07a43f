"""What a patch moves, in the report: words by hand, pictures before and after, names as text, and runs without it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from helpers.report_fixture import NASTY, class_names, make_run
from helpers.shortcut_findings import findings, write_shortcuts
from interpnet.pipelines.report.build import build_report
from interpnet.pipelines.report.carriers import Strips
from interpnet.pipelines.report.inside import inside_section
from interpnet.pipelines.report.load import RunData
from interpnet.pipelines.report.pictures import Pictures
from interpnet.pipelines.report.section import Section
from interpnet.pipelines.run.shortcuts import SHORTCUTS_FILE
from markupsafe import escape

from interpnet.engine import Channel
from interpnet.plotting import save_png
from interpnet.shortcuts import Example, Moved, Pasted
from interpnet.support.io import read_object, write_json

NAMES = ("carton", "cat", "dog", "owl")
RAISED = Moved(3.0, 0.5, 2.5, 1.5, 3.5, 0.001)
FELL = Moved(4.0, 0.25, 3.75, 3.0, 4.5, 0.002)


def pasted(name: str, *, p: float = 0.001, index: int = 4) -> Pasted:
    into = Example(3, 40, 1, 0, -2.0, 3.0, None)
    out_of = Example(40, 40, 0, 1, 3.0, -2.0, None)
    return Pasted(
        index=0,
        name=name,
        channel=Channel("layer3.0.relu", index),
        n=12,
        area=0.04,
        gap=8.0,
        raised=replace(RAISED, p=p),
        fell=FELL,
        reordered=1.0,
        elsewhere=2.0,
        taken=0.5,
        taken_before=0.0,
        taken_control=0.1,
        pasted=(into,),
        removed=(out_of,),
    )


def section(*found: Pasted, shown: Any = ()) -> Section | None:
    whole = replace(findings(NAMES), inside=found)
    run = RunData(Path("run"), {}, NAMES, shortcuts=whole, beside={"inside": list(shown)})
    pictures = Pictures(Path("nowhere"))
    return inside_section(run, pictures, Strips(run, pictures))


def test_a_channel_in_words() -> None:
    made = section(pasted("carton"), pasted("carton", p=0.4, index=5))
    assert made is not None
    assert made.headline == (
        "What 1 of 2 channels answer to moves other images to the class: “carton” by layer3.0.relu[4]."
    )
    assert made.level == "mixed"
    view = made.view.shown[0]
    assert view.sentence == (
        "Pasted from 12 images of “carton” into others, it raises the class's log-odds by +3.00: +2.50 (1.50 to 3.50) "
        "beyond a patch of the same form from where the channel is quiet. With its pixels in another order it is "
        "+1.00, at another place +2.00. 50.0 % of these images are taken for the class then, 0.0 % before. Taken out "
        "of the class's own images it changes them by −3.75 beyond the control. +8.00 sets the class's images apart "
        "from others."
    )
    assert view.channel.said == "the patch covers 4.0 % of an image on average"
    assert made.view.still == 1
    assert [fact["raised_p"] for fact in made.facts] == [0.001, 0.4]
    assert made.facts[0]["share"] == 2.5 / 8


def test_patches_that_move_nothing_say_so_and_no_patch_has_no_section() -> None:
    made = section(pasted("carton", p=0.4))
    assert made is not None
    assert made.headline == "What 1 channels of suspicious classes answer to moves no other image to the class."
    assert made.level == "shown"
    assert section() is None


def test_many_channels_are_folded() -> None:
    made = section(*(pasted("carton", index=i) for i in range(6)))
    assert made is not None
    assert (len(made.view.shown), len(made.view.folded)) == (3, 3)
    assert made.headline.endswith("layer3.0.relu[3] and 2 more.")


def test_the_page_has_its_pictures_and_names_are_text(tmp_path: Path, blank_charts: None) -> None:
    run = make_run(tmp_path / "run", classes=8)
    names = class_names(8)
    write_shortcuts(run, names, replace(findings(names), inside=(pasted(names[0]),)))
    files = {"pasted": [["a.png", "b.png", "c.png"]], "removed": [["d.png", "e.png"]]}
    for name in "abcde":
        save_png(run / "shortcuts" / f"{name}.png", np.full((24, 24, 3), 90, np.uint8))
    entry = {"index": 0, "channel": ["layer3.0.relu", 4], **files}
    write_json(run / SHORTCUTS_FILE, read_object(run / SHORTCUTS_FILE) | {"shown": {"inside": [entry]}})
    page = build_report(run).read_text()
    assert 'id="inside-0"' in page
    section = page[page.index('id="inside-0"') :]
    section = section[: section.index("</article>")]
    assert section.count("<img ") - section.count("<img class=") == 5
    assert "gives the patch" in section
    assert "without the patch" in section
    assert NASTY[0] not in page
    assert f"<bdi>{escape(NASTY[0])}</bdi>: what layer3.0.relu[4] answers to" in page
    facts = json.loads((run / "report/report.json").read_text())["shortcuts"]["inside"]
    assert facts[0]["channel"] == "layer3.0.relu[4]"
