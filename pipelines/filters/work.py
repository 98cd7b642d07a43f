"""Making the parts of a filter visualization: patches, maximised pictures, maps, embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from interpnet.engine import Channel, Site, Trace
from interpnet.errors import DataError, InterpNetError, ModelError
from interpnet.explanation import AverageVisualization, average_visualizations
from interpnet.pictures import embed, last_site, maximise, nearest_images, tsne
from interpnet.plotting import enlarge, tile
from interpnet.scores import ScoreTable, collect_scores
from interpnet.support.types import Int64

from ..run.subject import Batches, Split, Subject, balanced
from .parts import Arrays, Parts
from .settings import FilterSettings

#: Layers pictured by default: enough to see the depth, few enough to read.
MOST_LAYERS = 8
_KEEP = 9  # patches of a channel
_MEAN_SIZE = 96  # pixels
_PATCH_SIZE = 72  # pixels
_GAP_GREY = 140  # between patches: visible on a white page and on a dark one
# The average of more images than this share is an average of everything.
_TOP_SHARE = 20
_MOST_AVERAGED = 100
# Of a channel's maximised picture, which the page shows about a hundred pixels wide.
_SMALLEST_SIDE = 48
_LARGEST_SIDE = 96
_CLASS_SIDE = 128  # of a class's, which a network made for larger images may refuse
_FIELDS_ACROSS = 1.5  # so that what a channel sees stands whole in the picture
_WHOLE_STRIDES = 16  # what most networks shrink an image by, or a multiple
_FEWEST_FOR_MAP = 5  # images; fewer have no map worth the name


@dataclass(frozen=True)
class Work:
    """A network and its images at work on the parts."""

    subject: Subject
    settings: FilterSettings
    parts: Parts

    @property
    def split(self) -> Split:
        """The images that are looked at."""
        return {"train": self.subject.train, "test": self.subject.test}[self.settings.split]

    @cached_property
    def images(self) -> Int64:
        """Positions of the images that are looked at, balanced over the classes."""
        return balanced(self.split.labels, self.settings.max_images, self._seed)

    @cached_property
    def layers(self) -> tuple[Site, ...]:
        """The sites whose channels are pictured."""
        return chosen_layers(self.subject.trace, self.subject.config.layers)

    @cached_property
    def table(self) -> ScoreTable:
        """Scores of the pictured layers' channels on the images."""
        return collect_scores(
            self.subject.model,
            self._batches(),
            layers=[site.name for site in self.layers],
            norm=self.subject.config.norm,
            output=self.subject.output,
            device=self.subject.device,
            total=len(self.images),
        )

    def _batches(self) -> Batches:
        return self.subject.batches(self.split, self.images)

    def embedding(self) -> Arrays:
        """Return labels, predictions and indices of the images, their map, and their neighbours (where there are)."""
        settings = {"perplexity": self.settings.perplexity, "k": self.settings.neighbours, "seed": self._seed}
        return self.parts.get("embedding", settings, self._embed)

    def _embed(self) -> Arrays:
        last_site(self.subject.trace)  # an error now rather than after the pass
        found = embed(
            self.subject.model,
            self._batches(),
            output=self.subject.output,
            device=self.subject.device,
            total=len(self.images),
        )
        n = len(found.vectors)
        points = np.zeros((0, 2), np.float32)
        why = ""
        try:
            points = tsne(found.vectors, perplexity=self.settings.perplexity, seed=self._seed % 2**32)
        except DataError as error:
            # Few or equal images still have neighbours; a perplexity that the user asked for must not be ignored.
            if self.settings.perplexity is not None and n >= _FEWEST_FOR_MAP:
                raise
            why = str(error)
        near = np.zeros((n, 0), np.int64)
        distances = np.zeros((n, 0))
        k = min(self.settings.neighbours, n - 1)
        if k:
            near, distances = nearest_images(found.vectors, k=k)
        return {
            "labels": found.labels,
            "predictions": found.predictions,
            "indices": found.indices,
            "points": points,
            "near": near,
            "distances": distances,
            "layer": np.array(found.layer),
            "dimensions": np.array(found.vectors.shape[1]),
            "why": np.array(why),
        }

    def patches(self, site: Site) -> Arrays:
        """Return the chosen channels of a layer with their average visualizations and patches, as pictures."""
        settings = {"n": self.settings.per_layer, "norm": self.subject.config.norm}
        return self.parts.get(f"patches of {site.name}", settings, lambda: self._patch(site))

    def _patch(self, site: Site) -> Arrays:
        columns = informative(self.table, site.name, self.settings.per_layer)
        channels = [Channel(site.name, c) for c in columns]
        made = average_visualizations(  # docs/method.md, section 3
            self.subject.model,
            self.split.data,
            self.table,
            channels,
            top=int(np.clip(len(self.table) // _TOP_SHARE, _KEEP, _MOST_AVERAGED)),
            keep=_KEEP,
            batch_size=self.subject.config.batch_size,
            device=self.subject.device,
            output=self.subject.output,
        )
        arrays: Arrays = {
            "channels": np.array(columns, np.int64),
            "counts": np.array([made[c].count for c in channels], np.int64),
            "whole": np.array([made[c].whole_image for c in channels], bool),
        }
        for i, channel in enumerate(channels):
            arrays |= _pictured(i, made[channel])
        return arrays

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
        settings = self.settings.climb() | {"seed": self._seed, "outputs": list(outputs), "shape": shape}
        return self.parts.get("maximised classes", settings, lambda: self._maximise(list(outputs), shape))

    def _maximise(self, targets: Sequence[Channel | int], shape: tuple[int, ...]) -> Arrays:
        options: dict[str, Any] = self.settings.climb() | {
            "mean": self.split.data.mean,
            "std": self.split.data.std,
            "seed": self._seed,
            "trace": self.subject.trace,
            "output": self.subject.output,
        }
        full = self.subject.trace.image_shape
        if shape != full:
            try:
                maximise(self.subject.model, targets[:1], shape, **(options | {"steps": 1}))
            except (RuntimeError, AssertionError, ModelError):
                shape = full  # a network that insists on its own size
        made = maximise(self.subject.model, targets, shape, **options, progress=True)
        return {"pictures": made.pictures, "activations": made.activations, "start": made.start, "silent": made.silent}

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


def informative(table: ScoreTable, layer: str, most: int) -> list[int]:
    """Return the channels of a layer whose scores differ most between images, in falling order; none that is dead.

    Examples
    --------
    >>> from interpnet.engine import ChannelIndex
    >>> n = np.zeros(2, np.int64)
    >>> X = np.array([[0.5, 0.0, 0.5], [0.9, 0.0, 0.1]], np.float32)
    >>> informative(ScoreTable(X, n, n, ChannelIndex((("a", 3),)), n, 2), "a", 5)
    [0, 2]
    """
    block = np.asarray(table.X[:, table.channels.slice(layer)], np.float64)
    alive = np.flatnonzero(block.max(0) > 0)
    spread = np.round(block.std(0), 12)
    return [int(c) for c in alive[np.argsort(-spread[alive], kind="stable")][:most]]


def picture_shape(site: Site, image: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a maximised picture: for a convolution's channel half as wide again as what a position sees.

    It is at least 48 and at most 96 pixels: large enough to be read, and quick to make. A channel of a fully
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


def _pictured(i: int, made: AverageVisualization) -> Arrays:
    if made.count == 0:
        raise InterpNetError(f"channel {made.channel} has no image; it should not have been chosen")
    patches = [enlarge(crop, _PATCH_SIZE) for crop in made.crops]
    return {
        f"mean{i}": enlarge(made.mean, _MEAN_SIZE),
        f"strip{i}": tile(patches, _KEEP, pad=2, background=_GAP_GREY),
        f"field{i}": np.array(made.field, np.int64),
        f"patches{i}": np.array(len(patches)),
    }
