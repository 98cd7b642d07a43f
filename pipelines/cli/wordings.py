"""What an option says where it means something else than in an audit."""

from __future__ import annotations

from typing import Any

from ..run.settings import SECTIONS

_PICTURES = SECTIONS["explain"]

PICTURED_LAYERS: dict[str, Any] = {
    "help": "Layers whose channels are pictured: conv, all, names or globs as `interpnet layers` prints them; "
    "comma-separated or repeated.",
    "panel": _PICTURES,
    "shown": "at most 8 of the layers an audit reads, evenly spread",
}
PHOTOGRAPHS: dict[str, Any] = {
    "help": "Add a section on this photograph, with a figure each of what follows; repeat for more.",
    "panel": _PICTURES,
}
NAMING: dict[str, Any] = {
    "help": "Name channels by the concepts of a folder, as interpnet dissect reads it, or generated ones. It takes "
    "four passes over those images.",
}
SHOWN_CLASSES: dict[str, Any] = {
    "help": "Show these classes only, by name or number, comma-separated or repeated; nothing is measured again. all: "
    "every class that was studied.",
    "panel": "",
    "shown": "those of the run",
}
WEIGHTS: dict[str, Any] = {
    "help": "The file of weights.",
    "panel": "",
    "shown": "weights.safetensors",
    "metavar": "FILE.safetensors",
}
