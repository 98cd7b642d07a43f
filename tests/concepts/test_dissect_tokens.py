"""Dissection of tokens and windows: the numbers of the same channels as maps of a convolution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from interpnet.concepts import dissect
from interpnet.errors import LayerError

N, SIDE = 12, 16


class Patches(nn.Module):
    """Features of patches, mixed at each position, spelled in several ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(1, 4, 2, 2)
        self.mix = nn.Linear(4, 5)
        self.act = nn.ReLU()
        self.head = nn.Linear(5, 2)
        # Large, so that it would change every threshold if it counted as a place.
        self.token = nn.Parameter(torch.full((1, 1, 4), 9.0))
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        y = self.embed(x)
        if self.how == "maps":
            y = self.act(nn.functional.conv2d(y, self.mix.weight[..., None, None], self.mix.bias))
            return self.head(y.mean((2, 3)))
        y = y.permute(0, 2, 3, 1)
        if self.how == "windows":
            y = torch.roll(y, (-1, -1), (1, 2)).unflatten(2, (4, 2)).unflatten(1, (4, 2)).transpose(2, 3).flatten(0, 2)
            y = self.act(self.mix(y.flatten(1, 2)))
            return self.head(y.reshape(len(x), -1, 5).mean(1))
        y = y.flatten(1, 2)
        if self.how == "class token":
            y = torch.cat([self.token.expand(len(y), -1, -1), y], 1)
        return self.head(self.act(self.mix(y))[:, -64:].mean(1))


@pytest.fixture(scope="module")
def batch() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(2)
    return torch.randn(N, 1, SIDE, SIDE, generator=rng), torch.rand(N, 2, SIDE, SIDE, generator=rng) > 0.6


@pytest.mark.parametrize("how", ["tokens", "class token", "windows"])
def test_they_have_the_overlaps_of_maps(how: str, batch: tuple[Tensor, Tensor]) -> None:
    options = {"concepts": ["a", "b"], "layers": ["act"], "quantile": 0.05, "untrained": False, "progress": False}
    expected = dissect(Patches("maps").eval(), [batch], **options)
    found = dissect(Patches(how).eval(), [batch], **options)
    np.testing.assert_allclose(found.thresholds, expected.thresholds, rtol=1e-5)
    np.testing.assert_allclose(found.iou, expected.iou, rtol=1e-12)
    assert np.nanmax(expected.iou) > 0


def test_heads_have_no_place(batch: tuple[Tensor, Tensor]) -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Conv2d(1, 4, 4, 4)
            self.attend = nn.MultiheadAttention(4, 2, batch_first=True)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.embed(x).flatten(2).transpose(1, 2)
            return self.head(self.attend(y, y, y)[0].mean(1))

    net = Attends().eval()
    options = {"concepts": ["a", "b"], "untrained": False, "progress": False}
    with pytest.raises(
        LayerError, match=r"'attend:(bmm|matmul):1/heads' cannot be compared with masks: its map of shape"
    ):
        dissect(net, [batch], layers="heads", **options)
    assert dissect(net, [batch], layers="attention", quantile=0.1, **options).iou.shape == (4, 2)
