"""Channels in a sentence: what is known of each, its top images counted by class, and its top patches as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from interpnet.engine import Channel

from .load import RunData, clean
from .pictures import Pictures
from .views import class_name

_MOST_COUNTED = 3  # classes of a channel's top images
_PATCHES = 6
_SIZE = 44  # pixels of a patch


@dataclass(frozen=True)
class Carrier:
    """A channel, and what is said of it."""

    label: str
    said: str  # its numbers in words
    top: str = ""  # its top training images over all classes, counted by class
    strip: str | None = None  # its top patches as a data URI, where the run has pictured it
    n_patches: int = 0


class Strips:
    """The top patches of channels that a run has pictured, for whichever class."""

    def __init__(self, run: RunData, pictures: Pictures) -> None:
        self._pictures = pictures
        self._patches: dict[tuple[str, int], list[str]] = {}
        for entry in (run.pictures or {}).values():
            for channel in entry.get("channels") or ():
                place = (str(channel.get("layer")), int(channel.get("index", -1)))
                self._patches.setdefault(place, list(channel.get("patches") or ())[:_PATCHES])

    def carrier(self, channel: Channel, said: str, top: str = "") -> Carrier:
        """Return what a page shows of a channel."""
        label = f"{clean(channel.layer)}[{channel.index}]"
        patches = self._patches.get((channel.layer, channel.index), [])
        if not patches:
            return Carrier(label, said, top)
        return Carrier(label, said, top, *self._pictures.strip(patches, _SIZE, _PATCHES))


def counted(run: RunData, counts: Sequence[tuple[int, int]]) -> str:
    """Return a channel's top images in words: how many of which class, whose name may be a number."""
    said = [f"{n} of “{class_name(run, index)}”" for index, n in counts[:_MOST_COUNTED]]
    rest = sum(n for _, n in counts[_MOST_COUNTED:])
    if rest:
        said.append(f"{rest} other{'s' if rest > 1 else ''}")
    return ", ".join(said)
