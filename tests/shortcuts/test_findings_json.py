"""Findings go to JSON and back without their pictures, and what is no findings is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from interpnet.engine import Channel
from interpnet.errors import RunFolderError
from interpnet.shortcuts import CarryingChannel, ClassFinding, Example, Findings, findings_json, read_findings

NAN = float("nan")
PICTURES = torch.zeros(3, 1, 8, 8)
EXAMPLE = Example(3, 5, 0, 1, -2.5, 4.125, PICTURES, torch.zeros(2, 8, 8, dtype=torch.bool))
CHANNEL = CarryingChannel(Channel("a", 4), 0.75, 1.5, ((1, 8), (0, 2)))
CAT = ClassFinding(
    1, "<cat>", "a patch", "patch", 0.83, 0.74, 0.91, 0.25, 0.31, 0.9, 0.05, True, 40, (CHANNEL,), (EXAMPLE,)
)
DOG = ClassFinding(0, "dog", "the frame", "frame", NAN, NAN, NAN, 0.5, NAN, NAN, NAN, False, 1, (), ())
TABLE = np.array([[0.125, NAN], [0.5, 0.83]])
FOUND = Findings((CAT, DOG), ("the frame", "a patch"), TABLE, TABLE - 0.1, TABLE + 0.1, 6.0, 41, ("a note",))


def test_what_is_read_is_what_was_found_without_its_pictures() -> None:
    read = read_findings(json.loads(json.dumps(findings_json(FOUND), allow_nan=False)))
    cat, dog = read.classes
    assert cat == replace(CAT, examples=(replace(EXAMPLE, pictures=None, places=None),))
    assert (dog.index, dog.name, dog.n, dog.confirmed) == (0, "dog", 1, False)
    assert np.isnan([dog.share, dog.low, dog.high, dog.detectable, dog.raised, dog.raised_before]).all()
    assert (read.parts, read.passes, read.n, read.notes) == (FOUND.parts, 6.0, 41, ("a note",))
    for name in ("shares", "low", "high"):
        np.testing.assert_allclose(getattr(read, name), getattr(FOUND, name), rtol=1e-5)
    assert [one.name for one in read.suspicious] == ["<cat>"]


def test_numbers_in_the_file_are_those_of_a_hand_made_case() -> None:
    written = findings_json(FOUND)
    assert written["format"] == "interpnet-shortcuts-1"
    assert written["shares"] == [[0.125, None], [0.5, 0.83]]
    entry = written["classes"][0]
    assert (entry["name"], entry["part"], entry["share"]) == ("<cat>", "a patch", 0.83)
    assert entry["channels"] == [
        {"channel": ["a", 4], "share": 0.75, "contribution": 1.5, "top_classes": [[1, 8], [0, 2]]}
    ]
    assert entry["examples"] == [
        {"rest": 3, "donor": 5, "before": 0, "after": 1, "odds_before": -2.5, "odds_after": 4.125}
    ]


def changed(**values: Any) -> dict[str, Any]:
    return findings_json(FOUND) | values


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "the format None came; expected 'interpnet-shortcuts-1': search again"),
        (changed(format="interpnet-shortcuts-2"), "format 'interpnet-shortcuts-2' came.*the version that wrote them"),
        ({"format": "interpnet-shortcuts-1"}, "the findings lack 'shares'; search again"),
        (changed(classes=[{}]), "the findings lack 'channels'"),
        (changed(classes=5), "the findings cannot be read"),
        (changed(shares=[["x"]]), "the findings cannot be read"),
    ],
)
def test_what_is_no_findings_is_refused(value: Any, message: str) -> None:
    with pytest.raises(RunFolderError, match=message):
        read_findings(value)


def test_a_later_field_does_not_matter() -> None:
    written = changed(news=1)
    written["classes"][0]["news"] = 2
    assert read_findings(written).classes[0].part == "a patch"


def test_reading_does_not_load_torch() -> None:
    code = "import sys; from interpnet.shortcuts import read_findings; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "False"
