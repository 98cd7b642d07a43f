"""Deletion and insertion: whether the class goes, and comes, with the pixels that the map puts first.

Beside each curve stand those of two maps that know nothing of the network, because images that lack pixels are not
images that the network was trained on: its answer to them falls for any order, and with edges gone it falls fast.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from interpnet.engine import Output, evaluating, logits_of, unwrap
from interpnet.errors import DataError, InterpNetError, ModelError
from interpnet.evaluate._checks import checked_maps, images_named, whole, wide
from interpnet.evaluate._score import Score, measure

Target = int | Tensor | Sequence[int] | None

_SCORES = ("probability", "logit")


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
    of equal value are taken in a random order of the image's own (most methods give zero to large areas, and an order
    by position would make them a control from the top left).

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
        From 1 to H * W. The cost is ``steps + 1`` forwards an image for the map, and as many for each control.
    baseline : {"blank", "blurred"}, number, or Tensor (C, H, W) or (B, C, H, W)
        What shows where a pixel is gone; see :func:`interpnet.attribute`. Petsiuk et al. take grey away and put
        pixels into a blurred image: the defaults of deletion and insertion.
    score : {"probability", "logit"}
        The softmax of the class, or its logit (then the range is unbounded).
    controls : sequence of str
        Attribution methods to measure beside the map, by name.
    max_batch : int
        The most images in one pass; memory does not grow with ``steps``.
    seed : int
        Of the order of equal pixels, and of the random control. An image's draws depend on the seed and its own
        pixels alone, not on its batch.
    output : function, optional
        Takes what the model returns, gives logits.
    constant : {"error", "zero"}
        Refuse a constant map, or take its pixels in random order and flag it.

    Returns
    -------
    Score
        ``values`` (B,): low is good. ``curve`` (B, steps + 1), ``thresholds`` (steps + 1,) the shares of pixels
        taken, ``controls["random"]`` and ``controls["edge"]`` the same of the controls.

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
    plan = _Plan(True, steps, baseline, score, tuple(controls), max_batch, seed, output, constant)
    return _measured("deletion", plan, model, images, heatmaps, target)


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
    plan = _Plan(False, steps, baseline, score, tuple(controls), max_batch, seed, output, constant)
    return _measured("insertion", plan, model, images, heatmaps, target)


@dataclass(frozen=True)
class _Plan:
    """What both measures are told; see :func:`deletion`."""

    delete: bool
    steps: int
    baseline: str | float | Tensor
    score: str
    controls: tuple[str, ...]
    max_batch: int
    seed: int
    output: Output | None
    constant: str


def _measured(name: str, plan: _Plan, model: nn.Module, images: Tensor, heatmaps: Tensor, target: Target) -> Score:
    from interpnet.attribution import attribute, checked_targets, resolve_baseline, usable_images

    model = unwrap(model)
    maps, flat = checked_maps(heatmaps, constant=plan.constant)
    with torch.inference_mode(False), torch.no_grad():
        images = usable_images(model, images)
        _check(plan, images, maps)
        given = checked_targets(target, images)
        base = resolve_baseline(images, plan.baseline)
        with evaluating(model, frozen=True):
            classes = _classes(plan, model, images, given)
            curves = {"map": _curve(plan, model, images, base, maps.to(images.device), classes)}
            for control in plan.controls:
                with warnings.catch_warnings():
                    # An image of one colour has no edges: its control is the seeded order of equal pixels.
                    warnings.filterwarnings("ignore", message=".*zero everywhere")
                    known = attribute(
                        model, images, classes, control, max_batch=plan.max_batch, seed=plan.seed, output=plan.output
                    )
                curves[control] = _curve(plan, model, images, base, wide(known), classes)
    taken = _counts(plan.steps, maps[0].numel()).to(curves["map"]) / maps[0].numel()
    scores = {k: _as_score(name, plan, curve, taken) for k, curve in curves.items()}
    return _as_score(
        name,
        plan,
        curves["map"],
        taken,
        flagged=flat.to(images.device),
        controls={c: scores[c] for c in plan.controls},
    )


def _as_score(name: str, plan: _Plan, curve: Tensor, taken: Tensor, **more: object) -> Score:
    unbounded = (-float("inf"), float("inf")) if plan.score == "logit" else None
    return measure(name).score(torch.trapezoid(curve, taken), range=unbounded, curve=curve, thresholds=taken, **more)


def _check(plan: _Plan, images: Tensor, maps: Tensor) -> None:
    if tuple(maps.shape) != (images.shape[0], *images.shape[2:]):
        raise DataError(
            f"heatmaps: shape {tuple(maps.shape)} came for images {tuple(images.shape)}; expected "
            f"{(images.shape[0], *images.shape[2:])}, one value a pixel"
        )
    if plan.score not in _SCORES:
        raise InterpNetError(f"score={plan.score!r}; expected one of {', '.join(map(repr, _SCORES))}")
    if whole(plan.steps, "steps", 1) > maps[0].numel():
        raise InterpNetError(f"steps={plan.steps}; expected at most one a pixel, {maps[0].numel()}")
    whole(plan.max_batch, "max_batch", 1)
    whole(plan.seed, "seed", 0)


def _classes(plan: _Plan, model: nn.Module, images: Tensor, given: Tensor | None) -> Tensor:
    """Return the classes (B,) to read: the given ones, if the model has them, else the predicted."""
    from interpnet.attribution import check_classes

    logits = torch.cat(
        [logits_of(model(x.clone()), x.shape[0], plan.output) for x in torch.split(images, plan.max_batch)]
    )
    if given is None:
        return logits.argmax(1)
    check_classes(given, logits.shape[1])
    return given.to(images.device)


def _counts(steps: int, n: int) -> Tensor:
    """Return how many pixels have changed at each point of the curve, (steps + 1,)."""
    return torch.arange(steps + 1) * n // steps


def _curve(plan: _Plan, model: nn.Module, images: Tensor, base: Tensor, maps: Tensor, classes: Tensor) -> Tensor:
    """Return the score (B, steps + 1) of the classes as pixels change in the order of the maps."""
    batch, n = images.shape[0], maps[0].numel()
    ranks = _ranks(model, images, maps, plan.seed)
    counts = _counts(plan.steps, n).to(images.device)
    first, last = (images, base) if plan.delete else (base, images)
    found = []
    for start in range(0, (plan.steps + 1) * batch, plan.max_batch):
        at = torch.arange(start, min(start + plan.max_batch, (plan.steps + 1) * batch), device=images.device)
        point, image = at // batch, at % batch
        changed = (ranks[image] < counts[point, None]).view(-1, 1, *maps.shape[1:])
        x = torch.where(changed, last[image], first[image])
        logits = wide(logits_of(model(x), x.shape[0], plan.output))
        values = logits.softmax(1) if plan.score == "probability" else logits
        found.append(values.gather(1, classes[image, None])[:, 0])
    curve = torch.cat(found).view(plan.steps + 1, batch).T.contiguous()
    bad = ~torch.isfinite(curve).all(1)
    if bool(bad.any()):
        raise ModelError(f"the model returns NaN or infinity for {images_named(bad)} with pixels of the baseline")
    return curve


def _ranks(model: nn.Module, images: Tensor, maps: Tensor, seed: int) -> Tensor:
    """Return each pixel's place (B, H * W) in the order of falling values, equal ones in random order."""
    from interpnet.attribution import AttributionCall

    call = AttributionCall(model, images, torch.empty(0), torch.empty(0), seed=seed)
    n = maps[0].numel()
    shuffled = torch.stack([torch.randperm(n, generator=g) for g in call.generators()]).to(maps.device)
    falling = maps.flatten(1).gather(1, shuffled).argsort(dim=1, descending=True, stable=True)
    order = shuffled.gather(1, falling)
    places = torch.arange(n, dtype=torch.int32, device=maps.device).expand_as(order)
    return torch.empty_like(order, dtype=torch.int32).scatter_(1, order, places)
