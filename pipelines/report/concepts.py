"""What the channels of classes have words for: their names by concepts, with the images in which they are strongest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .channels import names_text
from .load import RunData, clean
from .numbers import number_text
from .pictures import Pictures
from .views import ClassView

FOLDER = "concepts"
MOST_OPEN = 12
_MOST_CLASSES = 3
_SIZE = 592  # pixels of a strip: six images


@dataclass(frozen=True)
class NamedChannel:
    """A channel of some classes."""

    label: str
    names: tuple[str, ...]  # each with its overlap; none is an answer
    beside: str  # what the names had to pass, or what came closest
    classes: tuple[str, ...]
    more: int  # classes beyond these
    strip: str | None  # its strongest images, where it is pictured


@dataclass(frozen=True)
class Named:
    """All of them, those with a name first."""

    headline: str
    judgement: str
    shown: tuple[NamedChannel, ...]
    folded: tuple[NamedChannel, ...]
    images: str
    refused: str = ""


def named_of(run: RunData, classes: Sequence[ClassView], pictures: Pictures) -> Named | None:
    """Return what is said of the channels of the classes that are shown; ``None`` where no concepts were given."""
    if run.concepts is None:
        return None
    if "refused" in run.concepts:
        return Named("Channels have no names by concepts.", "", (), (), "", clean(run.concepts["refused"]))
    of_classes: dict[tuple[str, int], list[str]] = {}
    for c in classes:
        for row in c.channels:
            of_classes.setdefault((row.layer, row.index), []).append(c.name)
    entries = [(run.words[place], names) for place, names in of_classes.items() if place in run.words]
    entries.sort(key=lambda pair: -max([name["iou"] for name in pair[0]["names"]], default=-1.0))
    rows = tuple(_channel(entry, names, pictures) for entry, names in entries)
    count = sum(bool(row.names) for row in rows)
    some = sorted({name["concept"] for entry, _ in entries for name in entry["names"]})
    headline = (
        f"{count} of {len(rows)} channels named for classes detect one of {len(run.concepts['concepts'])} concepts"
    )
    headline += f": {', '.join(map(clean, some[:6]))}{' and more' * (len(some) > 6)}." if some else "."
    judgement = "A name says what a channel marks among these concepts, not that it marks nothing else."
    images = ", ".join(f"{n:,} images of {clean(name)}" for name, n in run.concepts["images"].items())
    open_rows = max(1, min(MOST_OPEN, count))
    return Named(headline, judgement, rows[:open_rows], rows[open_rows:], images)


def _channel(entry: Mapping[str, Any], classes: Sequence[str], pictures: Pictures) -> NamedChannel:
    names = names_text(entry)
    beside = f"with other images’ masks {number_text(entry['null'])}"
    if entry["floor"] is not None:
        beside += f", with random weights {number_text(entry['floor'])}"
    if not names:
        closest = entry["closest"]
        beside = f"closest: {clean(closest['concept'])} {number_text(closest['iou'])}; {beside}"
    return NamedChannel(
        f"{clean(entry['layer'])}[{int(entry['index'])}]",
        names,
        beside,
        tuple(classes[:_MOST_CLASSES]),
        max(0, len(classes) - _MOST_CLASSES),
        pictures.embed(entry["file"], _SIZE) if entry["file"] else None,
    )


def concept_table(run: RunData) -> Iterable[Mapping[str, Any]]:
    """Yield a row for each channel named for a class and each of its names; one without where it has none."""
    for (layer, index), entry in run.words.items():
        same = {"layer": layer, "index": index, "null": entry["null"], "floor": entry["floor"]}
        for name in entry["names"]:
            yield (
                same
                | {key: clean(name[key]) for key in ("concept", "category")}
                | {key: name[key] for key in ("iou", "low", "high")}
                | {"floor": name.get("floor", entry["floor"])}  # each category has its own
            )
        if not entry["names"]:
            yield same | dict.fromkeys(("concept", "category", "iou", "low", "high"))


def concept_facts(run: RunData) -> Mapping[str, Any] | None:
    """Return what ``report.json`` holds of names; ``None`` where no concepts were given."""
    if run.concepts is None or "refused" in run.concepts:
        return run.concepts
    parts = ("spec", "images", "concepts", "channels", "named", "layers")
    return {part: run.concepts[part] for part in parts}
