"""Random numbers in a pass: which calls draw, what is put in their place, and what is restored afterwards."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.networks import Step
from torch import Tensor, nn

from interpnet.engine import Instrument, instrument
from interpnet.engine._draws import EXTREMES, Draws, Extreme, _state_of, draws_elsewhere, random_state_kept, reseed

X = torch.full((2, 3), 4.0)
CPU = torch.device("cpu")


def watched(model: nn.Module, x: Tensor = X) -> Draws:
    draws = Draws()
    with torch.no_grad(), instrument(model, Instrument(observe=draws.observe)):
        model(x.clone())
    return draws


DRAWING: dict[str, Callable[[Tensor], Any]] = {
    "rand": lambda x: torch.rand(2),
    "rand_like": torch.rand_like,
    "uniform": lambda x: x.uniform_(),
    "randn": lambda x: torch.randn(2),
    "randn_like": torch.randn_like,
    "normal": lambda x: x.normal_(),
    "bernoulli": lambda x: torch.bernoulli(x / 8),
    "randint": lambda x: torch.randint(5, (2,)),
    "randint_like": lambda x: torch.randint_like(x, 5),
    "random": lambda x: x.random_(),
    "randperm": lambda x: torch.randperm(5),
    "multinomial": lambda x: torch.multinomial(x, 1),
    "exponential": lambda x: x.exponential_(),
    "poisson": torch.poisson,
    "cauchy": lambda x: x.cauchy_(),
    "geometric": lambda x: x.geometric_(0.5),
    "log_normal": lambda x: x.log_normal_(),
    "binomial": lambda x: torch.binomial(x, x / 8),
    "dropout": lambda x: F.dropout(x, 0.5),
    "dropout1d": lambda x: F.dropout1d(x, 0.5),
    "alpha_dropout": lambda x: F.alpha_dropout(x, training=True),
    "feature_alpha_dropout": lambda x: F.feature_alpha_dropout(x, 0.5, True),
    "feature_dropout": lambda x: torch.feature_dropout(x, 0.5, True),
}


@pytest.mark.parametrize("name", DRAWING)
def test_calls_that_draw_are_noted_with_the_state_they_drew_from(name: str) -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    draws = watched(Step(DRAWING[name]))
    assert draws.calls[0] == (name, "")
    # The state is that after the draw: two passes that drew alike have the same ones.
    assert len(draws.states) == len(draws.calls)
    assert not torch.equal(draws.states[0], state)
    torch.manual_seed(3)
    assert draws.same_as(watched(Step(DRAWING[name])))
    assert not draws.same_as(watched(Step(DRAWING[name])))


QUIET: dict[str, Callable[[Tensor], Any]] = {
    "dropout, off": lambda x: F.dropout(x, 0.5, False),
    "dropout, off by name": lambda x: F.dropout(x, p=0.5, training=False),
    "torch's dropout, off": lambda x: torch.dropout(x, 0.5, False),
    "torch's dropout, off by name": lambda x: torch.dropout(x, p=0.5, train=False),
    "dropout of nothing": lambda x: F.dropout(x, 0.0),
    "dropout of nothing by name": lambda x: F.dropout(x, p=0.0, training=True),
    "feature dropout, off": lambda x: torch.feature_dropout(x, 0.5, False),
    "nothing": lambda x: x + 1,
}


@pytest.mark.parametrize("name", QUIET)
def test_calls_that_do_not_draw(name: str) -> None:
    assert watched(Step(QUIET[name])).calls == []


def test_draws_are_compared_one_by_one() -> None:
    torch.manual_seed(0)
    one = watched(Step(torch.rand_like))
    torch.manual_seed(0)
    two = watched(Step(lambda x: [torch.rand_like(x), torch.rand_like(x)]))
    assert torch.equal(one.states[0], two.states[0])
    assert not one.same_as(two)
    assert not two.same_as(one)
    assert Draws().same_as(Draws())


def test_a_generator_of_the_networks_own_is_the_one_whose_state_counts() -> None:
    own = torch.Generator().manual_seed(7)
    model = Step(lambda x: torch.rand(2, generator=own))
    first = watched(model)
    own.manual_seed(7)
    assert first.same_as(watched(model))
    assert not first.same_as(watched(model))
    torch.rand(2, generator=own.manual_seed(7))
    assert torch.equal(first.states[0], own.get_state())


def test_batch_norms_on_the_statistics_of_their_batch_are_noted_by_module() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3, track_running_stats=False), nn.BatchNorm1d(3)).eval()
    model[2].train()
    assert watched(model).batch_norms == ["1", "2"]
    assert watched(nn.ReLU()).batch_norms == []


def under(which: str, draw: Callable[[], Tensor]) -> Tensor:
    with Extreme(which):
        return draw()


EPS = torch.finfo(torch.float32).eps
# The least and the most that can come.
ENDS: dict[str, tuple[Callable[[], Tensor], float, float]] = {
    "rand": (lambda: torch.rand(2, 3), 0.0, 1 - EPS),
    "rand_like": (lambda: torch.rand_like(X), 0.0, 1 - EPS),
    "uniform": (lambda: torch.empty(2).uniform_(), 0.0, 1.0),
    "uniform from 2 to 5": (lambda: torch.empty(2).uniform_(2, 5), 2.0, 5.0),
    "uniform by name": (lambda: torch.empty(2).uniform_(to=-1.0, **{"from": -3.0}), -3.0, -1.0),
    "bernoulli of a half": (lambda: torch.bernoulli(torch.full((3,), 0.5)), 0.0, 1.0),
    "bernoulli by p": (lambda: torch.empty(3).bernoulli_(0.1), 0.0, 1.0),
    "bernoulli by p, by name": (lambda: torch.empty(3).bernoulli_(p=0.9), 0.0, 1.0),
    "bernoulli without odds": (lambda: torch.full((3,), 4.0).bernoulli_(), 0.0, 1.0),
    "bernoulli of another map": (lambda: torch.bernoulli(X, 0.5), 0.0, 1.0),
    "bernoulli that is certain": (lambda: torch.bernoulli(torch.ones(3)), 1.0, 1.0),
    "bernoulli that is impossible": (lambda: torch.empty(3).bernoulli_(0.0), 0.0, 0.0),
    "bernoulli in place of its odds": (lambda: torch.ones(3).bernoulli_(torch.full((3,), 0.5)), 0.0, 1.0),
    "dropout": (lambda: F.dropout(X, 0.1), 4.0, 0.0),
    "dropout in training of torch": (lambda: torch.dropout(X, 0.1, True), 4.0, 0.0),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_least_and_the_most_that_can_come(name: str) -> None:
    draw, least, most = ENDS[name]
    assert set(under("least", draw).flatten().tolist()) == {least}
    assert set(under("most", draw).flatten().tolist()) == {most}


@pytest.mark.parametrize("draw", [lambda: torch.randn(4), lambda: torch.randn_like(X), lambda: torch.normal(X, 1.0)])
def test_a_bell_is_moved_by_two_to_either_side(draw: Callable[[], Tensor]) -> None:
    found = {}
    for which in EXTREMES:
        torch.manual_seed(5)
        found[which] = under(which, draw)
    torch.manual_seed(5)
    plain = draw()
    torch.testing.assert_close(found["least"], plain - 2)
    torch.testing.assert_close(found["most"], plain + 2)
    assert ((found["mixed"] > plain - 2) | (found["mixed"] < plain + 2)).all()


def test_a_mixture_is_of_multiples_of_the_golden_ratio() -> None:
    ratio = (5**0.5 - 1) / 2
    expected = torch.tensor([(i * ratio) % 1 for i in range(6)])
    torch.testing.assert_close(under("mixed", lambda: torch.rand(2, 3)), expected.view(2, 3))
    torch.testing.assert_close(under("mixed", lambda: torch.empty(6).uniform_(1, 3)), 1 + 2 * expected)
    odds = under("mixed", lambda: torch.bernoulli(torch.full((6,), 0.5)))
    assert odds.tolist() == expected.round().tolist()
    assert under("mixed", lambda: F.dropout(X, 0.5)).flatten().tolist() == (4 * (1 - expected.round())).tolist()
    assert under("mixed", lambda: torch.rand(3, dtype=torch.float64)).dtype == torch.float64


def test_numbers_that_are_not_drawn_and_whole_ones_stay() -> None:
    assert torch.equal(under("most", lambda: X + 1), X + 1)
    torch.manual_seed(1)
    drawn = under("most", lambda: torch.randperm(9))
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.randperm(9))
    torch.manual_seed(1)
    poisson = under("most", lambda: torch.poisson(X))
    torch.manual_seed(1)
    assert torch.equal(poisson, torch.poisson(X))
    assert under("most", lambda: F.dropout(X, 0.5, training=False)).tolist() == X.tolist()


def test_what_the_network_wants_in_place_is_in_place() -> None:
    for drop in (
        lambda x: F.dropout(x, 0.5, inplace=True),
        lambda x: F.dropout(x, 0.5, True, True),
        lambda x: torch.dropout_(x, 0.5, True),
    ):
        x = X.clone()
        assert under("most", lambda x=x, drop=drop: drop(x)) is x
        assert x.sum() == 0
    x = X.clone()
    assert under("most", lambda: F.dropout(x, 0.5)) is not x
    assert torch.equal(x, X)
    y = torch.full((3,), 0.5)
    assert under("most", lambda: y.bernoulli_(y)) is y
    assert y.tolist() == [1.0] * 3


def test_random_states_come_back_and_draws_behind_torch_are_told() -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state(legacy=False)  # noqa: NPY002
    told = []
    for draw in (lambda: torch.rand(3), random.random, lambda: np.random.rand(3)):  # noqa: NPY002
        with random_state_kept(CPU) as drawn:
            told.append(drawn())
            draw()
            told.append(drawn())
    assert told == [False, False, False, True, False, True]
    after = torch.get_rng_state(), random.getstate(), np.random.get_state(legacy=False)  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1]
    assert np.array_equal(before[2]["state"]["key"], after[2]["state"]["key"])
    assert before[2]["state"]["pos"] == after[2]["state"]["pos"]


@pytest.mark.parametrize(("name", "kept"), [("cpu", []), ("cuda", [0]), ("cuda:0", [0]), ("cuda:3", [3])])
def test_the_random_state_kept_is_that_of_the_device_asked_about(
    monkeypatch: pytest.MonkeyPatch, name: str, kept: list[int]
) -> None:
    asked: list[Any] = []

    def fork(devices: Any) -> Any:
        asked.append(devices)
        return nullcontext()

    monkeypatch.setattr(torch.random, "fork_rng", fork)
    with random_state_kept(torch.device(name)):
        pass
    assert asked == [kept]


def test_a_gpus_state_and_seed_are_those_of_that_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda:3")
    said: list[Any] = []

    def state(asked: torch.device) -> Tensor:
        said.append(asked)
        return torch.zeros(1)

    @contextmanager
    def chosen(asked: torch.device) -> Iterator[None]:
        said.append(asked)
        yield
        said.append("left")

    monkeypatch.setattr(torch.cuda, "get_rng_state", state)
    monkeypatch.setattr(torch.cuda, "device", chosen)
    monkeypatch.setattr(torch.cuda, "manual_seed", said.append)
    assert torch.equal(_state_of(device), torch.zeros(1))
    with random_state_kept(CPU):
        reseed(11, device)
        reseed(12, CPU)
    assert said == [device, device, 11, "left"]


def test_a_function_that_draws_elsewhere_does_so_every_time() -> None:
    assert draws_elsewhere(random.random)
    assert draws_elsewhere(np.random.rand)
    assert not draws_elsewhere(lambda: torch.rand(1))
    for times in (1, 2):
        # Another thread may draw now and then.
        left = [None] * times
        assert not draws_elsewhere(lambda left=left: left and (left.pop(), random.random()))  # noqa: S311


def test_seeds_are_those_of_torch_numpy_and_python() -> None:
    with random_state_kept(CPU):
        reseed(11, CPU)
        found = torch.rand(1).item(), random.random(), np.random.rand()  # noqa: NPY002, S311
    assert found[0] == torch.rand(1, generator=torch.Generator().manual_seed(11)).item()
    assert found[1] == random.Random(11).random()  # noqa: S311
    assert found[2] == np.random.RandomState(11).rand()
