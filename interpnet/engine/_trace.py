"""The engine: every operator call of a forward pass, by a stable name, to read, edit or re-rule.

:func:`instrument` watches the calls with a :class:`torch.overrides.TorchFunctionMode`, so that all spellings of an
operator look alike, and a stack of module names gives each call its name (docs/engine.md has the names).
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from interpnet.engine._by_hand import ByHand, as_one_call
from interpnet.engine._call import Call, overwrites
from interpnet.engine._claim import claimed
from interpnet.engine._composed import NAMED_AFTER, composed
from interpnet.engine._contents import buffers_kept
from interpnet.engine._device import full_precision, resolve_device
from interpnet.engine._expressions import Result
from interpnet.engine._operators import operator, operator_kind, operator_name, spelling
from interpnet.engine._pointwise import Expressions
from interpnet.engine._readable import check_gradients_can_be_switched
from interpnet.engine._recompute import without_recomputation
from interpnet.engine._unwrap import unwrap
from interpnet.errors import ModelError

Read = Callable[[Tensor], None]
Edit = Callable[[Tensor], Tensor]
Rule = Callable[[Call], Tensor | None]
Compute = Callable[[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Instrument:
    """What to do while a network runs; ``reads`` and ``edits`` go by the names of sites."""

    # Called with the operator's output. It must reduce or copy at once what it needs: a later in-place operator may
    # overwrite the tensor.
    reads: Mapping[str, Read] = field(default_factory=dict)
    # Called with the operator's output; what it returns takes the output's place, also where the operator works in
    # place. While gradients are recorded it must return a new tensor.
    edits: Mapping[str, Edit] = field(default_factory=dict)
    # Called with every call that makes a site, and with those of operators that are marked ``ruled``, while gradients
    # are recorded. It returns the output to use, as a new tensor, or None to leave the call alone.
    rule: Rule | None = None
    # The rule does in-place calls in place: where nothing edits them it gets the very tensor that the network's author
    # overwrites and may return it overwritten, which saves two copies. Otherwise it gets a copy.
    rule_inplace: bool = False
    # Called with every call and its output, for discovery.
    observe: Callable[[Call, Any], None] | None = None
    # Called with the network's positional inputs before each forward pass.
    before: Callable[[tuple[Any, ...]], None] | None = None
    # Called with each call's function and arguments in the place of the function: it returns what the call returns.
    # Not beside a rule or an observer, which see calls as they run.
    compute: Compute | None = None


class _Engine(TorchFunctionMode):
    """The function mode, with the stack of module names that gives each call its name."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.instruments: list[Instrument] = []
        self._sort()
        self._calls: Counter[str] = Counter()
        self._stack: list[str] = [""]
        self.handles: list[Any] = []
        self._single: set[str] = set()
        self._within: str | None = None
        self._thread = threading.get_ident()
        self._expressions = Expressions(model)
        for name, module in model.named_modules():
            # Compiling adds names of wrappers.
            path = ".".join(part for part in name.split(".") if part != "_orig_mod")
            if next(module.children(), None) is None and _is_torch_layer(module):
                self._single.add(path)
            self._hook(module, path, root=module is model)

    def _hook(self, module: nn.Module, path: str, *, root: bool) -> None:
        own = weakref.ref(module)

        def passes(called: nn.Module) -> bool:
            # A plain call in another thread is none of the engine's, nor one of a deep copy, which has its hooks too.
            return threading.get_ident() != self._thread or called is not own()

        def before(called: nn.Module, args: Any) -> None:
            if passes(called):
                return
            if root:
                for what in list(self.instruments):
                    if what.before is not None:
                        what.before(args)
                # Calls are numbered afresh in every forward pass, also after one that an exception ended.
                self._calls.clear()
                self._stack[:] = [""]
                self._expressions.clear()
            self._stack.append(path)

        def after(called: nn.Module, _args: Any, _output: Any) -> None:
            if len(self._stack) > 1 and not passes(called):
                self._stack.pop()

        self.handles.append(module.register_forward_pre_hook(before))
        self.handles.append(module.register_forward_hook(after, always_call=True))

    def unhook(self) -> None:
        for handle in self.handles:
            handle.remove()

    def add(self, what: Instrument) -> None:
        self.instruments.append(what)
        self._sort()

    def discard(self, what: Instrument) -> None:
        # By identity: two instruments may be equal.
        del self.instruments[max(i for i, one in enumerate(self.instruments) if one is what)]
        self._sort()

    def _sort(self) -> None:
        """Sort what the instruments ask for by what the hot path looks up."""
        self._reads: dict[str, list[Read]] = {}
        for what in self.instruments:
            for name, read in what.reads.items():
                self._reads.setdefault(name, []).append(read)
        # Edits are looked up at each call: some are filled in when the first batch runs.
        self._edits = [what.edits for what in self.instruments]
        self._ruling = next((what for what in reversed(self.instruments) if what.rule is not None), Instrument())
        self._observers = [what.observe for what in self.instruments if what.observe is not None]
        self._compute = next((what.compute for what in reversed(self.instruments) if what.compute is not None), None)

    def _name(self, op: str) -> str:
        base = self._stack[-1]
        if base not in self._single:
            base = f"{base}:{op}".removeprefix(":")
        count = self._calls[base]
        self._calls[base] += 1
        return f"{base}:{count}" if count else base

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        parts = composed(func)
        if parts is not None:
            self._within = NAMED_AFTER.get(func)
            try:
                with self:
                    return parts(*args, **kwargs)
            finally:
                self._within = None
        op = operator_name(func)
        compute = self._compute
        if op in {"get", "set"}:  # a property of a tensor: nothing is computed
            if compute is None:
                out = func(*args, **kwargs)
                # The one that moves axes is a call like its function's.
                if self._observers and _transposes(func):
                    swap = Call(torch.transpose, (args[0], -2, -1), {}, "transpose", None, "", self._stack[-1])
                    for observe in self._observers:
                        observe(swap, out)
                return out
            return compute(func, args, kwargs)
        kind = operator_kind(op, args, kwargs)
        row = operator(op)
        made = None
        if row.pointwise:
            made = self._expressions.made_by(func, row, kind, args, kwargs)
            # An activation written by hand ends here, whatever the operator.
            if isinstance(made, Result) and made.rectifies:
                kind = "rectifier"
        name = ""
        reads: list[Read] = []
        edits: list[Edit] = []
        if kind is not None:
            name = self._name(self._within or spelling(op, kind, args))
            for site in site_names(name, kind):
                reads = [*reads, *self._reads.get(site, ())]
                edits += [edits[site] for edits in self._edits if site in edits]
        rule = None
        if (kind is not None or row.ruled) and torch.is_grad_enabled():
            rule = self._ruling.rule
        # Most calls of a pass are wanted by nobody; they cost a few look-ups.
        call = None
        if compute is not None and rule is None and not self._observers:
            out = edited(compute(func, args, kwargs), edits, inplace=bool(edits) and overwrites(func, args, kwargs))
        elif not edits and rule is None and not self._observers:
            out = func(*args, **kwargs)
        else:
            call = self._call(Call(func, args, kwargs, op, kind, name, self._stack[-1]), made, ruled=rule is not None)
            out = _run(call, rule, edits, rule_inplace=self._ruling.rule_inplace)
        # An assignment returns nothing; what it made is what it wrote to.
        if op == "setitem":
            out = args[0]
        if call is not None:
            for observe in self._observers:
                observe(call, out)
        if made is not None:
            self._expressions.settle(made, out)
        elif args and out is args[0]:
            # Overwritten by something that is not followed.
            self._expressions.forget(out)
        for read in reads:
            read(out)
        return out

    def _call(self, call: Call, made: Any, *, ruled: bool) -> Call:
        """Return the call as rules and observers see it: the last one of an activation by hand as a whole."""
        if not isinstance(made, Result) or not made.curve:
            return call
        if not made.rectifies:
            return replace(call, curve=made.curve)
        start = self._expressions.start_of(made)
        if start is not None:
            return as_one_call(call, made, start)
        if ruled:
            raise ModelError(
                f"the activation written by hand that ends at {call.name!r} cannot be put under a rule: the map that "
                "it was made of was overwritten since. Use torch's own operator for it, such as torch.relu"
            )
        return replace(call, op=made.curve)


def _transposes(func: Callable[..., Any]) -> bool:
    """Whether it gets a tensor's property that swaps the last two axes."""
    return getattr(getattr(func, "__self__", None), "__name__", "") in {"T", "mT"}


def site_names(name: str, kind: str) -> tuple[str, ...]:
    """Return the names of the sites that a call makes: attention is read by features and by heads."""
    if kind == "product":
        return name, f"{name}/heads"
    return (name,)


def edited(out: Any, edits: Sequence[Edit], *, inplace: bool) -> Any:
    """Return a call's output after its edits; ``inplace`` says that the call overwrote it."""
    changed = out
    for edit in edits:
        changed = edit(changed)
    if inplace and changed is not out:
        return out.copy_(changed)
    return changed


def _run(call: Call, rule: Rule | None, edits: Sequence[Edit], *, rule_inplace: bool) -> Any:
    """Run one call under a rule and edits; in-place calls keep their meaning and their autograd graph."""
    if rule is None and not edits:
        return _written(call, call.run())
    target = None
    if call.inplace:
        target = call.argument(0, "input")
    if target is not None and target.requires_grad and (edits or not rule_inplace):
        # Autograd would refuse to edit what an in-place operator saved, so compute on a copy, then
        # write the result where the author wanted it.
        call = call.on(target.clone())
    out = None
    if rule is not None:
        out = rule(call)
    if out is None:
        if target is not None and not edits:
            return call.on(target).run()
        out = call.run()
    for edit in edits:
        out = edit(out)
    if target is None or out is target:
        return _written(call, out)
    return target.copy_(out)


def _written(call: Call, out: Any) -> Any:
    """Return ``out``, written to what the last operator of an activation by hand overwrites."""
    if not isinstance(call.func, ByHand) or call.func.target is None or out is call.func.target:
        return out
    target = call.func.target
    if target.requires_grad and not target.is_leaf and not target._is_view():  # noqa: SLF001
        # All of it is overwritten, so its own history ends here; autograd would keep it, with a gradient of zero.
        target.detach_()
    return target.copy_(out)


def _is_torch_layer(module: nn.Module) -> bool:
    return any(c.__module__.startswith("torch.nn.modules") and c is not nn.Module for c in type(module).__mro__)


_ENGINES: WeakKeyDictionary[nn.Module, _Engine] = WeakKeyDictionary()


@contextmanager
def instrument(model: nn.Module, what: Instrument) -> Iterator[None]:
    """Run ``model`` under an :class:`Instrument` inside a ``with`` block; nest them freely.

    Nested instruments on one model share one engine: edits apply from the outermost to the innermost,
    every read sees the edited value, and the innermost rule counts. Afterwards, also after an
    exception, no hook is left on the model. A scripted model or part hides its operators: a :class:`ModelError`.
    So is a model that another thread has under an instrument; a plain call in another thread is not watched.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU())
    >>> shapes = []
    >>> with instrument(net, Instrument(reads={"1": lambda out: shapes.append(tuple(out.shape))})):
    ...     _ = net(torch.zeros(1, 1, 5, 5))
    >>> shapes
    [(1, 2, 3, 3)]
    """
    model = unwrap(model)
    with ExitStack() as stack:
        stack.enter_context(claimed(model))
        engine = _ENGINES.get(model)
        if engine is None:
            engine = stack.enter_context(_running(model))
        engine.add(what)
        stack.callback(engine.discard, what)
        yield


@contextmanager
def as_written(model: nn.Module, before: Callable[[tuple[Any, ...]], None] | None = None) -> Iterator[None]:
    """Run a network's own operators in a block: nothing compiled or recomputed; ``before`` gets each pass's inputs."""
    thread = threading.get_ident()

    def hook(called: nn.Module, args: Any) -> None:
        if before is not None and called is model and threading.get_ident() == thread:
            before(args)

    with ExitStack() as stack:
        stack.enter_context(claimed(model))
        if before is not None:
            stack.callback(model.register_forward_pre_hook(hook).remove)
        # A compiled part would run as one opaque operator.
        if any(hasattr(m, "_orig_mod") or getattr(m, "_compiled_call_impl", None) for m in model.modules()):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(without_recomputation())
        yield


@contextmanager
def _running(model: nn.Module) -> Iterator[_Engine]:
    """Run an engine on a model that has none."""
    engine = _Engine(model)
    _ENGINES[model] = engine
    with ExitStack() as stack:
        stack.callback(engine.unhook)
        stack.callback(_ENGINES.pop, model, None)
        stack.enter_context(as_written(model))
        yield stack.enter_context(engine)


@contextmanager
def evaluating(model: nn.Module, *, frozen: bool = False) -> Iterator[None]:
    """Force evaluation mode on every submodule, and restore each one's own ``training`` flag afterwards.

    ``frozen=True`` also turns ``requires_grad`` off on every parameter, so that no weight gradient is
    computed and no input is kept for one, and restores each flag. While another thread does so, a :class:`ModelError`.
    On a GPU convolutions run in float32 meanwhile, not in TF32.

    Examples
    --------
    >>> net = torch.nn.Sequential(torch.nn.Dropout())
    >>> with evaluating(net):
    ...     print(net[0].training)
    False
    >>> net[0].training
    True
    """
    with claimed(model), buffers_kept(model), full_precision(resolve_device(None, model)):
        training = [(m, m.training) for m in model.modules()]
        flags = [(p, p.requires_grad) for p in model.parameters() if frozen]
        if frozen:
            check_gradients_can_be_switched(model)
        try:
            for module, _ in training:
                module.training = False
            for parameter, _ in flags:
                parameter.requires_grad_(False)
            yield
        finally:
            for module, flag in training:
                module.training = flag
            for parameter, flag in flags:
                parameter.requires_grad_(flag)
