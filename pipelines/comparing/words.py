"""A comparison in sentences and tables, which the terminal and the page show alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

import interpnet

from ..report.numbers import number_text, percent, signed, span
from ..report.page import write_page
from ..run.config import MU_LASSO, RELIANCE
from .change import Change
from .channels import ChannelChange, WayChannels
from .compared import Compared
from .looks import rows_first as looks_first
from .pair import run_words
from .recalls import ClassRecall, Recalls
from .recalls import rows_first as recalls_first

_MOST_NAMED = 4  # classes in a sentence
_MOST_CHANNELS = 3  # of a class, gained and lost each
_MOST_CHANGED = 20  # channels whose contribution changed
#: Rows of a table that are shown at once.
MOST_ROWS = 24


@dataclass(frozen=True)
class Table:
    """Rows of text under names of columns; those of numbers begin with ``#``."""

    title: str
    columns: str
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    aside: bool = False  # for the page alone, where there is room

    @property
    def heads(self) -> list[tuple[str, bool]]:
        """The names of the columns, each with whether it is of numbers."""
        return [(name.removeprefix("#"), name.startswith("#")) for name in self.columns.split(", ")]

    @property
    def body(self) -> list[list[tuple[str, bool]]]:
        """The cells, each with whether it is a number."""
        return [[(cell, n) for cell, (_, n) in zip(row, self.heads, strict=True)] for row in self.rows]

    def html(self) -> Markup:
        """Return the table for a notebook, all text escaped."""
        head = Markup("").join(Markup("<th>{}</th>").format(name) for name, _ in self.heads)
        rows = Markup("").join(
            Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(cell) for cell in row))
            for row in self.rows[:MOST_ROWS]
        )
        return Markup("<b>{}</b><table><tr>{}</tr>{}</table>").format(self.title, head, rows)


def headline(found: Compared) -> tuple[str, ...]:
    """Return what differs, in sentences that the intervals carry."""
    return tuple(_sentences(found))


def level_of(found: Compared) -> str:
    """Return the tone of the page: "not shown" where B is worse, "mixed" where it may be, else "shown"."""
    recalls = found.recalls
    worse = []
    if recalls is not None:
        worse = [recalls.recall.said] + [one.recall.said for one in recalls.classes]
        if recalls.accuracy is not None:
            worse.append(recalls.accuracy.said)
    new = [one for one in found.looks or () if one.suspicious[1] and not one.suspicious[0]]
    if "lower" in worse or any(one.share.differs for one in new):
        return "not shown"
    return "mixed" if new else "shown"


def _sentences(found: Compared) -> Iterator[str]:
    recalls = found.recalls
    if recalls is None:
        yield "Recalls are not compared: one of the runs has looked at no test image."
    else:
        yield _of_recall(recalls)
        yield _of_classes(recalls)
    if found.looks is None:
        yield "What the networks look at is not compared: one of the runs was not searched for shortcuts."
    else:
        yield _of_looks(found)
    if found.channels is None:
        yield "Channels are not compared: no way named those of a class in both runs."
    else:
        yield _of_channels(found.channels.ways[0], found.channels.why)


def _of_recall(recalls: Recalls) -> str:
    what = "Accuracy"
    change = recalls.accuracy
    if change is None:
        what = "Mean recall"
        change = recalls.recall
    n = recalls.images
    of = f"the same {n[0]:,} test images" if recalls.paired else f"{n[0]:,} test images in A and {n[1]:,} in B"
    ends = span((100 * change.low, 100 * change.high), 1)
    said = f"{what} on {of}: {percent(change.first)} in A, {percent(change.second)} in B"
    points = f"{signed(100 * change.change, 1)} points, 95 % interval {ends}"
    if change.differs:
        return f"{said}: B is {change.said} ({points})."
    return f"{said}: no difference beyond chance ({points})."


def _of_classes(recalls: Recalls) -> str:
    lower, higher = (
        [one.name for one in recalls_first(recalls.classes) if one.recall.said == said] for said in ("lower", "higher")
    )
    count = len(recalls.classes)
    if not count:
        return "No class has test images in both runs."
    if not lower and not higher:
        return f"No recall of {_classes_of(count)} differs beyond chance."
    parts = []
    for names, word in ((lower, "less"), (higher, "more")):
        if names:
            parts.append(f"{len(names)} {'is' if len(names) == 1 else 'are'} recognised {word} often ({_some(names)})")
    said = f"Of {_classes_of(count)} {' and '.join(parts)}"
    if len(lower) + len(higher) == count:
        return f"{said}."
    return f"{said}; the others do not differ beyond chance."


def _classes_of(count: int) -> str:
    return f"{count} class{'es' * (count != 1)}"


def _of_looks(found: Compared) -> str:
    looks = found.looks or ()
    said = []
    for verdict, word in (("suspicious in B alone", "New in B"), ("suspicious in A alone", "Gone in B")):
        for one in [one for one in looks_first(looks) if one.verdict == verdict][:_MOST_NAMED]:
            shares = f"share {number_text(one.share.first)} in A, {number_text(one.share.second)} in B"
            sure = "" if one.share.differs else "; the difference is not shown to be more than chance"
            said.append(f"{word}: “{one.name}” is suspicious for {one.part} ({shares}{sure}).")
    both = [one for one in looks if one.verdict == "suspicious in both"]
    if both:
        said.append(f"Suspicious in both: {_some([one.name for one in both])}.")
    moved = [one for one in looks if one.suspicious == (None, True)]
    if moved:
        said.append(f"Suspicious in both, most for another part: {_some([one.name for one in moved])}.")
    return " ".join(said) or "No class is suspicious in either run."


def _of_channels(way: WayChannels, why: str) -> str:
    if not way.classes:
        return why
    count = len(way.classes)
    gained, lost, kept = (sum(len(one.of(s)) for one in way.classes) / count for s in ("gained", "lost", "kept"))
    return f"Of the {_named(way.way)} it keeps {kept:.1f}, loses {lost:.1f} and gains {gained:.1f} on average. {why}"


def _named(way: str) -> str:
    return {RELIANCE: "channels a class relies on", MU_LASSO: "channels that predict a class"}[way]


def tables_of(found: Compared) -> tuple[Table, ...]:
    """Return all tables; one that would be empty is left out."""
    tables = [_overall(found)]
    if found.recalls is not None:
        tables.append(_classes(found.recalls))
    if found.looks is not None:
        tables.append(_looks(found))
    for number, way in enumerate(found.channels.ways if found.channels is not None else ()):
        tables.append(_gained(way))
        # The same contributions, whichever way named the channels.
        if number == 0:
            tables.append(_changed(way))
        tables.append(_layers(way))
    return tuple(table for table in tables if table.rows)


def _row(what: str, change: Change, *, shares: bool = True) -> tuple[str, ...]:
    if shares:
        return (what, percent(change.first), percent(change.second), *_difference(change))
    return (what, signed(change.first), signed(change.second), change.words(2), change.said)


def _difference(change: Change) -> tuple[str, str]:
    """Return a difference of shares in points, and what is said of it."""
    points = Change(
        100 * change.first, 100 * change.second, 100 * change.change, 100 * change.low, 100 * change.high, change.p
    )
    return points.words(1), change.said


def _overall(found: Compared) -> Table:
    rows = []
    recalls = found.recalls
    if recalls is not None:
        if recalls.accuracy is not None:
            rows.append(_row("accuracy", recalls.accuracy))
        rows.append(_row(f"mean recall of {_classes_of(len(recalls.classes))}", recalls.recall))
        if recalls.log_odds is not None:
            rows.append(_row("mean log-odds of an image's class", recalls.log_odds, shares=False))
        for one in recalls.removals:
            first, second = (f"{signed(100 * value, 1)} points" for value in (one.lost.first, one.lost.second))
            points, said = _difference(one.lost)
            said = {"lower": "loses more", "higher": "loses less"}.get(said, said)
            rows.append((f"change of own recall without the {_named(one.way)}", first, second, points, said))
            rows.append((f"verdict on the {_named(one.way)}", *one.verdicts, "", ""))
    if found.looks is not None:
        counts = [sum(one.suspicious[i] is True for one in found.looks) for i in (0, 1)]
        rows.append(("suspicious classes", str(counts[0]), str(counts[1]), signed(counts[1] - counts[0], 0), ""))
    for way in found.channels.ways if found.channels is not None else ():
        named = way.counts
        rows.append((_named(way.way), f"{named[0]:.1f}", f"{named[1]:.1f}", signed(named[1] - named[0], 1), ""))
    note = "Differences are B less A, of shares in points, with 95 % intervals"
    if recalls is not None:
        how = "over the same images, paired" if recalls.paired else "over two samples of images"
        note += f" {how}"
        if recalls.paired and recalls.removals:
            note += "; without channels over two samples"
    return Table("Overall", "what, #A, #B, #difference, ", tuple(rows), f"{note}. A verdict is of each run alone.")


def _classes(recalls: Recalls) -> Table:
    columns = "class, #images, #recall A, #recall B, #difference, "
    ways = list(dict.fromkeys(way for one in recalls.classes for way in one.verdicts))
    columns += "".join(f", verdict on the {_named(way)}" for way in ways)
    rows = tuple(_class(one, ways) for one in recalls_first(recalls.classes))
    return Table(
        "Recall of each class",
        columns,
        rows,
        "Intervals are of each class alone; what is said of them allows for the number of classes.",
    )


def _class(one: ClassRecall, ways: Sequence[str]) -> tuple[str, ...]:
    images = str(one.images[0]) if one.images[0] == one.images[1] else f"{one.images[0]}, {one.images[1]}"
    levels = [one.verdicts.get(way, ("", "")) for way in ways]
    verdicts = [first if first == second else f"{first} → {second}" for first, second in levels]
    recall = one.recall
    return (one.name, images, percent(recall.first), percent(recall.second), *_difference(recall), *verdicts)


def _looks(found: Compared) -> Table:
    rows = []
    for one in looks_first(found.looks or ()):
        share = one.share
        said = {"lower": "less", "higher": "more"}.get(share.said, share.said)
        shares = (number_text(share.first), number_text(share.second), share.words(2), said)
        rows.append((one.name, one.part, *shares, one.verdict))
    note = (
        "Share of what speaks for the class that follows the part. Suspicious: the whole interval beyond what is "
        "usual; of each class the most suspicious part is judged."
    )
    return Table(
        "What the networks look at", "class, part, #share A, #share B, #difference, , suspicion", tuple(rows), note
    )


def _gained(way: WayChannels) -> Table:
    rows = []
    for one in way.classes:
        gained, lost = one.of("gained"), one.of("lost")
        if gained or lost:
            cells = (one.name, str(len(one.of("kept"))), str(len(gained)), _listed(gained, 1), str(len(lost)))
            rows.append((*cells, _listed(lost, 0)))
    columns = (
        "class, #kept, #gained, the strongest with their weights in B, #lost, the strongest with their weights in A"
    )
    return Table(f"Channels gained and lost: {_named(way.way)}", columns, tuple(rows))


def _listed(channels: Sequence[ChannelChange], run: int) -> str:
    listed = ", ".join(f"{one.channel} {one.weights[run]:.3g}" for one in channels[:_MOST_CHANNELS])
    return listed + (", ..." if len(channels) > _MOST_CHANNELS else "")


def _changed(way: WayChannels) -> Table:
    found = [
        (abs(c.contribution.change), one.name, c)
        for one in way.classes
        for c in one.channels
        if c.contribution is not None and c.contribution.differs
    ]
    rows = []
    for _, name, c in sorted(found, key=lambda row: -row[0])[:_MOST_CHANGED]:
        change = c.contribution
        if change is not None:
            rows.append((name, str(c.channel), c.state, signed(change.first), signed(change.second), change.words(2)))
    note = (
        f"Mean contribution to the class's log-odds; the largest of {len(found)} differences beyond chance. A network "
        "that is surer of its answers has larger contributions throughout."
    )
    columns = "class, channel, , #contribution A, #contribution B, #difference"
    return Table(f"Contributions that changed: {_named(way.way)}", columns, tuple(rows), note)


def _layers(way: WayChannels) -> Table:
    first, second = way.layers
    title = f"Layers: {_named(way.way)}"
    note = "Share of a class's weights, mean over classes; channels named for a class, on average."
    aside = bool(way.classes)
    if [(one.layer, one.channels) for one in first] == [(one.layer, one.channels) for one in second]:
        rows = tuple(
            (a.layer, str(a.channels), percent(a.share), percent(b.share), f"{a.named:.1f}", f"{b.named:.1f}")
            for a, b in zip(first, second, strict=True)
        )
        return Table(title, "layer, #channels, #share A, #share B, #named A, #named B", rows, note, aside)
    both = [("A", one) for one in first] + [("B", one) for one in second]
    apart = tuple((r, one.layer, str(one.channels), percent(one.share), f"{one.named:.1f}") for r, one in both)
    return Table(title, "run, layer, #channels, #share, #named", apart, note, aside)


def _some(names: Sequence[str]) -> str:
    listed = ", ".join(f"“{name}”" for name in names[:_MOST_NAMED])
    return f"{listed} and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else listed


def write_comparison(path: Path, found: Compared) -> None:
    """Write the page of a comparison, atomically."""
    a, b = found.pair.runs
    write_page(
        path,
        "compare.html.j2",
        title=f"{a.folder.name} and {b.folder.name}",
        runs=[(letter, str(run.folder), run_words(run)) for letter, run in (("A", a), ("B", b))],
        sentences=headline(found),
        level=level_of(found),
        tables=tables_of(found),
        notes=found.pair.notes,
        most=MOST_ROWS,
        version=interpnet.__version__,
    )
