"""What each call of a forward pass takes and makes, learnt once: what a pass needs that begins in the middle.

A network's calls are watched on two images and on three. What changes with that is not the same for every batch, and
what grows along the first axis alone holds one row for each image. Whatever cannot be told is :class:`Unreplayable`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from interpnet.engine._call import tensors_in, times_written
from interpnet.engine._early_stop import Stop
from interpnet.engine._forward import forward
from interpnet.engine._function import probing
from interpnet.engine._operators import operator_name
from interpnet.engine._trace import Instrument, instrument

# What tells of a tensor without looking at its values. Where its memory lies is not among them.
_METADATA = frozenset(
    "dim ndimension size numel nelement len stride is_contiguous is_floating_point is_complex is_signed element_size "  # noqa: SIM905
    "get_device storage_offset is_same_size is_pinned is_inference is_tensor is_nested type dim_order sym_size "
    "sym_numel sym_stride has_names is_shared is_conj is_neg can_cast result_type is_distributed".split()
)
_ACCESS = frozenset({"get", "set"})


class Unreplayable(Stop):
    """Why passes over a network cannot begin in the middle."""


@dataclass(frozen=True)
class Step:
    """One call of a forward pass; tensors go by numbers, the same in every pass."""

    op: str
    # The tensors that it returns, and whether as such or in a sequence; none for any other result.
    made: tuple[int, ...]
    single: bool
    # It is given something that depends on the images.
    dependent: bool
    # The memory that it overwrites, by the number of the first tensor in it.
    written: frozenset[int]


@dataclass
class Made:
    """One tensor of a forward pass."""

    memory: int  # the number of the first tensor in the same memory
    step: int  # that made it; -1 for the network's input
    depends: int | None  # the step from which on it depends on the images; None for never
    shape: tuple[int, ...]
    itemsize: int
    last_use: int
    # A step that does not depend on the images reads it.
    read_early: bool = False


@dataclass(frozen=True)
class Cut:
    """A place where a pass can begin: right after one step."""

    step: int
    # The tensors that steps after it take and that depend on the images, each with how often it was written before.
    live: tuple[tuple[int, int], ...]
    # Those that later steps overwrite.
    overwritten: frozenset[int]


@dataclass
class Dataflow:
    """The steps of a forward pass, and where it can begin for each site."""

    steps: list[Step]
    tensors: list[Made]
    at: dict[str, int]  # the step that makes each site
    cuts: dict[int, Cut] = field(default_factory=dict)  # by step

    def bytes_of(self, number: int) -> int:
        """Return the size of a tensor for one image."""
        made = self.tensors[number]
        size = made.itemsize
        for length in made.shape[1:]:
            size *= length
        return size


class _Learner:
    """Watches one pass; every tensor is kept, so that none is taken for another."""

    def __init__(self, model: nn.Module, sites: Sequence[str]) -> None:
        self.flow = Dataflow([], [], {})
        self.foreign: dict[int, Tensor] = {}
        self.inputs: list[Tensor] = []
        self._known: dict[int, int] = {}
        self._kept: list[Tensor] = []
        self._memory: dict[int, int] = {}
        self._own = {id(t): t for t in (*model.parameters(), *model.buffers())}
        reads = {name: partial(self._site, name) for name in sites}
        self.instrument = Instrument(compute=self._compute, before=self._before, reads=reads)

    def _site(self, name: str, _out: Tensor) -> None:
        self.flow.at[name] = len(self.flow.steps) - 1

    def _before(self, args: tuple[Any, ...]) -> None:
        if self.inputs:
            raise Unreplayable("it runs several times for one batch")
        self.inputs = list(tensors_in(args))
        # These calls are not the network's.
        with torch._C.DisableTorchFunction():  # noqa: SLF001 - torch has no public name for it
            for t in self.inputs:
                self._number(t, step=-1, depends=-1)

    def _number(self, t: Tensor, *, step: int, depends: int | None) -> int:
        """Return the number of a tensor, a new one for one that was not seen yet."""
        if id(t) in self._known:
            return self._known[id(t)]
        if type(t) not in (Tensor, nn.Parameter) or t.layout != torch.strided or t.is_quantized or t.is_nested:
            raise Unreplayable(f"it computes with a {type(t).__name__} of {t.layout}")
        number = len(self.flow.tensors)
        memory = number
        if t.numel():
            memory = self._memory.setdefault(t.untyped_storage().data_ptr(), number)
        self._known[id(t)] = number
        self._kept.append(t)
        self.flow.tensors.append(Made(memory, step, depends, tuple(t.shape), t.element_size(), step))
        return number

    def _given(self, values: Any) -> list[tuple[Tensor, int]]:
        """Return the tensors among a call's arguments that this pass made, and note all others."""
        found = []
        for t in tensors_in(values):
            if id(t) in self._known:
                found.append((t, self._known[id(t)]))
            elif id(t) not in self._own:
                self.foreign[id(t)] = t
        return found

    def _compute(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        op = operator_name(func)
        every = [(t, times_written(t)) for t in tensors_in((args, dict(kwargs)))]
        given = self._given((args, dict(kwargs)))
        out = func(*args, **kwargs)
        made = tensors_of(out, op)
        if op == "get" and not made:
            return out
        tensors = self.flow.tensors
        step = len(self.flow.steps)
        dependent = any(tensors[number].depends is not None for _, number in given)
        if dependent and not made and out is not None and op not in _METADATA:
            raise Unreplayable(f"its code looks at values that depend on the images, by {op!r}")
        if dependent and op == "set":
            raise Unreplayable("its code exchanges what a tensor holds")
        if any(tuple(t.shape) != tensors[number].shape for t, number in given):
            raise Unreplayable(f"{op!r} changes the shape of a tensor in place")
        written = frozenset(self._written(t, op, dependent) for t, before in every if times_written(t) != before)
        for _, number in given:
            tensors[number].last_use = step
            tensors[number].read_early |= not dependent and bool(made)
        if dependent:
            for one in tensors:
                if one.memory in written and one.depends is None:
                    one.depends = step
        depends = None
        if dependent:
            depends = step
        numbers = tuple(self._own_number(t, step, depends) for t in made)
        self.flow.steps.append(Step(op, numbers, isinstance(out, Tensor), dependent, written))
        return out

    def _own_number(self, t: Tensor, step: int, depends: int | None) -> int:
        if id(t) in self._own:
            # A parameter in place, such as one that is cast to the type that it has.
            return self._number(t, step=step, depends=None)
        return self._number(t, step=step, depends=depends)

    def _written(self, t: Tensor, op: str, dependent: bool) -> int:
        memory = self._memory.get(t.untyped_storage().data_ptr())
        if memory is None:
            if dependent:
                raise Unreplayable(f"{op!r} writes what depends on the images into what it keeps between passes")
            # Of the network itself; no number of a tensor of this pass.
            return -1
        return memory

    def end(self, result: Any) -> None:
        """Note what the network returns as used after the last step."""
        for _, number in self._given((result,)):
            self.flow.tensors[number].last_use = len(self.flow.steps)


def tensors_of(out: Any, op: str) -> list[Tensor]:
    """Return the tensors that a call returns: one, or a sequence of them."""
    if isinstance(out, Tensor):
        return [out]
    found = list(tensors_in((out,)))
    flat = isinstance(out, list | tuple) and all(one is None or isinstance(one, Tensor) for one in out)
    if found and not flat:
        raise Unreplayable(f"{op!r} returns tensors in a {type(out).__name__}")
    return found


def learn(model: nn.Module, images: Tensor, sites: Sequence[str]) -> Dataflow:
    """Return the calls of ``model`` on images like these (B, C, ...), with a cut after every site that allows one.

    :class:`Unreplayable` where its calls differ from batch to batch, or depend on values.
    """
    passes = []
    with probing(model, images.device):
        for n in (2, 3):
            learner = _Learner(model, sites)
            # Different images, for calls that depend on values.
            batch = images[torch.arange(n, device=images.device) % len(images)].detach().clone()
            with instrument(model, learner.instrument):
                result = forward(model, batch)
            learner.end(result)
            passes.append(learner)
    two, three = passes
    if two.flow.steps != three.flow.steps or two.flow.at != three.flow.at:
        raise Unreplayable("it makes other calls for other images")
    if two.foreign.keys() != three.foreign.keys():
        raise Unreplayable("it computes with a tensor that no call of torch has made, or that an earlier pass left")
    if len(two.flow.at) != len(sites):
        raise Unreplayable("it does not come to every layer in every pass")
    flow = three.flow
    for step in sorted(set(flow.at.values())):
        cut = _cut(two.flow, flow, step)
        if cut is not None:
            flow.cuts[step] = cut
    return flow


def _cut(two: Dataflow, flow: Dataflow, step: int) -> Cut | None:
    """Return the cut after ``step``, None where a pass cannot begin there."""
    live = []
    for number, made in enumerate(flow.tensors):
        here = made.step <= step < made.last_use
        if not here or made.depends is None or made.depends > step:
            continue
        small = two.tensors[number].shape
        if small[:1] != (2,) or made.shape != (3, *small[1:]):
            return None
        if made.depends != made.step and made.read_early:
            # Made without the images, read, and filled from them later: what was read is not what is kept.
            return None
        live.append(number)
    # An edit overwrites what a site made.
    later = [flow.steps[i].written for i in range(step + 1, len(flow.steps))]
    edited = {flow.tensors[n].memory for i in flow.at.values() if i >= step for n in flow.steps[i].made}
    written = frozenset().union(*later)
    memories = [flow.tensors[number].memory for number in live]
    if any(memories.count(memory) > 1 for memory in written | edited):
        return None
    times = [sum(flow.tensors[n].memory in flow.steps[i].written for i in range(step + 1)) for n in live]
    overwritten = frozenset(n for n in live if flow.tensors[n].memory in written)
    return Cut(step, tuple(zip(live, times, strict=True)), overwritten)
