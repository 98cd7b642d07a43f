"""The folder of a run: its manifest, which stage is done with which inputs, and whose it is."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import interpnet
from interpnet.errors import RunFolderError
from interpnet.support.io import read_json, write_json

from .config import RunConfig

_FORMAT = "interpnet-run-1"  # of the manifest; another one is refused
_PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "safetensors")
_SHOWN = 12  # letters of a fingerprint in a message
#: The stages in order, each with the folder it writes.
STAGES = {"collect": "scores", "solve": "weights", "ablate": "ablation", "explain": "explanations", "report": "report"}


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON-able value, whatever the order of its keys.

    Examples
    --------
    >>> digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class RunFolder:
    """A run folder opened for reading and writing; every change of the manifest is written at once.

    Examples
    --------
    >>> import tempfile
    >>> run = RunFolder.create(Path(tempfile.mkdtemp()) / "new")
    >>> run.mark("solve", "complete", digest("inputs"))
    >>> RunFolder.open(run.path).is_done("solve", digest("inputs"))
    True
    """

    path: Path
    manifest: dict[str, Any]  # as in manifest.json

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Open ``path``, or prepare it where it does not exist or is empty; it is made with the first save.

        ``RunFolderError`` where that is a file, or a folder of something else.
        """
        if (path / "manifest.json").is_file():
            return cls.open(path)
        if path.exists() and not path.is_dir():
            raise RunFolderError(f"run folder {str(path)!r} is a file; choose another folder (--out)")
        if path.is_dir() and any(entry.name != ".lock" for entry in path.iterdir()):
            raise RunFolderError(
                f"{str(path)!r} is not empty and holds no run; choose another folder (--out), such as runs/NAME"
            )
        return cls(path, _manifest(created=now()))

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run folder; errors as :func:`read_manifest`."""
        return cls(path, read_manifest(path))

    def save(self) -> None:
        """Write the manifest, with the notes of all stages gathered."""
        notes = list(self.manifest.get("subject_notes", []))
        for name in STAGES:
            notes += self.stage(name).get("notes", [])
        # Two stages can have the same to say.
        self.manifest["notes"] = list(dict.fromkeys(notes))
        versions = {"python": platform.python_version()}
        for package in _PACKAGES:
            with suppress(PackageNotFoundError):
                versions[package] = version(package)
        self.manifest.update(interpnet=interpnet.__version__, versions=versions, platform=platform.platform())
        write_json(self.path / "manifest.json", self.manifest)

    def config(self) -> RunConfig:
        """Return the settings the run was last started with."""
        return RunConfig.load(self.path / "run.toml")

    def folder(self, stage: str) -> Path:
        """Return the folder a stage writes to."""
        return self.path / STAGES[stage]

    def stage(self, name: str) -> dict[str, Any]:
        """Return the manifest's entry of a stage, empty where it never ran."""
        entry: dict[str, Any] = self.manifest["stages"].get(name, {})
        return entry

    def is_done(self, stage: str, key: str) -> bool:
        """Whether a stage is complete, with exactly the inputs that ``key`` stands for, and its files are there."""
        entry = self.stage(stage)
        return entry.get("state") == "complete" and entry.get("key") == key and self._has_files(stage)

    def _has_files(self, stage: str) -> bool:
        return all((self.path / file).is_file() for file in self.stage(stage).get("files", []))

    def key(self, stage: str) -> str:
        """Return the key of a complete stage, or raise ``RunFolderError`` where it has not run to its end."""
        entry = self.stage(stage)
        state = entry.get("state", "")
        if state != "complete" or not self._has_files(stage):
            how = {"running": "was interrupted", "interrupted": "was interrupted"}.get(state, "has not run")
            raise RunFolderError(
                f"run folder {str(self.path)!r}: the stage {stage!r} {how}; run `interpnet {stage} {self.path}` first"
            )
        return str(entry["key"])

    def mark(self, stage: str, state: str, key: str, **facts: Any) -> None:
        """Record a stage as ``running``, ``interrupted`` or ``complete``, with facts about it."""
        self.manifest["stages"][stage] = {"state": state, "key": key, **facts}
        self.save()

    def claim(self, identity: Mapping[str, str]) -> None:
        """Make this the folder of ``identity`` (what: fingerprint), or refuse it with the difference named."""
        known = self.manifest["identity"]
        for what, fingerprint in identity.items():
            if what in known and known[what] != fingerprint:
                raise RunFolderError(
                    f"run folder {str(self.path)!r} belongs to another {what} ({known[what][:_SHOWN]} there, "
                    f"{fingerprint[:_SHOWN]} here); choose another folder (--out), or --fresh to start this one over"
                )
        self.manifest["identity"] = dict(identity)

    def clear(self) -> None:
        """Delete what the stages wrote and forget whose the folder is; other files in it stay."""
        for name in STAGES.values():
            folder = self.path / name
            if folder.is_dir():
                shutil.rmtree(folder)
        self.manifest = _manifest(self.manifest["created"])
        self.save()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second process from writing to the same folder meanwhile: it gets a ``RunFolderError``."""
        try:
            import fcntl
        except ImportError:  # Windows: no advisory locks there
            yield
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = (self.path / ".lock").open("w", encoding="utf-8")
        except OSError as error:
            raise RunFolderError(
                f"run folder {str(self.path)!r} cannot be written: {error.strerror or error}. "
                "Choose a folder you may write to (--out)"
            ) from error
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunFolderError(
                    f"another process is at work in run folder {str(self.path)!r}; "
                    "wait for it, or choose another folder (--out)"
                ) from error
            yield


def _manifest(created: str) -> dict[str, Any]:
    """Return the manifest of a run of which nothing is known yet."""
    return {"format": _FORMAT, "created": created, "identity": {}, "stages": {}, "notes": []}


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of a run folder; ``RunFolderError`` where there is none that this version can read."""
    if not (path / "manifest.json").is_file():
        what = "does not exist"
        if path.is_dir():
            what = "holds no run (no manifest.json)"
        raise RunFolderError(f"run folder {str(path)!r} {what}; `interpnet audit MODEL DATA --out {path}` makes one")
    manifest = read_json(path / "manifest.json")
    if not isinstance(manifest, dict):
        manifest = {}
    if manifest.get("format") != _FORMAT:
        raise RunFolderError(f"run folder {str(path)!r} has format {manifest.get('format')!r}; expected {_FORMAT!r}")
    return manifest


def now() -> str:
    """Return the time in UTC, to the second, as the manifest has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
