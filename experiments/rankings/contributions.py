"""What one pass over the training images says about every channel: activations, contributions, relevance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from experiments.common.subjects import Subject, batches
from interpnet.attribution import Propagation, composite
from interpnet.engine import Call, Instrument, Site, evaluating, find_sites, instrument
from interpnet.scores import ScoreTable, collect_scores
from interpnet.support.types import Float64

#: LRP with the epsilon rule everywhere, and with only positive contributions below the linear maps (Yeom et al. 2021
#: rank channels so).
LRP_RULES = ("lrp_epsilon", "lrp_epsilon_plus_flat")


@dataclass(frozen=True)
class Contributions:
    """Numbers of every channel (m) for every training image (N)."""

    table: ScoreTable  # The method's scores
    means: Float64  # (N, m): Activation, averaged over positions
    # (N, m): Activation times gradient of the true class's logit, summed over positions: what the logit
    # loses, to first order, when the channel is set to zero
    taylor: Float64
    relevance: dict[str, Float64]  # (N, m): LRP's relevance of the channel for that logit, by rule
    weight_norm: Float64  # L2 norm of the channel's filter, with the batch norm behind it folded in


def contributions(subject: Subject) -> Contributions:
    """Return what the rankings need, from the subject's training images alone."""
    loader = batches(subject.train, subject.train_labels)
    table = collect_scores(subject.model, loader, progress=False)
    sites = find_sites(subject.model, subject.train[:2]).select()
    batch_rows: dict[str, list[Tensor]] = {name: [] for name in ("means", "taylor", *LRP_RULES)}
    with evaluating(subject.model, frozen=True):
        for images, labels in loader:
            maps, gradients = sent_back(subject.model, images, labels, sites)
            triples = list(zip(maps, gradients, sites, strict=True))
            batch_rows["means"].append(torch.cat([_positions(a, s).mean(2) for a, _, s in triples], 1))
            batch_rows["taylor"].append(torch.cat([_positions(a * g, s).sum(2) for a, g, s in triples], 1))
            for name in LRP_RULES:
                _, parts = sent_back(subject.model, images, labels, sites, lrp=name)
                sums = [_positions(r, s).sum(2) for r, s in zip(parts, sites, strict=True)]
                batch_rows[name].append(torch.cat(sums, 1))
    rows = {name: torch.cat(parts).double().numpy() for name, parts in batch_rows.items()}
    norms = weight_norms(subject.model, subject.train[:2], sites)
    return Contributions(table, rows.pop("means"), rows.pop("taylor"), rows, norms)


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
        flow = Propagation(lrp, composite(lrp), images, norm="linear")
        rules = {"rule": flow.rule, "observe": flow.observe}
    with torch.enable_grad():
        x = images.clone().requires_grad_()  # the caller's images stay as they are
        with instrument(model, Instrument(edits={s.name: keeper(s.name) for s in sites}, **rules)):
            logits = model(x.clone())
        score = logits.gather(1, labels[:, None])[:, 0]
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
    return torch.cat([found[s.name] for s in sites]).double().numpy()


def _positions(maps: Tensor, site: Site) -> Tensor:
    """Return maps as (B, channels, positions)."""
    if maps.dim() == 2:
        return maps.detach()[:, :, None]
    return maps.detach().movedim(site.axis or 1, 1).flatten(2)
