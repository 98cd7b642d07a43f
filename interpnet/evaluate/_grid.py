"""The grid pointing game: whether the map of a class lies on the image of that class, among images of other classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interpnet.attribution import logits_in_parts, usable_images
from interpnet.engine import Output, check_function, evaluating, unwrap
from interpnet.errors import DataError, InterpNetError, ModelError
from interpnet.evaluate._checks import check_made, wide
from interpnet.evaluate._localisation import energy_pointing
from interpnet.evaluate._score import Score, measure
from interpnet.support.brief import brief
from interpnet.support.checks import check_kinds, number, whole_number, whole_numbers

ExplainClass = Callable[[nn.Module, Tensor, Tensor], Tensor]


@brief
@dataclass(frozen=True, eq=False)
class GridPointing:
    """The share of positive relevance on the class's own image, grid by grid; chance is one over the cells."""

    score: Score  # values (G,): the mean over a grid's cells; curve (G, cells): each cell, row by row
    which: Tensor  # (G, cells) the numbers of the images in the cells
    classes: Tensor  # (G, cells) their classes, of which the maps were asked
    confident: int  # how many images there were to choose from


def grid_pointing_game(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | Sequence[int],
    explain: ExplainClass,
    *,
    side: int = 2,
    grids: int = 50,
    confidence: float = 0.9,
    resize: bool = False,
    max_batch: int = 32,
    seed: int = 0,
    output: Output | None = None,
    constant: str = "error",
) -> GridPointing:
    r"""Return the share of each map's positive values that lies on the class's own image in a grid of images.

    Grids of ``side`` by ``side`` images are made of images that the network classifies right and surely, each of
    another class. For every cell the map of its class is made on the whole grid; the cell's value is
    :math:`\sum_{cell} m^+ / \sum m^+`. No masks are needed, and what lies in the other cells is known to belong to
    other classes. A map that knows nothing of the class has ``1 / side**2`` on average over a grid, exactly so where it
    is the same for all classes.

    Parameters
    ----------
    model : nn.Module
        Left as it was. It has to take images ``side`` times as large, as fully convolutional networks do, unless
        ``resize`` is set.
    images : Tensor (N, C, H, W)
        As the model wants them; moved to the model's device.
    labels : (N,) class numbers
    explain : function
        ``explain(model, grids, target) -> (G, height, width)`` with ``target`` (G,), raw maps of the grids' size:
        ``lambda m, x, t: attribute(m, x, t, "gradcam")``. It runs once a cell.
    side : int
        Images along a side of a grid, from 2 on.
    grids : int
        How many grids are drawn; an image can be in several.
    confidence : float
        The least probability of an image's class, from 0 to 1.
    resize : bool
        Scale each grid to the size of one image (bilinear, with antialiasing). For networks of one input size; the
        small images may no longer be recognised, so read the value beside that of a control.
    max_batch : int
        The most images in one pass when they are classified; ``explain`` gets all grids.
    seed : int
        Of the grids.
    output : str, int or function, optional
        Which part of what the model returns are its logits, as in :func:`interpnet.engine.find_sites`.
    constant : {"error", "zero"}
        Refuse maps that are constant or have no positive value; or flag the grid, with ``1 / side**2`` for a positive
        constant and 0 where nothing is positive.

    Returns
    -------
    GridPointing

    Raises
    ------
    DataError
        Fewer than ``side**2`` classes have sure images; maps of another size than the grids, constant, without a
        positive value or with NaN.
    InterpNetError
        Labels or options that do not exist.
    ModelError
        The model does not take images of the grids' size.

    References
    ----------
    Rao, Boehle & Schiele 2022, Towards Better Understanding Attribution Methods (GridPG); Boehle, Fritz & Schiele 2021.

    Examples
    --------
    >>> net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4, bias=False))
    >>> _ = net[2].weight.data.copy_(40 * torch.eye(4))
    >>> images = torch.eye(4).view(4, 4, 1, 1).expand(4, 4, 2, 2)
    >>> def own(m, x, t):
    ...     return x[torch.arange(len(x)), t]
    >>> grid_pointing_game(net, images, [0, 1, 2, 3], own, grids=2).score.values.tolist()
    [1.0, 1.0]
    """
    check_kinds(grid_pointing_game, locals(), but=["labels"])
    model = unwrap(model)
    with torch.inference_mode(False):
        found = drawn_grids(model, images, labels, side, grids, confidence, max_batch, seed, output, resize=resize)
        with evaluating(model):
            _check_taken(model, found.images, output)

        def made(cell: int) -> Tensor:
            return explain(model, found.images.clone(), found.classes[:, cell].contiguous())

        return played("grid_pointing_game", found, side, made, constant)


@dataclass(frozen=True)
class Grids:
    """Grids of images, with what is known of them."""

    images: Tensor  # (G, C, height, width)
    which: Tensor  # (G, cells) the numbers of the images in the cells
    classes: Tensor  # (G, cells)
    confident: int  # how many images there were to choose from
    outputs: int  # of the model


def drawn_grids(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | Sequence[int],
    side: int,
    grids: int,
    confidence: float,
    max_batch: int,
    seed: int,
    output: Output | None,
    *,
    resize: bool = False,
) -> Grids:
    """Return grids of images that the model classifies right and surely; see :func:`grid_pointing_game`."""
    whole_number(side, "side", least=2, most=64)
    whole_number(grids, "grids", least=1)
    number(confidence, "confidence", least=0.0, most=1.0)
    whole_number(max_batch, "max_batch", least=1)
    whole_number(seed, "seed", least=0)
    with torch.no_grad(), evaluating(model):
        images = usable_images(model, images)
        check_function(model, images, output)
        logits = wide(logits_in_parts(model, images, max_batch, output))
    known = _labels(labels, logits)
    sure = (logits.argmax(1) == known) & (logits.softmax(1).gather(1, known[:, None])[:, 0] >= confidence)
    which = _drawn(known, sure, int(side), int(grids), seed)
    made = _joined(images, which, int(side), resize=resize)
    return Grids(made, which, known[which], int(sure.sum()), logits.shape[1])


def played(name: str, grids: Grids, side: int, explain: Callable[[int], Tensor], constant: str) -> GridPointing:
    """Return a game's result; ``explain(cell)`` makes the maps of every grid for what is in that cell."""
    made = grids.images
    cells = _cells(made, int(side))
    shares = []
    flagged = []
    for cell in range(grids.which.shape[1]):
        maps = explain(cell)
        check_made(maps, made, f"explain: it returned {{}} for cell {cell}")
        if maps.shape[1:] != made.shape[2:]:
            raise DataError(
                f"explain: maps of {tuple(maps.shape[1:])} pixels came for grids of {tuple(made.shape[2:])}; "
                "expected one value a pixel"
            )
        inside = (cells == cell).to(maps.device).expand_as(maps)
        found = energy_pointing(maps, inside, constant=constant)
        shares.append(found.values)
        flagged.append(found.flagged)
    curve = torch.stack(shares, 1)
    score = measure(name).score(
        curve.mean(1), curve=curve, flagged=torch.stack([flat for flat in flagged if flat is not None], 1).any(1)
    )
    return GridPointing(score=score, which=grids.which, classes=grids.classes, confident=grids.confident)


def _labels(labels: Tensor | Sequence[int], logits: Tensor) -> Tensor:
    """Return the labels as (N,) beside the logits (N, classes)."""
    if isinstance(labels, Tensor):
        labels = labels.detach().cpu()
    known = torch.as_tensor(whole_numbers(labels, "labels"))
    n, classes = logits.shape
    if known.shape != (n,):
        raise InterpNetError(f"labels has shape {tuple(known.shape)}; expected one class number for each of {n} images")
    if bool(((known < 0) | (known >= classes)).any()):
        raise InterpNetError(f"labels hold a class outside 0..{classes - 1}")
    return known.to(logits.device)


def _drawn(labels: Tensor, sure: Tensor, side: int, grids: int, seed: int) -> Tensor:
    """Return image numbers (G, side * side): of each grid's classes, all different, a sure image each."""
    numbers = sure.nonzero()[:, 0].cpu()
    own = labels.cpu()[numbers]
    present = torch.tensor(sorted(set(own.tolist())))
    if len(present) < side * side:
        raise DataError(
            f"{len(present)} classes have images that are classified right with the confidence asked for; a grid "
            f"needs {side * side}. Pass more images, a smaller side or a lower confidence"
        )
    generator = torch.Generator().manual_seed(int(seed))
    found = []
    for _ in range(grids):
        chosen = present[torch.randperm(len(present), generator=generator)[: side * side]]
        row = []
        for one in chosen:
            candidates = numbers[own == one]
            row.append(candidates[torch.randint(len(candidates), (), generator=generator)])
        found.append(torch.stack(row))
    return torch.stack(found).to(labels.device)


def _joined(images: Tensor, which: Tensor, side: int, *, resize: bool) -> Tensor:
    """Return grids (G, C, side * H, side * W) of images, or (G, C, H, W)."""
    count = len(which)
    _, colours, height, width = images.shape
    cells = images[which].view(count, side, side, colours, height, width)
    grids = cells.permute(0, 3, 1, 4, 2, 5).reshape(count, colours, side * height, side * width)
    if resize:
        return F.interpolate(grids, size=(height, width), mode="bilinear", antialias=True)
    return grids


def _cells(grids: Tensor, side: int) -> Tensor:
    """Return the number (height, width) of the cell in which each pixel's centre lies."""
    rows, columns = ((2 * torch.arange(n, device=grids.device) + 1) * side // (2 * n) for n in grids.shape[2:])
    return rows[:, None] * side + columns


def _check_taken(model: nn.Module, grids: Tensor, output: Output | None) -> None:
    """Raise :class:`ModelError` unless the model takes images of the grids' size."""
    try:
        logits_in_parts(model, grids[:1], 1, output)
    except (InterpNetError, RuntimeError, ValueError, IndexError) as error:
        raise ModelError(
            f"the model does not take grids of {tuple(grids.shape[2:])} pixels ({error}); pass resize=True, which "
            "scales them to the size of one image"
        ) from error
