"""The recipe of FunnyBirds without its browser: what is drawn, what is rendered again, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest
from PIL import Image

from experiments.funnybirds import browser, render, scenes
from interpnet.datasets import funny_birds
from interpnet.errors import DataError

PARTS = {
    "beak": [{"model": "b1.glb", "color": "yellow"}, {"model": "b2.glb", "color": "yellow"}],
    "foot": [{"model": "f1.glb"}],
    "wing": [
        {"model": "w1.glb", "color": "red"},
        {"model": "w1.glb", "color": "blue"},
        {"model": "w2.glb", "color": "red"},
    ],
}
NEEDED = ("page.html", "js/three.js-master/examples/three.module.js", "js/three.js-master/examples/data/XAI/bird01.glb")


class Taken(browser.Camera):
    """A camera without a browser: it counts what it is asked for."""

    def take(self, scene: scenes.Scene, mode: str, hidden: Sequence[Collection[str]] = ((),)) -> list[Image.Image]:
        self.page.append((mode, [tuple(names) for names in hidden]))
        return [Image.new("RGBA", (self.size, self.size)) for _ in hidden]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files that tell a copy of the repository."""
    folder = tmp_path / "clone/render"
    for name in NEEDED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    (folder / "parts.json").write_text(json.dumps(PARTS))
    return folder.parent


def test_classes_are_different_choices_of_forms():
    classes = scenes.draw_classes(PARTS, 6, seed=1)
    assert [one["class_idx"] for one in classes] == list(range(6))
    assert len({tuple(one["parts"].items()) for one in classes}) == 6
    assert {one["parts"]["wing"] for one in classes} == {0, 1, 2}
    assert classes == scenes.draw_classes(PARTS, 6, seed=1)
    with pytest.raises(DataError, match="classes is 7, and 3 parts have 6 combinations of forms; give fewer"):
        scenes.draw_classes(PARTS, 7, seed=1)


def test_birds_of_the_test_have_all_parts_and_half_of_the_others_may_lack_some():
    classes = scenes.draw_classes(PARTS, 2, seed=0)
    test = scenes.draw_scenes(PARTS, classes, 3, 0, lacking=False)
    assert [scene["class_idx"] for scene in test] == [0, 0, 0, 1, 1, 1]
    for scene in test:
        form = PARTS["wing"][classes[scene["class_idx"]]["parts"]["wing"]]
        assert (scene["wing_model"], scene["wing_color"]) == (form["model"], form["color"])
        assert 200 <= scene["camera_distance"] <= 400
        assert len({value.count(",") for key, value in scene.items() if key.startswith("bg_")}) == 1
    train = scenes.draw_scenes(PARTS, classes, 200, 0, lacking=True)
    whole = sum(all(scene[f"{part}_model"] != scenes.ABSENT for part in PARTS) for scene in train)
    # All parts are kept in half of the scenes, and in a quarter of the others, which leave out 0 to 3 of 3.
    assert 0.55 < whole / len(train) < 0.7


@pytest.fixture
def without_browser(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[tuple[str, ...]]]]:
    asked: list[tuple[str, list[tuple[str, ...]]]] = []

    class Opened:
        def __enter__(self) -> Taken:
            return Taken(asked, "", 16)

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(render, "camera", lambda *_, **__: Opened())
    return asked


def test_what_is_rendered_is_read_again_and_not_rendered_twice(clone: Path, tmp_path: Path, without_browser: list):
    options = ["--clone", str(clone), "--out", str(tmp_path / "out"), "--classes", "2", "--train", "2"]
    options += ["--test", "1", "--masks", "1", "--size", "16", "--drawn", "16"]
    render.main(options)
    birds = funny_birds(tmp_path / "out", "test")
    assert birds.removals(0) == (("beak",), ("foot",), ("wing",))
    assert birds.masks(0)["beak"].sum() == 0
    assert birds.without_thing(0, birds.things(0) - 1).shape == (16, 16, 3)
    assert len(funny_birds(tmp_path / "out", "train")) == 4
    assert [mode for mode, _ in without_browser] == ["default", "part_map", "default"] * 2 + ["default", "part_map"] * 2
    things = [(f"object {k}",) for k in range(birds.things(0))]
    assert without_browser[6][1] == [(), ("beak",), ("foot",), ("wing",), *things]
    without_browser.clear()
    (tmp_path / "out/test_interventions/0/000000/body_beak_foot.png").unlink()
    render.main(options)
    assert without_browser == [("default", [("wing",)])]
    with pytest.raises(DataError, match=r"whose rendered.json describes another set; give the options"):
        render.main([*options, "--seed", "3"])


def test_what_cannot_be_rendered_is_said(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no render/page.html; expected a copy of FunnyBirds' repository: git clone"):
        browser.read_parts(tmp_path / "empty")
    with (
        pytest.raises(
            DataError, match=r"browser is 'no-such-browser', and no such program was found; expected Chromium"
        ),
        browser.camera(clone, drawn=16, size=16, browser="no-such-browser"),
    ):
        pass
    monkeypatch.setattr(browser, "BROWSERS", ())
    with (
        pytest.raises(DataError, match=r"browser is None, and no such program was found"),
        browser.camera(clone, drawn=16, size=16, browser=None),
    ):
        pass
    with pytest.raises(DataError, match=r"drawn is 100; expected a whole number of at least 256"):
        render.main(["--clone", str(clone), "--out", str(tmp_path / "out"), "--drawn", "100"])
