"""Sparseness and complexity: by hand, from their definitions, and against Quantus."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from interpnet.errors import DataError
from interpnet.evaluate import complexity, sparseness

MAPS = torch.randn(5, 6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def naive_gini(sizes: list[float]) -> float:
    """The mean difference of two pixels over twice their mean, pair by pair: no sorting."""
    n = len(sizes)
    return math.fsum(abs(a - b) for a in sizes for b in sizes) / (2 * n * math.fsum(sizes))


def naive_entropy(sizes: list[float]) -> float:
    total = math.fsum(sizes)
    return -math.fsum(a / total * math.log(a / total) for a in sizes if a > 0)


@pytest.mark.parametrize(("measured", "naive"), [(sparseness, naive_gini), (complexity, naive_entropy)])
def test_against_the_definition(measured: Any, naive: Any) -> None:
    maps = MAPS.clone()
    maps[1] = maps[1].clamp(min=0)
    maps[2] *= 1e300
    maps[3] *= 1e-300
    expected = [naive([abs(v) for v in m.flatten().tolist()]) for m in torch.cat([MAPS[:1], maps[1:2], MAPS[2:]])]
    found = measured(maps)
    np.testing.assert_allclose(found.values.numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(measured(-3 * MAPS).values[0].item(), expected[0], rtol=1e-12)


def test_by_hand() -> None:
    # Sizes 0, 1, 2, 5: (-3 * 0 - 1 * 1 + 1 * 2 + 3 * 5) / (4 * 8).
    one = torch.tensor([[[1.0, -5.0], [2.0, 0.0]]])
    assert sparseness(one).mean == 16 / 32
    shares = (1 / 8, 5 / 8, 2 / 8)
    assert complexity(one).mean == pytest.approx(-sum(p * math.log(p) for p in shares), rel=1e-15)
    alone = torch.zeros(1, 5, 4)
    alone[0, 2, 1] = -7.0
    assert sparseness(alone).mean == pytest.approx(1 - 1 / 20, rel=1e-15)
    assert complexity(alone).mean == 0.0
    assert (sparseness(one).direction, complexity(one).direction) == ("higher is better", "lower is better")


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_a_constant_map_is_refused_or_flagged(value: float) -> None:
    maps = MAPS.clone()
    maps[3] = value
    for measured, expected in ((sparseness, 0.0), (complexity, math.log(42))):
        with pytest.raises(DataError, match="heatmaps: the map of image 3 is constant"):
            measured(maps)
        found = measured(maps, constant="zero")
        assert found.flagged.tolist() == [False, False, False, True, False]
        assert found.values[3].item() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("measured", [sparseness, complexity])
def test_bad_maps(measured: Any) -> None:
    with pytest.raises(DataError, match="heatmaps: NaN or infinity in image 2"):
        measured(torch.stack([MAPS[0], MAPS[1], MAPS[2] / 0]))
    with pytest.raises(DataError, match=r"heatmaps: shape \(6, 7\), torch.float64 came"):
        measured(MAPS[0])


def test_on_every_device(device: str) -> None:
    for measured in (sparseness, complexity):
        found = measured(MAPS.to(device))
        assert found.values.device.type == device
        torch.testing.assert_close(found.values.cpu(), measured(MAPS).values)


@pytest.mark.parametrize(("measured", "name"), [(sparseness, "Sparseness"), (complexity, "Complexity")])
def test_agrees_with_quantus(measured: Any, name: str) -> None:
    maps = MAPS.repeat_interleave(2, 2)[:, :, :6].contiguous()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantus = pytest.importorskip("quantus")
        theirs = getattr(quantus, name)(abs=True, normalise=False, disable_warnings=True)
        found = theirs(
            model=torch.nn.Flatten(),
            x_batch=maps.numpy()[:, None],
            y_batch=np.zeros(5, np.int64),
            a_batch=maps.numpy()[:, None].copy(),
            channel_first=True,
        )
    np.testing.assert_allclose(measured(maps).values.numpy(), found, rtol=1e-6)
