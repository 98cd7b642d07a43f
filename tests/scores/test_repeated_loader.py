"""A loader that is read several times: how often it is read, and by which number a changed image is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from interpnet.datasets import Batch, Skipped
from interpnet.errors import DataError
from interpnet.scores._repeat import RepeatedLoader

X = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 0, 1, 2])
NUMBERS = torch.arange(100, 106)
NONE = torch.zeros(0, dtype=torch.long)


class Counted:
    """Gives what ``make(number of the pass)`` returns, and counts the passes."""

    def __init__(self, make: Callable[[int], list[Any]]) -> None:
        self._make = make
        self.passes = 0

    def __iter__(self) -> Iterator[Any]:
        self.passes += 1
        return iter(self._make(self.passes))


def repeated(loader: Any, keep: int = 0, **keys: Any) -> RepeatedLoader:
    return RepeatedLoader(loader, 3, keep=keep, use="the study", **{"inputs": None, "labels": None} | keys)


@pytest.mark.parametrize(("keep", "passes"), [(0, 3), (X.nbytes - 1, 3), (X.nbytes, 1), (X.nbytes + 1, 1)])
def test_batches_are_kept_up_to_the_bytes_allowed(keep: int, passes: int) -> None:
    loader = Counted(lambda _: [(X[:4], Y[:4]), (X[4:], Y[4:])])
    found = repeated(loader, keep)
    assert torch.equal(found.first_images, X[:4])
    for _ in range(3):
        images, labels = zip(*found, strict=True)
        assert torch.equal(torch.cat(images), X)
        assert torch.equal(torch.cat(labels), Y)
    assert loader.passes == passes
    assert found.labels.tolist() == Y.tolist()
    assert len(found._kept) == (2 if passes == 1 else 0), "what does not fit is let go"


def test_the_keys_of_a_dictionary_are_named() -> None:
    batch = {"photo": X, "image": X + 1, "species": Y, "label": Y * 0}
    found = repeated([batch], inputs="photo", labels="species")
    ((images, labels),) = found
    assert torch.equal(images, X)
    assert torch.equal(labels, Y)
    assert torch.equal(found.first_images, X)


def own(images: torch.Tensor, labels: torch.Tensor) -> list[Batch]:
    """Batches that tell their positions, one of them without an image that could be read."""
    gap = [Skipped(99, "x.png", "damaged")]
    return [
        Batch(X[:0], NONE, NONE, gap),
        Batch(images[:2], labels[:2], NUMBERS[:2], []),
        Batch(X[:0], NONE, NONE, gap),
        Batch(images[2:], labels[2:], NUMBERS[2:], gap),
    ]


def other(values: torch.Tensor, row: int) -> torch.Tensor:
    made = values.clone()
    made[row] = values[row - 1]
    return made


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda: own(X, other(Y, 4)), "image 104 of pass 2 over the loader has another label than in the first pass"),
        (lambda: own(other(X, 3), Y), "image 103 of pass 2 .* came at another place in the first pass: the order"),
        (lambda: own(X + 1, Y), "image 100 of pass 2 over the loader is another image than in the first pass"),
        (lambda: own(X[:5], Y[:5]), "yielded 6 images at first and 5 in pass 2; the study reads the images several"),
        (lambda: [*own(X, Y), (X[:1], Y[:1])], "yielded 6 images at first and 7 or more in pass 2"),
    ],
)
def test_a_changed_image_is_named_by_its_position(changed: Callable[[], list[Any]], message: str) -> None:
    found = repeated(Counted(lambda number: own(X, Y) if number == 1 else changed()))
    assert sum(len(images) for images, _ in found) == 6
    with pytest.raises(DataError, match=message):
        list(found)


def test_images_without_positions_are_counted_over_the_batches() -> None:
    parts = [(X[:4], Y[:4]), (X[4:], Y[4:])]
    later = [(X[:4], Y[:4]), (X[4:], other(Y, 5)[4:])]
    found = repeated(Counted(lambda number: parts if number < 3 else later))
    assert [len(list(found)), len(list(found))] == [2, 2]
    with pytest.raises(DataError, match="image 5 of pass 3 over the loader has another label"):
        list(found)


def test_targets_and_iterators_are_refused() -> None:
    with pytest.raises(DataError, match="the study needs one class number per image; the loader yields a target"):
        list(repeated([(X, torch.rand(6, 3))]))
    with pytest.raises(DataError, match="which can be read once only, and the study reads the images several times"):
        repeated(iter(DataLoader(TensorDataset(X, Y), 3)))
