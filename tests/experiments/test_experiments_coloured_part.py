"""Q5: which of two nested masks a map resembles, by hand; the page is what E3's results say now."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.coloured_part import claims, run
from experiments.common.maps import PAPER
from experiments.common.pages import END, begin

HERE = Path(run.__file__).parent


def line(seed: int, variant: str = "double-12c", **maps: tuple[float, float]) -> dict[str, object]:
    rows = {
        name.replace("_", " "): {"iou": part, "iou_plant": plant, "pointing": 0.5}
        for name, (part, plant) in maps.items()
    }
    return {"variant": variant, "architecture": "smallcnn", "seed": seed, "maps": rows}


LINES = [  # the differences are 12 and 11 points
    line(
        s,
        channels_guided_resampled=(0.22, 0.10 + s / 100),
        gradcam=(0.09, 0.17),
        random=(0.04, 0.08),
        lime=(0.03, 0.05),
    )
    for s in (0, 1)
]


def test_the_sign_of_the_difference_says_which_mask_is_nearer() -> None:
    (found,) = run.marks([*LINES, line(0, "single-6c", gradcam=(0.9, 0.1))]).values()
    assert {name: row.marks for name, row in found.items()} == {
        PAPER: "part",
        "gradcam": "plant",
        "random": "neither",
        "lime": "neither",
    }
    mean, low, high = found[PAPER].difference
    assert (mean, high - mean) == (pytest.approx(11.5), pytest.approx(12.706 * 0.5, rel=1e-3))
    assert low > 0
    assert (found["gradcam"].part, found["gradcam"].plant) == (pytest.approx(9), pytest.approx(17))


def test_one_network_is_no_sample() -> None:
    assert run.marks(LINES[:1]) == {}


def test_the_table_and_the_figure(tmp_path: Path) -> None:
    (tmp_path / "e3.json").write_text(json.dumps(LINES))
    page = tmp_path / "README.md"
    page.write_text(f"{begin(run.COMMAND)}\n{END}\n")
    run.main(["--results", str(tmp_path / "e3.json"), "--page", str(page)])
    text = page.read_text()
    assert "of 3 maps, 1 are nearer the part, 1 nearer the plant, 0 undecided, 1 no better than a control" in text
    assert f"| **{PAPER}** | 22.0 | 10.5 | +11.5 (+5.1 to +17.9) | 0.50 | part |" in text
    assert "| *random* | 4.0 | 8.0 | −4.0 (−4.0 to −4.0) | 0.50 | neither |" in text
    assert (tmp_path / "part_and_plant.png").stat().st_size > 1000
    (tmp_path / "e3.json").write_text(json.dumps(LINES[:1]))
    with pytest.raises(SystemExit, match="has not measured two networks"):
        run.main(["--results", str(tmp_path / "e3.json"), "--page", str(page)])


def test_the_claim_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "e3.json").write_text(json.dumps(LINES))
    monkeypatch.setattr(claims, "MEASURED", tmp_path / "e3.json")
    (claim,) = claims.claims()
    assert claim.verdict == "holds"
    assert "of 2 other methods 0 mark the part, 1 the plant, 0 undecided" in claim.figure
    (tmp_path / "e3.json").write_text("[]")
    assert claims.claims()[0].verdict == "open"


def test_the_page_is_not_stale(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text((HERE / "README.md").read_text())
    run.main(["--page", str(page)])
    assert page.read_text() == (HERE / "README.md").read_text(), f"run python -m {run.COMMAND}"
