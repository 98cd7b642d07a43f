"""Passes that begin where an edit first changes something: what the intact pass computed before is not computed again.

Right, or not used: where a network does not allow it, :attr:`Replay.why` says so and passes run whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from interpnet.engine._call import tensors_in
from interpnet.engine._dataflow import Cut, Dataflow, Unreplayable, learn, tensors_of
from interpnet.engine._early_stop import Stop
from interpnet.engine._forward import RunError
from interpnet.engine._operators import operator_name
from interpnet.engine._trace import Instrument, instrument
from interpnet.errors import ModelError

T = TypeVar("T")
# Bytes of maps that a batch keeps on a CPU; on a GPU a share of what is free.
_BUDGET = 1 << 29
_SHARE = 0.25
_MANY = 1 << 30


class _Differs(Stop):
    """A pass that does not make the calls that were learnt."""


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
        self._batch: _Batch | None = None
        # What the pass that runs does with calls, and with the network's inputs; None for what they do by themselves.
        self._running: _Batch | _Resumed | None = None
        self._watching = False
        self._instrument = Instrument(compute=self._compute, before=self._before)

    def record(self, images: Tensor, run: Callable[[], T]) -> T:
        """Return ``run()``, a pass over ``images`` (B, C, ...) as the network takes them, and keep what resumes it."""
        self._batch = None
        flow = self._learnt(images)
        if flow is None:
            return run()
        batch = _Batch(flow, self._cuts(flow, len(images), self._bytes(images.device)), len(images))
        try:
            result = self._run(batch, run)
        except _Differs:
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

    def resume(self, place: int, rows: Tensor, run: Callable[[], T]) -> T:
        """Return ``run()``, a pass over the recorded images at ``rows`` from ``place`` on.

        It runs whole where these are not as many as were recorded.
        """
        batch = self._batch
        if batch is None or place < 0 or len(rows) != batch.size:
            return run()
        replayed = batch.resumed(place, rows)
        try:
            result = self._run(replayed, run)
        except (_Differs, RunError):
            # Where the network itself is at fault the whole pass says so.
            result = run()
            self.give_up("it makes other calls for other images")
            return result
        if replayed.differs:
            # The network's code has caught it.
            self.give_up("it makes other calls for other images")
            return run()
        return result

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
        self._watching = True
        try:
            with instrument(self._model, self._instrument):
                yield
        finally:
            self._watching = False

    def _run(self, how: _Batch | _Resumed, run: Callable[[], T]) -> T:
        with self.watching():
            self._running = how
            try:
                return run()
            finally:
                self._running = None

    def _compute(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if self._running is None:
            return func(*args, **kwargs)
        return self._running.compute(func, args, kwargs)

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


@dataclass(frozen=True)
class _Form:
    """What a tensor looks like without its values."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    def placeholder(self) -> Tensor:
        """Return a tensor of that form that takes no memory: NaN, so that nobody who reads it goes unnoticed."""
        value = 0.0
        if self.dtype.is_floating_point or self.dtype.is_complex:
            value = float("nan")
        return torch.full((), value, dtype=self.dtype, device=self.device).expand(self.shape)


class _Batch:
    """What is kept of one batch."""

    def __init__(self, flow: Dataflow, cuts: dict[int, Cut], size: int) -> None:
        self.flow = flow
        self.cuts = cuts
        self.size = size
        self.forms: dict[int, _Form] = {}
        # What calls returned that were no tensors, by step, and of the sequences of tensors and None what is a tensor.
        self.values: dict[int, Any] = {}
        self.sequences: dict[int, tuple[type, list[bool]]] = {}
        self.kept: dict[tuple[int, int], Tensor] = {}
        self._last = {number: step for step in sorted(cuts) for number, _ in cuts[step].live}
        self._alive: dict[int, Tensor] = {}
        # Before the network runs, and after its last call, calls are none of its own.
        self._step = len(flow.steps)

    def begin(self, args: tuple[Any, ...]) -> None:
        """Start with the network's inputs."""
        if self.forms:
            raise _Differs
        self._step = 0
        with torch._C.DisableTorchFunction():  # noqa: SLF001 - these calls are not the network's
            for number, t in enumerate(tensors_in(args)):
                self._hold(number, t)

    def _hold(self, number: int, t: Tensor) -> None:
        self.forms[number] = _Form(t.shape, t.dtype, t.device)
        if number in self._last:
            if t.shape != (self.size, *self.flow.tensors[number].shape[1:]):
                raise _Differs
            self._alive[number] = t

    def compute(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run a call and keep what is needed of it."""
        out = func(*args, **kwargs)
        op = operator_name(func)
        if self._step >= len(self.flow.steps):
            return out
        made = _tensors(out, op)
        if op == "get" and not made:
            return out
        step = self.flow.steps[self._step]
        if step.op != op or len(step.made) != len(made):
            raise _Differs
        if not made:
            self.values[self._step] = out
        elif not step.single:
            self.sequences[self._step] = (type(out), [one is not None for one in out])
        for number, t in zip(step.made, made, strict=True):
            if number not in self.forms:
                self._hold(number, t)
        cut = self.cuts.get(self._step)
        if cut is not None:
            self._keep(cut)
        self._step += 1
        return out

    def _keep(self, cut: Cut) -> None:
        for number, times in cut.live:
            t = self._alive[number]
            if (number, times) not in self.kept:
                if number in cut.overwritten:
                    t = t.clone()
                self.kept[number, times] = t
            if self._last[number] == cut.step:
                del self._alive[number]

    def done(self) -> bool:
        """Whether the pass made all the calls that were learnt."""
        return bool(self.forms) and self._step == len(self.flow.steps)

    def resumed(self, place: int, rows: Tensor) -> _Resumed:
        """Return the pass over some rows that begins after step ``place``."""
        return _Resumed(self, self.cuts[place], rows)


def _tensors(out: Any, op: str) -> list[Tensor]:
    try:
        return tensors_of(out, op)
    except Unreplayable:
        raise _Differs from None


class _Resumed:
    """One pass that begins in the middle."""

    def __init__(self, batch: _Batch, cut: Cut, rows: Tensor) -> None:
        self.differs = False
        self._batch = batch
        self._cut = cut
        self._known = {number: rows_of(batch.kept[number, times], rows) for number, times in cut.live}
        self._empty: dict[int, Tensor] = {}
        # Before the network runs, calls are none of its own.
        self._step = -1

    def begin(self, args: tuple[Any, ...]) -> None:
        """Put what the network made of its inputs into those that it was given."""
        if self._step >= 0:
            self._differ()
        self._step = 0
        for number, t in enumerate(tensors_in(args)):
            kept = self._known.get(number)
            if kept is not None:
                with torch._C.DisableTorchFunction():  # noqa: SLF001 - this call is not the network's
                    t.copy_(kept)
            self._known[number] = t

    def compute(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run a call after the cut, and return what one before it made."""
        if self._step < 0:
            return func(*args, **kwargs)
        if self._step > self._cut.step:
            if any(id(t) in self._empty for t in tensors_in((args, dict(kwargs)))):
                self._differ()
            return func(*args, **kwargs)
        op = operator_name(func)
        if op == "get":
            # What tells of a tensor is read from its placeholder, which has the same form.
            out = func(*args, **kwargs)
            if not isinstance(out, Tensor):
                return out
        step = self._batch.flow.steps[self._step]
        if step.op != op:
            self._differ()
        number = self._step
        self._step += 1
        if not step.dependent and not any(one in self._known for one in step.made):
            out = func(*args, **kwargs)
            for one, t in zip(step.made, _tensors(out, op), strict=True):
                self._known[one] = t
            return out
        found = [self._tensor(one) for one in step.made]
        if not found:
            return self._batch.values[number]
        if step.single:
            return found[0]
        kind, full = self._batch.sequences[number]
        ready = iter(found)
        return kind([next(ready) if there else None for there in full])

    def _tensor(self, number: int) -> Tensor:
        if number not in self._known:
            t = self._batch.forms[number].placeholder()
            self._known[number] = t
            self._empty[id(t)] = t
        return self._known[number]

    def _differ(self) -> None:
        self.differs = True
        raise _Differs


def rows_of(t: Tensor, rows: Tensor) -> Tensor:
    """Return some rows (n,) of a tensor, laid out in memory as it is."""
    out = torch.empty_like(t[:1].expand(len(rows), *t.shape[1:]), memory_format=_layout(t))
    return torch.index_select(t, 0, rows.to(t.device), out=out)


def _layout(t: Tensor) -> torch.memory_format:
    for dims, layout in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        if t.dim() == dims and t.is_contiguous(memory_format=layout) and not t.is_contiguous():
            return layout
    return torch.contiguous_format
