"""Stage 4: pictures of the relevant channels of every class, and explained example images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from interpnet.ablation import AblationResult
from interpnet.engine import Channel
from interpnet.errors import ModelError
from interpnet.explanation import check_signals
from interpnet.interpretation import Interpretation
from interpnet.support.io import write_json

from ..run.folder import digest
from ..run.notes import Notes
from ..run.session import Session
from .ablate import ablate_key, load_ablation
from .collect import load_table
from .examples import explain_examples
from .localise import Shown, localise
from .records import Record
from .solve import load_interpretation, solve_key
from .surroundings import swap_surroundings
from .visualise import visualise_channels

_VERSION = 3  # a change of what the stage writes makes earlier results stale
_FILES = ("explanations/classes.json", "explanations/examples.json")
# Not the images that a user had explained, which lie in a folder of their own.
_WRITTEN = ("explanations/*.json", "explanations/channels/*", "explanations/examples/*")
# Each channel shown costs a reader ten pictures, and the report their bytes.
_MOST_SHOWN = 1200


def explain_key(session: Session) -> str:
    """Return the key of the explain stage; a study made since makes it stale, for it shows its effects."""
    studied = session.run.stage("ablate").get("state") == "complete"
    return digest([_pictures_key(session), ablate_key(session) if studied else None])


def _pictures_key(session: Session) -> str:
    """Return the key of what the pictures depend on, by which an interrupted stage finds those it has."""
    images = session.run.known("identity", "set of test images")
    config = session.config
    parts = [config.section("explain"), config.seed, config.max_ablation_images, config.batch_size]
    return digest(["explain", _VERSION, solve_key(session), images, *parts])


def check_explain(session: Session) -> None:
    """Raise now what would end the stage hours later: no gradient from a layer to the images, a rule that escapes."""
    if session.run.stage("explain").get("state") == "complete":
        return
    subject = session.subject
    config = session.config
    try:
        check_signals(
            subject.model,
            subject.first.to(subject.device),
            subject.trace.select(config.layers),
            rectifier=config.rectifier,
            resample=config.resample,
            output=subject.output,
        )
    except ModelError as error:
        raise ModelError(
            f"the stage explain cannot run: {error}. Without it: interpnet collect, then solve and ablate; or other "
            "layers (--layers)"
        ) from error


def run_explain(session: Session) -> bool:
    """Picture the channels, explain the examples and write ``explanations/``."""
    load_interpretation(session)
    session.open_subject()
    return session.perform("explain", explain_key(session), lambda notes: _explain(session, notes), files=_FILES)


def _explain(session: Session, notes: Notes) -> dict[str, Any]:
    folder = session.run.folder("explain")
    found = load_interpretation(session)
    study = load_ablation(session)  # refuses a stale one before the work
    shown = shown_channels(found, session.config.max_channels)
    longest = max(len(found.columns(c)) for c in shown)
    most = max(len(channels) for channels in shown.values())
    if longest > most:
        notes.add(
            f"At most {most} channels per class are pictured, by the size of their weight (--max-channels); "
            "weights/channels.csv lists all."
        )
    needed = list(dict.fromkeys(channel for channels in shown.values() for channel, _ in channels))
    key = _pictures_key(session)
    pictures = visualise_channels(session, needed, key)
    classes = _classes(session, found, study, shown, pictures)
    write_json(folder / "classes.json", {"top": session.config.top, "classes": classes})
    examples = explain_examples(session, found, key, notes)
    write_json(folder / "examples.json", examples)
    measured = {  # what needs more than the model and its images: masks, or images large enough
        "localisation.json": localise(session, found, shown, notes),
        "surroundings.json": swap_surroundings(session, found, shown, notes),
    }
    for name, content in measured.items():
        if content is None:
            (folder / name).unlink(missing_ok=True)
        else:
            write_json(folder / name, content)
    return {"n_channels_pictured": len(needed), "n_examples": len(examples["examples"]), "written": _WRITTEN}


def _classes(
    session: Session,
    found: Interpretation,
    study: AblationResult | None,
    shown: Shown,
    pictures: Mapping[Channel, Record],
) -> list[dict[str, Any]]:
    """Return the entries of ``classes.json``: each class with its pictured channels and what each does alone."""
    trace = session.subject.trace
    counts = np.bincount(load_table(session).labels, minlength=len(found.classes))
    return [
        {
            "index": c,
            "name": name,
            "n_train": int(counts[c]),
            "n_relevant": len(found.columns(c)),
            "gap": float(found.gaps[c]),
            "channels": [
                {
                    "layer": channel.layer,
                    "index": channel.index,
                    "family": trace[channel.layer].family,
                    "weight": weight,
                    **pictures[channel],
                    "effect": _effect(study, c, channel),
                }
                for channel, weight in shown[c]
            ],
        }
        for c, name in enumerate(found.classes)
    ]


def shown_channels(found: Interpretation, most: int) -> Shown:
    """Return the channels pictured for each class: the largest weights, fewer where there are many classes."""
    busy = sum(1 for c in range(len(found.classes)) if len(found.columns(c)))
    cap = min(most, max(1, _MOST_SHOWN // max(busy, 1)))
    return {c: found.relevant(c)[:cap] for c in range(len(found.classes))}


def _effect(study: AblationResult | None, c: int, channel: Channel) -> dict[str, float | None] | None:
    """Return what removing the channel alone changes, where the study removed it."""
    if study is None:
        return None
    for effect in study.single.get(c, []):
        if effect.channel == channel:
            changes = {"own": effect.own_drop, "others": effect.others_change}
            return {name: None if math.isnan(value) else value for name, value in changes.items()}
    return None
