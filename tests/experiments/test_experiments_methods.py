"""The scripts around the attribution methods: what they write, on small networks and on the shared one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from experiments.common.imagenet import squeezenet
from experiments.common.pages import END, begin, fill
from experiments.methods import pictures, samples, sheet
from interpnet.attribution import Attribution, methods
from interpnet.errors import InterpNetError


def test_a_page_keeps_its_own_words(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    mark = begin("some.command")
    page.write_text(f"# Title\n{END}\nwords\n{mark}\nold table\n{END}\nmore words\n")
    fill(page, "some.command", "new\n")
    assert page.read_text() == f"# Title\n{END}\nwords\n{mark}\n\nnew\n\n{END}\nmore words\n"
    for text in ("# Title", f"{END}\n{mark}\n"):
        page.write_text(text)
        with pytest.raises(InterpNetError, match="lacks"):
            fill(page, "some.command", "new")


def test_signed_maps_are_white_at_zero_and_a_single_pixel_hides_nothing() -> None:
    values = np.zeros((30, 30))
    values[0, 0] = 1000.0
    values[10:, 10:] = 1.0
    drawn, _ = sheet.level(values)
    assert drawn[15, 15] == 1.0
    drawn, colours = sheet.level(np.array([[-2.0, 0.0], [2.0, 1.0]]))
    assert drawn.tolist() == [[0.0, 0.5], [1.0, 0.75]]
    assert colours(0.5)[:3] == pytest.approx((0.97, 0.97, 0.97), abs=0.01)


def test_a_sheet_names_zero_maps_and_is_written_whole(tmp_path: Path) -> None:
    maps = torch.rand(1, 6, 6)
    found = {"gradient": Attribution(maps), "deconvnet": Attribution(torch.zeros(1, 6, 6))}
    figure = sheet.draw(torch.rand(1, 3, 6, 6), ["a cat"], found)
    assert [a.get_title() for a in figure.axes[:3]] == ["a cat", "gradient", "deconvnet (zero)"]
    sheet.save(figure, tmp_path / "sheet.png", dpi=40)
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]


def test_the_run_over_samples_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).eval()
    asked: list[list[int]] = []

    def batch(numbers: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append(numbers)
        return torch.rand(len(numbers), 3, 8, 8), torch.zeros(len(numbers), dtype=torch.long)

    chosen = [m for m in methods() if m.name in {"gradient", "deeplift", "edge"}]
    monkeypatch.setattr(samples, "squeezenet", lambda: model)
    monkeypatch.setattr(samples, "batch", batch)
    monkeypatch.setattr(samples, "methods", lambda: chosen)
    words: dict[str, Any] = {
        "--first": 5,
        "--batch": 2,
        "--state": tmp_path / "s.json",
        "--out": tmp_path / "out.json",
    }
    monkeypatch.setattr("sys.argv", ["samples", *[str(v) for pair in words.items() for v in pair]])
    samples.main()
    first = json.loads((tmp_path / "out.json").read_text())
    assert asked == [[0, 1], [2, 3], [4]]
    assert {k: v["images"] for k, v in first["methods"].items()} == {"gradient": 5, "deeplift": 5, "edge": 5}
    assert first["methods"]["deeplift"]["residual"]["largest"] < 1e-4

    lines = json.loads((tmp_path / "s.json").read_text())
    (tmp_path / "s.json").write_text(json.dumps(lines[:-1]))
    samples.main()
    assert asked[3:] == [[4]]


@pytest.mark.shared
def test_the_network_and_images_of_the_page(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERPNET_SHARED_DATA", str(shared_data))
    from experiments.methods import subject

    with torch.no_grad():
        assert subject.class_name(int(squeezenet()(subject.chelsea()).argmax())) == "Egyptian cat"
    images, target = subject.batch([142])
    assert images.shape == (1, 3, 227, 227)
    assert subject.class_name(int(target)) == "Siamese cat"


def test_class_pictures_are_compared_with_each_other_and_at_a_glance(tmp_path: Path) -> None:
    ramp = torch.linspace(0, 1, 3 * 56 * 56).reshape(3, 56, 56)
    assert pictures.correlation(torch.stack([ramp, 2 * ramp, -ramp])) == pytest.approx(-1 / 3)
    noise = torch.rand(1, 3, 56, 56)
    glance = pictures.coarse(noise.numpy())
    np.testing.assert_allclose(glance[0, 0, 0, 0], noise[0, 0, :2, :2].mean(), rtol=1e-6)
    results = pictures.Results(tmp_path / "results.json")
    results.get("a", lambda: {"x": 1})
    again = pictures.Results(tmp_path / "results.json")
    again.get("a", lambda: pytest.fail("measured again"))
    again.get("b", lambda: 2)
    assert json.loads((tmp_path / "results.json").read_text()) == {"a": {"x": 1}, "b": 2}
