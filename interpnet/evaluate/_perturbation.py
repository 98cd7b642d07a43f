"""Deletion, insertion and what the order is worth: whether the class goes, and comes, with the map's first pixels.

Two maps that know nothing of the network are measured as well. The network was not trained on images that lack pixels:
its answer to them falls for any order, and with edges gone it falls fast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from interpnet.attribution import (
    image_generators,
    logits_in_parts,
    resolve_baseline,
    target_classes,
    usable_images,
)
from interpnet.engine import Output, check_function, evaluating, unwrap
from interpnet.evaluate._answers import changed_scores, check_one_value_a_pixel, control_maps
from interpnet.evaluate._checks import checked_maps
from interpnet.evaluate._score import Score, measure
from interpnet.support.checks import check_kinds, one_of, whole_number
from interpnet.support.keywords import also_called

Target = int | Tensor | Sequence[int] | None


@also_called(classes="target")
def deletion(
    model: nn.Module,
    images: Tensor,
    heatmaps: Tensor,
    target: Target = None,
    *,
    steps: int = 50,
    baseline: str | float | Tensor = "blank",
    score: str = "probability",
    controls: Sequence[str] = ("random", "edge"),
    max_batch: int = 32,
    seed: int = 0,
    output: Output | None = None,
    constant: str = "error",
) -> Score:
    """Return the area under the class's score as the map's pixels are taken away, the highest first.

    With n pixels, point k of the curve is the score of the image whose ``floor(k n / steps)`` highest pixels show the
    baseline, in all colours; the area is taken by the trapezoidal rule over the share of pixels taken, 0 to 1. Pixels
    of equal value are taken in a random order of the image's own.

    Parameters
    ----------
    model : nn.Module
        Runs in evaluation mode and is left as it was.
    images : Tensor (B, C, H, W)
        As the model wants them; moved to the model's device.
    heatmaps : Tensor (B, H, W)
        The largest value goes first: signed maps as they are, evidence against the class last.
    target : int, (B,) class numbers, or None
        The class whose score is read; the predicted ones by default.
    steps : int
        From 1 to H * W. The cost is ``steps + 1`` forward passes per image for the map, and as many for each control.
    baseline : {"blank", "blurred"}, number, or Tensor (C, H, W) or (B, C, H, W)
        What shows where a pixel is gone; see :func:`interpnet.attribute`.
    score : {"probability", "logit"}
        The softmax of the class, or its logit (then the range is unbounded).
    controls : sequence of str
        Attribution methods to measure beside the map, by name.
    max_batch : int
        The most images in one pass; memory does not grow with ``steps``.
    seed : int
        Of the order of equal pixels, and of the random control; an image's draws do not depend on its batch.
    output : str, int or function, optional
        Which part of what the model returns are its logits, as in :func:`interpnet.engine.find_sites`.
    constant : {"error", "zero"}
        Refuse a constant map, or take its pixels in random order and flag it.

    Returns
    -------
    Score
        ``values`` (B,): low is good. ``curve`` (B, steps + 1), ``thresholds`` (steps + 1,) the shares of pixels
        taken, ``controls`` the same of the controls.

    Raises
    ------
    DataError
        Maps that are constant, hold NaN or are of another size than the images; images that the model cannot take.
    InterpNetError
        Steps, target, baseline, score or control that do not exist.
    ModelError
        The model returns no logits, or NaN.

    References
    ----------
    Petsiuk, Das & Saenko 2018, RISE, section 4.1.

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    >>> _ = net[1].weight.data.copy_(torch.tensor([[4.0, 3.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]]))
    >>> images = torch.ones(1, 1, 2, 2)
    >>> good = deletion(net, images, net[1].weight[0].view(1, 2, 2), 0, steps=4, score="logit", controls=())
    >>> good.curve.tolist(), good.mean
    ([[10.0, 6.0, 3.0, 1.0, 0.0]], 3.75)
    """
    check_kinds(deletion, locals())
    plan = _Plan(
        measure="deletion",
        steps=steps,
        baseline=baseline,
        score=score,
        controls=controls,
        max_batch=max_batch,
        seed=seed,
        output=output,
        constant=constant,
    )
    return plan.score_of(model, images, heatmaps, target)


@also_called(classes="target")
def insertion(
    model: nn.Module,
    images: Tensor,
    heatmaps: Tensor,
    target: Target = None,
    *,
    steps: int = 50,
    baseline: str | float | Tensor = "blurred",
    score: str = "probability",
    controls: Sequence[str] = ("random", "edge"),
    max_batch: int = 32,
    seed: int = 0,
    output: Output | None = None,
    constant: str = "error",
) -> Score:
    """Return the area under the class's score as the map's pixels are put into a baseline image, the highest first.

    Point k of the curve is the score of the baseline with the ``floor(k n / steps)`` highest pixels of the image;
    everything else as in :func:`deletion`, with which it shares its arguments.

    Returns
    -------
    Score
        ``values`` (B,): high is good. ``curve``, ``thresholds`` (shares of pixels put in), ``controls``.

    References
    ----------
    Petsiuk, Das & Saenko 2018, RISE, section 4.1.

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    >>> images, heatmaps = torch.rand(3, 1, 2, 2), torch.rand(3, 2, 2)
    >>> found = insertion(net, images, heatmaps, 1, steps=2)
    >>> found.curve.shape, found.thresholds.tolist(), sorted(found.controls)
    (torch.Size([3, 3]), [0.0, 0.5, 1.0], ['edge', 'random'])
    """
    check_kinds(insertion, locals())
    plan = _Plan(
        measure="insertion",
        steps=steps,
        baseline=baseline,
        score=score,
        controls=controls,
        max_batch=max_batch,
        seed=seed,
        output=output,
        constant=constant,
    )
    return plan.score_of(model, images, heatmaps, target)


@also_called(classes="target")
def symmetric_relevance_gain(
    model: nn.Module,
    images: Tensor,
    heatmaps: Tensor,
    target: Target = None,
    *,
    steps: int = 50,
    baseline: str | float | Tensor = "blank",
    score: str = "probability",
    controls: Sequence[str] = ("random", "edge"),
    max_batch: int = 32,
    seed: int = 0,
    output: Output | None = None,
    constant: str = "error",
) -> Score:
    """Return what the map's order is worth: the area under deletion lowest first, less that of highest first.

    Both curves are those of :func:`deletion`, with which it shares its arguments. What any order does to the network
    (images without pixels, broken edges) is in both and goes out with the difference: whatever the baseline, an order
    that knows nothing has 0 on average, so maps can be compared over baselines. The cost is twice that of
    :func:`deletion`.

    Returns
    -------
    Score
        ``values`` (B,): high is good; 0 for a constant map (with ``constant="zero"``), whose equal pixels go in the
        same order both times. ``curve`` (B, steps + 1) is the difference of the two curves, 0 at both ends.

    References
    ----------
    Bluecher, Vielhaben & Strodthoff 2024, Decoupling Pixel Flipping and Occlusion Strategy for Consistent XAI
    Benchmarks.

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    >>> _ = net[1].weight.data.copy_(torch.tensor([[4.0, 3.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]]))
    >>> images, good = torch.ones(1, 1, 2, 2), net[1].weight[0].view(1, 2, 2)
    >>> found = symmetric_relevance_gain(net, images, good, 0, steps=4, score="logit", controls=())
    >>> found.curve.tolist(), found.mean
    ([[0.0, 3.0, 4.0, 3.0, 0.0]], 2.5)
    """
    check_kinds(symmetric_relevance_gain, locals())
    plan = _Plan(
        measure="symmetric_relevance_gain",
        steps=steps,
        baseline=baseline,
        score=score,
        controls=controls,
        max_batch=max_batch,
        seed=seed,
        output=output,
        constant=constant,
    )
    return plan.score_of(model, images, heatmaps, target)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What is measured and how; see :func:`deletion` for the fields."""

    measure: str
    steps: int
    baseline: str | float | Tensor
    score: str
    controls: Sequence[str]
    max_batch: int
    seed: int
    output: Output | None
    constant: str

    def score_of(self, model: nn.Module, images: Tensor, heatmaps: Tensor, target: Target) -> Score:
        """Return the measure of the maps and of the controls."""
        model = unwrap(model)
        maps, flat = checked_maps(heatmaps, constant=self.constant)
        with torch.inference_mode(False), torch.no_grad(), evaluating(model):
            images = usable_images(model, images)
            self._check(images, maps)
            base = resolve_baseline(images, self.baseline)
            check_function(model, images, self.output)
            classes = target_classes(target, logits_in_parts(model, images, self.max_batch, self.output))
            curve = self._curve(model, images, base, maps.to(images.device), classes)
            known = control_maps(
                model, images, classes, self.controls, max_batch=self.max_batch, seed=self.seed, output=self.output
            )
            controls = {
                name: self._score(self._curve(model, images, base, control, classes), maps)
                for name, control in known.items()
            }
        return self._score(curve, maps, flagged=flat.to(images.device), controls=controls)

    def _check(self, images: Tensor, maps: Tensor) -> None:
        check_one_value_a_pixel(images, maps)
        one_of(self.score, "score", ("probability", "logit"))
        whole_number(self.steps, "steps", least=1, most=maps[0].numel())
        whole_number(self.max_batch, "max_batch", least=1)
        whole_number(self.seed, "seed", least=0)

    def _curve(self, model: nn.Module, images: Tensor, base: Tensor, maps: Tensor, classes: Tensor) -> Tensor:
        """Return the curve (B, steps + 1) that the measure sums up."""
        # docs/method.md, section 6.2; the defaults of the baselines are those of Petsiuk et al.
        ranks = _ranks(images, maps, self.seed)
        if self.measure == "insertion":
            return self._scores(model, base, images, ranks, classes)
        highest_first = self._scores(model, images, base, ranks, classes)
        if self.measure == "deletion":
            return highest_first
        # Equal pixels go in the same order in both curves, so that a constant map has exactly 0.
        lowest_first = self._scores(model, images, base, _ranks(images, -maps, self.seed), classes)
        return lowest_first - highest_first

    def _scores(self, model: nn.Module, first: Tensor, last: Tensor, ranks: Tensor, classes: Tensor) -> Tensor:
        """Return the score (B, steps + 1) of the classes as pixels (B, C, H, W) change in the order of their ranks."""
        counts = self._counts(ranks).to(first.device)

        def changed(point: Tensor, image: Tensor) -> Tensor:
            return (ranks[image] < counts[point, None]).view(-1, *first.shape[2:])

        return changed_scores(
            model,
            first,
            last,
            changed,
            self.steps + 1,
            classes,
            score=self.score,
            max_batch=self.max_batch,
            output=self.output,
        )

    def _counts(self, maps: Tensor) -> Tensor:
        """Return how many pixels have changed at each point of the curve, (steps + 1,)."""
        return torch.arange(self.steps + 1) * maps[0].numel() // self.steps

    def _score(self, curve: Tensor, maps: Tensor, **more: Any) -> Score:
        if self.score == "logit":
            more["range"] = (-math.inf, math.inf)
        taken = self._counts(maps).to(curve) / maps[0].numel()
        return measure(self.measure).score(torch.trapezoid(curve, taken), curve=curve, thresholds=taken, **more)


def _ranks(images: Tensor, maps: Tensor, seed: int) -> Tensor:
    """Return each pixel's place (B, H * W) in the order of falling values, equal ones in random order."""
    n = maps[0].numel()
    # Most methods give zero to large areas, and an order by position would make them a control from the top left.
    # Shuffled first and sorted stably: pixels of equal value stay in the shuffle's order.
    shuffled = torch.stack([torch.randperm(n, generator=g) for g in image_generators(images, seed)]).to(maps.device)
    falling = maps.flatten(1).gather(1, shuffled).argsort(dim=1, descending=True, stable=True)
    order = shuffled.gather(1, falling)
    places = torch.arange(n, dtype=torch.int32, device=maps.device).expand_as(order)
    return torch.empty_like(order, dtype=torch.int32).scatter_(1, order, places)
