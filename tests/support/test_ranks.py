"""Several processes: who does what, sums, values and rows of all of them, and a lost one."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np
import pytest
from helpers.processes import in_processes

from interpnet.errors import InterpNetError
from interpnet.support.ranks import ALONE, ranks_of


def everything() -> dict[str, Any]:
    """Use every function once, with something else on each rank."""
    ranks = ranks_of("default")
    own = np.random.default_rng(ranks.rank)
    large = own.normal(size=(3, 2**20))  # more than one message
    counts = np.arange(5) * (ranks.rank + 1)
    rows = np.full((ranks.rank * 2, 3), ranks.rank, dtype=np.int32)  # none of rank 0
    found = {
        "rank": (ranks.rank, ranks.world, ranks.first, list(ranks.mine(7))),
        "sum": float(ranks.sum(large)[2, -1]),
        "all": large.sum().hex(),
        "counts": ranks.sum(counts).tolist(),
        "share": ranks.share({"of": ranks.rank, "text": "Zürich"}),
        "collect": ranks.collect("x" * ranks.rank),
        "rows": ranks.gather_rows(rows).tolist(),
        "same group": ranks_of("default") is ranks,
        "missing": ranks.missing(),
    }
    ranks.agree("the number of classes", 10)
    ranks.wait()
    return found


@pytest.mark.parametrize("world", [2, 3])
def test_sums_values_and_rows_of_all_ranks(world: int) -> None:
    done = in_processes(world, everything)
    assert [outcome.error for outcome in done] == [""] * world
    results = [outcome.result for outcome in done]
    parts = [np.random.default_rng(rank).normal(size=(3, 2**20)) for rank in range(world)]
    for rank, found in enumerate(results):
        assert found["rank"] == (rank, world, rank == 0, list(range(rank, 7, world)))
        assert found["sum"] == pytest.approx(sum(part[2, -1] for part in parts), rel=1e-14)
        assert found["all"] == results[0]["all"], "every rank has the same numbers, bit for bit"
        factor = sum(range(1, world + 1))
        assert found["counts"] == [0, factor, 2 * factor, 3 * factor, 4 * factor]
        assert found["share"] == {"of": 0, "text": "Zürich"}
        assert found["collect"] == ["", "x", "xx"][:world]
        assert found["rows"] == [[r] * 3 for r in range(world) for _ in range(2 * r)]
        assert found["same group"]
        assert found["missing"] == []


def disagree() -> None:
    ranks = ranks_of("default")
    ranks.agree("the number of classes", {"classes": 10 + (ranks.rank == 1)})


def other_shapes() -> None:
    ranks = ranks_of("default")
    ranks.sum(np.zeros(2 + ranks.rank))


def test_ranks_that_differ_are_named() -> None:
    for outcome in in_processes(3, disagree):
        assert outcome.error.startswith(
            'RanksError: the number of classes differs between the 3 processes (ranks 0 and 2: {"classes": 10}; '
            'rank 1: {"classes": 11}); every rank must get the same'
        )
    for outcome in in_processes(2, other_shapes):
        assert "the shape of what is summed differs between the 2 processes (rank 0: [[2]" in outcome.error


def lose_one() -> float:
    ranks = ranks_of("default")
    ranks.wait()
    if ranks.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    began = time.monotonic()
    try:
        ranks.wait()
    except InterpNetError as error:
        raise InterpNetError(f"after {time.monotonic() - began < 10}: {error}") from None
    return 0.0


def test_a_killed_rank_is_named_by_the_others_at_once() -> None:
    first, killed = in_processes(2, lose_one)
    assert killed.exit_code == -signal.SIGKILL
    assert first.error.startswith("InterpNetError: after True: rank 1 of 2 (process ")
    assert ") ended early: " in first.error
    assert "the same command goes on with what is missing, also with another number of processes" in first.error


def stopped_while_waiting() -> str:
    """Rank 0 waits for a rank that is busy, and is asked to stop."""
    ranks = ranks_of("default")
    if ranks.rank == 1:
        time.sleep(1.0)
        ranks.wait()
        return ""

    def raise_it(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, raise_it)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    began = time.monotonic()
    try:
        ranks.wait()
    except KeyboardInterrupt:
        return "stopped" if time.monotonic() - began < 0.7 else "stopped too late"
    return "not stopped"


def test_a_rank_that_waits_can_be_stopped() -> None:
    first, second = in_processes(2, stopped_while_waiting)
    assert first.result == "stopped"
    assert "LostRankError: rank 0 of 2 (process " in second.error


def test_a_process_alone_needs_no_torch_distributed() -> None:
    array = np.ones((2, 2))
    assert ALONE.sum(array) is array
    assert ALONE.gather_rows(array) is array
    assert ALONE.collect(object) == [object]
    ALONE.agree("anything", object)
    ALONE.wait()
    assert ALONE.alone
    assert list(ALONE.mine(3)) == [0, 1, 2]
    assert ranks_of(None) is ALONE


@pytest.mark.parametrize("group", ["default", "nccl", 3])
def test_what_is_no_group_is_refused(group: Any) -> None:
    with pytest.raises(InterpNetError, match=r"torch\.distributed is not initialized; expected None, 'default', or a"):
        ranks_of(group)


def wrong_use() -> list[str]:
    ranks = ranks_of("default")
    said = []
    for call in (
        lambda: ranks.sum(np.zeros(3, dtype=np.float16)),
        lambda: ranks.sum(np.zeros((3, 3)).T[:2]),
        lambda: ranks.gather_rows(np.array(3.0)),
        lambda: ranks_of("world"),
    ):
        try:
            call()
        except (TypeError, InterpNetError) as error:
            said.append(str(error))
    return said


def test_wrong_use_is_refused_before_anything_is_sent() -> None:
    for outcome in in_processes(2, wrong_use):
        assert outcome.result[:3] == [
            "a float16 array cannot be summed over ranks in place",
            "a float64 array cannot be summed over ranks in place",
            "a float64 array of 0 dimensions cannot be gathered over ranks",
        ]
        assert outcome.result[3].startswith("group: a str came; expected None, 'default', or a torch.distributed")
