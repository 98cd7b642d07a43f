"""What the measures are called and where they lie, their defaults, and the edges of what they take."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.networks import Step
from torch import Tensor, nn

from interpnet.errors import DataError, InterpNetError, ModelError
from interpnet.evaluate import (
    checkerboard,
    class_sensitivity,
    deletion,
    insertion,
    iou_auc,
    measures,
    pointing_game,
    spearman,
    ssim,
)
from interpnet.evaluate._checks import images_named
from interpnet.evaluate._similarity import ranks


def test_directions_and_ranges() -> None:
    table = {m.name: (m.direction.split()[0], m.range) for m in measures()}
    assert table == {
        "iou_auc": ("higher", (0.0, 1.0)),
        "pointing_game": ("higher", (0.0, 1.0)),
        "energy_pointing": ("higher", (0.0, 1.0)),
        "segment_iou": ("higher", (0.0, 1.0)),
        "segment_precision": ("higher", (0.0, 1.0)),
        "segment_recall": ("higher", (0.0, 1.0)),
        "grid_pointing_game": ("higher", (0.0, 1.0)),
        "disconnected_pointing_game": ("higher", (0.0, 1.0)),
        "deletion": ("lower", (0.0, 1.0)),
        "insertion": ("higher", (0.0, 1.0)),
        "symmetric_relevance_gain": ("higher", (-1.0, 1.0)),
        "infidelity": ("lower", (0.0, math.inf)),
        "max_sensitivity": ("lower", (0.0, math.inf)),
        "class_sensitivity_spearman": ("lower", (-1.0, 1.0)),
        "class_sensitivity_ssim": ("lower", (-1.0, 1.0)),
        "parameter_randomisation_spearman": ("lower", (-1.0, 1.0)),
        "parameter_randomisation_ssim": ("lower", (-1.0, 1.0)),
        "efficient_randomisation": ("higher", (-1.0, math.inf)),
        "sparseness": ("higher", (0.0, 1.0)),
        "complexity": ("lower", (0.0, math.inf)),
        "checkerboard": ("lower", (0.0, 1.0)),
    }


@pytest.mark.parametrize(
    ("set_", "words"),
    [
        ([3], "image 3"),
        ([0, 2], "images 0, 2"),
        ([0, 1, 2, 5], "images 0, 1, 2, 5"),
        ([0, 1, 2, 5, 7], "images 0, 1, 2, 5 and 1 more"),
    ],
)
def test_images_are_named(set_: list[int], words: str) -> None:
    flags = torch.zeros(8, dtype=torch.bool)
    flags[set_] = True
    assert images_named(flags) == words


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def classifier() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(81, 3)).double().eval()


@pytest.mark.parametrize(("measured", "baseline"), [(deletion, "blank"), (insertion, "blurred")])
def test_defaults_of_deletion_and_insertion(measured: Any, baseline: str) -> None:
    model = classifier()
    images = some(2, 1, 9, 9)
    maps = some(2, 9, 9, seed=1).mul(9).round()
    predicted = model(images).argmax(1)
    said = {"steps": 50, "score": "probability", "controls": ("random", "edge"), "max_batch": 32, "seed": 0}
    found = measured(model, images, maps)
    same = measured(model, images, maps, predicted, baseline=baseline, constant="error", output=None, **said)
    assert torch.equal(found.curve, same.curve)
    assert found.curve.shape == (2, 51)
    assert list(found.controls) == ["random", "edge"]
    for name, control in found.controls.items():
        assert torch.equal(control.curve, same.controls[name].curve)
        assert (control.name, control.range) == (measured.__name__, (0.0, 1.0))
        assert torch.equal(control.thresholds, found.thresholds)
    assert (found.name, found.range) == (measured.__name__, (0.0, 1.0))


@pytest.mark.parametrize("measured", [deletion, insertion])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 3),
        ("baseline", 0.25),
        ("score", "logit"),
        ("seed", 5),
        ("target", 1),
        ("output", lambda z: 3 * z),
    ],
)
def test_every_option_of_deletion_and_insertion_counts(measured: Any, name: str, value: Any) -> None:
    model = classifier()
    images = some(2, 1, 9, 9)
    maps = torch.zeros(2, 9, 9)
    maps[:, :4] = 1.0  # many equal pixels
    given = {"steps": 4, "controls": ("random",)} | {name: value}
    found = measured(model, images, maps, **given)
    plain = measured(model, images, maps, steps=4, controls=("random",))
    for one, other in ((found, plain), (found.controls["random"], plain.controls["random"])):
        assert one.curve.shape != other.curve.shape or not torch.allclose(one.curve, other.curve)
        assert one.range == ((-math.inf, math.inf) if name == "score" else (0.0, 1.0))


@pytest.mark.parametrize("measured", [deletion, insertion])
def test_both_refuse_and_flag_alike(measured: Any) -> None:
    model = classifier()
    images = some(3, 1, 9, 9)
    maps = some(3, 9, 9, seed=1)
    maps[1] = 0.5
    with pytest.raises(DataError, match="heatmaps: the map of image 1 is constant"):
        measured(model, images, maps)
    assert measured(model, images, maps, constant="zero", steps=2).flagged.tolist() == [False, True, False]
    assert measured(model, images, maps, constant="zero", steps=2, controls=()).controls == {}
    for options, message in (
        ({"steps": 82}, "steps is 82; expected a whole number from 1 to 81"),
        ({"max_batch": 0}, "max_batch is 0"),
        ({"score": "softmax"}, "score is 'softmax'"),
        ({"seed": -1}, "seed is -1"),
    ):
        with pytest.raises(InterpNetError, match=message):
            measured(model, images, maps, constant="zero", **options)
    assert measured(model, images, maps, constant="zero", steps=81, controls=()).curve.shape == (3, 82)


@pytest.mark.parametrize("measured", [deletion, insertion])
def test_passes_are_as_large_as_allowed_and_no_larger(measured: Any) -> None:
    model = classifier()
    images = some(3, 1, 9, 9)
    maps = some(3, 9, 9, seed=1)
    measured(model, images, maps, steps=4, controls=())  # the network is known from here on
    sizes: list[int] = []
    model.register_forward_pre_hook(lambda _module, given: sizes.append(len(given[0])))
    measured(model, images, maps, steps=4, controls=(), max_batch=4)
    # After the check and the classes of three images: 5 points of 3 images.
    assert sizes[-4:] == [4, 4, 4, 3]


def test_a_measure_runs_within_inference_mode_and_with_constant_images() -> None:
    model = classifier()
    images = some(2, 1, 9, 9)
    maps = some(2, 9, 9, seed=1)
    expected = deletion(model, images, maps, steps=3)
    with torch.inference_mode():
        found = deletion(model, images, maps, steps=3)
    assert torch.equal(found.curve, expected.curve)
    # Without an edge the control is the seeded order of equal pixels, and no warning is worth its line.
    flat = deletion(model, torch.full_like(images, 0.5), maps, steps=3, baseline=0.0)
    assert bool(torch.isfinite(flat.controls["edge"].values).all())


def test_an_answer_that_is_not_finite_only_without_pixels() -> None:
    model = nn.Sequential(
        nn.Flatten(), Step(lambda x: torch.stack([x[:, 0], x[:, 1]], 1) / x.sum(1, keepdim=True)), nn.Identity()
    )
    images = some(3, 1, 2, 2) + 0.1
    maps = some(3, 2, 2, seed=1)
    with pytest.raises(ModelError, match="NaN or infinity for images 0, 1, 2 with pixels of the baseline"):
        deletion(model, images, maps, steps=2, baseline=0.0, controls=())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: checkerboard(some(8, 8), (1, 1)), r"stride=\(1, 1\); expected a whole number of pixels from 2 on"),
        (lambda: checkerboard(some(8, 8), (0, 2)), r"stride=\(0, 2\)"),
        (lambda: checkerboard(some(8, 8), (2, 2, 2)), r"stride=\(2, 2, 2\)"),
        (lambda: checkerboard(some(8, 4), (2, 5)), r"stride=\(2, 5\) is larger than the maps, \(8, 4\)"),
        (lambda: checkerboard(some(8, 8), 2, width=0.0), "width=0.0; expected above 0 and at most 0.5"),
        (lambda: checkerboard(some(8, 8) / 0, 2), "maps hold NaN or infinity"),
        (lambda: checkerboard(some(8), 2), r"maps: shape \(8,\), torch.float64 came"),
        (lambda: ssim(some(5, 5), some(5, 5), window=1), "window=1; expected an odd number of pixels from 3 on"),
        (lambda: ssim(some(5, 5), some(5, 5), window=7), r"window=7 is larger than the maps, \(5, 5\)"),
        (lambda: spearman(some(2, 3, 3), some(3, 3, 3)), "expected as many maps of each"),
        (lambda: spearman(some(2, 1, 3, 3), some(3, 3, 3, 3)), "expected as many maps of each"),
        (lambda: spearman(some(3), some(3)), r"maps: shapes \(3,\) and \(3,\) came"),
        (lambda: spearman(some(4, 3), some(3, 3)), r"maps: shapes \(4, 3\) and \(3, 3\) came; .* of one size"),
    ],
)
def test_edges_of_what_is_taken(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InterpNetError, match=message):
        call()


def test_the_largest_strides_windows_and_widths_that_fit() -> None:
    assert checkerboard(torch.eye(8), 8).shape == ()
    # The widest bands hold every frequency; the picture's own are half of each axis, both edges counted.
    noise = torch.zeros(8, 8)
    noise[0, 0] = 1.0
    assert checkerboard(noise, 2, width=0.5).item() == pytest.approx(1 - (5 / 8) ** 2)
    assert checkerboard(noise, (1, 2), width=0.5).item() == pytest.approx(1 - 5 / 8)
    assert checkerboard(noise, (2, 1), width=0.5).item() == pytest.approx(1 - 5 / 8)
    assert ssim(some(5, 9), some(5, 9), window=5).item() == 1.0
    assert ssim(some(2, 1, 5, 5), some(3, 5, 5), window=3).shape == (2, 3)
    assert spearman(some(2, 1, 3, 3), some(3, 3, 3)).shape == (2, 3)
    assert spearman(some(4, 2, 3, 3), some(3, 3)).shape == (4, 2)
    assert pointing_game(some(1, 2, 2), torch.eye(2)[None], tolerance=0.0).values.shape == (1,)
    assert iou_auc(some(1, 2, 2), torch.eye(2)[None], thresholds=[0.0, 1.0]).curve.shape == (1, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_grids_of_half_precision(dtype: torch.dtype) -> None:
    grid = torch.zeros(2, 8, 8, dtype=dtype)
    grid[0, ::2, ::2] = 1.0
    found = checkerboard(grid, 2)
    assert found.dtype == dtype
    assert found.tolist() == [0.75, 0.0]


def test_ranks_of_many_rows_and_long_ties() -> None:
    rows = torch.tensor([[1.0, 1.0, 1.0, 1.0], [4.0, 3.0, 2.0, 1.0], [2.0, 1.0, 2.0, 1.0]])
    assert ranks(rows).tolist() == [[2.5] * 4, [4.0, 3.0, 2.0, 1.0], [3.5, 1.5, 3.5, 1.5]]


def test_the_function_that_failed_is_named_by_its_class() -> None:
    images = torch.rand(2, 1, 11, 11)

    def explain(_model: nn.Module, x: Tensor, target: Tensor) -> Any:
        assert target.is_contiguous()
        return None if int(target[0]) == 7 else x[:, 0]

    with pytest.raises(DataError, match="maps: the function returned a NoneType for class 1"):
        class_sensitivity(explain, nn.Identity(), images, [3, 7])
    with pytest.raises(InterpNetError, match=r"classes \[3, 3\] hold a class twice"):
        class_sensitivity(explain, nn.Identity(), images, torch.tensor([[3, 3], [1, 2]]))
    for missing in ({"model": None}, {"images": None}, {"classes": None}):
        given = {"model": nn.Identity(), "images": images, "classes": [1, 2]} | missing
        with pytest.raises(InterpNetError, match="came without model, images or classes; pass all three"):
            class_sensitivity(explain, **given)
    for extra in ({"model": nn.Identity()}, {"images": images}, {"classes": [0, 1]}):
        with pytest.raises(InterpNetError, match="go with a function that makes the maps"):
            class_sensitivity(torch.rand(2, 2, 11, 11), **extra)
