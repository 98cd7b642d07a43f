"""What every figure keeps to, and the files that it is written as."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from helpers.figure_cases import CASES
from helpers.figures import faults
from matplotlib.figure import Figure
from PIL import Image

from interpnet import plot
from interpnet.errors import InterpNetError, RunFolderError
from interpnet.plotting import style

OTHERS = {"data", "save"}


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
