"""Damage a file of a run folder, run a command on it, and compare with the same command on a whole folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from experiments.common.tables import Line
from experiments.reliability.campaign import Campaign, Draw, verdict
from experiments.reliability.processes import Ended, interpnet, isolated
from experiments.reliability.scene import Scene, content, differences, make_scene, results, run_once
from experiments.reliability.stopping import kill_at

#: Commands that go on from a finished run; the last word of each is the run folder.
COMMANDS = {
    "audit": ["audit", "--out"],
    "report": ["report"],
    "solve --mu 2": ["solve", "--mu", "2"],
    "solve --fit-on predictions": ["solve", "--fit-on", "predictions"],
    "solve --stability 2": ["solve", "--stability", "2"],
    "ablate --repeats 2": ["ablate", "--repeats", "2"],
    "explain --examples 2": ["explain", "--examples", "2"],
    "explain --image": ["explain", "--image", "data/test/a/0.png"],
    "collect": ["collect"],
}
LOADS = "library"  # everything that the library can read of the folder
#: At which file operation of an audit the interrupted folders are left.
_INTERRUPTED = {"half collected": "scores", "half ablated": "ablation", "half explained": "explanations"}


@dataclass
class Shared:
    """The folders that cases start from, and what each command leaves on a whole one; each made where it is wanted."""

    scene: Scene
    interrupted: dict[str, Path] = field(default_factory=dict)
    references: dict[str, dict[str, Any]] = field(default_factory=dict)

    def start(self, name: str) -> Path:
        """Return the run folder that a command finds: a finished one, or one that was left half done."""
        if name not in _INTERRUPTED:
            return self.scene.finished
        if name not in self.interrupted:
            run = self.scene.fresh(name.replace(" ", "_"))
            kill = partial(kill_at, folder=_INTERRUPTED[name], nth=12)
            ended = interpnet(self.scene.audit(run.name), self.scene.where, kill)
            if ended.code != -signal.SIGKILL:
                raise RuntimeError(f"the audit that was to be killed was not: {ended.last}")
            self.interrupted[name] = run
        return self.interrupted[name]

    def foreign(self) -> Path:
        """Return a run of another network."""
        run = self.scene.where / "foreign"
        if not run.is_dir():
            ended_well(interpnet(["audit", "net.py:other", *self.scene.audit(run.name)[2:]], self.scene.where))
        return run

    def reference(self, name: str) -> dict[str, Any]:
        """Return the results of a command on a whole folder."""
        if name not in self.references:
            run = run_once(self.scene, "reference", [*COMMANDS[name], "reference"])
            self.references[name] = results(run)
        return self.references[name]


def prepare(where: Path) -> Shared:
    """Make a finished run."""
    return Shared(make_scene(where))


def ended_well(ended: Ended) -> None:
    """Stop the campaign where what it stands on cannot be made."""
    if ended.fate != "done":
        raise RuntimeError(f"a command on whole files failed: {ended.last}")


def flip_a_bit(path: Path, random: Random, _foreign: Path) -> None:
    """Flip one bit."""
    data = bytearray(path.read_bytes())
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    path.write_bytes(data)


def truncate(path: Path, random: Random, _foreign: Path) -> None:
    """Cut the file off somewhere."""
    os.truncate(path, random.randrange(path.stat().st_size))


def lengthen(path: Path, random: Random, _foreign: Path) -> None:
    """Add bytes at the end."""
    with path.open("ab") as handle:
        handle.write(random.randbytes(random.randrange(1, 40)))


def empty(path: Path, _random: Random, _foreign: Path) -> None:
    """Leave nothing of it."""
    os.truncate(path, 0)


def zero(path: Path, _random: Random, _foreign: Path) -> None:
    """Fill it with zeros, as some file systems do after a crash."""
    path.write_bytes(bytes(path.stat().st_size))


def delete(path: Path, _random: Random, _foreign: Path) -> None:
    """Delete it."""
    path.unlink()


def swap(path: Path, _random: Random, foreign: Path) -> None:
    """Put the file of another run in its place."""
    if foreign.is_file():
        shutil.copyfile(foreign, path)
    else:
        path.write_text("of another program")


def make_a_folder(path: Path, _random: Random, _foreign: Path) -> None:
    """Put a folder in its place."""
    path.unlink()
    path.mkdir()


def dangle(path: Path, _random: Random, _foreign: Path) -> None:
    """Put a link that leads nowhere in its place."""
    path.unlink()
    path.symlink_to("nowhere")


def change_json(path: Path, random: Random, _foreign: Path) -> None:
    """Change one value of a JSON file, or its type, or leave it out."""
    value = json.loads(path.read_text(encoding="utf-8"))
    places = list(_places(value))
    if places:
        inner, key = random.choice(places)
        inner[key] = _other(inner[key], random)
    else:
        value = _other(value, random)
    path.write_text(json.dumps(value), encoding="utf-8")


def drop_json(path: Path, random: Random, _foreign: Path) -> None:
    """Leave out one entry of a JSON file."""
    value = json.loads(path.read_text(encoding="utf-8"))
    places = list(_places(value))
    if places:
        inner, key = random.choice(places)
        del inner[key]
    path.write_text(json.dumps(value if places else None), encoding="utf-8")


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return every (container, key) below a JSON value."""
    found: list[tuple[Any, Any]] = []
    keys: list[Any] = []
    if isinstance(value, dict):
        keys = list(value)
    elif isinstance(value, list):
        keys = list(range(len(value)))
    for key in keys:
        found += [(value, key), *_places(value[key])]
    return found


def _other(value: Any, random: Random) -> Any:
    """Return another value, of the same type or not."""
    odd: list[Any] = ["x", -1, 10**18, None, [], {}, True, 0.5, float("nan")]
    if isinstance(value, bool):
        odd = [not value, 2, "true", None]
    elif isinstance(value, int | float):
        odd += [value + 1, value * 2 + 1, -value - 1, str(value)]
    elif isinstance(value, str):
        odd += [value + "x", value[:-1] + "#", 3]
    elif isinstance(value, list):
        odd += [[*value[1:], "x"], value + value + [1], dict.fromkeys(map(str, value), 1)]
    return random.choice([one for one in odd if one != value])


DAMAGES: list[Callable[[Path, Random, Path], None]] = [
    flip_a_bit,
    flip_a_bit,
    flip_a_bit,
    truncate,
    lengthen,
    empty,
    zero,
    delete,
    swap,
    swap,
    make_a_folder,
    dangle,
    change_json,
    change_json,
    change_json,
    drop_json,
]


def attempt(shared: Shared, draw: Draw) -> Line:
    """Damage one file and judge one command."""
    random = draw.random
    name = draw.of([*COMMANDS, *COMMANDS, "audit", "audit", "audit", LOADS, *_INTERRUPTED])
    scene = shared.scene
    run = scene.copy(shared.start(name), "run")
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.stat().st_size)
    # Files of the early stages are few, and more depends on them: draw the folder first.
    folder = random.choice(sorted({path.parent for path in files}))
    path = random.choice([file for file in files if file.parent == folder])
    damages = [one for one in DAMAGES if path.suffix == ".json" or "json" not in one.__name__]
    damage = random.choice(damages)
    file = str(path.relative_to(run))
    what = f"{damage.__name__.replace('_', ' ')} {file}; {name}"
    before = content(path)
    foreign = path
    if damage is swap:
        foreign = shared.foreign() / file
    damage(path, random, foreign)
    damaged = content(path)
    if damaged == before:
        return verdict(what, "equal")  # of a date, say
    if name == LOADS:
        return _judge_loads(what, run, scene)
    arguments = [*COMMANDS.get(name, COMMANDS["audit"]), run.name]
    ended = interpnet(arguments, scene.where)
    if ended.fate != "done":
        return verdict(what, ended.fate, ended.last)
    reference = shared.reference("audit" if name in _INTERRUPTED else name)
    differ = [one for one in differences(results(run), reference) if not one.startswith(".")]
    return _judge(what, file, name, differ, scene, run, damaged)


def _judge(what: str, file: str, name: str, differ: list[str], scene: Scene, run: Path, damaged: Any) -> Line:
    """Judge a command that ended well, by the files that differ from those of a whole folder."""
    if not differ:
        return verdict(what, "mended")
    still = content(run / file) == damaged
    if set(differ) <= {file, "manifest.json"} and still:
        if name in {"audit", *_INTERRUPTED} and file != "run.toml":
            return verdict(what, "unnoticed", file)
        return verdict(what, "unread")
    if file == "run.toml" and _is_that_of_its_settings(scene, run):
        return verdict(what, "equal")  # another number in a file of settings is another setting
    return verdict(what, "wrong", f"exit 0, other: {', '.join(differ)}")


def _is_that_of_its_settings(scene: Scene, run: Path) -> bool:
    """Whether a run is what a new one with the settings of its run.toml is."""
    again = scene.fresh("again")
    ended = interpnet(["audit", "--config", str(run / "run.toml"), "--out", again.name], scene.where)
    return ended.fate == "done" and not differences(results(run), results(again))


def _judge_loads(what: str, run: Path, scene: Scene) -> Line:
    """Read a folder with the library: every load must be right or an InterpNetError."""

    def load() -> list[Any]:
        from interpnet.errors import InterpNetError
        from interpnet.gram import Gram
        from interpnet.interpretation import Interpretation
        from interpnet.scores import ScoreTable

        readers: list[tuple[Callable[[Path], Any], str]] = [
            (lambda path: ScoreTable.load(path).X, "scores"),
            (lambda path: ScoreTable.load(path).labels, "scores"),
            (lambda path: ScoreTable.load(path).predictions, "scores"),
            (lambda path: ScoreTable.load(path).indices, "scores"),
            (lambda path: Gram.load(path).G, "scores/gram.npz"),
            (lambda path: Gram.load(path).B, "scores/gram.npz"),
            (lambda path: Interpretation.load(path).coef, "weights/interpretation.npz"),
        ]
        found: list[Any] = []
        for read, file in readers:
            try:
                found.append(read(run / file).tolist())
            except InterpNetError:
                found.append("refused")
        return found

    ended, ours = isolated(load, scene.where)
    if ended.fate != "done":
        return verdict(what, ended.fate, ended.err)
    _, theirs = isolated(_with(load, run, scene), scene.where)
    wrong = [pair for pair in zip(ours, theirs, strict=True) if pair[0] not in ("refused", pair[1])]
    if wrong:
        return verdict(what, "wrong", str(wrong[0])[:300])
    return verdict(what, "refused" if "refused" in ours else "unread")


def _with(load: Callable[[], list[Any]], run: Path, scene: Scene) -> Callable[[], list[Any]]:
    """Return ``load`` on a whole copy."""

    def whole() -> list[Any]:
        shutil.rmtree(run)
        shutil.copytree(scene.finished, run)
        return load()

    return whole


CAMPAIGN = Campaign("one file of a run folder damaged, then a command or the library reads it", 500, prepare, attempt)
