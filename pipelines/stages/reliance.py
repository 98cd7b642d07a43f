"""Stage 2, second half: the channels that the network relies on for each class, from contributions to its log-odds.

docs/method.md, section 9.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from interpnet.interpretation import Interpretation, interpret
from interpnet.reliance import Contributions, measure_reliance
from interpnet.support.csv_table import write_csv

from ..run.folder import digest
from ..run.notes import Notes
from ..run.session import Session
from .collect import load_table
from .contributions import (
    contributions_key,
    image_classes,
    images_with,
    load_contributions,
    run_contributions,
)
from .solve import require_current
from .sums import first_of_each

_VERSION = 1  # a change of what the stage writes makes earlier results stale
FILE = "reliance.npz"
#: Contributions averaged over networks that lost a share of their channels.
AVERAGED = "averaged.npz"
_TABLE = "reliance.csv"
_COLUMNS = ("class", "rank", "layer", "index", "reliance", "standard_error", "contribution")


def reliance_key(session: Session) -> str:
    """Return the key of the reliance stage for the current contributions and settings."""
    changed = session.config.changed("reliance_images", "max_relied")
    return digest(["reliance", _VERSION, contributions_key(session), session.config.price, *filter(None, [changed])])


def run_reliance(session: Session) -> bool:
    """Choose the channels that each class relies on and write them to ``weights/``.

    Contributions of other settings are collected again first: both need the network and the training images.
    """
    if not session.run.is_done("contributions", contributions_key(session)):
        run_contributions(session)
    files = (f"weights/{FILE}", f"weights/{_TABLE}", f"contributions/{AVERAGED}")
    key = reliance_key(session)
    return session.perform("reliance", key, lambda notes: _rely(session, notes), files=files, split=True)


def _rely(session: Session, notes: Notes) -> dict[str, Any]:
    subject = session.subject
    measured = load_contributions(session)
    config = session.config
    classes = image_classes(session)
    wanted = first_of_each(classes, config.reliance_images)
    chosen = images_with(wanted)
    # An image without a label has none that could be measured.
    if (wanted != first_of_each(classes, len(classes))).any():
        notes.add(
            f"Reliance is measured on {int(chosen.sum())} of {len(chosen)} training images, at most "
            f"{config.reliance_images} of each class (--reliance-images)."
        )
    relied = measure_reliance(
        subject.model,
        subject.batches(subject.train, load_table(session).indices[chosen]),
        measured,
        price=config.price,
        most=config.max_relied,
        images=config.reliance_images,
        device=subject.device,
        output=subject.output,
        group=session.group,
    )
    if not session.ranks.first:
        return {}
    found = interpret(relied)
    folder = session.run.folder("reliance")
    relied.contributions.save(session.run.folder("contributions") / AVERAGED)
    found.save(folder / FILE)
    write_csv(folder / _TABLE, _COLUMNS, reliance_rows(found, measured))
    counts = np.asarray(measured.counts)
    silent = [name for c, name in enumerate(found.classes) if counts[c] and not found.counts[c]]
    if silent:
        notes.add(
            f"Classes that rely on no channel beyond twice its standard error ({len(silent)}): {', '.join(silent[:10])}"
        )
    # A set that takes its share ends there, however large it may be.
    full = np.flatnonzero(found.counts == config.max_relied)
    cut = [found.classes[c] for c in full.tolist() if relied.ends[c] != "share"]
    if cut:
        notes.add(
            f"Classes that may rely on more channels than the {config.max_relied} that are named at most "
            f"(--max-relied; {len(cut)}): {', '.join(cut[:10])}"
        )
    sizes = found.counts[counts > 0].tolist()
    return {
        "price": config.price,
        "n_images": int(chosen.sum()),
        "mean_relevant": float(np.mean(sizes or [0])),
    }


def reliance_rows(found: Interpretation, measured: Contributions) -> list[list[Any]]:
    """Return a row per channel that a class relies on: class, rank, layer, index, reliance, its error, contribution."""
    rows: list[list[Any]] = []
    for c, name in enumerate(found.classes):
        for rank, column in enumerate(found.columns(c).tolist()):
            channel = found.channels[column]
            error = found.stderr[c, column] if found.stderr is not None else None
            values = [found.coef[c, column], error, measured.mean[c, column]]
            rows.append([name, rank + 1, channel.layer, channel.index, *values])
    return rows


def load_reliance(session: Session) -> Interpretation:
    """Open what the reliance stage chose; one that has not run with the present settings is a RunFolderError."""
    require_current(session, "reliance", reliance_key(session))
    return Interpretation.load(session.run.folder("reliance") / FILE)
