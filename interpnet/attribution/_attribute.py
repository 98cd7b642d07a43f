"""One signature for every attribution method: model, images and one target class per image give maps (B, H, W)."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from interpnet.attribution._call import REDUCTIONS, Attribution, AttributionCall, KnownTrace
from interpnet.attribution._catalogue import METHODS, Method, find_method
from interpnet.attribution._inputs import (
    Baseline,
    Target,
    logits_in_parts,
    resolve_baseline,
    target_classes,
    usable_images,
)
from interpnet.engine import Layers, Output, check_function, evaluating, unwrap
from interpnet.errors import InterpNetError, did_you_mean
from interpnet.support.checks import check_kinds, one_of, whole_number
from interpnet.support.extras import require
from interpnet.support.keywords import also_called
from interpnet.support.loops import refuse_batches

R = TypeVar("R")

#: How many images a pass may hold by default, where fewer came.
_DEFAULT_BATCH = 16


class AttributionWarning(UserWarning):
    """Something was done that the caller should know of: evaluation mode was forced, a batch was halved."""


@also_called(classes="target")
def attribute_full(
    model: nn.Module,
    images: Tensor,
    target: Target = None,
    method: str = "gradcam++",
    *,
    max_batch: int | None = None,
    seed: int = 0,
    reduction: str | None = None,
    output: Output | None = None,
    layer: Layers | None = None,
    baseline: Baseline | None = None,
    **options: Any,
) -> Attribution:
    """Return the maps of :func:`attribute` with the raw signal and the residual of the method's sum rule.

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(9, 2)).eval()
    >>> found = attribute_full(net, torch.rand(2, 1, 3, 3), 1, "integrated_gradients", steps=2)
    >>> found.residual_kind, found.flagged.tolist()
    ('sum = F(x) - F(baseline)', [False, False])
    """
    check_kinds(attribute_full, locals())
    chosen = find_method(method)
    _check_options(chosen, options, layer, baseline, reduction)
    seed = whole_number(seed, "seed")
    if max_batch is not None:
        max_batch = whole_number(max_batch, "max_batch", least=1)
    model = unwrap(model)
    # A caller in inference mode, or without gradients, gets the same maps.
    with torch.inference_mode(False), torch.enable_grad():
        images = usable_images(model, images)
        if isinstance(baseline, Tensor):
            # One image per sample from here on, so that parts and copies of the batch take their own.
            baseline = resolve_baseline(images, baseline.detach().clone())
        if any(m.training for m in model.modules()):
            _say("the model came in training mode; it runs in evaluation mode here and is put back afterwards")
        passes = _Passes(images, max_batch or max(len(images), _DEFAULT_BATCH), method)
        with evaluating(model, frozen=True):
            check_function(model, images, output)
            # One pass finds the predicted classes and the scores: no method needs its own.
            logits = torch.cat(passes.run(lambda here, limit: logits_in_parts(model, images[here], limit, output)))
            call = AttributionCall(
                model=model,
                images=images,
                target=target_classes(target, logits),
                logits=logits,
                sites=KnownTrace(model, output),
                output=output,
                max_batch=passes.limit,
                seed=seed,
                layer=layer,
                baseline=baseline,
                reduction=reduction or chosen.reduction,
            )
            parts = passes.run(lambda here, limit: _run(chosen, call.part(here, limit), options))
    found = Attribution(**{f.name: _joined([getattr(part, f.name) for part in parts]) for f in fields(Attribution)})
    _warn_of_blank_maps(found.maps, method)
    return found


@also_called(classes="target")
def attribute(
    model: nn.Module,
    images: Tensor,
    target: Target = None,
    method: str = "gradcam++",
    *,
    max_batch: int | None = None,
    seed: int = 0,
    reduction: str | None = None,
    output: Output | None = None,
    layer: Layers | None = None,
    baseline: Baseline | None = None,
    **options: Any,
) -> Tensor:
    """Return how much each pixel speaks for a class, by a method of the literature.

    Parameters
    ----------
    model : nn.Module
        Left as it was. It runs in evaluation mode; a warning says so if it came in training mode.
    images : Tensor (B, C, H, W)
        As the model wants them; moved to the model's device.
    target : int, (B,) class numbers, or None
        The class to attribute; the predicted ones by default. ``classes=`` is another name of it.
    method : str
        One of :func:`methods`.
    max_batch : int, optional
        The most images in one pass through the network, for all methods; the batch itself, at least 16, by default.
    seed : int
        Of methods that draw random numbers. An image's draws depend on the seed and its own pixels alone.
    reduction : {"sum", "positive", "abs", "max"}, optional
        How colours become one value per pixel; each method has its own default.
    output : str, int or function, optional
        Which part of what the model returns are its logits, as in :func:`interpnet.engine.find_sites`.
    layer : str, optional
        The layer of methods that need one; the last convolutional site with a map larger than one position by default.
    baseline : {"blank", "blurred"}, number, or Tensor (C, H, W) or (B, C, H, W), optional
        The image without the class, for methods that need one.
    **options
        The method's own; ``methods()`` lists their names.

    Returns
    -------
    Tensor (B, H, W)
        Not normalised, on the model's device. What a sample gets does not depend on its batch.

    Raises
    ------
    InterpNetError
        Unknown method or option (close matches are named), a target outside the classes or of another length, a
        baseline of another shape, an extra that is not installed.
    DataError
        Images of another type or channel count than the model wants.
    ModelError
        The method cannot be right on this network; the operator is named.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.SiLU(), nn.Flatten(), nn.Linear(18, 2)).eval()
    >>> attribute(net, torch.rand(2, 1, 5, 5), 1, "gradient").shape
    torch.Size([2, 5, 5])
    """
    refuse_batches(attribute, images)
    full = attribute_full(
        model,
        images,
        target,
        method,
        max_batch=max_batch,
        seed=seed,
        reduction=reduction,
        output=output,
        layer=layer,
        baseline=baseline,
        **options,
    )
    return full.maps


def methods() -> tuple[Method, ...]:
    """Return the methods that :func:`attribute` knows, with family, paper, cost and needs.

    Examples
    --------
    >>> [m.name for m in methods() if m.family == "control"]
    ['random', 'edge', 'center']
    """
    return tuple(METHODS.values())


class _Passes:
    """Runs something on slices of a batch of at most ``limit`` images, halved where the device's memory ends."""

    def __init__(self, images: Tensor, limit: int, method: str) -> None:
        self.limit = limit
        self._images = images
        self._method = method
        self._warned = False

    def run(self, function: Callable[[slice, int], R]) -> list[R]:
        """Return ``function(slice, limit)`` for all slices, in order."""
        found: list[R] = []
        start = 0
        while start < len(self._images):
            try:
                found.append(function(slice(start, start + self.limit), self.limit))
                start += self.limit
                continue
            except torch.OutOfMemoryError as error:
                if self.limit == 1:
                    raise InterpNetError(
                        f"the device's memory does not hold one image of shape {tuple(self._images.shape[1:])} under "
                        f"method={self._method!r}; use smaller images or another device"
                    ) from error
            # Outside of the handler, whose traceback would keep the tensors of the failed pass alive.
            self._halve()
        return found

    def _halve(self) -> None:
        self.limit //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if not self._warned:
            _say(
                f"out of memory: going on with {self.limit} images a pass, halved again where needed; max_batch= sets "
                "it"
            )
            self._warned = True


def _run(method: Method, call: AttributionCall, options: dict[str, Any]) -> Attribution:
    found = method.run(call, **options)
    expected = (call.images.shape[0], *call.images.shape[2:])
    if tuple(found.maps.shape) != expected:
        # The method's mistake, not the caller's.
        raise RuntimeError(f"a method returned maps of shape {tuple(found.maps.shape)} instead of {expected}")
    return replace(found, maps=found.maps.detach())


def _warn_of_blank_maps(maps: Tensor, method: str) -> None:
    """Warn of maps that are zero everywhere: a picture of one looks like a finding."""
    blank = (maps.flatten(1) == 0).all(1).nonzero()[:, 0].tolist()
    if blank:
        some = ", ".join(map(str, blank[:8]))
        if len(blank) > 8:
            some += ", ..."
        _say(
            f"method={method!r}: {len(blank)} of {len(maps)} maps are zero everywhere (sample {some}): nothing came "
            "back to the image under this rule, so they say nothing about it"
        )


def _joined(values: list[Any]) -> Any:
    """Return one field of a batch's parts as one value: tensors and lists hold one entry per sample."""
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(values)
    if isinstance(first, list):
        return [entry for value in values for entry in value]
    if isinstance(first, dict):
        return {name: _joined([value[name] for value in values]) for name in first}
    return first


def _check_options(
    method: Method,
    options: dict[str, Any],
    layer: Layers | None,
    baseline: Baseline | None,
    reduction: str | None,
) -> None:
    for name in options:
        if name not in method.options:
            raise InterpNetError(
                f"method={method.name!r} has no option {name!r}{did_you_mean(name, method.options)}; "
                f"its options: {', '.join(method.options) or 'none'}"
            )
    check_kinds(method.run, options)
    needs = method.needs
    if options.get("inner") in METHODS:
        # What a method that averages another one is given, it hands on.
        needs = needs | METHODS[options["inner"]].needs
    if layer is not None and "layer" not in needs:
        raise InterpNetError(f"layer={layer!r} came; method={method.name!r} takes no layer")
    if baseline is not None and "baseline" not in needs:
        raise InterpNetError(f"a baseline came; method={method.name!r} takes no baseline")
    if reduction is not None:
        if method.reduction is None:
            raise InterpNetError(f"reduction={reduction!r}; method={method.name!r} has no colours to reduce")
        one_of(reduction, "reduction", REDUCTIONS)
    for need in sorted(needs):
        if need.startswith("extra:"):
            require(need.removeprefix("extra:"), f"method={method.name!r}")


def _say(text: str) -> None:
    """Warn at the user's own line: the first one outside of this package."""
    frame = inspect.currentframe()
    level = 1
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith("interpnet"):
        frame = frame.f_back
        level += 1
    warnings.warn(text, AttributionWarning, stacklevel=level)
