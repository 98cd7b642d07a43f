"""Odd values for each kind of argument, each with what it means.

A meaning is ``same`` (as good as the good value: its result, or a refusal), ``must`` (the good value's result),
``none`` (there is no right result: only a refusal will do), ``finite`` (a finite result, or a refusal), or a function
that makes of the good value the plain one it stands for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

Make = Callable[[Any], Any]


@dataclass(frozen=True)
class Odd:
    """An odd value, made of the good one."""

    name: str
    make: Make
    meaning: str | Make = "none"


def constants(*values: Any) -> list[Odd]:
    """Return values that have no right result, whatever the good one is."""
    return [Odd(repr(value).split(" at 0x")[0][:40], partial(_instead, value)) for value in values]


def _instead(value: Any, _good: Any) -> Any:
    return value


class _Text(str):
    """A text that is no ``str`` itself."""


def _one_pixel(value: float) -> Make:
    def make(images: Tensor) -> Tensor:
        images = images.clone()
        images[1, 0, 3, 4] = value
        return images

    return make


def _in_inference_mode(images: Tensor) -> Tensor:
    with torch.inference_mode():
        return images.clone()


IMAGES = [
    *constants(None, "images", 3, {}, [], [None], b"x", object()),
    Odd("a list", lambda x: x.tolist(), "same"),
    Odd("numpy", lambda x: x.numpy(), "same"),
    Odd("numpy of text", lambda _x: np.array(["a", "b"])),
    Odd("sparse", lambda x: x.to_sparse(), "same"),
    Odd("meta", lambda x: x.to("meta")),
    Odd("complex", lambda x: x.to(torch.complex64)),
    Odd("bool", lambda x: x > 0.5, lambda x: (x > 0.5).float()),
    Odd("uint8", lambda x: (x * 200).to(torch.uint8), lambda x: (x * 200).to(torch.uint8).float()),
    Odd("int64", lambda x: (x * 200).long(), lambda x: (x * 200).long().float()),
    Odd("half", lambda x: x.half(), "same"),
    Odd("bfloat16", lambda x: x.bfloat16(), lambda x: x.bfloat16().float()),
    Odd("float64", lambda x: x.double(), "same"),
    Odd("one NaN", _one_pixel(math.nan)),
    Odd("one infinity", _one_pixel(math.inf)),
    Odd("one huge pixel", _one_pixel(1e30), "finite"),
    Odd("empty", lambda x: x[:0]),
    Odd("no pixels", lambda x: x[..., :0]),
    Odd("one image without a batch", lambda x: x[0]),
    Odd("a plane", lambda x: x[0, 0]),
    Odd("a scalar", lambda x: x.sum()),
    Odd("five axes", lambda x: x[None]),
    Odd("one channel", lambda x: x[:, :1]),
    Odd("four channels", lambda x: torch.cat([x, x[:, :1]], 1)),
    Odd("channels last, as arrays have them", lambda x: x.permute(0, 2, 3, 1)),
    Odd("channels_last in memory", lambda x: x.contiguous(memory_format=torch.channels_last), "must"),
    Odd("not contiguous", lambda x: x.transpose(2, 3).contiguous().transpose(2, 3), "must"),
    Odd("strided", lambda x: x.repeat_interleave(2, 3)[..., ::2], "must"),
    Odd("requires a gradient", lambda x: x.clone().requires_grad_(), "must"),
    Odd("has a history", lambda x: x.clone().requires_grad_() * 1, "must"),
    Odd("a parameter", lambda x: torch.nn.Parameter(x.clone()), "must"),
    Odd("made in inference mode", _in_inference_mode, "must"),
    Odd("quantised", lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)),
    Odd("images of different sizes", lambda x: [x[0], x[1, :, :5, :5]]),
]


def _relabelled(change: Make) -> Make:
    """Return what changes the labels of every batch."""
    return lambda batches: [(images, change(labels)) for images, labels in batches]


def _first(change: Make) -> Make:
    """Return what changes the images of the first batch."""
    return lambda batches: [(change(batches[0][0]), batches[0][1]), *batches[1:]]


def _once(batches: Any) -> Iterator[Any]:
    yield from batches


def _set(labels: Tensor, value: float) -> Tensor:
    labels = labels.to(torch.float64 if isinstance(value, float) else torch.int64).clone()
    labels[0] = value
    return labels


def _loader(batches: Any, **options: Any) -> Any:
    images, labels = (torch.cat([batch[i] for batch in batches]) for i in range(2))
    return DataLoader(TensorDataset(images, labels), batch_size=len(batches[0][0]), **options)


LOADERS = [
    *constants(None, 3, "loader", [], [None], [()], [3], {}, object()),
    Odd("images alone", lambda b: [images for images, _ in b]),
    Odd("one tensor", lambda b: b[0][0]),
    Odd("images in tuples", lambda b: [(images,) for images, _ in b]),
    Odd("labels missing", lambda b: [(images, None) for images, _ in b]),
    Odd("labels too few", _relabelled(lambda y: y[:-1])),
    Odd("labels as a list", _relabelled(lambda y: y.tolist()), "same"),
    Odd("labels of numpy", _relabelled(lambda y: y.numpy()), "same"),
    Odd("labels uint8", _relabelled(lambda y: y.to(torch.uint8)), "same"),
    Odd("labels int32", _relabelled(lambda y: y.int()), "same"),
    Odd("labels 1.0", _relabelled(lambda y: y.double()), "same"),
    Odd("labels 0.5", _relabelled(lambda y: y + 0.5)),
    Odd("a label 0.5", _relabelled(lambda y: _set(y, 0.5))),
    Odd("a label NaN", _relabelled(lambda y: _set(y, math.nan))),
    Odd("a label -1", _relabelled(lambda y: _set(y, -1))),
    Odd("a label past the classes", _relabelled(lambda y: _set(y, 3))),
    Odd("a label of 10^12", _relabelled(lambda y: _set(y, 10**12))),
    Odd("labels True and False", _relabelled(lambda y: y > 0)),
    Odd("labels of text", _relabelled(lambda y: [str(one) for one in y.tolist()])),
    Odd("labels complex", _relabelled(lambda y: y.to(torch.complex64))),
    Odd("labels (N, 1)", _relabelled(lambda y: y[:, None]), "same"),
    Odd("labels one-hot", _relabelled(lambda y: torch.nn.functional.one_hot(y, 3)), "same"),
    Odd("labels (N, 2)", _relabelled(lambda y: torch.stack([y, y], 1))),
    Odd("a scalar for labels", _relabelled(lambda y: y[0])),
    Odd("labels and images exchanged", lambda b: [(labels, images) for images, labels in b]),
    Odd("a dictionary", lambda b: [{"image": images, "label": labels} for images, labels in b], "same"),
    Odd("a dictionary of other keys", lambda b: [{"a": images, "b": labels} for images, labels in b]),
    Odd("lists for tuples", lambda b: [[images, labels] for images, labels in b], "same"),
    Odd("a third item", lambda b: [(images, labels, ["a"] * len(labels)) for images, labels in b], "same"),
    Odd("a third item of numbers", lambda b: [(*batch, torch.full((len(batch[1]),), 99)) for batch in b], "same"),
    Odd("a fourth item", lambda b: [(*batch, batch[1], [1, 2, 3]) for batch in b], "same"),
    Odd("an iterator", iter, "same"),
    Odd("a generator", _once, "same"),
    Odd("a DataLoader", _loader, "must"),
    Odd("images with a NaN", _first(_one_pixel(math.nan))),
    Odd("images with an infinity", _first(_one_pixel(math.inf))),
    Odd("an empty batch first", lambda b: [(b[0][0][:0], b[0][1][:0]), *b], "same"),
    Odd("an empty batch last", lambda b: [*b, (b[0][0][:0], b[0][1][:0])], "same"),
    Odd("only an empty batch", lambda b: [(b[0][0][:0], b[0][1][:0])]),
    Odd("a batch of other channels", lambda b: [*b, (b[0][0][:, :1], b[0][1])]),
    Odd("images of numpy", lambda b: [(images.numpy(), labels) for images, labels in b], "same"),
    Odd("images as a list", lambda b: [(list(images), labels) for images, labels in b], "same"),
    Odd("images float64", lambda b: [(images.double(), labels) for images, labels in b], "same"),
    Odd("images half", lambda b: [(images.half(), labels) for images, labels in b], "same"),
    Odd("images complex", _first(lambda x: x.to(torch.complex64))),
    Odd("images sparse", _first(lambda x: x.to_sparse()), "same"),
    Odd("images on meta", _first(lambda x: x.to("meta"))),
    Odd("one image without a batch", lambda b: [(b[0][0][0], b[0][1][0])]),
]

COUNTS = [
    *constants("3", 1.5, -1, 0, math.nan, math.inf, [], "", object(), 1 + 0j, {}),
    Odd("None", lambda _good: None, "finite"),
    Odd("True", lambda _good: True),
    Odd("10^9", lambda _good: 10**9, "finite"),
    Odd("10^30", lambda _good: 10**30, "finite"),
    Odd("of numpy", np.int64, "must"),
    Odd("an array of one", lambda good: np.array([good])),
    Odd("a tensor", torch.tensor, "same"),
    Odd("2.0", float, "same"),
]
SEEDS = [
    *constants("3", 1.5, math.nan, math.inf, [], {}, object()),
    Odd("True", lambda _good: True),
    Odd("None", lambda _good: None, "finite"),
    Odd("-1", lambda _good: -1, "finite"),
    Odd("10^30", lambda _good: 10**30, "finite"),
    Odd("of numpy", np.int64, "must"),
]
NUMBERS = [
    *constants("3", None, -1.0, math.nan, [], "", object(), 1 + 0j, {}, -math.inf),
    Odd("True", lambda _good: True),
    Odd("0", lambda _good: 0, "finite"),
    Odd("infinity", lambda _good: math.inf, "finite"),
    Odd("1e300", lambda _good: 1e300, "finite"),
    Odd("1e-300", lambda _good: 1e-300, "finite"),
    Odd("of numpy", np.float64, "must"),
    Odd("of numpy, float32", np.float32, "must"),
    Odd("a tensor", torch.tensor, "same"),
]
WORDS = [
    *constants("nonsense", "", 3, True, b"x", [], {}, math.nan, object()),
    Odd("None", lambda _good: None, "same"),
    Odd("upper case", str.upper, "same"),
    Odd("spaces", lambda good: f" {good} ", "same"),
    Odd("a list of it", lambda good: [good], "same"),
    Odd("a text of another type", _Text, "must"),
]
FLAGS = [
    *constants("no", "", "True", 2, 0.5, math.nan, object(), [False]),
    Odd("None", lambda _good: None, "same"),
    Odd("1 and 0", int, "same"),
    Odd("of numpy", np.bool_, "must"),
]
TARGETS = [
    *constants(-1, 3, 10**12, 1.5, math.nan, "1", "", object(), {}, 1 + 0j, b"x"),
    Odd("True", lambda _good: True),
    Odd("of numpy", np.int64, "must"),
    Odd("a list", lambda good: [good] * 6, "must"),
    Odd("a tuple", lambda good: (good,) * 6, "same"),
    Odd("a list too short", lambda good: [good] * 5),
    Odd("a tensor", lambda good: torch.full((6,), good), "must"),
    Odd("a scalar tensor", torch.tensor, "same"),
    Odd("a tensor too short", lambda good: torch.full((2,), good)),
    Odd("a tensor of 1.0", lambda good: torch.full((6,), float(good)), "same"),
    Odd("a tensor of 0.5", lambda good: torch.full((6,), good - 0.5)),
    Odd("a tensor of True", lambda _good: torch.ones(6, dtype=torch.bool)),
    Odd("a tensor of -1", lambda _good: torch.full((6,), -1)),
    Odd("a tensor past the classes", lambda _good: torch.full((6,), 3)),
    Odd("a matrix", lambda good: torch.full((6, 1), good), "same"),
    Odd("an empty list", lambda _good: []),
    Odd("uint8", lambda good: torch.full((6,), good, dtype=torch.uint8), "same"),
    Odd("numpy array", lambda good: np.full(6, good), "same"),
]
PATHS = constants(None, 3, "", "missing", "/dev/null", "/", "/proc/self/mem", object(), [], b"x", "a\0b", "x" * 5000)
MATRICES = [
    *constants(None, "X", 3, [], {}, object(), [[1], [2, 3]]),
    Odd("a list", lambda X: X.tolist(), "must"),
    Odd("Fortran order", np.asfortranarray, "must"),
    Odd("float64", lambda X: X.astype(np.float64), "must"),
    Odd("half", lambda X: X.astype(np.float16), "same"),
    Odd("a tensor", torch.from_numpy, "same"),
    Odd("a tensor with a history", lambda X: torch.from_numpy(X).requires_grad_() * 1, "same"),
    Odd("integers", lambda X: (X * 100).astype(np.int64), lambda X: (X * 100).astype(np.int64).astype(float)),
    Odd("bool", lambda X: X > 0.1, lambda X: (X > 0.1).astype(float)),
    Odd("every second row of twice as many", lambda X: np.repeat(X, 2, 0)[::2], "must"),
    Odd("objects", lambda X: X.astype(object), "same"),
    Odd("text", lambda X: X.astype(str), "same"),
    Odd("dates", lambda X: X.astype("M8[s]")),
    Odd("complex", lambda X: X + 0j),
    Odd("one NaN", lambda X: _with_one(X, math.nan)),
    Odd("one infinity", lambda X: _with_one(X, math.inf)),
    Odd("one of 1e30", lambda X: _with_one(X, 1e30), "finite"),
    Odd("one of -1", lambda X: _with_one(X, -1.0), "finite"),
    Odd("all zero", lambda X: X * 0, "finite"),
    Odd("a vector", lambda X: X[:, 0]),
    Odd("three axes", lambda X: X[None]),
    Odd("no rows", lambda X: X[:0]),
    Odd("no columns", lambda X: X[:, :0]),
    Odd("a row too few", lambda X: X[:-1]),
    Odd("masked", lambda X: np.ma.masked_array(X, X > 0.1)),
]


def _with_one(X: Any, value: float) -> Any:
    X = X.copy()
    X[1, 1] = value
    return X


LABELS = [
    *constants(None, "y", 3, [], {}, object()),
    Odd("a list", lambda y: y.tolist(), "must"),
    Odd("a tensor", torch.from_numpy, "same"),
    Odd("uint8", lambda y: y.astype(np.uint8), "same"),
    Odd("1.0", lambda y: y.astype(float), "same"),
    Odd("0.5", lambda y: y + 0.5),
    Odd("one NaN", lambda y: np.where(np.arange(len(y)) == 1, np.nan, y)),
    Odd("one -1", lambda y: np.where(np.arange(len(y)) == 1, -1, y)),
    Odd("one of 10^12", lambda y: np.where(np.arange(len(y)) == 1, 10**12, y)),
    Odd("bool", lambda y: y > 0),
    Odd("text", lambda y: y.astype(str)),
    Odd("complex", lambda y: y + 0j),
    Odd("one too few", lambda y: y[:-1]),
    Odd("one class", lambda y: y * 0, "finite"),
    Odd("a column", lambda y: y[:, None], "same"),
    Odd("objects", lambda y: y.astype(object), "same"),
    Odd("None among them", lambda y: [None, *y[1:].tolist()]),
]
MAPS = [
    *constants(None, "maps", 3, [], {}, object()),
    Odd("a list", lambda x: x.tolist(), "same"),
    Odd("numpy", lambda x: x.numpy(), "same"),
    Odd("float64", lambda x: x.double(), "same"),
    Odd("half", lambda x: x.half(), "same"),
    Odd("not contiguous", lambda x: x.transpose(1, 2).contiguous().transpose(1, 2), "must"),
    Odd("requires a gradient", lambda x: x.double().requires_grad_(), "same"),
    Odd("sparse", lambda x: x.to_sparse(), "same"),
    Odd("meta", lambda x: x.to("meta")),
    Odd("complex", lambda x: x.to(torch.complex64)),
    Odd("one NaN", lambda x: torch.where(x == x.max(), math.nan, x)),
    Odd("one infinity", lambda x: torch.where(x == x.max(), math.inf, x)),
    Odd("all the same", torch.ones_like),
    Odd("empty", lambda x: x[:0]),
    Odd("one fewer", lambda x: x[:-1]),
    Odd("one map without a batch", lambda x: x[0]),
    Odd("with colours", lambda x: x[:, None].expand(-1, 3, -1, -1)),
    Odd("of another size", lambda x: x[..., :-1]),
]
#: By the kind of an argument.
ODD = {
    "images": IMAGES,
    "loader": LOADERS,
    "count": COUNTS,
    "seed": SEEDS,
    "number": NUMBERS,
    "word": WORDS,
    "flag": FLAGS,
    "target": TARGETS,
    "path": PATHS,
    "matrix": MATRICES,
    "labels": LABELS,
    "maps": MAPS,
}
