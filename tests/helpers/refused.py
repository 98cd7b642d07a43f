"""Operators that the relevance methods have no rule for, behind one linear layer."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function


class Hidden(Function):
    """A rectifier that the engine cannot look into."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> Tensor:
        return grads[0]


def after_linear(f: Callable[[Tensor], Tensor]) -> nn.Module:
    """Return a network that applies ``f`` to a linear layer of four inputs and outputs."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return f(self.fc(x.flatten(1)))

    return Net().double().eval()


#: What neither LRP nor DeepLIFT can be right on, with what the error must say.
REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "batch norm of the batch": (lambda v: F.batch_norm(v, None, None, training=True), "'batch_norm'.*statistics"),
    "dropout": (lambda v: F.dropout(v, 0.9), "'dropout'.*random"),
    "dynamic weights": (lambda v: F.linear(v, v), "'linear'.*weights that depend"),
    "lp pool": (lambda v: F.lp_pool1d(v[:, None], 2, 2)[:, 0], "'lp_pool1d'"),
    "custom function": (Hidden.apply, "custom autograd function 'Hidden'"),
}
