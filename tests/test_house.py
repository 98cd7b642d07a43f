"""The house rules that a machine can check: docstring examples run, imports point downwards, one place for hooks."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import interpnet

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(m.name for m in pkgutil.walk_packages(interpnet.__path__, "interpnet."))
FILES = sorted([*ROOT.glob("interpnet/**/*.py"), *ROOT.glob("pipelines/**/*.py")])


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
    assert set(interpnet._HOME) & modules == set()


def test_unknown_public_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        interpnet.nothing  # noqa: B018 - the access is the test


# From the bottom up; a module may import from its own line or lines before it.
ORDER = [
    ["errors", "_io", "_allocator", "_checkpoint", "_progress", "_seed", "_device", "channels", "_operators", "trace"],
    [
        "_layout",
        "_graph",
        "sites",
        "_norms",
        "gram",
        "_gram_checks",
        "_gram_sums",
        "gram_parts",
        "_weights",
        "_factory",
    ],
    [
        "mulasso",
        "mulasso_cv",
        "breakpoints",
        "stability",
        "score_table",
        "smallcnn",
        "models",
        "datasets",
        "training",
        "backward",
        "_polyphase",
        "_backward_functions",
        "_backward_pooling",
    ],
    ["scores", "relevance", "ablation_result"],
    ["ablation", "_passes", "_removal", "_starts", "heatmap"],
    ["baselines", "evaluate", "explanation", "patches", "pictures", "plotting"],
]


def level(module: str) -> int | None:
    for i, names in enumerate(ORDER):
        if module in names:
            return i
    prefixes = {"_mulasso": 2, "_figures": 5, "_training": 2}
    return next((v for k, v in prefixes.items() if module.startswith(k)), None)


def imported(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    return names + [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    parts = path.relative_to(ROOT).with_suffix("").parts
    for name in imported(path):
        if parts[0] == "interpnet":
            assert not name.startswith("pipelines"), f"{path} imports {name}: the library never imports the application"
            target = name.split(".")
            if target[0] == "interpnet" and len(target) > 1 and parts[1] != "__init__":
                own, other = level(parts[1]), level(target[1])
                assert own is not None, f"give {parts[1]} a place in ORDER"
                assert other is not None, f"give {target[1]} a place in ORDER"
                assert other <= own, f"{path.name} imports {name}, which stands above it"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_hooks_are_registered_in_one_place_and_nothing_is_unpickled(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.name != "trace.py":
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
