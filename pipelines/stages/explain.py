"""Stage 4: pictures of the relevant channels of every class, and explained example images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from interpnet.ablation import AblationResult
from interpnet.engine import Channel
from interpnet.errors import ModelError
from interpnet.interpretation import Interpretation
from interpnet.support.io import write_json

from ..run.chosen import Chosen, chosen, covers, key_part, noted, numbers_of, studied_by, worth_listing
from ..run.config import MU_LASSO, RELIANCE, RunConfig
from ..run.folder import digest
from ..run.notes import Notes
from ..run.session import Session
from .ablate import ablate_key, load_ablation, studied
from .collect import load_table
from .drawing import CAPS, PAPER, check, drawing, key_settings
from .examples import explain_examples
from .identified import leading, load_way, way_key
from .localise import Shown, localise
from .records import Record
from .solve import images_of
from .visualise import visualise_channels

# What classes.json calls what each way gives a channel.
_VALUES = {MU_LASSO: "weight", RELIANCE: "reliance"}
_VERSION = 3  # a change of what the stage writes makes earlier results stale
_FILES = ("explanations/classes.json", "explanations/examples.json")
# Not the images that a user had explained, which lie in a folder of their own.
_WRITTEN = ("explanations/*.json", "explanations/channels/*", "explanations/examples/*")


def explain_key(session: Session) -> str:
    """Return the key of the explain stage; a study made since makes it stale, for it shows its effects."""
    return _key(session, chosen(session))


def shown_key(session: Session) -> str:
    """Return the key of what a report can show: also of a stage that was done for more classes than are wanted."""
    entry = session.run.stage("explain")
    done = studied_by(entry)
    if entry.get("state") == "complete" and covers(done, chosen(session)) and entry["key"] == _key(session, done):
        return str(entry["key"])
    return explain_key(session)


def _key(session: Session, only: Chosen) -> str:
    studies = [ablate_key(session, way) if studied(session, way) else None for way in sorted(session.config.ways)]
    return digest([_pictures_key(session), *studies, *key_part(only), *filter(None, [session.config.changed(*CAPS)])])


def _pictures_key(session: Session) -> str:
    """Return the key of what the pictures depend on, by which an interrupted stage finds those it has."""
    images = session.run.known("identity", "set of test images")
    config = session.config
    settings = key_settings(config)
    # Which way leads is in the order of the keys.
    del settings["by"]
    keys = [way_key(session, way) for way in session.config.ways]
    parts: list[Any] = [settings, config.seed, config.max_ablation_images, config.batch_size]
    own = session.own_code("methods")
    if own:
        parts.append(own)
    return digest(["explain", _VERSION, *keys, images, *parts])


def check_explain(session: Session) -> None:
    """Raise now what would end the stage hours later: no gradient from a layer to the images, a rule that escapes."""
    if session.run.stage("explain").get("state") == "complete":
        return
    how = drawing(session)
    if how.checked:
        return
    try:
        check(session, how)
    except ModelError as error:
        raise ModelError(
            f"the stage explain cannot run: {error}. Without it: interpnet collect, then solve and ablate; or other "
            "layers (--layers)"
        ) from error


def run_explain(session: Session) -> bool:
    """Picture the channels, explain the examples and write ``explanations/``."""
    for way in session.config.ways:
        load_way(session, way)
    session.open_subject()
    key = explain_key(session)
    return session.perform("explain", key, lambda notes: _explain(session, notes), files=_FILES, split=True)


def _explain(session: Session, notes: Notes) -> dict[str, Any]:
    folder = session.run.folder("explain")
    named = {way: load_way(session, way) for way in session.config.ways}
    # A stale one is refused before the work.
    studies = [study for way in named if (study := load_ablation(session, way)) is not None]
    how = drawing(session)
    if how.refused:
        instead = "start from contributions (--start contribution)"
        if how.variant == PAPER:
            instead = "are drawn in the paper's variant (--variant paper)"
        notes.add(f"Heatmaps {instead}: {how.refused}")
    only = chosen(session)
    config = session.config
    shown = shown_channels(list(named.values()), config.max_channels, config.max_pictured, only)
    longest = max(found.counts[c] for found in named.values() for c in shown)
    most = pictured(list(named.values()), config.max_channels, config.max_pictured, only)
    if longest > most:
        cap = "--max-channels"
        if most < config.max_channels:
            cap = f"--max-pictured {config.max_pictured} in all"
        notes.add(
            f"At most {most} channels per class are pictured, the first by weight or reliance ({cap}); "
            "weights/ has tables of all."
        )
    needed = list(dict.fromkeys(channel for channels in shown.values() for channel, _ in channels))
    key = _pictures_key(session)
    pictures = visualise_channels(session, needed, key)
    examples = explain_examples(session, leading(session), key, notes)
    # Pictures and examples are what takes long.
    if not session.ranks.first:
        return {}
    classes = _classes(session, named, studies, shown, pictures)
    write_json(folder / "classes.json", {"top": session.config.top, "classes": classes})
    write_json(folder / "examples.json", examples)
    places = localise(session, named, shown, notes)
    if places is not None:
        write_json(folder / "localisation.json", places)
    # What earlier images with masks left, and an earlier version.
    for name in ("localisation.json",) * (places is None) + ("surroundings.json",):
        (folder / name).unlink(missing_ok=True)
    facts = {"n_channels_pictured": len(needed), "n_examples": len(examples["examples"]), **noted(only)}
    return facts | {"written": _WRITTEN}


def _classes(
    session: Session,
    named: Mapping[str, Interpretation],
    studies: Sequence[AblationResult],
    shown: Shown,
    pictures: Mapping[Channel, Record],
) -> list[dict[str, Any]]:
    """Return the entries of ``classes.json``: each class with its pictured channels and what each does alone."""
    trace = session.subject.trace
    names = session.run.known("model", "classes")
    counts = images_of(load_table(session).labels, len(names))
    something = counts > 0
    for found in named.values():
        something |= found.counts > 0
    classes: list[dict[str, Any]] = []
    for c in sorted(set(worth_listing(something)) & set(shown)):
        entry: dict[str, Any] = {"index": c, "name": names[c], "n_train": int(counts[c])}
        if MU_LASSO in named:
            entry["n_relevant"] = int(named[MU_LASSO].counts[c])
            entry["gap"] = float(named[MU_LASSO].gaps[c])
        if RELIANCE in named:
            entry["n_reliance"] = int(named[RELIANCE].counts[c])
        entry["channels"] = [
            {
                "layer": channel.layer,
                "index": channel.index,
                "family": trace[channel.layer].family,
                # What each way gives the channel, 0 where it does not name it.
                **{
                    _VALUES[way]: float(found.coef[c, found.channels.position(channel)]) for way, found in named.items()
                },
                **pictures[channel],
                "effect": _effect(studies, c, channel),
            }
            for channel, _ in shown[c]
        ]
        classes.append(entry)
    return classes


def pictured(named: Sequence[Interpretation], most: int, in_all: int, only: Chosen = None) -> int:
    """Return how many channels of a class, by each way to name them, are pictured: fewer where there are many.

    Each channel shown costs a reader ten pictures, and the report their bytes.
    """
    busy = sum(int((found.counts[numbers_of(found.classes, only)] > 0).sum()) for found in named)
    return min(most, max(1, in_all // max(busy, 1)))


def shown_channels(
    named: Sequence[Interpretation], most: int, in_all: int = RunConfig.max_pictured, only: Chosen = None
) -> Shown:
    """Return the channels pictured for each class with what names them: the first ``most`` by each way."""
    cap = pictured(named, most, in_all, only)
    shown: dict[int, list[tuple[Channel, float]]] = {}
    for c in numbers_of(named[0].classes, only):
        values: dict[Channel, float] = {}
        for found in named:
            values = dict(found.relevant(c)[:cap]) | values
        first = [channel for found in named for channel, _ in found.relevant(c)[:cap]]
        shown[c] = [(channel, values[channel]) for channel in dict.fromkeys(first)]
    return shown


def _effect(studies: Sequence[AblationResult], c: int, channel: Channel) -> dict[str, float | None] | None:
    """Return what removing the channel alone changes, where a study removed it."""
    for effect in (effect for study in studies for effect in study.single.get(c, [])):
        if effect.channel == channel:
            changes = {"own": effect.own_drop, "others": effect.others_change}
            return {name: None if math.isnan(value) else value for name, value in changes.items()}
    return None
