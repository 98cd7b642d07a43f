"""Which of zennit's rules each LRP method puts at which layer.

==========================  =====================  ================  ============  ====================
method                      first layer            convolutions      linear maps   zennit's composite
==========================  =====================  ================  ============  ====================
``lrp_0``                   LRP-0                  LRP-0             LRP-0
``lrp_epsilon``             epsilon                epsilon           epsilon
``lrp_gamma``               gamma                  gamma             epsilon
``lrp_alpha1beta0``         alpha 1, beta 0        alpha 1, beta 0   epsilon       EpsilonPlus
``lrp_alpha2beta1``         alpha 2, beta 1        alpha 2, beta 1   epsilon       EpsilonAlpha2Beta1
``lrp_zbox``                z-box                  gamma             epsilon       EpsilonGammaBox
``lrp_epsilon_plus_flat``   flat                   z-plus            epsilon       EpsilonPlusFlat
``deep_taylor``             z-box                  z-plus            z-plus
==========================  =====================  ================  ============  ====================

The first layer is every convolution or linear map that reads the image itself. Sources: Bach et al. 2015 (LRP-0,
epsilon, alpha-beta), Montavon et al. 2017 (deep Taylor, z-box), Montavon et al. 2019 (gamma, composites),
Lapuschkin et al. 2019 (flat).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interpnet.backward._lrp.layers import Stabiliser
from interpnet.backward._refusals import Asked
from interpnet.support.extras import require

#: The methods by name.
LRP_RULES = (
    "lrp_epsilon_plus_flat",
    "lrp_gamma",
    "lrp_epsilon",
    "lrp_0",
    "lrp_alpha1beta0",
    "lrp_alpha2beta1",
    "lrp_zbox",
    "deep_taylor",
)
#: Those whose rule at the image counts on the bounds of pixels.
BOXED = ("lrp_zbox", "deep_taylor")


@dataclass(frozen=True)
class Composite:
    """A rule for each type of layer."""

    asked: Asked
    # Makes the rule of a layer that reads the image, in the shape that it reads; None where it is like the others.
    first: Callable[[torch.Size], Any] | None
    conv: Any
    linear: Any
    average: Any
    stabilise: Stabiliser
    boxed: bool  # the first layer's rule counts on the bounds of pixels


def exactly(z: Tensor) -> Tensor:
    """Return the denominator of LRP-0: z itself, and infinity where z is 0, whose relevance 0/0 counts as 0."""
    # A stabiliser would make epsilon's rule of it; infinity makes 0/0 a 0 and leaves all else as it is.
    return torch.where(z == 0, torch.inf, z)


def composite(
    method: str,
    *,
    epsilon: float | None = None,
    gamma: float = 0.25,
    box: tuple[Tensor, Tensor] | None = None,
    zero_bias: bool = False,
    option: str = "method",
) -> Composite:
    """Return the rules of a method; see the module's table.

    Parameters
    ----------
    method : str
    epsilon : float, optional
        Of the epsilon rule. For ``lrp_epsilon`` in units of each layer's root mean square output over the sample;
        elsewhere absolute, as in zennit's composites.
    gamma : float
    box : (low, high), each of the images' shape
        The z-box rule's bounds.
    zero_bias : bool
        Leave biases out of the rules' denominators, so that they take no share.
    option : str
        The argument that asked for it, as errors call it.
    """
    asked = Asked(method, option)
    zennit = require("zennit", str(asked))
    rules = zennit.rules
    core = zennit.core
    zero = []
    if zero_bias:
        zero = ["bias"]
    stabilise: Stabiliser = core.Stabilizer(1e-6)
    if method == "lrp_0":
        stabilise = exactly
    if epsilon is None:
        epsilon = {"lrp_epsilon": 0.05}.get(method, 1e-6)
    linear = rules.Epsilon(core.Stabilizer(epsilon), zero_params=zero)
    # Only the rule asked for is made: a box's bounds have the images' shape, for instance.
    makers: dict[str, Callable[[], Any]] = {
        "lrp_0": lambda: rules.Epsilon(exactly, zero_params=zero),
        "lrp_epsilon": lambda: rules.Epsilon(core.Stabilizer(epsilon, norm_scale=True), zero_params=zero),
        "lrp_gamma": lambda: rules.Gamma(gamma, zero_params=zero),
        "lrp_alpha1beta0": lambda: rules.AlphaBeta(1.0, 0.0, zero_params=zero),
        "lrp_alpha2beta1": lambda: rules.AlphaBeta(2.0, 1.0, zero_params=zero),
        "lrp_zbox": lambda: rules.Gamma(gamma, zero_params=zero),
        "lrp_epsilon_plus_flat": lambda: rules.ZPlus(zero_params=zero),
        "deep_taylor": lambda: rules.ZPlus(zero_params=zero),
    }
    conv = makers[method]()
    if method in {"lrp_0", "lrp_epsilon", "deep_taylor"}:
        linear = conv
    first: Callable[[torch.Size], Any] | None = None
    if method == "lrp_epsilon_plus_flat":
        first = lambda _shape: rules.Flat()  # noqa: E731 - a rule for any shape
    if box is not None:
        low, high = box
        first = lambda shape: rules.ZBox(low.reshape(shape), high.reshape(shape), zero_params=zero)  # noqa: E731
    return Composite(
        asked=asked,
        first=first,
        conv=conv,
        linear=linear,
        average=rules.Norm(stabilise),
        stabilise=stabilise,
        boxed=box is not None,
    )


def own_box(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest value of each image and colour, in the images' shape (B, C, ...).

    Examples
    --------
    >>> low, high = own_box(torch.tensor([[[1.0, 3.0]]]))
    >>> low.tolist(), high.tolist()
    ([[[1.0, 1.0]]], [[[3.0, 3.0]]])
    """
    pixels = images.flatten(2)
    shape = (*images.shape[:2], *[1] * (images.dim() - 2))
    low = pixels.amin(2).view(shape).expand_as(images)
    return low, pixels.amax(2).view(shape).expand_as(images)
