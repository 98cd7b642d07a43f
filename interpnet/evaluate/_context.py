"""Does a network look at the subject or at what is around it? Swap the surroundings between images, and see.

Each image's middle is put into the surroundings of another image. A prediction, or a channel's score, that goes with
the surroundings' class rather than with the middle's does not come from the subject. That the subject is in the middle
is an assumption about the photographs; with masks of the subject it is none. Related: Xiao et al., "Noise or signal:
the role of image backgrounds in object recognition", ICLR 2021 (mixed-rand images, with masks); what is asked of
single channels is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.engine import (
    WHOLE_TYPES,
    Channel,
    Instrument,
    Output,
    Trace,
    beside,
    check_images,
    check_logits,
    evaluating,
    find_sites,
    forward_logits,
    instrument,
    unwrap,
)
from interpnet.errors import DataError
from interpnet.interpretation import Interpretation
from interpnet.scores import ScoreReader
from interpnet.support.brief import brief
from interpnet.support.checks import check_kinds, true_or_false, whole_number
from interpnet.support.progress import progress_bar
from interpnet.support.types import Float64

#: Of the shorter side; half of a disc's area lies within 0.7 of it.
_RADIUS = 0.25
# Of each image; thousands would say no more, and their pairs take memory.
_IMAGE_AXES = 4
_MOST_PARTNERS = 10_000


@brief
@dataclass(frozen=True, eq=False)
class ContextSwap:
    """What goes with the middle of the images, and what with their surroundings."""

    interpretation: Interpretation
    follows: float  # share of the n images that are predicted as the surroundings' class
    keeps: float  # share of them that keep the middle's class; the rest is taken for a third
    # (C,): for the response of each class, sum_c w_c x_c (docs/method.md, section 3), the effect of the surroundings
    # over both effects, 0 to 1; NaN where no image is of the class, or neither has an effect.
    class_share: Float64
    middle: Float64  # (C, m): how much each channel's score rises, on average, where the middle shows the class
    surroundings: Float64  # (C, m): the same where the surroundings show it
    n: int  # images with swapped surroundings, of two classes

    @property
    def share(self) -> Float64:
        """(C, m): for each class's relevant channels the surroundings' part of what the class does to the score.

        ``max(sb, 0) / (max(sa, 0) + max(sb, 0))`` with the effects a of the middle and b of the surroundings and the
        weight's sign s; NaN for other channels, and where both effects go against the weight.
        """
        signs = np.sign(self.interpretation.coef)
        return _share(np.where(signs == 0, np.nan, signs * self.middle), signs * self.surroundings)

    @property
    def mean_share(self) -> float:
        """Mean of ``class_share`` over the classes that have one: one number for the network."""
        known = self.class_share[np.isfinite(self.class_share)]
        if not len(known):
            return float("nan")
        return float(known.mean())

    def flagged(self, least: float = 0.5) -> list[tuple[int, Channel, float]]:
        """Return (class, channel, share) of the relevant channels whose share is above ``least``, largest first."""
        share = self.share
        with np.errstate(invalid="ignore"):
            found = [(int(c), int(j), float(share[c, j])) for c, j in zip(*np.nonzero(share > least), strict=True)]
        found.sort(key=lambda x: -x[2])
        return [(c, self.interpretation.channels[j], value) for c, j, value in found]


def context_swap(
    model: nn.Module,
    images: Tensor,
    interpretation: Interpretation,
    *,
    classes: Tensor | None = None,
    middle: Tensor | None = None,
    partners: int = 5,
    seed: int = 0,
    max_batch: int = 64,
    output: Output | None = None,
    trace: Trace | None = None,
    progress: bool = True,
) -> ContextSwap:
    """Put the middle of each image into the surroundings of others, and see what predictions and channels go with.

    For class j and channel c, ``x_c = e + a [middle shows j] + b [surroundings show j]`` is fitted by least squares
    over all swapped images (docs/method.md, section 6.3); so is each class's response.

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    images : Tensor (B, C, H, W)
        As the model wants them, several of each class: a few dozen per class give shares to about 0.05.
    interpretation : Interpretation
        Of this model: which channels are relevant, with which weight.
    classes : Tensor (B,) int64, optional
        What the images show; by default what the network takes them for, so that no label is needed.
    middle : Tensor (H, W) or (B, H, W) of bool, optional
        Where the subject is. By default a disc of a quarter of the shorter side around the centre.
    partners : int
        How many others each image meets.
    seed : int
        Of the choice of partners.
    max_batch : int
        The most images in one pass.
    output : str, int or function, optional
        Which part of what the model returns are its logits, as in :func:`interpnet.engine.find_sites`.
    trace : Trace, optional
        Sites found before, for this model.
    progress : bool
        Show a bar.

    Returns
    -------
    ContextSwap

    Raises
    ------
    DataError
        Images, classes or masks of another shape, or images of a single class.
    InterpNetError
        ``partners`` or ``max_batch`` below 1, or channels that are not those of this model.

    Examples
    --------
    >>> from interpnet.engine import ChannelIndex
    >>> net = nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    >>> images = torch.zeros(2, 2, 8, 8)
    >>> images[0, 0, 0, 0] = images[1, 1, 0, 0] = 1.0  # a mark in the corner tells the class
    >>> with torch.no_grad():
    ...     for layer in (net[0], net[4]):
    ...         _ = layer.weight.copy_(torch.eye(2).view_as(layer.weight)), layer.bias.zero_()
    >>> swapped = context_swap(net, images, Interpretation(ChannelIndex((("1", 2),)), np.eye(2), ("a", "b")))
    >>> swapped.follows, swapped.share.tolist()
    (1.0, [[1.0, nan], [nan, 1.0]])
    """
    check_kinds(context_swap, locals())
    images = beside(model, check_images(images)).detach()
    whole_number(partners, "partners", least=1)
    whole_number(partners, "partners", most=_MOST_PARTNERS)
    whole_number(max_batch, "max_batch", least=1)
    whole_number(seed, "seed", least=0)
    true_or_false(progress, "progress")
    inside = _middle(middle, images)
    model = unwrap(model)
    trace = trace if trace is not None else find_sites(model, images[:1], output=output)
    reader = ScoreReader.of(trace, interpretation.channels, interpretation.info)

    def run(batch: Tensor) -> tuple[Tensor, Tensor]:
        with instrument(model, Instrument(reads=reader.reads)):
            logits = forward_logits(model, batch, output)
        return reader.take().double().cpu(), check_logits(logits).argmax(1).cpu()

    with torch.no_grad(), evaluating(model):
        if classes is None:
            classes = torch.cat([run(part)[1] for part in torch.split(images, max_batch)])
        shown = _checked(classes, len(images), len(interpretation.classes))
        first, second = _pairs(shown, partners, seed)
        scores = []
        predicted = []
        with progress_bar("Swapping surroundings", len(first), enabled=progress) as advance:
            for a, b in zip(torch.split(first, max_batch), torch.split(second, max_batch), strict=True):
                batch_scores, batch_classes = run(_swapped(images, inside, a, b))
                scores.append(batch_scores)
                predicted.append(batch_classes)
                advance(len(a))
    answers = torch.cat(predicted)
    differ = shown[first] != shown[second]
    x = torch.cat(scores).numpy()
    bad = np.flatnonzero(~np.isfinite(x).all(1))
    if bad.size:
        raise DataError(
            f"scores of image {int(first[bad[0]])} with the surroundings of image {int(second[bad[0]])} are NaN or "
            "infinite; expected finite ones. Look for extreme pixels and weights"
        )
    of_middle, of_surroundings = _effects(x, shown[first], shown[second], len(interpretation.classes))
    # The response is linear in the scores (docs/method.md, section 3), and so are its effects.
    a, b = (np.einsum("cm,cm->c", interpretation.coef, effect) for effect in (of_middle, of_surroundings))
    return ContextSwap(
        interpretation=interpretation,
        follows=float((answers == shown[second])[differ].double().mean()),
        keeps=float((answers == shown[first])[differ].double().mean()),
        class_share=_share(a, b),
        middle=of_middle,
        surroundings=of_surroundings,
        n=int(differ.sum()),
    )


def swapped_context(
    images: Tensor, classes: Tensor, *, middle: Tensor | None = None, partners: int = 1, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Return images with the surroundings of others, to look at or to train on.

    Parameters
    ----------
    images, classes, middle, partners, seed
        See :func:`context_swap`.

    Returns
    -------
    first : Tensor (n,) int64
        Which image each middle is of: its class is ``classes[first]``.
    swapped : Tensor (n, C, H, W)
        ``partners`` for each image.

    Examples
    --------
    >>> first, swapped = swapped_context(torch.rand(4, 3, 16, 16), torch.tensor([0, 1, 0, 1]), partners=2)
    >>> first.tolist(), tuple(swapped.shape)
    ([0, 2, 0, 2, 1, 3, 1, 3], (8, 3, 16, 16))
    """
    check_kinds(swapped_context, locals())
    images = check_images(images)
    whole_number(partners, "partners", least=1)
    whole_number(partners, "partners", most=_MOST_PARTNERS)
    whole_number(seed, "seed", least=0)
    inside = _middle(middle, images)
    shown = _checked(classes, len(images))
    first, second = _pairs(shown, partners, seed)
    return first, _swapped(images, inside, first, second)


def _swapped(images: Tensor, inside: Tensor, first: Tensor, second: Tensor) -> Tensor:
    inside = inside.expand(len(images), -1, -1)
    # With a mask per image the union of both subjects comes from the first, so that no second one is left.
    kept = inside[first] | inside[second]
    return torch.where(kept[:, None], images[first], images[second])


def _middle(given: Tensor | None, images: Tensor) -> Tensor:
    if images.dim() != _IMAGE_AXES:
        raise DataError(f"images: shape {tuple(images.shape)} came; expected (images, channels, height, width)")
    batch, _, height, width = images.shape
    if given is None:
        rows, columns = (torch.arange(n, device=images.device) - (n - 1) / 2 for n in (height, width))
        return rows[:, None] ** 2 + columns**2 < (_RADIUS * min(height, width)) ** 2
    if given.dtype != torch.bool or tuple(given.shape) not in {(height, width), (batch, height, width)}:
        raise DataError(
            f"middle is {given.dtype} of shape {tuple(given.shape)}; expected bool ({height}, {width}) or "
            f"({batch}, {height}, {width})"
        )
    covered = given.flatten(-2).float().mean(-1)
    if bool(((covered == 0) | (covered == 1)).any()):
        raise DataError("middle has a mask that is empty or full; expected some pixels of the subject and some not")
    return given.to(images.device)


def _checked(classes: Tensor, batch: int, n_classes: int | None = None) -> Tensor:
    if tuple(classes.shape) != (batch,) or classes.dtype not in WHOLE_TYPES:
        raise DataError(f"classes is {classes.dtype} of shape {tuple(classes.shape)}; expected {batch} class numbers")
    classes = classes.cpu().long()
    if n_classes is None:
        n_classes = int(classes.max()) + 1
    if int(classes.min()) < 0 or int(classes.max()) >= n_classes:
        raise DataError(f"classes has {int(classes.max())}; expected 0 to {n_classes - 1}")
    if len(torch.unique(classes)) < 2:
        raise DataError("the images are all of one class; swapping surroundings needs images of at least two")
    return classes


def _pairs(classes: Tensor, partners: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return image numbers (n,) and their partners': every image meets the classes in turn."""
    # The image's own class is among them, so that the classes of middle and surroundings are independent.
    rng = np.random.default_rng(seed)
    shown = classes.numpy()
    members = [np.flatnonzero(shown == c) for c in np.unique(shown)]
    n = len(members)
    first = []
    second = []
    for own, images in enumerate(members):
        start = own + rng.integers(1, n)  # the first partner is of another class
        for r in range(partners):
            first.append(images)
            others = [members[(start + t + r) % n] for t in range(len(images))]
            second.append(np.array([rng.choice(other) for other in others]))
    return torch.from_numpy(np.concatenate(first)), torch.from_numpy(np.concatenate(second))


def _effects(x: Float64, middle: Tensor, around: Tensor, n: int) -> Float64:
    """Return the effects (2, C, m) of middle and surroundings on every column of ``x`` (n, m)."""
    found = np.full((2, n, x.shape[1]), np.nan)
    for j in np.intersect1d(middle.numpy(), around.numpy()).tolist():
        design = np.stack([np.ones(len(x)), (middle == j).numpy(), (around == j).numpy()], 1)
        # A class that is always together with its own surroundings has no effect to tell apart.
        if np.linalg.matrix_rank(design) == 3:
            found[:, j] = np.linalg.lstsq(design, x, rcond=None)[0][1:]
    return found


def _share(a: Float64, b: Float64) -> Float64:
    b = np.maximum(b, 0.0)
    total = np.maximum(a, 0.0) + b
    return np.divide(b, total, out=np.full_like(total, np.nan), where=total > 0)
