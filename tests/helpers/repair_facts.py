"""A repair made by hand, as ``interpnet repair`` leaves it in a run folder, with small pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from interpnet.pipelines.run.repair import FORMAT, REPAIR_FILE, picture_names

from interpnet.plotting import save_png
from interpnet.support.io import write_json


def repair_facts(names: Sequence[str], *, accepted: bool = True) -> dict[str, Any]:
    """Return what ``repair.json`` holds of classes (at least three), the first of which goes by a corner."""
    n = len(names)

    def figures(clean: float, exchanged: float) -> dict[str, Any]:
        recall = [clean] * (n - 1) + [None]
        other = [exchanged - 0.2, *[exchanged] * (n - 2), None]
        counts = [40] * (n - 1) + [0]
        return {
            "clean": clean,
            "exchanged": exchanged,
            "n": 40 * (n - 1),
            "counts": counts,
            "recall": recall,
            "recall_exchanged": other,
        }

    before = figures(0.9, 0.5)
    tried = [
        {"how": "ridge", "strength": 0.1, "clean": -0.012, "exchanged": 0.12, "why": "costs 1.20% of clean accuracy"},
        {"how": "projection", "strength": 2.0, "clean": 0.0, "exchanged": 0.2, "why": "no gain on the images held out"},
        {"how": "training", "strength": 0.001, "clean": 0.0, "exchanged": 0.3, "why": "taken"},
    ]
    for one in tried:
        one["held"] = None
    if not accepted:
        tried = tried[:1]
    facts = {
        "format": FORMAT,
        "classes": list(names),
        "settings": {"how": "auto", "max_clean_loss": 0.005, "clean": "all", "only": [], "epochs": 4, "max_images": 20},
        "suspicious": [
            {"index": 0, "name": names[0], "part": "top left", "share": 0.8, "low": 0.7, "high": 0.9, "usual": 0.1}
        ],
        "accepted": accepted,
        "weights": "repair/repaired.safetensors" if accepted else None,
        "why": "nothing was accepted; of the best, ridge: costs 1.20% of clean accuracy",
        "how": "training" if accepted else "",
        "strength": 0.001 if accepted else None,
        "max_clean_loss": 0.005,
        "clean": "all",
        "images": {"train": 20, "test": 100, "held": "test"},
        "before": before,
        "after": figures(0.875, 0.75) if accepted else before,
        "control": figures(0.9, 0.55) if accepted else None,
        "candidates": tried,
        "without": {"logistic": "not tried: <large>"} if accepted else {"training": "not tried: quick enough"},
    }
    if accepted:
        facts["groups"] = {"agree": [0.9, 0.85], "disagree": [0.3, 0.8]}
        said = {"taken": [1, 0], "odds": [-2.0, 3.0]}
        mended = {"taken": [1, 1], "odds": [-2.0, -1.0]}
        facts["examples"] = [
            {"class": 0, "pictures": list(picture_names(0, number)), "before": said, "after": mended}
            for number in range(2)
        ]
    return facts


def write_repair(run: Path, names: Sequence[str], *, accepted: bool = True) -> dict[str, Any]:
    """Write a repair into a run folder, with its pictures."""
    facts = repair_facts(names, accepted=accepted)
    write_json(run / REPAIR_FILE, facts)
    for example in facts.get("examples", ()):
        for shade, name in enumerate(example["pictures"]):
            save_png(run / "repair" / name, np.full((24, 24, 3), 90 * shade, np.uint8))
    return facts
