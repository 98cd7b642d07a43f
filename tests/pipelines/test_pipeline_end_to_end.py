"""Audits from images to report on tiny data: results, reproducibility, images of one's own; pipelines/stages/."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from helpers.small_audit import Stop, audit, folder_of_images, manifest, results, size_of
from interpnet.pipelines.cli.app import main
from interpnet.pipelines.run.shortcuts import load_shortcuts
from interpnet.pipelines.stages import collect
from PIL import Image


def test_an_audit_leaves_everything_it_promises(finished):
    facts = manifest(finished)
    assert {name: entry["state"] for name, entry in facts["stages"].items()} == dict.fromkeys(
        (
            "collect",
            "contributions",
            "solve",
            "reliance",
            "ablate",
            "ablate-reliance",
            "explain",
            "shortcuts",
            "report",
        ),
        "complete",
    )
    assert facts["model"]["spec"] == "smallcnn"
    assert (facts["model"]["n_channels"], facts["model"]["n_layers"], facts["model"]["n_outputs"]) == (40, 3, 10)
    assert len(facts["model"]["fingerprint"]) == len(facts["data"]["train"]["fingerprint"]) == 64
    assert facts["data"]["train"]["n_images"] == 1442
    assert facts["stages"]["collect"]["n_images"] == 400
    assert 0.5 < facts["stages"]["collect"]["accuracy"] <= 1
    assert facts["stages"]["ablate"]["n_images"] == 80
    assert any("80 of 355 test images" in note for note in facts["notes"])
    assert (finished / "report" / "index.html").stat().st_size > 10_000
    found = results(finished)
    rows = list(csv.DictReader((finished / "weights" / "channels.csv").read_text().splitlines()))
    coef = np.array(found["coef"])
    assert len(rows) == (coef != 0).sum()
    assert np.abs(coef).sum(1).max() <= 10 * (1 + 1e-9)
    for entry, row in zip(found["weights/summary.json"]["classes"], coef, strict=True):
        assert entry["n_relevant"] == (row != 0).sum()
        assert entry["l1"] == pytest.approx(np.abs(row).sum())
        assert sum(entry["layers"].values()) == pytest.approx(1)


def test_explanations_name_files_that_exist_and_agree_with_the_weights(finished):
    found = results(finished)
    folder = finished / "explanations"
    coef = np.array(found["coef"])
    offsets = {"blocks.0.relu": 0, "blocks.1.relu": 8, "blocks.2.relu": 24}
    # A channel that both ways name was removed alone in both studies; the first is that of reliance.
    studies = [found[f"ablation/{name}.json"]["single"] for name in ("reliance", "ablation")]
    for entry in found["explanations/classes.json"]["classes"]:
        # The first two by each way to name channels, which may be the same.
        counts = [min(2, entry["n_relevant"]), min(2, entry["n_reliance"])]
        assert max(counts) <= len(entry["channels"]) <= sum(counts)
        for channel in entry["channels"]:
            assert channel["weight"] == coef[entry["index"], offsets[channel["layer"]] + channel["index"]]
            assert 1 <= channel["count"] <= 8
            for name in (channel["mean"], *channel["patches"]):
                assert size_of(folder / name)[0] >= 8
            same = [
                e
                for effects in studies
                for e in effects[str(entry["index"])]
                if (e["layer"], e["index"]) == (channel["layer"], channel["index"])
            ]
            assert channel["effect"] == {"own": same[0]["own_drop"], "others": same[0]["others_change"]}
    examples = found["explanations/examples.json"]
    assert examples["rectifiers_seen"] == examples["rectifiers_overridden"] == 3
    assert (examples["variant"], examples["rule"]) == ("relevance", "lrp_gamma")
    right = [e for e in examples["examples"] if e["true"] == e["predicted"]]
    assert sorted(e["true"] for e in right) == sorted({e["true"] for e in right})
    for example in examples["examples"]:
        assert example["explained"] == example["predicted"]
        # Those named for the class come first, each by its own contribution; others fill up behind them.
        order = [(c["weight"] == 0, -c["response"]) for c in example["channels"]]
        assert order == sorted(order)
        pictures = [example["image"], example["combined"], *example["baselines"].values()]
        pictures += [c["heatmap"] for c in example["channels"]]
        assert {size_of(folder / name) for name in pictures} == {(192, 192)}
        assert set(example["baselines"]) == {"gradient", "guided", "gradcam++", "edge", "random", "center"}


def test_the_same_seed_gives_the_same_results_and_another_does_not(finished, weights, tmp_path):
    assert audit(weights, tmp_path / "again") == 0
    assert results(tmp_path / "again") == results(finished)
    assert audit(weights, tmp_path / "other", "--seed", "1") == 0
    ours = results(finished)
    theirs = results(tmp_path / "other")
    assert ours["ablation/ablation.json"]["conditions"] != theirs["ablation/ablation.json"]["conditions"]


def test_a_run_is_replayed_from_its_settings(finished, tmp_path, capsys):
    assert main(["audit", "--config", str(finished / "run.toml"), "--out", str(tmp_path / "again")]) == 0
    assert results(tmp_path / "again") == results(finished)
    assert (tmp_path / "again" / "run.toml").read_text() == (finished / "run.toml").read_text()


def test_ones_own_images_are_explained(run, tmp_path, capsys):
    from interpnet.datasets import load_dataset

    data = load_dataset("digits", split="test")
    for i in (0, 1):
        pixels = (data.picture(i)[0].numpy() * 255).round().astype(np.uint8)
        # One as the network saw it, one three times as large: it is resized as the run's images are.
        Image.fromarray(pixels.repeat(1 + 2 * i, 0).repeat(1 + 2 * i, 1)).save(tmp_path / f"mine {i}.png")
    images = [part for i in (0, 1) for part in ("--image", str(tmp_path / f"mine {i}.png"))]
    before = (run / "run.toml").read_text()
    assert main(["explain", str(run), *images, "--class", "3", "--k", "2"]) == 0
    assert "mine 0.png" in capsys.readouterr().out
    written = sorted((run / "explanations" / "user").glob("mine-*.json"))
    assert len(written) == 2
    for file in written:
        record = json.loads(file.read_text())
        example = record["examples"][0]
        assert (record["k"], example["explained"], example["true"], example["dataset_index"]) == (2, 3, None, None)
        assert len(example["channels"]) <= 2
        assert size_of(run / "explanations" / example["combined"]) == (192, 192)
    assert (run / "run.toml").read_text() == before
    assert main(["report", str(run)]) == 0  # the run itself is as it was


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--image", "absent.png"], "--image 'absent.png' does not exist"),
        (["--image", "."], "is a folder"),
        (["--image", "broken.png"], "'broken.png' cannot be read"),
        (["--image", "good.png", "--class", "thre"], "unknown class 'thre'"),
        (["--image", "good.png", "--class", "11"], "class 11 does not exist"),
        (["--class", "3"], "--class came without --image"),
    ],
)
def test_bad_images_of_ones_own_are_named(arguments, expected, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no image")
    Image.new("L", (8, 8), 90).save(tmp_path / "good.png")
    assert main(["explain", str(run), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert expected in error


NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU())
        self.dead = nn.ReLU()
        self.classifier = nn.Linear(8, 4)

    def forward(self, x):
        x = self.features(x)
        return {"logits": self.classifier(x.mean((2, 3))), "dead": self.dead(-x - 1)}
"""


def test_a_folder_of_images_and_a_network_of_ones_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    folder_of_images(tmp_path / "images", 3)
    (tmp_path / "images" / "train" / "class 1" / "0.png").write_bytes(b"truncated")
    (tmp_path / "names.txt").write_text("class 2\nother\nclass 1\nclass 0\n")
    common = ["audit", "net.py:Net", "imagefolder:images", "--out", "run", "--repeats", "1", "--examples", "1"]
    assert main(common) == 2
    assert "'class 1/0.png' cannot be read" not in capsys.readouterr().err  # the output is looked at first
    common += ["--classes", "names.txt", "--anyway"]
    assert main([*common, "--output", "logits"]) == 2
    assert "'class 1/0.png' cannot be read" in capsys.readouterr().err
    skipping = [*common, "--output", "logits", "--on-bad-image", "skip"]
    assert main([*skipping, "--fresh"]) == 0
    facts = manifest(tmp_path / "run")
    assert facts["model"]["classes"] == ["class 2", "other", "class 1", "class 0"]
    assert [row[1] for row in facts["data"]["train"]["skipped"]] == ["class 1/0.png"]
    assert facts["stages"]["collect"]["n_images"] == 17
    assert any("could not be read" in note for note in facts["notes"])
    assert any("without a test image, so without recall (1): other" in note for note in facts["notes"])
    labels = np.fromfile(tmp_path / "run" / "scores" / "labels.bin", np.int64)
    assert np.bincount(labels, minlength=4).tolist() == [6, 0, 5, 6]
    # 17 images of the 3 classes that have any are enough to fit the labels.
    assert facts["stages"]["solve"]["fit_on"] == "labels"
    assert "class 0" in (tmp_path / "run" / "report" / "index.html").read_text()
    # Everything is found from another folder, too, relative as it was written.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["ablate", str(tmp_path / "run"), "--repeats", "2"]) == 0


def test_labels_are_fitted_where_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    folder_of_images(tmp_path / "images", 4, each=3)
    arguments = ["collect", "net.py:Net", "imagefolder:images", "--out", "run", "--output", "logits"]
    assert main(arguments) == 0
    assert main(["solve", "run", "--fit-on", "labels"]) == 0
    assert manifest(tmp_path / "run")["stages"]["solve"]["fit_on"] == "labels"
    counts = json.loads((tmp_path / "run" / "weights" / "summary.json").read_text())["classes"]
    assert [entry["n_images"] for entry in counts] == [3, 3, 3, 3]


def test_the_demo_trains_once_and_names_the_report(tmp_path, monkeypatch, capsys):
    from interpnet.pipelines.cli import commands_model

    monkeypatch.setattr(commands_model, "_DEMO_DATA", "an8flower-single-6c?size=32&n=120")  # a demo of seconds
    monkeypatch.setattr(collect, "first_look", lambda *_: None)  # its network is hardly trained
    monkeypatch.setattr(commands_model, "_DEMO_TRAINING", {"width": 6, "epochs": 3})
    out = tmp_path / "demo"
    arguments = ["demo", "--out", str(out), "--mu", "auto", "--stability", "2"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.rstrip().endswith(f"report: {out / 'report' / 'index.html'}")
    assert (out / "report" / "index.html").is_file()
    monkeypatch.setattr(commands_model, "fit_smallcnn", Stop(None, 1))
    assert main(arguments) == 0
    assert "solve: up to date, skipped" in capsys.readouterr().out
    page = (out / "report" / "index.html").read_text()
    assert "How mu was chosen" in page
    assert "share of 4 random halves" in page
    assert "Where the heatmaps lie" in page
    places = json.loads((out / "explanations" / "localisation.json").read_text())
    assert [m["name"] for m in places["methods"]] == [
        "interpnet-reliance",
        "interpnet",
        "gradient",
        "guided",
        "gradcam++",
        "edge",
        "random",
        "center",
    ]
    assert all(0 < m["mean"] < 1 and m["n"] == places["n_images"] == 120 for m in places["methods"])
    for entry in places["classes"]:
        for channel in entry["channels"]:
            shares = channel["shares"]
            assert set(shares) == {"petals", "stem", "plant", "background", "discriminative"}
            if shares["petals"] is not None:
                assert shares["petals"] == shares["discriminative"] <= shares["plant"] <= 1
                assert shares["plant"] + shares["background"] <= 1 + 1e-9
    found = load_shortcuts(out)
    assert found is not None
    assert "outside the subject" in found.parts
    assert {one.index for one in found.classes} == set(range(6))
    assert found.passes <= 6 or found.inside  # what was pasted comes on top


def test_the_methods_beside_are_those_asked_for_and_the_controls(run, capsys):
    assert main(["explain", str(run), "--methods", "deeplift,edge", "--methods", "cam", "--examples", "1"]) == 0
    examples = json.loads((run / "explanations" / "examples.json").read_text())["examples"]
    for example in examples:
        assert list(example["baselines"]) == ["deeplift", "edge", "cam", "random", "center"]
        assert set(example["blank"]) <= set(example["baselines"])
    capsys.readouterr()
    assert main(["explain", str(run), "--methods", "gradcamm"]) == 2
    assert "unknown method 'gradcamm'; did you mean 'gradcam'" in capsys.readouterr().err
