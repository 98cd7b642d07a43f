"""The manifest of a run folder: read with every entry checked, for what follows believes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from interpnet.errors import RunFolderError
from interpnet.support.checksums import SEAL, check_seal, seal
from interpnet.support.io import read_json

MANIFEST = "manifest.json"
_FORMAT = "interpnet-run-1"
# In every manifest that has a checksum of its own: one that has lost it is not taken for an older one.
_SETTINGS = "settings"
_STATES = ("running", "interrupted", "complete")

Fits = Callable[[Any], bool]


def empty_manifest(created: str) -> dict[str, Any]:
    """Return the manifest of a run of which nothing is known yet."""
    return {"format": _FORMAT, "created": created, "identity": {}, "stages": {}, "notes": [], _SETTINGS: []}


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is written: the manifest with a checksum of its own."""
    return seal({_SETTINGS: [], **manifest})


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of a run folder; ``RunFolderError`` where there is none that this version can read.

    One of an older version, which wrote no checksums, is read too.
    """
    file = path / MANIFEST
    if not file.is_file():
        what = "does not exist"
        if path.is_dir():
            what = "holds no run (no manifest.json)"
        raise RunFolderError(f"run folder {str(path)!r} {what}; `interpnet audit MODEL DATA --out {path}` makes one")
    remedy = f"restore it from a copy, or start over: interpnet audit --config {path / 'run.toml'} --out {path} --fresh"
    try:
        manifest = read_json(file)
    except RunFolderError as error:
        # Not to be deleted as other files are: the folder would hold no run.
        reason = str(error.__cause__ or error)
        raise RunFolderError(f"{str(file)!r} cannot be read ({reason}); {remedy}") from error
    if not isinstance(manifest, dict):
        manifest = {}
    known = manifest.get("format")
    if known != _FORMAT:
        raise RunFolderError(f"run folder {str(path)!r} has format {known!r}; expected {_FORMAT!r}")
    if SEAL in manifest or _SETTINGS in manifest:
        check_seal(manifest, repr(str(file)), remedy)
        del manifest[SEAL]
    manifest = {"created": "", "identity": {}, "stages": {}, "notes": []} | manifest
    wrong = [name for name, fits in _EXPECTED.items() if name in manifest and not fits(manifest[name])]
    if wrong:
        raise RunFolderError(f"{str(file)!r} cannot be used: its {', '.join(wrong)} cannot be right; {remedy}")
    return manifest


def unverifiable(manifest: Mapping[str, Any]) -> list[str]:
    """Return what to say of a run that a version without checksums wrote, as a list of one note, else an empty one.

    Examples
    --------
    >>> unverifiable({"stages": {"solve": {"state": "complete", "checksums": {}}}})
    []
    """
    stages = manifest["stages"].items()
    old = [name for name, entry in stages if entry["state"] == "complete" and "checksums" not in entry]
    if not old:
        return []
    return [f"An older version wrote {', '.join(old)} without checksums: damage to the files is not noticed."]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list(of: Fits) -> Fits:
    return lambda value: isinstance(value, list) and all(map(of, value))


def _is_table(of: Fits) -> Fits:
    return lambda value: isinstance(value, dict) and all(map(of, value.values()))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _has(**entries: Fits) -> Fits:
    """Return whether a value is an object whose entries, as far as they are there, fit."""
    return lambda value: (
        isinstance(value, dict) and all(fits(value[name]) for name, fits in entries.items() if name in value)
    )


def _is_stage(value: Any) -> bool:
    fits = _has(
        state=lambda state: state in _STATES,
        key=_is_text,
        files=_is_list(_is_text),
        checksums=_is_table(_is_text),
        notes=_is_list(_is_text),
        settings=_is_object,
    )
    return fits(value) and {"state", "key"} <= set(value)


_SPLIT = _has(
    skipped=_is_list(lambda row: isinstance(row, list) and len(row) == 3),  # position, name, reason
    preprocessing=_is_object,
)
_EXPECTED: dict[str, Fits] = {
    "created": _is_text,
    "identity": _is_table(_is_text),
    "stages": _is_table(_is_stage),
    "notes": _is_list(_is_text),
    "subject_notes": _is_list(_is_text),
    "settings": _is_list(_is_text),
    "model": _has(classes=_is_list(_is_text)),
    "data": _is_table(_SPLIT),
    "shard": lambda value: isinstance(value, list) and len(value) == 2 and all(isinstance(i, int) for i in value),
}
