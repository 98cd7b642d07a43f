"""A user's own attribution method: entered into the registry, run on copies, and its maps checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.attribution._call import Attribution, AttributionCall, reduce_signal
from interpnet.attribution._catalogue import METHODS, find_method
from interpnet.attribution._registry import register
from interpnet.engine import Output, forward, logits_of
from interpnet.errors import InterpNetError
from interpnet.support.checks import check_kinds, refuse_masked, shown
from interpnet.support.own import check_function, check_name, raised
from interpnet.support.seed import seeded

#: ``function(model, images, targets, **options)`` gives maps (B, H, W) or (B, C, H, W).
OwnMethod = Callable[..., Any]
FAMILY = "own"
_ARGUMENTS = ("model", "images", "targets")
# What an audit calls its other pictures of an image, and its own maps.
_RESERVED = ("image", "combined", "interpnet", "interpnet-reliance", *(f"h{i}" for i in range(100)))


def register_method(
    name: str, function: OwnMethod, *, paper: str = "", cost: float | str = "unknown", replace: bool = False
) -> None:
    """Enter an attribution method of your own: :func:`interpnet.attribute` and an audit's ``--methods`` know it then.

    Parameters
    ----------
    name : str
        What it is called: a letter, then letters, digits, ``_``, ``-`` and ``+``, at most 40.
    function : callable
        ``function(model, images, targets)``, with the network in evaluation mode (it gives logits, also where
        ``output=`` takes them out of what it returns), images (B, C, H, W) on its device, and the class number of each
        image (B,). Both are copies, random numbers are those of ``seed=``, and gradients are recorded. It returns maps
        (B, H, W), or a signal (B, C, H, W) whose colours ``reduction=`` reduces, by default to their sum: a Tensor or
        an array. Further parameters are options: ``attribute(..., steps=8)``.
    paper : str
        Where it comes from; :func:`methods` shows it.
    cost : float or str
        Forward passes per image, a backward pass counting two.
    replace : bool
        Take the place of one of your own methods of that name.

    Raises
    ------
    InterpNetError
        Another kind of name or function, or a name that is taken: by a method of the library, by another picture of
        an audit, or without ``replace`` by another method of yours. :func:`attribute` raises it for what the function
        raises, for maps of another shape or that are not finite, and for a network that is left changed.

    Examples
    --------
    >>> register_method("brightness", lambda model, images, targets: images.sum(1))
    >>> from interpnet.attribution import attribute
    >>> net = nn.Sequential(nn.Conv2d(3, 1, 3), nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> attribute(net, torch.ones(1, 3, 4, 4), 1, "brightness")[0, 0]
    tensor([3., 3., 3., 3.])
    >>> unregister_method("brightness")
    """
    check_kinds(register_method, locals(), but=["name", "function"])
    own = [method.name for method in METHODS.values() if method.family == FAMILY]
    taken = [known for known in METHODS if known not in own]
    check_name(name, "method", [*taken, *_RESERVED], own, replace=replace)
    check_function(function, "method", _ARGUMENTS)

    def run(call: AttributionCall, **options: Any) -> Attribution:
        return _run(name, function, call, options)

    # The registry reads a method's options off its signature.
    first = inspect.Parameter("call", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = inspect.Signature([first, *_options(function)])  # type: ignore[attr-defined]
    run.own_function = function  # type: ignore[attr-defined]
    register(name, paper=paper or "your own", family=FAMILY, cost=cost)(run)


def unregister_method(name: str) -> None:
    """Take a method of your own out again; an unknown name, or a method of the library, is an InterpNetError."""
    if find_method(name).family != FAMILY:
        raise InterpNetError(f"method {name!r} is one of the library; only your own can be taken out")
    del METHODS[name]


def _options(function: OwnMethod) -> list[inspect.Parameter]:
    """Return the parameters behind the first three that can be given by name."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:
        # Some functions written in C do not say what they take.
        return []
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = []
    for position, one in enumerate(parameters):
        if one.kind in by_name and (position >= len(_ARGUMENTS) or one.kind is inspect.Parameter.KEYWORD_ONLY):
            found.append(one.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=inspect.Parameter.empty))
    return found


class _Logits(nn.Module):
    """A network that returns the logits (B, C), two of them where its own output is one."""

    def __init__(self, model: nn.Module, output: Output | None) -> None:
        super().__init__()
        self.model = model
        self._output = output

    def forward(self, images: Tensor) -> Tensor:
        return logits_of(self.model(images), len(images), self._output)


def _is_single(call: AttributionCall) -> bool:
    """Whether the two logits were made of one output."""
    if call.logits.shape[1] != 2:
        return False
    with torch.no_grad():
        result = forward(call.model, call.images[:1])
    return isinstance(result, Tensor) and result.numel() == 1


def _run(name: str, function: OwnMethod, call: AttributionCall, options: dict[str, Any]) -> Attribution:
    model = call.model
    if call.output is not None or _is_single(call):
        model = _Logits(call.model, call.output).eval()
    try:
        with _left_alone(name, call.model), seeded(call.seed, call.images.device):
            returned = function(model, call.images.clone(), call.target.clone(), **options)
    except (InterpNetError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise InterpNetError(f"method={name!r} raised {raised(function, error)}") from error
    raw = _checked(name, returned, call.images)
    reduction = call.reduction or "sum"
    if raw.dim() == 4:
        return Attribution(reduce_signal(raw, reduction), raw)
    # A map without colours is one of a single colour.
    return Attribution(reduce_signal(raw[:, None], reduction))


def _checked(name: str, returned: Any, images: Tensor) -> Tensor:
    """Return maps as a Tensor beside the images, or say what is wrong with them."""
    size, channels, *sides = images.shape
    expected = f"{(size, *sides)} or {tuple(images.shape)}, a map or a signal for each image"
    refuse_masked(returned, f"what method={name!r} returned")
    if isinstance(returned, np.ndarray) and returned.dtype.kind in "fiub":
        returned = torch.from_numpy(np.ascontiguousarray(returned))
    if not isinstance(returned, Tensor) or returned.is_complex() or returned.layout != torch.strided:
        raise InterpNetError(
            f"method={name!r} returned {shown(returned)}; expected a Tensor of real numbers, of shape {expected}"
        )
    if tuple(returned.shape) not in ((size, *sides), (size, channels, *sides)):
        raise InterpNetError(f"method={name!r} returned shape {tuple(returned.shape)}; expected {expected}")
    if returned.device.type == "meta":
        raise InterpNetError(f"method={name!r} returned a Tensor without values; expected maps on {images.device}")
    maps = returned.detach().to(images.device)
    if not maps.is_floating_point():
        maps = maps.to(images.dtype)
    bad = ~torch.isfinite(maps).flatten(1).all(1)
    if bool(bad.any()):
        raise InterpNetError(
            f"method={name!r} returned a map that is not finite for image {int(bad.nonzero()[0])} of its batch; "
            "expected finite numbers. Look for a division by zero"
        )
    return maps.clone()


@contextmanager
def _left_alone(name: str, model: nn.Module) -> Iterator[None]:
    """Raise where a method leaves weights or hooks other than they were: all later results would be of that network."""
    before = _state(model)
    yield
    after = _state(model)
    changed = [part for part, value in after.items() if before.get(part) != value]
    if changed:
        raise InterpNetError(
            f"method={name!r} left the network changed ({', '.join(changed[:3])}); work on copy.deepcopy(model), or "
            "undo it before the method returns. Load the network again"
        )


def _state(model: nn.Module) -> dict[str, Any]:
    """Return, by name, what stands for each weight and for the hooks of each module; no value is compared."""
    found: dict[str, Any] = {}
    for part, value in (*model.named_parameters(), *model.named_buffers()):
        # What was made in inference mode counts no changes.
        found[part] = (id(value), 0 if value.is_inference() else value._version)  # noqa: SLF001 - torch has no public name
    for part, module in model.named_modules():
        hooks = [getattr(module, f"_{kind}_hooks") for kind in ("forward", "forward_pre", "backward", "backward_pre")]
        found[f"hooks of {part or 'the network'}"] = [len(one) for one in hooks]
    return found
