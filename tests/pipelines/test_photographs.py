"""The teacher's story: from a trained network and a photograph to every figure of a lecture, by one command."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from interpnet.pipelines.cli.app import main
from interpnet.pipelines.filters.photographs import Photographs
from interpnet.pipelines.report.photographs import _figures
from PIL import Image

from interpnet.datasets import ImageData, stack_images

QUICK = ["--max-images", "20", "--per-layer", "1", "--max-classes", "2", "--steps", "1", "--neighbours", "2"]
#: What the lecture's slides show.
OF_THE_NETWORK = ("first-filters", "deeper-filters", "patches", "embedding", "neighbours")
OF_A_PHOTOGRAPH = ("activations", "channels", "nearest", "occlusion", "gradients", "gradcam")


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photographs") / "my three.png"
    pixels = np.kron(np.random.default_rng(3).integers(0, 255, (4, 4)), np.ones((10, 10))).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def command(weights: Path, out: Path, *more: str) -> int:
    return main(["filters", "smallcnn", "digits", "--weights", str(weights), "--out", str(out), *QUICK, *more])


@pytest.fixture(scope="module")
def made(weights: Path, photograph: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("story") / "run"
    assert command(weights, out, "--image", str(photograph), "--between", "3,8") == 0
    return out


def test_every_figure_of_the_lecture_is_there_to_paste(made: Path) -> None:
    figures = made / "report" / "figures"
    names = {path.stem for path in figures.iterdir()}
    (stem,) = {name.removesuffix("-gradcam") for name in names if name.endswith("-gradcam")}
    assert re.fullmatch(r"my-three-[0-9a-f]{6}", stem)
    assert names == {*OF_THE_NETWORK, *(f"{stem}-{kind}" for kind in OF_A_PHOTOGRAPH)}
    assert len(list(figures.iterdir())) == 3 * len(names)
    for name in names:
        with Image.open(figures / f"{name}.png") as picture:
            assert min(picture.size) > 150
        assert "<svg" in (figures / f"{name}.svg").read_text()[:500]
        assert len((figures / f"{name}.csv").read_text().splitlines()) > 1


def test_two_classes_stand_side_by_side_with_their_maps(made: Path) -> None:
    (file,) = (made / "report" / "figures").glob("*-gradcam.csv")
    rows = list(csv.reader(file.read_text().splitlines()))
    assert [re.sub(r" \(.*", "", name) for name in rows[0]] == ["row", "column", "3", "8"]
    maps = np.array(rows[1:], float)[:, 2:]
    assert maps.shape == (64, 2), "of the network's own size"
    assert not np.allclose(*maps.T)


def test_the_page_has_a_section_of_the_photograph(made: Path) -> None:
    page = (made / "report" / "filters.html").read_text(encoding="utf-8")
    assert "<h2>Your photographs</h2>" in page
    assert page.count('<figure class="sheet figure-') == len(OF_A_PHOTOGRAPH)
    probabilities = re.findall(r"<bdi>[0-9] \(([0-9.]+) %\)</bdi>", page)
    assert len(probabilities) == 5
    for file in re.findall(r'href="(figures/[^"]+)"', page):
        assert (made / "report" / file).is_file()


def test_wrong_photographs_are_said_before_the_long_work(
    weights: Path, photograph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.png").write_text("no image")
    cases = {
        ("--image", str(tmp_path / "text.png")): "text.png",
        ("--image", str(tmp_path)): "is a folder; name image files",
        ("--image", str(photograph.with_name("my thre.png"))): "does not exist; did you mean 'my three.png'?",
        ("--image", str(photograph), "--between", "3,nine"): "'nine'",
        ("--between", "3,8"): "--between came without --image",
    }
    for words, message in cases.items():
        assert command(weights, tmp_path / "run", *words) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not (tmp_path / "run" / "report").exists()


def test_the_figures_of_an_audit_are_written_where_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(Path(__file__).parents[1] / "data" / "run-1", tmp_path / "audits")
    monkeypatch.chdir(tmp_path / "audits")
    assert main(["report", "run", "--figures", "slides"]) == 0
    written = {path.name for path in Path("slides").iterdir()}
    assert {"ablation.png", "ablation.svg", "ablation.csv", "layers.csv"} <= written
    names = {name.rsplit(".", 1)[0] for name in written}
    assert len(written) == 3 * len(names)
    assert f"figures: {len(names)} in slides" in capsys.readouterr().out
    Path("file").write_text("x")
    assert main(["report", "run", "--figures", "file"]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_a_photograph_among_the_images_is_none_of_its_neighbours(tmp_path: Path) -> None:
    files = [tmp_path / f"{level}.png" for level in (10, 90, 60, 200)]
    for file in files:
        Image.new("RGB", (4, 4), (int(file.stem), 0, 0)).save(file)
    settings: dict[str, Any] = {"channels": 3, "image_size": None, "crop": None, "mean": 0, "std": 1}
    data = ImageData.from_files(files, spec="images", **settings)
    own = ImageData.from_files([files[1]], spec="own", **settings)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(32, 2))
    with torch.no_grad():
        model[0].weight.fill_(1)
        model[0].bias.zero_()
    vectors = np.repeat(np.array([10, 90, 60, 200], np.float32)[:, None] / 255, 2, 1)
    work = SimpleNamespace(
        subject=SimpleNamespace(model=model, output=None, device=torch.device("cpu")),
        reading=lambda: {"layer": "1", "vectors": vectors, "indices": np.arange(4)},
        split=SimpleNamespace(data=data),
        settings=SimpleNamespace(neighbours=2),
    )
    inputs = stack_images(own, [0])
    found = Photographs(work, own, ("own",), inputs, ())._near(0, inputs)  # type: ignore[arg-type]
    assert found["near"].tolist() == [2, 0]
    np.testing.assert_allclose(found["distances"], np.sqrt(2) * np.array([30, 80]) / 255, rtol=1e-5)


def test_a_photograph_that_no_channel_speaks_for_has_no_figure_of_channels() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    work = SimpleNamespace(subject=SimpleNamespace(classes=("cat",)), layers=())
    data = SimpleNamespace(picture=lambda _: picture)
    found = {
        "probabilities": np.ones(1), "compared": np.zeros(1, np.int64), "near": np.zeros(0, np.int64),
        "layers": np.zeros(0, np.str_), "columns": np.zeros(0, np.int64), "contributions": np.zeros(0),
        "heatmaps": np.zeros((0, 4, 4)),
    }  # fmt: skip
    shown = SimpleNamespace(work=work, data=data, patches={})
    assert list(_figures(shown, 0, found)) == []  # type: ignore[arg-type]
