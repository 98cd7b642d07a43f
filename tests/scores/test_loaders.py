"""What may stand in a batch, and what a loader may be: used rightly, or one line that says what to do."""

from __future__ import annotations

from collections import UserDict, namedtuple
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from interpnet.datasets import load_dataset, make_loader
from interpnet.engine import OneColumn
from interpnet.errors import DataError, InterpNetError
from interpnet.scores import ScoreTable, collect_scores

X = torch.rand(6, 2, 4, 4, generator=torch.Generator().manual_seed(3))
Y = torch.tensor([0, 2, 1, 2, 0, 1])


def network(classes: int = 3) -> nn.Module:
    """Two channels that hold the images themselves, so that scores are the images' norms, divided by their sum."""
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(32, classes)).eval()
    model[0].weight.data = torch.eye(2).view(2, 2, 1, 1)
    model[0].bias.data.zero_()
    return model


def collected(loader: Any, classes: int = 3, **options: Any) -> ScoreTable:
    return collect_scores(network(classes), loader, progress=False, **options)


def is_right(table: ScoreTable) -> None:
    norms = X.double().flatten(2).norm(dim=2)
    np.testing.assert_allclose(table.X, norms / norms.sum(1, keepdim=True), rtol=1e-6)
    assert table.labels.tolist() == Y.tolist()
    assert table.indices.tolist() == list(range(6)), "positions are counted, whatever else the batches hold"
    assert table.info["skipped"] == []


Named = namedtuple("Named", "images labels indices skipped")


@pytest.mark.parametrize(
    "batch",
    [
        (X, Y),
        [X, Y],
        (X, Y, [f"{i}.png" for i in range(6)]),
        (X, Y, tuple("abcdef")),
        (X, Y, {"id": torch.arange(6)}),
        (X, Y, torch.arange(100, 106)),
        (X, Y, torch.arange(100, 106), torch.ones(6)),
        (X, Y, np.arange(100, 106), [[0, "damaged", "no"]]),
        (X, Y, torch.rand(6, 4, 4) > 0.5),
        (X, Y, None, None, None),
        Named(X, Y, torch.arange(100, 106), [(0, "not ours", "")]),
        (X, Y[:, None]),
        (X, Y.int()),
        (X, Y.to(torch.uint8)),
        (X, Y.to(torch.uint16)),
        (X, Y.numpy()),
        (X, Y.tolist()),
        (X, tuple(Y.tolist())),
        (X, Y.numpy()[:, None].astype(np.int16)),
        (X, list(Y)),
        {"image": X, "label": Y},
        {"pixel_values": X, "labels": Y, "id": list("abcdef")},
        {"x": X, "y": Y},
        {"images": X, "targets": Y[:, None]},
        {"input": X, "target": Y},
        {"inputs": X, "label": Y},
        UserDict(pixel_values=X, labels=Y),
    ],
)
def test_batches_of_every_form(batch: Any) -> None:
    is_right(collected([batch]))
    # Two batches count their positions on; so does a function.
    is_right(collected(lambda start: [batch]))


@pytest.mark.parametrize(
    ("batch", "options"),
    [
        ({"photo": X, "species": Y}, {"inputs": "photo", "labels": "species"}),
        ({"image": X + 1, "x": X, "label": Y}, {"inputs": "x"}),
        ({"image": X, "label": Y + 1, "target": Y}, {"labels": "target"}),
    ],
)
def test_dictionaries_whose_keys_are_named(batch: Any, options: dict[str, Any]) -> None:
    is_right(collected([batch], **options))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"photo": X, "label": Y}, r"keys \['label', 'photo'\]; name its images with inputs="),
        ({"image": X, "x": X, "label": Y}, "keys 'image' and 'x'; say which with inputs="),
        ({"image": X, "label": Y, "y": Y}, "keys 'label' and 'y'; say which with labels="),
        ({"image": X}, "yields no labels"),
        ({}, r"keys \[\]; name its images"),
        (X, "yields no labels"),
        ((X,), "yields no labels"),
        ((X, None), "yields no labels"),
        ((X, ["cat"] * 6), r"labels are names \('cat'\), .* pass classes=\["),
        ((X, "cat"), "6 images and 1 labels"),
        ((X, np.array(["cat"] * 6)), r"labels are names \('cat'\), .* pass classes=\["),
        ((X, np.array([object()] * 6)), "labels: .* came; expected class numbers"),
        ((X, [[0], [1, 2]]), "labels: .* came; expected class numbers"),
        ((X, [None] * 6), "labels: .*None.* came; expected class numbers"),
        ((X, [10**30] * 6), "labels: .* came; expected class numbers"),
        ((X, {"label": Y}), r"labels: a dictionary with keys \['label'\] came"),
        ((X, Y + 0.5), "class numbers, which are integers"),
        ((X, Y.double()), "class numbers, which are integers"),
        ((X, Y > 0), "type torch.bool came; expected .* class numbers"),
        ((X, [True] * 6), "type torch.bool came; expected .* class numbers"),
        ((X, Y.to(torch.complex64)), "labels: a tensor of torch.complex64"),
        ((X, Y.to_sparse()), "labels: a tensor of torch.int64, torch.sparse_coo"),
        ((X, Y.to("meta")), "labels: a tensor of torch.int64, torch.strided on meta"),
        ((X, torch.tensor(1)), "6 images and 1 labels"),
        ((X, 1), "6 images and 1 labels"),
        ((X, Y[:5]), "6 images and 5 labels"),
        ((X, Y[None]), "6 images and 1 labels"),
        ((X, torch.zeros(6, 2)), "targets have 2 columns; the model has 3 outputs"),
        ((X, torch.zeros(6, 3, 1)), r"labels of shape \(6, 3, 1\)"),
        ((X, torch.full((6, 3), float("nan"))), "the target of image 0 holds NaN or infinity"),
        ((X, torch.tensor([[0.0] * 3] * 5 + [[0, 0, float("inf")]])), "the target of image 5 holds NaN or infinity"),
        ((X, Y + 1), "image 1 has label 3; the model has 3 outputs"),
        ((X, torch.full((6,), 2**63 - 1)), "image 0 has label 9223372036854775807"),
        ((X.numpy(), Y), "images: a ndarray .* came; expected .* Tensor .*pass prepare=torch.from_numpy"),
        (
            ((X * 255).to(torch.uint8), Y),
            r"of torch.uint8 came; .*pass prepare=lambda images: images.float\(\) / 255",
        ),
        ((X.to(torch.complex64), Y), "images: dtype torch.complex64 came"),
        ((X.to_sparse(), Y), "images: a tensor of torch.sparse_coo"),
        ((X.to("meta"), Y), "images: a tensor of torch.strided on meta"),
        ((X[:0], Y[:0]), r"images: shape \(0, 2, 4, 4\) came"),
        ((X[0, 0, 0], Y), "images: shape"),
        ((["a.png"], Y), "images: a list of str came; .*pass prepare=lambda images: torch.stack"),
        ((None, Y), "images: a NoneType came"),
        ((), "the loader yielded a tuple"),
        (None, "the loader yielded a NoneType"),
        (7, "the loader yielded a int"),
        ("a.png", "the loader yielded a str"),
    ],
)
def test_batches_that_cannot_be_read(batch: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        collected([batch])


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (None, "loader: a NoneType came; expected .* batches"),
        (5, "loader: a int came"),
        (X, r"loader: a Tensor came; .*\[\(images, labels\)\] is one batch"),
        (X.numpy(), "loader: a ndarray came"),
        ("images/", "loader: a str came"),
        (b"images", "loader: a bytes came"),
        ({"image": X, "label": Y}, "loader: a dict came"),
        (lambda _start: None, "loader: a NoneType came"),
        (lambda _start: 3, "loader: a int came"),
        ([], "yielded no image"),
        (iter([]), "yielded no image"),
        (lambda _start: [], "yielded no image"),
    ],
)
def test_what_is_no_loader(loader: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        collected(loader)


class Stream(IterableDataset[Any]):
    """Single images with their labels, once only or as often as wanted."""

    def __init__(self, *, once: bool = False) -> None:
        self._images: Any = list(zip(X, Y, strict=True))
        if once:
            self._images = iter(self._images)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._images)


class Counting:
    """Batches by number only, as Python's old protocol has them."""

    def __getitem__(self, i: int) -> Any:
        if i > 2:
            raise IndexError
        return X[2 * i : 2 * i + 2], Y[2 * i : 2 * i + 2]


def halves() -> Iterator[Any]:
    yield X[:2], Y[:2]
    yield X[2:], Y[2:]


@pytest.mark.parametrize(
    "loader",
    [
        halves(),
        iter(list(halves())),
        map(tuple, halves()),
        DataLoader(TensorDataset(X, Y), 4),
        iter(DataLoader(TensorDataset(X, Y), 4)),
        DataLoader(Stream(), 4),
        DataLoader(Stream(once=True), 4),
        DataLoader(Stream(), 4, num_workers=1),
        Counting(),
        tuple(halves()),
    ],
    ids=lambda loader: type(loader).__name__,
)
def test_one_pass_loses_no_batch(loader: Any) -> None:
    """The first batch is looked at to trace the network; it counts all the same."""
    is_right(collected(loader))


def test_our_own_batches_tell_their_positions() -> None:
    data = load_dataset("digits")
    table = collect_scores(
        nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10)),
        make_loader(data, batch_size=3, indices=[5, 900, 17, 4]),
        progress=False,
    )
    assert table.indices.tolist() == [5, 900, 17, 4]
    assert table.labels.tolist() == data.labels[[5, 900, 17, 4]].tolist()


@pytest.mark.parametrize("labels", [Y % 2, (Y % 2).bool(), (Y % 2).float(), (Y % 2).double()[:, None]])
@pytest.mark.parametrize("flat", [False, True])
def test_one_logit_is_two_classes(labels: Tensor, flat: bool) -> None:
    plain = network(1)
    model = plain
    if flat:
        model = nn.Sequential(plain, nn.Flatten(0))
    table = collect_scores(model, [(X, labels)], progress=False)
    with torch.no_grad():
        positive = plain(X)[:, 0] > 0
    assert table.predictions.tolist() == positive.long().tolist()
    assert table.labels.tolist() == (Y % 2).tolist()
    assert table.n_classes == 2


def test_one_output_still_takes_a_target() -> None:
    table = collected([(X, torch.rand(6, 1))], classes=1, output=OneColumn())
    assert table.labels.shape == (6, 1)
    assert table.n_classes == 1
    with pytest.raises(DataError, match=r"class numbers came, and output=OneColumn .* Leave it out"):
        collected([(X, Y % 2)], classes=1, output=OneColumn())
    with pytest.raises(DataError, match=r"image 0 has label 0.5, .* for a regression pass output=.*OneColumn\(\)"):
        collected([(X, torch.full((6, 1), 0.5))], classes=1)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("logits", r"output='logits' does not exist: the model returns a tensor \(2, 3\)"),
        (0, "output=0 does not exist: the model returns a tensor"),
        ([1], r"output is \[1\]; expected a function or a string or a whole number"),
        (True, "output is True; expected a function or a string or a whole number"),
    ],
)
def test_an_output_that_is_not_there(output: Any, message: str) -> None:
    with pytest.raises(InterpNetError, match=message):
        collected([(X, Y)], output=output)
