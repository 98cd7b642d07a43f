"""Pictures as sums of waves: the coordinates in which a picture is easy to climb.

A step of equal size in every wave changes coarse and fine parts of a picture as photographs vary in them: an amplitude
falls with the frequency f as 1/f (Field 1987), and the colours of a pixel vary together (Olah et al. 2017, "Feature
Visualization"). In pixels, gradient ascent finds noise of high frequency first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

# How the colours of photographs vary: all three together, red against blue, green against both. Orthogonal directions
# with the standard deviations of the pixels of 12,000 photographs, the largest set to 1.
_DIRECTIONS = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))
_DEVIATIONS = (1.0, 0.33, 0.12)


@dataclass(frozen=True)
class Spectrum:
    """The waves that make pictures (C, *size): ``pictures(coefficients)``, with pixels in (0, 1).

    The logit of a pixel is the sum of its waves, so that no coefficient leads out of [0, 1]; zeros are mid-grey. A step
    of 1 or -1 in every coefficient changes the logits by 1, as a root mean square over pixels and colours.

    Examples
    --------
    >>> waves = Spectrum((3, 8, 8))
    >>> waves.pictures(torch.zeros(1, *waves.shape)).unique()
    tensor([0.5000])
    """

    size: tuple[int, ...]  # (C, H, W), or with one or three axes

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one picture's coefficients: (C, *frequencies, 2), real and imaginary parts."""
        *others, last = self.size
        return (*others, last // 2 + 1, 2)

    @cached_property
    def frequencies(self) -> Tensor:
        """The frequency of each wave in cycles per pixel, on the last axes of the coefficients but one."""
        *others, last = self.size[1:]
        axes = [torch.fft.fftfreq(n) for n in others] + [torch.fft.rfftfreq(last)]
        return torch.stack([axis.square() for axis in torch.meshgrid(*axes, indexing="ij")]).sum(0).sqrt()

    @cached_property
    def _scale(self) -> Tensor:
        # The lowest frequencies, and the mean, as the wave that is as long as the picture.
        scale = 1 / self.frequencies.clamp(min=1 / max(self.size[1:]))
        # All but those at both ends of the last axis stand for two waves.
        twins = torch.full_like(scale, 2.0)
        twins[..., 0] = 1.0
        if self.size[-1] % 2 == 0:
            twins[..., -1] = 1.0
        power = 2 * float((twins * scale.square()).sum())
        return scale * (math.prod(self.size[1:]) / math.sqrt(power))

    @cached_property
    def _colours(self) -> Tensor:
        colours = self.size[0]
        if colours != 3:
            return torch.eye(colours)
        directions = F.normalize(torch.tensor(_DIRECTIONS), dim=1)
        scaled = directions * torch.tensor(_DEVIATIONS)[:, None]
        return (scaled * math.sqrt(colours / float(scaled.square().sum()))).T

    def pictures(self, coefficients: Tensor) -> Tensor:
        """Return the pictures (n, C, *size) of coefficients (n, *shape)."""
        where = coefficients.device
        axes = tuple(range(2, len(self.size) + 1))
        waves = torch.view_as_complex(coefficients) * self._scale.to(where)
        logits = torch.fft.irfftn(waves, s=self.size[1:], dim=axes)
        if self.size[0] == 3:
            logits = torch.einsum("ij,nj...->ni...", self._colours.to(where), logits)
        return torch.sigmoid(logits)

    def blur(self, sigma: float) -> Tensor:
        """Return what multiplies coefficients to smooth the logits by a Gaussian of ``sigma`` pixels."""
        return torch.exp(-2 * (math.pi * sigma * self.frequencies).square())[..., None]


def moved(pictures: Tensor, shift: Sequence[int], turn: float, zoom: float) -> Tensor:
    """Return pictures (n, C, *size), which are periodic, moved by pixels, then turned and enlarged about their middle.

    ``turn`` is in radians and ``zoom`` a factor; only pictures with two axes are turned and enlarged.
    """
    axes = tuple(range(2, pictures.dim()))
    if any(shift):
        pictures = pictures.roll(tuple(shift), axes)
    if len(axes) != 2 or (turn == 0 and zoom == 1):
        return pictures
    height, width = pictures.shape[2:]
    cos = math.cos(turn) / zoom
    sin = math.sin(turn) / zoom
    # In units of half the picture's height and width.
    matrix = torch.tensor([[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]])
    grid = F.affine_grid(matrix.expand(1, 2, 3), [1, *pictures.shape[1:]], align_corners=False).to(pictures.device)
    grid = grid.expand(len(pictures), -1, -1, -1)
    return F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
