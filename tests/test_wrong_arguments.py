"""Every public function refuses arguments of the wrong kind in one clear line; other rooms have their own tables."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from helpers.wrong_kinds import (
    BATCHES,
    CHANNEL,
    CHANNELS,
    CHOICE,
    CONTRIBUTIONS,
    COUNT,
    DATA,
    DEVICE,
    DIGITS,
    FLAG,
    FOUND,
    FROM_ZERO,
    FUNCTION,
    GRAM,
    HEATMAPS,
    IMAGES,
    INTERPRETATION,
    LAYERS,
    LOADER,
    MAP,
    MAYBE_CHOICE,
    MAYBE_COUNT,
    MAYBE_TEXT,
    MAYBE_WIDTH,
    MODEL,
    NAN,
    NET,
    NUMBER,
    RADIUS,
    RULES,
    RUN,
    SEED,
    TABLE,
    TABLES,
    TARGET,
    TEXT,
    VECTORS,
    WIDTH,
    Case,
    X,
    check_accepted,
    check_refused,
    names_without_files,
    network,
)
from torch import Tensor

import interpnet as ip
from interpnet.explanation import combine, normalise, reduce_colours
from interpnet.models import accuracy, train


def removed(model: Any = NET, channels: Any = CHANNEL, fill: Any = "zero") -> Tensor:
    channels = [channels] if channels is CHANNEL else channels
    with torch.no_grad(), ip.ablate(model, channels, fill=fill):
        return NET(X)


def ruled(model: Any = NET, **options: Any) -> None:
    with ip.backward_rules(model, **options):
        pass


FUNCTIONS: dict[str, Case] = {
    "collect_scores": (
        ip.collect_scores,
        {"model": NET, "loader": BATCHES, "progress": False},
        {
            "model": MODEL,
            "loader": LOADER,
            "layers": LAYERS,
            "norm": CHOICE,
            "normalisation": CHOICE,
            "out": [5, [], True],
            "key": TEXT,
            "memory_format": CHOICE,
            "autocast": [5, "half", True],
            "gram": [5, "x", GRAM],
            "contributions": [5, "x", GRAM],
            "total": [-1, 2.5, "3", True],
            "inputs": MAYBE_TEXT,
            "labels": MAYBE_TEXT,
            **RUN,
        },
    ),
    "collect_contributions": (
        ip.collect_contributions,
        {"model": NET, "loader": BATCHES, "progress": False},
        {
            "model": MODEL,
            "loader": LOADER,
            "layers": LAYERS,
            "fill": ["median", None, 5, [], True, [NAN], X],
            "images": MAYBE_COUNT,
            "outputs": CHOICE,
            "targets": CHOICE,
            "classes": [5, ["a"], "ab", [1, 2], ["a", "a"]],
            "removed": [5, "x", [[0]], [["a"], [], []], [[99], [], []], [[-1], [], []], [[0.5], [], []]],
            "thinned": [0.5, "x", [1.0], [-0.1], ["a"], [NAN], [True]],
            "memory_format": CHOICE,
            "total": [-1, 2.5, "3", True],
            "inputs": MAYBE_TEXT,
            "labels": MAYBE_TEXT,
            **RUN,
        },
    ),
    "measure_reliance": (
        ip.measure_reliance,
        {"model": NET, "loader": BATCHES, "contributions": CONTRIBUTIONS, "progress": False},
        {
            "model": MODEL,
            "loader": LOADER,
            "contributions": [None, 5, X, GRAM],
            "price": [-1.0, NAN, "1", True],
            "share": [0.0, 1.5, NAN, "half", True],
            "worth": [-0.1, 1.5, NAN, "half", True],
            "most": [0, -1, 1.5, True],
            "images": MAYBE_COUNT,
            "thinned": [0.5, "x", [1.0], [-0.1]],
            "memory_format": CHOICE,
            "inputs": MAYBE_TEXT,
            "labels": MAYBE_TEXT,
            **RUN,
        },
    ),
    "ablate": (
        removed,
        {},
        {
            "model": MODEL,
            "channels": CHANNELS,
            "fill": ["mean", None, NAN, True, [], {}, {CHANNEL: NAN}, {CHANNEL: "1"}, 1j],
        },
    ),
    "ablation_study": (
        ip.ablation_study,
        {"model": NET, "loader": BATCHES, "interpretation": FOUND, "progress": False, "repeats": 1},
        {
            "model": MODEL,
            "loader": LOADER,
            "interpretation": INTERPRETATION,
            "table": TABLES,
            "repeats": COUNT,
            "controls": ["random", 5, None, ["nonsense"], [5]],
            "seed": [*SEED, -1],
            "fill": CHOICE,
            "curve": FLAG,
            "single": FLAG,
            "memory_format": CHOICE,
            "checkpoint": [5, [], True],
            "key": TEXT,
            "inputs": MAYBE_TEXT,
            "labels": MAYBE_TEXT,
            **RUN,
        },
    ),
    "attribute": (
        ip.attribute,
        {"model": NET, "images": X, "method": "gradient"},
        {
            "model": MODEL,
            "images": IMAGES,
            "target": TARGET,
            "method": CHOICE,
            "max_batch": MAYBE_COUNT,
            "seed": SEED,
            "reduction": ["nonsense", 5, [], True],
            "output": FUNCTION,
            "layer": ["1", 5],
            "baseline": ["blank"],
        },
    ),
    "attribute_full": (
        ip.attribute_full,
        {"model": NET, "images": X, "method": "gradcam"},
        {"layer": [5, [5], [], "nothing", b"x"]},
    ),
    "backward_rules": (ruled, {}, {"model": MODEL, "rectifier": CHOICE, "resample": FLAG, "resample_pool": FLAG}),
    "load_dataset": (
        ip.load_dataset,
        {"spec": "digits"},
        {
            "spec": [*TEXT, "nothing", ""],
            "split": CHOICE,
            "root": [5, [], True],
            "image_size": [0, True, 2.5, "8", [], {}],
            "crop": [0, True, 2.5, "8", []],
            "mean": ["a", [], True, NAN, [1, 2]],
            "std": ["a", [], True, NAN, 0, -1],
            "channels": [0, True, 2.5, "3", []],
            "on_bad_image": CHOICE,
            "download": FLAG,
        },
    ),
    "make_loader": (
        ip.make_loader,
        {"data": DIGITS},
        {
            "data": [None, 5, "digits", X, DATA],
            "batch_size": COUNT,
            "indices": [5, "x", [], [0.5], [True], [-1], [10**6]],
            "shuffle": FLAG,
            "num_workers": FROM_ZERO,
            "pin_memory": FLAG,
            "seed": SEED,
        },
    ),
    "find_sites": (
        ip.find_sites,
        {"model": NET, "images": X},
        {"model": MODEL, "images": IMAGES, "output": FUNCTION, "logits": FLAG},
    ),
    "average_visualizations": (
        ip.average_visualizations,
        {"model": NET, "data": DATA, "table": TABLE, "channels": [CHANNEL], "progress": False},
        {
            "model": MODEL,
            "data": [None, 5, "x", [], [5] * 6, DATA[:2], X.numpy()],
            "table": [None, *TABLES],
            "channels": CHANNELS,
            "top": COUNT,
            "keep": FROM_ZERO,
            "crop": CHOICE,
            "batch_size": COUNT,
            **RUN,
        },
    ),
    "average_visualization": (
        ip.average_visualization,
        {"model": NET, "data": DATA, "table": TABLE, "channel": CHANNEL, "progress": False},
        {
            "channel": [None, 5, "x", [CHANNEL], ip.Channel("zz", 0)],
            "top": COUNT,
            "table": TABLES,
            "model": MODEL,
            "data": [None],
        },
    ),
    "channel_heatmap": (
        ip.channel_heatmap,
        {"model": NET, "images": X, "channels": CHANNEL},
        {"model": MODEL, "images": IMAGES, "channels": CHANNELS, "reduction": CHOICE, "smooth": WIDTH, **RULES},
    ),
    "channel_signal": (
        ip.channel_signal,
        {"model": NET, "images": X, "channels": CHANNEL},
        {"model": MODEL, "images": IMAGES, "channels": CHANNELS, **RULES},
    ),
    "explain": (
        ip.explain,
        {"model": NET, "images": X, "interpretation": FOUND},
        {
            "model": MODEL,
            "images": IMAGES,
            "interpretation": [value for value in INTERPRETATION if value is not None],
            "k": [*COUNT, 10**9],
            "classes": [*TARGET, torch.full((6,), 0.5)],
            "variant": CHOICE,
            "choose": MAYBE_CHOICE,
            "smooth": MAYBE_WIDTH,
            "saturate": [*MAYBE_WIDTH, 0, 1.5],
            "reduction": MAYBE_CHOICE,
            "combination": MAYBE_CHOICE,
            **(RULES | {"seed": MAYBE_CHOICE}),
        },
    ),
    "interpret": (
        ip.interpret,
        {"source": TABLE},
        {
            "source": [None, 5, "x", FOUND, VECTORS],
            "channels": [5, "x", []],
            "mu": RADIUS,
            "positive": FLAG,
            "classes": [5, "abc", ["a", "a", "b"], ["a", "b"], [1, 2, 3], ["a", None, "c"], [], {"a": 1}],
            "tol": [*NUMBER, 0],
            "by": [*CHOICE[:1], *CHOICE[2:], "reliance"],
            "price": [*NUMBER, -1, float("inf")],
            "most": COUNT,
            "info": [5, "x", []],
        },
    ),
    "load_model": (
        ip.load_model,
        {"spec": "torchvision:squeezenet1_1"},
        {
            "spec": [*TEXT, "nothing", "x.py:"],
            "weights": [5, [], True, "/nonexistent.pt"],
            "num_classes": MAYBE_COUNT,
            "seed": SEED,
            "weights_key": MAYBE_TEXT,
        },
    ),
    "combine": (
        combine,
        {"heatmaps": X, "responses": X[:, :, 0, 0]},
        {"heatmaps": [None, 5, "x", X[0], X.numpy()], "responses": [None, 5, X[:, :2, 0, 0]], "combination": CHOICE},
    ),
    "normalise": (normalise, {"maps": HEATMAPS}, {"maps": MAP[:5], "axes": [-1, True, 2.5, "2", None, 9]}),
    "reduce_colours": (reduce_colours, {"signal": X}, {"signal": [None, 5, "x", X.numpy()], "reduction": CHOICE}),
    "accuracy": (accuracy, {"model": NET, "loader": BATCHES}, {"model": MODEL, "loader": LOADER, "device": DEVICE}),
    "train": (
        lambda **options: train(**{"model": network(), **options}),
        {"loader": BATCHES, "epochs": 1, "progress": False},
        {
            "model": MODEL,
            "loader": LOADER,
            "epochs": COUNT,
            "lr": [*NUMBER, 0],
            "weight_decay": [*NUMBER, -1],
            "max_shift": [*FROM_ZERO, 10**9],
            "seed": SEED,
            "device": DEVICE,
            "progress": FLAG,
        },
    ),
}


# Their table stands beside the tests of the Gram.
SOLVER_FUNCTIONS = {"mulasso_breakpoints", "mulasso_path", "stability_selection"}
# Wrong entries are refused in the tests of the registries.
REGISTRIES = {
    "methods",
    "register_method",
    "unregister_method",
    "rankings",
    "register_ranking",
    "unregister_ranking",
}


# In tests/pipelines/test_audit_python.py and test_compare.py.
OF_AUDITS = {"audit", "compare", "load_run"}


# In tests/scores/test_shared_collections.py.
OF_FOLDERS = {"merge_scores"}


def test_every_public_function_is_in_a_table() -> None:
    functions = {name for name in ip.__all__ if inspect.isfunction(getattr(ip, name))}
    assert functions - REGISTRIES - SOLVER_FUNCTIONS - OF_AUDITS - OF_FOLDERS <= set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrong_arguments_are_one_line(name: str) -> None:
    check_refused(FUNCTIONS[name])


@pytest.mark.parametrize("name", names_without_files(FUNCTIONS))
def test_good_arguments_are_good(name: str) -> None:
    check_accepted(FUNCTIONS[name])
