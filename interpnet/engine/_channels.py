"""Channels and their order: which column of the score matrix is which channel of which layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import accumulate
from typing import overload

from interpnet.errors import LayerError, did_you_mean
from interpnet.support.brief import brief
from interpnet.support.checks import instance_of, is_whole, listed, text, whole_number


@dataclass(frozen=True, order=True, slots=True)
class Channel:
    """One channel of one layer.

    Examples
    --------
    >>> str(Channel("layer1.0.relu:1", 7))
    'layer1.0.relu:1[7]'
    """

    layer: str
    index: int

    def __str__(self) -> str:
        return f"{self.layer}[{self.index}]"


@brief
@dataclass(frozen=True)
class ChannelIndex(Sequence[Channel]):
    """The m channels of a score matrix, in column order: all of the first layer, then the second, ...

    A layer named twice, or one without channels, is a :class:`LayerError`.

    Examples
    --------
    >>> index = ChannelIndex((("conv1", 2), ("conv2", 3)))
    >>> len(index), index[3], index.slice("conv2")
    (5, Channel(layer='conv2', index=1), slice(2, 5, None))
    >>> index.position(Channel("conv2", 0))
    2
    """

    # Every layer's name with its number of channels.
    sizes: tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        for entry in listed(self.sizes, "sizes", error=LayerError):
            pair = isinstance(entry, tuple | list) and len(entry) == 2
            if not pair or not isinstance(entry[0], str) or not is_whole(entry[1]):
                raise LayerError(f"sizes holds {entry!r}; expected (layer, number of channels) pairs")
        for layer, size in self.sizes:
            if self.layers.count(layer) > 1:
                raise LayerError(f"layer {layer!r} is named twice; every layer needs a name of its own")
            if size < 1:
                raise LayerError(f"layer {layer!r} has {size} channels; expected at least 1")

    @cached_property
    def _slices(self) -> dict[str, slice]:
        stops = accumulate(size for _, size in self.sizes)
        return {layer: slice(stop - size, stop) for (layer, size), stop in zip(self.sizes, stops, strict=True)}

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers' names, in order."""
        return tuple(layer for layer, _ in self.sizes)

    def __len__(self) -> int:
        return sum(size for _, size in self.sizes)

    @overload
    def __getitem__(self, key: int) -> Channel: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[Channel]: ...
    def __getitem__(self, key: int | slice) -> Channel | Sequence[Channel]:
        if isinstance(key, slice):
            return [self[i] for i in range(*key.indices(len(self)))]
        if not -len(self) <= key < len(self):
            raise IndexError(f"channel {key} of {len(self)}")
        position = key % len(self)
        layer = next(layer for layer, columns in self._slices.items() if position < columns.stop)
        return Channel(layer, position - self._slices[layer].start)

    def __iter__(self) -> Iterator[Channel]:
        return (Channel(layer, i) for layer, size in self.sizes for i in range(size))

    def slice(self, layer: str) -> slice:
        """Return the columns of ``layer``; an unknown one is a :class:`LayerError` with close matches."""
        text(layer, "layer", error=LayerError)
        if layer not in self._slices:
            raise LayerError(f"unknown layer {layer!r}{did_you_mean(layer, self._slices)}")
        return self._slices[layer]

    def position(self, channel: Channel) -> int:
        """Return the column of ``channel``."""
        instance_of(channel, "channel", Channel, error=LayerError)
        columns = self.slice(channel.layer)
        whole_number(channel.index, f"the index of a channel of {channel.layer!r}", error=LayerError)
        if not 0 <= channel.index < columns.stop - columns.start:
            raise LayerError(
                f"channel {channel.index} of layer {channel.layer!r} does not exist; "
                f"expected 0 to {columns.stop - columns.start - 1}"
            )
        return int(columns.start) + channel.index

    def select(self, pattern: str | Iterable[str]) -> list[int]:
        """Return the columns of the layers whose name matches a glob pattern, or any of several.

        Examples
        --------
        >>> ChannelIndex((("a.relu", 1), ("b.relu", 2))).select("b.*")
        [1, 2]
        """
        if isinstance(pattern, str):
            pattern = [pattern]
        patterns = list(pattern)
        # A name is tried as it is too: "*" and "[" may stand in it.
        chosen = [layer for layer in self.layers if any(layer == p or fnmatchcase(layer, p) for p in patterns)]
        if not chosen:
            raise LayerError(f"no layer matches {patterns}; the layers are {list(self.layers)}")
        return [column for layer in chosen for column in range(len(self))[self.slice(layer)]]

    def to_json(self) -> list[list[str | int]]:
        """Return ``[[layer, channels], ...]`` for a JSON file."""
        return [[layer, size] for layer, size in self.sizes]

    @classmethod
    def from_json(cls, value: Iterable[Sequence[str | int]]) -> ChannelIndex:
        """Read what :meth:`to_json` wrote."""
        return cls(tuple((str(layer), int(size)) for layer, size in value))
