"""The report without a browser: complete, escaped, self-contained, honest, and usable with parts missing."""

from __future__ import annotations

import base64
import csv
import json
import os
import re
import subprocess
import sys
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers.report_fixture import LAYERS, NASTY, ablation, class_names, interpretation, make_run
from interpnet.pipelines.report import build
from interpnet.pipelines.report.audited import audited
from interpnet.pipelines.report.build import build_report
from interpnet.pipelines.report.channels import Limits
from interpnet.pipelines.report.load import RunData, clean, load_run
from interpnet.pipelines.report.numbers import signed
from interpnet.pipelines.report.pictures import Pictures
from interpnet.pipelines.report.views import class_views
from PIL import Image

from interpnet.ablation import as_result
from interpnet.errors import RunFolderError
from interpnet.support.csv_table import safe_cell
from interpnet.support.io import read_json, write_json

ROOT = Path(__file__).parents[2]


class Page(HTMLParser):
    """Elements with their attributes, and the text outside of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._open = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._open = tag

    def handle_endtag(self, tag):
        self._open = ""

    def handle_data(self, data):
        if self._open not in {"script", "style"}:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def ids(self) -> list[str]:
        return [attrs["id"] for _, attrs in self.tags if "id" in attrs]


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("run"))
    build_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(run) -> Page:
    return read(run / "report" / "index.html")


def test_one_file_that_asks_for_nothing(page):
    for tag, name in (("img", "src"), ("image", "xlink:href"), ("script", "src"), ("link", "href"), ("iframe", "src")):
        for attrs in page.all(tag):
            assert attrs.get(name, "data:").startswith("data:"), (tag, attrs)
    assert not page.all("link")
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "'unsafe-inline'" not in policy.split("script-src")[1]


def test_ids_are_unique_and_every_link_within_the_page_leads_somewhere(page):
    assert len(page.ids) == len(set(page.ids))
    targets = {a["href"][1:] for a in page.all("a") if a.get("href", "").startswith("#")}
    assert targets
    assert targets <= set(page.ids)


def test_links_to_files_lead_to_files(page, run):
    names = {a["href"] for a in page.all("a") if not a["href"].startswith("#")}
    assert {"classes.csv", "channels.csv", "ablation.csv", "layers.csv", "report.json", "ablation.png"} <= names
    for name in names:
        assert (run / "report" / name).is_file(), name


def test_every_class_has_its_section_even_without_channels_or_images(page):
    assert [i for i in page.ids if re.fullmatch(r"class-\d+", i)] == [f"class-{i}" for i in range(10)]
    assert "No relevant channel, so there is nothing to show." in page.text
    assert "0 relevant channels" in page.text
    assert "no test images" in page.text


def test_nasty_text_stays_text(page, run):
    assert len(page.all("script")) == 1
    assert {"em", "i", "b", "u", "img"} & {t for t, a in page.tags if "onerror" in a} == set()
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    for name in NASTY:
        assert " ".join(clean(name).split()) in page.text, name
    for given in (
        "nets/resnet20.py:<em>resnet20</em>",
        "imagefolder:<i>photos</i>",
        "cat/<u>17</u>.jpg",
        "test/<b>1</b>.png",
    ):
        assert given in page.text
    assert "layer <layer2.0.relu> is dead" in page.text
    html = (run / "report" / "index.html").read_bytes()
    assert not set(html) & {0, 7}
    assert "{{ 7*7 }}" in page.text
    assert "$x_1$" in page.text


def test_headline_is_made_from_the_numbers(page, run):
    result = as_result(read_json(run / "ablation" / "ablation.json"))
    intact = result.mean_intact
    own = result.condition("relevant").mean_own()
    random = result.condition("random")
    assert (
        "Removing the 8 channels that InterpNet names for a class lowers its own recall "
        f"from {intact:.2f} to {own:.2f} (mean over 9 classes; {signed(own - intact)}, 95 % interval \N{MINUS SIGN}"
    ) in page.text
    assert f"); removing as many random ones, to {random.mean_own():.2f}." in page.text
    assert "That is beyond every control" in page.text


def test_what_was_audited_and_how_to_run_it_again(page):
    for words in ("cd" * 32, "ab" * 32, "torch 2.15.0", "50,000", "272,474", "interpnet audit --config run.toml"):
        assert words in page.text
    assert "truncated image" in page.text
    assert re.search(r"This page is one file of \d+\.\d MB", page.text)


def test_classes_of_which_a_run_knows_nothing_are_left_out_with_a_note(tmp_path, run):
    data = load_run(run)
    views = class_views(data, Pictures(tmp_path), [], Limits())
    assert not any(view.empty for view in views)
    nothing = {"n_train": 0, "n_test": 0, "counts": {"reliance": 0, "mu-lasso": 0}, "examples": ()}
    assert replace(views[0], **nothing).empty
    for known in ({"n_train": 1}, {"n_test": 2}, {"counts": {"reliance": 1}}, {"n_train": None}):
        assert not replace(views[0], **(nothing | known)).empty
    said = f"2 of the network's {len(views)} outputs have no image and no channel and are left out of the classes here"
    for shown, expected in ((views[:-2], True), (views, False)):
        notes = build._notes(data, shown, [], 0, Limits())
        assert any(said in note for note in notes) == expected


def test_test_images_that_are_the_training_images_are_called_so():
    train = {"spec": "x", "split": "test", "n_images": 3, "fingerprint": "ab"}
    for other, split in (("ab", "the training images, for there is no test split"), ("cd", "test")):
        manifest = {"data": {"train": train, "test": train | {"fingerprint": other}}}
        rows = audited(RunData(Path("x"), manifest, ("a", "b")))
        assert dict(rows["Test images"])["Split"] == split
        assert dict(rows["Training images"])["Split"] == "test"


def test_each_picture_is_embedded_once(run, tmp_path):
    sources = [a["src"] for a in read(run / "report" / "index.html").all("img") if "src" in a]
    assert len(sources) == len(set(sources))
    folder = make_run(tmp_path, classes=3, pictured=2, stages=("collect", "solve", "explain"))
    first = folder / "explanations" / "channels" / "c000_r00_mean.png"
    for other in ("c000_r01_mean.png", "c001_r00_mean.png"):
        first.with_name(other).write_bytes(first.read_bytes())
    images = read(build_report(folder)).all("img")
    (number,) = [a["data-first"] for a in images if "data-first" in a and "mean" in a["class"]]
    assert sum(a.get("data-picture") == number and "src" not in a for a in images) == 2


def test_pictures_are_described_and_blank_ones_marked(page):
    images = page.all("img")
    assert all(attrs.get("alt") for attrs in images)
    assert all(attrs.get("loading") == "lazy" for attrs in images)
    # 9 classes x 8 channels with a mean and a strip; 10 images with picture, combined, 3 + 3 others, 9 x 3 maps.
    assert len(images) == 9 * 8 * 2 + 10 * 8 + 9 * 3
    assert page.text.count("blank: no signal") == 1


def test_tables_hold_the_numbers_as_numbers(run):
    with (run / "report" / "classes.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    result = as_result(read_json(run / "ablation" / "ablation.json"))
    assert [float(r["recall_intact"] or "nan") for r in rows] == pytest.approx(result.intact.tolist(), nan_ok=True)
    assert [float(r["recall_relevant_removed"] or "nan") for r in rows] == pytest.approx(
        result.condition("relevant").own[0].tolist(), nan_ok=True
    )
    with (run / "report" / "channels.csv").open(newline="", encoding="utf-8") as handle:
        weights = [float(r["weight"]) for r in csv.DictReader(handle) if r["class_index"] == "0"]
    assert weights == sorted(weights, key=abs, reverse=True)
    assert len(weights) == 8
    with (run / "report" / "layers.csv").open(newline="", encoding="utf-8") as handle:
        layers = list(csv.DictReader(handle))
    assert [r["layer"] for r in layers] == [name for name, _ in LAYERS]
    assert sum(float(r["mean_share_of_abs_weight"]) for r in layers) == pytest.approx(1)


@pytest.mark.parametrize("name", ["classes.csv", "channels.csv", "examples.csv"])
def test_no_cell_of_a_table_is_a_formula(run, name):
    with (run / "report" / name).open(newline="", encoding="utf-8") as handle:
        rows = list(csv.reader(handle))
    cells = [cell for row in rows for cell in row]
    assert any(cell.startswith("'=HYPERLINK") for cell in cells)
    for cell in cells:
        if cell[:1] in set("=+-@\t\r"):
            float(cell)


@pytest.mark.parametrize(
    ("cell", "safe"),
    [
        ("=1", "'=1"),
        ("  =1", "'  =1"),
        ("@a", "'@a"),
        ("+a", "'+a"),
        ("-a", "'-a"),
        ("\tx", r"'\tx"),
        ("cat", "cat"),
        (-1.5, -1.5),
        (None, ""),
        (float("nan"), ""),
        (0, 0),
    ],
)
def test_safe_cells(cell, safe):
    assert safe_cell(cell) == safe


def test_report_json_is_strict_and_says_what_the_page_says(run):
    data = json.loads((run / "report" / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert data["verdict"]["level"] == "shown"
    assert data["classes"][NASTY.index("no test images")]["recall_intact"] is None
    assert data["manifest"]["model"]["n_channels"] == 144


def test_the_same_run_gives_the_same_report(run):
    before = (run / "report" / "index.html").read_bytes()
    assert build_report(run).read_bytes() == before


def test_the_report_needs_no_torch(run):
    code = (
        "import sys; from pathlib import Path; from interpnet.pipelines.report.build import build_report;"
        "build_report(Path(sys.argv[1])); print('torch' in sys.modules, 'sklearn' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.split() == ["False", "False"]


# --- parts missing, damaged or too many ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stages", "commands"),
    [
        (("collect",), {"solve", "ablate", "explain", "shortcuts"}),
        (("collect", "solve"), {"ablate", "explain", "shortcuts"}),
        (("collect", "solve", "ablate"), {"explain", "shortcuts"}),
        (("collect", "solve", "explain"), {"ablate", "shortcuts"}),
    ],
)
def test_a_missing_stage_is_named_with_its_command(tmp_path, stages, commands):
    folder = make_run(tmp_path / "my run", classes=3, stages=stages, pictured=1)
    page = read(build_report(folder))
    named = set(re.findall(r"interpnet (\w+) '[^']*my run' makes it", page.text))
    assert named == commands
    assert not {"undefined", "None", "nan"} & set(page.text.split())


def test_what_an_earlier_report_wrote_does_not_outlive_its_stage(tmp_path):
    folder = make_run(tmp_path, stages=("collect", "solve", "ablate"))
    build_report(folder)
    assert (folder / "report" / "ablation.png").exists()
    (folder / "ablation" / "ablation.json").unlink()
    build_report(folder)
    assert not (folder / "report" / "ablation.png").exists()
    assert not (folder / "report" / "ablation.csv").exists()


def test_missing_and_damaged_pictures_are_counted_and_shown_as_such(tmp_path):
    folder = make_run(tmp_path, classes=2, pictured=1)
    (folder / "explanations" / "examples" / "0000_image.png").unlink()
    (folder / "explanations" / "examples" / "0001_combined.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    page = read(build_report(folder))
    assert "2 pictures are missing or damaged" in page.text
    assert [a["class"] for a in page.all("div") if "class" in a].count("no-picture") == 2


def test_a_path_that_leads_out_of_the_run_is_not_read(tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    pictures = Pictures(tmp_path / "in")
    assert pictures.embed("../secret.png", 96) is None
    assert pictures.embed(str(tmp_path / "secret.png"), 96) is None
    assert pictures.embed(None, 96) is None
    assert len(pictures.missing) == 3


def test_photographs_go_in_as_webp_and_flat_pictures_as_png(tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    drawn = np.kron(noise[:15, :15, 0] > 127, np.ones((2, 2), bool))
    Image.fromarray(255 * drawn.astype(np.uint8)).save(tmp_path / "flat.png")
    pictures = Pictures(tmp_path)
    assert pictures.embed("noise.png", 96).startswith("data:image/webp;base64,")
    assert pictures.embed("flat.png", 96).startswith("data:image/png;base64,")
    assert pictures.strip(["flat.png", "gone.png"], 30, 9).source == pictures.embed("flat.png", 96)
    assert pictures.strip(["gone.png"], 10, 9) == (None, 0)


def test_past_the_limits_pictures_stay_beside_the_page_and_a_note_says_so(tmp_path):
    folder = make_run(tmp_path, classes=6, pictured=3)
    page = read(build_report(folder, limits=Limits(channels=12, examples=2)))
    assert "shows pictures of the 2 strongest channels per class" in page.text
    assert "shows 2 of 6 explained images" in page.text
    assert len(page.all("img")) == 6 * 2 * 2 + 2 * 11
    assert page.text.count("The pictures are not on this page") == 4


def test_many_classes_start_folded_and_their_bodies_are_kept_aside(tmp_path):
    folder = make_run(tmp_path, classes=40, pictured=1, examples=8)
    path = build_report(folder)
    page = read(path)
    folds = [a for a in page.all("details") if a.get("class") == "fold"]
    assert len(folds) == 40
    assert not any("open" in a for a in folds)
    assert not page.all("img")
    kept = json.loads(re.search(r'id="kept">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)[1])
    pack, at = kept["bodies"]["class-3"]
    bodies = zlib.decompress(base64.b64decode(kept["packs"][pack])).decode().split("\0")
    body = Page(bodies[at])
    assert len(body.all("tr")) == 9
    assert {a["data-picture"] for a in body.all("img")} <= set(kept["pictures"])
    assert kept["anchors"]["example-3"] == "class-3"
    # The recall of every class is there without opening anything, and without JavaScript.
    assert page.text.count("Removing them ") >= 38


def test_no_run_and_a_foreign_one_are_refused(tmp_path):
    with pytest.raises(RunFolderError, match="holds no run"):
        build_report(tmp_path)
    write_json(tmp_path / "manifest.json", {"format": "other"})
    with pytest.raises(RunFolderError, match="format 'other'"):
        build_report(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "match"),
    [
        ("ablation/ablation.json", '{"format": "interpnet-ablation-1"}', "lacks 'curve'.*interpnet ablate"),
        ("explanations/classes.json", '{"top": 1, "classes": [{}]}', "lacks 'index'.*interpnet explain"),
        ("explanations/examples.json", '{"examples": [{"name": "x"}]}', "lacks 'channels'.*interpnet explain"),
        ("explanations/examples.json", "{", "cannot be read"),
        ("weights/interpretation.npz", "no zip", "interpretation.npz.*interpnet solve"),
    ],
)
def test_a_damaged_file_is_named_with_the_remedy(tmp_path, file, content, match):
    folder = make_run(tmp_path, classes=2, pictured=1)
    (folder / file).write_text(content)
    with pytest.raises(RunFolderError, match=match):
        build_report(folder)


def test_parts_of_different_runs_do_not_mix(tmp_path):
    folder = make_run(tmp_path, classes=3, pictured=1)
    rng = np.random.default_rng(0)
    write_json(folder / "ablation" / "ablation.json", ablation(interpretation(class_names(5), rng), rng))
    with pytest.raises(RunFolderError, match=r"disagrees on the number of classes: 3 .* 5 "):
        load_run(folder)
