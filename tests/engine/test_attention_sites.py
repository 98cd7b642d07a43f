"""Attention read, edited and explained: alike in five spellings, by features and by heads, in windows too."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer, SwinTransformerBlockV2

import interpnet as ip
from interpnet.engine import Channel, Removal, Removals, Trace, find_sites
from interpnet.errors import LayerError
from interpnet.explanation import channel_heatmap
from interpnet.pictures import activation_maps
from tests.helpers.networks import ATTENTIONS, attention_network

N, TOKENS, WIDTH, HEADS = 5, 17, 8, 2


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(N, 3, 16, 16, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def loader(x: Tensor) -> list[tuple[Tensor, Tensor]]:
    y = torch.arange(N) % 4
    return [(x[:3], y[:3]), (x[3:], y[3:])]


def answers(net: nn.Module, x: Tensor, loader: Any, layers: str) -> dict[str, np.ndarray]:
    """Return everything that is asked of channels."""
    trace = find_sites(net, x)
    sites = trace.select(layers)
    first, last = Channel(sites[0].name, 1), Channel(sites[-1].name, 0)
    found = {
        "scores": np.asarray(ip.collect_scores(net, loader, layers=layers, progress=False).X),
        "contributions": ip.collect_contributions(net, loader, layers=layers, progress=False).mean,
    }
    for fill in ("zero", 0.3):
        with torch.no_grad(), ip.ablate(net, [first, last], fill=fill):
            found[f"without, filled with {fill}"] = net(x).numpy()
    for rule in ("guided", "deconvnet", "gradient"):
        for seed in ("activation", "contribution"):
            found[f"{rule} from {seed}"] = channel_heatmap(net, x, first, rule=rule, seed=seed, trace=trace).numpy()
    return found


@pytest.mark.parametrize("layers", ["default", "attention", "heads"])
def test_spellings_agree(layers: str, x: Tensor, loader: Any) -> None:
    expected: dict[str, np.ndarray] = {}
    for spelling in ATTENTIONS:
        found = answers(attention_network(spelling).eval(), x, loader, layers)
        expected = expected or found
        for name, values in found.items():
            np.testing.assert_allclose(
                values,
                expected[name],
                rtol=1e-3,
                atol=1e-5 * np.abs(expected[name]).max(),
                err_msg=f"{spelling}, {name}",
            )


@pytest.mark.parametrize("spelling", ATTENTIONS)
def test_the_sites_of_attention(spelling: str, x: Tensor) -> None:
    trace = find_sites(attention_network(spelling), x)
    joined = trace.select("attention")
    heads = trace.select("heads")
    assert [(s.kind, s.shape, s.channels, s.grid, s.lead) for s in joined] == [
        ("attention", (TOKENS, WIDTH), WIDTH, (4, 4), 1)
    ] * 2
    assert [(s.kind, s.shape, s.channels, s.map_shape, s.grid) for s in heads] == [
        ("attention", (TOKENS, WIDTH // HEADS, HEADS), HEADS, (TOKENS, WIDTH // HEADS), ())
    ] * 2
    assert [s.name for s in heads] == [f"{s.name}/heads" for s in joined]
    # How much each token takes of each: a channel for every head, and no map over the image.
    weights = [s for s in trace.sites if s.kind == "softmax"]
    assert [(sorted(s.map_shape), s.channels, s.grid) for s in weights] == [([TOKENS, TOKENS], HEADS, ())] * 2
    assert not any(s.default for s in (*joined, *heads, *weights))


@pytest.mark.parametrize("build", [*ATTENTIONS, "swin"])
def test_one_image_has_the_sites_of_two(build: str) -> None:
    net = swin() if build == "swin" else attention_network(build)
    one, two = (find_sites(net, torch.randn(n, 3, 16, 16)).sites for n in (1, 2))
    assert one == two


def values_of(net: nn.Module, tokens: Tensor) -> Tensor:
    """Return (B, T, heads, d): what each head gathers, computed from the weights alone in float64."""
    attend = net.blocks[0].attention.attend
    weight, bias = attend.in_proj_weight.double(), attend.in_proj_bias.double()
    q, k, v = ((tokens @ w.T + b) for w, b in zip(weight.chunk(3), bias.chunk(3), strict=True))
    gathered = []
    for h in range(HEADS):
        own = slice(h * WIDTH // HEADS, (h + 1) * WIDTH // HEADS)
        scores = q[..., own] @ k[..., own].transpose(1, 2) / (WIDTH // HEADS) ** 0.5
        gathered.append(torch.softmax(scores, 2) @ v[..., own])
    return torch.stack(gathered, 2)


def test_scores_and_removal_against_the_weights(x: Tensor, loader: Any) -> None:
    net = attention_network("module").eval()
    kept: list[Tensor] = []
    handle = net.blocks[0].norm1.register_forward_hook(lambda _m, _i, out: kept.append(out.detach()))
    net(x)
    handle.remove()
    gathered = values_of(net, kept[0].double())
    joined = find_sites(net, x).select("attention")[0].name
    for layers, norms in [(joined, gathered.flatten(2).norm(dim=1)), (f"{joined}/heads", gathered.norm(dim=(1, 3)))]:
        table = ip.collect_scores(net, loader, layers=layers, normalisation="none", progress=False)
        np.testing.assert_allclose(table.X, norms.detach().numpy(), rtol=1e-4)
    # A head that is removed is a head whose columns of the output projection are zero.
    for head in range(HEADS):
        without = copy.deepcopy(net)
        with torch.no_grad():
            without.blocks[0].attention.attend.out_proj.weight[:, head * 4 : head * 4 + 4] = 0
            with ip.ablate(net, [Channel(f"{joined}/heads", head)]):
                torch.testing.assert_close(net(x), without(x))
            features = [Channel(joined, head * 4 + i) for i in range(4)]
            with ip.ablate(net, features):
                torch.testing.assert_close(net(x), without(x))
            # Both at once, by one name each: the head, and a feature of the other.
            other = (5 + 4 * head) % WIDTH
            without.blocks[0].attention.attend.out_proj.weight[:, other] = 0
            with ip.ablate(net, [Channel(f"{joined}/heads", head), Channel(joined, other)]):
                torch.testing.assert_close(net(x), without(x))


def test_contributions_are_the_slope_of_a_removal(x: Tensor) -> None:
    net = attention_network("fused").double().eval()
    x = x.double()
    found = ip.collect_contributions(net, [(x, torch.ones(N, dtype=torch.long))], layers="heads", progress=False).mean[
        1
    ]
    names = [s.name for s in find_sites(net, x).select("heads")]

    def margin(factor: float, block: int, head: int) -> float:
        changed = copy.deepcopy(net)
        with torch.no_grad():
            own = slice(head * 4, head * 4 + 4)
            changed.blocks[block].attention.attend.out_proj.weight[:, own] *= factor
            z = changed(x)
        others = torch.logsumexp(z[:, [0, 2, 3]], 1)
        return float((z[:, 1] - others).mean())

    assert len(names) * HEADS == len(found)
    for column, value in enumerate(found):
        block, head = divmod(column, HEADS)
        slope = (margin(1 + 1e-5, block, head) - margin(1 - 1e-5, block, head)) / 2e-5
        assert value == pytest.approx(slope, rel=1e-4, abs=1e-7)


def swin() -> nn.Module:
    torch.manual_seed(1)
    net = SwinTransformer([2, 2], 8, [2, 1], [2, 2], [2, 2], num_classes=3)
    for parameter in net.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)
    return net.eval()


# 16 x 16 makes 8 x 8 positions, which windows of 2 divide; 20 x 20 after merging makes windows that are padded.
@pytest.mark.parametrize("side", [16, 20])
def test_windows_are_removed_as_their_weights_are(side: int) -> None:
    net = swin()
    images = torch.randn(3, 3, side, side)
    trace = find_sites(net, images)
    # The second block of the first stage shifts its windows.
    for layer, channel in [("features.1.1.attn:linear", 5), ("features.3.0.attn:linear", 18)]:
        assert trace[layer].channels == trace[layer].shape[-1]
        without = copy.deepcopy(net)
        with torch.no_grad():
            qkv = without.get_submodule(layer.removesuffix(":linear")).qkv
            qkv.weight[channel] = 0
            qkv.bias[channel] = 0
            with ip.ablate(net, [Channel(layer, channel)]):
                torch.testing.assert_close(net(images), without(images))
    with torch.no_grad(), ip.ablate(net, [Channel("features.1.0.attn:matmul:1/heads", 1)]):
        found = net(images)
    with torch.no_grad():
        net.features[1][0].attn.proj.weight[:, 4:] = 0
        torch.testing.assert_close(net(images), found)


def test_windows_are_places_of_the_image() -> None:
    """A patch that is lit shows at its place in the maps of shifted windows."""
    net = swin()
    images = torch.zeros(1, 3, 16, 16)
    images[..., 8:10, 4:6] = 5.0
    site = find_sites(net, images)["features.1.1.attn:linear"]
    assert (site.shape, site.grid) == ((8, 8, 24), (8, 8))
    # Bias and norms are the same everywhere, so what differs most from the most common values is the patch.
    maps = activation_maps(net, images, site.name)[0]
    off = np.abs(maps - np.median(maps, (1, 2), keepdims=True)).sum(0)
    assert np.unravel_index(int(off.argmax()), off.shape) == (4, 2)


def test_what_no_image_goes_into_is_no_layer() -> None:
    """Swin's second version computes biases of positions by a network of their own, and both make masks of windows."""
    torch.manual_seed(1)
    net = SwinTransformer([2, 2], 8, [2], [2], [2, 2], num_classes=3, block=SwinTransformerBlockV2).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trace = find_sites(net, torch.randn(2, 3, 16, 16))
        names = [s.name for s in trace.select()]
    assert names == ["features.1.0.mlp.1", "features.1.1.mlp.1"]
    assert not [s.name for s in trace.sites if "cpb_mlp" in s.name]


@pytest.mark.parametrize("spelling", ["module", "bmm"])
def test_passes_from_the_middle_on(spelling: str, x: Tensor) -> None:
    net = attention_network(spelling).eval()
    trace = find_sites(net, x)
    sites = [*trace.select(["attention", "heads", "default"])]
    runs = Removals(net, Removal(sites))
    columns = [np.array([0, 9]), np.array([8]), np.array([30, 47])]
    found = torch.zeros(3, 4)
    with torch.inference_mode():
        runs.intact(x)
        runs.removed(np.arange(3), columns, found.__setitem__)
        index = trace.index(["attention", "heads", "default"])
        with ip.ablate(net, [[index[int(c)] for c in row] for row in columns]):
            torch.testing.assert_close(net(x[:3]), found)
    assert not runs.why_whole


def _selected(trace: Trace, layers: str) -> list[str]:
    return [s.name for s in trace.select(layers)]


def test_selections_that_have_nothing_say_why(x: Tensor) -> None:
    plain = find_sites(nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(392, 2)), x)
    for layers in ("attention", "heads"):
        with pytest.raises(LayerError, match=f"layers='{layers}' selects nothing: the network has no attention"):
            _selected(plain, layers)

    class OneHead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 4, 4, 4)
            self.qkv = nn.Linear(4, 12)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(self.patches(x).flatten(2).transpose(1, 2)).chunk(3, 2)
            gathered = torch.softmax(q @ k.mT, 2) @ v
            return self.head(gathered.mean(1))

    one = find_sites(OneHead(), x)
    assert _selected(one, "attention") == ["matmul:1"]
    assert one["matmul:1"].shape == (4, 4, 4)
    with pytest.raises(LayerError, match="layers='heads' selects nothing: attention has one head"):
        _selected(one, "heads")
