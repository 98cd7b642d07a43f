"""Several outputs of a network as one class: ``--group dogs=beagle,collie``.

The logit of a group is the logsumexp of its members' logits, so that its probability is the sum of theirs and its
log-odds are those of any of them against all others (docs/method.md, section 9).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from interpnet.datasets import ImageData
from interpnet.engine import Output, part_of
from interpnet.errors import InterpNetError, ModelError
from interpnet.support.class_names import class_number
from interpnet.support.types import Int64

from .config import RunConfig
from .outputs import IMAGENET, imagenet_output, matched

_EXPECTED = "expected NAME=CLASS,CLASS, such as --group dogs=beagle,collie"
_FEWEST = 2  # members of a group, and classes of a run


class Grouped(NamedTuple):
    """The classes of a run, and the one of each class of the data."""

    names: tuple[str, ...]  # the groups in the order in which they were given, then all other outputs
    of_data: Int64
    outputs: tuple[tuple[int, ...], ...] = ()  # of each group
    groups: Mapping[str, tuple[str, ...]] = MappingProxyType({})  # the names of its members, by its own

    def merging(self, n_outputs: int, take: Output | None) -> Merged:
        """Return what takes these classes' logits out of what the model returns; ``take`` those of all outputs."""
        return Merged(self.outputs, n_outputs, take)


@dataclass(frozen=True)
class Merged:
    """Takes the logits (B, C) out of what a model returns, and merges some of them: (B, groups + the rest).

    Examples
    --------
    >>> merged = Merged(((0, 2),), 4)
    >>> merged(torch.tensor([[1.0, 2.0, 1.0, 3.0]]).log()).exp()
    tensor([[2., 2., 3.]])
    """

    groups: tuple[tuple[int, ...], ...]
    n_outputs: int
    take: Output | None = None  # takes the logits out of what the model returns

    def __call__(self, result: Any) -> Tensor:
        """Return the logits of the groups, then those of all other outputs in their order."""
        logits = part_of(result, self.take)
        if not isinstance(logits, Tensor) or logits.shape[1:] != (self.n_outputs,):
            found = tuple(getattr(logits, "shape", ()))
            raise ModelError(f"--group: the model returned logits of shape {found}; expected (B, {self.n_outputs})")
        # Half precision would lose members.
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        merged = {output for group in self.groups for output in group}
        rest = [i for i in range(self.n_outputs) if i not in merged]
        parts = [wide[:, list(group)].logsumexp(1, keepdim=True) for group in self.groups]
        return torch.cat([*parts, wide[:, rest]], 1)


def grouped(data: ImageData, n_outputs: int, config: RunConfig, listed: Sequence[str] | None = None) -> Grouped:
    """Return the classes of a run as ``--classes`` (or ``listed``) and ``--group`` say, and that of each data class.

    Folders of member classes and, beside ``--classes``, a folder of the group's own name are the group's.
    ``InterpNetError`` for groups that overlap or share a name, an unknown or repeated member (close ones are named), a
    group of fewer than two, one that is called as another class, or groups that leave a single class.
    """
    if not config.group:
        names, of_data = matched(data, n_outputs, config, listed)
        return Grouped(names, of_data)
    wanted = [_parsed(text) for text in config.group]
    _refuse_repeated((name for name, _ in wanted), "two groups are called {}; expected a name for each")
    own = {name for name, _ in wanted}
    if data.numbered or (config.classes is None and listed is None):
        # The classes of the data are the outputs.
        own = set()
    folders = tuple(name for name in data.classes if name not in own)
    names, of_folders = matched(cast("ImageData", _Folders(folders, data)), n_outputs, config, listed)
    members = {name: _members(name, words, names, config) for name, words in wanted}
    taken = [output for outputs in members.values() for output in outputs]
    _refuse_repeated((names[output] for output in taken), "{} is in two groups; expected each class in one at most")
    rest = [output for output in range(n_outputs) if output not in taken]
    for name in members:
        if name in [names[output] for output in rest]:
            raise InterpNetError(
                f"--group {name}: another class is called so; give the group another name, or make that class a member"
            )
    if len(members) + len(rest) < _FEWEST:
        raise InterpNetError("--group: every class is in one group, so there is none left to tell it from")
    numbers = {output: g for g, outputs in enumerate(members.values()) for output in outputs}
    numbers |= {output: len(members) + i for i, output in enumerate(rest)}
    of_name = {name: g for g, name in enumerate(members) if name in own}
    of_name |= {name: numbers[output] for name, output in zip(folders, of_folders.tolist(), strict=True)}
    return Grouped(
        names=(*members, *(names[output] for output in rest)),
        of_data=np.array([of_name[name] for name in data.classes], dtype=np.int64),
        outputs=tuple(members.values()),
        groups={name: tuple(names[output] for output in outputs) for name, outputs in members.items()},
    )


class _Folders:
    """Data of which some classes are known already."""

    def __init__(self, classes: tuple[str, ...], data: ImageData) -> None:
        self._data = data
        self.classes = classes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)


def _parsed(text: str) -> tuple[str, list[str]]:
    """Return a group's name and what it lists.

    Examples
    --------
    >>> _parsed("dogs=beagle, collie")
    ('dogs', ['beagle', 'collie'])
    """
    name, separator, listed = text.partition("=")
    words = [word.strip() for word in listed.split(",") if word.strip()]
    name = name.strip()
    if not separator or not name:
        raise InterpNetError(f"--group is {text!r}; {_EXPECTED}")
    if len(words) < _FEWEST:
        raise InterpNetError(f"--group {name} has {len(words)} members; {_EXPECTED}, at least two")
    return name, words


def _members(name: str, words: Sequence[str], names: Sequence[str], config: RunConfig) -> tuple[int, ...]:
    """Return the outputs that a group lists by name, WordNet id or number."""
    found = []
    for word in words:
        try:
            if config.classes == IMAGENET and word not in names and not word.isdecimal():
                found.append(imagenet_output(word))
            else:
                found.append(class_number(word, names))
        except InterpNetError as error:
            raise InterpNetError(f"--group {name}: {error}") from error
    _refuse_repeated((names[output] for output in found), f"{{}} is in {name} twice; expected each class once")
    return tuple(found)


def _refuse_repeated(names: Iterable[str], said: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InterpNetError(f"--group: {said.format(repr(name))}")
        seen.add(name)
