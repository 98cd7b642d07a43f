"""Which of a file's state dicts a model gets, and whether its values can be loaded."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from interpnet.errors import ModelError, did_you_mean
from interpnet.models._state_dicts import (
    TOP,
    Fit,
    StateDict,
    Weights,
    fits_of,
    grouped,
    is_averaged_name,
    misfit,
    without_prefix,
)

_SHOWN = 4  # names of tensors in a message
_SHOWN_DICTS = 8
# Where a training script keeps the network's own weights.
_USUAL = (TOP, "state_dict", "model", "model_state_dict", "model_state", "net", "network", "weights", "params")
_REMEDY = "weights_key= (--weights-key)"
# Beside a network in Lightning's files by right.
_OF_LOSSES = re.compile(r"loss|criterion|metric|acc|auroc|f1|precision|recall|confusion", re.IGNORECASE)


def fit_weights(model: nn.Module, weights: Weights, *, key: str | None = None) -> None:
    """Load the state dict of ``weights`` that fits ``model`` strictly, in names and shapes.

    Prefixes and wrappers' names are taken off, counters of profilers ignored; ``num_batches_tracked`` of a BatchNorm
    may be missing, because evaluation does not use it. Of several that fit and differ, averaged weights are taken, else
    those under a usual name, and a warning says so; ``key`` names another. Where none fits, the choice is open, or
    values cannot be loaded as they are, a ModelError says what there is, and the model is unchanged.
    """
    own = model.state_dict()
    chosen = _chosen(own, weights, type(model).__name__, key)
    _require_values(own, chosen, weights)
    # Not strict, because of the missing counters; all else is checked above.
    model.load_state_dict(chosen.tensors, strict=False)


def _chosen(own: Mapping[str, object], weights: Weights, what: str, key: str | None) -> Fit:
    fits = [fit for state in weights.state_dicts for fit in fits_of(own, state)]
    if not fits:
        fits = [fit for state in grouped(weights.content) for fit in fits_of(own, state)]
    if key is not None:
        return _keyed(own, weights, fits, what, key)
    if not fits:
        raise _nothing_fits(own, weights, weights.state_dicts, what)
    different = _different(fits)
    chosen = _preferred(different)
    if chosen is None:
        raise ModelError(
            f"weights {weights.shown} hold several state dicts that fit {what}: "
            f"{_quoted([fit.name for fit in different])}; say which with {_REMEDY}"
        )
    _say(chosen, different, {fit.path for fit in fits}, weights)
    return chosen


def _keyed(own: Mapping[str, object], weights: Weights, fits: Sequence[Fit], what: str, key: str) -> Fit:
    """Return what ``key`` names: a state dict by its path in the file, with or without the prefix of its names."""
    named = [fit for fit in fits if fit.name == key] or [fit for fit in fits if fit.path == key]
    different = _different(named)
    if len(different) == 1:
        return different[0]
    if different:
        raise ModelError(
            f"weights key {key!r}: several parts of it fit {what}: {_quoted([fit.name for fit in different])}; name one"
        )
    there = [state for state in weights.state_dicts if state.path == key]
    if there:
        raise _nothing_fits(own, weights, there, what)
    known = list(dict.fromkeys([fit.name for fit in fits] + [state.path for state in weights.state_dicts]))
    raise ModelError(
        f"weights {weights.shown} hold nothing under the key {key!r}; they have {_quoted(known)}"
        f"{did_you_mean(key, known)}"
    )


def _different(fits: Sequence[Fit]) -> list[Fit]:
    """Return the fits without those whose values an earlier one has."""
    found: list[Fit] = []
    for fit in fits:
        if not any(_equal(fit.tensors, other.tensors) for other in found):
            found.append(fit)
    return found


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return set(one) == set(other) and all(
        value is other[name] or (value.dtype == other[name].dtype and torch.equal(value, other[name]))
        for name, value in one.items()
    )


def _preferred(fits: Sequence[Fit]) -> Fit | None:
    """Return the averaged one, else the one under a usual name; None where that leaves a choice."""
    if len(fits) == 1:
        return fits[0]
    averaged = [fit for fit in fits if fit.is_averaged]
    usual = [fit for fit in fits if fit.name in _USUAL]
    best = averaged or usual
    if len(best) == 1:
        return best[0]
    return None


def _say(chosen: Fit, different: Sequence[Fit], fitting: Collection[str], weights: Weights) -> None:
    """Warn of a choice, of averaged weights that do not fit, and of tensors that no part of the model takes."""
    others = [fit.name for fit in different if fit is not chosen]
    kind = ""
    if chosen.is_averaged:
        kind = "averaged "
    if others:
        _warn(
            f"{weights.shown} holds several weights that fit: the {kind}weights under {chosen.name!r} are taken, not "
            f"those under {_quoted(others)}; {_REMEDY} names others"
        )
    if not chosen.is_averaged:
        averaged = [path for path in _paths(weights) if is_averaged_name(path) and path not in fitting]
        if averaged:
            _warn(
                f"{weights.shown} holds averaged weights under {_quoted(averaged)}, which do not fit the model; those "
                f"under {chosen.name!r} are taken"
            )
    unused = [name for name in chosen.unused if not _OF_LOSSES.search(name)]
    if unused:
        _warn(
            f"{weights.shown}: the model takes the {len(chosen.tensors)} tensors under {chosen.name!r}; {len(unused)} "
            f"others are not used: {_some(unused)}"
        )


def _paths(weights: Weights) -> list[str]:
    """Return where a file holds tensors, lists of them without names included."""
    return list(dict.fromkeys([state.path for state in weights.state_dicts] + weights.lists))


def _warn(text: str) -> None:
    warnings.warn(f"weights {text}.", UserWarning, stacklevel=2)


def _nothing_fits(own: Mapping[str, object], weights: Weights, states: Sequence[StateDict], what: str) -> ModelError:
    """Return the error that says what the state dict that comes closest lacks."""
    stripped = [without_prefix(own, state) for state in states]
    closest = max(range(len(states)), key=lambda i: len(set(stripped[i]) & set(own)))
    kinds = misfit(own, stripped[closest])
    text = "; ".join(f"{kind} {_some(names)}" for kind, names in kinds.items())
    if set(kinds) == {"shape"}:
        text += _class_count_hint(stripped[closest], own)
    where = ""
    if len(states) > 1:
        others = [state.path for i, state in enumerate(states) if i != closest]
        where = f", closest under {states[closest].path!r} (beside {_quoted(others)})"
    return ModelError(f"weights {weights.shown} do not fit {what}{where}: {text}")


def _some(names: Sequence[str]) -> str:
    more = ""
    if len(names) > _SHOWN:
        more = f" and {len(names) - _SHOWN} more"
    return ", ".join(names[:_SHOWN]) + more


def _quoted(names: Sequence[str]) -> str:
    more = ""
    if len(names) > _SHOWN_DICTS:
        more = f" and {len(names) - _SHOWN_DICTS} more"
    return ", ".join(map(repr, names[:_SHOWN_DICTS])) + more


def _class_count_hint(weights: Mapping[str, Tensor], own: Mapping[str, object]) -> str:
    """Say ``num_classes=N`` where only first axes differ, all in the same way, as for a fine-tuned classifier."""
    both = [
        (weights[name].shape, value.shape)
        for name, value in own.items()
        if isinstance(value, Tensor) and name in weights
    ]
    pairs = {(theirs[0], ours[0]) for theirs, ours in both if theirs != ours and theirs and ours}
    # Where other axes differ too, it is another architecture, and the hint would mislead.
    if len(pairs) == 1 and all(theirs[1:] == ours[1:] for theirs, ours in both):
        theirs, ours = pairs.pop()
        return f". The file seems to be for {theirs} classes where the model has {ours}: give num_classes={theirs}"
    return ""


def _require_values(own: Mapping[str, object], fit: Fit, weights: Weights) -> None:
    """Raise a ModelError for values that the model could not hold as they are, and for NaN."""
    for name, value in fit.tensors.items():
        target = own[name]
        if isinstance(target, Tensor):
            problem = _problem(value, target)
            if problem:
                raise ModelError(f"weights {weights.shown}: {name!r} {problem}")


def _problem(value: Tensor, target: Tensor) -> str:
    """Return what is wrong with a tensor that is to be loaded into ``target``; empty where nothing is."""
    if value.is_meta:
        return "has no values (it is a meta tensor); save the weights after they were loaded"
    if value.is_quantized or value.layout != torch.strided:
        return f"is {value.dtype} of layout {value.layout}, expected a dense {target.dtype}"
    if value.is_floating_point() and value.isnan().any():
        return (
            f"has NaN in {int(value.isnan().sum())} of {value.numel()} values: the training diverged, or it is damaged"
        )
    if value.dtype == target.dtype or target.is_meta:
        return ""
    if value.is_complex() and not target.is_complex():
        return f"is {value.dtype}, expected {target.dtype}"
    if target.is_floating_point() and not value.is_floating_point():
        # Quantised weights without their scale would be other weights.
        return f"is {value.dtype}, expected {target.dtype}"
    cast = value.to(target.dtype)
    if target.is_floating_point():
        if (cast.isinf() & ~value.isinf()).any():
            return f"is {value.dtype} with values beyond the range of the model's {target.dtype}"
    elif not torch.equal(cast.to(value.dtype), value):
        return f"is {value.dtype} with values that the model's {target.dtype} cannot hold"
    return ""
