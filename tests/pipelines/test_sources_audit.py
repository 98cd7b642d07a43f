"""An audit of tar shards, of a data set of Hugging Face and of a function's data set is that of the folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.shards import CLASSES, rows_of, shards_of
from interpnet.pipelines.cli.app import main
from interpnet.pipelines.run.config import RunConfig
from interpnet.pipelines.run.images import is_function, load_splits
from interpnet.pipelines.run.opening import default_name
from PIL import Image

from interpnet.datasets._webdataset import ShardSource

#: Figures are made but not drawn: test_pipeline_end_to_end.py and test_report.py draw those of whole audits.
pytestmark = pytest.mark.usefixtures("blank_charts")

NETWORK = """
import torch

def make():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(16, 2))
"""
FUNCTION = """
from interpnet.datasets import load_dataset

def loaders():
    return tuple(load_dataset("imagefolder:{folder}", split=split) for split in ("train", "test"))
"""
FILES = ("scores/X.f32", "scores/labels.bin", "scores/predictions.i64")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two classes in a folder, the same as shards and as rows, and a network."""
    root = tmp_path_factory.mktemp("sources")
    rng = np.random.default_rng(0)
    for split, n in (("train", 12), ("val", 6)):
        for label, name in enumerate(("cat", "dog")):
            (root / "folder" / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 120, (12, 12, 3), dtype=np.uint8)
                pixels[:, 6 * label : 6 * label + 6] += 100
                Image.fromarray(pixels).save(root / "folder" / split / name / f"{i:02d}.jpg")
        shards_of(root / "folder", root / "shards", split, per_shard=5)
    (root / "net.py").write_text(NETWORK)
    (root / "data.py").write_text(FUNCTION.format(folder=root / "folder"))
    return root


def run_of(made: Path, stage: str, data: str, name: str, *more: str) -> Path:
    out = made / "runs" / name
    quick = ["--weights", "random", "--anyway", "--batch-size", "5"]
    if stage == "audit":
        quick += [
            "--max-channels",
            "1",
            "--examples",
            "1",
            "--misclassified",
            "1",
            "--top",
            "4",
            "--repeats",
            "1",
            "--mu",
            "1",
        ]
    assert main([stage, f"{made}/net.py:make", data, "--out", str(out), *quick, *more]) == 0
    return out


@pytest.fixture(scope="module")
def folder(made: Path) -> Path:
    return run_of(made, "audit", f"imagefolder:{made}/folder", "folder")


def same_scores(run: Path, other: Path) -> None:
    """Both have the same scores, labels and answers, bit for bit."""
    for name in FILES:
        assert (run / name).read_bytes() == (other / name).read_bytes()


def test_shards_give_the_audit_of_the_folder(made: Path, folder: Path) -> None:
    data = f"webdataset:{made}/shards/{{train,val}}-*.tar"
    run = run_of(made, "audit", data, "shards", "--workers", "1")
    same_scores(run, folder)
    for name in ("ablation/ablation.json", "ablation/reliance.json", "weights/channels.csv"):
        assert (run / name).read_bytes() == (folder / name).read_bytes()
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert "val-0000.tar/" in page


def test_rows_give_the_scores_of_the_folder(made: Path, folder: Path) -> None:
    hugging = pytest.importorskip("datasets")
    hugging.disable_progress_bars()
    kinds = hugging.Features({"image": hugging.Image(), "label": hugging.Value("string")})
    parts = {}
    for split in ("train", "val"):
        rows = [row | {"label": CLASSES[row["label"]]} for row in rows_of(made / "folder" / split)]
        parts[split] = hugging.Dataset.from_list(rows, features=kinds)
    hugging.DatasetDict(parts).save_to_disk(str(made / "saved"))
    same_scores(run_of(made, "collect", f"hf:{made}/saved", "rows"), folder)


def test_a_function_gives_the_scores_of_the_folder(made: Path, folder: Path) -> None:
    same_scores(run_of(made, "collect", f"{made}/data.py:loaders", "function"), folder)


def test_an_interrupted_collection_of_shards_goes_on(made: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = ShardSource.encoded
    read: list[int] = []
    stop: list[int] = []

    def reading(source: ShardSource, i: int) -> bytes:
        read.append(i)
        if stop and len(read) == stop[0]:
            raise KeyboardInterrupt
        return honest(source, i)

    monkeypatch.setattr(ShardSource, "encoded", reading)
    data = f"webdataset:{made}/shards"
    run_of(made, "collect", data, "whole")
    stop.append(len(read) - 4)
    read.clear()
    out = made / "runs" / "again"
    command = ["collect", f"{made}/net.py:make", data, "--out", str(out), "--weights", "random", "--anyway"]
    assert main([*command, "--batch-size", "5"]) == 130
    stop.clear()
    assert main(["collect", "--out", str(out)]) == 0
    same_scores(out, folder)


def test_a_run_whose_shards_changed_is_refused(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "val"):
        shards_of(made / "folder", made / "changing", split)
    run = run_of(made, "collect", f"webdataset:{made}/changing", "changing")
    shards_of(made / "folder", made / "changing", "train", per_shard=5)
    (made / "changing" / "train-0005.tar").unlink()
    capsys.readouterr()
    assert main(["collect", "--out", str(run)]) == 2
    assert "another set of training images" in " ".join(capsys.readouterr().err.split())


def test_places_of_files_are_no_functions(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any(is_function(f"{word}:{made}/a.py-000.tar") for word in ("webdataset", "hf", "csv", "imagefolder"))
    assert default_name(RunConfig(model="torchvision:resnet18", data="webdataset:/a/train-{0..3}.tar")) == (
        "resnet18-train-0..3-.tar"
    )
    monkeypatch.chdir(made.parent)
    config = RunConfig(model="x", data="webdataset:shards/{train,val}-*.tar", directory=str(made))
    assert [len(split) for split in load_splits(config)] == [24, 12]
