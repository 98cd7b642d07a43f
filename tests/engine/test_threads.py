"""Several threads: one model works for one of them at a time, copies work side by side, plain calls pass."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from helpers.networks import Spelled
from torch import Tensor, nn

from interpnet.ablation import AblationResult, ablate, ablation_study
from interpnet.attribution import attribute
from interpnet.engine import Channel, Instrument, evaluating, find_sites, instrument, placed
from interpnet.errors import ModelError
from interpnet.explanation import channel_heatmap, explain
from interpnet.interpretation import Interpretation, interpret
from interpnet.pictures import maximise
from interpnet.scores import collect_scores


def _batches() -> list[tuple[Tensor, Tensor]]:
    x = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    return [(x[:6], torch.arange(6) % 4), (x[6:], torch.arange(6) % 4)]


def _interpretation(model: nn.Module) -> Interpretation:
    return interpret(collect_scores(model, _batches(), progress=False), mu=3.0)


def _study(model: nn.Module, found: Interpretation) -> AblationResult:
    return ablation_study(model, _batches(), found, repeats=1, curve=False, single=False, progress=False)


@contextmanager
def elsewhere(context: Callable[[], Any]) -> Iterator[None]:
    """Hold a context in another thread during the block."""
    entered = threading.Event()
    done = threading.Event()

    def hold() -> None:
        with context():
            entered.set()
            done.wait(20)

    thread = threading.Thread(target=hold, name="worker")
    thread.start()
    assert entered.wait(20)
    try:
        yield
    finally:
        done.set()
        thread.join()


HOLDS: dict[str, Callable[[nn.Module], Any]] = {
    "instrument": lambda model: instrument(model, Instrument()),
    "evaluating": evaluating,
    "frozen": lambda model: evaluating(model, frozen=True),
    "placed": lambda model: placed(model, torch.device("cpu")),
    "ablate": lambda model: ablate(model, [Channel("relu", 0)]),
    "a part": lambda model: evaluating(model.conv2),
    "a whole": lambda model: evaluating(nn.Sequential(model)),
}
USES: dict[str, Callable[[nn.Module, Interpretation], Any]] = {
    "find_sites": lambda model, found: find_sites(model, _batches()[0][0]),
    "collect": lambda model, found: collect_scores(model, _batches(), progress=False),
    "ablation": _study,
    "explain": lambda model, found: explain(model, _batches()[0][0], found, variant="paper"),
    "heatmap": lambda model, found: channel_heatmap(model, _batches()[0][0], Channel("relu", 0)),
    "attribute": lambda model, found: attribute(model, _batches()[0][0], 0, "gradient"),
    "maximise": lambda model, found: maximise(model, [0], (3, 8, 8), steps=1),
}


PAIRS = [*((hold, "collect") for hold in HOLDS), *(("instrument", use) for use in USES)]


@pytest.mark.parametrize(("hold", "use"), dict.fromkeys(PAIRS))
def test_a_model_at_work_in_another_thread_is_refused_and_free_again_afterwards(hold: str, use: str) -> None:
    model = Spelled("functional").eval()
    found = _interpretation(model)
    with (
        elsewhere(lambda: HOLDS[hold](model)),
        pytest.raises(ModelError, match=r"at work in another thread \('worker'\).*copy.deepcopy"),
    ):
        USES[use](model, found)
    USES[use](model, found)
    assert not model.training


def test_copies_of_a_model_work_side_by_side() -> None:
    model = Spelled("reused").eval()
    found = _interpretation(model)

    def study(own: nn.Module) -> list[Any]:
        result = _study(own, found)
        return [result.intact, *(condition.own for condition in result.conditions)]

    expected = study(model)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(study, [copy.deepcopy(model) for _ in range(4)]):
            for a, b in zip(result, expected, strict=True):
                np.testing.assert_array_equal(a, b)


def test_one_model_in_several_threads_is_right_or_refused() -> None:
    model = Spelled("functional").train()
    expected = collect_scores(model, _batches(), progress=False).X
    refused = []

    def collect(_: int) -> None:
        try:
            np.testing.assert_array_equal(collect_scores(model, _batches(), progress=False).X, expected)
        except ModelError as error:
            refused.append(str(error))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(collect, range(12)))
    assert all("another thread" in text for text in refused)
    assert len(refused) < 12
    assert all(m.training for m in model.modules()), "a thread restored another one's flags"
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_plain_call_in_another_thread_is_not_watched() -> None:
    model = Spelled("functional").eval()
    x = _batches()[0][0]
    expected = model(x)
    seen: list[str] = []
    edit = {"relu": torch.zeros_like}
    with (
        instrument(model, Instrument(edits=edit, observe=lambda call, _out: seen.append(call.name))),
        ThreadPoolExecutor(1) as pool,
    ):
        plain = pool.submit(model, x).result()
        assert seen == []
        edited = model(x)
        names = list(seen)
        seen.clear()
        # A call of the other thread in the middle of one of ours does not change the names.
        with instrument(model, Instrument(reads={"relu": lambda _out: pool.submit(model, x).result()})):
            model(x)
        assert seen == names
    assert torch.equal(plain, expected)
    assert not torch.equal(edited, expected)


def test_a_copy_made_while_the_model_is_watched_is_not_watched() -> None:
    model = Spelled("functional").eval()
    x = _batches()[0][0]
    seen: list[str] = []
    with instrument(model, Instrument(before=lambda _args: seen.append("ran"))):
        made = copy.deepcopy(model)
        made(x)
        assert seen == []
    with instrument(model, Instrument(before=lambda _args: seen.append("ran"))):
        made(x)
    assert seen == []
    assert len(find_sites(made, x).sites) == len(find_sites(model, x).sites)


def test_a_model_is_free_after_an_exception_and_after_its_thread_has_ended() -> None:
    model = nn.Sequential(nn.Linear(2, 2)).eval()
    with pytest.raises(KeyError), evaluating(model), instrument(model, Instrument()):
        raise KeyError
    left = evaluating(model)
    thread = threading.Thread(target=left.__enter__)
    thread.start()
    thread.join()
    assert find_sites(model, torch.rand(2, 2)).n_outputs == 2
