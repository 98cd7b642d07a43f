"""The settings of naming channels by concepts, which are a part of a run's."""

from __future__ import annotations

from dataclasses import dataclass

from .settings import setting
from .shortcut_settings import ShortcutSettings


@dataclass(frozen=True)
class ConceptSettings(ShortcutSettings):
    """The section ``[concepts]`` of a run's settings; ``interpnet audit --help`` explains each."""

    concepts: str | None = setting(
        None,
        "A folder of images with concepts, as `interpnet dissect` reads it, or generated: the report names the "
        "channels of each class by them, or says that they have no name. none: without them again.",
        section="concepts",
        shown="none",
        metavar="FOLDER",
    )
