"""What an operator's operands and result say: whose values they hold, whether they are still the image's own."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from interpnet.backward._lrp.layers import Relevance
from interpnet.engine import Call, backward_nodes, node_name

_MOVING = ("View", "Expand", "Unsqueeze", "Squeeze", "Clone", "Reshape", "UnsafeView", "Permute", "Transpose")
#: Nodes that take a part of a tensor.
PARTS = ("Select", "Slice")
#: What masks fill with is at most this; the softmax of other scores gives it 0.
HIDDEN = -1e4


def maker(x: Tensor, *more: str) -> Any:
    """Return the node of the backward graph whose values ``x`` holds, whatever their places; ``more`` move values."""
    node = x.grad_fn
    while node is not None and node.name().startswith((*_MOVING, *more)):
        node = node.next_functions[0][0]
    return node


def factor_of(call: Call, out: Any) -> float | None:
    """Return the number that a call multiplies its one tensor by, if it does only that."""
    if call.kind is not None or not isinstance(out, Tensor) or not out.requires_grad:
        return None
    if call.op in {"neg", "negative"}:
        return -1.0
    if call.operator.kind != "mul" or len(call.args) < 2 or call.kwargs.get("rounding_mode"):
        return None
    x, number = call.args[:2]
    swapped = not isinstance(x, Tensor) or not x.requires_grad
    if swapped:
        number = x
    if isinstance(number, Tensor) and (number.requires_grad or number.numel() != 1):
        return None
    number = float(number)
    if "div" not in call.op:
        return number
    if swapped:
        return None
    # A factor of zero counts as none: the caller then refuses the operator.
    return number and 1 / number


def shifts_image(call: Call, out: Any) -> bool:
    """Whether a call adds a number to the image, which passes relevance on: the map is of the normalised image."""
    if call.kind is not None or call.op not in {"add", "sub"} or not isinstance(out, Tensor):
        return False
    return sum(isinstance(a, Tensor) for a in call.args) == 1 and reads_image(out)


def reads_image(x: Tensor) -> bool:
    """Whether nothing but moved values, sums and products with constants lie between ``x`` and the image."""
    return all(node_name(node) != Relevance.__name__ for node in backward_nodes([x]))


def hides(call: Call) -> bool:
    """Whether a call fills a map with what a softmax does not see, as masks of attention are written."""
    if call.op == "masked_fill":
        return _hidden(call.argument(2, "value"))
    return call.op == "where" and any(_hidden(call.argument(i, name)) for i, name in ((1, "input"), (2, "other")))


def _hidden(value: Any) -> bool:
    """Whether a number, or every value of a constant, is one that a softmax does not see."""
    if isinstance(value, Tensor):
        return not value.requires_grad and value.numel() > 0 and float(value.max()) <= HIDDEN
    return isinstance(value, int | float) and value <= HIDDEN
