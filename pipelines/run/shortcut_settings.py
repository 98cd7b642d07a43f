"""The settings of the search for shortcuts, which are a part of a run's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from .settings import Settings, setting

#: What ``--field`` says for a search without images from the field, where an earlier command named some.
NO_FIELD = "none"
_shortcuts = partial(setting, section="shortcuts")


@dataclass(frozen=True)
class ShortcutSettings(Settings):
    """The section ``[shortcuts]`` of a run's settings; ``interpnet shortcuts --help`` explains each."""

    shortcut_images: int = _shortcuts(
        2000,
        "Training images that exchange parts in search of shortcuts, balanced, and images of --field, at most; 0 for "
        "no search.",
        least=0,
    )
    field: str | None = _shortcuts(
        None,
        "A folder of images from where the network is used, without labels: which classes draw them, by which "
        "channels, and what the images drawn have in common, such as a watermark. Prepared as the training images are; "
        "folders below it count. none: without them again.",
        shown="none",
        metavar="FOLDER",
    )
