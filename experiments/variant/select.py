"""V, first half: measure every variant on single-6c and keep the best; see run.py."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.common.flower_networks import trained
from experiments.variant.grid import PAPER, Setting, maps_of_settings
from interpnet.datasets import ImageData, load_dataset, make_loader, stack_images
from interpnet.engine import find_sites
from interpnet.errors import DataError
from interpnet.evaluate import iou_auc
from interpnet.scores import collect_scores

_BATCH = 20


def precision(maps: Tensor, masks: Tensor) -> Tensor:
    """Return the average precision (B,) of pixels ranked by their map: unlike IoU-AUC, it knows no scale.

    ``mean over the mask's pixels of (mask pixels ranked at least as high) / (pixels ranked at least as high)``, ties
    counted as ranked together. Source: Everingham et al., IJCV 2010, without interpolation.

    Examples
    --------
    >>> precision(torch.tensor([[[3.0, 2.0, 1.0]]]), torch.tensor([[[True, False, True]]]))
    tensor([0.8333], dtype=torch.float64)
    """
    flat, inside = maps.flatten(1).double(), masks.flatten(1)
    values, order = flat.sort(1, descending=True)
    hits = inside.gather(1, order)
    # Of equal values the last one's counts hold for all.
    last = flat.shape[1] - 1 - torch.searchsorted(values.flip(1).contiguous(), values, side="left")
    right = hits.cumsum(1).gather(1, last).double()
    share: Tensor = (right / (last + 1) * hits).sum(1) / hits.sum(1)
    return share


def images_of(variant: str, work: Path, n_images: int, options: str = "") -> tuple[ImageData, ImageData, list[int]]:
    """Return training and test images, and which of the test images are used."""
    train_on, test_on = (load_dataset(f"an8flower-{variant}{options}", split=s, root=work) for s in ("train", "test"))
    return train_on, test_on, list(range(min(n_images, len(test_on))))


def mask_of(data: ImageData, which: list[int]) -> Tensor:
    """Return the discriminative pixels (B, H, W) of some images."""
    if data.masks is None:
        raise DataError("the data has no masks; expected an8flower")
    return torch.from_numpy(data.masks["discriminative"][which])


def measured(seed: int, work: Path, *, n_images: int, options: str = "", epochs: int | None = None) -> dict[str, Any]:
    """Return one small network's line: for every setting, IoU-AUC and average precision, the means over images."""
    began = time.perf_counter()
    train_on, test_on, chosen = images_of("single-6c", work, n_images, options)
    model, reached = trained(
        "smallcnn", train_on, test_on, seed, work / f"single-6c-smallcnn-{seed}.safetensors", epochs
    )
    table = collect_scores(model, make_loader(train_on, batch_size=64), progress=False)
    values: dict[Setting, tuple[list[float], list[float]]] = {}
    for start in range(0, len(chosen), _BATCH):
        which = chosen[start : start + _BATCH]
        images, labels = stack_images(test_on, which), torch.as_tensor(test_on.labels[which])
        trace, inside = find_sites(model, images[:1]), mask_of(test_on, which)
        for setting, maps in maps_of_settings(model, images, labels, table, train_on.classes, trace):
            iou, ranked = values.setdefault(setting, ([], []))
            iou += iou_auc(maps, inside, constant="zero").values.tolist()
            ranked += precision(maps, inside).tolist()
    rows = [
        {**s.named(), "iou": round(float(np.mean(a)), 5), "precision": round(float(np.mean(b)), 5)}
        for s, (a, b) in values.items()
    ]
    return {"seed": seed, "accuracy": reached, "n_images": len(chosen), "settings": rows,
            "seconds": round(time.perf_counter() - began, 1)}  # fmt: skip


def ranked(lines: list[dict[str, Any]], measure: str = "iou") -> list[tuple[Setting, float, float]]:
    """Return the settings with mean and standard deviation over networks of a measure, best first."""
    values: dict[Setting, list[float]] = {}
    for line in lines:
        for row in line["settings"]:
            setting = Setting(**{k: row[k] for k in PAPER.named()})
            values.setdefault(setting, []).append(row[measure])
    found = [(s, float(np.mean(v)), float(np.std(v, ddof=1)) if len(v) > 1 else 0.0) for s, v in values.items()]
    return sorted(found, key=lambda x: -x[1])


def chosen(lines: list[dict[str, Any]]) -> Setting:
    """Return the setting with the largest mean IoU-AUC on single-6c; of equals the one nearest the paper's."""
    found = ranked(lines)
    best = [s for s, mean, _ in found if mean >= found[0][1] - 1e-4]
    return min(best, key=lambda s: sum(v != PAPER.named()[k] for k, v in s.named().items()))


def alone(lines: list[dict[str, Any]]) -> list[tuple[str, Any, list[float], list[float]]]:
    """Return what each single change of the paper's variant does: (field, value, IoU-AUC and precision by network)."""
    found = []
    for field, usual in PAPER.named().items():
        every = dict.fromkeys(row[field] for row in lines[0]["settings"])
        for value in every:
            if value == usual:
                continue
            wanted = {**PAPER.named(), field: value}
            found.append((field, value, *(_differences(lines, wanted, m) for m in ("iou", "precision"))))
    return found


def _differences(lines: list[dict[str, Any]], wanted: dict[str, Any], measure: str) -> list[float]:
    return [_value(line, wanted, measure) - _value(line, PAPER.named(), measure) for line in lines]


def _value(line: dict[str, Any], wanted: dict[str, Any], measure: str) -> float:
    for row in line["settings"]:
        if all(row[k] == v for k, v in wanted.items()):
            return float(row[measure])
    raise KeyError(f"no line for {wanted}")
