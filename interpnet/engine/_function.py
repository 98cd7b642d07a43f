"""Whether a network is a function of its image: the same twice, and the same beside other images.

Sums of scores, recalls and maps mean nothing for a network that is not, so it is refused with the cause. The check runs
the network a few times on two images, once for every network and shape of images.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import combinations
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from interpnet.engine._call import times_written
from interpnet.engine._contents import Buffers
from interpnet.engine._device import widest
from interpnet.engine._draws import EXTREMES, Draws, Extreme, draws_elsewhere, random_state_kept, reseed
from interpnet.engine._finite import check_weights
from interpnet.engine._forward import forward
from interpnet.engine._logits import Output, logits_of, output_key
from interpnet.engine._probabilities import Probabilities
from interpnet.engine._trace import Instrument, evaluating, instrument
from interpnet.errors import ModelError

Read = Callable[[Any, int], list[Tensor]]

# How far two passes over one batch may differ, relative to the largest output: on a CPU they run the same code.
_TWICE = {"cpu": 1e-5}
_TWICE_ELSEWHERE = 1e-3
# Batches of another size run other code. What differs by more is computed again in float64, which decides.
_BESIDE = 1e-4
_BESIDE_IN_DOUBLE = 1e-5
# For networks that do not run in float64.
_BESIDE_LOOSE = {torch.float16: 0.05, torch.bfloat16: 0.2}
_BESIDE_LOOSE_ELSE = 0.01
# Passes for a network that draws with numpy or Python, whose numbers cannot be replaced.
_REPEATS = 16

_HEAD = "the model's output does not depend on the image alone, as it must here: "
_KNOWN: WeakKeyDictionary[nn.Module, dict[Hashable, Hashable]] = WeakKeyDictionary()


class RandomnessWarning(UserWarning):
    """A network that draws random numbers in evaluation, without an effect that could be seen."""


class FunctionCheck:
    """The check of one network on at most two images; made before the first pass, finished with its outputs.

    ``read(result, batch)`` takes the outputs (batch, ...) out of what the network returns, and ``reads`` tells it from
    other such functions.
    """

    def __init__(self, model: nn.Module, images: Tensor, read: Read, reads: Hashable = None) -> None:
        self._model = model
        self._images = images
        self._read = read
        self._jitter = _TWICE.get(images.device.type, _TWICE_ELSEWHERE)
        self._key = (tuple(images.shape[1:]), images.dtype, images.device.type, reads)
        self.known = _KNOWN.setdefault(model, {}).get(self._key) == _state(model)
        self._buffers: Buffers | None = None
        if not self.known:
            self._buffers = Buffers(model)

    def finish(self, first: list[Tensor], draws: Draws, *, drawn: bool) -> None:
        """Raise :class:`ModelError` unless the network is a function of its image; ``first`` are its first outputs.

        ``draws`` watched the first pass, and ``drawn`` says whether numpy or Python drew in it.
        """
        # What draws is looked at every time: a network may be told to draw between two uses.
        if self.known and not draws.calls and not drawn:
            return
        buffers = self._buffers or Buffers(self._model)
        try:
            self._check_twice(first, draws, buffers)
            if drawn:
                self._check_foreign_draws(first, draws, buffers)
            self._check_beside(first, draws)
        finally:
            buffers.restore()
        _KNOWN[self._model][self._key] = _state(self._model)

    def _outputs(self, images: Tensor) -> list[Tensor]:
        return self._read(forward(self._model, images), len(images))

    def _check_twice(self, first: list[Tensor], draws: Draws, buffers: Buffers) -> None:
        again = Draws()
        with instrument(self._model, Instrument(observe=again.observe)):
            second = self._outputs(self._images)
        self._refuse_if_different(first, second, draws, buffers)
        if not draws.same_as(again):
            # A rare draw shows in none of two passes, so the numbers are replaced by those that show most.
            extremes = [self._under(Extreme(which)) for which in EXTREMES]
            for one, other in combinations(filter(None, extremes), 2):
                self._refuse_if_different(one, other, draws, buffers)

    def _under(self, extreme: Extreme) -> list[Tensor] | None:
        try:
            with extreme:
                return self._outputs(self._images)
        except ModelError:
            # Its code does not take such numbers.
            return None

    def _check_foreign_draws(self, first: list[Tensor], draws: Draws, buffers: Buffers) -> None:
        if not draws_elsewhere(lambda: self._outputs(self._images)):
            return
        for seed in range(2, 2 + _REPEATS):
            reseed(seed, self._images.device)
            self._refuse_if_different(first, self._outputs(self._images), draws, buffers)
        warnings.warn(
            f"the model draws random numbers with numpy or Python in evaluation; {_REPEATS} passes gave the same "
            "outputs all the same. Should a rare draw matter, results change from run to run",
            RandomnessWarning,
            stacklevel=4,
        )

    def _refuse_if_different(self, a: list[Tensor], b: list[Tensor], draws: Draws, buffers: Buffers) -> None:
        off = _difference(a, b)
        if off > self._jitter:
            raise ModelError(
                f"{_HEAD}the same images gave different outputs twice, by {_share(off)}. "
                f"{_why_not_twice(draws, buffers)}"
            )

    def _check_beside(self, first: list[Tensor], draws: Draws) -> None:
        """Compare outputs of the same image in its batch, alone, and behind two others."""
        image = self._images[:1]
        others = _others(image)
        behind = torch.cat([others, image])
        self._compare(self._images, 0, behind, 2, draws, first)
        if len(self._images) > 1:
            self._compare(self._images, 0, image, 0, draws, first)
        # As many images as the first time, and not the same: a network may keep the first batch of every size.
        self._compare(others[: len(self._images)], 0, behind, 0, draws)

    def _compare(self, a: Tensor, i: int, b: Tensor, j: int, draws: Draws, outputs: list[Tensor] | None = None) -> None:
        """Refuse the network if image i of batch ``a`` (whose ``outputs`` may be known) is not image j of ``b``."""
        off = _rows_off(self._outputs, a, i, b, j, outputs)
        bound = _BESIDE
        if off > bound:
            off, bound = self._sure(off, a, i, b, j)
        if off > bound:
            raise ModelError(
                f"{_HEAD}an image gave different outputs beside other images, by {_share(off)}. "
                f"{_why_not_beside(draws)}"
            )

    def _sure(self, off: float, a: Tensor, i: int, b: Tensor, j: int) -> tuple[float, float]:
        """Return the same difference computed in float64, with its bound; where that fails, ``off`` with a wide one."""
        types = {p.dtype for p in self._model.parameters()}
        loose = max((_BESIDE_LOOSE.get(dtype, 0.0) for dtype in types), default=0.0) or _BESIDE_LOOSE_ELSE
        if widest(a.device) != torch.float64:
            return off, loose
        try:
            # A copy: what the network keeps between calls may not become float64.
            double = copy.deepcopy(self._model).double()
        except Exception:  # noqa: BLE001 - a network may hold what cannot be copied
            return off, loose

        def outputs(images: Tensor) -> list[Tensor]:
            return self._read(forward(double, images.double()), len(images))

        with torch.autocast(a.device.type, enabled=False):
            found = _rows_off(outputs, a, i, b, j, None, otherwise=math.nan)
        if math.isnan(found):
            return off, loose
        return found, _BESIDE_IN_DOUBLE


def _rows_off(
    run: Callable[[Tensor], list[Tensor]],
    a: Tensor,
    i: int,
    b: Tensor,
    j: int,
    outputs: list[Tensor] | None,
    *,
    otherwise: float = 0.0,
) -> float:
    """Return how far outputs of image i of batch ``a`` are from those of image j of ``b``."""
    try:
        if outputs is None:
            outputs = run(a)
        beside = run(b)
    except (ModelError, torch.OutOfMemoryError):
        # Some networks take batches of one size alone, and some memories hold no more.
        return otherwise
    return _difference([t[i : i + 1] for t in outputs], [t[j : j + 1] for t in beside])


def check_function(model: nn.Module, images: Tensor, output: Output | None = None) -> None:
    """Refuse a network that is no function of its image, or gives a probability, as :func:`find_sites` does.

    Nothing runs where the network is known.

    Examples
    --------
    >>> check_function(nn.Linear(2, 2), torch.rand(3, 2))
    """

    def read(result: Any, batch: int) -> list[Tensor]:
        return [logits_of(result, batch, output)]

    two = images[:2].detach()
    # Where memory does not hold these few images, what follows runs with fewer and says so.
    with probing(model, two.device) as drawn, suppress(torch.OutOfMemoryError):
        check = FunctionCheck(model, two, read, output_key(output))
        if check.known:
            return
        draws = Draws()
        probabilities = Probabilities()
        watched = instrument(model, Instrument(observe=probabilities.observe))
        with watched, instrument(model, Instrument(observe=draws.observe)):
            result = forward(model, two)
        probabilities.check(model, two, result, output)
        first = read(result, len(two))
        if not all(bool(torch.isfinite(t).all()) for t in first):
            check_weights(model)
        check.finish(first, draws, drawn=drawn())


@contextmanager
def probing(model: nn.Module, device: torch.device) -> Iterator[Callable[[], bool]]:
    """Run a network to learn about it: in evaluation mode, without gradients, the random state kept."""
    with (
        evaluating(model),
        # What a network makes in its first pass and keeps must also serve passes that record gradients.
        torch.inference_mode(False),
        torch.no_grad(),
        random_state_kept(device) as drawn,
    ):
        yield drawn


def _state(model: nn.Module) -> Hashable:
    """Return what changes where a network's parts, parameters or buffers do."""
    tensors = [*model.parameters(), *model.buffers()]
    return tuple(map(id, (*model.modules(), *tensors))), tuple(map(times_written, tensors))


def _difference(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Return the largest difference of two lists of outputs, relative to the largest output."""
    return max((_off(x, y) for x, y in zip(a, b, strict=False) if x.shape == y.shape), default=0.0)


def _off(x: Tensor, y: Tensor) -> float:
    wide = widest(x.device)
    a = x.detach().to(wide)
    b = y.detach().to(wide)
    same = (a == b) | (a.isnan() & b.isnan())
    if bool(same.all()):
        return 0.0
    off = float(torch.where(same, 0.0, (a - b).abs()).amax())
    largest = torch.stack([a.abs(), b.abs()]).nan_to_num(0.0, 0.0, 0.0)
    scale = float(largest.amax())
    if not math.isfinite(off) or not scale:
        return math.inf
    return off / scale


def _others(image: Tensor) -> Tensor:
    """Return two images unlike ``image`` (1, C, ...) and larger than it in either direction, also where it is blank."""
    wide = image.to(widest(image.device))
    spread = (wide - wide.mean()).square().mean().sqrt().nan_to_num(0.0)
    ramp = torch.linspace(-1, 1, wide.numel(), dtype=wide.dtype, device=image.device).view(image.shape)
    change = ramp * torch.where(spread > 0, spread, torch.ones_like(spread))
    return torch.cat([3 * wide.flip(-1) + change, -3 * wide + change]).to(image.dtype)


def _share(off: float) -> str:
    if math.isinf(off):
        return "without bound"
    return f"{100 * off:.2g} % of the largest"


def _why_not_twice(draws: Draws, buffers: Buffers) -> str:
    if draws.calls:
        op, module = draws.calls[0]
        return (
            f"{op!r} in {_module(module)} draws random numbers in evaluation. Draw in training alone: nn.Dropout, "
            "F.dropout(..., training=self.training), or `if self.training`"
        )
    changed = buffers.changed()
    if any("activation_post_process" in name or "fake_quant" in name for name in changed):
        return (
            f"An observer of fake quantisation changes {changed[0]!r} in every pass. Stop it: "
            "model.apply(torch.ao.quantization.disable_observer)"
        )
    if changed:
        return f"Every pass changes its buffer {changed[0]!r}. Change it in training alone: `if self.training`"
    return (
        "It keeps something between calls, or draws random numbers outside of torch. In evaluation it may not read "
        "what an earlier call left behind"
    )


def _why_not_beside(draws: Draws) -> str:
    if draws.batch_norms:
        return (
            f"'batch_norm' in {_module(draws.batch_norms[0])} takes the statistics of the batch. Give it running "
            "statistics (track_running_stats=True) and training=self.training"
        )
    return "It computes something over the batch axis, such as x - x.mean(): compute it for each image"


def _module(name: str) -> str:
    return repr(name) if name else "the network's own forward()"
