"""C2: what is kept of a dissection, its floors, its page and its claim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from experiments.dissection import claims, run, table
from experiments.dissection.sheet import cells, sheet
from interpnet.concepts import Dissection, dissect


def dots(n: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(n, 2, 12, 12, dtype=torch.bool)
    for i in range(n):
        masks[i, 0, i % 11 : i % 11 + 2, (5 * i) % 11 : (5 * i) % 11 + 2] = True
    masks[:, 1, :2] = True
    images = 0.1 * torch.rand(n, 3, 12, 12, generator=generator) + masks[:, :1]
    return images, masks


@pytest.fixture(scope="module")
def found() -> tuple[nn.Module, Dissection]:
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(288, 2)).eval()
    with torch.no_grad():
        net[0].weight[:] = torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)
        net[0].bias[:] = torch.tensor([0.0, 1.0])
    done = dissect(net, [dots()], concepts=["dot", "top"], step=1, quantile=0.03, untrained=False, progress=False)
    return net, done


def test_what_is_kept(found: tuple[nn.Module, Dissection]) -> None:
    line = run.summary(found[1])
    (layer,) = line["layers"]
    assert (layer["channels"], layer["named"], layer["concepts"]) == (2, 1, 1)
    assert layer["above 0.04"] >= layer["beyond other masks"] == 1
    assert line["counts"] == {"dot": 1, "top": 0}
    ((name, channel, iou, low, high, threshold, top),) = line["detectors"]["dot"]
    assert (name, channel) == ("1", 0)
    assert low <= iou <= high
    assert (threshold, top) == (float(found[1].thresholds[0]), found[1].top[0].tolist())


def test_floors_of_another_network_take_names_away(found: tuple[nn.Module, Dissection]) -> None:
    judged = run.with_floor(found[1], [{"layer": "1", "floors": {"concepts": 0.99}}])
    assert judged.floor.tolist() == [[0.99, 0.99], [0.99, 0.99]]
    assert found[1].named.any()
    assert not judged.named.any()


def test_the_sheet_has_a_row_for_each_concept_with_a_detector(
    found: tuple[nn.Module, Dissection], tmp_path: Path
) -> None:
    net, done = found
    line = run.summary(done)
    ((concept, (cell,)),) = cells(line).items()
    assert (concept, cell.layer, cell.channel) == ("dot", "1", 0)
    assert cell.image == done.top[0, 0]
    sheet(net, {"dots": [dots()]}, line, tmp_path / "sheet.png")  # type: ignore[dict-item]
    assert (tmp_path / "sheet.png").stat().st_size > 2000


def line_of(network: str, named: list[int], paper: list[int]) -> dict[str, Any]:
    layers = [
        {"layer": f"layer{i}", "channels": 1000, "named": n, "above 0.04": p, "beyond other masks": n, "concepts": 2,
         "categories": {"street": n}, "median IoU": 0.02, "floors": {"street": 0.05}}
        for i, (n, p) in enumerate(zip(named, paper, strict=True))
    ]  # fmt: skip
    detectors = {"sky": [["layer1", 3, 0.2, 0.1, 0.3, 0.5, [4]]], "banded": []}
    counts = {"sky": sum(named), "banded": 0}
    return {
        "network": network, "images": {"street": 5, "textures": 7}, "layers": layers, "detectors": detectors,
        "counts": counts, "minutes": 3.0, "processor minutes": 2.0, "threads": 1, "peak MiB": 2048, "seconds": 180.0,
        "commit": "abc",
    }  # fmt: skip


@pytest.mark.parametrize(("false", "verdict"), [(3, "holds"), (60, "does not hold")])
def test_the_claim_is_decided_by_the_share_of_false_names(false: int, verdict: str) -> None:
    lines = [line_of("trained", [100, 300], [400, 500]), line_of("random weights", [0, false], [200, 220])]
    (claim,) = claims.claims(lines)
    assert claim.verdict == verdict
    assert claim.short == f"20 % named, {false / 20:.1f} % at random"
    assert "by the paper's rule alone 21.0 (19.3 to 22.8) %" in claim.figure


def test_the_page_shows_layers_and_detectors(tmp_path: Path) -> None:
    lines = [line_of("trained", [100, 300], [400, 500]), line_of("random weights", [0, 3], [200, 220])]
    text = table.text(lines)
    assert "Trained with its copy: 5 images of street and 7 images of textures, 2 minutes" in text
    assert "| layer1 | 1000 | 30.0 | 0.3 | 2 | street 300 | street 0.050 |" in text
    assert "| sky | street | 400 | 3 | layer1 [3], IoU 0.20 (0.10 to 0.30) |" in text
    assert "| banded | texture | 0 | 0 | none |" in text
    table.draw(lines, tmp_path / "layers.png")
    assert (tmp_path / "layers.png").stat().st_size > 2000


def test_floors_follow_the_layers(found: tuple[nn.Module, Dissection]) -> None:
    layers = [{"layer": "1", "floors": {"concepts": 0.5}}]
    np.testing.assert_array_equal(run.floors(found[1], layers), np.full((2, 2), 0.5))
