"""Good calls of the public functions that take no network: measures, sums, regressions, loaders, files."""

from __future__ import annotations

from typing import Any

import numpy as np

import interpnet as ip
from experiments.reliability.odd_calls import Call


def _loader_of(**options: Any) -> Any:
    data = ip.ImageData.from_dataset(
        [(np.full((4, 4, 3), 20 * i, np.uint8), i % 2) for i in range(6)], classes=["a", "b"]
    )
    return [batch.images for batch in ip.make_loader(data, **options)]


_SOLVE = {"positive": "flag", "tol": "number"}
#: By name.
CALLS_OF_NUMBERS = {
    "iou_auc": Call(
        ip.evaluate.iou_auc,
        lambda s: {"heatmaps": s.maps, "masks": s.masks, "thresholds": 11},
        {"heatmaps": "maps", "masks": "maps", "thresholds": "count"},
    ),
    "pointing_game": Call(
        ip.evaluate.pointing_game,
        lambda s: {"heatmaps": s.maps, "masks": s.masks, "tolerance": 1.0},
        {"heatmaps": "maps", "tolerance": "number"},
    ),
    "spearman": Call(ip.evaluate.spearman, lambda s: {"a": s.maps, "b": s.maps.square()}, {"a": "maps", "b": "maps"}),
    "ssim": Call(
        ip.evaluate.ssim,
        lambda s: {"a": s.maps, "b": s.maps.square(), "window": 5},
        {"a": "maps", "b": "maps", "window": "count"},
    ),
    "checkerboard": Call(
        ip.evaluate.checkerboard,
        lambda s: {"maps": s.maps, "stride": 2, "width": 0.25},
        {"maps": "maps", "stride": "count", "width": "number"},
    ),
    "Gram.from_scores": Call(
        ip.Gram.from_scores,
        lambda s: {"X": s.table.X, "L": s.labels.numpy(), "n_classes": 3, "block": 4},
        {"X": "matrix", "L": "labels", "n_classes": "count", "block": "count"},
    ),
    "interpret": Call(
        ip.interpret,
        lambda s: {"source": s.table, "mu": 1.0, "positive": False, "tol": 1e-9},
        {"mu": "number", **_SOLVE, "source": "path"},
    ),
    "MuLasso.fit": Call(
        lambda X, y, **options: ip.MuLasso(**options).fit(X, y).coef_,
        lambda s: {"X": s.table.X, "y": s.labels.numpy(), "mu": 1.0, "positive": False, "max_iter": 1000},
        {"X": "matrix", "y": "labels", "mu": "number", "positive": "flag", "max_iter": "count"},
        also=(ValueError, TypeError),  # scikit-learn checks X and y of its estimators, in its own words
    ),
    "mulasso_path": Call(
        ip.mulasso_path,
        lambda s: {"gram": s.gram, "mus": np.array([0.5, 1.0]), "positive": False},
        {"positive": "flag", "gram": "path"},
    ),
    "mulasso_breakpoints": Call(
        lambda **k: [one.coef.toarray() for one in ip.mulasso_breakpoints(**k)],
        lambda s: {"gram": s.gram, "mu": 1.0, **dict.fromkeys(["positive"], False)},
        {"mu": "number", "positive": "flag", "gram": "path"},
    ),
    "stability_selection": Call(
        ip.stability_selection,
        lambda s: {
            "X": np.tile(s.table.X, (4, 1)),
            "y": np.tile(s.labels.numpy(), 4),
            "mu": 1.0,
            "n_pairs": 2,
            "n_blocks": 4,
            "seed": 0,
            "progress": False,
        },
        {"mu": "number", "n_pairs": "count", "n_blocks": "count", "seed": "seed"},
    ),
    "tsne": Call(
        ip.pictures.tsne,
        lambda s: {"vectors": s.table.X, "perplexity": 2.0, "seed": 0},
        {"vectors": "matrix", "perplexity": "number", "seed": "seed"},
    ),
    "nearest_images": Call(
        ip.pictures.nearest_images,
        lambda s: {"vectors": s.table.X, "k": 2},
        {"vectors": "matrix", "k": "count"},
    ),
    "make_loader": Call(
        _loader_of,
        lambda _s: {"batch_size": 2, "shuffle": False, "num_workers": 0, "seed": 0},
        {"batch_size": "count", "shuffle": "flag", "seed": "seed"},
    ),
    "load_model": Call(
        ip.load_model,
        lambda _s: {"spec": "torchvision:resnet18", "weights": "random"},
        {"spec": "path", "weights": "path"},
    ),
    "load_dataset": Call(lambda **k: ip.load_dataset(**k).picture(0), lambda _s: {"spec": "digits"}, {"spec": "path"}),
    "ScoreTable.load": Call(ip.ScoreTable.load, lambda _s: {"folder": "."}, {"folder": "path"}),
    "Gram.load": Call(ip.Gram.load, lambda _s: {"path": "."}, {"path": "path"}),
    "Interpretation.load": Call(ip.Interpretation.load, lambda _s: {"path": "."}, {"path": "path"}),
    "Stability.load": Call(ip.Stability.load, lambda _s: {"path": "."}, {"path": "path"}),
}
