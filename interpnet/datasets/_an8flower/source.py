"""The generated an8Flower, and the released one, as sources of images for ``load_dataset``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from interpnet.datasets._an8flower.dataset import An8Flower, an8flower_from_spec
from interpnet.datasets._an8flower.files import ReleasedFlower, released_an8flower
from interpnet.datasets._sources import ArraySource


class FlowerSource(ArraySource):
    """Generated images, named by class, individual and angle; ``flower`` has their masks."""

    def __init__(self, flower: An8Flower) -> None:
        super().__init__(flower.images, flower.labels, flower.classes, f"an8flower-{flower.options.variant}")
        self.flower = flower

    @property
    def masks(self) -> Mapping[str, np.ndarray]:
        """All masks of :class:`An8Flower`, with that of the planted shortcut where there is one."""
        planted = self.flower.shortcut_mask
        return self.flower.masks if planted is None else {**self.flower.masks, "shortcut": planted}

    def name(self, i: int) -> str:
        """Return for instance ``an8flower-single-6c/test/red/img12_p3_r50``."""
        return f"{self.prefix}/{self.flower.name(i)}"


def flower_source(spec: str, split: str, root: Path) -> FlowerSource:
    """Make or read the images of a specification."""
    return FlowerSource(an8flower_from_spec(spec, split, root=root))


class ReleasedSource(ArraySource):
    """Images of the authors' layout, named by their files; ``flower`` has their masks."""

    def __init__(self, flower: ReleasedFlower) -> None:
        super().__init__(flower.images, flower.labels, flower.classes, "an8flower-released")
        self.flower = flower

    @property
    def masks(self) -> Mapping[str, np.ndarray]:
        """What tells the class."""
        return {"discriminative": self.flower.mask}

    def name(self, i: int) -> str:
        """Return the path below the folder."""
        return self.flower.names[i]


def released_source(path: str) -> ReleasedSource:
    """Read a folder of the authors' layout."""
    return ReleasedSource(released_an8flower(path))
