"""What images have in common at the same place and others do not have: a watermark, a stamp, a scratch on the lens."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional

from interpnet.engine import WHOLE_TYPES, check_images
from interpnet.errors import DataError
from interpnet.support.brief import brief
from interpnet.support.checks import check_kinds, whole_number
from interpnet.support.types import Float64, Int64

_COARSE = 9  # pixels over which an image is averaged, twice; what it has beyond that is its detail
_REFERENCES = 256  # other images that are looked at, spread over all
_DRAWS = 99  # sets of other images that say what agreement is by chance
_AWAY = 4.0  # standard deviations beyond other images, from where an image bears what was found
_LEVEL = 0.05  # of any pixel wrongly taken for a part of it
FEWEST = 4  # images that may have something in common; of the others its square


@brief
@dataclass(frozen=True, eq=False)
class CommonOverlay:
    """What images have in common at the same place; an ``exchange`` for :func:`repair`."""

    pattern: Tensor = field(repr=False)  # (C, H, W): what lies on them, in their units; 0 where nothing does
    images: tuple[int, ...]  # positions of the images that bear it
    agreement: float  # correlation of what two halves of the images first named have in common
    p: float  # of such an agreement by chance

    @property
    def covered(self) -> float:
        """Share of the pixels that it covers."""
        return float((self.pattern != 0).any(0).double().mean())

    def exchange(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """Return images (B, C, H, W) with the pattern on each, within the values that the images have.

        Their labels (B,) stay right, and nothing is drawn.
        """
        pattern = self.pattern.to(images)
        low, high = (images.amin((0, 2, 3), keepdim=True), images.amax((0, 2, 3), keepdim=True))
        covered = (pattern != 0).any(0)
        return torch.where(covered, torch.minimum(torch.maximum(images + pattern, low), high), images)


def common_overlay(images: Tensor, which: Tensor, others: Tensor, *, seed: int = 0) -> CommonOverlay:
    r"""Return what some images have in common at the same place and others do not have, and which images bear it.

    Of every image its detail counts, what it has beyond its blurred self. The mean detail of the images named less that
    of the others is a first pattern; the images that match it better than others do, by more than four standard
    deviations, bear it, and are what the pattern is measured on in the end. Where it is not above its noise (5 % for
    any pixel of all, Bonferroni) it is 0. An image's match is the cosine of its detail and the pattern without itself.

    Whether the images named have anything in common is another question, answered before any is chosen by its match:
    the patterns of their two halves are correlated, and so are those of halves of as many of the others, 99 times.

    Parameters
    ----------
    images : Tensor (B, C, H, W)
        Those that may bear something, from the field for example.
    which : Tensor (n,) int64
        Positions of images that are thought to bear it, at least four; some may not.
    others : Tensor (R, C, H, W)
        Images without it, at least 16; 256 are looked at.
    seed : int
        Of the draws among the others.

    Returns
    -------
    CommonOverlay
        Its ``p`` is small, 0.01 at least, where the images named have something in common.

    Raises
    ------
    DataError
        Shapes that do not fit, positions that are none, too few images.

    Examples
    --------
    >>> draws = torch.Generator().manual_seed(0)
    >>> images, others = torch.rand(60, 1, 16, 16, generator=draws), torch.rand(40, 1, 16, 16, generator=draws)
    >>> images[20:, :, 3, 4:6] += 2.0
    >>> found = common_overlay(images, torch.arange(15, 45), others)
    >>> found.images == tuple(range(20, 60)), found.p, (found.pattern[0] != 0).nonzero().tolist()
    (True, 0.01, [[3, 4], [3, 5]])
    """
    check_kinds(common_overlay, locals())
    images, others = (check_images(one).detach() for one in (images, others))
    seed = whole_number(seed, "seed", least=0)
    named = _checked(images, which, others)
    spread = np.unique(np.linspace(0, len(others) - 1, min(len(others), _REFERENCES)).round().astype(np.int64))
    reference = _detail(others[torch.from_numpy(spread)].cpu())
    detail = _detail(images.cpu())
    agreement, p = _agreement(detail[named], reference, seed)
    matches, usual = _matches(detail, named, reference)
    middle = float(np.median(usual))
    bearing = np.flatnonzero(matches > middle + _AWAY * stats.median_abs_deviation(usual, scale="normal"))
    chosen = bearing if len(bearing) >= FEWEST else named
    return CommonOverlay(_pattern(detail[chosen], reference), tuple(int(i) for i in bearing), agreement, p)


def _checked(images: Tensor, which: Tensor, others: Tensor) -> Int64:
    if images.dim() != 4 or images.shape[1:] != others.shape[1:]:
        raise DataError(
            f"images of shape {tuple(images.shape)} and others of {tuple(others.shape)} came; expected (images, "
            "channels, height, width) of one size"
        )
    if which.dim() != 1 or which.dtype not in WHOLE_TYPES:
        raise DataError(f"which is {which.dtype} of shape {tuple(which.shape)}; expected positions of images, int64")
    named: Int64 = np.unique(which.cpu().numpy().astype(np.int64))
    if len(named) < FEWEST or named[0] < 0 or named[-1] >= len(images):
        ends = f", from {named[0]} to {named[-1]}" if len(named) else ""
        raise DataError(
            f"which names {len(named)} different images{ends}; expected at least {FEWEST} positions, from 0 to "
            f"{len(images) - 1}"
        )
    if len(others) < FEWEST**2:
        raise DataError(f"others: {len(others)} images came; expected at least {FEWEST**2}, to compare with")
    return named


def _detail(images: Tensor) -> Tensor:
    """Return (B, C, H, W): what images have beyond their blurred selves."""
    smooth = images
    for shape in ((1, _COARSE), (_COARSE, 1)) * 2:
        padding = (shape[0] // 2, shape[1] // 2)
        smooth = functional.avg_pool2d(smooth, shape, 1, padding, count_include_pad=False)
    return images - smooth


def _agreement(named: Tensor, reference: Tensor, seed: int) -> tuple[float, float]:
    """Return the correlation of what two halves have beyond two halves of the others, and how likely by chance."""
    most = min(len(named), len(reference) // 2)
    found = _correlations(named[:most], reference, np.arange(most)[None], np.arange(len(reference))[None])
    draws = np.random.default_rng(seed)
    orders = np.stack([draws.permutation(len(reference)) for _ in range(_DRAWS)])
    by_chance = _correlations(reference, reference, orders[:, :most], orders[:, most:])
    return float(found[0]), float((1 + (by_chance >= found[0]).sum()) / (1 + _DRAWS))


def _correlations(images: Tensor, reference: Tensor, own: Int64, rest: Int64) -> Float64:
    """Return (D,): of the means of every second of ``own`` (D, n) less those of every second of ``rest`` (D, m)."""
    halves = []
    for start in (0, 1):
        patterns = _means(images, own[:, start::2]) - _means(reference, rest[:, start::2])
        patterns = patterns - patterns.mean(1, keepdim=True)
        halves.append(patterns / patterns.norm(dim=1, keepdim=True).clamp_min(1e-30))
    correlations: Float64 = (halves[0] * halves[1]).sum(1).double().numpy()
    return correlations


def _means(images: Tensor, rows: Int64) -> Tensor:
    """Return the means (D, values) of images by rows of their numbers (D, n)."""
    weights = torch.zeros(len(rows), len(images), dtype=images.dtype)
    weights.scatter_(1, torch.from_numpy(rows), 1 / rows.shape[1])
    return weights @ images.flatten(1)


def _matches(detail: Tensor, named: Int64, reference: Tensor) -> tuple[Float64, Float64]:
    """Return how well images (B,) and others (R,) match what the images named have beyond the others."""
    own, other = detail[named].mean(0), reference.mean(0)
    flat, flat_reference = detail.flatten(1), reference.flatten(1)
    squares, squares_reference = (rows.square().sum(1) for rows in (flat, flat_reference))
    products = flat @ own.flatten()
    # Without itself: the mean of n becomes (n mean - own) / (n - 1).
    n, r = len(named), len(reference)
    products[named] = (n * products[named] - squares[named]) / (n - 1)
    matches = products - flat @ other.flatten()
    usual = flat_reference @ own.flatten()
    usual -= (r * (flat_reference @ other.flatten()) - squares_reference) / (r - 1)
    found, expected = (
        (one / all_.sqrt().clamp_min(1e-30)).double().numpy()
        for one, all_ in ((matches, squares), (usual, squares_reference))
    )
    return found, expected


def _pattern(bearing: Tensor, reference: Tensor) -> Tensor:
    """Return (C, H, W): the mean of the images less that of the others, 0 where it is not above its noise."""
    mean = bearing.mean(0) - reference.mean(0)
    error = (bearing.var(0) / len(bearing) + reference.var(0) / len(reference)).sqrt()
    far = stats.t.ppf(1 - _LEVEL / 2 / mean.numel(), len(bearing) - 1)
    shown = (mean.abs() > far * error).any(0)
    return torch.where(shown, mean, torch.zeros_like(mean))
