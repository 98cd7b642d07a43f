"""A small audit of scikit-learn's digits, for the tests of the pipeline: how to run it, and what it found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from interpnet.pipelines.cli.app import main
from PIL import Image

SMALL = [
    "--max-images",
    "400",
    "--max-ablation-images",
    "80",
    "--repeats",
    "2",
    "--examples",
    "1",
    "--misclassified",
    "2",
    "--max-channels",
    "2",
    "--top",
    "8",
]


def train(path: Path) -> Path:
    """Train a network for digits, briefly, and return its file."""
    assert main(["train", "digits", "--out", str(path), "--epochs", "8", "--width", "8"]) == 0
    return path


def audit(weights: Path, out: Path, *more: str) -> int:
    return main(["audit", "smallcnn", "digits", "--weights", str(weights), "--out", str(out), *SMALL, *more])


def results(folder: Path) -> dict[str, object]:
    """Everything a run found, without times and places."""
    from interpnet.interpretation import Interpretation

    found: dict[str, object] = {
        name: json.loads((folder / name).read_text())
        for name in (
            "weights/summary.json",
            "ablation/ablation.json",
            "ablation/reliance.json",
            "explanations/classes.json",
            "explanations/examples.json",
        )
    }
    found["relied"] = Interpretation.load(folder / "weights" / "reliance.npz").coef.tolist()
    found["coef"] = Interpretation.load(folder / "weights" / "interpretation.npz").coef.tolist()
    found["channels.csv"] = (folder / "weights" / "channels.csv").read_text()
    found["ablation.csv"] = (folder / "ablation" / "ablation.csv").read_text()
    return found


def manifest(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def as_older(folder: Path) -> None:
    """Make a run folder one of a version that wrote no checksums."""
    content = manifest(folder)
    for name in ("checksum", "settings"):
        del content[name]
    for entry in content["stages"].values():
        entry.pop("checksums", None)
    (folder / "manifest.json").write_text(json.dumps(content))
    state = json.loads((folder / "scores" / "state.json").read_text())
    kept = {name: value for name, value in state.items() if name not in ("checksum", "blocks")}
    (folder / "scores" / "state.json").write_text(json.dumps(kept))


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


class Stop:
    """Raises KeyboardInterrupt at the n-th call of what it wraps."""

    def __init__(self, function, n):
        self.function = function
        self.left = n

    def __call__(self, *arguments, **options):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.function(*arguments, **options)


def folder_of_images(path: Path, n_classes: int, *, each: int = 6, test: int = 2, size: int = 8) -> None:
    """Write ``train`` and ``test`` folders of noisy images, brighter from class to class."""
    rng = np.random.default_rng(0)
    for split, n in (("train", each), ("test", test)):
        for c in range(n_classes):
            (path / split / f"class {c}").mkdir(parents=True)
            for i in range(n):
                pixels = rng.normal(255 * (c + 0.5) / n_classes, 8, (size, size, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(path / split / f"class {c}" / f"{i}.png")
