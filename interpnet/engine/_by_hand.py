"""An activation written by hand as one call: of one function, on one map, with one site."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from interpnet.engine._call import Call
from interpnet.engine._expressions import Result, evaluate


class ByHand:
    """The function of a result, which runs the author's own last operator where that gives the same."""

    def __init__(self, call: Call, made: Result, root: Tensor) -> None:
        self._call = call
        self._made = made
        self._root = root
        # What the author's operator overwrites: the map itself, or a part that was made of it.
        self.target: Tensor | None = None
        if made.writes:
            self.target = call.args[0]
        self._inplace = self.target is root
        # The name is how in-place operators are told from others.
        self.__name__ = "by_hand"
        if self._inplace:
            self.__name__ = "by_hand_"

    def parts(self) -> Iterator[Tensor]:
        """Yield the tensors that the author's operator was given, apart from the map."""
        return (t for t in self._call.tensors() if t is not self._root)

    def __call__(self, x: Tensor) -> Tensor:
        if x is self._root and (self.target is None or self._inplace):
            out = self._call.run()
            if out is None:
                return x
            result: Tensor = out
            return result
        value = evaluate(self._made, self._made.start, x)
        if self._inplace and not torch.is_grad_enabled():
            return x.copy_(value)
        return value


def as_one_call(call: Call, made: Result, root: Tensor) -> Call:
    """Return the call of a rectifier on ``root`` that a pointwise call completes."""
    func: Any = ByHand(call, made, root)
    return replace(call, func=func, args=(root,), kwargs={}, op=made.curve)
