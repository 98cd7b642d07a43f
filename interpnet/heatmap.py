"""Channel heatmaps: the signal that a channel's activation map sends back to the image.

The backward signal starts at the channel's activation map itself, zero in all other channels: the
gradient of ``1/2 ||A_c||^2`` under the rules of :mod:`interpnet.backward`. Images do not influence
each other, so one backward pass serves one channel of every image of a batch, in whatever layers
these channels lie. Source: Oramas et al., ICLR 2019, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from interpnet._device import beside
from interpnet.backward import RuleReport, backward_rules, check_overridden
from interpnet.channels import Channel
from interpnet.errors import InterpNetError, LayerError
from interpnet.sites import Output, Site, Trace, check_images, find_sites, logits_of
from interpnet.trace import Instrument, evaluating, instrument, unwrap

REDUCTIONS = ("positive", "abs", "max")
Picks = Sequence[Sequence[Channel]]


@dataclass(frozen=True)
class Signals:
    """Raw signals at the image, with what made them.

    Attributes
    ----------
    signals : Tensor (B, k, C, H, W)
        Zero where an image has fewer than k channels.
    logits : Tensor (B, classes)
    report : RuleReport
        Rectifiers seen and overridden, strided layers resampled.
    """

    signals: Tensor
    logits: Tensor
    report: RuleReport


class _Captured:
    """Activations of the sites in one forward pass, noticing when a later operator overwrites one."""

    def __init__(self, sites: Sequence[Site], copy: frozenset[str]) -> None:
        self._kept: dict[str, tuple[Tensor, int]] = {}
        self.reads = {s.name: self._reader(s.name, copy=s.name in copy) for s in sites}

    def _reader(self, name: str, *, copy: bool) -> Callable[[Tensor], None]:
        def read(out: Tensor) -> None:
            kept = out.clone() if copy else out
            self._kept[name] = (kept, kept._version)  # noqa: SLF001 - torch has no public name for it

        return read

    def overwritten(self, names: set[str]) -> frozenset[str]:
        return frozenset(n for n in names if self._kept[n][0]._version != self._kept[n][1])  # noqa: SLF001

    def __getitem__(self, name: str) -> Tensor:
        return self._kept[name][0]


def backpropagate(
    model: nn.Module,
    images: Tensor,
    sites: Sequence[Site],
    choose: Callable[[Tensor], Picks],
    *,
    reads: dict[str, Callable[[Tensor], None]] | None = None,
    rectifier: str = "guided",
    resample: bool = True,
    output: Output | None = None,
) -> Signals:
    """Run one forward pass, choose channels, and send each one's map back to the image.

    Parameters
    ----------
    model, images
        ``images`` (B, C, H, W) as the model wants them; left as they are.
    sites : sequence of Site
        Where channels may be chosen.
    choose : function
        Gets the logits (B, classes) after the forward pass and returns up to k channels for each image.
    reads : dict, optional
        More things to read in the same forward pass, e.g. the scores that ``choose`` needs.
    rectifier, resample
        See :mod:`interpnet.backward`.
    """
    model = unwrap(model)
    by_name = {s.name: s for s in sites}
    copy: frozenset[str] = frozenset()
    with evaluating(model, frozen=True), torch.enable_grad():
        while True:
            x = check_images(images).detach().clone().requires_grad_()
            captured = _Captured(sites, copy)
            with (
                backward_rules(model, rectifier=rectifier, resample=resample) as report,
                instrument(model, Instrument(reads=captured.reads)),
                instrument(model, Instrument(reads=reads or {})),
            ):
                # The network gets a clone: it may work in place on its very input.
                logits = logits_of(model(x.clone()), x.shape[0], output)
            picks = [list(p) for p in choose(logits.detach())]
            needed = {c.layer for p in picks for c in p}
            unknown = needed - by_name.keys()
            if unknown:
                raise LayerError(f"layers {sorted(unknown)} were not traced; expected some of {sorted(by_name)}")
            changed = captured.overwritten(needed)
            if not changed:
                break
            # A later in-place operator changed the map; read a copy of it in a second forward pass.
            copy = copy | changed
        check_overridden(report, [captured[n] for n in needed])
        k = max((len(p) for p in picks), default=0)
        signals = images.new_zeros((images.shape[0], max(k, 1), *images.shape[1:]))
        for j in range(k):
            seeds = _seeds([p[j] if j < len(p) else None for p in picks], captured, by_name)
            (gradient,) = torch.autograd.grad(
                [captured[n] for n in seeds], x, list(seeds.values()), retain_graph=j + 1 < k, allow_unused=True
            )
            if gradient is not None:
                signals[:, j] = gradient
    return Signals(signals, logits.detach(), report)


def _seeds(row: Sequence[Channel | None], captured: _Captured, sites: dict[str, Site]) -> dict[str, Tensor]:
    """Return for every layer the activation maps of the chosen channels, zero elsewhere."""
    seeds: dict[str, Tensor] = {}
    for i, channel in enumerate(row):
        if channel is None:
            continue
        site = sites[channel.layer]
        if site.axis is None or not 0 <= channel.index < site.channels:
            raise LayerError(
                f"channel {channel.index} of layer {channel.layer!r} does not exist; expected 0 to {site.channels - 1}"
            )
        activation = captured[channel.layer].detach()
        seed = seeds.setdefault(channel.layer, torch.zeros_like(activation))
        seed[i].select(site.axis - 1, channel.index).copy_(activation[i].select(site.axis - 1, channel.index))
    return seeds


def reduce_colours(signal: Tensor, reduction: str = "positive") -> Tensor:
    """Reduce a raw signal (..., C, H, W) to one value a pixel (..., H, W).

    ``"positive"``: sum over colours of ``max(signal, 0)``; ``"abs"``: sum of absolute values; ``"max"``:
    the largest absolute value (Simonyan et al. 2014).

    Examples
    --------
    >>> reduce_colours(torch.tensor([[[1.0]], [[-2.0]]]), "abs")
    tensor([[3.]])
    """
    if reduction == "positive":
        return signal.clamp(min=0).sum(-3)
    if reduction == "abs":
        return signal.abs().sum(-3)
    if reduction == "max":
        return signal.abs().amax(-3)
    raise InterpNetError(f"reduction={reduction!r}; expected one of {', '.join(map(repr, REDUCTIONS))}")


def normalise(maps: Tensor) -> Tensor:
    """Min-max normalise each map (..., H, W) to [0, 1]; a constant map becomes zeros.

    Examples
    --------
    >>> normalise(torch.tensor([[1.0, 3.0], [2.0, 1.0]]))
    tensor([[0.0000, 1.0000],
            [0.5000, 0.0000]])
    """
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    span = high - low
    return torch.where(
        span > 0, (maps - low) / torch.where(span > 0, span, torch.ones_like(span)), torch.zeros_like(maps)
    )


def channel_signal(
    model: nn.Module,
    images: Tensor,
    channels: Channel | Sequence[Channel] | Picks,
    *,
    rectifier: str = "guided",
    resample: bool = True,
    output: Output | None = None,
    found: Trace | None = None,
) -> Signals:
    """Return the raw signals (B, k, C, H, W) of given channels; see :func:`channel_heatmap` for the arguments.

    ``channels`` may also hold a list of channels for every image.
    """
    images = beside(model, check_images(images))
    batch = images.shape[0]
    if isinstance(channels, Channel):
        picks: list[list[Channel]] = [[channels]] * batch
    else:
        picks = [[c] if isinstance(c, Channel) else list(c) for c in channels]
    if len(picks) != batch:
        raise InterpNetError(f"{len(picks)} channels came for {batch} images; expected one for all or one an image")
    found = found if found is not None else find_sites(model, images, output=output)
    sites = [found.usable(name) for name in sorted({c.layer for p in picks for c in p})]
    return backpropagate(
        model, images, sites, lambda _logits: picks, rectifier=rectifier, resample=resample, output=output
    )


def channel_heatmap(
    model: nn.Module,
    images: Tensor,
    channels: Channel | Sequence[Channel],
    *,
    rectifier: str = "guided",
    resample: bool = True,
    reduction: str = "positive",
    output: Output | None = None,
    found: Trace | None = None,
) -> Tensor:
    """Return what in each image one channel answers to, as one value a pixel.

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    images : Tensor (B, C, H, W)
        As the model wants them; moved to the model's device, where the result lies.
    channels : Channel, or one for each image
    rectifier : {"guided", "deconvnet", "gradient"}
        The rule at rectifiers; see :mod:`interpnet.backward`.
    resample : bool
        The paper's stride-1 resampling of strided convolutions.
    reduction : {"positive", "abs", "max"}
        See :func:`reduce_colours`; :func:`channel_signal` gives the raw signal.
    output : function, optional
        Takes what the model returns, gives logits.
    found : Trace, optional
        A trace made before, to save a forward pass.

    Returns
    -------
    Tensor (B, H, W)
        In the units of the signal (activation times weights), not normalised.

    Raises
    ------
    LayerError
        Unknown layer or channel.
    ModelError
        A rectifier on the way escaped the rule.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2))
    >>> channel_heatmap(net, torch.rand(2, 1, 5, 5), Channel("1", 0)).shape
    torch.Size([2, 5, 5])
    """
    found_signals = channel_signal(
        model, images, channels, rectifier=rectifier, resample=resample, output=output, found=found
    )
    return reduce_colours(found_signals.signals[:, 0], reduction)
