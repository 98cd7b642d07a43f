"""The wheel: it holds everything, its only top-level module is `interpnet`, and it lives beside another `pipelines`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this checkout, built from a copy so that the checkout stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    copy.mkdir()
    for name in ("interpnet", "pipelines"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(copy)], check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """A folder of installed packages: ours, and another distribution that has a top-level `pipelines`."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "pipelines").mkdir()
    (folder / "pipelines" / "__init__.py").write_text("whose = 'somebody else'\n")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def run(site: Path, *arguments: str) -> str:
    """Run Python with these packages before all others, from a folder that holds no code."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True, cwd=site.parent, env=environment
    )
    return done.stdout


def test_only_interpnet_is_at_the_top_of_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        top = {name.split("/")[0] for name in archive.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"interpnet"}


def test_every_file_of_the_packages_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    wanted = set()
    for folder, name in (("interpnet", "interpnet"), ("pipelines", "interpnet/pipelines")):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                wanted.add(f"{name}/{path.relative_to(ROOT / folder).as_posix()}")
    assert wanted <= held


def test_it_runs_beside_another_pipelines(site):
    code = "import interpnet.pipelines, pipelines; print(pipelines.whose, interpnet.pipelines.__file__)"
    whose, file = run(site, "-c", code).rsplit(" ", 1)
    assert whose == "somebody else"
    assert Path(file.strip()).is_relative_to(site)
    assert "Audit an image classifier" in run(site, "-m", "interpnet", "--help")
    assert "Audit an image classifier" in run(site, str(site / "bin" / "interpnet"), "--help")
    assert run(site, "-c", "import interpnet; print(interpnet.Gram.__module__)").strip() == "interpnet.gram._gram"
