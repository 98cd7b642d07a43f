"""Findings made by hand, as a search for shortcuts leaves them in a run folder, with small pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from interpnet.pipelines.run.shortcuts import SHORTCUTS_FILE, picture_names

from interpnet.engine import Channel
from interpnet.plotting import save_png
from interpnet.shortcuts import CarryingChannel, ClassFinding, Example, Findings, findings_json
from interpnet.support.io import write_json

NAN = float("nan")
PARTS = ("top left", "the frame", "a patch")


def findings(names: Sequence[str]) -> Findings:
    """Return findings of some classes, each of another kind.

    The first is suspicious, with three images and four channels; of the second nothing is decided; the third has no
    number; the others are beyond nothing.
    """
    examples = [Example(i, 40 + i, 1, 0, -2.0 - i, 3.0, None) for i in range(3)]
    channels = [CarryingChannel(Channel("layer3.0.relu", i), 0.9, 1.25, ((0, 6), (1, 3), (3, 1))) for i in range(4)]
    carton = ClassFinding(0, names[0], "a patch", "patch", 0.83, 0.74, 0.91, 0.25, 0.31, 0.84, 0.02, True, 40, (), ())
    carton = replace(carton, examples=tuple(examples), channels=tuple(channels))
    undecided = replace(carton, index=1, name=names[1], part="the frame", share=0.4, low=0.1, high=0.7, usual=0.35)
    plain = replace(carton, part="top left", share=0.05, low=0.0, high=0.2, usual=0.1, channels=(), examples=())
    classes = [carton, undecided]
    classes += [replace(plain, index=c, name=names[c]) for c in range(3, len(names))]
    classes.append(replace(plain, index=2, name=names[2], share=NAN, low=NAN, high=NAN, detectable=NAN, n=1))
    table = np.zeros((len(PARTS), len(names)))
    return Findings(tuple(classes), PARTS, table, table, table, 6.0, 400)


def write_shortcuts(run: Path, names: Sequence[str], found: Findings | None = None) -> Findings:
    """Write findings into a run folder, with the pictures of those that are suspicious."""
    found = found or findings(names)
    write_json(run / SHORTCUTS_FILE, findings_json(found))
    for one in found.suspicious:
        for number in range(len(one.examples)):
            for shade, name in enumerate(picture_names(one.index, number)):
                save_png(run / "shortcuts" / name, np.full((24, 24, 3), 60 * shade, np.uint8))
    return found
