"""Opening or making the run folder of an audit, locked, once its model and images are known to load."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from interpnet.support.ranks import ALONE, Ranks

from .chosen import check_chosen
from .concept_sources import concepts_of
from .config import RunConfig
from .field import field_key
from .folder import RunFolder
from .manifest import MANIFEST, unverifiable
from .session import Session


@contextmanager
def existing(path: Path, *, fresh: bool = False, ranks: Ranks = ALONE) -> Iterator[RunFolder]:
    """Open a run folder and hold its lock: what it says is read when no other command can change it any more."""
    run = RunFolder.create(path, fresh=fresh, ranks=ranks)
    with run.locked(fresh=fresh):
        yield run


def opened(
    held: ExitStack,
    path: Path,
    config: RunConfig,
    resume: str,
    *,
    run: RunFolder | None = None,
    fresh: bool = False,
    ranks: Ranks = ALONE,
    **session: Any,
) -> Session:
    """Return a session on the run folder ``path``, whose lock ``held`` keeps; ``run`` where it is open already.

    Model and images are loaded before a folder is made, so that a mistyped name leaves nothing behind. ``session``:
    more fields of :class:`Session`.
    """
    if run is None and (path / MANIFEST).is_file():
        run = held.enter_context(existing(path, fresh=fresh, ranks=ranks))
    new = run or RunFolder.create(path, ranks=ranks)
    made = Session(new, config, resume, fresh=fresh, **session)
    check_chosen(made)  # loads what is audited, which the session keeps
    field_key(made)
    concepts_of(made)
    if run is None:
        held.enter_context(new.locked(fresh=fresh))
    elif not fresh:
        made.say_notes(unverifiable(run.manifest))
    return made


def default_name(config: RunConfig, data: str | None = None) -> str:
    """Return a run's name made from its model and data, by default those of the configuration.

    Examples
    --------
    >>> default_name(RunConfig(model="torchvision:resnet18", data="imagefolder:/tmp/my photos"))
    'resnet18-my-photos'
    """
    parts = (config.model.rpartition(":")[2], Path((data or config.data).rpartition(":")[2]).name)
    return "-".join(re.sub(r"[^A-Za-z0-9_.]+", "-", part).strip("-.") or "run" for part in parts)
