"""Fixtures for all tests: seeds, devices, and the shared folder of real networks and images."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import shapes
from hypothesis import HealthCheck, settings

# Before any test imports a public function: from here on each call checks the shapes it promises.
shapes.install()

# Where the tests themselves run there, a finding of a check would be an annotation of theirs.
os.environ.pop("GITHUB_ACTIONS", None)

# A busy machine is no fault of the code: how long examples take, and their drawing, decides nothing.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

_ROOT = Path(__file__).resolve().parent.parent


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Look for no garbage among what collecting makes: it stays, and looking took a quarter of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Make every test start from the same random state, and leave no function mode behind."""
    import torch
    from torch.overrides import _get_current_function_mode_stack

    torch.manual_seed(0)
    yield
    assert not _get_current_function_mode_stack(), "a test left a torch function mode active"


@pytest.fixture(autouse=True)
def _silent_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the silence after which a log gets a line begin with each test, not with the tests before it."""
    from interpnet.support.progress import LogLines

    monkeypatch.setattr(LogLines, "_ended", float("-inf"))


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    """Return each device to test on; CUDA skips visibly where there is none."""
    import torch

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    return str(request.param)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real images and networks, or skip."""
    given = os.environ.get("INTERPNET_SHARED_DATA")
    folder = Path(given) if given else _ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(
            "the shared data folder is not here: set INTERPNET_SHARED_DATA, or put it at ../shared/data "
            "beside the checkout"
        )
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of three and two 10x12 images."""
    from helpers.image_files import two_classes

    return two_classes(tmp_path / "photos")


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A briefly trained network for digits."""
    from helpers.small_audit import train

    return train(tmp_path_factory.mktemp("weights") / "digits.safetensors")


@pytest.fixture(scope="session")
def finished(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete audit run; tests that change it take a copy, ``run``."""
    from helpers.small_audit import audit

    out = tmp_path_factory.mktemp("runs") / "digits"
    assert audit(weights, out) == 0
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a complete audit run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def blank_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every figure write a file without drawing it: for audits whose charts other tests draw."""
    from matplotlib.figure import Figure

    def save(_figure: Figure, target: Any, **options: Any) -> None:
        if options.get("format") == "svg":
            target.write("<svg ></svg>")
        else:
            Path(target).write_bytes(b"a chart")

    monkeypatch.setattr(Figure, "savefig", save)


@pytest.fixture(autouse=True, scope="session")
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the list of model files that commands have named away from the user's own."""
    os.environ["INTERPNET_STATE"] = str(tmp_path_factory.mktemp("state"))
