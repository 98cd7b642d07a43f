"""Activation maximisation: the picture that a channel or a class answers to most, found by gradient ascent.

Gradient ascent in pixels ends in noise of high frequency that no camera makes, and at units that do not answer to the
noise it starts from it does not even begin. Here a picture is a sum of waves whose steps are those of photographs
(Olah et al. 2017); every step sees it shifted, turned and enlarged a little, so that no detail can depend on its exact
place (Mordvintsev et al. 2015); every step takes a share of the way to mid-grey back (L2, Simonyan et al. 2014); and it
may be smoothed, less and less (Yosinski et al. 2015).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from interpnet.engine import (
    Channel,
    Instrument,
    Output,
    Trace,
    check_gradient_reaches,
    evaluating,
    find_sites,
    instrument,
    placed,
    resolve_device,
    unwrap,
)
from interpnet.errors import InterpNetError, LayerError, ModelError
from interpnet.pictures._objectives import ChannelValues, LogitValues, Values
from interpnet.pictures._spectrum import Spectrum, moved
from interpnet.support.brief import brief
from interpnet.support.checks import check_kinds, is_whole, real_array, whole_number
from interpnet.support.progress import progress_bar
from interpnet.support.types import Float32, Int64

Target = Channel | int
# Root mean square of the noise that pictures start from, in units of pixel values. From less some units find no way up,
# of more some is left at the end.
_NOISE = 0.1
# Of the logit of a pixel, at mid-grey.
_SLOPE = 0.25
# Of the gradient and of its square. Adam (Kingma and Ba 2015) has 0.9 and 0.999: of so few steps the first forgets too
# slowly.
_DECAYS = (0.8, 0.999)
# Adam divides a gradient by the root of its mean square, so that every wave goes as far as any other, also those that
# the unit hardly answers to. Half of that power gets as far in half of the steps.
_POWER = 0.25  # of the mean square
# Shifts in proportion to the picture, 8 of 224 pixels; below 28 a shift would change most of what a filter sees.
_PIXELS_PER_SHIFT = 28
# Turning and enlarging blurs a little, which costs filters that see few pixels more than it gives.
_SMALLEST_TURNED = 80
_TURN = math.radians(5)
_ZOOM = 0.05
# A picture is finished where the last steps brought less than this share of what all brought.
_PATIENCE = 4
_WORTHWHILE = 0.04
_LOOKS = 4  # moved pictures over which what was reached is averaged


@brief
@dataclass(frozen=True)
class Maximised:
    """Pictures that n units answer to most."""

    targets: tuple[Target, ...]  # the units: channels, or classes by their number
    pictures: Float32  # (n, C, H, W), pixels in (0, 1), before the network's normalisation
    # (n,), the unit's mean activation over its map, or the class's logit, for the picture, in the network's units.
    activations: Float32
    start: Float32  # (n,), the same for the noise it started from
    silent: npt.NDArray[np.bool_]  # (n,), the gradient was zero at every step, so the picture says nothing
    # (n,), the largest value of the unit's map, or the class's logit less the mean of the others, in the mean over
    # pictures that were moved as in the steps: what can be held against the largest that real images reach.
    reached: Float32
    steps: Int64  # (n,), taken


@dataclass(frozen=True)
class _Climb:
    """How to climb; see :func:`maximise`."""

    steps: int
    step: float
    jitter: int
    blur: float
    l2: float
    seed: int
    turned: bool

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.step < np.inf or self.jitter < 0 or self.blur < 0 or not 0 <= self.l2 < 1:
            raise InterpNetError(
                f"steps={self.steps}, step={self.step}, jitter={self.jitter}, blur={self.blur}, l2={self.l2}; expected "
                "steps >= 1, step > 0, jitter >= 0, blur >= 0 and 0 <= l2 < 1"
            )

    def move(self, pictures: Tensor, random: torch.Generator) -> Tensor:
        """Return pictures (n, C, *size) shifted, turned and enlarged at random, all in the same way."""
        shift = torch.randint(-self.jitter, self.jitter + 1, (pictures.dim() - 2,), generator=random).tolist()
        turn, zoom = (2 * torch.rand(2, generator=random) - 1).tolist()
        if not self.turned:
            return moved(pictures, shift, 0.0, 1.0)
        return moved(pictures, shift, _TURN * turn, math.exp(_ZOOM * zoom))


# A caller in inference mode gets the same pictures.
@torch.inference_mode(mode=False)
def maximise(
    model: nn.Module,
    targets: Sequence[Target],
    shape: Sequence[int],
    *,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    steps: int = 24,
    step: float = 0.1,
    jitter: int | None = None,
    blur: float = 0.0,
    l2: float = 0.01,
    seed: int = 0,
    max_batch: int = 8,
    output: Output | None = None,
    trace: Trace | None = None,
    progress: bool = False,
) -> Maximised:
    """Find, for each channel or class, a picture that raises its activation.

    The picture is ``sigmoid(waves(z))``, with the coefficients z of its waves scaled by 1/f and colours as they vary in
    photographs. Momentum climbs in z, by the gradient over the fourth root of its mean square (half-way to Adam), the
    mean of the channel's map, of which negative values count a tenth, or the class's logit less the mean of the others
    (all that softmax knows), of the moved picture; then ``z <- (1 - l2) z``. At a
    rectifier the channel's map *before* it is raised: only that one has a gradient while the channel is silent. Where a
    unit has no gradient at all because rectifiers below it are silent, they let a hundredth of it pass meanwhile.
    An unknown layer or channel is a LayerError; a class that is no output, and a gradient that is not finite, are
    ModelErrors; a bad setting is an InterpNetError.

    Parameters
    ----------
    targets : sequence of Channel or int
        Channels of any usable sites, and classes by their number.
    shape : (C, H, W)
        Of the pictures; (C, L) and (C, D, H, W) too. Smaller ones than the network was made for will do for channels of
        convolutions if ``trace`` is given: the network runs only as far as the channel.
    mean, std : float or sequence of C floats
        The network gets ``(picture - mean) / std``.
    steps : int
        The most that are taken. A picture is finished before where the last 4 raised the unit by less than a 25th of
        what all did.
    step : float
        About the root mean square of one step's change in units of pixel values, near mid-grey.
    jitter : int, optional
        Largest shift in pixels, along each axis; by default a 28th of the shorter side (8 of 224, none below 28, where
        a shift would change most of what a filter sees). Pictures of at least 80 x 80 pixels are also turned by up to
        5 degrees and enlarged by up to 5 %; not with ``jitter=0``.
    blur : float
        Standard deviation in pixels of the Gaussian of the first step, falling linearly to zero at the last.
    l2 : float
        Share of the distance to mid-grey that each step takes back; 0 for none.
    seed : int
        Of the noise and the shifts. All targets start from the same noise and have the same shifts, so that a
        picture does not depend on what else was asked for.
    max_batch : int
        Pictures that climb at once.
    output, trace
        As in :func:`activation_maps`; the trace may be of images of any size.

    Examples
    --------
    A linear classifier wants white where its weight is positive and black where it is negative.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(2, 1, bias=False))
    >>> net[1].weight.data = torch.tensor([[1.0, -1.0]])
    >>> maximise(net, [1], (1, 1, 2), l2=0).pictures.round(1).tolist()
    [[[[1.0, 0.0]]]]
    """
    check_kinds(maximise, locals())
    model = unwrap(model)
    shape = tuple(int(v) for v in shape)
    where = resolve_device(None, model)
    side = min(shape[1:], default=1)
    if jitter is None:
        jitter = side // _PIXELS_PER_SHIFT
    turned = jitter > 0 and len(shape) == 3 and side >= _SMALLEST_TURNED
    climb = _Climb(steps, step, jitter, blur, l2, seed, turned)
    if max_batch < 1 or min(shape, default=0) < 1 or len(shape) < 2:
        raise InterpNetError(f"max_batch={max_batch}, shape={shape}; expected at least 1, and a shape (C, H, W)")
    trace = trace or find_sites(model, torch.zeros(1, *shape, device=where), output=output)
    means = _per_channel(mean, "mean", shape, where)
    stds = _per_channel(std, "std", shape, where)
    # Units of one site climb together.
    groups: dict[str | None, list[tuple[int, int]]] = {}
    for i, target in enumerate(targets):
        layer, unit = _checked(target, trace)
        groups.setdefault(layer, []).append((i, unit))
    n = len(targets)
    zeros = np.zeros(n, np.float32)
    made = Maximised(
        targets=tuple(targets),
        pictures=np.zeros((n, *shape), np.float32),
        activations=zeros,
        start=zeros.copy(),
        silent=np.zeros(n, bool),
        reached=zeros.copy(),
        steps=np.zeros(n, np.int64),
    )
    with (
        placed(model, where, "auto") as put,
        evaluating(model, frozen=True),
        torch.enable_grad(),
        # Attached once for all steps, not for each.
        instrument(model, Instrument()),
        progress_bar("Maximising", steps * n, unit="steps", enabled=progress) as advance,
    ):

        def prepare(pictures: Tensor) -> Tensor:
            return put((pictures - means) / stds)

        for layer, members in groups.items():
            values: Values = LogitValues(model, prepare, output)
            if layer is not None:
                values = ChannelValues(model, prepare, trace[layer])
            for at in range(0, len(members), max_batch):
                part, numbers = (list(column) for column in zip(*members[at : at + max_batch], strict=True))
                found = _Ascent(values, torch.tensor(numbers, device=where), Spectrum(shape), climb).run(advance)
                for name, rows in found.items():
                    getattr(made, name)[part] = rows.cpu().numpy()
    return made


def _per_channel(value: float | Sequence[float], name: str, shape: tuple[int, ...], device: torch.device) -> Tensor:
    values = np.atleast_1d(real_array(value, name).astype(np.float32))
    if not np.isfinite(values).all() or (name == "std" and not (values > 0).all()):
        raise InterpNetError(f"{name}={value!r}; expected finite numbers{', above 0' * (name == 'std')}")
    if values.ndim != 1 or len(values) not in {1, shape[0]}:
        raise InterpNetError(f"{name}={value!r}; expected one number, or one for each of the {shape[0]} channels")
    return torch.from_numpy(values).to(device).view(1, -1, *[1] * (len(shape) - 1))


def _checked(target: Target, trace: Trace) -> tuple[str | None, int]:
    """Return the target's layer, ``None`` for a class, and its number there; unknown ones are errors."""
    if not isinstance(target, Channel):
        if not is_whole(target) or not 0 <= int(target) < trace.n_outputs:
            raise ModelError(f"class {target!r} came; the model has outputs 0 to {trace.n_outputs - 1}")
        return None, int(target)
    site = trace.usable(target.layer)
    whole_number(target.index, f"the index of a channel of {target.layer!r}", error=LayerError)
    if not 0 <= target.index < site.channels:
        raise LayerError(
            f"channel {target.index} of layer {target.layer!r} does not exist; expected 0 to {site.channels - 1}"
        )
    return site.name, target.index


class _Ascent:
    """The pictures of n units of one layer, or of n classes, on their way up."""

    def __init__(self, values: Values, units: Tensor, waves: Spectrum, climb: _Climb) -> None:
        self._values = values
        self._units = units
        self._waves = waves
        self._climb = climb
        # On the CPU, so that the noise and the moves are the same on every device.
        self._random = torch.Generator().manual_seed(climb.seed)
        n = len(units)
        noise = torch.randn(waves.shape, generator=self._random).to(units.device)
        self._coefficients = (_NOISE / _SLOPE * noise).expand(n, *noise.shape).clone()
        self._silent = torch.ones(n, dtype=torch.bool, device=units.device)
        self._steps = torch.zeros(n, dtype=torch.int64, device=units.device)

    def run(self, advance: Callable[[int], None]) -> dict[str, Tensor]:
        """Return pictures, activations, ... as :class:`Maximised` has them."""
        self._values.leaking = False
        start, _ = self._look(self._pictures())
        # What still climbs: its rows, its coefficients, and the means of the gradient and of its square.
        rows = torch.arange(len(self._units), device=self._units.device)
        state = [self._coefficients.clone(), torch.zeros_like(self._coefficients), torch.zeros_like(self._coefficients)]
        history: list[Tensor] = []
        for t in range(self._climb.steps):
            history.append(self._step(rows, state, t))
            advance(len(rows))
            rises = self._rises(history)
            if rises is None:
                continue
            self._coefficients[rows] = state[0]
            self._steps[rows] = t + 1
            if not bool(rises.any()):
                break
            rows = rows[rises]
            state = [part[rises] for part in state]
            history = [values[rises] for values in history]
        else:
            self._coefficients[rows] = state[0]
            self._steps[rows] = self._climb.steps
        advance(int(self._climb.steps * len(self._units) - self._steps.sum()))
        pictures = self._pictures()
        activations, reached = self._look(pictures)
        if self._climb.jitter:
            looks = [self._look(self._climb.move(pictures, self._random))[1] for _ in range(_LOOKS)]
            reached = torch.stack(looks).mean(0)
        return {
            "pictures": pictures,
            "activations": activations,
            "start": start,
            "silent": self._silent,
            "reached": reached,
            "steps": self._steps,
        }

    def _pictures(self) -> Tensor:
        return self._waves.pictures(self._coefficients)

    def _look(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return self._values.look(pictures, self._units)

    def _step(self, rows: Tensor, state: list[Tensor], t: int) -> Tensor:
        """Take step ``t`` with the units in ``rows``; return what they were before it, on the moved pictures."""
        climb = self._climb
        coefficients, mean, square = state
        # The engine watches the network's calls, not those that make its pictures.
        with torch._C.DisableTorchFunction():  # noqa: SLF001 - torch has no public name for it
            leaf = coefficients.detach().requires_grad_()
            pictures = climb.move(self._waves.pictures(leaf), self._random)
        values = self._values.raised(pictures, self._units[rows])
        check_gradient_reaches(self._values.model, pictures, "a unit", found=values.requires_grad)
        with torch._C.DisableTorchFunction():  # noqa: SLF001
            (gradient,) = torch.autograd.grad(values.sum(), leaf)
            strength = gradient.flatten(1).square().mean(1).sqrt()
            if not bool(torch.isfinite(strength).all()):
                raise ModelError("the gradient of a unit is NaN or infinite; look at the model's weights")
            silent = strength == 0
            self._values.leaking = bool(silent.any())
            self._silent[rows] &= silent
            # Freed of the unit's own scale, so that a step is as large whatever that is.
            gradient /= strength.clamp(min=1e-30).view(-1, *[1] * (leaf.dim() - 1))
            with torch.no_grad():
                first, second = _DECAYS
                mean.lerp_(gradient, 1 - first)
                square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
                root = (square / (1 - second ** (t + 1))).pow_(_POWER).add_(1e-8)
                coefficients.addcdiv_(mean, root, value=climb.step / _SLOPE / (1 - first ** (t + 1)))
                coefficients.mul_(1 - climb.l2)
                sigma = climb.blur * (1 - (t + 1) / climb.steps)
                if sigma > 0:
                    coefficients.mul_(self._waves.blur(sigma).to(coefficients.device))
            return values.detach()

    def _rises(self, history: list[Tensor]) -> Tensor | None:
        """Return which units the last steps still raised by a share of all, or nothing has yet; None between looks."""
        t = len(history)
        if t < 2 * _PATIENCE or t % _PATIENCE:
            return None
        last = torch.stack(history[-_PATIENCE:]).mean(0)
        gained = last - torch.stack(history[-2 * _PATIENCE : -_PATIENCE]).mean(0)
        total = last - history[0]
        return (total <= 0) | (gained > _WORTHWHILE * total)
