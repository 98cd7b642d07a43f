"""The command line's words of ``interpnet filters`` alone."""

from __future__ import annotations

from typing import Annotated

from .options import DATA, PICTURES, option

Split = Annotated[
    str | None,
    option("--split", help="Images to look at: train or test.", panel=DATA, default="test", metavar="train|test"),
]
MaxShown = Annotated[
    int | None,
    option("--max-images", help="Look at so many images, balanced by class.", panel=DATA, default="1000", metavar="N"),
]
PicturedLayers = Annotated[
    list[str] | None,
    option(
        "--layers",
        help="Layers whose channels are pictured: conv, all, names or globs as `interpnet layers` prints them; "
        "comma-separated or repeated.",
        panel=PICTURES,
        default="at most 8 of the layers an audit reads, evenly spread",
        metavar="LAYERS",
    ),
]
PerLayer = Annotated[
    int | None,
    option("--per-layer", help="Channels pictured in each layer.", panel=PICTURES, default="6", metavar="N"),
]
MaxClasses = Annotated[
    int | None,
    option(
        "--max-classes",
        help="Classes pictured, and images whose neighbours are shown.",
        panel=PICTURES,
        default="12",
        metavar="N",
    ),
]
Neighbours = Annotated[
    int | None,
    option("--neighbours", help="Nearest images shown for each.", panel=PICTURES, default="6", metavar="N"),
]
Perplexity = Annotated[
    float | None,
    option(
        "--perplexity",
        help="About how many neighbours t-SNE keeps near each image.",
        panel=PICTURES,
        default="30, less with few images",
        metavar="X",
    ),
]
Steps = Annotated[
    int | None,
    option(
        "--steps",
        help="Gradient steps of a maximised picture; most of the time goes here.",
        panel=PICTURES,
        default="64",
        metavar="N",
    ),
]
Jitter = Annotated[
    int | None,
    option(
        "--jitter",
        help="Largest random shift at each step, in pixels.",
        panel=PICTURES,
        default="a 28th of the shorter side",
        metavar="N",
    ),
]
Blur = Annotated[
    float | None,
    option(
        "--blur",
        help="Gaussian smoothing at the first step, in pixels; it falls to none.",
        panel=PICTURES,
        default="1, less for small images",
        metavar="X",
    ),
]
L2 = Annotated[
    float | None,
    option(
        "--l2", help="Share of the way to grey taken back at each step.", panel=PICTURES, default="0.01", metavar="X"
    ),
]
