"""Whether a network's one output is a logit of each image, of which two classes can be made.

Of a probability every image would be of class 1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from interpnet.engine._call import Call, tensors_in
from interpnet.engine._forward import forward
from interpnet.engine._logits import OneColumn, Output, part_of
from interpnet.engine._trace import Instrument, instrument
from interpnet.errors import ModelError

# What a value is, and how its logit is found.
_REMEDIES = {
    "probability": "output=torch.logit",
    "log-probability": "output=lambda y: y - torch.log1p(-y.exp())",
}
# What an operator makes of one that is known, where a sigmoid is written by hand.
_BY_HAND = {
    ("add", "exp"): "1 + exp",
    ("reciprocal", "1 + exp"): "probability",
    ("rdiv", "1 + exp"): "probability",
}
# They leave a probability one, beside those that move or copy it.
_KEEP = ("clamp", "clip", "nan_to_num")


class Probabilities:
    """Watches one pass for results of a sigmoid or softmax, and what only moves, copies or clamps them.

    By the operators and not by the values alone: logits of an untrained network may all lie between 0 and 1.
    """

    def __init__(self) -> None:
        # By memory, which views share; a tensor is kept, so that its memory is not used again.
        self._known: dict[int, tuple[str, Tensor]] = {}

    def observe(self, call: Call, out: Any) -> None:
        """Note what a call made."""
        kind = self._made_of(call)
        if call.operator.probability:
            kind = "probability"
            if call.op.startswith("log"):
                kind = "log-probability"
        for tensor in tensors_in((out,)):
            place = _memory(tensor)
            if kind:
                self._known[place] = (kind, tensor)
            elif call.inplace:
                self._known.pop(place, None)

    def _made_of(self, call: Call) -> str:
        """Return what a call makes of what is known, ``""`` for nothing known."""
        values = [t for t in call.tensors() if t.is_floating_point()]
        if len(values) == 1 and (call.operator.moves or call.operator.copies or call.op in _KEEP):
            return self._kind(values[0])
        # 1 / (1 + exp(-z)), and exp(z) / (1 + exp(z)).
        if call.op == "exp":
            return "exp"
        if len(values) == 1:
            return _BY_HAND.get((call.op, self._kind(values[0])), "")
        if call.op == "div" and len(values) == 2 and self._kind(values[1]) == "1 + exp":
            return "probability"
        return ""

    def check(self, model: nn.Module, images: Tensor, result: Any, output: Output | None) -> None:
        """Raise :class:`ModelError` where the one output for two images at most is no logit of each image."""
        if isinstance(output, OneColumn):
            return
        # A sigmoid may also stand in a function given as output=.
        with instrument(model, Instrument(observe=self.observe)):
            values = part_of(result, output)
        if not isinstance(values, Tensor) or values.numel() != len(images):
            return
        _check_alone(model, images, values, output)
        kind = self._kind(values)
        if kind in _REMEDIES:
            raise ModelError(
                f"the model's one output is a {kind} (it ends in a sigmoid or softmax), and logits are expected, of "
                f"which class 1 has those above 0: as it is, every image would be of the same class. Pass "
                f"{_REMEDIES[kind]}, or, which loses no digits, leave that operator out of the model "
                "or of output="
            )

    def _kind(self, tensor: Tensor) -> str:
        return self._known.get(_memory(tensor), ("", tensor))[0]


def _check_alone(model: nn.Module, images: Tensor, values: Tensor, output: Output | None) -> None:
    """Raise where ``values`` (2,) may be two outputs of one image that came without a batch axis."""
    if len(images) == 1 or values.dim() != 1:
        return
    try:
        alone = part_of(forward(model, images[:1]), output)
    except ModelError:
        alone = None
    if not isinstance(alone, Tensor) or alone.numel() != 1:
        raise ModelError(
            f"the model's output has shape {tuple(values.shape)} for images of shape {tuple(images.shape)}, and is not "
            "one number for one image alone; expected logits (B, classes), of images (B, C, H, W), batch in front"
        )


def _memory(tensor: Tensor) -> int:
    if tensor.layout is not torch.strided:
        return 0
    return tensor.untyped_storage().data_ptr()
