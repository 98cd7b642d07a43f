"""The check that a network is a function of its image: how far outputs may differ, and in which passes."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interpnet.engine import check_function
from interpnet.engine._function import (
    RandomnessWarning,
    _difference,
    _off,
    _others,
    _rows_off,
    _share,
    _state,
)
from interpnet.errors import ModelError

X = torch.rand(2, 4, generator=torch.Generator().manual_seed(1)) + 1


class Net(nn.Module):
    """Numbers times a factor of the network's own."""

    def __init__(self, factor: Callable[[Any, Tensor], Any], dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.factor = factor
        self.passes = 0
        self.sizes: list[int] = []
        if dtype is not None:
            self.one = nn.Parameter(torch.ones(1, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        self.sizes.append(len(x))
        return x * self.factor(self, x)


class Uncopied(Net):
    """One that cannot be copied, hence does not run in float64."""

    def __deepcopy__(self, _memory: Any) -> Net:
        raise TypeError("no copies")


def refused(model: nn.Module, x: Tensor = X) -> str:
    """Return why the check refuses a network, "" where it does not."""
    try:
        check_function(model, x)
    except ModelError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("change", "said"), [(5e-6, False), (2e-5, True)])
def test_how_far_two_passes_may_differ(change: float, said: bool) -> None:
    found = refused(Net(lambda net, x: 1 + change * (net.passes == 2)))
    assert ("the same images gave different outputs twice" in found) == said
    assert bool(found) == said


@pytest.mark.parametrize(("change", "said"), [(5e-5, False), (2e-4, True)])
@pytest.mark.parametrize("size", [1, 3])
def test_how_far_an_image_may_differ_beside_others(change: float, said: bool, size: int) -> None:
    found = refused(Net(lambda net, x: 1 + change * (len(x) == size)))
    assert ("an image gave different outputs beside other images" in found) == said
    assert bool(found) == said


def test_what_differs_in_float32_alone_is_rounding() -> None:
    assert not refused(Net(lambda net, x: 1 + 0.1 * (len(x) == 3 and x.dtype == torch.float32)))
    # Of that also a little.
    found = refused(Net(lambda net, x: 1 + (2e-4 if x.dtype == torch.float32 else 2e-5) * (len(x) == 3)))
    assert "beside other images, by 0.002 %" in found
    assert not refused(Net(lambda net, x: 1 + (2e-4 if x.dtype == torch.float32 else 5e-6) * (len(x) == 3)))


@pytest.mark.parametrize(
    ("dtype", "small", "large"),
    [
        (None, 0.008, 0.012),
        (torch.float32, 0.008, 0.012),
        (torch.float16, 0.04, 0.06),
        (torch.bfloat16, 0.15, 0.25),
    ],
)
def test_networks_that_do_not_run_in_float64_have_wider_bounds(
    dtype: torch.dtype | None, small: float, large: float
) -> None:
    for change, said in ((small, False), (large, True)):
        # The images stay what they are: half precision would round the change away.
        model = Uncopied(lambda net, x, change=change: 1 + change * (len(x) == 3), dtype)
        assert ("beside other images" in refused(model, X.to(dtype or torch.float32))) == said
    wide = Net(lambda net, x: 1 + 0.02 * (len(x) == 3) + fails_in_double(x))
    assert "beside other images" in refused(wide)


def fails_in_double(x: Tensor) -> float:
    if x.dtype == torch.float64:
        raise RuntimeError("float64 is not for this network")
    return 0.0


def test_the_passes_of_a_check() -> None:
    quiet = Net(lambda net, x: 1)
    check_function(quiet, X)
    # Twice, behind two others, alone, two others, behind two others.
    assert quiet.sizes == [2, 2, 3, 1, 2, 3]
    check_function(quiet, X)
    assert quiet.passes == 6
    alone = Net(lambda net, x: 1)
    check_function(alone, X[:1])
    assert alone.sizes == [1, 1, 3, 1, 3]
    many = Net(lambda net, x: 1)
    check_function(many, torch.cat([X, X]))
    assert many.sizes == [2, 2, 3, 1, 2, 3]
    # A draw without effect: three passes with extreme numbers.
    unused = Net(lambda net, x: [torch.rand(1), 1][1])
    check_function(unused, X)
    assert unused.passes == 9
    check_function(unused, X)
    assert unused.passes == 9
    elsewhere = Net(lambda net, x: [random.random(), 1][1])  # noqa: S311
    with pytest.warns(RandomnessWarning, match="16 passes gave the same"):
        check_function(elsewhere, X)
    assert elsewhere.passes == 6 + 3 + 16
    once = Net(lambda net, x: [random.random() if net.passes == 1 else 0, 1][1])  # noqa: S311
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_function(once, X)
    assert once.passes == 6 + 1


def test_a_network_that_refuses_other_batches_or_extreme_numbers_is_judged_by_the_rest() -> None:
    def two_alone(net: Any, x: Tensor) -> int:
        if len(x) != 2:
            raise ValueError("two images, please")
        return 1

    def odd_numbers(net: Any, x: Tensor) -> int:
        if torch.rand(1) in {0.0, 1 - torch.finfo(torch.float32).eps}:
            raise ValueError("other numbers, please")
        return 1

    assert not refused(Net(two_alone))
    assert not refused(Net(odd_numbers))


def test_a_network_that_keeps_the_first_batch_of_every_size_is_refused() -> None:
    kept: dict[int, Tensor] = {}
    found = refused(Net(lambda net, x: kept.setdefault(len(x), x.clone()) / x))
    assert "an image gave different outputs beside other images" in found


def test_differences_by_hand() -> None:
    nan, inf = float("nan"), float("inf")
    for a, b, expected in [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.0], [1.0, 3.0], 1 / 3),
        ([4.0, 1.0], [2.0, 1.0], 0.5),
        ([-4.0, 1.0], [-3.0, 1.0], 0.25),
        ([0.0], [1e-9], 1.0),
        ([nan, 1.0], [nan, 1.0], 0.0),
        ([nan, 1.0], [nan, 2.0], 0.5),
        ([nan, 1.0], [2.0, 1.0], inf),
        ([inf, 1.0], [inf, 2.0], 0.5),
        ([-inf, 1.0], [-inf, 4.0], 0.75),
        ([inf, 1.0], [-inf, 1.0], inf),
        ([inf], [1.0], inf),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
    ]:
        assert _off(torch.tensor(a), torch.tensor(b)) == pytest.approx(expected)
        assert _off(torch.tensor(b), torch.tensor(a)) == pytest.approx(expected)
    one, two = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0])
    assert _difference([one, one], [one, two]) == pytest.approx(1 / 3)
    assert _difference([one, two], [two, two]) == pytest.approx(1 / 3)
    # Outputs of other shapes say nothing, nor does an output that one pass lacks.
    assert _difference([one, one], [two[:1], one]) == 0.0
    assert _difference([one], [one, two]) == 0.0
    assert _difference([], []) == 0.0


def test_rows_are_those_asked_for() -> None:
    def run(x: Tensor) -> list[Tensor]:
        if len(x) == 1:
            raise ModelError("one image is too few")
        return [x]

    a, b = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[3.0], [1.0]])
    assert _rows_off(run, a, 0, b, 1, None) == 0.0
    assert _rows_off(run, a, 1, b, 1, None) == 0.5
    assert _rows_off(run, a, 2, b, 0, None) == 0.25
    assert _rows_off(run, a, 0, b, 0, [b]) == 0.0
    assert _rows_off(run, a, 0, b[:1], 0, None) == 0.0
    assert math.isnan(_rows_off(run, a[:1], 0, b, 0, None, otherwise=math.nan))
    assert _rows_off(run, a[:1], 0, b, 0, [a], otherwise=math.nan) == pytest.approx(2 / 3)


def test_two_other_images_by_hand() -> None:
    image = torch.tensor([[[1.0, 2.0, 3.0]]])
    spread = (2 / 3) ** 0.5
    ramp = torch.tensor([-1.0, 0.0, 1.0])
    expected = torch.tensor([[9.0, 6.0, 3.0], [-3.0, -6.0, -9.0]]) + spread * ramp
    torch.testing.assert_close(_others(image), expected[:, None])
    blank = _others(torch.full((1, 1, 3), 2.0))
    torch.testing.assert_close(blank, torch.stack([6 + ramp, -6 + ramp])[:, None])
    assert _others(image.half()).dtype == torch.float16
    nan = float("nan")
    expected = torch.tensor([[2.0, nan], [nan, -2.0]])
    torch.testing.assert_close(_others(torch.tensor([[nan, 1.0]])), expected, equal_nan=True)
    assert _others(torch.zeros(1, 2, 3, 4)).shape == (2, 2, 3, 4)


def test_shares_in_words() -> None:
    assert _share(0.1234) == "12 % of the largest"
    assert _share(2e-4) == "0.02 % of the largest"
    assert _share(math.inf) == "without bound"


def test_the_state_of_a_network_changes_with_its_parts_and_their_values() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.ReLU())
    states = [_state(model)]
    assert _state(model) == states[0]
    with torch.no_grad():
        model[0].bias.add_(1)
    states.append(_state(model))
    model[1].running_mean.add_(1)
    states.append(_state(model))
    model[0].weight = nn.Parameter(torch.zeros(2, 2))
    states.append(_state(model))
    kept = model[2]
    model[2] = nn.ReLU()
    states.append(_state(model))
    assert kept is not model[2]
    assert len(set(states)) == 5


def test_random_networks_say_where_and_networks_with_memory_what() -> None:
    class Drops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Net(lambda net, x: F.dropout(torch.ones(()), 0.5))

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)

    assert "'dropout' in 'inner' draws random numbers in evaluation" in refused(Drops())
    assert "'rand' in the network's own forward() draws" in refused(Net(lambda net, x: torch.rand(1)))
    assert "It keeps something between calls, or draws" in refused(Net(lambda net, x: net.passes))
