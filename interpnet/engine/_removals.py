"""Many removals for the images of one batch, each run from the first channel that it changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.engine._forward import Put, own_copy, parameter_type, run
from interpnet.engine._logits import Output, logits_of
from interpnet.engine._removal import Removal
from interpnet.engine._replay import Replay
from interpnet.engine._replay_passes import rows_of
from interpnet.support.types import Int64

Read = Callable[[Int64, Tensor], None]

# How far logits of a pass that began in the middle may be from those of a whole one, relative to the largest.
_CLOSE = {torch.float64: 1e-9, torch.float16: 0.01, torch.bfloat16: 0.05}
_CLOSE_ELSE = 1e-4
# So few images at a time cost more than they save.
_FEWEST = 16


class Removals:
    """Runs images of one batch after another without some of their channels.

    Examples
    --------
    >>> from interpnet.engine import find_sites
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)).eval()
    >>> images = torch.rand(3, 1, 2, 2)
    >>> runs = Removals(net, Removal(find_sites(net, images).select()))
    >>> found = torch.zeros(2, 2)
    >>> with torch.inference_mode():
    ...     intact = runs.intact(images)
    ...     runs.removed(np.array([0, 2]), [np.array([1]), np.array([0, 1])], found.__setitem__)
    >>> bool(torch.allclose(found[1], net[3].bias))
    True
    """

    def __init__(
        self, model: nn.Module, removal: Removal, *, output: Output | None = None, put: Put | None = None
    ) -> None:
        self._model = model
        self._removal = removal
        self._output = output
        self._put = put
        self._replay = Replay(model, [site.name for site in removal.sites])
        self._images = torch.empty(0)
        self._checked: set[int] = set()

    @property
    def why_whole(self) -> str:
        """Why passes run the whole network; empty where they begin at the first channel that they change."""
        return self._replay.why

    def parts(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the images, as few at a time as memory asks for."""
        return torch.split(images, max(_FEWEST, self._replay.fitting(own_copy(self._model, images[:3], self._put))))

    def intact(self, images: Tensor) -> Tensor:
        """Return the logits (B, C) of ``images``, which all that follows is about."""
        self._images = own_copy(self._model, images, self._put)
        return self._replay.record(self._images, lambda: self._logits(self._images.clone()))

    def removed(self, rows: Int64, lists: Sequence[Int64], read: Read) -> None:
        """Run image ``rows[i]`` of the batch without the channels ``lists[i]``, columns over all sites, for every i.

        Lists are not empty. ``read`` is called with some of the numbers i and their logits; what it is told of one last
        is right.
        """
        places = self._places(lists)
        order = np.argsort(places, kind="stable")
        size = len(self._images)
        chunks = [order[start : start + size] for start in range(0, len(order), size)]
        begins = {int(places[chunk[0]]): chunk for chunk in chunks}
        new = begins.keys() - self._checked - {-1}
        sample = np.zeros(0, dtype=np.int64)
        if new:
            # One from every new place, and as many more as fill a pass.
            first = [begins[place][0] for place in sorted(new)]
            more = order[np.linspace(0, len(order) - 1, max(size - len(first), 0), dtype=np.int64)]
            sample = np.unique([*first, *more])
        kept: dict[int, Tensor] = {}
        with self._replay.watching():
            for chunk in chunks:
                logits = self._run(int(places[chunk[0]]), rows[chunk], [lists[i] for i in chunk])
                read(chunk, logits)
                for at in np.flatnonzero(np.isin(chunk, sample)):
                    kept[int(chunk[at])] = logits[at].clone()
            if not new or self._replay.why:
                return
            if all(self._agree(part, rows, lists, kept) for part in np.array_split(sample, -(-len(sample) // size))):
                self._checked |= new
                return
        self._replay.give_up("its outputs are others where a pass begins in the middle")
        self.removed(rows, lists, read)

    def _agree(self, sample: Int64, rows: Int64, lists: Sequence[Int64], found: Mapping[int, Tensor]) -> bool:
        """Whether passes over the whole network give what was found."""
        whole = self._run(-1, rows[sample], [lists[i] for i in sample])
        off = (torch.stack([found[int(i)] for i in sample]) - whole).abs().max()
        close = _CLOSE.get(parameter_type(self._model) or torch.float32, _CLOSE_ELSE)
        return bool(off <= close * whole.abs().max())

    def _logits(self, own: Tensor) -> Tensor:
        """Return the logits of images that the network may overwrite."""
        return logits_of(run(self._model, own), len(own), self._output)

    def _places(self, lists: Sequence[Int64]) -> Int64:
        """Return where the pass of each list can begin."""
        by_column = np.empty(len(self._removal.channels), dtype=np.int64)
        for site in self._removal.sites:
            by_column[self._removal.channels.slice(site.name)] = self._replay.place(site.name)
        if not len(lists):
            return np.zeros(0, dtype=np.int64)
        starts = np.cumsum([0, *map(len, lists[:-1])])
        return np.minimum.reduceat(by_column[np.concatenate(lists)], starts)

    def _run(self, place: int, rows: Int64, lists: Sequence[Int64]) -> Tensor:
        """Return the logits of images at ``rows`` without the channels ``lists``, from ``place`` on."""
        n = len(rows)
        if place >= 0:
            # As many images as were recorded, so that every shape is the same.
            more = len(self._images) - n
            rows = np.append(rows, np.repeat(rows[-1:], more))
            lists = [*lists, *[lists[-1]] * more]
        at = torch.from_numpy(rows)
        self._removal.set(lists)

        def run_rows() -> Tensor:
            return self._logits(rows_of(self._images, at))[:n]

        logits = self._replay.resume(place, at, run_rows, self._removal.edits)
        if place >= 0 and not bool(torch.isfinite(logits).all()):
            # Should it be the beginning in the middle, it ends here.
            logits = self._replay.whole(run_rows, self._removal.edits)
        return logits
