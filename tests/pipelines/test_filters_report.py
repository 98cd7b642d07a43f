"""The command ``interpnet filters``: end to end on digits, the same for a seed, resumable, and what it refuses."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.image_files import two_classes
from helpers.small_audit import Stop, folder_of_images
from interpnet.pipelines.cli.app import main
from interpnet.pipelines.filters import naming
from interpnet.pipelines.filters.choice import by_classes, class_shares, leading
from interpnet.pipelines.filters.parts import Parts
from interpnet.pipelines.filters.work import chosen_layers, evenly, picture_shape
from interpnet.pipelines.report.filters import PAGE, _raised
from PIL import Image

from interpnet.concepts import dissect
from interpnet.engine import ChannelIndex
from interpnet.reliance import Contributions

QUICK = ["--max-images", "60", "--per-layer", "2", "--max-classes", "3", "--steps", "4", "--neighbours", "2"]


def picture(weights: Path, out: Path, *more: str) -> int:
    return main(["filters", "smallcnn", "digits", "--weights", str(weights), "--out", str(out), *QUICK, *more])


@pytest.fixture(scope="module")
def made(weights, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("filters") / "digits"
    assert picture(weights, out) == 0
    return out


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", re.sub(r"<(style|script|svg).*?</\1>", "", page, flags=re.DOTALL)).split())


def test_the_page_has_every_part(made) -> None:
    page = (made / "report" / PAGE).read_text(encoding="utf-8")
    text = text_of(page)
    for heading in ("Filters", "Channels", "Classes", "Map of the images", "Nearest images"):
        assert f"<h2>{heading}</h2>" in page
    assert "smallcnn on digits" in text
    assert "8 filters of 3×3 over 1 input channel." in text
    assert "16 filters of 3×3 over 8 input channels, stride 2. A row is a filter" in text
    assert page.count('class="channels units"') == 3
    assert page.count('<td class="picture raised">') == 3 * 2
    assert page.count('<td class="picture map">') == 3 * 2 * 2
    assert len(re.findall(r"[−0-9.,]+ images [−0-9.,]+", text)) == 3 * 2 + 3, "of each channel and each class"
    assert len(re.findall(r"distance [0-9.]+", text)) == 3 * 2
    assert "60 images by what the network makes of them" in text
    assert 'src="http' not in page


def test_the_tables_beside_it(made) -> None:
    rows = table(made / "report" / "embedding.csv")
    assert len(rows) == 60
    assert {r["class"] for r in rows} == {str(c) for c in range(10)}
    assert rows[0]["image"].startswith("digits/test/")
    near = table(made / "report" / "neighbours.csv")
    assert [r["rank"] for r in near[:4]] == ["1", "2", "1", "2"]
    assert float(near[0]["distance"]) <= float(near[1]["distance"])
    entry = json.loads((made / "manifest.json").read_text())["stages"]["filters"]
    assert entry["state"] == "complete"
    assert entry["settings"]["steps"] == 4


def test_the_same_seed_gives_the_same_page_and_another_one_another(made, weights, tmp_path) -> None:
    assert picture(weights, tmp_path / "again") == 0
    page = (made / "report" / PAGE).read_bytes()
    assert (tmp_path / "again" / "report" / PAGE).read_bytes() == page
    assert picture(weights, tmp_path / "other", "--seed", "1") == 0
    assert (tmp_path / "other" / "report" / PAGE).read_bytes() != page


def test_it_goes_on_where_it_stopped(made, weights, tmp_path, monkeypatch, capsys) -> None:
    import interpnet.pipelines.filters.work as work

    out = tmp_path / "run"
    monkeypatch.setattr(work, "maximise", Stop(work.maximise, 2))
    assert picture(weights, out) == 130
    error = capsys.readouterr().err
    assert error == (
        f"interrupted; the parts that are done are kept in {str(out)!r}. Go on with: interpnet filters --out {out}\n"
    )
    assert not (out / "report" / PAGE).exists()
    assert json.loads((out / "manifest.json").read_text())["stages"]["filters"]["state"] == "interrupted"
    monkeypatch.undo()
    # As the message says: model, data and settings are those of the first time.
    assert main(["filters", "--out", str(out)]) == 0
    assert "parts that were there already: 3" in capsys.readouterr().out
    assert (out / "report" / PAGE).read_bytes() == (made / "report" / PAGE).read_bytes()


def test_a_finished_one_is_not_made_again_and_a_damaged_part_is(made, weights, tmp_path, capsys) -> None:
    out = Path(shutil.copytree(made, tmp_path / "run"))
    assert picture(weights, out) == 0
    assert "parts that were there already: 7" in capsys.readouterr().out
    next((out / "filters").glob("embedding-*.npz")).write_bytes(b"not a zip")
    assert picture(weights, out) == 0
    assert "parts that were there already: 6" in capsys.readouterr().out
    assert (out / "report" / PAGE).read_bytes() == (made / "report" / PAGE).read_bytes()
    assert picture(weights, out, "--fresh") == 0
    assert "already" not in capsys.readouterr().out


def test_a_folder_of_another_model_is_refused(made, tmp_path, capsys) -> None:
    from helpers.small_audit import train

    out = Path(shutil.copytree(made, tmp_path / "run"))
    other = tmp_path / "other.safetensors"
    assert main(["train", "digits", "--out", str(other), "--epochs", "1", "--width", "4"]) == 0
    capsys.readouterr()
    assert picture(other, out) == 2
    assert "belongs to another model" in capsys.readouterr().err
    assert picture(other, out, "--fresh") == 0
    assert train is not None


def test_it_lives_in_an_audits_folder_without_touching_the_audit(run, weights, capsys) -> None:
    before = {p: p.read_bytes() for p in (run / "run.toml", run / "report" / "index.html")}
    stages = json.loads((run / "manifest.json").read_text())["stages"]
    assert picture(weights, run, "--fresh") == 0
    assert {p: p.read_bytes() for p in before} == before
    after = json.loads((run / "manifest.json").read_text())["stages"]
    assert {name: after[name] for name in stages} == stages
    assert (run / "report" / PAGE).is_file()
    assert main(["report", str(run)]) == 0, "the audit goes on working"
    assert "done in" in capsys.readouterr().out


def test_by_default_the_folder_is_named_after_model_and_data(weights, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["filters", "smallcnn", "digits", "--weights", str(weights), *QUICK, "--layers", "blocks.0.relu"]) == 0
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["smallcnn-digits-filters"]


def test_layers_are_those_asked_for(weights, tmp_path) -> None:
    assert picture(weights, tmp_path / "run", "--layers", "blocks.1.conv,head.0") == 0
    page = (tmp_path / "run" / "report" / PAGE).read_text(encoding="utf-8")
    assert page.count('class="channels units"') == 2
    assert "blocks.<wbr>1.<wbr>conv" in page


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--layers", "blocks.0.rellu"], "did you mean 'blocks.0.relu'"),
        (["--steps", "0"], "--steps is 0; expected a whole number of at least 1"),
        (["--per-layer", "0"], "--per-layer is 0"),
        (["--split", "tset"], "--split is 'tset'; expected train or test; did you mean 'test'?"),
        (["--l2", "1"], "--l2 is 1.0; expected a number from 0 to below 1"),
        (["--blur", "-1"], "--blur is -1.0"),
        (["--perplexity", "0.5"], "--perplexity is 0.5"),
        (["--perplexity", "60"], "perplexity=60.0 for 60 images; expected from 1 to below 60"),
    ],
)
def test_a_mistake_is_one_line(arguments, expected, weights, tmp_path, capsys) -> None:
    assert picture(weights, tmp_path / "run", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert expected in error
    assert not (tmp_path / "run" / "report").exists()


def test_model_and_data_are_needed(tmp_path, capsys) -> None:
    assert main(["filters", "--out", str(tmp_path / "x")]) == 2
    assert "MODEL and DATA missing: interpnet filters MODEL DATA" in capsys.readouterr().err


NET = (
    "from torch import nn\n"
    "def make():\n"
    "    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 10 * 12, 6), nn.ReLU(), nn.Linear(6, 2))\n"
    "def conv():\n"
    "    tail = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)\n"
    "    return nn.Sequential(nn.Conv2d(3, 4, 5, stride=2), nn.ReLU(), *tail)\n"
    "def fixed():\n"
    "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8 * 10, 2))\n"
    "class Cut(nn.Module):\n"
    "    def forward(self, x):\n"
    "        return x.detach()\n"
    "def cut():\n"
    "    tail = nn.AdaptiveAvgPool2d(1), nn.Flatten(), Cut(), nn.Linear(4, 2)\n"
    "    return nn.Sequential(nn.Conv2d(3, 4, 5, stride=2), nn.ReLU(), *tail)\n"
)


def test_channels_are_those_that_classes_rely_on(made) -> None:
    text = text_of((made / "report" / PAGE).read_text(encoding="utf-8"))
    assert "channels that classes rely on" in text
    assert len(re.findall(r"for \d [0-9]+ %(?:, \d [0-9]+ %)* average of 9", text)) == 3 * 2
    assert "by the spread" not in text


def test_where_gradients_do_not_flow_channels_are_chosen_by_their_spread_and_the_page_says_so(folder, tmp_path) -> None:
    (tmp_path / "net.py").write_text(NET)
    out = tmp_path / "run"
    arguments = ["filters", f"{tmp_path / 'net.py'}:conv", f"imagefolder:{folder}", "--out", str(out), *QUICK]
    assert main(arguments) == 0
    text = text_of((out / "report" / PAGE).read_text(encoding="utf-8"))
    assert (
        "Channels are chosen by the spread of their scores, not by what classes rely on: fewer than 2 classes" in text
    )
    folder_of_images(tmp_path / "photos", 5)
    arguments = [f"{tmp_path / 'net.py'}:cut", f"imagefolder:{tmp_path / 'photos'}", "--out", str(tmp_path / "cut")]
    # Without gradients there is no picture either.
    assert main(["filters", *arguments, *QUICK]) == 2


def test_a_network_that_insists_on_its_own_size_gets_it(folder, tmp_path, monkeypatch) -> None:
    import interpnet.pipelines.filters.work as work

    monkeypatch.setattr(work, "_CLASS_SIDE", 8)
    (tmp_path / "net.py").write_text(NET)
    out = tmp_path / "run"
    arguments = ["filters", f"{tmp_path / 'net.py'}:fixed", f"imagefolder:{folder}", "--out", str(out), *QUICK]
    assert main(arguments) == 0
    part = next((out / "filters").glob("maximised-classes-*.npz"))
    with np.load(part) as arrays:
        assert arrays["pictures"].shape == (2, 3, 10, 12)


def test_a_picture_that_falls_short_of_the_images_is_not_shown() -> None:
    made = {
        "pictures": np.full((4, 3, 8, 8), 0.5, np.float32),
        "reached": np.array([0.69, 0.71, -2.0, 5.0]),
        "silent": np.array([False, False, False, True]),
    }
    shown = [_raised(made, i, largest)["picture"] for i, largest in enumerate((1.0, 1.0, -1.0, 1.0))]
    assert [picture is not None for picture in shown] == [False, True, False, False]
    assert _raised(made, 2, -3.0)["picture"], "of a logit below zero the larger is enough"


def test_channels_are_ordered_by_their_share_of_what_a_layer_does_for_a_class() -> None:
    """Two classes of four images, one layer of four channels; the sums are those of the contributions and squares."""
    means = np.array([[4.0, 1.0, 3.0, -1.0], [0.0, 3.0, 3.0, 0.0]])
    sums = 4 * means
    squares = 4 * means**2 + 3 * 4 * 0.25  # a standard error of a half everywhere
    found = Contributions(
        ChannelIndex((("a", 4),)), ("cat", "dog"), np.array([4, 4]), np.zeros(2), np.stack([sums, squares]), np.zeros(4)
    )
    np.testing.assert_allclose(found.specific(1.0), [[4, -2, 0, -1], [-4, 2, 0, 0]])
    shares = class_shares(found, "a")
    errors = found.specific_stderr(1.0)
    np.testing.assert_allclose(shares, [[(4 - errors[0, 0]) / 4, 0, 0, 0], [0, (2 - errors[1, 1]) / 2, 0, 0]])
    assert by_classes(shares) == [0, 1]
    classes, _ = leading(shares)
    assert classes.tolist() == [[0, -1, -1], [1, -1, -1], [-1, -1, -1], [-1, -1, -1]]


def test_no_convolution_and_too_few_images_are_said_on_the_page(folder, tmp_path) -> None:
    (tmp_path / "net.py").write_text(NET)
    arguments = ["filters", f"{tmp_path / 'net.py'}:make", f"imagefolder:{folder}", "--out", str(tmp_path / "run")]
    assert main([*arguments, "--max-images", "3", "--steps", "2"]) == 0
    text = text_of((tmp_path / "run" / "report" / PAGE).read_text(encoding="utf-8"))
    assert "No filters are shown: the model ran without a 1-D or 2-D convolution" in text
    assert "There is no map of the embedding: t-SNE of 3 images came; expected at least 5. Give more images." in text
    assert "Each image has 2 neighbours only: there are 3 images." in text
    assert main([*arguments, "--max-images", "1", "--steps", "2", "--fresh"]) == 0
    text = text_of((tmp_path / "run" / "report" / PAGE).read_text(encoding="utf-8"))
    assert "There are no nearest images" in text


def test_names_from_the_data_are_text(tmp_path) -> None:
    evil = "<img src=x onerror=alert(1)>"
    source = two_classes(tmp_path / "photos")
    for old in sorted(source.rglob("*")):
        if old.is_dir() and not any(p.is_dir() for p in old.iterdir()):
            old.rename(old.with_name(f"{old.name} {evil}".replace("/", "_")))
    (tmp_path / "net.py").write_text(NET)
    out = tmp_path / "run"
    arguments = ["filters", f"{tmp_path / 'net.py'}:conv", f"imagefolder:{source}", "--out", str(out), *QUICK]
    assert main(arguments) == 0
    page = (out / "report" / PAGE).read_text(encoding="utf-8")
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page
    assert "filters of 5×5 over 3 input channels, stride 2" in text_of(page)


def test_images_that_cannot_be_read_are_left_out(tmp_path) -> None:
    folder_of_images(tmp_path / "photos", 2)
    for bad in ("train/class 0/0.png", "test/class 1/1.png"):
        (tmp_path / "photos" / bad).write_bytes(b"no picture")
    (tmp_path / "net.py").write_text(NET)
    arguments = ["filters", f"{tmp_path / 'net.py'}:conv", f"imagefolder:{tmp_path / 'photos'}", *QUICK]
    assert main([*arguments, "--out", str(tmp_path / "a"), "--on-bad-image", "skip"]) == 0
    rows = table(tmp_path / "a" / "report" / "embedding.csv")
    assert len(rows) == 3
    page = (tmp_path / "a" / "report" / PAGE).read_text(encoding="utf-8")
    assert "1 of 4 images cannot be read and are left out." in text_of(page)
    assert main([*arguments, "--out", str(tmp_path / "b")]) == 2


def test_parts_are_made_once_for_the_same_things(tmp_path) -> None:
    calls: list[int] = []

    def make():
        calls.append(1)
        return {"x": np.arange(3), "word": np.array("a")}

    for settings, base, expected in (({"n": 1}, "b", 1), ({"n": 1}, "b", 1), ({"n": 2}, "b", 2), ({"n": 2}, "c", 3)):
        arrays = Parts(tmp_path, base).get("layer/../x:1", settings, make)
        assert len(calls) == expected
        assert arrays["x"].tolist() == [0, 1, 2]
        assert str(arrays["word"]) == "a"
    assert [p.name.startswith("layer-..-x-1-") for p in tmp_path.iterdir()] == [True]


def test_default_layers_are_spread_over_the_depth() -> None:
    import torch
    from torch import nn

    from interpnet.engine import find_sites

    deep = nn.Sequential(*[nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.ReLU()) for _ in range(20)], nn.Flatten())
    trace = find_sites(nn.Sequential(deep, nn.Linear(64, 2)), torch.zeros(1, 1, 8, 8))
    names = [s.name for s in chosen_layers(trace, ("default",))]
    assert (len(names), names[0], names[-1]) == (8, "0.0.1", "0.19.1")
    assert len(chosen_layers(trace, ("0.*.1",))) == 20
    assert evenly(0, 5) == []


def test_a_shallow_channels_picture_is_small_and_a_deep_ones_as_large_as_the_image() -> None:
    import torch
    from torch import nn

    from interpnet.engine import find_sites

    model = nn.Sequential(
        nn.Conv2d(3, 2, 7, stride=2),
        nn.ReLU(),
        nn.Conv2d(2, 2, 31, stride=16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2, 3),
        nn.ReLU(),
        nn.Linear(3, 2),
    )
    image = (3, 200, 90)
    trace = find_sites(model, torch.zeros(1, *image))
    assert picture_shape(trace["1"], image) == (3, 32, 32)
    assert picture_shape(trace["3"], image) == (3, 80, 80), "a field of 67, half as wide again, is more than 80"
    assert picture_shape(trace["7"], image) == image
    wide = (3, 130, 130)
    large = nn.Sequential(nn.Conv2d(3, 1, 65, stride=13), nn.ReLU(), *model[4:5], nn.Flatten(), nn.Linear(1, 2))
    trace = find_sites(large, torch.zeros(1, *wide))
    assert picture_shape(trace["1"], wide) == (3, 80, 80)


def test_channels_are_named_by_concepts_and_names_are_escaped(weights, tmp_path, monkeypatch) -> None:
    """Every second channel gets the name of a folder with markup in it, the others none."""
    draws = np.random.default_rng(0)
    for concept in ("<b>bold & bright", "dark"):
        folder = tmp_path / "concepts" / "brightness" / concept
        folder.mkdir(parents=True)
        for i in range(3):
            pixels = draws.integers(0, 128, (8, 8)) + 127 * (concept != "dark")
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{concept[-4:]}{i}.png")
    asked = {}

    def dissected(model, loader, **options):
        found = dissect(model, loader, **options)
        asked.update(options)
        iou = np.full(found.iou.shape, 0.01)
        iou[::2, 0] = 0.25
        return replace(found, iou=iou, low=iou - 0.005, high=iou + 0.05, null=0 * found.null, floor=0 * found.floor)

    monkeypatch.setattr(naming, "dissect", dissected)
    assert picture(weights, tmp_path / "run", "--concepts", str(tmp_path / "concepts")) == 0
    page = (tmp_path / "run" / "report" / PAGE).read_text(encoding="utf-8")
    assert asked["layers"] == re.findall(r'<h3 id="layer-name-\d+"><bdi>(.*?)</bdi>', page)
    names = re.findall(
        r'<code>\S*?\[(\d+)\]</code>.*?<small class="concept"><bdi>(.*?)</bdi>', page.replace("<wbr>", "")
    )
    assert len(names) == 3 * 2
    # The first layer has an even number of channels, and so have the others.
    for channel, name in names:
        even = "&lt;b&gt;bold &amp; bright 0.25 (0.24 to 0.30)"
        assert name == ("no concept" if int(channel) % 2 else even)
    assert "<b>bold" not in page


def test_a_folder_of_concepts_that_is_none_is_named_before_anything_is_made(weights, tmp_path, capsys) -> None:
    assert picture(weights, tmp_path / "run", "--concepts", str(tmp_path / "nothing")) == 2
    assert "nothing" in capsys.readouterr().err
    assert not (tmp_path / "run" / "filters").exists()
