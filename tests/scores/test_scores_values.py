"""Scores, tables and what they hand on, against values by hand and float64 references of other shapes than usual."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from interpnet.engine import ChannelIndex, Instrument, find_sites, instrument
from interpnet.errors import DataError, InterpNetError, ModelError
from interpnet.gram import GramAccumulator
from interpnet.scores import ScoreReader, ScoreTable, collect_scores
from interpnet.scores import _norms as norms
from interpnet.scores._norms import channel_norms


@pytest.mark.parametrize("positions", [(301, 303), (1, 90_001), (2, 3, 15_013), (90_011,), (150, 90)])
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_every_position_of_a_large_map_counts(positions: tuple[int, ...], channels: int) -> None:
    """Maps of more than a buffer whose positions do not divide into blocks: the last block is not whole."""
    x = torch.rand(2, *positions, channels, generator=torch.Generator().manual_seed(1)) + 0.5
    axis = x.dim() - 1
    expected = np.sqrt((x.double().numpy() ** 2).reshape(2, -1, channels).sum(1))
    np.testing.assert_allclose(channel_norms(x, axis).numpy(), expected, rtol=3e-6)
    np.testing.assert_allclose(channel_norms(x, axis, squared=True).numpy(), expected**2, rtol=6e-6)
    # The same map with its channels first, and as the strided view that channels_last is.
    moved = x.movedim(axis, 1)
    np.testing.assert_allclose(channel_norms(moved, 1).numpy(), expected, rtol=3e-6)
    np.testing.assert_allclose(channel_norms(moved.contiguous(), 1).numpy(), expected, rtol=3e-6)


@pytest.mark.parametrize("bytes_", [1, 64, 100, 2 << 20])
@pytest.mark.parametrize("positions", [1, 2, 3, 7, 16, 17])
def test_blocks_of_any_size_give_the_same_sums(bytes_: int, positions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norms, "_BUFFER_BYTES", bytes_)
    x = torch.arange(float(2 * positions * 3)).view(2, positions, 3)
    expected = (x.double() ** 2).sum(1)
    torch.testing.assert_close(channel_norms(x, 2, squared=True).double(), expected)
    torch.testing.assert_close(channel_norms(x, 2).double(), expected.sqrt())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    """100 positions of 300: the sum of squares, 9 million, is beyond float16."""
    x = torch.full((1, 4, 10, 10), 300.0, dtype=dtype)
    for map_, axis in ((x, 1), (x.permute(0, 2, 3, 1).contiguous(), 3)):
        found = channel_norms(map_, axis)
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found, 3000.0, rtol=1e-2)
        np.testing.assert_allclose(channel_norms(map_, axis, squared=True), 9e6, rtol=1e-2)


def test_units_have_their_absolute_value() -> None:
    x = torch.tensor([[-3.0, 2.0], [0.0, -1.5]])
    assert channel_norms(x, 1).tolist() == [[3.0, 2.0], [0.0, 1.5]]
    assert channel_norms(x, 1, squared=True).tolist() == [[9.0, 4.0], [0.0, 2.25]]


class Layers(nn.Module):
    """Maps p and 3 p with 4 positions, then units 2, 0 and 6 times the mean of p."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1, bias=False)
        self.conv.weight.data = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)
        self.lin = nn.Linear(2, 3, bias=False)
        self.lin.weight.data = torch.tensor([[2.0, 0.0], [-1.0, 0.0], [0.0, 2.0]])
        self.out = nn.Linear(3, 2, bias=False)
        self.out.weight.data = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(x))
        return self.out(torch.relu(self.lin(x.mean((2, 3)))))


PIXELS = torch.tensor([[[[3.0, 4.0], [0.0, 0.0]]], [[[1.0, 1.0], [1.0, 1.0]]]])
# The norms of p are 5 and 2, its means 1.75 and 1.
EXPECTED: dict[tuple[str, str], list[list[float]]] = {
    ("l2", "none"): [[5.0, 15.0, 3.5, 0.0, 10.5], [2.0, 6.0, 2.0, 0.0, 6.0]],
    ("l2", "layer"): [[0.25, 0.75, 0.25, 0.0, 0.75]] * 2,
    ("l2", "size"): [[2.5, 7.5, 3.5, 0.0, 10.5], [1.0, 3.0, 2.0, 0.0, 6.0]],
    ("l2sq", "none"): [[25.0, 225.0, 12.25, 0.0, 110.25], [4.0, 36.0, 4.0, 0.0, 36.0]],
    ("l2sq", "layer"): [[0.1, 0.9, 0.1, 0.0, 0.9]] * 2,
    ("l2sq", "size"): [[6.25, 56.25, 12.25, 0.0, 110.25], [1.0, 9.0, 4.0, 0.0, 36.0]],
}


@pytest.mark.parametrize(("norm", "normalisation"), EXPECTED)
def test_scores_by_hand(norm: str, normalisation: str) -> None:
    expected = EXPECTED[norm, normalisation]
    options = {"norm": norm, "normalisation": normalisation}
    labels = torch.tensor([0, 1])
    table = collect_scores(Layers(), [(PIXELS, labels)], **options, progress=False)
    np.testing.assert_allclose(table.X, expected, rtol=1e-6)
    assert table.channels.sizes == (("relu", 2), ("relu:1", 3))
    assert table.predictions.tolist() == [1, 1]
    assert (table.accuracy, table.n_classes, len(table)) == (0.5, 2, 2)
    info = dict(table.info)
    assert (info["norm"], info["normalisation"], info["image_shape"]) == (norm, normalisation, [1, 2, 2])
    model = Layers().eval()
    trace = find_sites(model, PIXELS)
    for reader in (ScoreReader(trace.select(), **options), ScoreReader.of(trace, table.channels, table.info)):
        with torch.no_grad(), instrument(model, Instrument(reads=reader.reads)):
            model(PIXELS)
        np.testing.assert_allclose(reader.take(), expected, rtol=1e-6)


def test_a_reader_takes_each_pass_once() -> None:
    model = Layers().eval()
    reader = ScoreReader(find_sites(model, PIXELS).select())
    with pytest.raises(ModelError, match=r"layers \['relu', 'relu:1'\] did not run in this forward pass"):
        reader.take()
    with torch.no_grad(), instrument(model, Instrument(reads=reader.reads)):
        model(PIXELS)
        reader.take()
        with pytest.raises(ModelError, match="did not run in this forward pass"):
            reader.take()


def table(**changes: Any) -> ScoreTable:
    values: dict[str, Any] = {
        "X": np.array([[1.0, 0.0, 4.0], [3.0, 0.0, 0.0], [5.0, 0.0, 2.0]], dtype=np.float32),
        "labels": np.array([0, 1, 1]),
        "predictions": np.array([1, 1, 0]),
        "channels": ChannelIndex((("a", 1), ("b", 1), ("c", 1))),
        "indices": np.array([0, 2, 5]),
        "n_classes": 3,
    }
    return ScoreTable(**values | changes)


def test_a_table_s_means_and_dead_layers() -> None:
    made = table()
    np.testing.assert_allclose(made.channel_means(), [3.0, 0.0, 2.0])
    np.testing.assert_allclose(made.channel_means(np.array([0, 2])), [3.0, 0.0, 3.0])
    np.testing.assert_allclose(made.channel_means(np.array([1])), [3.0, 0.0, 0.0])
    np.testing.assert_allclose(made.channel_means(np.array([], dtype=np.int64)), [0.0, 0.0, 0.0])
    for block in (1, 2, 3):
        np.testing.assert_allclose(made.channel_means(block=block), [3.0, 0.0, 2.0])
    assert made.dead_layers() == ["b"]
    assert made.accuracy == pytest.approx(1 / 3)


@pytest.mark.parametrize("weight", [None, [1.0, 2.0, 0.5]])
@pytest.mark.parametrize("which", ["labels", "predictions"])
def test_the_gram_is_of_the_targets_and_weights_asked_for(which: str, weight: list[float] | None) -> None:
    made = table()
    d = np.diag([1.0, 1.0, 1.0] if weight is None else weight)
    L = np.eye(3)[{"labels": made.labels, "predictions": made.predictions}[which]]
    X = made.X.astype(np.float64)
    gram = made.gram(which, sample_weight=weight)
    np.testing.assert_allclose(gram.G, X.T @ d @ X)
    np.testing.assert_allclose(gram.B, X.T @ d @ L)
    np.testing.assert_allclose(gram.yy, (d @ L**2).sum(0))
    with pytest.raises(DataError, match="labels is 'both'; expected 'labels' or 'predictions'"):
        made.targets("both")


@pytest.mark.parametrize("block", [1, 2, 4096])
@pytest.mark.parametrize("targets", [False, True])
def test_a_table_survives_its_folder(
    block: int, targets: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interpnet.scores._table._BLOCK", block)
    labels: Any = np.array([0, 1, 1])
    if targets:
        labels = np.array([[0.0, 1.0, 0.5], [1.0, 0.0, 0.25], [0.0, 0.0, 2.0]], dtype=np.float32)
    made = table(labels=labels, info={"norm": "l2sq", "skipped": [[1, "x"]]})
    made.save(tmp_path / "t")
    again = ScoreTable.load(tmp_path / "t")
    for name in ("X", "labels", "predictions", "indices"):
        np.testing.assert_array_equal(getattr(again, name), getattr(made, name))
        assert getattr(again, name).dtype == getattr(made, name).dtype
    assert (again.channels, again.n_classes, dict(again.info)) == (made.channels, 3, dict(made.info))


def test_positions_go_on_from_batch_to_batch() -> None:
    x = PIXELS.repeat(3, 1, 1, 1)
    y = torch.zeros(6, dtype=torch.long)
    found = collect_scores(Layers(), [(x[:1], y[:1]), (x[1:4], y[1:4]), (x[4:], y[4:])], progress=False)
    assert found.indices.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(found.X[0], found.X[2], rtol=1e-6)


def test_a_gram_along_the_way_holds_what_an_earlier_run_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interpnet.scores._intake._COMMIT_ROWS", 1)
    x = torch.rand(6, 1, 2, 2)
    y = torch.tensor([0, 1, 0, 1, 1, 1])

    def broken(start: int) -> Any:
        yield x[start : start + 2], y[start : start + 2]
        yield x[start + 2 : start + 4], y[start + 2 : start + 4]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect_scores(Layers(), broken, out=tmp_path / "t", key="k", progress=False)
    sums = GramAccumulator(5, 2)
    rest = lambda start: [(x[i : i + 1], y[i : i + 1]) for i in range(start, 6)]  # noqa: E731
    made = collect_scores(Layers(), rest, out=tmp_path / "t", key="k", gram=sums, progress=False)
    gram = sums.gram()
    X = made.X.astype(np.float64)
    np.testing.assert_allclose(gram.G, X.T @ X)
    np.testing.assert_allclose(gram.B, X.T @ np.eye(2)[y])
    assert gram.n == 6


def test_channels_of_another_model_are_refused() -> None:
    trace = find_sites(Layers(), PIXELS)
    with pytest.raises(InterpNetError, match="layer 'relu' has 2 channels in this model and 4 in the interpretation"):
        ScoreReader.of(trace, ChannelIndex((("relu", 4),)), {})


def test_a_table_without_rows_survives_its_folder(tmp_path: Path) -> None:
    none = np.zeros(0, dtype=np.int64)
    table(X=np.zeros((0, 3), dtype=np.float32), labels=none, predictions=none, indices=none).save(tmp_path / "t")
    again = ScoreTable.load(tmp_path / "t")
    assert (len(again), again.X.shape, again.labels.shape) == (0, (0, 3), (0,))
    assert np.isnan(again.accuracy)
    np.testing.assert_array_equal(again.channel_means(), [0.0, 0.0, 0.0])
