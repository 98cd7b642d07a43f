"""What a filter visualization is made with, besides the model and the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from interpnet.errors import InterpNetError, did_you_mean

_SPLITS = ("train", "test")
_LEAST = {"max_images": 1, "per_layer": 1, "max_classes": 0, "neighbours": 1, "steps": 1, "jitter": 0}


@dataclass(frozen=True)
class FilterSettings:
    """The settings of a filter visualization; ``interpnet filters --help`` explains each.

    Raises
    ------
    InterpNetError
        A value out of range, or not among the choices.

    Examples
    --------
    >>> FilterSettings.of({"steps": 16, "l2": None, "model": "smallcnn"}).steps
    16
    """

    split: str = "test"
    max_images: int = 1000
    per_layer: int = 6
    max_classes: int = 12
    neighbours: int = 6
    perplexity: float | None = None
    steps: int = 64
    jitter: int | None = None
    blur: float | None = None
    l2: float = 0.01

    def __post_init__(self) -> None:
        if self.split not in _SPLITS:
            raise InterpNetError(
                f"--split is {self.split!r}; expected train or test{did_you_mean(self.split, _SPLITS)}"
            )
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                option = name.replace("_", "-")
                raise InterpNetError(f"--{option} is {value}; expected a whole number of at least {least}")
        if self.perplexity is not None and not self.perplexity >= 1:
            raise InterpNetError(f"--perplexity is {self.perplexity}; expected a number of at least 1")
        if self.blur is not None and not self.blur >= 0:
            raise InterpNetError(f"--blur is {self.blur}; expected a number of pixels, 0 for none")
        if not 0 <= self.l2 < 1:
            raise InterpNetError(f"--l2 is {self.l2}; expected a number from 0 to below 1")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> FilterSettings:
        """Return the settings among ``given`` that are not ``None``, the rest as by default."""
        names = {entry.name for entry in fields(cls)}
        return cls(**{name: value for name, value in given.items() if name in names and value is not None})

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able values."""
        return asdict(self)

    def climb(self) -> dict[str, Any]:
        """Return what :func:`interpnet.pictures.maximise` takes."""
        return {"steps": self.steps, "jitter": self.jitter, "blur": self.blur, "l2": self.l2}
