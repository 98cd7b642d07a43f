"""Crops round tokens: a token lies in the middle of its patch, and a class token nowhere."""

from __future__ import annotations

from dataclasses import replace

import torch

from interpnet.engine import Site, find_sites
from interpnet.explanation._patches import average_visualizations, peak_window, window
from interpnet.explanation._peaks import PeakReader
from interpnet.scores import collect_scores
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


def test_a_maximum_is_looked_for_among_places_of_the_image() -> None:
    tokens = site()
    out = torch.zeros(1, 17, tokens.channels)
    out[0, 0] = 9.0
    out[0, 1 + 2 * 4 + 3] = 2.0
    out[0, 1] = 1.5
    reader = PeakReader([tokens])
    reader.reads[tokens.name](out)
    values, positions, extents = reader.take()[tokens.name]
    assert (values[0, 0], positions[0, 0], extents[0, 0]) == (2.0, 1 + 2 * 4 + 3, 2 / 16)


def test_crops_of_tokens_have_one_size_and_are_averaged() -> None:
    model = attention_network("qkv").float()
    data = torch.utils.data.TensorDataset(torch.rand(12, 3, 16, 16), torch.arange(12) % 4)
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    table = collect_scores(model, loader, progress=False)
    channels = table.channels[:3]
    found = average_visualizations(model, data, table, channels, top=5, progress=False)
    assert [shown.count for shown in found.values()] == [5, 5, 5]
    assert all(shown.crops.shape[2:] == shown.field < (16, 16) for shown in found.values())
