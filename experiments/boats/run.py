"""S3: whether boats and water birds need water.

    pip install -e '.[photos]'
    OMP_NUM_THREADS=2 python -m experiments.boats.run [--networks NAME ...] [--quick]

Trains what is missing, measures what is missing, and writes the page and the figures. Logits are kept in the working
folder. --quick takes six photographs of two classes and one network trained for an epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.boats.effects import effects_of, log_odds_of, summary
from experiments.boats.networks import EFFICIENTNET, NETWORKS, SMALL, Asked, as_input, enlarged
from experiments.boats.photographs import HELD_OUT, ON_WATER, SCENES, WATER, Photographs, photographs, streets
from experiments.boats.sheet import SHOWN, draw
from experiments.boats.swaps import MOST, swaps_of
from experiments.boats.table import DISC, PAGE
from experiments.common.arrays import kept
from experiments.common.imagenet import Grouped
from experiments.common.runner import Results, study
from experiments.common.tables import Line, proportion
from interpnet.shortcuts import find
from interpnet.support.types import Float64

_EACH = 60  # photographs of a class whose boxes are exchanged
_BATCH = 16  # of the search: with 64 its backward pass takes 10 GB


def things(given: Photographs) -> list[int]:
    """Return the numbers of the classes that name a subject and not a scene."""
    return [c for c, name in enumerate(given.classes) if name not in SCENES]


def logits_of(asked: Asked, c: str, pictures: Mapping[str, Tensor], work: Path) -> dict[str, Float64]:
    """Return every logit of one class's pictures, by their names."""
    file = work / f"{asked.name}-{c}-{len(pictures['original'])}.npy"
    every = kept(file, lambda: np.concatenate([asked.logits(x) for x in pictures.values()]))
    return dict(zip(pictures, np.split(every, len(pictures)), strict=True))


def swaps(asked: Asked, given: Photographs, roads: Tensor, c: int, *, most: int, work: Path) -> Line:
    """Return what one class's swaps do to one network, as (mean, low, high), and how many are recognised."""
    made = swaps_of(given, c, roads, most=most)
    parts = logits_of(asked, given.classes[c], made.named(), work)
    of_24 = {key: x[:, asked.outputs] for key, x in parts.items()}
    measures = {
        "things": {key: log_odds_of(x, c, things(given)) for key, x in of_24.items()},
        "all 24": {key: log_odds_of(x, c, list(range(len(given.classes)))) for key, x in of_24.items()},
        "centred logit": {key: x[:, asked.outputs[c]] - x.mean(1) for key, x in parts.items()},
    }
    return {
        "n": len(made.rows),
        "candidates": len(given.rows((given.classes[c],), most=MOST)),
        "effects": {measure: summary(effects_of(x)) for measure, x in measures.items()},
        "log-odds": {key: float(x.mean()) for key, x in measures["things"].items()},
        "recall": {key: _recall(x, c, range(len(given.classes))) for key, x in of_24.items()},
        "recall among things": {key: _recall(x, c, things(given)) for key, x in of_24.items()},
    }


def audit(asked: Asked, given: Photographs, *, images: int) -> Line:
    """Return what the search without boxes says: each class's share of what surrounds a disc, and its largest part.

    It sees held-out photographs whatever their box, the first of each class.
    """
    rows = np.concatenate(
        [np.flatnonzero(given.held_out & (given.labels == c))[:images] for c in range(len(given.classes))]
    )
    x = as_input(given.images[rows])
    model = asked.model
    if asked.name == EFFICIENTNET:
        x = enlarged(x)
        model = Grouped(model, [[output] for output in asked.outputs])
    found = find(
        model, [(x, torch.from_numpy(given.labels[rows]))], names=given.classes, max_batch=_BATCH, progress=False
    )
    return {
        "images": len(rows),
        "passes": found.passes,
        "classes": list(given.classes),
        "shares": {name: found.shares[i].tolist() for i, name in enumerate(found.parts) if DISC in name},
        "found": {one.name: [one.part, one.share, one.low, one.high, one.usual] for one in found.classes},
    }


def _recall(logits: Float64, c: int, among: Any) -> float:
    chosen = np.array(among)
    return float((chosen[logits[:, chosen].argmax(1)] == c).mean())


def scenes(asked: Asked, given: Photographs, roads: Tensor, work: Path) -> tuple[Line, Line]:
    """Return how often held-out photographs are recognised, and what scenes without a subject are taken for."""
    rows = np.flatnonzero(given.held_out)
    found = kept(work / f"{asked.name}-held-out.npy", lambda: asked.logits(given.images[rows]))
    labels = given.labels[rows]
    x = found[:, asked.outputs]
    right = x.argmax(1) == labels
    first: Line = {
        "n": len(rows),
        "among 24": float(right.mean()),
        "recall": {name: float(right[labels == c].mean()) for c, name in enumerate(given.classes)},
    }
    if asked.name == EFFICIENTNET:
        first["among 1,000"] = float((found.argmax(1) == np.array(asked.outputs)[labels]).mean())
    sets = {name: x[np.isin(labels, given.numbers((name,)))] for name in (*WATER, "alp")}
    sets["street"] = kept(work / f"{asked.name}-streets.npy", lambda: asked.logits(roads))[:, asked.outputs]
    wanted = given.numbers(ON_WATER)
    second: Line = {}
    for name, logits in sets.items():
        answers = logits.argmax(1)
        among = np.array(things(given))[logits[:, things(given)].argmax(1)]
        second[name] = {
            "n": len(logits),
            "taken": proportion(int(np.isin(answers, wanted).sum()), len(logits)),
            "taken among things": proportion(int(np.isin(among, wanted).sum()), len(logits)),
            "classes": {given.classes[c]: int((answers == c).sum()) for c in wanted},
            "classes among things": {given.classes[c]: int((among == c).sum()) for c in things(given)},
        }
    return first, second


def picture(asked: Asked, given: Photographs, roads: Tensor, work: Path) -> None:
    """Draw some photographs on other surroundings."""
    rows = []
    for name in SHOWN:
        pictures = swaps_of(given, given.classes.index(name), roads, most=_EACH).named()
        logits = logits_of(asked, name, pictures, work)
        rows.append((given.classes.index(name), pictures, {key: x[:, asked.outputs] for key, x in logits.items()}))
    draw(Path(__file__).with_name("examples.png"), rows, given.classes, things(given))


@study(PAGE, "runs/boats", networks=NETWORKS)
def main(results: Results, *, work: Path, quick: bool = False, networks: tuple[str, ...] = NETWORKS) -> None:
    """Measure what is missing."""
    given = photographs()
    roads = streets()
    chosen = things(given)
    most = _EACH
    if quick:
        networks, chosen, most = (SMALL[0],), chosen[:2], 6
    for name in networks:
        keys: list[Line] = [{"network": name, "what": what} for what in ("accuracy", "scenes")]
        keys += [{"network": name, "what": "swaps", "class": given.classes[c]} for c in chosen]
        keys.append({"network": name, "what": "audit"})
        if not results.todo(keys):
            continue
        asked = Asked(name, given, work, epochs=1 if quick else None)
        for line in results.missing(keys):
            if line["what"] == "swaps":
                c = given.classes.index(line["class"])
                line |= swaps(asked, given, roads, c, most=most, work=work)
            elif line["what"] == "audit":
                line |= audit(asked, given, images=4 if quick else HELD_OUT)
            else:
                line |= scenes(asked, given, roads, work)[line["what"] == "scenes"]
        if name == EFFICIENTNET and not quick:
            picture(asked, given, roads, work)
