"""Cues inside the subject: what a class's channels answer to, pasted into other images and taken out of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interpnet.shortcuts import Example, Pasted

from ..run.shortcuts import SHORTCUTS_FILE
from .carriers import Carrier, Strips
from .load import RunData, reading
from .numbers import number_text, percent, signed
from .odds import probability
from .pictures import Pictures
from .section import Section
from .views import Shot, class_name

_SIZE = 192  # pixels
MOST_OPEN = 3
_MOST_NAMED = 4  # channels in the headline


@dataclass(frozen=True)
class PastedView:
    """One channel of one class."""

    anchor: str
    name: str
    channel: Carrier
    sentence: str
    verdict: str
    rows: tuple[tuple[Shot, ...], ...]  # each an image before and after


@dataclass(frozen=True)
class PastedViews:
    """All that moved their class, and how many did not."""

    shown: tuple[PastedView, ...]
    folded: tuple[PastedView, ...]
    still: int


def inside_section(run: RunData, pictures: Pictures, strips: Strips) -> Section | None:
    """Return what is said of channels whose patch was pasted; ``None`` where none was."""
    found = [] if run.shortcuts is None else list(run.shortcuts.inside)
    found = [one for one in found if run.only is None or one.index in run.only]
    if not found:
        return None
    moving = [one for one in found if one.moves]
    views = tuple(_view(run, number, one, pictures, strips) for number, one in enumerate(moving))
    if views:
        named = ", ".join(f"“{view.name}” by {view.channel.label}" for view in views[:_MOST_NAMED])
        if len(views) > _MOST_NAMED:
            named += f" and {len(views) - _MOST_NAMED} more"
        headline = f"What {len(views)} of {len(found)} channels answer to moves other images to the class: {named}."
        judgement = "A class's own subject does so, too: look whether the patch is of it."
    else:
        headline = f"What {len(found)} channels of suspicious classes answer to moves no other image to the class."
        judgement = "Whatever the classes go by is not in one patch of these channels."
    return Section(
        anchor="inside",
        title="What a patch moves",
        template="inside.html.j2",
        level="mixed" if views else "shown",
        headline=headline,
        judgement=judgement,
        view=PastedViews(views[:MOST_OPEN], views[MOST_OPEN:], len(found) - len(views)),
        facts=[_facts(run, one) for one in found],
    )


def _view(run: RunData, number: int, one: Pasted, pictures: Pictures, strips: Strips) -> PastedView:
    name = class_name(run, one.index)
    with reading(run.folder / SHORTCUTS_FILE, "shortcuts", run.folder):
        entry = _entry(run, one)
        rows = [
            _row(run, name, titles, example, files, pictures)
            for what, titles in _TITLES.items()
            for example, files in zip(getattr(one, what), entry.get(what, ()), strict=False)
        ]
    said = f"the patch covers {percent(one.area)} of an image on average"
    return PastedView(
        anchor=f"inside-{number}",
        name=name,
        channel=strips.carrier(one.channel, said),
        sentence=_sentence(one, name),
        verdict="Whether it may is for a person to say.",
        rows=tuple(rows),
    )


#: Of what is pasted and what is taken out, the titles of an image's pictures.
_TITLES = {
    "pasted": ("image", "gives the patch", "with the patch"),
    "removed": ("image of the class", "without the patch"),
}


def _row(
    run: RunData, name: str, titles: Sequence[str], example: Example, files: Sequence[str], pictures: Pictures
) -> tuple[Shot, ...]:
    before = f"taken for {class_name(run, example.before)}; {name}: {probability(example.odds_before)}"
    after = f"taken for {class_name(run, example.after)}; {name}: {probability(example.odds_after)}"
    captions = [before, *[f"an image of {name}"] * (len(titles) - 2), after]
    return tuple(
        Shot(title, caption, pictures.embed(file, _SIZE))
        for title, caption, file in zip(titles, captions, files, strict=True)
    )


def _sentence(one: Pasted, name: str) -> str:
    raised = one.raised
    return (
        f"Pasted from {one.n} images of “{name}” into others, it raises the class's log-odds by "
        f"{signed(raised.whole)}: {signed(raised.beyond)} ({number_text(raised.low)} to {number_text(raised.high)}) "
        f"beyond a patch of the same form from where the channel is quiet. With its pixels in another order it is "
        f"{signed(one.reordered)}, at another place {signed(one.elsewhere)}. {percent(one.taken)} of these images are "
        f"taken for the class then, {percent(one.taken_before)} before. Taken out of the class's own images "
        f"it changes them by {signed(-one.fell.beyond)} beyond the control. "
        f"{signed(one.gap)} sets the class's images apart from others."
    )


def _entry(run: RunData, one: Pasted) -> Mapping[str, Any]:
    """Return what the run pictured of a channel; empty where nothing was."""
    for entry in run.beside.get("inside", ()):
        if (entry["index"], entry["channel"]) == (one.index, [one.channel.layer, one.channel.index]):
            found: Mapping[str, Any] = entry
            return found
    return {}


def _facts(run: RunData, one: Pasted) -> dict[str, Any]:
    return {
        "class": class_name(run, one.index),
        "class_index": one.index,
        "channel": str(one.channel),
        "raised": one.raised.beyond,
        "raised_p": one.raised.p,
        "fell": one.fell.beyond,
        "fell_p": one.fell.p,
        "share": one.share,
        "concentration": one.concentration,
        "area": one.area,
        "taken": one.taken,
        "taken_before": one.taken_before,
    }
