"""S6's results: the usual shares of the library are those of the command, and the tables count right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.cues import table
from interpnet.shortcuts._reference import USUAL

HERE = Path(table.__file__).parent


def test_the_usual_shares_are_those_that_were_measured() -> None:
    measured = json.loads((HERE / "reference.json").read_text())
    assert measured.keys() == USUAL.keys()
    # The edges' 0.13 was rounded up.
    assert {part: pytest.approx(value, abs=0.011) for part, value in USUAL.items()} == measured


def line(number: int, relies: bool, classes: list[int], lows: list[float], channels=()) -> dict:
    found = [{"index": k, "low": low, "usual": 0.2, "part": "top left"} for k, low in enumerate(lows)]
    behaviour = {"relies": relies, "classes": classes}
    return {"number": number, "classes": found, "behaviour": behaviour, "channels": list(channels), "kind": "stamp"}


LINES = [
    line(1, True, [0], [0.9, 0.1], [[0, 3.0, 0.9, 0.8], [0, 2.0, 0.2, 0.1], [1, 1.0, 0.5, 0.0]]),
    line(2, False, [], [0.3, 0.0], [[0, 1.0, 0.4, 0.0]]),
    line(4, False, [], [0.1, 0.1], [[1, 1.0, 0.6, 0.0]]),
]


def test_by_hand() -> None:
    assert table.suspicion_of(LINES[0]["classes"][0]) == pytest.approx(0.7)
    assert table.worst(LINES[0])["index"] == 0
    assert table.area(LINES).mean == 1.0
    assert table.suspected(LINES, rely=True).mean == 1.0
    # One of the four classes of networks that rely on nothing; the quiet class of the relying network does not count.
    assert table.suspected(LINES, rely=False).mean == 0.25
    assert table.channel_area(LINES).mean == 1.0


def test_channels_of_unsuspected_classes_come_last() -> None:
    swapped = [line(1, True, [0], [0.1, 0.9], [[0, 1.0, 1.0, 0.9], [1, 1.0, 0.2, 0.0]])]
    assert table.channel_area(swapped).mean == 0.0
