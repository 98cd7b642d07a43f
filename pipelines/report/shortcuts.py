"""What the network looks at, as the report's verdict says it: suspicious classes with their pictures, and the power."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interpnet.shortcuts import CarryingChannel, ClassFinding, Example

from ..run.shortcuts import picture_names
from .carriers import Carrier, Strips, counted
from .load import RunData, clean
from .numbers import number_text, percent, signed, with_interval
from .odds import probability
from .pictures import Pictures
from .section import Section
from .sections import sections_of
from .views import Shot, class_name

_SIZE = 192  # pixels
#: Suspicious classes and examples that are shown at once; the others are folded.
MOST_OPEN = 6
_OPEN_EXAMPLES = 2
_MOST_CHANNELS = 3
_MOST_NAMED = 6  # classes in the headline
#: What a reader calls a part that cannot stand for itself.
_WORDS = {
    "top left": "the top left corner",
    "top right": "the top right corner",
    "bottom left": "the bottom left corner",
    "bottom right": "the bottom right corner",
    "top middle": "the middle of the upper edge",
    "bottom middle": "the middle of the lower edge",
    "middle left": "the middle of the left edge",
    "middle right": "the middle of the right edge",
}


@dataclass(frozen=True)
class Swap:
    """An image of another class that got a part."""

    shots: tuple[Shot, ...]  # the image, the donor with the part's place, the image with the part


@dataclass(frozen=True)
class Look:
    """What one class goes by."""

    index: int
    name: str
    level: str  # "shown": nothing beyond what is usual; "mixed": not decided; "not shown": suspicious; "open": unknown
    part: str
    share: float
    low: float
    high: float
    usual: float
    detectable: float
    raised: float
    raised_before: float
    confirmed: bool
    n: int
    sentence: str
    effect: str = ""  # what the part does to images of other classes
    swaps: tuple[Swap, ...] = ()
    channels: tuple[Carrier, ...] = ()

    @property
    def suspicious(self) -> bool:
        """Whether the whole interval is beyond what is usual."""
        return self.level == "not shown"

    @property
    def open_swaps(self) -> tuple[Swap, ...]:
        """Those shown at once."""
        return self.swaps[:_OPEN_EXAMPLES]

    @property
    def more_swaps(self) -> tuple[Swap, ...]:
        """The others."""
        return self.swaps[_OPEN_EXAMPLES:]


@dataclass(frozen=True)
class Looks:
    """What the classes go by, the most suspicious first."""

    level: str
    headline: str
    judgement: str
    classes: tuple[Look, ...]
    n: int  # images among which parts were exchanged
    parts: int
    sections: tuple[Section, ...] = ()  # what else was found, each with its template

    @property
    def suspicious(self) -> tuple[Look, ...]:
        """The suspicious classes."""
        return tuple(one for one in self.classes if one.suspicious)

    def of(self, index: int) -> Look | None:
        """Return what is said of one class; ``None`` where it was not searched."""
        return next((one for one in self.classes if one.index == index), None)


def part_words(name: str) -> str:
    """Return a part as it stands in a sentence.

    Examples
    --------
    >>> part_words("top left"), part_words("outside a disc of radius 0.25"), part_words("a patch")
    ('the top left corner', 'what lies outside a disc of radius 0.25', 'a patch')
    """
    if name.startswith("outside"):
        return f"what lies {name}"
    return _WORDS.get(name, clean(name))


def looks_of(run: RunData, pictures: Pictures, explained: Pictures | None = None) -> Looks | None:
    """Put what a search found into words and pictures; ``None`` where nothing was searched.

    ``pictures`` are those in ``shortcuts/``, ``explained`` those in ``explanations/``, where channels have theirs.
    """
    found = run.shortcuts
    if found is None:
        return None
    strips = Strips(run, explained or pictures)
    classes = tuple(_look(run, one, pictures, strips) for one in found.classes)
    level, headline, judgement = _judged(run, classes)
    sections = sections_of(run, pictures, strips)
    return Looks(level, headline, judgement, classes, found.n, len(found.parts), sections)


def _judged(run: RunData, classes: Sequence[Look]) -> tuple[str, str, str]:
    suspicious = [one for one in classes if one.suspicious]
    known = [one for one in classes if one.level != "open"]
    if suspicious:
        named = ", ".join(f"“{one.name}” by {one.part}" for one in suspicious[:_MOST_NAMED])
        if len(suspicious) > _MOST_NAMED:
            named += f" and {len(suspicious) - _MOST_NAMED} more"
        verb = {True: "goes", False: "go"}[len(suspicious) == 1]
        headline = (
            f"{len(suspicious)} of {len(classes)} classes {verb} by a part of the image more than is usual without a "
            f"shortcut: {named}."
        )
        return "not shown", headline, "Look at the pictures: whether a class may go by it is for a person to say."
    if not known:
        return "open", "There are too few images to say what the classes go by.", ""
    headline = "No class goes by any part of the image more than is usual in networks without a shortcut."
    # A share is at most 1: beyond that nothing can be found.
    power = float(np.median([one.detectable if one.detectable <= 1 else np.inf for one in known]))
    judgement = ""
    if power <= 1:
        judgement = f"In the median class a share of {number_text(power)} would have been found 8 times of 10."
    blind = sum(not one.detectable <= 1 for one in known)
    if blind:
        judgement += f" In {blind} of {len(known)} classes not even a share of 1 would have been found 8 times of 10."
    undecided = [one for one in classes if one.level == "mixed"]
    if undecided or blind:
        headline = headline.replace("goes by", "is shown to go by")
    if undecided:
        judgement += (
            f" {len(undecided)} of {len(classes)} classes are not decided: more images may tell "
            f"({run.command('shortcuts')} --shortcut-images N)."
        )
        return "mixed", headline, judgement.strip()
    return "shown" if power <= 1 else "mixed", headline, judgement.strip()


def _look(run: RunData, one: ClassFinding, pictures: Pictures, strips: Strips) -> Look:
    name = class_name(run, one.index)
    part = part_words(one.part)
    level = _level(one)
    swaps: tuple[Swap, ...] = ()
    channels: tuple[Carrier, ...] = ()
    effect = ""
    if level == "not shown":
        swaps = tuple(_swap(run, one, name, number, e, pictures) for number, e in enumerate(one.examples))
        channels = tuple(_carrier(run, c, strips) for c in one.channels[:_MOST_CHANNELS])
        effect = _effect(one, name)
    return Look(
        index=one.index,
        name=name,
        level=level,
        part=part,
        share=one.share,
        low=one.low,
        high=one.high,
        usual=one.usual,
        detectable=one.detectable,
        raised=one.raised,
        raised_before=one.raised_before,
        confirmed=one.confirmed,
        n=one.n,
        sentence=_sentence(one, name, part, level),
        effect=effect,
        swaps=swaps,
        channels=channels,
    )


def _carrier(run: RunData, channel: CarryingChannel, strips: Strips) -> Carrier:
    said = f"{percent(channel.share, 0)} of its response follows the part; contributes {signed(channel.contribution)}"
    return strips.carrier(channel.channel, said, counted(run, channel.top_classes))


def _level(one: ClassFinding) -> str:
    if one.suspicious:
        return "not shown"
    if not (math.isfinite(one.share) and math.isfinite(one.low)):
        return "open"
    if one.share > one.usual:
        return "mixed"
    return "shown"


def _sentence(one: ClassFinding, name: str, part: str, level: str) -> str:
    share = with_interval(one.share, one.low, one.high)
    goes = f"When {part} is exchanged between images, {share} of what speaks for “{name}” follows it; of classes "
    goes += f"without a shortcut 98 % stay below {number_text(one.usual)}."
    if level == "open":
        few = "image is" if one.n == 1 else "images are"
        return f"{one.n} {few} too few to say what “{name}” goes by."
    if level == "not shown":
        return goes
    power = f"A share of {number_text(one.detectable)} would have been found 8 times of 10."
    if not one.detectable <= 1:
        power = "Not even a share of 1 would have been found 8 times of 10: these images are too few or too unlike."
    if level == "mixed":
        return f"{goes} The interval reaches below that, so these images do not decide. {power}"
    return f"No part moved “{name}” beyond what is usual. {power}"


def _effect(one: ClassFinding, name: str) -> str:
    if not math.isfinite(one.raised):
        return ""
    return (
        f"Of images of other classes that got this part of an image of “{name}”, {percent(one.raised, 0)} are taken "
        f"for it; without it {percent(one.raised_before, 0)}."
    )


def _swap(run: RunData, one: ClassFinding, name: str, number: int, example: Example, pictures: Pictures) -> Swap:
    before = f"taken for {class_name(run, example.before)}; {name}: {probability(example.odds_before)}"
    after = f"taken for {class_name(run, example.after)}; {name}: {probability(example.odds_after)}"
    titles = ("image", "gives the part", "with the part")
    captions = (before, f"an image of {name}", after)
    files = picture_names(one.index, number)
    shots = [
        Shot(title, caption, pictures.embed(file, _SIZE))
        for title, caption, file in zip(titles, captions, files, strict=True)
    ]
    return Swap(tuple(shots))
