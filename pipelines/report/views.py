"""The report's content as plain values: what the templates show and the tables hold; NaN stands for unknown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interpnet.ablation import AblationResult, by_class, find_condition, others_change
from interpnet.support.types import Float64

from ..run.config import CONTROLS
from ..run.selection import seldom
from .load import RunData, clean, reading
from .numbers import NAN, number, number_text
from .pictures import Pictures

_PATCHES = 9  # in a row of the table, as the style sheet has room for
_EXAMPLE_SIZE = 192  # pixels, as all sizes
_MEAN_SIZE = 96
_STRIP_SIZES = (64, 48)
METHODS = {
    "interpnet": "InterpNet: combined map",
    "gradient": "Gradient",
    "guided": "Guided backprop",
    "gradcam": "Grad-CAM",
    "deconvnet": "DeconvNet",
    "gradcam++": "Grad-CAM++",
    "edge": "Edges",
    "random": "Random",
    "center": "Centre",
}
_WORTH_SAYING = 0.05  # of a heatmap
REGIONS = {"petals": "petals", "stem": "stem", "plant": "plant", "background": "outside", "shortcut": "planted cue"}


@dataclass(frozen=True)
class ChannelRow:
    """One relevant channel of one class."""

    rank: int
    layer: str
    index: int
    family: str
    weight: float
    share: float  # of the class's largest weight
    frequency: float  # the share of half samples that name it
    own: float  # change of the class's recall when it alone is removed
    others: float  # change of the other classes' recall
    count: int | None  # images averaged in its picture
    field: tuple[int, ...]  # the sides of its receptive field
    whole_image: bool
    mean: str | None  # pictures are data URIs; None where there is none
    patches: str | None
    n_patches: int
    regions: tuple[tuple[str, float], ...]  # the share of its heatmap in each
    surroundings: float  # the surroundings' share of what the class does to it

    @property
    def label(self) -> str:
        """``layer[index]``."""
        return f"{self.layer}[{self.index}]"

    @property
    def seldom(self) -> bool:
        """Whether other images would often have named another channel."""
        return seldom(self.frequency)


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
    correct: bool | None  # None where the label is not known
    confidence: float
    image: Shot
    heatmaps: tuple[Shot, ...]  # one per channel, and the combined map
    baselines: tuple[Shot, ...]  # maps of other methods
    controls: tuple[Shot, ...]
    note: str
    pictured: bool  # whether it is within the page's limit


@dataclass(frozen=True)
class ClassView:
    """One class."""

    index: int
    name: str
    n_train: int | None
    n_test: int | None
    recall: float  # of the intact network
    after: float  # without the relevant channels
    random: float  # without as many random channels
    others: float  # change of the other classes' recall without the relevant channels
    n_relevant: int | None
    gap: float  # relative duality gap of the solution; docs/method.md, section 2
    channels: tuple[ChannelRow, ...]
    examples: tuple[ExampleView, ...]

    @property
    def drop(self) -> float:
        """Own recall lost without the relevant channels."""
        return self.recall - self.after

    @property
    def n_seldom(self) -> int | None:
        """How many of the channels fewer than 0.6 of the half samples name; None where that was not measured."""
        known = [row.seldom for row in self.channels if not math.isnan(row.frequency)]
        return sum(known) if known else None


@dataclass(frozen=True)
class Limits:
    """How many pictures a page takes before it says that the rest lies beside it."""

    channels: int = 1200
    examples: int = 120

    def per_class(self, run: RunData) -> int | None:
        """Return the number of channels of each class that have pictures; ``None`` where all have."""
        if self._pictured(run) <= self.channels:
            return None
        return max(1, self.channels // max(1, len(run.classes)))

    def strip_size(self, run: RunData) -> int:
        """Return the side of a patch in pixels, smaller where there are many."""
        large, small = _STRIP_SIZES
        return large if self._pictured(run) <= self.channels // 4 else small

    def _pictured(self, run: RunData) -> int:
        return sum(len(entry.get("channels", ())) for entry in (run.pictures or {}).values())


def example_views(run: RunData, pictures: Pictures, limits: Limits) -> list[ExampleView]:
    """Return the explained images; those past the limit come without pictures."""
    if run.examples is None:
        return []
    path = run.folder / "explanations" / "examples.json"
    with reading(path, "explain", run.folder):
        return [
            _example(n, entry, run, pictures, shown=n < limits.examples)
            for n, entry in enumerate(run.examples["examples"])
        ]


def _example(n: int, entry: Mapping[str, Any], run: RunData, pictures: Pictures, *, shown: bool) -> ExampleView:
    def picture(name: Any) -> str | None:
        if not shown or not name:
            return None
        return pictures.embed(str(name), _EXAMPLE_SIZE)

    heatmaps = [
        Shot(
            title=f"{clean(channel['layer'])}[{int(channel['index'])}]",
            caption=f"response {number_text(channel['response'], 3)}",
            source=picture(channel["heatmap"]),
            blank=bool(channel["blank"]),
        )
        for channel in entry["channels"]
    ]
    if entry.get("combined"):
        heatmaps.append(Shot("combined", "pixel maximum", picture(entry["combined"])))
    blank = entry.get("blank", ())
    others = {
        method: Shot(METHODS.get(method, clean(method)), "", picture(name), method in blank)
        for method, name in entry["baselines"].items()
    }
    true = None
    correct = None
    if entry["true"] is not None:
        true = class_name(run, entry["true"])
        correct = int(entry["true"]) == int(entry["predicted"])
    return ExampleView(
        number=n,
        name=clean(entry["name"]),
        dataset_index=entry.get("dataset_index"),
        true=true,
        predicted=class_name(run, entry["predicted"]),
        explained=class_name(run, entry["explained"]),
        explained_index=int(entry["explained"]),
        correct=correct,
        confidence=number(entry["confidence"]),
        image=Shot("", "", picture(entry["image"])),
        heatmaps=tuple(heatmaps),
        baselines=tuple(shot for method, shot in others.items() if method not in CONTROLS),
        controls=tuple(shot for method, shot in others.items() if method in CONTROLS),
        note=clean(entry.get("note") or ""),
        pictured=shown,
    )


def class_name(run: RunData, index: Any) -> str:
    """Return the name of a class; a number without one stands for itself."""
    if 0 <= int(index) < len(run.classes):
        return run.classes[int(index)]
    return f"class {int(index)}"


def class_views(run: RunData, pictures: Pictures, examples: Sequence[ExampleView], limits: Limits) -> list[ClassView]:
    """Return all classes with their channels and the examples explained for them."""
    recalls = _recalls(run.study, len(run.classes))
    by_explained: dict[int, list[ExampleView]] = {}  # a mistake stands with the class it is taken for
    for example in examples:
        by_explained.setdefault(example.explained_index, []).append(example)
    views = []
    for c, name in enumerate(run.classes):
        channels = _channel_rows(run, c, pictures, limits)
        entry = run.picture_entry(c)
        n_test = None
        n_relevant = entry.get("n_relevant")
        gap = NAN
        if run.study is not None:
            n_test = int(run.study.support[c])
        if run.weights is not None:
            n_relevant = entry.get("n_relevant", len(channels))
            gap = float(run.weights.gaps[c])
        view = ClassView(
            index=c,
            name=name,
            n_train=entry.get("n_train"),
            n_test=n_test,
            **{what: float(values[c]) for what, values in recalls.items()},
            n_relevant=n_relevant,
            gap=gap,
            channels=channels,
            examples=tuple(by_explained.get(c, ())),
        )
        views.append(view)
    return views


def _recalls(study: AblationResult | None, n_classes: int) -> dict[str, Float64]:
    """Return each class's recalls (C,): intact, without its channels, without random ones; and the others' change."""
    unknown = np.full(n_classes, NAN)
    recalls = dict.fromkeys(("recall", "after", "random", "others"), unknown)
    if study is None:
        return recalls
    recalls["recall"] = study.intact
    relevant = find_condition(study, "relevant") or find_condition(study, "relevant", "conv")
    if relevant is not None:
        recalls["after"] = by_class(relevant.own)
        recalls["others"] = by_class(others_change(study, relevant))
        control = find_condition(study, "random", relevant.layers)
        if control is not None:
            recalls["random"] = by_class(control.own)
    return recalls


def _channel_rows(run: RunData, cls: int, pictures: Pictures, limits: Limits) -> tuple[ChannelRow, ...]:
    """Join the weights with what is known of each channel: its effect alone, and its pictures."""
    with reading(run.folder / "explanations" / "classes.json", "explain", run.folder):
        entries = run.picture_entry(cls).get("channels", ())
        shown = {(clean(entry["layer"]), int(entry["index"])): entry for entry in entries}
        weighted = [(*place, float(entry["weight"])) for place, entry in shown.items()]
        if run.weights is not None:
            weighted = [(channel.layer, channel.index, weight) for channel, weight in run.weights.relevant(cls)]
        often = [NAN] * len(weighted)
        if run.frequencies is not None and run.weights is not None:
            often = [float(run.frequencies.frequency[cls, column]) for column in run.weights.columns(cls)]
        effects = _effects(run, cls, shown)
        strongest = max((abs(weight) for _, _, weight in weighted), default=1.0)
        most = limits.per_class(run) or len(weighted)
        rows = []
        for rank, (layer, index, weight) in enumerate(weighted):
            entry = shown.get((layer, index), {})
            own, others = effects.get((layer, index), (NAN, NAN))
            mean = None
            strip = None
            patches = []
            if entry and rank < most:
                patches = entry["patches"][:_PATCHES]
                mean = pictures.embed(entry["mean"], _MEAN_SIZE)
                strip = pictures.strip(patches, limits.strip_size(run), _PATCHES)
            row = ChannelRow(
                rank=rank + 1,
                layer=layer,
                index=index,
                family=clean(entry.get("family", "")),
                weight=weight,
                share=abs(weight) / strongest,
                frequency=often[rank],
                own=own,
                others=others,
                count=entry.get("count"),
                field=tuple(map(int, entry.get("field", ()))),
                whole_image=bool(entry.get("whole_image")),
                mean=mean,
                patches=strip,
                n_patches=len(patches),
                regions=_regions(run, cls, layer, index),
                surroundings=surroundings_share(run, cls, layer, index),
            )
            rows.append(row)
        return tuple(rows)


def _effects(run: RunData, cls: int, shown: Mapping[tuple[str, int], Any]) -> dict[tuple[str, int], Any]:
    """Return the changes of (own, others') recall by channel; the study itself knows better than what was pictured."""
    effects = {}
    for place, entry in shown.items():
        effect = entry.get("effect")
        if effect:
            effects[place] = (-number(effect["own"]), number(effect["others"]))
    if run.study is not None:
        for single in run.study.single.get(cls, []):
            place = (clean(single.channel.layer), single.channel.index)
            effects[place] = (-single.own_drop, single.others_change)
    return effects


def _regions(run: RunData, cls: int, layer: str, index: int) -> tuple[tuple[str, float], ...]:
    """Return (region, share of the channel's heatmap) for the regions a reader wants, NaN where it is silent."""
    if run.places is None:
        return ()
    shares = run.places.shares.get((cls, layer, index), {})
    names = [name for name in REGIONS if name in shares] or list(shares)
    # Most plants' classes do not differ in the stem, and nothing is there.
    names = [name for name in names if name != "stem" or shares[name] >= _WORTH_SAYING]
    return tuple((REGIONS.get(name, name), shares[name]) for name in names)


def surroundings_share(run: RunData, cls: int, layer: str, index: int) -> float:
    """Return the surroundings' share of what the class does to a channel, by the mask where there is one."""
    way = run.swapped.get("mask") or run.swapped.get("middle")
    return NAN if way is None else way.channels.get((cls, layer, index), NAN)


def swap_rows(run: RunData) -> list[dict[str, Any]]:
    """Return the rows of the table of swapped surroundings: each class, the most suspicious first."""
    shares: dict[str, Any] = {"middle": {}, "mask": {}} | {name: way.classes for name, way in run.swapped.items()}
    rows = [
        {"label": run.classes[c]} | {name: shares[name].get(c, NAN) for name in shares}
        for c in sorted(set(shares["middle"]) | set(shares["mask"]))
    ]
    key = "mask" if shares["mask"] else "middle"
    return sorted(rows, key=lambda row: -np.nan_to_num(row[key], nan=-1.0))
