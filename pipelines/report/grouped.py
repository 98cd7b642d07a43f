"""Two kinds of evidence in one class: its own images fall into two groups that other channels carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interpnet.shortcuts import Group, Grouped

from ..run.shortcuts import SHORTCUTS_FILE
from .carriers import Carrier, Strips
from .load import RunData, clean, reading
from .numbers import number_text, signed
from .pictures import Pictures
from .section import Section
from .views import class_name

_SIZE = 96  # pixels of an image
_COLUMNS = 6
_MOST_CHANNELS = 3
MOST_OPEN = 3
_MOST_NAMED = 6
_SMALLEST = 0.001


@dataclass(frozen=True)
class GroupView:
    """One group of a class's images."""

    n: int
    picture: str | None  # its images side by side
    n_pictured: int
    channels: tuple[Carrier, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class GroupedView:
    """A class with two kinds of evidence."""

    anchor: str
    name: str
    sentence: str
    groups: tuple[GroupView, GroupView]


@dataclass(frozen=True)
class GroupedViews:
    """All of them."""

    shown: tuple[GroupedView, ...]
    folded: tuple[GroupedView, ...]


def grouped_section(run: RunData, pictures: Pictures, strips: Strips) -> Section | None:
    """Return what is said of classes whose own images fall into two groups; ``None`` where there is none."""
    found = [] if run.shortcuts is None else list(run.shortcuts.grouped)
    found = [one for one in found if run.only is None or one.index in run.only]
    if not found:
        return None
    views = tuple(_view(run, one, pictures, strips) for one in found)
    named = ", ".join(f"“{view.name}”" for view in views[:_MOST_NAMED])
    if len(views) > _MOST_NAMED:
        named += f" and {len(views) - _MOST_NAMED} more"
    verb = {True: "class is", False: "classes are"}[len(views) == 1]
    return Section(
        anchor="groups",
        title="Two kinds of evidence in one class",
        template="grouped.html.j2",
        level="mixed",
        headline=f"{len(views)} {verb} recognised by two kinds of evidence: {named}.",
        judgement="That is no shortcut by itself. Look whether one group shares something that is not the subject.",
        view=GroupedViews(views[:MOST_OPEN], views[MOST_OPEN:]),
        facts=[_facts(run, one) for one in found],
    )


def _view(run: RunData, one: Grouped, pictures: Pictures, strips: Strips) -> GroupedView:
    name = class_name(run, one.index)
    n = sum(group.n for group in one.groups)
    p = "p below 0.001" if one.p < _SMALLEST else f"p = {number_text(one.p, 3)}"
    with reading(run.folder / SHORTCUTS_FILE, "shortcuts", run.folder):
        files = _files(run, one)
        first, second = (_group(group, shown, pictures, strips) for group, shown in zip(one.groups, files, strict=True))
    return GroupedView(
        anchor=f"groups-{one.index}",
        name=name,
        sentence=(
            f"The {n} training images of “{name}” that are recognised fall into two groups, of {first.n} and "
            f"{second.n}, which other channels carry. Images of one kind would seem so clearly to be of two with {p}, "
            "adjusted over the classes."
        ),
        groups=(first, second),
    )


def _files(run: RunData, one: Grouped) -> Sequence[Sequence[Mapping[str, Any]]]:
    """Return what was pictured of each group; nothing where nothing was."""
    for entry in run.beside.get("grouped", ()):
        if entry["index"] == one.index:
            found: Sequence[Sequence[Mapping[str, Any]]] = entry["groups"]
            return found
    return [[], []]


def _group(group: Group, files: Sequence[Mapping[str, Any]], pictures: Pictures, strips: Strips) -> GroupView:
    shown = pictures.strip([entry["file"] for entry in files], _SIZE, _COLUMNS)
    channels = [
        strips.carrier(
            c.channel, f"contributes {signed(c.contribution)} to this group, {signed(c.elsewhere)} to the other"
        )
        for c in group.channels[:_MOST_CHANNELS]
    ]
    return GroupView(
        n=group.n,
        picture=shown.source,
        n_pictured=shown.n,
        channels=tuple(channels),
        names=tuple(clean(entry["name"]) for entry in files),
    )


def _facts(run: RunData, one: Grouped) -> dict[str, Any]:
    sizes = [group.n for group in one.groups]
    return {"index": one.index, "name": class_name(run, one.index), "p": one.p, "groups": sizes}
