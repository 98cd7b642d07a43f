"""Good calls of the public functions that take a network, each argument with its kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

import interpnet as ip
from experiments.reliability.odd_networks import Plain


class Subject:
    """A network with images, batches, and what the library makes of them."""

    def __init__(self, net: Any = Plain) -> None:
        self.net = net
        if net is Plain:
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
    also: tuple[type[Exception], ...] = ()  # errors that are refusals, beside InterpNetError


def ablated(model: nn.Module, channels: Any, images: Tensor, **options: Any) -> Tensor:
    """Return the logits with channels removed."""
    with ip.ablate(model, channels, **options):
        result: Tensor = model(images)
    return result


def _rules(model: nn.Module, images: Tensor, **options: Any) -> Tensor:
    images = images.clone().requires_grad_()
    with ip.backward_rules(model, **options):
        model(images)[:, 1].sum().backward()
    assert images.grad is not None
    return images.grad


_MODEL = {"images": "images"}
_RULES = {"rectifier": "word", "resample": "flag", "resample_pool": "flag"}
#: By name.
CALLS_OF_NETWORKS = {
    "find_sites": Call(
        lambda **k: [list(site.shape[1:]) for site in ip.find_sites(**k).sites],
        lambda s: {"model": s.net, "images": s.images},
        _MODEL,
    ),
    "collect_scores": Call(
        ip.collect_scores,
        lambda s: {
            "model": s.net,
            "loader": s.batches,
            "layers": "default",
            "norm": "l2",
            "normalisation": "layer",
            "memory_format": "auto",
            "progress": False,
            "total": 6,
            "device": "cpu",
        },
        {
            "loader": "loader",
            "layers": "word",
            "norm": "word",
            "normalisation": "word",
            "memory_format": "word",
            "progress": "flag",
            "total": "count",
            "device": "word",
        },
    ),
    "ablation_study": Call(
        ip.ablation_study,
        lambda s: {
            "model": s.net,
            "loader": s.batches,
            "interpretation": s.found,
            "repeats": 2,
            "seed": 0,
            "fill": "zero",
            "curve": False,
            "single": False,
            "progress": False,
            "memory_format": "auto",
        },
        {
            "loader": "loader",
            "repeats": "count",
            "seed": "seed",
            "fill": "word",
            "curve": "flag",
            "single": "flag",
            "memory_format": "word",
            "interpretation": "path",
        },
    ),
    "ablate": Call(
        ablated,
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
        lambda s: {
            "model": s.net,
            "images": s.images,
            "interpretation": s.found,
            "k": 2,
            "classes": 1,
            "rectifier": "guided",
            "resample": True,
            "resample_pool": False,
            "seed": "activation",
            "reduction": "abs",
            "combination": "max",
        },
        {
            **_MODEL,
            **_RULES,
            "k": "count",
            "classes": "target",
            "seed": "word",
            "reduction": "word",
            "combination": "word",
            "interpretation": "path",
        },
    ),
    "channel_heatmap": Call(
        ip.channel_heatmap,
        lambda s: {
            "model": s.net,
            "images": s.images,
            "channels": s.channel,
            "rectifier": "guided",
            "resample": True,
            "resample_pool": False,
            "seed": "activation",
            "reduction": "abs",
        },
        {**_MODEL, **_RULES, "channels": "channel", "seed": "word", "reduction": "word"},
    ),
    "channel_signal": Call(
        ip.channel_signal,
        lambda s: {"model": s.net, "images": s.images, "channels": s.channel},
        {**_MODEL, "channels": "channel"},
    ),
    "attribute gradient": Call(
        ip.attribute,
        lambda s: {
            "model": s.net,
            "images": s.images,
            "target": 1,
            "method": "gradient",
            "max_batch": 4,
            "seed": 0,
            "reduction": "sum",
        },
        {**_MODEL, "target": "target", "method": "word", "max_batch": "count", "seed": "seed", "reduction": "word"},
    ),
    "attribute gradcam++": Call(
        ip.attribute,
        lambda s: {
            "model": s.net,
            "images": s.images,
            "target": 1,
            "method": "gradcam++",
            "layer": s.table.channels.layers[-1],
        },
        {**_MODEL, "target": "target", "layer": "word"},
    ),
    "attribute integrated_gradients": Call(
        ip.attribute,
        lambda s: {
            "model": s.net,
            "images": s.images,
            "target": 1,
            "method": "integrated_gradients",
            "steps": 4,
            "baseline": 0.0,
        },
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
        lambda s: {
            "model": s.net,
            "data": list(zip(s.images, s.labels, strict=True)),
            "table": s.table,
            "channel": s.channel,
            "top": 2,
            "batch_size": 4,
            "progress": False,
        },
        {"data": "path", "channel": "channel", "top": "count", "batch_size": "count", "table": "path"},
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
        lambda s: {
            "model": s.net,
            "targets": [s.channel],
            "shape": (3, 12, 12),
            "steps": 2,
            "step": 0.02,
            "seed": 0,
            "l2": 0.01,
            "blur": 0.5,
            "jitter": 1,
            "max_batch": 4,
            "mean": 0.1,
            "std": 0.5,
        },
        {
            "targets": "channel",
            "steps": "count",
            "step": "number",
            "seed": "seed",
            "l2": "number",
            "blur": "number",
            "jitter": "count",
            "max_batch": "count",
            "mean": "number",
            "std": "number",
        },
    ),
    "deletion": Call(
        ip.evaluate.deletion,
        lambda s: {
            "model": s.net,
            "images": s.images,
            "heatmaps": s.maps,
            "target": 1,
            "steps": 4,
            "controls": (),
            "score": "probability",
            "max_batch": 8,
            "seed": 0,
            "baseline": "blank",
        },
        {
            **_MODEL,
            "heatmaps": "maps",
            "target": "target",
            "steps": "count",
            "score": "word",
            "max_batch": "count",
            "seed": "seed",
            "baseline": "word",
        },
    ),
    "parameter_randomisation": Call(
        ip.evaluate.parameter_randomisation,
        lambda s: {
            "model": s.net,
            "images": s.images,
            "explain": _gradient,
            "stages": 2,
            "how": "permute",
            "seed": 0,
            "window": 3,
            "max_batch": 8,
        },
        {**_MODEL, "stages": "count", "how": "word", "seed": "seed", "window": "count", "max_batch": "count"},
    ),
}


def _gradient(net: nn.Module, images: Tensor) -> Tensor:
    return ip.attribute(net, images, 1, "gradient")
