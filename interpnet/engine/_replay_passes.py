"""The passes of a replay: one over a whole batch, which keeps what is needed, and those that begin in the middle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from interpnet.engine._call import overwrites, tensors_in
from interpnet.engine._composed import composed
from interpnet.engine._dataflow import Cut, Dataflow, Unreplayable, tensors_of
from interpnet.engine._early_stop import Stop
from interpnet.engine._operators import operator_name
from interpnet.engine._trace import Edit, edited


class Differs(Stop):
    """A pass that does not make the calls that were learnt."""


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


class Pass(TorchFunctionMode):
    """A pass whose calls go by their numbers: cheaper than by names, once they are learnt."""

    def begin(self, args: tuple[Any, ...]) -> None:
        """Begin with the network's inputs."""
        raise NotImplementedError

    def compute(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return what a call returns."""
        raise NotImplementedError

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        parts = composed(func)
        if parts is not None:
            with self:
                return parts(*args, **(kwargs or {}))
        return self.compute(func, args, kwargs or {})


class Batch(Pass):
    """The pass over a whole batch, and what is kept of it."""

    def __init__(self, flow: Dataflow, cuts: dict[int, Cut], size: int) -> None:
        super().__init__()
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
            raise Differs
        self._step = 0
        with torch._C.DisableTorchFunction():  # noqa: SLF001 - these calls are not the network's
            for number, t in enumerate(tensors_in(args)):
                self._hold(number, t)

    def _hold(self, number: int, t: Tensor) -> None:
        self.forms[number] = _Form(t.shape, t.dtype, t.device)
        if number in self._last:
            if t.shape != (self.size, *self.flow.tensors[number].shape[1:]):
                raise Differs
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
            raise Differs
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


def _tensors(out: Any, op: str) -> list[Tensor]:
    try:
        return tensors_of(out, op)
    except Unreplayable:
        raise Differs from None


class Resumed(Pass):
    """One pass that begins in the middle."""

    def __init__(self, batch: Batch, cut: Cut, rows: Tensor, edits: Mapping[str, Edit]) -> None:
        super().__init__()
        self.differs = False
        # A call may make two sites.
        self._edits: dict[int, list[Edit]] = {}
        for name, edit in edits.items():
            self._edits.setdefault(batch.flow.at[name], []).append(edit)
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
        """Run a call after the cut, and return what one before it made; then edit it."""
        number = self._step
        if not 0 <= number < len(self._batch.flow.steps):
            return func(*args, **kwargs)
        op = operator_name(func)
        if op == "get":
            # What tells of a tensor is read from its placeholder, which has the same form.
            out = func(*args, **kwargs)
            if not isinstance(out, Tensor):
                return out
        step = self._batch.flow.steps[number]
        if step.op != op:
            self._differ()
        self._step += 1
        if number <= self._cut.step:
            out = self._before_cut(func, args, kwargs, number)
        else:
            if any(id(t) in self._empty for t in tensors_in((args, dict(kwargs)))):
                self._differ()
            out = func(*args, **kwargs)
        edits = self._edits.get(number)
        if edits is None:
            return out
        return edited(out, edits, inplace=overwrites(func, args, kwargs))

    def _before_cut(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], number: int
    ) -> Any:
        step = self._batch.flow.steps[number]
        if not step.dependent and not any(one in self._known for one in step.made):
            out = func(*args, **kwargs)
            for one, t in zip(step.made, _tensors(out, step.op), strict=True):
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
        raise Differs


def rows_of(t: Tensor, rows: Tensor) -> Tensor:
    """Return some rows (n,) of a tensor, laid out in memory as it is."""
    out = torch.empty_like(t[:1].expand(len(rows), *t.shape[1:]), memory_format=_layout(t))
    return torch.index_select(t, 0, rows.to(t.device), out=out)


def _layout(t: Tensor) -> torch.memory_format:
    for dims, layout in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        if t.dim() == dims and t.is_contiguous(memory_format=layout) and not t.is_contiguous():
            return layout
    return torch.contiguous_format
