"""Good calls of the public functions, each argument with its kind; and the same results computed independently."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

import interpnet as ip
from experiments.reliability.odd_networks import Plain


class Subject:
    """A network with images, batches, and what the library makes of them."""

    def __init__(self, net: Any = None) -> None:
        self.net = net
        if net is None:
            self.net = Plain()
        self.images = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(0))
        self.labels = torch.tensor([0, 1, 2, 0, 1, 2])
        self.maps = self.images.sum(1)
        self.masks = self.images[:, 0] > 0.6

    @property
    def batches(self) -> list[tuple[Tensor, Tensor]]:
        """Two batches, of copies."""
        return [(self.images[i : i + 3].clone(), self.labels[i : i + 3]) for i in (0, 3)]

    @cached_property
    def table(self) -> ip.ScoreTable:
        """The scores."""
        return ip.collect_scores(self.net, self.batches, progress=False)

    @cached_property
    def found(self) -> ip.Interpretation:
        """The weights."""
        return ip.interpret(self.table, mu=1.0)

    @cached_property
    def gram(self) -> ip.Gram:
        """The sums."""
        return self.table.gram()

    @property
    def channel(self) -> ip.Channel:
        """A channel of the last default layer."""
        return ip.Channel(self.table.channels.layers[-1], 1)


@dataclass(frozen=True)
class Call:
    """A function of the library with good arguments."""

    function: Callable[..., Any]
    arguments: Callable[[Subject], dict[str, Any]]
    kinds: dict[str, str] = field(default_factory=dict)  # of the arguments that odd values replace


def _ablated(model: nn.Module, channels: Any, images: Tensor, **options: Any) -> Tensor:
    with ip.ablate(model, channels, **options):
        result: Tensor = model(images)
    return result


def _rules(model: nn.Module, images: Tensor, **options: Any) -> Tensor:
    images = images.clone().requires_grad_()
    with ip.backward_rules(model, **options):
        model(images)[:, 1].sum().backward()
    assert images.grad is not None
    return images.grad


def _loader_of(**options: Any) -> Any:
    data = ip.ImageData.from_dataset(
        [(np.full((4, 4, 3), 20 * i, np.uint8), i % 2) for i in range(6)], classes=["a", "b"]
    )
    return [batch.images for batch in ip.make_loader(data, **options)]


_MODEL = {"images": "images"}
_RULES = {"rectifier": "word", "resample": "flag", "resample_pool": "flag"}
_SOLVE = {"positive": "flag", "tol": "number"}
#: By name.
CALLS = {
    "find_sites": Call(
        lambda **k: [list(site.shape[1:]) for site in ip.find_sites(**k).sites],
        lambda s: {"model": s.net, "images": s.images},
        _MODEL,
    ),
    "collect_scores": Call(
        ip.collect_scores,
        lambda s: {"model": s.net, "loader": s.batches, "layers": "default", "norm": "l2", "normalisation": "layer",
                   "memory_format": "auto", "progress": False, "total": 6, "device": "cpu"},
        {"loader": "loader", "layers": "word", "norm": "word", "normalisation": "word", "memory_format": "word",
         "progress": "flag", "total": "count", "device": "word"},
    ),
    "ablation_study": Call(
        ip.ablation_study,
        lambda s: {"model": s.net, "loader": s.batches, "interpretation": s.found, "repeats": 2, "seed": 0,
                   "fill": "zero", "curve": False, "single": False, "progress": False, "memory_format": "auto"},
        {"loader": "loader", "repeats": "count", "seed": "seed", "fill": "word", "curve": "flag", "single": "flag",
         "memory_format": "word", "interpretation": "path"},
    ),
    "ablate": Call(
        _ablated,
        lambda s: {"model": s.net, "channels": [s.channel], "images": s.images, "fill": "zero"},
        {"channels": "channel", "fill": "word"},
    ),
    "backward_rules": Call(
        _rules,
        lambda s: {"model": s.net, "images": s.images, "rectifier": "guided", "resample": True, "resample_pool": False},
        _RULES,
    ),
    "explain": Call(
        ip.explain,
        lambda s: {"model": s.net, "images": s.images, "interpretation": s.found, "k": 2, "classes": 1,
                   "rectifier": "guided", "resample": True, "resample_pool": False, "seed": "activation",
                   "reduction": "abs", "combination": "max"},
        {**_MODEL, **_RULES, "k": "count", "classes": "target", "seed": "word", "reduction": "word",
         "combination": "word", "interpretation": "path"},
    ),
    "channel_heatmap": Call(
        ip.channel_heatmap,
        lambda s: {"model": s.net, "images": s.images, "channels": s.channel, "rectifier": "guided", "resample": True,
                   "resample_pool": False, "seed": "activation", "reduction": "abs"},
        {**_MODEL, **_RULES, "channels": "channel", "seed": "word", "reduction": "word"},
    ),
    "channel_signal": Call(
        ip.channel_signal,
        lambda s: {"model": s.net, "images": s.images, "channels": s.channel},
        {**_MODEL, "channels": "channel"},
    ),
    "attribute gradient": Call(
        ip.attribute,
        lambda s: {"model": s.net, "images": s.images, "target": 1, "method": "gradient", "max_batch": 4, "seed": 0,
                   "reduction": "sum"},
        {**_MODEL, "target": "target", "method": "word", "max_batch": "count", "seed": "seed", "reduction": "word"},
    ),
    "attribute gradcam++": Call(
        ip.attribute,
        lambda s: {"model": s.net, "images": s.images, "target": 1, "method": "gradcam++",
                   "layer": s.table.channels.layers[-1]},
        {**_MODEL, "target": "target", "layer": "word"},
    ),
    "attribute integrated_gradients": Call(
        ip.attribute,
        lambda s: {"model": s.net, "images": s.images, "target": 1, "method": "integrated_gradients", "steps": 4,
                   "baseline": 0.0},
        {**_MODEL, "target": "target", "steps": "count", "baseline": "number"},
    ),
    "attribute lrp_epsilon": Call(
        ip.attribute,
        lambda s: {"model": s.net, "images": s.images, "target": 1, "method": "lrp_epsilon"},
        {**_MODEL, "target": "target"},
    ),
    "attribute smoothgrad": Call(
        ip.attribute,
        lambda s: {"model": s.net, "images": s.images, "target": 1, "method": "smoothgrad", "seed": 1},
        {**_MODEL, "target": "target", "seed": "seed"},
    ),
    "attribute occlusion": Call(
        ip.attribute,
        lambda s: {"model": s.net, "images": s.images, "target": 1, "method": "occlusion", "max_batch": 32},
        {**_MODEL, "target": "target", "max_batch": "count"},
    ),
    "average_visualization": Call(
        ip.average_visualization,
        lambda s: {"model": s.net, "data": s.images, "table": s.table, "channel": s.channel, "top": 2,
                   "batch_size": 4, "progress": False},
        {"data": "images", "channel": "channel", "top": "count", "batch_size": "count", "table": "path"},
    ),
    "activation_maps": Call(
        ip.pictures.activation_maps,
        lambda s: {"model": s.net, "images": s.images, "layer": s.table.channels.layers[0]},
        {**_MODEL, "layer": "word"},
    ),
    "embed": Call(
        ip.pictures.embed,
        lambda s: {"model": s.net, "loader": s.batches, "progress": False},
        {"loader": "loader"},
    ),
    "maximise": Call(
        ip.pictures.maximise,
        lambda s: {"model": s.net, "targets": [s.channel], "shape": (3, 12, 12), "steps": 2, "step": 0.02, "seed": 0,
                   "l2": 0.01, "blur": 0.5, "jitter": 1, "max_batch": 4, "mean": 0.1, "std": 0.5},
        {"targets": "channel", "steps": "count", "step": "number", "seed": "seed", "l2": "number", "blur": "number",
         "jitter": "count", "max_batch": "count", "mean": "number", "std": "number"},
    ),
    "deletion": Call(
        ip.evaluate.deletion,
        lambda s: {"model": s.net, "images": s.images, "heatmaps": s.maps, "target": 1, "steps": 4, "controls": (),
                   "score": "probability", "max_batch": 8, "seed": 0, "baseline": "blank"},
        {**_MODEL, "heatmaps": "maps", "target": "target", "steps": "count", "score": "word", "max_batch": "count",
         "seed": "seed", "baseline": "word"},
    ),
    "context_swap": Call(
        ip.evaluate.context_swap,
        lambda s: {"model": s.net, "images": s.images, "interpretation": s.found, "classes": s.labels, "partners": 1,
                   "seed": 0, "max_batch": 8},
        {**_MODEL, "partners": "count", "seed": "seed", "max_batch": "count", "interpretation": "path"},
    ),
    "parameter_randomisation": Call(
        ip.evaluate.parameter_randomisation,
        lambda s: {"model": s.net, "images": s.images, "explain": _gradient, "stages": 2, "how": "permute", "seed": 0,
                   "window": 3, "max_batch": 8},
        {**_MODEL, "stages": "count", "how": "word", "seed": "seed", "window": "count", "max_batch": "count"},
    ),
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
        lambda s: {"X": np.tile(s.table.X, (4, 1)), "y": np.tile(s.labels.numpy(), 4), "mu": 1.0, "n_pairs": 2,
                   "n_blocks": 4, "seed": 0, "progress": False},
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
    "load_model": Call(ip.load_model, lambda _s: {"spec": "torchvision:resnet18", "weights": "random"},
                       {"spec": "path", "weights": "path"}),
    "load_dataset": Call(ip.load_dataset, lambda _s: {"spec": "digits"}, {"spec": "path"}),
    "ScoreTable.load": Call(ip.ScoreTable.load, lambda _s: {"folder": "."}, {"folder": "path"}),
    "Gram.load": Call(ip.Gram.load, lambda _s: {"path": "."}, {"path": "path"}),
    "Interpretation.load": Call(ip.Interpretation.load, lambda _s: {"path": "."}, {"path": "path"}),
    "Stability.load": Call(ip.Stability.load, lambda _s: {"path": "."}, {"path": "path"}),
}  # fmt: skip


def _gradient(net: nn.Module, images: Tensor) -> Tensor:
    return ip.attribute(net, images, 1, "gradient")


def independent(s: Subject) -> dict[str, tuple[Any, Any]]:
    """Return by name what the library makes of the good values, and what formulas written here do, in float64."""
    net = Plain().double()
    x = s.images.double().requires_grad_()
    first = F.relu(net.conv1(x))
    second = F.relu(net.conv2(first))
    logits = net.fc(second.mean((2, 3)))
    norms = [maps.detach().square().sum((2, 3)).sqrt() for maps in (first, second)]
    scores = torch.cat([one / one.sum(1, keepdim=True) for one in norms], 1).numpy()
    removed = second.clone()
    removed[:, 1] = 0
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), x, retain_graph=True)
    start = second.detach().clone()
    start[:, [0, 2, 3, 4]] = 0
    (signal,) = torch.autograd.grad(second, x, start, retain_graph=True)
    L = np.eye(3)[s.labels.numpy()]
    plain: dict[str, Any] = {"rectifier": "gradient", "resample": False}
    rank = [stats.spearmanr(a, a.square()).statistic for a in s.maps.flatten(1)]
    hits = [bool(mask.flatten()[one.argmax()]) for one, mask in zip(s.maps.flatten(1), s.masks, strict=True)]
    table = s.table
    return {
        "scores": (table.X, scores),
        "predictions": (table.predictions, logits.argmax(1)),
        "ablate": (_ablated(s.net, [s.channel], s.images), net.fc(removed.mean((2, 3)))),
        "attribute gradient": (ip.attribute(s.net, s.images, 1, "gradient", reduction="sum"), gradient.sum(1)),
        "channel_heatmap": (ip.channel_heatmap(s.net, s.images, s.channel, **plain), signal.abs().sum(1)),
        "gram.G": (s.gram.G, scores.T @ scores),
        "gram.B": (s.gram.B, scores.T @ L),
        "spearman": (ip.evaluate.spearman(s.maps, s.maps.square()), rank),
        "pointing_game": (ip.evaluate.pointing_game(s.maps, s.masks).values, hits),
        "mu-lasso": (np.abs(s.found.coef).sum(1), np.minimum(np.abs(s.found.coef).sum(1), 1.0)),
    }
