"""S6's results: the usual shares of the library are those of the command, and the tables count right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from experiments.cues import table
from experiments.cues.compared import SPLITS, better_split
from experiments.cues.plan import CHOOSE, chooses
from experiments.cues.rivals import STATISTICS
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


def test_how_far_ahead_is_counted_network_by_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_DRAWS", 100)
    rng = np.random.default_rng(0)
    truth = {number: number % 2 == 0 for number in range(CHOOSE - 15, CHOOSE + 25)}
    networks = [{"number": number, "behaviour": {"relies": rely, "classes": []}} for number, rely in truth.items()]
    ours = [line(number, rely, [], [float(rng.random()) + 0.4 * rely, 0.0]) for number, rely in truth.items()]
    rivals = [
        {"number": number} | {split: {key: [0.0, float(rng.random())] for key in STATISTICS} for split in SPLITS}
        for number in truth
    ]
    name = next(iter(STATISTICS))
    split = better_split(rivals, networks, name)
    rest = [number for number in truth if not chooses(number)]
    relies = np.array([truth[number] for number in rest])
    mine = np.array([table.suspicion_of(table.worst(one)) for one in ours if one["number"] in rest])
    theirs = np.array([max(one[split][name]) for one in rivals if one["number"] in rest])

    def gain(rows: np.ndarray) -> float:
        return roc_auc_score(relies[rows], mine[rows]) - roc_auc_score(relies[rows], theirs[rows])

    draws = np.random.default_rng(0)
    gains = [gain(draws.integers(0, len(rest), len(rest))) for _ in range(100)]
    expected = (gain(np.arange(len(rest))), *np.quantile(gains, [0.025, 0.975]))
    assert table.ahead(ours, networks, rivals)[name] == pytest.approx(expected, abs=1e-12)
