"""What a check of a network remembers: the size of an image and its type, not how many images there were."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from interpnet.engine import find_sites
from interpnet.engine._function import FunctionCheck


def known(net: nn.Module, images: Tensor) -> bool:
    return FunctionCheck(net, images, lambda result, _: [result]).known


def test_a_network_is_known_for_the_size_and_type_of_an_image() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    assert not known(net, torch.rand(2, 1, 6, 6))
    find_sites(net, torch.rand(2, 1, 6, 6))
    assert known(net, torch.rand(2, 1, 6, 6))
    assert known(net, torch.rand(1, 1, 6, 6))
    assert not known(net, torch.rand(2, 1, 6, 7))
    assert not known(net, torch.rand(2, 1, 6, 6).double())
