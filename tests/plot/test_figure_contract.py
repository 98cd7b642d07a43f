"""What every figure keeps to, and the files that it is written as."""

from __future__ import annotations

import gzip
import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from helpers import figure_results as made
from helpers.figure_cases import CASES
from helpers.figures import faults, words
from helpers.report_fixture import mu_selection
from matplotlib.figure import Figure
from PIL import Image

from interpnet import plot
from interpnet.attribution import Attribution
from interpnet.engine import ChannelIndex
from interpnet.errors import InterpNetError, RunFolderError
from interpnet.evaluate import GridPointing
from interpnet.interpretation import Interpretation
from interpnet.plot._draw import FIGURES
from interpnet.plotting import style
from interpnet.scores import ScoreTable

OTHERS = {"data", "draw", "save"}
ROOMS = (
    "ablation", "attribution", "concepts", "datasets", "engine", "evaluate", "explanation", "gram", "interpretation",
    "models", "mulasso", "pictures", "reliance", "scores", "shortcuts",
)  # fmt: skip
#: Results that another's figure shows, or that have nothing to show: sums, indices, data sets, an estimator.
WITHOUT = {
    "ablation.Answers", "ablation.Changes", "ablation.Condition", "ablation.Curve", "ablation.Effect",
    "explanation.Peaks",
    "shortcuts.Candidate", "shortcuts.CommonOverlay", "shortcuts.Figures", "shortcuts.Leaning",
    "shortcuts.OverlayProbe", "shortcuts.PasteProbe", "shortcuts.Pasted", "pictures.Embedding", "gram.Gram",
    "engine.ChannelIndex", "engine.Trace", "datasets.An8Flower", "datasets.FunnyBirds", "datasets.ReleasedFlower",
    "mulasso.MuLasso",
}  # fmt: skip


def test_every_figure_has_its_cases() -> None:
    functions = {name for name in plot.__all__ if inspect.isfunction(getattr(plot, name))}
    assert functions - OTHERS == set(CASES)


@pytest.mark.parametrize(("name", "which"), [(name, i) for name, cases in CASES.items() for i in range(len(cases))])
def test_a_figure_can_be_read_and_leaves_nothing(name: str, which: int) -> None:
    settings = dict(mpl.rcParams)
    loaded = "matplotlib.pyplot" in sys.modules
    figure = CASES[name][which]()
    assert isinstance(figure, Figure)
    assert faults(figure) == []
    columns = plot.data(figure)
    assert columns
    assert len({len(values) for values in columns.values()}) == 1
    assert all(values for values in columns.values()), "no row"
    assert dict(mpl.rcParams) == settings
    assert loaded or "matplotlib.pyplot" not in sys.modules


def test_a_figure_is_written_with_its_numbers(tmp_path: Path) -> None:
    numbers: Any = ([[0.25, 0.75], [0.5, 0.5]], ["a", "b"], ["x", "=1+1"])
    files = plot.save(plot.layer_relevance(*numbers), tmp_path / "deep" / "a.b.png")
    assert [file.name for file in files] == ["a.b.png", "a.b.svg", "a.b.csv"]
    assert sorted(file.name for file in (tmp_path / "deep").iterdir()) == ["a.b.csv", "a.b.png", "a.b.svg"]
    assert files[2].read_text().splitlines() == [
        "layer,mean,of_channels,x,'=1+1",
        "a,0.375,,0.25,0.5",
        "b,0.625,,0.75,0.5",
    ]
    assert "=1+1" in files[1].read_text(), "text stays text"
    before = [file.read_bytes() for file in files]
    plot.save(plot.layer_relevance(*numbers), tmp_path / "deep" / "a.b")
    assert [file.read_bytes() for file in files] == before


def test_the_pixels_of_a_large_map_are_compressed_and_one_pixel_does_not_set_the_scale(tmp_path: Path) -> None:
    gradient = np.full((120, 100), 0.5)
    gradient[0, 0] = 100.123456
    figure = plot.attribution({"gradient": gradient})
    assert "0 to 0.5" in words(figure)
    *_, table = plot.save(figure, tmp_path / "a")
    assert table.name == "a.csv.gz"
    lines = gzip.decompress(table.read_bytes()).decode().splitlines()
    assert lines[:3] == ["row,column,gradient", "0,0,100.1", "0,1,0.5"]
    assert len(lines) == 1 + gradient.size


def test_a_figure_is_as_wide_as_asked_for_with_its_letters(tmp_path: Path) -> None:
    figure = plot.layer_relevance([[0.25, 0.75]], ["a", "b"], ["x"])
    size = figure.get_size_inches().tolist()
    png, svg, _ = plot.save(figure, tmp_path / "a", width=4.6)
    assert np.asarray(Image.open(png)).shape[1] == pytest.approx(920, abs=1)
    assert re.search(r'width="([0-9.]+)pt"', svg.read_text())[1] == f"{4.6 * 72:g}"
    assert figure.get_size_inches().tolist() == size


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(InterpNetError, match=r"carries no numbers; expected one that a function of ip\.plot made"):
        plot.save(Figure(), tmp_path / "a")
    with pytest.raises(InterpNetError, match="figure is 5; expected Figure"):
        plot.data(5)
    figure = style.with_data(Figure(), ("a",), [(1,)])
    with pytest.raises(InterpNetError, match="width is 0; expected"):
        plot.save(figure, tmp_path / "a", width=0)
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunFolderError, match="cannot write"):
        plot.save(figure, tmp_path / "file" / "a")


def test_every_result_has_a_figure() -> None:
    results = set()
    for room in ROOMS:
        package = importlib.import_module(f"interpnet.{room}")
        kinds = {name: getattr(package, name) for name in package.__all__}
        # What shows itself in a notebook is a result.
        results |= {f"{room}.{name}" for name, kind in kinds.items() if inspect.isclass(kind) and _shows(kind)}
    assert results - WITHOUT == set(FIGURES) - {"concepts.Strongest"}, "Strongest is a tuple"
    assert {name for name, _ in FIGURES.values()} <= set(CASES)


def _shows(kind: type) -> bool:
    return hasattr(kind, "_repr_html_")


@pytest.mark.parametrize(
    ("result", "word"),
    [
        (made.score(3), "deletion"),
        (GridPointing(made.score(3), torch.zeros(1), torch.zeros(1), 4), "deletion"),
        (Attribution(torch.rand(2, 4, 4)), "image 1"),
        (made.history(2), "epoch"),
        (mu_selection(), "mu: bound on ‖w‖₁ (log scale)"),
    ],
)
def test_a_result_is_drawn_by_its_class(result: Any, word: str) -> None:
    assert word in words(plot.draw(result))


def test_what_has_no_figure_is_said() -> None:
    with pytest.raises(InterpNetError, match=r"result is 5; expected one of AblationResult, .*TcavResult"):
        plot.draw(5)


def test_bars_and_cells_are_the_numbers() -> None:
    found = Interpretation(ChannelIndex((("a", 3),)), np.array([[0.5, -1.0, 0.0], [0.0, 2.0, 0.0]]), ("cat", "dog"))
    (axes,) = plot.interpretation(found, cls="cat").axes
    assert [bar.get_width() for bar in axes.patches] == [-1.0, 0.5]
    cells = plot.interpretation(found).axes[0].images[0].get_array()
    np.testing.assert_array_equal(np.asarray(cells), [[0.5, 0.0], [-1.0, 2.0]])
    assert plot.data(plot.interpretation(found)) == {"channel": ["a[0]", "a[1]"], "cat": [0.5, -1.0], "dog": [0.0, 2.0]}


def test_scores_are_those_of_a_class_less_those_of_all() -> None:
    rows = np.array([[0.2, 0.8], [0.6, 0.4]], np.float32)
    table = ScoreTable(rows, np.arange(2), np.arange(2), ChannelIndex((("a", 2),)), np.arange(2), 2)
    columns = plot.data(plot.scores(table, ["cat", "dog"]))
    np.testing.assert_allclose([columns["cat"], columns["dog"]], [[-0.2, 0.2], [0.2, -0.2]], atol=1e-7)


def test_a_document_shows_the_picture_as_wide_as_was_asked_for(tmp_path: Path) -> None:
    drawn = plot.layer_relevance([[0.25, 0.75]], ["conv1", "conv2"], ["cat"])
    for width in (3.5, 13.3):
        file, *_ = plot.save(drawn, tmp_path / "layers", width=width)
        with Image.open(file) as picture:
            stated = picture.width / picture.info["dpi"][0]
        assert stated == pytest.approx(width, rel=0.01)


def test_no_column_replaces_another_of_the_same_name() -> None:
    drawn = plot.layer_relevance([[0.25, 0.75], [1.0, 0.0]], ["conv1", "conv2"], ["mean", "cat"])
    found = plot.data(drawn)
    assert list(found) == ["layer", "mean", "of_channels", "mean (2)", "cat"]
    assert found["mean (2)"] == [0.25, 0.75]


def test_the_numbers_stand_beside_whole_names(tmp_path: Path) -> None:
    layers = [f"features.denseblock{i}.denselayer12.conv1" for i in (2, 3)]
    found = Interpretation(ChannelIndex(tuple((layer, 1) for layer in layers)), np.array([[0.5, -1.0]]), ("cat",))
    drawn = plot.draw(found)
    assert plot.data(drawn)["channel"] == [f"{layers[1]}[0]", f"{layers[0]}[0]"]
    assert max(map(len, words(drawn))) < 40


def test_a_smaller_table_leaves_no_larger_one_behind(tmp_path: Path) -> None:
    large = plot.attribution({"map": np.ones((101, 100))})
    small = plot.attribution({"map": np.ones((3, 3))})
    for drawn, ending in ((large, ".csv.gz"), (small, ".csv"), (large, ".csv.gz")):
        assert plot.save(drawn, tmp_path / "map")[2].name == f"map{ending}"
        assert {path.name for path in tmp_path.iterdir()} == {"map.png", "map.svg", f"map{ending}"}
