"""The share of a map's energy at a stride's frequencies: by hand, and before and after resampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from interpnet.engine import Channel
from interpnet.errors import InterpNetError
from interpnet.evaluate import checkerboard
from interpnet.explanation import channel_signal


def reference(x: np.ndarray, s: int, width: float) -> float:
    """The definition with explicit Fourier matrices, frequency by frequency."""
    h, w = x.shape
    W, V = (np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) for n in (h, w))
    energy = np.abs(W @ x @ V) ** 2
    share = 0.0
    for u in range(h):
        for v in range(w):
            fu, fv = (f / n if f < n / 2 else f / n - 1 for f, n in ((u, h), (v, w)))
            near = [round(f * s) for f in (fu, fv)]
            off = max(abs(f * s - m) for f, m in zip((fu, fv), near, strict=True))
            if near != [0, 0] and off <= width + 1e-9:
                share += energy[u, v]
    return share / energy.sum()


def test_by_hand() -> None:
    grid = torch.zeros(8, 8)
    grid[::2, ::2] = 3.0
    # A comb of period 2 has equal energy at (0, 0), (0, 1/2), (1/2, 0) and (1/2, 1/2).
    assert checkerboard(grid, 2).item() == pytest.approx(3 / 4)
    rows = torch.zeros(8, 8)
    rows[::2] = 1.0
    assert checkerboard(rows, (2, 1)).item() == pytest.approx(1 / 2)
    assert checkerboard(rows, (1, 2)).item() == pytest.approx(0.0, abs=1e-6)
    board = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1.0
    assert checkerboard(board, 2).item() == pytest.approx(1.0)
    # Alternating 1, 3: mean 2, amplitude 1: energies 4 and 1.
    assert checkerboard(2.0 + board, 2).item() == pytest.approx(1 / 5)
    assert checkerboard(torch.zeros(2, 4, 4), 2).tolist() == [0.0, 0.0]
    coarse = torch.zeros(9, 9)
    coarse[::3, ::3] = 1.0
    assert checkerboard(coarse, 3).item() == pytest.approx(8 / 9)


@pytest.mark.parametrize(("shape", "s"), [((8, 12), 2), ((9, 10), 3), ((7, 11), 2), ((16, 16), 4)])
def test_against_the_definition(shape: tuple[int, int], s: int) -> None:
    x = torch.randn(3, *shape, dtype=torch.float64)
    got = checkerboard(x, s, width=0.2)
    np.testing.assert_allclose(got.numpy(), [reference(v.numpy(), s, 0.2) for v in x], rtol=1e-9)


def test_a_grid_under_a_smooth_picture_is_found_whatever_the_picture() -> None:
    at = torch.linspace(-1, 1, 64, dtype=torch.float64)
    smooth = torch.exp(-3 * (at[:, None] ** 2 + (at - 0.3) ** 2))
    comb = torch.zeros(64, 64, dtype=torch.float64)
    comb[::4, ::4] = 1.0
    assert checkerboard(smooth, 4).item() < 1e-3
    assert checkerboard(smooth * comb, 4).item() == pytest.approx(1 - 1 / 16, abs=5e-3)
    noise = torch.randn(20, 64, 64, dtype=torch.float64)
    # A band holds 17 of 32 frequencies here, both edges counted, of each axis: a little over a quarter of all.
    assert checkerboard(noise, 2).mean().item() == pytest.approx(3 / 4 * (17 / 32) ** 2, abs=0.003)


def test_resampling_takes_the_grid_away() -> None:
    """A strided convolution of a constant image whose kernel is smaller than its stride leaves holes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)).eval()
    x = torch.rand(4, 3, 32, 32) + 1.0
    model[0].bias.data.fill_(3.0)
    model(x)
    shares = []
    for resample in (False, True):
        signals = channel_signal(model, x, Channel("1", 2), resample=resample).signals[:, 0]
        shares.append(checkerboard(signals, 4).mean().item())
    before, after = shares
    assert before > 0.4
    assert after < before / 5


def test_errors() -> None:
    maps = torch.zeros(2, 8, 8)
    cases = [
        (lambda: checkerboard(maps.int(), 2), r"maps: shape \(2, 8, 8\), torch.int32 came"),
        (lambda: checkerboard(np.zeros((2, 2)), 2), "maps: a ndarray came"),
        (lambda: checkerboard(maps, 1), "stride=1; expected a whole number of pixels from 2 on"),
        (lambda: checkerboard(maps, 9), r"stride=9 is larger than the maps, \(8, 8\)"),
        (lambda: checkerboard(maps, 2, width=0.6), "width=0.6; expected above 0"),
    ]
    for call, message in cases:
        with pytest.raises(InterpNetError, match=message):
            call()
