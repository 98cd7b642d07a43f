"""Channel heatmaps: the signal that a channel's activation map sends back to the image.

The backward signal starts at the channel's activation map itself, zero in all other channels: the
gradient of ``1/2 ||A_c||^2`` under the rules of :mod:`interpnet.backward`. It may also start at ones, at
the map's maximum alone, at several channels together, or at an output unit. Images do not influence
each other, so one backward pass serves one start of every image of a batch, in whatever layers
these lie. Source: Oramas et al., ICLR 2019, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from interpnet.backward import RuleReport, backward_rules, check_overridden
from interpnet.engine import (
    Channel,
    Instrument,
    Output,
    Site,
    Trace,
    beside,
    check_images,
    evaluating,
    find_sites,
    instrument,
    logits_of,
    stop_forward,
    stoppable,
    unwrap,
)
from interpnet.errors import InterpNetError, LayerError
from interpnet.explanation._starts import OUTPUT, Picks, Start, Unit, deepest_first, places, seed_map, seeds_of

__all__ = [
    "REDUCTIONS",
    "Signals",
    "Unit",
    "backpropagate",
    "channel_heatmap",
    "channel_signal",
    "normalise",
    "reduce_colours",
]

REDUCTIONS = ("abs", "positive", "max")
Reads = Mapping[str, Callable[[Tensor], None]]


@dataclass(frozen=True)
class Signals:
    """Raw signals at the image, with what made them.

    Attributes
    ----------
    signals : Tensor (B, k, C, H, W)
        Zero where an image has fewer than k starts.
    logits : Tensor (B, classes) or None
        ``None`` where the network was stopped after the last site that was needed.
    report : RuleReport
        Rectifiers seen and overridden, strided layers resampled.
    """

    signals: Tensor
    logits: Tensor | None
    report: RuleReport


class _Captured:
    """Activations of the sites in one forward pass, noticing when a later operator overwrites one."""

    def __init__(self, sites: Iterable[str], copy: frozenset[str], *, stop: bool) -> None:
        self._kept: dict[str, tuple[Tensor, int]] = {}
        self._wanted = set(sites)
        self._stop = stop
        self.reads = {name: self._reader(name, copy=name in copy) for name in self._wanted}

    def _reader(self, name: str, *, copy: bool) -> Callable[[Tensor], None]:
        def read(out: Tensor) -> None:
            kept = out.clone() if copy else out
            self._kept[name] = (kept, kept._version)  # noqa: SLF001 - torch has no public name for it
            if self._stop and self._kept.keys() >= self._wanted:
                stop_forward()

        return read

    def keep_output(self, logits: Tensor) -> None:
        self._kept[OUTPUT] = (logits, logits._version)  # noqa: SLF001

    def overwritten(self, names: set[str]) -> frozenset[str]:
        return frozenset(n for n in names if self._kept[n][0]._version != self._kept[n][1])  # noqa: SLF001

    def keep_only(self, names: set[str]) -> None:
        self._kept = {name: kept for name, kept in self._kept.items() if name in names}

    def __getitem__(self, name: str) -> Tensor:
        return self._kept[name][0]


def backpropagate(
    model: nn.Module,
    images: Tensor,
    sites: Sequence[Site],
    choose: Callable[[Tensor], Picks] | Picks,
    *,
    reads: Reads | None = None,
    rectifier: str = "guided",
    resample: bool = True,
    resample_pool: bool = False,
    seed: str = "activation",
    output: Output | None = None,
) -> Signals:
    """Run one forward pass, choose channels, and send each one's map back to the image.

    Parameters
    ----------
    model, images
        ``images`` (B, C, H, W) as the model wants them; left as they are.
    sites : sequence of Site
        Where channels may be chosen, in the order of execution.
    choose : function, or the choice itself
        A function gets the logits (B, classes) after the forward pass and returns up to k starts for each image.
        Where the starts are known before, the network stops after the last of their sites.
    reads : dict, optional
        More things to read in the same forward pass, e.g. the scores that ``choose`` needs.
    rectifier, resample, resample_pool
        See :mod:`interpnet.backward`.
    seed : {"activation", "ones", "maximum"}
        See :func:`interpnet.explanation.channel_heatmap`.
    """
    seed_map(images.new_ones(1), seed)
    model = unwrap(model)
    by_name = {s.name: s for s in sites}
    copy: frozenset[str] = frozenset()
    contiguous = False
    known = None if callable(choose) else {name for row in choose for start in row for name, _ in places(start)}
    with evaluating(model, frozen=True), torch.enable_grad():
        while True:
            x = _leaf(model, images, contiguous=contiguous)
            wanted = by_name.keys() if known is None else known & by_name.keys()
            captured = _Captured(wanted, copy, stop=known is not None and not known - by_name.keys())
            try:
                with (
                    backward_rules(
                        model, rectifier=rectifier, resample=resample, resample_pool=resample_pool
                    ) as report,
                    instrument(model, Instrument(reads=reads or {})),
                    instrument(model, Instrument(reads=captured.reads)),
                ):
                    logits = _forward(model, x, output)
            except RuntimeError as error:
                if contiguous or not _is_about_views(error):
                    raise
                contiguous = True
                continue
            if logits is not None:
                captured.keep_output(logits)
            picks = [list(p) for p in (choose(_logits(logits)) if callable(choose) else choose)]
            needed = {name for p in picks for start in p for name, _ in places(start)}
            unknown = needed - by_name.keys() - {OUTPUT}
            if unknown:
                raise LayerError(f"layers {sorted(unknown)} were not traced; expected some of {sorted(by_name)}")
            changed = captured.overwritten(needed)
            if not changed:
                break
            # A later in-place operator changed the map; read a copy of it in a second forward pass.
            copy = copy | changed
        captured.keep_only(needed)
        check_overridden(report, [captured[n] for n in needed])
        signals = _send_back(picks, captured, by_name, x, seed)
    return Signals(signals, None if logits is None else logits.detach(), report)


def _send_back(picks: Picks, captured: _Captured, sites: dict[str, Site], x: Tensor, seed: str) -> Tensor:
    """Return the signals (B, k, C, H, W), by one backward pass for each rank of depth."""
    k = max((len(p) for p in picks), default=0)
    signals = x.new_zeros((x.shape[0], max(k, 1), *x.shape[1:]))
    order = deepest_first(picks, {name: i for i, name in enumerate(sites)})
    for j in range(k):
        having = [i for i, row in enumerate(order) if j < len(row)]
        row = [picks[i][order[i][j]] if j < len(order[i]) else None for i in range(len(picks))]
        seeds = seeds_of(row, captured.__getitem__, sites, seed)
        (gradient,) = torch.autograd.grad(
            [captured[n] for n in seeds], x, list(seeds.values()), retain_graph=j + 1 < k, allow_unused=True
        )
        if gradient is not None:
            signals[having, [order[i][j] for i in having]] = gradient[having]
    return signals


def _leaf(model: nn.Module, images: Tensor, *, contiguous: bool) -> Tensor:
    """Return a copy of the images that takes a gradient, by default in the layout that convolutions run fastest in."""
    x = check_images(images).detach()
    last = not contiguous and x.dim() == 4 and any(isinstance(m, nn.Conv2d) for m in model.modules())
    return x.clone(memory_format=torch.channels_last if last else torch.contiguous_format).requires_grad_()


def _forward(model: nn.Module, x: Tensor, output: Output | None) -> Tensor | None:
    """Return the logits, or ``None`` where the pass was stopped; the network gets a clone and may overwrite it."""
    with stoppable():
        return logits_of(model(x.clone()), x.shape[0], output)
    return None


def _is_about_views(error: RuntimeError) -> bool:
    """Whether the network's own code views a map as if it were contiguous."""
    return "view size is not compatible" in str(error)


def _logits(logits: Tensor | None) -> Tensor:
    if logits is None:
        raise InterpNetError("the network was stopped before its output, on which the choice of channels depends")
    return logits.detach()


def reduce_colours(signal: Tensor, reduction: str = "abs") -> Tensor:
    """Reduce a raw signal (..., C, H, W) to one value a pixel (..., H, W).

    ``"abs"``: sum over colours of absolute values; ``"positive"``: sum of ``max(signal, 0)``; ``"max"``: the largest
    absolute value (Simonyan et al. 2014). A part darker than what is behind it sends a negative signal, which the
    positive part drops: absolute values mark the known pixels better (``experiments/variant``).

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
    channels: Start | Sequence[Start] | Picks,
    *,
    rectifier: str = "guided",
    resample: bool = True,
    resample_pool: bool = False,
    seed: str = "activation",
    output: Output | None = None,
    trace: Trace | None = None,
) -> Signals:
    """Return the raw signals (B, k, C, H, W) of given channels; see :func:`channel_heatmap` for the arguments.

    ``channels`` may also hold a list of starts for every image.
    """
    images = beside(model, check_images(images))
    batch = images.shape[0]
    if isinstance(channels, Channel | Unit | Set):
        picks: list[list[Start]] = [[channels]] * batch
    else:
        picks = [[c] if isinstance(c, Channel | Unit | Set) else list(c) for c in channels]
    if len(picks) != batch:
        raise InterpNetError(f"{len(picks)} channels came for {batch} images; expected one for all or one an image")
    trace = trace if trace is not None else find_sites(model, images, output=output)
    layers = {name for p in picks for start in p for name, _ in places(start)} - {OUTPUT}
    for name in sorted(layers):
        trace.usable(name)
    return backpropagate(
        model,
        images,
        [s for s in trace.sites if s.name in layers],
        picks,
        rectifier=rectifier,
        resample=resample,
        resample_pool=resample_pool,
        seed=seed,
        output=output,
    )


def channel_heatmap(
    model: nn.Module,
    images: Tensor,
    channels: Start | Sequence[Start],
    *,
    rectifier: str = "guided",
    resample: bool = True,
    resample_pool: bool = False,
    seed: str = "activation",
    reduction: str = "abs",
    output: Output | None = None,
    trace: Trace | None = None,
) -> Tensor:
    """Return what in each image one channel answers to, as one value a pixel.

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    images : Tensor (B, C, H, W)
        As the model wants them; moved to the model's device, where the result lies.
    channels : Channel, or one for each image
        A :class:`Channel`, an output unit (:class:`Unit`), or a set of them whose signals start together.
    rectifier : {"guided", "deconvnet", "gradient"}
        The rule at rectifiers; see :mod:`interpnet.backward`.
    resample, resample_pool : bool
        The paper's stride-1 resampling of strided convolutions, and of strided pooling.
    seed : {"activation", "ones", "maximum"}
        What the signal starts with: the activation map itself, ones, or the map at its maximum alone.
    reduction : {"abs", "positive", "max"}
        See :func:`reduce_colours`; :func:`channel_signal` gives the raw signal.
    output : function, optional
        Takes what the model returns, gives logits.
    trace : Trace, optional
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
        model,
        images,
        channels,
        rectifier=rectifier,
        resample=resample,
        resample_pool=resample_pool,
        seed=seed,
        output=output,
        trace=trace,
    )
    return reduce_colours(found_signals.signals[:, 0], reduction)
