"""A copy of the repository in which one file at a time is changed and tests are run, each time in a forked process.

The parent imports torch and the other heavy packages once, but nothing of ours: a child then loads the changed files in
a fraction of a second instead of three. Everything runs on one thread.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

# Imported once, by the parent.
_HEAVY = [
    "torch",
    "torchvision",
    "numpy",
    "scipy.stats",
    "scipy.optimize",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "matplotlib.pyplot",
    "PIL.Image",
    "safetensors.torch",
    "hypothesis",
    "typer",
    "rich",
    "jinja2",
    "timm",
    "captum.attr",
    "skimage.segmentation",
    "joblib",
]
# Ours, in every spelling: a child must load its own copy.
_OURS = {"interpnet", "experiments", "helpers", "conftest"}
_COPIED = ("interpnet", "pipelines", "tests", "experiments", "docs", "data")
_FILES = ("pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "RESULTS.md", "Makefile", "SECURITY.md")

# Programs that a test starts find the copy too: Python imports this module at its start.
_SITE = """
import sys
for name, module in list(sys.modules.items()):
    if name.startswith("__editable___interpnet"):
        module.MAPPING.update({"interpnet": %r, "interpnet.pipelines": %r})
"""


@dataclass(frozen=True)
class Verdict:
    """What the tests said of one change."""

    # "failed", "broken" (the tests could not run), "timeout" or "passed".
    outcome: str
    # The first test that failed.
    test: str
    seconds: float

    @property
    def caught(self) -> bool:
        """Whether the change was noticed."""
        return self.outcome != "passed"


@dataclass(frozen=True)
class Baseline:
    """What a run of the unchanged tests said."""

    # Seconds of each test, with the set-up of what it alone needs.
    seconds: dict[str, float]
    # For each file and line the tests that run it; "" stands for imports, hence for all tests.
    lines: dict[str, dict[int, list[str]]]
    failed: list[str] = field(default_factory=list)

    def tests_of(self, file: str, first: int, last: int) -> list[str] | None:
        """Return the tests that run any of these lines, quickest first; ``None`` where all may, ``[]`` where none."""
        found: set[str] = set()
        for line in range(first, last + 1):
            found.update(self.lines.get(file, {}).get(line, []))
        if "" in found:
            return None
        return sorted(found & self.seconds.keys(), key=self.seconds.__getitem__)


class Workshop:
    """A temporary copy of ``root``; :meth:`run` runs tests in it, with some files changed."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self.copy = folder / "copy"
        self._log = folder / "log.txt"
        for name in _COPIED:
            if (root / name).is_dir():
                shutil.copytree(
                    root / name, self.copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
                )
        for name in _FILES:
            if (root / name).is_file():
                shutil.copy2(root / name, self.copy / name)
        site = self.copy / ".site"
        site.mkdir()
        mapped = str(self.copy / "interpnet"), str(self.copy / "pipelines")
        (site / "sitecustomize.py").write_text(_SITE % mapped, encoding="utf-8")

    def baseline(self, tests: Sequence[str], limit: float) -> Baseline:
        """Run the unchanged tests once, and note which of them runs which line."""
        result = self.copy.parent / "baseline.json"
        result.unlink(missing_ok=True)
        self._fork(lambda: _measured(self.copy, tests, result), limit)
        if not result.exists():
            raise RuntimeError(f"the unchanged tests did not run:\n{self.log()[-3000:]}")
        read = json.loads(result.read_text(encoding="utf-8"))
        lines = {file: {int(n): names for n, names in by_line.items()} for file, by_line in read["lines"].items()}
        return Baseline(read["seconds"], lines, read["failed"])

    def run(
        self, tests: Sequence[str], *, changed: Mapping[str, str], only: Sequence[str] | None, limit: float
    ) -> Verdict:
        """Run tests with files changed (path to text) up to the first failure; ``only`` chooses and orders them."""
        originals = {name: (self.copy / name).read_text(encoding="utf-8") for name in changed}
        first = self.copy.parent / "first.txt"
        first.unlink(missing_ok=True)
        start = time.monotonic()
        try:
            for name, text in changed.items():
                self._write(name, text)
            status = self._fork(lambda: _tested(tests, only, first), limit)
        finally:
            for name, text in originals.items():
                self._write(name, text)
        seconds = time.monotonic() - start
        test = ""
        if first.exists():
            test = first.read_text(encoding="utf-8")
        outcome = {0: "passed", 1: "failed", None: "timeout"}.get(status, "broken")
        return Verdict(outcome, test, round(seconds, 2))

    def log(self) -> str:
        """Return what the last child printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def _write(self, name: str, text: str) -> None:
        path = self.copy / name
        path.write_text(text, encoding="utf-8")
        # A compiled file of the same second and size would be taken for this one's.
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()

    def _fork(self, work: Callable[[], int], limit: float) -> int | None:
        """Run ``work`` in a child; return its exit status, ``None`` where it took longer than ``limit`` seconds."""
        pid = os.fork()
        if pid == 0:
            status = 70
            try:
                os.setsid()
                log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(log, 1)
                os.dup2(log, 2)
                _enter(self.copy, self.root)
                status = work()
            except BaseException:  # noqa: BLE001 - a child says why it ends, and never comes back
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        end = time.monotonic() + limit
        while time.monotonic() < end:
            done, code = os.waitpid(pid, os.WNOHANG)
            if done:
                self._end(pid)
                return os.waitstatus_to_exitcode(code)
            time.sleep(0.02)
        self._end(pid)
        os.waitpid(pid, 0)
        return None

    @staticmethod
    def _end(pid: int) -> None:
        # The child leads a group of its own, with all that its tests started.
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


@contextmanager
def workshop(root: Path) -> Iterator[Workshop]:
    """Make a temporary copy of ``root`` to change files in, and load what is heavy once."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.setdefault("MPLBACKEND", "agg")
    for name in _HEAVY:
        with suppress(ImportError):
            importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        yield Workshop(root.resolve(), Path(folder))


def _enter(copy: Path, root: Path) -> None:
    """Make this process one that works in the copy, and in nothing else of ours."""
    os.chdir(copy)
    shared = root.parent / "shared" / "data"
    os.environ.setdefault("INTERPNET_SHARED_DATA", str(shared))
    os.environ["PYTHONPATH"] = str(copy / ".site")
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(copy.parent / "hypothesis")
    elsewhere = {str(root), str(ROOT), ""}
    sys.path[:] = [str(copy)] + [entry for entry in sys.path if entry not in elsewhere]
    for name in list(sys.modules):
        if name.partition(".")[0] in _OURS:
            del sys.modules[name]
        if name.startswith("__editable___interpnet"):
            mapped = {"interpnet": str(copy / "interpnet"), "interpnet.pipelines": str(copy / "pipelines")}
            sys.modules[name].MAPPING.update(mapped)
    importlib.invalidate_caches()


# Before the name of a fixture, as coverage's context.
_FIXTURE = "fixture "
_QUIET = ("-q", "-n0", "-p", "no:cacheprovider", "--no-header", "-W", "ignore::pytest.PytestAssertRewriteWarning")


def _measured(copy: Path, tests: Sequence[str], result: Path) -> int:
    import coverage

    cov = coverage.Coverage(
        data_file=None, source=[str(copy / "interpnet"), str(copy / "pipelines")], config_file=False
    )
    notes = _Notes(cov)
    cov.start()
    code = pytest.main([*_QUIET, *tests], plugins=[notes])
    cov.stop()
    data = cov.get_data()
    lines = {}
    for file in data.measured_files():
        contexts = data.contexts_by_lineno(file)
        lines[str(Path(file).relative_to(copy))] = {
            n: sorted({test for name in names for test in notes.users.get(name, [name])})
            for n, names in contexts.items()
        }
    # Else pytest did not get as far as the tests.
    if code in {0, 1}:
        result.write_text(
            json.dumps({"seconds": notes.seconds, "failed": notes.failed, "lines": lines}), encoding="utf-8"
        )
    return int(code)


def _tested(tests: Sequence[str], only: Sequence[str] | None, first: Path) -> int:
    # Files compiled by the baseline are read, and none is written: a changed one must not outlive its turn.
    sys.dont_write_bytecode = True
    return int(pytest.main([*_QUIET, "-x", "--tb=line", *tests], plugins=[_Chosen(only, first)]))


class _Notes:
    """A pytest plugin that notes how long each test takes, and tells coverage which one runs."""

    def __init__(self, cov: Any) -> None:
        self._cov = cov
        self._now = ""
        self.seconds: dict[str, float] = {}
        # The tests that ask for each fixture, by the name of its context.
        self.users: dict[str, list[str]] = {}
        self.failed: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._now = item.nodeid
        for name in getattr(item, "fixturenames", ()):
            self.users.setdefault(_FIXTURE + name, []).append(item.nodeid)
        self._cov.switch_context(item.nodeid)
        start = time.monotonic()
        result = yield
        self.seconds[item.nodeid] = round(time.monotonic() - start, 3)
        self._now = ""
        self._cov.switch_context("")
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        # What is made for many tests is made by the first: its lines belong to all that ask for it.
        if fixturedef.scope != "function":
            self._cov.switch_context(_FIXTURE + fixturedef.argname)
        result = yield
        if fixturedef.scope != "function":
            self._cov.switch_context(self._now)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


class _Chosen:
    """A pytest plugin that runs some tests only, in a given order, and notes the first that fails."""

    def __init__(self, only: Sequence[str] | None, first: Path) -> None:
        self._rank: dict[str, int] | None = None
        if only is not None:
            self._rank = {name: rank for rank, name in enumerate(only)}
        self._first = first

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        rank = self._rank
        if rank is not None:
            items[:] = sorted((item for item in items if item.nodeid in rank), key=lambda item: rank[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self._first.exists():
            self._first.write_text(report.nodeid, encoding="utf-8")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and not self._first.exists():
            self._first.write_text(report.nodeid, encoding="utf-8")
