"""Parameter randomisation: whether a map changes when the network's weights are replaced by random ones."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from interpnet.attribution import draw, image_generators
from interpnet.engine import beside, check_images, unwrap
from interpnet.errors import DataError, ModelError
from interpnet.evaluate._checks import check_made, checked_maps
from interpnet.evaluate._reinitialise import HOW, output_sizes, redraw, settle, weighted_layers
from interpnet.evaluate._score import Score, measure
from interpnet.evaluate._similarity import check_window, spearman, ssim
from interpnet.support.brief import brief
from interpnet.support.checks import check_kinds, one_of, whole_number

Explain = Callable[[nn.Module, Tensor], Tensor]


@brief
@dataclass(frozen=True, eq=False)
class ParameterRandomisation:
    """How alike the maps before and after randomising are; low values mean that the maps depend on the weights.

    The scores are of the maps, or (``_abs``) of their absolute values. ``values`` (B,): after the last stage, where
    all weights are random; ``curve`` (B, S): the stages; ``thresholds`` (S,): the shares of layers that are random;
    ``controls["random"]``: a map of noise.
    """

    layers: tuple[str, ...]  # the S stages, from the output downwards: this layer and all above it are random
    spearman: Score  # rank correlation with the original map
    spearman_abs: Score
    ssim: Score  # structural similarity with it
    ssim_abs: Score
    constant: Tensor  # (B, S) of bool: the random network's map is constant, so it has no order (0)
    # Parameters that the forward pass did not show (an auxiliary classifier, say); they stayed as they were.
    unused: tuple[str, ...]


def parameter_randomisation(
    model: nn.Module,
    images: Tensor,
    explain: Explain,
    *,
    stages: int | None = None,
    how: str = "permute",
    seed: int = 0,
    window: int = 11,
    max_batch: int = 64,
    constant: str = "error",
) -> ParameterRandomisation:
    """Return how alike each map is to the one that a network with random weights gives.

    Layers are made random one after the other, from the output downwards, on a copy of the network; after each, the
    map is made again and compared with the original. A map that stays as it was cannot explain what the weights have
    learned. Read it beside the control: noise has 0, and an edge detector 1 at every stage.

    Weights are permuted within their tensor, each layer's output is scaled to its old root mean square, and batch
    norms estimate their running statistics again, on the first ``max_batch`` of ``images``.

    Parameters
    ----------
    model : nn.Module
        Left as it was: all is done on copies.
    images : Tensor (B, C, H, W)
        As the model wants them, some tens: batch norms are estimated on them, so each value depends on all a little.
    explain : function
        ``explain(model, images) -> (B, H, W)``. Fix the class in it, for the random network predicts others:
        ``lambda m, x: attribute(m, x, target, "gradcam")``.
    stages : int, optional
        How many stages to look at, spread evenly and ending with the last; every layer by default.
    how : {"permute", "normal"}
        Shuffle each weight tensor's entries, or draw from the normal of their mean and standard deviation.
    seed : int
        Of the draw, which depends on a layer's name as well, and of the random map.
    window : int
        Of the structural similarity; see :func:`interpnet.evaluate.ssim`.
    max_batch : int
        How many images run through the network at once to settle the draw; ``explain`` gets all of them.
    constant : {"error", "zero"}
        Refuse an original map that is constant, or compare it as zeros and flag it.

    Returns
    -------
    ParameterRandomisation

    Raises
    ------
    DataError
        Maps of another shape, constant, or with NaN (images and layer are named); too few images for a batch norm.
    ModelError
        The model cannot be copied, or has no weights.

    References
    ----------
    Adebayo et al. 2018, Sanity Checks for Saliency Maps. Binder et al. 2023 (CVPR): drawing from the top leaves the
    scales of the activations below as they were, so a method that is faithful changes only so far, and noise passes
    the test; it rejects methods and does not rank them.

    Examples
    --------
    >>> from interpnet.attribution import attribute
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(484, 2)).eval()
    >>> images = torch.rand(4, 1, 13, 13)
    >>> found = parameter_randomisation(net, images, lambda m, x: attribute(m, x, 0, "edge"))
    >>> found.layers, round(found.ssim.mean, 6), found.ssim.controls["random"].mean < 0.5
    (('4', '0'), 1.0, True)
    """
    check_kinds(parameter_randomisation, locals())
    one_of(how, "how", HOW)
    whole_number(seed, "seed", least=0)
    whole_number(max_batch, "max_batch", least=1)
    model = unwrap(model)
    images = beside(model, check_images(images))
    work = _copied(model)
    some = images[:max_batch]
    found = weighted_layers(work, some)
    ends = _ends(stages, len(found.layers))
    # The copy answers like the model; the model itself is never touched.
    original, flat = _maps(explain, work, images, "the network as it is", constant)
    check_window(window, original)
    sizes = output_sizes(work, found.layers, some)
    stages_alike = []
    blank = []
    done = 0
    falling = found.layers[::-1]
    for end in ends:
        for layer in falling[done:end]:
            redraw(work, layer, how, seed)
        done = end
        # Stale are the statistics of the batch norms above the lowest layer drawn.
        stale = [name for at, name in found.norms if at > min(layer.at for layer in falling[:end])]
        settle(work, falling[:end], stale, sizes, some)
        # A random network may answer with a constant map: that is a finding, counted and not refused.
        what = f"the network random down to {falling[end - 1].name}"
        maps, blank_here = _maps(explain, work, images, what, "zero")
        if maps.shape != original.shape:
            raise DataError(f"maps: shape {tuple(maps.shape)} came after {tuple(original.shape)} before randomising")
        blank.append(blank_here)
        stages_alike.append(_alike(original, maps, window))
    # docs/method.md, section 6.2; the control is the same comparison with a map of noise.
    noise = _alike(original, _noise(images, original, seed), window)
    shares = torch.tensor([end / len(falling) for end in ends]).to(original)
    scores = {}
    for kind, control in noise.items():
        curve = torch.stack([alike[kind] for alike in stages_alike], 1)
        known = measure(f"parameter_randomisation_{kind.removesuffix('_abs')}")
        scores[kind] = known.score(
            curve[:, -1], curve=curve, thresholds=shares, controls={"random": known.score(control)}, flagged=flat
        )
    return ParameterRandomisation(
        layers=tuple(falling[end - 1].name for end in ends),
        **scores,
        constant=torch.stack(blank, 1),
        unused=found.unused,
    )


def randomised(model: nn.Module, images: Tensor, *, how: str = "permute", seed: int = 0) -> nn.Module:
    """Return a copy of a network with random weights everywhere, through which the signal keeps its size.

    As after the last stage of :func:`parameter_randomisation`: weights are permuted within their tensor, or drawn from
    the normal of their mean and standard deviation (``how="normal"``), each layer's output is scaled to its old root
    mean square, and batch norms estimate their statistics again, on ``images`` (B, C, H, W). What a measure finds in
    the copy, it finds without anything learned.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)).eval()
    >>> images = torch.rand(4, 1, 4, 4)
    >>> other = randomised(net, images)
    >>> bool((other(images) != net(images)).all())
    True
    """
    check_kinds(randomised, locals())
    one_of(how, "how", HOW)
    whole_number(seed, "seed", least=0)
    model = unwrap(model)
    images = beside(model, check_images(images))
    work = _copied(model)
    found = weighted_layers(work, images)
    sizes = output_sizes(work, found.layers, images)
    for layer in found.layers:
        redraw(work, layer, how, seed)
    settle(work, found.layers, [name for _, name in found.norms], sizes, images)
    return work


def _copied(model: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode that shares nothing with the model."""
    try:
        return copy.deepcopy(model).eval()
    except (RuntimeError, TypeError) as error:
        raise ModelError(
            f"the model cannot be copied, and randomising would spoil it: {str(error).splitlines()[0]}. A tensor with "
            "a graph kept as an attribute is the usual cause; detach it"
        ) from error


def _ends(stages: int | None, n: int) -> list[int]:
    """Return after how many of n layers to look."""
    if stages is None:
        return list(range(1, n + 1))
    # Another look at the same network would say nothing: at most one per layer.
    stages = whole_number(stages, "stages", least=1, most=n)
    return [n * (i + 1) // stages for i in range(stages)]


def _maps(explain: Explain, model: nn.Module, images: Tensor, what: str, constant: str) -> tuple[Tensor, Tensor]:
    made = explain(model, images.clone())
    check_made(made, images, f"explain returned {{}} for {what}")
    return checked_maps(made, f"maps of {what}", constant=constant)


def _alike(a: Tensor, b: Tensor, window: int) -> dict[str, Tensor]:
    return {
        "spearman": spearman(a, b),
        "spearman_abs": spearman(a.abs(), b.abs()),
        "ssim": ssim(a, b, window=window),
        "ssim_abs": ssim(a.abs(), b.abs(), window=window),
    }


def _noise(images: Tensor, maps: Tensor, seed: int) -> Tensor:
    """Return the random control, of the maps' size."""
    return draw(images, image_generators(images, seed), *maps.shape[1:]).to(maps)
