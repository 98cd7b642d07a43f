"""Random numbers that a network draws: noticed in its calls, and replaced by extreme ones to see if they matter."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from interpnet.engine._call import Call, tensors_in
from interpnet.engine._operators import argument, operator, operator_name

# Calls that draw in any case; dropout does so where it is told that the network trains.
_DRAWING = frozenset(
    "rand rand_like uniform randn randn_like normal bernoulli randint randint_like random randperm multinomial "  # noqa: SIM905
    "exponential poisson cauchy geometric log_normal binomial standard_gamma".split()
)
_BETWEEN_0_AND_1 = frozenset({"rand", "rand_like"})
_BELL = frozenset({"randn", "randn_like", "normal"})


_ALONE = threading.RLock()


class Draws:
    """Notes the calls of one pass that draw random numbers: the operator, the module, and the generator's state."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.states: list[Tensor] = []
        # Batch norms on the statistics of their batch, by the module whose code called them.
        self.batch_norms: list[str] = []

    def observe(self, call: Call, out: Any) -> None:
        """Look at one call; for an instrument."""
        if call.op == "batch_norm" and not call.fixed_batch_norm:
            self.batch_norms.append(call.module)
        if not _draws(call.op, call.args, call.kwargs):
            return
        self.calls.append((call.op, call.module))
        generator = call.kwargs.get("generator")
        if generator is not None:
            self.states.append(generator.get_state())
        else:
            self.states += [_state_of(t.device) for t in tensors_in((out,))]

    def same_as(self, other: Draws) -> bool:
        """Whether both passes drew from generators in the same states: the network seeds them itself."""
        pairs = zip(self.states, other.states, strict=False)
        return len(self.states) == len(other.states) and all(torch.equal(a, b) for a, b in pairs)


def _state_of(device: torch.device) -> Tensor:
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.get_rng_state()


def _draws(op: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    if op in _DRAWING:
        return True
    if not operator(op).drops and op != "feature_dropout":
        return False
    # torch.nn.functional and torch's own functions order the two alike.
    p = argument(tuple(args), kwargs, 1, "p", 0.5)
    return bool(argument(tuple(args), kwargs, 2, "training", kwargs.get("train", True))) and float(p) > 0


def _mixed(x: Tensor) -> Tensor:
    """Return shares from 0 to 1 that differ from element to element."""
    # Multiples of the golden ratio never repeat.
    steps = torch.arange(x.numel(), device=x.device, dtype=torch.float32)
    return ((steps * 0.6180339887) % 1).to(x.dtype).view(x.shape)


# How far into its range every drawn number lies, from 0 to 1.
_SHARES: dict[str, Callable[[Tensor], Tensor]] = {"least": torch.zeros_like, "most": torch.ones_like, "mixed": _mixed}
EXTREMES = tuple(_SHARES)


class Extreme(TorchFunctionMode):
    """Replaces every random number that a pass draws by the least or the most that could come, or a mixture."""

    def __init__(self, which: str) -> None:
        super().__init__()
        self._share = _SHARES[which]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        op = operator_name(func)
        if not _draws(op, args, kwargs):
            return func(*args, **kwargs)
        if op not in _DRAWING:
            return self._dropped(func, args, kwargs)
        odds = None
        if op == "bernoulli":
            odds = _odds(func, args, kwargs)
        out = func(*args, **kwargs)
        if not isinstance(out, Tensor) or not out.is_floating_point():
            return out
        share = self._share(out)
        if odds is not None:
            # A probability of 0 or 1 is no chance.
            p = odds.to(out)
            return out.copy_(torch.where((p <= 0) | (p >= 1), p, share.round()))
        if op in _BETWEEN_0_AND_1:
            return out.copy_(share * (1 - torch.finfo(out.dtype).eps))
        if op == "uniform":
            low = float(argument(args, kwargs, 1, "from", 0.0))
            return out.copy_(low + share * (float(argument(args, kwargs, 2, "to", 1.0)) - low))
        if op in _BELL:
            return out.add_(4 * share - 2)
        return out

    def _dropped(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        x = argument(args, kwargs, 0, "input")
        kept = x * (1 - self._share(x).round())
        # In place where the network asked for it.
        if func.__name__.endswith("_") or argument(args, kwargs, 3, "inplace", False):
            return x.copy_(kept)
        return kept


def _odds(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """Return the probabilities of a Bernoulli draw, a copy: the network may overwrite them by what it draws."""
    odds = argument(args, kwargs, 0, "input")
    if func.__name__ == "bernoulli_":
        odds = 0.5
    return torch.as_tensor(argument(args, kwargs, 1, "p", odds)).clone()


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[Callable[[], bool]]:
    """Restore the random state of torch (CPU and ``device``), numpy and Python after the block.

    Yields a function that says whether numpy or Python has drawn since the block began.

    Examples
    --------
    >>> with random_state_kept(torch.device("cpu")) as drawn:
    ...     before = drawn()
    ...     _ = random.random()
    ...     print(before, drawn())
    False True
    """
    cuda = [device.index or 0] if device.type == "cuda" else []
    # The states belong to the process: one thread at a time may put them aside.
    with _ALONE, torch.random.fork_rng(devices=cuda):
        before = foreign_state()
        try:
            yield lambda: not _equal(before, foreign_state())
        finally:
            random.setstate(before["python"])
            np.random.set_state(before["numpy"])  # noqa: NPY002


def foreign_state() -> dict[str, Any]:
    """Return the random state of Python and of numpy, which draw behind torch's back."""
    # What a network draws with numpy comes from this state as a rule.
    return {"python": random.getstate(), "numpy": np.random.get_state(legacy=False)}  # noqa: NPY002


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return all(_equal(value, b[name]) for name, value in a.items())
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b))
    return bool(a == b)


def draws_elsewhere(run: Callable[[], Any]) -> bool:
    """Whether a function draws with numpy or Python every time it runs; draws of other threads are not its own."""
    for _ in range(3):
        before = foreign_state()
        run()
        if _equal(before, foreign_state()):
            return False
    return True


def reseed(seed: int, device: torch.device) -> None:
    """Seed torch (CPU and ``device``), numpy and Python; for the inside of :func:`random_state_kept`."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
