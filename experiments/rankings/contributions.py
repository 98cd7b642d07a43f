"""What the training images say about every channel: scores, activations, contributions, relevance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.common.imagenet import Grouped
from experiments.common.subjects import Batches, Subject, batches
from interpnet.backward import Propagation, composite
from interpnet.engine import Call, Instrument, Site, evaluating, find_sites, instrument
from interpnet.reliance import THINNED, Contributions, collect_contributions
from interpnet.scores import ScoreTable, collect_scores
from interpnet.support.types import Float64

#: LRP with the epsilon rule everywhere, and with only positive contributions below the linear maps (Yeom et al. 2021
#: rank channels so).
LRP_RULES = ("lrp_epsilon", "lrp_epsilon_plus_flat")


@dataclass(frozen=True)
class Known:
    """Numbers of every class (C) and channel (m), from a subject's training images alone."""

    subject: Subject
    table: ScoreTable  # The method's scores, by image
    contributions: Contributions  # To the log-odds of the images' own classes
    thinned: Contributions  # The same, averaged over networks that lost a share of their channels
    #: (C, m), means over the images of a class: ``activation``, averaged over positions, and ``squares`` of it;
    #: ``gradient``: activation times gradient of the class's logit, summed over positions, which is what the logit
    #: loses, to first order, when the channel is set to zero; ``absolute``: its absolute value by image; and the
    #: relevance for that logit by each of :data:`LRP_RULES` where LRP knows all operators.
    means: dict[str, Float64]
    weight_norm: Float64  # (m,): L2 norm of the channel's filter, with the batch norm behind it folded in

    @property
    def counts(self) -> Float64:
        """How many training images each class has (C,)."""
        return np.bincount(self.subject.train_labels, minlength=len(self.subject.classes)).astype(np.float64)


def known(subject: Subject) -> Known:
    """Return what the rankings need."""
    loader = batches(subject.train, subject.train_labels)
    how: dict[str, Any] = {"layers": subject.layers, "progress": False}
    table = collect_scores(subject.model, loader, **how)
    contributions = collect_contributions(subject.model, loader, images=None, **how)
    thinned = collect_contributions(subject.model, loader, images=None, thinned=THINNED, **how)
    first = subject.train[:2].to(subject.device)
    sites = find_sites(subject.model, first).select(subject.layers)
    norms = weight_norms(subject.model, first, sites)
    return Known(subject, table, contributions, thinned, class_means(subject, loader, sites), norms)


def class_means(subject: Subject, loader: Batches, sites: tuple[Site, ...]) -> dict[str, Float64]:
    """Return :attr:`Known.means`."""
    rules: tuple[str, ...] = LRP_RULES
    if isinstance(subject.model, Grouped):
        rules = ()  # LRP starts from one logit, not from a group's
    sums: dict[str, Tensor | float] = {}
    with evaluating(subject.model, frozen=True):
        for on_cpu, labels in loader:
            images = on_cpu.to(subject.device)
            target = torch.nn.functional.one_hot(labels, len(subject.classes)).T.double().to(subject.device)

            def add(name: str, values: Tensor, target: Tensor = target) -> None:
                sums[name] = sums.get(name, 0.0) + target @ values.double()

            maps, gradients = sent_back(subject.model, images, labels, sites)
            triples = list(zip(maps, gradients, sites, strict=True))
            means = torch.cat([_positions(a, s).mean(2) for a, _, s in triples], 1)
            taylor = torch.cat([_positions(a * g, s).sum(2) for a, g, s in triples], 1)
            add("activation", means)
            add("squares", means**2)
            add("gradient", taylor)
            add("absolute", taylor.abs())
            for name in rules:
                _, parts = sent_back(subject.model, images, labels, sites, lrp=name)
                add(name, torch.cat([_positions(r, s).sum(2) for r, s in zip(parts, sites, strict=True)], 1))
    counts = np.bincount(subject.train_labels, minlength=len(subject.classes))[:, None]
    return {name: torch.as_tensor(values).cpu().numpy() / counts for name, values in sums.items()}


def sent_back(
    model: nn.Module, images: Tensor, labels: Tensor, sites: tuple[Site, ...], lrp: str | None = None
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the maps at the sites, and the gradient there of each image's own logit, or LRP's relevance."""
    kept: dict[str, Tensor] = {}

    def keeper(name: str) -> Callable[[Tensor], Tensor]:
        return lambda out: kept.setdefault(name, out.clone())

    rules: dict[str, Any] = {}
    flow = None
    if lrp is not None:
        flow = Propagation(composite(lrp), images)
        rules = {"rule": flow.rule, "observe": flow.observe}
    with torch.enable_grad():
        x = images.clone().requires_grad_()  # the caller's images stay as they are
        with instrument(model, Instrument(edits={s.name: keeper(s.name) for s in sites}, **rules)):
            logits = model(x.clone())
        score = logits.gather(1, labels.to(logits.device)[:, None])[:, 0]
        total = score.sum()
        if flow is not None:
            flow.check(logits)
            total = (score * score.detach()).sum()  # LRP starts with the logit itself, a gradient with 1
        back = torch.autograd.grad(total, [kept[s.name] for s in sites])
    return [kept[s.name].detach() for s in sites], list(back)


def weight_norms(model: nn.Module, images: Tensor, sites: tuple[Site, ...]) -> Float64:
    """Return the L2 norm of the filter that makes each channel (m,), times the scale of the batch norm behind it.

    Where a site adds two paths, the filter is that of the convolution that ran last.
    """
    wanted = {s.name for s in sites}
    found = {}
    last = torch.zeros(0)

    def observe(call: Call, _out: Any) -> None:
        nonlocal last
        if call.kind in {"conv", "linear"}:
            last = call.argument(1, "weight").detach().flatten(1).norm(dim=1)
        elif call.op == "batch_norm":
            last = last * call.batch_norm_affine()[0].abs()  # the folded scale
        if call.name in wanted:
            found[call.name] = last

    with torch.no_grad(), evaluating(model), instrument(model, Instrument(observe=observe)):
        model(images)
    return torch.cat([found[s.name] for s in sites]).double().cpu().numpy()


def _positions(maps: Tensor, site: Site) -> Tensor:
    """Return maps as (B, channels, positions)."""
    if maps.dim() == 2:
        return maps.detach()[:, :, None]
    return maps.detach().movedim(site.axis or 1, 1).flatten(2)
