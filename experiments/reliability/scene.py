"""The small audit that every campaign disturbs: a network of four channels, 24 images, five stages in two seconds."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.reliability.processes import command, import_everything, interpnet
from interpnet.support.io import write_text

NETWORK = '''"""A network for tests."""

import torch
from torch import nn


def make(seed=0):
    """Return a network of four channels whose answers depend on the colour of the image."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    with torch.no_grad():
        net[0].weight[:3] += torch.eye(3)[:, :, None, None]
        net[4].weight[:, :3] += 4 * torch.eye(3)
    return net


def other():
    """Return the same network with other weights."""
    return make(1)
'''
#: Options that keep an audit short.
_SHORT = "--repeats 1 --examples 1 --misclassified 1 --max-channels 1 --top 4 --k 1 --methods gradient"
SETTINGS = f"{_SHORT} --mean 0.5 --std 0.25 --mu 3 --batch-size 4 --device cpu".split()
STAGES = {"collect": "scores", "solve": "weights", "ablate": "ablation", "explain": "explanations", "report": "report"}
_DATE = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)?"
_CELLS = re.compile(rf'<td>{_DATE}</td>(<td class="n">[^<]*</td>)*')  # a stage's date, seconds and images per second
_SETTINGS = re.compile(r"<details><summary>Run it again.*?</details>", re.DOTALL)  # repeats run.toml
_PLACE = re.compile(rb"^(directory|workers) = .*$", re.MULTILINE)  # nothing that is found depends on these
_TIMES = {"created", "started", "seconds", "images_per_second", "waited", "when"}
# What only repeats other files, or changes with the times above.
_DERIVED = {"bytes", "files", "settings", "digests", "digest", "checksums", "checksum", "sha256", "xxh3"}


@dataclass(frozen=True)
class Scene:
    """A folder with ``net.py`` and ``data``, and in it the run folder ``finished`` of an undisturbed audit."""

    where: Path

    @property
    def finished(self) -> Path:
        """The undisturbed run."""
        return self.where / "finished"

    def audit(self, out: Path | str, *more: str) -> list[str]:
        """Return the arguments of the audit, written to ``out``."""
        return ["audit", "net.py:make", "imagefolder:data", "--out", str(out), *SETTINGS, *more]

    def fresh(self, name: str) -> Path:
        """Return the path of a folder that does not exist, in the scene."""
        path = self.where / name
        shutil.rmtree(path, ignore_errors=True)
        return path

    def copy(self, of: Path, name: str) -> Path:
        """Copy a run folder."""
        return Path(shutil.copytree(of, self.fresh(name), symlinks=True))


def write_images(folder: Path, classes: Iterable[str] = "abc", each: int = 6, side: int = 12) -> None:
    """Write ``train`` and ``test`` folders of noisy images; a class has a colour, one image in six a wrong one."""
    rng = np.random.default_rng(0)
    for split, count in (("train", each), ("test", 2)):
        for number, name in enumerate(classes):
            place = folder / split / name
            place.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                pixels = rng.integers(0, 90, (side, side, 3))
                pixels[..., (number + (i == 1)) % 3] += 90
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{i}.png")


@cache
def make_scene(where: Path) -> Scene:
    """Write network and images, run the audit once, and import what it imports; all campaigns share a folder."""
    write_text(where / "net.py", NETWORK)
    write_images(where / "data")
    scene = Scene(where)
    import_everything(command(scene.audit("finished")), where)
    return scene


def results(run: Path) -> dict[str, Any]:
    """Return what every file of a run folder says, without times."""
    found = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if not path.is_dir() and name != ".lock":
            found[name] = content(path)
    return found


def content(path: Path) -> Any:
    """Return what a file says: JSON and pages without times, else its bytes; None where it is no file."""
    if not path.is_file():
        return None
    data = path.read_bytes()
    if path.suffix == ".json":
        try:
            return _timeless(json.loads(data))
        except ValueError:
            return data
    if path.suffix == ".html":
        return re.sub(_DATE, "", _CELLS.sub("", _SETTINGS.sub("", data.decode(errors="replace"))))
    if path.suffix == ".toml":
        return _PLACE.sub(b"", data)
    return data


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(inner) for key, inner in value.items() if key not in _TIMES | _DERIVED}
    if isinstance(value, list):
        return [_timeless(inner) for inner in value]
    return value


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Return the names of files that only one has, or that say different things."""
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def first_difference(ours: Any, theirs: Any, place: str = "") -> str:
    """Return where two JSON values differ first, with both values; empty where they do not."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        inner = [first_difference(ours.get(key), theirs.get(key), f"{place}/{key}") for key in ours | theirs]
        return next(filter(None, inner), "")
    if ours == theirs:
        return ""
    return f"{place}: {str(ours)[:80]} for {str(theirs)[:80]}"


def run_once(scene: Scene, name: str, *commands: list[str]) -> Path:
    """Run commands one after the other on a copy of the finished run, as a reference."""
    run = scene.copy(scene.finished, name)
    for arguments in commands:
        ended = interpnet(arguments, scene.where)
        if ended.fate != "done":
            raise RuntimeError(f"the reference {' '.join(arguments)} failed: {ended.last}")
    return run
