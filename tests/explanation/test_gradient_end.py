"""Networks in which the gradient ends: an error that names the module, or right where the signal does not need it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from interpnet.attribution import attribute
from interpnet.engine import Channel, find_sites
from interpnet.errors import ModelError
from interpnet.explanation import Unit, channel_heatmap, check_signals, explain
from interpnet.interpretation import interpret
from interpnet.pictures import maximise
from interpnet.scores import collect_scores


class Parts(nn.Module):
    """A backbone, a step between, and a head with a rectifier of its own."""

    def __init__(self, run: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.backbone = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
        self.run = run
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def _whole(context: Callable[[], Any]) -> Callable[[Any, Tensor], Tensor]:
    def run(net: Any, x: Tensor) -> Tensor:
        with context():
            return net.head(net.backbone(x))

    return run


def _frozen(context: Callable[[], Any]) -> Callable[[Any, Tensor], Tensor]:
    def run(net: Any, x: Tensor) -> Tensor:
        with context():
            features = net.backbone(x)
        return net.head(features.clone())

    return run


ENDS: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "no_grad": (_whole(torch.no_grad), r"'backbone.0' runs under torch.no_grad\(\)"),
    "inference_mode": (_whole(torch.inference_mode), r"'backbone.0' runs under torch.inference_mode\(\)"),
    "frozen by no_grad": (_frozen(torch.no_grad), r"'backbone.0' runs under torch.no_grad\(\)"),
    "frozen by inference_mode": (_frozen(torch.inference_mode), r"'backbone.0' runs under torch.inference_mode\(\)"),
    "detach": (lambda net, x: net.head(net.backbone(x).detach()), "'detach' in the network's own"),
    "detached image": (lambda net, x: net.head(net.backbone(x.detach())), "'detach' in the network's own"),
    "data": (lambda net, x: net.head(net.backbone(x).data), "reads .data"),
}


def _loader() -> list[tuple[Tensor, Tensor]]:
    return [(torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 4)]


@pytest.mark.parametrize("name", ENDS)
def test_the_error_names_the_module_in_which_the_gradient_ends(name: str) -> None:
    run, said = ENDS[name]
    model = Parts(run)
    images = _loader()[0][0]
    table = collect_scores(model, _loader(), layers="head.1", progress=False)
    found = interpret(table, mu=3.0)
    sites = find_sites(model, images).select()
    message = f"no gradient leads from .* to the images: .*{said}"
    for use in (
        lambda: explain(model, images, found, k=2, variant="paper"),
        lambda: channel_heatmap(model, images, Channel("head.1", 0)),
        lambda: channel_heatmap(model, images, Unit(0)),
        lambda: check_signals(model, images, sites),
        lambda: maximise(model, [0], (3, 6, 6), steps=1),
        lambda: maximise(model, [Channel("head.1", 0)], (3, 6, 6), steps=1),
    ):
        with pytest.raises(ModelError, match=message):
            use()
    with pytest.raises(ModelError, match="no gradient of the class's logit reaches the images"):
        attribute(model, images, 0, "gradient")
    assert attribute(model, images[:1], 0, "occlusion").shape == (1, 6, 6)
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", ["detach", "data"])
def test_a_signal_that_does_not_need_that_part_is_right(name: str) -> None:
    images = _loader()[0][0]
    whole = Parts(lambda net, x: net.head(net.backbone(x)))
    expected = channel_heatmap(whole, images, Channel("backbone.1", 2))
    assert torch.equal(channel_heatmap(Parts(ENDS[name][0]), images, Channel("backbone.1", 2)), expected)


def test_numpy_in_forward_is_one_line_with_its_place() -> None:
    model = Parts(lambda net, x: net.head(torch.from_numpy(net.backbone(x).numpy())))
    images = _loader()[0][0]
    assert len(collect_scores(model, _loader(), progress=False).X) == 8
    with pytest.raises(ModelError, match=r"numpy.*test_gradient_end.py.*no gradient passes"):
        channel_heatmap(model, images, Channel("head.1", 0))


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad])
def test_a_caller_without_gradients_gets_the_same_signals(context: Callable[[], Any]) -> None:
    model = Parts(lambda net, x: net.head(net.backbone(x)))
    images = _loader()[0][0]
    found = interpret(collect_scores(model, _loader(), progress=False), mu=3.0)
    expected = explain(model, images, found, k=2, variant="paper").signals
    with context():
        assert torch.equal(explain(model, images, found, k=2, variant="paper").signals, expected)
        picture = maximise(model, [0], (3, 6, 6), steps=2).pictures
    assert (picture == maximise(model, [0], (3, 6, 6), steps=2).pictures).all()
