"""The site: its reference has every public name, and docstrings in Sphinx's notation become links and formulas."""

from __future__ import annotations

import importlib.util
import sys
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import interpnet

ROOT = Path(__file__).resolve().parents[1]


def site_module(name: str) -> ModuleType:
    """Return a module of docs/_site, which is no package."""
    spec = importlib.util.spec_from_file_location(f"site_{name}", ROOT / "docs" / "_site" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


reference = site_module("reference")
examples = site_module("examples")


def test_every_public_name_is_in_the_reference() -> None:
    pages = reference.pages(ROOT)
    for name in interpnet.__all__:
        assert f"`ip.{name}`" in pages["index.md"]
    for room in [*(ROOT / "interpnet").glob("*/__init__.pyi"), ROOT / "pipelines" / "__init__.pyi"]:
        module = f"interpnet.{room.parent.name}"
        page = pages[f"{room.parent.name}.md"].splitlines()
        for name in importlib.import_module(module).__all__:
            assert f"::: {module}.{name}" in page


def test_a_name_that_the_built_site_lacks_is_told(tmp_path: Path) -> None:
    names = [f"{room}.{name}" for room, names in reference.rooms(ROOT).items() for name in names]
    names.remove("interpnet.concepts.dissect")
    listed = "".join(f"{name} py:function 1 page.html#$ -\n" for name in names)
    (tmp_path / "objects.inv").write_bytes(b"# 2\n# name\n# 1\n# zlib\n" + zlib.compress(listed.encode()))
    assert reference.missing(ROOT, tmp_path / "objects.inv") == ["interpnet.concepts.dissect"]


def run(text: str, folder: Path) -> tuple[str, dict[str, bytes]]:
    runner = examples.Runner("docs/page.md", folder)
    return runner.run(text), runner.files


def test_code_on_a_page_runs_from_top_to_bottom(tmp_path: Path) -> None:
    page = "Say:\n\n```python\nx = 2\nprint(x)\n```\n\nand\n\n```python\nx + 1\n```\n\n```\nno code(\n```\n"
    text, files = run(page, tmp_path)
    assert text == page.replace("print(x)\n```", "print(x)\n```\n\n```{ .text .output }\n2\n```").replace(
        "x + 1\n```", "x + 1\n```\n\n```{ .text .output }\n3\n```"
    )
    assert files == {}


def test_progress_on_stderr_is_shown_as_well(tmp_path: Path) -> None:
    text, _ = run("```python\nimport sys\n\nprint('\\x1b[1mdone', file=sys.stderr)\n```\n", tmp_path)
    assert text.endswith("```{ .text .output }\ndone\n```\n")


def test_figures_and_tables_stand_on_the_page(tmp_path: Path) -> None:
    figure = "from matplotlib.figure import Figure\n\nfigure = Figure()\nfigure"
    html = '<table border="1" class="dataframe"></table>'
    table = f"class Table:\n    def _repr_html_(self):\n        return {html!r}\n\n\nTable()"
    text, files = run(f"```python\n{figure}\n```\n\n```python\n{table}\n```\n", tmp_path)
    assert "![page](page-1.png)" in text
    assert '<div class="output"><table></table></div>' in text
    assert files["page-1.png"].startswith(b"\x89PNG")


def test_commands_run_as_on_the_command_line(tmp_path: Path) -> None:
    text, _ = run("```console\n$ interpnet --version\n```\n", tmp_path)
    assert f"```{{ .text .output }}\ninterpnet {interpnet.__version__}" in text


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("python\n1 / 0", r"docs/page.md, block at line 4: ZeroDivisionError: division by zero"),
        ("python\nimport warnings\nwarnings.warn('old')", r"line 4: UserWarning: old"),
        ("python\nfor i in range(99):\n    print(i)", r"line 4 prints more than 60 lines"),
        ("console\n$ interpnet nothing", r"line 4: ValueError: 'interpnet nothing' ended with code 2"),
        ("console\n$ rm -r data", r"line 4: ValueError: 'rm -r data' is no command of interpnet"),
    ],
)
def test_a_block_that_fails_is_named(code: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(examples.ExampleError, match=said):
        run(f"# Page\n\n```{code}\n```\n", tmp_path)


@pytest.fixture(scope="module")
def docstrings() -> Any:
    pytest.importorskip("griffe")
    pytest.importorskip("latex2mathml")
    return site_module("docstrings")


@pytest.fixture
def function(docstrings: Any) -> Any:
    import griffe

    with griffe.temporary_visited_module(
        "from torch import Tensor\ndef there(): ...\ndef function(a, b, c=1): ...", module_name="package"
    ) as module:
        return module["function"]


def test_a_reference_becomes_a_link_to_where_the_name_is(docstrings: Any, function: Any) -> None:
    text = docstrings.rewritten("See :func:`there` and :class:`~interpnet.engine.Site`.", function)
    assert '<autoref identifier="package.there" optional><code>there</code></autoref>' in text
    assert 'identifier="interpnet.engine.Site"' in text


def test_parameters_that_share_a_description_get_each_their_own(docstrings: Any, function: Any) -> None:
    text = docstrings.rewritten(
        "Do.\n\nParameters\n----------\na, b : int\n    Sides.\nc\n    Depth.\n\nReturns\n-------\nint\n", function
    )
    assert text == (
        "Do.\n\nParameters\n----------\na : int\n    Sides.\nb : int\n    Sides.\n\nc\n    Depth.\n\n"
        "Returns\n-------\nint\n"
    )


def test_formulas_become_mathml(docstrings: Any, function: Any) -> None:
    text = docstrings.rewritten("Sum:\n\n.. math:: \\frac{a}\n    {b}\n\nof :math:`a`.", function)
    assert '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">' in text
    assert ".. math" not in text
    assert "<mfrac>" in text
    assert "<mi>a</mi>" in text
