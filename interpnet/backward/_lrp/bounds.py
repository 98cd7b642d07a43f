"""The bounds of the values that a layer reads off the image: those of its pixels, moved and scaled as they were."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from interpnet.backward._refusals import origin_of
from interpnet.engine import Call, tensors_in

#: The lowest and the highest value at each place.
Box = tuple[Tensor, Tensor]


class Bounds:
    """Lowest and highest values of the image, and of what calls make of it that move its values or scale them.

    Without a box nothing is known.
    """

    def __init__(self, box: Box | None) -> None:
        self._box = box
        self._known: dict[tuple[Any, int], Box] = {}
        self._next: list[Box] | None = None

    def of(self, x: Tensor) -> Box | None:
        """Return the bounds of a tensor that depends on the image; ``None`` where they are not known."""
        return self._from(origin_of(x), x.shape)

    def carry(self, call: Call, out: Any = None) -> None:
        """Work out the bounds of what a call returns, before it runs: it may overwrite its input."""
        operator = call.operator
        several = operator.moves or operator.axes == "cat"
        boxes: dict[int, Box | None] = {}
        for t in call.tensors():
            if t.requires_grad:
                # What has been overwritten starts from what it was.
                origin = t.grad_fn.next_functions[0] if t is out and t.grad_fn is not None else origin_of(t)
                boxes[id(t)] = self._from(origin, t.shape)
        self._next = []
        known = {key: box for key, box in boxes.items() if box is not None}
        if len(known) == len(boxes) and (several or (operator.affine and operator.pointwise and len(known) == 1)):
            ends = (_made(call, {key: box[end] for key, box in known.items()}) for end in (0, 1))
            # A number may turn the lowest value into the highest.
            self._next = [(torch.minimum(a, b), torch.maximum(a, b)) for a, b in zip(*ends, strict=True)]

    def settle(self, call: Call, out: Any) -> None:
        """Enter the bounds of ``out``, what a call returned; calls of which no rule is asked are carried here."""
        if self._next is None:
            self.carry(call, out)
        for tensor, box in zip(tensors_in((out,)), self._next or (), strict=False):
            if tensor.requires_grad:
                self._known[origin_of(tensor)] = box
        self._next = None

    def _from(self, origin: tuple[Any, int], shape: torch.Size) -> Box | None:
        node, number = origin
        while node is not None and node.name() == "CloneBackward0":
            node, number = node.next_functions[0]
        found = self._known.get((node, number))
        # The image itself: nothing has made it, and nothing else of a pass needs a gradient.
        if node is None or node.name().endswith("AccumulateGrad"):
            found = self._box
        if found is None or found[0].shape != shape:
            return None
        return found

    def clear(self) -> None:
        """Forget all but the image's own: what is known keeps the graph alive."""
        self._known.clear()


def _made(call: Call, ends: dict[int, Tensor]) -> list[Tensor]:
    """Return the tensors that a call makes of bounds in the place of its tensors, known by their ids."""

    def put(value: Any) -> Any:
        if isinstance(value, Tensor):
            # A copy: the call may work in place.
            return ends[id(value)].clone() if id(value) in ends else value
        if isinstance(value, list | tuple):
            return type(value)(map(put, value))
        return value

    with torch.no_grad():
        given = replace(call, args=put(call.args), kwargs={name: put(value) for name, value in call.kwargs.items()})
        return list(tensors_in((given.run(),)))
