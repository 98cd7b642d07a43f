"""One image of a data set."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from interpnet.errors import DataError
from interpnet.scores import entries


def image_of(data: Any, i: int) -> Tensor:
    """Return image ``i`` of a data set, or raise a DataError where it has none."""
    try:
        image, _ = entries(data[i])
    except (TypeError, IndexError, KeyError) as error:
        raise DataError(
            f"data is a {type(data).__name__} without an (image, label) item {i} ({error}); expected the data set that "
            "the table was collected from"
        ) from error
    if not isinstance(image, Tensor):
        raise DataError(f"image {i} of data is a {type(image).__name__}; expected a Tensor (C, H, W)")
    return image
