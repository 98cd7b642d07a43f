"""What LRP and DeepLIFT share: which operators may keep their own gradient, and the refusal of all others.

Both send something other than the gradient from the logit to the image. They are right only if every operator
on the way is either under one of their rules or one for which the gradient is the rule. The engine shows them
every call of the torch API, so an operator that is neither is refused by name instead of passing unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor

from interpnet.engine import Call, backward_nodes, is_custom, node_name, tensors_in
from interpnet.errors import ModelError

Run = Callable[[], Tensor]
SendBack = Callable[..., Sequence[Tensor]]


@dataclass(frozen=True)
class Asked:
    """What a user asked for, by the name of the argument that says it, as errors name it."""

    name: str
    option: str = "method"

    def __str__(self) -> str:
        return f"{self.option}={self.name!r}"

    @property
    def instead(self) -> str:
        """Return what to use where it cannot be right."""
        return _INSTEAD[self.option]


_INSTEAD = {
    "method": "use a method that needs no rule for it, e.g. 'integrated_gradients' or 'occlusion'",
    "rule": "use seed='contribution' where it comes after the channels, channels of layers before it, or "
    "rule='guided', as variant='paper' does",
}


def refuse_operator(asked: Asked, call: Call, why: str) -> NoReturn:
    """Raise the :class:`ModelError` that names the operator on which what was asked for cannot be right."""
    where = call.name or "in " + (call.module or "the network's own code")
    raise ModelError(
        f"{asked} cannot be right on this network: the operator {call.op!r} ({where}) {why}; {asked.instead}"
    )


class Refusals:
    """Operators that a method cannot be right on, refused once it is known that the logits depend on them.

    What an activation written by hand is made of may be among them: its rule goes past these parts.
    """

    def __init__(self, asked: Asked, *, affine: bool, ruled: Collection[str] = ()) -> None:
        self._asked = asked
        # Operators without a site of their own that the rule takes or refuses.
        self._ruled = ruled
        # Operators that are affine in the image are right too, and not only those that move values.
        self._affine = affine
        self._now: ModelError | None = None
        self._found: list[tuple[Any, ModelError]] = []

    def guard(self, rule: Callable[[Call], Tensor | None], call: Call) -> Tensor | None:
        """Return what a rule makes of a call; where it refuses the call, the call keeps its own gradient for now."""
        try:
            return rule(call)
        except ModelError as error:
            self._now = error
            return None

    def observe(self, call: Call, out: Any) -> None:
        """Note a call that the rule refused, or that no rule is asked for and that may not keep its own gradient."""
        error = self._now
        self._now = None
        if error is None and call.op not in self._ruled:
            try:
                check_gradient_is_right(self._asked, call, out, affine=self._affine)
            except ModelError as refusal:
                error = refusal
        if error is not None:
            self._found.extend((t.grad_fn, error) for t in tensors_in((out,)) if t.grad_fn is not None)

    def check(self, *results: Tensor) -> None:
        """Raise the first refusal on the way to any of ``results``, or a function not ours that hides one."""
        if self._found:
            nodes = set(backward_nodes(results))
            for node, error in self._found:
                if node in nodes:
                    raise error
            self._found.clear()
        check_no_hidden_functions(self._asked, results)


def check_gradient_is_right(asked: Asked, call: Call, out: Any, *, affine: bool) -> None:
    """Raise unless a call for which no rule is asked may keep its own gradient.

    Parameters
    ----------
    asked : Asked
    call : Call
        As an observer sees it; calls that make a site are under the rules and are passed over.
    out
        What the call returned.
    affine : bool
        Operators that are affine in the image are right too, and not only those that move values.
    """
    # What needs no gradient does not depend on the image.
    if call.kind is not None or not any(t.requires_grad for t in tensors_in((out,))):
        return
    operator = call.operator
    if operator.drops:
        if not torch.equal(out, first_tensor(call)):
            refuse_operator(asked, call, "drops values at random although the model is in evaluation mode")
    elif not (operator.moves or (affine and operator.affine)):
        refuse_operator(asked, call, "has no rule")
    elif operator.affine and not _is_affine(call):
        refuse_operator(asked, call, "joins or divides values that depend on the image in a way that has no rule")


def _is_affine(call: Call) -> bool:
    """Whether one operand at most depends on the image, and none divides or is rounded."""
    if sum(t.requires_grad for t in tensors_in(call.args)) > 1:
        return False
    if "div" not in call.op:
        return True
    divides = any(isinstance(t, Tensor) and t.requires_grad for t in call.args[1:])
    return not divides and not call.kwargs.get("rounding_mode")


def first_tensor(call: Call) -> Tensor:
    """Return the operator's input: its first argument, or the one called ``input``."""
    first = (*call.args, call.kwargs.get("input"))[0]
    return next(iter(tensors_in((first,))))


def evaluate_call(call: Call) -> Tensor:
    """Return what the call computes, leaving its inputs as they are and without a graph."""
    if call.inplace:
        call = call.on(first_tensor(call).detach().clone())
    with torch.no_grad():
        y: Tensor = call.run()
    return y


def addition_weights(call: Call) -> tuple[float, float]:
    """Return the weights of the two terms of an addition or subtraction."""
    alpha = float(call.kwargs.get("alpha", 1))
    return {"sub": (1.0, -alpha), "rsub": (-alpha, 1.0)}.get(call.op, (1.0, alpha))


class Ruled(torch.autograd.Function):
    """The value ``run()`` of an operator whose backward is a rule; subclasses give the backward graph a name."""

    @staticmethod
    def forward(ctx: Any, run: Run, send_back: SendBack, *inputs: Tensor) -> Tensor:
        ctx.send_back = send_back
        out = run()
        if any(out is x for x in inputs):
            # The operator works in place.
            ctx.mark_dirty(out)
        return out

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *ctx.send_back(*signals))  # run and send_back have no gradient

    @classmethod
    def of(cls, run: Run, send_back: SendBack, *inputs: Tensor) -> Tensor:
        """Return ``run()``; backward, ``send_back`` turns its signal into one signal for each of the inputs."""
        out: Tensor = cls.apply(run, send_back, *inputs)
        return out


def check_no_hidden_functions(asked: Asked, results: Sequence[Tensor]) -> None:
    """Raise if the backward graph of ``results`` holds an autograd function that is not ours: no call shows these."""
    # Compared by name: the backward graph holds a node of its own class.
    known = {rule.__name__ for rule in Ruled.__subclasses__()}
    for node in backward_nodes(results):
        if is_custom(node) and node_name(node) not in known:
            raise ModelError(
                f"{asked} cannot be right on this network: the custom autograd function "
                f"{node_name(node)!r} hides what it computes; write it with torch's own operators"
            )


def origin_of(x: Tensor) -> tuple[Any, int]:
    """Return the node of the backward graph that made ``x``, and which of its outputs ``x`` is."""
    node = x.grad_fn
    number = x.output_nr
    # Copies are seen through: the engine copies what the network overwrites later.
    while node is not None and node.name() == "CloneBackward0":
        node, number = node.next_functions[0]
    return node, number
