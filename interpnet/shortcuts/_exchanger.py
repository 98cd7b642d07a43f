"""Exchanging what was found to be suspicious, in images that a search has not seen: what a repair trains on."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from interpnet.engine import Output, check_logits, evaluating, forward_logits, log_odds
from interpnet.errors import InterpNetError
from interpnet.shortcuts._by_class import ByClass
from interpnet.shortcuts._evidence import strongest
from interpnet.shortcuts._parts import Images, Part


class Exchanger:
    """The suspicious parts of a network, with what is needed to exchange them.

    Parameters
    ----------
    model : nn.Module
        The network that was searched; it tells where the strongest evidence of an image is.
    parts : sequence of Part
        The distinct parts of the suspicious classes.
    by_class : ByClass
        What the classes of the searched images have in common.
    """

    def __init__(self, model: nn.Module, parts: Sequence[Part], by_class: ByClass, output: Output | None) -> None:
        self._model = model
        self.parts = tuple(parts)
        self._by_class = by_class
        self._output = output

    def only(self, names: Collection[str]) -> Exchanger:
        """Return one that exchanges the parts of these names alone."""
        parts = [part for part in self.parts if part.name in names]
        return Exchanger(self._model, parts, self._by_class, self._output)

    def exchange(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return images (B, C, H, W), each with a suspicious part of another one of them, both drawn at random.

        The label of an image stays that of its rest.
        """
        if not self.parts:
            raise InterpNetError("no class is suspicious, so that there is no part to exchange, and nothing to repair")
        n = len(images)
        donors = torch.randperm(n, generator=generator)
        which = torch.randint(0, len(self.parts), (n,), generator=generator)
        peaks = torch.zeros(n, 2, 2, dtype=torch.int64)
        if any(part.kind == "patch" for part in self.parts):
            peaks = self._peaks(images)
        both = Images(images, labels.long().cpu(), peaks, None, self._by_class)
        made = images.clone()
        for number, part in enumerate(self.parts):
            rows = torch.nonzero(which == number).flatten()
            if len(rows):
                made[rows] = part.exchanged(both.take(rows), both.take(donors[rows])).to(made)
        return made

    def _peaks(self, images: Tensor) -> Tensor:
        """Return (B, 2, 2): where the strongest evidence for the predicted class is, and the next."""
        where = next(iter(self._model.parameters()), images)
        with torch.enable_grad(), evaluating(self._model, frozen=True):
            own = images.detach().to(where.device).clone().requires_grad_()
            logits = check_logits(forward_logits(self._model, own, self._output))
            odds = log_odds(logits, logits.detach().argmax(1)).sum()
            (gradient,) = torch.autograd.grad(odds, own)
        return strongest(own.detach(), gradient).cpu()
