"""The last linear layer: found, read, exchanged in a copy, and refused where it is not what it seems."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from interpnet.engine import OneColumn
from interpnet.errors import LayerError, ModelError
from interpnet.models import LastLayer, Layer, copied, last_layer

X = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def stem() -> list[nn.Module]:
    return [nn.Conv2d(3, 6, 3), nn.ReLU()]


def pooled(*last: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*stem(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), *last).eval()


def reproduces(net: nn.Module, layer: LastLayer, images: Tensor = X) -> None:
    features, logits = layer.features(images)
    torch.testing.assert_close(layer.layer(features).float(), logits)
    with torch.no_grad():
        torch.testing.assert_close(logits, net(images).reshape(logits.shape))


def test_the_layer_reproduces_the_logits_from_what_it_gets() -> None:
    net = pooled(nn.Dropout(0.5), nn.Linear(6, 4))
    layer = last_layer(net, X)
    assert (layer.site, layer.weight_name, layer.bias_name, layer.why) == ("5", "5.weight", "5.bias", "")
    reproduces(net, layer)


def test_a_1x1_convolution_before_the_average_is_one() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*stem(), nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    layer = last_layer(net, X)
    assert layer.why == ""
    assert tuple(layer.weight.shape) == (4, 6)
    reproduces(net, layer)
    new = Layer(torch.randn(4, 6).double(), torch.randn(4).double())
    features, _ = layer.features(X)
    torch.testing.assert_close(layer.replaced(new)(X), new(features).float(), rtol=1e-4, atol=1e-5)


def test_a_relu_behind_the_convolution_is_said() -> None:
    net = nn.Sequential(*stem(), nn.Conv2d(6, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    assert "an activation, a scale or a softmax stands behind" in last_layer(net, X).why


def test_a_relu_that_all_outputs_pass_is_said_too() -> None:
    net = pooled(nn.Linear(6, 4), nn.ReLU())
    with torch.no_grad():
        net[4].bias.fill_(100.0)
    assert "an activation" in last_layer(net, X).why


def test_a_softmax_behind_it_is_said() -> None:
    assert "softmax" in last_layer(pooled(nn.Linear(6, 4), nn.Softmax(1)), X).why


def test_tokens_are_averaged_over_their_axis() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x.flatten(2).transpose(1, 2)).mean(1)

    net = Tokens().eval()
    layer = last_layer(net, X)
    assert layer.why == ""
    reproduces(net, layer)


def test_one_output_stays_one_column() -> None:
    net = pooled(nn.Linear(6, 1), nn.Flatten(0))
    layer = last_layer(net, X)
    assert layer.why == ""
    assert layer.features(X)[1].shape == (5, 1)
    assert last_layer(net, X, output=OneColumn()).why == ""


def test_no_bias_takes_zeros_only() -> None:
    layer = last_layer(pooled(nn.Linear(6, 4, bias=False)), X)
    assert layer.bias_name is None
    assert layer.bias.tolist() == [0.0] * 4
    layer.replaced(Layer(layer.weight, layer.bias))
    with pytest.raises(LayerError, match="has no bias; expected a bias of zeros"):
        layer.replaced(Layer(layer.weight, layer.bias + 1))


def test_the_output_of_a_dictionary_is_found() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = pooled(nn.Linear(6, 4))

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"logits": self.net(x)}

    layer = last_layer(Named().eval(), X, output="logits")
    assert (layer.weight_name, layer.why) == ("net.4.weight", "")


def test_features_are_copies_of_what_is_overwritten_later() -> None:
    class Later(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            z = x.mean((2, 3))
            out = self.head(z)
            z.zero_()
            return out

    layer = last_layer(Later().eval(), X)
    assert float(layer.features(X)[0].abs().sum()) > 0


def test_model_and_modes_are_left_as_they_were() -> None:
    net = pooled(nn.Linear(6, 4)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    layer = last_layer(net, X)
    other = layer.replaced(Layer(layer.weight * 0, layer.bias * 0))
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not other(X).any()


class Round(nn.Module):
    """A path leads round the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        z = x.mean((2, 3))
        return self.head(z) + z


class Tied(nn.Module):
    """The last layer's weights serve another call too."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.last = nn.Linear(3, 3)
        self.last.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x.mean((2, 3))))


class TiedBias(Tied):
    """Only the bias is shared."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(3, 3)
        self.last.bias = self.first.bias


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), "no linear layer or convolution whose weights"),
        (pooled(weight_norm(nn.Linear(6, 4))), r"convolution of kernel \(3, 3\)"),
        (nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten()), r"convolution of kernel \(8, 8\), stride"),
        (Round(), "another path leads round it"),
        (Tied(), r"shares 'first.weight' with 'first'.*give it a copy"),
        (TiedBias(), r"shares 'first.bias' with 'first'"),
    ],
)
def test_other_layers_are_refused(net: nn.Module, message: str) -> None:
    with pytest.raises(LayerError, match=message):
        last_layer(net.eval(), X)


def test_a_network_that_cannot_be_copied_says_so() -> None:
    net = pooled(nn.Linear(6, 4))
    net.kept = net(X)  # a result with a graph
    with pytest.raises(ModelError, match="cannot be copied"):
        copied(net)
