"""What the channels contribute to each image's log-odds, from the very forward pass that signals are sent back in.

The rules at rectifiers let the ordinary gradient through first (:class:`interpnet.backward.Passes`), from the log-odds
down to the earliest layer that is asked for; then each signal obeys them. LRP's relevance has a forward pass of its
own. docs/method.md, sections 5.1 and 8.4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from interpnet.backward import LRP_RULES
from interpnet.engine import Call, Instrument, check_logits, gradient_cut, log_odds
from interpnet.explanation._signals import Forward, Options, SignalRun, Signals
from interpnet.explanation._starts import OF_A_CLASS, OUTPUT, Picks, sites_in
from interpnet.reliance import ContributionReader, image_contributions, values_of
from interpnet.support.types import Float64

Choose = Callable[[Tensor], Sequence[int]]


@dataclass(frozen=True)
class Contributed:
    """A forward pass that sent gradients, and what its channels contribute to the log-odds of the class explained."""

    forward: Forward
    classes: list[int]  # of each image
    values: Float64  # (B, m): of the channels of the run's sites, in their order
    # Of the log-odds at the logits, under OUTPUT, and at the maps, for the seeds that ask for a class.
    gradients: Mapping[str, Tensor]


def contributed(
    run: SignalRun,
    choose: Choose,
    *instruments: Instrument,
    reference: Float64 | None = None,
    outputs: str = "exclusive",
) -> Contributed:
    """Run the network forward and send the gradient of the log-odds back to the run's sites.

    ``choose`` takes the logits (B, C) and gives the classes. The values are those of
    :func:`interpnet.reliance.image_contributions`, up to rounding, and its errors are raised here too.
    """
    sites = tuple(run.sites.values())
    reader = ContributionReader(sites, gradients=reference is not None, maps=run.options.seed in OF_A_CLASS)
    # The images take a gradient here, so that the graph need not begin at the sites.
    reader.settle()
    first = run
    if run.options.chosen in LRP_RULES:
        first = replace(run, options=Options("gradient", resample=False, output=run.options.output))
    cuts: list[str] = []

    def observe(call: Call, out: Any) -> None:
        if not cuts:
            cuts.extend(filter(None, [gradient_cut(call, out)]))

    again = True
    while again:
        reader.clear()
        own = Instrument(reads=reader.reads, edits=reader.edits, observe=observe)
        forward = first.forward(*instruments, own, apart=run.sites.keys())
        logits = check_logits(forward.maps[OUTPUT])
        classes = list(choose(logits.detach()))
        with torch.inference_mode(False), torch.enable_grad(), forward.rules.passes.gradient():
            values = log_odds(logits, torch.tensor(classes), outputs=outputs)
            reader.send_back(values, keep=True)
        # A map that is overwritten later must be read before: another pass takes copies.
        again = reader.settle()
    reader.release()
    gradients = dict(reader.maps)
    if run.options.seed in OF_A_CLASS:
        gradients[OUTPUT] = _at_the_logits(logits.detach(), classes, outputs)
    if not sites:
        found = torch.zeros(len(classes), 0).double().numpy()
    elif cuts or reader.silent():
        # Whether the log-odds depend on a layer that no gradient comes back to takes passes of its own to say.
        found = image_contributions(
            run.model,
            run.images,
            sites,
            lambda _: classes,
            reference=reference,
            outputs=outputs,
            output=run.options.output,
        )
    else:
        found = values_of(reader.take(), reader.channels, reference)
    return Contributed(forward, classes, found, gradients)


def sent_back(run: SignalRun, found: Contributed, picks: Picks, k: int = 1) -> Signals:
    """Return the signals of channels chosen by their contributions; uses ``found`` up."""
    forward = found.forward
    if run.options.chosen in LRP_RULES:
        forward = run.forward()
    told = found.gradients
    if run.options.seed == "relevance":
        # Relevance at the logits: each times the gradient of the log-odds there.
        needed = sites_in(picks)
        if needed & forward.views:
            forward = run.forward(views=needed & forward.views)
        start = forward.maps[OUTPUT].detach() * told[OUTPUT]
        reached = run.relevance(forward, needed, start)
        # No relevance goes to a gate; what it contributes stands for it.
        gates = (needed & told.keys()) - reached.keys()
        told = reached | {name: forward.maps[name].detach() * told[name] for name in gates}
    return run.send_back(forward, picks, k, told)


def _at_the_logits(logits: Tensor, classes: Sequence[int], outputs: str) -> Tensor:
    """Return the gradient of the log-odds with respect to the logits (B, C)."""
    with torch.inference_mode(False), torch.enable_grad():
        logits = logits.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(log_odds(logits, torch.tensor(classes), outputs=outputs).sum(), logits)
    return gradient
