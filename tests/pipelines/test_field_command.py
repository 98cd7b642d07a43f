"""``--field``: images from where the network is used, from the command to the report, and folders that are odd."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.corner_run import NETWORKS, write_field, write_images
from interpnet.pipelines.cli.app import main
from interpnet.pipelines.report.build import build_report
from interpnet.pipelines.run.config import RunConfig
from interpnet.pipelines.run.shortcuts import load_shortcuts
from PIL import Image

SETTINGS = ["--mean", "0", "--std", "1", "--device", "cpu", "--seed", "1"]
MARKED = {f"{'more/' if i % 2 else ''}f{i:02d}.png" for i in range(1, 60, 3)}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, a network that takes a red mark for an apple, and its field."""
    folder = tmp_path_factory.mktemp("field")
    write_images(folder / "images", train=150, test=30)
    (folder / "nets.py").write_text(NETWORKS)
    write_field(folder / "shop")
    (folder / "shop" / "notes.txt").write_text("x")
    return folder


@pytest.fixture(scope="module")
def collected(place: Path) -> Path:
    run = place / "run"
    model, data = f"{place / 'nets.py'}:marked", f"imagefolder:{place / 'images'}"
    assert main(["collect", model, data, "--out", str(run), *SETTINGS]) == 0
    return run


@pytest.fixture(scope="module")
def searched(collected: Path, place: Path) -> Path:
    run = place / "searched"
    shutil.copytree(collected, run)
    assert main(["shortcuts", str(run), "--field", str(place / "shop")]) == 0
    return run


@pytest.fixture
def run(searched: Path, tmp_path: Path) -> Path:
    """A copy of the run to change."""
    shutil.copytree(searched, tmp_path / "run")
    return tmp_path / "run"


def written(run: Path) -> Any:
    return json.loads((run / "shortcuts" / "shortcuts.json").read_text())


def stage(run: Path) -> Any:
    return json.loads((run / "manifest.json").read_text())["stages"]["shortcuts"]


def test_the_class_that_draws_them_and_what_they_share_are_in_the_folder(searched: Path) -> None:
    found = load_shortcuts(searched)
    assert found is not None
    (one,) = [one for one in found.drawn if one.source == "field"]
    # Of 60, the 20 with the mark and the apples.
    assert (one.name, one.n) == ("apple", 41)
    shown = written(searched)["shown"]
    assert shown["field"]["n"] == 60
    (entry,) = [entry for entry in shown["drawn"] if entry["source"] == "field"]
    assert set(entry["common"]["names"]) == MARKED
    assert len(entry["names"]) == 41
    assert set(entry["names"][:20]) == MARKED
    files = [one["file"] for one in entry["files"]] + entry["own"] + [entry["common"]["file"]]
    kept = set(stage(searched)["checksums"])
    assert len(files) == 10
    for file in files:
        assert f"shortcuts/{file}" in kept
        with Image.open(searched / "shortcuts" / file) as picture:
            assert picture.size in {(192, 192), (320, 320)}
    first = entry["files"][0]
    assert (first["taken"], first["bears"]) == (0, True)
    assert first["odds"] > 0


def test_the_mark_is_outlined_and_pictured_where_it_is(searched: Path) -> None:
    (entry,) = [entry for entry in written(searched)["shown"]["drawn"] if entry["source"] == "field"]
    with Image.open(searched / "shortcuts" / entry["files"][0]["file"]) as picture:
        orange = [(x, y) for x in range(192) for y in range(192) if picture.getpixel((x, y)) == (255, 140, 0)]
    # The mark is in columns 16 to 22 and rows 18 to 21 of 24, and a box has a pixel more.
    assert (min(orange), max(orange)) == ((15 * 8, 17 * 8), (24 * 8 - 1, 23 * 8 - 1))
    with Image.open(searched / "shortcuts" / entry["common"]["file"]) as pattern:
        mark, nothing = pattern.getpixel((17 * 13, 18 * 13 + 6)), pattern.getpixel((12 * 13, 12 * 13))
    assert mark[0] > mark[1] + 60
    assert max(abs(value - 127) for value in nothing) < 30


def test_the_report_shows_and_says_it(run: Path) -> None:
    page = build_report(run).read_text(encoding="utf-8")
    assert "What images from the field lean to" in page
    assert "“apple” (41 of 60, 20 with the same thing at the same place)" in page
    assert "20 images from the field share what the first picture shows" in page
    assert "To compare: training images of" in page
    summary = json.loads((run / "report" / "report.json").read_text())["shortcuts"]["field"]
    assert [(one["name"], one["n"], one["shared_by"]) for one in summary] == [("apple", 41, 20)]
    with (run / "report" / "drawn.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == "field"]
    assert {row["image"] for row in rows if row["shares_it"] == "1"} == MARKED
    assert len(rows) == 41


def test_what_the_terminal_and_the_manifest_say(run: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = stage(run)["field"]
    assert (entry["n_images"], entry["of"], entry["skipped"]) == (60, 60, [])
    assert entry["spec"] == str(place / "shop")
    assert any("Files left out of" in note and "1 .txt" in note for note in stage(run)["notes"])
    assert main(["shortcuts", str(run), "--seed", "1"]) == 2  # the seed is no option here
    capsys.readouterr()
    assert main(["shortcuts", str(run)]) == 0
    text = capsys.readouterr().out
    assert "shortcuts: up to date, skipped" in text
    assert "41 of 60 images from the field lean to “apple”; 20 images share something at the same place." in text


def test_another_field_is_looked_at_and_nothing_else_again(
    run: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = (run / "manifest.json").read_text()
    other = tmp_path / "other"
    shutil.copytree(place / "shop", other)
    assert main(["shortcuts", str(run), "--field", str(other)]) == 0
    # The same images in another place are the same.
    assert "shortcuts: up to date" in capsys.readouterr().out
    assert stage(run)["field"]["spec"] == str(other)
    (other / "f00.png").unlink()
    assert main(["shortcuts", str(run)]) == 0
    assert stage(run)["field"]["n_images"] == 59
    collect = json.loads(scores)["stages"]["collect"]
    assert json.loads((run / "manifest.json").read_text())["stages"]["collect"] == collect
    assert main(["shortcuts", str(run), "--field", "none"]) == 0
    assert "field" not in stage(run)
    assert not list((run / "shortcuts").glob("common_*"))
    assert not RunConfig.load(run / "run.toml").field


def test_a_run_without_a_field_has_the_key_of_before(collected: Path, tmp_path: Path) -> None:
    shutil.copytree(collected, tmp_path / "run")
    assert main(["shortcuts", str(tmp_path / "run")]) == 0
    assert main(["shortcuts", str(tmp_path / "run"), "--field", "none"]) == 0
    assert "field" not in written(tmp_path / "run")["shown"]
    assert "What images from the field" not in build_report(tmp_path / "run").read_text(encoding="utf-8")


def test_repair_and_report_go_on_where_the_field_is_gone(
    run: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(place / "shop", other)
    assert main(["shortcuts", str(run), "--field", str(other)]) == 0
    key = stage(run)["key"]
    shutil.rmtree(other)
    assert main(["repair", str(run), "--how", "ridge"]) in {0, 1}
    assert "What was found in the images from the field stands, but: image folder" in capsys.readouterr().out.replace(
        "\n", " "
    )
    assert stage(run)["key"] == key
    assert "What images from the field lean to" in build_report(run).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "does not exist"),
        (lambda folder: folder.mkdir(), "holds no image; left out there: nothing"),
        (lambda folder: folder.write_text("x"), "is a file, expected a folder with images"),
        (lambda folder: (folder.mkdir(), (folder / "a.png").write_bytes(b"broken")), "'a.png' cannot be read"),
    ],
    ids=["missing", "empty", "file", "broken"],
)
def test_a_folder_without_images_is_refused_and_is_no_setting(
    make: Any, message: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "run.toml").read_text()
    make(tmp_path / "odd")
    assert main(["shortcuts", str(run), "--field", str(tmp_path / "odd")]) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert (run / "run.toml").read_text() == before
    assert len(load_shortcuts(run).drawn) > 0  # type: ignore[union-attr]


def test_other_sizes_grey_images_and_one_alone_are_right(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    Image.new("RGB", (60, 40), (90, 80, 70)).save(folder / "large.png")
    Image.new("L", (24, 24), 90).save(folder / "grey.png")
    Image.new("RGBA", (10, 10), (90, 80, 70, 255)).save(folder / "alpha.png")
    assert main(["shortcuts", str(run), "--field", str(folder)]) == 0
    assert written(run)["shown"]["field"]["n"] == 3
    assert any("3 images from the field are too few" in note for note in stage(run)["notes"])
    (folder / "large.png").unlink()
    (folder / "grey.png").unlink()
    assert main(["shortcuts", str(run)]) == 0
    assert written(run)["shown"]["field"]["n"] == 1


def test_a_damaged_image_among_others_stops_or_is_listed(
    collected: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "shop"
    shutil.copytree(place / "shop", folder)
    (folder / "f30.png").write_bytes(b"broken")
    shutil.copytree(collected, tmp_path / "run")
    run = tmp_path / "run"
    assert main(["shortcuts", str(run), "--field", str(folder)]) == 2
    assert "'f30.png' cannot be read" in capsys.readouterr().err
    more = ["--on-bad-image", "skip", "--field", str(folder), "--config", str(run / "run.toml")]
    assert main(["collect", "--out", str(tmp_path / "skipping"), *more[:2], *more[4:]]) == 0
    assert main(["shortcuts", str(tmp_path / "skipping"), "--field", str(folder)]) == 0
    run = tmp_path / "skipping"
    assert [row[1] for row in stage(run)["field"]["skipped"]] == ["f30.png"]
    (entry,) = [entry for entry in written(run)["shown"]["drawn"] if entry["source"] == "field"]
    # Names are those of the images although one is missing among them.
    assert set(entry["common"]["names"]) == MARKED
    assert "f30.png" in build_report(run).read_text(encoding="utf-8")


def test_no_more_images_are_looked_at_than_asked(collected: Path, place: Path, tmp_path: Path) -> None:
    shutil.copytree(collected, tmp_path / "run")
    run = tmp_path / "run"
    assert main(["shortcuts", str(run), "--field", str(place / "shop"), "--shortcut-images", "45"]) == 0
    assert written(run)["shown"]["field"]["n"] == 45
    assert any("45 of 60 images from the field were looked at" in note for note in stage(run)["notes"])


def test_check_can_fail_on_what_they_share(run: Path, collected: Path, capsys: pytest.CaptureFixture[str]) -> None:
    allowed = ["--allow-shortcuts", "--json"]
    assert main(["check", str(run), *allowed]) == 0
    (field,) = [one for one in json.loads(capsys.readouterr().out)["checks"] if one["name"] == "field"]
    assert (field["value"], field["limit"], field["number"]) == ("apple (20 images)", "none", 1)
    assert main(["check", str(run), *allowed, "--fail-on-field"]) == 1
    capsys.readouterr()
    assert main(["shortcuts", str(run), "--field", "none"]) == 0
    assert main(["check", str(run), *allowed, "--fail-on-field"]) == 2
    assert "no images from the field were looked at; run `interpnet shortcuts" in capsys.readouterr().err
