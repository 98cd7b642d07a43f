"""S1's script: a trial of seconds, resumed; what counts as relying, flagged and repaired, on hand-made lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from experiments.common.pages import END, begin
from experiments.shortcuts import run, table
from experiments.shortcuts.plan import CONTRASTS, KINDS, SETS, subjects, whole
from interpnet.datasets import make_loader
from interpnet.models import SmallCNN
from interpnet.scores import collect_scores


def test_the_sets_share_no_seed_and_hold_every_kind() -> None:
    both = {name: subjects(name) for name in SETS}
    seeds = [s.seed for found in both.values() for s in found]
    assert len(set(seeds)) == len(seeds) == 80
    for name, found in both.items():
        assert [s.number for s in found] == list(range(40))
        assert {s.kind for s in found} == {*KINDS, None}
        assert {s.strength for s in found if s.kind} == {0.7, 0.8, 0.9, 0.95, 1.0}
        assert sum(s.kind is None for s in found) == 10
        for kind in (*KINDS, None):
            here = [s for s in found if s.kind == kind]
            assert {s.hidden for s in here} == {0, 32}
            assert {s.contrast for s in here} == set(CONTRASTS[name])


def test_a_quick_trial_resumes_and_fills_every_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--quick", "--work", str(tmp_path / "work"), "--out", str(tmp_path)]
    run.main(words)
    planted, clean = json.loads((tmp_path / "evaluation.json").read_text())
    assert (planted["kind"], clean["kind"]) == ("background", None)
    assert planted["behaviour"]["reliance"] == pytest.approx(
        planted["behaviour"]["agree"] - planted["behaviour"]["disagree"], abs=1e-4
    )
    assert clean["behaviour"]["reliance"] == 0.0
    assert clean["repairs"] == {}
    assert planted["repairs"]["as it is"]["disagree"] == planted["behaviour"]["disagree"]
    assert planted["repairs"]["as it is"]["clean"] == planted["behaviour"]["clean"]
    assert {table.PROPOSED, table.WITH_MASKS} <= set(planted["statistics"])
    for line in (planted, clean):
        assert all(np.isfinite(v) for v in line["statistics"].values())
        for channel in line["channels"]:
            assert channel["weight"] != 0
            assert all(channel[k] is None or 0 <= channel[k] <= 1 for k in ("disc", "mask", "truth"))
            assert -1e-9 <= channel["outside"] <= 1 + 1e-9
    assert all(channel["truth"] == 0 for channel in clean["channels"])
    monkeypatch.setattr(run, "examined", None)  # what is there is not done again
    run.main(words)


def line_of(number: int, reliance: float, suspicion: float, channels: list[dict[str, Any]]) -> dict[str, Any]:
    repairs = {
        "as it is": {"agree": 1.0, "disagree": 1.0 - reliance, "clean": 0.8, "removed": 0},
        "flagged removed (disc)": {"agree": 0.9, "disagree": 1.0 - reliance / 2, "clean": 0.7, "removed": 2},
    }
    return {
        "number": number,
        "seed": number,
        "kind": KINDS[0] if number % 2 else None,
        "strength": 1.0,
        "contrast": 0.5,
        "hidden": 0,
        "commit": "abc",
        "seconds": 60.0,
        "seconds_training": 30.0,
        "channels": channels,
        "behaviour": {"clean": 0.8, "validation": 0.9, "reliance": reliance},
        "statistics": {table.PROPOSED: suspicion, table.WITH_MASKS: suspicion / 2},
        "repairs": repairs,
    }


def channel(disc: float | None, truth: float | None, **more: float) -> dict[str, Any]:
    return {
        "class": 0,
        "column": 0,
        "layer": "a",
        "weight": 1.0,
        "disc": disc,
        "mask": disc,
        "outside": 0.1,
        "difference": 1.0,
        "truth": truth,
        **more,
    }


def test_relying_begins_at_ten_points() -> None:
    assert table.relies(line_of(1, 0.10, 0, []))
    assert not table.relies(line_of(1, 0.0999, 0, []))


def test_the_area_counts_pairs_in_order() -> None:
    area, low, high = table.auc([True, True, False, False], [4.0, 2.0, 3.0, 1.0])
    assert area == 0.75
    assert np.isnan(table.auc([True, True], [1.0, 2.0])).all()  # nothing to tell apart
    rng = np.random.default_rng(1)
    truth = rng.random(30) > 0.5
    values = rng.integers(0, 9, 30)
    assert table.auc(truth.tolist(), values.tolist())[0] == pytest.approx(roc_auc_score(truth, values))
    assert 0 <= low <= area <= high <= 1
    assert table.auc([True, False, True, False] * 5, [1.0, 0.0] * 10) == (1.0, 1.0, 1.0)


def test_the_area_of_a_draw_is_that_of_the_rows_drawn() -> None:
    rng = np.random.default_rng(2)
    truth = rng.random(40) > 0.5
    values = rng.integers(0, 9, 40).astype(float)  # many are tied
    unit = np.repeat(np.arange(10), 4)
    times = rng.multinomial(10, np.full(10, 0.1), size=20)
    rows = [np.repeat(np.arange(40), one[unit]) for one in times]
    expected = [roc_auc_score(truth[one], values[one]) for one in rows]
    assert table.areas(truth, values, unit, times) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(table.areas(np.array([True, False]), np.array([1.0, 2.0]), np.arange(2), np.array([[2, 0]]))).all()


def test_flagged_channels_by_hand() -> None:
    found = [channel(0.9, 0.8), channel(0.8, 0.2), channel(0.3, 0.7), channel(None, 0.1), channel(0.1, 0.0)]
    told = table.flag_quality(found, "disc", 0.7)
    assert told["flagged"] == 2
    assert told["precision"] == 0.5
    assert told["recall"] == 0.5
    # True ones at 0.9 and 0.3 against 0.8, unknown and 0.1: five of six pairs in order.
    assert told["auc"] == pytest.approx(5 / 6)
    assert table.flag_rate(found, "disc", 0.7) == 0.4


def test_tables_and_figure(tmp_path: Path) -> None:
    lines = [
        line_of(i, 0.05 * i, 0.1 * i, [channel(0.1 * i, 0.1 * i), channel(0.9 - 0.1 * i, 0.3, difference=0.1 * i)])
        for i in range(8)
    ]
    (tmp_path / "evaluation.json").write_text(json.dumps(lines))
    (tmp_path / "README.md").write_text(f"words\n{begin(table.COMMAND)}\nold\n{END}\n")
    table.write_readme(tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert f"| **{table.PROPOSED}** | 1.00 (1.00 to 1.00) | +1.00 | – |" in page
    assert "8 networks, 4 with a planted cue, of which 6 rely on it" in page
    relying = [x for x in lines if table.relies(x)]
    assert table.repair_gains(lines, "flagged removed (disc)", "disagree") == pytest.approx(
        [100 * x["behaviour"]["reliance"] / 2 for x in relying]
    )
    assert "| flagged removed (disc) | 2.0 |" in page
    assert "old" not in page
    assert (tmp_path / "reliance.png").stat().st_size > 1000


def test_a_cue_that_moves_a_channel_is_told_from_the_class(tmp_path: Path) -> None:
    """A colour filter over the whole image answers the background's colour, whatever the petals are."""
    from experiments.shortcuts.audit import Audited, cue_share
    from interpnet.interpretation import interpret

    subject = next(s for s in subjects("evaluation") if s.kind == "background" and s.strength == 1.0)
    data = subject.data("train", tmp_path, n=48)
    model = SmallCNN(3, 6, 64, 4, seed=0).eval()
    table_ = collect_scores(model, make_loader(data, batch_size=48), progress=False)
    found = interpret(table_, mu=5.0, classes=data.classes)
    images = whole(data)[0]
    shares = cue_share(Audited(subject, model, table_, found, images, data, {}), tmp_path, n=120)
    assert np.nanmedian(shares) > 0.8  # an untrained network sees the background most
    clean = next(s for s in subjects("evaluation") if s.kind is None)
    assert cue_share(Audited(clean, model, table_, found, images, data, {}), tmp_path).tolist() == [
        [0.0] * len(found.channels)
    ] * len(data.classes)
