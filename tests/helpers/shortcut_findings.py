"""Findings made by hand, as a search for shortcuts leaves them in a run folder, with small pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from interpnet.pipelines.run.shortcuts import SHORTCUTS_FILE, picture_names

from interpnet.engine import Channel
from interpnet.plotting import save_png
from interpnet.shortcuts import (
    CarryingChannel,
    ClassFinding,
    DrawingChannel,
    Drawn,
    Example,
    Findings,
    Group,
    GroupChannel,
    Grouped,
    findings_json,
)
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


def with_beside(found: Findings, names: Sequence[str]) -> Findings:
    """Return findings with a class that draws images from the field, one that draws mistakes, and one of two kinds."""
    drawing = tuple(DrawingChannel(Channel("layer3.0.relu", i), 1.5, 0.64, ((1, 7), (0, 3))) for i in range(2))
    field = Drawn(0, names[0], "field", 22, 0.11, 0.05, 1e-5, drawing, (7, 3, 5), ((1, 1), (2, 2), (3, 3)))
    mistakes = Drawn(1, names[1], "training", 12, 0.03, 0.01, 0.02, drawing, (4, 9), ((1, 1), (2, 2)))
    few = replace(mistakes, index=3, name=names[3], n=1, p=0.4)
    groups = [Group(n, (1, 2), (GroupChannel(Channel("layer3.0.relu", n), 1.2, -0.1),)) for n in (90, 40)]
    grouped = Grouped(3, names[3], 0.0001, (groups[0], groups[1]))
    return replace(found, drawn=(mistakes, few, field), grouped=(grouped,))


def shown(run: Path, names: Sequence[str]) -> dict[str, Any]:
    """Write the pictures of :func:`with_beside` and return what a run notes of them."""

    def picture(name: str, shade: int) -> str:
        save_png(run / "shortcuts" / name, np.full((24, 24, 3), shade, np.uint8))
        return name

    def entry(index: int, source: str, true: dict[str, int], taken: int) -> dict[str, Any]:
        stem = f"drawn_{source}_c{index:04d}"
        files = [
            {
                "file": picture(f"{stem}_{i}.png", 40 * i + 20),
                "name": f"shop/{names[0]} {i}.png",
                "taken": (index, 2)[i % 2],
                "odds": 2.0 - 2 * i,
                "bears": source == "field" and i == 0,
                **true,
            }
            for i in range(3)
        ]
        called = [one["name"] for one in files]
        own = [picture(f"{stem}_own_0.png", 200)]
        return {"index": index, "source": source, "files": files, "names": called, "taken": taken, "own": own}

    common = {"file": picture("common_c0000.png", 128), "n": 2, "names": ["shop/a.png", "shop/b.png"]}
    common |= {"covered": 0.046, "agreement": 0.75, "p": 0.01}
    kinds = [
        [{"file": picture(f"group_c0003_{g}_{i}.png", 90 * g + 30 * i), "name": f"g{g}"} for i in (0, 1)]
        for g in (0, 1)
    ]
    return {
        "field": {"n": 200, "spec": "shop"},
        "drawn": [entry(0, "field", {}, 2) | {"common": common}, entry(1, "training", {"true": 2}, 3)],
        "grouped": [{"index": 3, "groups": kinds}],
    }


def write_shortcuts(
    run: Path, names: Sequence[str], found: Findings | None = None, *, beside: bool = False
) -> Findings:
    """Write findings into a run folder, with the pictures of those that are suspicious.

    ``beside``: with classes that draw images and one of two kinds, too.
    """
    found = found or findings(names)
    facts = {}
    if beside:
        found = with_beside(found, names)
        facts = {"shown": shown(run, names)}
    write_json(run / SHORTCUTS_FILE, findings_json(found) | facts)
    for one in found.suspicious:
        for number in range(len(one.examples)):
            for shade, name in enumerate(picture_names(one.index, number)):
                save_png(run / "shortcuts" / name, np.full((24, 24, 3), 60 * shade, np.uint8))
    return found
