"""What may run the forward passes of a collection in its place, to read more from them than scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from interpnet.engine import Output, Site, Trace
from interpnet.support.ranks import Ranks


@runtime_checkable
class Companion(Protocol):
    """Something that sums over the images of a collection, such as :class:`interpnet.reliance.ContributionSums`."""

    def open(self, model: nn.Module, trace: Trace, sites: Sequence[Site], first: Tensor, output: Output | None) -> None:
        """Make ready; ``first`` are some images on the model's device. Its parameters take no gradient from here on."""

    def resume(self, rows: int) -> None:
        """Go on after the first ``rows`` images of a collection, or raise an error where their sums are missing."""

    def logits(
        self, images: Tensor, labels: Tensor, indices: Tensor, put: Callable[[Tensor], Tensor], *, known: int = 0
    ) -> Tensor:
        """Run one batch forward, and return its logits (B, C).

        The first ``known`` images are summed already; ``labels`` and ``indices`` are those of the others.
        """

    def commit(self, rows: int) -> None:
        """Hold the sums of exactly the first ``rows`` images of the collection, and keep them if they are to last."""


@runtime_checkable
class SharedCompanion(Companion, Protocol):
    """A companion of a collection that several processes share."""

    def share(self, ranks: Ranks, folders: Sequence[Path]) -> None:
        """Make ready for a part of the images, or raise an error where the sums over all cannot be had so.

        Other processes run the others; ``folders`` hold the scores of those that earlier runs collected.
        """

    def place(self, folder: Path | None) -> None:
        """Keep the sums of this part, if they are to last, beside its scores in ``folder``."""

    def add_up(self, ranks: Ranks) -> None:
        """Hold the sums of all processes."""
