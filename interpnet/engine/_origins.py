"""Which of the tensors that a network returned its logits were taken from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from interpnet.engine._call import tensors_in


class Origins(TorchFunctionMode):
    """Follows tensors through whatever torch does with them while it is active.

    Examples
    --------
    >>> import torch
    >>> logits, features = torch.rand(2, 3), torch.rand(2, 9)
    >>> with Origins([logits, features]) as origins:
    ...     halved = logits / 2
    >>> [one is logits for one in origins.of([halved])]
    [True]
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        self._tensors = list(tensors)
        self._found = {id(tensor): {i} for i, tensor in enumerate(self._tensors)}
        # Kept, so that no two tensors share an id.
        self._keep: list[Any] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        found: set[int] = set()
        for tensor in tensors_in((args, dict(kwargs or {}))):
            found |= self._found.get(id(tensor), set())
        for tensor in tensors_in((result,)):
            self._found.setdefault(id(tensor), set()).update(found)
        self._keep.append(result)
        return result

    def of(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return those of the tensors it was made with that ``tensors`` came from; all where none is known."""
        found: set[int] = set()
        for tensor in tensors:
            found |= self._found.get(id(tensor), set())
        if not found:
            return self._tensors
        return [self._tensors[i] for i in sorted(found)]
