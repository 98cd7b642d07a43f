"""The report's content as plain values: what the templates show and the tables hold; NaN stands for unknown."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from interpnet.ablation import AblationResult, by_class, find_condition, others_change
from interpnet.reliance import ENDS

from ..run.config import CONTROLS, FEWEST_IMAGES, MU_LASSO, RELIANCE
from .channels import ChannelRow, Limits, agreement, channel_rows
from .load import RunData, clean, reading
from .numbers import NAN, number, number_text, signed
from .pictures import Pictures
from .verdict import Verdict

_EXAMPLE_SIZE = 192  # pixels
# Of a label that an image has or lacks, and is given or not.
_KINDS = {(True, True): "hit", (True, False): "miss", (False, True): "false alarm", (False, False): "rightly not given"}
METHODS = {
    "interpnet": "InterpNet: combined map",
    "interpnet-reliance": "InterpNet: combined map, by reliance",
    "gradient": "Gradient",
    "guided": "Guided backprop",
    "gradcam": "Grad-CAM",
    "deconvnet": "DeconvNet",
    "gradcam++": "Grad-CAM++",
    "edge": "Edges",
    "random": "Random",
    "center": "Centre",
}


@dataclass(frozen=True)
class Shot:
    """One picture with its caption."""

    title: str
    caption: str
    source: str | None  # a data URI; None where the file is missing
    blank: bool = False  # a map of zeros


@dataclass(frozen=True)
class ExampleView:
    """One explained image."""

    number: int
    name: str
    dataset_index: int | None
    true: str | None
    predicted: str
    explained: str
    explained_index: int
    true_index: int | None
    correct: bool | None  # None where the label is not known
    kind: str  # of an image that can have several labels: hit, miss or false alarm; else empty
    confidence: float
    image: Shot
    heatmaps: tuple[Shot, ...]  # one per channel, and the combined map
    baselines: tuple[Shot, ...]  # maps of other methods
    controls: tuple[Shot, ...]
    note: str
    pictured: bool  # whether it is within the page's limit

    def stands_with(self, shown: Collection[int]) -> int:
        """Return the class it stands with: a mistake with the one it is taken for, or its own where only that is shown.

        -1 where neither is.
        """
        for index in (self.explained_index, self.true_index):
            if index in shown and index is not None:
                return index
        return -1


@dataclass(frozen=True)
class Removal:
    """What removing the channels that one way names does to a class; NaN where it is not known."""

    after: float = NAN  # the class's recall without them
    precision: float = NAN  # likewise, where an image can have several labels
    random: float = NAN  # without as many random channels
    others: float = NAN  # change of the other classes' recall
    log_odds: float = NAN  # change of the class's log-odds
    log_odds_ends: tuple[float, float] = (NAN, NAN)  # its interval over images
    others_log_odds: float = NAN
    level: str = ""  # of the verdict on the class; empty where there is none
    sentence: str = ""


@dataclass(frozen=True)
class Taken:
    """What removing the channels that a class relies on takes from its training images' log-odds."""

    intact: float
    left: float
    end: str  # why no more channels are named, in words


@dataclass(frozen=True)
class ClassView:
    """One class."""

    index: int
    name: str
    n_train: int | None
    n_test: int | None
    recall: float  # of the intact network
    precision: float  # likewise, where an image can have several labels
    log_odds: float  # likewise, the mean over its test images
    gap: float  # relative duality gap of the solution; docs/method.md, section 2
    counts: Mapping[str, int]  # channels named, by the way to name them
    removals: Mapping[str, Removal]  # of the channels that each way names, the leading one first
    taken: Taken | None  # by removing the channels relied on, where that was measured
    agreement: tuple[int, int, int] | None  # channels named by both ways, by reliance only, by weights only
    channels: tuple[ChannelRow, ...]
    examples: tuple[ExampleView, ...]

    @property
    def empty(self) -> bool:
        """Whether the run knows nothing of the class: no image, no channel named for it, no image explained for it."""
        return self.n_train == 0 and not self.n_test and not any(self.counts.values()) and not self.examples

    @property
    def first(self) -> Removal:
        """The removal of the channels that lead."""
        return next(iter(self.removals.values()), Removal())

    @property
    def drop(self) -> float:
        """Own recall lost without them."""
        return self.recall - self.first.after

    @property
    def few(self) -> bool:
        """Whether the class has so few training images that weights name noise."""
        return self.n_train is not None and 0 < self.n_train < FEWEST_IMAGES

    @property
    def n_unused(self) -> int:
        """How many channels predict the class and are not used for it."""
        return sum(row.unused for row in self.channels)

    @property
    def n_seldom(self) -> int | None:
        """How many of the channels fewer than 0.6 of the half samples name; None where that was not measured."""
        known = [row.seldom for row in self.channels if not math.isnan(row.frequency)]
        return sum(known) if known else None


def example_views(run: RunData, pictures: Pictures, limits: Limits) -> list[ExampleView]:
    """Return the explained images; those past the limit come without pictures."""
    if run.examples is None:
        return []
    path = run.folder / "explanations" / "examples.json"
    with reading(path, "explain", run.folder):
        entries = run.examples["examples"]
        if run.only is not None:
            entries = [entry for entry in entries if {entry["explained"], entry["true"]} & set(run.only)]
        return [
            example_view(n, entry, run, pictures, shown=n < limits.examples, how=run.examples)
            for n, entry in enumerate(entries)
        ]


def example_view(
    n: int, entry: Mapping[str, Any], run: RunData, pictures: Pictures, *, shown: bool, how: Mapping[str, Any]
) -> ExampleView:
    """Return one explained image; ``how`` says how the images beside it were explained."""

    def picture(name: Any) -> str | None:
        if not shown or not name:
            return None
        return pictures.embed(str(name), _EXAMPLE_SIZE)

    heatmaps = [
        Shot(
            title=f"{clean(channel['layer'])}[{int(channel['index'])}]",
            caption=said_of(how, channel["response"]),
            source=picture(channel["heatmap"]),
            blank=bool(channel["blank"]),
        )
        for channel in entry["channels"]
    ]
    if entry.get("combined"):
        heatmaps.append(Shot("combined", "of these channels", picture(entry["combined"])))
    blank = entry.get("blank", ())
    others = {
        method: Shot(METHODS.get(method, clean(method)), "", picture(name), method in blank)
        for method, name in entry["baselines"].items()
    }
    true = None
    correct = None
    kind = ""
    predicted = class_name(run, entry["predicted"])
    if "labels" in entry:
        true = ", ".join(class_name(run, label) for label in entry["labels"]) or "none"
        has = entry["explained"] in entry["labels"]
        correct = has == entry["given"]
        kind = _KINDS[has, bool(entry["given"])]
        predicted = {True: class_name(run, entry["explained"]), False: "not given"}[bool(entry["given"])]
    if entry["true"] is not None:
        true = class_name(run, entry["true"])
        correct = int(entry["true"]) == int(entry["predicted"])
    return ExampleView(
        number=n,
        name=clean(entry["name"]),
        dataset_index=entry.get("dataset_index"),
        true=true,
        predicted=predicted,
        explained=class_name(run, entry["explained"]),
        explained_index=int(entry["explained"]),
        true_index=entry["true"],
        correct=correct,
        kind=kind,
        confidence=number(entry["confidence"]),
        image=Shot("", "", picture(entry["image"])),
        heatmaps=tuple(heatmaps),
        baselines=tuple(shot for method, shot in others.items() if method not in CONTROLS),
        controls=tuple(shot for method, shot in others.items() if method in CONTROLS),
        note=clean(entry.get("note") or ""),
        pictured=shown,
    )


def said_of(examples: Mapping[str, Any] | None, value: Any) -> str:
    """Say how much a channel has to do with an image: what it contributes to the log-odds, or its response."""
    if chosen_by(examples) == "weight":
        return f"weight × score {number_text(value, 3)}"
    return f"contributes {signed(number(value), 2)}"


def chosen_by(examples: Mapping[str, Any] | None) -> str:
    """Return by what the channels of explained images were chosen: by weight times score, or by contribution."""
    examples = examples or {}
    default = "contribution" if examples.get("by", MU_LASSO) == RELIANCE else "weight"
    return str(examples.get("choose") or default)


def class_name(run: RunData, index: Any) -> str:
    """Return the name of a class; a number without one stands for itself."""
    if 0 <= int(index) < len(run.classes):
        return run.classes[int(index)]
    return f"class {int(index)}"


def class_views(
    run: RunData,
    pictures: Pictures,
    examples: Sequence[ExampleView],
    limits: Limits,
    verdicts: Mapping[str, Verdict] = MappingProxyType({}),
) -> list[ClassView]:
    """Return all classes with their channels and the examples explained for them."""
    removals = {way: removals_of(study, run.shown, verdicts.get(way)) for way, study in run.studies.items()}
    by_class: dict[int, list[ExampleView]] = {}
    for example in examples:
        by_class.setdefault(example.stands_with(run.shown), []).append(example)
    views = []
    for c in run.shown:
        channels = channel_rows(run, c, pictures, limits)
        entry = run.picture_entry(c)
        n_test = None
        recall = NAN
        precision = NAN
        if run.study is not None and run.study.precision is not None:
            precision = float(run.study.precision[c])
        if run.study is not None:
            n_test = int(run.study.support[c])
            recall = float(run.study.intact[c])
        gap = NAN
        if run.weights is not None and len(run.weights.gaps):
            gap = float(run.weights.gaps[c])
        counts = {RELIANCE: entry.get("n_reliance"), MU_LASSO: entry.get("n_relevant")}
        counts |= {way: int(found.counts[c]) for way, found in run.named.items()}
        view = ClassView(
            index=c,
            name=run.classes[c],
            n_train=_n_train(run, c),
            n_test=n_test,
            recall=recall,
            precision=precision,
            log_odds=_log_odds(run.study, c),
            gap=gap,
            counts={way: count for way, count in counts.items() if count is not None},
            removals={way: made[c] for way, made in removals.items()},
            taken=_taken(run, c),
            agreement=agreement(run, c),
            channels=channels,
            examples=tuple(by_class.get(c, ())),
        )
        views.append(view)
    return views


def _n_train(run: RunData, c: int) -> int | None:
    """Return how many training images a class has, as far as the run says."""
    known: int | None = run.picture_entry(c).get("n_train")
    return known


def _taken(run: RunData, c: int) -> Taken | None:
    """Return what the reliance stage measured of a class; None where it was not measured, or of no image."""
    info = {} if run.relied is None else run.relied.info
    if "ends" not in info or info["log_odds"][c] is None:
        return None
    with reading(run.folder / "weights" / "reliance.npz", "solve", run.folder):
        return Taken(number(info["log_odds"][c]), number(info["log_odds_left"][c]), ENDS[info["ends"][c]])


def _log_odds(study: AblationResult | None, c: int) -> float:
    if study is None or study.log_odds is None:
        return NAN
    return float(study.log_odds[c])


def removals_of(study: AblationResult, classes: Sequence[int], found: Verdict | None = None) -> dict[int, Removal]:
    """Return what removing the named channels does to some classes, with the study's verdict on it."""
    relevant = find_condition(study, "relevant") or find_condition(study, "relevant", "conv")
    if relevant is None:
        return {c: Removal() for c in classes}
    control = find_condition(study, "random", relevant.layers)
    after = by_class(relevant.own)
    others = by_class(others_change(study, relevant))
    random = np.full(len(study.classes), NAN)
    if control is not None:
        random = by_class(control.own)
    precision = study.precision_removed
    # It is known of all layers only.
    if precision is None or relevant.layers != "all":
        precision = np.full(len(study.classes), NAN)
    odds = relevant.changes.get("log_odds")
    removals = {}
    for c in classes:
        removal = Removal(float(after[c]), float(precision[c]), float(random[c]), float(others[c]))
        if odds is not None:
            own = odds.own.of(c)
            removal = replace(
                removal,
                log_odds=own.overall(),
                log_odds_ends=own.interval(),
                others_log_odds=float(odds.by_removed.mean[c]),
            )
        if found is not None and found.classes:
            removal = replace(removal, level=found.classes[c].level, sentence=clean(found.classes[c].sentence))
        removals[c] = removal
    return removals
