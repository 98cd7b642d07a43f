"""The maps that M1 compares: settings of the channels' maps, and the methods of the literature with their blurs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from experiments.common.maps import OPTIONS, quietly
from experiments.maps.subjects import Subject
from interpnet.errors import ModelError
from interpnet.explanation import blurred, combine, explain, normalise, reduce_colours, saturated

K = 3  # channels of an image
#: Standard deviations of a Gaussian, in shares of the shorter side, that every method may take; 0: the map itself.
BLURS = (0.0, 0.01, 0.02, 0.04, 0.06, 0.09)
SHARES = (1.0, 0.99)  # of a map's pixels below which its scale is linear
METHODS = (
    "lrp_epsilon_plus_flat",
    "lrp_gamma",
    "integrated_gradients",
    "guided",
    "guided_gradcam++",
    "gradcam++",
    "layercam",
    "smoothgrad",
    "lime",
)
CONTROLS = ("edge", "center", "random")


@dataclass(frozen=True)
class Setting:
    """How the maps of an image's channels are made."""

    choose: str = "weight"
    rule: str = "guided"
    resample: bool = True
    seed: str = "activation"
    blur: float = 0.0
    saturate: float = 1.0
    combination: str = "max"

    def __str__(self) -> str:
        how = ("plain", "resampled")[self.resample]
        words = [self.choose, f"{self.rule} {how}", self.seed]
        words += [self.combination] * (self.combination != "max")
        words += [f"blur {100 * self.blur:g} %"] * (self.blur > 0) + ["saturated"] * (self.saturate < 1)
        return ", ".join(words)


PAPER = Setting()
#: What was chosen before relevance could start a signal and maps be added; reported to see what that changed.
BEFORE = Setting("named", "lrp_gamma", resample=False, seed="contribution", blur=0.01, saturate=0.99)
_SEEDS = ("activation", "contribution", "relevance")
_COMBINATIONS = ("max", "sum")
_RULES = (
    ("guided", True),
    ("guided", False),
    ("lrp_epsilon_plus_flat", False),
    ("lrp_epsilon_plus_flat", True),
    ("lrp_gamma", False),
)


def grid() -> list[Setting]:
    """Return the settings that are tried on the development half."""
    parts = itertools.product(("weight", "contribution", "named", "all"), _RULES, _SEEDS)
    raw = [Setting(choose, *rule, seed) for choose, rule, seed in parts if _possible(rule[0], seed)]
    ends = list(itertools.product((0.0, 0.01, 0.02, 0.04), SHARES, _COMBINATIONS))
    return [replace(one, blur=b, saturate=s, combination=c) for one in raw for b, s, c in ends]


def _possible(rule: str, seed: str) -> bool:
    """Whether signals by a rule can start so: only LRP sends relevance."""
    return seed != "relevance" or rule.startswith("lrp")


def settings_of(chosen: Setting) -> list[Setting]:
    """Return what the report measures: the chosen setting, the paper's, and every single change of the chosen one."""
    changes: list[dict[str, Any]] = [{"choose": c} for c in ("weight", "contribution", "named", "all")]
    for rule, resample in _RULES:
        seed = chosen.seed if _possible(rule, chosen.seed) else "contribution"
        changes.append({"rule": rule, "resample": resample, "seed": seed})
    changes += [{"seed": seed} for seed in _SEEDS if _possible(chosen.rule, seed)]
    changes += [{"combination": combination} for combination in _COMBINATIONS]
    changes += [
        {"blur": 0.0},
        {"saturate": 1.0},
        {"blur": 0.0, "saturate": 1.0},
    ]
    found = [chosen, PAPER, BEFORE, *(replace(chosen, **change) for change in changes)]
    return list(dict.fromkeys(found))


def finished(maps: Tensor, blur: float, share: float) -> Tensor:
    """Return maps (..., H, W) blurred, by a share of the shorter side, with their peaks cut."""
    return saturated(blurred(maps, blur * min(maps.shape[-2:])), share)


def channel_maps(subject: Subject, start: Setting, rows: slice, k: int = K) -> Tensor | None:
    """Return the maps (B, k, H, W) of each image's channels for its true class, before they are blurred or cut.

    None where no image tells the weights that the setting asks for, or the network has an operator without a rule.
    """
    images, labels = subject.images[rows], subject.labels[rows]
    if start.choose == "weight" and not len(subject.ranked):
        return None
    found = subject.by_weight if start.choose == "weight" else subject.by_reliance
    how = {name: getattr(start, name) for name in ("choose", "rule", "resample", "seed")}
    try:
        shown = explain(subject.model, images, found, k=k, classes=labels, **how)
    except ModelError:
        return None
    return reduce_colours(shown.signals, ("abs", "sum")[start.rule.startswith("lrp")])


def together(maps: Tensor, setting: Setting) -> Tensor:
    """Return one map (B, H, W) of those of several channels, blurred, cut and scaled as a setting says."""
    if setting.combination == "sum":
        return normalise(saturated(finished(maps, setting.blur, 1.0).sum(1), setting.saturate))
    each = normalise(finished(maps, setting.blur, setting.saturate))
    return combine(each, torch.ones(each.shape[:2], device=each.device))


def maps_of(subject: Subject, wanted: list[Setting], rows: slice) -> Iterator[tuple[Setting, Tensor]]:
    """Yield the maps (B, H, W) of some settings for the true classes; those that share signals share the passes."""
    raw: dict[Setting, list[Setting]] = {}
    for one in wanted:
        raw.setdefault(replace(one, blur=0.0, saturate=1.0, combination="max"), []).append(one)
    for start, own in raw.items():
        maps = channel_maps(subject, start, rows)
        if maps is not None:
            for one in own:
                yield one, together(maps, one)


def attributions(subject: Subject, rows: slice) -> Iterator[tuple[str, float, float, Tensor]]:
    """Yield (method, blur, share, maps) of the literature's methods and the controls: what speaks for the class."""
    images, labels = subject.images[rows], subject.labels[rows]
    for name in (*METHODS, *CONTROLS):
        try:
            raw = quietly(subject.model, images, labels, name, **OPTIONS.get(name, {}))
        except ModelError:
            continue
        for blur in BLURS:
            smooth = finished(raw.float(), blur, 1.0).clamp(min=0)
            for share in SHARES:
                yield name, blur, share, saturated(smooth, share)
