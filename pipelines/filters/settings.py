"""What a filter visualization is made with, beside the model and the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..run.settings import SECTIONS, Settings, setting

_DATA = SECTIONS["data"]
_PICTURES = SECTIONS["explain"]


@dataclass(frozen=True)
class FilterSettings(Settings):
    """The settings of a filter visualization; ``interpnet filters --help`` explains each.

    Examples
    --------
    >>> FilterSettings().override({"steps": 12, "l2": None}).steps
    12
    """

    split: str = setting("test", "Images to look at: train or test.", panel=_DATA, choices=("train", "test"))
    max_images: int = setting(1000, "Look at so many images, balanced by class.", panel=_DATA, least=1)
    per_layer: int = setting(6, "Channels pictured in each layer.", panel=_PICTURES, least=1)
    max_classes: int = setting(12, "Classes pictured, and images whose neighbours are shown.", panel=_PICTURES, least=0)
    neighbours: int = setting(6, "Nearest images shown for each.", panel=_PICTURES, least=1)
    perplexity: float | None = setting(
        None,
        "About how many neighbours t-SNE keeps near each image.",
        panel=_PICTURES,
        shown="30, less with few images",
        least=1,
        expected="a number of at least 1",
    )
    steps: int = setting(
        16,
        "Most gradient steps of a channel's maximised picture, which ends before where it no longer rises; "
        "a class's has half as many again.",
        panel=_PICTURES,
        least=1,
    )
    jitter: int | None = setting(
        None,
        "Largest random shift at each step, in pixels.",
        panel=_PICTURES,
        shown="a 28th of the shorter side",
        least=0,
    )
    blur: float = setting(
        0.0,
        "Gaussian smoothing at the first step, in pixels; it falls to none.",
        panel=_PICTURES,
        least=0,
        expected="a number of pixels, 0 for none",
    )
    l2: float = setting(
        0.01,
        "Share of the way to grey taken back at each step.",
        panel=_PICTURES,
        least=0,
        below=1,
        expected="a number from 0 to below 1",
    )

    def climb(self) -> dict[str, Any]:
        """Return what :func:`interpnet.pictures.maximise` takes."""
        return {"steps": self.steps, "jitter": self.jitter, "blur": self.blur, "l2": self.l2}
