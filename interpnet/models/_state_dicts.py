"""The state dicts that a checkpoint holds, and how each fits a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from interpnet.models._checkpoint import StoredArray

_DEEPEST = 5  # mappings within mappings
_MOST = 500  # state dicts of one file
#: What stands for the file itself where a state dict needs a name.
TOP = "."
# Names that wrappers put before or between those of a network.
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
# Counters of thop, AveragedModel's, and BatchNorm's, which evaluation does not use.
_COUNTERS = ("total_ops", "total_params", "n_averaged")
_OPTIONAL = "num_batches_tracked"
_AVERAGED = {"ema", "emas", "swa", "avg", "averaged", "average", "polyak", "shadow"}


@dataclass(frozen=True)
class StateDict:
    """Tensors by name, as they lie somewhere in a file."""

    path: str  # the keys that lead to it, joined by dots; TOP for the file itself
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class Fit:
    """A state dict, or the part of it under one prefix, that has all of a model's tensors in their shapes."""

    name: str  # path and prefix
    path: str
    tensors: Mapping[str, Tensor]  # by the model's names
    unused: tuple[str, ...]  # names in the state dict that are not under the prefix
    is_averaged: bool


@dataclass(frozen=True)
class Weights:
    """What a file of weights holds: tensors by name, once or several times."""

    shown: str  # the file, as messages name it
    content: Mapping[Any, Any]

    @cached_property
    def state_dicts(self) -> list[StateDict]:
        """All mappings of names to tensors in the file, from the top downwards."""
        return state_dicts(self.content)

    @cached_property
    def lists(self) -> list[str]:
        """Where the file holds lists of tensors without names, as some averages are kept."""
        return tensor_lists(self.content)

    @property
    def names(self) -> list[str]:
        """The names of all tensors, with those of wrappers and prefixes."""
        return [name for state in self.state_dicts for name in state.tensors]


def state_dicts(content: object) -> list[StateDict]:
    """Return all mappings of text to tensors within a checkpoint, from the top downwards."""
    found = []
    for path, mapping in _mappings(content, (), 0):
        tensors = _tensors(mapping)
        if tensors:
            found.append(StateDict(".".join(path) or TOP, tensors))
        if len(found) == _MOST:
            break
    return found


def grouped(content: object) -> list[StateDict]:
    """Return mappings of parts to their state dicts (``{"encoder": ..., "head": ...}``) as one state dict each."""
    found = []
    for path, mapping in _mappings(content, (), 0):
        parts = {str(key): _tensors(value) for key, value in mapping.items() if isinstance(value, Mapping)}
        names = {f"{part}.{name}": value for part, tensors in parts.items() for name, value in tensors.items()}
        if names:
            found.append(StateDict(".".join(path) or TOP, _tensors(mapping) | names))
    return found[:_MOST]


def tensor_lists(content: object) -> list[str]:
    """Return the paths of lists of tensors in a checkpoint."""
    return [
        ".".join((*path, str(key)))
        for path, mapping in _mappings(content, (), 0)
        for key, value in mapping.items()
        if isinstance(value, list | tuple) and value and all(isinstance(item, Tensor) for item in value)
    ]


def _mappings(
    content: object, path: tuple[str, ...], depth: int
) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    if depth > _DEEPEST:
        return
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(content, Mapping):
        yield path, content
        items = content.items()
    elif isinstance(content, list | tuple):
        items = enumerate(content[:_MOST])
    for key, value in items:
        if isinstance(value, Mapping | list | tuple):
            yield from _mappings(value, (*path, str(key)), depth + 1)


def _tensors(mapping: Mapping[Any, Any]) -> dict[str, Tensor]:
    found = {}
    for name, value in mapping.items():
        if isinstance(value, StoredArray):
            value = value.tensor()
        # An optimizer numbers its tensors; they are no network's.
        if isinstance(name, str) and isinstance(value, Tensor):
            found[name] = value
    return found


def fits_of(own: Mapping[str, object], state: StateDict) -> list[Fit]:
    """Return the ways in which a state dict fills a model's own one completely, usually none or one.

    Wrappers' names are taken out. With a prefix (Lightning's ``"model."``) other names may stand beside; without one,
    nothing but counters may.
    """
    names = _unwrapped(state.tensors, own)
    needed = [name for name, value in own.items() if isinstance(value, Tensor) and not name.endswith(_OPTIONAL)]
    prefixes = [""]
    if needed:
        anchor = needed[0]
        ends = [name for name in names if name == anchor or name.endswith(f".{anchor}")]
        prefixes = list(dict.fromkeys(name[: len(name) - len(anchor)] for name in ends))
    found = []
    for prefix in prefixes:
        inside = {name.removeprefix(prefix): value for name, value in names.items() if name.startswith(prefix)}
        inside = {name: value for name, value in inside.items() if name in own or not _is_counter(name)}
        if not misfit(own, inside):
            unused = [name for name in names if not name.startswith(prefix) and not _is_counter(name)]
            whole = ".".join(filter(None, (state.path.strip("."), prefix.rstrip(".")))) or TOP
            is_averaged = "n_averaged" in state.tensors or is_averaged_name(whole)
            found.append(Fit(whole, state.path, inside, tuple(unused), is_averaged))
    return found


def misfit(own: Mapping[str, object], weights: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Return what is ``missing``, ``unexpected`` and of another ``shape``; empty where all fits."""
    kinds = {
        "missing": [name for name in own if name not in weights and not name.endswith(_OPTIONAL)],
        "unexpected": [name for name in weights if name not in own],
        "shape": [
            f"{name} {tuple(weights[name].shape)} for {tuple(value.shape)}"
            for name, value in own.items()
            if name in weights and isinstance(value, Tensor) and weights[name].shape != value.shape
        ],
    }
    return {kind: names for kind, names in kinds.items() if names}


def without_prefix(own: Mapping[str, object], state: StateDict) -> dict[str, Tensor]:
    """Return the tensors under the names that come closest to a model's own."""
    names = _unwrapped(state.tensors, own)
    best = names
    for prefix in {name.rpartition(own_name)[0] for own_name in list(own)[:1] for name in names} | _first_words(names):
        stripped = {name.removeprefix(prefix): value for name, value in names.items() if name.startswith(prefix)}
        if len(set(stripped) & set(own)) > len(set(best) & set(own)):
            best = stripped
    return {name: value for name, value in best.items() if name in own or not _is_counter(name)}


def _first_words(names: Iterable[str]) -> set[str]:
    return {name.partition(".")[0] + "." for name in names if "." in name}


def _unwrapped(tensors: Mapping[str, Tensor], own: Mapping[str, object]) -> dict[str, Tensor]:
    """Take the names of wrappers out, wherever they stand, unless the model itself has such names."""
    known = {word for name in own for word in name.split(".")}
    wrappers = {word for word in _WRAPPERS if word not in known}
    names = {".".join(word for word in name.split(".") if word not in wrappers): name for name in tensors}
    if len(names) < len(tensors):
        # Two tensors would have one name.
        return dict(tensors)
    return {short: tensors[name] for short, name in names.items()}


def _is_counter(name: str) -> bool:
    return name.rpartition(".")[2] in _COUNTERS


def is_averaged_name(path: str) -> bool:
    """Whether a name says that what it holds is averaged over training: ``"model_ema"``, ``"swa"``."""
    return bool(_AVERAGED & set(_words(path)))


def _words(name: str) -> list[str]:
    return re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
