"""The runs of all shards of a collection joined to the run that one process would have made."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from interpnet.errors import RunFolderError
from interpnet.gram import Gram
from interpnet.reliance import Contributions
from interpnet.scores import ScoreTable, merge_scores, shards_in
from interpnet.support.checks import listed
from interpnet.support.io import as_path

from ..run.config import RELIANCE
from ..run.console import make_console
from ..run.folder import RunFolder
from ..run.identity import differences
from ..run.manifest import read_manifest
from ..run.notes import Notes
from ..run.opening import existing
from ..run.session import Session
from ..stages.collect import GRAM_FILE, collect_key, described, sum_again
from ..stages.contributions import run_contributions
from ..stages.sums import Sums, fitted_on_labels, pass_key

# Of a shard's manifest what is not the whole run's.
_OWN = ("shard", "stages", "created", "notes", "settings")


def merge_runs(runs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str], *, progress: bool = True) -> Path:
    """Join the runs of all shards, which ``interpnet collect --shard I/N`` made, to one in the folder ``out``.

    Its scores are, bit for bit, those that one process would have collected, and every command goes on with it: ``audit
    --out``. An interrupted call goes on where it stopped; neither model nor images are needed.

    A :class:`RunFolderError` names a shard that is missing, there twice, unfinished, damaged or of another model, data
    or settings, and a full disk.
    """
    paths = [as_path(run, "a folder in runs") for run in listed(runs, "runs")]
    target = as_path(out, "out")
    places = [path.resolve() for path in (*paths, target)]
    for i, path in enumerate(paths):
        if places[i] in places[i + 1 :]:
            raise RunFolderError(
                f"{str(path)!r} came twice; expected the run folder of each shard once, and another --out"
            )
        read_manifest(path)  # where there is no run there is nothing to lock
    with ExitStack() as held:
        shards = [held.enter_context(existing(path)) for path in paths]
        _check(shards)
        shards.sort(key=lambda run: run.manifest["shard"][0])
        whole = RunFolder.create(target)
        held.enter_context(whole.locked())
        if "shard" in whole.manifest:
            raise RunFolderError(f"--out is {str(target)!r}, which holds a shard; choose another folder")
        one = shards[0].manifest
        whole.claim(one["identity"], differences(whole.manifest, one))
        whole.manifest = {name: value for name, value in one.items() if name not in _OWN} | whole.manifest
        resume = f"interpnet merge {shlex.join(map(str, paths))} --out {shlex.quote(str(target))}"
        session = Session(whole, shards[0].config(), resume, console=make_console(quiet=not progress))
        whole.store(session.config)
        whole.save()
        key = collect_key(whole)
        files = ("scores/state.json", "scores/X.f32")
        session.perform("collect", key, lambda notes: _joined(session, key, shards, notes, progress), files=files)
        if RELIANCE in session.config.ways:
            if _sums_are_there(session, key):
                run_contributions(session)
            else:
                session.say(
                    "contributions: those of the shards are not the first images of each class; "
                    f"interpnet collect {target} makes them"
                )
    return target


def _check(shards: Sequence[RunFolder]) -> None:
    """Refuse runs that are no shards, or not those of one collection."""
    for run in shards:
        if "shard" not in run.manifest:
            raise RunFolderError(
                f"run folder {str(run.path)!r} holds no shard; expected what interpnet collect --shard I/N made"
            )
        state = run.stage("collect").get("state")
        if state != "complete":
            number, count = run.manifest["shard"]
            raise RunFolderError(
                f"shard {number} of {count}, {str(run.path)!r}, is unfinished; interpnet collect {run.path} goes on "
                "with it"
            )
    if not shards:
        raise RunFolderError("runs is empty; expected the run folders of all shards")
    first = shards[0]
    for run in shards[1:]:
        mine = first.manifest["identity"]
        theirs = run.manifest["identity"]
        others = [what for what in sorted({*mine, *theirs}) if mine.get(what) != theirs.get(what)]
        if others:
            said = "".join(f"; {text}" for text in differences(first.manifest, run.manifest))
            raise RunFolderError(
                f"{str(first.path)!r} and {str(run.path)!r} are no shards of one collection: another "
                f"{', another '.join(others)}{said}"
            )
    shards_in([run.folder("collect") for run in shards])


def _joined(session: Session, key: str, shards: Sequence[RunFolder], notes: Notes, progress: bool) -> dict[str, Any]:
    """Join scores and sums; return what the manifest notes of them."""
    folder = session.run.folder("collect")
    table = merge_scores([run.folder("collect") for run in shards], folder, progress=progress)
    _add_grams(table, shards, folder / GRAM_FILE)
    _add_contributions(session, key, table, shards)
    first = shards[0].stage("collect")
    of_all = {name: first.get(name) for name in ("n_classes_with_images", "first_look") if name in first}
    speeds = [run.stage("collect").get("images_per_second") or 0.0 for run in shards]
    return described(session, table, notes, {}) | of_all | {"images_per_second": round(sum(speeds), 2)}


def _add_grams(table: ScoreTable, shards: Sequence[RunFolder], path: Path) -> None:
    """Write the sum of the shards' sums; what is missing is summed again from the rows."""
    files = [run.folder("collect") / GRAM_FILE for run in shards if run.stage("collect")["n_images"]]
    if not all(file.is_file() for file in files):
        sum_again(table, path)
        return
    total = Gram.load(files[0])
    for file in files[1:]:
        total = total + Gram.load(file)
    total.save(path)


def _add_contributions(session: Session, key: str, table: ScoreTable, shards: Sequence[RunFolder]) -> None:
    """Write the sum of the shards' contributions where they are of the images that one process would take."""
    # Each shard took the first images of each class by their labels; those that cannot be read leave room for others.
    if RELIANCE not in session.config.ways or table.info["skipped"]:
        return
    sums_key = pass_key(session, key, "labels")
    total: Contributions | None = None
    for run in shards:
        rows = run.stage("collect")["n_images"]
        found = Sums(run.folder("contributions"), sums_key, "rows").read(rows)
        if found is None and rows:
            return
        if found is not None and total is not None:
            found = total + found
        total = found or total
    if total is not None:
        Sums(session.run.folder("contributions"), sums_key, "rows").write(len(table), total)


def _sums_are_there(session: Session, key: str) -> bool:
    """Whether the contributions of all images are there, or their sums."""
    n_images = session.run.stage("collect")["n_images"]
    if session.run.stage("contributions").get("state") == "complete":
        return True
    kept = Sums(session.run.folder("contributions"), pass_key(session, key, "labels"), "rows")
    return fitted_on_labels(session) and kept.read(n_images) is not None
