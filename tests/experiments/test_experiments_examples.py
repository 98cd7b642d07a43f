"""The examples in the experiments' docstrings run, and every command explains itself."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import experiments

ROOT = Path(experiments.__file__).parent
MODULES = sorted(".".join(path.relative_to(ROOT.parent).with_suffix("").parts) for path in ROOT.glob("*/*.py"))
COMMANDS = [
    name
    for name in MODULES
    if re.search(r"\n@(command|study)\(", (ROOT.parent / f"{name.replace('.', '/')}.py").read_text())
]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__init__")])
def test_examples_in_docstrings_run(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_what_a_command_does_and_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(name)
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert f"python -m {name}" in shown
    assert str(module.__doc__).splitlines()[0] in shown
    assert "--" in shown


def test_an_unknown_choice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    from experiments.rankings.run import main

    with pytest.raises(SystemExit):
        main(["--networks", "mnist", "imagenet"])
    assert "invalid choice: 'imagenet' (choose from" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_the_last_of_its_module_because_it_runs_where_it_is_declared(name: str) -> None:
    tree = ast.parse((ROOT.parent / f"{name.replace('.', '/')}.py").read_text())
    assert isinstance(tree.body[-1], ast.FunctionDef)
    assert tree.body[-1].name == "main"


def test_python_runs_a_command(tmp_path: Path) -> None:
    """With its exit status: here that of an unknown option, and of results that are not there yet."""
    command = [sys.executable, "-m", "experiments.coloured_part.run"]
    assert subprocess.run([*command, "--nothing"], cwd=ROOT.parent, capture_output=True, check=False).returncode == 2
    (tmp_path / "none.json").write_text("[]")
    command += ["--results", str(tmp_path / "none.json")]
    done = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "E3 has not measured two networks of a kind on double-12c yet\n")
