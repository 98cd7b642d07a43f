"""The house rules that a machine can check: docstring examples run, imports point downwards, one place for hooks."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import interpnet

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(m.name for m in pkgutil.walk_packages(interpnet.__path__, "interpnet."))
FILES = sorted([*ROOT.glob("interpnet/**/*.py"), *ROOT.glob("pipelines/**/*.py")])
SCRIPTS = sorted(ROOT.glob("experiments/**/*.py"))


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0


@pytest.mark.parametrize("name", interpnet.__all__)
def test_public_names_are_documented(name: str) -> None:
    thing = getattr(interpnet, name)
    assert thing.__doc__, f"{name} has no docstring"
    assert name in dir(interpnet)


def test_no_module_hides_a_public_name() -> None:
    """Importing interpnet.explain, say, would put the module where the function of that name was."""
    modules = {path.stem for path in (ROOT / "interpnet").glob("*.py")} | {
        path.name for path in (ROOT / "interpnet").iterdir() if path.is_dir()
    }
    assert set(interpnet.__all__) & modules == {
        "concepts",
        "datasets",
        "evaluate",
        "pictures",
        "plot",
        "shortcuts",
    }  # packages by design


def test_unknown_public_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="No interpnet attribute nothing"):
        interpnet.nothing  # noqa: B018 - the access is the test


# From the bottom up; a room may import from the rooms below it, through their faces.
ROOMS = [
    ["errors"],
    ["support"],
    ["engine"],
    ["gram", "backward", "datasets"],
    ["scores", "models", "mulasso"],
    ["reliance"],
    ["interpretation"],
    ["ablation"],
    ["explanation"],
    ["attribution", "plotting"],
    ["evaluate", "pictures", "shortcuts"],
    ["concepts"],
    ["plot"],
    ["pipelines"],
    ["experiments"],
]
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
# Rooms whose files are public, one by one: what they hold is used by file.
OPEN = {"errors", "support", "pipelines"}


def dotted(path: Path) -> str:
    """Return a file's module, with pipelines/ under the name it is installed by."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return f"interpnet.{name}" if name.startswith("pipelines") else name


def imported(path: Path) -> list[str]:
    """Return every module of ours that a file imports, relative imports resolved."""
    here = dotted(path).split(".")
    package = here if path.name == "__init__.py" else here[:-1]
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.split(".")[0] in {"interpnet", "experiments"}]


def room(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] == "experiments":
        return "experiments"
    return parts[1] if len(parts) > 1 and parts[1] in LEVEL else None


@pytest.mark.parametrize("path", [*FILES, *SCRIPTS], ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downwards_and_through_the_faces(path: Path) -> None:
    own = room(dotted(path))
    if own is None:
        assert path.name in {"__init__.py", "__main__.py"}, f"give {path.name} a room"
        return
    for name in imported(path):
        other = room(name)
        if other is None or other == own:
            continue
        assert LEVEL[other] < LEVEL[own], f"{path.name} imports {name}, which does not stand below {own}"
        private = [part for part in name.split(".")[2:] if part.startswith("_")]
        assert not private or other in OPEN, f"{path.name} imports {name} past the face of {other}"


def test_no_file_imports_itself_in_a_circle() -> None:
    """Whatever is imported where: the files' imports make no circle."""
    files = {dotted(path): path for path in FILES}
    needs = {name: {n for n in imported(path) if n in files and n != name} for name, path in files.items()}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"a circle: {' -> '.join([*above[above.index(name) :], name])}"
        if name in done:
            return
        for other in sorted(needs[name]):
            # A package's own face is lazy: it does not import the files it names.
            if files[other].name != "__init__.py":
                visit(other, (*above, name))
        done.add(name)

    for name in files:
        visit(name, ())


def test_the_top_of_the_package_is_short() -> None:
    entries = [path for path in (ROOT / "interpnet").iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 24, sorted(path.name for path in entries)


def test_every_folder_is_packaged() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = {dotted(path) for path in FILES if path.name == "__init__.py"}
    assert set(settings["tool"]["setuptools"]["packages"]) == folders


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_hooks_are_registered_in_one_place_and_nothing_is_unpickled(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.name != "_trace.py":
        assert "register_forward" not in text, "only the engine registers hooks"
        assert "register_full_backward" not in text, "only the engine registers hooks"
    calls = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call)]
    for call in calls:
        name = ast.unparse(call.func)
        if name == "torch.load":
            assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in call.keywords)
        if name in {"np.load", "numpy.load"}:
            assert any(k.arg == "allow_pickle" and ast.unparse(k.value) == "False" for k in call.keywords)
        assert name not in {"pickle.load", "pickle.loads", "joblib.load"}
    assert not any(isinstance(n, ast.Assert) for n in ast.walk(ast.parse(text))), (
        "raise an error with a message instead"
    )
    assert len(text.splitlines()) <= 400, "split this file by idea"


def test_importing_the_package_and_asking_for_help_do_not_load_torch() -> None:
    code = "import sys, interpnet, interpnet.pipelines.cli.app; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
