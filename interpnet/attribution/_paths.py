"""Averages of gradients: over noise (SmoothGrad, VarGrad), along a path and over baselines.

All keep running sums, so that memory does not grow with the number of steps, and hold at most ``max_batch``
images in a pass. captum has the same methods; these lines exist because its noise depends on what else is in
the batch, and its batching holds every step's result. The tests compare with it.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from interpnet.attribution._call import Attribution, AttributionCall, conserved, score_gradient
from interpnet.attribution._registry import METHODS, find_method, register
from interpnet.errors import InterpNetError
from interpnet.support.checks import positive_number, whole_number

_register = partial(register, family="gradient")


@_register(
    "smoothgrad",
    paper="Smilkov et al. 2017: mean of the signals of noisy images",
    cost=lambda samples=25: 3 * samples,
    needs={"samples"},
    reduction="max",
)
def smoothgrad(
    call: AttributionCall, *, inner: str = "gradient", samples: int = 25, noise: float = 0.15
) -> Attribution:
    """Return the mean of ``inner``'s raw signal over images with normal noise.

    Parameters
    ----------
    call : AttributionCall
    inner : str
        Any method with a signal at the image's colours; ``cost`` is for ``"gradient"``.
    samples : int
    noise : float
        The standard deviation as a share of each image's range (maximum less minimum).
    """
    mean, _ = _noisy_moments(call, inner, samples, noise, "smoothgrad")
    return call.finish(mean, info={"inner": inner})


@_register(
    "vargrad",
    paper="Adebayo et al. 2018: variance of the signals of noisy images",
    cost=lambda samples=25: 3 * samples,
    needs={"samples"},
)
def vargrad(call: AttributionCall, *, inner: str = "gradient", samples: int = 25, noise: float = 0.15) -> Attribution:
    """Return the variance (dividing by ``samples``) of ``inner``'s raw signal; see :func:`smoothgrad`."""
    samples = whole_number(samples, "samples", least=2)
    _, variance = _noisy_moments(call, inner, samples, noise, "vargrad")
    return call.finish(variance, info={"inner": inner})


def _noisy_moments(call: AttributionCall, inner: str, samples: int, noise: float, own: str) -> tuple[Tensor, Tensor]:
    """Return the mean and variance over noise of a method's raw signal (B, C, H, W), by Welford's running sums."""
    method = find_method(inner)
    if inner in {"smoothgrad", "vargrad"}:
        usable = ", ".join(m.name for m in METHODS.values() if m.family == "gradient" and "samples" not in m.needs)
        raise InterpNetError(f"inner={inner!r} of method={own!r} already averages over noise; expected e.g. {usable}")
    if method.reduction is None:
        raise InterpNetError(f"inner={inner!r} has no signal at the image's colours; method={own!r} needs one")
    samples = whole_number(samples, "samples", least=1)
    x = call.images
    scale = positive_number(noise, "noise") * (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True))
    generators = call.generators()
    mean = torch.zeros_like(x)
    squares = torch.zeros_like(x)
    seen = 0
    for here in call.copies(samples):
        # One draw per step: what a sample gets must not depend on how many steps share a pass.
        steps = range(samples)[here]
        noisy = torch.cat([x + scale * call.draw(generators, *x.shape[1:], normal=True) for _ in steps])
        raw = method.run(call.on(noisy)).raw
        if raw is None:
            raise RuntimeError(f"method {inner!r} has a reduction but returned no signal to reduce")
        for signal in raw.view(-1, *x.shape):
            # Welford 1962: a plain sum of squares loses the variance of a signal that is large and steady.
            seen += 1
            step = signal - mean
            mean = mean + step / seen
            squares = squares + step * (signal - mean)
    return mean, squares / samples


@_register(
    "integrated_gradients",
    paper="Sundararajan et al. 2017: the gradient's mean along the line from a baseline",
    cost=lambda steps=50: 3 * steps + 1,
    needs={"baseline"},
    axioms={"completeness"},
)
def integrated_gradients(call: AttributionCall, *, steps: int = 50, bound: float = 0.05) -> Attribution:
    """Return ``(x - b) * integral_0^1 dF/dx(b + a (x - b)) da`` by Gauss-Legendre quadrature.

    The residual is that of completeness, ``sum = F(x) - F(b)``; it falls with ``steps`` and flags a map past
    ``bound``. The baseline b is blank by default.
    """
    baseline = call.reference()
    # The nodes lie in [-1, 1] and the weights sum to 2; the path runs over [0, 1].
    nodes, weights = np.polynomial.legendre.leggauss(whole_number(steps, "steps", least=1))
    places = torch.as_tensor((1 + nodes) / 2).to(call.images).view(-1, 1, 1, 1, 1)
    shares = torch.as_tensor(weights / 2).to(call.images).view(-1, 1, 1, 1, 1)
    delta = call.images - baseline
    total = torch.zeros_like(delta)
    for here in call.copies(steps):
        points = baseline + places[here] * delta
        gradients = score_gradient(call, points.flatten(0, 1)).view(points.shape)
        total += (shares[here] * gradients).sum(0)
    expected = call.score - call.scores(baseline)
    return conserved(call, delta * total, expected, "sum = F(x) - F(baseline)", bound)


@_register(
    "expected_gradients",
    paper="Erion et al. 2021; GradientSHAP, Lundberg & Lee 2017",
    cost=lambda samples=50: 4 * samples,
    needs={"samples"},
    axioms={"conservation"},
)
def expected_gradients(
    call: AttributionCall, *, samples: int = 50, references: Tensor | None = None, bound: float = 0.5
) -> Attribution:
    """Return the mean over baselines b and positions a of ``(x - b) * dF/dx(b + a (x - b))``.

    Parameters
    ----------
    call : AttributionCall
    samples : int
        Pairs (b, a) for each image; a is uniform in [0, 1).
    references : Tensor (N, C, H, W), optional
        The baselines to draw from, e.g. a part of the training set. By default images of one colour, that of a
        pixel drawn from the image itself.
    bound : float
        On the residual of ``sum = F(x) - mean F(b)``, which is exact in expectation only.
    """
    samples = whole_number(samples, "samples", least=1)
    x = call.images
    if references is not None and (references.dim() != 4 or references.shape[1:] != x.shape[1:]):
        raise InterpNetError(
            f"references: shape {tuple(references.shape)} came; expected (N, {', '.join(map(str, x.shape[1:]))})"
        )
    pool = x.shape[2:].numel()
    if references is not None:
        pool = len(references)
    # In single precision whatever the images' type; a draw next to 1 may round up to the pool's size.
    draws = call.draw(call.generators(), samples, 2).to(torch.float32)
    picked = (draws[:, :, 0] * pool).long().clamp(max=pool - 1)
    places = draws[:, :, 1].to(x)
    total = torch.zeros_like(x)
    scores = call.score.new_zeros(len(x))
    for here in call.copies(samples):
        if references is None:
            colours = x.flatten(2).gather(2, picked[:, None, here].expand(-1, x.shape[1], -1))
            b = colours.permute(2, 0, 1)[..., None, None].expand(-1, *x.shape)
        else:
            b = references[picked[:, here].T.to(references.device)].to(x)
        a = places[:, here].T[..., None, None, None]
        gradients = score_gradient(call, (b + a * (x - b)).flatten(0, 1)).view(b.shape)
        total += ((x - b) * gradients).sum(0)
        scores += call.scores(b.flatten(0, 1)).view(len(b), -1).sum(0)
    expected = call.score - scores / samples
    return conserved(call, total / samples, expected, "sum = F(x) - mean F(baselines), in expectation", bound)
