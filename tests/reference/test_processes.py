"""Work in parallel processes, and how it is handed out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from dqm.errors import WorkerError
from dqm.reference import Processes, processes
from dqm.reference.processes import keep_busy


@dataclass(frozen=True)
class Deadly:
    """Counts threads, and does not survive 0."""

    bundle: Path = Path()

    def prepare(self, _: Path) -> Callable[[int], int]:
        return lambda item: most_threads() * item if item else os._exit(9)


def most_threads() -> int:
    """Threads of torch, and of every library of linear algebra: numpy and scipy have their own."""
    return max(torch.get_num_threads(), *(library["num_threads"] for library in threadpool_info()))


def test_a_process_that_is_killed_is_told() -> None:
    with pytest.raises(WorkerError, match=r"a process ended without a result: .* fewer processes"):
        list(Processes(2).run(Deadly(), [0]))


def test_a_single_process_is_this_one_on_one_thread() -> None:
    before = torch.get_num_threads()
    with threadpool_limits(2):
        torch.set_num_threads(2)
        try:
            assert list(Processes(1).run(Deadly(), [5, 7])) == [(0, 5), (1, 7)]
            assert (
                torch.get_num_threads() == min(library["num_threads"] for library in threadpool_info()) == 2
            )
        finally:
            torch.set_num_threads(before)


def test_other_processes_compute_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "2")  # what these libraries do by themselves here
    assert sorted(Processes(2).run(Deadly(), [5, 7])) == [(0, 5), (1, 7)]


def test_items_are_taken_as_they_are_needed_and_results_given_as_they_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "SILENCE_SECONDS", 0.01)
    taken: list[int] = []
    out: dict[int, Future[str]] = {}

    def items() -> Iterator[int]:
        for item in range(5):
            taken.append(item)
            yield item

    def submit(item: int) -> Future[str]:
        out[item] = Future()
        return out[item]

    def look() -> None:  # nothing was finished: finish the last one handed out
        out.popitem()[1].set_result(f"item {taken[-1]}")

    found = keep_busy(submit, items(), lambda: 2, look)
    assert next(found) == (1, "item 1")
    assert taken == [0, 1]
    assert next(found) == (2, "item 2")
    assert [place for place, _ in found] == [3, 4, 0]
