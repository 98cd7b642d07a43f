"""Values of the wrong kind for each kind of argument, good arguments, and the check that every wrong one is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

import interpnet as ip
from interpnet import pictures
from interpnet.errors import InterpNetError

NAN = float("nan")
X = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(6) % 3
HEATMAPS = torch.rand(6, 8, 8, generator=torch.Generator().manual_seed(1))
MASKS = HEATMAPS > 0.5


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).eval()


NET = network()
BATCHES = [(X, Y)]
TABLE = ip.collect_scores(NET, BATCHES, progress=False)
FOUND = ip.interpret(TABLE, mu=2.0, classes=["a", "b", "c"])
STUDY = ip.ablation_study(NET, BATCHES, FOUND, repeats=1, curve=False, single=False, progress=False)
GRAM = TABLE.gram()
CONTRIBUTIONS = ip.collect_contributions(NET, BATCHES, progress=False)
CHANNEL = ip.Channel("1", 0)
DATA = [(x, int(y)) for x, y in zip(X, Y, strict=True)]
DIGITS = ip.load_dataset("digits")
VECTORS = np.random.default_rng(0).random((12, 5))
TWELVE = np.arange(12) % 3
PICTURE = np.zeros((8, 8, 3), np.uint8)
FILTERS = pictures.filters(NET, X)["0"]

# What is no ...
FLAG = ["no", "false", None, 2.5, [], np.array([True, False])]
COUNT = [0, -1, True, 2.5, "3", None, NAN, [3], torch.tensor([1, 2])]
MAYBE_COUNT = [value for value in COUNT if value is not None]
FROM_ZERO = COUNT[1:]
SEED = [0.5, "0", True, None, NAN, [1]]
CHOICE = ["nonsense", None, 5, [], True, ["a"]]
NUMBER = ["1", None, NAN, True, [1], 1j]
TEXT = [None, 5, [], True, b"x"]
MAYBE_TEXT = TEXT[1:]
FUNCTION = [5, "logits", [], True]
MODEL = [None, "resnet", 5, lambda x: x, {}]
IMAGES = [
    None,
    5,
    "x",
    X.numpy(),
    [X],
    (X * 255).to(torch.uint8),
    X + 0j,
    X.to_sparse(),
    X.to("meta"),
    X[:0],
    {"image": X},
]
DEVICE = [5.5, "gpu", "cuda:99", [], ""]
LAYERS = [5, None, [5], [], "nothing", b"x", ["1", None]]
TRACE = [5, "x", [], True]
INTERPRETATION = [None, 5, "x", TABLE, {}]
LOADER = [
    None,
    5,
    "x",
    X,
    {},
    [],
    [5],
    [None],
    [(X, ["z"] * 6)],
    [(X, Y + 5)],
    [(X, Y + 0.5)],
    [(X, Y > 0)],
    [(X.numpy(), Y)],
]
TABLES = [5, "x", FOUND, [], {}]
CHANNELS = [None, 5, "x", [5], ["1"], [ip.Channel("zz", 0)], [ip.Channel("1", 99)], [ip.Channel("1", True)], [None]]
TARGET = [0.5, True, "nothing", 99, -1, [0, 1], [0.5] * 6, [True] * 6, [None] * 6, {}]
MAPS = [
    None,
    5,
    "x",
    HEATMAPS.numpy(),
    HEATMAPS[0],
    HEATMAPS * NAN,
    HEATMAPS.to_sparse(),
    HEATMAPS.to("meta"),
    HEATMAPS > 2,
]
MAP = [None, 5, "x", HEATMAPS.numpy(), HEATMAPS * NAN, HEATMAPS.to_sparse(), HEATMAPS.to("meta"), torch.tensor(1.0)]
MASK = [
    None,
    5,
    "x",
    MASKS.numpy(),
    MASKS[0],
    MASKS * NAN,
    MASKS * 0.5,
    MASKS.to_sparse(),
    MASKS.to("meta"),
    MASKS + 0j,
]
GRAMS = [None, 5, "x", TABLE, np.eye(3)]
RADIUS = ["10", None, NAN, float("inf"), True, -1, 0, [], {}]
ARRAY = [None, "x", [], np.array(["a"]), VECTORS * NAN, VECTORS * 1j, torch.rand(3, 4).to_sparse(), [[1], [1, 2]], {}]
LABELS = [None, "x", [], [0.5] * 12, [True] * 12, [-1] * 12, TWELVE[:5], [None] * 12, {}]
BASELINE = ["nonsense", NAN, True, [], X.numpy(), torch.zeros(2, 2), X * NAN, X + 0j, X.to("meta")]
CONSTANT = CHOICE
MAYBE_CHOICE = [value for value in CHOICE if value is not None]
WIDTH = [*NUMBER, -1, float("inf")]
MAYBE_WIDTH = [value for value in WIDTH if value is not None]
RULES = {
    "rule": MAYBE_CHOICE,
    "rectifier": MAYBE_CHOICE,
    "resample": [value for value in FLAG if value is not None],
    "resample_pool": FLAG,
    "seed": CHOICE,
    "output": FUNCTION,
    "trace": TRACE,
}
RUN = {"device": DEVICE, "output": FUNCTION, "progress": FLAG}
SOLVER = {"positive": FLAG, "tol": [*NUMBER, 0, -1], "max_iter": COUNT, "device": DEVICE, "n_jobs": [0, "2", 2.5, True]}

# A function, arguments that are right, and wrong values for its parameters.
Case = tuple[Callable[..., Any], dict[str, Any], dict[str, list[Any]]]


def check_refused(case: Case) -> None:
    """Check that every wrong value is one clear line of ours: no traceback, no silence."""
    function, good, wrong = case
    for parameter, values in wrong.items():
        for value in values:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    function(**{**good, parameter: value})
                except InterpNetError:
                    continue
                except Exception as error:
                    raise AssertionError(f"{parameter}={value!r}: {type(error).__name__}: {error}") from error
            raise AssertionError(f"{parameter}={value!r} was accepted in silence")


def names_without_files(functions: Mapping[str, Case]) -> list[str]:
    """Return the names of the functions whose right arguments are enough: no file has to be there."""
    return [name for name in functions if not name.endswith((".load", ".save", "load_model"))]


def check_accepted(case: Case) -> None:
    """Check that the right values are right, so that the wrong ones are refused for what is wrong with them."""
    function, good, _ = case
    function(**good)
