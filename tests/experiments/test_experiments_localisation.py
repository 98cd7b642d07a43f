"""E3's script: a trial of seconds, resumed, and the table and figure it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.common.maps import PAPER
from experiments.common.pages import END, begin
from experiments.localisation import layers, run, table
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
