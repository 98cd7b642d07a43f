"""Explain images: the top channels by response for a class, each shown by its heatmap.

Source: Oramas et al., ICLR 2019, section 3.2; docs/method.md, section 4. The released code first L2-normalises the
scores as a whole and divides the weights by their sum; neither changes the order of the responses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.engine import (
    Channel,
    Instrument,
    Output,
    Site,
    Trace,
    beside,
    channel_index,
    check_dense,
    check_logits,
    find_sites,
    finite_images,
)
from interpnet.errors import InterpNetError
from interpnet.explanation._contributed import contributed, sent_back
from interpnet.explanation._heatmap import normalise, reduce_colours, spatial_axes
from interpnet.explanation._signals import Options, SignalRun
from interpnet.explanation._smooth import blurred, checked_share, checked_width, saturated
from interpnet.explanation._starts import OF_A_CLASS, OUTPUT
from interpnet.explanation._variants import completed
from interpnet.interpretation import CHOICES, Interpretation
from interpnet.scores import ScoreReader, sites_of
from interpnet.support.brief import brief
from interpnet.support.checks import check_kinds, listed, one_of, whole_number
from interpnet.support.keywords import also_called
from interpnet.support.types import Int64

COMBINATIONS = ("max", "mean", "response")
SUM = "sum"  # of maps that were not scaled each on its own


@brief
@dataclass(frozen=True)
class Explanation:
    """Why a network says what it says about each image of a batch."""

    classes: Tensor  # (B,) int64: the class explained
    predictions: Tensor  # (B,) int64: the class predicted
    confidences: Tensor  # (B,): probability of the explained class, by the softmax; of independent outputs the sigmoid
    channels: list[list[Channel]]  # for each image up to k with the largest positive response, best first
    responses: list[list[float]]  # theirs: weight times score, or by reliance their contribution to the log-odds
    heatmaps: Tensor  # (B, k, H, W): each in [0, 1]; zero where an image has fewer than k channels or a blank map
    combined: Tensor  # (B, H, W): the k put together, in [0, 1]
    signals: Tensor  # (B, k, C, H, W): the raw signals
    rectifiers_seen: int  # calls in the forward pass
    rectifiers_overridden: int  # calls under the rule: as many, for a mismatch raises


@also_called(target="classes")
def explain(
    model: nn.Module,
    images: Tensor,
    interpretation: Interpretation | None = None,
    *,
    k: int = 3,
    classes: Tensor | Sequence[int] | int | str | None = None,
    variant: str = "relevance",
    choose: str | None = None,
    rule: str | None = None,
    rectifier: str | None = None,
    resample: bool | None = None,
    resample_pool: bool = False,
    seed: str | None = None,
    smooth: float | None = None,
    saturate: float | None = None,
    reduction: str | None = None,
    combination: str | None = None,
    output: Output | None = None,
    trace: Trace | None = None,
) -> Explanation:
    """Explain a batch with one forward pass and k backward passes, and one more back where contributions are taken.

    Signals (B, C, L) get maps (B, k, L), volumes (B, C, D, H, W) maps (B, k, D, H, W). Images without positions (B, C)
    are a :class:`DataError`.

    Parameters
    ----------
    model : nn.Module
        The network that ``interpretation`` was made from; left as it was.
    images : Tensor (B, C, H, W)
        As the model wants them; moved to the model's device.
    interpretation : Interpretation, optional
        Which channels are named for each class. Without one, which takes no training images, the channels of the
        default layers are chosen by what they contribute to the image's own log-odds (``choose="all"``), its classes
        excluding each other.
    k : int
        Channels per image.
    classes : int, str or (B,) numbers, optional
        Classes to explain; the predicted ones by default. ``target=`` is another name of it.
    variant : {"relevance", "paper"}
        What stands for the options that are not given. ``"relevance"``, by ``experiments/maps``: ``choose="named"``,
        ``rule="lrp_gamma"``, ``seed="relevance"``, ``smooth`` 1 % of the shorter side, ``saturate=0.99``,
        ``combination="sum"``. ``"paper"``: ``rule="guided"`` with resampling, ``seed="activation"``, the maps as they
        are, ``combination="max"``.
    choose : {"weight", "contribution", "named", "all"}, optional
        How an image's k channels are chosen: by weight times score; among the channels named for the class, by what
        each contributes to the image's own log-odds of the class; these first, and where they are fewer than k the
        others by the same number; or by it among all channels of the layers. In the paper's variant as the channels
        were named: by weight for the mu-lasso, by contribution for reliance.
    rule, rectifier, resample, resample_pool, seed, smooth, reduction, output, trace
        As in :func:`interpnet.explanation.channel_heatmap`; the class of a seed that asks for one is that explained.
        Relevance is reduced by its sum over colours, other signals by absolute values.
    saturate : float, optional
        The share of a map's pixels, after smoothing, below which its scale is linear; what lies above is cut. 1: none.
    combination : {"sum", "max", "mean", "response"}, optional
        How the k maps make one. ``"sum"`` adds them before they are scaled, so that a channel counts by the strength of
        its signal; the others put scaled maps together, see :func:`combine`.

    Raises
    ------
    LayerError
        A layer of the interpretation that this model does not have.

    Examples
    --------
    >>> import numpy as np
    >>> from interpnet.engine import ChannelIndex
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2))
    >>> found = Interpretation(ChannelIndex((("1", 2),)), np.eye(2), ("a", "b"))
    >>> explain(net, torch.rand(4, 1, 5, 5), found, k=1).combined.shape
    torch.Size([4, 5, 5])
    """
    check_kinds(explain, locals())
    axes = spatial_axes(images)
    images = beside(model, finite_images(images))
    whole_number(k, "k", least=1)
    given = {"choose": choose, "rule": rule, "rectifier": rectifier, "seed": seed, "reduction": reduction}
    how = completed(
        variant,
        given | {"smooth": smooth, "saturate": saturate, "combination": combination},
        side=min(images.shape[2:]),
    )
    combination = one_of(how["combination"], "combination", (SUM, *COMBINATIONS))
    smooth = checked_width(how["smooth"])
    saturate = checked_share(how["saturate"])
    trace = trace or find_sites(model, images, output=output)
    if interpretation is None:
        interpretation = _nothing_named(trace)
        how["choose"] = _of_all(choose)
    # More than there are would be rows of zeros; the default is never refused.
    whole_number(k, "k", most=max(3, len(interpretation.channels)))
    choose = one_of(how["choose"] or interpretation.choice, "choose", CHOICES)
    options = Options(how.get("rule"), rectifier, resample, resample_pool, how["seed"], output)
    asked = partial(_classes, classes, interpretation=interpretation)
    # The response is w * x, or the contribution itself: docs/method.md, sections 4 and 8.
    reader = None
    instruments = []
    if choose == "weight":
        reader = ScoreReader.of(trace, interpretation.channels, interpretation.info)
        instruments.append(Instrument(reads=reader.reads))
    for layers in _candidates(choose):
        run = SignalRun(model, images, _used(trace, interpretation, layers), options)
        values = np.zeros((len(images), len(interpretation.channels)))
        found = None
        if choose == "weight" and options.seed not in OF_A_CLASS:
            forward = run.forward(*instruments)
            explained = asked(check_logits(forward.maps[OUTPUT].detach()))
        else:
            found = contributed(run, asked, *instruments, **_measured(interpretation, run.sites))
            forward = found.forward
            explained = found.classes
            values[:, _columns(interpretation, run.sites)] = found.values
        if reader is not None:
            values = reader.take().detach().double().cpu().numpy()
        chosen = [interpretation.top_channels(x, c, k, choose) for x, c in zip(values, explained, strict=True)]
        if all(len(row) == k for row in chosen):
            break
    logits = forward.maps[OUTPUT].detach()
    channels = [[channel for channel, _ in row] for row in chosen]
    responses = [[response for _, response in row] for row in chosen]
    if found is None:
        result = run.send_back(forward, channels, k)
    else:
        result = sent_back(run, found, channels, k)
    maps = blurred(reduce_colours(result.signals, how["reduction"], axes=axes), smooth, axes=axes)
    heatmaps = normalise(saturated(maps, saturate, axes=axes), axes=axes)
    weights = heatmaps.new_zeros(heatmaps.shape[:2])
    for i, row in enumerate(responses):
        weights[i, : len(row)] = weights.new_tensor(row)
    if combination == SUM:
        combined = normalise(saturated(maps.sum(1), saturate, axes=axes), axes=axes)
    else:
        combined = combine(heatmaps, weights, combination)
    target = torch.tensor(explained, device=logits.device)
    probabilities = logits.softmax(1)
    if interpretation.info.get("outputs") == "independent":
        probabilities = logits.sigmoid()
    return Explanation(
        classes=target,
        predictions=logits.argmax(1),
        confidences=probabilities.gather(1, target[:, None])[:, 0],
        channels=channels,
        responses=responses,
        heatmaps=heatmaps,
        combined=combined,
        signals=result.signals,
        rectifiers_seen=result.report.seen,
        rectifiers_overridden=result.report.overridden,
    )


def _nothing_named(trace: Trace) -> Interpretation:
    """Return an interpretation that names none of the default layers' channels; its classes are called by number."""
    channels = channel_index(trace.select())
    classes = tuple(str(number) for number in range(trace.n_outputs))
    return Interpretation(channels, np.zeros((len(classes), len(channels))), classes)


def _of_all(choose: str | None) -> str:
    """Return how channels are chosen where none are named: among all, and nothing else can be asked for."""
    if choose not in {None, "all"}:
        raise InterpNetError(
            f"choose is {choose!r} without an interpretation, which names the channels of each class; give one (from "
            "interpret or measure_reliance), or choose='all'"
        )
    return "all"


def _candidates(choose: str) -> tuple[str, ...]:
    """Return the layers to choose channels from: those of all classes' named channels, or all, and what comes next."""
    # Others fill up for the named channels of a class only where these are too few, and lie in layers that cost more.
    return {"named": ("named", "all"), "all": ("all",)}.get(choose, ("named",))


def _used(trace: Trace, interpretation: Interpretation, layers: str) -> dict[str, Site]:
    """Return the sites at which channels may be chosen; the maps of others need not be kept."""
    sites = sites_of(trace, interpretation.channels)
    if layers == "all":
        return {site.name: site for site in sites}
    named = interpretation.coef != 0
    return {site.name: site for site in sites if named[:, interpretation.channels.slice(site.name)].any()}


def _columns(interpretation: Interpretation, names: Iterable[str]) -> Int64:
    """Return the columns of an interpretation that the channels of some layers have, in the layers' order."""
    channels = interpretation.channels
    parts = [np.arange(len(channels))[channels.slice(name)] for name in names]
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])


def _measured(interpretation: Interpretation, names: Iterable[str]) -> dict[str, Any]:
    """Return against what, and of which log-odds, an interpretation's contributions are."""
    info = interpretation.info
    reference = None
    if "reference" in info:
        reference = np.asarray(info["reference"])[_columns(interpretation, names)]
    return {"reference": reference, "outputs": info.get("outputs", "exclusive")}


def combine(heatmaps: Tensor, responses: Tensor, combination: str = "max") -> Tensor:
    """Put the k heatmaps (B, k, H, W) of each image, each in [0, 1], together to one (B, H, W), in [0, 1] too.

    ``responses`` (B, k) are weight times score of each channel, 0 where an image has fewer than k. ``"max"``: the
    pixel-wise maximum (the paper); ``"mean"``: the mean over the channels there are; ``"response"``: the mean weighted
    by the responses, ``sum_i r_i H_i / sum_i r_i``. An image without a channel has a map of zeros. Maps may have any
    number of axes: (B, k, L) gives (B, L).

    Examples
    --------
    >>> maps = torch.tensor([[[[1.0, 0.0]], [[0.0, 0.5]]]])
    >>> responses = torch.tensor([[3.0, 1.0]])
    >>> [combine(maps, responses, how).tolist() for how in COMBINATIONS]
    [[[[1.0, 0.5]]], [[[0.5, 0.25]]], [[[0.75, 0.125]]]]
    """
    check_kinds(combine, locals())
    check_dense(heatmaps, "heatmaps", "B, k, H, W")
    if heatmaps.dim() < 3 or responses.shape != heatmaps.shape[:2]:
        raise InterpNetError(
            f"heatmaps have shape {tuple(heatmaps.shape)} and responses {tuple(responses.shape)}; expected "
            "(B, k, H, W) and (B, k)"
        )
    if one_of(combination, "combination", COMBINATIONS) == "max":
        return heatmaps.amax(1)
    weights = responses.clamp(min=0)  # docs/method.md, section 4, step 5
    weights = (weights > 0 if combination == "mean" else weights).to(heatmaps)
    total = weights.sum(1, keepdim=True)
    weights = weights / torch.where(total > 0, total, torch.ones_like(total))  # zeros stay zeros
    return (weights.view(*weights.shape, *[1] * (heatmaps.dim() - 2)) * heatmaps).sum(1)


def _classes(
    classes: Tensor | Sequence[int] | int | str | None, logits: Tensor, *, interpretation: Interpretation
) -> list[int]:
    """Return the class to explain of each image: the predicted one where none is asked for."""
    batch = logits.shape[0]
    if logits.shape[1] != len(interpretation.classes):
        raise InterpNetError(
            f"the model has {logits.shape[1]} outputs and the interpretation {len(interpretation.classes)} classes; "
            "was it made from another model?"
        )
    if classes is None:
        return list(map(int, logits.argmax(1)))
    if isinstance(classes, int | str):
        return [interpretation.class_index(classes)] * batch  # one class for all images
    if isinstance(classes, Tensor):
        classes = classes.tolist()
    numbers = [interpretation.class_index(c) for c in listed(classes, "classes")]
    if len(numbers) != batch:
        raise InterpNetError(f"classes has {len(numbers)} entries for {batch} images; expected one per image")
    return numbers
