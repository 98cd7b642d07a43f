"""Pictures refuse arguments of the wrong kind in one clear line."""

from __future__ import annotations

import inspect

import pytest
from helpers.wrong_kinds import (
    ARRAY,
    BATCHES,
    CHANNEL,
    CHOICE,
    COUNT,
    FILTERS,
    FLAG,
    FROM_ZERO,
    FUNCTION,
    HEATMAPS,
    IMAGES,
    LOADER,
    MAYBE_COUNT,
    MODEL,
    NAN,
    NET,
    NUMBER,
    PICTURE,
    RUN,
    SEED,
    TEXT,
    TRACE,
    VECTORS,
    Case,
    X,
    check_accepted,
    check_refused,
    names_without_files,
)

import interpnet as ip
from interpnet import pictures
from interpnet.plotting import enlarge, render, tile

FUNCTIONS: dict[str, Case] = {
    "pictures.activation_maps": (
        pictures.activation_maps,
        {"model": NET, "images": X, "layer": "1"},
        {
            "model": MODEL,
            "images": IMAGES,
            "layer": [*TEXT, "zz", ["1", None], ["zz"]],
            "output": FUNCTION,
            "trace": TRACE,
        },
    ),
    "pictures.embed": (
        pictures.embed,
        {"model": NET, "loader": BATCHES, "progress": False},
        {"model": MODEL, "loader": LOADER, "layer": [5, [], True, "zz"], "total": [-1, 2.5, "3"], **RUN},
    ),
    "pictures.filters": (
        pictures.filters,
        {"model": NET, "images": X},
        {"model": MODEL, "images": IMAGES, "layers": [5, [5], "nothing", b"x"]},
    ),
    "pictures.filter_sheet": (
        pictures.filter_sheet,
        {"found": FILTERS},
        {"found": [None, 5, "x"], "most": COUNT, "planes": COUNT},
    ),
    "pictures.filter_tiles": (pictures.filter_tiles, {"found": FILTERS}, {"found": [None, 5, "x"]}),
    "pictures.last_site": (pictures.last_site, {"trace": ip.find_sites(NET, X)}, {"trace": [None, *TRACE]}),
    "pictures.map_sheet": (
        pictures.map_sheet,
        {"maps": VECTORS[None]},
        {"maps": [None, 5, "x", [], VECTORS[None] * NAN, {}], "most": COUNT, "size": COUNT, "columns": MAYBE_COUNT},
    ),
    "pictures.maximise": (
        pictures.maximise,
        {"model": NET, "targets": [CHANNEL], "shape": (3, 8, 8), "steps": 1},
        {
            "model": MODEL,
            "targets": [None, 5, "x", [5.5], ["zz"], [True], [99], [ip.Channel("zz", 0)]],
            "shape": [None, 5, "x", [], (3, 0, 8), (3, 8.5, 8), ("3", 8, 8)],
            "mean": ["a", [], True, NAN, [1, 2]],
            "std": ["a", [], True, NAN, 0, -1],
            "steps": COUNT,
            "step": [*NUMBER, 0],
            "jitter": [-1, True, 2.5, "3"],
            "blur": [-1, True, "3", NAN],
            "l2": [*NUMBER, -1],
            "seed": SEED,
            "max_batch": COUNT,
            "output": FUNCTION,
            "trace": TRACE,
            "progress": FLAG,
        },
    ),
    "pictures.nearest_images": (
        pictures.nearest_images,
        {"vectors": VECTORS, "k": 2},
        {"vectors": ARRAY, "queries": [5.5, "x", [0.5], [99], [True]], "k": [*COUNT, 10**9]},
    ),
    "pictures.picture_plane": (
        pictures.picture_plane,
        {"points": VECTORS[:, :2], "pictures": [PICTURE] * 12},
        {
            "points": ARRAY,
            "pictures": [None, 5, "x", [], [5] * 12],
            "thumb": COUNT,
            "background": [-1, 256, True, 2.5, "3"],
        },
    ),
    "pictures.tsne": (
        pictures.tsne,
        {"vectors": VECTORS},
        {"vectors": ARRAY, "perplexity": [0, True, "3", NAN, 10**9], "seed": [*SEED, -1]},
    ),
    "enlarge": (enlarge, {"image": X[0]}, {"image": [None, 5, "x", [], {}], "size": COUNT}),
    "render": (
        render,
        {"heatmap": HEATMAPS[0]},
        {
            "heatmap": [None, 5, "x", [], X, HEATMAPS[0] * NAN, HEATMAPS[0].to("meta")],
            "image": [5, "x"],
            "size": COUNT,
            "cmap": CHOICE,
            "vmin": ["1", NAN, True, [1]],
            "vmax": ["1", NAN, True, [1]],
        },
    ),
    "tile": (
        tile,
        {"pictures": [PICTURE], "columns": 1},
        {"pictures": [None, 5, "x", [], [5]], "columns": COUNT, "pad": FROM_ZERO, "background": [-1, 256, True, 2.5]},
    ),
}


def test_every_picture_is_in_the_table() -> None:
    functions = {name for name in pictures.__all__ if inspect.isfunction(getattr(pictures, name))}
    assert {f"pictures.{name}" for name in functions} <= set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrong_arguments_are_one_line(name: str) -> None:
    check_refused(FUNCTIONS[name])


@pytest.mark.parametrize("name", names_without_files(FUNCTIONS))
def test_good_arguments_are_good(name: str) -> None:
    check_accepted(FUNCTIONS[name])
