"""S4's claims, from results.json."""

from __future__ import annotations

from experiments.common.claims import Claim, graded, verdict_of
from experiments.common.pages import committed
from experiments.common.tables import Interval, Line, signed
from experiments.husky_wolf import table
from experiments.husky_wolf.photographs import CLASSES
from experiments.husky_wolf.pictures import OUTLINE
from experiments.husky_wolf.table import Lines

_HALF = 0.5


def claims() -> list[Claim]:
    """Return what S4 says, decided by its numbers."""
    lines: Lines = committed(__file__)
    return [_snow(lines), _decides(lines), _again(lines), _searched(lines)]


def _percent(found: Interval) -> str:
    return f"{100 * found.mean:.0f} % ({100 * found.low:.0f} to {100 * found.high:.0f})"


def _snow(lines: Lines) -> Claim:
    """Hold if snow around cut-out huskies and wolves raises the wolf beyond grass, both intervals above zero."""
    gap = table.gap(lines, "head")
    found = {c: table.changed(lines, "snow", "head", c, "beyond grass") for c in CLASSES}
    shares = {who: table.swapped(lines, OUTLINE, who, "share") for who in table.ANSWERS}
    return Claim(
        "S4",
        "Snow around an animal is evidence for a wolf, to a head trained where every wolf stands in snow",
        f"{signed(found['husky'])} around huskies",
        f"beyond grass {signed(found['husky'])} around huskies, {signed(found['wolf'])} around wolves; the classes lie "
        f"{gap:.1f} apart; surroundings are {_percent(shares['head'])} of the head's log-odds and "
        f"{_percent(shares['own outputs'])} of the log-odds of the network whose features it reads",
        verdict_of(one.above for one in found.values()),
        "the animal tells enough",
        effects=tuple((f"snow around a {c}, % of the gap", one.times(100 / gap)) for c, one in found.items()),
    )


def _decides(lines: Lines) -> Claim:
    """Hold if most cut-out huskies on snow are taken for wolves, and most cut-out wolves on grass for huskies."""
    taken = table.one(lines, what="material", material="snow", shape=OUTLINE)["head"]["husky"]["taken for a wolf"]
    lost = 1 - table.one(lines, what="material", material="grass", shape=OUTLINE)["head"]["wolf"]["taken for a wolf"]
    dogs = Interval(*table.one(lines, what="dogs")["head"]["taken, snow"])
    others = Interval(*table.one(lines, what="dogs")["head"]["taken, none"])
    return Claim(
        "S4",
        "Snow decides: huskies on snow are taken for wolves, wolves on grass for huskies",
        f"{100 * taken:.0f} % and {100 * lost:.0f} %",
        f"{100 * taken:.0f} % of cut-out huskies on snow, {100 * lost:.0f} % of cut-out wolves on grass; of other dogs "
        f"{_percent(dogs)} in snow, {_percent(others)} without",
        graded(full=min(taken, lost) > _HALF, part=max(taken, lost) > _HALF),
        "the features tell the animals apart, and the head has learnt both: snow moves the answer and seldom turns it",
    )


def _again(lines: Lines) -> Claim:
    """Hold if fitting the head again on exchanged surroundings brings snow's effect below that of the control."""
    after, control = (
        table.one(lines, what="refit", partners=partners)["tests"] for partners in ("of any class", "of the same class")
    )
    before = next(line for line in lines if line["what"] == "repair")["tests"]["before"]

    def effect(found: Line) -> Interval:
        return Interval(*found["snow beyond grass"]["husky"]).times(100 / found["gap"])

    words = [f"{name} {signed(effect(one), 0)} %" for name, one in (("as it is", before), ("fitted again", after))]
    return Claim(
        "S4",
        "Fitting the head again on exchanged surroundings takes the snow out of it",
        f"{effect(before).mean:.0f} to {effect(after).mean:.0f} % of the gap",
        f"snow beyond grass around huskies, of the gap between the classes: {', '.join(words)}, with surroundings of "
        f"the same class {signed(effect(control), 0)} %",
        graded(full=effect(after).high < effect(control).low, part=effect(after).mean < effect(control).mean),
        "a disc leaves parts of the animal outside, so that exchanged surroundings carry some of it",
    )


def _searched(lines: Lines) -> Claim:
    """Hold for a class that the search suspects."""
    line = table.one(lines, what="search")
    found = line["classes"].values()
    shown = [one["suspicious"] for one in found]
    discs = {part: shares for part, shares in line["shares"].items() if "disc" in part}
    return Claim(
        "S4",
        "From the training photographs alone, without outlines, the search suspects the head",
        f"{sum(shown)} of {len(shown)} classes",
        "; ".join(f"{part}: {_percent(Interval(*shares[0]))} of a husky's log-odds" for part, shares in discs.items()),
        verdict_of(shown),
        f"{len(line['shares'])} parts share two passes over 80 photographs, about eight exchanges each",
    )
