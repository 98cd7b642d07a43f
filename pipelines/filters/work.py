"""Making the parts of a filter visualization: patches, maximised pictures, maps, embedding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from interpnet.engine import Channel, Site, Trace
from interpnet.errors import DataError, InterpNetError, ModelError
from interpnet.explanation import SURVIVES, AverageVisualization, Peaks, average_at, survival
from interpnet.pictures import maximise, nearest_images, tsne
from interpnet.plotting import enlarge, tile
from interpnet.support.types import Int64

from ..run.concept_sources import Sources, sources_key
from ..run.split import Batches, Split, balanced
from ..run.subject import Subject
from .choice import Shares, by_classes, by_spread, class_shares, contributed, leading
from .naming import nameable, named
from .parts import Arrays, Parts
from .reading import Reading, read
from .settings import FilterSettings

#: Layers pictured by default: enough to see the depth, few enough to read.
MOST_LAYERS = 8
_CANDIDATES = 2  # for each channel pictured, so that those that answer to the padding can be left out
_PEAK_ARRAYS = ("indices", "values", "positions", "extents")  # of interpnet.explanation.Peaks
_KEEP = 9  # patches of a channel
_MEAN_SIZE = 96  # pixels
_PATCH_SIZE = 72  # pixels
_GAP_GREY = 140  # between patches: visible on a white page and on a dark one
# The average of more images than this share is an average of everything.
_TOP_SHARE = 20
_MOST_AVERAGED = 100
# Of a channel's maximised picture, which the page shows about a hundred pixels wide.
_SMALLEST_SIDE = 32
_LARGEST_SIDE = 80
_CLASS_SIDE = 112  # of a class's, which a network made for larger images may refuse
_CLIMBING = 16  # pictures at once
_FIELDS_ACROSS = 1.5  # so that what a channel sees stands whole in the picture
_WHOLE_STRIDES = 16  # what most networks shrink an image by, or a multiple
_FEWEST_FOR_MAP = 5  # images; fewer have no map worth the name


@dataclass(frozen=True)
class Work:
    """A network and its images at work on the parts."""

    subject: Subject
    settings: FilterSettings
    parts: Parts
    concepts: Sources = field(default_factory=dict)  # images that channels are named by
    _made: dict[str, Arrays] = field(default_factory=dict)  # parts in memory

    @property
    def split(self) -> Split:
        """The images that are looked at."""
        return {"train": self.subject.train, "test": self.subject.test}[self.settings.split]

    @cached_property
    def images(self) -> Int64:
        """Positions of the images that are looked at, balanced over the classes."""
        return balanced(self.split.strata, self.settings.max_images, self._seed)

    @cached_property
    def layers(self) -> tuple[Site, ...]:
        """The sites whose channels are pictured."""
        return chosen_layers(self.subject.trace, self.subject.config.layers)

    def _batches(self) -> Batches:
        return self.subject.batches(self.split, self.images)

    def reading(self) -> Arrays:
        """Return what the pass over the images tells: labels, vectors, logits, and the channels chosen to be pictured.

        Under the name of each layer: its ``columns`` (k,), each with the ``largest`` value over the images, what
        ``survives`` of its response away from the padding, up to three ``classes`` (k, 3) that rely on it with their
        ``shares``, and the n of its best images with the ``indices``, ``values``, ``positions`` and ``extents`` of
        their maxima, one channel after the other.
        """
        return self._once("reading", self._reading_settings, self._read)

    @property
    def _reading_settings(self) -> dict[str, Any]:
        return {
            "n": self.settings.per_layer,
            "norm": self.subject.config.norm,
            "layers": [site.name for site in self.layers],
        }

    def _once(self, name: str, settings: dict[str, Any], make: Callable[[], Arrays]) -> Arrays:
        """Return a part, and keep it in memory."""
        if name not in self._made:
            self._made[name] = self.parts.get(name, settings, make)
        return self._made[name]

    def _read(self) -> Arrays:
        found = read(self.subject, self._batches(), self.layers, len(self.images))
        contributed_to = contributed(self.subject, self.split, found.table, self.layers)
        arrays: Arrays = {
            "labels": found.table.labels,
            "predictions": found.table.predictions,
            "indices": found.table.indices,
            "vectors": found.vectors,
            "layer": np.array(found.layer),
            "margins": found.margins,
            "why": np.array(contributed_to.why),
        }
        for site in self.layers:
            arrays |= {f"{site.name}/{key}": array for key, array in self._choose(site, found, contributed_to).items()}
        return arrays

    def _choose(self, site: Site, found: Reading, contributed_to: Shares) -> Arrays:
        """Choose a layer's channels; those that answer to the padding come last."""
        most = self.settings.per_layer
        top = int(np.clip(len(found.table) // _TOP_SHARE, _KEEP, _MOST_AVERAGED))
        spread = by_spread(found.table, site.name)
        order = spread
        shares = np.zeros((1, site.channels))
        if contributed_to.contributions is not None:
            shares = class_shares(contributed_to.contributions, site.name)
            relied = [c for c in by_classes(shares) if c in set(spread)]
            order = list(dict.fromkeys(relied + spread))
        candidates = {c: found.peaks(site.name, c, top) for c in order[: _CANDIDATES * most]}
        left = self._surviving(site, candidates)
        chosen = sorted(left, key=lambda c: left[c] < SURVIVES)[:most]
        classes, class_share = leading(shares)
        peaks = [candidates[c] for c in chosen]
        arrays: Arrays = {
            "columns": np.array(chosen, np.int64),
            "largest": found.largest(site.name)[chosen],
            "survives": np.array([left[c] for c in chosen]),
            "classes": classes[chosen],
            "shares": class_share[chosen],
            "n": np.array([len(own.indices) for own in peaks], np.int64),
        }
        for name in _PEAK_ARRAYS:
            arrays[name] = np.concatenate([getattr(own, name) for own in peaks] or [np.zeros(0)])
        return arrays

    def _surviving(self, site: Site, candidates: dict[int, Peaks]) -> dict[int, float]:
        """Return what survives of channels' responses away from the padding, in turn until enough are known that do."""
        left: dict[int, float] = {}
        while len(left) < len(candidates):
            missing = self.settings.per_layer - sum(share >= SURVIVES for share in left.values())
            if missing <= 0:
                break
            known = survival(
                self.subject.model,
                self.split.data,
                {Channel(site.name, c): candidates[c] for c in list(candidates)[len(left) : len(left) + missing]},
                trace=self.subject.trace,
                device=self.subject.device,
                output=self.subject.output,
            )
            left |= {channel.index: share for channel, share in known.items()}
        return left

    def chosen(self, site: Site) -> Arrays:
        """Return what :meth:`reading` has of one layer."""
        return _below(self.reading(), f"{site.name}/")

    def embedding(self) -> Arrays:
        """Return the map of the images and their neighbours (where there are)."""
        settings = {"perplexity": self.settings.perplexity, "k": self.settings.neighbours, "seed": self._seed}
        return self._once("embedding", settings, self._embed)

    def _embed(self) -> Arrays:
        vectors = self.reading()["vectors"]
        n = len(vectors)
        points = np.zeros((0, 2), np.float32)
        why = ""
        try:
            points = tsne(vectors, perplexity=self.settings.perplexity, seed=self._seed % 2**32)
        except DataError as error:
            # Few or equal images still have neighbours; a perplexity that the user asked for must not be ignored.
            if self.settings.perplexity is not None and n >= _FEWEST_FOR_MAP:
                raise
            why = str(error)
        near = np.zeros((n, 0), np.int64)
        distances = np.zeros((n, 0))
        k = min(self.settings.neighbours, n - 1)
        if k:
            near, distances = nearest_images(vectors, k=k)
        return {"points": points, "near": near, "distances": distances, "why": np.array(why)}

    def patches(self, site: Site, column: int) -> Arrays:
        """Return the average visualization and the patches of one of the chosen channels, as pictures."""
        made = self._once("patches", self._reading_settings, self._patch)
        return _below(made, f"{site.name}/{column}/")

    def _patch(self) -> Arrays:
        # All layers at once: an image is read once for all that answer to it.
        sites = {}
        peaks = {}
        for site in self.layers:
            found = self.chosen(site)
            ends = np.cumsum(found["n"])
            for column, end, n in zip(found["columns"].tolist(), ends, found["n"], strict=True):
                channel = Channel(site.name, column)
                sites[channel] = site
                peaks[channel] = Peaks(*(found[name][end - n : end] for name in _PEAK_ARRAYS))
        arrays: Arrays = {}
        for channel, made in average_at(self.split.data, sites, peaks, keep=_KEEP).items():  # docs/method.md, section 3
            if made.count == 0:
                raise InterpNetError(f"channel {channel} has no image; it should not have been chosen")
            arrays |= {f"{channel.layer}/{channel.index}/{key}": array for key, array in _pictured(made).items()}
        return arrays

    def names(self, site: Site, column: int) -> Arrays | None:
        """Return the concepts that name one of the chosen channels, with overlaps; ``None`` where none were asked for.

        None as well where the layer's maps cannot be compared with masks. See :data:`.naming.FACTS`.
        """
        if not self.concepts or site not in nameable(self.layers):
            return None
        chosen = {one.name: self.chosen(one)["columns"].tolist() for one in nameable(self.layers)}
        settings = {"concepts": sources_key(self.concepts), "columns": chosen}
        made = self._once("names", settings, lambda: named(self.subject, self.concepts, chosen))
        return _below(made, f"{site.name}/{column}/")

    def maximised(self, site: Site, columns: Sequence[int]) -> Arrays:
        """Return the maximised pictures of a layer's channels."""
        shape = picture_shape(site, self.subject.trace.image_shape)
        targets = [Channel(site.name, int(c)) for c in columns]
        settings = self.settings.climb() | {"seed": self._seed, "columns": [t.index for t in targets], "shape": shape}
        return self.parts.get(f"maximised {site.name}", settings, lambda: self._maximise(targets, shape))

    def maximised_classes(self, outputs: Sequence[int]) -> Arrays:
        """Return the maximised pictures of the network's outputs."""
        colours, *size = self.subject.trace.image_shape
        shape = (colours, *(min(side, _CLASS_SIDE) for side in size))
        # The end of the network is the longest way up.
        steps = {"steps": self.settings.steps + self.settings.steps // 2}
        settings = self.settings.climb() | steps | {"seed": self._seed, "outputs": list(outputs), "shape": shape}
        return self.parts.get("maximised classes", settings, lambda: self._maximise(list(outputs), shape, **steps))

    def _maximise(self, targets: Sequence[Channel | int], shape: tuple[int, ...], **more: int) -> Arrays:
        options: dict[str, Any] = (
            self.settings.climb()
            | {
                "mean": self.split.data.mean,
                "std": self.split.data.std,
                "seed": self._seed,
                "trace": self.subject.trace,
                "output": self.subject.output,
                "max_batch": _CLIMBING,
            }
            | more
        )
        full = self.subject.trace.image_shape
        if shape != full:
            try:
                maximise(self.subject.model, targets[:1], shape, **(options | {"steps": 1}))
            except (RuntimeError, AssertionError, ModelError):
                shape = full  # a network that insists on its own size
        made = maximise(self.subject.model, targets, shape, **options, progress=True)
        return {"pictures": made.pictures, "reached": made.reached, "silent": made.silent}

    @property
    def _seed(self) -> int:
        return self.subject.config.seed


def chosen_layers(trace: Trace, patterns: Sequence[str]) -> tuple[Site, ...]:
    """Return the sites that patterns name; of the default ones at most eight, evenly spread, with both ends."""
    sites = trace.select(list(patterns))
    if tuple(patterns) != ("default",) or len(sites) <= MOST_LAYERS:
        return sites
    return tuple(sites[i] for i in evenly(len(sites), MOST_LAYERS))


def evenly(count: int, most: int) -> list[int]:
    """Return at most ``most`` evenly spread positions of ``count``, with both ends.

    Examples
    --------
    >>> evenly(10, 4), evenly(2, 4), evenly(3, 0)
    ([0, 3, 6, 9], [0, 1], [])
    """
    if most < 1 or count < 1:
        return []
    return sorted({int(v) for v in np.rint(np.linspace(0, count - 1, min(count, most)))})


def picture_shape(site: Site, image: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a maximised picture: for a convolution's channel half as wide again as what a position sees.

    It is at least 32 and at most 80 pixels: large enough to be read, and quick to make. A channel of a fully
    connected layer needs the network's own size.
    """
    if site.family != "conv" or len(site.fields) != len(image) - 1:
        return image
    sides = []
    for entry, size in zip(site.fields, image[1:], strict=True):
        if entry is None:
            return image
        field = entry[1].hi - entry[1].lo + 1
        # Whole strides, so that no map loses a row that the full image would have.
        side = _WHOLE_STRIDES * int(np.ceil(max(_SMALLEST_SIDE, _FIELDS_ACROSS * field) / _WHOLE_STRIDES))
        sides.append(min(size, side, _LARGEST_SIDE))
    return (image[0], *sides)


def _below(arrays: Arrays, prefix: str) -> Arrays:
    """Return the arrays whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _pictured(made: AverageVisualization) -> Arrays:
    patches = [enlarge(crop, _PATCH_SIZE) for crop in made.crops]
    return {
        "mean": enlarge(made.mean, _MEAN_SIZE),
        "strip": tile(patches, _KEEP, pad=2, background=_GAP_GREY),
        "patches": np.array(len(patches)),
        "field": np.array(made.field, np.int64),
        "whole": np.array(made.whole_image),
        "shared": np.array(made.shared),
    }
