"""The report's content as plain values: what the templates show and the tables hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interpnet.ablation import by_class, find_condition, others_change

from ..run.config import CONTROLS
from ..run.selection import seldom
from .load import RunData, clean, reading
from .pictures import Pictures

NAN = float("nan")
_PATCHES = 9
METHODS = {
    "gradient": "Gradient",
    "guided": "Guided backprop",
    "gradcam": "Grad-CAM",
    "deconvnet": "DeconvNet",
    "gradcam++": "Grad-CAM++",
    "edge": "Edges",
    "random": "Random",
    "center": "Centre",
}
_WORTH_SAYING = 0.05
REGIONS = {"petals": "petals", "stem": "stem", "plant": "plant", "background": "outside", "shortcut": "planted cue"}


@dataclass(frozen=True)
class ChannelRow:
    """One relevant channel of one class; ``own`` and ``others`` are changes of recall when it alone is removed.

    ``frequency`` is the share of half samples that name it, too; NaN where that was not measured.
    """

    rank: int
    layer: str
    index: int
    family: str
    weight: float
    share: float
    frequency: float
    own: float
    others: float
    count: int | None
    field: tuple[int, ...]
    whole_image: bool
    mean: str | None
    patches: str | None
    n_patches: int
    regions: tuple[tuple[str, float], ...] = ()
    surroundings: float = NAN

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
    """One picture with its caption; ``source`` is ``None`` where the file is missing."""

    title: str
    caption: str
    source: str | None
    blank: bool = False


@dataclass(frozen=True)
class ExampleView:
    """One explained image: itself, a heatmap a channel, the combined map, the other methods' maps and the controls'."""

    number: int
    name: str
    dataset_index: int | None
    true: str | None
    predicted: str
    explained: str
    explained_index: int
    correct: bool | None
    confidence: float
    image: Shot
    heatmaps: tuple[Shot, ...]
    baselines: tuple[Shot, ...]
    controls: tuple[Shot, ...]
    note: str
    pictured: bool


@dataclass(frozen=True)
class ClassView:
    """One class: its numbers (NaN where unknown), its channels and its examples."""

    index: int
    name: str
    n_train: int | None
    n_test: int | None
    recall: float
    after: float
    random: float
    others: float
    n_relevant: int | None
    gap: float
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


def example_views(run: RunData, pictures: Pictures, limits: Limits) -> list[ExampleView]:
    """Return the explained images; those past the limit come without pictures."""
    if run.examples is None:
        return []
    path = run.folder / "explanations" / "examples.json"
    with reading(path, "explain", run.folder):
        return [
            _example(number, entry, run, pictures, shown=number < limits.examples)
            for number, entry in enumerate(run.examples["examples"])
        ]


def _example(number: int, entry: Mapping[str, Any], run: RunData, pictures: Pictures, *, shown: bool) -> ExampleView:
    def picture(name: Any) -> str | None:
        return pictures.embed(str(name), 192) if shown and name else None

    heatmaps = [
        Shot(
            f"{clean(channel['layer'])}[{int(channel['index'])}]",
            f"response {number_text(channel['response'], 3)}",
            picture(channel["heatmap"]),
            bool(channel["blank"]),
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
    true = entry["true"]
    return ExampleView(
        number,
        clean(entry["name"]),
        entry.get("dataset_index"),
        None if true is None else class_name(run, true),
        class_name(run, entry["predicted"]),
        class_name(run, entry["explained"]),
        int(entry["explained"]),
        None if true is None else int(true) == int(entry["predicted"]),
        _number(entry["confidence"]),
        Shot("", "", picture(entry["image"])),
        tuple(heatmaps),
        tuple(shot for method, shot in others.items() if method not in CONTROLS),
        tuple(shot for method, shot in others.items() if method in CONTROLS),
        clean(entry.get("note") or ""),
        shown,
    )


def class_name(run: RunData, index: Any) -> str:
    """Return the name of a class; a number without one stands for itself."""
    return run.classes[int(index)] if 0 <= int(index) < len(run.classes) else f"class {int(index)}"


def class_views(
    run: RunData, pictures: Pictures, examples: Sequence[ExampleView], limits: Limits
) -> tuple[list[ClassView], int | None]:
    """Return all classes, and the number of channels a class that have pictures (``None``: all of them)."""
    study = run.study
    count = len(run.classes)
    unknown = np.full(count, NAN)
    recall = study.intact if study is not None else unknown
    after = others = random = unknown
    if study is not None:
        relevant = find_condition(study, "relevant") or find_condition(study, "relevant", "conv")
        if relevant is not None:
            after, others = by_class(relevant.own), by_class(others_change(study, relevant))
            control = find_condition(study, "random", relevant.layers)
            random = by_class(control.own) if control is not None else unknown
    total = sum(len(entry.get("channels", ())) for entry in (run.pictures or {}).values())
    most = None if total <= limits.channels else max(1, limits.channels // max(1, count))
    size = 64 if total <= limits.channels // 4 else 48
    by_explained: dict[int, list[ExampleView]] = {}
    for example in examples:
        by_explained.setdefault(example.explained_index, []).append(example)
    views = []
    for c, name in enumerate(run.classes):
        entry = (run.pictures or {}).get(c, {})
        channels = _channel_rows(run, c, entry, pictures, most, size)
        n_relevant = entry.get("n_relevant", len(channels) if run.weights is not None else None)
        gaps = run.weights.gaps if run.weights is not None else unknown
        views.append(
            ClassView(
                c,
                name,
                _whole(entry.get("n_train")),
                None if study is None else int(study.support[c]),
                float(recall[c]),
                float(after[c]),
                float(random[c]),
                float(others[c]),
                _whole(n_relevant),
                float(gaps[c]) if len(gaps) > c else NAN,
                channels,
                tuple(by_explained.get(c, ())),
            )
        )
    return views, most


def _channel_rows(
    run: RunData, cls: int, entry: Mapping[str, Any], pictures: Pictures, most: int | None, size: int
) -> tuple[ChannelRow, ...]:
    """Join the weights with what is known of each channel: its effect alone, and its pictures."""
    with reading(run.folder / "explanations" / "classes.json", "explain", run.folder):
        shown = {(clean(c["layer"]), int(c["index"])): c for c in entry.get("channels", ())}
        effects = {
            (clean(e.channel.layer), e.channel.index): (-e.own_drop, e.others_change)
            for e in (run.study.single.get(cls, []) if run.study is not None else [])
        }
        for key, channel in shown.items():
            effect = channel.get("effect")
            if key not in effects and effect:
                effects[key] = (-_number(effect["own"]), _number(effect["others"]))
        weighted = (
            [(channel.layer, channel.index, weight) for channel, weight in run.weights.relevant(cls)]
            if run.weights is not None
            else [(*key, float(c["weight"])) for key, c in shown.items()]
        )
        often = _often(run, cls, len(weighted))
        strongest = max((abs(w) for _, _, w in weighted), default=1.0)
        rows = []
        for rank, (layer, index, weight) in enumerate(weighted):
            channel = shown.get((layer, index), {})
            own, others = effects.get((layer, index), (NAN, NAN))
            drawn = bool(channel) and (most is None or rank < most)
            rows.append(
                ChannelRow(
                    rank + 1,
                    layer,
                    index,
                    clean(channel.get("family", "")),
                    weight,
                    abs(weight) / strongest,
                    often[rank],
                    own,
                    others,
                    _whole(channel.get("count")),
                    tuple(int(side) for side in channel.get("field", ())),
                    bool(channel.get("whole_image", False)),
                    pictures.embed(channel["mean"], 96) if drawn else None,
                    pictures.strip(channel["patches"][:_PATCHES], size, _PATCHES) if drawn else None,
                    min(_PATCHES, len(channel["patches"])) if drawn else 0,
                    _regions(run, cls, layer, index),
                    surroundings_share(run, cls, layer, index),
                )
            )
        return tuple(rows)


def _regions(run: RunData, cls: int, layer: str, index: int) -> tuple[tuple[str, float], ...]:
    """Return (region, share of the channel's heatmap) for the regions a reader wants, NaN where it is silent."""
    shares = {} if run.places is None else run.places.shares.get((cls, layer, index), {})
    names = [name for name in REGIONS if name in shares] or list(shares)
    # Most plants' classes do not differ in the stem, and nothing is there.
    names = [name for name in names if name != "stem" or _number(shares[name]) >= _WORTH_SAYING]
    return tuple((REGIONS.get(name, name), _number(shares[name])) for name in names)


def surroundings_share(run: RunData, cls: int, layer: str, index: int) -> float:
    """Return the surroundings' share of what the class does to a channel, by the mask where there is one; or NaN."""
    way = run.swapped.get("mask") or run.swapped.get("middle")
    return NAN if way is None else _number(way.channels.get((cls, layer, index)))


def swap_rows(run: RunData) -> list[dict[str, Any]]:
    """Return the rows of the table of swapped surroundings: all classes, then each, the most suspicious first."""
    if not run.swapped:
        return []
    middle, mask = run.swapped.get("middle"), run.swapped.get("mask")
    classes = [
        {
            "label": run.classes[c],
            **{
                name: NAN if way is None else _number(way.classes.get(c))
                for name, way in (("middle", middle), ("mask", mask))
            },
        }
        for c in sorted({c for way in run.swapped.values() for c in way.classes})
    ]
    key = "mask" if mask is not None else "middle"
    return sorted(classes, key=lambda row: -(row[key] if row[key] == row[key] else -1.0))


def place_rows(run: RunData) -> list[dict[str, Any]]:
    """Return the rows of the table of overlaps, the best first; controls and our own maps are marked."""
    if run.places is None:
        return []
    rows = [
        {
            "label": "InterpNet: combined map" if name == "interpnet" else METHODS.get(name, name),
            "kind": "control" if name in CONTROLS else "relevant" if name == "interpnet" else "",
            "mean": mean,
            "sd": sd,
            "blank": blank,
            "cue": _number(run.places.in_cue.get(name)),
        }
        for name, mean, sd, blank in run.places.methods
    ]
    return sorted(rows, key=lambda row: -float(str(row["mean"])))


def _often(run: RunData, cls: int, count: int) -> list[float]:
    if run.frequencies is None or run.weights is None:
        return [NAN] * count
    return [float(run.frequencies.frequency[cls, column]) for column in run.weights.columns(cls)]


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _number(value: Any) -> float:
    return NAN if value is None else float(value)


def number_text(value: Any, digits: int = 2) -> str:
    """Return a number for a reader, ``–`` where there is none, with a real minus.

    Examples
    --------
    >>> number_text(-0.5), number_text(None), number_text(1234, 0), number_text(3e-9)
    ('−0.50', '–', '1,234', '3.0e−09')
    """
    number = _number(value)
    if not math.isfinite(number):
        return "–"
    tiny = 0 < abs(number) < 0.5 * 10.0**-digits
    return f"{number:.1e}".replace("-", "−") if tiny else f"{number:,.{digits}f}".replace("-", "−")
