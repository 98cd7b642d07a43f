"""A user's own images in the report: a section, left out where their channels are those of an earlier solution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.report_fixture import make_run
from interpnet.pipelines.report.build import build_report

from interpnet.errors import RunFolderError
from interpnet.support.io import read_json, write_json


def with_own(folder: Path, *, solved: str = "ef" * 32, **entry: Any) -> Path:
    """Write a run with one image of a user's, made of its first example."""
    make_run(folder, classes=3, pictured=1)
    made = read_json(folder / "explanations" / "examples.json")
    first = made["examples"][1] | {"name": "my/<b>cat</b>.jpg", "true": None, "dataset_index": None} | entry
    write_json(folder / "explanations" / "user" / "cat-123456.json", made | {"examples": [first], "solved": solved})
    return folder


def test_own_images_are_a_section(tmp_path: Path) -> None:
    folder = with_own(tmp_path)
    page = build_report(folder).read_text(encoding="utf-8")
    section = page[page.index('<section id="own">') : page.index('<section id="classes">')]
    assert 'id="own-0"' in section
    assert "my/&lt;b&gt;cat&lt;/b&gt;.jpg" in section
    assert "weight × score" in section
    assert 'class="tag' not in section, "nobody knows whether the prediction is right"
    assert "As one picture" not in section
    (folder / "explanations" / "user" / "cat-123456.png").write_bytes(b"")
    again = build_report(folder).read_text(encoding="utf-8")
    assert '<a href="../explanations/user/cat-123456.png">This as one picture</a>' in again
    assert '<a href="#own">' in again


def test_what_was_explained_by_other_channels_is_left_out_and_noted(tmp_path: Path) -> None:
    page = build_report(with_own(tmp_path, solved="00")).read_text(encoding="utf-8")
    assert 'id="own"' not in page
    assert "Explained before the channels were named again, and left out here until " in page


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = with_own(tmp_path)
    (folder / "explanations" / "user" / "cat-123456.json").write_text('{"examples": [{}]}', encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"cat-123456.json' lacks 'channels'.*interpnet explain"):
        build_report(folder)
