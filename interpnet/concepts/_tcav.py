"""Testing with concept activation vectors: whether a class's log-odds rise towards a concept, at any layer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import torch
from torch import nn

from interpnet.concepts._directions import WAYS
from interpnet.concepts._sets import named
from interpnet.concepts._tcav_layer import at_layer
from interpnet.concepts._tcav_result import ConceptWarning, TcavResult
from interpnet.concepts._tcav_sets import FEWEST, FOR_5_PERCENT, Intake, gradients_of, sets_read
from interpnet.concepts._tcav_sums import summed_up
from interpnet.engine import OUTPUTS, Layers, Output, evaluating, for_outputs, placed, resolve_device, unwrap
from interpnet.errors import DataError, InterpNetError
from interpnet.support.checks import check_kinds, is_whole, one_of, shown, whole_number, whole_numbers
from interpnet.support.progress import progress_bar


@overload
def tcav(
    model: nn.Module,
    *,
    concept: Any,
    random: Any,
    images: Any,
    target: int,
    layer: Layers,
    cav: str = "difference",
    against: Any = None,
    pool: bool = False,
    outputs: str = "exclusive",
    sets: int = 50,
    seed: int = 0,
    max_batch: int = 64,
    device: str | torch.device | None = None,
    output: Output | None = None,
    progress: bool = True,
) -> TcavResult: ...
@overload
def tcav(
    model: nn.Module,
    *,
    concept: Any,
    random: Any,
    images: Any,
    target: Sequence[int],
    layer: Layers,
    cav: str = "difference",
    against: Any = None,
    pool: bool = False,
    outputs: str = "exclusive",
    sets: int = 50,
    seed: int = 0,
    max_batch: int = 64,
    device: str | torch.device | None = None,
    output: Output | None = None,
    progress: bool = True,
) -> tuple[TcavResult, ...]: ...
def tcav(
    model: nn.Module,
    *,
    concept: Any,
    random: Any,
    images: Any,
    target: int | Sequence[int],
    layer: Layers,
    cav: str = "difference",
    against: Any = None,
    pool: bool = False,
    outputs: str = "exclusive",
    sets: int = 50,
    seed: int = 0,
    max_batch: int = 64,
    device: str | torch.device | None = None,
    output: Output | None = None,
    progress: bool = True,
) -> TcavResult | tuple[TcavResult, ...]:
    r"""Test whether a class's log-odds rise in the direction of a concept, more than in that of random images.

    With h(x) the map of image x at a layer, flat, and z the log-odds of the class (docs/method.md, section 8), a
    concept activation vector v points from the maps of random images to those of the concept. The *score* is the
    share of the class's images with ``dz/dh . v > 0``; the *effect* is the mean of ``s dz/dh . v / |v|``, with s the
    standard deviation of ``h . v / |v|`` over random images that v was not made of: how many log-odds one usual step
    towards the concept is worth. Both are means over as many vectors as there are random sets.

    Maps have so many directions that any vector has a score, often near 0 or 1. So every random set takes the place of
    the concept, too, against all other random sets. A p-value is the rank of the concept's effect or score among theirs
    (two-sided; a score by its distance from 0.5), exact if the concept were one more random set; the t-test of the
    original takes scores with the same concept images for independent, which they are not. It is adjusted for all
    concepts and layers (Benjamini and Hochberg). Where the gradients of all images agree, every vector's score is 0 or
    1, and among R random sets there are some with those: the effect then tells a concept from them, the score cannot.

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    concept : Tensor (n, C, H, W), loader, or dictionary
        Images of the concept, at least two, some dozens to say much; or several concepts by name. Labels are not
        looked at.
    random : list of Tensors or loaders, or one Tensor or loader
        Sets of images of anything else, at least 3; for a p-value of 0.05 at least 19. Of each as many images are
        taken, the first, as the smallest concept has. A single set is split, in random order, into at most ``sets``;
        an image that it has twice counts once.
    images : Tensor (M, C, H, W) or loader
        Images of the class, at least two. All of them: labels are not looked at. Of several classes a list, in the
        order of ``target``.
    target : int or list of int
        The class; or several, which share the passes over the sets.
    layer
        One or several, as in :meth:`interpnet.engine.Trace.select`: maps of convolutions, units, tokens.
    cav : {"difference", "linear"}
        The vector: the difference of the means (FastCAV), or that of a logistic regression (scikit-learn, its penalty
        C = 1 on maps scaled to a mean squared distance of 1 from their mean).
    against : Tensor (n, C, H, W) or loader, optional
        Another concept: vectors then point from it to the concept (a relative concept). Random sets in pairs are what
        that is compared with, so that twice as many are needed.
    pool : bool
        Take the mean of each channel over positions instead of the whole map: where in the image does not matter.
    outputs : {"exclusive", "independent"}
        ``"independent"``: the logit itself takes the place of the log-odds, as in the original.
    sets, seed
        How many sets a single ``random`` is split into at most; of the order, the folds and the bootstrap.
    max_batch : int
        The most images in one pass.
    device, output
        As in :func:`interpnet.collect_scores`.
    progress : bool
        Show a bar.

    Returns
    -------
    TcavResult
        Of several classes a tuple of them, those of single calls: p-values are adjusted within each class.
        Memory is 4 bytes for each number of every map: 600 images at 14 x 14 positions of 256 channels take 120 MB.

    Raises
    ------
    DataError
        Fewer than two different images in a set, too few random sets, an image in two sets, images of another size, a
        set whose mean is another's.
    LayerError
        A layer without channels, or on which the class does not depend.
    ModelError
        No gradient comes back to a layer.

    Warns
    -----
    ConceptWarning
        A concept whose vectors do not tell images apart that they were not made of; fewer than 19 random sets.

    References
    ----------
    Kim et al., "Interpretability beyond feature attribution: quantitative testing with concept activation vectors",
    ICML 2018; Schmalwasser et al., "FastCAV", 2025.

    Examples
    --------
    A network whose second class is how bright the first of two channels is:

    >>> net = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ...                     nn.Linear(2, 2, bias=False))
    >>> with torch.no_grad():
    ...     _ = net[0].weight.copy_(torch.eye(2)[:, :, None, None])
    ...     _ = net[4].weight.copy_(torch.tensor([[0.0, 0.0], [3.0, 0.0]]))
    >>> draws = torch.Generator().manual_seed(0)
    >>> usual = torch.rand(200, 2, 4, 4, generator=draws)
    >>> bright = torch.rand(10, 2, 4, 4, generator=draws) + torch.tensor([0.5, 0.0]).view(2, 1, 1)
    >>> found = tcav(net, concept={"bright": bright}, random=usual[:190], images=usual[190:], target=1, layer="1",
    ...              progress=False)
    >>> [(name, layer, round(effect, 2)) for name, layer, effect in found.found()], found.score.item()
    ([('bright', '1', 0.19)], 1.0)
    """
    check_kinds(tcav, locals(), but=["layer", "target"])
    way = WAYS[one_of(cav, "cav", WAYS)]
    one_of(outputs, "outputs", OUTPUTS)
    whole_number(sets, "sets", least=FEWEST)
    whole_number(seed, "seed", least=0)
    whole_number(max_batch, "max_batch", least=1)
    targets, theirs = _classes(target, images)
    model = unwrap(model)
    where = resolve_device(device, model)
    output = for_outputs(output, outputs)
    with (
        placed(model, where, "auto") as put,
        evaluating(model, frozen=True),
        progress_bar("Reading concepts", enabled=progress) as advance,
    ):
        taken = Intake(model, put, layer, pool=pool, output=output, max_batch=max_batch, advance=advance)
        members = sets_read(taken, named(concept), against, random, sets, np.random.default_rng(seed))
        for one in targets:
            whole_number(one, "target", least=0, most=taken.trace.n_outputs - 1)
        gradients = [
            gradients_of(taken, images, name, one, outputs)
            for one, (name, images) in zip(targets, theirs.items(), strict=True)
        ]
    _warn_of_few(len(members.tests), relative=against is not None)
    found = []
    for i, site in enumerate(taken.sites):
        shape = (site.channels,) if pool else site.shape
        rows = taken.rows(i)
        found.append(at_layer(rows, [of_class[i] for of_class in gradients], members, way, site.name, shape, seed))
    results = summed_up(found, members, tuple(site.name for site in taken.sites), targets, seed)
    return results[0] if is_whole(target) else results


def _classes(target: Any, images: Any) -> tuple[list[int], dict[str, Any]]:
    """Return the classes, and the images of each by what errors call them."""
    if is_whole(target):
        return [whole_number(target, "target", least=0)], {"images": images}
    if isinstance(target, str | dict) or not hasattr(target, "__len__"):
        raise InterpNetError(f"target is {shown(target)}; expected a class's whole number, or a list of some")
    numbers = whole_numbers(target, "target")
    targets = numbers.ravel().tolist()
    if numbers.ndim != 1 or not targets or len(set(targets)) < len(targets):
        raise InterpNetError(f"target is {shown(target)}; expected every class once, in a list")
    if not isinstance(images, list | tuple) or len(images) != len(targets):
        came = f"a {type(images).__name__}" + (f" of {len(images)}" if isinstance(images, list | tuple) else "")
        raise DataError(f"images: {came} came for {len(targets)} classes; expected a list with the images of each")
    return targets, {f"images of class {one}": own for one, own in zip(targets, images, strict=True)}


def _warn_of_few(tests: int, *, relative: bool) -> None:
    """Say where no p-value can be small."""
    if tests < FOR_5_PERCENT:
        what = "pairs of random sets" if relative else "random sets"
        warnings.warn(
            f"with {tests} {what} no p-value is below {1 / (1 + tests):.2f}; {FOR_5_PERCENT} are needed for 0.05",
            ConceptWarning,
            stacklevel=3,
        )
