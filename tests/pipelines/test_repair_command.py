"""``interpnet repair``: a run whose network goes by a corner, its new weights, exit codes, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.corner_run import NETWORKS, disagreeing, write_images
from interpnet.pipelines.cli.app import main
from interpnet.pipelines.run.config import RunConfig
from interpnet.pipelines.stages import repair as stage
from safetensors.torch import load_file

from interpnet.models import load_model

SETTINGS = ["--mean", "0", "--std", "1", "--device", "cpu", "--seed", "1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and networks."""
    folder = tmp_path_factory.mktemp("corner")
    write_images(folder / "images")
    (folder / "nets.py").write_text(NETWORKS)
    return folder


def collected(place: Path, network: str, out: Path, *more: str, images: str = "images") -> Path:
    """Return a run whose scores were collected, which is all that a repair needs."""
    arguments = ["collect", f"{place / 'nets.py'}:{network}", f"imagefolder:{place / images}", "--out", str(out)]
    assert main([*arguments, *SETTINGS, *more]) == 0
    return out


@pytest.fixture(scope="module")
def repaired(place: Path) -> Path:
    run = collected(place, "corner", place / "run")
    assert main(["repair", str(run)]) == 0
    return run


@pytest.fixture
def run(repaired: Path, tmp_path: Path) -> Path:
    """A copy of the run to change."""
    shutil.copytree(repaired, tmp_path / "run")
    return tmp_path / "run"


def facts(run: Path) -> Any:
    return json.loads((run / "repair" / "repair.json").read_text())


def right(model: torch.nn.Module) -> float:
    x, classes = disagreeing()
    with torch.no_grad():
        return float((model(x).argmax(1) == classes).double().mean())


def test_the_weights_load_as_the_old_ones_do_and_rely_less_on_the_corner(repaired: Path, place: Path) -> None:
    spec = f"{place / 'nets.py'}:corner"
    before = right(load_model(spec))
    after = right(load_model(spec, weights=repaired / "repair" / "repaired.safetensors"))
    assert before < 0.6
    assert after > before + 0.2


def test_what_was_measured_is_in_the_file(repaired: Path) -> None:
    found = facts(repaired)
    assert found["format"] == "interpnet-repair-1"
    assert found["accepted"] is True
    assert {(one["name"], one["part"]) for one in found["suspicious"]} == {
        (name, "top left") for name in ("apple", "boat", "cat")
    }
    # Two fifths of the test images.
    assert found["images"] == {"train": 240, "test": 300, "held": "test"}
    assert found["before"]["n"] == found["after"]["n"] == 120
    assert found["before"]["counts"] == [40, 40, 40]
    assert found["after"]["exchanged"] > found["before"]["exchanged"] + 0.1
    assert found["after"]["clean"] >= found["before"]["clean"] - 0.005
    assert len(found["after"]["recall"]) == 3
    assert found["control"]["exchanged"] < found["after"]["exchanged"]
    assert found["groups"] == {}
    for example in found["examples"]:
        assert all((repaired / "repair" / name).is_file() for name in example["pictures"])
        # The part moved the old network to its class.
        assert example["before"]["odds"][1] > example["before"]["odds"][0]
        assert example["after"]["odds"][1] < example["before"]["odds"][1]


def test_an_audit_takes_the_new_weights(repaired: Path, tmp_path: Path) -> None:
    config = RunConfig.load(repaired / "repair" / "run.toml")
    assert config.weights == str((repaired / "repair" / "repaired.safetensors").resolve())
    out = str(tmp_path / "again")
    assert main(["collect", "--config", str(repaired / "repair" / "run.toml"), "--out", out]) == 0
    assert main(["shortcuts", out]) == 0
    shares = {}
    for folder in (repaired, tmp_path / "again"):
        written = json.loads((folder / "shortcuts" / "shortcuts.json").read_text())
        shares[folder] = [one["share"] for one in written["classes"]]
    assert max(shares[tmp_path / "again"]) < min(shares[repaired])


def test_the_page_shows_it(repaired: Path) -> None:
    page = (repaired / "repair" / "report.html").read_text()
    assert "With the suspicious part of another image" in page
    assert page.count("<img ") == 2 * len(facts(repaired)["examples"])
    assert f"interpnet audit --config {repaired / 'repair' / 'run.toml'} --out runs/NAME" in page


def test_a_second_call_is_skipped_and_other_settings_are_not(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["repair", str(run)]) == 0
    said = capsys.readouterr().out
    assert "repair: up to date, skipped" in said
    assert "Repaired" in said
    assert main(["repair", str(run), "--how", "ridge", "--only", "boat,cat"]) == 0
    assert "repair: up to date" not in capsys.readouterr().out
    found = facts(run)
    assert {one["how"] for one in found["candidates"]} == {"ridge"}
    assert {one["name"] for one in found["suspicious"]} == {"boat", "cat"}


def test_damaged_weights_are_made_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "repair" / "repaired.safetensors"
    before = {name: value.clone() for name, value in load_file(path).items()}  # not the file, which changes
    path.write_bytes(path.read_bytes()[:-5])
    assert main(["repair", str(run)]) == 0
    assert "was changed or damaged since it was written: repair is done again" in capsys.readouterr().out
    # The weights, not the file: its header has its entries in any order.
    torch.testing.assert_close(load_file(path), before, rtol=0, atol=0)


def test_ctrl_c_leaves_the_last_repair_as_it_is(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_args: Any, **_options: Any) -> Any:
        raise KeyboardInterrupt

    before = {path.name: path.read_bytes() for path in (run / "repair").iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(stage, "repair", stopped)
        assert main(["repair", str(run), "--how", "ridge"]) == 130
    error = capsys.readouterr().err
    assert f"Go on with: interpnet repair {run} --how ridge" in error
    assert {path.name: path.read_bytes() for path in (run / "repair").iterdir()} == before
    assert json.loads((run / "manifest.json").read_text())["stages"]["repair"]["state"] == "interrupted"
    assert main(["repair", str(run), "--how", "ridge"]) == 0
    assert facts(run)["accepted"] is True


def test_nothing_suspicious_is_said_and_no_finding(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interpnet.shortcuts._findings.ClassFinding.suspicious", False)
    run = collected(place, "corner", tmp_path / "run")
    assert main(["repair", str(run)]) == 0
    assert "nothing to repair: no class is suspicious" in capsys.readouterr().out
    assert [path.name for path in (run / "repair").iterdir()] == ["repair.json"]
    assert facts(run)["suspicious"] == []


def test_nothing_accepted_says_why_and_what_else_there_is(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The middle tells nothing, so that whoever does not look at the corner knows nothing."""
    write_images(tmp_path / "images", told=False)
    run = collected(place, "corner", tmp_path / "run", images=str(tmp_path / "images"))
    assert main(["repair", str(run), "--how", "ridge"]) == 1
    text = capsys.readouterr().out
    assert "Nothing was accepted" in text
    assert "--how auto tries the other ways, too." in text
    assert not (run / "repair" / "repaired.safetensors").exists()
    assert "Nothing was accepted" in (run / "repair" / "report.html").read_text()
    assert main(["repair", str(run), "--how", "ridge"]) == 1, "also where it is skipped"


def test_few_test_images_leave_the_training_images(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "images", test=60)
    run = collected(place, "corner", tmp_path / "run", images=str(tmp_path / "images"))
    assert main(["repair", str(run), "--max-clean-loss", "0.05"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "60 test images are too few to choose and measure with: a fifth of each class's training images" in text
    assert facts(run)["images"] == {"train": 240, "test": 0, "held": "train"}
    assert facts(run)["before"]["n"] == 48


def test_fewer_images_are_taken_balanced(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["repair", str(run), "--max-images", "120", "--max-clean-loss", "0.1"]) in {0, 1}
    assert "Repaired with 120 of 240 training images" in capsys.readouterr().out
    found = facts(run)
    assert found["images"] == {"train": 120, "test": 120, "held": "test"}
    assert found["before"]["counts"] == [16, 16, 16]


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        ("squashed", ["--how", "ridge"], "an activation.* --how training is left, and 'projection'"),
        ("tied", ["--how", "logistic"], "shares 'head.weight'.*--how training is left"),
        ("frozen", ["--how", "training"], "every parameter of the model is frozen.*use --how ridge"),
    ],
)
def test_a_way_that_cannot_be_gone_says_which_is_left(
    network: str, options: list[str], message: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = collected(place, network, tmp_path / "run")
    capsys.readouterr()
    assert main(["repair", str(run), *options]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.count("\n") == 1
    assert not (run / "repair" / "repaired.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--how", "reactive"], "--how is 'reactive', which puts a layer of its own .*Expected projection"),
        (["--how", "rigde"], "--how is 'rigde'; expected auto or ridge .*did you mean 'ridge'"),
        (["--clean", "al"], "--clean is 'al'; expected all or unmoved"),
        (["--max-clean-loss", "5"], "--max-clean-loss is 5.0; expected a share from 0 to 1"),
        (["--epochs", "0"], "--epochs is 0; expected a whole number of at least 1"),
        (["--max-images", "3"], "--max-images is 3; expected a whole number of at least 10"),
        (["--only", "bota"], "unknown class 'bota'; did you mean 'boat'"),
    ],
)
def test_wrong_options_are_one_line(
    options: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["repair", str(run), *options]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.count("\n") == 1


def test_a_run_that_was_not_searched_says_why(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = collected(place, "corner", tmp_path / "run")
    assert main(["shortcuts", str(run), "--shortcut-images", "0"]) == 0
    assert main(["repair", str(run)]) == 2
    assert "shortcuts were not searched, as asked (--shortcut-images 0)" in capsys.readouterr().err


def test_no_run_and_a_run_without_scores_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["repair", str(tmp_path / "absent")]) == 2
    assert "does not exist" in capsys.readouterr().err
