"""E3's script: a trial of seconds, resumed, and the table and figure it writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.boats.photographs import Photographs
from experiments.common.flower_networks import QUICK
from experiments.common.maps import PAPER
from experiments.common.pages import END, begin
from experiments.localisation import layers, outlined, outlines, run, table
from interpnet.attribution import methods


@pytest.mark.filterwarnings("ignore:.*zero everywhere")
def test_a_quick_trial_resumes_and_measures_every_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--quick", "--architectures", "smallcnn", "--variants", "single-6c"]
    words += ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "results.json")]
    run.main(words)
    (line,) = json.loads((tmp_path / "results.json").read_text())
    assert {m.name for m in methods()} <= set(line["maps"])
    assert sum(name.startswith("channels") for name in line["maps"]) == 13
    for scores in line["maps"].values():
        assert all(0 <= value <= 1 for value in scores.values())
    nonnegative = [PAPER, "gradient", "edge", "gradcam"]
    assert all(line["maps"][n]["iou"] == line["maps"][n]["iou_abs"] for n in nonnegative)
    monkeypatch.setattr(run, "measured", None)  # what is there is not done again
    run.main(words)


def line_of(seed: int, variant: str = "single-6c", **iou: float) -> dict[str, object]:
    maps = {name: {"iou": v, "iou_abs": v, "iou_plant": v / 2, "pointing": 1.0} for name, v in iou.items()}
    return {
        "variant": variant,
        "architecture": "smallcnn",
        "seed": seed,
        "accuracy": 0.99,
        "channels_a_class": 4.0,
        "n_images": 6,
        "seconds": 60.0,
        "mask_share": 0.1,
        "maps": maps,
    }


def test_the_table_gives_means_and_deviations_over_networks(tmp_path: Path) -> None:
    lines = [line_of(0, gradient=0.1, random=0.05), line_of(1, gradient=0.3), line_of(0, "double-12c", gradient=0.2)]
    assert table.by_map(lines[:2], "iou")["gradient"] == (pytest.approx(0.2), pytest.approx(0.02**0.5), 2)
    page = tmp_path / "README.md"
    page.write_text(f"words\n{begin(table.PAGE.command)}\nold\n{END}\nmore\n")
    table.PAGE.write(page, lines)
    text = page.read_text()
    assert "| gradient | 20.0 ± 14.1 | 20.0 ± 0.0 | 20.0 | 1.00 | 10.0 |" in text
    assert "| *random* | 5.0 ± 0.0 | – | 5.0 | 1.00 | – |" in text
    assert text.startswith("words\n")
    assert text.endswith("more\n")
    assert "old" not in text
    assert (tmp_path / "iou.png").stat().st_size > 1000


def test_layers_of_the_relevant_weight() -> None:
    lines = [
        {"architecture": "smallcnn", "seed": 0, "layers": {"a": 0.25, "b": 0.75}},
        {"architecture": "smallcnn", "seed": 1, "layers": {"b": 1.0}},
    ]
    assert "| smallcnn | 2 | `b` 88 %, `a` 12 % |" in layers.table(lines)


def test_boxes_of_photographs_end_after_the_last_pixel_and_grow_with_the_picture() -> None:
    boxes = np.array([[0, 0, 63, 31], [2, 4, 3, 5]])
    given = Photographs(torch.zeros(2, 3, 64, 64), np.array([0, 0]), boxes, np.array([True, True]), ("boat",))
    assert outlined.boxes_of(given, np.array([1, 0]), 128).tolist() == [[4, 8, 8, 12], [0, 0, 128, 64]]
    # The first box holds half of the picture, the second too little to be seen.
    assert outlined.chosen(given, 10).tolist() == [0]


def test_outlines_of_flowers_have_the_highest_overlap_first_and_their_difference_from_the_middle(
    tmp_path: Path,
) -> None:
    given = outlined.flowers(tmp_path, n=6, **QUICK)
    line = {"images": outlined.FLOWERS, **outlines.measured(given), "seconds": 60, "commit": "abc"}
    assert set(line["maps"]) == {PAPER, *outlines.MAPS}
    share = float(given.region["masks"].double().mean())
    assert line["everywhere"][0] == pytest.approx(share, abs=1e-4)
    for own in line["maps"].values():
        less = own["iou"][0] - line["maps"]["center"]["iou"][0]
        assert own["less"][0] == pytest.approx(less, abs=2e-4)
        assert own["less"][1] <= own["less"][0] <= own["less"][2]
    for name, own in zip(("random", "gradcam"), ([0.25, 0.0, 0.5], [0.5, 0.25, 1.0]), strict=True):
        line["maps"][name] |= {"iou": own, "less": [0.1, 0.05, 0.15]}
    text = outlines.text([line])
    assert text.index("| gradcam | 50.0 (25.0 to 100.0) | **+10.0 (+5.0 to +15.0)** |") < text.index(
        "| *random* | 25.0 ("
    )
    assert text.startswith("1 minutes; measured at abc.")
    assert "### Flowers, 6 images" in text
