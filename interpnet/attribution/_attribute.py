"""One signature for every attribution method: model, images and one target class an image, to (B, H, W)."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from interpnet.attribution._call import REDUCTIONS, Attribution, AttributionCall, resolve_baseline
from interpnet.attribution._catalogue import METHODS, Method, find_method
from interpnet.attribution._registry import require
from interpnet.engine import Layers, Output, beside, check_images, evaluating, logits_of, unwrap
from interpnet.errors import DataError, InterpNetError, did_you_mean

Target = int | Tensor | Sequence[int] | None

#: How many images a pass may hold by default, where fewer came.
_DEFAULT_BATCH = 16


class AttributionWarning(UserWarning):
    """Something was done that the caller should know of: evaluation mode was forced, a batch was halved."""


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
    baseline: str | float | Tensor | None = None,
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
        The class to attribute; the predicted ones by default.
    method : str
        One of :func:`methods`.
    max_batch : int, optional
        The most images in one pass through the network, for all methods; the batch itself, at least 16, by default.
    seed : int
        Of methods that draw random numbers. An image's draws depend on the seed and its own pixels alone.
    reduction : {"sum", "positive", "abs", "max"}, optional
        How colours become one value a pixel; each method has its own default.
    output : function, optional
        Takes what the model returns, gives logits.
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
    return attribute_full(
        model, images, target, method, max_batch=max_batch, seed=seed, reduction=reduction, output=output, layer=layer,
        baseline=baseline, **options,
    ).maps  # fmt: skip


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
    baseline: str | float | Tensor | None = None,
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
    chosen = find_method(method)
    _check_options(chosen, options, layer, baseline, reduction)
    limit = _whole(max_batch, "max_batch", least=1) if max_batch is not None else None
    seed = _whole(seed, "seed", least=None)
    model = unwrap(model)
    with torch.inference_mode(False), torch.enable_grad():
        images = usable_images(model, images)
        targets = checked_targets(target, images)
        if isinstance(baseline, Tensor):
            baseline = resolve_baseline(images, baseline.detach().clone())
        if any(m.training for m in model.modules()):
            _say("the model came in training mode; it runs in evaluation mode here and is put back afterwards")
        call = AttributionCall(
            model,
            images,
            torch.empty(0),
            torch.empty(0),
            output,
            0,
            seed,
            layer,
            baseline,
            reduction or chosen.reduction,
        )
        with evaluating(model, frozen=True):
            parts = list(_parts(chosen, call, targets, limit or max(images.shape[0], _DEFAULT_BATCH), options))
    found = _joined(parts)
    _say_blank(found.maps, method)
    return found


def methods() -> tuple[Method, ...]:
    """Return the methods that :func:`attribute` knows, with family, paper, cost and needs.

    Examples
    --------
    >>> [m.name for m in methods() if m.family == "control"]
    ['random', 'edge', 'center']
    """
    return tuple(METHODS.values())


def _parts(
    method: Method, call: AttributionCall, targets: Tensor | None, limit: int, options: dict[str, Any]
) -> Iterator[Attribution]:
    """Run the method on at most ``limit`` images at a time, halving where the device's memory ends."""
    n, start, said = call.images.shape[0], 0, False
    while start < n:
        here = slice(start, start + limit)
        try:
            part = _part(call, targets, here, limit)
            yield _detached(method.run(part, **options), part)
            start += limit
            continue
        except torch.OutOfMemoryError as error:
            if limit == 1:
                raise InterpNetError(
                    f"the device's memory does not hold one image of shape {tuple(call.images.shape[1:])} under "
                    f"method={method.name!r}; use smaller images or another device"
                ) from error
        # Outside of the handler, whose traceback would keep the tensors of the failed pass alive.
        limit //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if not said:
            _say(f"out of memory: going on with {limit} images a pass, halved again where needed; max_batch= sets it")
            said = True


def _part(call: AttributionCall, targets: Tensor | None, here: slice, limit: int) -> AttributionCall:
    """Return the call on some of the images, with their logits and targets."""
    images = call.images[here]
    with torch.no_grad():
        try:
            logits = logits_of(call.model(images.clone()), images.shape[0], call.output)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise DataError(
                f"images: the model does not run on shape {tuple(images.shape)}, {images.dtype}{_wanted(call.model)}: "
                f"{str(error).splitlines()[0]}"
            ) from error
    if targets is None:
        target = logits.argmax(1)
    else:
        check_classes(targets, logits.shape[1])
        target = targets[here].to(logits.device)
    baseline = call.baseline[here] if isinstance(call.baseline, Tensor) else call.baseline
    return replace(call, images=images, target=target, logits=logits, baseline=baseline, max_batch=limit)


def check_classes(targets: Tensor, n: int) -> None:
    """Raise :class:`InterpNetError` unless every target is one of n classes."""
    if bool(((targets < 0) | (targets >= n)).any()):
        raise InterpNetError(f"target {targets.tolist()} holds a class outside 0..{n - 1}")


def _detached(found: Attribution, call: AttributionCall) -> Attribution:
    expected = (call.images.shape[0], *call.images.shape[2:])
    if tuple(found.maps.shape) != expected:
        raise RuntimeError(f"a method returned maps of shape {tuple(found.maps.shape)} instead of {expected}")
    return replace(found, maps=found.maps.detach())


def _say_blank(maps: Tensor, method: str) -> None:
    """Warn of maps that are zero everywhere: a picture of one looks like a finding."""
    blank = (maps.flatten(1) == 0).all(1).nonzero()[:, 0].tolist()
    if blank:
        some = ", ".join(map(str, blank[:8])) + (", ..." if len(blank) > 8 else "")
        _say(
            f"method={method!r}: {len(blank)} of {len(maps)} maps are zero everywhere (sample {some}): nothing came "
            "back to the image under this rule, so they say nothing about it"
        )


def _joined(parts: Sequence[Attribution]) -> Attribution:
    """Return the parts of a batch as one result."""
    if len(parts) == 1:
        return parts[0]
    joined: dict[str, Any] = {}
    for f in fields(Attribution):
        values = [getattr(p, f.name) for p in parts]
        if f.name == "info":
            joined["info"] = {k: _along([v[k] for v in values]) for k in values[0]}
        else:
            joined[f.name] = _along(values)
    return Attribution(**joined)


def _along(values: list[Any]) -> Any:
    if isinstance(values[0], Tensor):
        return torch.cat(values)
    if isinstance(values[0], list):
        return [v for value in values for v in value]
    return values[0]


def _check_options(
    method: Method,
    options: dict[str, Any],
    layer: Layers | None,
    baseline: str | float | Tensor | None,
    reduction: str | None,
) -> None:
    for name in options:
        if name not in method.options:
            raise InterpNetError(
                f"method={method.name!r} has no option {name!r}{did_you_mean(name, method.options)}; "
                f"its options: {', '.join(method.options) or 'none'}"
            )
    needs = method.needs
    if options.get("inner") in METHODS:  # what a method that averages another one is given, it hands on
        needs = needs | METHODS[options["inner"]].needs
    if layer is not None and "layer" not in needs:
        raise InterpNetError(f"layer={layer!r} came; method={method.name!r} takes no layer")
    if baseline is not None and "baseline" not in needs:
        raise InterpNetError(f"a baseline came; method={method.name!r} takes no baseline")
    if reduction is not None and (method.reduction is None or reduction not in REDUCTIONS):
        known = ", ".join(map(repr, REDUCTIONS))
        why = f"expected one of {known}" if method.reduction else f"method={method.name!r} has no colours to reduce"
        raise InterpNetError(f"reduction={reduction!r}; {why}")
    for need in sorted(needs):
        if need.startswith("extra:"):
            require(need.removeprefix("extra:"), method.name)


def usable_images(model: nn.Module, images: Tensor) -> Tensor:
    """Return a copy of ``images`` beside the model, or say what is wrong with them."""
    check_images(images)
    if images.dim() != 4:
        raise DataError(f"images: shape {tuple(images.shape)} came; expected (B, C, H, W)")
    dtypes = {p.dtype for p in model.parameters() if p.is_floating_point()}
    if dtypes and images.dtype not in dtypes:
        wanted = min(str(d).removeprefix("torch.") for d in dtypes)
        raise DataError(
            f"images: dtype {images.dtype} came and the model's weights are torch.{wanted}; "
            f"pass images.to(torch.{wanted})"
        )
    if not bool(torch.isfinite(images).all()):
        raise DataError("images hold NaN or infinity; expected finite pixels")
    return beside(model, images).detach().clone()


def _wanted(model: nn.Module) -> str:
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    return f" (its first convolution takes {first.in_channels} channels)" if first is not None else ""


def checked_targets(target: Target, images: Tensor) -> Tensor | None:
    if target is None:
        return None
    batch = images.shape[0]
    if isinstance(target, Integral) or (isinstance(target, Tensor) and target.dim() == 0):
        target = [int(target)] * batch
    targets = torch.as_tensor(target)
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise InterpNetError(f"target: dtype {targets.dtype} came; expected whole class numbers")
    if targets.shape != (batch,):
        raise InterpNetError(
            f"target has shape {tuple(targets.shape)}; expected one class number for each of {batch} images"
        )
    return targets.detach().long().cpu()


def _whole(value: Any, name: str, least: int | None) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or (least is not None and int(value) < least):
        raise InterpNetError(f"{name}={value!r}; expected a whole number{'' if least is None else f' from {least} on'}")
    return int(value)


def _say(text: str) -> None:
    """Warn at the user's own line: the first one outside of this package."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith("interpnet"):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, AttributionWarning, stacklevel=level)
