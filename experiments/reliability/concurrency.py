"""Two or three commands at once on one run folder: each ends well or says that another is at work; nothing mixes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.common.tables import Line
from experiments.reliability.campaign import Campaign, Draw, verdict
from experiments.reliability.processes import Running, command, fork, interpnet, isolated
from experiments.reliability.scene import Scene, differences, make_scene, results

# What may be at work on one folder at once; the last word of each is the run folder.
_COMMANDS = {
    "audit": ["audit", "--out"],
    "audit, other mu": ["audit", "--mu", "2", "--out"],
    "solve, other mu": ["solve", "--mu", "2"],
    "solve, positive": ["solve", "--positive"],
    "ablate": ["ablate", "--repeats", "2"],
    "explain": ["explain", "--examples", "2"],
    "explain an image": ["explain", "--image", "data/test/a/0.png"],
    "report": ["report"],
    "collect": ["collect"],
}
# A command that comes second says that another is at work, or that its inputs have changed.
_REASONS = ("another process", "again", "meanwhile")


@dataclass
class Shared:
    """The scene, and the results of a fresh run by its settings."""

    scene: Scene
    fresh: dict[str, dict[str, Any]]


def prepare(where: Path) -> Shared:
    """Make the finished run."""
    scene = make_scene(where)
    return Shared(scene, {})


def attempt(shared: Shared, draw: Draw) -> Line:
    """Start commands shortly after each other, wait for all, then compare the folder with a fresh run."""
    random = draw.random
    scene = shared.scene
    new = random.random() < 0.3
    names = random.sample(list(_COMMANDS), random.choice([2, 2, 3]))
    run = scene.fresh("run")
    if new:
        names = random.choices(["new audit", "new audit, other mu"], k=random.choice([2, 2, 3]))
        more = {"new audit": [], "new audit, other mu": ["--mu", "2"]}
        words = [scene.audit(run.name, *more[name]) for name in names]
    else:
        scene.copy(scene.finished, run.name)
        words = [[*_COMMANDS[name], run.name] for name in names]
    started: list[Running] = []
    for one in words:
        started.append(fork(command(one), scene.where))
        time.sleep(random.choice([0, 0.01, 0.05, 0.2, 0.5]))
    ended = [process.wait() for process in started]
    what = f"{' and '.join(names)}: {', '.join(str(done.code) for done in ended)}"
    for done in ended:
        if done.fate not in {"done", "refused"}:
            return verdict(what, done.fate, done.err or done.out)
        if done.fate == "refused" and not any(word in done.err for word in _REASONS):
            return verdict(what, "unclear", done.last)
    return _judge(shared, what, run)


def _judge(shared: Shared, what: str, run: Path) -> Line:
    """Bring the folder up to date with its own settings, and compare it with a new run of those settings."""
    scene = shared.scene
    ended = interpnet(["audit", "--out", run.name], scene.where)
    if ended.fate != "done":
        return verdict(what, "lost", ended.last)
    settings = (run / "run.toml").read_text(encoding="utf-8")
    if settings not in shared.fresh:
        again = scene.fresh("again")
        _, status = isolated(command(["audit", "--config", str(run / "run.toml"), "--out", again.name]), scene.where)
        if status != 0:
            return verdict(what, "campaign broken", f"the audit of {settings} failed")
        shared.fresh[settings] = results(again)
    ours = results(run)
    theirs = shared.fresh[settings]
    # Pictures of channels that earlier settings named stay in the folder; nothing shows them.
    old = {name for name in ours.keys() - theirs.keys() if name.startswith("explanations/")}
    differ = [name for name in differences(ours, theirs) if name not in old and not name.startswith("report")]
    if differ:
        return verdict(what, "wrong", f"not what its settings give: {', '.join(differ)}")
    return verdict(what, "equal")


CAMPAIGN = Campaign("two or three commands at once on one run folder", 80, prepare, attempt)
