"""an8Flower, generated: a potted flower seen from all around, with the pixels that tell its class."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from interpnet.datasets._an8flower.cache import Arrays, read_folder, write_folder
from interpnet.datasets._an8flower.options import (
    COLOURS,
    GENERATOR,
    FlowerOptions,
    check_split,
    count_of,
    folder_name,
    make_options,
    parse_spec,
)
from interpnet.datasets._an8flower.scene import IN_CUE, IN_PETALS, IN_PLANT, IN_STEM, TOUCHES_PLANT, picture
from interpnet.errors import DataError, did_you_mean
from interpnet.support.brief import brief
from interpnet.support.checks import one_of, whole_number
from interpnet.support.types import Bools, Bytes, Float64, Int64

MASKS = ("petals", "stem", "plant", "background", "discriminative")
_BITS = {"petals": IN_PETALS, "stem": IN_STEM, "plant": IN_PLANT}
_ARRAYS = ("images", "regions", "labels", "azimuth", "individual", "cue")
# Below so many images starting a second process takes longer than it saves.
_WORTH_A_PROCESS = 1500


@brief
@dataclass(frozen=True, eq=False)
class An8Flower:
    """N images of C classes with labels, masks and how they were taken; made by :func:`an8flower`."""

    images: Bytes  # (N, H, W, 3), RGB
    labels: Int64  # (N,), the classes in turn: 0, 1, ..., C - 1, 0, 1, ...
    classes: tuple[str, ...]
    split: str
    options: FlowerOptions
    azimuth: Float64  # (N,), the angle the plant was seen from, in degrees
    individual: Int64  # (N,), which plant of the seed's individuals
    regions: Bytes  # (N, H, W), bits that the masks are read from
    cue: Int64 | None  # (N,), the value of the planted shortcut in each image, 0 to C - 1; None without a shortcut
    folder: Path | None = None  # where the images are kept; None if in memory only

    def __len__(self) -> int:
        return len(self.labels)

    def mask(self, name: str) -> Bools:
        """Return one mask (N, H, W): a pixel is in a part if at least two of its four samples show it.

        The masks are ``"petals"``; ``"stem"``; ``"plant"`` (both, the flower's centre and the leaves, without the
        pot); ``"background"`` (pixels no sample of which shows the plant: fewer than the complement of ``"plant"``);
        ``"discriminative"`` (what tells the class: petals or, for classes that differ in their stem, the stem).
        Another name is a DataError.
        """
        one_of(name, "the mask's name", MASKS, error=DataError)
        bits: int | Bytes = _BITS.get(name, TOUCHES_PLANT)
        if name == "discriminative":
            bits = np.array([_discriminative(label) for label in self.labels], dtype=np.uint8)[:, None, None]
        shown: Bools = (self.regions & bits) != 0
        return ~shown if name == "background" else shown

    @cached_property
    def masks(self) -> dict[str, Bools]:
        """All masks of :meth:`mask`, by name."""
        return {name: self.mask(name) for name in MASKS}

    @property
    def cue_agrees(self) -> Bools | None:
        """(N,) whether the cue's value is the label; None without a shortcut."""
        return None if self.cue is None else np.equal(self.cue, self.labels)

    @property
    def shortcut_mask(self) -> Bools | None:
        """(N, H, W) where the planted cue is, outside the plant; None without a shortcut."""
        return None if self.cue is None else np.not_equal(self.regions & IN_CUE, 0)

    def named_masks(self) -> dict[str, Bools]:
        """Return all masks, with that of the planted shortcut as ``"shortcut"`` where there is one."""
        planted = self.shortcut_mask
        return self.masks if planted is None else {**self.masks, "shortcut": planted}

    def name(self, i: int) -> str:
        """Return what a report calls image ``i``: split, class, number, individual and angle."""
        return f"{self.split}/{self.classes[self.labels[i]]}/img{i}_p{int(self.individual[i])}_r{int(self.azimuth[i])}"


def an8flower(
    variant: str = "single-6c",
    split: str = "train",
    *,
    n: int | None = None,
    root: str | os.PathLike[str] | None = None,
    jobs: int | None = None,
    **options: Any,
) -> An8Flower:
    """Make images of a potted flower whose discriminative pixels are known.

    A plant of stem, leaves and 5 to 8 petals, one of some individuals, is turned to an angle and drawn in perspective
    with shading before a wall and a table. Camera, scale, place, light, pot, backdrop and noise vary from image to
    image and know nothing of the class. The same arguments give the same bytes on every machine; the same seed shows
    the same scenes at any size, contrast, noise, and with any shortcut or none. After the an8Flower of Oramas, Wang &
    Tuytelaars, "Visual explanation by interpretation", ICLR 2019; plants, rendering and shortcuts are ours. An unknown
    name, a value out of range, and fewer images than classes are DataErrors.

    Parameters
    ----------
    variant : str
        ``"single-6c"``: six colours of petals, everything else the same. ``"double-12c"``: six colours, of petals
        (classes 0 to 5; the stem is green) or of the stem (classes 6 to 11; the petals are white).
    split : str
        ``"train"``, ``"validation"`` or ``"test"``: from disjoint angles, six arcs of 31, 7 and 7 degrees each
        around the plant with 5 degrees between them. With a shortcut also ``"test-agree"`` and
        ``"test-disagree"``: the scenes of ``"test"``, with cues that always, or never, agree with the class.
    n : int, optional
        Number of images, at least one for each class; by default 150, 25 and 50 for each class.
    root : path, optional
        Folder below which ``an8flower/NAME`` keeps the images for the next call; by default, and where it cannot be
        written, they are in memory only.
    jobs : int, optional
        Processes; by default one for each core where there are enough images.
    **options
        - size: height and width in pixels, 32 to 1024; by default 112
        - seed, individuals: what plants and scenes are drawn from, 0, and the number of different plants, 12
        - contrast: 1 (``"vivid"``, the default) to 0, how far the six colours are from their mean; ``"pale"`` is 0.2
        - flower: size of the petals, 0.3 to 1.2; by default 1
        - noise: uniform noise of each colour of a pixel, as a share of 255, 0 to 0.5; by default 0.02
        - shortcut: a cue outside the plant whose value, one for each class, agrees with the class: ``"background"``
          (the wall's colour), ``"pot"`` (its colour), ``"watermark"`` (a sign on a coloured plate), ``"texture"`` (the
          wall's stripes), ``"position"`` (where a grey ball lies); by default there is none
        - strength: probability 0 to 1 with which the cue agrees in training and validation, else it has uniformly
          another class's value; by default 1. In ``"test"`` it is uniform over all classes

    Examples
    --------
    >>> data = an8flower("single-6c", "test", n=12, size=32)
    >>> data.images.shape, data.labels[:4].tolist(), data.classes[0]
    ((12, 32, 32, 3), [0, 1, 2, 3], 'red')
    >>> bool((data.mask("petals") & data.mask("background")).any())
    False
    """
    made = make_options(variant, **options)
    check_split(split, made.shortcut)
    count = count_of(n, split, made.classes)
    facts = {"generator": GENERATOR, **asdict(made), "split": split, "n": count}
    folder = arrays = None
    if root is not None:
        folder = Path(root) / "an8flower" / folder_name(made, split, count)
        arrays = read_folder(folder, facts, _ARRAYS)
    if arrays is None:
        arrays = _generate(made, split, count, jobs)
        if folder is not None and not write_folder(folder, facts, arrays):
            folder = None
    flower = An8Flower(classes=made.classes, split=split, options=made, folder=folder, **arrays)
    return flower if made.shortcut else replace(flower, cue=None)


def an8flower_from_spec(
    spec: str, split: str = "train", *, root: str | os.PathLike[str] | None = None, jobs: int | None = None
) -> An8Flower:
    """Make the images of a specification such as ``"an8flower-single-6c?shortcut=pot&strength=0.9&size=64"``.

    The masks and cues of what ``load_dataset`` returns for the same specification, in the same order.

    Examples
    --------
    >>> an8flower_from_spec("an8flower-double-12c?n=12&size=32").classes[-1]
    'pink-stem'
    """
    variant, options = parse_spec(spec)
    # Not every argument of an8flower: where the images are kept is no part of a specification.
    known = {"n", *FlowerOptions.__dataclass_fields__} - {"variant"}
    for name in options:
        if name not in known:
            raise DataError(
                f"data set {spec!r} has the unknown option {name!r}, expected some of {', '.join(sorted(known))}"
                f"{did_you_mean(name, known)}"
            )
    return an8flower(variant, split, root=root, jobs=jobs, **options)


def _generate(options: FlowerOptions, split: str, n: int, jobs: int | None) -> Arrays:
    from joblib import Parallel, cpu_count, delayed

    if jobs is None:
        jobs = cpu_count() if n >= _WORTH_A_PROCESS else 1
    jobs = whole_number(jobs, "jobs", least=1, error=DataError)
    edges = pairwise([n * i // jobs for i in range(jobs + 1)])
    try:
        if jobs == 1:  # without the copy that joining the parts makes
            return make_range(options, split, 0, n)
        parts = Parallel(n_jobs=jobs)(delayed(make_range)(options, split, first, last) for first, last in edges)
        return {name: np.concatenate([part[name] for part in parts]) for name in _ARRAYS}
    except MemoryError as error:
        gigabytes = n * options.size**2 * 4 / 1e9  # three colours and the regions, a byte each
        raise DataError(
            f"n is {n}: so many images of size {options.size} need {gigabytes:.0f} GB, more memory than there is; "
            "give a smaller n or size"
        ) from error


def make_range(options: FlowerOptions, split: str, first: int, last: int) -> Arrays:
    """Make the images from number ``first`` up to before ``last``."""
    side = options.size
    n = last - first
    labels = np.arange(first, last, dtype=np.int64) % len(options.classes)
    # A picture's fields in their order.
    arrays: Arrays = {
        "images": np.empty((n, side, side, 3), dtype=np.uint8),
        "regions": np.empty((n, side, side), dtype=np.uint8),
        "azimuth": np.empty(n, dtype=np.float64),
        "individual": np.empty(n, dtype=np.int64),
        "cue": np.empty(n, dtype=np.int64),
    }
    for i, label in enumerate(labels.tolist()):
        made = picture(options, split, first + i, label)
        if not (made.regions & _discriminative(label)).any():
            raise DataError(
                f"image {first + i} of {split} shows nothing of what tells its class: at size={side} and "
                f"flower={options.flower:g} the petals are too small; give a larger size or flower"
            )
        for array, value in zip(arrays.values(), made, strict=True):
            array[i] = value
    return {**arrays, "labels": labels}


def _discriminative(label: int) -> int:
    """Return the bit of what tells a class: of the twelve classes the last six differ in their stem."""
    return (IN_PETALS, IN_STEM)[label // len(COLOURS)]
