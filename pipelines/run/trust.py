"""Whose code runs: a file that a run.toml names runs where its user has named it himself, or beside the run.toml."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from interpnet.errors import RunFolderError
from interpnet.support.io import read_object, write_json

from .config import RunConfig

_FORMAT = "interpnet-named-files-1"
_FILE = "named_files.json"
# What may end in .py and is a folder or table all the same.
_OF_FILES = ("imagefolder:", "csv:", "webdataset:", "hf:")
# Settings that name functions of the user's own: what each is, and the command that takes it.
_OWN = {"methods": ("method", "explain"), "rankings": ("ranking", "ablate")}
#: Set to another folder, it says where this user's list of files is kept.
VARIABLE = "INTERPNET_STATE"


def allow_code(config: RunConfig, *, named: Collection[str], folders: Iterable[Path]) -> None:
    """Refuse a file with code that nobody on this machine has named, unless it lies in one of ``folders``.

    ``named``: which settings (``"model"``, ``"data"``, ...) the command line gives; their files are remembered, so that
    the user's own runs go on without it.
    """
    own = [(setting, spec) for setting in _OWN for spec in getattr(config, setting)]
    for setting, spec in (("model", config.model), ("data", config.data), *own):
        name, separator, _ = spec.rpartition(":")
        if not separator or not name.endswith(".py") or name.startswith(_OF_FILES):
            continue
        # Resolved, because a link in the run folder can point anywhere.
        file = Path(config.path(name)).resolve()
        if setting in named:
            _remember(file)
        elif not any(file.is_relative_to(folder.resolve()) for folder in folders) and str(file) not in _remembered():
            what = setting
            how = f"interpnet collect {config.model} {config.data} --config RUN.toml --out RUN"
            if setting in _OWN:
                what, command = _OWN[setting]
                how = f"interpnet {command} RUN --{setting} {spec}"
            raise RunFolderError(
                f"the settings name the {what} file {str(file)!r}, which lies outside of the run's folder and was "
                "never named on a command line here; running it gives its author your rights. If you trust it, name it "
                f"once: {how}"
            )


def _list() -> Path:
    state = os.environ.get(VARIABLE)
    if state:
        return Path(state) / _FILE
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "interpnet" / _FILE


def _remembered() -> list[str]:
    # A list that cannot be read names nothing.
    with suppress(RunFolderError, RuntimeError):
        content = read_object(_list())
        files = content.get("files")
        if content.get("format") == _FORMAT and isinstance(files, list):
            return [str(file) for file in files]
    return []


def _remember(file: Path) -> None:
    known = _remembered()
    if str(file) in known:
        return
    # Without a place for it, the next command has to name the file again.
    with suppress(RunFolderError, RuntimeError):
        write_json(_list(), {"format": _FORMAT, "files": [*known, str(file)]})
