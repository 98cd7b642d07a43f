"""The folder of a run: its manifest, which stage is done with which inputs, and whose it is."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import interpnet
from interpnet.errors import RunFolderError
from interpnet.support.checksums import canonical, checksum, file_checksum
from interpnet.support.io import remove_temporaries, remove_tree, write_json
from interpnet.support.ranks import ALONE, Ranks

from .config import EARLIER, RunConfig
from .lock import LOCK, locked, refuse_if_locked
from .manifest import MANIFEST, empty_manifest, read_manifest, sealed

_PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "safetensors")
_SHOWN = 12  # letters of a fingerprint in a message
CONFIG = "run.toml"
#: The stages in order, each with the folder it writes.
STAGES = {
    "collect": "scores",
    "contributions": "contributions",
    "solve": "weights",
    "reliance": "weights",
    "ablate": "ablation",
    "ablate-reliance": "ablation",
    "explain": "explanations",
    "shortcuts": "shortcuts",
    "concepts": "concepts",
    "repair": "repair",
    "report": "report",
}
#: How the file ends that keeps, beside a study, what the untouched network says of each test image.
ANSWERS = "-answers.npz"
# The commands that run those stages that have none of their own.
_COMMANDS = {"contributions": "collect", "reliance": "solve", "ablate-reliance": "ablate", "concepts": "audit --out"}


def command(stage: str) -> str:
    """Return the command that runs a stage.

    Examples
    --------
    >>> command("explain"), command("reliance")
    ('explain', 'solve')
    """
    return _COMMANDS.get(stage, stage)


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON-able value, whatever the order of its keys.

    Examples
    --------
    >>> digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    True
    """
    return hashlib.sha256(canonical(value)).hexdigest()


@dataclass
class RunFolder:
    """A run folder opened for reading and writing; every change of the manifest is written at once.

    Of several processes rank 0 writes; the others read, and take its manifest over at the end of each stage.

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
    # What this process has compared with its checksums, or written: stages, and the rows of the scores.
    verified: set[str] = field(default_factory=set, repr=False)
    ranks: Ranks = field(default=ALONE, repr=False)  # the processes at work on it

    @classmethod
    def create(cls, path: Path, *, fresh: bool = False, ranks: Ranks = ALONE) -> RunFolder:
        """Open ``path``, or prepare it where it does not exist or is empty; it is made with the first save.

        ``RunFolderError`` where that is a file, or a folder of something else. With ``fresh`` a damaged manifest does
        not matter, for what it says is about to be forgotten.
        """
        if (path / MANIFEST).is_file():
            try:
                return cls(path, read_manifest(path), ranks=ranks)
            except RunFolderError:
                if not fresh:
                    raise
                return cls(path, empty_manifest(created=now()), ranks=ranks)
        if (path.exists() or path.is_symlink()) and not path.is_dir():
            raise RunFolderError(f"run folder {str(path)!r} is a file; choose another folder (--out)")
        if path.is_dir() and any(entry.name != LOCK for entry in path.iterdir()):
            # Another command may have made the folder just now, and its manifest comes last.
            refuse_if_locked(path)
            if (path / MANIFEST).is_file():
                return cls(path, read_manifest(path), ranks=ranks)
            raise RunFolderError(
                f"{str(path)!r} is not empty and holds no run; choose another folder (--out), such as runs/NAME"
            )
        return cls(path, empty_manifest(created=now()), ranks=ranks)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run folder; errors as :func:`read_manifest`."""
        return cls(path, read_manifest(path))

    def save(self) -> None:
        """Write the manifest, with the notes of all stages gathered."""
        if not self.ranks.first:
            return
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
        write_json(self.path / MANIFEST, sealed(self.manifest))

    def config(self) -> RunConfig:
        """Return the settings the run was last started with; a ``run.toml`` that changed since is refused."""
        path = self.path / CONFIG
        accepted = self.manifest.get("settings")
        # A run of an older version has none.
        if accepted and path.is_file() and file_checksum(path) not in accepted:
            raise RunFolderError(
                f"{str(path)!r} is not as the last command wrote it: it was edited or damaged. To take it as it is, "
                f"name it: interpnet audit --config {path} --out {self.path}; settings can also be given as options"
            )
        return RunConfig.load(path, missing=EARLIER)

    def store(self, config: RunConfig) -> None:
        """Write the settings to ``run.toml``; the manifest keeps its checksum."""
        if not self.ranks.first:
            return
        path = self.path / CONFIG
        before = []
        if path.is_file():
            before = [file_checksum(path)]
        text = config.text().encode()
        after = f"{len(text)}-{checksum(text)}"
        if before == [after] == self.manifest.get("settings"):
            return
        # Both are right until the file is replaced: a command can be killed between the two writes.
        self.manifest["settings"] = [*before, after]
        self.save()
        config.save(path)
        self.manifest["settings"] = [after]

    def folder(self, stage: str) -> Path:
        """Return the folder a stage writes to."""
        return self.path / STAGES[stage]

    def stage(self, name: str) -> dict[str, Any]:
        """Return the manifest's entry of a stage, empty where it never ran."""
        entry: dict[str, Any] = self.manifest["stages"].get(name, {})
        return entry

    def known(self, *names: str) -> Any:
        """Return what the manifest holds under some names; ``RunFolderError`` where it lacks that."""
        found: Any = self.manifest
        for name in names:
            if not isinstance(found, dict) or name not in found:
                what = f"{str(self.path / MANIFEST)!r} lacks {' / '.join(names)}"
                raise RunFolderError(f"{what}; run `interpnet collect {self.path}` again")
            found = found[name]
        return found

    def is_complete(self, stage: str, key: str) -> bool:
        """Whether a stage has run to its end with exactly the inputs that ``key`` stands for."""
        entry = self.stage(stage)
        return entry.get("state") == "complete" and entry.get("key") == key

    def is_done(self, stage: str, key: str) -> bool:
        """Whether a stage is complete, and its files are as it wrote them."""
        return self.is_complete(stage, key) and not self.damage(stage)

    def damage(self, stage: str) -> dict[str, str]:
        """Return the files of a complete stage that are not as they were written, each with what is wrong."""
        entry = self.stage(stage)
        known = dict.fromkeys(entry.get("files", [])) | entry.get("checksums", {})
        if stage in self.verified:
            # Whether they are there costs nothing.
            known = dict.fromkeys(known)
        found = {name: _wrong(self.path / name, expected) for name, expected in known.items()}
        wrong = {name: what for name, what in found.items() if what}
        if not wrong:
            self.verified.add(stage)
        return wrong

    def key(self, stage: str) -> str:
        """Return the key of a complete stage, or raise ``RunFolderError`` where it has not run to its end.

        So does the run of one of several shards.
        """
        self.check_whole()
        entry = self.stage(stage)
        state = entry.get("state", "")
        there = all((self.path / file).is_file() for file in entry.get("files", []))
        if state == "complete" and any((self.path / file).is_dir() for file in entry.get("files", [])):
            self.verify(stage)
        if state != "complete" or not there:
            how = {"running": "was interrupted", "interrupted": "was interrupted"}.get(state, "has not run")
            raise RunFolderError(
                f"run folder {str(self.path)!r}: the stage {stage!r} {how}; "
                f"run `interpnet {command(stage)} {self.path}` first"
            )
        return str(entry["key"])

    def verify(self, stage: str) -> None:
        """Raise ``RunFolderError`` where a file of a complete stage is not as it was written."""
        for name, what in self.damage(stage).items():
            raise RunFolderError(
                f"{str(self.path / name)!r} {what}; run `interpnet {command(stage)} {self.path}` to have it made again"
            )

    def discard(self, names: Iterable[str]) -> None:
        """Delete damaged files of a stage, so that it makes them again; a folder in a file's place is refused."""
        if not self.ranks.first:
            return
        for name in names:
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                raise RunFolderError(f"{str(path)!r} is a folder and should be a file; move it elsewhere")
            path.unlink(missing_ok=True)

    def mark(self, stage: str, state: str, key: str, *, written: Iterable[str] = (), **facts: Any) -> None:
        """Record a stage as ``running``, ``interrupted`` or ``complete``, with facts about it.

        ``written``: patterns, relative to the run folder, of the files whose checksums are kept.
        """
        if not self.ranks.first:
            return
        entry = {"state": state, "key": key, **facts}
        self.verified.discard(stage)
        if state == "complete":
            files = {path for pattern in written for path in self.path.glob(pattern) if path.is_file()}
            names = {path.relative_to(self.path).as_posix(): path for path in sorted(files)}
            entry["checksums"] = {name: file_checksum(path) for name, path in names.items()}
            self.verified.add(stage)
        self.manifest["stages"][stage] = entry
        self.save()

    def has_results(self) -> bool:
        """Whether there is something that another model's run would lose: a complete stage, or a pass half done."""
        stages = self.manifest["stages"]
        if any(entry.get("state") == "complete" for entry in stages.values()):
            return True
        collecting = self.stage("collect")
        # What ended with an error, and not by Ctrl-C or a kill, is of no use under other settings.
        return bool(collecting) and not collecting.get("failed") and (self.folder("collect") / "state.json").is_file()

    def claim(self, identity: Mapping[str, str], differences: Iterable[str] = ()) -> None:
        """Make this the folder of ``identity`` (what: fingerprint), or refuse it with the differences named.

        ``differences`` are more of them, in words.
        """
        known = self.manifest["identity"]
        others = [what for what, fingerprint in identity.items() if what in known and known[what] != fingerprint]
        if others:
            shown = [
                f"another {what} ({known[what][:_SHOWN]} there, {identity[what][:_SHOWN]} here)" for what in others
            ]
            said = "".join(f"; {difference}" for difference in differences)
            raise RunFolderError(
                f"run folder {str(self.path)!r} belongs to {', '.join(shown)}{said}; choose another folder (--out), "
                "or --fresh to start this one over"
            )
        self.manifest["identity"] = dict(identity)

    def claim_shard(self, shard: tuple[int, int] | None) -> None:
        """Make this the folder of the i-th of n shards, or refuse it; with None it stays what it is."""
        if shard is None:
            return
        known = self.manifest.get("shard")
        if self.manifest["identity"] and known != list(shard):
            held = "all images"
            if known is not None:
                held = "shard {} of {}".format(*known)
            raise RunFolderError(
                f"run folder {str(self.path)!r} holds {held}, and --shard {shard[0]}/{shard[1]} came; choose another "
                "folder (--out), or --fresh to start this one over"
            )
        self.manifest["shard"] = list(shard)

    def check_whole(self) -> None:
        """Raise ``RunFolderError`` where the run holds one of several shards alone."""
        shard = self.manifest.get("shard")
        if shard is not None:
            raise RunFolderError(
                f"run folder {str(self.path)!r} holds shard {shard[0]} of {shard[1]} alone; merge all first: "
                "interpnet merge RUN... --out ALL"
            )

    def forget(self) -> None:
        """Forget whose the folder is, and what stages left in it that were not finished."""
        stages = {name: entry for name, entry in self.manifest["stages"].items() if name not in STAGES}
        for name in ("model", "data", "collect", "shard"):
            self.manifest.pop(name, None)
        self.manifest.update(identity={}, stages=stages)

    def clear(self) -> None:
        """Delete what the stages wrote and forget whose the folder is; other files in it, and links' targets, stay."""
        if self.path.is_symlink():
            raise RunFolderError(
                f"run folder {str(self.path)!r} is a link to {str(self.path.resolve())!r}, and --fresh deletes nothing "
                "through a link; name the folder itself (--out)"
            )
        if self.ranks.first:
            for name in dict.fromkeys(STAGES.values()):
                remove_tree(self.path / name)
        self.verified.clear()
        self.manifest = empty_manifest(self.manifest["created"])
        self.save()

    @contextmanager
    def locked(self, *, fresh: bool = False) -> Iterator[None]:
        """Keep a second process from writing to the same folder meanwhile: it gets a ``RunFolderError``.

        The manifest is read again, for another command may have written it since; what a killed one left half-written
        is deleted. A folder without a manifest at the end goes, if it was made here. Of several processes rank 0 has
        the lock, for all of them.
        """
        if not self.ranks.first:
            self._meet()
            yield
            return
        with locked(self.path, MANIFEST):
            if (self.path / MANIFEST).is_file():
                self.manifest = RunFolder.create(self.path, fresh=fresh).manifest
            remove_temporaries(self.path, below=(*STAGES.values(), "filters"))
            self._meet()
            yield

    def _meet(self) -> None:
        """Begin together: all ranks see the folder and have its manifest."""
        self.follow()
        blind = [rank for rank, there in enumerate(self.ranks.collect(self.path.is_dir())) if not there]
        if blind:
            raise RunFolderError(
                f"run folder {str(self.path)!r} is there for rank 0 and not for rank {blind[0]}; it must lie where the "
                "processes of all machines can read it (--out)"
            )

    def follow(self) -> None:
        """Take over rank 0's manifest, and which files it knows to be as they were written."""
        noted: dict[str, Any] = self.ranks.share({"manifest": self.manifest, "verified": sorted(self.verified)})
        if self.ranks.first:
            return
        self.manifest = noted["manifest"]
        self.verified = set(noted["verified"])


def _wrong(path: Path, expected: str | None) -> str:
    """Return what is wrong with a file, empty where nothing is."""
    if path.is_dir():
        return "is a folder and should be a file"
    if not path.is_file():
        return "is missing"
    try:
        if expected is not None and file_checksum(path) != expected:
            return "was changed or damaged since it was written"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return ""


def now() -> str:
    """Return the time in UTC, to the second, as the manifest has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
