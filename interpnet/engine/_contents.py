"""What a network holds while it runs: its buffers, which a pass may change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

import torch
from torch import Tensor, nn

# Networks that change their buffers in evaluation, which are put back after every use.
_RESTLESS: WeakSet[nn.Module] = WeakSet()
# How many blocks are open on a network, and its buffers before the first, once a change has been seen in one.
_OPEN: Counter[int] = Counter()
_BEFORE: dict[int, Buffers] = {}


class Buffers:
    """The buffers of a network as they were, to find what a pass has changed and to put it back."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._kept = [
            (f"{path}.{name}".removeprefix("."), module, name, buffer, buffer.detach().clone())
            for path, module in model.named_modules()
            for name, buffer in module._buffers.items()  # noqa: SLF001 - also of buffers that are replaced
            if buffer is not None
        ]

    def changed(self) -> list[str]:
        """Return the names of the buffers that are not as they were; one that was not there before is no change."""
        return [
            path for path, module, name, buffer, copy in self._kept if not _same(getattr(module, name), buffer, copy)
        ]

    def restore(self) -> None:
        """Put back every buffer that has changed."""
        changed = set(self.changed())
        for path, module, name, buffer, copy in self._kept:
            if path in changed:
                with torch.no_grad():
                    buffer.resize_(copy.shape).copy_(copy)
                setattr(module, name, buffer)
        if changed:
            _RESTLESS.add(self._model)
            if _OPEN[id(self._model)]:
                _BEFORE.setdefault(id(self._model), self)


def _same(now: Tensor | None, buffer: Tensor, copy: Tensor) -> bool:
    return now is buffer and torch.equal(torch.nan_to_num(now), torch.nan_to_num(copy))


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Restore the buffers after the block, of a network that is known to change them."""
    key = id(model)
    if model in _RESTLESS and not _OPEN[key]:
        _BEFORE[key] = Buffers(model)
    _OPEN[key] += 1
    try:
        yield
    finally:
        _OPEN[key] -= 1
        if not _OPEN[key]:
            del _OPEN[key]
            before = _BEFORE.pop(key, None)
            if before is not None:
                before.restore()
