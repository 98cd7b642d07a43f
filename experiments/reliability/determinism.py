"""The same audit in other circumstances: again, batches of another size, workers, threads, another folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.tables import Line
from experiments.reliability.campaign import Campaign, Draw, verdict
from experiments.reliability.processes import interpnet
from experiments.reliability.scene import STAGES, Scene, differences, make_scene, results

_SETTINGS = {"key", "batch_size", "workers", "directory"}  # entries that hold what was changed, or a digest of it
_CLOSE = 1e-5  # relative: sums of another order in float32


@dataclass
class Shared:
    """The scene, and the undisturbed results."""

    scene: Scene
    undisturbed: dict[str, Any]


def prepare(where: Path) -> Shared:
    """Make the undisturbed run."""
    scene = make_scene(where)
    return Shared(scene, results(scene.finished))


def attempt(shared: Shared, draw: Draw) -> Line:
    """Run the audit in other circumstances and compare all files, or all numbers where sums may differ in order."""
    random = draw.random
    scene = shared.scene
    kind = draw.of(
        ["again", "elsewhere", "workers", "batch size", "one stage at a time", "threads and other random numbers"]
    )
    where = scene.where
    more: list[str] = []
    threads = 1
    if kind == "elsewhere":
        where = scene.fresh("elsewhere")
        where.mkdir()
        shutil.copy(scene.where / "net.py", where)
        shutil.copytree(scene.where / "data", where / "data")
    elif kind == "workers":
        more = ["--workers", str(random.randint(1, 2))]
    elif kind == "batch size":
        more = ["--batch-size", str(random.choice([1, 2, 3, 5, 7, 17, 64]))]
    elif kind == "threads and other random numbers":
        threads = random.choice([2, 3])

    def setup() -> None:
        import random as of_python

        import torch

        torch.set_num_threads(threads)
        # The random numbers of the process must not matter, only --seed.
        torch.manual_seed(draw.number)
        np.random.seed(draw.number)  # noqa: NPY002
        of_python.seed(draw.number)

    scene.fresh("run")
    run = where / "run"
    what = " ".join([kind, *more, *[f"{threads} threads"] * (threads > 1)])
    commands = [scene.audit("run", *more)]
    if kind == "one stage at a time":
        # Each stage command finds its work done, but for the report, which is always written.
        commands += [[stage, "run"] for stage in STAGES]
    for words in commands:
        ended = interpnet(words, where, setup)
        if ended.fate != "done":
            return verdict(what, "internal error", ended.last)
    ours = results(run)
    differ = differences(ours, shared.undisturbed)
    if not differ:
        return verdict(what, "equal")
    if kind in {"batch size", "workers", "elsewhere", "threads and other random numbers"}:
        # The settings and the place stand in these.
        differ = [name for name in differ if name not in {"run.toml", "manifest.json", "report/index.html"}]
        differ = [name for name in differ if not _close(ours.get(name), shared.undisturbed.get(name), name)]
    if differ:
        return verdict(what, "wrong", ", ".join(differ))
    return verdict(what, "equal")


def _close(ours: Any, theirs: Any, name: str) -> bool:
    """Whether two files say the same up to rounding."""
    if name.endswith(".f32"):
        scores, expected = (np.frombuffer(one, np.float32) for one in (ours, theirs))
        return bool(np.allclose(scores, expected, rtol=_CLOSE, atol=1e-7))
    if name.endswith(".json"):
        return _close_values(ours, theirs)
    if name.endswith(".csv"):
        return _close_values(*(_cells(one) for one in (ours, theirs)))
    # Arrays and pictures repeat what stands in the JSON files.
    return name.endswith((".npz", ".png"))


def _cells(data: bytes) -> list[Any]:
    cells = data.decode().replace("\n", ",").split(",")
    return [_number(cell) for cell in cells]


def _number(cell: str) -> Any:
    try:
        return json.loads(cell)
    except ValueError:
        return cell


def _close_values(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = ours.keys() - _SETTINGS
        return keys == theirs.keys() - _SETTINGS and all(_close_values(ours[key], theirs[key]) for key in keys)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_close_values, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, int | float):
        return abs(ours - theirs) <= _CLOSE * max(1.0, abs(theirs))
    return bool(ours == theirs)


CAMPAIGN = Campaign("the same audit again, elsewhere, with workers, threads and other batches", 60, prepare, attempt)
