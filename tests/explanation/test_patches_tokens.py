"""Crops round tokens: a token lies in the middle of its patch, and a class token nowhere."""

from __future__ import annotations

from dataclasses import replace

import torch

from interpnet.engine import Site, find_sites
from interpnet.explanation._patches import peak_window, window
from tests.helpers.networks import attention_network


def site(layer: str = "blocks.1.mlp.1") -> Site:
    # 4 x 4 patches of 4 x 4 pixels, a class token before them.
    return find_sites(attention_network("qkv"), torch.randn(2, 3, 16, 16))[layer]


def test_a_token_is_shown_with_what_is_round_its_patch() -> None:
    tokens = site()
    assert (tokens.map_shape, tokens.grid, tokens.lead) == ((17,), (4, 4), 1)
    # The third token after the class token but eight: row 2, column 2, whose middle is pixel (10, 10).
    rows, columns = peak_window(tokens, (1 + 2 * 4 + 2,), (16, 16), extent=1 / 17) or ()
    assert (sum(rows) / 2, sum(columns) / 2) == (10, 10)
    assert rows[1] - rows[0] == columns[1] - columns[0] < 16
    # In the corner the crop stays inside the image.
    corner = peak_window(tokens, (1,), (16, 16), extent=1 / 17)
    assert corner is not None
    assert [start for start, _ in corner] == [0, 0]


def test_what_a_token_sees_is_the_whole_image() -> None:
    assert window(site(), (7,), (16, 16)) is None


def test_a_class_token_and_what_lies_nowhere_show_the_whole_image() -> None:
    assert peak_window(site(), (0,), (16, 16), extent=0.1) is None
    assert peak_window(replace(site(), grid=(), lead=0), (7,), (16, 16), extent=0.1) is None
    heads = site("blocks.0.attention:matmul:1/heads")
    assert peak_window(heads, (3, 1), (16, 16), extent=0.1) is None
