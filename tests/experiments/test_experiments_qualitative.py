"""E2's script: a trial of seconds, resumed; the rule that chooses channels; grid, concentration and differences."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.common.claims import VERDICTS
from experiments.common.pages import END, begin
from experiments.qualitative import claims, run, sheet, table
from experiments.qualitative.choose import choose, correlations
from experiments.qualitative.maps import ABSOLUTE, BLURRED, SIGNALS, UPSAMPLED, blurred, half_mass
from interpnet.engine import Channel, ChannelIndex
from interpnet.interpretation import Interpretation
from interpnet.scores import ScoreTable


@pytest.mark.filterwarnings("ignore:.*zero everywhere")
def test_a_quick_trial_resumes_and_measures_every_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--quick", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "results.json")]
    run.main(words)
    (line,) = json.loads((tmp_path / "results.json").read_text())
    assert (len(line["shown"]), len(line["measured"])) == (9, 18)  # images times levels
    assert {x["level"] for x in line["measured"]} == {"low", "middle", "high"}
    for x in line["measured"]:
        assert set(x["maps"]) == {UPSAMPLED, *SIGNALS, ABSOLUTE, BLURRED}
        assert all(0 <= value <= 1 for values in x["maps"].values() for value in values.values())
        same = x["maps"]["guided, plain"] == x["maps"]["guided, resampled"]
        assert same is not x["strided"]  # without a stride below, resampling changes nothing; with one, it does
    high = [x["maps"] for x in line["measured"] if x["level"] == "high"]
    assert np.mean([m["guided, resampled"]["grid"] for m in high]) < np.mean([m["guided, plain"]["grid"] for m in high])
    assert (tmp_path / "flowers.png").stat().st_size > 10_000
    monkeypatch.setattr(run, "measured", None)  # what is there is not done again
    run.main(words)


CHANNELS = ChannelIndex((("a", 2), ("b", 2), ("c", 2)))


def scores(X: list[list[float]], labels: list[int]) -> ScoreTable:
    rows = np.array(X, dtype=np.float32)
    numbers = np.array(labels)
    return ScoreTable(rows, numbers, numbers, CHANNELS, np.arange(len(rows)), 2)


def test_the_largest_response_of_a_third_is_chosen_and_the_correlation_where_there_is_none() -> None:
    coef = np.array([[1.0, 2.0, -3.0, 0.0, 0.0, 0.5], np.zeros(6)])
    found = Interpretation(CHANNELS, coef, ("x", "y"))
    known = scores([[0, 0, 1, 0.2, 0, 0], [0, 0, 0, 0.3, 0, 0], [0, 0, 0, 0.4, 0, 0]], [0, 1, 1])
    low, middle, high = choose(found, known, [0.9, 0.4, 1.0, 0.0, 5.0, 0.1], 0)
    assert (low.channel, low.relevant) == (Channel("a", 0), True)  # 0.9 * 1 beats 0.4 * 2
    # Only a negative weight in the middle: b0's score is high where the label is 0, b1's is low.
    assert (middle.channel, middle.relevant) == (Channel("b", 0), False)
    assert (high.channel, high.relevant) == (Channel("c", 1), True)  # the other's score is higher, its weight is zero


def test_correlations_agree_with_numpy_and_a_constant_score_has_none() -> None:
    rng = np.random.default_rng(0)
    X = rng.random((8, 6)).astype(np.float32)
    X[:, 3] = 0.5
    labels = [0, 1, 0, 1, 1, 0, 0, 1]
    found = correlations(scores(X.tolist(), labels), 1)
    expected = [0.0 if j == 3 else np.corrcoef(X[:, j], labels)[0, 1] for j in range(6)]
    assert found == pytest.approx(expected, abs=1e-6)


def test_half_of_a_blank_map_lies_nowhere() -> None:
    maps = torch.tensor([[[0.0, 0.0], [0.0, 0.0]], [[5.0, 3.0], [1.0, 1.0]], [[4.0, 3.0], [2.0, 1.0]]])
    assert half_mass(maps).tolist() == [0.0, 0.25, 0.5]


def test_pictures_are_enlarged_in_whole_pixels_and_the_detail_is_where_the_map_is_strong() -> None:
    picture = torch.tensor([[[0.0, 1.0], [0.5, 0.25]]])
    large = sheet.fitted(picture, 4)
    assert large[:2, 2:, 0].tolist() == [[1.0, 1.0], [1.0, 1.0]]
    heat = torch.zeros(20, 20)
    heat[12, 7] = 1.0
    row, column = sheet.window(heat, 4)
    assert row <= 12 < row + 4
    assert column <= 7 < column + 4


def line_of(image: int, level: str, plain: float, resampled: float, iou: float | None = None) -> dict[str, object]:
    maps = {name: {"half": 0.1, "grid": plain} for name in SIGNALS}
    maps["guided, resampled"] = {"half": 0.2, "grid": resampled}
    maps.update({name: {"half": 0.3} for name in (UPSAMPLED, ABSOLUTE, BLURRED)})
    if iou is not None:
        for name, values in maps.items():
            values["iou"] = iou + 0.01 * image if name == "guided, resampled" else 0.1
    return {
        "image": image,
        "class": "x",
        "level": level,
        "layer": "a",
        "channel": 0,
        "relevant": level != "low",
        "strided": level != "low",
        "maps": maps,
    }


def result_of(subject: str, plain: float, resampled: float, iou: float | None = None) -> dict[str, object]:
    lines = [
        line_of(i, level, plain + 0.001 * i, resampled, iou) for i in range(4) for level in ("low", "middle", "high")
    ]
    return {"subject": subject, "images": 4, "seconds": 60.0, "commit": "abc", "shown": [], "measured": lines}


def test_a_grid_that_falls_by_less_than_half_somewhere_holds_in_part() -> None:
    gone = result_of("squeezenet", 0.1, 0.01)
    assert claims.no_grid([gone]).verdict == "holds"
    part = claims.no_grid([gone, result_of("resnet20", 0.1, 0.06)])
    assert part.verdict == "holds in part"
    assert "ResNet-20" in part.reason
    assert "SqueezeNet" not in part.reason
    assert claims.no_grid([result_of("squeezenet", 0.1, 0.2)]).verdict == "does not hold"
    assert "10.2 to 1.0 %, −9.2 (−9.4 to −8.9)" in claims.no_grid([gone]).figure  # 10.0, 10.1, 10.2, 10.3 less 1.0


def test_overlap_needs_a_mask_and_an_interval_above_zero() -> None:
    assert claims.overlap([result_of("squeezenet", 0.1, 0.01)]) == []
    better = claims.overlap([result_of("flowers", 0.1, 0.01, 0.3)])
    assert [c.verdict for c in better] == ["holds", "holds"]
    assert "low +21.5 (+19.4 to +23.6)" in better[0].figure  # 30, 31, 32, 33 less 10
    same = claims.overlap([result_of("flowers", 0.1, 0.01, 0.085)])  # differences of -1.5 to +1.5 points
    assert [c.verdict for c in same] == ["does not hold", "does not hold"]
    assert "low +0.0 (+0.0 to +0.0), middle" in same[1].tested  # blurred, in place of the enlarged map


def test_a_blur_keeps_the_sum_of_what_lies_inside() -> None:
    maps = torch.zeros(1, 31, 31)
    maps[0, 15, 15] = 2.0
    soft = blurred(maps)
    assert soft.shape == maps.shape
    assert float(soft.sum()) == pytest.approx(2.0, rel=1e-4)
    assert float(soft[0, 15, 17] / soft[0, 15, 15]) == pytest.approx(np.exp(-0.5), rel=1e-3)  # two pixels: one sigma


def test_the_tables_part_channels_below_the_first_stride(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"words\n{begin(table.PAGE.command)}\nold\n{END}\nmore\n")
    table.PAGE.write(page, [result_of("flowers", 0.1, 0.01, 0.3)])
    written = page.read_text()
    assert "| single-6c, small network | middle | 4 | 10.2 | 1.0 |" in written
    assert "| single-6c, small network | low, nothing strided below | 4 | 10.2 | 1.0 | – |" in written
    assert "| single-6c, small network | low | 0 | 30.0 / 10.0 / 20.0 | 10.0 / 10.0 / 31.5 |" in written
    assert "old" not in written


def test_claims_are_read_from_the_committed_results() -> None:
    found = claims.claims()
    assert {c.key for c in found} == {"E2"}
    assert all(c.verdict in VERDICTS for c in found)
