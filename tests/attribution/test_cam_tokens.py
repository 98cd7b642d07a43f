"""The CAM family where a layer's positions are tokens: their map, the layer by default, and what is no map."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers.networks import ATTENTIONS, attention_network, images
from torch import Tensor, nn

from interpnet.attribution import attribute_full
from interpnet.errors import LayerError, ModelError

TARGET = [1, 3, 0]


def tokens_and_gradient(net: nn.Module, layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The tokens (B, 17, 8) of a layer and the gradient at each, by torch's own hooks."""
    kept: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _m, _a, out: kept.append(out))
    try:
        logits = net(x.clone().requires_grad_())
    finally:
        handle.remove()
    score = logits[range(len(x)), TARGET].sum()
    return kept[0].detach(), torch.autograd.grad(score, kept[0])[0]


@pytest.mark.parametrize("spelling", ATTENTIONS)
def test_gradcam_is_that_of_the_tokens_of_places_before_the_last_attention(spelling: str) -> None:
    net = attention_network(spelling).double()
    x = images(3, 3, 16, 16)
    found = attribute_full(net, x, TARGET, "gradcam")
    assert found.info["layer"] == "blocks.1.norm1"
    tokens, gradient = tokens_and_gradient(net, net.blocks[1].norm1, x)
    # The first token is the class's.
    weights = gradient[:, 1:].mean(1, keepdim=True)
    low = (weights * tokens[:, 1:]).sum(2).clamp(min=0).view(3, 1, 4, 4)
    expected = F.interpolate(low, (16, 16), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(found.maps, expected)


@pytest.mark.filterwarnings("ignore:.*zero everywhere")  # of one image nothing is in favour
@pytest.mark.parametrize("method", ["upsampled_activation", "gradcam++", "layercam", "scorecam", "guided_gradcam"])
def test_all_methods_of_a_layer_give_maps_of_places(method: str) -> None:
    net = attention_network().double()
    found = attribute_full(net, images(3, 3, 16, 16), TARGET, method)
    assert found.maps.shape == (3, 16, 16)
    assert float(found.maps.std((1, 2)).max()) > 0


def test_layers_without_places_are_refused() -> None:
    net = attention_network()
    x = images(2, 3, 16, 16).float()
    for layer in ("blocks.1.attention.attend:softmax", "blocks.1.attention.attend:matmul", "head"):
        with pytest.raises(LayerError, match="needs a layer with a 2-D map over the image"):
            attribute_full(net, x, 0, "gradcam", layer=layer)
    with pytest.raises(ModelError, match="'cam' needs a global average and one linear layer after"):
        attribute_full(net, x, 0, "cam")


def test_cam_behind_a_classifier_that_is_a_convolution_on_one_position() -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    head = nn.Conv2d(6, 4, 1)
    flat = nn.Linear(6, 4)
    flat.weight.data = head.weight.data.flatten(1)
    flat.bias.data = head.bias.data
    x = images(3, 3, 16, 16)
    one = attribute_full(nn.Sequential(body, head, nn.Flatten()).double().eval(), x, TARGET, "cam")
    other = attribute_full(nn.Sequential(body, nn.Flatten(), flat).double().eval(), x, TARGET, "cam")
    assert one.info == other.info == {"layer": "0.1"}
    torch.testing.assert_close(one.maps, other.maps)
