"""Explain images: the top channels by response for a class, each shown by its heatmap.

Source: Oramas et al., ICLR 2019, section 3.2. The released code first L2-normalises the scores as a whole
and divides the weights by their sum; neither changes the order of the responses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from interpnet.engine import Channel, Output, Trace, beside, check_images, find_sites
from interpnet.errors import InterpNetError
from interpnet.explanation._heatmap import backpropagate, normalise, reduce_colours
from interpnet.explanation._starts import Picks
from interpnet.interpretation import Interpretation
from interpnet.scores import ScoreReader

COMBINATIONS = ("max", "mean", "response")


@dataclass(frozen=True)
class Explanation:
    """Why a network says what it says about each image of a batch.

    Attributes
    ----------
    classes : Tensor (B,) int64
        The class explained.
    predictions : Tensor (B,) int64
    confidences : Tensor (B,)
        Softmax probability of the explained class.
    channels : list of list of Channel
        Up to k channels with the largest positive response, best first.
    responses : list of list of float
        Their responses, weight times score.
    heatmaps : Tensor (B, k, H, W)
        Each min-max normalised to [0, 1]; zero where an image has fewer than k channels or a blank map.
    combined : Tensor (B, H, W)
        The k put together, by default their pixel-wise maximum; see :func:`combine`.
    signals : Tensor (B, k, C, H, W)
        The raw signals.
    rectifiers_seen, rectifiers_overridden : int
        How many rectifier calls the forward pass made, and how many were under the rule (always equal: a
        mismatch raises).
    """

    classes: Tensor
    predictions: Tensor
    confidences: Tensor
    channels: list[list[Channel]]
    responses: list[list[float]]
    heatmaps: Tensor
    combined: Tensor
    signals: Tensor
    rectifiers_seen: int
    rectifiers_overridden: int


def explain(
    model: nn.Module,
    images: Tensor,
    interpretation: Interpretation,
    *,
    k: int = 3,
    classes: Tensor | Sequence[int] | int | str | None = None,
    rectifier: str = "guided",
    resample: bool = True,
    resample_pool: bool = False,
    seed: str = "activation",
    reduction: str = "abs",
    combination: str = "max",
    output: Output | None = None,
    trace: Trace | None = None,
) -> Explanation:
    """Explain a batch with one forward pass and k backward passes.

    Parameters
    ----------
    model : nn.Module
        The network that ``interpretation`` was made from; left as it was.
    images : Tensor (B, C, H, W)
        As the model wants them; moved to the model's device.
    interpretation : Interpretation
    k : int
        Channels an image.
    classes : int, str or (B,) numbers, optional
        Classes to explain; the predicted ones by default.
    rectifier, resample, resample_pool, seed, reduction
        See :func:`interpnet.explanation.channel_heatmap`.
    combination : {"max", "mean", "response"}
        See :func:`combine`.

    Returns
    -------
    Explanation

    Raises
    ------
    LayerError
        The interpretation names a layer that this model does not have.

    Examples
    --------
    >>> import numpy as np
    >>> from interpnet.engine import ChannelIndex
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2))
    >>> found = Interpretation(ChannelIndex((("1", 2),)), np.eye(2), ("a", "b"))
    >>> explain(net, torch.rand(4, 1, 5, 5), found, k=1).combined.shape
    torch.Size([4, 5, 5])
    """
    images = beside(model, check_images(images))
    if k < 1:
        raise InterpNetError(f"k={k}; expected at least 1")
    _check_combination(combination)
    trace = trace if trace is not None else find_sites(model, images, output=output)
    sites = []
    for name, size in interpretation.channels.sizes:
        site = trace[name]
        if site.channels != size:
            raise InterpNetError(
                f"layer {name!r} has {site.channels} channels in this model and {size} in the interpretation; "
                "was it made from another model?"
            )
        sites.append(site)
    info = interpretation.info
    reader = ScoreReader(sites, norm=info.get("norm", "l2"), normalisation=info.get("normalisation", "layer"))
    chosen: list[list[tuple[Channel, float]]] = []
    seen: list[Tensor] = []
    explained: list[int] = []

    def choose(logits: Tensor) -> Picks:
        x = reader.take().detach().double().cpu().numpy()
        seen[:] = [logits]
        explained[:] = _classes(classes, logits, interpretation)
        chosen[:] = [interpretation.top_channels(row, c, k) for row, c in zip(x, explained, strict=True)]
        return [[channel for channel, _ in row] for row in chosen]

    # Only the maps of layers that some class relies on can be chosen; the others need not be kept.
    relied = [s for s in sites if interpretation.coef[:, interpretation.channels.slice(s.name)].any()]
    result = backpropagate(
        model,
        images,
        relied,
        choose,
        reads=reader.reads,
        rectifier=rectifier,
        resample=resample,
        resample_pool=resample_pool,
        seed=seed,
        output=output,
    )
    (logits,), signals = seen, result.signals
    if signals.shape[1] < k:
        padding = signals.new_zeros((signals.shape[0], k - signals.shape[1], *signals.shape[2:]))
        signals = torch.cat([signals, padding], 1)
    heatmaps = normalise(reduce_colours(signals, reduction))
    responses = heatmaps.new_zeros(heatmaps.shape[:2])
    for i, row in enumerate(chosen):
        responses[i, : len(row)] = responses.new_tensor([response for _, response in row])
    target = torch.tensor(explained, device=logits.device)
    return Explanation(
        classes=target,
        predictions=logits.argmax(1),
        confidences=logits.softmax(1).gather(1, target[:, None])[:, 0],
        channels=[[channel for channel, _ in row] for row in chosen],
        responses=[[response for _, response in row] for row in chosen],
        heatmaps=heatmaps,
        combined=combine(heatmaps, responses, combination),
        signals=signals,
        rectifiers_seen=result.report.seen,
        rectifiers_overridden=result.report.overridden,
    )


def combine(heatmaps: Tensor, responses: Tensor, combination: str = "max") -> Tensor:
    """Put the k heatmaps of each image together.

    Parameters
    ----------
    heatmaps : Tensor (B, k, H, W)
        Each in [0, 1].
    responses : Tensor (B, k)
        Weight times score of each channel, 0 where an image has fewer than k.
    combination : {"max", "mean", "response"}
        The pixel-wise maximum (the paper); the mean over the channels there are; or the mean weighted by the
        responses, ``sum_i r_i H_i / sum_i r_i``. An image without a channel has a map of zeros.

    Returns
    -------
    Tensor (B, H, W)
        In [0, 1].

    Raises
    ------
    InterpNetError
        Another name.

    Examples
    --------
    >>> maps = torch.tensor([[[[1.0, 0.0]], [[0.0, 0.5]]]])
    >>> responses = torch.tensor([[3.0, 1.0]])
    >>> [combine(maps, responses, how).tolist() for how in COMBINATIONS]
    [[[[1.0, 0.5]]], [[[0.5, 0.25]]], [[[0.75, 0.125]]]]
    """
    _check_combination(combination)
    if combination == "max":
        return heatmaps.amax(1)
    weights = (responses > 0).to(heatmaps) if combination == "mean" else responses.clamp(min=0).to(heatmaps)
    total = weights.sum(1, keepdim=True)
    weights = weights / torch.where(total > 0, total, torch.ones_like(total))
    return (weights[:, :, None, None] * heatmaps).sum(1)


def _check_combination(combination: str) -> None:
    if combination not in COMBINATIONS:
        raise InterpNetError(f"combination={combination!r}; expected one of {', '.join(map(repr, COMBINATIONS))}")


def _classes(
    classes: Tensor | Sequence[int] | int | str | None, logits: Tensor, interpretation: Interpretation
) -> list[int]:
    batch = logits.shape[0]
    if logits.shape[1] != len(interpretation.classes):
        raise InterpNetError(
            f"the model has {logits.shape[1]} outputs and the interpretation {len(interpretation.classes)} classes; "
            "was it made from another model?"
        )
    if classes is None:
        return [int(c) for c in logits.argmax(1)]
    if isinstance(classes, int | str):
        return [interpretation.class_index(classes)] * batch
    numbers = [interpretation.class_index(int(c)) for c in classes]
    if len(numbers) != batch:
        raise InterpNetError(f"classes has {len(numbers)} entries for {batch} images; expected one an image")
    return numbers
