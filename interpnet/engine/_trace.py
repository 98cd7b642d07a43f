"""The engine: every operator call of a forward pass, by a stable name, to read, edit or re-rule.

A network's forward pass is a sequence of operator calls. :func:`instrument` watches them with a
:class:`torch.overrides.TorchFunctionMode`, so that ``nn.ReLU``, ``nn.ReLU(inplace=True)``,
``F.relu``, ``torch.relu_`` and a module called twice all look alike, and keeps a stack of module
names beside it, so that each call has a readable name. It is the only place in this project that
registers hooks, and it removes them, also after an exception.

Names
-----
``layer1.0.relu``
    the first call of that ``torch.nn`` module, ``layer1.0.relu:1`` the second one;
``inception3a.branch1:relu``
    the first ``relu`` called by that module's own code, ``inception3a.branch1:relu:1`` the second;
``relu``
    the first ``relu`` called by the network's own outermost code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from interpnet.engine._operators import (
    Convolution,
    Operator,
    argument,
    convolution_of,
    is_inplace,
    operator,
    operator_kind,
    operator_name,
)
from interpnet.errors import ModelError


@dataclass(frozen=True)
class Call:
    """One operator call, as a rule or an observer sees it."""

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    op: str
    kind: str | None
    name: str
    module: str

    @property
    def operator(self) -> Operator:
        """What is known of the operator."""
        return operator(self.op)

    @property
    def inplace(self) -> bool:
        """Whether the call overwrites its first argument: ``relu_``, ``+=`` or ``inplace=True``."""
        return is_inplace(self.func, self.args, self.kwargs)

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """Return the argument given by ``position`` or by ``name``."""
        return argument(self.args, self.kwargs, position, name, default)

    def on(self, x: Tensor) -> Call:
        """Return the same call with ``x`` as its input."""
        if self.args:
            return replace(self, args=(x, *self.args[1:]))
        return replace(self, kwargs={**self.kwargs, "input": x})

    def convolution(self) -> Convolution:
        """Return how a convolution walks over its input."""
        return convolution_of(self.args, self.kwargs, self.operator.dimensions)

    def run(self) -> Any:
        """Run the operator as the network's author wrote it."""
        return self.func(*self.args, **self.kwargs)


@dataclass(frozen=True)
class Instrument:
    """What to do while a network runs.

    Parameters
    ----------
    reads : mapping of site name to function
        Called with the operator's output. The function must reduce or copy at once what it needs:
        a later in-place operator may overwrite the tensor.
    edits : mapping of site name to function
        Called with the operator's output; what it returns takes the output's place, also where the
        operator works in place. While gradients are recorded it must return a new tensor.
    rule : function, optional
        Called with every :class:`Call` that makes a site, or slices a tensor, while gradients are
        recorded. It returns the output to use, as a new tensor, or ``None`` to leave the call alone.
    rule_inplace : bool
        The rule does in-place calls in place: where nothing edits them it gets the very tensor that the network's
        author overwrites and may return it overwritten, which saves two copies. Otherwise it gets a copy.
    observe : function, optional
        Called with every call and its output: for discovery.
    before : function, optional
        Called with the network's positional inputs before each forward pass.
    """

    reads: Mapping[str, Callable[[Tensor], None]] = field(default_factory=dict)
    edits: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    rule: Callable[[Call], Tensor | None] | None = None
    rule_inplace: bool = False
    observe: Callable[[Call, Any], None] | None = None
    before: Callable[[tuple[Any, ...]], None] | None = None


class _Engine(TorchFunctionMode):
    """The function mode, with the stack of module names that gives each call its name."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.instruments: list[Instrument] = []
        self._reads: dict[str, list[Callable[[Tensor], None]]] = {}
        self._edits: list[Mapping[str, Callable[[Tensor], Tensor]]] = []
        self._rule: Callable[[Call], Tensor | None] | None = None
        self._rule_inplace = False
        self._observers: list[Callable[[Call, Any], None]] = []
        self.calls: dict[str, int] = {}
        self._stack: list[str] = [""]
        self._handles: list[Any] = []
        self._single: set[str] = set()
        for name, module in model.named_modules():
            path = _clean(name)
            if not any(True for _ in module.children()) and _is_torch_layer(module):
                self._single.add(path)
            self._hook(module, path, root=module is model)

    def _hook(self, module: nn.Module, path: str, *, root: bool) -> None:
        def before(_module: nn.Module, args: Any) -> None:
            if root:
                for what in list(self.instruments):
                    if what.before is not None:
                        what.before(args)
                self.calls.clear()
                self._stack[:] = [""]
            self._stack.append(path)

        def after(_module: nn.Module, _args: Any, _output: Any) -> None:
            if len(self._stack) > 1:
                self._stack.pop()

        self._handles.append(module.register_forward_pre_hook(before))
        self._handles.append(module.register_forward_hook(after, always_call=True))

    def add(self, what: Instrument) -> None:
        self.instruments.append(what)
        self._sort()

    def discard(self, what: Instrument) -> None:
        for i in range(len(self.instruments) - 1, -1, -1):
            if self.instruments[i] is what:
                del self.instruments[i]
                break
        self._sort()

    def _sort(self) -> None:
        """Sort what the instruments ask for by what the hot path looks up."""
        self._reads = {}
        for what in self.instruments:
            for name, read in what.reads.items():
                self._reads.setdefault(name, []).append(read)
        # Edits are looked up at each call: some are filled in when the first batch runs.
        self._edits = [what.edits for what in self.instruments]
        ruling = next((what for what in reversed(self.instruments) if what.rule is not None), Instrument())
        self._rule, self._rule_inplace = ruling.rule, ruling.rule_inplace
        self._observers = [what.observe for what in self.instruments if what.observe is not None]

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()

    def name(self, op: str) -> str:
        path = self._stack[-1]
        base = path if path in self._single else f"{path}:{op}" if path else op
        count = self.calls.get(base, 0)
        self.calls[base] = count + 1
        return base if count == 0 else f"{base}:{count}"

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        kind = operator_kind(func, args, kwargs)
        if kind is None:
            return self._other(func, args, kwargs)
        name = self.name(operator_name(func))
        edits = [edits[name] for edits in self._edits if name in edits]
        rule = self._rule if self._rule is not None and torch.is_grad_enabled() else None
        if not edits and rule is None and not self._observers:
            out = func(*args, **kwargs)
        else:
            call = Call(func, args, kwargs, operator_name(func), kind, name, self._stack[-1])
            out = _run(call, rule, edits, rule_inplace=self._rule_inplace)
            for observe in self._observers:
                observe(call, out)
        for read in self._reads.get(name, ()):
            read(out)
        return out

    def _other(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        op = operator_name(func)
        if op == "get" or op == "set":  # a property of a tensor: nothing is computed
            return func(*args, **kwargs)
        call = Call(func, args, kwargs, op, None, "", self._stack[-1])
        out = None
        if self._rule is not None and op == "getitem" and torch.is_grad_enabled():
            out = self._rule(call)
        if out is None:
            out = func(*args, **kwargs)
        for observe in self._observers:
            observe(call, out)
        return out


def _run(
    call: Call,
    rule: Callable[[Call], Tensor | None] | None,
    edits: Sequence[Callable[[Tensor], Tensor]],
    *,
    rule_inplace: bool = False,
) -> Any:
    """Run one call under a rule and edits; in-place calls keep their meaning and their autograd graph."""
    if rule is None and not edits:
        return call.run()
    target = call.argument(0, "input") if call.inplace else None
    if target is not None and target.requires_grad and (edits or not rule_inplace):
        # Autograd would refuse to edit what an in-place operator saved, so compute on a copy, then
        # write the result where the author wanted it.
        call = call.on(target.clone())
    out = rule(call) if rule is not None else None
    if out is None:
        if target is not None and not edits:
            return call.on(target).run()
        out = call.run()
    for edit in edits:
        out = edit(out)
    if target is None or out is target:
        return out
    return target.copy_(out)


def _clean(path: str) -> str:
    """Return a module path without the wrapper names that compiling adds."""
    return ".".join(part for part in path.split(".") if part != "_orig_mod")


def _is_torch_layer(module: nn.Module) -> bool:
    return any(c.__module__.startswith("torch.nn.modules") and c is not nn.Module for c in type(module).__mro__)


_ENGINES: WeakKeyDictionary[nn.Module, _Engine] = WeakKeyDictionary()


@contextmanager
def instrument(model: nn.Module, what: Instrument) -> Iterator[None]:
    """Run ``model`` under an :class:`Instrument` inside a ``with`` block; nest them freely.

    Nested instruments on one model share one engine: edits apply from the outermost to the innermost,
    every read sees the edited value, and the innermost rule counts. Afterwards, also after an
    exception, no hook is left on the model.

    Raises
    ------
    ModelError
        The model, or a part of it, is scripted: its operators cannot be seen.

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
    engine = _ENGINES.get(model)
    if engine is not None:
        engine.add(what)
        try:
            yield
        finally:
            engine.discard(what)
        return
    engine = _Engine(model)
    engine.add(what)
    _ENGINES[model] = engine
    with ExitStack() as stack:
        stack.callback(engine.close)
        stack.callback(_ENGINES.pop, model, None)
        if _has_compiled_parts(model):
            # A compiled part would run as one opaque operator.
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(engine)
        yield


def _has_compiled_parts(model: nn.Module) -> bool:
    return any(hasattr(m, "_orig_mod") or getattr(m, "_compiled_call_impl", None) is not None for m in model.modules())


def unwrap(model: nn.Module) -> nn.Module:
    """Return the eager module inside ``torch.compile``, ``DataParallel`` or ``DistributedDataParallel``.

    Raises
    ------
    ModelError
        ``model`` is no module, or it or a part of it is a TorchScript module.

    Examples
    --------
    >>> unwrap(torch.nn.DataParallel(torch.nn.ReLU()))
    ReLU()
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"model is a {type(model).__name__}; expected a torch.nn.Module")
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            break
        model = inner
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            where = f"its part {name!r}" if name else "it"
            raise ModelError(
                f"the model cannot be traced: {where} is a TorchScript module, which hides its operators. "
                "Pass the original Python module with the same weights instead."
            )
    return model


@contextmanager
def evaluating(model: nn.Module, *, frozen: bool = False) -> Iterator[None]:
    """Force evaluation mode on every submodule, and restore each one's own ``training`` flag afterwards.

    ``frozen=True`` also turns ``requires_grad`` off on every parameter, so that no weight gradient is
    computed and no input is kept for one, and restores each flag.

    Examples
    --------
    >>> net = torch.nn.Sequential(torch.nn.Dropout())
    >>> with evaluating(net):
    ...     print(net[0].training)
    False
    >>> net[0].training
    True
    """
    training = [(m, m.training) for m in model.modules()]
    flags = [(p, p.requires_grad) for p in model.parameters()] if frozen else []
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
