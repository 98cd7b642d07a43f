"""A first pass on two images: where the graph begins, which maps are overwritten, and whether gradients are whole."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from interpnet.engine import (
    Call,
    Instrument,
    Output,
    Site,
    evaluating,
    forward_logits,
    gradient_cut,
    gradient_end,
    instrument,
    log_odds,
    widest,
)
from interpnet.errors import ModelError
from interpnet.reliance._reader import ContributionReader

_REMEDY = (
    "Freeze weights by requires_grad_(False) instead, which lets the gradient of the maps pass; the mu-lasso "
    "(collect_scores) and ablation need none"
)
# A difference over this share of every map, and how far the derivative may be off it, as a share of what is added up.
_STEP = 1e-5
_TOLERANCE = 0.01


def probe(model: nn.Module, reader: ContributionReader, images: Tensor, output: Output | None, outputs: str) -> None:
    """Prepare a reader for a network, or raise :class:`ModelError` where the network cuts gradients of a layer off.

    The model is in evaluation mode and its parameters take no gradient.
    """
    cuts: list[str] = []

    def observe(call: Call, out: Any) -> None:
        cut = gradient_cut(call, out)
        if cut:
            cuts.append(cut)

    with torch.inference_mode(False), torch.enable_grad():
        two = images[:2].detach().clone()
        with instrument(model, Instrument(observe=observe)):
            logits = _pass(model, reader, two, output, outputs)
        # A map of which a copy is taken may turn out to be overwritten only then.
        while reader.settle():
            logits = _pass(model, reader, two, output, outputs)
        silent = reader.silent()
        reader.clear()
        for name in silent:
            # A branch that the logits do not depend on contributes nothing, and that is right.
            if _matters(model, name, two, output, logits.detach()):
                raise ModelError(
                    f"no gradient comes back to layer {name!r}, on which the log-odds depend: "
                    f"{gradient_end(model, two)}. {_REMEDY}"
                )
        if cuts:
            _check_whole(model, reader, two, output, outputs, cuts[0])


def _pass(model: nn.Module, reader: ContributionReader, images: Tensor, output: Output | None, outputs: str) -> Tensor:
    """Run both ways for the log-odds of what the network says, and return the logits."""
    reader.clear()
    with instrument(model, Instrument(reads=reader.reads, edits=reader.edits)):
        logits = forward_logits(model, images, output)
    reader.send_back(log_odds(logits, logits.argmax(1), outputs=outputs))
    return logits


def _matters(model: nn.Module, name: str, images: Tensor, output: Output | None, logits: Tensor) -> bool:
    """Whether the logits change with the maps of a layer."""
    with torch.no_grad(), instrument(model, Instrument(edits={name: lambda out: 1.5 * out + 1.0})):
        changed = forward_logits(model, images, output)
    return not torch.equal(changed, logits)


def _check_whole(
    model: nn.Module, reader: ContributionReader, images: Tensor, output: Output | None, outputs: str, cut: str
) -> None:
    """Raise :class:`ModelError` where a gradient that was cut off on one path is missed in the sum over all paths.

    A constant may be detached with good reason, such as the largest logit that a softmax takes away first.
    """
    # Rounding would hide a small path, so a copy runs in float64 where there can be one.
    with suppress(Exception):
        model = copy.deepcopy(model).to(widest(images.device))
        images = images.to(widest(images.device))
    with evaluating(model, frozen=True):
        again = ContributionReader(reader.sites)
        logits = _pass(model, again, images, output, outputs).detach()
        while again.settle():
            logits = _pass(model, again, images, output, outputs).detach()
        products = again.take().activation
        for site in reader.sites:
            factors = 0.5 + torch.arange(site.channels, device=products.device) * 0.618 % 1
            columns = products[:, reader.channels.slice(site.name)]
            expected = (columns * factors).sum(1)
            shape = [1] * (len(site.shape) + 1)
            shape[site.axis or 1] = -1
            step = _STEP * factors.view(shape)
            ends = [
                _nudged(model, site, 1 + sign * step, images, output, outputs, logits.argmax(1)) for sign in (1, -1)
            ]
            found = (ends[0] - ends[1]) / (2 * _STEP)
            if bool(((found - expected).abs() > _TOLERANCE * columns.abs().sum(1) + 1e-6).any()):
                raise ModelError(
                    f"the gradient at layer {site.name!r} leaves out a path to the log-odds: {cut}, so that "
                    f"contributions would miss it. {_REMEDY}"
                )


def _nudged(
    model: nn.Module,
    site: Site,
    factors: Tensor,
    images: Tensor,
    output: Output | None,
    outputs: str,
    classes: Tensor,
) -> Tensor:
    """Return the log-odds of the images with the maps of a layer multiplied."""
    edit = site.editing(lambda out: out * factors.to(out.dtype))
    with torch.no_grad(), instrument(model, Instrument(edits={site.name: edit})):
        return log_odds(forward_logits(model, images, output), classes, outputs=outputs)
