"""Kill an audit at any moment, run it again, and compare every file with those of an undisturbed run.

One kill in three comes at a random time of a stage, one at a random file operation, which are the moments that matter,
and one after a random time since the start; every tenth audit is a command as a user starts it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from experiments.common.tables import Line
from experiments.reliability.campaign import Campaign, Draw, verdict
from experiments.reliability.processes import (
    Running,
    command,
    fork,
    interpnet,
    isolated,
    spawn,
    stopped_at_end,
)
from experiments.reliability.scene import STAGES, Scene, differences, first_difference, make_scene, results
from experiments.reliability.stopping import count_changes, kill_at


@dataclass
class Shared:
    """The undisturbed run, how long it took, and how many file operations each of its folders saw."""

    scene: Scene
    undisturbed: dict[str, Any]
    seconds: dict[str, float]  # by stage, and of all
    changes: dict[str, int]  # by the stage's folder


@cache
def prepare(where: Path) -> Shared:
    """Make the undisturbed run and measure it."""
    scene = make_scene(where)
    out = scene.fresh("timed")

    def counted() -> dict[str, int]:
        seen = count_changes(list(STAGES.values()))
        command(scene.audit(out.name))()
        return seen

    began = time.monotonic()
    ended, changes = isolated(counted, where)
    if not changes or not all(changes.values()):
        raise RuntimeError(f"the undisturbed audit failed: {ended.last}")
    seconds = {stage: entry["seconds"] for stage, entry in stages(out).items()}
    return Shared(scene, results(scene.finished), seconds | {"all": time.monotonic() - began}, changes)


def stages(run: Path) -> dict[str, Any]:
    """Return the manifest's stages; nothing where there is no manifest."""
    try:
        found: dict[str, Any] = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["stages"]
    except (OSError, ValueError, KeyError):
        return {}
    return found


def at_work(run: Path) -> str:
    """Return the stage that a run folder says is at work; nothing where none is."""
    return next((name for name, entry in stages(run).items() if entry["state"] == "running"), "")


def wait_for(process: Running, run: Path, stage: str, then: float) -> None:
    """Wait until a stage of a run is at work, and ``then`` seconds more; not past the end of the process."""
    while process.poll() is None and stages(run).get(stage, {}).get("state") not in {"running", "complete"}:
        time.sleep(0.002)
    limit = time.monotonic() + then
    while process.poll() is None and time.monotonic() < limit:
        time.sleep(0.002)


def attempt(shared: Shared, draw: Draw) -> Line:
    """Kill one audit and run it again."""
    random = draw.random
    scene = shared.scene
    run = scene.fresh("run")
    arguments = scene.audit(run.name)
    start: Callable[..., Running] = partial(fork, command(arguments), scene.where)
    as_a_user = draw.number % 10 == 9
    if as_a_user:
        start = partial(spawn, arguments, scene.where)
    stage = list(STAGES)[draw.number // 3 % len(STAGES)]
    if draw.number % 3 == 0 and not as_a_user:
        folder = STAGES[stage]
        nth = random.randint(1, shared.changes[folder])
        moment = f"file operation {nth} in {folder}"
        start(partial(kill_at, nth, folder)).wait()
    elif draw.number % 3 == 1:
        after = random.uniform(0, shared.seconds[stage])
        moment = f"{stage} + {after:.2f} s"
        with stopped_at_end(start()) as process:
            wait_for(process, run, stage, after)
        process.wait()
    else:
        after = random.uniform(0, shared.seconds["all"] + 4 * as_a_user)
        moment = f"start + {after:.2f} s"
        with stopped_at_end(start()) as process:
            wait_for(process, run, "", after)
        process.wait()
    left = at_work(run) or "no stage"
    what = f"SIGKILL at {moment}, during {left}"
    return judge_again(shared, what, run, arguments)


def judge_again(shared: Shared, what: str, run: Path, arguments: list[str], good: str = "equal") -> Line:
    """Run an audit that was stopped again, and judge it by its files."""
    ended = interpnet(arguments, shared.scene.where)
    if ended.fate != "done":
        return verdict(what, "lost", ended.last)
    ours = results(run)
    differ = differences(ours, shared.undisturbed)
    temporary = [name for name in differ if "/." in f"/{name}"]
    if set(differ) - set(temporary):
        first = first_difference(ours, shared.undisturbed)
        return verdict(what, "wrong", f"after going on, other: {', '.join(differ)}; {first}")
    if temporary:
        return verdict(what, "leak", f"temporary files left: {', '.join(temporary)}")
    return verdict(what, good)


CAMPAIGN = Campaign("an audit killed at any moment and run again", 200, prepare, attempt)
