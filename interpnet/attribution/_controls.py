"""Controls: maps that know nothing of the network. A method that does not beat them has shown nothing."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F

from interpnet.attribution._call import Attribution, AttributionCall
from interpnet.attribution._registry import register
from interpnet.support.checks import positive_number

_register = partial(register, family="control", cost=0, reduction=None, axioms={"ignores-target"})


@_register("random", paper="control: noise", needs={"samples"})
def random(call: AttributionCall) -> Attribution:
    """Return independent uniform numbers in [0, 1), other ones for each image."""
    return Attribution(call.draw(call.generators(), *call.images.shape[2:]))


@_register("edge", paper="control: Sobel magnitude of the image (Adebayo et al. 2018 compare with an edge detector)")
def edge(call: AttributionCall) -> Attribution:
    """Return ``sqrt(gx^2 + gy^2)`` of the mean over colours; gx and gy by the Sobel kernels, borders repeated."""
    # Repeated borders: zeros would draw a frame around every image.
    grey = F.pad(call.images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = grey.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    parts = F.conv2d(grey, torch.stack([across, across.T])[:, None])
    return Attribution(parts.square().sum(1).sqrt())


@_register("center", paper="control: photographers put the subject in the middle")
def center(call: AttributionCall, *, width: float = 0.25) -> Attribution:
    """Return a Gaussian around the image's centre, 1 at its peak.

    Parameters
    ----------
    call : AttributionCall
    width : float
        Its standard deviation along each axis, as a share of that axis.
    """
    width = positive_number(width, "width")
    across = [torch.arange(n, device=call.images.device) for n in call.images.shape[2:]]
    rows, columns = (torch.exp(-0.5 * (((a - (len(a) - 1) / 2) / (width * len(a))) ** 2)) for a in across)
    return Attribution((rows[:, None] * columns).to(call.images).expand(len(call.images), -1, -1).clone())
