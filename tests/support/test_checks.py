"""Checks of arguments: interpnet/support/checks.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import interpnet as ip
from interpnet.errors import InterpNetError
from interpnet.support.checks import whole_number


def test_a_count_is_at_most_what_an_array_can_hold():
    assert whole_number(2**63 - 1, "max_batch", least=1) == 2**63 - 1
    for value in (2**63, 10**30, np.uint64(2**63)):
        with pytest.raises(
            InterpNetError, match=r"max_batch is .*; expected a whole number from 1 to 9223372036854775807"
        ):
            whole_number(value, "max_batch", least=1)


def test_seeds_may_be_larger():
    assert whole_number(10**30, "seed", least=0) == 10**30
    assert whole_number(-(10**30), "shift") == -(10**30)


@pytest.mark.parametrize("measure", ["deletion", "insertion"])
def test_a_batch_of_more_images_than_there_can_be_is_refused(measure):
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval()
    images = torch.rand(2, 3, 2, 2)
    with pytest.raises(InterpNetError, match=r"max_batch is 10{30}; expected a whole number"):
        getattr(ip.evaluate, measure)(net, images, images.sum(1), 0, steps=2, max_batch=10**30)


def test_a_count_of_numpy_counts_as_one_of_python():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval()
    images = torch.rand(3, 3, 2, 2)
    options = {"steps": 2, "controls": ()}
    plain = ip.evaluate.deletion(net, images, images.sum(1), 0, max_batch=2, **options)
    other = ip.evaluate.deletion(net, images, images.sum(1), 0, max_batch=np.int64(2), **options)
    assert torch.equal(plain.values, other.values)


def test_a_radius_beyond_all_pixels_takes_them_all():
    maps = torch.tensor([[[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]])
    mask = torch.tensor([[[False, False, False], [True, False, False]]])
    hits = [ip.evaluate.pointing_game(maps, mask, tolerance=t).values.item() for t in (2.2, 2.3, 1e300)]
    assert hits == [0.0, 1.0, 1.0]  # the distance is the root of 5
