"""Functions of torch that are made of others: the same numbers, and every part is seen."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.networks import images
from torch import Tensor, nn

from interpnet.engine import Instrument, Replay, find_sites, instrument
from interpnet.engine._composed import composed

HIDDEN = torch.ones(5, 5, dtype=torch.bool).tril()
HIDDEN[2] = False  # a query that sees no key
ASKED: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"is_causal": True},
    "scale": {"scale": 0.3},
    "added": {"attn_mask": torch.linspace(-3, 3, 25).double().view(5, 5)},
    "hidden": {"attn_mask": HIDDEN},
    "grouped": {"enable_gqa": True},
    "dropout": {"dropout_p": 0.0},
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_attention_in_parts_is_torchs(asked: dict[str, Any]) -> None:
    heads = 2 if "enable_gqa" in asked else 4
    q, k, v = images(2, 4, 5, 3), images(2, heads, 5, 3, seed=1), images(2, heads, 5, 3, seed=2)
    own = composed(F.scaled_dot_product_attention)
    assert own is not None
    torch.testing.assert_close(own(q, k, v, **asked), F.scaled_dot_product_attention(q, k, v, **asked))


def test_attention_by_hand() -> None:
    # Scores log 3 and 0: weights 3/4 and 1/4.
    own = composed(F.scaled_dot_product_attention)
    assert own is not None
    q = torch.tensor([[1.0]])
    k = torch.tensor([[math.log(3.0)], [0.0]])
    assert own(q, k, torch.tensor([[8.0], [4.0]])).item() == pytest.approx(7.0)


@pytest.mark.parametrize("asked", [{}, {"beta": 0}, {"beta": 2.0, "alpha": -0.5}], ids=str)
def test_a_sum_with_a_product_is_torchs(asked: dict[str, Any]) -> None:
    a, b, c = images(3, 2, 4), images(3, 4, 5, seed=1), images(3, 2, 5, seed=2)
    for func in (torch.baddbmm, Tensor.baddbmm):
        own = composed(func)
        assert own is not None
        torch.testing.assert_close(own(c, a, b, **asked), func(c, a, b, **asked))


class Attentive(nn.Module):
    """Attention by torch's module, or its function."""

    def __init__(self, *, weights: bool = False, masked: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention = nn.MultiheadAttention(4, 2)
        self.head = nn.Linear(4, 3)
        self.how: dict[str, Any] = {"need_weights": weights}
        if masked:
            self.how["attn_mask"] = torch.ones(9, 9, dtype=torch.bool).triu(1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).permute(2, 0, 1)  # (T, B, C)
        return self.head(self.attention(tokens, tokens, tokens, **self.how)[0].mean(0))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("weights", [False, True])
def test_torchs_module_is_seen_in_parts(weights: bool, masked: bool) -> None:
    net = Attentive(weights=weights, masked=masked).double().eval()
    x = images(2, 4, 3, 3)
    expected = net(x)
    ops: list[str] = []
    with instrument(net, Instrument(observe=lambda call, _out: ops.append(call.op))):
        torch.testing.assert_close(net(x), expected, rtol=1e-12, atol=1e-12)
    assert {"linear", "softmax"} <= set(ops)
    assert not {"multi_head_attention_forward", "scaled_dot_product_attention", "baddbmm"} & set(ops)
    assert {"attention:linear", "attention:softmax", "attention:linear:1"} <= {s.name for s in find_sites(net, x).sites}


def test_passes_that_begin_in_the_middle_have_the_parts_too() -> None:
    net = Attentive().double().eval()
    x = images(3, 4, 3, 3)
    replay = Replay(net, ["attention:linear:1"])
    with torch.inference_mode():
        intact = replay.record(x, lambda: net(x))
        rows = torch.tensor([2, 0, 1])
        late = replay.resume(replay.place("attention:linear:1"), rows, lambda: net(x[rows]))
    torch.testing.assert_close(late, intact[rows], rtol=1e-12, atol=1e-12)
    assert replay.why == ""
