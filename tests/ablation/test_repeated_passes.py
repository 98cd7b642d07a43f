"""Passes over a loader that is read again: the same images each time, or an error that names the first that differs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from interpnet.ablation import AblationResult, ablation_study
from interpnet.engine import ChannelIndex
from interpnet.errors import DataError, InterpNetError
from interpnet.interpretation import Interpretation
from interpnet.scores import collect_scores
from interpnet.scores._repeat import image_digests

N = 30
Y = torch.arange(N) % 3
X = torch.rand(N, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.3
X[torch.arange(N), Y] += 0.6


def colours() -> nn.Module:
    """Class c is the brightest of three colours; it is right on every image."""
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)).eval()
    model[0].weight.data = torch.eye(3).view(3, 3, 1, 1)
    model[4].weight.data = torch.eye(3)
    for layer in (model[0], model[4]):
        layer.bias.data.zero_()
    return model


def study(loader: Any, **options: Any) -> AblationResult:
    found = Interpretation(ChannelIndex((("1", 3),)), np.eye(3), ("r", "g", "b"))
    return ablation_study(colours(), loader, found, repeats=1, curve=False, single=False, progress=False, **options)


def is_right(result: AblationResult) -> None:
    assert result.n_images == N
    assert result.intact.tolist() == [1.0, 1.0, 1.0]
    assert result.condition("relevant").own.tolist() == [[0.0, 0.0, 0.0]]


def parts(images: Tensor = X, labels: Tensor = Y, size: int = 8) -> list[Any]:
    return list(zip(images.split(size), labels.split(size), strict=True))


class Changing:
    """Gives what ``later(number)`` returns from the second pass on."""

    def __init__(self, later: Callable[[int], list[Any]], first: list[Any] | None = None) -> None:
        self._first = parts() if first is None else first
        self._later = later
        self._passes = 0

    def __iter__(self) -> Iterator[Any]:
        self._passes += 1
        return iter(self._first if self._passes == 1 else self._later(self._passes))


def changed(values: Tensor, row: int, by: Any = 0.01) -> Tensor:
    out = values.clone()
    out[row] = out[row] + by
    return out


class Noisy(Dataset[Any]):
    """An augmentation drawn anew for each image."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        self._change = change

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> Any:
        return self._change(X[i]), int(Y[i])


class Stream(IterableDataset[Any]):
    """Every worker gives all images; or, ``once``, the images come once only."""

    def __init__(self, *, once: bool = False, shuffled: bool = False) -> None:
        images: Any = list(zip(X, Y, strict=True))
        self._images = iter(images) if once else images
        self._shuffled = shuffled

    def __iter__(self) -> Iterator[Any]:
        if self._shuffled:
            order = torch.randperm(N).tolist()
            return (self._images[i] for i in order)
        return iter(self._images)


@pytest.fixture
def nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interpnet.ablation._passes._KEEP_BYTES", 0)


def random_flip(image: Tensor) -> Tensor:
    return image.flip(2) if torch.rand(1) < 0.5 else image


UNLIKE = [
    (DataLoader(TensorDataset(X, Y), 8, shuffle=True), "image 0 of pass 2 .*the order changed"),
    (DataLoader(Stream(shuffled=True), 8), "image 0 of pass 2 .*the order changed"),
    (DataLoader(Noisy(random_flip), 8), r"image \d+ of pass \d over the loader is another image"),
    (DataLoader(Noisy(lambda x: x + 1e-4 * torch.rand(3, 4, 4)), 8), "image 0 of pass 2 .* is another image"),
    (
        DataLoader(Noisy(lambda x: x.roll(int(torch.randint(4, ())), 2)), 8),
        "of pass . over the loader is another image",
    ),
    (DataLoader(Stream(once=True), 8), "yielded 30 images at first and 0 in pass 2"),
    (Changing(lambda _: parts(X, changed(Y, 7, -1))), "image 7 of pass 2 over the loader has another label"),
    (Changing(lambda _: parts(changed(X, 29), Y)), "image 29 of pass 2 over the loader is another image"),
    (Changing(lambda _: parts(changed(X, 3))), "image 3 of pass 2 over the loader is another image"),
    (Changing(lambda _: parts(X.flip(3))), "image 0 of pass 2 .* is another image"),
    (Changing(lambda _: parts(X.flip(2))), "image 0 of pass 2 .* is another image"),
    (Changing(lambda _: parts(X[:, [1, 0, 2]])), "image 0 of pass 2 .* is another image"),
    (Changing(lambda _: parts(X.flip(0), Y.flip(0))), "image 0 of pass 2 .*the order changed"),
    (Changing(lambda _: parts(X[:-1], Y[:-1])), "yielded 30 images at first and 29 in pass 2"),
    (Changing(lambda _: parts()[:-1]), "yielded 30 images at first and 24 in pass 2"),
    (Changing(lambda _: [*parts(), *parts()]), "yielded 30 images at first and 38 or more in pass 2"),
    (Changing(lambda _: []), "yielded 30 images at first and 0 in pass 2"),
    (Changing(lambda _: parts(X.double())), "image 0 of pass 2 .* is another image"),
    (Changing(lambda _: parts(changed(X.half(), 2).float(), Y), parts(X.half().float())), "image 2 of pass 2"),
    (Changing(lambda _: [{"image": X, "label": Y.flip(0)}], [{"image": X, "label": Y}]), "image 0 .* another label"),
]


@pytest.mark.parametrize(("loader", "message"), UNLIKE)
@pytest.mark.usefixtures("nothing_is_kept")
def test_a_pass_unlike_the_first_is_refused(loader: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"{message}.*no shuffling, no random augmentation"):
        study(loader)


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(TensorDataset(X, Y), 8, shuffle=True),
        DataLoader(Noisy(random_flip), 8),
        DataLoader(Stream(shuffled=True), 8),
        DataLoader(Stream(once=True), 8),
        Changing(lambda _: []),
        Changing(lambda _: parts(X.flip(0))),
    ],
)
def test_batches_that_are_kept_need_no_comparison(loader: Any) -> None:
    """One pass is all that is read; what it gave is right, also where it can be read once only."""
    is_right(study(loader))


@pytest.mark.parametrize("keep", [0, X[:20].nbytes, X.nbytes, 1 << 30])
@pytest.mark.parametrize(
    "make",
    [
        parts,
        lambda: tuple(parts(size=30)),
        lambda: DataLoader(TensorDataset(X, Y), 7),
        lambda: DataLoader(Stream(), 7, num_workers=0),
        lambda: lambda start: parts(X[start:], Y[start:]),
        lambda: Changing(lambda n: parts(size=n)),
        lambda: Changing(lambda _: parts(X.contiguous(memory_format=torch.channels_last))),
        lambda: [(x, y, torch.arange(100), "unread") for x, y in parts()],
        lambda: [{"pixel_values": x, "labels": y} for x, y in parts()],
        lambda: [(x, y[:, None]) for x, y in parts()],
    ],
)
def test_loaders_that_start_again(make: Callable[[], Any], keep: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is kept, and in whatever batches the same images come."""
    monkeypatch.setattr("interpnet.ablation._passes._KEEP_BYTES", keep)
    is_right(study(make()))


@pytest.mark.parametrize(
    "loader",
    [
        iter(parts()),
        (batch for batch in parts()),
        iter(DataLoader(TensorDataset(X, Y), 8)),
        map(tuple, parts()),
        zip(X.split(8), Y.split(8), strict=True),
        itertools.chain(parts()),
        itertools.islice(itertools.cycle(parts()), 4),
        reversed(parts()),
    ],
    ids=lambda loader: type(loader).__name__,
)
def test_iterators_are_refused_before_anything_is_read(loader: Any) -> None:
    with pytest.raises(DataError, match=r"which can be read once only.*starts again each time: a DataLoader, or list"):
        study(loader)
    assert sum(len(labels) for _, labels in loader) == N, "nothing was taken out of it"


class OwnIterator:
    """Its own iterator, which starts again: as some loaders of other libraries are."""

    def __iter__(self) -> Iterator[Any]:
        self._left = parts()
        return self

    def __next__(self) -> Any:
        if not self._left:
            raise StopIteration
        return self._left.pop(0)


@pytest.mark.parametrize("keep", [0, 1 << 30])
def test_an_object_that_is_its_own_iterator_may_start_again(keep: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interpnet.ablation._passes._KEEP_BYTES", keep)
    is_right(study(OwnIterator()))
    table = collect_scores(colours(), OwnIterator(), progress=False)
    assert table.labels.tolist() == Y.tolist(), "no batch is lost, and none is counted twice"


class Reused:
    """Fills the same memory for every batch, as loaders that save allocations do."""

    def __init__(self, *, numpy: bool) -> None:
        self._images = torch.empty(10, 3, 4, 4)
        self._labels = torch.empty(10, dtype=torch.long)
        self._numpy = numpy

    def __iter__(self) -> Iterator[Any]:
        for images, labels in parts(size=10):
            self._images.copy_(images)
            self._labels.copy_(labels)
            if self._numpy:
                yield torch.from_numpy(self._images.numpy()), self._labels.numpy()
            else:
                yield self._images, self._labels


@pytest.mark.parametrize("keep", [0, X[:20].nbytes, 1 << 30])
@pytest.mark.parametrize("numpy", [False, True])
def test_a_loader_that_fills_the_same_memory_again(keep: int, numpy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interpnet.ablation._passes._KEEP_BYTES", keep)
    is_right(study(Reused(numpy=numpy)))
    table = collect_scores(colours(), Reused(numpy=numpy), progress=False)
    expected = collect_scores(colours(), parts(), progress=False)
    assert table.labels.tolist() == Y.tolist()
    np.testing.assert_array_equal(table.X, expected.X)
    np.testing.assert_array_equal(table.predictions, expected.predictions)


def test_views_of_one_tensor_and_the_same_batch_twice_are_fine() -> None:
    is_right(study([(X[:7], Y[:7]), (X[7:], Y[7:])]))
    assert study([(X, Y), (X, Y)]).support.tolist() == [20, 20, 20]


@pytest.mark.usefixtures("nothing_is_kept")
def test_mean_fill_is_a_pass_of_its_own() -> None:
    with pytest.raises(DataError, match="image 5 of pass 2 over the loader is another image"):
        study(Changing(lambda _: parts(changed(X, 5))), fill="mean")


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((X, None), "yields no labels"),
        ((X, torch.eye(3)[Y] * 0.5), "needs one class number per image"),
        ((X, Y + 1), "image 2 has label 3"),
        ((X, Y.float()), "class numbers, which are integers"),
        ((X, Y > 1), "torch.bool came; expected"),
        ((X, ["red"] * N), "image 0 has label 'red', which is none of the 3 classes"),
    ],
)
def test_labels_that_are_no_class_numbers(batch: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        study([batch])


def test_labels_of_every_form_are_the_same_classes() -> None:
    expected = study([(X, Y)])
    names = [expected.classes[label] for label in Y]
    for labels in (torch.eye(3)[Y], torch.eye(3, dtype=torch.int64)[Y], Y[:, None], names, np.array(names)):
        found = study([(X, labels)])
        assert found.support.tolist() == expected.support.tolist()
        np.testing.assert_array_equal(found.log_odds, expected.log_odds)


def test_one_logit_is_two_classes() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1))
    found = Interpretation(ChannelIndex((("1", 3),)), np.ones((1, 3)), ("positive",))
    with pytest.raises(InterpNetError, match="the model has 2 outputs and the interpretation 1 classes"):
        ablation_study(model, [(X, torch.ones(N, 1))], found, progress=False)
    both = Interpretation(ChannelIndex((("1", 3),)), np.ones((2, 3)), ("no", "yes"))
    assert ablation_study(model, [(X, Y % 2)], both, progress=False).support.tolist() == [20, 10]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 7), (5, 3, 6, 4), (5, 2, 3, 4, 5)])
def test_digests_tell_images_apart_and_not_layouts(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    images = torch.rand(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    digests = image_digests(images)
    assert len(set(digests.tolist())) == 5
    np.testing.assert_array_equal(image_digests(images.movedim(1, -1).contiguous().movedim(-1, 1)), digests)
    np.testing.assert_array_equal(image_digests(images[1:4]), digests[1:4])
    np.testing.assert_array_equal(image_digests(images.requires_grad_()), digests)
    for axis in range(1, images.dim()):
        assert (image_digests(images.flip(axis)) != digests).all()
