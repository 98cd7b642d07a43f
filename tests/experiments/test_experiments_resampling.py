"""Q3 and Q4: the factorial's arithmetic by hand, and a trial of seconds that resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.common.pages import END, begin
from experiments.resampling import claims, measure, run, table

HERE = Path(run.__file__).parent

CELLS = [(s, h) for s in ("channels", "logit") for h in ("plain", "resampled")]


def scores(cp: float, cr: float, lp: float, lr: float, blurred: float = 0.0) -> dict[str, float]:
    """One network's scores, the same for every rule and reduction; ``blurred``: of all maps blurred by 2 pixels."""
    found: dict[str, float] = {}
    for (start, how), value in zip(CELLS, (cp, cr, lp, lr), strict=True):
        for rule in ("gradient", "deconvnet", "guided"):
            found[f"grid/{rule}/{start}/{how}"] = 0.25
            for reduction in ("positive", "abs"):
                found[f"rank/{rule}/{start}/{how}/{reduction}"] = value
                found[f"structure/{rule}/{start}/{how}/{reduction}"] = value
                for blur in measure.BLURS:
                    found[f"iou/{rule}/{start}/{how}/{reduction}/{blur}"] = blurred if blur == 2 else value
    return found


def line(seed: int, found: dict[str, float], data: str = "single-6c") -> dict[str, Any]:
    return {
        "data": data,
        "architecture": "smallcnn",
        "seed": seed,
        "images": 4,
        "seconds": 6.0,
        "commit": "abc",
        "scores": found,
    }


def test_effects_by_hand() -> None:
    found = table.effects([scores(0.3, 0.5, 0.1, 0.2), scores(0.3, 0.5, 0.1, 0.2)], "iou", "guided", "positive/0")
    expected = {
        "channels": 0.25,  # (0.3 + 0.5) / 2 - (0.1 + 0.2) / 2
        "resampling": 0.15,  # (0.5 + 0.2) / 2 - (0.3 + 0.1) / 2
        "resampling, channels": 0.2,
        "resampling, logit": 0.1,
        "interaction": 0.1,
        "excess": 0.1,
    }
    assert {name: round(mean, 9) for name, (mean, _, _) in found.items()} == expected
    assert all(low == pytest.approx(high) for _, low, high in found.values())  # equal networks: no spread
    apart = table.effects([scores(0.3, 0.4, 0, 0), scores(0.3, 0.6, 0, 0)], "iou", "guided", "positive/0")
    mean, low, high = apart["resampling, channels"]
    assert (mean, high - mean) == (pytest.approx(0.2), pytest.approx(12.706 * 0.1, rel=1e-3))
    assert low == pytest.approx(0.2 - 12.706 * 0.1, rel=1e-3)


def test_resampling_is_held_against_the_best_blur() -> None:
    networks = [scores(0.3, 0.5, 0.1, 0.2, blurred=0.45)] * 2
    best, (mean, _, _) = table.over_blur(networks, "guided", "channels", "positive")
    assert (best, mean) == (2, pytest.approx(0.05))
    assert table.over_blur([scores(0.3, 0.5, 0.1, 0.2)], "guided", "channels", "positive")[0] == 0
    # Each at its best: 0.45 (blurred) and 0.5 (as it is) from channels, 0.45 (blurred) twice from the logit.
    found = table.effects(table.at_best_blur(networks, "guided", "positive"), "iou", "guided", "positive/best")
    assert {
        k: round(v[0], 9) for k, v in found.items() if k in {"channels", "resampling, channels", "interaction"}
    } == {
        "channels": 0.025,
        "resampling, channels": 0.05,
        "interaction": 0.05,
    }


def test_maps_are_blurred_before_they_are_scaled_and_combined() -> None:
    raw = torch.zeros(1, 2, 3, 9, 9)
    raw[0, 0, 0, 4, 4] = 5.0
    raw[0, 1, 2, 1, 1] = 1.0
    raw[0, 1, 1, 7, 7] = -3.0
    sharp = measure.combined(raw, "positive")
    assert sharp.nonzero().tolist() == [[0, 1, 1], [0, 4, 4]]  # each channel scaled to 1; negative parts dropped
    assert sharp.max() == sharp[0, 1, 1] == 1
    assert measure.combined(raw, "abs")[0, 7, 7] == 1
    soft = measure.combined(raw, "positive", blur=1)
    assert soft[0, 4, 4] == 1
    assert soft[0, 4, 5] == pytest.approx(float(torch.exp(torch.tensor(-0.5))), abs=0.01)


def test_verdicts_follow_the_intervals() -> None:
    found = [
        *(line(s, scores(0.3, 0.5, 0.6, 0.7, blurred=0.6)) for s in (0, 1)),
        line(0, scores(0, 0, 0, 0), "cifar10"),  # one network decides nothing
    ]
    resampled, blurred, channels, sensitive = claims.claims(found)
    assert resampled.verdict == "holds"
    assert "smallcnn single-6c guided +20.0 (+20.0 to +20.0)" in resampled.figure
    assert (blurred.verdict, channels.verdict) == ("does not hold", "does not hold")
    assert blurred.figure == "smallcnn single-6c −10.0 (−10.0 to −10.0)"
    assert "resampling changes smallcnn single-6c +0.0 (+0.0 to +0.0)" in blurred.tested  # both at 60 %
    assert sensitive.verdict == "holds"  # -0.25 by the channels, +0.15 by resampling
    assert {claim.verdict for claim in claims.claims([])} == {"open"}


@pytest.mark.filterwarnings("ignore:.*zero everywhere")
def test_a_quick_trial_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--quick", "--subjects", "single-6c", "--work", str(tmp_path), "--out", str(tmp_path / "results.json")]
    run.main(words)
    (found,) = json.loads((tmp_path / "results.json").read_text())
    cells = {tuple(name.split("/")) for name in found["scores"]}
    assert {c[0] for c in cells} == {"iou", "rank", "structure", "grid"}
    assert len(cells) == 4 * (2 * 5 + 2 * 2 + 1)  # combinations x (overlaps + likenesses + grid)
    assert all(-1 <= value <= 1 for value in found["scores"].values())
    shares = {how: found["scores"][f"grid/guided/channels/{how}"] for how in ("plain", "resampled")}
    assert shares["resampled"] < shares["plain"]
    monkeypatch.setattr(run, "measured", None)  # what is there is not done again
    run.main(words)


def test_tables_and_figure(tmp_path: Path) -> None:
    lines = [*(line(s, scores(0.3, 0.5, 0.1, 0.2)) for s in (0, 1))]
    page = tmp_path / "README.md"
    page.write_text(f"{begin(table.PAGE.command)}\nold\n{END}\n")
    table.PAGE.write(page, lines)
    text = page.read_text()
    assert "| smallcnn, single-6c | guided | positive | 10.0 | 20.0 | 30.0 | 50.0 | +25.0 (+25.0 to +25.0) |" in text
    assert "| smallcnn, single-6c | gradient | logit | 25.0 % | 25.0 % |" in text
    assert (tmp_path / "factorial.png").stat().st_size > 1000


def test_the_page_is_not_stale(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text((HERE / "README.md").read_text())
    table.PAGE.write(page, json.loads((HERE / "results.json").read_text()))
    assert page.read_text() == (HERE / "README.md").read_text(), f"run python -m {table.PAGE.command}"
