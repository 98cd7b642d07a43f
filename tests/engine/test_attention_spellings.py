"""One attention network in five spellings: what every method that goes through attention is tried on."""

from __future__ import annotations

import pytest
import torch
from helpers.networks import ATTENTIONS, attention_network, images


@pytest.mark.parametrize("spelling", ATTENTIONS)
def test_every_spelling_of_attention_computes_the_same(spelling: str) -> None:
    x = images(3, 3, 16, 16)
    with torch.no_grad():
        expected = attention_network("module").double()(x)
        torch.testing.assert_close(attention_network(spelling).double()(x), expected, rtol=1e-12, atol=1e-12)
    assert float(expected.std(0).min()) > 0.05, "the images make no difference"
