"""Solving shares work among threads and leaves torch's own number of threads as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from interpnet.mulasso._solver._schedule import share


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("threads", [1, 2])
def test_each_item_is_worked_on_once_by_one_thread_of_torch(threads: int) -> None:
    seen: list[tuple[int, int]] = []
    share(lambda item: seen.append((item, torch.get_num_threads())), range(5), threads)
    assert sorted(seen) == [(item, 1) for item in range(5)]
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_the_number_of_threads_comes_back_after_an_error() -> None:
    def work(item: int) -> None:
        raise ZeroDivisionError(f"item {item}")

    with pytest.raises(ZeroDivisionError, match="item 0"):
        share(work, [0], 1)
    assert torch.get_num_threads() == 3
