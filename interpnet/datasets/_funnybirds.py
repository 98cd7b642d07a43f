"""FunnyBirds: rendered birds of parts, with part maps and the same pictures without single parts."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from interpnet.datasets._folders import require_folder
from interpnet.datasets._pixels import READ_ERRORS, reason_of
from interpnet.datasets._sources import FolderSource
from interpnet.errors import DataError, did_you_mean
from interpnet.support.brief import brief
from interpnet.support.checks import check_kinds, one_of, whole_number
from interpnet.support.types import Bools, Bytes, Int64

_SPLITS = ("train", "test")
# How part maps are painted (the set's own page); things of the background are greys, one shade of blue each.
_COLOURS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "beak": ((255, 255, 0),),
    "eye": ((255, 255, 253), (255, 255, 254)),
    "foot": ((255, 0, 1), (255, 0, 2)),
    "tail": ((0, 0, 255),),
    "wing": ((0, 255, 1), (0, 255, 2)),
}
_BODY = (170, 170, 170)
_THING = (204, 204, 204)
_CHANGED = "body_"
_RECIPE = "render it again (data/README.md), which makes what is missing"


@brief
@dataclass(frozen=True, eq=False)
class FunnyBirds:
    """N pictures of birds, read when they are asked for; made by :func:`funny_birds`."""

    folder: Path
    split: str
    labels: Int64  # (N,)
    classes: tuple[str, ...]
    parts: tuple[str, ...]  # sorted
    names: tuple[str, ...]  # paths of the pictures below the folder, with forward slashes
    scenes: tuple[Mapping[str, Any], ...]  # what the renderer was told of each picture

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, i: int) -> Bytes:
        """Return picture ``i`` (H, W, 3)."""
        return self._pixels(self.names[self._number(i)])

    def things(self, i: int) -> int:
        """Return how many things lie in the background of picture ``i``, seen or not."""
        return sum(bool(kind) for kind in str(self.scenes[self._number(i)].get("bg_objects", "")).split(","))

    def masks(self, i: int) -> dict[str, Bools]:
        """Return where the parts and the body of bird ``i`` are seen, (H, W) each; hidden ones have no pixel."""
        colours = self._part_map(i)
        wanted = {**{part: _COLOURS[part] for part in self.parts}, "body": (_BODY,)}
        return {name: _painted(colours, values) for name, values in wanted.items()}

    def thing_masks(self, i: int) -> Bools:
        """Return where each thing of the background of picture ``i`` is seen, (things, H, W)."""
        colours = self._part_map(i)
        red, green, blue = _THING
        masks = [_painted(colours, ((red, green, blue + k),)) for k in range(self.things(i))]
        return np.stack(masks) if masks else np.zeros((0, *colours.shape[:2]), dtype=np.bool_)

    def removals(self, i: int) -> tuple[tuple[str, ...], ...]:
        """Return which parts were left out together in the pictures that are there of bird ``i``, sorted."""
        kept = [file.stem.removeprefix(_CHANGED).split("_") for file in self._changes(i).glob(f"{_CHANGED}*.png")]
        return tuple(sorted(tuple(sorted(set(self.parts) - set(parts))) for parts in kept))

    def without(self, i: int, parts: Collection[str]) -> Bytes:
        """Return picture ``i`` without some parts (H, W, 3), rendered so: what is behind them is seen."""
        if isinstance(parts, str) or not set(parts) <= set(self.parts):
            strange = [parts] if isinstance(parts, str) else sorted(set(parts) - set(self.parts))
            raise DataError(
                f"parts is {parts!r}, expected a tuple of {', '.join(self.parts)}{did_you_mean(strange[0], self.parts)}"
            )
        kept = sorted(set(self.parts) - set(parts))
        return self._pixels(self._relative(self._changes(i) / f"{_CHANGED}{'_'.join(kept)}.png"))

    def without_thing(self, i: int, k: int) -> Bytes:
        """Return picture ``i`` without thing ``k`` of its background (H, W, 3)."""
        n = self.things(i)
        if not n:
            raise DataError(f"picture {self.names[i]!r} has nothing in its background; things(i) counts it")
        whole_number(k, "k", least=0, most=n - 1, error=DataError)
        return self._pixels(self._relative(self._changes(i) / "background_interventions" / f"{k}.png"))

    def named_masks(self) -> dict[str, Bools]:
        """Return the parts of all pictures, (N, H, W) each."""
        every = [self.masks(i) for i in range(len(self))]
        return {name: np.stack([masks[name] for masks in every]) for name in every[0]}

    def has_masks(self, i: int) -> bool:
        """Whether picture ``i`` has its part map."""
        return (self.folder / self._map_of(i)).is_file()

    def _number(self, i: int) -> int:
        return whole_number(i, "i", least=0, most=len(self) - 1, error=DataError)

    def _map_of(self, i: int) -> str:
        return self.names[self._number(i)].replace(self.split, f"{self.split}_part_map", 1)

    def _changes(self, i: int) -> Path:
        name = self.names[self._number(i)].replace(self.split, f"{self.split}_interventions", 1)
        return self.folder / name.removesuffix(".png")

    def _relative(self, file: Path) -> str:
        return file.relative_to(self.folder).as_posix()

    def _part_map(self, i: int) -> Bytes:
        name = self._map_of(i)
        colours = self._pixels(name)
        size = self.image(i).shape
        if colours.shape != size:
            raise DataError(
                f"part map {name!r} is {colours.shape[0]} x {colours.shape[1]} pixels and its picture {size[0]} x "
                f"{size[1]}; expected the same size"
            )
        return colours

    def _pixels(self, name: str) -> Bytes:
        file = self.folder / name
        if not file.is_file():
            raise DataError(f"FunnyBirds folder {str(self.folder)!r} has no {name!r}; {_RECIPE}")
        try:
            with Image.open(file) as image:
                return np.array(image.convert("RGB"), dtype=np.uint8)
        except READ_ERRORS as error:
            raise DataError(
                f"picture {str(file)!r} cannot be read: {reason_of(error)}; delete it, and {_RECIPE}"
            ) from error


def funny_birds(folder: str | os.PathLike[str], split: str = "train") -> FunnyBirds:
    """Read a folder in the layout of FunnyBirds, published or rendered by data/README.md's recipe.

    ``dataset_SPLIT.json``, ``classes.json`` and ``parts.json`` describe it, ``SPLIT/CLASS/NUMBER.png`` are the
    pictures, ``SPLIT_part_map`` their part maps, ``SPLIT_interventions/CLASS/NUMBER/body_KEPT_PARTS.png`` the birds
    with some parts only, and ``background_interventions/K.png`` there the pictures without a thing of the background.
    Part maps and changed pictures are looked for when they are asked for. ``load_dataset("funnybirds:FOLDER")`` gives
    the same pictures to networks.

    Parameters
    ----------
    folder : path
    split : str
        ``"train"`` or ``"test"``.

    Raises
    ------
    DataError
        No such folder, a description that is missing or damaged, missing pictures (counted), unknown parts.

    References
    ----------
    Hesse, Schaub-Meyer and Roth, "FunnyBirds: A Synthetic Vision Dataset for a Part-Based Analysis of Explainable AI
    Methods", ICCV 2023.

    Examples
    --------
    >>> funny_birds("no/such/folder")
    Traceback (most recent call last):
        ...
    interpnet.errors.DataError: image folder 'no/such/folder' does not exist
    """
    check_kinds(funny_birds, locals())
    one_of(split, "split", _SPLITS, error=DataError)
    root = Path(folder).expanduser()
    require_folder(root, "dataset_test.json, classes.json and parts.json")
    scenes = _described(root, f"dataset_{split}.json", list)
    parts = tuple(sorted(_described(root, "parts.json", dict)))
    unknown = sorted(set(parts) - set(_COLOURS))
    if unknown:
        raise DataError(
            f"{str(root / 'parts.json')!r} has the part {unknown[0]!r}, expected some of "
            f"{', '.join(sorted(_COLOURS))}: the colours of others in part maps are not known"
        )
    classes = [one.get("class_idx") for one in _described(root, "classes.json", list)]
    if classes != list(range(len(classes))):
        raise DataError(
            f"{str(root / 'classes.json')!r} has class_idx {classes}, expected 0 to {len(classes) - 1} in order; "
            f"{_RECIPE}"
        )
    if not scenes:
        raise DataError(
            f"{str(root / f'dataset_{split}.json')!r} has no scene, expected one for each picture; {_RECIPE}"
        )
    labels = [scene.get("class_idx") for scene in scenes]
    strange = [label for label in labels if label not in classes]
    if strange:
        raise DataError(
            f"{str(root / f'dataset_{split}.json')!r} has class_idx {strange[0]!r}, expected 0 to {len(classes) - 1}; "
            f"{_RECIPE}"
        )
    names = tuple(f"{split}/{label}/{i:06d}.png" for i, label in enumerate(labels))
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise DataError(
            f"FunnyBirds folder {str(root)!r} lacks {len(missing)} of {len(names)} pictures, the first {missing[0]!r}; "
            f"{_RECIPE}"
        )
    kinds = tuple(str(label) for label in classes)
    return FunnyBirds(root, split, np.array(labels, dtype=np.int64), kinds, parts, names, tuple(scenes))


class BirdSource(FolderSource):
    """The pictures of a split, with the masks of their parts where every picture has a part map."""

    def __init__(self, path: str, split: str, max_value: float | None = None) -> None:
        self.birds = funny_birds(path, split)
        pairs = list(zip(self.birds.names, self.birds.labels.tolist(), strict=True))
        super().__init__(self.birds.folder, pairs, self.birds.classes, max_value=max_value)

    @cached_property
    def _found(self) -> dict[str, Bools] | None:
        if all(map(self.birds.has_masks, range(len(self.birds)))):
            return self.birds.named_masks()
        return None

    @property
    def masks(self) -> Mapping[str, np.ndarray] | None:
        """Parts and body by name, read when they are asked for."""
        return self._found


def _painted(colours: Bytes, values: Collection[tuple[int, int, int]]) -> Bools:
    found: Bools = np.zeros(colours.shape[:2], dtype=np.bool_)
    for value in values:
        found |= (colours == value).all(-1)
    return found


def _described(root: Path, name: str, kind: type) -> Any:
    """Return the content of a description; one that is missing, damaged or of another kind is a DataError."""
    file = root / name
    if not file.is_file():
        beside = [entry.name for entry in root.iterdir()]
        raise DataError(
            f"folder {str(root)!r} has no {name!r}, expected FunnyBirds' layout: dataset_test.json, classes.json, "
            f"parts.json{did_you_mean(name, beside)}"
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{str(file)!r} cannot be read: {error}; {_RECIPE}") from error
    rows = content if isinstance(content, list) else []
    if not isinstance(content, kind) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{str(file)!r} holds something else than FunnyBirds' description; {_RECIPE}")
    return content
