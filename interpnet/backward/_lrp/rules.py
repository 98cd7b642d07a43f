"""Which rule each LRP method puts at which layer; :mod:`.terms` has the rules.

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

Norms by an image's own statistics have the epsilon rule of linear maps, with LRP-epsilon and LRP-0 the convolutions';
deep Taylor passes relevance on. Deep Taylor's sums share by the size of their terms, so that relevance keeps one sign.
The first layer is every convolution or linear map that reads the image itself. Sources: Bach et al. 2015 (LRP-0,
epsilon, alpha-beta), Montavon et al. 2017 (deep Taylor, z-box), Montavon et al. 2019 (gamma, composites),
Lapuschkin et al. 2019 (flat), Otsuki et al., ECCV 2024 (sums by size), Achtibat et al. 2024 (see :mod:`.attention`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from interpnet.backward._lrp.layers import Inverse, Rule
from interpnet.backward._lrp.terms import (
    alpha_beta_rule,
    epsilon_rule,
    exactly,
    flat_rule,
    gamma_rule,
    norm_rule,
    one_image,
    stabilised,
    z_box_rule,
    z_plus_rule,
)
from interpnet.backward._refusals import Asked
from interpnet.errors import InterpNetError

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
    # Makes the rule of a layer that reads the image, of the bounds of the values that it reads; None where it is like
    # the others.
    first: Callable[[Any], Rule] | None
    conv: Rule
    linear: Rule
    average: Rule
    # Of norms by an image's own statistics, and of products with a constant; None: norms pass relevance on, and such
    # products are linear maps.
    norm: Rule | None
    inverse: Inverse
    # One over the denominators of products of two maps, and how relevance goes through attention.
    product: Inverse
    attention: str
    relative: bool  # epsilon is in units of an image's values
    # Relevance keeps its sign: sums share by the size of their terms, averages among what is positive.
    one_sign: bool
    # The bounds of pixels, where the first layer's rule counts on them.
    box: tuple[Tensor, Tensor] | None
    reads_output: bool  # the convolutions' rule asks for the layer's output, which the forward pass knows

    def of_one_image(self) -> Composite:
        """Return the same where a tensor's axes are all one image's, the first one too."""
        return replace(
            self,
            conv=_of_one_image(self.conv),
            linear=_of_one_image(self.linear),
            norm=self.norm and _of_one_image(self.norm),
            product=one_image(self.product),
        )


def _of_one_image(rule: Any) -> Rule:
    return partial(rule, inverse=one_image(rule.keywords["inverse"]))


def composite(
    method: str,
    *,
    epsilon: float | None = None,
    gamma: float = 0.25,
    linear_gamma: float | None = None,
    box: tuple[Tensor, Tensor] | None = None,
    zero_bias: bool = False,
    attention: str | None = None,
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
    linear_gamma : float, optional
        The gamma rule, instead of epsilon's, at linear maps as well.
    box : (low, high), each of the images' shape
        The z-box rule's bounds.
    zero_bias : bool
        Leave biases out of the rules' denominators, so that they take no share.
    attention : {"attnlrp", "cp"}, optional
        How relevance goes through attention; by default ``"attnlrp"``, for deep Taylor ``"cp"``, which alone it allows.
    option : str
        The argument that asked for it, as errors call it.
    """
    plain = stabilised(1e-6)
    own: dict[str, Any] = {"bias": not zero_bias}
    if method == "lrp_0":
        plain = exactly
    if epsilon is None:
        epsilon = {"lrp_epsilon": 0.05}.get(method, 1e-6)
    linear: Rule = partial(epsilon_rule, inverse=stabilised(epsilon), **own)
    conv: Rule
    if method == "lrp_0":
        conv = partial(epsilon_rule, inverse=exactly, **own)
    elif method == "lrp_epsilon":
        conv = partial(epsilon_rule, inverse=stabilised(epsilon, relative=True), **own)
    elif method in {"lrp_gamma", "lrp_zbox"}:
        conv = partial(gamma_rule, gamma=gamma, inverse=plain, **own)
    elif method in {"lrp_alpha1beta0", "lrp_alpha2beta1"}:
        alpha = float(method[len("lrp_alpha")])
        conv = partial(alpha_beta_rule, alpha=alpha, beta=alpha - 1, inverse=plain, **own)
    else:
        conv = partial(z_plus_rule, inverse=plain, **own)
    if method in {"lrp_0", "lrp_epsilon", "deep_taylor"}:
        linear = conv
    # Relative: queries may be scaled before their product with keys or behind it.
    product = exactly if method == "lrp_0" else stabilised(epsilon, relative=True)
    default = "cp" if method == "deep_taylor" else "attnlrp"
    if method == "deep_taylor" and attention not in {None, "cp"}:
        raise InterpNetError(
            f"attention={attention!r} came with {option}='deep_taylor': the softmax's rule gives relevance of both "
            "signs, which deep Taylor excludes; leave attention out, or use a method of LRP"
        )
    norm = None if method == "deep_taylor" else linear
    if linear_gamma is not None:
        linear = partial(gamma_rule, gamma=linear_gamma, inverse=plain, **own)
    first: Callable[[Any], Rule] | None = None
    if method == "lrp_epsilon_plus_flat":
        first = lambda _bounds: partial(flat_rule, inverse=plain)  # noqa: E731 - the same for any bounds
    if box is not None:
        first = lambda bounds: partial(z_box_rule, bounds=bounds, inverse=plain)  # noqa: E731
    return Composite(
        asked=Asked(method, option),
        first=first,
        conv=conv,
        linear=linear,
        norm=norm,
        product=product,
        attention=attention or default,
        average=partial(norm_rule, inverse=plain, positive=method == "deep_taylor"),
        inverse=plain,
        relative=method == "lrp_epsilon",
        one_sign=method == "deep_taylor",
        box=box,
        reads_output=method in {"lrp_gamma", "lrp_zbox", "lrp_epsilon", "lrp_0"},
    )


def own_box(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest value of each image and colour, in the images' shape (B, C, ...).

    Examples
    --------
    >>> import torch
    >>> low, high = own_box(torch.tensor([[[1.0, 3.0]]]))
    >>> low.tolist(), high.tolist()
    ([[[1.0, 1.0]]], [[[3.0, 3.0]]])
    """
    pixels = images.flatten(2)
    shape = (*images.shape[:2], *[1] * (images.dim() - 2))
    low = pixels.amin(2).view(shape).expand_as(images)
    return low, pixels.amax(2).view(shape).expand_as(images)
