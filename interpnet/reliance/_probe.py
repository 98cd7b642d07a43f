"""A first pass on two images: where the graph begins, which maps are overwritten, and whether gradients come back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from interpnet.engine import (
    Instrument,
    Output,
    check_gradient_reaches,
    forward_logits,
    instrument,
    log_odds,
)
from interpnet.reliance._reader import ContributionReader


def probe(model: nn.Module, reader: ContributionReader, images: Tensor, output: Output | None, outputs: str) -> None:
    """Prepare a reader for a network, or raise :class:`ModelError` where the network cuts a layer's gradient off.

    The model is in evaluation mode and its parameters take no gradient.
    """
    with torch.inference_mode(False), torch.enable_grad():
        two = images[:2].detach().clone()
        logits = _pass(model, reader, two, output, outputs)
        reader.settle()
        if reader.overwritten:
            reader.copies = set(reader.overwritten)
            logits = _pass(model, reader, two, output, outputs)
        silent = reader.silent()
        reader.clear()
    for name in silent:
        # A branch that the logits do not depend on contributes nothing, and that is right.
        if _matters(model, name, two, output, logits):
            what = f"the log-odds to layer {name!r}"
            check_gradient_reaches(model, two, what, found=False)


def _pass(model: nn.Module, reader: ContributionReader, images: Tensor, output: Output | None, outputs: str) -> Tensor:
    reader.clear()
    with instrument(model, Instrument(reads=reader.reads, edits=reader.edits)):
        logits = forward_logits(model, images, output)
    reader.send_back(log_odds(logits, logits.argmax(1), outputs=outputs))
    return logits.detach()


def _matters(model: nn.Module, name: str, images: Tensor, output: Output | None, logits: Tensor) -> bool:
    """Whether the logits change with the maps of a layer."""
    with torch.no_grad(), instrument(model, Instrument(edits={name: lambda out: 1.5 * out + 1.0})):
        changed = forward_logits(model, images, output)
    return not torch.equal(changed, logits)
