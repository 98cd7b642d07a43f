"""What goes wrong in first audits: each is one line, with its cause and remedy, and exit code 2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from interpnet.pipelines.cli.app import main
from PIL import Image

NETWORKS = """
import torch
from torch import nn

def make(outputs=2):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, outputs))

def seven():
    return make(7)

def sigmoid():
    return nn.Sequential(make(1), nn.Sigmoid())

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = make()

    def forward(self, x):
        return {"logits": self.inner(x), "features": x.mean((2, 3))}

class Needs(Two):
    def forward(self, x, mask):
        return self.inner(x) * mask

class Dense(Two):
    def forward(self, x):
        return x[:, :2]

class Blank(Two):
    def forward(self, x):
        return self.inner(x) * float("nan")

def nothing():
    pass

def fails():
    raise RuntimeError("no such file: weights.bin")
"""
DATA = """
import torch
from torch.utils.data import DataLoader, TensorDataset

images = torch.rand(8, 3, 12, 12)
labels = torch.tensor([0, 1] * 4)

def good():
    return TensorDataset(images, labels), TensorDataset(images, labels)

def far():
    return TensorDataset(images, labels + 5)

def other_size():
    return TensorDataset(images, labels), TensorDataset(images[:, :1], labels)

def three():
    return 1, 2, 3

def empty():
    return []

def unlabelled():
    return [images]

def names():
    return [(images, ["cat", "dog"] * 4)]

def mixed():
    return [(images[:4], [0, 1, 0, 1]), (images[4:], ["cat", "dog", "cat", "dog"])]

def iterator():
    return iter([(images, labels)])

def bytes_with_wrong_mean():
    return TensorDataset((images * 255).byte(), labels)

def noisy():
    class Noisy(TensorDataset):
        def __getitem__(self, i):
            return images[i] + torch.rand(()), int(labels[i])
    return DataLoader(Noisy(images, labels), 4)
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    (folder / "net.py").write_text(NETWORKS)
    (folder / "data.py").write_text(DATA)
    (folder / "broken.py").write_text("def make(:\n")
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{i}.png")
    (folder / "empty").mkdir()
    (folder / "flat").mkdir()
    Image.new("RGB", (12, 12)).save(folder / "flat" / "one.png")
    (folder / "torn" / "cat").mkdir(parents=True)
    (folder / "torn" / "dog").mkdir(parents=True)
    (folder / "torn" / "cat" / "a.png").write_bytes(b"no image")
    Image.new("RGB", (12, 12)).save(folder / "torn" / "dog" / "b.png")
    (folder / "sizes" / "cat").mkdir(parents=True)
    (folder / "sizes" / "dog").mkdir(parents=True)
    Image.new("RGB", (12, 12)).save(folder / "sizes" / "cat" / "a.png")
    Image.new("RGB", (9, 12)).save(folder / "sizes" / "dog" / "b.png")
    (folder / "few.txt").write_text("cat\n")
    (folder / "twice.txt").write_text("cat\ncat\n")
    (folder / "others.txt").write_text("cat\nwolf\n")
    (folder / "table.csv").write_text("file,cat,dog\nphotos/cat/0.png,1,2\n")
    (folder / "bad.toml").write_text("[model]\nmodle = 'x'\n")
    (folder / "weights.bin").write_bytes(b"nothing")
    return folder


NET = "net.py:make"
PHOTOS = "imagefolder:photos"
WRONG: dict[str, tuple[str, str]] = {
    # The network.
    "no network": ("", "MODEL and DATA missing"),
    "no data": (f"{NET}", "DATA missing"),
    "an unknown network": (f"torchvision:resnet19 {PHOTOS}", "did you mean"),
    "an unknown source": (f"resnet18 {PHOTOS}", "torchvision:resnet18"),
    "no such file": (f"nets.py:make {PHOTOS}", "did you mean 'net.py'"),
    "no such function": (f"net.py:mak {PHOTOS}", "did you mean 'make'"),
    "a file that is no Python": (f"broken.py:make {PHOTOS}", "SyntaxError"),
    "a function that returns nothing": (f"net.py:nothing {PHOTOS}", "expected a torch.nn.Module"),
    "a function that fails": (f"net.py:fails {PHOTOS}", "RuntimeError: no such file: weights.bin"),
    "no such weights": (f"{NET} {PHOTOS} --weights no.safetensors", "no.safetensors"),
    "weights of another kind": (f"{NET} {PHOTOS} --weights weights.bin", "weights.bin"),
    "weights that are no option": (f"{NET} {PHOTOS} --weights pretrained", "pretrained"),
    "outputs without a parameter": (f"{NET} {PHOTOS} --num-classes 3", "num_classes"),
    "a network of several results": (f"net.py:Two {PHOTOS}", "--output logits"),
    "no such result": (f"net.py:Two {PHOTOS} --output logit", "with keys logits, features"),
    "a network that needs more": (f"net.py:Needs {PHOTOS}", "mask"),
    "a map instead of logits": (f"net.py:Dense {PHOTOS}", "expected logits"),
    "logits that are no numbers": (f"net.py:Blank {PHOTOS}", "NaN"),
    "probabilities of one output": (f"net.py:sigmoid {PHOTOS}", "torch.logit"),
    "an unknown layer": (f"{NET} {PHOTOS} --layers conv9", "conv9"),
    "an unknown device": (f"{NET} {PHOTOS} --device gpu", "gpu"),
    # The images.
    "an unknown data set": (f"{NET} cifar", "did you mean 'cifar10'"),
    "a folder without its word": (f"{NET} photos", "did you mean 'imagefolder:photos'"),
    "no such folder": (f"{NET} imagefolder:fotos", "fotos"),
    "an empty folder": (f"{NET} imagefolder:empty", "empty"),
    "images without folders": (f"{NET} imagefolder:flat", "flat"),
    "a file that is no image": (f"{NET} imagefolder:torn", "a.png"),
    "images of two sizes": (f"{NET} imagefolder:sizes", "--image-size N"),
    "a table with a two": (f"{NET} csv:table.csv", "2"),
    "no such table": (f"{NET} csv:tables.csv", "tables.csv"),
    "a size of nothing": (f"{NET} {PHOTOS} --image-size 0", "image_size is 0, expected a positive whole number"),
    "a size in words": (f"{NET} {PHOTOS} --image-size big", "numbers such as 224 or 224x320"),
    "a mean of bytes": (f"{NET} {PHOTOS} --mean 123.7,116.3,103.5", "--mean 0.485,0.456,0.406"),
    "a std of nothing": (f"{NET} {PHOTOS} --std 0", "std"),
    "two means": (f"{NET} {PHOTOS} --mean 0.5,0.5", "mean"),
    "grey for a network of colours": (f"{NET} {PHOTOS} --channels 1", "--channels"),
    # The function that gives images.
    "no such loader": (f"{NET} data.py:god", "did you mean 'good'"),
    "labels beyond the outputs": (f"{NET} data.py:far", "expected labels from 0 to 1"),
    "a test of another size": (
        f"{NET} data.py:other_size",
        "test images have the shape (1, 12, 12), the training images (3, 12, 12)",
    ),
    "three things": (f"{NET} data.py:three", "returned 3 things; expected the training images"),
    "nothing to read": (f"{NET} data.py:empty", "yields nothing"),
    "images without labels": (f"{NET} data.py:unlabelled", "without labels"),
    "names without classes": (f"{NET} data.py:names", "classes"),
    "labels of two kinds": (f"{NET} data.py:mixed", "labels of one type"),
    "an iterator": (f"{NET} data.py:iterator", "can be read once only"),
    "images that change": (f"{NET} data.py:noisy", "another one each time it is read"),
    # Their classes.
    "fewer classes than outputs": (f"net.py:seven {PHOTOS}", "give --classes FILE"),
    "a list with too few": (f"{NET} {PHOTOS} --classes few.txt", "has 1 different lines; the model has 2 outputs"),
    "a list with one twice": (f"{NET} {PHOTOS} --classes twice.txt", "has 1 different lines"),
    "a list of others": (f"{NET} {PHOTOS} --classes others.txt", "class 'dog' of the data is not in the list"),
    "no such list": (f"{NET} {PHOTOS} --classes names.txt", "names.txt"),
    "ImageNet's names for two": (f"{NET} {PHOTOS} --classes imagenet", "names 1000 outputs; the model has 2"),
    "an unknown class": (f"{NET} {PHOTOS} --only wolf", "unknown class 'wolf'"),
    "a group of all": (f"{NET} {PHOTOS} --group pets=cat,dog", "every class is in one group"),
    "a group of one": (f"{NET} {PHOTOS} --group pets=cat", "pets"),
    "a group without a name": (f"{NET} {PHOTOS} --group cat,dog", "NAME=CLASS"),
    "a group of a stranger": ("net.py:seven data.py:good --group pets=0,wolf", "wolf"),
    "groups that overlap": ("net.py:seven data.py:good --group a=0,1 --group b=1,2", "'1'"),
    "independent outputs of one label": (f"{NET} {PHOTOS} --outputs both", "--outputs"),
    # The settings.
    "a mu of nothing": (f"{NET} {PHOTOS} --mu 0", "expected a number above 0, or auto"),
    "an unknown method": (f"{NET} {PHOTOS} --methods gradcamm", "did you mean"),
    "an unknown ranking": (f"{NET} {PHOTOS} --rankings mine.py:best", "mine.py"),
    "reliance that is not identified": (
        f"{NET} {PHOTOS} --identify mu-lasso --by reliance",
        "--identify reliance or both",
    ),
    "settings of another name": ("--config bad.toml", "did you mean 'model'"),
    "a run that is none": (f"{NET} {PHOTOS} --out photos", "is not empty and holds no run"),
}


@pytest.mark.parametrize("slip", WRONG)
def test_a_wrong_input_is_one_line_with_the_remedy(
    slip: str, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words, remedy = WRONG[slip]
    monkeypatch.chdir(here)
    folder = tmp_path / "run"
    out = [] if "--out" in words else ["--out", str(folder)]
    code = main(["audit", *words.split(), *out])
    said = capsys.readouterr().err.strip().splitlines()
    assert code == 2, said
    assert said[-1].startswith("error: ")
    assert any(part in said[-1] for part in remedy.split("|")), said[-1]
    assert not any("Traceback" in line for line in said)
    # Before the pass over the images, but for what only the pass sees.
    assert slip == "logits that are no numbers" or not (folder / "scores" / "X.f32").exists()


def test_there_are_enough_of_them() -> None:
    assert len(WRONG) >= 60
