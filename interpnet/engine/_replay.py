"""Passes that begin where an edit first changes something: what the intact pass computed before is not computed again.

Right, or not used: where a network does not allow it, :attr:`Replay.why` says so and passes run whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from interpnet.engine._dataflow import Cut, Dataflow, Unreplayable, learn
from interpnet.engine._forward import RunError
from interpnet.engine._replay_passes import Batch, Differs, Pass, Resumed
from interpnet.engine._trace import Edit, Instrument, as_written, instrument
from interpnet.errors import ModelError

T = TypeVar("T")
# Bytes of maps that a batch keeps on a CPU; on a GPU a share of what is free.
_BUDGET = 1 << 29
_SHARE = 0.25
_MANY = 1 << 30


class Replay:
    """Runs a network on rows of one batch, from the middle on.

    ``sites`` are the names of the layers after which a pass may have to begin. What is kept of a batch takes at most
    ``budget`` bytes, by default 512 MiB on a CPU and a quarter of what is free on a GPU: the latest places, which save
    most, come first.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2)).eval()
    >>> images = torch.rand(4, 1, 5, 5)
    >>> replay = Replay(net, ["1"])
    >>> with torch.inference_mode():
    ...     intact = replay.record(images, lambda: net(images))
    ...     rows = torch.tensor([2, 0, 3, 3])
    ...     late = replay.resume(replay.place("1"), rows, lambda: net(images[rows]))
    >>> bool(torch.allclose(late, intact[rows])), replay.why
    (True, '')
    """

    def __init__(self, model: nn.Module, sites: list[str], *, budget: int | None = None) -> None:
        #: Why passes run whole; empty where they do not.
        self.why = ""
        self._model = model
        self._sites = sites
        self._budget = budget
        self._flows: dict[Any, Dataflow] = {}
        self._batch: Batch | None = None
        # The pass that runs.
        self._running: Pass | None = None
        self._watching = False

    def record(self, images: Tensor, run: Callable[[], T]) -> T:
        """Return ``run()``, a pass over ``images`` (B, C, ...) as the network takes them, and keep what resumes it."""
        self._batch = None
        flow = self._learnt(images)
        if flow is None:
            return run()
        batch = Batch(flow, self._cuts(flow, len(images), self._bytes(images.device)), len(images))
        try:
            result = self._run(batch, run)
        except (Differs, RunError):
            # Where the network itself is at fault the next pass says so.
            self.give_up("it makes other calls for other images")
            return run()
        if batch.done():
            self._batch = batch
        else:
            self.give_up("it makes other calls for other images")
        return result

    def place(self, site: str) -> int:
        """Return where a pass over the recorded batch can begin so that ``site`` is the first to change; -1 for whole.

        Later places have larger numbers.
        """
        if self._batch is None:
            return -1
        step = self._batch.flow.at[site]
        return max((cut for cut in self._batch.cuts if cut <= step), default=-1)

    def resume(
        self, place: int, rows: Tensor, run: Callable[[], T], edits: Mapping[str, Edit] = MappingProxyType({})
    ) -> T:
        """Return ``run()``, a pass over the recorded images at ``rows`` from ``place`` on, with ``edits`` by site.

        It runs whole where these are not as many as were recorded.
        """
        batch = self._batch
        if batch is None or place < 0 or len(rows) != batch.size:
            return self.whole(run, edits)
        resumed = Resumed(batch, batch.cuts[place], rows, edits)
        try:
            result = self._run(resumed, run)
        except (Differs, RunError):
            # Where the network itself is at fault the whole pass says so.
            result = self.whole(run, edits)
            self.give_up("it makes other calls for other images")
            return result
        if resumed.differs:
            # The network's code has caught it.
            self.give_up("it makes other calls for other images")
            return self.whole(run, edits)
        return result

    def whole(self, run: Callable[[], T], edits: Mapping[str, Edit]) -> T:
        """Return ``run()``, a pass over the whole network, with ``edits`` by site."""
        with instrument(self._model, Instrument(edits=edits)):
            return run()

    def give_up(self, why: str) -> None:
        """Run every pass whole from now on."""
        self.why = f"every removal ran the whole network, for {why}"
        self._batch = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the network over several passes; each does so by itself, but to begin takes time."""
        if self._watching:
            yield
            return
        with ExitStack() as stack:
            stack.enter_context(as_written(self._model, self._before))
            self._watching = True
            stack.callback(setattr, self, "_watching", False)
            yield

    def _run(self, how: Pass, run: Callable[[], T]) -> T:
        with self.watching(), how:
            self._running = how
            try:
                return run()
            finally:
                self._running = None

    def _before(self, args: tuple[Any, ...]) -> None:
        if self._running is not None:
            self._running.begin(args)

    def _learnt(self, images: Tensor) -> Dataflow | None:
        key = (tuple(images.shape[1:]), images.dtype, images.device)
        if not self.why and key not in self._flows:
            try:
                self._flows[key] = learn(self._model, images, self._sites)
            except Unreplayable as reason:
                self.give_up(str(reason))
            except (ModelError, torch.OutOfMemoryError):
                self.give_up("it does not take batches of two and three images")
        if self.why:
            return None
        return self._flows[key]

    def fitting(self, images: Tensor) -> int:
        """Return how many images like these (B, C, ...) can be kept with all places where a pass can begin."""
        flow = self._learnt(images)
        if flow is None:
            return _MANY
        every = {number for cut in flow.cuts.values() for number in cut.live}
        return self._bytes(images.device) // max(1, sum(flow.bytes_of(number) for number, _ in every))

    def _bytes(self, device: torch.device) -> int:
        if self._budget is not None:
            return self._budget
        if device.type == "cuda":
            return int(_SHARE * torch.cuda.mem_get_info(device)[0])
        return _BUDGET

    def _cuts(self, flow: Dataflow, images: int, budget: int) -> dict[int, Cut]:
        """Return the cuts that memory allows, the latest first."""
        chosen: dict[int, Cut] = {}
        kept: set[tuple[int, int]] = set()
        size = 0
        for step in sorted(flow.cuts, reverse=True):
            new = set(flow.cuts[step].live) - kept
            more = images * sum(flow.bytes_of(number) for number, _ in new)
            if size + more <= budget:
                chosen[step] = flow.cuts[step]
                kept |= new
                size += more
        return chosen
