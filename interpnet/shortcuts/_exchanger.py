"""Exchanging what was found to be suspicious, in images that a search has not seen: what a repair trains on."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from interpnet.engine import Output, check_logits, evaluating, forward_logits, log_odds
from interpnet.errors import InterpNetError
from interpnet.shortcuts._by_class import ByClass
from interpnet.shortcuts._evidence import strongest
from interpnet.shortcuts._parts import Images, Part

# Peaks of so many images are remembered: a repair exchanges the same ones again and again.
_MOST_PEAKS = 100_000


class Exchanger:
    """The suspicious parts of a network, with what is needed to exchange them.

    Parameters
    ----------
    model : nn.Module
        The network that was searched; it tells where the strongest evidence of an image is.
    parts : sequence of Part
        The distinct parts of the suspicious classes.
    classes : sequence of collections of int
        Of each part the classes that it is suspicious for: their images carry it.
    by_class : ByClass
        What the classes of the searched images have in common.
    """

    def __init__(
        self,
        model: nn.Module,
        parts: Sequence[Part],
        classes: Sequence[Collection[int]],
        by_class: ByClass,
        output: Output | None,
    ) -> None:
        self._model = model
        self.parts = tuple(parts)
        self.classes = tuple(frozenset(own) for own in classes)
        self._by_class = by_class
        self._output = output
        self._known: dict[bytes, Tensor] = {}

    def among(self, indices: Collection[int]) -> Exchanger:
        """Return one that exchanges only what is suspicious for these classes."""
        kept = [(part, own & set(indices)) for part, own in zip(self.parts, self.classes, strict=True)]
        kept = [(part, own) for part, own in kept if own]
        parts = [part for part, _ in kept]
        classes = [own for _, own in kept]
        return Exchanger(self._model, parts, classes, self._by_class, self._output)

    def exchange(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return images (B, C, H, W), each with suspicious parts of another one of them, drawn at random.

        Half of those that give theirs are of the suspicious classes, see :func:`drawn_donors`. What they give are the
        parts that their class and that of the rest are suspicious for, of the same image, one after the other: the cue
        of the one comes, and that of the other goes. Where neither class is suspicious it is any part. The label of an
        image stays that of its rest.
        """
        if not self.parts:
            raise InterpNetError("no class is suspicious, so that there is no part to exchange, and nothing to repair")
        labels = labels.long().cpu()
        donors = drawn_donors(labels, frozenset[int]().union(*self.classes), generator)
        wanted = self._wanted(labels, labels[donors], generator)
        peaks = torch.zeros(len(images), 2, 2, dtype=torch.int64)
        if any(part.kind == "patch" for part in self.parts):
            peaks = self._peaks(images)
        both = Images(images, labels, peaks, None, self._by_class)
        made = images.clone()
        for part, rows in zip(self.parts, wanted, strict=True):
            if rows.any():
                rest = replace(both, pixels=made).take(rows)
                made[rows] = part.exchanged(rest, both.take(donors[rows])).to(made)
        return made

    def _wanted(self, labels: Tensor, others: Tensor, generator: torch.Generator) -> Tensor:
        """Return (P, B): whether an image of the classes ``labels`` (B,) gets a part of one of ``others`` (B,)."""
        of_rest, of_donor = (
            torch.stack([torch.isin(these, _tensor(own)) for own in self.classes]) for these in (labels, others)
        )
        any_part = torch.randint(len(self.parts), (len(labels),), generator=generator)
        numbers = torch.arange(len(self.parts))[:, None]
        return of_rest | of_donor | (~(of_rest | of_donor).any(0) & (numbers == any_part))

    def _peaks(self, images: Tensor) -> Tensor:
        """Return (B, 2, 2): where the strongest evidence for the predicted class is, and the next."""
        rows = (image.cpu().contiguous().numpy().tobytes() for image in images)
        keys = [hashlib.blake2b(row, digest_size=16).digest() for row in rows]
        new = [i for i, key in enumerate(keys) if key not in self._known]
        found = dict(zip(new, self._sought(images[new]), strict=True)) if new else {}
        peaks = [found[i] if i in found else self._known[key] for i, key in enumerate(keys)]
        for i in new[: max(0, _MOST_PEAKS - len(self._known))]:
            self._known[keys[i]] = found[i]
        return torch.stack(peaks)

    def _sought(self, images: Tensor) -> Tensor:
        where = next(iter(self._model.parameters()), images)
        with torch.enable_grad(), evaluating(self._model, frozen=True):
            own = images.detach().to(where.device).clone().requires_grad_()
            logits = check_logits(forward_logits(self._model, own, self._output))
            odds = log_odds(logits, logits.detach().argmax(1)).sum()
            (gradient,) = torch.autograd.grad(odds, own)
        return strongest(own.detach(), gradient).cpu()


def drawn_donors(labels: Tensor, classes: Collection[int], generator: torch.Generator) -> Tensor:
    """Return which row of ``labels`` (B,) gives its part to each (B,): half of them are of ``classes``, half are any.

    Each is drawn on its own, with replacement; all are any where no row is of the classes. A part that one class of
    many carries would come too rarely otherwise, and what is gained without it not stand out.
    """
    n = len(labels)
    donors = torch.randint(n, (n,), generator=generator)
    carry = torch.nonzero(torch.isin(labels, _tensor(classes))).flatten()
    if len(carry):
        chosen = torch.rand(n, generator=generator) < 0.5
        donors = torch.where(chosen, carry[torch.randint(len(carry), (n,), generator=generator)], donors)
    return donors


def _tensor(classes: Collection[int]) -> Tensor:
    return torch.tensor(sorted(classes), dtype=torch.int64)
