"""Derivatives along concepts at the sites of a ViT and a Swin, against finite differences in float64."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

from interpnet import concepts
from interpnet.engine import Instrument, Site, find_sites, instrument, log_odds

pytestmark = pytest.mark.filterwarnings("ignore::interpnet.concepts.ConceptWarning")


def transformer(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "vit":
        net: nn.Module = VisionTransformer(16, 4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=3)
    else:
        net = SwinTransformer([2, 2], 8, [1, 1], [2, 2], [2, 2], num_classes=3)
    for parameter in net.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)
    return net.eval()


def images(n: int, seed: int) -> Tensor:
    return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        (
            "vit",
            [
                "conv_proj",
                "encoder.layers.encoder_layer_0.self_attention:matmul:1/heads",
                "encoder.layers.encoder_layer_0.mlp.1",
                "encoder.layers.encoder_layer_1:add",
            ],
        ),
        ("swin", ["features.0.0", "features.1.0.attn:linear", "features.1.0.mlp.1", "features.3.0:add"]),
    ],
)
def test_derivatives_are_those_of_finite_differences(name, layers):
    net = transformer(name)
    shown = images(6, 9)
    found = concepts.tcav(
        net, concept=images(5, 1) ** 2, random=[images(5, seed) for seed in (2, 3, 4, 5)], images=shown, target=1,
        layer=layers, progress=False,
    )  # fmt: skip
    assert found.layers == tuple(layers)
    double = copy.deepcopy(net).double()
    for i, site in enumerate(find_sites(net, shown)[layer] for layer in layers):
        vectors = torch.from_numpy(found.cavs[i][0].astype(np.float64))
        assert tuple(vectors.shape[1:]) == site.shape
        for j, vector in enumerate(vectors):
            ends = [_moved(double, site, step * vector, shown) for step in (1e-5, -1e-5)]
            share = ((ends[0] - ends[1]) > 0).double().mean()
            assert found.scores[0, i, j] == pytest.approx(float(share))


def test_the_mean_of_the_tokens_moves_where_all_tokens_do():
    net = transformer("vit")
    layer = "encoder.layers.encoder_layer_0.mlp.1"
    random = [images(5, seed) for seed in (2, 3, 4, 5)]
    found = concepts.tcav(
        net, concept=images(5, 1) ** 2, random=random, images=images(6, 9), target=1, layer=layer, pool=True,
        progress=False,
    )  # fmt: skip
    assert found.cavs[0].shape == (1, 4, 16)
    double = copy.deepcopy(net).double()
    site = find_sites(net, images(6, 9))[layer]
    kept: dict[str, Tensor] = {}
    reads = {layer: lambda out: kept.update(out=out.mean(1))}
    effects = []
    for j, vector in enumerate(torch.from_numpy(found.cavs[0][0].astype(np.float64))):
        ends = [_moved(double, site, step * vector, images(6, 9)) for step in (1e-5, -1e-5)]
        along = (ends[0] - ends[1]) / 2e-5
        assert found.scores[0, 0, j] == pytest.approx(float((along > 0).double().mean()))
        with torch.no_grad(), instrument(double, Instrument(reads=reads)):
            double(torch.cat([part for i, part in enumerate(random) if i != j]).double())
        effects.append(float(along.mean() * (kept["out"] @ vector).std(correction=0)))
    assert found.effect.item() == pytest.approx(np.mean(effects), rel=1e-4)


def _moved(net: nn.Module, site: Site, by: Tensor, shown: Tensor) -> Tensor:
    edits = {site.name: site.editing(lambda out: out + by)}
    with torch.no_grad(), instrument(net, Instrument(edits=edits)):
        return log_odds(net(shown.double()), torch.full((len(shown),), 1))
