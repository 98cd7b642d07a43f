"""Scores: the formula, invariances, files that survive interruptions, and clear errors for bad input."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.networks import Spelled
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from interpnet.datasets import Batch, Skipped
from interpnet.engine import Channel, ChannelIndex
from interpnet.errors import DataError, InterpNetError, LayerError, ModelError, RunFolderError
from interpnet.gram import GramAccumulator
from interpnet.scores import ScoreTable, collect_scores
from interpnet.scores._norms import channel_norms

X = torch.randn(20, 3, 9, 11, generator=torch.Generator().manual_seed(5))
Y = torch.arange(20) % 4


def batches(size: int, order: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
    order = torch.arange(20) if order is None else order
    return [(X[part], Y[part]) for part in order.split(size)]


def reference(model: Spelled, power: int = 1) -> np.ndarray:
    """docs/method.md, section 1, in float64, layer by layer."""
    net = model.eval().double()
    with torch.no_grad():
        a = net.bn1(net.conv1(X.double())).clamp(min=0)
        b = net.conv2(a).clamp(min=0)
        c = (net.conv3(b) + b).clamp(min=0)
        d = net.fc1(c.mean((2, 3))).clamp(min=0)
    rows = []
    for maps in (a, b, c, d[:, :, None, None]):
        s = np.sqrt((maps.numpy() ** 2).sum((2, 3))) ** power
        total = s.sum(1, keepdims=True)
        rows.append(np.divide(s, total, out=np.zeros_like(s), where=total > 0))
    net.float()
    return np.concatenate(rows, 1)


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last", "auto"])
@pytest.mark.parametrize(("norm", "power"), [("l2", 1), ("l2sq", 2)])
def test_scores_match_the_float64_reference(norm: str, power: int, memory_format: str, device: str) -> None:
    model = Spelled("inplace")
    expected = reference(model, power)
    table = collect_scores(model, batches(6), norm=norm, memory_format=memory_format, device=device, progress=False)
    np.testing.assert_allclose(table.X, expected, rtol=2e-5, atol=1e-7)
    assert table.X.dtype == np.float32
    assert table.labels.tolist() == Y.tolist()


def test_scores_by_hand() -> None:
    """Two channels with maps [3, 4] and [0, 5]: norms 5 and 5, halves; a dead layer stays zero."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(6, 2))
    model[0].weight.data = torch.tensor([1.0, 1.0]).view(2, 1, 1, 1)
    model[0].bias.data = torch.tensor([0.0, -5.0])
    model[2].weight.data.zero_()
    model[2].bias.data.fill_(-1.0)
    table = collect_scores(model, [(torch.tensor([[[[3.0, 4.0]]], [[[0.0, 10.0]]]]), torch.tensor([0, 1]))])
    np.testing.assert_allclose(table.X[:, :2], [[1.0, 0.0], [2 / 3, 1 / 3]], rtol=1e-6)
    assert (table.X[:, 2:] == 0).all()
    assert table.dead_layers() == ["3"]


@pytest.mark.parametrize(
    ("norm", "expected"), [("l2", [[12.5**0.5, 0.0], [50**0.5, 12.5**0.5]]), ("l2sq", [[12.5, 0], [50, 12.5]])]
)
def test_size_correction_by_hand(norm: str, expected: list[list[float]]) -> None:
    """Maps [3, 4] and [0, 10], and what a bias of -5 leaves of them: root mean squares over the two positions."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    model[0].weight.data = torch.tensor([1.0, 1.0]).view(2, 1, 1, 1)
    model[0].bias.data = torch.tensor([0.0, -5.0])
    model[3].weight.data.zero_()
    model[3].bias.data = torch.tensor([2.0, 0.0, 3.0])
    images = torch.tensor([[[[3.0, 4.0]]], [[[0.0, 10.0]]]])
    table = collect_scores(model, [(images, torch.tensor([0, 1]))], norm=norm, normalisation="size", progress=False)
    np.testing.assert_allclose(table.X[:, :2], expected, rtol=1e-6)
    units = [[2.0, 0.0, 3.0]] if norm == "l2" else [[4.0, 0.0, 9.0]]  # a unit's map has one position
    np.testing.assert_allclose(table.X[:, 2:], units * 2, rtol=1e-6)
    assert table.info["normalisation"] == "size"


def test_batch_size_and_order_change_nothing_beyond_rounding() -> None:
    model = Spelled("reused")
    one = collect_scores(model, batches(20), progress=False).X
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    for size in (1, 7):
        np.testing.assert_allclose(collect_scores(model, batches(size), progress=False).X, one, rtol=2e-5, atol=1e-7)
    shuffled = collect_scores(model, batches(3, order), progress=False)
    np.testing.assert_allclose(shuffled.X, one[order], rtol=2e-5, atol=1e-7)


@settings(max_examples=60, derandomize=True)
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 4),
    last=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_channel_norms_property(shape: tuple[int, ...], last: bool, dtype: torch.dtype, scale: float) -> None:
    x = (torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))) * scale).to(dtype)
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    got = channel_norms(x, 1)
    expected = np.sqrt((x.double().numpy() ** 2).sum((2, 3)))
    np.testing.assert_allclose(got.double().numpy(), expected, rtol=3e-6)
    moved = channel_norms(x.permute(0, 2, 3, 1), 3)
    np.testing.assert_allclose(moved.double().numpy(), expected, rtol=3e-6)


def test_large_maps_are_summed_in_blocks() -> None:
    x = torch.randn(3, 70, 150, 90).contiguous(memory_format=torch.channels_last)
    expected = np.sqrt((x.double().numpy() ** 2).sum((2, 3)))
    np.testing.assert_allclose(channel_norms(x, 1).numpy(), expected, rtol=2e-6)


def test_autocast_runs_lower_and_sums_in_float32() -> None:
    model = Spelled("inplace")
    table = collect_scores(model, batches(10), autocast=torch.bfloat16, progress=False)
    assert table.X.dtype == np.float32
    # bfloat16 has 8 bits: the scores agree to about a percent and are not equal.
    np.testing.assert_allclose(table.X, reference(model), atol=0.02)
    assert np.abs(table.X - reference(model)).max() > 1e-5
    assert next(model.parameters()).dtype == torch.float32


def test_model_is_left_as_it_was() -> None:
    model = Spelled("inplace").train()
    flags = [m.training for m in model.modules()]
    pointers = [(p.data_ptr(), p.stride(), p.requires_grad) for p in model.parameters()]
    buffers = {n: b.clone() for n, b in model.named_buffers()}
    collect_scores(model, batches(5), memory_format="channels_last", progress=False)
    assert flags == [m.training for m in model.modules()]
    assert pointers == [(p.data_ptr(), p.stride(), p.requires_grad) for p in model.parameters()]
    assert all(torch.equal(b, buffers[n]) for n, b in model.named_buffers())


def test_gram_along_the_way_is_the_gram_of_the_table() -> None:
    model = Spelled("module")
    sums = GramAccumulator(32, 4)
    table = collect_scores(model, batches(6), gram=sums, progress=False)
    a = sums.gram()
    b = table.gram()
    X64 = table.X.astype(np.float64)
    np.testing.assert_allclose(a.G, X64.T @ X64, rtol=1e-12)
    np.testing.assert_allclose(a.G, b.G, rtol=1e-12)
    np.testing.assert_allclose(a.B, X64.T @ np.eye(4)[Y], rtol=1e-12)


def test_target_matrix_labels() -> None:
    targets = torch.zeros(20, 4)
    targets[:, 1] = 0.5
    table = collect_scores(Spelled("module"), [(X, targets)], progress=False)
    assert table.labels.shape == (20, 4)
    np.testing.assert_allclose(table.gram().yy, [0, 5, 0, 0])


def test_folder_round_trip_without_a_model(tmp_path: Path) -> None:
    model = Spelled("module")
    table = collect_scores(model, batches(6), out=tmp_path / "a", progress=False)
    memory = collect_scores(model, batches(6), progress=False)
    assert isinstance(table.X, np.memmap)
    np.testing.assert_array_equal(table.X, memory.X)
    memory.save(tmp_path / "b")
    loaded = ScoreTable.load(tmp_path / "b")
    np.testing.assert_array_equal(loaded.X, memory.X)
    assert loaded.channels == memory.channels
    assert loaded.accuracy == memory.accuracy


class Interrupted(RuntimeError):
    pass


def failing(size: int, after: int) -> Iterator[Any]:
    for i, batch in enumerate(batches(size)):
        if i == after:
            raise Interrupted("pulled the plug")
        yield batch


@pytest.mark.parametrize("lazy", [True, False])
def test_interrupted_collection_goes_on_at_the_last_commit(
    tmp_path: Path, lazy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interpnet.scores._intake._COMMIT_ROWS", 4)
    model = Spelled("module")
    with pytest.raises(Interrupted, match="pulled the plug"):
        collect_scores(model, failing(2, 7), out=tmp_path, key="k", progress=False)
    with pytest.raises(RunFolderError, match="stopped after 12 images; run it again"):
        ScoreTable.load(tmp_path)
    # What was written after the commit does not count, whatever it is.
    with (tmp_path / "X.f32").open("ab") as handle:
        handle.write(b"rubbish")
    asked = []

    def later(start: int) -> list[Any]:
        asked.append(start)
        return [(X[i : i + 2], Y[i : i + 2]) for i in range(start, 20, 2)]

    sums = GramAccumulator(32, 4)
    table = collect_scores(model, later if lazy else batches(2), out=tmp_path, key="k", gram=sums, progress=False)
    whole = collect_scores(model, batches(2), progress=False)
    assert asked == ([12] if lazy else [])
    np.testing.assert_array_equal(table.X, whole.X)
    np.testing.assert_array_equal(table.indices, np.arange(20))
    np.testing.assert_allclose(sums.gram().G, whole.gram().G, rtol=1e-12)


def test_folder_of_another_collection_is_refused(tmp_path: Path) -> None:
    collect_scores(Spelled("module"), batches(6), out=tmp_path, key="one", progress=False)
    with pytest.raises(RunFolderError, match="another model, data set or configuration"):
        collect_scores(Spelled("module"), batches(6), out=tmp_path, key="two", progress=False)


def test_truncated_files_are_noticed(tmp_path: Path) -> None:
    collect_scores(Spelled("module"), batches(6), out=tmp_path, progress=False)
    with (tmp_path / "X.f32").open("rb+") as handle:
        handle.truncate(100)
    with pytest.raises(RunFolderError, match="shorter than the 20 rows"):
        ScoreTable.load(tmp_path)


def test_nan_names_layer_and_image() -> None:
    bad = X.clone()
    bad[13, 0, 0, 0] = float("nan")
    with pytest.raises(DataError, match="image 13 makes NaN or infinite activations in layer 'r1'"):
        collect_scores(Spelled("module"), [(bad[:10], Y[:10]), (bad[10:], Y[10:])], progress=False)
    model = Spelled("module")
    model.conv2.weight.data[0] = float("inf")
    with pytest.raises(ModelError, match=r"the model's 'conv2\.weight' holds NaN or infinite values"):
        collect_scores(model, batches(20), progress=False)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.full((20,), 4), "image 0 has label 4; the model has 4 outputs, so labels must lie in 0..3"),
        (torch.tensor([0] * 19 + [-1]), "image 19 has label -1"),
        (torch.zeros(20, 3), "targets have 3 columns; the model has 4 outputs"),
        (torch.zeros(20), "expected .* class numbers"),
        (torch.zeros(7, dtype=torch.long), "20 images and 7 labels"),
        (None, "yields no labels"),
    ],
)
def test_bad_labels(labels: Tensor | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        collect_scores(Spelled("module"), [(X, labels)], progress=False)


@pytest.mark.parametrize("first", [Y[:10], torch.zeros(10, 4)])
def test_labels_that_change_their_kind(first: Tensor, tmp_path: Path) -> None:
    second = torch.zeros(10, 4) if first.dim() == 1 else Y[10:]
    for out in (None, tmp_path):
        with pytest.raises(DataError, match=r"labels changed between batches, at image 10, from .* to "):
            collect_scores(Spelled("module"), [(X[:10], first), (X[10:], second)], out=out, progress=False)


def test_images_that_could_not_be_read_are_noted_in_order(tmp_path: Path) -> None:
    none = torch.zeros(0, dtype=torch.long)
    parts = [
        Batch(X[:2], Y[:2], torch.tensor([0, 2]), [Skipped(1, "b.png", "damaged")]),
        Batch(X[:0], none, none, [Skipped(3, "d.png", "damaged"), Skipped(4, "e.png", "empty")]),
        Batch(X[2:5], Y[2:5], torch.tensor([5, 6, 7]), []),
    ]
    for out in (None, tmp_path):
        table = collect_scores(Spelled("module"), parts, out=out, progress=False)
        assert table.info["skipped"] == [
            [1, "b.png", "damaged"],
            [3, "d.png", "damaged"],
            [4, "e.png", "empty"],
        ]
        assert table.indices.tolist() == [0, 2, 5, 6, 7]
    state = json.loads((tmp_path / "state.json").read_text())
    assert (state["rows"], state["consumed"]) == (5, 8)


def test_bad_arguments() -> None:
    model = Spelled("module")
    with pytest.raises(DataError, match="yielded no image"):
        collect_scores(model, [], progress=False)
    with pytest.raises(DataError, match="yielded a str"):
        collect_scores(model, ["image.png"], progress=False)
    with pytest.raises(InterpNetError, match="norm is 'l1'; expected 'l2' or 'l2sq'"):
        collect_scores(model, batches(5), norm="l1", progress=False)
    with pytest.raises(LayerError, match="no layer matches 'conv9'"):
        collect_scores(model, batches(5), layers="conv9", progress=False)
    with pytest.raises(InterpNetError, match="memory_format is 'nchw'; expected 'auto' or 'contiguous'"):
        collect_scores(model, batches(5), memory_format="nchw", progress=False)
    with pytest.raises(ModelError, match="device='gpu' is not a device"):
        collect_scores(model, batches(5), device="gpu", progress=False)
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="has no usable CUDA devices; use device='cpu'"):
            collect_scores(model, batches(5), device="cuda", progress=False)


def test_unwritable_folder() -> None:
    with pytest.raises((RunFolderError, OSError), match=r"cannot write|Not a directory|denied"):
        collect_scores(Spelled("module"), batches(5), out="/dev/null/scores", progress=False)


def test_memory_does_not_grow_with_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No tensor outlives its commit: as many tensors are alive after 3 batches as after 30."""
    monkeypatch.setattr("interpnet.scores._intake._COMMIT_ROWS", 20)
    model = Spelled("module")
    counts = []

    def many(n: int) -> Iterator[Any]:
        for i in range(n):
            if i in {3, n - 1}:
                gc.collect()
                counts.append(sum(type(o) is Tensor for o in gc.get_objects()))
            yield X, Y

    collect_scores(model, many(30), out=tmp_path, progress=False)
    assert counts[1] <= counts[0] + 4, counts


def test_channel_index() -> None:
    index = ChannelIndex((("a", 2), ("b.c", 3)))
    assert [index.position(c) for c in index] == list(range(5))
    assert index[-1] == Channel("b.c", 2)
    assert index.select(["b.*", "a"]) == [0, 1, 2, 3, 4]
    assert ChannelIndex.from_json(index.to_json()) == index
    with pytest.raises(LayerError, match="unknown layer 'b'"):
        index.slice("b")
    with pytest.raises(LayerError, match="channel 2 of layer 'a' does not exist; expected 0 to 1"):
        index.position(Channel("a", 2))
    with pytest.raises(LayerError, match="'a' is named twice"):
        ChannelIndex((("a", 2), ("a", 3)))
    with pytest.raises(IndexError, match="channel 5 of 5"):
        index[5]
