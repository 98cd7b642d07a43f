"""Activation maximisation: the picture that a channel or a class answers to most, found by gradient ascent.

Four things keep the picture from noise of high frequency that no camera makes: every step sees it shifted by some
pixels at random, so that no detail can depend on its place (jitter, Mordvintsev et al. 2015); it is smoothed, less and
less (blur, Yosinski et al. 2015); every step takes a share of the distance to mid-grey back (L2, Simonyan et al. 2014);
and pixels stay in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interpnet.engine import (
    Call,
    Channel,
    Instrument,
    Output,
    Site,
    Trace,
    check_gradient_reaches,
    evaluating,
    find_sites,
    forward,
    instrument,
    logits_of,
    resolve_device,
    stop_forward,
    stoppable,
    unwrap,
)
from interpnet.errors import InterpNetError, LayerError, ModelError
from interpnet.support.checks import check_kinds, is_whole, real_array, whole_number
from interpnet.support.progress import progress_bar
from interpnet.support.types import Float32

Target = Channel | int
_GREY = 0.5
_NOISE = 0.05
# The defaults of a picture of 224 pixels, and in proportion below: a blur of 1 from 56 pixels on, shifts of 8.
_LARGEST_BLUR = 1.0
_PIXELS_PER_BLUR = 56
_PIXELS_PER_SHIFT = 28
# A Gaussian this narrow has nothing left beside its middle.
_NO_BLUR = 0.2


@dataclass(frozen=True)
class Maximised:
    """Pictures that n units answer to most."""

    targets: tuple[Target, ...]  # the units: channels, or classes by their number
    pictures: Float32  # (n, C, H, W), pixels in [0, 1], before the network's normalisation
    # (n,), the unit's mean activation over its map, or the class's logit, for the picture, in the network's units; at a
    # rectifier the value before it.
    activations: Float32
    start: Float32  # (n,), the same for the noise it started from
    silent: npt.NDArray[np.bool_]  # (n,), the gradient was zero at every step, so the picture says nothing


@dataclass(frozen=True)
class _Climb:
    """How to climb; see :func:`maximise`."""

    steps: int
    step: float
    jitter: int
    blur: float
    l2: float
    seed: int

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.step < np.inf or self.jitter < 0 or self.blur < 0 or not 0 <= self.l2 < 1:
            raise InterpNetError(
                f"steps={self.steps}, step={self.step}, jitter={self.jitter}, blur={self.blur}, l2={self.l2}; expected "
                "steps >= 1, step > 0, jitter >= 0, blur >= 0 and 0 <= l2 < 1"
            )


# A caller in inference mode gets the same pictures.
@torch.inference_mode(mode=False)
def maximise(
    model: nn.Module,
    targets: Sequence[Target],
    shape: Sequence[int],
    *,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    steps: int = 64,
    step: float = 0.02,
    jitter: int | None = None,
    blur: float | None = None,
    l2: float = 0.01,
    seed: int = 0,
    max_batch: int = 8,
    output: Output | None = None,
    trace: Trace | None = None,
    progress: bool = False,
) -> Maximised:
    """Find, for each channel or class, a picture that raises its activation.

    ``p <- clip(p + step * g / rms(g) - l2 * (p - 1/2))`` with g the gradient of the mean of the channel's map, or of
    the class's logit, with respect to the shifted picture. At a rectifier the channel's value *before* it is
    raised: both are largest for the same picture, and only that one has a gradient while the channel is silent.
    An unknown layer or channel is a LayerError; a class that is no output, and a gradient that is not finite, are
    ModelErrors; a bad setting is an InterpNetError.

    Parameters
    ----------
    targets : sequence of Channel or int
        Channels of any usable sites, and classes by their number.
    shape : (C, H, W)
        Of the pictures. Smaller ones than the network was made for will do for channels of convolutions if
        ``trace`` is given: the network runs only as far as the channel.
    mean, std : float or sequence of C floats
        The network gets ``(picture - mean) / std``.
    steps, step : int, float
        Their number, and the root mean square of one step's change in units of pixel values.
    jitter : int, optional
        Largest shift in pixels, along each axis; by default a 28th of the shorter side (8 of 224, none
        below 28, where a shift would change most of what a filter sees).
    blur : float, optional
        Standard deviation in pixels of the Gaussian of the first step, falling linearly to zero at the last; 0 for
        none. By default 1, or a 56th of the shorter side where that is less.
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
    >>> maximise(net, [0], (1, 1, 2), jitter=0, blur=0, l2=0).pictures.round(3).tolist()
    [[[[1.0, 0.0]]]]
    """
    check_kinds(maximise, locals())
    model = unwrap(model)
    shape = tuple(int(v) for v in shape)
    where = resolve_device(None, model)
    side = min(shape[1:], default=1)
    if jitter is None:
        jitter = side // _PIXELS_PER_SHIFT
    if blur is None:
        blur = min(_LARGEST_BLUR, side / _PIXELS_PER_BLUR)
    climb = _Climb(steps, step, jitter, blur, l2, seed)
    if max_batch < 1 or min(shape, default=0) < 1:
        raise InterpNetError(f"max_batch={max_batch}, shape={shape}; expected at least 1, and a shape (C, H, W)")
    trace = trace or find_sites(model, torch.zeros(1, *shape, device=where), output=output)
    means = _per_channel(mean, "mean", shape, where)
    stds = _per_channel(std, "std", shape, where)

    def run(pictures: Tensor) -> Any:
        return forward(model, (pictures - means) / stds)

    # Units of one site climb together.
    groups: dict[str | None, list[tuple[int, int]]] = {}
    for i, target in enumerate(targets):
        layer, unit = _checked(target, trace)
        groups.setdefault(layer, []).append((i, unit))
    n = len(targets)
    zeros = np.zeros(n, np.float32)
    made = Maximised(tuple(targets), np.zeros((n, *shape), np.float32), zeros, zeros.copy(), np.zeros(n, bool))
    with (
        evaluating(model, frozen=True),
        torch.enable_grad(),
        progress_bar("Maximising", steps * n, unit="steps", enabled=progress) as advance,
    ):
        for layer, members in groups.items():
            for at in range(0, len(members), max_batch):
                part, numbers = (list(column) for column in zip(*members[at : at + max_batch], strict=True))
                units = torch.tensor(numbers, device=where)
                if layer is None:
                    objective = _logits(run, units, output)
                else:
                    objective = _map_means(run, model, trace[layer], units)
                result = _ascend(model, objective, len(part), shape, climb, where, advance)
                for rows, values in zip(
                    (made.pictures, made.activations, made.start, made.silent), result, strict=True
                ):
                    rows[part] = values.cpu().numpy()
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


def _logits(run: Callable[[Tensor], Any], classes: Tensor, output: Output | None) -> Callable[[Tensor], Tensor]:
    """Return the function from pictures (n, C, H, W) to the logit of each one's own class (n,)."""

    def logits(pictures: Tensor) -> Tensor:
        return logits_of(run(pictures), len(pictures), output).gather(1, classes[:, None])[:, 0]

    return logits


def _map_means(
    run: Callable[[Tensor], Any], model: nn.Module, site: Site, channels: Tensor
) -> Callable[[Tensor], Tensor]:
    """Return the function from pictures (n, C, H, W) to the mean over the map of each one's own channel (n,)."""

    def means(pictures: Tensor) -> Tensor:
        kept: list[Tensor] = []

        def stop(value: Tensor) -> Any:
            kept.append(value)
            stop_forward()

        def before_rectifier(call: Call) -> None:
            if call.name == site.name and call.kind == "rectifier":
                stop(call.args[0] if call.args else call.kwargs["input"])

        with instrument(model, Instrument(rule=before_rectifier, reads={site.name: stop})), stoppable():
            run(pictures)
        maps = kept[0].movedim(site.axis or 1, 1)
        own = maps[torch.arange(len(channels), device=maps.device), channels]
        # A unit of a fully connected layer has no map: a mean over one value.
        return own.reshape(len(own), -1).mean(1)

    return means


def _ascend(
    model: nn.Module,
    objective: Callable[[Tensor], Tensor],
    n: int,
    shape: tuple[int, ...],
    climb: _Climb,
    device: torch.device,
    advance: Callable[[int], None],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return pictures, activations, those of the start, and whether no gradient ever came."""
    # On the CPU, so that the noise and the shifts are the same on every device.
    random = torch.Generator().manual_seed(climb.seed)
    noise = torch.randn(shape, generator=random)
    picture = (_GREY + _NOISE * noise).clamp(0, 1).to(device).expand(n, *shape).clone()
    axes = tuple(range(2, len(shape) + 1))
    start = objective(picture).detach()
    silent = torch.ones(n, dtype=torch.bool, device=device)
    for t in range(climb.steps):
        shifts = torch.randint(-climb.jitter, climb.jitter + 1, (len(axes),), generator=random).tolist()
        leaf = picture.roll(shifts, axes).requires_grad_()
        value = objective(leaf).sum()
        check_gradient_reaches(model, leaf, "a unit", found=value.requires_grad)
        (gradient,) = torch.autograd.grad(value, leaf)
        gradient = gradient.roll([-s for s in shifts], axes)
        strength = gradient.flatten(1).square().mean(1).sqrt()
        if not bool(torch.isfinite(strength).all()):
            raise ModelError("the gradient of a unit is NaN or infinite; look at the model's weights")
        silent &= strength == 0
        direction = gradient / strength.clamp(min=1e-30).view(-1, *[1] * len(shape))
        picture = picture + climb.step * direction - climb.l2 * (picture - _GREY)
        sigma = climb.blur * (1 - (t + 1) / climb.steps)
        if sigma > _NO_BLUR:
            picture = gaussian_blur(picture, sigma)
        picture = picture.clamp(0, 1)
        advance(n)
    return picture, objective(picture).detach(), start, silent


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Smooth images (B, C, H, W) by a Gaussian of ``sigma`` pixels; the rim is continued."""
    # Not torchvision's function on padded images: it differs by 5e-7, which the kinks of a network turn into other
    # pictures (up to 0.95 after the 64 steps on a small trained one), so that a seed would no longer fix the picture.
    reach = max(1, round(3 * sigma))
    places = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (places / sigma) ** 2)
    kernel = kernel / kernel.sum()
    n, c, *size = images.shape
    flat = images.reshape(n * c, 1, *size)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(size) - 1]
    for axis in range(len(size)):
        after = len(size) - 1 - axis
        # Torch counts the sides of a padding from the last axis on.
        padding = [0, 0] * after + [reach, reach] + [0, 0] * axis
        flat = convolve(F.pad(flat, padding, mode="replicate"), kernel.view(1, 1, *[1] * axis, -1, *[1] * after))
    return flat.reshape(images.shape)
