"""The networks on which every attribution method must be right or refuse: random weights, calibrated BatchNorm.

Random weights show whether a method keeps its rules, not whether its maps are good: for that the networks would
have to know something.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import timm
import torch
import torchvision
from timm.models.resnetv2 import ResNetV2
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.efficientnet import MBConvConfig
from torchvision.models.googlenet import BasicConv2d, Inception, InceptionAux
from torchvision.models.mobilenetv3 import InvertedResidualConfig
from torchvision.models.resnet import BasicBlock
from torchvision.models.vgg import make_layers

N_CLASSES = 5
SIZE = 64  # pixels


class Strided(nn.Module):
    """Two strided convolutions, the second grouped, a reused rectifier, and a linear map on averaged maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 5, stride=2, padding=2)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 12, 3, stride=2, padding=1, groups=2)
        self.conv3 = nn.Conv2d(12, 12, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(12, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 5)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        x = self.relu(self.conv3(x) + x)
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


NETWORKS = (
    "strided",
    "resnet18",
    "vgg11_bn",
    "densenet121",
    "googlenet",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "squeezenet1_1",
    "shufflenet_v2_x0_5",
    "vit_b_16",
    "swin_t",
    "convnext_tiny",
    "deit_tiny",
    "maxvit_tiny",
    "resnetv2_50",
)
#: Those of which the table has the narrow variant, unless it is asked for the whole ones: most take minutes a method.
THIN = NETWORKS[NETWORKS.index("vit_b_16") :]
#: The names of those that timm gives, and the options that fit images of 64 pixels.
TIMM: dict[str, tuple[str, dict[str, Any]]] = {
    "deit_tiny": ("deit_tiny_patch16_224", {"img_size": SIZE}),
    "maxvit_tiny": ("maxvit_tiny_tf_224", {"img_size": SIZE}),
    "resnetv2_50": ("resnetv2_50x1_bit", {}),
}


@lru_cache(maxsize=1)
def network(name: str, *, double: bool = False, narrow: bool = False) -> nn.Module:
    """Return one of ``NETWORKS`` in evaluation mode; the last one is kept.

    ``narrow`` gives the same operators in fewer and narrower layers, for tests: VGG's classifier has 64 hidden units
    and not 100 million weights, and the networks of many blocks have one to three in a stage.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        if name == "strided":
            model: nn.Module = Strided()
        else:
            model = NARROW[name]() if narrow and name in NARROW else whole(name)
        _fill(model)
        _calibrate(model, torch.randn(8, 3, SIZE, SIZE))
    if double:
        model.double()
    return model


def whole(name: str) -> nn.Module:
    """Return one of torchvision's or timm's networks as it is drawn, with five classes."""
    model: nn.Module
    if name in TIMM:
        model = _timm(name)
        return model
    # Without it GoogLeNet warns that its initialisation will change; a ViT has positions for one size.
    own: dict[str, dict[str, Any]] = {"googlenet": {"init_weights": False}, "vit_b_16": {"image_size": SIZE}}
    model = torchvision.models.get_model(name, weights=None, num_classes=N_CLASSES, **own.get(name, {}))
    return model


def _timm(name: str, **options: Any) -> Any:
    full, own = TIMM[name]
    return timm.create_model(full, num_classes=N_CLASSES, **own, **options)


def _narrow_vgg() -> Any:
    with torch.device("meta"):  # its own classifier of 100 million weights is never drawn
        model = torchvision.models.VGG(nn.Sequential(), num_classes=N_CLASSES)
    model.features = make_layers([16, "M", 32, "M", 64, 64, "M", 128, 128, "M", 128, 128, "M"], batch_norm=True)
    for at, (wide_in, wide_out) in {0: (128 * 7 * 7, 64), 3: (64, 64), 6: (64, N_CLASSES)}.items():
        model.classifier[at] = nn.Linear(wide_in, wide_out)
    return model


def _narrow_resnet() -> Any:
    model = torchvision.models.ResNet(BasicBlock, [1, 1, 1, 1], num_classes=N_CLASSES)
    model.inplanes = 16
    model.conv1 = nn.Conv2d(3, 16, 7, stride=2, padding=3, bias=False)
    model.bn1 = nn.BatchNorm2d(16)
    for i, (wide, blocks) in enumerate([(16, 2), (32, 1), (64, 1), (128, 1)]):
        setattr(model, f"layer{i + 1}", model._make_layer(BasicBlock, wide, blocks, stride=1 + (i > 0)))  # noqa: SLF001
    model.fc = nn.Linear(128, N_CLASSES)
    return model


def _narrow_densenet() -> Any:
    return torchvision.models.DenseNet(8, (2, 3, 3, 2), 16, num_classes=N_CLASSES)


def _narrow_googlenet() -> Any:
    def conv(wide_in: int, wide_out: int, **options: Any) -> BasicConv2d:
        return BasicConv2d(wide_in if wide_in == 3 else wide_in // 8, wide_out // 8, **options)

    blocks = [conv, partial(Inception, conv_block=conv), InceptionAux]
    model = torchvision.models.GoogLeNet(N_CLASSES, aux_logits=False, init_weights=False, blocks=blocks)
    for name in ("inception4b", "inception4c", "inception5a"):  # which hand on as many channels as they get
        setattr(model, name, nn.Identity())
    model.fc = nn.Linear(1024 // 8, N_CLASSES)
    return model


def _narrow_mobilenet() -> Any:
    # Channels in, kernel, expansion, channels out, squeeze-and-excite, activation, stride and dilation of each block.
    stages = [
        (16, 3, 16, 16, True, "RE", 2, 1),
        (16, 3, 32, 16, False, "RE", 2, 1),
        (16, 3, 32, 16, False, "RE", 1, 1),
        (16, 5, 32, 24, True, "HS", 2, 1),
        (24, 5, 48, 24, True, "HS", 1, 1),
        (24, 5, 48, 32, True, "HS", 1, 1),
        (32, 5, 64, 40, True, "HS", 2, 1),
    ]
    settings = [InvertedResidualConfig(*stage, width_mult=1.0) for stage in stages]
    return torchvision.models.MobileNetV3(settings, 64, num_classes=N_CLASSES)


def _narrow_efficientnet() -> Any:
    # Expansion, kernel, stride, channels in and out, and blocks of each stage.
    stages = [
        (1, 3, 1, 8, 8, 1),
        (2, 3, 2, 8, 16, 2),
        (2, 5, 2, 16, 16, 1),
        (2, 3, 2, 16, 16, 1),
        (2, 5, 1, 16, 24, 1),
        (2, 5, 2, 24, 24, 1),
        (2, 3, 1, 24, 32, 1),
    ]
    return torchvision.models.EfficientNet(
        [MBConvConfig(*stage) for stage in stages], dropout=0.2, num_classes=N_CLASSES
    )


def _narrow_shufflenet() -> Any:
    return torchvision.models.ShuffleNetV2([2, 3, 2], [24, 48, 96, 192, 256], num_classes=N_CLASSES)


def _narrow_vit() -> Any:
    return torchvision.models.VisionTransformer(SIZE, 16, 2, 2, 16, 32, num_classes=N_CLASSES)


def _narrow_swin() -> Any:
    return torchvision.models.SwinTransformer(
        [4, 4], 8, [2, 2], [1, 2], [7, 7], stochastic_depth_prob=0.2, num_classes=N_CLASSES
    )


def _narrow_convnext() -> Any:
    stages = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, 24, 1), CNBlockConfig(24, None, 1)]
    return torchvision.models.ConvNeXt(stages, stochastic_depth_prob=0.1, layer_scale=1.0, num_classes=N_CLASSES)


def _narrow_deit() -> Any:
    return _timm("deit_tiny", embed_dim=16, depth=2, num_heads=2)


def _narrow_maxvit() -> Any:
    stages = {"embed_dim": (8, 16), "depths": (1, 2), "block_type": ("M", "M")}
    return _timm("maxvit_tiny", stem_width=8, head_hidden_size=16, transformer_dim_head=8, **stages)


def _narrow_resnetv2() -> Any:
    return ResNetV2([1, 1], (128, 128), N_CLASSES, stem_chs=32, stem_type="fixed")


#: The networks that ``narrow`` changes.
NARROW: dict[str, Callable[[], Any]] = {
    "vgg11_bn": _narrow_vgg,
    "resnet18": _narrow_resnet,
    "densenet121": _narrow_densenet,
    "googlenet": _narrow_googlenet,
    "mobilenet_v3_small": _narrow_mobilenet,
    "efficientnet_b0": _narrow_efficientnet,
    "shufflenet_v2_x0_5": _narrow_shufflenet,
    "vit_b_16": _narrow_vit,
    "swin_t": _narrow_swin,
    "convnext_tiny": _narrow_convnext,
    "deit_tiny": _narrow_deit,
    "maxvit_tiny": _narrow_maxvit,
    "resnetv2_50": _narrow_resnetv2,
}


def _fill(model: nn.Module) -> None:
    """Draw the weights of classifiers that start at zero: their logits would not depend on the image."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear) and not bool(layer.weight.any()):
            nn.init.normal_(layer.weight, std=0.1)


def _calibrate(model: nn.Module, images: Tensor) -> None:
    """Set every BatchNorm's statistics to those of ``images``: the initial ones would silence deep layers."""
    model.eval()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # one batch gives the statistics themselves
        norm.train()
    with torch.no_grad():
        model(images)
    for norm in norms:
        norm.eval()


def images(n: int = 2, *, double: bool = False) -> Tensor:
    """Return n smooth random images (n, 3, 64, 64), about normalised."""
    generator = torch.Generator().manual_seed(3)  # the same images on every machine
    coarse = torch.randn(n, 3, SIZE // 8, SIZE // 8, generator=generator)
    fine = torch.randn(n, 3, SIZE, SIZE, generator=generator)
    smooth = nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic", align_corners=False)
    return (smooth + 0.3 * fine).to(torch.float64 if double else torch.float32)


#: Options that keep a run short; every other method runs with its defaults.
QUICK: dict[str, dict[str, Any]] = {
    "smoothgrad": {"samples": 3},
    "vargrad": {"samples": 3},
    "integrated_gradients": {"steps": 8},
    "expected_gradients": {"samples": 4},
    "occlusion": {"patch": 16, "stride": 16},
    "lime": {"samples": 12, "cells": 3},
    "kernel_shap": {"samples": 12, "cells": 3},
    "shapley_sampling": {"orders": 1, "cells": 3},
    "scorecam": {"channels": 8},
}
