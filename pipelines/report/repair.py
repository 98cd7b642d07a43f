"""A repair in words, numbers and pictures: what the terminal shows of it, and ``repair/report.html``; files alone."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import interpnet
from interpnet.errors import RunFolderError

from ..run.manifest import read_manifest
from ..run.repair import AUDIT_FILE, PAGE, REPAIR_FILE, WEIGHTS_FILE, load_repair
from .audited import title
from .load import RunData, clean, reading
from .numbers import NAN, number, percent, signed
from .odds import probability
from .page import write_page
from .pictures import Pictures
from .shortcuts import part_words

_SIZE = 192  # pixels
#: Past this many classes their table is folded.
_MANY = 24
#: What was done, by the way that was taken.
WAYS = {
    "ridge": "the last layer was fitted again, in closed form",
    "logistic": "the last layer was fitted again to the labels",
    "projection": "the directions of the part were taken out of the last layer",
    "training": "the whole network was trained on",
    "exchanged": "the whole network was trained on images with another's part",
}
_STRENGTHS = {"projection": "directions: {:.0f}", "training": "learning rate {:g}", "exchanged": "learning rate {:g}"}


@dataclass(frozen=True)
class Row:
    """A figure before and after, and of the control; NaN where it is not known."""

    what: str
    values: tuple[float, float, float]


@dataclass(frozen=True)
class ClassRow:
    """The recall of a class, before and after."""

    name: str
    n: int  # images held out
    part: str  # what it was found to go by; empty where it is not suspicious
    clean: tuple[float, float]
    exchanged: tuple[float, float]


@dataclass(frozen=True)
class Tried:
    """A way with one strength: changes of accuracy, and what became of it."""

    how: str
    strength: str
    clean: float
    exchanged: float
    why: str
    taken: bool


@dataclass(frozen=True)
class Moved:
    """A picture with what both networks take it for."""

    title: str
    source: str | None  # a data URI; None where the file is missing
    said: tuple[tuple[str, str], ...]  # when, and the class with the probability of the suspicious one


@dataclass(frozen=True)
class Pairs:
    """Images of other classes, as they are and with the part of a suspicious class."""

    index: int
    name: str
    part: str
    pairs: tuple[tuple[Moved, Moved], ...]


@dataclass(frozen=True)
class RepairView:
    """What a repair came to."""

    accepted: bool
    headline: str
    way: str  # what was done; empty where nothing was accepted
    reading: str  # how the figures were measured
    rows: tuple[Row, ...]
    classes: tuple[ClassRow, ...]
    tried: tuple[Tried, ...]
    best: tuple[Tried, ...]  # of each way the strength that gains most
    without: tuple[tuple[str, str], ...]  # ways that were not tried, and why
    advice: tuple[str, ...]  # what else can be tried
    suspicious: str  # the classes with their parts


def repair_view(facts: Mapping[str, Any]) -> RepairView:
    """Put what ``repair.json`` holds of a repair that was tried into words; ``RunFolderError`` where it lacks some."""
    accepted = bool(facts["accepted"])
    before = facts["before"]
    after = facts["after"]
    tried = tuple(_tried(one) for one in facts["candidates"])
    used = facts["images"]
    whose = {
        "test": "test images held out (the others chose the repair)",
        "train": "training images held out",
    }[used["held"]]
    said = f"Measured on {before['n']:,} {whose}, fitted on {used['train']:,} training images."
    if accepted:
        said += " Control: the same repair with parts of images of the same class, which tell nothing new."
    return RepairView(
        accepted=accepted,
        headline=_headline(facts),
        way=_way(facts) if accepted else "",
        reading=said,
        rows=_rows(facts),
        classes=_classes(facts, before, after),
        tried=tried,
        best=_best(tried),
        without=tuple((how, clean(why)) for how, why in facts["without"].items()),
        advice=() if accepted else _advice(facts),
        suspicious=", ".join(f"“{clean(one['name'])}” by {part_words(one['part'])}" for one in facts["suspicious"]),
    )


def repair_view_of(run: RunData) -> RepairView | None:
    """Put a run's repair into words; ``None`` where none was tried."""
    if run.repair is None or not run.repair.get("suspicious"):
        return None
    with reading(run.folder / REPAIR_FILE, "repair", run.folder):
        return repair_view(run.repair)


def _headline(facts: Mapping[str, Any]) -> str:
    before = facts["before"]
    after = facts["after"]
    if not facts["accepted"]:
        why = clean(facts["why"]).removeprefix("nothing was accepted; ")
        return (
            f"Nothing was accepted. With the suspicious part of another image {percent(before['exchanged'])} of the "
            f"images are recognised, as they are {percent(before['clean'])}. {why[:1].upper()}{why[1:]}."
        )
    return (
        f"With the suspicious part of another image {percent(after['exchanged'])} of the images are recognised, "
        f"{percent(before['exchanged'])} before and {percent(facts['control']['exchanged'])} after the control; as "
        f"they are {percent(after['clean'])}, {percent(before['clean'])} before."
    )


def _way(facts: Mapping[str, Any]) -> str:
    how = facts["how"]
    strength = facts["strength"]
    return f"What was done: {WAYS[how]} (--how {how}, {_strength(how, strength)})."


def _strength(how: str, value: float) -> str:
    return _STRENGTHS.get(how, "pull to the old weights {:g}").format(value)


def _rows(facts: Mapping[str, Any]) -> tuple[Row, ...]:
    figures = [facts["before"], facts["after"], facts["control"]]

    def of(name: str) -> tuple[float, float, float]:
        first, second, third = (NAN if one is None else _lowest(one[name]) for one in figures)
        return first, second, third

    rows = [
        Row("accuracy as they are", of("clean")),
        Row("accuracy with exchanged parts", of("exchanged")),
        Row("lowest recall of a class, with exchanged parts", of("recall_exchanged")),
    ]
    for name, (before, after) in (facts.get("groups") or {}).items():
        verb = {"agree": "agrees", "disagree": "disagrees"}.get(name, name)
        rows.append(Row(f"drawn scenes whose planted cue {verb}", (number(before), number(after), NAN)))
    return tuple(rows)


def _lowest(value: Any) -> float:
    """Return a number of a file, and the lowest of several."""
    if isinstance(value, list):
        return min((float(v) for v in value if v is not None), default=NAN)
    return number(value)


def _classes(facts: Mapping[str, Any], before: Any, after: Any) -> tuple[ClassRow, ...]:
    parts = {one["index"]: part_words(one["part"]) for one in facts["suspicious"]}
    rows = []
    for index, name in enumerate(facts["classes"]):
        # Of a network with many outputs most have no image.
        if not before["counts"][index]:
            continue
        pairs = {key: (number(before[key][index]), number(after[key][index])) for key in ("recall", "recall_exchanged")}
        part = parts.get(index, "")
        rows.append(ClassRow(clean(name), before["counts"][index], part, pairs["recall"], pairs["recall_exchanged"]))
    return tuple(rows)


def _tried(one: Mapping[str, Any]) -> Tried:
    kept, gained = one["held"] or (one["clean"], one["exchanged"])
    why = clean(one["why"])
    return Tried(one["how"], _strength(one["how"], one["strength"]), kept, gained, why, why == "taken")


def _best(tried: Sequence[Tried]) -> tuple[Tried, ...]:
    """Return of each way the strength that gains most."""
    best: dict[str, Tried] = {}
    for one in tried:
        if one.how not in best or one.exchanged > best[one.how].exchanged:
            best[one.how] = one
    return tuple(best.values())


def _advice(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what can be tried where nothing was accepted."""
    advice = []
    dear = [one for one in map(_tried, facts["candidates"]) if one.clean < 0 < one.exchanged and "costs" in one.why]
    if dear:
        one = max(dear, key=lambda one: one.clean)
        bound = math.ceil(-1000 * one.clean - 1e-6) / 1000
        advice.append(
            f"A bound of {percent(bound)} (--max-clean-loss {bound:g}) would leave {one.how} with {one.strength}, "
            f"which changes the accuracy with exchanged parts by {signed(100 * one.exchanged, 1)} points."
        )
        if facts["clean"] == "all":
            advice.append(
                "Where nearly every image has the cue, a network without it must be right less often on images as they "
                "are: --clean unmoved holds the bound against those images alone that do not need the part."
            )
    if facts["settings"]["how"] != "auto":
        advice.append("--how auto tries the other ways, too.")
    elif "training" in facts["without"]:
        advice.append("The whole network can be trained on (--how training), which takes longest.")
    if facts["images"]["train"] >= facts["settings"]["max_images"]:
        advice.append(f"More images decide more: {facts['images']['train']:,} were used (--max-images).")
    return tuple(advice)


def build_repair_report(folder: Path) -> Path:
    """Write ``repair/report.html`` in a run folder from ``repair.json`` and the pictures beside it; return its path.

    ``RunFolderError`` where no repair was tried, or a file of it is damaged.
    """
    manifest = read_manifest(folder)
    file = folder / REPAIR_FILE
    with reading(file, "repair", folder):
        facts = load_repair(folder)
        if facts is None or not facts.get("suspicious"):
            raise RunFolderError(f"{str(folder)!r} has no repair to show; run `interpnet repair {folder}` first")
        view = repair_view(facts)
        pictures = Pictures(file.parent)
        shown = tuple(_pairs(facts, one, pictures) for one in facts["suspicious"])
    run = RunData(folder, manifest, tuple(map(clean, facts["classes"])))
    notes = list((manifest["stages"].get("repair") or {}).get("notes") or ())
    if pictures.missing:
        notes.append(f"{len(pictures.missing)} pictures are missing or damaged.")
    write_page(
        folder / PAGE,
        "repair.html.j2",
        title=title(run),
        view=view,
        shown=[one for one in shown if one.pairs],
        settings=facts["settings"],
        notes=[clean(note) for note in notes],
        many=len(view.classes) > _MANY,
        version=interpnet.__version__,
        audit=f"interpnet audit --config {shlex.quote(str(folder / AUDIT_FILE))} --out runs/NAME",
        command=f"interpnet repair {shlex.quote(str(folder))}",
        weights=Path(WEIGHTS_FILE).name,
        model=clean(run.entry("model").get("spec") or "MODEL"),
    )
    return folder / PAGE


def _pairs(facts: Mapping[str, Any], one: Mapping[str, Any], pictures: Pictures) -> Pairs:
    """Return the examples of a suspicious class."""
    classes = [clean(name) for name in facts["classes"]]
    index = one["index"]

    def moved(example: Mapping[str, Any], at: int, what: str) -> Moved:
        said = []
        for when, word in (("before", "before"), ("after", "repaired")):
            taken = classes[example[when]["taken"][at]]
            said.append((word, f"{taken} ({classes[index]} {probability(example[when]['odds'][at])})"))
        return Moved(what, pictures.embed(example["pictures"][at], _SIZE), tuple(said))

    pairs = tuple(
        (moved(example, 0, "the image"), moved(example, 1, "with the part"))
        for example in facts.get("examples") or ()
        if example["class"] == index
    )
    return Pairs(index, classes[index], part_words(one["part"]), pairs)
