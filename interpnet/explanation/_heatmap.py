"""Channel heatmaps: the signal that a channel's activation map sends back to the image, one value per pixel.

Source: Oramas et al., ICLR 2019, section 3.2; docs/method.md, section 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from functools import partial

import torch
from torch import Tensor, nn

from interpnet.engine import Channel, Output, Trace, beside, check_dense, check_images, find_sites, finite_images
from interpnet.errors import DataError, InterpNetError
from interpnet.explanation._contributed import contributed, sent_back
from interpnet.explanation._signals import Options, SignalRun, Signals, backpropagate
from interpnet.explanation._smooth import blurred, checked_width
from interpnet.explanation._starts import OF_A_CLASS, OUTPUT, Picks, Start, Unit, sites_in
from interpnet.support.checks import check_kinds, listed, one_of, whole_number
from interpnet.support.keywords import also_called

# From a raw signal with the colours on a given axis to one value per pixel: docs/method.md, section 5.4.
REDUCTIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "abs": lambda signal, colours: signal.abs().sum(colours),
    "positive": lambda signal, colours: signal.clamp(min=0).sum(colours),
    "max": lambda signal, colours: signal.abs().amax(colours),
    "sum": lambda signal, colours: signal.sum(colours).clamp(min=0),
}


def reduce_colours(signal: Tensor, reduction: str = "abs", *, axes: int = 2) -> Tensor:
    """Reduce a raw signal (..., C, H, W) to one value per pixel (..., H, W).

    ``"abs"``: sum over colours of absolute values; ``"positive"``: sum of ``max(signal, 0)``; ``"max"``: the largest
    absolute value (Simonyan et al. 2014); ``"sum"``: the positive part of the sum, for relevance, which adds up over
    colours. A part darker than what is behind it sends a negative signal, which the
    positive part drops: absolute values mark the known pixels better (``experiments/variant``).

    ``axes`` is the number of spatial axes behind the colours: 1 for (..., C, L), 3 for (..., C, D, H, W). A signal
    with fewer axes is a :class:`DataError`.

    Examples
    --------
    >>> reduce_colours(torch.tensor([[[1.0]], [[-2.0]]]), "abs")
    tensor([[3.]])
    """
    check_kinds(reduce_colours, locals())
    check_dense(signal, "signal", "..., C, H, W")
    one_of(reduction, "reduction", REDUCTIONS)
    axes = whole_number(axes, "axes", least=1)
    if signal.dim() <= axes:
        raise DataError(f"signal: shape {tuple(signal.shape)} came; expected colours before {axes} spatial axes")
    return REDUCTIONS[reduction](signal, -1 - axes)


def normalise(maps: Tensor, *, axes: int = 2) -> Tensor:
    """Min-max normalise each map (..., H, W) to [0, 1]; a constant map becomes zeros.

    ``axes`` is the number of axes of one map: 1 for (..., L), 3 for (..., D, H, W). Fewer or empty axes, and NaN or
    infinite values, are a :class:`DataError`.

    Examples
    --------
    >>> normalise(torch.tensor([[1.0, 3.0], [2.0, 1.0]]))
    tensor([[0.0000, 1.0000],
            [0.5000, 0.0000]])
    """
    check_kinds(normalise, locals())
    check_dense(maps, "maps", "..., H, W")
    places = tuple(range(-whole_number(axes, "axes", least=1), 0))
    if maps.dim() < axes or 0 in maps.shape[-axes:]:
        raise DataError(f"maps: shape {tuple(maps.shape)} came; expected (..., {axes} axes of positions), none empty")
    low = maps.amin(places, keepdim=True)
    span = maps.amax(places, keepdim=True) - low
    # The comparison below is false for NaN: such a map would become zeros, which look like a finding.
    if not bool(torch.isfinite(span).all()):
        raise DataError("maps hold NaN or infinite values; expected finite ones. Check the model's activations")
    scaled = (maps - low) / torch.where(span > 0, span, torch.ones_like(span))  # never divides by zero
    return torch.where(span > 0, scaled, torch.zeros_like(maps))


@also_called(target="classes")
def channel_signal(
    model: nn.Module,
    images: Tensor,
    channels: Start | Sequence[Start] | Picks,
    *,
    rule: str | None = None,
    rectifier: str | None = None,
    resample: bool | None = None,
    resample_pool: bool = False,
    seed: str = "activation",
    classes: Tensor | Sequence[int] | int | None = None,
    output: Output | None = None,
    trace: Trace | None = None,
) -> Signals:
    """Return the raw signals (B, k, C, H, W) of given channels; for any number of spatial axes, also none.

    The parameters are as in :func:`channel_heatmap`; ``channels`` may also hold a list of starts for every image.
    """
    check_kinds(channel_signal, locals())
    images = beside(model, finite_images(images))
    picks = _picks(channels, len(images))
    trace = trace or find_sites(model, images, output=output)
    for name in sorted(sites_in(picks) - {OUTPUT}):
        trace.usable(name)  # names close matches where it is not
    options = Options(rule, rectifier, resample, resample_pool, seed, output)
    if seed not in OF_A_CLASS:
        if classes is not None:
            raise InterpNetError(
                f"classes came with seed={seed!r}; only seed='contribution' and seed='relevance' ask for a class"
            )
        return backpropagate(model, images, trace.sites, picks, **vars(options))
    needed = sites_in(picks)
    used = {site.name: site for site in trace.sites if site.name in needed}
    run = SignalRun(model, images, used, options, counts=True)
    found = contributed(run, partial(_explained, classes))
    return sent_back(run, found, picks)


@also_called(target="classes")
def channel_heatmap(
    model: nn.Module,
    images: Tensor,
    channels: Start | Sequence[Start],
    *,
    rule: str | None = None,
    rectifier: str | None = None,
    resample: bool | None = None,
    resample_pool: bool = False,
    seed: str = "activation",
    classes: Tensor | Sequence[int] | int | None = None,
    smooth: float = 0.0,
    reduction: str = "abs",
    output: Output | None = None,
    trace: Trace | None = None,
) -> Tensor:
    """Return (B, H, W): what in each image one channel answers to, in the units of the signal, not normalised.

    Signals (B, C, L) give maps (B, L), volumes (B, C, D, H, W) maps (B, D, H, W).

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    images : Tensor (B, C, H, W)
        As the model wants them; moved to the model's device, where the result lies.
    channels : Channel, or one for each image
        A :class:`Channel`, an output unit (:class:`Unit`), or a set of them whose signals start together.
    rule : str, optional
        How the signal goes down. ``"guided"`` (default), ``"deconvnet"`` and ``"gradient"`` are rules at rectifiers;
        ``"lrp_epsilon_plus_flat"``, ``"lrp_gamma"`` and the other LRP methods of :func:`interpnet.attribute` send
        relevance (conditional on the channel: Achtibat et al. 2023).
    rectifier : {"guided", "deconvnet", "gradient"}, optional
        The older name of ``rule``, for these three.
    resample : bool, optional
        The paper's stride-1 resampling of strided convolutions; by default for the rules at rectifiers and not for LRP.
    resample_pool : bool
        The same for strided pooling; not for LRP.
    seed : {"activation", "ones", "maximum", "contribution", "relevance"}
        What the signal starts with: the activation map itself, ones, the map at its maximum alone, what of the
        channel's contribution to the image's log-odds of a class is positive (map times gradient, position by
        position), or what of the relevance that these log-odds send to the map by LRP's rule is. No relevance goes to a
        gate, where the contribution stands for it.
    classes : int or (B,) numbers, optional
        The classes of ``seed="contribution"`` and ``"relevance"``; the predicted ones by default. ``target=`` is
        another name of it.
    smooth : float
        Standard deviation, in pixels, of a Gaussian over the map: 0 for none. Outside of the map its mirror image
        counts, so that the sum stays.
    reduction : {"abs", "positive", "max", "sum"}
        See :func:`reduce_colours`; :func:`channel_signal` gives the raw signal.
    output : str, int or function, optional
        Which part of what the model returns are its logits, as in :func:`interpnet.engine.find_sites`.
    trace : Trace, optional
        A trace made before, to save a forward pass.

    Raises
    ------
    LayerError
        An unknown layer or channel.
    ModelError
        A rectifier that escaped the rule, or an operator for which LRP has none: it is named.
    DataError
        Images without positions (B, C).

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2))
    >>> channel_heatmap(net, torch.rand(2, 1, 5, 5), Channel("1", 0)).shape
    torch.Size([2, 5, 5])
    """
    check_kinds(channel_heatmap, locals())
    options = vars(Options(rule, rectifier, resample, resample_pool, seed, output))
    smooth = checked_width(smooth)
    axes = spatial_axes(images)
    signals = channel_signal(model, images, channels, classes=classes, trace=trace, **options).signals[:, 0]
    return blurred(reduce_colours(signals, reduction, axes=axes), smooth, axes=axes)


def spatial_axes(images: Tensor) -> int:
    """Return the number of spatial axes of ``images``; a batch without any is a :class:`DataError`."""
    axes = check_images(images).dim() - 2
    if axes == 0:
        raise DataError(
            f"images: shape {tuple(images.shape)} came, which has no positions to draw a map over; expected "
            "(B, C, ...) with at least one spatial axis. channel_signal() gives one value for each feature"
        )
    return axes


def _explained(classes: Tensor | Sequence[int] | int | None, logits: Tensor) -> list[int]:
    """Return the class of each image: the predicted one where none is asked for."""
    if classes is None:
        return list(map(int, logits.argmax(1)))
    if isinstance(classes, int):
        classes = [classes] * len(logits)
    if isinstance(classes, Tensor):
        classes = classes.tolist()
    numbers = [
        whole_number(c, "an entry of classes", least=0, most=logits.shape[1] - 1) for c in listed(classes, "classes")
    ]
    if len(numbers) != len(logits):
        raise InterpNetError(f"classes has {len(numbers)} entries for {len(logits)} images; expected one per image")
    return numbers


def _picks(channels: Start | Sequence[Start] | Picks, batch: int) -> list[list[Start]]:
    """Return the starts of every image, where one is given for all images, or one or several for each."""
    if isinstance(channels, Channel | Unit | Set):
        channels = [channels] * batch
    channels = listed(channels, "channels")
    if len(channels) != batch:
        raise InterpNetError(f"{len(channels)} channels came for {batch} images; expected one for all or one per image")
    return [[row] if isinstance(row, Channel | Unit | Set) else listed(row, "channels") for row in channels]
