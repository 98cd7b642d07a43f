"""What draws images to a class: those from the field, and training images of other classes, with what they share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interpnet.shortcuts import Drawn

from ..run.shortcuts import SHORTCUTS_FILE
from .carriers import Carrier, Strips, counted
from .load import RunData, clean, reading
from .numbers import number_text, percent, signed
from .odds import probability
from .pictures import Pictures
from .section import Section
from .views import Shot, class_name

_SIZE = 192  # pixels
_LARGE = 320
#: Classes that are shown at once; the others are folded.
MOST_OPEN = {"field": 4, "training": 2}
_MOST_CHANNELS = 3
_MOST_NAMED = 4  # classes in the headline
_LEVEL = 0.05  # of a class that training images are drawn to
_SMALLEST = 0.001  # p-value that is said


@dataclass(frozen=True)
class Share:
    """What images have in common at one place."""

    picture: Shot
    sentence: str
    names: tuple[str, ...]  # of all images that bear it


@dataclass(frozen=True)
class DrawnView:
    """A class that draws images."""

    anchor: str
    index: int
    name: str
    heading: str
    sentence: str
    meaning: str
    shots: tuple[Shot, ...]
    own: tuple[Shot, ...]  # training images of the class, to compare with
    share: Share | None
    channels: tuple[Carrier, ...]
    names: tuple[str, ...]  # of all images drawn, the strongest first; of the field at most 64


@dataclass(frozen=True)
class DrawnViews:
    """Those of one source."""

    shown: tuple[DrawnView, ...]
    folded: tuple[DrawnView, ...]
    reading: tuple[str, ...]  # how to read them
    shared: bool  # whether any of them share something


def field_section(run: RunData, pictures: Pictures, strips: Strips) -> Section | None:
    """Return what is said of images from the field; ``None`` where there were none."""
    n = field_count(run)
    if n is None:
        return None
    found = _of(run, "field")
    views = tuple(_view(run, one, pictures, strips, n) for one in found)
    shared = [view for view in views if view.share is not None]
    level = {True: "not shown", False: "mixed"}[bool(shared)] if views else "shown"
    return Section(
        anchor="field",
        title="What images from the field lean to",
        template="drawn.html.j2",
        level=level,
        headline=_field_headline(run, found, n),
        judgement=_field_judgement(bool(views), bool(shared)),
        view=_split(views, "field", _FIELD_READING),
        facts=[_facts(run, one) for one in found],
    )


def mistakes_section(run: RunData, pictures: Pictures, strips: Strips) -> Section | None:
    """Return what is said of training images that are taken for another class; ``None`` where none stands out."""
    found = [one for one in _of(run, "training") if one.p < _LEVEL]
    if not found:
        return None
    views = tuple(_view(run, one, pictures, strips, 0) for one in found)
    named = _named([f"“{view.name}” ({one.n} images)" for view, one in zip(views, found, strict=True)])
    verb = {True: "class draws", False: "classes draw"}[len(found) == 1]
    return Section(
        anchor="mistakes",
        title="What draws other classes’ images",
        template="drawn.html.j2",
        level="mixed",
        headline=f"{len(found)} {verb} more mistakes than the others: {named}.",
        judgement="Classes that look alike do so, too; the pictures and the channels show by what.",
        view=_split(views, "training", _TRAINING_READING),
        facts=[_facts(run, one) for one in found],
    )


def field_count(run: RunData) -> int | None:
    """Return how many images from the field were looked at; ``None`` where there were none."""
    with reading(run.folder / SHORTCUTS_FILE, "shortcuts", run.folder):
        return int(run.beside["field"]["n"]) if "field" in run.beside else None


def shared_by(run: RunData, one: Drawn) -> int:
    """Return how many images have in common what a class draws them by; 0 where nothing is known of that."""
    with reading(run.folder / SHORTCUTS_FILE, "shortcuts", run.folder):
        return int(_entry(run, one).get("common", {}).get("n", 0))


def field_sentence(run: RunData, one: Drawn, n: int) -> str:
    """Return in one sentence what a class draws of ``n`` images from the field."""
    shared = shared_by(run, one)
    said = f"{one.n} of {n} images from the field lean to “{class_name(run, one.index)}”"
    if shared:
        said += f"; {shared} images share something at the same place"
    return said


def drawn_images(run: RunData) -> Iterator[dict[str, Any]]:
    """Yield a row for each image that a class draws or that bears what they share, as the run named them."""
    with reading(run.folder / SHORTCUTS_FILE, "shortcuts", run.folder):
        for entry in run.beside.get("drawn", ()):
            if run.only is not None and entry["index"] not in run.only:
                continue
            bearing = entry.get("common", {}).get("names", [])
            of_class = {"class_index": entry["index"], "class": class_name(run, entry["index"])}
            for name in dict.fromkeys([*entry["names"], *bearing]):
                yield of_class | {"source": entry["source"], "image": clean(name), "shares_it": int(name in bearing)}


def _of(run: RunData, source: str) -> list[Drawn]:
    drawn = () if run.shortcuts is None else run.shortcuts.drawn
    return [one for one in drawn if one.source == source and (run.only is None or one.index in run.only)]


def _entry(run: RunData, one: Drawn) -> Mapping[str, Any]:
    """Return what the run pictured of a class that draws images; empty where nothing was."""
    for entry in run.beside.get("drawn", ()):
        if (entry["index"], entry["source"]) == (one.index, one.source):
            found: Mapping[str, Any] = entry
            return found
    return {}


def _split(views: tuple[DrawnView, ...], source: str, how: tuple[str, ...]) -> DrawnViews:
    most = MOST_OPEN[source]
    return DrawnViews(views[:most], views[most:], how, any(view.share is not None for view in views))


def _named(parts: Sequence[str]) -> str:
    named = ", ".join(parts[:_MOST_NAMED])
    if len(parts) > _MOST_NAMED:
        named += f" and {len(parts) - _MOST_NAMED} more"
    return named


def _field_headline(run: RunData, found: Sequence[Drawn], n: int) -> str:
    if not found:
        return f"No class draws the {n} images from the field more than training images of other classes."
    parts = []
    for one in found:
        shared = shared_by(run, one)
        more = f", {shared} with the same thing at the same place" if shared else ""
        parts.append(f"“{class_name(run, one.index)}” ({one.n} of {n}{more})")
    verb = {True: "class draws", False: "classes draw"}[len(found) == 1]
    return f"{len(found)} {verb} images from the field more than chance would: {_named(parts)}."


def _field_judgement(any_drawn: bool, any_shared: bool) -> str:
    if not any_drawn:
        return ""
    if any_shared:
        return "Look at what they share: whether it makes an image of that class is for a person to say."
    return "A class that the field shows more often draws them, too: look whether the pictures are of it."


def _view(run: RunData, one: Drawn, pictures: Pictures, strips: Strips, n: int) -> DrawnView:
    with reading(run.folder / SHORTCUTS_FILE, "shortcuts", run.folder):
        entry = _entry(run, one)
        name = class_name(run, one.index)
        field = one.source == "field"
        share = _share(entry, pictures)
        heading = f"{one.n} of {n} images from the field" if field else f"{one.n} training images of other classes"
        return DrawnView(
            anchor=f"{one.source}-{one.index}",
            index=one.index,
            name=name,
            heading=heading,
            sentence=_field_words(one, entry, name, n) if field else _training_words(one, name),
            meaning=_meaning(name, field, share),
            shots=tuple(_shot(run, one, shot, name, pictures) for shot in entry.get("files", ())),
            own=tuple(Shot("", "", pictures.embed(file, _SIZE)) for file in entry.get("own", ())),
            share=share,
            channels=tuple(strips.carrier(*_said(run, channel)) for channel in one.channels[:_MOST_CHANNELS]),
            names=tuple(map(clean, entry.get("names", ()))),
        )


def _said(run: RunData, channel: Any) -> tuple[Any, str, str]:
    said = (
        f"contributes {signed(channel.contribution)}; in {percent(channel.high, 0)} of these images as high as in the "
    )
    said += "top 1 % of training images"
    return channel.channel, said, counted(run, channel.top_classes)


def _shot(run: RunData, one: Drawn, entry: Mapping[str, Any], name: str, pictures: Pictures) -> Shot:
    taken = f"taken for {class_name(run, entry['taken'])}"
    if entry["taken"] != one.index:
        taken += f"; {name}: {probability(float(entry['odds']))}"
    else:
        taken += f", {probability(float(entry['odds']))}"
    title = clean(entry["name"].rpartition("/")[2])
    if entry.get("true") is not None:
        title = f"an image of {class_name(run, entry['true'])}"
    if entry.get("bears"):
        taken += "; bears it"
    return Shot(title, taken, pictures.embed(entry["file"], _SIZE))


def _share(entry: Mapping[str, Any], pictures: Pictures) -> Share | None:
    common = entry.get("common")
    if common is None:
        return None
    sentence = (
        f"{common['n']} images from the field share what the first picture shows, at the same place; it covers "
        f"{percent(common['covered'])} of the image. Two halves of the images drawn show it alike (correlation "
        f"{number_text(common['agreement'])}; so much by chance: p = {number_text(common['p'])})."
    )
    picture = Shot("what they share", f"in {common['n']} images", pictures.embed(common["file"], _LARGE))
    return Share(picture, sentence, tuple(map(clean, common["names"])))


def _field_words(one: Drawn, entry: Mapping[str, Any], name: str, n: int) -> str:
    said = (
        f"{one.n} of {n} images from the field ({percent(one.share, 0)}) lean to “{name}”, more than 95 % of the "
        f"training images of other classes do. Of all training images {percent(one.expected, 0)} lean to it "
        f"({_p(one.p)})."
    )
    known = len(entry.get("names", ()))
    if known:
        which = "of them" if known == one.n else f"of the {known} strongest"
        said += f" {int(entry['taken'])} {which} are taken for it."
    return said


def _training_words(one: Drawn, name: str) -> str:
    return (
        f"{one.n} training images of other classes ({percent(one.share)}) are taken for “{name}”; "
        f"{percent(one.expected)} would be, were all mistakes spread evenly over the classes ({_p(one.p)})."
    )


def _p(p: float) -> str:
    if p < _SMALLEST:
        return "p below 0.001"
    return f"p = {number_text(p, 3)}"


def _meaning(name: str, field: bool, share: Share | None) -> str:
    if not field:
        return ""
    if share is not None:
        return (
            f"If images that bear it are no images of “{name}”, the class goes by it. If they are, the field has more "
            "of the class, and nothing is wrong."
        )
    return (
        f"If these are images of “{name}”, the field has more of the class, and nothing is wrong. They share nothing "
        "at one place; what draws them may lie anywhere, as the outlined evidence and the channels say."
    )


def _facts(run: RunData, one: Drawn) -> dict[str, Any]:
    facts = {"index": one.index, "name": class_name(run, one.index), "n": one.n, "share": one.share}
    return facts | {"expected": one.expected, "p": one.p, "shared_by": shared_by(run, one)}


_FIELD_READING = (
    (
        "The images are from where the network is used; nobody has said what they show. An image leans to a class "
        "where its log-odds are higher than those of 95 % of the training images of other classes. The p-value is that "
        "of so many among the images of field and training together, adjusted over the classes."
    ),
    (
        "Outlined is what they share, in images that bear it; in others the place with the strongest evidence for the "
        "class."
    ),
    (
        "What they share is looked for in at most 256 images of the field: what those drawn have at the same place and "
        "training images have not, on middle grey, its differences enlarged. What moves from image to image is not "
        "found so."
    ),
    (
        "Channels are those that speak for the class and are most unusually high, with what they contribute to its "
        "log-odds on these images. Of a channel’s ten top training images it is counted how many are of which class."
    ),
)
_TRAINING_READING = (
    (
        "Outlined is the strongest evidence for the class that the image is taken for. The p-value is that of so many "
        "mistakes, adjusted over the classes."
    ),
    (
        "Channels contribute more to the class on these images than on the recognised images of any other class. Of a "
        "channel’s ten top training images it is counted how many are of which class."
    ),
)
