"""Peaks cut before a map is scaled, and named channels filled up by others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from interpnet.engine import Channel, ChannelIndex
from interpnet.errors import InterpNetError
from interpnet.explanation import explain
from interpnet.explanation._smooth import saturated
from interpnet.interpretation import Interpretation


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("axes", [1, 2])
def test_what_lies_above_the_quantile_is_cut(share: float, axes: int) -> None:
    maps = torch.rand(3, 7, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    flat = maps.numpy().reshape(*maps.shape[: 3 - axes], -1)
    limit = np.quantile(flat, share, axis=-1, keepdims=True)
    expected = np.minimum(flat, limit).reshape(maps.shape)
    torch.testing.assert_close(saturated(maps, share, axes=axes), torch.from_numpy(expected), rtol=0, atol=1e-15)


def test_all_pixels_leave_a_map_alone() -> None:
    maps = torch.rand(2, 4, 4)
    assert saturated(maps, 1.0) is maps


def test_a_map_of_few_positive_pixels_is_not_blank() -> None:
    maps = torch.zeros(1, 10, 10)
    maps[0, 3, 4] = 2.0
    assert torch.equal(saturated(maps, 0.9), maps)


def _explained(**options: Any) -> Any:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)).double()
    images = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    coef = np.array([[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    found = Interpretation(ChannelIndex((("1", 4),)), coef, ("a", "b"))
    return explain(net, images, found, classes=0, **({"variant": "paper"} | options))


def test_explanations_are_scaled_after_their_peaks_are_cut() -> None:
    plain = _explained(k=1)
    cut = _explained(k=1, saturate=0.75)
    signal = plain.signals[:, 0].abs().sum(1).numpy().reshape(3, -1)
    limit = np.quantile(signal, 0.75, axis=1, keepdims=True)
    low = signal.min(1, keepdims=True)
    expected = (np.minimum(signal, limit) - low) / (limit - low)
    np.testing.assert_allclose(cut.heatmaps.numpy().reshape(3, -1), expected, atol=1e-12)
    assert (cut.heatmaps == 1).flatten(1).sum(1).min() > 10  # a quarter of 64 pixels


@pytest.mark.parametrize("share", [0, -0.5, 1.5])
def test_a_share_must_be_one(share: Any) -> None:
    with pytest.raises(InterpNetError, match=r"saturate is .*expected a share of pixels above 0 and at most 1"):
        _explained(saturate=share)


def test_named_channels_come_first_and_others_fill_up() -> None:
    of_all = _explained(k=4, choose="all")
    of_named = _explained(k=4, choose="contribution")
    filled = _explained(k=4, choose="named")
    for i in range(3):
        assert of_named.channels[i] in ([], [Channel("1", 2)])
        rest = [channel for channel in of_all.channels[i] if channel not in of_named.channels[i]]
        assert filled.channels[i] == of_named.channels[i] + rest
        values = dict(zip(of_all.channels[i], of_all.responses[i], strict=True))
        assert filled.responses[i] == pytest.approx([values[channel] for channel in filled.channels[i]])


def test_named_channels_that_speak_against_the_class_are_not_shown() -> None:
    found = Interpretation(ChannelIndex((("1", 3),)), np.array([[1.0, 0.0, 1.0]]), ("a",))
    values = [-1.0, 5.0, 2.0]
    assert found.top_channels(values, 0, 3, "named") == [(Channel("1", 2), 2.0), (Channel("1", 1), 5.0)]
    assert found.top_channels(values, 0, 3, "contribution") == [(Channel("1", 2), 2.0)]


def test_a_variant_stands_for_the_options_that_are_not_given() -> None:
    # 1 % of 8 pixels.
    spelled = {"choose": "named", "rule": "lrp_gamma", "seed": "relevance", "smooth": 0.08, "saturate": 0.99}
    default = _explained(variant="relevance")
    same = _explained(variant="paper", reduction="sum", combination="sum", **spelled)
    assert default.channels == same.channels
    assert torch.equal(default.combined, same.combined)
    assert torch.equal(default.signals, same.signals)


@pytest.mark.parametrize("given", [{"rule": "guided"}, {"seed": "ones"}, {"choose": "contribution"}, {"saturate": 1.0}])
def test_an_option_that_is_given_stands_for_itself(given: dict[str, Any]) -> None:
    default = _explained(variant="relevance", k=2)
    changed = _explained(variant="relevance", k=2, **given)
    assert not torch.equal(default.combined, changed.combined)


def test_an_unknown_variant_is_named() -> None:
    with pytest.raises(InterpNetError, match="variant is 'modern'; expected 'relevance' or 'paper'"):
        _explained(variant="modern")
