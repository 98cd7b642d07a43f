"""Class sensitivity: how alike the maps of different classes of the same image are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from interpnet.engine import WHOLE_TYPES, check_images, unwrap
from interpnet.errors import InterpNetError
from interpnet.evaluate._checks import check_made, checked_maps
from interpnet.evaluate._score import Score, measure
from interpnet.evaluate._similarity import check_window, correlated, ssim, standard_ranks
from interpnet.explanation import normalise
from interpnet.support.brief import brief
from interpnet.support.checks import check_kinds, shown

ExplainClass = Callable[[nn.Module, Tensor, Tensor], Tensor]


@brief
@dataclass(frozen=True, eq=False)
class ClassSensitivity:
    """How alike the maps of different classes are; low values mean that the maps depend on the class."""

    spearman: Score  # values (B,): the mean over all pairs of classes; curve (B, P): the pairs
    ssim: Score
    pairs: tuple[tuple[int, int], ...]  # the P pairs, as places in the class axis


def class_sensitivity(
    maps: Tensor | ExplainClass,
    model: nn.Module | None = None,
    images: Tensor | None = None,
    classes: Sequence[int] | Tensor | None = None,
    *,
    absolute: bool = False,
    window: int = 11,
    constant: str = "error",
) -> ClassSensitivity:
    """Return how alike each image's maps for different classes are, by rank correlation and by structure.

    A map that hardly changes when another class is asked for shows the image, not the decision. Low is good, down to
    0, unrelated; below 0 the maps oppose each other, which for two classes that share all evidence is natural. Random
    maps score 0 as well: the measure finds maps that ignore the class and says nothing else of them.

    Parameters
    ----------
    maps : Tensor (B, K, H, W), or function
        One map for each of K classes, at least two, of the same method. A function
        ``maps(model, images, target) -> (B, H, W)`` with ``target`` (B,) makes them, for example
        ``lambda m, x, t: attribute(m, x, t, "gradcam")``.
    model, images, classes
        For a function only: its arguments, and the K class numbers to ask for, the same for all images (K,) or each
        image's own (B, K).
    absolute : bool
        Compare absolute values: signed methods often return a class's map as the negative of another's.
    window : int
        Of the structural similarity; see :func:`interpnet.evaluate.ssim`.
    constant : {"error", "zero"}
        Refuse a constant map, or compare it as zeros (like another constant one, unlike any other) and flag the image.

    Returns
    -------
    ClassSensitivity

    Raises
    ------
    DataError
        Maps that are constant or hold NaN (the images are named), or of another shape.
    InterpNetError
        Fewer than two classes, a class twice, or arguments that do not go together.

    References
    ----------
    Nie, Zhang & Patel 2018; Adebayo et al. 2018; Oramas et al. 2019, section 4.4. Structure: Wang et al. 2004.

    Examples
    --------
    >>> maps = torch.arange(242.0).view(1, 1, 11, 22) * torch.tensor([1.0, 2.0, -1.0]).view(1, 3, 1, 1)
    >>> found = class_sensitivity(maps)
    >>> found.pairs, [round(v, 6) for v in found.spearman.curve[0].tolist()]
    (((0, 1), (0, 2), (1, 2)), [1.0, -1.0, -1.0])
    """
    check_kinds(class_sensitivity, locals(), but=["classes"])
    if callable(maps) and not isinstance(maps, Tensor):
        maps = _explained(maps, model, images, classes)
    elif model is not None or images is not None or classes is not None:
        raise InterpNetError("model, images and classes go with a function that makes the maps; a tensor has them made")
    wanted, flat = checked_maps(maps, "maps", axes="B, K, H, W", constant=constant)
    k = wanted.shape[1]
    if k < 2:
        raise InterpNetError(f"maps of {k} class came; expected at least two classes to compare")
    check_window(window, wanted)
    if absolute:
        wanted, flat = checked_maps(wanted.abs(), "absolute maps", axes="B, K, H, W", constant=constant)
    # docs/method.md, section 6.2: ranks and scaled maps are made once, and compared pair by pair.
    ordered = standard_ranks(wanted)
    scaled = normalise(wanted)
    order = []
    structure = []
    for i in range(k - 1):
        # One class against all after it: memory stays that of the maps.
        order.append(correlated(ordered[:, i : i + 1], ordered[:, i + 1 :]))
        structure.append(ssim(scaled[:, i : i + 1], scaled[:, i + 1 :], window=window))
    pairs = tuple((i, j) for i in range(k) for j in range(i + 1, k))
    return ClassSensitivity(
        spearman=_score("class_sensitivity_spearman", torch.cat(order, 1), flat.any(1)),
        ssim=_score("class_sensitivity_ssim", torch.cat(structure, 1), flat.any(1)),
        pairs=pairs,
    )


def _score(name: str, curve: Tensor, flagged: Tensor) -> Score:
    return measure(name).score(curve.mean(1), curve=curve, flagged=flagged)


def _explained(
    explain: ExplainClass, model: nn.Module | None, images: Tensor | None, classes: Sequence[int] | Tensor | None
) -> Tensor:
    """Return the maps (B, K, H, W) that a function makes for the classes."""
    if model is None or images is None or classes is None:
        raise InterpNetError("a function that makes the maps came without model, images or classes; pass all three")
    model = unwrap(model)
    images = check_images(images)
    try:
        asked = torch.as_tensor(classes)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InterpNetError(f"classes: {shown(classes)} came; expected class numbers (K,) or (B, K)") from error
    if asked.dim() == 1:
        asked = asked.expand(images.shape[0], -1)
    if asked.dim() != 2 or asked.shape[0] != images.shape[0] or asked.dtype not in WHOLE_TYPES:
        raise InterpNetError(
            f"classes: shape {tuple(asked.shape)}, {asked.dtype} came; expected class numbers (K,), or "
            f"(B, K) for each of {images.shape[0]} images"
        )
    # Sorted, equal class numbers of one image stand side by side.
    ordered = asked.sort(1).values
    if bool((ordered.diff(dim=1) == 0).any()):
        raise InterpNetError(f"classes {asked[0].tolist()} hold a class twice; its two maps would be the same")
    made = [explain(model, images, asked[:, i].contiguous()) for i in range(asked.shape[1])]
    for i, m in enumerate(made):
        check_made(m, images, f"maps: the function returned {{}} for class {i}")
    return torch.stack(made, 1)
