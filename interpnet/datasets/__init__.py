"""Images with labels: by name, from folders, from any torch Dataset, or generated with masks.

Names are loaded when first used: the processes that draw an8Flower need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interpnet.datasets._an8flower.dataset import An8Flower as An8Flower
    from interpnet.datasets._an8flower.dataset import an8flower as an8flower
    from interpnet.datasets._an8flower.dataset import an8flower_from_spec as an8flower_from_spec
    from interpnet.datasets._an8flower.files import ReleasedFlower as ReleasedFlower
    from interpnet.datasets._an8flower.files import released_an8flower as released_an8flower
    from interpnet.datasets._data import ImageData as ImageData
    from interpnet.datasets._data import stack_images as stack_images
    from interpnet.datasets._loader import Batch as Batch
    from interpnet.datasets._loader import BatchLoader as BatchLoader
    from interpnet.datasets._loader import Skipped as Skipped
    from interpnet.datasets._loader import make_loader as make_loader
    from interpnet.datasets._pixels import BadImageError as BadImageError
    from interpnet.datasets._registry import dataset_names as dataset_names
    from interpnet.datasets._registry import load_dataset as load_dataset

_HOME = {
    "An8Flower": "_flower.dataset",
    "BadImageError": "_pixels",
    "Batch": "_loader",
    "BatchLoader": "_loader",
    "ImageData": "_data",
    "ReleasedFlower": "_flower.files",
    "Skipped": "_loader",
    "an8flower": "_flower.dataset",
    "an8flower_from_spec": "_flower.dataset",
    "dataset_names": "_registry",
    "load_dataset": "_registry",
    "make_loader": "_loader",
    "released_an8flower": "_flower.files",
    "stack_images": "_data",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
