"""DeepLIFT's methods, and their maps where they must be complete."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from interpnet.attribution import attribute_full
from interpnet.engine import OneColumn

METHODS = ("deeplift", "deeplift_revealcancel")


def raw(model: nn.Module, x: Tensor, method: str = "deeplift", **options: object) -> Tensor:
    """Return class 0's signal, of one output its own, which must be complete to float64's rounding."""
    model = model.double().eval()
    found = attribute_full(model, x, 0, method, output=OneColumn(), **options)
    assert float(found.residual.max()) < 1e-9
    assert not bool(found.flagged.any())
    return found.raw


class Wrap(nn.Module):
    """A function of (B, 1, 1, n) images given as rows (B, n), with a column of logits out."""

    def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x.flatten(1)).reshape(x.shape[0], -1)
