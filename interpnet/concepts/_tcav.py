"""Testing with concept activation vectors: whether a class's log-odds rise towards a concept, at any layer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from interpnet.concepts._directions import WAYS
from interpnet.concepts._reading import Gradients, Put, rows_read
from interpnet.concepts._sets import Known, digests_of, named, parts_of
from interpnet.concepts._tcav_layer import Members, at_layer
from interpnet.concepts._tcav_result import ConceptWarning, TcavResult
from interpnet.concepts._tcav_sums import summed_up
from interpnet.engine import (
    OUTPUTS,
    Layers,
    Output,
    Site,
    Trace,
    evaluating,
    find_sites,
    for_outputs,
    placed,
    resolve_device,
    unwrap,
)
from interpnet.errors import DataError
from interpnet.support.checks import check_kinds, one_of, whole_number
from interpnet.support.progress import Advance, progress_bar
from interpnet.support.types import Float32, Int64

_FEWEST = 3  # random sets: two that make a vector, and one to measure along it
_FOR_5_PERCENT = 19  # random sets, or pairs of them, with which a p-value can be 0.05


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
) -> TcavResult:
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
        Images of the class, at least two. All of them: labels are not looked at.
    target : int
        The class.
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
    whole_number(sets, "sets", least=_FEWEST)
    whole_number(seed, "seed", least=0)
    whole_number(max_batch, "max_batch", least=1)
    whole_number(target, "target", least=0)
    model = unwrap(model)
    where = resolve_device(device, model)
    output = for_outputs(output, outputs)
    with (
        placed(model, where, "auto") as put,
        evaluating(model, frozen=True),
        progress_bar("Reading concepts", enabled=progress) as advance,
    ):
        taken = _Intake(model, put, layer, pool=pool, output=output, max_batch=max_batch, advance=advance)
        members = _sets_read(taken, named(concept), against, random, sets, np.random.default_rng(seed))
        whole_number(target, "target", least=0, most=taken.trace.n_outputs - 1)
        gradients = _gradients(taken, images, target, outputs)
    _warn_of_few(len(members.tests), relative=against is not None)
    found = []
    for i, site in enumerate(taken.sites):
        shape = (site.channels,) if pool else site.shape
        rows = taken.rows(i)
        found.append(at_layer(rows, gradients[i], members, way, site.name, shape, seed))
    return summed_up(found, members, tuple(site.name for site in taken.sites), target, seed)


@dataclass
class _Intake:
    """Runs sets of images through the network and keeps the rows of all of them."""

    model: nn.Module
    put: Put
    layer: Layers
    pool: bool
    output: Output | None
    max_batch: int
    advance: Advance
    blocks: list[list[Float32]] = field(default_factory=list)  # of each part of a set the rows of each site
    digests: list[str] = field(default_factory=list)

    def open(self, first: Tensor) -> None:
        """Find the sites."""
        self.trace: Trace = find_sites(self.model, self.put(first), output=self.output)
        self.sites: tuple[Site, ...] = self.trace.select(self.layer)

    def parts(self, source: Any, name: str) -> Any:
        """Yield the images of a set, of the size of the first one's."""
        for images in parts_of(source, name, self.max_batch):
            if not hasattr(self, "trace"):
                self.open(images)
            if tuple(images.shape[1:]) != self.trace.image_shape:
                raise DataError(
                    f"{name}: images of {tuple(images.shape[1:])} came, and of {self.trace.image_shape} before; "
                    "expected images of one size"
                )
            yield images

    def add(self, source: Any, name: str, most: int | None = None) -> Int64:
        """Read a set, at most its first ``most`` images, and return the numbers of its rows."""
        start = len(self.digests)
        parts = self.parts(source, name)
        first = next(parts, None)
        if first is None:
            raise DataError(f"{name} has no images; expected at least two")
        with rows_read(self.model, self.sites, self.put, pool=self.pool, output=self.output) as read:
            for images in chain([first], parts):
                left = len(images) if most is None else most - (len(self.digests) - start)
                if left <= 0:
                    break
                images = images[:left]
                self.blocks.append(read(images, name, len(self.digests) - start))
                self.digests += digests_of(images)
                self.advance(len(images))
        numbers = np.arange(start, len(self.digests))
        if len({self.digests[i] for i in numbers}) < 2:
            raise DataError(f"{name} has one image only, or one several times; expected at least two")
        return numbers

    def rows(self, i: int) -> Float32:
        """Return the rows (N, D) of one site and forget them: together they may be most of the memory."""
        rows = np.concatenate([block[i] for block in self.blocks])
        for block in self.blocks:
            block[i] = block[i][:0].copy()
        return rows

    def of(self, numbers: Int64) -> list[str]:
        """Return the digests of rows."""
        return [self.digests[i] for i in numbers]


def _sets_read(
    taken: _Intake, concepts: dict[str, Any], against: Any, random: Any, sets: int, draws: np.random.Generator
) -> Members:
    """Read all sets, and say which rows are whose."""
    ours = {name: taken.add(source, f"concept {name!r}") for name, source in concepts.items()}
    other = None if against is None else taken.add(against, "against")
    size = min(len(rows) for rows in (*ours.values(), *([] if other is None else [other])))
    if isinstance(random, list | tuple):
        apart = [taken.add(source, f"random set {j}", size) for j, source in enumerate(random)]
    else:
        # An image that comes twice counts once.
        pool = taken.add(random, "random", size * sets)
        pool = pool[np.sort(np.unique(taken.of(pool), return_index=True)[1])]
        apart = list(draws.permutation(pool)[: len(pool) // size * size].reshape(-1, size))
    _check_apart(taken, ours, other, apart, split=not isinstance(random, list | tuple))
    fewest = _FEWEST if other is None else _FEWEST + 1
    if len(apart) < fewest:
        raise DataError(
            f"random: {len(apart)} sets of {size} images came, as many as the smallest concept has; expected at least "
            f"{fewest} sets, and {_FOR_5_PERCENT * (1 if other is None else 2)} for a p-value of 0.05"
        )
    same = np.unique(np.array(taken.digests), return_inverse=True)[1].astype(np.int64)
    return Members(ours, other, apart, same)


def _check_apart(
    taken: _Intake, ours: dict[str, Int64], other: Int64 | None, apart: Sequence[Int64], *, split: bool
) -> None:
    """Refuse images that are in a concept and in what it is compared with, or in two random sets."""
    known = Known()
    for j, rows in enumerate(apart):
        known.add("random" if split else f"random set {j}", taken.of(rows))
    if other is not None:
        known.add("against", taken.of(other))
    for name, rows in ours.items():
        known.check(f"concept {name!r}", taken.of(rows))


def _gradients(taken: _Intake, images: Any, target: int, outputs: str) -> list[Float32]:
    """Return the gradients (M, D) of the class's images at each site."""
    found: list[list[Float32]] = []
    seen: list[str] = []
    reader: Gradients | None = None
    for part in taken.parts(images, "images"):
        ready = taken.put(part)
        if reader is None:
            reader = Gradients(taken.model, taken.sites, ready, pool=taken.pool, output=taken.output, outputs=outputs)
        found.append(reader.of(ready, target))
        seen += digests_of(part)
        taken.advance(len(part))
    if len(set(seen)) < 2:
        raise DataError(f"images: {len(seen)} of the class came; expected at least two different ones")
    return [np.concatenate(blocks) for blocks in zip(*found, strict=True)]


def _warn_of_few(tests: int, *, relative: bool) -> None:
    """Say where no p-value can be small."""
    if tests < _FOR_5_PERCENT:
        what = "pairs of random sets" if relative else "random sets"
        warnings.warn(
            f"with {tests} {what} no p-value is below {1 / (1 + tests):.2f}; {_FOR_5_PERCENT} are needed for 0.05",
            ConceptWarning,
            stacklevel=3,
        )
