"""How rows are collected: when they are committed, what a bar shows, and loaders that fill the same memory again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import xxhash
from helpers.networks import Step
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from interpnet.datasets import Batch, Skipped, load_dataset, make_loader
from interpnet.errors import DataError, InterpNetError
from interpnet.scores import checked_labels, collect_scores, image_count, unpack
from interpnet.scores._resume import added, known_fingerprint, row_fingerprint

N = 20
X = torch.rand(N, 2, 3, 3, generator=torch.Generator().manual_seed(3))
Y = torch.arange(N) % 3
NUMBERS = torch.arange(100, 100 + N)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).eval()


def in_batches(size: int, start: int = 0) -> list[tuple[Tensor, Tensor]]:
    return [(X[i : i + size], Y[i : i + size]) for i in range(start, N, size)]


@pytest.fixture(autouse=True)
def a_block_for_every_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interpnet.scores._table._LEAST_BLOCK", 1)


def blocks(folder: Path) -> list[int]:
    return [block[0] for block in json.loads((folder / "state.json").read_text())["blocks"]]


@pytest.mark.parametrize(
    ("most", "size", "expected"),
    [
        # The rows of the next batch are in memory already, so they count.
        (10, 2, [8, 8, 4]),
        (4, 2, [2] * 10),
        (11, 2, [10, 10]),
        (12, 5, [10, 10]),
        (2048, 3, [20]),
    ],
)
def test_rows_are_committed_before_they_are_too_many(
    most: int, size: int, expected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interpnet.scores._intake._COMMIT_ROWS", most)
    collect_scores(network(), in_batches(size), out=tmp_path, progress=False)
    assert blocks(tmp_path) == expected


def test_rows_are_committed_before_they_are_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock of 8 s a look: 24 s after the start are the first more than 20, and the time begins again."""
    ticks = iter(range(0, 10**6, 8))
    monkeypatch.setattr("interpnet.scores._intake.time", SimpleNamespace(monotonic=lambda: next(ticks)))
    collect_scores(network(), in_batches(2), out=tmp_path, progress=False)
    assert blocks(tmp_path) == [6, 6, 6, 2]


Bar = tuple[tuple[Any, ...], dict[str, Any]]


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Bar], list[int]]:
    """What bars were asked for, and how far they went."""
    asked: list[Bar] = []
    steps: list[int] = []

    @contextmanager
    def bar(*args: Any, **options: Any) -> Iterator[Callable[[int], None]]:
        asked.append((args, options))
        yield steps.append

    monkeypatch.setattr("interpnet.scores._scorer.progress_bar", bar)
    return asked, steps


def test_the_bar_counts_every_image(bars: tuple[list[Bar], list[int]], tmp_path: Path) -> None:
    asked, steps = bars
    gaps = [Skipped(1, "b.png", "damaged"), Skipped(5, "c.png", "damaged")]
    parts = [
        Batch(X[:3], Y[:3], torch.tensor([0, 2, 3]), gaps[:1]),
        Batch(X[3:4], Y[3:4], torch.tensor([4]), gaps[1:]),
    ]
    collect_scores(network(), parts, progress=False)
    collect_scores(network(), DataLoader(TensorDataset(X, Y), 8))
    collect_scores(network(), DataLoader(TensorDataset(X, Y), 8), total=7)
    collect_scores(network(), in_batches(20), total=0)
    assert asked == [
        (("Collecting scores", None), {"done": 0, "enabled": False}),
        (("Collecting scores", N), {"done": 0, "enabled": True}),
        (("Collecting scores", 7), {"done": 0, "enabled": True}),
        (("Collecting scores", 0), {"done": 0, "enabled": True}),
    ]
    assert steps == [4, 2, *(8, 8, 4), *(8, 8, 4), 20]


def test_the_bar_starts_where_an_earlier_run_stopped(
    bars: tuple[list[Bar], list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, steps = bars
    monkeypatch.setattr("interpnet.scores._intake._COMMIT_ROWS", 1)

    def broken() -> Iterator[Any]:
        yield from in_batches(5)[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect_scores(network(), broken(), out=tmp_path, key="k")
    steps.clear()
    collect_scores(network(), lambda start: in_batches(5, start), out=tmp_path, key="k")
    assert asked[-1][1]["done"] == 10
    assert steps == [5, 5]


def test_how_many_images_a_loader_says_it_has() -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter([])

    data = load_dataset("digits")
    assert image_count(make_loader(data, batch_size=3, indices=[5, 9, 17, 4])) == 4
    assert image_count(DataLoader(TensorDataset(X, Y), 3)) == N
    assert image_count(DataLoader(Stream(), 3)) is None
    assert image_count(in_batches(3)) is None
    assert image_count(SimpleNamespace(n_images="many", dataset=X)) == N  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["numbers", "targets"])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("folder", [False, True])
def test_a_loader_may_fill_the_same_memory_again(kind: str, own: bool, folder: bool, tmp_path: Path) -> None:
    """Pinned buffers and shared memory: what a batch held is gone when the next one comes."""
    labels = {"numbers": Y, "targets": torch.rand(N, 3, generator=torch.Generator().manual_seed(1))}[kind]
    images = torch.empty(4, 2, 3, 3)
    answers = torch.empty_like(labels[:4])
    numbers = torch.empty(4, dtype=torch.long)

    def loader(_start: int) -> Iterator[Any]:
        for i in range(0, N, 4):
            images.copy_(X[i : i + 4])
            answers.copy_(labels[i : i + 4])
            numbers.copy_(NUMBERS[i : i + 4])
            yield Batch(images, answers, numbers, []) if own else (images, answers)

    table = collect_scores(network(), loader, out=tmp_path if folder else None, progress=False)
    whole = collect_scores(network(), [(X, labels)], progress=False)
    np.testing.assert_array_equal(table.labels, labels)
    np.testing.assert_allclose(table.X, whole.X, rtol=1e-5)
    assert table.indices.tolist() == (NUMBERS.tolist() if own else list(range(N)))


def test_of_our_own_batches_only_one_that_says_what_it_skipped_may_be_empty() -> None:
    none = torch.zeros(0, dtype=torch.long)
    gap = [Skipped(0, "a.png", "damaged")]
    assert unpack(Batch(X[:0], none, none, gap)).skipped == gap
    with pytest.raises(DataError, match=r"images: shape \(0, 2, 3, 3\) came"):
        unpack(Batch(X[:0], none, none, []))
    with pytest.raises(DataError, match=r"images: a Tensor \(\d+, .* of torch\.uint8 came"):
        unpack(Batch(X.to(torch.uint8), Y, NUMBERS, gap))
    with pytest.raises(DataError, match=r"images: a Tensor \(\d+, .* of torch\.uint8 came"):
        unpack(Batch(X[:0].to(torch.uint8), none, none, []))


def test_labels_of_one_column_and_at_both_ends() -> None:
    numbers = torch.arange(100, 103)
    assert checked_labels(torch.tensor([[0], [3], [1]]), 3, 4, numbers).tolist() == [0, 3, 1]
    column = checked_labels(torch.tensor([[0], [3], [1]]), 3, 1, numbers)
    assert column.tolist() == [[0.0], [3.0], [1.0]]
    with pytest.raises(
        DataError, match=r"image 101 has label 4; the model has 4 outputs, so labels must lie in 0\.\.3"
    ):
        checked_labels(torch.tensor([0, 4, 5]), 3, 4, numbers)
    with pytest.raises(DataError, match="the target of image 102 holds NaN"):
        checked_labels(torch.tensor([[1.0, 2.0], [0.0, 0.0], [0.0, float("nan")]]), 3, 2, numbers)


def test_the_layer_and_the_image_of_what_is_not_finite_are_named() -> None:
    """Squares of 1e20 are beyond float32; the maps themselves are not, and the logits read neither of them."""
    model = nn.Sequential(
        nn.Conv2d(1, 2, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(2, 2, 1, bias=False),
        nn.ReLU(),
        Step(lambda x: x.clamp(max=1.0).flatten(1)),
        nn.Linear(8, 2),
    )
    model[0].weight.data.fill_(1.0)
    model[2].weight.data = torch.tensor([[0.5, 0.5], [0.0, 1e20]]).view(2, 2, 1, 1)
    images = torch.zeros(4, 1, 2, 2)
    images[3] = 1.0
    parts = [(images[:2], Y[:2] % 2), (images[2:], Y[2:4] % 2)]
    with pytest.raises(DataError, match="image 3 makes NaN or infinite activations in layer '3'"):
        collect_scores(model, parts, layers=["1", "3"], norm="l2sq", progress=False)
    assert np.isfinite(collect_scores(model, parts[:1], layers=["1", "3"], norm="l2sq", progress=False).X).all()


def test_logits_that_are_not_finite_name_image_and_batch() -> None:
    def broken(x: Tensor) -> Tensor:
        return torch.where(x[:, :3] > 100, float("nan"), x[:, :3])

    model = nn.Sequential(nn.Conv2d(2, 4, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3), Step(broken))
    images = X.clone()
    images[17] = 1e6
    model[0].weight.data.fill_(1.0)
    model[3].weight.data.fill_(1.0)
    parts = [(images[i : i + 6], Y[i : i + 6]) for i in range(0, N, 6)]
    with pytest.raises(DataError, match=r"image 17 \(in batch 2 of the pass, both counted from 0\) has NaN"):
        collect_scores(model, parts, progress=False)


class Held(nn.Module):
    """A network that returns its logits among other things, as some libraries' do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.drop(self.inner(x))}


def test_a_network_is_unwrapped_evaluated_and_its_output_read() -> None:
    model = nn.DataParallel(Held()).train()
    table = collect_scores(model, in_batches(7), output=lambda out: out["logits"], progress=False)
    assert table.channels.layers == ("inner.1",)
    assert model.module.drop.training
    with torch.no_grad():
        assert table.predictions.tolist() == network()(X).argmax(1).tolist()
    np.testing.assert_allclose(table.X, collect_scores(network(), in_batches(7), progress=False).X, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"total": -1}, "total is -1; expected a whole number of at least 0"),
        ({"autocast": "bfloat16"}, "autocast is 'bfloat16'"),
        ({"gram": 5}, "gram is 5"),
        ({"key": 5}, "key is 5"),
        ({"progress": 1}, "progress is 1; expected True or False"),
    ],
)
def test_odd_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InterpNetError, match=message):
        collect_scores(network(), in_batches(5), **options)


def test_a_fingerprint_is_the_sum_that_earlier_versions_wrote() -> None:
    """Independently: for row r, (3 h(image) + h(label)) (2 r + 1), modulo 2^64."""
    expected = 0
    for row in range(5):
        image = xxhash.xxh3_64_intdigest(X[row].numpy().tobytes())
        label = xxhash.xxh3_64_intdigest(Y[row].numpy().tobytes())
        expected += (3 * image + label) * (2 * (row + 7) + 1)
    expected %= 2**64
    found = row_fingerprint(X[:5], Y[:5], 7)
    assert found == expected
    assert (row_fingerprint(X[:2], Y[:2], 7) + row_fingerprint(X[2:5], Y[2:5], 9)) % 2**64 == expected
    assert added("0", found) == f"{expected:016x}"
    assert added("f" * 16, 1) == "0" * 16
    assert known_fingerprint({"fingerprint": f"{expected:016x}"}) == f"{expected:016x}"
    for wrong in (None, 5, "f" * 15, "f" * 17, "F" * 16, f"{'f' * 16}\n"):
        assert known_fingerprint({"fingerprint": wrong}) is None
