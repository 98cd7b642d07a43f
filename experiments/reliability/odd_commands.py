"""Odd command lines: each works, or ends with exit status 2 and one line."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from experiments.common.tables import Line
from experiments.reliability.campaign import Campaign, Draw, verdict
from experiments.reliability.processes import interpnet
from experiments.reliability.scene import Scene, make_scene

_NUMBERS = [
    "nan",
    "inf",
    "-inf",
    "-1",
    "abc",
    "",
    " ",
    "1e400",
    "None",
    "1,5",
    "0x10",
    "--",
    "-",
    "\x1b[31m5",
]
_MOST = ["0", "-1", "1.5", "abc", "", "1e3", "nan", "True", "--"]  # of "at most so many": a huge number is right
_COUNTS = [*_MOST, "9" * 30]
_WORDS = ["nonsense", "", " ", "None", "\x1b[31mred\x1b[0m", "a\nb", "x" * 3000, "../..", "🦆", "-1"]
_FILES = [
    "missing",
    "",
    ".",
    "/",
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "fifo",
    "empty",
    "folder",
    "binary",
    "loop",
    "unreadable",
    "x" * 3000,
    "a\nb",
    "~",
    "net.py",
    "/proc/self/mem",
    "data/test/a/0.png",
]
#: Options of an audit with values that are all wrong.
WRONG = {
    "--mu": [*_NUMBERS, "0"],
    "--repeats": _COUNTS,
    "--k": _MOST,
    "--top": _MOST,
    "--max-channels": _MOST,
    "--max-images": _MOST,
    "--batch-size": _COUNTS,
    "--max-ablation-images": _MOST,
    "--num-classes": [*_COUNTS, "2", "1000"],
    "--examples": [one for one in _MOST if one != "0"],
    "--misclassified": [one for one in _MOST if one != "0"],
    "--stability": [one for one in _COUNTS if one != "0"],
    "--workers": [one for one in _COUNTS if one != "0"],
    "--seed": [one for one in _COUNTS if one not in {"0", "9" * 30}],
    "--mean": [*(one for one in _NUMBERS if one != "-1"), "0.5,0.5", "0.5,0.5,0.5,0.5", "0.5;0.5;0.5"],
    "--std": [*_NUMBERS, "0", "0.5,0.5", "0.5,0,0.5"],
    "--channels": [*_COUNTS, "2", "1"],
    "--image-size": [*_COUNTS, "12x", "x12", "12x12x12", "0x12", "-1x5"],
    "--crop": [*_COUNTS, "12x", "x12", "0x12"],
    "--norm": _WORDS,
    "--fit-on": _WORDS,
    "--fill": _WORDS,
    "--rectifier": _WORDS,
    "--reduction": _WORDS,
    "--class-weight": _WORDS,
    "--methods": [one for one in _WORDS if one.strip()] + ["gradient,nonsense"],
    "--layers": [*_WORDS, "1,nonsense", "[", "*.*.*", ","],
    "--device": [*_WORDS, "cuda:99", "meta", "mps:x", "hpu"],
    "--output": ["nonsense", "1", "-1", "", "0.5"],
    "--on-bad-image": _WORDS,
    "--weights": _FILES,
    "--classes": _FILES,
    "--config": [one for one in _FILES if one not in {"empty", "/dev/null"}],
    "--data-root": [],
    "--shortcut": _WORDS,
    "--strength": ["nan", "2", "-1", "abc"],
    "--nonsense": ["1"],
}
#: Whole command lines; ``RUN`` stands for a finished run.
LINES = """\
nonsense
-x
--
-
audit
audit net.py:make
audit net.py:make imagefolder:data extra
audit --out
audit net.py imagefolder:data
audit net.py: imagefolder:data
audit net.py:nothing imagefolder:data
audit missing.py:make imagefolder:data
audit folder:make imagefolder:data
audit :make imagefolder:data
audit broken.py:make imagefolder:data
audit raising.py:make imagefolder:data
audit raising.py:text imagefolder:data
audit raising.py:number imagefolder:data
audit raising.py:leaves imagefolder:data
audit raising.py:breaks imagefolder:data
audit raising.py:nan imagefolder:data
audit raising.py:nothing imagefolder:data
audit raising.py:wants imagefolder:data
audit torchvision:nonsense imagefolder:data
audit torchvision: imagefolder:data
audit timm:nonsense imagefolder:data
audit nonsense:a imagefolder:data
audit smallcnn imagefolder:data
audit net.py:make nonsense
audit net.py:make imagefolder:
audit net.py:make imagefolder:missing
audit net.py:make imagefolder:empty
audit net.py:make imagefolder:folder
audit net.py:make imagefolder:net.py
audit net.py:make imagefolder:/dev
audit net.py:make imagefolder:oneclass
audit net.py:make digits
audit net.py:make mnist --data-root missing
audit net.py:make cifar10 --data-root empty
audit net.py:make an8flower-nonsense
audit RUN
audit RUN RUN
audit net.py:make imagefolder:data --out net.py
audit net.py:make imagefolder:data --out data
audit net.py:make imagefolder:data --out /proc/x
audit net.py:make imagefolder:data --out /dev/null
audit net.py:make imagefolder:data --out empty/x
audit net.py:make imagefolder:data --out folder --config RUN/run.toml
audit net.py:other imagefolder:data --out RUN
audit --out missing
audit --config RUN/manifest.json
audit --config RUN
collect
collect missing
collect empty
collect net.py:make
collect RUN --layers nonsense
solve
solve missing
solve empty
solve folder
solve /
solve .
solve RUN extra
solve RUN --mu 0
solve RUN --mu -1
solve RUN --mu
solve RUN --repeats 3
solve RUN --mu auto --stability -1
solve fifo
ablate
ablate missing
ablate folder
ablate RUN --repeats 0
ablate RUN --fill nan
ablate RUN --seed -1
explain
explain missing
explain RUN --image
explain RUN --image missing.png
explain RUN --image folder
explain RUN --image net.py
explain RUN --image empty
explain RUN --image /dev/zero
explain RUN --image fifo
explain RUN --image data/test/a/0.png --class nonsense
explain RUN --image data/test/a/0.png --class -1
explain RUN --image data/test/a/0.png --class 99
explain RUN --class a
explain RUN --k 0
explain RUN --top -3
explain RUN --methods nonsense
explain RUN --device nonsense
report
report missing
report empty
report folder
report RUN extra
report RUN --mu 3
report /dev/null
layers
layers nonsense
layers net.py:nothing
layers net.py:make --image-size 0
layers net.py:make --channels 0
layers torchvision:resnet18 --weights missing
filters
filters net.py:make
filters net.py:make imagefolder:missing
filters net.py:make imagefolder:data --layers nonsense
filters net.py:make imagefolder:data --steps -1
train
train nonsense
train digits --epochs 0 --out w.safetensors
train digits --epochs -1 --out w.safetensors
train digits --lr nan --out w.safetensors
train digits --lr -1 --out w.safetensors
train digits --width 0 --out w.safetensors
train digits --out folder
train digits --out /proc/x.safetensors
train imagefolder:missing --out w.safetensors
demo extra
demo --shortcut nonsense
demo --strength 2
""".splitlines()
#: Odd, and right.
RIGHT = """\
--help
-h
--version
audit --help
solve --help
report -h
layers net.py:make
layers net.py:make imagefolder:data
audit --out RUN
collect RUN
solve RUN
ablate RUN
explain RUN
report RUN
report RUN/
report ./RUN
solve RUN --mu 1e-300
solve RUN --mu 1e300
solve RUN --positive
explain RUN --image data/test/a/0.png
ablate RUN --repeats 1 --repeats 2
audit net.py:make imagefolder:data/ --out RUN --mean 0.5 --std 0.25 --mu 3
""".splitlines()


@dataclass
class Shared:
    """The scene with odd files in it, and all lines with whether each is wrong."""

    scene: Scene
    lines: list[tuple[list[str], bool]]


def prepare(where: Path) -> Shared:
    """Make the finished run and the odd files."""
    scene = make_scene(where)
    (where / "empty").touch()
    (where / "folder").mkdir()
    (where / "folder" / "something").write_text("else")
    (where / "binary").write_bytes(bytes(range(256)) * 9)
    (where / "loop").symlink_to("loop")
    (where / "unreadable").write_text("secret")
    (where / "unreadable").chmod(0)
    os.mkfifo(where / "fifo")
    shutil.copytree(where / "data" / "train" / "a", where / "oneclass" / "train" / "a")
    (where / "broken.py").write_text("def make(:\n")
    (where / "raising.py").write_text(_RAISING)
    odd = [(["audit", "net.py:make", "imagefolder:data", *_rest(name), name, value], True) for name, value in _pairs()]
    lines = [(line.split(), True) for line in LINES] + [(line.split(), False) for line in RIGHT]
    return Shared(scene, odd + lines)


_RAISING = """
import sys
import torch
from torch import nn


def make():
    raise KeyError("mine")


def text():
    return "a network"


def number():
    return 3


def nothing():
    return None


def leaves():
    sys.exit(0)


def wants(this, that):
    return nn.Identity()


class Breaks(nn.Module):
    def forward(self, x):
        return x["nothing"]


def breaks():
    return Breaks()


def nan():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    net[-1].bias.data.fill_(float("nan"))
    return net
"""


def _pairs() -> list[tuple[str, str]]:
    return [(name, value) for name, values in WRONG.items() for value in values]


def _rest(name: str) -> list[str]:
    """Return settings that an audit needs, without the odd one."""
    needed = {"--mean": "0.5", "--std": "0.25", "--repeats": "1", "--top": "4", "--methods": "gradient"}
    needed.pop(name, None)
    return [word for pair in needed.items() for word in pair]


def attempt(shared: Shared, draw: Draw) -> Line:
    """Run one odd command line."""
    scene = shared.scene
    words, wrong = draw.of(shared.lines)
    run = scene.copy(scene.finished, "run")
    words = [word.replace("RUN", run.name) for word in words]
    shutil.rmtree(scene.where / "runs", ignore_errors=True)
    what = "interpnet " + " ".join(word if len(word) < 60 else f"{word[:8]}..." for word in words)
    what = what.encode("unicode_escape").decode()
    ended = interpnet(words, scene.where, patience=60)
    for name in ("net.py", "data/train/a/0.png", "folder/something"):
        if not (scene.where / name).is_file():
            return verdict(what, "wrong", f"{name} is gone")
    if "\x1b" in ended.err + ended.out:
        return verdict(what, "not escaped", ended.err)
    if ended.fate == "done" and wrong:
        return verdict(what, "silent", f"exit 0: {ended.out[-200:]}")
    if ended.fate == "refused" and not wrong:
        return verdict(what, "wrong", f"refused, though good: {ended.last}")
    return verdict(what, ended.fate, f"exit {ended.code}: {ended.err}")


CAMPAIGN = Campaign("odd command lines", 300, prepare, attempt)
