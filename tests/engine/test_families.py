"""Every CNN family of torchvision, unmodified: sites, scores, ablation and heatmap."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from interpnet.ablation import ablate
from interpnet.engine import Channel, Instrument, find_sites, instrument, stop_forward, stoppable
from interpnet.explanation import channel_signal
from interpnet.scores import collect_scores

# name, image size, number of default channels (counted by hand from the architecture where given)
FAMILIES = [
    ("alexnet", 64, 64 + 192 + 384 + 256 + 256 + 4096 + 4096),
    ("vgg11", 32, 64 + 128 + 256 * 2 + 512 * 4 + 4096 * 2),
    ("vgg11_bn", 32, 64 + 128 + 256 * 2 + 512 * 4 + 4096 * 2),
    ("resnet18", 64, 64 + 4 * (64 + 128 + 256 + 512)),
    ("resnext50_32x4d", 64, None),
    ("densenet121", 64, None),
    ("googlenet", 64, None),
    ("inception_v3", 96, None),
    ("squeezenet1_0", 64, None),
    ("shufflenet_v2_x0_5", 64, None),
    ("mobilenet_v2", 64, None),
    ("mobilenet_v3_small", 64, None),
    ("mnasnet0_5", 64, None),
    ("efficientnet_b0", 64, None),
    ("regnet_y_400mf", 64, None),
    ("convnext_tiny", 64, 3 * 384 + 3 * 768 + 9 * 1536 + 3 * 3072),
]


def build(name: str) -> nn.Module:
    torch.manual_seed(1)
    options = {"init_weights": False} if name in {"googlenet", "inception_v3"} else {}
    model = torchvision.models.get_model(name, weights=None, num_classes=5, **options)
    with torch.no_grad():  # random BatchNorm statistics would silence deep layers; calibrate them instead
        model.eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
                module.train()
        size = {n: s for n, s, _ in FAMILIES}[name]
        model(torch.randn(4, 3, size, size))
    return model.eval()


def strided_before(model: nn.Module, x: Tensor, name: str) -> int:
    """Count the convolutions of stride > 1 that run before a site, by torch's own hooks."""
    strides: list[int] = []
    handles = [
        m.register_forward_hook(lambda m, _args, _out: strides.append(max(m.stride)))
        for m in model.modules()
        if isinstance(m, nn.Conv2d)
    ]

    def stop(_out: Tensor) -> None:
        stop_forward()

    with torch.no_grad(), instrument(model, Instrument(reads={name: stop})), stoppable():
        model(x)
    for handle in handles:
        handle.remove()
    return sum(stride > 1 for stride in strides)


@pytest.mark.parametrize(("name", "size", "channels"), FAMILIES, ids=[f[0] for f in FAMILIES])
def test_family_works_unmodified(name: str, size: int, channels: int | None) -> None:
    model = build(name)
    x = torch.randn(3, 3, size, size)
    trace = find_sites(model, x)
    sites = trace.select("default")
    assert sites
    assert all(s.kind == "rectifier" and not s.gate and not s.output for s in sites)
    if channels is not None:
        assert sum(s.channels for s in sites) == channels
    # The channel axis is right when the number of channels is that of the layer's own weights.
    widths = {m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)}
    widths |= {m.out_features for m in model.modules() if isinstance(m, nn.Linear)}
    widths |= {m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d)}
    assert {s.channels for s in sites} <= widths
    assert not [s for s in trace.sites if s.default and not s.usable]

    table = collect_scores(model, [(x, torch.zeros(3, dtype=torch.long))], progress=False)
    np.testing.assert_allclose(table.X.sum(1), len(sites), rtol=1e-5)

    # Channels of a low and a high layer that answer to the images.
    for site in (sites[0], sites[-1]):
        columns = table.channels.slice(site.name)
        c = Channel(site.name, int(table.X[:, columns].mean(0).argmax()))
        with torch.no_grad(), ablate(model, [c]):
            changed = model(x)
        with torch.no_grad():
            intact = model(x)
        assert not torch.allclose(changed, intact, rtol=1e-7, atol=0), f"removing {c} changed nothing"
        plain = channel_signal(model, x, c, rectifier="gradient", resample=False, trace=trace)
        guided = channel_signal(model, x, c, trace=trace)
        assert guided.report.overridden == guided.report.seen > 0
        assert plain.signals.abs().sum() > 0
        assert torch.isfinite(guided.signals).all()
        assert guided.report.resampled == strided_before(model, x, site.name)
        if site is sites[-1]:
            assert guided.signals.abs().sum() > 0
            assert not torch.allclose(guided.signals, plain.signals), "the rule changed nothing"


def test_all_layers_leave_out_the_classifier_and_the_gates() -> None:
    model = build("mobilenet_v3_small")
    trace = find_sites(model, torch.randn(1, 3, 64, 64))
    chosen = trace.select("all")
    assert "classifier.3" not in {s.name for s in chosen}
    assert not any("fc1" in s.name or "fc2" in s.name for s in chosen), "squeeze-and-excite is a gate"
    squeeze = find_sites(build("squeezenet1_0"), torch.randn(1, 3, 64, 64))
    outputs = {s.name for s in squeeze.sites if s.output}
    # SqueezeNet's logits are the average of its last convolution's map: all three would give the label away.
    assert outputs == {"classifier.1", "classifier.2", "classifier.3"}
