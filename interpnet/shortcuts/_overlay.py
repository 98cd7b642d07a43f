"""Laying a picture, a text or a patch on images of other classes: which classes rise beyond controls of its size.

Pasting what a network should not care about and watching its outputs is what found ImageNet-W's watermark (Li et al.,
"A Whac-A-Mole Dilemma", CVPR 2023) and what typographic attacks do (Goh et al., Distill 2021). Anything that covers an
image moves a network a little; so every image also gets the overlay's own pixels, or larger pieces of it, in another
order: as many, as opaque, and nothing to read in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from torch import Tensor, nn

from interpnet.ablation import adjusted
from interpnet.engine import (
    WHOLE_TYPES,
    Output,
    all_log_odds,
    beside,
    check_images,
    check_logits,
    evaluating,
    forward_logits,
    unwrap,
)
from interpnet.errors import DataError
from interpnet.support.brief import brief
from interpnet.support.checks import check_kinds, number, true_or_false, whole_number
from interpnet.support.progress import progress_bar
from interpnet.support.types import Float64, Int64


@brief
@dataclass(frozen=True, eq=False)
class OverlayProbe:
    """What an overlay does to every class, on the images that are not of the class."""

    rise: Float64  # (C,): mean rise of the class's log-odds beyond that of the controls; NaN where no image is left
    low: Float64  # (C,): the ends of its interval at 95 %, over images
    high: Float64
    p_value: Float64  # (C,): of no rise beyond the controls, one-sided, adjusted for the number of classes
    whole: Float64  # (C,): mean rise of the log-odds against the images as they are
    control: Float64  # (C,): the same of the controls
    taken: Float64  # (C,): share of the images that are taken for the class with the overlay
    taken_before: Float64  # (C,): as they are
    taken_control: Float64  # (C,): with a control
    n: Int64  # (C,): images that are not of the class

    def raised(self, level: float = 0.05) -> list[tuple[int, float]]:
        """Return (class, rise) of the classes that the overlay raises beyond its controls, largest first.

        ``level``: the expected share of false ones among them.
        """
        number(level, "level", least=0, most=1)
        with np.errstate(invalid="ignore"):
            found = np.flatnonzero(self.p_value <= level)
        return sorted(((int(c), float(self.rise[c])) for c in found), key=lambda one: -one[1])


def overlay_probe(
    model: nn.Module,
    images: Tensor,
    overlay: Tensor,
    opacity: Tensor,
    *,
    classes: Tensor | None = None,
    piece: int = 1,
    controls: int = 2,
    seed: int = 0,
    max_batch: int = 64,
    output: Output | None = None,
    progress: bool = True,
) -> OverlayProbe:
    r"""Lay a picture on images, and see which classes' log-odds rise more than with the picture's pieces shuffled.

    With o the opacity an image x becomes ``(1 - o) x + o * overlay``. For class c and image i not of c the effect is
    ``d = LO_c(x_i with the overlay) - mean_k LO_c(x_i with control k)`` with the log-odds LO of docs/method.md, section
    8; a class's rise is its mean over i, with the interval and one-sided test of Student's t. A control puts the pixels
    within the rectangle that the overlay covers into another order, colour and opacity together: as much at the
    same strength. With larger pieces, turned and mirrored, the question is another: letters survive in pieces of their
    size, and a class that rises with any of them does not rise beyond such controls. Of an overlay of a single colour
    the controls are the overlay itself; give such a patch as part of a larger one.

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    images : Tensor (B, C, H, W)
        As the model wants them, of several classes; some dozens give an interval.
    overlay : Tensor (C, H, W)
        What is laid on them, in the units of the images: normalised as they are.
    opacity : Tensor (H, W)
        From 0, where an image stays as it is, to 1, where the overlay hides it.
    classes : Tensor (B,) int64, optional
        What the images show; by default what the network takes them for.
    piece : int
        Side of the pieces that a control puts into another order, in pixels.
    controls : int
        Controls of each image.
    seed : int
        Of the pieces' order.
    max_batch : int
        The most images in one pass.
    output : str, int or function, optional
        Which part of what the model returns are its logits, as in :func:`interpnet.engine.find_sites`.
    progress : bool
        Show a bar.

    Raises
    ------
    DataError
        Shapes that do not fit, an opacity outside 0 to 1 or nowhere above 0, fewer than two images.
    InterpNetError
        ``piece``, ``controls``, ``seed`` or ``max_batch`` out of range.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 2, (1, 4), bias=False), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    >>> stripe = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0])  # the second class looks for its middle
    >>> with torch.no_grad():
    ...     _ = net[0].weight.zero_()
    ...     net[0].weight[1, 0, 0] = torch.tensor([1.0, 1.0, -1.0, 1.0])
    >>> opacity = torch.zeros(8, 8)
    >>> opacity[3:5] = 1.0
    >>> of_first = torch.zeros(30, dtype=torch.int64)
    >>> images = torch.rand(30, 1, 8, 8) / 9
    >>> found = overlay_probe(net, images, stripe.expand(1, 8, 8), opacity, classes=of_first, progress=False)
    >>> [c for c, _ in found.raised()]
    [1]
    """
    check_kinds(overlay_probe, locals())
    images = beside(model, check_images(images)).detach()
    whole_number(piece, "piece", least=1)
    whole_number(controls, "controls", least=1)
    whole_number(seed, "seed", least=0)
    whole_number(max_batch, "max_batch", least=1)
    true_or_false(progress, "progress")
    overlay, opacity = _checked(images, overlay, opacity)
    if len(images) < 2:
        raise DataError(f"{len(images)} image came; expected several, whose differences give an interval")
    model = unwrap(model)
    pieces = _Pieces(overlay, opacity, piece, seed)
    shown = _shown(classes, len(images))
    found: dict[str, list[Float64]] = {name: [] for name in ("before", "with", "control")}
    taken: dict[str, list[Float64]] = {name: [] for name in found}
    passes = len(images) * (2 + controls)

    def run(batch: Tensor) -> tuple[Float64, Float64]:
        logits = check_logits(forward_logits(model, batch, output)).double().cpu()
        advance(len(batch))
        answers = torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1]).double()
        return all_log_odds(logits).numpy(), answers.numpy()

    with torch.no_grad(), evaluating(model), progress_bar("Laying on", passes, enabled=progress) as advance:
        for part in torch.split(images, max_batch):
            versions = [part, torch.lerp(part, overlay, opacity)]
            versions += [pieces.laid_on(part) for _ in range(controls)]
            results = [run(version) for version in versions]
            for at, name in enumerate(("before", "with")):
                found[name].append(results[at][0])
                taken[name].append(results[at][1])
            found["control"].append(np.mean([odds for odds, _ in results[2:]], axis=0))
            taken["control"].append(np.mean([answers for _, answers in results[2:]], axis=0))
    odds = {name: np.concatenate(values) for name, values in found.items()}
    answers = {name: np.concatenate(values) for name, values in taken.items()}
    if shown is None:
        shown = answers["before"].argmax(1)
    return _summed_up(odds, answers, shown)


def overlaid(images: Tensor, overlay: Tensor, opacity: Tensor) -> Tensor:
    """Return images (B, C, H, W) with ``overlay`` (C, H, W) on them at ``opacity`` (H, W), to look at or to train on.

    Examples
    --------
    >>> opacity = torch.tensor([[0.0, 0.25], [0.5, 1.0]])
    >>> overlaid(torch.zeros(1, 1, 2, 2), torch.ones(1, 2, 2), opacity).flatten().tolist()
    [0.0, 0.25, 0.5, 1.0]
    """
    check_kinds(overlaid, locals())
    images = check_images(images)
    return torch.lerp(images, *_checked(images, overlay, opacity))


class _Pieces:
    """The pieces of an overlay within the rectangle that it covers, and images with them in another order."""

    def __init__(self, overlay: Tensor, opacity: Tensor, piece: int, seed: int) -> None:
        self._both = torch.cat([overlay, opacity[None]])
        self._draws = np.random.default_rng(seed)
        rows, columns = (torch.nonzero(opacity.sum(axis)).flatten().cpu() for axis in (1, 0))
        top, left = int(rows[0]), int(columns[0])
        height, width = int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left
        self._size = min(piece, height, width)
        self._grid = height // self._size, width // self._size
        # Strips narrower than a piece stay where they are.
        down, across = (n * self._size for n in self._grid)
        self._place = slice(None), slice(top, top + down), slice(left, left + across)
        tiles = self._both[self._place].unfold(1, self._size, self._size).unfold(2, self._size, self._size)
        own = tiles.permute(1, 2, 0, 3, 4).flatten(0, 1)  # (pieces, colours + 1, size, size)
        turned = [torch.rot90(own, k, (2, 3)) for k in range(4)]
        self._variants = torch.stack([*turned, *(one.flip(3) for one in turned)], 1)

    def laid_on(self, images: Tensor) -> Tensor:
        """Return the images, each with the pieces in an order of its own."""
        shuffled = torch.stack([self._shuffled() for _ in range(len(images))])
        return torch.lerp(images, shuffled[:, :-1], shuffled[:, -1:])

    def _shuffled(self) -> Tensor:
        n, ways = self._variants.shape[:2]
        order = torch.from_numpy(self._draws.permutation(n))
        way = torch.from_numpy(self._draws.integers(0, ways, n))
        chosen = self._variants[order.to(self._both.device), way.to(self._both.device)]
        placed = chosen.reshape(*self._grid, *chosen.shape[1:]).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
        result = self._both.clone()
        result[self._place] = placed
        return result


def _summed_up(odds: dict[str, Float64], answers: dict[str, Float64], shown: Int64) -> OverlayProbe:
    n_classes = odds["with"].shape[1]
    if int(shown.max()) >= n_classes:
        raise DataError(f"classes has {int(shown.max())}; expected 0 to {n_classes - 1}")
    other = shown[:, None] != np.arange(n_classes)
    n = other.sum(0)

    def mean(values: Float64) -> Float64:
        sums = np.where(other, values, 0.0).sum(0)
        means: Float64 = np.divide(sums, n, out=np.full(n_classes, np.nan), where=n > 0)
        return means

    effect = odds["with"] - odds["control"]
    rise = mean(effect)
    with np.errstate(invalid="ignore", divide="ignore"):
        squares = np.where(other, (effect - rise) ** 2, 0.0).sum(0)
        error = np.where(n > 1, np.sqrt(squares / (n - 1) / n), np.nan)
        half = stats.t.ppf(0.975, np.maximum(n - 1, 1)) * error
        p_value = stats.t.sf(rise / error, np.maximum(n - 1, 1))
    return OverlayProbe(
        rise=rise,
        low=rise - half,
        high=rise + half,
        p_value=adjusted(np.where(error > 0, p_value, np.nan)),
        whole=mean(odds["with"] - odds["before"]),
        control=mean(odds["control"] - odds["before"]),
        taken=mean(answers["with"]),
        taken_before=mean(answers["before"]),
        taken_control=mean(answers["control"]),
        n=n,
    )


def _shown(classes: Tensor | None, batch: int) -> npt.NDArray[np.int64] | None:
    if classes is None:
        return None
    if tuple(classes.shape) != (batch,) or classes.dtype not in WHOLE_TYPES or int(classes.min()) < 0:
        raise DataError(
            f"classes is {classes.dtype} of shape {tuple(classes.shape)}; expected {batch} class numbers, 0 or above"
        )
    return classes.cpu().numpy().astype(np.int64)


def _checked(images: Tensor, overlay: Tensor, opacity: Tensor) -> tuple[Tensor, Tensor]:
    shape = tuple(images.shape[1:])
    if images.dim() != 4:
        raise DataError(f"images: shape {tuple(images.shape)} came; expected (images, channels, height, width)")
    if tuple(overlay.shape) != shape or not overlay.is_floating_point():
        raise DataError(
            f"overlay: shape {tuple(overlay.shape)} and type {overlay.dtype} came; expected floating-point numbers of "
            f"shape {shape}, as an image has it"
        )
    if tuple(opacity.shape) != shape[1:] or not opacity.is_floating_point():
        raise DataError(
            f"opacity: shape {tuple(opacity.shape)} and type {opacity.dtype} came; expected floating-point numbers of "
            f"shape {shape[1:]}"
        )
    if not bool(((opacity >= 0) & (opacity <= 1)).all()) or not bool((opacity > 0).any()):
        raise DataError("opacity must be from 0 to 1, and above 0 where the overlay is to be seen")
    if not bool(torch.isfinite(overlay).all()):
        raise DataError("overlay holds NaN or infinite values; expected finite ones")
    return overlay.to(images), opacity.to(images)
