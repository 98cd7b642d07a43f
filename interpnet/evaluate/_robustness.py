"""Max-sensitivity: how much a map changes when the image changes by less than anybody would see."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from interpnet.attribution import draw, image_generators, usable_images
from interpnet.engine import unwrap
from interpnet.errors import DataError
from interpnet.evaluate._checks import check_made, checked_maps
from interpnet.evaluate._score import Score, measure
from interpnet.support.checks import check_kinds, positive_number, whole_number

Explain = Callable[[nn.Module, Tensor], Tensor]


def max_sensitivity(
    model: nn.Module,
    images: Tensor,
    explain: Explain,
    *,
    radius: float = 0.2,
    samples: int = 50,
    seed: int = 0,
    constant: str = "error",
) -> Score:
    r"""Return the largest change of each map, as a share of its norm, over small random changes of the image.

    .. math:: \max_s \frac{\|\Phi(x + u_s) - \Phi(x)\|}{\|\Phi(x)\|}

    with :math:`u_s` uniform in [-radius, radius], each value for itself, and the Euclidean norm. A largest value of
    draws grows with their number: compare values of the same ``samples`` and ``radius`` alone. It asks for stability,
    not for truth: a map that ignores image and network has 0.

    Parameters
    ----------
    model : nn.Module
        Given to ``explain``.
    images : Tensor (B, C, H, W)
        As the model wants them; moved to the model's device.
    explain : function
        ``explain(model, images) -> (B, H, W)``, raw maps. Fix the class in it, for a changed image may be taken for
        another: ``lambda m, x: attribute(m, x, target, "gradcam")``. It runs ``samples + 1`` times.
    radius : float
        In the units of the images, above 0.
    samples : int
        How many changed copies of each image.
    seed : int
        Of the changes; an image's do not depend on its batch.
    constant : {"error", "zero"}
        Refuse an original map that is constant, or measure it as it is and flag it. A map of zeros that does not stay
        so has infinity.

    Returns
    -------
    Score
        ``values`` (B,) from 0 on: low is good. ``curve`` (B, samples) the changes of the copies.

    Raises
    ------
    DataError
        Maps of another shape, constant, or with NaN (the images are named); images that the model cannot take.
    InterpNetError
        Radius, samples or seed that do not exist.

    References
    ----------
    Yeh et al. 2019, On the (In)fidelity and Sensitivity of Explanations. As a share of the norm: its published code.

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    >>> images = torch.ones(3, 1, 2, 2)
    >>> max_sensitivity(net, images, lambda m, x: m[1].weight[:1].view(1, 2, 2).expand(len(x), 2, 2)).values.tolist()
    [0.0, 0.0, 0.0]
    >>> bool(max_sensitivity(net, images, lambda m, x: x[:, 0], constant="zero").values.max() <= 0.2)
    True
    """
    check_kinds(max_sensitivity, locals())
    model = unwrap(model)
    reach = positive_number(radius, "radius")
    whole_number(samples, "samples", least=1)
    whole_number(seed, "seed", least=0)
    with torch.inference_mode(False):
        images = usable_images(model, images)
        original, flat = _explained(model, images, explain, "images", constant)
        size = _norm(original)
        generators = image_generators(images, seed)
        found = []
        for _ in range(int(samples)):
            noise = (2 * draw(images, generators, *images.shape[1:]) - 1) * reach
            made, _ = _explained(model, images + noise, explain, "changed images", "zero")
            if made.shape != original.shape:
                raise DataError(
                    f"explain: maps {tuple(made.shape)} came for changed images and {tuple(original.shape)} before; "
                    "expected maps of one size"
                )
            found.append(_norm(made - original))
    changes = torch.stack(found, 1)
    # docs/method.md, section 6.2. Of a map of zeros no share can be taken: it stays (0) or it does not.
    none = torch.where(changes > 0, math.inf, 0.0).to(changes)
    curve = torch.where(size[:, None] > 0, changes / size[:, None], none)
    return measure("max_sensitivity").score(curve.amax(1), curve=curve, flagged=flat)


def _explained(model: nn.Module, images: Tensor, explain: Explain, what: str, constant: str) -> tuple[Tensor, Tensor]:
    """Return the maps of a user's function as float64, and which are constant."""
    # A copy: the function may work in place.
    made = explain(model, images.clone())
    check_made(made, images, f"explain: it returned {{}} for the {what}")
    return checked_maps(made, f"maps of the {what}", constant=constant)


def _norm(maps: Tensor) -> Tensor:
    """Return the Euclidean norm (B,) of maps (B, H, W)."""
    norm: Tensor = torch.linalg.vector_norm(maps.flatten(1), dim=1)
    return norm
