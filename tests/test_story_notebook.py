"""A researcher's notebook, run from top to bottom in a kernel of its own: docs/notebook.ipynb."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "notebook.ipynb"


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The notebook's cells of code, with their outputs."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    book = nbformat.read(PAGE, 4)
    place = {"metadata": {"path": str(tmp_path_factory.mktemp("notebook"))}}
    nbclient.NotebookClient(book, timeout=600, kernel_name="python3", resources=place).execute()
    return [cell for cell in book.cells if cell.cell_type == "code"]


def shown(cell: Any) -> Any:
    """Return what a cell's last line shows."""
    (result,) = (output for output in cell.outputs if output.output_type == "execute_result")
    return result.data


def printed(cell: Any) -> str:
    """Return what a cell printed, without its colours."""
    text = "".join(output.text for output in cell.outputs if output.output_type == "stream")
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_the_notebook_is_kept_without_outputs() -> None:
    nbformat = pytest.importorskip("nbformat")
    book = nbformat.read(PAGE, 4)
    nbformat.validate(book)
    assert not any(cell.get("outputs") for cell in book.cells)


def test_an_audit_shows_its_progress_and_itself(cells: list[Any]) -> None:
    _, audit, *_ = cells
    said = printed(audit)
    assert "first look: " in said
    assert "ablate-reliance: done in" in said
    # Nothing on stderr, which notebooks show in red.
    assert {output.name for output in audit.outputs if output.output_type == "stream"} == {"stdout"}
    assert shown(audit)["text/plain"].startswith("Audit('runs/digits': Sequential on Digits, 10 classes, recall ")
    assert "<table>" in shown(audit)["text/html"]
    bars = [output.data["text/html"] for output in audit.outputs if output.output_type == "display_data"]
    for bar in bars:
        value, _, rest = bar.partition('value="')[2].partition('" max="')
        assert value == rest.partition('"')[0]


def test_tables_figures_and_the_report_show_themselves(cells: list[Any]) -> None:
    table, figure, study, report = cells[2:6]
    assert '<table border="1" class="dataframe">' in shown(table)["text/html"]
    assert shown(figure)["image/png"]
    assert "Removing the " in printed(study)
    assert shown(study)["text/plain"].startswith("AblationResult(classes=('0', ")
    assert shown(report)["text/html"].startswith('<iframe srcdoc="')


def test_rankings_and_methods_of_ones_own_are_studied(cells: list[Any]) -> None:
    own = cells[6]
    assert "selective" in shown(own)["text/plain"]
    said = printed(own)
    assert "collect: up to date, skipped" in said
    assert "ablate: done in" in said


def test_one_output_has_two_sides_and_several_labels_have_precision(cells: list[Any]) -> None:
    binary, several, table = cells[7:]
    assert shown(binary)["text/plain"].startswith("Audit('runs/odd': Sequential on Digits, 2 classes, recall 9")
    assert shown(several)["text/plain"].startswith("Audit('runs/questions': Sequential on Digits, 3 classes")
    assert "precision_intact" in shown(table)["text/plain"]
