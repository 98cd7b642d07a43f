"""What a dissection is made with, beside the model."""

from __future__ import annotations

from dataclasses import dataclass

from ..run.settings import SECTIONS, Settings, setting

_DATA = SECTIONS["data"]
_STUDY = SECTIONS["solve"]
_PICTURES = SECTIONS["explain"]


@dataclass(frozen=True)
class DissectSettings(Settings):
    """The settings of a dissection; ``interpnet dissect --help`` explains each.

    Examples
    --------
    >>> DissectSettings(concepts="generated").override({"step": 4, "best": None}).step
    4
    """

    concepts: str = setting(
        "",
        "A folder of images with concepts, a folder for each category: images/, masks/ and names.txt, masks/CONCEPT/, "
        "or a folder of images per concept. Or generated: colours, edges, gratings and shapes are drawn "
        "(generated:edges,shapes for some of them).",
        panel=_DATA,
        names="CONCEPTS",
        required=True,
    )
    groups: str | None = setting(
        None,
        "Images belong together in whose files' names this regular expression finds the same, such as '^[^_]+' for "
        "frames FILM_0001.jpg: intervals are over films.",
        panel=_DATA,
        shown="each alone",
        metavar="REGEX",
    )
    quantile: float = setting(
        0.005,
        "Share of a channel's activations that is above its threshold.",
        panel=_STUDY,
        least=1e-6,
        below=0.5,
        expected="a number from 0.000001 to below 0.5",
    )
    least_iou: float = setting(
        0.04,
        "The least overlap, intersection over union, of a name.",
        panel=_STUDY,
        least=0,
        below=1,
        expected="a number from 0 to below 1",
    )
    step: int = setting(2, "Masks are compared at every so-many-th pixel along each side.", panel=_STUDY, least=1)
    draws: int = setting(19, "How often each image gets the masks of another one.", panel=_STUDY, least=1)
    control: bool = setting(
        True,
        "Whether to dissect a copy with random weights, too, which takes as long again.",
        panel=_STUDY,
        shown="with it",
        names="--control/--no-control",
    )
    best: int = setting(3, "Channels pictured for each concept.", panel=_PICTURES, least=1)
    pictures: int = setting(6, "Images shown of each.", panel=_PICTURES, least=1, below=51)
