"""S6's repairs: their tables count right, the page says what was measured, and a trial of a toy runs and resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.common.pages import committed
from experiments.cues import plan, repaired, repaired_table, train
from experiments.cues.plan import Subject
from experiments.cues.pools import Pool
from interpnet.errors import DataError


def line(disagree: float, **ways: float) -> dict[str, Any]:
    """Return a network right at 0.2 where the cue disagrees, and what each way makes of that."""

    def shown(value: float) -> dict[str, float]:
        return {"natural": 0.9, "agree": 1.0, "disagree": value, "absent": 0.5 + value / 10}

    found = {name: shown(value) for name, value in ways.items()}
    return {"round": 2, "relies": True, "before": shown(disagree), "parts": ["a patch"], "kind": "tag", **found}


LINES = [line(0.2, ours=0.6, dfr=0.5), line(0.2, ours=0.4, dfr=0.3), line(0.3, dfr=0.5)]


def test_rises_by_hand() -> None:
    rise = repaired_table.change(LINES, "ours", "disagree")
    # Nothing was suspicious of the third, so that it is as before.
    assert rise.mean == pytest.approx((0.4 + 0.2 + 0.0) / 3)
    assert rise.low == pytest.approx(0.0)
    assert rise.high == pytest.approx(0.4)
    assert repaired_table.change(LINES, "ours", "absent").mean == pytest.approx(0.02)
    assert repaired_table.share_of_dfr(LINES).mean == pytest.approx(0.6 / 0.6)
    assert repaired_table.ahead(LINES, "dfr").mean == pytest.approx((0.1 + 0.1 - 0.2) / 3)


def test_a_way_counts_on_the_networks_that_it_was_done_for() -> None:
    lines = [line(0.2, ours=0.6, jtt=0.3), line(0.2, ours=0.2)]
    assert repaired_table.had(lines, "jtt") == lines[:1]
    assert repaired_table.had(lines, "ours") == lines
    assert repaired_table.ahead(lines, "jtt").mean == pytest.approx(0.3)


def test_the_page_says_what_was_measured() -> None:
    lines = committed(repaired.__file__, "repaired.json")
    assert repaired_table.text(lines).strip() in (repaired.HERE / "README.md").read_text()
    by_number = {subject.number: subject for subject in plan.subjects()}
    for one in lines:
        assert by_number[one["number"]].split == "report"
        assert by_number[one["number"]].kind == one["kind"]
        assert {"before"} <= one.keys()
        assert one["round"] in {1, 2}
        assert (one["relies"] and "dfr" in one) or not one["relies"]


def test_refusals_are_counted_by_their_reason_and_rounds_are_told_apart() -> None:
    lines = [line(0.2), line(0.2), line(0.3), {**line(0.4), "round": 1}]
    for one, why in zip(lines, ("costs 3 % of clean accuracy", "no gain stands out", "", "no gain"), strict=True):
        one |= {"accepted": not why, "why": why}
    assert repaired_table.relying(lines) == lines[:3]
    assert repaired_table.relying(lines, 1) == lines[3:]
    assert [repaired_table.refused(lines[:3], why) for why in ("gain", "costs")] == [1, 1]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Subject:
    """Noise, whose four classes differ in brightness, with a border; a network trained for two epochs."""
    rng = np.random.default_rng(0)
    labels = np.arange(420) % 4
    images = (12 * labels[:, None, None, None] + rng.integers(0, 90, (420, 3, 32, 32))).astype(np.uint8)
    made = Pool(images, labels, np.ones((420, 32, 32), dtype=bool), ("a", "b", "c", "d"))
    monkeypatch.setattr(plan, "pool", lambda source, part, work: made)
    monkeypatch.setitem(plan.PARTS, "mnist", (240, 100, 80))
    monkeypatch.setitem(train.EPOCHS, "mnist", 3)
    return Subject(250, "mnist", "border", decoy=False, strength=1.0, everyone=True, architecture="average")


def test_a_toy_is_repaired_and_its_groups_are_class_and_cue(toy: Subject, tmp_path: Path) -> None:
    train.trained(toy, tmp_path)
    one = repaired.repaired_line(toy, tmp_path, relies=True)
    assert {"before", "parts", "dfr", "dfr_natural", "afr"} <= one.keys()
    assert one["parts"] == [] or {"ours", "accepted"} <= one.keys()
    assert set(one["before"]) == set(repaired_table.SHOWN)
    groups = repaired._grouped(toy, plan.split_of(toy, "test", tmp_path, draw="disagree"))
    assert torch.equal(groups.groups, 2 * groups.labels)  # none bears its own class's cue
    assert set(repaired.jtt_line(toy, tmp_path)) == {*repaired_table.SHOWN, "seconds"}


def test_without_the_networks_the_command_says_how_to_train_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not here: train it with python -m experiments"):
        repaired.worked_on(tmp_path, "0-999")
