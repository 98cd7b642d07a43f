"""--shortcut and --strength: the cue they put into the data's specification; pipelines/run/cue.py."""

from __future__ import annotations

import json

import numpy as np
import pytest
from interpnet.pipelines.cli import commands_model
from interpnet.pipelines.cli.app import main
from interpnet.pipelines.cli.commands import configured
from interpnet.pipelines.cli.options import Request
from interpnet.pipelines.run import cue
from interpnet.pipelines.run.config import RunConfig
from interpnet.pipelines.run.settings import Given
from interpnet.pipelines.stages import collect

from interpnet.datasets import an8flower_from_spec
from interpnet.datasets._an8flower.options import SHORTCUTS
from interpnet.errors import InterpNetError

#: Figures are made but not drawn: test_pipeline_end_to_end.py and test_report.py draw those of whole audits.
pytestmark = pytest.mark.usefixtures("blank_charts")

FLOWERS = "an8flower-single-6c?size=32&n=120"


def test_the_options_are_those_of_the_data_set():
    assert cue.SHORTCUTS == SHORTCUTS
    for name in SHORTCUTS:
        spec = cue.planted("an8flower-single-6c?size=32&n=6", name, 0.5)
        made = an8flower_from_spec(spec).options
        assert (made.shortcut, made.strength) == (name, 0.5)


def test_a_cue_goes_into_the_specification_once():
    assert cue.planted("mnist", None, None) == "mnist"
    assert cue.planted("an8flower-double-12c", "pot", None) == "an8flower-double-12c?shortcut=pot"
    again = "an8flower-single-6c?shortcut=pot&strength=0.9"
    assert cue.planted(again, "pot", 0.9) == again
    assert cue.planted("an8flower-single-6c?shortcut=pot", None, 0.0).endswith("shortcut=pot&strength=0.0")
    with pytest.raises(InterpNetError, match=r"--strength is 0.5 and the data .* says 0.9; give it once"):
        cue.planted(again, None, 0.5)


def test_an_option_overrides_what_stands_in_a_file_and_not_what_was_typed_beside_it():
    config = RunConfig(data="an8flower-single-6c?shortcut=pot&size=64")
    asked = Request(shortcut="texture")
    assert configured(Given({}), asked, config).data == "an8flower-single-6c?shortcut=texture&size=64"
    with pytest.raises(InterpNetError, match="give it once"):
        configured(Given({"data": config.data}), asked)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_is_a_share(strength):
    with pytest.raises(InterpNetError, match="expected a number from 0 to 1"):
        cue.planted("an8flower-single-6c", "pot", strength)


def test_train_and_audit_take_the_cue_and_the_run_can_be_replayed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    planted = ["--shortcut", "texture", "--strength", "0.75"]
    assert main(["train", FLOWERS, "--out", "w.safetensors", "--epochs", "1", "--width", "4", *planted]) == 0
    few = ["--repeats", "1", "--examples", "1", "--top", "5", "--methods", "gradient"]
    arguments = ["audit", "smallcnn", FLOWERS, "--weights", "w.safetensors", "--out", "run", "--anyway", *few, *planted]
    assert main(arguments) == 0
    spec = f"{FLOWERS}&shortcut=texture&strength=0.75"
    assert f'data = "{spec}"' in (tmp_path / "run" / "run.toml").read_text()
    places = json.loads((tmp_path / "run" / "explanations" / "localisation.json").read_text())
    shares = {m["name"]: m["cue"] for m in places["methods"]}
    chance = np.mean(an8flower_from_spec(spec, "test").shortcut_mask)
    assert shares["random"] == pytest.approx(chance, abs=0.02)  # noise has its area's share
    assert all(0 <= share <= 1 for share in shares.values() if share is not None)
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "In the planted cue" in page
    assert "the cue texture agrees with the class in 75 % of the training images" in page
    capsys.readouterr()
    assert main(["audit", "--out", "run", *planted]) == 0  # the same again: all is there
    assert "explain: up to date, skipped" in capsys.readouterr().out


def test_the_demo_plants_a_cue_and_says_what_the_network_makes_of_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands_model, "_DEMO_DATA", FLOWERS)
    monkeypatch.setattr(collect, "first_look", lambda *_: None)  # its network is hardly trained
    monkeypatch.setattr(commands_model, "_DEMO_TRAINING", {"width": 6, "epochs": 4})
    assert main(["demo", "--shortcut", "background"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "the cue background agrees with the class in 100 % of the training images" in said
    assert "accuracy where the cue agrees with the class" in said
    assert "report: runs/demo-background/report/index.html" in said
    places = json.loads((tmp_path / "runs/demo-background/explanations/localisation.json").read_text())
    assert all("shortcut" in channel["shares"] for entry in places["classes"] for channel in entry["channels"])
    assert not (tmp_path / "runs" / "demo").exists()
