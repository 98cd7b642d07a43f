"""Render FunnyBirds: pictures, the parts in them, and the same pictures without single parts or things.

    git clone https://github.com/visinf/funnybirds
    pip install playwright
    python -m experiments.funnybirds.render --clone funnybirds --out data/FunnyBirds --classes 10 --train 100 --test 10

Writes the layout of the published set, which interpnet.datasets.funny_birds reads. Resumes: files that are there are
not rendered again. About a second for each picture on one core; needs Chromium or Chrome, no graphics card.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from experiments.common.runner import command
from experiments.funnybirds.browser import PART_MAP, PICTURE, Camera, camera, read_parts, thing
from experiments.funnybirds.scenes import Scene, draw_classes, draw_scenes
from interpnet.errors import DataError
from interpnet.support.checks import whole_number
from interpnet.support.io import atomic_path, read_json, write_json
from interpnet.support.progress import progress_bar


def describe(out: Path, name: str, wanted: Any) -> None:
    """Write what a set is made of; a folder that holds another set is a DataError."""
    file = out / name
    if not file.exists():
        write_json(file, wanted)
    elif read_json(file) != wanted:
        raise DataError(
            f"out is {str(out)!r}, whose {name} describes another set; give the options that it was begun with, or "
            "another folder"
        )


def save(image: Image.Image, file: Path) -> None:
    """Write a picture, whole or not at all."""
    with atomic_path(file, durable=False) as part:
        image.save(part, "PNG")


def shoot(taken: Camera, scene: Scene, mode: str, wanted: dict[Path, tuple[str, ...]]) -> None:
    """Render those files of a scene that are not there; each is the picture without some things."""
    todo = {file: names for file, names in wanted.items() if not file.exists()}
    if todo:
        for file, image in zip(todo, taken.take(scene, mode, list(todo.values())), strict=True):
            save(image, file)


def pictures(out: Path, split: str, i: int, scene: Scene, parts: list[str]) -> dict[Path, tuple[str, ...]]:
    """Return the files of a scene's pictures, and what each lacks: nothing, a part, or a thing of the background."""
    place = f"{scene['class_idx']}/{i:06d}"
    files: dict[Path, tuple[str, ...]] = {out / split / f"{place}.png": ()}
    if split == "test":
        folder = out / f"{split}_interventions" / place
        for part in parts:
            kept = sorted({*parts} - {part})
            files[folder / f"body_{'_'.join(kept)}.png"] = (part,)
        for k in range(scene["bg_objects"].count(",")):
            files[folder / "background_interventions" / f"{k}.png"] = (thing(k),)
    return files


@command(
    clone="a copy of the authors' repository",
    out="folder of the data set",
    classes="how many kinds of birds",
    train="training images of each class",
    test="test images of each class, all with part maps and without each part and thing",
    masks="training images of each class with part maps",
    size="height and width of the files",
    drawn="height and width of the browser's window",
    seed="draws classes and scenes",
    browser="program, by default the Chromium or Chrome that is found",
)
def main(
    clone: Path,
    out: Path,
    classes: int = 10,
    train: int = 100,
    test: int = 10,
    masks: int = 10,
    size: int = 256,
    drawn: int = 512,
    seed: int = 0,
    browser: str | None = None,
) -> None:
    """Draw classes and scenes, and render what is not there yet."""
    least = {"classes": (classes, 2), "train": (train, 1), "test": (test, 1), "masks": (masks, 0)}
    for name, (value, lowest) in {**least, "size": (size, 16), "drawn": (drawn, size)}.items():
        whole_number(value, name, least=lowest, error=DataError)
    parts = read_parts(clone)
    kinds = draw_classes(parts, classes, seed)
    how = {"size": size, "drawn": drawn, "seed": seed}
    scenes = {
        split: draw_scenes(parts, kinds, n, seed, lacking=split == "train")
        for split, n in (("train", train), ("test", test))
    }
    with camera(clone, drawn=drawn, size=size, browser=browser) as taken:
        for name, wanted in (
            ("rendered", how),
            ("classes", kinds),
            ("parts", parts),
            *((f"dataset_{split}", all_) for split, all_ in scenes.items()),
        ):
            describe(out, f"{name}.json", wanted)
        for split, listed in scenes.items():
            counts = {"train": masks, "test": test}[split]
            each = {"train": train, "test": test}[split]
            with progress_bar(f"Rendering {split}", len(listed)) as step:
                for i, scene in enumerate(listed):
                    shoot(taken, scene, PICTURE, pictures(out, split, i, scene, list(parts)))
                    if i % each < counts:
                        file = out / f"{split}_part_map" / f"{scene['class_idx']}/{i:06d}.png"
                        shoot(taken, scene, PART_MAP, {file: ()})
                    step(1)
