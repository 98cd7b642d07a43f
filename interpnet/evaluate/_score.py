"""What every measure returns: a number for each image, with all that is needed to read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from interpnet.errors import InterpNetError, did_you_mean

HIGHER, LOWER = "higher is better", "lower is better"


@dataclass(frozen=True, eq=False)
class Score:
    """One number an image, what it means, and the curve it comes from.

    Attributes
    ----------
    values : Tensor (B,), float64
        On the maps' device (float32 on devices that have no float64).
    name : str
    direction : str
        ``"higher is better"`` or ``"lower is better"``.
    range : (float, float)
        The least and the largest value there can be.
    reference : str
    curve : Tensor (B, T) or None
        What ``values`` sum up, where there is such a curve.
    thresholds : Tensor (T,) or None
        Where the curve was taken.
    controls : mapping of str to Score
        The same measure of maps that know nothing of the network, on the same images.
    flagged : Tensor (B,) of bool, or None
        Images with a constant map; only with ``constant="zero"`` can one be true.

    Examples
    --------
    >>> import torch
    >>> score = measure("iou_auc").score(torch.tensor([0.25, 0.5]))
    >>> score.mean, score.direction, score.range
    (0.375, 'higher is better', (0.0, 1.0))
    """

    values: Tensor
    name: str
    direction: str
    range: tuple[float, float]
    reference: str
    curve: Tensor | None = None
    thresholds: Tensor | None = None
    controls: Mapping[str, Score] = field(default_factory=dict)
    flagged: Tensor | None = None

    @property
    def mean(self) -> float:
        """Return the mean over the images."""
        return float(self.values.mean())


@dataclass(frozen=True)
class Measure:
    """A measure that this package knows.

    Attributes
    ----------
    name, direction, range, reference
        As in :class:`Score`.
    summary : str
        What it asks.
    """

    name: str
    direction: str
    range: tuple[float, float]
    reference: str
    summary: str

    def score(self, values: Tensor, *, range: tuple[float, float] | None = None, **more: Any) -> Score:  # noqa: A002
        """Return ``values`` (B,) as a :class:`Score` of this measure."""
        return Score(values, self.name, self.direction, range or self.range, self.reference, **more)


_VEBI = "Oramas, Wang & Tuytelaars 2019, Visual Explanation by Interpretation (ICLR)"
_NIE = "Nie, Zhang & Patel 2018 (ICML), Adebayo et al. 2018 (NeurIPS)"
_ADEBAYO = "Adebayo et al. 2018, Sanity Checks for Saliency Maps (NeurIPS)"
_RISE = "Petsiuk, Das & Saenko 2018, RISE (BMVC)"

_KNOWN = {
    m.name: m
    for m in (
        Measure("iou_auc", HIGHER, (0.0, 1.0), _VEBI, "overlap of the thresholded map and a mask, over all thresholds"),
        Measure(
            "pointing_game",
            HIGHER,
            (0.0, 1.0),
            "Zhang et al. 2018, Top-Down Neural Attention by Excitation Backprop (IJCV)",
            "whether the map's maximum lies in a mask",
        ),
        Measure("deletion", LOWER, (0.0, 1.0), _RISE, "how fast the class goes as the map's pixels are taken away"),
        Measure("insertion", HIGHER, (0.0, 1.0), _RISE, "how fast the class comes as the map's pixels are put in"),
        Measure(
            "class_sensitivity_spearman", LOWER, (-1.0, 1.0), _NIE, "rank correlation of two classes' maps of an image"
        ),
        Measure(
            "class_sensitivity_ssim", LOWER, (-1.0, 1.0), _NIE, "structural similarity of two classes' maps of an image"
        ),
        Measure(
            "parameter_randomisation_spearman",
            LOWER,
            (-1.0, 1.0),
            _ADEBAYO,
            "rank correlation of the maps before and after the weights are randomised",
        ),
        Measure(
            "parameter_randomisation_ssim",
            LOWER,
            (-1.0, 1.0),
            _ADEBAYO,
            "structural similarity of the maps before and after the weights are randomised",
        ),
        Measure(
            "checkerboard",
            LOWER,
            (0.0, 1.0),
            "this project; see interpnet.evaluate.checkerboard",
            "share of a map's energy at the frequencies of a stride",
        ),
    )
}


def measures() -> tuple[Measure, ...]:
    """Return the measures of this package, with direction, range and reference.

    Examples
    --------
    >>> [m.name for m in measures() if m.direction == "higher is better"]
    ['iou_auc', 'pointing_game', 'insertion']
    """
    return tuple(_KNOWN.values())


def measure(name: str) -> Measure:
    """Return the measure of that name, or raise :class:`InterpNetError` with close matches."""
    if name not in _KNOWN:
        raise InterpNetError(
            f"unknown measure {name!r}{did_you_mean(name, _KNOWN)}; expected one of {', '.join(_KNOWN)}"
        )
    return _KNOWN[name]
