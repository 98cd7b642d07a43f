"""What images have in common: by hand, against a float64 reference, by chance, and as an exchange for a repair."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from interpnet.errors import DataError
from interpnet.shortcuts import CommonOverlay, common_overlay


def noise(n: int, seed: int, side: int = 12) -> Tensor:
    return torch.rand(n, 2, side, side, generator=torch.Generator().manual_seed(seed))


def stamped(n: int, rows: Any, seed: int = 0) -> Tensor:
    images = noise(n, seed)
    images[list(rows), 0, 2, 3:6] += 1.5
    return images


def test_a_stamp_is_found_with_the_images_that_bear_it() -> None:
    bearing = range(10, 40)
    # Three of those named do not bear it, and six that bear it are not named.
    which = torch.tensor([1, 2, 3, *range(10, 34)])
    found = common_overlay(stamped(60, bearing), which, noise(40, 1))
    assert found.images == tuple(bearing)
    assert found.p == 0.01
    covered = (found.pattern != 0).any(0).nonzero().tolist()
    assert covered == [[2, 3], [2, 4], [2, 5]]
    assert found.covered == 3 / 144
    # An average over 9 x 9 pixels, twice, takes away some of it.
    assert 0.8 < float(found.pattern[0, 2, 3:6].mean()) < 1.5


def test_nothing_in_common_is_seldom_found() -> None:
    found = [common_overlay(noise(40, s), torch.arange(12), noise(40, 99 + s)) for s in range(20)]
    assert sum(one.p <= 0.05 for one in found) <= 4
    assert all(one.covered == 0 for one in found)
    assert all(not one.images for one in found)


def test_numbers_are_those_of_a_reference_in_float64() -> None:
    images, others = stamped(30, range(4, 20)), noise(24, 5)
    which = np.arange(2, 14)
    found = common_overlay(images, torch.from_numpy(which), others, seed=3)

    def detail(x: Tensor) -> np.ndarray[Any, Any]:
        made = x.double().numpy()
        for _ in range(2):
            smooth = np.empty_like(made)
            for r in range(12):
                for c in range(12):
                    near = made[:, :, max(r - 4, 0) : r + 5, max(c - 4, 0) : c + 5]
                    smooth[:, :, r, c] = near.mean((2, 3))
            made = smooth
        return (x.double().numpy() - made).reshape(len(x), -1)

    own, rest = detail(images), detail(others)

    def match(row: Any, named: Any, reference: Any) -> float:
        pattern = named.mean(0) - reference.mean(0)
        return float(row @ pattern / np.linalg.norm(row))

    matches = np.array([match(own[i], own[[j for j in which if j != i]], rest) for i in range(30)])
    usual = np.array([match(rest[i], own[which], np.delete(rest, i, 0)) for i in range(24)])
    away = 1.4826022185 * np.median(np.abs(usual - np.median(usual)))
    bearing = np.flatnonzero(matches > np.median(usual) + 4 * away)
    assert found.images == tuple(bearing)

    halves = [own[which[:12]][s::2].mean(0) - rest[s::2].mean(0) for s in (0, 1)]
    assert found.agreement == pytest.approx(np.corrcoef(*halves)[0, 1], abs=1e-5)

    mean = own[bearing].mean(0) - rest.mean(0)
    error = np.sqrt(own[bearing].var(0, ddof=1) / len(bearing) + rest.var(0, ddof=1) / 24)
    far = stats.t.ppf(1 - 0.05 / 2 / mean.size, len(bearing) - 1)
    shown = (np.abs(mean) > far * error).reshape(2, 12, 12).any(0)
    expected = np.where(shown, mean.reshape(2, 12, 12), 0)
    np.testing.assert_allclose(found.pattern.numpy(), expected, atol=1e-5)


def test_an_exchange_lays_it_on_within_the_values_that_images_have() -> None:
    pattern = torch.zeros(1, 2, 2)
    pattern[0, 0, 1] = 0.5
    images = torch.tensor([[[[0.0, 0.2], [0.4, 1.0]]], [[[0.1, 0.8], [0.4, 0.5]]]])
    made = CommonOverlay(pattern, (), 1.0, 0.01).exchange(images, torch.zeros(2), torch.Generator())
    expected = images.clone()
    expected[0, 0, 0, 1] = 0.7
    expected[1, 0, 0, 1] = 1.0  # 1.3 is beyond every value that came
    torch.testing.assert_close(made, expected)


@pytest.mark.parametrize(
    ("which", "others", "message"),
    [
        (torch.arange(3), noise(20, 1), "which names 3 different images, from 0 to 2; expected at least 4"),
        (torch.arange(7, 11), noise(20, 1), "from 7 to 10; expected at least 4 positions, from 0 to 9"),
        (torch.arange(0), noise(20, 1), "which names 0 different images; expected"),
        (torch.arange(4), noise(15, 1), "others: 15 images came; expected at least 16"),
        (torch.arange(4), noise(20, 1, side=8), "of one size"),
        (torch.arange(4) > 1, noise(20, 1), "expected positions of images, int64"),
    ],
)
def test_too_few_images_and_other_shapes_are_refused(which: Tensor, others: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        common_overlay(noise(10, 0), which, others)
