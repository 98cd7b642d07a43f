"""What every measure returns: a number for each image, with all that is needed to read it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from interpnet.ablation import interval
from interpnet.errors import InterpNetError, did_you_mean
from interpnet.support.brief import brief

HIGHER, LOWER = "higher is better", "lower is better"


@brief
@dataclass(frozen=True, eq=False)
class Score:
    """One number per image, what it means, and the curve it comes from.

    Examples
    --------
    >>> import torch
    >>> score = measure("iou_auc").score(torch.tensor([0.25, 0.5]))
    >>> score.mean, score.direction, score.range
    (0.375, 'higher is better', (0.0, 1.0))
    """

    values: Tensor  # (B,), float64 on the maps' device (float32 on devices that have no float64)
    name: str
    direction: str  # "higher is better" or "lower is better"
    range: tuple[float, float]  # the least and the largest value there can be
    reference: str
    curve: Tensor | None = None  # (B, T): what the values sum up, where there is such a curve
    thresholds: Tensor | None = None  # (T,): where the curve was taken
    # The same measure of maps that know nothing of the network, on the same images.
    controls: Mapping[str, Score] = field(default_factory=dict)
    flagged: Tensor | None = None  # (B,) of bool: images with a constant map; only with constant="zero" is one true

    @property
    def mean(self) -> float:
        """Return the mean over the images."""
        return float(self.values.mean())

    def interval(self, level: float = 0.95, *, against: Score | None = None) -> tuple[float, float]:
        """Return the Student-t interval of the mean over the images, within the range; NaN for one image.

        ``against``: another map's score of the same measure on the same images. The interval is then that of this
        score less the other, paired over the images, and narrower than the two intervals let expect.

        Examples
        --------
        >>> import torch
        >>> score = measure("iou_auc").score(torch.tensor([0.25, 0.5, 0.75, 0.5]))
        >>> tuple(round(end, 3) for end in score.interval())
        (0.175, 0.825)
        >>> other = measure("iou_auc").score(torch.tensor([0.25, 0.25, 0.5, 0.5]))
        >>> tuple(round(end, 3) for end in score.interval(against=other))
        (-0.105, 0.355)
        """
        values = self.values.detach().cpu().double()
        least, most = self.range
        if against is not None:
            if against.name != self.name or len(against.values) != len(values):
                raise InterpNetError(
                    f"against: {against.name} of {len(against.values)} images came, and {self.name} of {len(values)} "
                    "is compared with it; expected the same measure of the same images"
                )
            values = values - against.values.detach().cpu().double()
            least -= against.range[1]
            most -= against.range[0]
        if len(values) < 2:
            return math.nan, math.nan
        low, high = interval(values.numpy(), level)
        return max(low, least), min(high, most)


@dataclass(frozen=True)
class Measure:
    """A measure that this package knows; see :class:`Score`."""

    name: str
    direction: str
    range: tuple[float, float]
    reference: str
    summary: str  # what it asks

    def score(self, values: Tensor, *, range: tuple[float, float] | None = None, **more: Any) -> Score:  # noqa: A002
        """Return ``values`` (B,) as a :class:`Score` of this measure."""
        return Score(values, self.name, self.direction, range or self.range, self.reference, **more)


_SHARE = (0.0, 1.0)
_ALIKE = (-1.0, 1.0)
_POSITIVE = (0.0, math.inf)
_RISES = (-1.0, math.inf)

_VEBI = "Oramas, Wang & Tuytelaars 2019, Visual Explanation by Interpretation (ICLR)"
_NIE = "Nie, Zhang & Patel 2018 (ICML), Adebayo et al. 2018 (NeurIPS)"
_ADEBAYO = "Adebayo et al. 2018, Sanity Checks for Saliency Maps (NeurIPS)"
_RISE = "Petsiuk, Das & Saenko 2018, RISE (BMVC)"
_ZHANG = "Zhang et al. 2018, Top-Down Neural Attention by Excitation Backprop (IJCV)"
_BLUECHER = "Bluecher, Vielhaben & Strodthoff 2024, Decoupling Pixel Flipping and Occlusion Strategy (TMLR)"
_CHALASANI = "Chalasani et al. 2020, Concise Explanations of Neural Networks (ICML); Hurley & Rickard 2009"
_BHATT = "Bhatt, Weller & Moura 2020, Evaluating and Aggregating Feature-based Model Explanations (IJCAI)"
_WANG = "Wang et al. 2020, Score-CAM (CVPR Workshops)"
_CHOE = "Choe et al. 2020, Evaluating Weakly Supervised Object Localization Methods Right (CVPR)"
_YEH = "Yeh et al. 2019, On the (In)fidelity and Sensitivity of Explanations (NeurIPS)"
_RAO = "Rao, Boehle & Schiele 2022, Towards Better Understanding Attribution Methods (CVPR)"
_HEDSTROEM = "Hedstroem et al. 2023, Sanity Checks Revisited (XAI in Action, NeurIPS)"
_OURS = "this project; see interpnet.evaluate.checkerboard"

_CLASSES = "of two classes' maps of an image"
_RANDOM = "of the maps before and after the weights are randomised"
_BY = "when the weights are randomised"

# docs/method.md, section 6.
_MEASURES = (
    Measure("iou_auc", HIGHER, _SHARE, _VEBI, "overlap of the thresholded map and a mask, over all thresholds"),
    Measure("pointing_game", HIGHER, _SHARE, _ZHANG, "whether the map's maximum lies in a mask"),
    Measure("energy_pointing", HIGHER, _SHARE, _WANG, "the share of the map's positive values that lies in a mask"),
    Measure("segment_iou", HIGHER, _SHARE, _CHOE, "overlap of a mask and the map cut where other images say"),
    Measure("segment_precision", HIGHER, _SHARE, _CHOE, "the share of the pixels so marked that are in the mask"),
    Measure("segment_recall", HIGHER, _SHARE, _CHOE, "the share of the mask's pixels that are so marked"),
    Measure("grid_pointing_game", HIGHER, _SHARE, _RAO, "share of a class's map on its own image in a grid of images"),
    Measure("disconnected_pointing_game", HIGHER, _SHARE, _RAO, "the same where the network sees one cell alone"),
    Measure("deletion", LOWER, _SHARE, _RISE, "how fast the class goes as the map's pixels are taken away"),
    Measure("insertion", HIGHER, _SHARE, _RISE, "how fast the class comes as the map's pixels are put in"),
    Measure("symmetric_relevance_gain", HIGHER, _ALIKE, _BLUECHER, "deletion lowest first, less highest first"),
    Measure("infidelity", LOWER, _POSITIVE, _YEH, "whether the map's sums over patches are what the score falls by"),
    Measure("max_sensitivity", LOWER, _POSITIVE, _YEH, "how much the map changes with a small change of the image"),
    Measure("class_sensitivity_spearman", LOWER, _ALIKE, _NIE, f"rank correlation {_CLASSES}"),
    Measure("class_sensitivity_ssim", LOWER, _ALIKE, _NIE, f"structural similarity {_CLASSES}"),
    Measure("parameter_randomisation_spearman", LOWER, _ALIKE, _ADEBAYO, f"rank correlation {_RANDOM}"),
    Measure("parameter_randomisation_ssim", LOWER, _ALIKE, _ADEBAYO, f"structural similarity {_RANDOM}"),
    Measure(
        "efficient_randomisation", HIGHER, _RISES, _HEDSTROEM, f"how much more the values of the map scatter {_BY}"
    ),
    Measure("sparseness", HIGHER, _SHARE, _CHALASANI, "Gini index of the map's absolute values"),
    Measure("complexity", LOWER, _POSITIVE, _BHATT, "entropy of the map's absolute values"),
    Measure("checkerboard", LOWER, _SHARE, _OURS, "share of a map's energy at the frequencies of a stride"),
)
_KNOWN = {m.name: m for m in _MEASURES}


def measures() -> tuple[Measure, ...]:
    """Return the measures of this package, with direction, range and reference.

    Examples
    --------
    >>> {m.name: m.direction for m in measures()}["deletion"]
    'lower is better'
    """
    return tuple(_KNOWN.values())


def measure(name: str) -> Measure:
    """Return the measure of that name, or raise :class:`InterpNetError` with close matches."""
    if name not in _KNOWN:
        raise InterpNetError(
            f"unknown measure {name!r}{did_you_mean(name, _KNOWN)}; expected one of {', '.join(_KNOWN)}"
        )
    return _KNOWN[name]
